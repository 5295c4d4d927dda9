"""Layout: what is compiled from a table once, so that rows are coded in tight loops.

    intake   {column id: value}  ->  ({column id: atom}, {counter id: int})     checked, defaults in
    decode   {column id: atom}   ->  (value, value, ...)                        in column order
    read     a record's bytes    ->  (value, value, ...)                        the same, in one go

A row's record holds every column of the table as it was when the row was inserted, NULLs too, in
order of column ids; primary key columns stand both in the key and among the fields, because taking
them from a dictionary is quicker than decoding the key. A field that is missing belongs to a column
that came later, and reads its constant default. Fields that no visible column has are kept.

Columns that must agree with one another, those of one CHECK, UNIQUE or foreign key, form a *unit*:
an edit of one writes them all, so that two concurrent edits never mix (DESIGN section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from operator import is_, itemgetter
from typing import Any, NamedTuple

from murmur.catalog import keyspace
from murmur.catalog.atoms import decoder, encoder, from_atom
from murmur.catalog.derivation import Source, source_of
from murmur.catalog.fields import field_of
from murmur.catalog.keycode import NOT_OF_TYPE, ColumnEncoder, atom_encoder
from murmur.catalog.schema import Column, Index, Table
from murmur.catalog.soundness import mender
from murmur.catalog.types import Value
from murmur.catalog.values import checker
from murmur.errors import ConstraintViolation, InternalError
from murmur.kvcore import Atom, visible_fields
from murmur.kvcore.kernel import NATIVE
from murmur.kvcore.kernel.records import KeyCodec, RowReader

Row = tuple[Any, ...]
Fields = dict[int, Atom]

_ABSENT: Any = object()


class Intake(NamedTuple):
    """One column on the way in."""

    column: Column
    check: Callable[[object], Any]
    encode: Callable[[Any], Atom] | None

    def atom(self, value: object, table: Table) -> Atom:
        """The stored form of a value that somebody gives for this column."""
        checked = self.check(value)
        if checked is None:
            if not self.column.nullable:
                raise null_violation(table, self.column)
            return None
        return checked if self.encode is None else self.encode(checked)


class Layout:
    """The codecs of one table."""

    __slots__ = (
        "_atoms",
        "_counters",
        "_encode_key",
        "_key_parts",
        "_mended",
        "_plan",
        "claims",
        "decode",
        "digest_key",
        "intakes",
        "prefix",
        "read",
        "table",
        "units",
    )

    def __init__(self, table: Table) -> None:
        self.table = table
        self.prefix = keyspace.row_prefix(table.id)
        self.digest_key = keyspace.digest_key(table.id)
        self.decode = row_decoder(table, table.columns)
        self.read = row_reader(table, table.columns)
        self._atoms = atoms_getter(table.columns)
        self._mended = mender(table.columns)
        self.intakes = {column.id: _intake(table, column) for column in table.columns}
        by_id = sorted(self.intakes.items())  # records keep fields in order of their ids
        self._plan = tuple(
            (column_id, each.check, each.encode, each.column, _left_out(each.column))
            for column_id, each in by_id
            if each.column.type.name != "COUNTER"
        )
        self._counters = tuple(
            (column_id, each.check)
            for column_id, each in by_id
            if each.column.type.name == "COUNTER"
        )
        self._key_parts: tuple[tuple[int, ColumnEncoder], ...] = tuple(
            (column_id, atom_encoder(table.column_by_id(column_id).type))
            for column_id in table.primary_key
        )
        # In Python the encoders, one after the other, are quicker than the kernel's twin.
        self._encode_key: Callable[[Any, bytes], bytes] | None = None
        if NATIVE and table.primary_key:
            columns = [table.column_by_id(column_id) for column_id in table.primary_key]
            self._encode_key = KeyCodec([field_of(column) for column in columns]).encode_fields
        self.claims: tuple[tuple[Index, Source], ...] = tuple(
            (index, source_of(table, keyspace.entry_prefix(index.id, unique=True)))
            for index in table.indexes
            if index.unique
        )
        self.units = _units(table)

    def intake(self, values: Mapping[int, object]) -> tuple[Fields, dict[int, int]]:
        """A new row's fields and counters, from the values that a statement gives."""
        fields: Fields = {}
        get = values.get
        for column_id, check, encode, column, left_out in self._plan:
            value = get(column_id, _ABSENT)
            if value is _ABSENT:
                assert left_out is not _ABSENT, f"the default of {column.name} is a function"
                atom = left_out
            else:
                atom = check(value)
                if encode is not None and atom is not None:
                    atom = encode(atom)
            if atom is None and not column.nullable:
                raise null_violation(self.table, column)
            fields[column_id] = atom
        if not self._counters:
            return fields, {}
        return fields, {
            column_id: check(get(column_id)) or 0 for column_id, check in self._counters
        }

    def key(self, fields: Mapping[int, Atom], row_id: bytes | None = None) -> bytes:
        """The key of the row with these fields."""
        if not self._key_parts:
            assert row_id is not None
            assert len(row_id) == keyspace.ROW_ID_BYTES
            return self.prefix + row_id
        assert row_id is None
        if self._encode_key is not None:
            try:
                return self._encode_key(fields, self.prefix)
            except (TypeError, ValueError):
                pass  # the encoders of the columns say what is wrong, or take it nevertheless
        if len(self._key_parts) == 1:
            ((column_id, encode),) = self._key_parts
            return self.prefix + encode(fields[column_id])
        return self.prefix + b"".join(
            [encode(fields[column_id]) for column_id, encode in self._key_parts]
        )

    def readable(self, fields: dict[int, Atom]) -> dict[int, Atom]:
        """The fields, with None in place of what its column cannot hold."""
        atoms = self._atoms(fields)
        held = self._mended(atoms)
        if all(map(is_, held, atoms)):
            return fields
        whole = zip(self.table.columns, held, strict=True)
        return {**fields, **{column.id: atom for column, atom in whole}}

    def unreadable(self, fields: Mapping[int, Atom]) -> list[Column]:
        """The columns that read NULL because the fields hold something else than their type."""
        atoms = self._atoms(fields)
        return [
            column
            for column, atom, held in zip(
                self.table.columns, atoms, self._mended(atoms), strict=True
            )
            if held is not atom
        ]

    def has_key(self, key: bytes, fields: Mapping[int, Atom]) -> bool:
        """Whether the row with these fields belongs under this key."""
        if not self._key_parts:
            return len(key) == len(self.prefix) + keyspace.ROW_ID_BYTES
        if any(column_id not in fields for column_id, _ in self._key_parts):
            return False
        try:
            return self.key(fields) == key
        except NOT_OF_TYPE:
            return False

    def unit_edits(self, edits: Fields, fields: Mapping[int, Atom]) -> Fields:
        """The edits, with the columns that must be written along with them, in order of ids."""
        whole = dict(edits)
        for column_id in edits:
            for other in self.units.get(column_id, ()):
                if other not in whole:
                    whole[other] = fields.get(other, self.intakes[other].column.missing)
        return dict(sorted(whole.items()))


