"""Rows: tuples of values in column order on the way out, {column id: value} on the way in.

    statement = StatementChecks(tx)
    key = insert_row(tx, note, {ID: uuid, BODY: "hello"}, statement=statement)
    update_row(tx, note, key, {LIKES: Increment(1)}, statement=statement)
    statement.verify()
    get_row(tx, note, key)  ->  (uuid, "hello", 1)

A row's key is its record's whole key. Writing checks everything that constraints.py lists, against
what the transaction sees; a call that raises may have written part of its row, so a statement takes
a savepoint before and goes back to it. Without a `statement`, foreign keys are verified at once.

An update writes only what differs, so that it cannot undo what others write elsewhere in the row;
changing the primary key deletes the row and inserts it again, with all that it held.

Rows of a table over KV keys are registers; kv_tables.py reads and writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any

from murmur.catalog.constraints import (
    RowCheck,
    StatementChecks,
    check_claims,
    check_row,
    claim_holder,
    unique_violation,
)
from murmur.catalog.decoding import Row, row_reader
from murmur.catalog.keycode import NOT_OF_TYPE, column_encoder
from murmur.catalog.keyspace import (
    ROW_ID_BYTES,
    entry_prefix,
    prefix_range,
    row_prefix,
)
from murmur.catalog.kv_tables import (
    conflicting_kv_row,
    delete_kv_row,
    get_kv_row,
    insert_kv_row,
    key_encoder,
    scan_kv_rows,
    update_kv_row,
)
from murmur.catalog.layout import Fields, Layout, layout_of, same_atom
from murmur.catalog.schema import ForeignKey, Index, Table
from murmur.catalog.types import Value, integer_bounds
from murmur.errors import DataError
from murmur.kvcore import Atom, Transaction, View, decode_record, visible_fields
from murmur.kvcore.cell import visible_counters
from murmur.kvcore.kernel.fields import FieldSpec
from murmur.kvcore.kernel.records import ColumnReader


@dataclass(frozen=True, slots=True)
class Increment:
    """SET n = n + amount, of a COUNTER: adds up with what others add."""

    amount: int


@dataclass(frozen=True, slots=True)
class Reset:
    """SET n = value, of a COUNTER: cancels what has been seen, and only that."""

    value: int


Change = Value | Increment | Reset

_CELLS = 4096  # handed to the kernel at a time


# Reading -------------------------------------------------------------------


def key_of(table: Table, key_values: Sequence[Value]) -> bytes:
    """The key of the row with this primary key, or with this row id (one value of 16 bytes).

    DataError when the columns cannot hold the values.
    """
    if not table.primary_key:
        (row_id,) = key_values
        assert isinstance(row_id, bytes)
        assert len(row_id) == ROW_ID_BYTES
        return row_prefix(table.id) + row_id
    encoders = table.compiled.get(key_of)
    if encoders is None:
        columns = [table.column_by_id(column_id) for column_id in table.primary_key]
        encoders = [column_encoder(column.type) for column in columns]
        if table.kv is not None:
            encoders = [key_encoder(table)]
        table.compiled[key_of] = encoders
    key = row_prefix(table.id) if table.kv is None else b""
    try:
        for encode, value in zip(encoders, key_values, strict=True):
            key += encode(value)
    except NOT_OF_TYPE as error:
        raise DataError(f'no key of table "{table.name}" from {key_values!r}: {error}') from error
    return key


def get_row(view: View, table: Table, key: bytes) -> Row | None:
    """The row under this key, or None."""
    if table.kv is not None:
        return get_kv_row(view, table, key)
    cell = view.get(key)
    return None if cell is None else layout_of(table).read(cell)


def scan_rows(
    view: View,
    table: Table,
    start: bytes | None = None,
    stop: bytes | None = None,
    *,
    reverse: bool = False,
    columns: Sequence[int] | None = None,
) -> Iterator[tuple[bytes, Row]]:
    """Keys and rows in primary key order, between two keys (`row_bounds`), or all of them.

    With `columns`, ids, the rows hold only these, in this order.
    """
    if table.kv is not None:
        return scan_kv_rows(view, table, start, stop, reverse=reverse, columns=columns)
    first, last = prefix_range(row_prefix(table.id))
    if columns is None:
        read = layout_of(table).read
    else:
        read = row_reader([table.column_by_id(column_id) for column_id in columns])
    pairs = view.scan(start or first, last if stop is None else stop, reverse=reverse)
    return ((key, read(cell)) for key, cell in pairs)


def scan_index(
    view: View,
    table: Table,
    index: Index,
    start: bytes | None = None,
    stop: bytes | None = None,
    *,
    reverse: bool = False,
) -> Iterator[bytes]:
    """Keys of rows in index order, between two entries (`index_bounds`), or all of them."""
    first, last = prefix_range(entry_prefix(index.id, unique=index.unique))
    prefix = row_prefix(table.id)
    pairs = view.scan(start or first, last if stop is None else stop, reverse=reverse)
    return (prefix + entry[len(entry) - int.from_bytes(size) :] for entry, size in pairs)


def scan_batches(view: View, table: Table, fields: Sequence[FieldSpec]) -> list[tuple[Any, ...]]:
    """Fields of all rows (fields.py) as batches of Arrow columns, each for pyarrow.array.

    Goes from the blocks of the tree to columns without an object for each row, where the view has
    blocks to give; a transaction's own writes are laid over them pair by pair. Raises Corruption.
    """
    reader = ColumnReader(fields)
    start, stop = prefix_range(row_prefix(table.id))
    if isinstance(view, Transaction) and not view.changed:
        view = view.snapshot
    chunks = getattr(view, "chunks", None)
    if chunks is not None:
        for chunk in chunks(start, stop):
            reader.add(chunk)
        return reader.take()
    cells = map(itemgetter(1), view.scan(start, stop))
    while some := list(islice(cells, _CELLS)):
        reader.add_cells(some)
    return reader.take()


def conflicting_row(
    tx: Transaction, table: Table, values: Mapping[int, Value], targets: Sequence[Index | None]
) -> bytes | None:
    """The key of a row that an insertion of these values would violate, for ON CONFLICT.

    `targets` are the unique indexes to ask, None standing for the primary key.
    """
    if table.kv is not None:
        return conflicting_kv_row(tx, table, values)
    layout = layout_of(table)
    fields, _ = layout.intake(values)
    for index in targets:
        if index is not None:
            source = next(source for each, source in layout.claims if each.id == index.id)
            holder = claim_holder(tx, layout, source, fields, None)
            if holder is not None:
                return holder
        elif table.primary_key:
            key = layout.key(fields)
            if tx.get(key) is not None:
                return key
    return None


# Writing -------------------------------------------------------------------


def insert_row(
    tx: Transaction,
    table: Table,
    values: Mapping[int, Value],
    *,
    row_id: bytes | None = None,
    checks: Sequence[RowCheck] = (),
    statement: StatementChecks | None = None,
) -> bytes:
    """Insert a row; its key.

    A column that is left out holds its constant default, or NULL; defaults that are functions are
    the caller's to evaluate. `row_id`, 16 bytes, is for tables without a primary key. `checks` are
    the table's CHECKs, compiled. Raises ConstraintViolation, TypeMismatch, DataError.
    """
    if table.kv is not None:
        return insert_kv_row(tx, table, values)
    layout = layout_of(table)
    fields, counters = layout.intake(values)
    key = layout.key(fields, row_id)
    if tx.get(key) is not None:
        raise unique_violation(table, None, fields)
    if layout.computed:
        layout.check_computed({**fields, **counters})
    if table.checks:
        assert len(checks) == len(table.checks)
        check_row(table, checks, layout.decode({**fields, **counters}))
    tx.guard(layout.digest_key)
    if layout.claims:
        check_claims(tx, layout, fields, key)
    tx.insert(key, fields, counters)
    if table.foreign_keys:
        _refer(tx, table, table.foreign_keys, fields, statement)
    return key


def update_row(
    tx: Transaction,
    table: Table,
    key: bytes,
    changes: Mapping[int, Change],
    *,
    checks: Sequence[RowCheck] = (),
    statement: StatementChecks | None = None,
) -> bytes | None:
    """Change a row; its key, a new one if the primary key changed. None when there is no row.

    For a COUNTER a plain number means Reset. Raises ConstraintViolation, TypeMismatch, DataError.
    """
    if table.kv is not None:
        return update_kv_row(tx, table, key, changes)
    cell = tx.get(key)
    if cell is None:
        return None
    layout = layout_of(table)
    fields = layout.readable(visible_fields(cell))
    edits, counts = _intake_changes(layout, fields, changes)
    if not edits and not counts:
        return key
    tx.guard(layout.digest_key)
    after = {**fields, **edits}
    for column_id, count in counts.items():
        after[column_id] = _counted(layout, column_id, fields, count)
    if layout.computed:
        layout.check_computed(after)
    if table.checks:
        assert len(checks) == len(table.checks)
        check_row(table, checks, layout.decode(after))
    if not edits.keys().isdisjoint(table.primary_key) and layout.key(after) != key:
        return _rekey(tx, layout, key, cell, edits, counts, statement)
    if edits:
        if layout.claims:
            check_claims(tx, layout, after, key, edits)
        tx.edit(key, layout.unit_edits(edits, fields) if layout.units else edits)
    for column_id, count in counts.items():
        if isinstance(count, Increment):
            tx.add(key, column_id, count.amount)
        else:
            tx.reset(key, column_id, count.value)
    if edits:
        _follow_references(tx, table, fields, after, edits, statement)
    return key


def delete_row(
    tx: Transaction, table: Table, key: bytes, *, statement: StatementChecks | None = None
) -> bool:
    """Delete a row, and what ON DELETE says of rows that reference it; False if there is none."""
    if table.kv is not None:
        return delete_kv_row(tx, table, key)
    if tx.get(key) is None:
        return False
    checks = statement or StatementChecks(tx)
    doomed = [(table, key)]
    while doomed:
        table, key = doomed.pop()
        cell = tx.get(key)
        if cell is None:
            continue  # referenced twice
        tx.guard(layout_of(table).digest_key)
        fields = visible_fields(cell)
        tx.remove(key)
        for foreign_key in checks.catalog.referencing(table.id):
            if foreign_key.on_delete == "CASCADE":
                doomed += _children(checks, foreign_key, fields)
            elif foreign_key.on_delete == "SET NULL":
                nulls = dict.fromkeys(foreign_key.column_ids)
                for child, child_key in _children(checks, foreign_key, fields):
                    update_row(
                        tx,
                        child,
                        child_key,
                        nulls,
                        checks=checks.checks_of(child),
                        statement=checks,
                    )
            else:
                checks.abandoned(foreign_key, fields)
    if statement is None:
        checks.verify()
    return True


def _children(
    checks: StatementChecks, foreign_key: ForeignKey, fields: Mapping[int, Atom]
) -> list[tuple[Table, bytes]]:
    """The rows that reference a parent with these fields; nobody may add one before commit."""
    reference = checks.reference(foreign_key)
    prefix = reference.children_of(fields)
    if prefix is None:
        return []
    bounds = prefix_range(prefix)
    checks.tx.guard_range(*bounds)
    rows = row_prefix(reference.child.id)
    return [
        (reference.child, rows + entry[len(entry) - int.from_bytes(size) :])
        for entry, size in checks.tx.scan(*bounds)
    ]


def _intake_changes(
    layout: Layout, fields: Mapping[int, Atom], changes: Mapping[int, Change]
) -> tuple[Fields, dict[int, Increment | Reset]]:
    """What differs from the row's fields: edits of plain columns, counts of counters."""
    edits: Fields = {}
    counts: dict[int, Increment | Reset] = {}
    layout.check_given(changes)
    for column_id, value in changes.items():
        intake = layout.intakes[column_id]
        column = intake.column
        if column.type.name == "COUNTER":
            if isinstance(value, Increment):
                if intake.check(value.amount):
                    counts[column_id] = value
            else:
                checked = intake.check(value.value if isinstance(value, Reset) else value)
                counts[column_id] = Reset(checked or 0)
            continue
        atom = intake.atom(value, layout.table)
        if not same_atom(atom, fields.get(column_id, column.missing)):
            edits[column_id] = atom
    return edits, counts


