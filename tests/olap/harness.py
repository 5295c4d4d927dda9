"""One table with a column of every type, in replicas on memory storage, and values for it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from murmur.catalog import (
    Catalog,
    CatalogDerivation,
    ColumnDefinition,
    Interval,
    SqlType,
    Table,
    TableDefinition,
    create_table,
    insert_row,
    parse_type,
)
from murmur.kvcore import ManualClock, MemoryStorage, Replica

NAMES = """
    BOOLEAN SMALLINT INTEGER BIGINT REAL DOUBLE DECIMAL(10,2) DECIMAL TEXT VARCHAR(5) BLOB
    DATE TIME TIMESTAMP TIMESTAMPTZ INTERVAL UUID JSON COUNTER
"""
TYPES = [parse_type(name) for name in NAMES.split()]

ONE_OF_EACH: dict[str, Any] = {
    "BOOLEAN": True,
    "SMALLINT": -32768,
    "INTEGER": 2**31 - 1,
    "BIGINT": -(2**63),
    "REAL": 1.5,
    "DOUBLE": -2.25,
    "DECIMAL(10,2)": Decimal("-12345678.90"),
    "DECIMAL": Decimal("0.0000000001"),
    "TEXT": "naïve ☃",
    "VARCHAR(5)": "abcde",
    "BLOB": b"\x00\xff",
    "DATE": date(1, 1, 1),
    "TIME": time(23, 59, 59, 999999),
    "TIMESTAMP": datetime(9999, 12, 31, 23, 59, 59, 999999),
    "TIMESTAMPTZ": datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
    "INTERVAL": Interval(14, days=-3, microseconds=7),
    "UUID": uuid.UUID("0190a1b2-0000-7000-8000-00000000beef"),
    "JSON": '{"a": [1, null]}',
    "COUNTER": 5,
}

_INT64 = st.integers(-(2**63), 2**63 - 1)
_PRINTABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BOOLEAN": st.booleans(),
    "SMALLINT": st.integers(-(2**15), 2**15 - 1),
    "INTEGER": st.integers(-(2**31), 2**31 - 1),
    "BIGINT": _INT64,
    "REAL": st.floats(width=32, allow_nan=False),
    "DOUBLE": st.floats(allow_nan=False),
    "DECIMAL(10,2)": st.decimals(Decimal("-99999999.99"), Decimal("99999999.99"), places=2),
    "DECIMAL": st.decimals(Decimal(-(10**20)), Decimal(10**20), places=7),
    "TEXT": _PRINTABLE,
    "VARCHAR(5)": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    "BLOB": st.binary(),
    "DATE": st.dates(),
    "TIME": st.times(),
    "TIMESTAMP": st.datetimes(),
    "TIMESTAMPTZ": st.datetimes(timezones=st.just(UTC)),
    "INTERVAL": st.one_of(
        st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)),
        st.builds(
            Interval,
            st.integers(-1200, 1200).filter(bool),
            days=st.integers(-1000, 1000),
            microseconds=st.integers(-(10**12), 10**12),
        ),
    ),
    "UUID": st.uuids(),
    "JSON": st.sampled_from(["null", "{}", '{"a": 1}', "[1, 2.50]", '"x"']),
    "COUNTER": _INT64,
}


def rows(types: list[SqlType] = TYPES) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Rows of these types, NULLs among them."""
    return st.lists(
        st.tuples(*(st.none() | VALUES[str(sql_type)] for sql_type in types)), max_size=6
    )


@dataclass
class Peer:
    """A replica with the catalog on it."""

    replica: Replica
    clock: ManualClock

    @property
    def catalog(self) -> Catalog:
        state = self.replica.state
        assert isinstance(state, Catalog)
        return state

    def table(self, name: str) -> Table:
        table = self.catalog.table(name)
        assert table is not None
        return table

    def define(self, definition: TableDefinition) -> Table:
        with self.replica.begin() as tx:
            create_table(tx, definition)
        return self.table(definition.name)

    def insert(self, name: str, *values: dict[str, Any]) -> list[bytes]:
        table = self.table(name)
        with self.replica.begin() as tx:
            return [
                insert_row(
                    tx,
                    table,
                    {column.id: row[column.name] for column in table.columns if column.name in row},
                )
                for row in values
            ]

    def take_from(self, *others: Peer) -> None:
        for other in others:
            log = other.replica.log
            self.replica.apply([record for _, record in log.missing(self.replica.vector)])


def make_peer(number: int = 1) -> Peer:
    """A replica whose id and clock are known."""
    clock = ManualClock()
    seed = iter(range(number << 32, 1 << 62))
    replica = Replica.open(
        MemoryStorage(),
        clock=clock,
        random_bytes=lambda size: next(seed).to_bytes(size),
        derivation=CatalogDerivation(),
        sync_interval_ms=None,
    )
    return Peer(replica, clock)


def every_type(name: str = "t") -> TableDefinition:
    """A table with an id and a column of every type, called like its type."""
    return TableDefinition(
        name,
        (
            ColumnDefinition("id", parse_type("INTEGER"), nullable=False),
            *(ColumnDefinition(str(sql_type), sql_type) for sql_type in TYPES),
        ),
        ("id",),
    )
