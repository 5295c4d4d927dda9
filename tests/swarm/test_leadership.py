"""Who leads, as an application sees it, over real sockets."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

import murmur
from murmur import InvalidInput
from tests.patience import PATIENCE_S, eventually


def test_voters_elect_one_and_another_when_it_leaves(tmp_path: Path) -> None:
    names = ("alice", "bob", "carol")
    voters = []
    for name in names:
        with murmur.open(tmp_path / name, group="team") as swarm:
            voters.append(swarm.node_id)
    with ExitStack() as stack:
        swarms = [
            stack.enter_context(murmur.open(tmp_path / name, group="team", voters=voters))
            for name in names
        ]
        assert not any(swarm.is_leader for swarm in swarms)
        heard: list[str | None] = []
        told = threading.Event()

        def listen(leader: str | None) -> None:
            heard.append(leader)
            told.set()

        swarms[0].on_leader_change(listen)
        for i, swarm in enumerate(swarms):
            for other in swarms[:i]:
                swarm.connect_peer(other.ticket(), timeout=PATIENCE_S)
        eventually(lambda: all(swarm.leader_id is not None for swarm in swarms))
        assert told.wait(PATIENCE_S)
        (leader,) = (swarm for swarm in swarms if swarm.is_leader)
        assert {swarm.leader_id for swarm in swarms} == {leader.node_id}
        assert heard[-1] == leader.node_id
        token = leader.fencing_token
        assert token is not None
        rest = [swarm for swarm in swarms if swarm is not leader]
        assert [swarm.fencing_token for swarm in rest] == [None, None]
        leader.close()
        assert not leader.is_leader
        eventually(lambda: any(swarm.is_leader for swarm in rest))
        (successor,) = (swarm for swarm in rest if swarm.is_leader)
        assert successor.fencing_token is not None
        assert successor.fencing_token > token
        assert not successor.check()


def test_bully_needs_no_voters(tmp_path: Path) -> None:
    with (
        murmur.open(tmp_path / "a", group="team", election="bully") as a,
        murmur.open(tmp_path / "b", group="team", election="bully") as b,
    ):
        b.connect_peer(a.ticket(), timeout=PATIENCE_S)
        eventually(lambda: a.leader_id == b.leader_id is not None)
        assert {a.is_leader, b.is_leader} == {True, False}
        assert a.fencing_token is b.fencing_token is None


def test_a_listener_that_fails_or_is_slow_stops_nobody(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "a", group="team") as once:
        voters = [once.node_id]
    heard: list[str | None] = []

    def fail(leader: str | None) -> None:
        raise RuntimeError("a bug of the application")

    with murmur.open(tmp_path / "a", group="team", voters=voters) as swarm:
        end = swarm.on_leader_change(heard.append)
        end()
        end()
        swarm.on_leader_change(fail)
        later: list[str | None] = []
        swarm.on_leader_change(later.append)  # it is told, whatever the one before does
        assert swarm.node_id == voters[0]
        eventually(lambda: swarm.is_leader)
        assert swarm.leader_id == voters[0]
        swarm.put("a", b"1")
        eventually(lambda: later == voters)
    assert heard == []


def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    node_id = "a" * 52
    wrong: list[dict[str, object]] = [
        {"election": "raft"},
        {"voters": "alice"},
        {"voters": ["alice"]},
        {"voters": [7]},
        {"voters": 7},
        {"voters": [node_id], "election": "bully"},
    ]
    for options in wrong:
        with pytest.raises(InvalidInput):
            murmur.open(tmp_path / "never", group="team", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "never").exists()
    with murmur.open(tmp_path / "a") as swarm:
        assert swarm.leader_id is None
        with pytest.raises(InvalidInput):
            swarm.on_leader_change("alice")  # type: ignore[arg-type]
        with murmur.connect(swarm.path, voters=[]) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(InvalidInput, match="election"):
            murmur.connect(swarm.path, election="bully")