def _counted(
    layout: Layout, column_id: int, fields: Mapping[int, Atom], count: Increment | Reset
) -> int:
    """What a counter stands at after the change, for this replica."""
    if isinstance(count, Reset):
        return count.value
    now = fields.get(column_id, 0)
    assert isinstance(now, int)
    after = now + count.amount
    column = layout.intakes[column_id].column
    smallest, largest = integer_bounds(column.type)
    if not smallest <= after <= largest:
        raise DataError(
            f"column {layout.table.name}.{column.name}: {now} + {count.amount} is outside of "
            "64 bits"
        )
    return after


def _rekey(
    tx: Transaction,
    layout: Layout,
    key: bytes,
    cell: bytes,
    edits: Fields,
    counts: Mapping[int, Increment | Reset],
    statement: StatementChecks | None,
) -> bytes:
    """Move a row to another primary key, with the fields that no visible column has."""
    counters = visible_counters(decode_record(cell))
    before = {
        column_id: atom
        for column_id, atom in layout.readable(visible_fields(cell)).items()
        if column_id not in counters
    }
    after = dict(sorted({**before, **edits}.items()))
    for column_id, count in counts.items():
        counters[column_id] = _counted(layout, column_id, counters, count)
    new_key = layout.key(after)
    if tx.get(new_key) is not None:
        raise unique_violation(layout.table, None, after)
    tx.remove(key)
    if layout.claims:
        check_claims(tx, layout, after, key)
    tx.insert(new_key, after, dict(sorted(counters.items())))
    _follow_references(tx, layout.table, before, after, after, statement)
    return new_key


def _follow_references(
    tx: Transaction,
    table: Table,
    before: Mapping[int, Atom],
    after: Mapping[int, Atom],
    edited: Mapping[int, Atom],
    statement: StatementChecks | None,
) -> None:
    """Foreign keys on both sides of a row that was updated."""
    checks = statement or StatementChecks(tx)
    for foreign_key in checks.catalog.referencing(table.id):
        if any(
            not same_atom(before.get(column_id), after.get(column_id))
            for column_id in foreign_key.parent_column_ids
        ):
            checks.abandoned(foreign_key, before)
    changed = [
        foreign_key
        for foreign_key in table.foreign_keys
        if not edited.keys().isdisjoint(foreign_key.column_ids)
    ]
    for foreign_key in changed:
        checks.referenced(foreign_key, after)
    if statement is None:
        checks.verify()


def _refer(
    tx: Transaction,
    table: Table,
    foreign_keys: Sequence[ForeignKey],
    fields: Mapping[int, Atom],
    statement: StatementChecks | None,
) -> None:
    checks = statement or StatementChecks(tx)
    for foreign_key in foreign_keys:
        checks.referenced(foreign_key, fields)
    if statement is None:
        checks.verify()
