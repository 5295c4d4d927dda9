"""What both kernels are told of rows that come many at a time, instead of tables.

A *block* holds such rows encoded, in key order, until their transaction commits. Its plan says of
what a row's body, its key, and its entries in indexes are made:

    BlockPlan(fields=(7, 9), counters=(), prefix=..., parts=(KeyPart(0, FieldSpec(...)),))

`fields` and `counters` are ids in ascending order; their positions, one list after the other, are
the *columns* that KeyPart speaks of. Values come as rows of Python objects (RowSource) or as
columns of Arrow's buffers (ColumnSource), one source for each column:

    form       values                                   becomes the atom
    NULLS      none                                     None
    BOOLEANS   bits                                     bool
    INTEGERS   of 2, 4 or 8 bytes                       n + bias, within low and high
    FLOATS     of 4 or 8 bytes                          float
    DECIMALS   of 16 bytes, in units of 10^-scale       text
    TEXTS      offsets of 4 bytes, and UTF-8            text without NUL
    BINARIES   offsets of 4 bytes, and bytes            bytes
    FIXEDS     of `width` bytes                         bytes
    ATOMS      offsets of 4 bytes, and msgpack          what was packed
    CONSTANT   msgpack of one atom                      the same for every row

All numbers are little-endian. Of an index entry, the part without the primary key is a *claim* if
no other row may have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from murmur.kvcore.kernel.fields import FieldSpec
from murmur.kvcore.record import INT64_MAX, INT64_MIN, Atom

# Shared with row_block.hpp and row_columns.hpp.
INDEX, CLAIM, CHILD, PARENT = range(1, 5)
(
    NULLS,
    BOOLEANS,
    INTEGERS,
    FLOATS,
    DECIMALS,
    TEXTS,
    BINARIES,
    FIXEDS,
    ATOMS,
    CONSTANT,
) = range(10)


class KeyPart(NamedTuple):
    """A column in a key."""

    column: int
    field: FieldSpec
    descending: bool = False


class EntryPlan(NamedTuple):
    """What is made of a row beside its cell.

    INDEX and CLAIM make an entry of every row, CHILD of those without a NULL. PARENT makes none:
    it is a key that has to be there.
    """

    kind: int
    prefix: bytes
    parts: tuple[KeyPart, ...]


class BlockPlan(NamedTuple):
    """How rows of one table are encoded. Without `parts`, each row has an id of 16 bytes."""

    fields: tuple[int, ...]
    counters: tuple[int, ...]
    prefix: bytes
    parts: tuple[KeyPart, ...]
    entries: tuple[EntryPlan, ...] = ()


class RowSource(NamedTuple):
    """One column of rows that are sequences of Python values.

    A value of the field's own Python type and within its bounds is its own atom; `convert` makes
    the atom of any other value, None too unless the column is `nullable`, or raises. A column that
    the rows do not have (position -1) is `constant`, msgpack, or what `convert` makes of None.
    """

    field: FieldSpec
    position: int
    convert: Callable[[Any], Atom]
    nullable: bool = True
    constant: bytes | None = None
    plain: bool = True  # whether there are such values at all
    longest: int = 0  # of a text, in code points; 0: of any length


class ColumnSource(NamedTuple):
    """One column in the buffers of an Arrow array; see above for what is in them.

    A value whose bit in `validity` is 0 is None: 0 in a counter, refused unless `nullable`.
    """

    form: int
    offset: int = 0  # of the first value, in values
    validity: Any = None
    offsets: Any = None
    values: Any = None
    width: int = 0
    nullable: bool = True
    counter: bool = False
    bias: int = 0
    low: int = INT64_MIN
    high: int = INT64_MAX
    finite: bool = False  # a float is a number
    precision: int = 0
    scale: int = 0
    shortest: bool = False
    longest: int = 0


class BadValue(ValueError):
    """A value that a column cannot hold: in which row and column of what was given, and why."""

    def __init__(self, row: int, column: int, reason: str) -> None:
        super().__init__(f"row {row}, column {column}: {reason}")
        self.row = row
        self.column = column
        self.reason = reason
