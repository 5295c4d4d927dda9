"""Records as Arrow columns and as tuples: what is read of a cell, and what of it reads NULL.

    reader = ColumnReader([FieldSpec(7, TEXT, "u"), FieldSpec(9, INTEGER, "l", width=8, ...)])
    reader.add(chunk)                      cells, one after the other; add_cells takes a list
    for name, likes in reader.take(): ...  batches, a column for each field; pyarrow.array(likes)

    RowReader(fields)(cell)  ->  ("KLM", 5), or None if a column could not hold one of them

A record shows the fields of its first life, and over them its counters, summed over all lives
within 64 bits (cell.visible_fields). A field that it lacks reads `missing`.

An atom that is not of its field's kind, or that the column cannot hold (a number that is out of
range, or finer than its scale), reads NULL in a column, whatever stands in other rows: peers may
write anything, and one row must not keep a table from being read. Bytes that are not a record at
all, or text that is not UTF-8 where text is read, are Corruption. Fields that nobody asked for are
not looked into.

This is the specification of native/rows.hpp and native/columns.hpp. It uses pyarrow, which is
loaded when the first column is made.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

import msgpack

from murmur.errors import Corruption
from murmur.kvcore.causality import REPLICA_ID_BYTES
from murmur.kvcore.kernel.fields import (
    BINARY,
    BOOLEAN,
    DECIMAL,
    FIXED,
    FLOAT,
    INTEGER,
    INTERVAL,
    KINDS,
    TEXT,
    UUID,
    FieldSpec,
)
from murmur.kvcore.kernel.pure.chunk import Chunk
from murmur.kvcore.record import INT64_MAX, INT64_MIN, Atom

BATCH_ROWS = 1 << 18  # a batch is closed once it has this many

_ATOMS = frozenset({type(None), bool, int, float, str, bytes})
_INT = frozenset({int})
_US_PER_DAY = 86_400_000_000
_US_PER_MONTH = 30 * _US_PER_DAY
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOTHING = re.compile(r"(?!)")
_DECIMAL_DIGITS = 38
_MONTHS_AND_US = struct.Struct(">iq")
_FLOAT32 = struct.Struct("<f")
_INTEGERS = {2: "int16", 4: "int32", 8: "int64"}
_HELD_AS_THEY_ARE = frozenset({BOOLEAN, TEXT, BINARY})  # when they are of the kind


class ColumnReader:
    """Makes Arrow columns of records. For one thread at a time; of no use after an error."""

    def __init__(self, fields: Sequence[FieldSpec]) -> None:
        self._columns = [_Column(field) for field in fields]
        self._rows = 0
        self._closed: list[tuple[Any, ...]] = []

    def add(self, chunk: Chunk) -> None:
        """Add the records in a chunk of a table's rows. Raises Corruption."""
        offsets = memoryview(chunk.value_offsets).cast("B").cast("I")
        values = memoryview(chunk.values)
        if len(offsets) < chunk.count + 1:
            raise ValueError("a chunk has an offset more than values")
        for at in range(chunk.count):
            start, stop = offsets[at], offsets[at + 1]
            if not start <= stop <= len(values):
                raise Corruption(_key(chunk, at), 0, "not a record: the cell is outside")
            self._add(bytes(values[start:stop]), lambda at=at: _key(chunk, at))  # type: ignore[misc]

    def add_cells(self, cells: list[bytes]) -> None:
        """Add records. Raises Corruption."""
        for at, cell in enumerate(cells):
            self._add(cell, lambda at=at: f"cell {at}")  # type: ignore[misc]

    def take(self) -> list[tuple[Any, ...]]:
        """What was added since the last time: batches, each a pyarrow.Array for each field.

        There is at least one, so that types are known.
        """
        if self._rows or not self._closed:
            self._close()
        taken, self._closed = self._closed, []
        return taken

    def _add(self, cell: bytes, name: Callable[[], str]) -> None:
        atom_of = read_fields(cell, name).get
        for column in self._columns:
            atom = atom_of(column.id, column.missing)
            if column.is_text and type(atom) is str and not _is_text(atom):
                raise Corruption(name(), 0, "not a record: a text is not UTF-8")
            column.atoms.append(atom)
        self._rows += 1
        if self._rows == BATCH_ROWS:
            self._close()

    def _close(self) -> None:
        self._closed.append(tuple(column.take() for column in self._columns))
        self._rows = 0


class RowReader:
    """Makes tuples of records."""

    def __init__(self, fields: Sequence[FieldSpec]) -> None:
        self._ids = tuple(field.id for field in fields)
        self._missing = tuple(field.missing for field in fields)
        self._holds = tuple(holder(field) for field in fields)

    def __call__(self, cell: bytes) -> tuple[Atom, ...] | None:
        """The atoms of a record, None if a column could not hold one. Raises Corruption."""
        fields = read_fields(cell, lambda: "cell")
        row = tuple(map(fields.get, self._ids, self._missing))
        for atom, holds in zip(row, self._holds, strict=True):
            if not holds(atom):
                return None
        for atom in row:
            if type(atom) is str and not _is_text(atom):
                raise Corruption("cell", 0, "not a record: a text is not UTF-8")
        return row


