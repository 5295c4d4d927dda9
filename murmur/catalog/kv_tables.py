"""Tables over KV keys: a key prefix read and written as rows, without a copy.

    CREATE TABLE cfg (key TEXT PRIMARY KEY, value TEXT) USING KV PREFIX 'cfg:'

    swarm.put("cfg:host", b"mx")    <->    a row ('host', 'mx')

The primary key is what follows the prefix: TEXT for the keys that are str, BLOB for those that are
bytes. The other columns stand in the value (kv_values.py). So a row *is* the register under its
key: an INSERT, UPDATE or DELETE puts or deletes it, with the conflicts and the siblings of a put;
dropping the table drops the definition. A definition holds the prefix as cell keys begin with it:

    prefix  01 01 63 66 67 3a ("cfg:")      key 'host'  ->  01 01 63 66 67 3a 68 6f 73 74

A text key that is not TEXT behind the prefix (no UTF-8, which only a peer can write, or with a NUL)
is no row; it is listed in murmur_conflicts, as is each value that cannot be read.

Invariant: the order of rows by primary key is the order of their keys, so bounds are byte ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from murmur.catalog.constraints import unique_violation
from murmur.catalog.decoding import Row, atoms_decoder
from murmur.catalog.keycode import NOT_OF_TYPE
from murmur.catalog.keyspace import after_prefix
from murmur.catalog.kv_keys import MAX_KEY_BYTES, MAX_VALUE_BYTES, TEXT_KEYS, show_key
from murmur.catalog.kv_values import ValueForm, form_of
from murmur.catalog.layout import Fields, layout_of, null_violation, same_atom
from murmur.catalog.schema import Column, KvPrefix, Table
from murmur.catalog.types import Value
from murmur.errors import DataError
from murmur.kvcore import Atom, Transaction, View, decode_register, visible_value

Atoms = tuple[Atom, ...]
Bound = tuple[Value, bool]
Bounds = tuple[bytes, bytes]

_CELLS = 4096  # made columns at a time


class KvReader:
    """What gives some columns of a KV table's rows.

    atoms(key, value)    in stored form; None when the key is none of a row
    row(key, cell)       as values, from a register's cell
    """

    def __init__(self, table: Table, columns: Sequence[Column]) -> None:
        mapping = mapping_of(table)
        key_column = table.primary_key[0]
        self._cut = len(mapping.prefix)
        self._text = mapping.prefix.startswith(TEXT_KEYS)
        self._key_at = [at for at, column in enumerate(columns) if column.id == key_column]
        self._form = form_of(mapping.values, [c for c in columns if c.id != key_column])
        self._decode = atoms_decoder(columns)

    def atoms(self, key: bytes, value: bytes) -> Atoms | None:
        """The columns of one row, in stored form; None when it is no row."""
        rest: str | bytes = key[self._cut :]
        if self._text:
            try:
                rest = rest.decode()  # type: ignore[union-attr]
            except UnicodeDecodeError:
                return None
            if "\0" in rest:
                return None
        atoms = self._form.atoms(value)
        for at in self._key_at:
            atoms = (*atoms[:at], rest, *atoms[at:])
        return atoms

    def row(self, key: bytes, cell: bytes) -> Row | None:
        """The columns of one row, as values; None when it is no row."""
        atoms = self.atoms(key, visible_value(cell))
        return None if atoms is None else self._decode(atoms)


def mapping_of(table: Table) -> KvPrefix:
    """Where the table's rows are."""
    assert table.kv is not None
    return table.kv


def reader_of(table: Table) -> KvReader:
    """The reader of all columns, compiled once."""
    reader: KvReader | None = table.compiled.get(KvReader)
    if reader is None:
        reader = table.compiled[KvReader] = KvReader(table, table.columns)
    return reader


# Keys ----------------------------------------------------------------------


def key_encoder(table: Table) -> Callable[[Any], bytes]:
    """The function from a value of the primary key to the cell's key; raises NOT_OF_TYPE."""
    prefix = mapping_of(table).prefix
    if prefix.startswith(TEXT_KEYS):
        return lambda value: prefix + str.encode(value)
    return lambda value: prefix + bytes.__getitem__(value, slice(None))


def kv_bounds(
    table: Table,
    equal: Sequence[Value] = (),
    *,
    lower: Bound | None = None,
    upper: Bound | None = None,
) -> Bounds:
    """start and stop of the keys in question; see ranges.row_bounds."""
    encode, prefix = key_encoder(table), mapping_of(table).prefix
    nothing = prefix, prefix
    for value in equal:
        try:
            key = encode(value)
        except NOT_OF_TYPE:
            return nothing
        return key, key + b"\0"
    start, stop = prefix, after_prefix(prefix)
    for bound, is_lower in ((lower, True), (upper, False)):
        if bound is None:
            continue
        value, inclusive = bound
        if value is None:
            return nothing
        try:
            key = encode(value)
        except NOT_OF_TYPE:
            continue  # it bounds nothing
        edge = key if inclusive is is_lower else key + b"\0"
        start, stop = (edge, stop) if is_lower else (start, edge)
    return start, stop


# Reading -------------------------------------------------------------------


def get_kv_row(view: View, table: Table, key: bytes) -> Row | None:
    """The row under this key, or None."""
    cell = view.get(key)
    return None if cell is None else reader_of(table).row(key, cell)


