"""Definitions that replicas make apart: what the tables are once they have met."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from murmur.catalog import (
    CheckDefinition,
    ColumnDefinition,
    Default,
    ForeignKeyDefinition,
    TableDefinition,
    add_check,
    add_column,
    create_index,
    create_table,
    drop_column,
    drop_index,
    drop_table,
    keyspace,
    rename_column,
    rename_table,
)
from murmur.catalog.types import BIGINT, INTEGER, TEXT
from murmur.kvcore import Replica, visible_fields
from tests.catalog.harness import (
    NOTE,
    apart,
    by_index,
    catalog_of,
    define,
    exchange,
    found_conflicts,
    insert,
    open_replica,
    records,
    seen,
    table_of,
    transact,
    update,
)

ID = ColumnDefinition("id", INTEGER)


def together(*replicas: Replica) -> None:
    """Let them meet, and see that they agree."""
    exchange(*replicas)
    first, *others = replicas
    for other in others:
        assert catalog_of(other).tables == catalog_of(first).tables
        assert catalog_of(other).disputes == catalog_of(first).disputes


def later(replica: Replica) -> None:
    """What the replica writes from now on is later than what anybody has written."""
    replica.clock.advance(10_000)  # type: ignore[attr-defined]


def names(replica: Replica, table: str) -> list[str]:
    return [column.name for column in table_of(replica, table).columns]


def test_the_same_create_table_makes_one_table() -> None:
    alice, bob = apart()
    for replica, number in ((alice, 1), (bob, 2)):
        define(replica, NOTE)
        transact(replica, lambda tx, n=number: insert(tx, "note", id=n, body=f"of {n}"))
    together(alice, bob)
    assert seen(alice, "note") == seen(bob, "note") == [(1, "of 1", None, 0), (2, "of 2", None, 0)]
    assert catalog_of(alice).disputes == ()
    define(alice, NOTE)  # IF NOT EXISTS: it does
    assert len(catalog_of(alice).tables) == 1


def test_different_columns_are_united() -> None:
    alice, bob = apart()
    a, b = ColumnDefinition("a", TEXT), ColumnDefinition("b", TEXT)
    define(alice, TableDefinition("t", (ID, a), ("id",)))
    define(bob, TableDefinition("t", (ID, b), ("id",)))
    transact(alice, lambda tx: insert(tx, "t", id=1, a="x"))
    transact(bob, lambda tx: insert(tx, "t", id=2, b="y"))
    together(alice, bob)
    assert names(alice, "t") == ["id", "a", "b"]
    assert seen(bob, "t") == [(1, "x", None), (2, None, "y")]


def test_of_two_types_the_earlier_is_shown_and_the_other_can_be_renamed() -> None:
    alice, bob = apart()
    define(alice, TableDefinition("t", (ID, ColumnDefinition("v", INTEGER)), ("id",)))
    define(bob, TableDefinition("t", (ID, ColumnDefinition("v", TEXT)), ("id",)))
    transact(alice, lambda tx: insert(tx, "t", id=1, v=1))
    transact(bob, lambda tx: insert(tx, "t", id=2, v="two"))
    together(alice, bob)
    assert seen(alice, "t") == [(1, 1), (2, None)]
    (dispute,) = catalog_of(alice).disputes
    assert (dispute.table, dispute.what) == ("t", "column v")
    assert "shown with type INTEGER; this one of type TEXT is hidden" in dispute.detail
    assert dispute.winner is not None
    assert dispute.loser is not None
    assert (dispute.winner[1], dispute.loser[1]) == (alice.id, bob.id)
    hidden = dispute.detail.split('"')[1]
    transact(bob, lambda tx: rename_column(tx, "t", hidden, "words"))
    together(alice, bob)
    assert seen(alice, "t") == [(1, 1, None), (2, None, "two")]
    assert names(alice, "t") == ["id", "v", "words"]
    assert catalog_of(alice).disputes == ()


def test_tables_with_different_keys_stay_two_tables() -> None:
    alice, bob = apart()
    define(alice, TableDefinition("t", (ID,), ("id",)))
    define(bob, TableDefinition("t", (ColumnDefinition("id", TEXT),), ("id",)))
    transact(alice, lambda tx: insert(tx, "t", id=1))
    transact(bob, lambda tx: insert(tx, "t", id="one"))
    together(alice, bob)
    first, second = catalog_of(alice).tables
    assert first.name == "t"
    assert second.name == f"t~{second.id:08x}"[:10]
    assert seen(bob, "t") == [(1,)]
    assert seen(bob, second.name) == [("one",)]
    assert [dispute.what for dispute in catalog_of(alice).disputes] == ["table t"]
    transact(bob, lambda tx: rename_table(tx, second.name, "u"))
    together(alice, bob)
    assert catalog_of(alice).disputes == ()
    assert seen(alice, "u") == [("one",)]


def test_a_name_stays_with_the_table_that_had_it_first_whoever_makes_it_again() -> None:
    alice, bob, carol = apart(3)
    first = TableDefinition("t", (ID,), ("id",))
    define(alice, first)
    define(bob, TableDefinition("t", (ColumnDefinition("id", TEXT),), ("id",)))
    together(alice, bob)
    kept = table_of(alice, "t").id
    define(carol, first)  # the latest of the three
    together(alice, bob, carol)
    assert table_of(carol, "t").id == kept == table_of(alice, "t").id


def test_renames_to_one_name() -> None:
    alice, bob = apart()
    define(alice, TableDefinition("a", (ID,), ("id",)), TableDefinition("b", (ID,), ("id",)))
    together(alice, bob)
    a, b = table_of(alice, "a").id, table_of(alice, "b").id
    transact(alice, lambda tx: rename_table(tx, "a", "c"))
    later(bob)
    transact(bob, lambda tx: rename_table(tx, "b", "c"))
    together(alice, bob)
    assert table_of(bob, "c").id == a
    assert [table.id for table in catalog_of(bob).tables] == [a, b]
    assert {each.table for each in found_conflicts(bob)} == {catalog_of(bob).tables[1].name}


def test_a_rename_and_a_new_table_of_the_old_name() -> None:
    alice, bob = apart()
    define(alice, NOTE)
    together(alice, bob)
    old = table_of(alice, "note").id
    transact(alice, lambda tx: rename_table(tx, "note", "memo"))
    define(alice, NOTE)  # the next generation
    transact(bob, lambda tx: insert(tx, "note", id=1, body="to the old one"))
    together(alice, bob)
    assert table_of(bob, "memo").id == old
    assert seen(bob, "memo") == [(1, "to the old one", None, 0)]
    assert seen(bob, "note") == []
    assert table_of(bob, "note").generation == 2


def test_different_renames_of_one_table_the_later_stands() -> None:
    alice, bob = apart()
    define(alice, NOTE)
    together(alice, bob)
    transact(alice, lambda tx: rename_table(tx, "note", "a"))
    later(bob)
    transact(bob, lambda tx: rename_table(tx, "note", "b"))
    together(alice, bob)
    assert [table.name for table in catalog_of(alice).tables] == ["b"]


def test_a_primary_key_column_never_loses_its_name() -> None:
    alice, bob = apart()
    define(bob, NOTE)
    together(alice, bob)
    transact(alice, lambda tx: add_column(tx, "note", ColumnDefinition("key", TEXT)))
    later(bob)
    transact(bob, lambda tx: rename_column(tx, "note", "id", "key"))
    together(alice, bob)
    table = table_of(alice, "note")
    shown = table.column("key")
    assert shown is not None
    assert shown.id in table.primary_key


def test_columns_added_apart_stand_in_one_order() -> None:
    alice, bob = apart()
    define(alice, NOTE)
    together(alice, bob)
    transact(bob, lambda tx: add_column(tx, "note", ColumnDefinition("b", TEXT)))
    transact(alice, lambda tx: add_column(tx, "note", ColumnDefinition("a", TEXT)))
    transact(alice, lambda tx: add_column(tx, "note", ColumnDefinition("c", TEXT)))
    together(alice, bob)
    assert names(alice, "note") == ["id", "body", "stars", "likes", "a", "b", "c"]


def test_the_same_column_added_apart_is_one_and_a_different_default_is_listed() -> None:
    alice, bob = apart()
    define(alice, NOTE)
    together(alice, bob)
    for replica, number in ((alice, 1), (bob, 2)):
        default = Default("constant", number, str(number))
        column = ColumnDefinition("grade", INTEGER, default=default)
        transact(replica, lambda tx, column=column: add_column(tx, "note", column))
    together(alice, bob)
    column = table_of(alice, "note").column("grade")
    assert column is not None
    assert column.default == Default("constant", 2, "2")  # bob's, the later
    (conflict,) = found_conflicts(alice)
    assert (conflict.kind, conflict.table, conflict.key) == ("definition", "note", "column grade")
    assert "default's value = 2" in conflict.detail
    assert "lost: default's value = 1" in conflict.detail
    assert conflict.replica == alice.id


def test_a_drop_beats_a_concurrent_change_but_not_a_concurrent_create() -> None:
    alice, bob, carol = apart(3)
    define(alice, NOTE)
    together(alice, bob)
    define(carol, NOTE)
    transact(alice, lambda tx: drop_table(tx, "note"))
    transact(bob, lambda tx: rename_table(tx, "note", "memo"))
    together(alice, bob)
    assert catalog_of(alice).tables == ()
    together(alice, bob, carol)
    assert [table.name for table in catalog_of(alice).tables] == ["note"]
    transact(bob, lambda tx: drop_table(tx, "note"))
    together(alice, bob, carol)
    assert catalog_of(carol).tables == ()


def test_an_index_over_a_column_that_is_dropped_elsewhere_sleeps() -> None:
    alice, bob = apart()
    define(alice, NOTE)
    together(alice, bob)
    transact(alice, lambda tx: drop_column(tx, "note", "stars"))
    transact(bob, lambda tx: create_index(tx, "note", [("stars", False)]))
    transact(
        bob,
        lambda tx: add_check(tx, "note", CheckDefinition("stars > 0", ("stars",)), lambda _: True),
    )
    together(alice, bob)
    table = table_of(bob, "note")
    assert (table.indexes, table.checks) == ((), ())
    assert sorted(each.what for each in catalog_of(alice).disputes) == [
        "check note_stars_check",
        "index note_stars_idx",
    ]


def test_a_foreign_key_to_a_table_that_is_dropped_elsewhere_sleeps() -> None:
    alice, bob = apart()
    define(alice, NOTE)
    together(alice, bob)
    child = TableDefinition(
        "child", (ID,), ("id",), foreign_keys=(ForeignKeyDefinition(("id",), "note"),)
    )
    transact(alice, lambda tx: drop_table(tx, "note"))
    define(bob, child)
    together(alice, bob)
    assert table_of(alice, "child").foreign_keys == ()
    assert [each.detail for each in catalog_of(bob).disputes] == [
        "not in force: its parent table is not there"
    ]
    transact(alice, lambda tx: insert(tx, "child", id=7))  # nothing to lean on, nothing to break


def test_indexes_of_one_name_on_different_columns() -> None:
    alice, bob = apart()
    define(alice, NOTE)
    together(alice, bob)
    transact(alice, lambda tx: create_index(tx, "note", [("stars", False)], name="i"))
    transact(bob, lambda tx: create_index(tx, "note", [("body", False)], name="i"))
    together(alice, bob)
    transact(alice, lambda tx: insert(tx, "note", id=1, body="b", stars=1))
    transact(alice, lambda tx: insert(tx, "note", id=2, body="a", stars=2))
    first, second = table_of(alice, "note").indexes
    assert first.name == "i"
    assert second.name.startswith("i~")
    with alice.snapshot() as snapshot:
        assert [row[0] for row in by_index(snapshot, "i")] == [1, 2]
        assert [row[0] for row in by_index(snapshot, second.name)] == [2, 1]
    (conflict,) = found_conflicts(bob)
    assert (conflict.kind, conflict.table, conflict.key) == ("definition", "note", "index i")
    transact(bob, lambda tx: drop_index(tx, "i"))
    together(alice, bob)
    assert [index.name for index in table_of(alice, "note").indexes] == ["i"]


def test_names_are_settled_alike_in_every_order() -> None:
    replicas = apart(3)
    for replica, sql_type in zip(replicas, (INTEGER, TEXT, BIGINT), strict=True):
        key = ColumnDefinition("id", sql_type)
        define(replica, TableDefinition("t", (key, ColumnDefinition("v", sql_type)), ("id",)))
        define(replica, TableDefinition("u", (ID, ColumnDefinition("v", sql_type)), ("id",)))
    made = [records(replica, {}) for replica in replicas]
    results = set()
    for order in permutations(made):
        reader = open_replica(9)
        for each in order:
            reader.apply(each)
        catalog = catalog_of(reader)
        results.add((catalog.tables, catalog.disputes))
    assert len({repr(result) for result in results}) == 1
    ((tables, disputes),) = results
    assert [table.name for table in tables][::3] == ["t", "u"]
    assert len(disputes) == 4


def write_record(replica: Replica, key: bytes, fields: dict[int, Any]) -> None:
    with replica.begin() as tx:
        tx.insert(key, fields)


@pytest.mark.parametrize("fields", [{}, {1: 5}, {1: "x", 3: "NOTYPE", 4: True, 5: 0}, {1: b"x"}])
def test_a_definition_from_another_release_is_left_out_and_listed(fields: dict[int, Any]) -> None:
    replica = open_replica()
    define(replica, NOTE)
    table = table_of(replica, "note")
    write_record(replica, keyspace.item_key(table.id, keyspace.COLUMN, 77), fields)
    write_record(replica, keyspace.item_key(table.id, keyspace.INDEX, 78), fields)
    write_record(replica, keyspace.CATALOG + table.id.to_bytes(8) + b"\x09new", fields)
    assert table_of(replica, "note") == table
    assert len(catalog_of(replica).disputes) == 3
    assert "cannot be read by this release" in catalog_of(replica).disputes[0].detail
    transact(replica, lambda tx: insert(tx, "note", id=1, body="still works"))


def test_keys_of_types_that_have_no_order_are_not_in_force() -> None:
    """No statement makes them, but a peer may send them; applying them must not fail."""
    replica = open_replica()
    define(replica, NOTE)
    table = table_of(replica, "note")
    likes, number = (column.id.to_bytes(4) for column in (table.columns[3], table.columns[0]))
    index = {1: "i", 3: True, 4: False, 5: likes + b"\0"}
    index_id = keyspace.index_id(table.id, "i", [(table.columns[3].id, False)], unique=True)
    write_record(replica, keyspace.item_key(table.id, keyspace.INDEX, index_id), index)
    child = {1: "f", 3: likes, 4: table.id.to_bytes(8), 5: number, 6: "CASCADE"}
    ends = [table.columns[3].id], table.id, [table.columns[0].id]
    child_id = keyspace.foreign_key_id(table.id, *ends)
    write_record(replica, keyspace.item_key(table.id, keyspace.FOREIGN_KEY, child_id), child)
    other = keyspace.table_id("other", 1, [])
    column = {1: "j", 3: "JSON", 4: False, 5: 0}
    write_record(replica, keyspace.item_key(other, keyspace.COLUMN, 3), column)
    head = {1: "other", 3: 1, 4: (3).to_bytes(4), 5: "other_pkey"}
    write_record(replica, keyspace.table_key(other), head)
    assert catalog_of(replica).tables == (table,)
    assert [dispute.what for dispute in catalog_of(replica).disputes] == [
        "foreign key f",
        "index i",
        "table other",
    ]
    transact(replica, lambda tx: insert(tx, "note", id=1, body="still works", likes=1))


def test_a_table_without_its_key_column_is_not_shown() -> None:
    replica = open_replica()
    with replica.begin() as tx:
        create_table(tx, NOTE)
        table = table_of(tx, "note")
        tx.remove(keyspace.item_key(table.id, keyspace.COLUMN, table.primary_key[0]))
    assert catalog_of(replica).tables == ()
    assert [each.detail for each in catalog_of(replica).disputes] == [
        "not in force: its primary key is missing"
    ]


def test_unknown_fields_of_a_row_survive_edits_and_new_keys() -> None:
    """Bob knows a column that alice has not heard of; what alice does to the row keeps it."""
    alice, bob = apart()
    define(alice, NOTE)
    transact(alice, lambda tx: insert(tx, "note", id=1, body="one"))
    together(alice, bob)
    transact(bob, lambda tx: add_column(tx, "note", ColumnDefinition("author", TEXT)))
    transact(bob, lambda tx: update(tx, "note", 1, author="bob"))
    transact(alice, lambda tx: update(tx, "note", 1, body="two"))
    together(alice, bob)
    assert seen(alice, "note") == [(1, "two", None, 0, "bob")]
    with alice.begin() as tx:
        drop_column(tx, "note", "author")
        update(tx, "note", 1, id=2)
        known = dict(catalog_of(tx).records[table_of(tx, "note").id].dropped_columns)
        (author,) = known
        cell = tx.get(update(tx, "note", 2, body="three") or b"")
        assert cell is not None
        assert visible_fields(cell)[author.id] == "bob"
