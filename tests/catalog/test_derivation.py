"""Derived entries by example: who has them, when they come and go, and what they name."""

from __future__ import annotations

from typing import Any

import pytest

from murmur.catalog import (
    CatalogDerivation,
    ColumnDefinition,
    Default,
    ForeignKeyDefinition,
    Index,
    TableDefinition,
    UniqueDefinition,
    add_column,
    create_index,
    drop_index,
    drop_table,
    keyspace,
    rename_column,
    rename_table,
    scan_index,
)
from murmur.catalog.catalog import Catalog
from murmur.catalog.types import INTEGER, TEXT
from murmur.kvcore import CellChange, Replica
from murmur.sql.row_expressions import compile_row_expression
from tests.catalog.harness import (
    apart,
    catalog_of,
    define,
    delete,
    derived,
    exchange,
    insert,
    open_replica,
    row,
    seen,
    table_of,
    transact,
    update,
)

ID = ColumnDefinition("id", INTEGER)
WORD = TableDefinition(
    "word", (ID, ColumnDefinition("w", TEXT)), ("id",), uniques=(UniqueDefinition(("w",)),)
)


def entries(replica: Replica, kind: bytes) -> list[bytes]:
    with replica.snapshot() as snapshot:
        return [key for key in derived(snapshot) if key.startswith(kind)]


def check(replica: Replica) -> None:
    with replica.snapshot() as snapshot:
        assert derived(snapshot) == dict(
            CatalogDerivation(compile_row_expression).rebuild(snapshot)
        )


def found(replica: Replica, index: Index) -> list[Any]:
    with replica.snapshot() as snapshot:
        table = catalog_of(snapshot).table_by_id(index.table_id)
        assert table is not None
        return [row(snapshot, table.name, key) for key in scan_index(snapshot, table, index)]


def test_an_entry_is_prefix_columns_and_primary_key() -> None:
    replica = open_replica()
    define(replica, WORD)
    transact(replica, lambda tx: insert(tx, "word", id=1, w="a"))
    (index,) = table_of(replica, "word").indexes
    expected = keyspace.entry_prefix(index.id, unique=True) + b"\x02a\0\1" + b"\x02\x80\0\0\1"
    with replica.snapshot() as snapshot:
        assert derived(snapshot)[expected] == b"\0\5"


def test_two_claims_of_one_value_are_two_entries() -> None:
    alice, bob = apart()
    define(alice, WORD)
    exchange(alice, bob)
    transact(alice, lambda tx: insert(tx, "word", id=1, w="same"))
    transact(bob, lambda tx: insert(tx, "word", id=2, w="same"))
    exchange(alice, bob)
    (index,) = table_of(alice, "word").indexes
    assert found(alice, index) == found(bob, index) == [(1, "same"), (2, "same")]


def test_only_the_winning_life_of_a_row_claims() -> None:
    alice, bob = apart()
    define(alice, WORD)
    exchange(alice, bob)
    transact(alice, lambda tx: insert(tx, "word", id=1, w="alice's"))
    transact(bob, lambda tx: insert(tx, "word", id=1, w="bob's"))
    exchange(alice, bob)
    (index,) = table_of(alice, "word").indexes
    assert found(alice, index) == found(bob, index) == [(1, "bob's")]
    transact(alice, lambda tx: insert(tx, "word", id=2, w="alice's"))  # it is free
    check(alice)


def test_an_index_made_elsewhere_is_filled_from_the_rows_here() -> None:
    alice, bob = apart()
    define(alice, WORD)
    exchange(alice, bob)
    transact(alice, lambda tx: create_index(tx, "word", [("w", True)], name="down"))
    with bob.begin() as tx:
        insert(tx, "word", id=1, w="a")
        insert(tx, "word", id=2, w="b")
    exchange(alice, bob)
    for replica in (alice, bob):
        index = catalog_of(replica).index("down")
        assert index is not None
        assert found(replica, index) == [(2, "b"), (1, "a")]
        check(replica)


def test_a_dropped_table_has_no_entries_and_a_revived_one_has_them_again() -> None:
    alice, bob = apart()
    define(alice, WORD)
    transact(alice, lambda tx: insert(tx, "word", id=1, w="a"))
    define(bob, WORD)
    transact(bob, lambda tx: insert(tx, "word", id=2, w="b"))
    transact(alice, lambda tx: drop_table(tx, "word"))
    assert entries(alice, keyspace.CLAIMS) == []
    exchange(alice, bob)  # alice's drop had not seen bob's table
    assert len(entries(alice, keyspace.CLAIMS)) == len(entries(bob, keyspace.CLAIMS)) == 2
    check(alice)


def test_renaming_touches_no_entry() -> None:
    replica = open_replica()
    define(replica, WORD)
    transact(replica, lambda tx: insert(tx, "word", id=1, w="a"))
    before = entries(replica, keyspace.CLAIMS)
    transact(replica, lambda tx: rename_table(tx, "word", "term"))
    transact(replica, lambda tx: rename_column(tx, "term", "w", "v"))
    assert entries(replica, keyspace.CLAIMS) == before
    check(replica)


