"""Conflicts: what replicas wrote apart and cannot both hold, for murmur_conflicts.

    kind           what lost                                              winner
    sibling        a value of a KV key                                    the value that get returns
    row            an insertion of a row that somebody else inserted too  the row that is read
    unique         a row whose unique value an earlier row holds          that row
    foreign key    a child whose parent is gone
    not null       a row with a NULL where somebody else had made the column NOT NULL
    unreadable     a value that is not of its column's type, which reads NULL, or a row under a
                   key that is not its own: some peer writes what this release does not; of a table
                   over KV keys, what puts wrote that its columns do not take
    check          a row that a CHECK refuses: the two were written apart
    definition     a table, column or index that lost its name, or says
                   something else, or is not in force                     what is shown
    dropped table  a row written by who did not know of the DROP
    dropped column a value written by who did not know of the DROP

Each is a pure function of state and goes away when somebody resolves it: put the key again, update
or delete the row, rename the table. `stamp` and `replica` are the loser's. Rows rank by the latest
(stamp, replica) at which they came to hold their unique values, then by key; the lowest wins.

Claims and children are found by walking their entries, where those of one value are neighbours;
siblings and lives by walking the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from murmur.catalog import keyspace
from murmur.catalog.catalog import Catalog
from murmur.catalog.constraints import Reference, RowCheck, duplicate_claims
from murmur.catalog.derivation import source_of
from murmur.catalog.keyspace import ROW_PREFIX_BYTES, prefix_range, row_prefix
from murmur.catalog.kv_keys import show_key
from murmur.catalog.kv_tables import misfits
from murmur.catalog.layout import (
    Layout,
    claim_text,
    key_text,
    layout_of,
    readable,
    value_text,
)
from murmur.catalog.rows import scan_rows
from murmur.catalog.schema import Column, ForeignKey, Index, Table
from murmur.catalog.settling import table_of
from murmur.catalog.standings import Drop, Rank
from murmur.errors import DataError, InvalidInput
from murmur.kvcore import (
    REGISTER,
    Atom,
    Life,
    View,
    decode_record,
    decode_register,
    visible_fields,
    visible_value,
)
from murmur.kvcore import winner as written_by

_SHOWN = 60  # characters of a value


class Conflict(NamedTuple):
    """One thing that lost, or that breaks a constraint. Texts are for people."""

    kind: str
    table: str | None
    key: str
    constraint: str | None
    detail: str
    winner: str | None
    loser: str | None
    stamp: int | None  # of what lost: when it was written, and by whom
    replica: bytes | None


def conflicts(
    view: View, catalog: Catalog, checks_of: Callable[[Table], Sequence[RowCheck]] | None = None
) -> Iterator[Conflict]:
    """Everything that is in conflict, in this view; CHECKs too, given what compiles them."""
    yield from _siblings(view, catalog)
    for table in catalog.tables:
        if table.kv is not None:
            yield from _misfits(view, table)
            continue
        yield from _lives(view, table, catalog)
        if checks_of is not None and table.checks:
            try:
                checks = checks_of(table)
            except InvalidInput as error:  # a peer wrote what no statement lets through
                yield _no_check(table, error)
            else:
                yield from _refused(view, table, checks)
        for index in table.indexes:
            if index.unique:
                yield from _claims(view, table, index)
        for foreign_key in table.foreign_keys:
            parent = catalog.table_by_id(foreign_key.parent_table_id)
            assert parent is not None
            yield from _orphans(view, table, foreign_key, parent)
    for dispute in catalog.disputes:
        yield _conflict(
            kind="definition",
            table=dispute.table,
            key=dispute.what,
            detail=dispute.detail,
            winner=_rank_text(dispute.winner),
            loser=_rank_text(dispute.loser),
            at=dispute.loser,
        )
    for record in catalog.records.values():
        if record.dropped is not None:
            yield from _writes_to_dropped(view, table_of(record), record.dropped)


def _siblings(view: View, catalog: Catalog) -> Iterator[Conflict]:
    """Values of KV keys that nobody has seen and replaced, with the table that shows them."""
    # Of several tables the one with the longest prefix.
    prefixes = sorted(
        ((each.kv.prefix, each.name) for each in catalog.tables if each.kv is not None),
        key=lambda pair: (-len(pair[0]), pair[1]),
    )
    for key, cell in view.scan(*prefix_range(REGISTER)):
        winner, *losers = decode_register(cell)
        for loser in losers:
            if loser.value != winner.value:
                yield _conflict(
                    kind="sibling",
                    table=next((name for start, name in prefixes if key.startswith(start)), None),
                    key=show_key(key),
                    detail="put at the same time as the value that is read",
                    winner=_brief(winner.value),
                    loser=_brief(loser.value),
                    at=(loser.stamp, loser.replica),
                )


def _misfits(view: View, table: Table) -> Iterator[Conflict]:
    """Keys under a table's prefix that are no rows, and values that do not fit its columns."""
    for key, cell, columns in misfits(view, table):
        stamp, replica, _ = written_by(cell)
        names = ", ".join(column.name for column in columns)
        yield _conflict(
            kind="unreadable",
            table=table.name,
            key=show_key(key),
            detail=f"the value is not of the type of its columns, which read NULL: {names}"
            if columns
            else f"under key {key.hex()}, which is no TEXT: it is no row",
            loser=_brief(visible_value(cell)),
            at=(stamp, replica),
        )


