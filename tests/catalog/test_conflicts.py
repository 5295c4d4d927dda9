"""Conflicts: each kind by example, the same on every replica, and gone once resolved."""

from __future__ import annotations

from typing import Any

from murmur.catalog import (
    ColumnDefinition,
    ForeignKeyDefinition,
    Increment,
    TableDefinition,
    UniqueDefinition,
    drop_column,
    drop_table,
)
from murmur.catalog.types import INTEGER, TEXT
from murmur.kvcore import PUT, Operation, Replica
from tests.catalog.harness import (
    NOTE,
    apart,
    define,
    delete,
    exchange,
    found_conflicts,
    insert,
    open_replica,
    seen,
    transact,
    update,
)

ID = ColumnDefinition("id", INTEGER)
USER = TableDefinition(
    "user",
    (ID, ColumnDefinition("email", TEXT), ColumnDefinition("nick", TEXT)),
    ("id",),
    uniques=(UniqueDefinition(("email",)), UniqueDefinition(("nick",))),
)
NODE = TableDefinition(
    "node",
    (ID, ColumnDefinition("parent", INTEGER)),
    ("id",),
    foreign_keys=(ForeignKeyDefinition(("parent",), "node"),),
)


def meet(*replicas: Replica) -> list[Any]:
    """What is in conflict after everybody has met, the same for all."""
    exchange(*replicas)
    first, *others = [found_conflicts(replica) for replica in replicas]
    assert all(other == first for other in others)
    return first


def put(replica: Replica, key: bytes, value: bytes) -> None:
    replica.write([Operation(PUT, key, value)])


def two_with(definition: TableDefinition) -> tuple[Replica, Replica]:
    alice, bob = apart()
    define(alice, definition)
    assert meet(alice, bob) == []
    return alice, bob


def test_nothing_is_in_conflict_on_one_replica() -> None:
    replica = open_replica()
    define(replica, USER, NODE)
    with replica.begin() as tx:
        for number in range(5):
            insert(tx, "user", id=number, email=None, nick=str(number))  # NULLs are distinct
            insert(tx, "node", id=number, parent=number)
        update(tx, "user", 1, nick="x")
        delete(tx, "user", 2)
    put(replica, b"\x01\x01k", b"v")
    assert found_conflicts(replica) == []


def test_siblings_of_a_key() -> None:
    alice, bob, carol = apart(3)
    for replica, value in ((alice, b"one"), (bob, b"one"), (carol, b"two\x00")):
        put(replica, b"\x01\x01name", value)
        put(replica, b"\x01\x02\xff\x00", b"same")
    first, second = meet(alice, bob, carol)
    assert first[:7] == (
        "sibling",
        None,
        "name",
        None,
        "put at the same time as the value that is read",
        "\\x74776f00",
        "one",
    )
    assert (first.replica, second.replica) == (bob.id, alice.id)
    put(alice, b"\x01\x01name", b"both")
    assert meet(alice, bob, carol) == []


def test_keys_of_bytes_are_shown_as_bytes() -> None:
    alice, bob = apart()
    put(alice, b"\x01\x02\xff\x00", b"a")
    put(bob, b"\x01\x02\xff\x00", b"b")
    (conflict,) = meet(alice, bob)
    assert conflict.key == "\\xff00"


def test_one_row_inserted_twice() -> None:
    alice, bob = two_with(NOTE)
    for replica, body in ((alice, "alice's"), (bob, "bob's")):
        transact(replica, lambda tx, body=body: insert(tx, "note", id=1, body=body, likes=2))
        transact(replica, lambda tx: insert(tx, "note", id=2, body="the same"))
    (conflict,) = meet(alice, bob)
    assert conflict[:7] == (
        "row",
        "note",
        "(id)=(1)",
        None,
        "inserted at the same time as the row that is read",
        "body=bob's",
        "body=alice's",
    )
    assert conflict.replica == alice.id
    assert seen(alice, "note") == [(1, "bob's", None, 4), (2, "the same", None, 0)]
    transact(alice, lambda tx: update(tx, "note", 1, body="ours"))
    assert meet(alice, bob) == []


def test_counters_of_lives_that_lost_are_not_lost() -> None:
    alice, bob = two_with(NOTE)
    for replica, likes in ((alice, 2), (bob, 3)):
        transact(replica, lambda tx, n=likes: insert(tx, "note", id=1, body="x", likes=n))
    assert meet(alice, bob) == []
    transact(alice, lambda tx: update(tx, "note", 1, likes=Increment(1)))
    assert meet(alice, bob) == []
    assert seen(bob, "note") == [(1, "x", None, 6)]


def test_a_unique_value_held_twice() -> None:
    alice, bob = two_with(USER)
    transact(alice, lambda tx: insert(tx, "user", id=5, email="x", nick="a"))
    transact(bob, lambda tx: insert(tx, "user", id=4, email="x", nick="b"))
    (conflict,) = meet(alice, bob)
    assert conflict[:7] == (
        "unique",
        "user",
        "(id)=(4)",
        "user_email_key",
        "Key (email)=(x) is held by row (id)=(5)",
        "id=5, email=x, nick=a",
        "id=4, email=x, nick=b",
    )
    assert conflict.replica == bob.id
    transact(bob, lambda tx: update(tx, "user", 5, email="y"))
    assert meet(alice, bob) == []


