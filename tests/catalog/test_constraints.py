"""Constraints on one replica: what is refused, in which words, and what may happen at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from murmur.catalog import (
    CheckDefinition,
    ColumnDefinition,
    ForeignKeyDefinition,
    StatementChecks,
    Table,
    TableDefinition,
    UniqueDefinition,
    create_index,
    delete_row,
    insert_row,
    key_of,
    update_row,
)
from murmur.catalog.constraints import RowCheck
from murmur.catalog.schema import Action
from murmur.catalog.types import BIGINT, DOUBLE, INTEGER, SMALLINT, TEXT, varchar
from murmur.errors import Conflict, ConstraintViolation
from murmur.kvcore import Replica, Transaction
from tests.catalog.harness import (
    apart,
    by_id,
    define,
    delete,
    exchange,
    insert,
    open_replica,
    rows,
    seen,
    table_of,
    transact,
    update,
)

ID = ColumnDefinition("id", INTEGER)
USER = TableDefinition(
    "user",
    (
        ID,
        ColumnDefinition("email", TEXT),
        ColumnDefinition("a", INTEGER),
        ColumnDefinition("b", TEXT),
    ),
    ("id",),
    uniques=(UniqueDefinition(("email",)), UniqueDefinition(("a", "b"), name="pair")),
)


def node(on_delete: Action = "NO ACTION") -> TableDefinition:
    """A tree: every node may name its parent."""
    reference = ForeignKeyDefinition(("parent",), "node", on_delete=on_delete)
    columns = (ID, ColumnDefinition("parent", INTEGER))
    return TableDefinition("node", columns, ("id",), foreign_keys=(reference,))


@pytest.fixture
def replica() -> Replica:
    return open_replica()


def refused(match: str, write: Callable[..., Any], *args: Any, **values: Any) -> None:
    with pytest.raises(ConstraintViolation, match=match):
        write(*args, **values)


# UNIQUE --------------------------------------------------------------------


def test_unique_values(replica: Replica) -> None:
    define(replica, USER)
    with replica.begin() as tx:
        insert(tx, "user", id=1, email="x", a=1, b="p")
        insert(tx, "user", id=2, email="y", a=1, b="q")
        taken = r'unique constraint "user_email_key" of table "user": Key \(email\)=\(x\) already'
        refused(taken, insert, tx, "user", id=3, email="x")
        refused(taken, update, tx, "user", 2, email="x")
        refused(r'"pair".*Key \(a, b\)=\(1, p\)', insert, tx, "user", id=3, a=1, b="p")
        refused(r'"pair".*Key \(a, b\)=\(1, p\)', update, tx, "user", 2, b="p")
        refused(r'"user_pkey".*Key \(id\)=\(1\) already exists', insert, tx, "user", id=1)
        update(tx, "user", 1, email="x", a=1, id=7)  # its own values are its own
        assert len(rows(tx, "user")) == 2


def test_nulls_are_distinct(replica: Replica) -> None:
    define(replica, USER)
    with replica.begin() as tx:
        for number in range(3):
            insert(tx, "user", id=number, email=None, a=1, b=None)
        update(tx, "user", 0, b="x")
        refused("pair", update, tx, "user", 1, b="x")


def test_a_value_is_free_again_after_delete_and_update(replica: Replica) -> None:
    define(replica, USER)
    transact(replica, lambda tx: insert(tx, "user", id=1, email="x"))
    with replica.begin() as tx:
        delete(tx, "user", 1)
        insert(tx, "user", id=2, email="x")
        update(tx, "user", 2, email="y")
        insert(tx, "user", id=3, email="x")
    assert [each[:2] for each in seen(replica, "user")] == [(2, "y"), (3, "x")]


def test_a_value_may_become_one_that_is_equal(replica: Replica) -> None:
    columns = (ID, ColumnDefinition("d", DOUBLE))
    uniques = (UniqueDefinition(("d",)),)
    define(replica, TableDefinition("t", columns, ("id",), uniques=uniques))
    with replica.begin() as tx:
        insert(tx, "t", id=1, d=0.0)
        update(tx, "t", 1, d=-0.0)
        refused("t_d_key", insert, tx, "t", id=2, d=0.0)


def test_values_are_exchanged_in_three_steps(replica: Replica) -> None:
    """UNIQUE is immediate, row by row, as PostgreSQL's is."""
    define(replica, USER)
    with replica.begin() as tx:
        insert(tx, "user", id=1, email="x")
        insert(tx, "user", id=2, email="y")
        refused("user_email_key", update, tx, "user", 1, email="y")
        update(tx, "user", 1, email=None)
        update(tx, "user", 2, email="x")
        update(tx, "user", 1, email="y")
    assert [each[1] for each in seen(replica, "user")] == ["y", "x"]