def layout_of(table: Table) -> Layout:
    """The table's layout, compiled once."""
    layout: Layout | None = table.compiled.get(Layout)
    if layout is None:
        layout = table.compiled[Layout] = Layout(table)
    return layout


def row_decoder(table: Table, columns: Sequence[Column]) -> Callable[[Mapping[int, Atom]], Row]:
    """Fields to a tuple of values of these columns; what is no value of its column reads NULL."""
    atoms = atoms_getter(columns)
    mended = mender(columns)
    decode = atoms_decoder(columns)
    return lambda fields: decode(mended(atoms(fields)))


def row_reader(table: Table, columns: Sequence[Column]) -> Callable[[bytes], Row]:
    """As `row_decoder`, from a record's bytes. Raises Corruption when they are no record."""
    read = RowReader([field_of(column) for column in columns])
    decode = atoms_decoder(columns)
    decode_fields = row_decoder(table, columns)

    def read_row(cell: bytes) -> Row:
        atoms = read(cell)
        return decode_fields(visible_fields(cell)) if atoms is None else decode(atoms)

    return read_row


def atoms_decoder(columns: Sequence[Column]) -> Callable[[tuple[Atom, ...]], Row]:
    """Atoms that these columns can hold to values."""
    decoders: list[tuple[int, Callable[[Any], Any]]] = []
    for at, column in enumerate(columns):
        # What `decoder` makes sure of besides is known of an atom that is held.
        decode = Decimal if column.type.name == "DECIMAL" else decoder(column.type)
        if decode is not None:
            decoders.append((at, decode))
    if not decoders:
        return lambda atoms: atoms

    def decode_atoms(atoms: tuple[Atom, ...]) -> Row:
        row: list[Any] = list(atoms)
        for at, decode in decoders:
            atom = row[at]
            if atom is not None:
                row[at] = decode(atom)
        return tuple(row)

    return decode_atoms


