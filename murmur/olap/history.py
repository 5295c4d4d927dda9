"""History: every version of every row of a table, read from the log.

    id  name    _hlc                _time                 _replica          _seq  _op
    7   Delta   115838341120000000  2026-01-01 00:00:00Z  90a1c0ffee000001  12    insert
    7   Delta!  115838341186576385  2026-01-01 00:00:01Z  90a1c0ffee000001  15    update
    7   Delta!  115838341252000000  2026-01-01 00:00:02Z  41d2beef00000002  3     delete

A version is the row as its author left it: the author's transaction applied to what the author had
seen of the row, no more. An update shows the whole row, a delete the row that it took away. So a
write that lost to a concurrent one stands here as it was written (law L7), and the versions are the
same on every replica (law L5); only their order, that of this replica's log, may differ. ORDER BY
_hlc, _replica is the order that every replica agrees on.

    _hlc      BIGINT        the transaction's stamp (kvcore/clock.py): one number that sorts
    _time     TIMESTAMPTZ   the wall clock in it, milliseconds
    _replica  TEXT          the author, hexadecimal
    _seq      BIGINT        the author's transactions, counted from 1
    _op       TEXT          insert, update or delete

A log that was trimmed, or that a snapshot from a peer came beside, begins later than the table did,
and history with it: versions before are not shown, and of those that follow on one of them only
what is known (before.py); the rest is NULL. murmur_log tells where the log begins.

Rows are shown through the table's present columns; a column that came later reads its default. A
table that was dropped is shown as it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import pyarrow as pa

from murmur.catalog import Catalog, Table, atoms_getter
from murmur.catalog.atoms import to_atom
from murmur.catalog.keycode import key_decoder
from murmur.catalog.keyspace import row_prefix
from murmur.catalog.kv_tables import kv_fields
from murmur.catalog.settling import table_of
from murmur.catalog.types import BIGINT, TEXT, TIMESTAMPTZ
from murmur.kvcore import Atom, Log, Operation, stamp_ms, visible_fields, winner
from murmur.kvcore.cell import Author, Sibling, apply, encode_register
from murmur.kvcore.record import INSERT, PUT
from murmur.olap.arrow import atoms_to_array, make_table
from murmur.olap.before import Before, Get, partly_known
from murmur.olap.feed import transactions

COLUMNS = (
    ("_hlc", BIGINT),
    ("_time", TIMESTAMPTZ),
    ("_replica", TEXT),
    ("_seq", BIGINT),
    ("_op", TEXT),
)

MAX_INT64 = 2**63 - 1
MAX_TIME_US = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z

Fields = Mapping[int, Atom]


Change = tuple[str, Fields]  # insert, update or delete; the row as it was left or taken away
Birth = bytes  # the cell that one insertion makes; its dot stands in it


def history(
    log: Log, position: int, table: Table, now: Get | None = None, *, engine: bool = False
) -> pa.Table:
    """All versions of the table's rows that the log holds up to a snapshot's position, in order.

    `now` gives the cells of that snapshot, for rows that are older than the log.
    """
    atoms = atoms_getter(table.columns)
    columns = [*((column.name, column.type) for column in table.columns), *COLUMNS]
    values: list[list[Atom]] = [[] for _ in columns]
    if table.kv is not None:
        prefix, fields_of = table.kv.prefix, kv_fields(table)
        before = _before(log, position, prefix, now)
        changed = versions(log, position, prefix, fields_of, before, _kv_key_reader(table))
    else:
        prefix = row_prefix(table.id)
        before = _before(log, position, prefix, now)
        changed = versions(log, position, prefix, _shown, before, _key_reader(table, prefix))
    for author, changes in changed:
        if not changes:
            continue
        stamp, replica, seq, _ = author
        time_us = min(stamp_ms(stamp) * 1000, MAX_TIME_US)
        about: tuple[Atom, ...] = (min(stamp, MAX_INT64), time_us, replica.hex(), seq)
        # Column by column at once: a tuple kept for each row would cost as much as all the rest.
        shown = [atoms(fields) for _, fields in changes]
        for column, part in zip(values, zip(*shown, strict=True), strict=False):
            column.extend(part)
        for column, same in zip(values[len(table.columns) :], about, strict=False):
            column.extend(repeat(same, len(changes)))
        values[-1].extend(op for op, _ in changes)
    arrays = [
        atoms_to_array(column, sql_type, engine=engine)
        for (_, sql_type), column in zip(columns, values, strict=True)
    ]
    return make_table(columns, arrays)


def _shown(key: bytes, cell: bytes) -> Fields:
    return visible_fields(cell)


def _before(log: Log, position: int, prefix: bytes, now: Get | None) -> Before | None:
    return Before(log, position, prefix, now) if log.floor and now is not None else None


def _key_reader(table: Table, prefix: bytes) -> Callable[[bytes], Fields]:
    """What a key says of its row: the primary key, and nothing else."""
    nothing: dict[int, Atom] = {column.id: None for column in table.columns}
    if not table.primary_key:
        return lambda key: nothing
    types = [table.column_by_id(column_id).type for column_id in table.primary_key]
    decode = key_decoder(types)

    def fields(key: bytes) -> Fields:
        values = zip(table.primary_key, decode(key, len(prefix)), types, strict=True)
        return {**nothing, **{name: to_atom(value, kind) for name, value, kind in values}}

    return fields


def _kv_key_reader(table: Table) -> Callable[[bytes], Fields]:
    """Likewise, of a key that is a row; nothing, where its value cannot be empty."""
    fields_of, empty = kv_fields(table), encode_register([Sibling(0, bytes(8), 0, b"")])
    assert empty is not None

    def fields(key: bytes) -> Fields:
        found = fields_of(key, empty) or {}
        return {
            column.id: found.get(column.id) if column.id in table.primary_key else None
            for column in table.columns
        }

    return fields


def table_named(catalog: Catalog, name: str) -> Table | None:
    """The table of this name; else the newest of those that were dropped under it."""
    table = catalog.table(name)
    if table is not None:
        return table
    dropped = [
        record
        for record in catalog.records.values()
        if record.dropped is not None and record.name == name
    ]
    if not dropped:
        return None
    return table_of(max(dropped, key=lambda record: (record.generation, record.rank)))


def versions(
    log: Log,
    position: int,
    prefix: bytes,
    fields_of: Callable[[bytes, bytes], Fields | None] = _shown,
    before: Before | None = None,
    fields_of_key: Callable[[bytes], Fields] = lambda key: {},
) -> Iterator[tuple[Author, list[Change]]]:
    """What each transaction did to the cells whose keys have this prefix, in log order.

    `fields_of` gives the fields of a key and its cell, None for what is no row; `fields_of_key`
    those that are known of a key alone, for rows that are older than the log and gone.
    """
    rows: dict[bytes, Birth | _Row] = {}
    for author, operations in transactions(log, position, prefix):
        by_key: dict[bytes, list[Operation]] = {}
        for operation in operations:
            if operation.key.startswith(prefix):
                by_key.setdefault(operation.key, []).append(operation)
        changes: list[Change] = []
        for key, own in by_key.items():
            row = rows.get(key)
            if row is None and len(own) == 1 and own[0].kind == INSERT:
                # Most rows are inserted and left alone.
                cell = apply(None, own, author)
                assert cell is not None
                rows[key] = cell
                body: Any = own[0].body
                changes.append(("insert", {**body.fields, **body.counters}))
                continue
            if row is None and before is not None and all(o.kind not in (INSERT, PUT) for o in own):
                row = before.cell(key)
                if row is None:
                    changes.append(partly_known(fields_of_key(key), own))
                    continue
            elif row is None and before is not None:
                row = before.cell(key)
            if not isinstance(row, _Row):
                row = rows[key] = _Row(row)
            found, after = row.write(own, author)
            shown = found if after is None else after
            if shown is not None:
                op = "delete" if after is None else "insert" if found is None else "update"
                fields = fields_of(key, shown)
                if fields is not None:
                    changes.append((op, fields))
        yield author, changes


class _Row:
    """What has been written to one key so far."""

    __slots__ = ("_birth", "_cell", "_seen", "_writes")

    def __init__(self, birth: Birth | None) -> None:
        self._birth = birth
        self._cell: bytes | None = None  # of all writes so far
        self._seen: dict[bytes, int] = {}
        self._writes: list[tuple[Sequence[Operation], Author]] = []  # all but the birth
        if birth is not None:
            self._cell = birth
            _, replica, seq = winner(birth)
            self._seen[replica] = seq

    def write(
        self, operations: Sequence[Operation], author: Author
    ) -> tuple[bytes | None, bytes | None]:
        """The cell as the author found it and left it."""
        vector = author.vector
        if all(vector.get(replica, 0) >= seq for replica, seq in self._seen.items()):
            before = self._cell
            after = self._cell = apply(before, operations, author)
        else:
            before = self._as_seen_with(vector)
            after = apply(before, operations, author)
            self._cell = apply(self._cell, operations, author)
        self._seen[author.replica] = author.seq
        self._writes.append((operations, author))
        return before, after

    def _as_seen_with(self, vector: Mapping[bytes, int]) -> bytes | None:
        """The cell made of the writes that the vector covers."""
        cell = None
        if self._birth is not None:
            _, replica, seq = winner(self._birth)
            if vector.get(replica, 0) >= seq:
                cell = self._birth
        for operations, author in self._writes:
            if vector.get(author.replica, 0) >= author.seq:
                cell = apply(cell, operations, author)
        return cell