def test_a_long_value_is_not_taken_for_its_beginning(replica: Replica) -> None:
    define(replica, USER)
    with replica.begin() as tx:
        for number, email in enumerate(["a", "ab", "a\x01", "", "\U0010ffff"]):
            insert(tx, "user", id=number, email=email)
        assert len(rows(tx, "user")) == 5


@pytest.mark.parametrize("descending", [False, True])
def test_an_index_can_be_unique_in_either_direction(replica: Replica, descending: bool) -> None:
    define(replica, USER)
    with replica.begin() as tx:
        create_index(tx, "user", [("b", descending)], name="i", unique=True)
        insert(tx, "user", id=1, b="x")
        refused(r'"i".*Key \(b\)=\(x\)', insert, tx, "user", id=2, b="x")


@pytest.mark.parametrize("second", [{"id": 2, "email": "x"}, {"id": 1, "email": "y"}])
def test_of_two_claims_at_once_the_later_retries(replica: Replica, second: dict[str, Any]) -> None:
    define(replica, USER)
    later = replica.begin()
    insert(later, "user", **second)
    transact(replica, lambda tx: insert(tx, "user", id=1, email="x"))
    with pytest.raises(Conflict):
        later.commit()
    assert [each[:2] for each in seen(replica, "user")] == [(1, "x")]


def test_a_claim_that_arrives_from_elsewhere_counts_too() -> None:
    alice, bob = apart()
    define(alice, USER)
    exchange(alice, bob)
    later = alice.begin()
    insert(later, "user", id=2, email="x")
    transact(bob, lambda tx: insert(tx, "user", id=1, email="x"))
    exchange(alice, bob)
    with pytest.raises(Conflict):
        later.commit()


def test_different_claims_at_once_do_not_disturb_each_other(replica: Replica) -> None:
    define(replica, USER)
    with replica.begin() as later:
        insert(later, "user", id=2, email="y")
        transact(replica, lambda tx: insert(tx, "user", id=1, email="x"))
    assert len(seen(replica, "user")) == 2


# CHECK ---------------------------------------------------------------------


def positive(table: Table) -> list[RowCheck]:
    """v > 0, as sql would compile it."""
    position = next(column.position for column in table.columns if column.name == "v")
    return [
        (check, lambda values: None if values[position] is None else values[position] > 0)
        for check in table.checks
    ]


CHECKED = TableDefinition(
    "t",
    (ID, ColumnDefinition("v", INTEGER)),
    ("id",),
    checks=(CheckDefinition("v > 0", ("v",), name="positive"),),
)


def test_checks_hold_or_are_unknown(replica: Replica) -> None:
    define(replica, CHECKED)
    with replica.begin() as tx:
        table = table_of(tx, "t")
        checks = positive(table)
        key = insert_row(tx, table, by_id(table, {"id": 1, "v": 5}), checks=checks)
        insert_row(tx, table, by_id(table, {"id": 2}), checks=checks)  # NULL is not FALSE
        words = (
            r'new row for table "t" violates check constraint "positive": '
            r"Failing row contains \(3, 0\)"
        )
        zero = by_id(table, {"id": 3, "v": 0})
        refused(words, insert_row, tx, table, zero, checks=checks)
        refused('"positive"', update_row, tx, table, key, by_id(table, {"v": -1}), checks=checks)
        with pytest.raises(AssertionError):
            insert_row(tx, table, zero)  # the CHECKs were forgotten


# FOREIGN KEY ---------------------------------------------------------------


def test_a_child_needs_its_parent(replica: Replica) -> None:
    define(replica, node())
    with replica.begin() as tx:
        insert(tx, "node", id=1)
        insert(tx, "node", id=2, parent=1)
        insert(tx, "node", id=3, parent=3)  # itself
        missing = (
            r'insert or update on table "node" violates foreign key constraint "node_parent_fkey": '
            r'Key \(parent\)=\(9\) is not present in table "node"'
        )
        savepoint = tx.savepoint()
        refused(missing, insert, tx, "node", id=4, parent=9)
        tx.rollback_to(savepoint)
        refused(missing, update, tx, "node", 2, parent=9)
        tx.rollback_to(savepoint)
        used = (
            r'update or delete on table "node" violates foreign key constraint "node_parent_fkey" '
            r'on table "node": Key \(id\)=\(1\) is still referenced from table "node"'
        )
        refused(used, delete, tx, "node", 1)
        tx.rollback_to(savepoint)
        refused(used, update, tx, "node", 1, id=7)
        tx.rollback_to(savepoint)
        assert delete(tx, "node", 3)
        assert delete(tx, "node", 2)
        assert delete(tx, "node", 1)


