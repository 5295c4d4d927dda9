"""A network that cannot go on: calls say so, reading and writing here do, and close() works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import murmur
from murmur.errors import Closed
from murmur.swarm import Swarm
from murmur.sync.output import Output
from murmur.sync.streams import StreamTransport
from tests.patience import eventually


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Swarm, Swarm]]:
    """Two that are connected, over the local socket."""
    with ExitStack() as stack:
        alice, bob = (
            stack.enter_context(murmur.open(tmp_path / name, group="team", transport="local"))
            for name in ("alice", "bob")
        )
        bob.connect_peer(alice.ticket())
        alice.put("first", b"v")
        alice.wait_for()
        yield alice, bob


class Broken(TypeError):
    """What nobody expects."""


def broken(*_: object, **__: object) -> Any:
    raise Broken("a bug")


def break_loop(swarm: Swarm) -> None:
    node = swarm.node()
    node._loop.mesh.tick = broken  # type: ignore[method-assign]
    node._loop.post(lambda _: None)
    eventually(lambda: node.state != "running")


def test_who_waits_for_a_stopped_network_is_told(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    assert alice.network_state == "running"
    ticket = bob.ticket()
    break_loop(alice)
    assert alice.network_state == "stopped: Broken: a bug"
    calls: list[Callable[[], object]] = [
        lambda: alice.wait_for(timeout=5),
        lambda: alice.wait_durable(1, timeout=5),
        lambda: alice.put("k", b"v", wait=1),
        lambda: alice.verify(bob.node_id, timeout=5),
        lambda: alice.connect_peer(ticket, timeout=5),
        lambda: alice.ticket(),
        lambda: alice.discover(mdns=False),
        lambda: alice.accept_peer(bob.node_id),
        lambda: alice.refuse_peer(bob.node_id),
    ]
    for call in calls:
        with pytest.raises(Closed, match=r"stopped: Broken: a bug.*reading and writing here go on"):
            call()


def test_a_stopped_network_is_seen_and_the_store_goes_on(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    break_loop(alice)
    rows = alice.sql("SELECT node_id, state, last_error FROM murmur_peers").fetchall()
    assert rows == [(bob.node_id, "stopped", "stopped: Broken: a bug")]
    assert alice.connected_peers() == []
    assert alice.members() == alice.pending_peers() == []
    assert alice.bootstrap_status() is None
    assert not alice.is_leader
    alice.put("second", b"v")
    alice.sql("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    alice.sql("INSERT INTO t VALUES (1)")
    alice.sync()
    assert alice.get("second") == b"v"
    assert alice.sql("SELECT id FROM t").fetchall() == [(1,)]
    eventually(lambda: not bob.connected_peers())
    (peer,) = bob.peers()
    assert "the node stopped: Broken: a bug" in (peer.last_error or "")
    path = alice.path
    alice.close()
    alice.close()
    with murmur.open(path, group="team", transport="local") as again:
        assert again.get("second") == b"v"
        assert again.network_state == "off"
        again.connect_peer(bob.ticket())
        eventually(lambda: bob.get("second") == b"v")


def test_whoever_waits_when_it_stops_is_told(pair: tuple[Swarm, Swarm]) -> None:
    alice, _ = pair
    node = alice.node()
    original = node._loop.mesh.tick

    def tick(now_ms: int) -> None:
        if node._loop.mesh.company._waits:
            broken()
        original(now_ms)

    node._loop.mesh.tick = tick  # type: ignore[method-assign]
    with pytest.raises(Closed, match="stopped: Broken"):
        alice.wait_durable(5, timeout=30)


def test_a_fault_while_output_is_written_is_survived(
    pair: tuple[Swarm, Swarm], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    original, times = Output.take, [3]

    def take(output: Output, room: int | None = None) -> list[bytes]:
        found = original(output, room)
        if found and times[0]:
            times[0] -= 1
            raise Broken("a bug")
        return found

    monkeypatch.setattr(Output, "take", take)
    alice.put("second", b"v")
    eventually(lambda: not times[0])
    eventually(lambda: bob.get("second") == b"v")
    bob.put("third", b"v")
    eventually(lambda: alice.get("third") == b"v")
    assert alice.network_state == bob.network_state == "running"


@pytest.mark.parametrize("call", ["poll", "flush", "next_timer"])
def test_a_fault_of_a_transport_ends_its_links_and_no_more(
    pair: tuple[Swarm, Swarm], call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    original, times = getattr(StreamTransport, call), [2]

    def trip(*arguments: object) -> Any:
        if times[0]:
            times[0] -= 1
            raise Broken("a bug")
        return original(*arguments)

    monkeypatch.setattr(StreamTransport, call, trip)
    alice.put("second", b"v")
    eventually(lambda: bob.get("second") == b"v")
    assert not times[0]
    assert alice.network_state == bob.network_state == "running"


def test_a_transport_that_always_trips_stops_the_network(
    pair: tuple[Swarm, Swarm], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _ = pair
    monkeypatch.setattr(alice.node()._loop, "_timeout", lambda _: 0.0)
    monkeypatch.setattr(StreamTransport, "poll", broken)
    alice.node()._loop.post(lambda _: None)
    eventually(lambda: alice.network_state == "stopped: Broken: a bug")
    monkeypatch.undo()
    alice.put("second", b"v")
    alice.close()
