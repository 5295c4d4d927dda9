"""Better ways are found and taken without a gap, and left again when they fail: real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from murmur.sync import dialer, mesh, scout
from murmur.sync.backoff import Backoff
from murmur.sync.contact import Contact, Conversation
from murmur.sync.quic import QuicTransport
from murmur.sync.roster import Member
from murmur.sync.scout import Scout, rank
from tests.patience import PATIENCE_S, eventually
from tests.sync.test_node import Peer
from tests.sync.test_transports import Make, make, transports  # noqa: F401


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (dialer, mesh):
        monkeypatch.setattr(module, "DIAL_MS", 300)
    monkeypatch.setattr(scout, "LOOK_MS", 50)
    monkeypatch.setattr(scout, "PAUSE_MS", 100)


class Writer:
    """Writes to a peer all the while."""

    def __init__(self, peer: Peer) -> None:
        self.count = 0
        self._peer = peer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            self._peer.put(b"%s %d" % (self._peer.name.encode(), self.count))
            self.count += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def writers() -> Iterator[list[Writer]]:
    found: list[Writer] = []
    yield found
    for writer in found:
        writer.stop()


def settled(writers: list[Writer], *peers: Peer) -> None:
    """Everything that was written is everywhere."""
    for writer in writers:
        writer.stop()
    for peer in peers:
        peer.node.wait_for(timeout=PATIENCE_S)
    assert len({peer.replica.state_hash() for peer in peers}) == 1


def kinds(peer: Peer) -> list[str]:
    """What was said of connections."""
    told = ("connected", "moved", "disconnected")
    return [notice.kind for notice in peer.notices if notice.kind in told]


def both(a: Peer, b: Peer, transport: str) -> bool:
    return transports(a) == transports(b) == [transport]


def test_when_udp_passes_again_tcp_gives_way_to_quic(
    make: Make,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    writers: list[Writer],
) -> None:
    send, blocked = QuicTransport._send, True
    monkeypatch.setattr(QuicTransport, "_send", lambda *a: None if blocked else send(*a))
    a, b = make("a", host="here"), make("b", host="there")
    b.node.connect_peer(a.node.ticket())
    eventually(lambda: both(a, b, "tcp"))
    writers += [Writer(a), Writer(b)]
    eventually(lambda: min(writer.count for writer in writers) > 20)
    assert both(a, b, "tcp"), "what fails in the background disturbs nothing"
    blocked = False
    eventually(lambda: both(a, b, "quic"))
    eventually(lambda: len(b.node._loop.mesh._conversations) == 1)
    settled(writers, a, b)
    for peer in (a, b):
        assert kinds(peer)[0] == "connected"
        assert set(kinds(peer)[1:]) == {"moved"}


def test_a_socket_that_appears_on_the_host_is_used_and_one_that_dies_is_replaced(
    make: Make,  # noqa: F811
    short_path: Path,
    writers: list[Writer],
) -> None:
    a, b = make("a"), make("b")
    hidden = [path.rename(short_path / path.name) for path in (short_path / "host").iterdir()]
    b.node.connect_peer(a.node.ticket())
    eventually(lambda: both(a, b, "quic"))
    writers += [Writer(a), Writer(b)]
    for path in hidden:
        path.rename(short_path / "host" / path.name)
    eventually(lambda: both(a, b, "local"))
    eventually(lambda: all(len(peer.node._loop.mesh._conversations) == 1 for peer in (a, b)))
    for path in (short_path / "host").iterdir():
        path.unlink()
    (contact,) = a.node._loop.mesh.company.contacts.values()
    assert contact.open is not None
    contact.open.link.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
    eventually(lambda: both(a, b, "quic"))
    settled(writers, a, b)
    for peer in (a, b):
        assert "disconnected" not in kinds(peer)
        assert kinds(peer)[:2] == ["connected", "moved"]


def test_a_peer_that_is_gone_is_said_to_be(make: Make) -> None:  # noqa: F811
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    eventually(lambda: both(a, b, "local"))
    _vanish(a)
    eventually(lambda: "disconnected" in kinds(b))
    assert b.node.connected_peers() == []


def _vanish(peer: Peer) -> None:
    """End the links of a node without a goodbye, and let nobody in any more."""

    def cut(_: int) -> None:
        node_mesh = peer.node._loop.mesh
        node_mesh._dialer.end()
        node_mesh._endings.over = True
        for conversation in list(node_mesh._conversations.values()):
            conversation.session.lose()
            conversation.link.close("vanished")

    peer.node._loop.ask(cut)


# -- by hand


class Ways:
    """A transport that dials nothing, and writes down what it was asked."""

    def __init__(self, *ways: str) -> None:
        self.found = list(ways)
        self.dialed: list[tuple[str, int]] = []
        self.now_ms = 0

    def ways(self, node_id: bytes, addresses: object) -> list[str]:
        return self.found

    def dial(self, address: str, now: float) -> str:
        self.dialed.append((address, round(now * 1000)))
        return address


class OpenLink:
    address = "tcp:192.0.2.1:7"


def run(transport: Ways, until_ms: int, address: str = OpenLink.address) -> list[str]:
    begun: list[str] = []

    def note(contact: Contact, link: object, now_ms: int) -> None:
        begun.append(str(link))

    machine = Scout(transport, Random(1), note)  # type: ignore[arg-type]
    contact = Contact(Member(b"n" * 32), Backoff(Random(1)))
    link = OpenLink()
    link.address = address
    contact.open = Conversation(link, None, 0, contact)  # type: ignore[arg-type]
    now_ms = 0
    while now_ms < until_ms:
        machine.tick([contact], now_ms)
        due = machine.next_timer_ms([contact], now_ms)
        if due is None:
            break
        now_ms = max(now_ms + 1, due)
    return begun


def test_only_better_ways_are_tried_and_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scout, "LOOK_MS", 5_000)
    monkeypatch.setattr(scout, "PAUSE_MS", 10_000)
    ways = Ways("192.0.2.1:7", "tcp:192.0.2.1:7", "relay:abc")
    begun = run(ways, 3_600_000)
    assert set(begun) == {"192.0.2.1:7"}
    times = [when for _, when in ways.dialed]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert pauses[0] <= 15_000
    assert max(pauses) <= scout.PAUSE_MOST_MS + scout.LOOK_MS
    assert min(pauses[6:]) > 200_000
    assert run(Ways("192.0.2.1:7"), 60_000, "unix:abc") == []
    assert run(Ways("192.0.2.1:7"), 60_000, "192.0.2.9:7") == []


def test_a_way_that_is_new_is_tried_at_once() -> None:
    ways = Ways("192.0.2.1:7")
    assert len(run(ways, 60)) == 1
    ways.found = ["192.0.2.1:7", "unix:abc"]
    assert sorted(set(run(ways, 150))) == ["192.0.2.1:7", "unix:abc"]


def test_ranks() -> None:
    order = ["unix:a", "192.0.2.1:7", "tcp:192.0.2.1:7", "relay:a"]
    assert sorted(set(order), key=rank) == order