def test_foreign_keys_are_verified_when_the_statement_ends(replica: Replica) -> None:
    define(replica, node())
    with replica.begin() as tx:
        table = table_of(tx, "node")
        statement = StatementChecks(tx)
        for number, parent in ((1, 2), (2, 3), (3, None)):  # children first
            values = by_id(table, {"id": number, "parent": parent})
            insert_row(tx, table, values, statement=statement)
        statement.verify()
        for number in (3, 2, 1):  # parents first
            delete_row(tx, table, key_of(table, [number]), statement=statement)
        statement.verify()
        assert rows(tx, "node") == []
        insert_row(tx, table, by_id(table, {"id": 1, "parent": 9}), statement=statement)
        with pytest.raises(ConstraintViolation, match=r"Key \(parent\)=\(9\)"):
            statement.verify()


def test_a_parent_may_be_replaced_within_the_statement(replica: Replica) -> None:
    define(replica, node())
    with replica.begin() as tx:
        insert(tx, "node", id=1)
        insert(tx, "node", id=2, parent=1)
        table = table_of(tx, "node")
        statement = StatementChecks(tx)
        delete_row(tx, table, key_of(table, [1]), statement=statement)
        insert_row(tx, table, by_id(table, {"id": 1}), statement=statement)
        statement.verify()


def test_a_reference_that_was_taken_back_needs_no_parent(replica: Replica) -> None:
    define(replica, node())
    with replica.begin() as tx:
        table = table_of(tx, "node")
        statement = StatementChecks(tx)
        key = insert_row(tx, table, by_id(table, {"id": 1, "parent": 9}), statement=statement)
        update_row(tx, table, key, by_id(table, {"parent": None}), statement=statement)
        statement.verify()


def test_restrict_does_not_wait_for_the_end(replica: Replica) -> None:
    define(replica, node("RESTRICT"))
    with replica.begin() as tx:
        insert(tx, "node", id=1)
        insert(tx, "node", id=2, parent=1)
        table = table_of(tx, "node")
        statement = StatementChecks(tx)
        refused("still referenced", delete_row, tx, table, key_of(table, [1]), statement=statement)


def test_cascade(replica: Replica) -> None:
    define(replica, node("CASCADE"))
    with replica.begin() as tx:
        insert(tx, "node", id=0)
        insert(tx, "node", id=1, parent=1)  # its own parent
        for number in range(2, 3000):  # deeper than Python's stack
            insert(tx, "node", id=number, parent=number - 1)
        assert delete(tx, "node", 1)
        assert rows(tx, "node") == [(0, None)]


def test_cascade_to_a_row_by_two_ways(replica: Replica) -> None:
    columns = (ID, ColumnDefinition("a", INTEGER), ColumnDefinition("b", INTEGER))
    references = tuple(ForeignKeyDefinition((name,), "t", on_delete="CASCADE") for name in "ab")
    define(replica, TableDefinition("t", columns, ("id",), foreign_keys=references))
    with replica.begin() as tx:
        insert(tx, "t", id=1)
        insert(tx, "t", id=2, a=1, b=1)
        insert(tx, "t", id=3, a=2, b=1)
        assert delete(tx, "t", 1)
        assert rows(tx, "t") == []


def test_set_null(replica: Replica) -> None:
    define(replica, node("SET NULL"))
    with replica.begin() as tx:
        insert(tx, "node", id=1)
        insert(tx, "node", id=2, parent=1)
        insert(tx, "node", id=3, parent=2)
        assert delete(tx, "node", 1)
        assert rows(tx, "node") == [(2, None), (3, 2)]


def test_set_null_obeys_the_checks_of_the_child(replica: Replica) -> None:
    parent = TableDefinition("p", (ID,), ("id",))
    child = TableDefinition(
        "c",
        (ID, ColumnDefinition("p", INTEGER)),
        ("id",),
        foreign_keys=(ForeignKeyDefinition(("p",), "p", on_delete="SET NULL"),),
        checks=(CheckDefinition("p IS NOT NULL", ("p",), name="has"),),
    )
    define(replica, parent, child)
    with replica.begin() as tx:
        insert(tx, "p", id=1)
        insert(tx, "c", id=1, p=1)

        def checks_of(table: Table) -> list[RowCheck]:
            return [(check, lambda values: values[1] is not None) for check in table.checks]

        table = table_of(tx, "p")
        statement = StatementChecks(tx, checks_of)
        refused('"has"', delete_row, tx, table, key_of(table, [1]), statement=statement)


