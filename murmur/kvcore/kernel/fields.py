"""Fields: what both kernels are told of the fields of records, instead of tables.

A record is a map from field ids to atoms (cell.py). Whoever wants columns, rows or keys of it says
of each field what kind of atom is meant, and how the column holds it:

    INTEGER 32 bits    FieldSpec(id, INTEGER, "i", width=4, low=-2**31, high=2**31 - 1)
    days since day 1   FieldSpec(id, INTEGER, "tdD", width=4, bias=719163, low=1, high=3652059)
    DECIMAL(10,2)      FieldSpec(id, DECIMAL, "d:10,2", precision=10, scale=2)

    kind       atoms                    in an Arrow column              in a key
    BOOLEAN    bool                     a bit                           a byte
    INTEGER    int, low to high         n - bias, `width` bytes         n + half its range
    FLOAT      float                    `width` bytes, 4 or 8           8 bytes
    DECIMAL    text                     decimal128(precision, scale)    8 bytes, or 16
    TEXT       text                     UTF-8                           escaped
    BINARY     bytes                    bytes                           escaped
    FIXED      bytes, `width` of them   as they are                     as they are
    UUID       16 bytes                 text, 36 letters                as they are
    INTERVAL   int, or 12 bytes         month_day_nano_interval         8 bytes: months of 30 days

`format` is Arrow's name of the column's type (its C data interface), `missing` the atom that a
record without the field reads.
"""

from __future__ import annotations

from typing import NamedTuple

from murmur.kvcore.record import Atom

# Shared with rows.hpp.
BOOLEAN, INTEGER, FLOAT, DECIMAL, TEXT, BINARY, FIXED, UUID, INTERVAL = range(1, 10)

NoneType: type = type(None)
KINDS: dict[int, frozenset[type]] = {
    BOOLEAN: frozenset({NoneType, bool}),
    INTEGER: frozenset({NoneType, int}),
    FLOAT: frozenset({NoneType, float}),
    DECIMAL: frozenset({NoneType, str}),
    TEXT: frozenset({NoneType, str}),
    BINARY: frozenset({NoneType, bytes}),
    FIXED: frozenset({NoneType, bytes}),
    UUID: frozenset({NoneType, bytes}),
    INTERVAL: frozenset({NoneType, int, bytes}),
}


class FieldSpec(NamedTuple):
    """One field: `low` and `high` are inclusive, `width` is in bytes.

    `shortest`: the text of a DECIMAL has no zeros at the end of its fraction.
    """

    id: int
    kind: int
    format: str = ""
    missing: Atom = None
    width: int = 0
    bias: int = 0
    low: int = 0
    high: int = 0
    precision: int = 0
    scale: int = 0
    shortest: bool = False
