"""Replicas in memory with a catalog, and rows by column name: what the catalog's tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from murmur.catalog import (
    Catalog,
    CatalogDerivation,
    ColumnDefinition,
    Conflict,
    RowCheck,
    Table,
    TableDefinition,
    conflicts,
    create_table,
    delete_row,
    get_row,
    insert_row,
    key_of,
    scan_index,
    scan_rows,
    update_row,
)
from murmur.catalog.types import BIGINT, COUNTER, INTEGER, TEXT
from murmur.kvcore import (
    DERIVED,
    LOCAL,
    ManualClock,
    MemoryStorage,
    Replica,
    Transaction,
    View,
)
from murmur.sql.row_expressions import compile_row_expression

NOTE = TableDefinition(
    "note",
    (
        ColumnDefinition("id", INTEGER),
        ColumnDefinition("body", TEXT, nullable=False),
        ColumnDefinition("stars", BIGINT),
        ColumnDefinition("likes", COUNTER),
    ),
    primary_key=("id",),
)


def open_replica(
    seed: int = 1, *, clock: ManualClock | None = None, storage: Any = None
) -> Replica:
    """A replica in memory whose every write may leave it at once."""
    return Replica.open(
        storage or MemoryStorage(),
        clock=clock or ManualClock(),
        random_bytes=Random(seed).randbytes,
        derivation=CatalogDerivation(compile_row_expression),
        durability="none",
    )


def apart(count: int = 2) -> tuple[Replica, ...]:
    """Replicas that have not met; each one's clock is a second ahead of the one before."""
    start = ManualClock().now_ms()
    return tuple(
        open_replica(seed + 1, clock=ManualClock(start + 1000 * seed)) for seed in range(count)
    )


def exchange(*replicas: Replica) -> None:
    """Give everybody's records to everybody."""
    for source in replicas:
        for target in replicas:
            target.apply(records(source, target.vector))


def records(replica: Replica, have: Mapping[bytes, int]) -> list[bytes]:
    return [record for _, record in replica.log.missing(have, replica.durable_position)]


def transact(replica: Replica, write: Callable[[Transaction], Any]) -> Any:
    """What `write` returns, after a commit."""
    with replica.begin() as tx:
        return write(tx)


def define(replica: Replica, *definitions: TableDefinition) -> None:
    with replica.begin() as tx:
        for definition in definitions:
            create_table(tx, definition, if_not_exists=True)


def catalog_of(view: Any) -> Catalog:
    assert isinstance(view.state, Catalog)
    return view.state


def table_of(view: Any, name: str) -> Table:
    table = catalog_of(view).table(name)
    assert table is not None, f"no table {name}"
    return table


def by_id(table: Table, values: Mapping[str, Any]) -> dict[int, Any]:
    """{column name: value} to {column id: value}."""
    named: dict[int, Any] = {}
    for name, value in values.items():
        column = table.column(name)
        assert column is not None, f"no column {name}"
        named[column.id] = value
    return named


def insert(tx: Transaction, name: str, /, *, row_id: bytes | None = None, **values: Any) -> bytes:
    table = table_of(tx, name)
    return insert_row(tx, table, by_id(table, values), row_id=row_id, checks=always(table))


def update(tx: Transaction, name: str, key: Any, /, **values: Any) -> bytes | None:
    """Change the row with this primary key value, or row key."""
    table = table_of(tx, name)
    found = key if isinstance(key, bytes) else key_of(table, as_tuple(key))
    return update_row(tx, table, found, by_id(table, values), checks=always(table))


def delete(tx: Transaction, name: str, key: Any, /) -> bool:
    table = table_of(tx, name)
    return delete_row(tx, table, key if isinstance(key, bytes) else key_of(table, as_tuple(key)))


def row(view: Any, name: str, key: Any) -> tuple[Any, ...] | None:
    table = table_of(view, name)
    return get_row(view, table, key if isinstance(key, bytes) else key_of(table, as_tuple(key)))


def rows(view: Any, name: str) -> list[tuple[Any, ...]]:
    return [each for _, each in scan_rows(view, table_of(view, name))]


def seen(replica: Replica, name: str) -> list[tuple[Any, ...]]:
    """All rows that a new snapshot shows."""
    with replica.snapshot() as snapshot:
        return rows(snapshot, name)


def by_index(view: Any, name: str) -> list[tuple[Any, ...]]:
    """Rows in the order of an index."""
    index = catalog_of(view).index(name)
    assert index is not None
    table = catalog_of(view).table_by_id(index.table_id)
    assert table is not None
    found = [get_row(view, table, key) for key in scan_index(view, table, index)]
    assert None not in found
    return found  # type: ignore[return-value]


def found_conflicts(replica: Replica) -> list[Conflict]:
    with replica.snapshot() as snapshot:
        return list(conflicts(snapshot, catalog_of(snapshot)))


def derived(view: View) -> dict[bytes, bytes]:
    return dict(view.scan(DERIVED, LOCAL))


def always(table: Table) -> Sequence[RowCheck]:
    """CHECKs that hold: their text is sql's affair."""
    return [(check, lambda _: True) for check in table.checks]


def as_tuple(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)
