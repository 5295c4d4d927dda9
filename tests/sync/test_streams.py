"""TLS over TCP and Unix-domain sockets: real sockets, turned by hand."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from murmur.errors import InvalidInput
from murmur.sync import local, streams
from murmur.sync.identity import Identity
from murmur.sync.lanes import Lanes
from murmur.sync.local import LocalTransport
from murmur.sync.quic import QuicTransport
from murmur.sync.streams import StreamTransport
from murmur.sync.ticket import node_text
from murmur.sync.tls import ALPN, TlsTransport
from murmur.sync.transport import LOCAL, TCP, Down, Link, Up, check_transport, dialable, look_up
from tests.sync.bench import Bench

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
Make = Callable[[Identity], StreamTransport]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench: Bench = Bench()
    yield bench
    bench.close()


@pytest.fixture(params=["tcp", "local"])
def make(request: pytest.FixtureRequest, bench: Bench, short_path: Path) -> Make:
    def new(identity: Identity) -> StreamTransport:
        if request.param == "tcp":
            return bench.keep(TlsTransport("127.0.0.1:0", identity))
        return bench.keep(LocalTransport(identity.node_id, str(short_path / "host")))

    return new


def pair(bench: Bench, make: Make) -> tuple[StreamTransport, StreamTransport, Link, Link]:
    a, b = make(ALICE), make(BOB)
    (way,) = b.ways(ALICE.node_id, a.addresses)
    return bench.join(a, b, way)


def test_the_dialer_knows_whom_it_reached(bench: Bench, make: Make) -> None:
    _, _, accepted, dialed = pair(bench, make)
    assert dialed.peer_id == ALICE.node_id
    assert dialed.dialed
    assert accepted.peer_id is None
    assert not accepted.dialed
    assert dialable(accepted) == ()
    assert dialable(dialed) == ((dialed.address,) if dialed.address.startswith(TCP) else ())


def test_bytes_arrive_whole_and_in_order_both_ways(bench: Bench, make: Make) -> None:
    a, b, accepted, dialed = pair(bench, make)
    there = os.urandom(9 << 20)  # more than a poll takes from one link
    for start in range(0, len(there), 1 << 20):
        dialed.write(there[start : start + (1 << 20)])
    accepted.write(there[::-1])
    accepted.write(b"")
    bench.run(lambda: len(bench.data(a)) == len(bench.data(b)) == len(there))
    assert bench.data(a) == there
    assert bench.data(b) == there[::-1]
    assert 0 <= dialed.loss < 0.5  # type: ignore[operator]


class Told:
    """What a socket says of segments, as Linux lays it out."""

    family = socket.AF_INET

    def __init__(self, told: bytes) -> None:
        self.told = told

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return self.told[:size]


def test_what_the_system_sends_again_is_lost() -> None:
    told = bytes(100) + (3).to_bytes(4, sys.byteorder) + bytes(52)
    sent = (150).to_bytes(4, sys.byteorder)
    assert streams._sent_again(Told(told + sent + bytes(80))) == 0.02  # type: ignore[arg-type]
    assert streams._sent_again(Told(told + bytes(84))) == 0.0  # type: ignore[arg-type]
    assert streams._sent_again(Told(told)) is None  # type: ignore[arg-type]
    closed = socket.socket()
    closed.close()
    assert streams._sent_again(closed) is None


def test_a_link_that_stalls_does_not_hold_up_another(bench: Bench, make: Make) -> None:
    a, b, accepted, _ = pair(bench, make)
    c = make(Identity(b"c" * 32))
    (way,) = c.ways(ALICE.node_id, a.addresses)
    other = c.dial(way, time.monotonic())
    bench.run(lambda: bench.of(c, Up))
    bench.transports.remove(b)  # it reads no more
    for _ in range(8):
        accepted.write(bytes(4 << 20))
    other.write(b"hello")
    bench.run(lambda: bench.data(a) == b"hello")
    bench.transports.append(b)
    bench.run(lambda: len(bench.data(b)) == 32 << 20)


def test_a_close_brings_what_was_written(bench: Bench, make: Make) -> None:
    a, b, accepted, _ = pair(bench, make)
    accepted.write(b"last words")
    accepted.close("enough")
    accepted.write(b"not any more")
    bench.run(lambda: bench.of(b, Down))
    assert bench.data(b) == b"last words"
    assert not bench.of(a, Down), "who closes is told nothing"
    assert not a._links
    assert not b._links


def test_a_transport_that_goes_takes_its_links_along(bench: Bench, make: Make) -> None:
    a, b, _, _ = pair(bench, make)
    bench.transports.remove(a)
    a.close(time.monotonic())
    bench.run(lambda: bench.of(b, Down))
    assert b.next_timer() is None


def test_nobody_there(bench: Bench, make: Make) -> None:
    a, b = make(ALICE), make(BOB)
    (way,) = b.ways(ALICE.node_id, a.addresses)
    bench.transports.remove(a)
    a.close(time.monotonic())
    try:
        b.dial(way, time.monotonic())
    except FileNotFoundError:  # the name of a local socket goes with it
        return
    bench.run(lambda: bench.of(b, Down))
    (down,) = bench.of(b, Down)
    assert isinstance(down, Down)
    assert "refused" in down.reason


def test_garbage_ends_only_its_own_link(bench: Bench) -> None:
    a = bench.keep(TlsTransport("127.0.0.1:0", ALICE))
    with socket.create_connection(("127.0.0.1", a.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
        stranger.settimeout(0)
        bench.run(lambda: _ended(stranger))
    b = bench.keep(TlsTransport("127.0.0.1:0", BOB))
    bench.join(a, b, a.addresses[0])
    assert not bench.of(a, Down), "nobody has heard of who never came up"


def test_another_protocol_and_an_older_tls_are_refused(bench: Bench) -> None:
    a = bench.keep(TlsTransport("127.0.0.1:0", ALICE))
    for alpn, newest in ((["h2"], ssl.TLSVersion.TLSv1_3), ([ALPN], ssl.TLSVersion.TLSv1_2)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(alpn)
        context.maximum_version = newest
        plain = socket.create_connection(("127.0.0.1", a.port))
        plain.settimeout(0)
        with context.wrap_socket(plain, do_handshake_on_connect=False) as wrapped:
            ended: list[BaseException] = []

            def turn(wrapped: ssl.SSLSocket = wrapped, ended: list[BaseException] = ended) -> bool:
                try:
                    wrapped.do_handshake()
                    if not wrapped.recv(1):
                        ended.append(ConnectionError())
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    return False
                except OSError as error:
                    ended.append(error)
                return bool(ended)

            bench.run(turn)
    assert not bench.of(a, Up)
    assert not a._links


def test_a_handshake_that_never_ends_is_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HALF_OPEN_MOST", 3)
    a = bench.keep(TlsTransport("127.0.0.1:0", ALICE))
    silent = [socket.create_connection(("127.0.0.1", a.port)) for _ in range(5)]
    try:
        bench.run(lambda: len(a._links) == 3)
        turned_away = 0
        for stranger in silent:
            stranger.settimeout(0.2)
            try:
                turned_away += stranger.recv(1) == b""
            except TimeoutError:
                continue
        assert turned_away == 2
        timer = a.next_timer()
        assert timer is not None
        assert a.poll(timer + 0.1) == []
        assert not a._links
    finally:
        for stranger in silent:
            stranger.close()


def test_a_port_is_kept_if_it_is_free() -> None:
    first = TlsTransport("127.0.0.1:0", ALICE)
    second = TlsTransport("127.0.0.1:0", BOB, last_port=first.port)
    assert second.port != first.port
    with pytest.raises(OSError, match="in use"):
        TlsTransport(f"127.0.0.1:{first.port}", BOB)
    first.close(0)
    third = TlsTransport("127.0.0.1:0", ALICE, last_port=first.port)
    assert third.port == first.port
    third.close(0)
    second.close(0)


# -- local sockets


def test_the_directory_is_the_users_alone(short_path: Path) -> None:
    home = short_path / "host"
    transport = LocalTransport(ALICE.node_id, str(home))
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    transport.close(0)
    assert list(home.iterdir()) == []
    home.chmod(0o755)
    with pytest.raises(PermissionError, match="this user alone"):
        LocalTransport(ALICE.node_id, str(home))
    link = short_path / "link"
    home.chmod(0o700)
    link.symlink_to(home)
    with pytest.raises(PermissionError, match="this user alone"):
        LocalTransport(ALICE.node_id, str(link))


def test_the_socket_of_a_dead_node_is_replaced_and_that_of_a_live_one_kept(
    short_path: Path,
) -> None:
    home = short_path / "host"
    home.mkdir(0o700)
    name = home / node_text(ALICE.node_id)[: local.NAME_LENGTH]
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(name))
    first = LocalTransport(ALICE.node_id, str(home))
    with pytest.raises(OSError, match="runs already"):
        LocalTransport(ALICE.node_id, str(home))
    assert [path.name for path in home.iterdir()] == [name.name]
    name.unlink()
    second = LocalTransport(ALICE.node_id, str(home))
    first.close(0)
    assert name.exists(), "the name is the second's now"
    second.close(0)
    assert not name.exists()


def test_another_user_is_turned_away(
    bench: Bench, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = bench.keep(LocalTransport(ALICE.node_id, str(short_path / "host")))
    b = bench.keep(LocalTransport(BOB.node_id, str(short_path / "host")))
    (way,) = b.ways(ALICE.node_id, ())
    monkeypatch.setattr(local.os, "geteuid", lambda: 12345)
    with pytest.raises(PermissionError, match="another user"):
        b.dial(way, 0)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(next((short_path / "host").glob(node_text(ALICE.node_id)[:20] + "*"))))
        stranger.settimeout(0)
        bench.run(lambda: _ended(stranger))
    assert not bench.of(a, Up)


def _ended(stranger: socket.socket) -> bool:
    try:
        while stranger.recv(100):
            continue
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


# -- lanes


def test_the_local_socket_comes_first_then_quic_then_tcp(bench: Bench, short_path: Path) -> None:
    def lanes(identity: Identity) -> Lanes:
        return bench.keep(
            Lanes(
                {
                    LOCAL: LocalTransport(identity.node_id, str(short_path / "host")),
                    "": QuicTransport("127.0.0.1:0", identity),
                    TCP: TlsTransport("127.0.0.1:0", identity),
                }
            )
        )

    a, b = lanes(ALICE), lanes(BOB)
    tcp, quic = sorted(a.addresses, key=lambda address: not address.startswith(TCP))
    ways = b.ways(ALICE.node_id, [tcp, "tcp:nowhere:1", quic])
    assert ways == [LOCAL + node_text(ALICE.node_id), quic, tcp, "tcp:nowhere:1"]
    for way in ways[:3]:
        dialed = b.dial(way, time.monotonic())
        bench.run(lambda link=dialed: any(up.link is link for up in bench.of(b, Up)))
        assert dialed.peer_id == ALICE.node_id
        dialed.write(b"x")
    bench.run(lambda: len(bench.of(a, Up)) == 3)
    assert {event.link.address[:4] for event in bench.of(a, Up)} == {"127.", "unix", "tcp:"}
    only = bench.keep(Lanes({LOCAL: LocalTransport(b"c" * 32, str(short_path / "host"))}))
    with pytest.raises(OSError, match="no transport"):
        only.dial(quic, 0)


def test_addresses_keep_their_scheme_when_names_are_looked_up() -> None:
    assert look_up("tcp:127.0.0.1:7", numeric=True) == ("tcp:127.0.0.1:7",)
    assert look_up("tcp:[::1]:7", numeric=True) == ("tcp:[::1]:7",)
    assert "tcp:127.0.0.1:7" in look_up("tcp:localhost:7")
    assert look_up("unix:abc") == ("unix:abc",)
    with pytest.raises(InvalidInput):
        look_up("tcp:nothing")
    with pytest.raises(InvalidInput, match="adaptive, local, quic, tcp"):
        check_transport("carrier pigeon")