def family(replica: Replica) -> None:
    """A child that references unique columns, in another order than the index has them."""
    parent = TableDefinition(
        "p",
        (ID, ColumnDefinition("x", BIGINT), *(ColumnDefinition(name, TEXT) for name in "yz")),
        ("id",),
        uniques=(UniqueDefinition(("x", "y")),),
    )
    child = TableDefinition(
        "c",
        (ID, ColumnDefinition("cy", varchar(9)), ColumnDefinition("cx", SMALLINT)),
        ("id",),
        foreign_keys=(ForeignKeyDefinition(("cy", "cx"), "p", ("y", "x")),),
    )
    define(replica, parent, child)


def test_referencing_unique_columns(replica: Replica) -> None:
    family(replica)
    with replica.begin() as tx:
        insert(tx, "p", id=1, x=5, y="five")
        insert(tx, "p", id=2, x=1 << 40, y=None)  # no SMALLINT reaches it
        insert(tx, "c", id=1, cx=5, cy="five")
        insert(tx, "c", id=2, cx=5, cy=None)  # a NULL references nothing
        savepoint = tx.savepoint()
        refused(r"Key \(cy, cx\)=\(six, 6\) is not", insert, tx, "c", id=3, cx=6, cy="six")
        tx.rollback_to(savepoint)
        refused(r"Key \(y, x\)=\(five, 5\) is still", update, tx, "p", 1, x=6)
        tx.rollback_to(savepoint)
        refused(r"Key \(y, x\)=\(five, 5\) is still", delete, tx, "p", 1)
        tx.rollback_to(savepoint)
        update(tx, "p", 1, id=9)  # nobody references that
        delete(tx, "p", 2)
        update(tx, "c", 1, cx=None)
        delete(tx, "p", 9)


def test_a_value_that_the_parent_cannot_hold_has_no_parent(replica: Replica) -> None:
    parent = TableDefinition("p", (ColumnDefinition("id", SMALLINT),), ("id",))
    reference = ForeignKeyDefinition(("p",), "p")
    columns = (ID, ColumnDefinition("p", BIGINT))
    define(replica, parent, TableDefinition("c", columns, ("id",), foreign_keys=(reference,)))
    with replica.begin() as tx:
        insert(tx, "p", id=7)
        insert(tx, "c", id=1, p=7)
        refused(r"Key \(p\)=\(70000\) is not present", insert, tx, "c", id=2, p=70000)


def test_two_foreign_keys_to_one_parent_are_two(replica: Replica) -> None:
    columns = (ID, ColumnDefinition("a", INTEGER), ColumnDefinition("b", INTEGER))
    references = (ForeignKeyDefinition(("a",), "t"), ForeignKeyDefinition(("b",), "t"))
    define(replica, TableDefinition("t", columns, ("id",), foreign_keys=references))
    with replica.begin() as tx:
        table = table_of(tx, "t")
        statement = StatementChecks(tx)
        key = insert_row(tx, table, by_id(table, {"id": 1, "a": 9, "b": 9}), statement=statement)
        update_row(tx, table, key, by_id(table, {"a": None}), statement=statement)
        refused(r"Key \(b\)=\(9\)", statement.verify)


Write = Callable[[Transaction], Any]
GO: list[Write] = [
    lambda tx: delete(tx, "node", 1),
    lambda tx: update(tx, "node", 1, id=7),
]
COME: list[Write] = [
    lambda tx: insert(tx, "node", id=5, parent=1),
    lambda tx: update(tx, "node", 2, parent=1),
]


@pytest.mark.parametrize(
    ("first", "second"), [*itertools.product(GO, COME), *itertools.product(COME, GO)]
)
@pytest.mark.parametrize("on_delete", ["NO ACTION", "CASCADE", "SET NULL"])
def test_a_parent_does_not_go_while_a_child_comes(
    replica: Replica, on_delete: Action, first: Write, second: Write
) -> None:
    define(replica, node(on_delete))
    with replica.begin() as tx:
        insert(tx, "node", id=1)
        insert(tx, "node", id=2)
    later = replica.begin()
    second(later)
    transact(replica, first)
    with pytest.raises(Conflict):
        later.commit()


def test_the_same_for_a_parent_with_a_unique_key(replica: Replica) -> None:
    family(replica)
    transact(replica, lambda tx: insert(tx, "p", id=1, x=5, y="five"))
    later = replica.begin()
    insert(later, "c", id=1, cx=5, cy="five")
    transact(replica, lambda tx: update(tx, "p", 1, x=6))
    with pytest.raises(Conflict):
        later.commit()
    with replica.begin() as unaffected:  # the row may change where nobody references it
        insert(unaffected, "c", id=1, cx=6, cy="five")
        transact(replica, lambda tx: update(tx, "p", 1, z="other"))
    assert seen(replica, "c") == [(1, "five", 6)]