def _lives(view: View, table: Table, catalog: Catalog) -> Iterator[Conflict]:
    """Insertions of one row by several replicas, and values of dropped columns."""
    dropped = catalog.records[table.id].dropped_columns
    layout = layout_of(table)
    for key, cell in view.scan(*prefix_range(row_prefix(table.id))):
        winner, *losers = decode_record(cell)
        fields = visible_fields(cell)
        yield from _unreadable(layout, key, winner, fields)
        yield from _nulls(table, key, winner, fields)
        for loser in losers:
            differing = [
                column
                for column in table.columns
                if _field(winner, column) != _field(loser, column)
            ]
            if differing:
                yield _conflict(
                    kind="row",
                    table=table.name,
                    key=_row_key(table, key, winner.fields),
                    detail="inserted at the same time as the row that is read",
                    winner=_row_text(differing, winner.fields),
                    loser=_row_text(differing, loser.fields),
                    at=(loser.stamp, loser.replica),
                )
        for record, drop in dropped:
            rank = winner.edited.get(record.id, (winner.stamp, winner.replica))
            unseen = drop.missed(winner) or (record.id in winner.edited and drop.missed_edit(rank))
            if unseen and winner.fields.get(record.id) is not None:
                column = Column(record.id, record.name, record.type)
                yield _conflict(
                    kind="dropped column",
                    table=table.name,
                    key=_row_key(table, key, winner.fields),
                    constraint=record.name,
                    detail="written by a replica that did not know that the column was dropped",
                    loser=_row_text([column], winner.fields),
                    at=rank,
                )


def _unreadable(
    layout: Layout, key: bytes, winner: Life, fields: Mapping[int, Atom]
) -> Iterator[Conflict]:
    """Values that are not of their columns' types, and a row that is in another's place."""
    table, unreadable = layout.table, layout.unreadable(fields)
    if unreadable or not layout.has_key(key, fields):
        rank = _written_at(winner, [column.id for column in unreadable])
        yield _conflict(
            kind="unreadable",
            table=table.name,
            key=_row_key(table, key, fields),
            detail=f"not of the type of its column; reads NULL; under key {key.hex()}"
            if unreadable
            else f"under key {key.hex()}, which is not that of its values",
            loser=_row_text(unreadable or table.columns, fields),
            at=rank,
        )


def _nulls(
    table: Table, key: bytes, winner: Life, fields: Mapping[int, Atom]
) -> Iterator[Conflict]:
    """NULLs in columns that somebody else made NOT NULL."""
    for column in table.columns:
        if not column.nullable and fields.get(column.id, column.missing) is None:
            rank = _written_at(winner, [column.id])
            yield _conflict(
                kind="not null",
                table=table.name,
                key=_row_key(table, key, fields),
                constraint=column.name,
                detail=f'column "{column.name}" holds NULL',
                loser=_row_text(table.columns, fields),
                at=rank,
            )


def _claims(view: View, table: Table, index: Index) -> Iterator[Conflict]:
    """Rows that share a unique value; all but the lowest rank lose."""
    prefix = keyspace.entry_prefix(index.id, unique=True)
    source = source_of(table, prefix)
    held = duplicate_claims(view, table, index, prefix)
    for _, group in groupby(held, key=lambda pair: source.values(pair[1])):
        ranked = sorted((_claim_rank(view, table, key), key, fields) for key, fields in group)
        _, first_key, first = ranked[0]
        winner = _row_key(table, first_key, first)
        for rank, key, fields in ranked[1:]:
            value = claim_text(table, index, fields)
            yield _conflict(
                kind="unique",
                table=table.name,
                key=_row_key(table, key, fields),
                constraint=index.name,
                detail=f"Key {value} is held by row {winner}",
                winner=_row_text(table.columns, first),
                loser=_row_text(table.columns, fields),
                at=rank,
            )