def scan_kv_rows(
    view: View,
    table: Table,
    start: bytes | None,
    stop: bytes | None,
    *,
    reverse: bool,
    columns: Sequence[int] | None,
) -> Iterator[tuple[bytes, Row]]:
    """Keys and rows in the order of keys; see rows.scan_rows."""
    if columns is None:
        read = reader_of(table).row
    else:
        read = KvReader(table, [table.column_by_id(column_id) for column_id in columns]).row
    first, last = kv_bounds(table)
    pairs = view.scan(start or first, last if stop is None else stop, reverse=reverse)
    rows = ((key, read(key, cell)) for key, cell in pairs)
    return ((key, row) for key, row in rows if row is not None)


def scan_kv_columns(
    view: View, table: Table, columns: Sequence[Column]
) -> Iterator[list[Sequence[Atom]]]:
    """These columns of all rows in stored form, in the order of keys, some thousand at a time."""
    atoms = KvReader(table, columns).atoms
    found = (atoms(key, visible_value(cell)) for key, cell in view.scan(*kv_bounds(table)))
    rows = (row for row in found if row is not None)
    while some := list(islice(rows, _CELLS)):
        yield list(zip(*some, strict=True)) if columns else []


def kv_fields(table: Table) -> Callable[[bytes, bytes], Fields | None]:
    """The function from a key and its cell to a row's fields; None when it is no row."""
    reader, ids = reader_of(table), [column.id for column in table.columns]

    def fields(key: bytes, cell: bytes) -> Fields | None:
        atoms = reader.atoms(key, visible_value(cell))
        return None if atoms is None else dict(zip(ids, atoms, strict=True))

    return fields


class Misfit(NamedTuple):
    """A key that is no row, or a value of which `columns` cannot be read."""

    key: bytes
    cell: bytes
    columns: Sequence[Column]  # none: it is the key


def misfits(view: View, table: Table) -> Iterator[Misfit]:
    """What stands under the prefix and cannot be shown."""
    reader = reader_of(table)
    form = _value_form(table)
    for key, cell in view.scan(*kv_bounds(table)):
        value = visible_value(cell)
        if reader.atoms(key, value) is None:
            yield Misfit(key, cell, ())
        elif unreadable := form.unreadable(value):
            yield Misfit(key, cell, unreadable)


# Writing -------------------------------------------------------------------


def insert_kv_row(tx: Transaction, table: Table, values: Mapping[int, Value]) -> bytes:
    """Put a row's key, which must have no value; the key. See rows.insert_row."""
    layout = layout_of(table)
    fields, _ = layout.intake(values)
    key = _key(table, fields)
    if tx.get(key) is not None:
        raise unique_violation(table, None, fields)
    given = {
        column.id: fields[column.id]
        for column in _value_columns(table)
        if column.id in values or column.default is not None
    }
    tx.guard(layout.digest_key)
    _put(tx, table, key, None, given)
    return key


def update_kv_row(
    tx: Transaction, table: Table, key: bytes, changes: Mapping[int, Any]
) -> bytes | None:
    """Put what a row's key holds after the changes; its key, maybe a new one. See rows.update_row.

    A key with siblings is put even when nothing differs: that settles them.
    """
    cell = tx.get(key)
    if cell is None:
        return None
    layout = layout_of(table)
    value = visible_value(cell)
    fields = kv_fields(table)(key, cell) or {}
    edits: Fields = {}
    for column_id, change in changes.items():
        atom = layout.intakes[column_id].atom(change, table)
        if not same_atom(atom, fields.get(column_id)):
            edits[column_id] = atom
    if not edits and len(decode_register(cell)) == 1:
        return key
    tx.guard(layout.digest_key)
    new_key = key
    if table.primary_key[0] in edits:
        new_key = _key(table, edits)
        if tx.get(new_key) is not None:
            raise unique_violation(table, None, edits)
        tx.delete(key)
    edits.pop(table.primary_key[0], None)
    if edits:
        _put(tx, table, new_key, value, edits)
    else:
        tx.put(new_key, value)
    return new_key


def delete_kv_row(tx: Transaction, table: Table, key: bytes) -> bool:
    """Delete a row's key; False if it had no value."""
    if tx.get(key) is None:
        return False
    tx.guard(layout_of(table).digest_key)
    tx.delete(key)
    return True


def conflicting_kv_row(tx: Transaction, table: Table, values: Mapping[int, Value]) -> bytes | None:
    """The key of these values, if it has a value."""
    fields, _ = layout_of(table).intake(values)
    key = _key(table, fields)
    return None if tx.get(key) is None else key


def _key(table: Table, fields: Mapping[int, Atom]) -> bytes:
    key = key_encoder(table)(fields[table.primary_key[0]])
    if len(key) > MAX_KEY_BYTES:
        raise DataError(
            f'table "{table.name}": a key of {len(key) - 2} bytes, prefix and all, is longer than '
            f"{MAX_KEY_BYTES - 2}"
        )
    return key


def _put(
    tx: Transaction, table: Table, key: bytes, old: bytes | None, edits: Mapping[int, Atom]
) -> None:
    if mapping_of(table).values == "whole":
        (column,) = _value_columns(table)
        if edits.get(column.id) is None:
            raise null_violation(table, column)  # a key holds a value, or is not there
    where = f'table "{table.name}", key {show_key(key)!r}'
    value = _value_form(table).written(old, edits, where)
    if len(value) > MAX_VALUE_BYTES:
        raise DataError(f"{where}: a value of {len(value)} bytes is longer than {MAX_VALUE_BYTES}")
    tx.put(key, value)


def _value_columns(table: Table) -> list[Column]:
    return [column for column in table.columns if column.id not in table.primary_key]


def _value_form(table: Table) -> ValueForm:
    form: ValueForm | None = table.compiled.get(ValueForm)
    if form is None:
        form = form_of(mapping_of(table).values, _value_columns(table))
        table.compiled[ValueForm] = form
    return form