def test_a_row_ranks_by_its_latest_claim_not_by_its_age() -> None:
    alice, bob = two_with(USER)
    transact(alice, lambda tx: insert(tx, "user", id=1, email="x"))
    transact(bob, lambda tx: insert(tx, "user", id=2, email="y"))
    exchange(alice, bob)
    transact(bob, lambda tx: update(tx, "user", 2, email="z"))
    alice.clock.advance(10_000)  # type: ignore[attr-defined]
    transact(alice, lambda tx: update(tx, "user", 1, email="z"))
    (conflict,) = meet(alice, bob)
    assert conflict.key == "(id)=(1)"
    assert conflict.replica == alice.id


def test_three_rows_with_one_value() -> None:
    replicas = apart(3)
    define(replicas[0], USER)
    exchange(*replicas)
    for number, replica in enumerate(replicas):
        transact(replica, lambda tx, n=number: insert(tx, "user", id=n, email="x", nick=str(n)))
    found = meet(*replicas)
    assert [(each.key, each.winner) for each in found] == [
        ("(id)=(1)", "id=0, email=x, nick=0"),
        ("(id)=(2)", "id=0, email=x, nick=0"),
    ]


def test_a_child_whose_parent_went_elsewhere() -> None:
    alice, bob = two_with(NODE)
    with alice.begin() as tx:
        for number in (1, 2, 3):
            insert(tx, "node", id=number)
    exchange(alice, bob)
    transact(alice, lambda tx: delete(tx, "node", 1))
    with bob.begin() as tx:
        insert(tx, "node", id=7, parent=1)
        insert(tx, "node", id=8, parent=1)
        insert(tx, "node", id=9, parent=2)
    found = meet(alice, bob)
    assert [each[:5] for each in found] == [
        (
            "foreign key",
            "node",
            f"(id)=({number})",
            "node_parent_fkey",
            'Key (parent)=(1) is not present in table "node"',
        )
        for number in (7, 8)
    ]
    assert found[0].loser == "id=7, parent=1"
    transact(bob, lambda tx: insert(tx, "node", id=1))
    assert meet(alice, bob) == []


def test_what_the_definitions_say_twice() -> None:
    alice, bob = apart()
    define(alice, TableDefinition("t", (ID, ColumnDefinition("v", INTEGER)), ("id",)))
    define(bob, TableDefinition("t", (ID, ColumnDefinition("v", TEXT)), ("id",)))
    (conflict,) = meet(alice, bob)
    assert (conflict.kind, conflict.table, conflict.key) == ("definition", "t", "column v")
    assert conflict.winner is not None
    assert conflict.winner.startswith(alice.id.hex())
    assert conflict.replica == bob.id


def test_writes_to_a_table_that_was_dropped_elsewhere() -> None:
    alice, bob = two_with(NOTE)
    for number in (1, 2):
        transact(alice, lambda tx, n=number: insert(tx, "note", id=n, body="known"))
    transact(alice, lambda tx: update(tx, "note", 2, body="edited before"))
    exchange(alice, bob)
    with alice.begin() as tx:
        insert(tx, "note", id=3, body="by the same transaction")
        drop_table(tx, "note")
    transact(bob, lambda tx: update(tx, "note", 1, body="edited"))
    transact(bob, lambda tx: insert(tx, "note", id=9, body="new"))
    found = meet(alice, bob)
    assert [(each.kind, each.table, each.key) for each in found] == [
        ("dropped table", "note", "(id)=(1)"),
        ("dropped table", "note", "(id)=(9)"),
    ]
    assert found[0].detail.startswith("edited by a replica that did not know")
    assert found[1].detail.startswith("inserted by a replica that did not know")
    assert found[1].loser == "id=9, body=new, stars=null"
    assert found[1].replica == bob.id
    define(alice, NOTE)  # the next generation has nothing to do with it
    assert meet(alice, bob) == found


def test_values_of_a_column_that_was_dropped_elsewhere() -> None:
    alice, bob = two_with(NOTE)
    for number in (1, 2):
        transact(alice, lambda tx, n=number: insert(tx, "note", id=n, body="known", stars=n))
    exchange(alice, bob)
    transact(alice, lambda tx: drop_column(tx, "note", "stars"))
    transact(bob, lambda tx: update(tx, "note", 1, stars=5))
    transact(bob, lambda tx: insert(tx, "note", id=8, body="new"))  # NULL is no loss
    transact(bob, lambda tx: insert(tx, "note", id=9, body="new", stars=9))
    found = meet(alice, bob)
    assert [(each.kind, each.key, each.constraint, each.loser) for each in found] == [
        ("dropped column", "(id)=(1)", "stars", "stars=5"),
        ("dropped column", "(id)=(9)", "stars", "stars=9"),
    ]


def test_long_values_are_cut() -> None:
    alice, bob = apart()
    put(alice, b"\x01\x01k", b"a" * 1000)
    put(bob, b"\x01\x01k", b"b" * 1000)
    (conflict,) = meet(alice, bob)
    assert conflict.loser == "a" * 59 + "…"


def test_rows_without_a_key_are_named_by_their_id() -> None:
    alice, bob = two_with(
        TableDefinition("t", (ColumnDefinition("v", TEXT),), uniques=(UniqueDefinition(("v",)),))
    )
    transact(alice, lambda tx: insert(tx, "t", row_id=b"a" * 16, v="x"))
    transact(bob, lambda tx: insert(tx, "t", row_id=b"b" * 16, v="x"))
    (conflict,) = meet(alice, bob)
    assert conflict.key == (b"b" * 16).hex()
