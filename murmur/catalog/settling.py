"""Settling: which tables and names are seen, of all that was defined.

Replicas define things apart, so names can clash. Names are settled by rank, the (stamp, replica) at
which a name was given:

    two live tables of one name     the earlier keeps it; the later shows as name~1f2e3d4c (from its
                                    id) until somebody renames it
    two live columns of one name    a primary key column, then the earlier, is shown; the other
                                    keeps its data and shows again when name~1f2e3d4c is renamed
    a table and a view of one name  as two tables
    two indexes of one name         as tables
    index or CHECK over columns     asleep: kept, not enforced, awake again with its columns
    that are not shown
    index or generated column of    likewise; such a column reads NULL
    an expression that this
    release cannot read
    foreign key whose parent, or    likewise
    the parent's key, is not there

All of it is listed in `disputes`, and all of it is a pure function of the records: no replica
writes anything to settle a clash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from murmur.catalog.expressions import Compile, compiled, compiled_index
from murmur.catalog.kv_definitions import kv_problem
from murmur.catalog.schema import Check, Column, ForeignKey, Index, Table, TrigramIndex
from murmur.catalog.standings import Disputed, Rank
from murmur.catalog.table_records import (
    ColumnRecord,
    IndexRecord,
    TableRecord,
    TrigramRecord,
)
from murmur.catalog.views import SqlView, ViewRecord


class Dispute(NamedTuple):
    """Something that the definitions say and the tables do not show."""

    table: str
    what: str
    detail: str
    winner: Rank | None
    loser: Rank | None


class _Claim(NamedTuple):
    """Who asks for a name; sorts by who comes first."""

    rank: Rank
    id: int
    name: str
    table: str | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a set of definitions amounts to; shared by all catalogs between two schema changes."""

    records: Mapping[int, TableRecord]
    view_records: Mapping[int, ViewRecord]
    by_name: Mapping[str, Table]
    views: Mapping[str, SqlView]
    by_id: Mapping[int, Table]
    indexes: Mapping[str, Index]
    referencing: Mapping[int, tuple[ForeignKey, ...]]
    trigrams: Mapping[str, TrigramIndex]
    disputes: tuple[Dispute, ...]
    version: int
    compile: Compile


def table_of(record: TableRecord) -> Table:
    """A table by its own definition alone, dropped or not: its columns, to read its rows with."""
    columns = _shown_columns(record)
    ids = {column.id for column in columns}
    return Table(
        id=record.id,
        name=record.name,
        generation=record.generation,
        columns=columns,
        primary_key=record.primary_key if ids.issuperset(record.primary_key) else (),
        primary_key_name=record.primary_key_name,
        kv=record.kv,
    )


def suffixed(name: str, identity: int) -> str:
    """What a thing that lost its name is called: note~1f2e3d4c."""
    return f"{name}~{f'{identity:08x}'[:8]}"


def settle(
    records: Mapping[int, TableRecord],
    view_records: Mapping[int, ViewRecord],
    known: Mapping[int, Table],
    version: int,
    compile_text: Compile,
) -> Settled:
    """What definitions amount to. Of the known tables, those that did not change stay the same."""
    disputes: list[Dispute] = []
    live = [_over_kv(record, disputes) for record in records.values() if record.dropped is None]
    shown = {record.id: _computing(record, compile_text, disputes) for record in live}
    whole = []
    for record in live:
        reason = _missing(record, shown[record.id])
        if reason is None:
            whole.append(record)
        else:
            disputes.append(_asleep(record.name, f"table {record.name}", reason))
    claims = [_Claim(record.rank, record.id, record.name, None) for record in whole]
    claims += [
        _Claim(each.rank, each.view.id, each.view.name, None) for each in view_records.values()
    ]
    names = _names("table", claims, disputes)
    for record in whole:
        disputes += _column_disputes(record, names[record.id], shown[record.id])
        disputes += _record_disputes(record, names[record.id])
    awake, index_names = _indexes(whole, names, shown, compile_text, disputes)
    by_id: dict[int, Table] = {}
    for record in whole:
        columns = shown[record.id]
        ids = {column.id for column in columns}
        named = (_renamed(each.index, index_names[each.index.id]) for each in awake[record.id])
        indexes = tuple(sorted(named, key=lambda index: index.name))
        table = Table(
            id=record.id,
            name=names[record.id],
            generation=record.generation,
            columns=columns,
            primary_key=record.primary_key,
            primary_key_name=record.primary_key_name,
            indexes=indexes,
            checks=tuple(_awake_checks(record, ids, names[record.id], disputes)),
            comment=record.comment,
            kv=record.kv,
            trigrams=tuple(
                sorted(
                    (
                        replace(each.index, name=index_names[each.index.id])
                        for each in record.trigrams
                        if each.index.id in index_names
                    ),
                    key=lambda index: index.name,
                )
            ),
        )
        by_id[record.id] = table
    by_id = {record.id: _with_foreign_keys(record, by_id, disputes) for record in whole}
    for table_id, table in by_id.items():
        earlier = known.get(table_id)
        if earlier is not None and earlier == table:
            by_id[table_id] = earlier  # what was compiled from it stays
    tables = sorted(by_id.values(), key=lambda table: table.name)
    referencing: dict[int, list[ForeignKey]] = {}
    for table in tables:
        for foreign_key in table.foreign_keys:
            referencing.setdefault(foreign_key.parent_table_id, []).append(foreign_key)
    views = [replace(each.view, name=names[each.view.id]) for each in view_records.values()]
    for each in view_records.values():
        disputes += _lost(each.disputed, names[each.view.id])
    return Settled(
        records=records,
        view_records=view_records,
        views={view.name: view for view in sorted(views, key=lambda view: view.name)},
        by_name={table.name: table for table in tables},
        by_id=by_id,
        indexes={index.name: index for table in tables for index in table.indexes},
        trigrams={index.name: index for table in tables for index in table.trigrams},
        referencing={parent: tuple(keys) for parent, keys in referencing.items()},
        disputes=tuple(sorted(disputes, key=lambda each: each[:3])),
        version=version,
        compile=compile_text,
    )


