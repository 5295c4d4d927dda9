"""Rows on one replica: what is written is read, by key, in order, by index, by column."""

from __future__ import annotations

import uuid
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from murmur.catalog import (
    CheckDefinition,
    ColumnDefinition,
    Default,
    Increment,
    Reset,
    TableDefinition,
    UniqueDefinition,
    conflicting_row,
    create_index,
    key_of,
    keyspace,
    scan_rows,
)
from murmur.catalog.types import (
    DATE,
    DOUBLE,
    INTEGER,
    TEXT,
    UUID,
    parse_type,
)
from murmur.errors import Conflict, ConstraintViolation, DataError, TypeMismatch
from murmur.kvcore import Replica, visible_fields
from murmur.kvcore.record import decode
from tests.catalog.harness import (
    NOTE,
    apart,
    by_id,
    by_index,
    define,
    delete,
    exchange,
    found_conflicts,
    insert,
    open_replica,
    records,
    row,
    rows,
    seen,
    table_of,
    transact,
    update,
)

ID = ColumnDefinition("id", INTEGER)


@pytest.fixture
def replica() -> Replica:
    replica = open_replica()
    define(replica, NOTE)
    return replica


def operations(replica: Replica) -> list[tuple[int, object]]:
    """Kind and body of what the newest record says."""
    return [(kind, body) for kind, _, body in decode(records(replica, {})[-1]).operations]


def test_a_row_is_read_as_it_was_written(replica: Replica) -> None:
    with replica.begin() as tx:
        key = insert(tx, "note", id=1, body="one", stars=5, likes=3)
        assert row(tx, "note", key) == (1, "one", 5, 3)
    with replica.snapshot() as snapshot:
        assert row(snapshot, "note", 1) == (1, "one", 5, 3)
        assert row(snapshot, "note", 2) is None


EVERY_TYPE: list[tuple[str, Any]] = [
    ("BOOLEAN", True),
    ("SMALLINT", -5),
    ("BIGINT", 1 << 60),
    ("REAL", 0.5),
    ("DOUBLE", 0.1),
    ("DECIMAL(10,2)", Decimal("12.50")),
    ("TEXT", "ä\U0001f600"),
    ("VARCHAR(5)", "abcde"),
    ("BLOB", b"\x00\xff"),
    ("DATE", date(2024, 2, 29)),
    ("UUID", uuid.UUID(int=7)),
    ("JSON", '{"a": 1}'),
]


@pytest.mark.parametrize(("type_name", "value"), EVERY_TYPE)
def test_every_type_comes_back_itself(type_name: str, value: Any) -> None:
    replica = open_replica()
    columns = (ID, ColumnDefinition("v", parse_type(type_name)))
    define(replica, TableDefinition("t", columns, ("id",)))
    with replica.begin() as tx:
        insert(tx, "t", id=1, v=value)
        insert(tx, "t", id=2)
        assert rows(tx, "t") == [(1, value), (2, None)]
        assert type(rows(tx, "t")[0][1]) is type(value)
        update(tx, "t", 1, v=None)
        update(tx, "t", 2, v=value)
    assert seen(replica, "t") == [(1, None), (2, value)]


def test_rows_come_in_key_order_and_in_reverse(replica: Replica) -> None:
    columns = (ID, ColumnDefinition("name", TEXT), ColumnDefinition("v", INTEGER))
    define(replica, TableDefinition("t", columns, ("name", "id")))
    with replica.begin() as tx:
        for number, name in ((2, "b"), (-1, "b"), (5, "a"), (0, "")):
            insert(tx, "t", id=number, name=name)
        assert [each[:2] for each in rows(tx, "t")] == [(0, ""), (5, "a"), (-1, "b"), (2, "b")]
        table = table_of(tx, "t")
        down = [found for _, found in scan_rows(tx, table, reverse=True)]
        assert down == rows(tx, "t")[::-1]
        ids = [table.columns[2].id, table.columns[1].id]
        assert [found for _, found in scan_rows(tx, table, columns=ids)] == [
            (None, ""),
            (None, "a"),
            (None, "b"),
            (None, "b"),
        ]
        assert key_of(table, ["a", 5]) == [key for key, _ in scan_rows(tx, table)][1]