def test_a_default_that_wins_later_changes_the_entries_of_old_rows() -> None:
    alice, bob = apart()
    define(alice, WORD)
    transact(alice, lambda tx: insert(tx, "word", id=1, w="a"))
    exchange(alice, bob)
    for replica, number in ((alice, 1), (bob, 2)):
        default = Default("constant", number, str(number))
        column = ColumnDefinition("grade", INTEGER, default=default)
        transact(replica, lambda tx, column=column: add_column(tx, "word", column))
        transact(replica, lambda tx: create_index(tx, "word", [("grade", False)], name="g"))
    index = catalog_of(alice).index("g")
    assert index is not None
    assert found(alice, index) == [(1, "a", 1)]
    exchange(alice, bob)
    assert found(alice, index) == found(bob, index) == [(1, "a", 2)]
    check(alice)
    check(bob)


def test_children_are_entries_of_those_that_reference_somebody() -> None:
    replica = open_replica()
    reference = ForeignKeyDefinition(("parent",), "node")
    columns = (ID, ColumnDefinition("parent", INTEGER))
    define(replica, TableDefinition("node", columns, ("id",), foreign_keys=(reference,)))
    with replica.begin() as tx:
        insert(tx, "node", id=1)
        insert(tx, "node", id=2, parent=1)
        insert(tx, "node", id=3, parent=1)
    assert len(entries(replica, keyspace.CHILDREN)) == 2
    transact(replica, lambda tx: update(tx, "node", 3, parent=None))
    transact(replica, lambda tx: delete(tx, "node", 2))
    assert entries(replica, keyspace.CHILDREN) == []


def test_a_value_that_cannot_be_encoded_is_entered_as_null_and_stops_nobody() -> None:
    replica = open_replica()
    define(replica, WORD)
    w = table_of(replica, "word").columns[1].id
    with replica.begin() as tx:
        tx.edit(insert(tx, "word", id=1, w="a"), {w: 5})
        insert(tx, "word", id=2, w="b")
    (index,) = table_of(replica, "word").indexes
    assert found(replica, index) == [(2, "b"), (1, None)]
    transact(replica, lambda tx: update(tx, "word", 1, w="mended"))
    assert found(replica, index) == [(2, "b"), (1, "mended")]


def test_the_digest_changes_with_the_definition_and_not_with_rows() -> None:
    replica = open_replica()
    define(replica, WORD)
    key = keyspace.digest_key(table_of(replica, "word").id)
    first = replica.get(key)
    assert first is not None
    transact(replica, lambda tx: insert(tx, "word", id=1, w="a"))
    define(replica, TableDefinition("other", (ID,)))
    assert replica.get(key) == first
    transact(replica, lambda tx: add_column(tx, "word", ColumnDefinition("x", TEXT)))
    assert replica.get(key) != first


def test_a_transaction_sees_its_own_entries_and_takes_them_back() -> None:
    replica = open_replica()
    define(replica, WORD)
    (index,) = table_of(replica, "word").indexes
    with replica.begin() as tx:
        insert(tx, "word", id=1, w="a")
        savepoint = tx.savepoint()
        insert(tx, "word", id=2, w="b")
        create_index(tx, "word", [("id", True)], name="down")
        delete(tx, "word", 1)
        table = table_of(tx, "word")
        assert len(list(scan_index(tx, table, index))) == 1
        tx.rollback_to(savepoint)
        assert catalog_of(tx).index("down") is None
        assert len(list(scan_index(tx, table, index))) == 1
        assert derived(tx) == dict(CatalogDerivation(compile_row_expression).rebuild(tx))
    assert found(replica, index) == [(1, "a")]


def test_nothing_to_derive_leaves_the_catalog_as_it_is() -> None:
    replica = open_replica()
    define(replica, WORD)
    derivation = CatalogDerivation(compile_row_expression)
    catalog = catalog_of(replica)
    with replica.snapshot() as view:
        changes = [CellChange(b"\x01\x01k", None, b"cell"), CellChange(b"\x02\x09k", None, b"c")]
        assert derivation.derive(catalog, changes, view) == ([], catalog)
        assert derivation.derive(catalog, [], view) == ([], catalog)


def test_rows_of_an_unknown_table_wait_for_it() -> None:
    """Rows can only come before their table where its definition is of another release."""
    alice, bob = apart()
    define(alice, WORD)
    table = table_of(alice, "word")
    with bob.begin() as tx:
        fields = {table.columns[0].id: 7, table.columns[1].id: "early"}
        tx.insert(keyspace.row_prefix(table.id) + b"\x02\x80\0\0\7", fields)
    exchange(alice, bob)
    (index,) = table.indexes
    assert seen(bob, "word") == found(bob, index) == [(7, "early")]
    assert isinstance(bob.state, Catalog)
    check(bob)


@pytest.mark.parametrize("name", ["word_w_key", "down"])
def test_dropping_and_making_an_index_again_elsewhere_at_once(name: str) -> None:
    """An index that was made anew lives, with all entries, though it was dropped elsewhere."""
    alice, bob = apart()
    define(alice, TableDefinition("word", WORD.columns, ("id",)))
    transact(alice, lambda tx: create_index(tx, "word", [("w", False)], name=name))
    transact(alice, lambda tx: insert(tx, "word", id=1, w="a"))
    exchange(alice, bob)
    transact(alice, lambda tx: drop_index(tx, name))
    with bob.begin() as tx:
        drop_index(tx, name)
        create_index(tx, "word", [("w", False)], name=name)
    exchange(alice, bob)
    index = catalog_of(alice).index(name)
    assert index is not None
    assert found(alice, index) == found(bob, index) == [(1, "a")]