# Records -------------------------------------------------------------------


def read_fields(cell: bytes, name: Callable[[], str]) -> dict[int, Atom]:
    """`cell.visible_fields` of bytes that may be anything; `name` tells whose they are.

    Text that is not UTF-8 comes with lone surrogates.
    """
    try:
        form = msgpack.unpackb(
            cell,
            object_pairs_hook=tuple,  # a map as it stands in the bytes; arrays are lists
            strict_map_key=False,
            unicode_errors="surrogateescape",
        )
        return _visible(form)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Corruption(name(), 0, f"not a record: {error}") from None


def _visible(form: Any) -> dict[int, Atom]:
    if type(form) is list and form and type(form[0]) is int:
        if form[0] == 1 and 5 <= len(form) <= 6:
            _birth(form[1], form[2], form[3])
            fields = _fields(form[4])
            if len(form) == 6:
                fields.update(_fields(form[5]))
            return fields
        if form[0] == 2 and len(form) == 2:
            return _winner(form[1])
    raise ValueError("of no form that is known")


def _fields(pairs: Any) -> dict[int, Atom]:
    if type(pairs) is not tuple:
        raise TypeError("a map is expected")
    fields = dict(pairs)
    if len(fields) != len(pairs):  # of 1 and True a dictionary keeps one
        for field, atom in pairs:
            if type(field) is not int or type(atom) not in _ATOMS:
                raise TypeError("a map of fields is expected")
    elif not (_INT.issuperset(map(type, fields)) and _ATOMS.issuperset(map(type, fields.values()))):
        raise TypeError("a map of fields is expected")
    return fields


def _winner(lives: Any) -> dict[int, Atom]:
    if type(lives) is not list or not lives:
        raise TypeError("lives are expected")
    shown: dict[int, Atom] = {}
    sums: dict[int, int] = {}
    for at, life in enumerate(lives):
        if type(life) is not list:
            raise TypeError("a life is expected")
        stamp, replica, seq, fields, edited, counters = life
        _birth(stamp, replica, seq)
        read = _fields(fields)
        if at == 0:
            shown = read
        _edited(edited)
        for field, total in _counters(counters):
            sums[field] = sums.get(field, 0) + total
    for field, total in sums.items():
        shown[field] = min(max(total, INT64_MIN), INT64_MAX)
    return shown


def _birth(stamp: Any, replica: Any, seq: Any) -> None:
    _integer(stamp)
    _replica(replica)
    _integer(seq)


def _edited(pairs: Any) -> None:
    if type(pairs) is not tuple:
        raise TypeError("a map is expected")
    for field, rank in pairs:
        _integer(field)
        if type(rank) is not list:
            raise TypeError("a stamp and a replica are expected")
        stamp, replica = rank
        _integer(stamp)
        _replica(replica)


def _counters(pairs: Any) -> list[tuple[int, int]]:
    if type(pairs) is not tuple:
        raise TypeError("a map is expected")
    found = []
    last = -1
    for field, counter in pairs:
        if not last < _integer(field) < 1 << 32:
            raise ValueError("counters are not in the order of their fields")
        last = field
        if type(counter) is not list:
            raise TypeError("a counter is expected")
        value, stamp, replica, totals, offsets = counter
        total = _integer(value)
        _integer(stamp)
        _replica(replica)
        off = _totals(offsets)
        for by, (plus, minus) in _totals(totals).items():
            off_plus, off_minus = off.get(by, (0, 0))
            # An offset may run ahead of the totals only where a peer lied: it counts as zero.
            total += max(plus - off_plus, 0) - max(minus - off_minus, 0)
        found.append((field, total))
    return found


def _totals(entries: Any) -> Mapping[bytes, tuple[int, int]]:
    if type(entries) is not list:
        raise TypeError("totals are expected")
    totals: dict[bytes, tuple[int, int]] = {}
    last = b""
    for entry in entries:
        if type(entry) is not list:
            raise TypeError("a replica and its totals are expected")
        replica, plus, minus = entry
        if _replica(replica) <= last:
            raise ValueError("totals are not in order")
        totals[replica] = _integer(plus), _integer(minus)
        last = replica
    return totals


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("a number is expected")
    return value