def test_a_table_without_a_key_has_rows_in_the_order_of_their_ids() -> None:
    replica = open_replica()
    define(replica, TableDefinition("t", (ColumnDefinition("v", TEXT),)))
    with replica.begin() as tx:
        second = insert(tx, "t", row_id=b"2" + bytes(15), v="same")
        insert(tx, "t", row_id=b"1" * 16, v="same")
        insert(tx, "t", row_id=b"\xff" * 16, v="last")
        update(tx, "t", second, v="other")
        assert rows(tx, "t") == [("same",), ("other",), ("last",)]
        assert key_of(table_of(tx, "t"), [b"2" + bytes(15)]) == second
        assert delete(tx, "t", second)
        assert rows(tx, "t") == [("same",), ("last",)]


def test_updates_write_only_what_differs(replica: Replica) -> None:
    transact(replica, lambda tx: insert(tx, "note", id=1, body="one", stars=5))
    stars = table_of(replica, "note").columns[2].id
    transact(replica, lambda tx: update(tx, "note", 1, body="one", stars=6))
    assert operations(replica) == [(5, {stars: 6})]
    before = replica.vector
    transact(
        replica, lambda tx: update(tx, "note", 1, id=1, body="one", stars=6, likes=Increment(0))
    )
    assert replica.vector == before  # nothing to write


def test_zero_and_minus_zero_differ_when_written() -> None:
    replica = open_replica()
    define(replica, TableDefinition("t", (ID, ColumnDefinition("v", DOUBLE)), ("id",)))
    with replica.begin() as tx:
        insert(tx, "t", id=1, v=0.0)
        update(tx, "t", 1, v=-0.0)
    assert str(seen(replica, "t")[0][1]) == "-0.0"


def test_concurrent_updates_of_different_columns_both_stand() -> None:
    alice, bob = apart()
    define(alice, NOTE)
    transact(alice, lambda tx: insert(tx, "note", id=1, body="one"))
    exchange(alice, bob)
    transact(alice, lambda tx: update(tx, "note", 1, body="two"))
    transact(bob, lambda tx: update(tx, "note", 1, stars=5, likes=Increment(2)))
    transact(alice, lambda tx: update(tx, "note", 1, likes=Increment(3)))
    exchange(alice, bob)
    assert seen(alice, "note") == seen(bob, "note") == [(1, "two", 5, 5)]


def test_counters(replica: Replica) -> None:
    with replica.begin() as tx:
        insert(tx, "note", id=1, body="one", likes=10)
        update(tx, "note", 1, likes=Increment(-3))
        assert row(tx, "note", 1) == (1, "one", None, 7)
        update(tx, "note", 1, likes=Reset(2))
        update(tx, "note", 1, likes=Increment(5), body="two")
        assert row(tx, "note", 1) == (1, "two", None, 7)
        update(tx, "note", 1, likes=4)  # a plain number sets it
        assert row(tx, "note", 1) == (1, "two", None, 4)
        update(tx, "note", 1, likes=None)
        assert row(tx, "note", 1) == (1, "two", None, 0)
    transact(replica, lambda tx: update(tx, "note", 1, likes=Increment((1 << 63) - 1)))
    with replica.begin() as tx:
        with pytest.raises(DataError, match=r"note\.likes: 9223372036854775807 \+ 1 is outside"):
            update(tx, "note", 1, likes=Increment(1))
        with pytest.raises(TypeMismatch, match=r"note\.likes"):
            update(tx, "note", 1, likes=Increment(0.5))  # type: ignore[arg-type]
        with pytest.raises(TypeMismatch, match=r"note\.likes"):
            insert(tx, "note", id=2, body="x", likes="many")


def test_increments_do_not_conflict(replica: Replica) -> None:
    transact(replica, lambda tx: insert(tx, "note", id=1, body="one"))
    with replica.begin() as later:
        update(later, "note", 1, likes=Increment(1))
        transact(replica, lambda tx: update(tx, "note", 1, likes=Increment(1)))
    assert seen(replica, "note") == [(1, "one", None, 2)]
    later = replica.begin()
    update(later, "note", 1, body="two")
    transact(replica, lambda tx: update(tx, "note", 1, likes=Increment(1)))
    with pytest.raises(Conflict):
        later.commit()


