"""Swarms that meet: data goes both ways, and SQL shows peers, conflicts and parked records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import murmur
from murmur import InvalidInput, PeerError, Swarm, Timeout, Unreachable
from murmur.kvcore import Delivery, DiskStorage, ManualClock
from murmur.sync.ticket import parse_node
from tests.patience import PATIENCE_S


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Swarm, Swarm]]:
    with ExitStack() as stack:
        alice = stack.enter_context(murmur.open(tmp_path / "alice", group="team"))
        bob = stack.enter_context(murmur.open(tmp_path / "bob", group="team"))
        yield alice, bob


def converge(*swarms: Swarm) -> None:
    for swarm in swarms:
        swarm.wait_for(timeout=PATIENCE_S)
    assert len({swarm.state_hash() for swarm in swarms}) == 1
    vectors = [swarm.version_vector for swarm in swarms]
    assert all(vector == vectors[0] for vector in vectors)


def test_two_swarms_converge(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    alice.sql("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT, likes COUNTER)")
    alice.sql("INSERT INTO note (id, body) VALUES (1, 'from alice')")
    bob.put("b", b"from bob")
    assert alice.connected_peers() == alice.peers() == []
    info = bob.connect_peer(alice.ticket(), timeout=PATIENCE_S)
    assert info.replica_id == alice.replica_id
    converge(alice, bob)
    assert alice.get("b") == b"from bob"
    assert bob.sql("SELECT body FROM note").fetchall() == [("from alice",)]

    bob.sql("UPDATE note SET likes = likes + 2")
    alice.sql("UPDATE note SET likes = likes + 3")
    converge(alice, bob)
    for swarm in pair:
        assert swarm.sql("SELECT likes FROM note").fetchall() == [(5,)]

    (row,) = alice.sql("SELECT replica_id, state, records_in FROM murmur_peers").fetchall()
    assert row == (bob.replica_id, "connected", 2)
    assert [peer.replica_id for peer in alice.connected_peers()] == [bob.replica_id]
    assert alice.stats()["connected_peers"] == 1
    histories = [
        swarm.sql(
            "SELECT _hlc, _op, likes FROM murmur_history('note') ORDER BY _hlc, _replica"
        ).fetchall()
        for swarm in pair
    ]
    assert histories[0] == histories[1]


def test_a_peer_that_lied_stays_out_over_a_restart_until_it_is_wanted(tmp_path: Path) -> None:
    def opened() -> Swarm:
        return murmur.open(tmp_path / "alice", group="team")

    query = (
        "SELECT state, last_error, quarantined_at <= now(), "
        "quarantined_until - quarantined_at = INTERVAL '1 minute' FROM murmur_peers"
    )
    with murmur.open(tmp_path / "bob", group="team") as bob:
        with opened() as alice:
            bob.connect_peer(alice.ticket(), timeout=PATIENCE_S)
            liar = parse_node(bob.node_id)
            loop = alice.node()._loop
            loop.ask(lambda now_ms: loop.mesh.fabric.hold_against(liar, "two faces", now_ms))
            assert alice.sql(query).fetchall() == [("quarantined", "two faces", True, True)]
        with opened() as alice:
            alice.node()
            assert alice.sql(query).fetchall() == [("quarantined", "two faces", True, True)]
            alice.connect_peer(bob.ticket(), timeout=PATIENCE_S)
            assert alice.sql("SELECT state FROM murmur_peers").fetchall() == [("connected",)]


def test_what_lost_is_listed(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    alice.put("k", b"alice's")
    bob.put("k", b"bob's")
    for swarm, name in ((alice, "a"), (bob, "b")):
        swarm.sql("CREATE TABLE airline (code TEXT PRIMARY KEY, name TEXT UNIQUE)")
        swarm.sql("INSERT INTO airline VALUES ('DL', ?)", [name])
        swarm.sql("INSERT INTO airline VALUES (?, 'same')", [name])
    bob.connect_peer(alice.ticket(), timeout=PATIENCE_S)
    converge(alice, bob)
    found = alice.sql(
        "SELECT kind, table_name, key FROM murmur_conflicts ORDER BY kind, key"
    ).fetchall()
    assert ("sibling", None) in [row[:2] for row in found]
    assert ("row", "airline") in [row[:2] for row in found]
    assert ("unique", "airline") in [row[:2] for row in found]
    counted = "SELECT kind, count(*) FROM murmur_conflicts GROUP BY kind ORDER BY kind"
    assert alice.sql(counted).fetchall() == bob.sql(counted).fetchall()
    ((replica, time),) = alice.sql(
        "SELECT replica, time FROM murmur_conflicts WHERE kind = 'sibling'"
    ).fetchall()
    assert replica in alice.version_vector
    assert time.tzinfo is not None
    alice.put("k", b"settled")
    assert alice.sql("SELECT * FROM murmur_conflicts WHERE kind = 'sibling'").fetchall() == []


def test_a_record_from_a_wild_clock_is_parked_in_sight(tmp_path: Path) -> None:
    clock = ManualClock()
    ahead = ManualClock(clock.now_ms() + 3_600_000)
    with (
        Swarm(DiskStorage(tmp_path / "a"), clock=clock) as alice,
        Swarm(DiskStorage(tmp_path / "b"), clock=ahead) as bob,
    ):
        bob.put("k", b"from the future")
        bob.sync()
        log = bob.replica.log
        alice.replica.apply([record for _, record in log.missing({})])
        rows = alice.sql("SELECT replica, seq FROM murmur_parked").fetchall()
        assert rows == [(bob.replica_id, 1)]
        assert (alice.get("k"), alice.stats()["parked"]) == (None, 1)
        assert alice.release_parked() == 0
        assert alice.release_parked(force=True) == 1
        assert alice.get("k") == b"from the future"
        assert alice.sql("SELECT * FROM murmur_parked").fetchall() == []


def test_groups_do_not_mix(tmp_path: Path) -> None:
    with (
        murmur.open(tmp_path / "a", group="team") as alice,
        murmur.open(tmp_path / "m", group="others") as mallory,
    ):
        with pytest.raises((PeerError, InvalidInput)):
            mallory.connect_peer(alice.ticket(), timeout=PATIENCE_S)
        assert alice.connected_peers() == mallory.connected_peers() == []


def test_what_goes_wrong_with_peers_is_said(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    for ticket in ("", "nonsense", alice.ticket()[:-2]):
        with pytest.raises(InvalidInput):
            bob.connect_peer(ticket)
    gone = alice.ticket()
    alice.close()
    with pytest.raises(Unreachable):
        bob.connect_peer(gone, timeout=0.5)
    bob.put("a", b"1")
    with pytest.raises(Timeout, match="no peer"):
        bob.wait_for(timeout=0.05)


def test_listening_starts_the_network_at_once(tmp_path: Path) -> None:
    with (
        murmur.open(tmp_path / "a", listen="127.0.0.1:0") as alice,
        murmur.open(tmp_path / "b") as bob,
    ):
        assert alice._node is not None
        assert bob._node is None
        bob.connect_peer(alice.ticket(), timeout=PATIENCE_S)
        alice.put("k", b"v")
        alice.wait_for(timeout=PATIENCE_S)
        assert (bob.get("k"), len(alice.connected_peers())) == (b"v", 1)


def test_peers_are_found_again_after_a_restart(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "b", listen="127.0.0.1:0") as bob:
        with murmur.open(tmp_path / "a", listen="127.0.0.1:0") as alice:
            alice.connect_peer(bob.ticket(), timeout=PATIENCE_S)
        with murmur.open(tmp_path / "a", listen="127.0.0.1:0") as alice:
            alice.put("k", b"after the restart")
            alice.wait_for(timeout=PATIENCE_S)
            assert bob.get("k") == b"after the restart"


def test_a_write_that_waits_for_peers_is_durable_there(tmp_path: Path) -> None:
    with ExitStack() as stack:
        names = ("alice", "bob", "carol")
        alice, bob, carol = (
            stack.enter_context(murmur.open(tmp_path / name, group="team")) for name in names
        )
        with pytest.raises(Timeout, match=r"fewer than 1 peers .* no other peer.* committed"):
            alice.put("early", b"1", wait=1, timeout=0.05)
        assert alice.get("early") == b"1"
        for swarm in (bob, carol):
            swarm.connect_peer(alice.ticket(), timeout=PATIENCE_S)
        alice.put("a", b"1", wait=2, timeout=PATIENCE_S)
        for swarm in (bob, carol):
            assert (swarm.get("early"), swarm.get("a")) == (b"1", b"1")
            assert swarm.replica.durable_vector[alice.replica.id] == 2
        assert alice.delete("a", wait=1, timeout=PATIENCE_S)
        assert None in (bob.get("a"), carol.get("a"))
        with alice.transaction() as tx:
            tx.put("b", b"2")
            tx.commit(wait=2, timeout=PATIENCE_S)
        assert bob.get("b") == carol.get("b") == b"2"
        alice.sql("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        alice.commit()
        alice.commit(wait=2)
        for swarm in (bob, carol):
            assert swarm.replica.durable_vector[alice.replica.id] == 5
        with pytest.raises(Timeout, match="fewer than 3 peers"):
            alice.commit(wait=3, timeout=0.05)
        carol.close()
        alice.put("c", b"3", wait=1, timeout=PATIENCE_S)
        assert bob.get("c") == b"3"
        with pytest.raises(Timeout, match="fewer than 2 peers"):
            alice.wait_durable(2, timeout=0.2)
        alice.wait_durable(0, timeout=0)


def test_a_wrong_number_of_peers_changes_nothing(pair: tuple[Swarm, Swarm]) -> None:
    alice, _ = pair
    for wrong in (-1, True, 1.5, "1"):
        with pytest.raises(InvalidInput, match="is not a number of peers"):
            alice.put("a", b"1", wait=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="is not a number of peers"):
            alice.delete("a", wait=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="is not a number of peers"):
            alice.wait_durable(wrong)  # type: ignore[arg-type]
    assert alice.get("a") is None


def test_what_can_never_be_applied_is_in_sight_and_can_be_dropped(
    pair: tuple[Swarm, Swarm],
) -> None:
    alice, bob = pair
    bob.put("k", b"v")
    bob.sync()
    ((_, record),) = bob.replica.log.missing({})
    node = bob.node()
    with pytest.raises(murmur.ProtocolViolation):
        alice.replica.apply(Delivery([b"\x09" + record[1:]], parse_node(node.node_id)))
    columns = "number, node_id, replica, seq, times, bytes, record"
    rows = alice.sql(f"SELECT {columns} FROM murmur_dead_letters").fetchall()
    changed = b"\x09" + record[1:]
    assert rows == [(1, node.node_id, bob.replica_id, 1, 1, len(record), changed)]
    ((reason, when),) = alice.sql("SELECT reason, time FROM murmur_dead_letters").fetchall()
    assert "version 9 is not 1" in reason
    assert when.tzinfo is not None
    assert alice.stats()["dead_letters"] == 1
    assert alice.check() == []
    assert alice.retry_dead_letters() == 0
    assert alice.drop_dead_letters([1]) == 1
    assert alice.sql("SELECT * FROM murmur_dead_letters").fetchall() == []
