"""Swarms compare themselves over real sockets, and name in words what differs first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest

import murmur
from murmur import PeerError, Swarm
from murmur.catalog import describe_key
from murmur.catalog.keyspace import CATALOG, ROWS
from tests.patience import PATIENCE_S


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Swarm, Swarm]]:
    with ExitStack() as stack:
        alice = stack.enter_context(murmur.open(tmp_path / "alice", group="team"))
        bob = stack.enter_context(murmur.open(tmp_path / "bob", group="team"))
        alice.sql("CREATE TABLE note (id INTEGER, lang TEXT, body TEXT, PRIMARY KEY (id, lang))")
        alice.execute_many("INSERT INTO note VALUES (?, 'en', 'x')", [[i] for i in range(100)])
        alice.put("k", b"v")
        bob.connect_peer(alice.ticket(), timeout=PATIENCE_S)
        alice.commit(wait=1, timeout=PATIENCE_S)
        yield alice, bob


def row_key(swarm: Swarm, number: int) -> bytes:
    with swarm.replica.snapshot() as snapshot:
        keys = [key for key, _ in snapshot.scan(ROWS, ROWS + b"\xff")]
    return keys[number]


def spoil(swarm: Swarm, key: bytes) -> None:
    """Lose a cell behind the replica's back."""
    tree = swarm.replica._tree
    tree.write([(key, None)], tree.attachment)


def test_equal_swarms_are_proved_equal(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    for swarm, other in ((alice, bob), (bob, alice)):
        (peer,) = swarm.connected_peers()
        for name in (peer, peer.node_id):
            found = swarm.verify(name, timeout=PATIENCE_S)
            assert (found.state, found.equal, found.apart) == ("equal", True, 0)
            assert found.difference is None
            assert found.cells > 100
            assert found.peer == other.node().node_id


def test_the_first_row_that_differs_is_named(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    (peer,) = alice.connected_peers()
    assert alice.verify(peer, timeout=PATIENCE_S).equal
    for number in (7, 42):
        spoil(bob, row_key(bob, number))
    for swarm, name in ((alice, peer), (bob, bob.connected_peers()[0])):
        found = swarm.verify(name, timeout=PATIENCE_S)
        assert (found.state, found.equal) == ("different", False)
        assert found.difference == "row (id, lang)=(7, en) of table note"
        assert found.start < found.stop


def test_who_is_not_connected_cannot_be_compared_with(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    (peer,) = alice.connected_peers()
    bob.close()
    with pytest.raises(PeerError):
        alice.verify(peer, timeout=PATIENCE_S)


def test_every_kind_of_key_has_a_name(pair: tuple[Swarm, Swarm]) -> None:
    alice, _ = pair
    alice.put(b"\x01\xff", b"v")
    alice.sql("CREATE TABLE plain (x TEXT)")
    alice.sql("INSERT INTO plain VALUES ('x')")
    alice.sql("CREATE TABLE gone (x INTEGER PRIMARY KEY)")
    alice.sql("INSERT INTO gone VALUES (5)")
    alice.sql("DROP TABLE gone")
    alice.sql("CREATE VIEW seen AS SELECT x FROM plain")
    with alice.replica.snapshot() as snapshot:
        catalog = snapshot.state
        names = {describe_key(catalog, key) for key, _ in snapshot.scan(b"", b"\x40")}  # type: ignore[arg-type]
    assert {
        "key k",
        "key \\x01ff",
        "row (id, lang)=(99, en) of table note",
        "definition of table note",
        "definition of dropped table gone",
        "definition of a view",
    } <= names
    assert any(name.startswith("row ") and name.endswith(" of table plain") for name in names)
    broken = row_key(alice, 0)[:12]
    assert describe_key(catalog, broken).startswith("row ")  # type: ignore[arg-type]
    unknown = ROWS + b"12345678" + b"x"
    assert describe_key(catalog, unknown) == "row 78 of unknown table 3132333435363738"  # type: ignore[arg-type]
    assert describe_key(catalog, CATALOG + b"?").endswith("of the keyspace")  # type: ignore[arg-type]


def test_swarms_that_are_written_to_are_proved_equal(pair: tuple[Swarm, Swarm]) -> None:
    stop = Event()

    def write(swarm: Swarm, name: str) -> None:
        for i in count():
            swarm.sql("INSERT INTO note VALUES (?, ?, 'more')", [1000 + i, name])
            swarm.sql("UPDATE note SET body = ? WHERE id = ?", [name, i % 100])
            if stop.wait(0.005):
                return

    writers = [
        Thread(target=write, args=(swarm, name)) for swarm, name in zip(pair, "ab", strict=True)
    ]
    for writer in writers:
        writer.start()
    try:
        (peer,) = pair[0].connected_peers()
        found = [pair[0].verify(peer, timeout=PATIENCE_S) for _ in range(3)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [(each.state, each.reason) for each in found] == [("equal", None)] * 3
    row = row_key(pair[0], 42)
    spoil(pair[1], row)
    different = pair[0].verify(peer, timeout=PATIENCE_S)
    assert (different.state, different.difference) == (
        "different",
        "row (id, lang)=(42, en) of table note",
    )