def test_a_new_primary_key_moves_the_row_with_all_it_holds(replica: Replica) -> None:
    transact(replica, lambda tx: insert(tx, "note", id=1, body="one", stars=2, likes=3))
    with replica.begin() as tx:
        key = update(tx, "note", 1, id=5, body="five", likes=Increment(4))
        assert key == key_of(table_of(tx, "note"), [5])
        assert rows(tx, "note") == [(5, "five", 2, 7)]
        insert(tx, "note", id=1, body="again")
        with pytest.raises(ConstraintViolation, match=r'"note_pkey".*Key \(id\)=\(1\) already'):
            update(tx, "note", 5, id=1)
    assert seen(replica, "note") == [(1, "again", None, 0), (5, "five", 2, 7)]


def test_a_key_that_is_equal_but_not_the_same_is_edited_in_place() -> None:
    replica = open_replica()
    define(replica, TableDefinition("t", (ColumnDefinition("d", DOUBLE),), ("d",)))
    with replica.begin() as tx:
        key = insert(tx, "t", d=0.0)
        assert update(tx, "t", key, d=-0.0) == key
    assert str(seen(replica, "t")) == "[(-0.0,)]"


def test_deleting(replica: Replica) -> None:
    transact(replica, lambda tx: insert(tx, "note", id=1, body="one"))
    with replica.begin() as tx:
        assert delete(tx, "note", 1)
        assert not delete(tx, "note", 1)
        assert update(tx, "note", 1, body="x") is None
        assert rows(tx, "note") == []
        insert(tx, "note", id=1, body="again")
    assert seen(replica, "note") == [(1, "again", None, 0)]
    (cell,) = [cell for _, cell in replica.snapshot().scan(*note_rows(replica))]
    assert visible_fields(cell)[table_of(replica, "note").columns[1].id] == "again"


def note_rows(replica: Replica) -> tuple[bytes, bytes]:
    return keyspace.prefix_range(keyspace.row_prefix(table_of(replica, "note").id))


def test_a_deleted_row_is_replaced_on_every_replica() -> None:
    """A deletion and an insertion in one transaction leave one life, not two that merge."""
    alice, bob = apart()
    define(alice, NOTE)
    transact(alice, lambda tx: insert(tx, "note", id=1, body="one", likes=5))
    exchange(alice, bob)
    with alice.begin() as tx:
        delete(tx, "note", 1)
        insert(tx, "note", id=1, body="again")
    exchange(alice, bob)
    assert seen(bob, "note") == [(1, "again", None, 0)]


