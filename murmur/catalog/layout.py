"""Layout: what is compiled from a table once, so that rows are coded in tight loops.

    intake   {column id: value}  ->  ({column id: atom}, {counter id: int})     checked, defaults in
    decode   {column id: atom}   ->  (value, value, ...)                        in column order
    read     a record's bytes    ->  (value, value, ...)                        the same, in one go

A row's record holds every column of the table as it was when the row was inserted, NULLs too, in
order of column ids; primary key columns stand both in the key and among the fields, because taking
them from a dictionary is quicker than decoding the key. A field that is missing belongs to a column
that came later, and reads its constant default. Fields that no visible column has are kept. A
generated column has no field: its value is computed of the others by whoever reads the row
(decoding.py), so that no merge of edits can leave it behind.

Columns that must agree with one another, those of one CHECK, UNIQUE or foreign key, form a *unit*:
an edit of one writes them all, so that two concurrent edits never mix (DESIGN section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Any, NamedTuple

from murmur.catalog import keyspace
from murmur.catalog.atoms import encoder, from_atom
from murmur.catalog.decoding import atoms_getter, row_decoder, row_reader
from murmur.catalog.derivation import Source, source_of
from murmur.catalog.fields import field_of
from murmur.catalog.keycode import NOT_OF_TYPE, ColumnEncoder, atom_encoder
from murmur.catalog.schema import Column, Index, RowExpression, Table
from murmur.catalog.soundness import mender
from murmur.catalog.types import Value
from murmur.catalog.values import checker
from murmur.errors import ConstraintViolation, InternalError, InvalidInput
from murmur.kvcore import Atom
from murmur.kvcore.kernel import NATIVE
from murmur.kvcore.kernel.records import KeyCodec

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
        "_stored",
        "claims",
        "computed",
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
        self.decode = row_decoder(table.columns)
        self.read = row_reader(table.columns)
        self._stored = [column for column in table.columns if column.generated is None]
        self._atoms = atoms_getter(self._stored)
        self._mended = mender(self._stored)
        self.computed = _computed(table)
        self.intakes = {column.id: _intake(table, column) for column in self._stored}
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
        if len(self._stored) < len(self.table.columns):
            self.check_given(values)
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

    def check_given(self, column_ids: Iterable[int]) -> None:
        """Refuse values for generated columns."""
        for column_id in column_ids:
            if column_id not in self.intakes:
                column = self.table.column_by_id(column_id)
                raise InvalidInput(
                    f'column "{column.name}" of table "{self.table.name}" is generated: '
                    "it takes no value but DEFAULT"
                )

    def check_computed(self, fields: Mapping[int, Atom]) -> None:
        """Compute all that the table computes of a row; DataError where that is not possible."""
        for expression in self.computed:
            expression.compute(fields)

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
        whole = zip(self._stored, held, strict=True)
        return {**fields, **{column.id: atom for column, atom in whole}}

    def unreadable(self, fields: Mapping[int, Atom]) -> list[Column]:
        """The columns that read NULL because the fields hold something else than their type."""
        atoms = self._atoms(fields)
        return [
            column
            for column, atom, held in zip(self._stored, atoms, self._mended(atoms), strict=True)
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
    values = ", ".join(value_text(readable(column.atom(fields), column)) for column in columns)
    return f"({names})=({values})"


def claim_text(table: Table, index: Index, fields: Mapping[int, Atom]) -> str:
    """`key_text` of what an index has of a row: (lower(a), b)=(x, 1)."""
    names, values = [], []
    for part in index.columns:
        if part.expression is not None:
            names.append(part.expression.text)
            values.append(value_text(from_atom(part.expression.atom(fields), part.expression.type)))
        else:
            column = table.column_by_id(part.column_id)
            names.append(column.name)
            values.append(value_text(readable(column.atom(fields), column)))
    return f"({', '.join(names)})=({', '.join(values)})"


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


def _computed(table: Table) -> tuple[RowExpression, ...]:
    """What has to have a value when a row is written."""
    generated = [column.generated for column in table.columns if column.generated is not None]
    indexed = [each for index in table.indexes for each in index.expressions]
    return (*generated, *indexed)


def _left_out(column: Column) -> Any:
    """What an INSERT that leaves the column out stores; _ABSENT when the caller must say."""
    if column.default is not None and column.default.kind == "function":
        return _ABSENT
    return column.left_out


def _units(table: Table) -> dict[int, tuple[int, ...]]:
    """For each column that is bound to others: the whole unit."""
    fixed = {column.id for column in table.columns if column.type.name == "COUNTER"}
    fixed.update(table.primary_key)
    units: list[set[int]] = []
    for bound in (
        *(check.column_ids for check in table.checks),
        *(index.input_ids for index in table.indexes if index.unique),
        *(foreign_key.column_ids for foreign_key in table.foreign_keys),
    ):
        unit = set(table.stored_ids(bound)) - fixed
        for other in [other for other in units if other & unit]:
            units.remove(other)
            unit |= other
        if len(unit) > 1:
            units.append(unit)
    return {column_id: tuple(sorted(unit)) for unit in units for column_id in unit}
