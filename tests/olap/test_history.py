"""History: each version as its author left it, on every replica the same."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from murmur.catalog import (
    Catalog,
    ColumnDefinition,
    Default,
    Increment,
    Reset,
    TableDefinition,
    add_column,
    delete_row,
    drop_column,
    drop_table,
    get_row,
    insert_row,
    parse_type,
    rename_column,
    update_row,
)
from murmur.kvcore.record import decode, origin
from murmur.olap.arrow import iterate_rows
from murmur.olap.feed import position_of, read_log, transactions
from murmur.olap.history import COLUMNS, history, table_named, versions
from tests.olap.harness import ONE_OF_EACH, Peer, every_type, make_peer

AIRLINE = TableDefinition(
    "airline",
    (
        ColumnDefinition("code", parse_type("TEXT"), nullable=False),
        ColumnDefinition("name", parse_type("TEXT")),
        ColumnDefinition("votes", parse_type("COUNTER")),
    ),
    ("code",),
)


def seen(peer: Peer, name: str = "airline") -> list[dict[str, Any]]:
    """The history as dictionaries."""
    with peer.replica.snapshot() as view:
        assert isinstance(view.state, Catalog)
        table = table_named(view.state, name)
        assert table is not None
        arrow = history(peer.replica.log, position_of(view), table)
    return [dict(zip(arrow.column_names, row, strict=True)) for row in iterate_rows(arrow)]


def brief(peer: Peer) -> list[tuple[Any, ...]]:
    return [(row["_op"], row["code"], row["name"], row["votes"]) for row in seen(peer)]


def change(peer: Peer, key: bytes, **values: Any) -> None:
    table = peer.table("airline")
    changes = {column.id: values[column.name] for column in table.columns if column.name in values}
    with peer.replica.begin() as tx:
        update_row(tx, table, key, changes)


def delete(peer: Peer, key: bytes) -> None:
    with peer.replica.begin() as tx:
        delete_row(tx, peer.table("airline"), key)


def two_peers() -> tuple[Peer, Peer, bytes]:
    """Two replicas that share one row."""
    alice, bob = make_peer(1), make_peer(2)
    alice.define(AIRLINE)
    (key,) = alice.insert("airline", {"code": "DL", "name": "Delta"})
    bob.take_from(alice)
    return alice, bob, key


def test_each_version_is_the_whole_row() -> None:
    peer = make_peer()
    peer.define(AIRLINE)
    (key,) = peer.insert("airline", {"code": "DL", "name": "Delta"})
    change(peer, key, name="Delta Air Lines")
    change(peer, key, votes=Increment(3))
    change(peer, key, votes=Reset(1), name=None)
    delete(peer, key)
    peer.insert("airline", {"code": "DL", "name": "Delta again"})
    assert brief(peer) == [
        ("insert", "DL", "Delta", 0),
        ("update", "DL", "Delta Air Lines", 0),
        ("update", "DL", "Delta Air Lines", 3),
        ("update", "DL", None, 1),
        ("delete", "DL", None, 1),
        ("insert", "DL", "Delta again", 0),
    ]


def test_stamp_time_author_and_number_of_a_version() -> None:
    peer = make_peer()
    peer.define(AIRLINE)
    (key,) = peer.insert("airline", {"code": "DL"})
    peer.clock.advance(1500)
    change(peer, key, name="Delta")
    first, second = seen(peer)
    assert first["_time"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert second["_time"] == datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert second["_hlc"] > first["_hlc"]
    assert second["_hlc"] >> 16 == peer.clock.now_ms()
    assert (first["_seq"], second["_seq"]) == (2, 3)
    assert {first["_replica"], second["_replica"]} == {peer.replica.id.hex()}
    assert list(first)[-5:] == [name for name, _ in COLUMNS]


def test_several_rows_and_tables_do_not_mix() -> None:
    peer = make_peer()
    peer.define(AIRLINE)
    peer.define(every_type())
    first, second = peer.insert("airline", {"code": "AA"}, {"code": "DL"})
    peer.insert("t", {"id": 1, **ONE_OF_EACH}, {"id": 2})
    change(peer, second, name="Delta")
    change(peer, first, name="American")
    assert [(row["_op"], row["code"]) for row in seen(peer)] == [
        ("insert", "AA"),
        ("insert", "DL"),
        ("update", "DL"),
        ("update", "AA"),
    ]
    one, two = seen(peer, "t")
    assert {name: one[name] for name in ONE_OF_EACH} == ONE_OF_EACH
    assert (two["id"], two["TEXT"], two["COUNTER"]) == (2, None, 0)


def test_a_transaction_leaves_one_version_of_a_row() -> None:
    peer = make_peer()
    table = peer.define(AIRLINE)
    ids = {column.name: column.id for column in table.columns}
    with peer.replica.begin() as tx:
        key = insert_row(tx, table, {ids["code"]: "DL", ids["name"]: "a"})
        update_row(tx, table, key, {ids["name"]: "b"})
        gone = insert_row(tx, table, {ids["code"]: "XX"})
        delete_row(tx, table, gone)
    assert brief(peer) == [("insert", "DL", "b", 0)]


def test_a_losing_edit_stands_as_it_was_written() -> None:
    alice, bob, key = two_peers()
    bob.clock.advance(1000)
    change(alice, key, name="alice's")
    change(bob, key, name="bob's")
    alice.take_from(bob)
    bob.take_from(alice)
    assert brief(alice)[1:] == [("update", "DL", "alice's", 0), ("update", "DL", "bob's", 0)]
    assert brief(bob)[1:] == [("update", "DL", "bob's", 0), ("update", "DL", "alice's", 0)]


def test_an_edit_of_a_row_deleted_elsewhere_is_an_update_and_the_delete_a_delete() -> None:
    alice, bob, key = two_peers()
    delete(alice, key)
    change(bob, key, name="edited")
    alice.take_from(bob)
    assert brief(alice)[1:] == [("delete", "DL", "Delta", 0), ("update", "DL", "edited", 0)]


def test_two_insertions_apart_are_two_insertions() -> None:
    alice, bob = make_peer(1), make_peer(2)
    for peer, name in ((alice, "a"), (bob, "b")):
        peer.define(AIRLINE)
        peer.insert("airline", {"code": "DL", "name": name})
    alice.take_from(bob)
    assert brief(alice) == [("insert", "DL", "a", 0), ("insert", "DL", "b", 0)]


def test_an_edit_of_a_row_that_two_have_inserted_shows_both_lives() -> None:
    alice, bob = make_peer(1), make_peer(2)
    for peer, votes in ((alice, 2), (bob, 5)):
        peer.define(AIRLINE)
        peer.insert("airline", {"code": "DL", "name": "x", "votes": votes})
    alice.take_from(bob)
    change(alice, KEYS[1], name="both")
    assert brief(alice)[2:] == [("update", "DL", "both", 7)]
    delete(alice, KEYS[1])
    assert brief(alice)[3:] == [("delete", "DL", "both", 7)]


def test_a_merge_of_both_sides_is_seen_by_who_saw_both() -> None:
    alice, bob, key = two_peers()
    change(alice, key, votes=Increment(2))
    change(bob, key, votes=Increment(5))
    alice.take_from(bob)
    change(alice, key, name="both")
    change(alice, key, name="both again")
    bob.take_from(alice)
    assert sorted(brief(bob)) == sorted(brief(alice))
    assert brief(alice)[1:] == [
        ("update", "DL", "Delta", 2),
        ("update", "DL", "Delta", 5),
        ("update", "DL", "both", 7),
        ("update", "DL", "both again", 7),
    ]


def test_a_snapshot_sees_the_history_of_its_moment() -> None:
    peer = make_peer()
    table = peer.define(AIRLINE)
    (key,) = peer.insert("airline", {"code": "DL"})
    with peer.replica.snapshot() as old:
        change(peer, key, name="later")
        then = history(peer.replica.log, position_of(old), table)
        assert then.num_rows == 1
        assert [entry.seq for entry in read_log(peer.replica.log, position_of(old))] == [1, 2]
        with peer.replica.begin() as tx:
            assert history(peer.replica.log, position_of(tx), table).num_rows == 2


def test_rows_are_shown_through_the_present_columns() -> None:
    peer = make_peer()
    peer.define(AIRLINE)
    (key,) = peer.insert("airline", {"code": "DL", "name": "Delta"})
    with peer.replica.begin() as tx:
        rename_column(tx, "airline", "name", "title")
        column = ColumnDefinition(
            "rank", parse_type("INTEGER"), default=Default("constant", 7, "7")
        )
        add_column(tx, "airline", column)
        drop_column(tx, "airline", "votes")
    (row,) = seen(peer)
    assert list(row)[:3] == ["code", "title", "rank"]
    assert (row["code"], row["title"], row["rank"]) == ("DL", "Delta", 7)
    assert key


def test_a_dropped_table_keeps_its_history() -> None:
    peer = make_peer()
    peer.define(AIRLINE)
    peer.insert("airline", {"code": "DL", "name": "Delta"})
    with peer.replica.begin() as tx:
        drop_table(tx, "airline")
    assert brief(peer) == [("insert", "DL", "Delta", 0)]
    peer.define(AIRLINE)
    assert brief(peer) == []
    with peer.replica.begin() as tx:
        drop_table(tx, "airline")
    assert brief(peer) == []  # the newest of the two that were dropped
    assert table_named(peer.catalog, "nope") is None


def test_a_new_table_has_an_empty_history_with_its_types() -> None:
    peer = make_peer()
    table = peer.define(AIRLINE)
    with peer.replica.snapshot() as view:
        empty = history(peer.replica.log, position_of(view), table)
    assert (empty.num_rows, str(empty.schema.field("votes").type)) == (0, "int64")
    fresh = make_peer()
    with fresh.replica.snapshot() as view:
        assert list(read_log(fresh.replica.log, position_of(view))) == []


def test_the_log_is_listed_frame_by_frame() -> None:
    alice, bob, key = two_peers()
    change(bob, key, name="x")
    with bob.replica.snapshot() as view:
        entries = list(read_log(bob.replica.log, position_of(view)))
    assert [(entry.replica, entry.seq) for entry in entries] == [
        (alice.replica.id, 1),
        (alice.replica.id, 2),
        (bob.replica.id, 1),
    ]
    assert entries[-1].position == bob.replica.log.end
    assert [entry.operations for entry in entries[1:]] == [1, 1]
    records = [record for _, _, record in bob.replica.log.read(0)]
    assert [entry.bytes for entry in entries] == list(map(len, records))
    assert [entry.stamp for entry in entries] == [decode(record).stamp for record in records]
    assert all(entry.admitted for entry in entries)


def test_a_wild_record_is_listed_as_parked_and_has_no_version() -> None:
    alice, bob, key = two_peers()
    bob.clock.advance(3_600_000)
    change(bob, key, name="from the future")
    alice.take_from(bob)
    change(alice, key, name="now")
    assert [row["name"] for row in seen(alice)] == ["Delta", "now"]
    with alice.replica.snapshot() as view:
        kinds = [entry.admitted for entry in read_log(alice.replica.log, position_of(view))]
    assert kinds == [True, True, False, True]
    alice.replica.release_parked(force=True)
    assert [row["name"] for row in seen(alice)] == ["Delta", "now", "from the future"]


# The law ---------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # who
        st.sampled_from(["insert", "name", "votes", "reset", "delete", "meet", "later"]),
        st.integers(0, 1),  # which row, or whom to meet
    ),
    max_size=25,
)


def act(peers: list[Peer], who: int, what: str, which: int, number: int) -> None:
    peer, key = peers[who], KEYS[which]
    table = peer.table("airline")
    there = peer.replica.get(key) is not None
    if what == "insert" and not there:
        peer.insert("airline", {"code": CODES[which], "name": f"n{number}"})
    elif what == "name" and there:
        change(peer, key, name=f"n{number}")
    elif what == "votes" and there:
        change(peer, key, votes=Increment(number + 1))
    elif what == "reset" and there:
        change(peer, key, votes=Reset(number))
    elif what == "delete" and there:
        delete(peer, key)
    elif what == "meet":
        peer.take_from(peers[(who + which + 1) % 3])
    elif what == "later":
        peer.clock.advance(7)
    assert table


CODES = ("AA", "DL")


def _keys() -> list[bytes]:
    peer = make_peer()
    peer.define(AIRLINE)
    return peer.insert("airline", *({"code": code} for code in CODES))


KEYS = _keys()  # the same on every replica


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 2**32))
def test_versions_are_a_function_of_the_set_of_transactions(
    steps: list[tuple[int, str, int]], seed: int
) -> None:
    peers = [make_peer(number) for number in (1, 2, 3)]
    peers[0].define(AIRLINE)
    for other in peers[1:]:
        other.take_from(peers[0])
    written: dict[tuple[bytes, int], tuple[Any, ...]] = {}
    for number, (who, what, which) in enumerate(steps):
        before = peers[who].replica.vector
        act(peers, who, what, which, number)
        if what not in ("meet", "later") and peers[who].replica.vector != before:
            # What the author itself saw afterwards is what everybody must be told.
            dot = (peers[who].replica.id, peers[who].replica.vector[peers[who].replica.id])
            written[dot] = _state(peers[who], KEYS[which])
    random = Random(seed)
    for _ in range(2):
        for peer in random.sample(peers, 3):
            peer.take_from(*random.sample(peers, 3))
    told = [sorted(map(str, seen(peer))) for peer in peers]
    assert told[0] == told[1] == told[2]
    for row in seen(peers[0]):
        dot = (bytes.fromhex(row["_replica"]), row["_seq"])
        if row["_op"] == "delete":
            assert written[dot] == ()
        else:
            assert written[dot] == (row["code"], row["name"], row["votes"])


def _state(peer: Peer, key: bytes) -> tuple[Any, ...]:
    with peer.replica.snapshot() as view:
        return get_row(view, peer.table("airline"), key) or ()


def test_transactions_come_with_what_they_had_seen() -> None:
    alice, bob, key = two_peers()
    change(bob, key, name="x")
    alice.take_from(bob)
    with alice.replica.snapshot() as view:
        found = list(transactions(alice.replica.log, position_of(view), key))
        changes = versions(alice.replica.log, position_of(view), key)
        assert [op for _, each in changes for op, _ in each] == ["insert", "update"]
    assert [(author.replica, author.seq) for author, _ in found] == [
        (alice.replica.id, 2),
        (bob.replica.id, 1),
    ]
    assert found[1][0].vector == {alice.replica.id: 2}
    assert all(origin(record) for _, _, record in alice.replica.log.read(0))