def _refused(view: View, table: Table, checks: Sequence[RowCheck]) -> Iterator[Conflict]:
    """Rows that a CHECK refuses, which whoever wrote the one or the other had not seen together."""
    for key, row in scan_rows(view, table):
        for check, holds in checks:
            try:
                refused = holds(row) is False
            except DataError:  # a value that the condition cannot compute with
                refused = True
            if refused:
                cell = view.get(key)
                assert cell is not None
                fields, (life, *_) = visible_fields(cell), decode_record(cell)
                yield _conflict(
                    kind="check",
                    table=table.name,
                    key=_row_key(table, key, fields),
                    constraint=check.name,
                    detail=f"the row does not satisfy CHECK ({check.text})",
                    loser=_row_text(table.columns, fields),
                    at=_written_at(life, check.column_ids),
                )


def _no_check(table: Table, error: InvalidInput) -> Conflict:
    names = ", ".join(check.name for check in table.checks)
    detail = f"a CHECK cannot be read, drop it: {error}"
    return _conflict("definition", table.name, f"check {names}", detail)


def _orphans(
    view: View, table: Table, foreign_key: ForeignKey, parent: Table
) -> Iterator[Conflict]:
    """Children whose parent is not there."""
    reference = Reference(foreign_key, table, parent)
    rows = row_prefix(table.id)
    value, missing = b"", False
    for entry, size in view.scan(*prefix_range(reference.children.prefix)):
        end = len(entry) - int.from_bytes(size)
        if missing or entry[:end] != value:
            key = rows + entry[end:]
            cell = view.get(key)
            assert cell is not None
            fields = visible_fields(cell)
            if entry[:end] != value:
                value = entry[:end]
                parent_key = reference.parent_key(fields)
                missing = parent_key is None or not reference.parent_exists(view, parent_key)
            if missing:
                rank = _written_at(decode_record(cell)[0], foreign_key.column_ids)
                referenced = key_text(table, foreign_key.column_ids, fields)
                yield _conflict(
                    kind="foreign key",
                    table=table.name,
                    key=_row_key(table, key, fields),
                    constraint=foreign_key.name,
                    detail=f'Key {referenced} is not present in table "{parent.name}"',
                    loser=_row_text(table.columns, fields),
                    at=rank,
                )


def _writes_to_dropped(view: View, table: Table, drop: Drop) -> Iterator[Conflict]:
    """Rows of a dropped table that those who dropped it had not seen, or not in this state."""
    for key, cell in view.scan(*prefix_range(row_prefix(table.id))):
        for life in decode_record(cell):
            latest = max(life.edited.values(), default=(life.stamp, life.replica))
            if drop.missed(life):
                what = "inserted"
            elif life.edited and drop.missed_edit(latest):
                what = "edited"
            else:
                continue
            yield _conflict(
                kind="dropped table",
                table=table.name,
                key=_row_key(table, key, life.fields),
                detail=f"{what} by a replica that did not know that the table was dropped",
                loser=_row_text(table.columns, life.fields),
                at=latest,
            )


def _conflict(
    kind: str,
    table: str | None,
    key: str,
    detail: str,
    *,
    constraint: str | None = None,
    winner: str | None = None,
    loser: str | None = None,
    at: Rank | None = None,
) -> Conflict:
    stamp, replica = at or (None, None)
    return Conflict(kind, table, key, constraint, detail, winner, loser, stamp, replica)


def _claim_rank(view: View, table: Table, key: bytes) -> Rank:
    """When a row came to hold all of its unique values, and by whom."""
    cell = view.get(key)
    assert cell is not None
    unique = [index for index in table.indexes if index.unique]
    return _written_at(
        decode_record(cell)[0],
        table.stored_ids(column for index in unique for column in index.input_ids),
    )


def _written_at(life: Life, column_ids: Iterable[int]) -> Rank:
    inserted = (life.stamp, life.replica)
    return max((life.edited.get(each, inserted) for each in column_ids), default=inserted)


def _field(life: Life, column: Column) -> Atom:
    return life.fields.get(column.id, column.missing)


def _row_key(table: Table, key: bytes, fields: Mapping[int, Atom]) -> str:
    if not table.primary_key:
        return key[ROW_PREFIX_BYTES:].hex()
    return key_text(table, table.primary_key, fields)


def _row_text(columns: Sequence[Column], fields: Mapping[int, Atom]) -> str:
    return ", ".join(
        f"{column.name}={_brief(readable(column.atom(fields), column))}"
        for column in columns
        if column.type.name != "COUNTER"
    )


def _rank_text(rank: Rank | None) -> str | None:
    return None if rank is None else f"{rank[1].hex()} at {rank[0]}"


def _brief(value: object) -> str:
    text = value_text(value)
    if isinstance(value, bytes):
        text = value.decode() if _is_plain(value) else text
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _is_plain(value: bytes) -> bool:
    return value.isascii() and value.decode("ascii").isprintable()
