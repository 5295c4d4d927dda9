"""Definitions of tables over keys, as peers may write them: refused or asleep, never fatal."""

from __future__ import annotations

from typing import Any

import pytest

from murmur.catalog import ColumnDefinition, TableDefinition, keyspace
from murmur.catalog.definitions import INDEX_COLUMNS, TABLE_KV_PREFIX, TABLE_KV_VALUES
from murmur.catalog.schema import KvPrefix
from murmur.catalog.types import JSON, TEXT
from murmur.kvcore import Replica
from tests.catalog.harness import catalog_of, define, found_conflicts, insert, open_replica, rows

PREFIX = b"\x01\x01cfg:"
CFG = TableDefinition(
    "cfg",
    (ColumnDefinition("key", TEXT), ColumnDefinition("value", JSON)),
    ("key",),
    kv=KvPrefix(PREFIX, "whole"),
)


@pytest.fixture
def replica() -> Replica:
    replica = open_replica()
    define(replica, CFG)
    with replica.begin() as tx:
        insert(tx, "cfg", key="a", value="[1]")
    return replica


def disputes(replica: Replica) -> list[str]:
    with replica.snapshot() as snapshot:
        return [each.detail for each in catalog_of(snapshot).disputes]


@pytest.mark.parametrize(
    "fields",
    [
        {TABLE_KV_PREFIX: "text"},
        {TABLE_KV_PREFIX: b"\x02\x02"},
        {TABLE_KV_PREFIX: b""},
        {TABLE_KV_VALUES: "xml"},
        {TABLE_KV_VALUES: 1},
    ],
)
def test_a_prefix_of_another_format_is_no_table(replica: Replica, fields: dict[int, Any]) -> None:
    with replica.snapshot() as snapshot:
        table = catalog_of(snapshot).table("cfg")
    assert table is not None
    with replica.begin() as tx:
        tx.edit(keyspace.table_key(table.id), fields)
    with replica.snapshot() as snapshot:
        assert catalog_of(snapshot).table("cfg") is None
    assert list(replica.check()) == []


def test_what_it_cannot_have_sleeps(replica: Replica) -> None:
    with replica.snapshot() as snapshot:
        table = catalog_of(snapshot).table("cfg")
    assert table is not None
    key = table.primary_key[0]
    index = keyspace.index_id(table.id, "i", [(key, False)], unique=True)
    with replica.begin() as tx:
        fields = {1: "i", 3: True, 4: False, INDEX_COLUMNS: key.to_bytes(4) + b"\0"}
        tx.insert(keyspace.item_key(table.id, keyspace.INDEX, index), fields)
        trigrams = keyspace.trigram_id(table.id, "g", key)
        item = keyspace.item_key(table.id, keyspace.TRIGRAM, trigrams)
        tx.insert(item, {1: "g", 3: key.to_bytes(4)})
    with replica.snapshot() as snapshot:
        found = catalog_of(snapshot).table("cfg")
        assert found is not None
        assert (found.indexes, found.trigrams) == ((), ())
        assert rows(snapshot, "cfg") == [("a", "[1]")]
    assert disputes(replica) == ["not in force: the table is over KV keys"] * 2
    assert [each.kind for each in found_conflicts(replica)] == ["definition"] * 2
    assert list(replica.check()) == []


def test_a_table_without_its_columns_sleeps(replica: Replica) -> None:
    with replica.snapshot() as snapshot:
        table = catalog_of(snapshot).table("cfg")
    assert table is not None
    with replica.begin() as tx:
        tx.remove(keyspace.item_key(table.id, keyspace.COLUMN, table.columns[1].id))
    with replica.snapshot() as snapshot:
        assert catalog_of(snapshot).table("cfg") is None
        assert snapshot.get(PREFIX + b"a") is not None
    (detail,) = disputes(replica)
    assert detail.startswith("not in force: besides the key it has one column")
