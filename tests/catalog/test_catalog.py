"""The catalog on one replica: DDL by example, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from murmur.catalog import (
    CheckDefinition,
    ColumnDefinition,
    Default,
    ForeignKeyDefinition,
    TableDefinition,
    UniqueDefinition,
    add_check,
    add_column,
    add_foreign_key,
    create_index,
    create_table,
    drop_column,
    drop_constraint,
    drop_index,
    drop_table,
    keyspace,
    rename_column,
    rename_table,
)
from murmur.catalog.types import COUNTER, DATE, INTEGER, JSON, TEXT, UUID, decimal
from murmur.errors import Conflict, ConstraintViolation, InvalidInput
from tests.catalog.harness import (
    NOTE,
    by_index,
    catalog_of,
    define,
    derived,
    insert,
    open_replica,
    rows,
    seen,
    table_of,
    transact,
    update,
)


def test_a_table_is_there_at_once_and_after_commit() -> None:
    replica = open_replica()
    with replica.begin() as tx:
        assert create_table(tx, NOTE)
        assert [column.name for column in table_of(tx, "note").columns] == [
            "id",
            "body",
            "stars",
            "likes",
        ]
        assert catalog_of(replica).table("note") is None
    table = table_of(replica, "note")
    assert table.primary_key == (table.columns[0].id,)
    assert table.primary_key_name == "note_pkey"
    assert not table.columns[0].nullable  # a primary key column is NOT NULL
    assert [column.position for column in table.columns] == [0, 1, 2, 3]
    assert catalog_of(replica).table_by_id(table.id) is table


def test_everything_in_a_definition_comes_back_after_reopening() -> None:
    replica = open_replica()
    parent = TableDefinition("parent", (ColumnDefinition("k", TEXT),), ("k",))
    child = TableDefinition(
        "child",
        (
            ColumnDefinition("a", INTEGER),
            ColumnDefinition("b", decimal(10, 2), default=Default("constant", "1.50", "1.5")),
            ColumnDefinition("c", TEXT),
            ColumnDefinition("d", DATE, default=Default("function", None, "current_date")),
        ),
        primary_key=("b", "a"),
        primary_key_name="both",
        uniques=(UniqueDefinition(("c", "d")),),
        foreign_keys=(ForeignKeyDefinition(("c",), "parent", on_delete="CASCADE"),),
        checks=(CheckDefinition("a > 0 AND b > 0", ("a", "b")),),
    )
    with replica.begin() as tx:
        create_table(tx, parent)
        create_table(tx, child)
        create_index(tx, "child", [("d", True), ("a", False)])
    tables = catalog_of(replica).tables
    assert [table.name for table in tables] == ["child", "parent"]
    assert [index.name for index in tables[0].indexes] == ["child_c_d_key", "child_d_a_idx"]
    assert tables[0].foreign_keys[0].name == "child_c_fkey"
    assert tables[0].foreign_keys[0].on_delete == "CASCADE"
    assert tables[0].checks[0].name == "child_check"
    assert tables[0].checks[0].column_names == ("a", "b")
    assert tables[0].primary_key_name == "both"
    replica.close()
    again = open_replica(storage=replica.storage)
    assert catalog_of(again).tables == tables
    assert catalog_of(again).referencing(tables[1].id) == tables[0].foreign_keys


def test_ids_are_fixed() -> None:
    """They are in every key on disk: a change here is a change of the format."""
    table = keyspace.table_id("note", 1, [("id", "UUID")])
    column = keyspace.column_id(table, "id", "UUID", 1)
    assert keyspace.table_key(table).hex() == "0201e78107214064292700"
    assert (
        keyspace.item_key(table, keyspace.COLUMN, column).hex() == "0201e78107214064292701335d2c7b"
    )
    assert keyspace.row_prefix(table).hex() == "0202e781072140642927"
    index = keyspace.index_id(table, "i", [(column, True)], unique=True)
    assert keyspace.entry_prefix(index, unique=True).hex() == "40029b1f78ced4f2c442"
    foreign_key = keyspace.foreign_key_id(table, [column], table, [column])
    assert keyspace.child_prefix(foreign_key).hex() == "4003a610ae3540e836c6"
    check = keyspace.item_key(table, keyspace.CHECK, keyspace.check_id(table, "c", "id > 0"))
    assert check.hex() == "0201e781072140642927042922819588fd356f"


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (TableDefinition("t", ()), "no columns"),
        (TableDefinition("", NOTE.columns), "cannot be a name"),
        (TableDefinition("t", (NOTE.columns[0], NOTE.columns[0])), "defined twice"),
        (TableDefinition("t", NOTE.columns, ("none",)), '"none" of table "t" does not exist'),
        (TableDefinition("t", NOTE.columns, ("id", "id")), "names one column twice"),
        (TableDefinition("t", NOTE.columns, ("likes",)), "COUNTER, which cannot be a key"),
        (
            TableDefinition(
                "t", (ColumnDefinition("j", JSON),), uniques=(UniqueDefinition(("j",)),)
            ),
            "JSON, which cannot be a key",
        ),
        (
            TableDefinition(
                "t", (ColumnDefinition("n", COUNTER, default=Default("constant", 1, "1")),)
            ),
            "a COUNTER begins at 0",
        ),
        (
            TableDefinition(
                "t", NOTE.columns, foreign_keys=(ForeignKeyDefinition(("id",), "none"),)
            ),
            'table "none" does not exist',
        ),
        (
            TableDefinition(
                "t", NOTE.columns, foreign_keys=(ForeignKeyDefinition(("body",), "note"),)
            ),
            'column "body" of table "t" is TEXT, and cannot reference column "id"',
        ),
        (
            TableDefinition(
                "t",
                NOTE.columns,
                foreign_keys=(ForeignKeyDefinition(("stars",), "note", ("stars",)),),
            ),
            "no primary key or unique constraint over (stars)",
        ),
        (
            TableDefinition(
                "t",
                (ColumnDefinition("p", INTEGER, nullable=False),),
                foreign_keys=(ForeignKeyDefinition(("p",), "note", on_delete="SET NULL"),),
            ),
            'column "p" is NOT NULL',
        ),
        (
            TableDefinition(
                "t",
                (ColumnDefinition("p", INTEGER),),
                ("p",),
                foreign_keys=(ForeignKeyDefinition(("p",), "note", on_delete="SET NULL"),),
            ),
            'column "p" is NOT NULL',  # a primary key always is
        ),
        (
            TableDefinition(
                "t", NOTE.columns, foreign_keys=(ForeignKeyDefinition(("id", "stars"), "note"),)
            ),
            "has 2 columns and references 1",
        ),
        (NOTE, 'table "note" already exists'),
    ],
)
def test_wrong_definitions_are_refused_and_leave_nothing(
    definition: TableDefinition, reason: str
) -> None:
    replica = open_replica()
    define(replica, NOTE)
    with replica.begin() as tx:
        with pytest.raises(InvalidInput) as raised:
            create_table(tx, definition)
        assert reason in str(raised.value)
        assert [table.name for table in catalog_of(tx).tables] == ["note"]
        assert not tx.changed


def test_if_not_exists_leaves_what_is_there() -> None:
    replica = open_replica()
    define(replica, NOTE)
    with replica.begin() as tx:
        other = TableDefinition("note", (ColumnDefinition("x", TEXT),))
        assert not create_table(tx, other, if_not_exists=True)
        assert not tx.changed


def test_renaming_keeps_ids_and_rows() -> None:
    replica = open_replica()
    define(replica, NOTE)
    with replica.begin() as tx:
        insert(tx, "note", id=1, body="one")
        before = table_of(tx, "note")
        rename_table(tx, "note", "memo")
        rename_column(tx, "memo", "body", "text")
        after = table_of(tx, "memo")
        assert after.id == before.id
        assert after.columns[1].id == before.columns[1].id
        assert rows(tx, "memo") == [(1, "one", None, 0)]
    assert catalog_of(replica).table("note") is None
    assert seen(replica, "memo") == [(1, "one", None, 0)]


def test_names_that_are_taken_are_refused() -> None:
    replica = open_replica()
    define(replica, NOTE, TableDefinition("memo", NOTE.columns))
    with replica.begin() as tx:
        with pytest.raises(InvalidInput, match='table "memo" already exists'):
            rename_table(tx, "note", "memo")
        with pytest.raises(InvalidInput, match='column "body" of table "note" already exists'):
            rename_column(tx, "note", "stars", "body")
        with pytest.raises(InvalidInput, match='column "body" of table "note" already exists'):
            add_column(tx, "note", ColumnDefinition("body", INTEGER))
        create_index(tx, "note", [("stars", False)], name="stars")
        with pytest.raises(InvalidInput, match='index "stars" already exists'):
            create_index(tx, "memo", [("stars", False)], name="stars")
        assert not create_index(tx, "memo", [("id", False)], name="stars", if_not_exists=True)


@pytest.mark.parametrize(
    "statement",
    [
        lambda tx: drop_table(tx, "none"),
        lambda tx: rename_table(tx, "none", "x"),
        lambda tx: add_column(tx, "none", NOTE.columns[0]),
        lambda tx: rename_column(tx, "note", "none", "x"),
        lambda tx: drop_column(tx, "note", "none"),
        lambda tx: create_index(tx, "note", [("none", False)]),
        lambda tx: drop_index(tx, "none"),
        lambda tx: drop_constraint(tx, "note", "none"),
        lambda tx: add_foreign_key(tx, "note", ForeignKeyDefinition(("id",), "none")),
        lambda tx: add_check(tx, "note", CheckDefinition("none > 0", ("none",)), lambda _: True),
    ],
)
def test_what_does_not_exist_is_named(statement: Any) -> None:
    replica = open_replica()
    define(replica, NOTE)
    with replica.begin() as tx:
        with pytest.raises(InvalidInput, match=r'"none".* does not exist'):
            statement(tx)
        assert not tx.changed


def test_if_exists_is_content_with_nothing() -> None:
    replica = open_replica()
    define(replica, NOTE)
    with replica.begin() as tx:
        assert not drop_table(tx, "none", if_exists=True)
        assert not drop_index(tx, "none", if_exists=True)
        assert not drop_column(tx, "note", "none", if_exists=True)
        assert not drop_constraint(tx, "note", "none", if_exists=True)
        assert not tx.changed


def test_a_dropped_table_comes_back_empty_under_another_id() -> None:
    replica = open_replica()
    define(replica, NOTE)
    first = table_of(replica, "note")
    transact(replica, lambda tx: insert(tx, "note", id=1, body="one"))
    transact(replica, lambda tx: drop_table(tx, "note"))
    assert catalog_of(replica).table("note") is None
    define(replica, NOTE)
    second = table_of(replica, "note")
    assert second.generation == first.generation + 1
    assert second.id != first.id
    assert seen(replica, "note") == []


def test_dropping_and_creating_in_one_transaction() -> None:
    replica = open_replica()
    with replica.begin() as tx:
        create_table(tx, NOTE)
        insert(tx, "note", id=1, body="one")
        drop_table(tx, "note")
        create_table(tx, NOTE)
        assert rows(tx, "note") == []
        insert(tx, "note", id=1, body="two")
    assert seen(replica, "note") == [(1, "two", None, 0)]


def test_an_added_column_reads_its_default_in_old_rows() -> None:
    replica = open_replica()
    define(replica, NOTE)
    transact(replica, lambda tx: insert(tx, "note", id=1, body="one"))
    seven = Default("constant", 7, "7")
    with replica.begin() as tx:
        add_column(tx, "note", ColumnDefinition("grade", INTEGER, nullable=False, default=seven))
        add_column(tx, "note", ColumnDefinition("author", TEXT))
        add_column(tx, "note", ColumnDefinition("views", COUNTER, nullable=False))
        assert rows(tx, "note") == [(1, "one", None, 0, 7, None, 0)]
        insert(tx, "note", id=2, body="two", author="ann")
        update(tx, "note", 1, author="bob")
    assert seen(replica, "note") == [
        (1, "one", None, 0, 7, "bob", 0),
        (2, "two", None, 0, 7, "ann", 0),
    ]


def test_explicit_null_is_not_the_default() -> None:
    replica = open_replica()
    seven = Default("constant", 7, "7")
    define(
        replica,
        TableDefinition(
            "t", (NOTE.columns[0], ColumnDefinition("n", INTEGER, default=seven)), ("id",)
        ),
    )
    with replica.begin() as tx:
        insert(tx, "t", id=1, n=None)
        insert(tx, "t", id=2)
        assert rows(tx, "t") == [(1, None), (2, 7)]


def test_not_null_needs_a_default_where_there_are_rows() -> None:
    replica = open_replica()
    define(replica, NOTE)
    column = ColumnDefinition("author", TEXT, nullable=False)
    transact(replica, lambda tx: insert(tx, "note", id=1, body="one"))
    with replica.begin() as tx:
        with pytest.raises(ConstraintViolation, match='"author" of table "note" is NOT NULL'):
            add_column(tx, "note", column)
        assert not tx.changed
    define(replica, TableDefinition("empty", NOTE.columns, ("id",)))
    assert transact(replica, lambda tx: add_column(tx, "empty", column))


def test_a_dropped_column_hides_and_another_of_its_name_starts_afresh() -> None:
    replica = open_replica()
    define(replica, NOTE)
    with replica.begin() as tx:
        insert(tx, "note", id=1, body="one", stars=5)
        before = table_of(tx, "note").column("stars")
        drop_column(tx, "note", "stars")
        assert rows(tx, "note") == [(1, "one", 0)]
        add_column(tx, "note", ColumnDefinition("stars", NOTE.columns[2].type))
        after = table_of(tx, "note").column("stars")
        assert before is not None
        assert after is not None
        assert before.id != after.id
        assert rows(tx, "note") == [(1, "one", 0, None)]
    assert seen(replica, "note") == [(1, "one", 0, None)]


def test_what_a_dropped_column_takes_with_it() -> None:
    replica = open_replica()
    define(replica, NOTE, TableDefinition("memo", NOTE.columns, ("id",)))
    with replica.begin() as tx:
        create_index(tx, "note", [("stars", False), ("body", False)])
        create_index(tx, "note", [("body", False)])
        add_check(tx, "note", CheckDefinition("stars > 0", ("stars",)), lambda _: True)
        drop_column(tx, "note", "stars")
        table = table_of(tx, "note")
        assert [index.name for index in table.indexes] == ["note_body_idx"]
        assert table.checks == ()
        assert catalog_of(tx).disputes == ()  # they are gone, not asleep
        with pytest.raises(InvalidInput, match="in the primary key"):
            drop_column(tx, "note", "id")


def test_what_others_lean_on_stays() -> None:
    replica = open_replica()
    define(replica, NOTE)
    reference = ForeignKeyDefinition(("stars",), "note", ("stars",))
    with replica.begin() as tx:
        create_index(tx, "note", [("stars", False)])  # not unique: nothing to lean on
        with pytest.raises(InvalidInput, match="no primary key or unique constraint"):
            add_foreign_key(tx, "note", reference)
        create_index(tx, "note", [("stars", False)], unique=True, name="stars")
        create_table(tx, TableDefinition("memo", NOTE.columns, ("id",), foreign_keys=(reference,)))
        with pytest.raises(InvalidInput, match='"memo_stars_fkey" depends on index "stars"'):
            drop_index(tx, "stars")
        with pytest.raises(InvalidInput, match='"memo_stars_fkey" depends on column "stars"'):
            drop_column(tx, "note", "stars")
        with pytest.raises(InvalidInput, match=r'cannot drop table "note".*"memo".*CASCADE'):
            drop_table(tx, "note")
        assert drop_table(tx, "note", cascade=True)
        assert table_of(tx, "memo").foreign_keys == ()
        assert catalog_of(tx).disputes == ()  # it is gone, not asleep


def test_dropping_a_constraint() -> None:
    replica = open_replica()
    reference = ForeignKeyDefinition(("stars",), "note", name="self")
    check = CheckDefinition("stars > 0", ("stars",), name="positive")
    unique = UniqueDefinition(("body",), name="once")
    columns = (NOTE.columns[0], NOTE.columns[1], ColumnDefinition("stars", INTEGER))
    definition = TableDefinition(
        "note",
        columns,
        ("id",),
        uniques=(unique,),
        foreign_keys=(reference,),
        checks=(check,),
    )
    define(replica, definition)
    with replica.begin() as tx:
        with pytest.raises(InvalidInput, match='index "once" belongs to a UNIQUE of table "note"'):
            drop_index(tx, "once")
        for name in ("once", "self", "positive"):
            assert drop_constraint(tx, "note", name)
        table = table_of(tx, "note")
        assert (table.indexes, table.foreign_keys, table.checks) == ((), (), ())


def test_an_index_is_built_from_the_rows_that_are_there_and_goes_with_its_definition() -> None:
    replica = open_replica()
    define(replica, NOTE)
    with replica.begin() as tx:
        for number, stars in enumerate([3, None, 1]):
            insert(tx, "note", id=number, body="x", stars=stars)
    with replica.begin() as tx:
        create_index(tx, "note", [("stars", False)], name="up")
        create_index(tx, "note", [("stars", True)], name="down")
        insert(tx, "note", id=9, body="x", stars=2)
        assert [each[2] for each in by_index(tx, "up")] == [1, 2, 3, None]
        assert [each[2] for each in by_index(tx, "down")] == [None, 3, 2, 1]
    with replica.snapshot() as snapshot:
        assert [each[2] for each in by_index(snapshot, "up")] == [1, 2, 3, None]
        before = len(derived(snapshot))
    transact(replica, lambda tx: drop_index(tx, "up"))
    with replica.snapshot() as snapshot:
        assert len(derived(snapshot)) == before - 4
        assert [each[2] for each in by_index(snapshot, "down")] == [None, 3, 2, 1]


def test_a_unique_index_needs_unique_rows() -> None:
    replica = open_replica()
    define(replica, NOTE)
    with replica.begin() as tx:
        for number, stars in enumerate([1, None, 1, None]):
            insert(tx, "note", id=number, body=str(number), stars=stars)
    with replica.begin() as tx:
        with pytest.raises(ConstraintViolation, match=r"Key \(stars\)=\(1\) is duplicated"):
            create_index(tx, "note", [("stars", False)], unique=True)
        assert table_of(tx, "note").indexes == ()
        assert create_index(tx, "note", [("body", False)], unique=True)
        update(tx, "note", 2, stars=2)
        assert create_index(tx, "note", [("stars", False)], unique=True)  # NULLs are distinct


def test_new_constraints_look_at_the_rows_that_are_there() -> None:
    replica = open_replica()
    columns = (NOTE.columns[0], ColumnDefinition("parent", INTEGER))
    define(replica, TableDefinition("node", columns, ("id",)))
    with replica.begin() as tx:
        insert(tx, "node", id=1, parent=None)
        insert(tx, "node", id=2, parent=9)
        with pytest.raises(ConstraintViolation, match=r"Key \(parent\)=\(9\) is not present"):
            add_foreign_key(tx, "node", ForeignKeyDefinition(("parent",), "node"))
        check = CheckDefinition("parent < 9", ("parent",))
        with pytest.raises(ConstraintViolation, match=r'"node_parent_check".*violated by some'):
            add_check(tx, "node", check, lambda row: None if row[1] is None else row[1] < 9)
        assert table_of(tx, "node").foreign_keys == ()
        assert table_of(tx, "node").checks == ()
        update(tx, "node", 2, parent=1)
        add_foreign_key(tx, "node", ForeignKeyDefinition(("parent",), "node"))
        add_check(tx, "node", check, lambda row: None if row[1] is None else row[1] < 9)
        assert table_of(tx, "node").foreign_keys[0].name == "node_parent_fkey"


def test_generated_names_avoid_one_another() -> None:
    replica = open_replica()
    define(replica, NOTE)
    with replica.begin() as tx:
        for _ in range(3):
            create_index(tx, "note", [("stars", False)])
            add_check(tx, "note", CheckDefinition(f"stars > {_}", ("stars",)), lambda _: True)
        table = table_of(tx, "note")
        assert sorted(index.name for index in table.indexes) == [
            "note_stars_idx",
            "note_stars_idx1",
            "note_stars_idx2",
        ]
        assert [check.name for check in table.checks] == [
            "note_stars_check",
            "note_stars_check1",
            "note_stars_check2",
        ]


def test_the_later_of_two_definitions_at_once_retries() -> None:
    replica = open_replica()
    later = replica.begin()
    create_table(later, NOTE)
    define(replica, TableDefinition("note", (ColumnDefinition("x", TEXT),)))
    with pytest.raises(Conflict):
        later.commit()
    assert [column.name for column in table_of(replica, "note").columns] == ["x"]


def test_a_row_written_by_an_old_definition_retries() -> None:
    replica = open_replica()
    define(replica, NOTE)
    later = replica.begin()
    insert(later, "note", id=1, body="one", stars=1)
    transact(replica, lambda tx: create_index(tx, "note", [("stars", False)], unique=True))
    with pytest.raises(Conflict):
        later.commit()
    with replica.begin() as tx:  # a definition that is none of its business
        insert(tx, "note", id=1, body="one", stars=1)
        define(replica, TableDefinition("other", (ColumnDefinition("x", TEXT),)))


def test_version_and_touched_tell_what_changed() -> None:
    replica = open_replica()
    define(replica, NOTE, TableDefinition("other", NOTE.columns, ("id",)))
    first = catalog_of(replica)
    note, other = table_of(replica, "note").id, table_of(replica, "other").id
    transact(replica, lambda tx: insert(tx, "note", id=1, body="one"))
    second = catalog_of(replica)
    assert second.version == first.version
    assert second.touched[note] != first.touched[note]
    assert second.touched[other] == first.touched[other]
    assert second.table("note") is first.table("note")
    with replica.begin() as tx:
        insert(tx, "note", id=2, body="two")
        own = catalog_of(tx).touched[note]
        tx.rollback()
    transact(replica, lambda tx: insert(tx, "note", id=3, body="three"))
    assert catalog_of(replica).touched[note] not in (own, second.touched[note])
    transact(replica, lambda tx: add_column(tx, "note", ColumnDefinition("x", TEXT)))
    third = catalog_of(replica)
    assert third.version != second.version
    assert third.table("other") is first.table("other")  # what was compiled from it stays
    assert third.table("note") is not first.table("note")


def test_rolling_back_to_a_savepoint_takes_ddl_back() -> None:
    replica = open_replica()
    with replica.begin() as tx:
        savepoint = tx.savepoint()
        create_table(tx, NOTE)
        insert(tx, "note", id=1, body="one")
        tx.rollback_to(savepoint)
        assert catalog_of(tx).tables == ()
        create_table(tx, TableDefinition("note", (ColumnDefinition("k", UUID),), ("k",)))
        assert rows(tx, "note") == []
    assert [column.name for column in table_of(replica, "note").columns] == ["k"]
