"""Rows and definitions that no statement writes: read, listed, and no harm to anybody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from murmur.catalog import (
    ColumnDefinition,
    RowCheck,
    Table,
    TableDefinition,
    conflicts,
    create_index,
    keyspace,
)
from murmur.catalog.types import INTEGER, TEXT, parse_type
from murmur.errors import InvalidInput
from tests.catalog.harness import (
    by_index,
    catalog_of,
    define,
    delete,
    found_conflicts,
    insert,
    open_replica,
    seen,
    table_of,
    transact,
)

WORD = TableDefinition(
    "word", (ColumnDefinition("id", INTEGER), ColumnDefinition("w", TEXT)), ("id",)
)

UNSOUND = [
    ("BOOLEAN", 1),
    ("INTEGER", "many"),
    ("INTEGER", True),
    ("BIGINT", 1.5),
    ("DOUBLE", "x"),
    ("DECIMAL(10,2)", "sNaN"),
    ("DECIMAL(10,2)", "1e999999"),
    ("DECIMAL(10,2)", 5),
    ("TEXT", 5),
    ("BLOB", "x"),
    ("DATE", 10**9),
    ("TIME", -1),
    ("TIMESTAMP", 2**62),
    ("INTERVAL", b"short"),
    ("UUID", b"short"),
    ("JSON", b"{}"),
]


@pytest.mark.parametrize(("name", "atom"), UNSOUND)
def test_an_unsound_value_reads_null_and_is_listed(name: str, atom: Any) -> None:
    with open_replica() as replica:
        columns = (ColumnDefinition("id", INTEGER), ColumnDefinition("v", parse_type(name)))
        define(replica, TableDefinition("t", columns, ("id",)))
        column = table_of(replica, "t").columns[1]

        def write(tx: Any) -> None:
            tx.edit(insert(tx, "t", id=1), {column.id: atom})
            insert(tx, "t", id=2)

        transact(replica, write)
        assert seen(replica, "t") == [(1, None), (2, None)]
        assert [each.kind for each in found_conflicts(replica)] == ["unreadable"]
        transact(replica, lambda tx: delete(tx, "t", 1))
        assert found_conflicts(replica) == []


def test_a_row_under_an_empty_key_is_found_by_its_index_and_listed() -> None:
    with open_replica() as replica:
        define(replica, WORD)
        transact(replica, lambda tx: create_index(tx, "word", [("w", False)], name="i"))
        table = table_of(replica, "word")
        number, word = (column.id for column in table.columns)
        transact(
            replica,
            lambda tx: tx.insert(keyspace.row_prefix(table.id), {number: 5, word: "odd"}),
        )
        with replica.snapshot() as snapshot:
            assert by_index(snapshot, "i") == [(5, "odd")]
        assert [each.kind for each in found_conflicts(replica)] == ["unreadable"]
        assert list(replica.check()) == []


def test_two_tables_never_share_the_entries_of_one_index() -> None:
    with open_replica() as replica:
        define(replica, WORD)
        define(replica, TableDefinition("other", WORD.columns, ("id",)))
        transact(replica, lambda tx: create_index(tx, "word", [("w", False)], name="i"))
        transact(replica, lambda tx: insert(tx, "word", id=1, w="a"))
        transact(replica, lambda tx: insert(tx, "other", id=7, w="b"))
        word, other = table_of(replica, "word"), table_of(replica, "other")
        (index,) = word.indexes
        stolen = keyspace.item_key(other.id, keyspace.INDEX, index.id)
        packed = other.columns[1].id.to_bytes(4) + b"\0"
        fields = {1: "stolen", 3: False, 4: False, 5: packed}
        transact(replica, lambda tx: tx.insert(stolen, fields))
        assert table_of(replica, "other").indexes == ()
        assert "definition" in [each.kind for each in found_conflicts(replica)]
        transact(replica, lambda tx: tx.remove(stolen))
        with replica.snapshot() as snapshot:
            assert by_index(snapshot, "i") == [(1, "a")]
        assert list(replica.check()) == []


def test_a_default_that_is_not_of_its_type_makes_the_definition_unreadable() -> None:
    with open_replica() as replica:
        define(replica, WORD)
        transact(replica, lambda tx: insert(tx, "word", id=1, w="a"))
        table = table_of(replica, "word")
        bad = {1: "u", 3: "UUID", 4: True, 5: 9, 6: "constant", 7: "no uuid", 8: "'x'"}
        key = keyspace.item_key(table.id, keyspace.COLUMN, 4242)
        transact(replica, lambda tx: tx.insert(key, bad))
        assert seen(replica, "word") == [(1, "a")]
        assert [each.what for each in catalog_of(replica).disputes] == ["definition"]


def test_a_check_that_nobody_can_read_is_listed_beside_the_rest() -> None:
    with open_replica() as replica:
        define(replica, WORD)
        table = table_of(replica, "word")
        fields = {1: "odd", 3: "DROP TABLE word", 4: b"", 5: ""}
        key = keyspace.item_key(table.id, keyspace.CHECK, 9)
        transact(replica, lambda tx: tx.insert(key, fields))
        transact(replica, lambda tx: tx.edit(insert(tx, "word", id=1), {table.columns[1].id: 5}))

        def refuse(table: Table) -> Sequence[RowCheck]:
            raise InvalidInput("syntax error")

        with replica.snapshot() as snapshot:
            found = list(conflicts(snapshot, catalog_of(snapshot), refuse))
        assert sorted(each.kind for each in found) == ["definition", "unreadable"]


def test_a_foreign_key_to_an_impossible_table_is_unreadable() -> None:
    with open_replica() as replica:
        define(replica, WORD)
        table = table_of(replica, "word")
        number = table.columns[0].id.to_bytes(4)
        fields = {1: "f", 3: number, 4: b"\xff" * 16, 5: number, 6: "CASCADE"}
        key = keyspace.item_key(table.id, keyspace.FOREIGN_KEY, 9)
        transact(replica, lambda tx: tx.insert(key, fields))
        assert [each.what for each in catalog_of(replica).disputes] == ["definition"]
