"""Nodes over each transport, and what they do when the best one is not to be had."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from murmur.errors import InvalidInput, Unreachable
from murmur.sync import Ticket, dialer, mesh, quic_core, scout
from murmur.sync.quic import QuicTransport
from murmur.sync.quic_core import has_fast_core
from murmur.sync.ticket import parse_node
from murmur.sync.transport import FAST
from tests.patience import PATIENCE_S, eventually
from tests.sync.test_node import Peer

Make = Callable[..., Peer]


@pytest.fixture
def make(short_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def new(
            name: str,
            transport: str = "adaptive",
            host: str = "host",
            fast: bool | None = None,
        ) -> Peer:
            directory = str(short_path / host)
            peer = Peer(name, transport=transport, local_directory=directory, fast=fast)
            stack.callback(peer.close)
            return peer

        yield new


def transports(peer: Peer) -> list[str | None]:
    return [status.transport for status in peer.node.peers()]


def converge(a: Peer, b: Peer) -> None:
    a.put(b"from %s" % a.name.encode())
    b.put(b"from %s" % b.name.encode())
    a.node.wait_for(timeout=PATIENCE_S)
    b.node.wait_for(timeout=PATIENCE_S)
    assert a.replica.state_hash() == b.replica.state_hash()


@pytest.mark.parametrize("transport", ["local", "quic", "tcp"])
def test_a_pinned_transport_is_the_only_one(make: Make, transport: str) -> None:
    a, b = make("a", transport), make("b", transport)
    b.node.connect_peer(a.node.ticket())
    converge(a, b)
    assert transports(a) == transports(b) == [transport]
    large = bytes(range(256)) * 4000
    a.put(b"large", large)
    a.node.wait_for(timeout=PATIENCE_S)
    assert b.has(b"large")


def test_nodes_of_one_host_use_its_socket(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    converge(a, b)
    assert transports(a) == transports(b) == ["local"]
    assert Ticket.parse(a.node.ticket()).addresses == a.node.addresses
    assert all(not address.startswith("unix:") for address in a.node.addresses)
    # What is remembered of it serves from elsewhere too.
    eventually(
        lambda: any(m.addresses == a.node.addresses for m in b.node._roster.members.values())
    )


def test_nodes_of_two_hosts_use_quic(make: Make) -> None:
    a, b = make("a", host="here"), make("b", host="there")
    b.node.connect_peer(a.node.ticket())
    converge(a, b)
    assert transports(a) == transports(b) == ["quic"]


def fast(*peers: Peer) -> bool:
    """Whether all their peers are reached by the fast core."""
    found = [status.address or "" for peer in peers for status in peer.node.peers()]
    return all(address.startswith(FAST) for address in found)


def ways(peer: Peer, other: Peer) -> list[str]:
    """Where one dials the other."""
    transport = peer.node._loop.mesh._dialer._transport
    return list(transport.ways(parse_node(other.node.node_id), other.node.addresses))


@pytest.fixture
def _looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Better ways are looked for at once."""
    monkeypatch.setattr(scout, "LOOK_MS", 100)


needs_qh3 = pytest.mark.skipif(not has_fast_core(), reason="qh3 is not installed")


@needs_qh3
@pytest.mark.usefixtures("_looking")
def test_nodes_that_both_have_the_fast_core_move_to_it(make: Make) -> None:
    a, b = make("a", "quic"), make("b", "quic", fast=True)
    b.node.connect_peer(a.node.ticket())
    converge(a, b)
    eventually(lambda: fast(a, b))
    converge(a, b)
    assert transports(a) == transports(b) == ["quic"]
    assert not any(notice.kind == "disconnected" for notice in a.notices + b.notices)
    # From now on the peer is dialed by it; what is remembered serves without it too.
    assert ways(b, a) == [FAST + a.node.addresses[0], *a.node.addresses]
    assert all(m.addresses == a.node.addresses for m in b.node._roster.members.values())


@needs_qh3
@pytest.mark.usefixtures("_looking")
@pytest.mark.parametrize("dialer_has_it", [True, False])
def test_where_one_end_lacks_the_fast_core_they_use_the_other(
    make: Make, dialer_has_it: bool
) -> None:
    a, b = make("a", "quic", fast=not dialer_has_it), make("b", "quic", fast=dialer_has_it)
    b.node.connect_peer(a.node.ticket())
    converge(a, b)
    a.put(b"large", bytes(range(256)) * 4000)
    a.node.wait_for(timeout=20)
    assert b.has(b"large")
    assert ways(a, b) == list(b.node.addresses)
    assert ways(b, a) == list(a.node.addresses)
    assert transports(a) == transports(b) == ["quic"]


@needs_qh3
@pytest.mark.usefixtures("_looking")
def test_on_a_path_that_loses_packets_nodes_move_to_the_other_core(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from murmur.sync import quic_qh3

    monkeypatch.setattr(quic_core, "LOOPBACK_DATAGRAM_BYTES", quic_core.DATAGRAM_BYTES)
    monkeypatch.setattr(quic_qh3, "WORTH", 1e12)
    a, b = make("a", "quic"), make("b", "quic")
    b.node.connect_peer(a.node.ticket())
    eventually(lambda: fast(a, b))
    count, send = itertools.count(1), QuicTransport._send

    def lossy(self: QuicTransport, link: object, datagram: bytes, address: object) -> None:
        if next(count) % 40:
            send(self, link, datagram, address)  # type: ignore[arg-type]

    monkeypatch.setattr(QuicTransport, "_send", lossy)
    for number in range(30):
        a.put(b"%d" % number, Random(number).randbytes(100_000))
    eventually(lambda: not fast(a) and not fast(b))
    converge(a, b)
    assert transports(b) == ["quic"]


def test_where_udp_does_not_pass_there_is_tcp(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuicTransport, "_send", lambda *_: None)
    for module in (dialer, mesh):
        monkeypatch.setattr(module, "DIAL_MS", 300)
    a, b = make("a", host="here"), make("b", host="there")
    b.node.connect_peer(a.node.ticket())
    converge(a, b)
    assert transports(a) == transports(b) == ["tcp"]


def test_when_the_socket_of_the_host_is_gone_the_network_takes_over(
    make: Make, short_path: Path
) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    converge(a, b)
    for name in (short_path / "host").iterdir():
        name.unlink()
    for peer in (a, b):
        peer.node._loop.ask(lambda _, peer=peer: [c.open.link.close("cut") for c in _open(peer)])
    eventually(lambda: "connected" in [s.state for s in a.node.peers()] and "quic" in transports(a))
    converge(a, b)


def _open(peer: Peer) -> list:
    return [contact for contact in peer.node._loop.mesh.company.contacts.values() if contact.open]


def test_a_pinned_transport_does_without_the_others(make: Make) -> None:
    a, b = make("a", "quic"), make("b", "tcp")
    with pytest.raises(Unreachable, match="no address of it is known that this node can dial"):
        b.node.connect_peer(a.node.ticket(), timeout=0.5)
    with pytest.raises(InvalidInput, match="none of adaptive, local, quic, tcp"):
        make("c", "smoke")


def test_a_directory_that_others_can_enter_is_not_used(make: Make, short_path: Path) -> None:
    (short_path / "open").mkdir(0o755)
    a, b = make("a", host="open"), make("b", host="open")
    b.node.connect_peer(a.node.ticket())
    assert transports(b) == ["quic"]
    with pytest.raises(PermissionError, match="this user alone"):
        make("c", "local", host="open")