def _shown_columns(record: TableRecord) -> tuple[Column, ...]:
    claimed: dict[str, ColumnRecord] = {}
    for column in sorted(record.columns, key=lambda each: _column_order(record, each)):
        claimed.setdefault(column.name, column)
    ordered = sorted(claimed.values(), key=lambda each: (each.position, each.rank, each.id))
    return tuple(
        Column(
            id=column.id,
            name=column.name,
            type=column.type,
            nullable=column.nullable and column.id not in record.primary_key,
            default=column.default,
            position=position,
            generated=column.generated,
            kept=column.kept,
            comment=column.comment,
        )
        for position, column in enumerate(ordered)
    )


def _missing(record: TableRecord, columns: tuple[Column, ...]) -> str | None:
    """Why a table cannot be shown; None if it can."""
    if not _keys(columns).issuperset(record.primary_key):
        return "its primary key is missing"
    if record.kv is None:
        return None
    key = [column.type for column in columns if column.id in record.primary_key]
    others = [column.type for column in columns if column.id not in record.primary_key]
    return kv_problem(record.kv, key, others)


def _over_kv(record: TableRecord, disputes: list[Dispute]) -> TableRecord:
    """The record; without what a table over KV keys cannot have, if some peer gave it that."""
    generated = [column for column in record.columns if column.generated is not None]
    others = record.indexes or record.trigrams or record.checks or record.foreign_keys
    if record.kv is None or not (generated or others):
        return record
    named = [f"generated column {column.name}" for column in generated]
    named += [each.index.name for each in record.indexes]
    named += [each.index.name for each in record.trigrams]
    named += [check.name for check in record.checks]
    named += [foreign_key.name for foreign_key in record.foreign_keys]
    disputes += [_asleep(record.name, name, "the table is over KV keys") for name in named]
    columns = tuple(replace(column, generated=None) for column in record.columns)
    return replace(record, columns=columns, indexes=(), trigrams=(), checks=(), foreign_keys=())


def _computing(
    record: TableRecord, compile_text: Compile, disputes: list[Dispute]
) -> tuple[Column, ...]:
    """The shown columns, the generated ones compiled."""
    columns = _shown_columns(record)
    if all(column.generated is None for column in columns):
        return columns
    stored = {column.id: column for column in columns if column.generated is None}
    computing = []
    for column in columns:
        written = column.generated
        if written is not None:
            expression = compiled(written, stored, compile_text)
            if expression is not None:
                column = replace(column, generated=expression)
            else:
                what = f"generated column {column.name}"
                reason = f"its expression cannot be read: {written.text}"
                disputes.append(_asleep(record.name, what, reason))
        computing.append(column)
    return tuple(computing)


def _keys(columns: Iterable[Column]) -> set[int]:
    """The columns that can stand in keys; others are there only if a peer wrote nonsense."""
    return {column.id for column in columns if column.type.can_be_key and column.generated is None}


def _column_order(record: TableRecord, column: ColumnRecord) -> tuple[bool, Rank, int]:
    return column.id not in record.primary_key, column.rank, column.id


def _names(what: str, claims: Iterable[_Claim], disputes: list[Dispute]) -> dict[int, str]:
    """A name for each id: the earliest claim has the name itself."""
    names: dict[int, str] = {}
    holders: dict[str, Rank] = {}
    for claim in sorted(claims):
        given = claim.name
        while given in holders:
            given = suffixed(given, claim.id)
        if given != claim.name:
            detail = f"another {what} was named {claim.name} first; this one is shown as {given}"
            winner = holders[claim.name]
            table = claim.table or given
            disputes.append(Dispute(table, f"{what} {claim.name}", detail, winner, claim.rank))
        holders[given] = claim.rank
        names[claim.id] = given
    return names