@pytest.mark.parametrize(
    ("values", "error", "reason"),
    [
        ({"id": "1", "body": "x"}, TypeMismatch, "column note.id: '1' is not INTEGER"),
        ({"id": 1 << 31, "body": "x"}, DataError, "column note.id: 2147483648 is not INTEGER"),
        ({"id": 1, "body": 5}, TypeMismatch, "column note.body: 5 is not TEXT"),
        ({"id": 1}, ConstraintViolation, 'null value in column "body" of table "note"'),
        ({"body": "x"}, ConstraintViolation, 'null value in column "id" of table "note"'),
        ({"id": 1, "body": None}, ConstraintViolation, 'null value in column "body"'),
    ],
)
def test_values_that_do_not_fit_are_refused(
    replica: Replica, values: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with replica.begin() as tx:
        with pytest.raises(error) as raised:
            insert(tx, "note", **values)
        assert reason in str(raised.value)
        assert not tx.changed
        insert(tx, "note", id=9, body="fine")
        with pytest.raises(error):
            update(tx, "note", 9, **{"id": None, "body": None, **values})


def test_nan_is_no_key() -> None:
    replica = open_replica()
    define(replica, TableDefinition("t", (ColumnDefinition("d", DOUBLE),), ("d",)))
    with replica.begin() as tx, pytest.raises(DataError, match="NaN cannot be in a key"):
        insert(tx, "t", d=float("nan"))


def test_a_default_that_is_a_function_is_the_callers(replica: Replica) -> None:
    column = ColumnDefinition("u", UUID, default=Default("function", None, "uuid7()"))
    define(replica, TableDefinition("t", (ID, column), ("id",)))
    with replica.begin() as tx:
        with pytest.raises(AssertionError, match="the default of u is a function"):
            insert(tx, "t", id=1)
        insert(tx, "t", id=1, u=None)
        assert rows(tx, "t") == [(1, None)]


def test_the_row_that_on_conflict_meets(replica: Replica) -> None:
    columns = (ID, ColumnDefinition("email", TEXT), ColumnDefinition("v", INTEGER))
    uniques = (UniqueDefinition(("email",)),)
    define(replica, TableDefinition("t", columns, ("id",), uniques=uniques))
    with replica.begin() as tx:
        table = table_of(tx, "t")
        (index,) = table.indexes
        one = insert(tx, "t", id=1, email="a")
        two = insert(tx, "t", id=2, email="b")

        def meets(targets: list[Any], **values: Any) -> bytes | None:
            return conflicting_row(tx, table, by_id(table, values), targets)

        assert meets([None], id=1, email="b") == one
        assert meets([index], id=1, email="b") == two
        assert meets([None, index], id=3, email="b") == two
        assert meets([None, index], id=3, email=None) is None
        assert meets([None], id=3, email="b") is None


def test_an_index_follows_updates_and_deletes(replica: Replica) -> None:
    with replica.begin() as tx:
        create_index(tx, "note", [("stars", False), ("body", True)], name="i")
        for number in range(6):
            insert(tx, "note", id=number, body="ab"[number % 2], stars=number // 2)
    with replica.begin() as tx:
        update(tx, "note", 0, stars=9)
        update(tx, "note", 1, likes=Increment(1))
        delete(tx, "note", 2)
        update(tx, "note", 5, id=7)
        expected = [(0, "b", 1), (1, "b", 3), (2, "b", 7), (2, "a", 4), (9, "a", 0)]
        assert [(each[2], each[1], each[0]) for each in by_index(tx, "i")] == expected
    with replica.snapshot() as snapshot:
        assert [(each[2], each[1], each[0]) for each in by_index(snapshot, "i")] == expected


def test_a_stored_value_of_another_type_reads_null_and_is_listed(replica: Replica) -> None:
    define(replica, TableDefinition("t", (ID, ColumnDefinition("d", DATE)), ("id",)))
    table = table_of(replica, "t")
    with replica.begin() as tx:
        key = insert(tx, "t", id=1, d=date(2024, 1, 1))
        tx.edit(key, {table.columns[1].id: "yesterday"})
        assert rows(tx, "t") == [(1, None)]
    assert [(each.kind, each.loser) for each in found_conflicts(replica)] == [
        ("unreadable", "d=yesterday")
    ]
    transact(replica, lambda tx: update(tx, "t", 1, d=date(2024, 1, 2)))  # it can be mended
    assert seen(replica, "t") == [(1, date(2024, 1, 2))]
    assert found_conflicts(replica) == []


def test_a_value_of_a_bound_column_writes_its_whole_unit() -> None:
    """Columns of one CHECK never mix values of two updates."""
    alice, bob = apart()
    columns = (ID, *(ColumnDefinition(name, INTEGER) for name in ("low", "high", "free")))
    check = CheckDefinition("low <= high", ("low", "high"))
    define(alice, TableDefinition("t", columns, ("id",), checks=(check,)))
    transact(alice, lambda tx: insert(tx, "t", id=1, low=3, high=5, free=0))
    exchange(alice, bob)
    transact(alice, lambda tx: update(tx, "t", 1, low=5, free=1))
    transact(bob, lambda tx: update(tx, "t", 1, high=3))
    exchange(alice, bob)
    assert seen(alice, "t") == seen(bob, "t") == [(1, 3, 3, 1)]  # bob's unit, the later