def _replica(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != REPLICA_ID_BYTES:
        raise TypeError("a replica is expected")
    return value


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(chunk: Chunk, at: int) -> str:
    offsets = memoryview(chunk.key_offsets).cast("B").cast("I")
    return f"key {bytes(memoryview(chunk.keys)[offsets[at] : offsets[at + 1]]).hex()}"


# Columns -------------------------------------------------------------------


class _Column:
    """The atoms of one field, until they become an array."""

    def __init__(self, field: FieldSpec) -> None:
        self.id = field.id
        self.is_text = field.kind == TEXT
        self.missing = field.missing
        self.atoms: list[Any] = []
        self._field = field

    def take(self) -> Any:
        atoms, self.atoms = self.atoms, []
        return array_of(atoms, self._field)


def array_of(atoms: Sequence[Atom], field: FieldSpec) -> Any:
    """A pyarrow.Array of atoms; what the column cannot hold is NULL."""
    import pyarrow as pa

    whole = KINDS[field.kind].issuperset(map(type, atoms))
    if field.kind == INTEGER:
        array = _shifted(atoms, field) if whole else None
        if array is None:
            held = _held(field)
            atoms = [None if atom is None else held(atom) for atom in atoms]
            array = pa.array(atoms, _INTEGERS[field.width])
        return array.cast(_INTEGERS[field.width]).view(arrow_type(field))
    if not whole or field.kind not in _HELD_AS_THEY_ARE:
        held = _held(field)
        atoms = [None if atom is None else held(atom) for atom in atoms]
    return pa.array(atoms, arrow_type(field))


def _shifted(atoms: Sequence[Atom], field: FieldSpec) -> Any:
    """Integers less the bias, all at once; None when one is out of range."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        array = pa.array(atoms, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        return None
    least, greatest = pc.min_max(array).as_py().values()
    if least is not None and not field.low <= least <= greatest <= field.high:
        return None
    return pc.subtract(array, field.bias) if field.bias else array


def holder(field: FieldSpec) -> Callable[[Any], bool]:
    """Whether a column of this field can hold an atom; None is NULL, and held."""
    kinds = KINDS[field.kind]
    if field.kind in _HELD_AS_THEY_ARE or (field.kind == FLOAT and field.width != 4):
        return lambda atom: type(atom) in kinds
    if field.kind == INTEGER:
        low, high = field.low, field.high
        return lambda atom: atom is None or (type(atom) is int and low <= atom <= high)
    held = _held(field)
    return lambda atom: atom is None or held(atom) is not None


def _held(field: FieldSpec) -> Callable[[Any], Any]:
    """The function that gives what a column holds for an atom; None for what it cannot hold."""
    kinds = KINDS[field.kind]

    def of_kind(atom: Any) -> Any:
        return atom if type(atom) in kinds else None

    low, high, bias = field.low, field.high, field.bias

    def integer(atom: Any) -> int | None:
        return atom - bias if type(atom) is int and low <= atom <= high else None

    def single(atom: Any) -> float | None:
        if type(atom) is not float:
            return None
        try:
            _FLOAT32.pack(atom)
        except OverflowError:
            return None
        return atom

    def fixed(atom: Any) -> bytes | None:
        return atom if type(atom) is bytes and len(atom) == field.width else None

    match field.kind:
        case k if k == INTEGER:
            return integer
        case k if k == FLOAT and field.width == 4:
            return single
        case k if k == DECIMAL:
            return _decimal(field)
        case k if k == FIXED:
            return fixed
        case k if k == UUID:
            return _uuid_text
        case k if k == INTERVAL:
            return _month_day_nano
    return of_kind


def _decimal(field: FieldSpec) -> Callable[[Any], Decimal | None]:
    context = Context(prec=field.precision, traps=[Inexact, InvalidOperation])
    unit = Decimal((0, (1,), -field.scale))
    whole = field.precision - field.scale
    usual = re.compile(rf"-?[0-9]{{1,{whole}}}\.[0-9]{{{field.scale}}}") if whole else _NOTHING

    def decimal(atom: Any) -> Decimal | None:
        if type(atom) is not str:
            return None
        if usual.fullmatch(atom):
            return Decimal(atom)
        if not _NUMBER.fullmatch(atom):
            return None
        try:
            number = Decimal(atom)
            if not -_DECIMAL_DIGITS <= number.adjusted() <= _DECIMAL_DIGITS:
                return None
            return number.quantize(unit, None, context)
        except (Inexact, InvalidOperation):
            return None

    return decimal


def _uuid_text(atom: Any) -> str | None:
    if type(atom) is not bytes or len(atom) != 16:
        return None
    text = atom.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _month_day_nano(atom: Any) -> tuple[int, int, int] | None:
    months = 0
    if type(atom) is bytes and len(atom) == _MONTHS_AND_US.size:
        months, atom = _MONTHS_AND_US.unpack(atom)
    if type(atom) is not int or atom > INT64_MAX:
        return None
    if not INT64_MIN <= months * _US_PER_MONTH + atom <= INT64_MAX:
        return None
    days, microseconds = divmod(atom, _US_PER_DAY)
    return months, days, microseconds * 1000


def arrow_type(field: FieldSpec) -> Any:
    """The pyarrow type that the field's format names."""
    import pyarrow as pa

    known = {
        "b": pa.bool_(),
        "s": pa.int16(),
        "i": pa.int32(),
        "l": pa.int64(),
        "f": pa.float32(),
        "g": pa.float64(),
        "u": pa.string(),
        "z": pa.binary(),
        "tdD": pa.date32(),
        "ttu": pa.time64("us"),
        "tsu:": pa.timestamp("us"),
        "tsu:UTC": pa.timestamp("us", "UTC"),
        "tin": pa.month_day_nano_interval(),
        f"w:{field.width}": pa.binary(field.width),
        f"d:{field.precision},{field.scale}": pa.decimal128(field.precision or 1, field.scale),
    }
    return known[field.format]