def _column_disputes(
    record: TableRecord, table: str, shown: tuple[Column, ...]
) -> Iterator[Dispute]:
    ids = {column.id for column in shown}
    ranks = {column.name: column.rank for column in record.columns if column.id in ids}
    types = {column.name: column.type for column in shown}
    for column in record.columns:
        if column.id not in ids:
            hidden = suffixed(column.name, column.id)
            detail = (
                f"shown with type {types[column.name]}; this one of type {column.type} is hidden, "
                f'rename "{hidden}" to see it'
            )
            winner = ranks[column.name]
            yield Dispute(table, f"column {column.name}", detail, winner, column.rank)


def _record_disputes(record: TableRecord, table: str) -> Iterator[Dispute]:
    yield from _lost(record.disputed, table)
    for key in record.unreadable:
        detail = f"the definition under key {key.hex()} cannot be read by this release"
        yield Dispute(table, "definition", detail, None, None)


def _lost(disputed: Iterable[Disputed], table: str) -> Iterator[Dispute]:
    for each in disputed:
        detail = f"shown with {each.shown}; lost: {each.said}"
        yield Dispute(table, each.what, detail, each.winner, each.loser)


def _indexes(
    records: Iterable[TableRecord],
    names: Mapping[int, str],
    shown: Mapping[int, tuple[Column, ...]],
    compile_text: Compile,
    disputes: list[Dispute],
) -> tuple[dict[int, list[IndexRecord]], dict[int, str]]:
    awake: dict[int, list[IndexRecord]] = {}
    claims = []
    for record in records:
        columns = {column.id: column for column in shown[record.id]}
        awake[record.id] = []
        for each in record.indexes:
            index = _awake_index(each.index, columns, compile_text)
            if isinstance(index, Index):
                awake[record.id].append(IndexRecord(index, each.rank))
                claims.append(_Claim(each.rank, each.index.id, each.index.name, names[record.id]))
            else:
                disputes.append(_asleep(names[record.id], f"index {each.index.name}", index))
        claims += [
            _Claim(trigram.rank, trigram.index.id, trigram.index.name, names[record.id])
            for trigram in _awake_trigrams(record, names[record.id], shown[record.id], disputes)
        ]
    return awake, _names("index", claims, disputes)


def _awake_index(index: Index, columns: Mapping[int, Column], compile_text: Compile) -> Index | str:
    """The index, its expressions compiled; or why it is not in force."""
    if not columns.keys() >= set(index.input_ids):
        return "a column of it is not shown"
    plain = [columns[each.column_id].type for each in index.columns if each.expression is None]
    computed = [each.expression.type for each in index.columns if each.expression is not None]
    if not all(sql_type.can_be_key for sql_type in (*plain, *computed)):
        return "a column of it cannot be a key"
    return compiled_index(index, columns, compile_text) or "an expression of it cannot be read"


def _awake_trigrams(
    record: TableRecord, table: str, columns: Iterable[Column], disputes: list[Dispute]
) -> Iterator[TrigramRecord]:
    texts = {column.id for column in columns if column.type.is_text}
    for each in record.trigrams:
        if each.index.column_id in texts:
            yield each
        else:
            reason = "its column is not shown, or no text"
            disputes.append(_asleep(table, f"index {each.index.name}", reason))


def _awake_checks(
    record: TableRecord, columns: set[int], table: str, disputes: list[Dispute]
) -> Iterator[Check]:
    for check in record.checks:
        if columns.issuperset(check.column_ids):
            yield check
        else:
            disputes.append(_asleep(table, f"check {check.name}", "a column of it is not shown"))


def _with_foreign_keys(
    record: TableRecord, tables: Mapping[int, Table], disputes: list[Dispute]
) -> Table:
    table = tables[record.id]
    awake = []
    for foreign_key in record.foreign_keys:
        parent = tables.get(foreign_key.parent_table_id)
        resolved = None
        if parent is None:
            reason = "its parent table is not there"
        elif not _keys(table.columns).issuperset(foreign_key.column_ids):
            reason = "a column of it is not shown"
        else:
            resolved = resolve_parent(foreign_key, parent)
            reason = "its parent columns are neither the primary key nor unique"
        if resolved is not None:
            awake.append(resolved)
        else:
            disputes.append(_asleep(table.name, f"foreign key {foreign_key.name}", reason))
    return replace(table, foreign_keys=tuple(awake), compiled={})


def resolve_parent(foreign_key: ForeignKey, parent: Table) -> ForeignKey | None:
    """The foreign key with the key of the parent that it leans on; None when there is none."""
    if parent.kv is not None:
        return None
    wanted = sorted(foreign_key.parent_column_ids)
    if wanted == sorted(parent.primary_key):
        return replace(foreign_key, parent_index_id=None)
    for index in sorted(parent.indexes, key=lambda index: index.id):
        if index.unique and index.plain and wanted == sorted(index.column_ids):
            return replace(foreign_key, parent_index_id=index.id)
    return None


def _renamed(index: Index, name: str) -> Index:
    return index if index.name == name else replace(index, name=name)


def _asleep(table: str, what: str, reason: str) -> Dispute:
    return Dispute(table, what, f"not in force: {reason}", None, None)