def atoms_getter(columns: Sequence[Column]) -> Callable[[Mapping[int, Atom]], tuple[Atom, ...]]:
    """Fields to a tuple of atoms of these columns."""
    ids = tuple(column.id for column in columns)
    missing = tuple(column.missing for column in columns)
    if len(ids) < 2:

        def few(fields: Mapping[int, Atom]) -> tuple[Atom, ...]:
            return tuple(map(fields.get, ids, missing))

        return few
    present = itemgetter(*ids)

    def atoms(fields: Mapping[int, Atom]) -> tuple[Atom, ...]:
        try:
            return present(fields)  # type: ignore[no-any-return]
        except KeyError:
            return tuple(map(fields.get, ids, missing))

    return atoms


def same_atom(left: Atom, right: Atom) -> bool:
    """Whether writing one over the other would change nothing."""
    if left != right or type(left) is not type(right):
        return False
    return not (left == 0.0 and type(left) is float) or (
        math.copysign(1, left) == math.copysign(1, right)  # type: ignore[arg-type]
    )


def key_text(table: Table, column_ids: Iterable[int], fields: Mapping[int, Atom]) -> str:
    """Names and values as PostgreSQL's messages show them: (a, b)=(1, x)."""
    columns = [table.column_by_id(column_id) for column_id in column_ids]
    names = ", ".join(column.name for column in columns)
    values = ", ".join(
        value_text(readable(fields.get(column.id, column.missing), column)) for column in columns
    )
    return f"({names})=({values})"


def value_text(value: object) -> str:
    """A value in a message."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case bytes():
            return "\\x" + value.hex()
        case _:
            return str(value)


def null_violation(table: Table, column: Column) -> ConstraintViolation:
    """The error for NULL in a NOT NULL column."""
    return ConstraintViolation(
        f'null value in column "{column.name}" of table "{table.name}" violates not-null constraint'
    )


def readable(atom: Atom, column: Column) -> Value:
    """The value of an atom, or the atom itself if it is not one of the column's type."""
    try:
        return from_atom(atom, column.type)
    except InternalError:
        return atom


def _intake(table: Table, column: Column) -> Intake:
    where = f"column {table.name}.{column.name}"
    check = checker(column.type, where, key=column.id in table.primary_key)
    return Intake(column, check, encoder(column.type))


def _left_out(column: Column) -> Any:
    """What an INSERT that leaves the column out stores; _ABSENT when the caller must say."""
    if column.default is not None and column.default.kind == "function":
        return _ABSENT
    return column.missing


def _units(table: Table) -> dict[int, tuple[int, ...]]:
    """For each column that is bound to others: the whole unit."""
    fixed = {column.id for column in table.columns if column.type.name == "COUNTER"}
    fixed.update(table.primary_key)
    units: list[set[int]] = []
    for bound in (
        *(check.column_ids for check in table.checks),
        *(index.column_ids for index in table.indexes if index.unique),
        *(foreign_key.column_ids for foreign_key in table.foreign_keys),
    ):
        unit = set(bound) - fixed
        for other in [other for other in units if other & unit]:
            units.remove(other)
            unit |= other
        if len(unit) > 1:
            units.append(unit)
    return {column_id: tuple(sorted(unit)) for unit in units for column_id in unit}
