"""The transport over real loopback sockets, driven by hand: no thread, but the system's clock."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator
from random import Random

import pytest
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode

from murmur.errors import InvalidInput
from murmur.sync import quic, quic_core

if quic_core.has_fast_core():
    from murmur.sync import quic_qh3
from murmur.sync.datagrams import Datagrams
from murmur.sync.identity import Identity
from murmur.sync.quic import QuicLink, QuicTransport
from murmur.sync.quic_core import VERSION_1, VERSION_2, check_fast, has_fast_core
from murmur.sync.transport import FAST, Data, Down, Link, Up, join_address
from tests.sync.bench import Bench as Transports
from tests.sync.stranger import Stranger, send_raw

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)


class Bench(Transports[QuicTransport]):
    def __init__(self, scheme: str = "") -> None:
        super().__init__()
        self.scheme = scheme

    def add(self, identity: Identity, listen: str = "127.0.0.1:0", port: int = 0) -> QuicTransport:
        fast = self.scheme == FAST
        return self.keep(QuicTransport(listen, identity, last_port=port, fast=fast))

    def stranger(self, transport: QuicTransport, alpn: str = quic_core.ALPN) -> Stranger:
        """Somebody who dials the core that is tested."""
        fast = self.scheme == FAST
        return Stranger(transport.port, alpn, VERSION_2 if fast else VERSION_1)

    def at(self, transport: QuicTransport) -> str:
        """Where it is dialed."""
        return self.scheme + transport.addresses[0]

    def pair(self) -> tuple[QuicTransport, QuicTransport, Link, Link]:
        a, b = self.add(ALICE), self.add(BOB)
        return self.join(a, b, self.at(a))


def test_what_packets_trip_over_is_written_only_where_logging_is_configured() -> None:
    logger = logging.getLogger("quic")  # aioquic's; without a handler Python writes its warnings
    assert [each for each in logger.handlers if isinstance(each, logging.NullHandler)]


needs_qh3 = pytest.mark.skipif(not has_fast_core(), reason="qh3 is not installed")
only_qh3 = pytest.mark.parametrize(
    "bench", [pytest.param(FAST, marks=needs_qh3)], indirect=True, ids=["qh3"]
)
only_aioquic = pytest.mark.parametrize("bench", [""], indirect=True, ids=["aioquic"])


@pytest.fixture(params=["", pytest.param(FAST, marks=needs_qh3)], ids=["aioquic", "qh3"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.param)
    yield bench
    bench.close()


def test_the_dialer_knows_whom_it_reached(bench: Bench) -> None:
    _, _, accepted, dialed = bench.pair()
    assert dialed.peer_id == ALICE.node_id
    assert dialed.dialed
    assert accepted.peer_id is None
    assert not accepted.dialed


def test_one_socket_dials_and_accepts(bench: Bench) -> None:
    a, b, accepted, _ = bench.pair()
    assert accepted.address == bench.at(b)
    c = bench.add(Identity(b"c" * 32))
    b.dial(bench.at(c), time.monotonic())
    bench.run(lambda: len(bench.of(b, Up)) == 2)
    assert a.addresses


def test_bytes_arrive_whole_and_in_order_both_ways(bench: Bench) -> None:
    a, b, accepted, dialed = bench.pair()
    there = bytes(range(256)) * 8000  # 2 MB
    accepted.write(b"first")
    bench.run(lambda: bench.data(b) == b"first")
    for start in range(0, len(there), 65536):
        dialed.write(there[start : start + 65536])
    accepted.write(there[::-1])
    bench.run(lambda: len(bench.data(a)) == len(there) and len(bench.data(b)) == len(there) + 5)
    assert bench.data(a) == there
    assert bench.data(b) == b"first" + there[::-1]


def test_small_datagrams_carry_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_core, "LOOPBACK_DATAGRAM_BYTES", quic_core.DATAGRAM_BYTES)
    a, b, accepted, dialed = bench.pair()
    accepted.write(b"x")
    bench.run(lambda: bench.data(b))
    dialed.write(bytes(300_000))
    bench.run(lambda: len(bench.data(a)) == 300_000)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback as if a network lay between."""
    monkeypatch.setattr(quic_core, "LOOPBACK_DATAGRAM_BYTES", quic_core.DATAGRAM_BYTES)


@only_aioquic
@pytest.mark.usefixtures("far")
@pytest.mark.parametrize(("carries", "settles"), [(1500, 1452), (1300, 1200)])
def test_datagrams_are_as_large_as_the_path_carries(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, carries: int, settles: int
) -> None:
    send = QuicTransport._send
    sizes: list[int] = []

    def narrow(self: QuicTransport, link: QuicLink | None, datagram: bytes, to: object) -> None:
        sizes.append(len(datagram))
        if len(datagram) <= carries:
            send(self, link, datagram, to)

    monkeypatch.setattr(QuicTransport, "_send", narrow)
    a, b, accepted, dialed = bench.pair()
    accepted.write(b"x")
    bench.run(lambda: bench.data(b))
    sent = bytes(range(251)) * 4000
    dialed.write(sent)
    bench.run(lambda: len(bench.data(a)) == len(sent), 30)
    assert bench.data(a) == sent
    assert max(sizes) == 1452
    assert dialed.connection._max_datagram_size == settles  # type: ignore[attr-defined]


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("segments", [True, False])
def test_many_datagrams_go_out_in_one_call_where_the_system_takes_them(
    bench: Bench, segments: bool
) -> None:
    a, b, accepted, dialed = bench.pair()
    b._datagrams.segments &= segments
    accepted.write(b"x")
    bench.run(lambda: bench.data(b))
    sent = bytes(range(251)) * 8000
    count = 0
    put = b._datagrams.put

    def counting(owner: object, data: bytes, address: object) -> None:
        nonlocal count
        count += 1
        put(owner, data, address)

    b._datagrams.put = counting  # type: ignore[method-assign]
    b._datagrams.calls_out = 0
    dialed.write(sent)
    bench.run(lambda: len(bench.data(a)) == len(sent), 30)
    assert bench.data(a) == sent
    if b._datagrams.segments:
        assert b._datagrams.calls_out < count / 2
    else:
        assert b._datagrams.calls_out >= count


def test_where_the_device_refuses_segments_each_datagram_goes_alone() -> None:
    calls: list[object] = []

    class Refusing:
        def setsockopt(self, *_: object) -> None: ...

        def getsockopt(self, *_: object) -> int:
            return 0

        def sendmsg(self, *_: object) -> None:
            raise OSError(errno.EIO, "no checksum offload")

        def sendto(self, data: bytes, address: object) -> None:
            if address == "far":
                raise OSError(errno.ENETUNREACH, "unreachable")
            if len(calls) == 4:
                calls.append(None)
                raise BlockingIOError
            calls.append((data, address))

    datagrams = Datagrams(Refusing())  # type: ignore[arg-type]
    datagrams.segments = True
    sent: list[tuple[bytes, object]] = [(b"aa", "x"), (b"bb", "x"), (b"c", "x"), (b"dd", "y")]
    sent += [(b"ee", "far"), (b"ff", "x")]
    for data, address in sent:
        datagrams.put("link", data, address)
    ((owner, error),) = datagrams.send()
    assert (owner, error.errno) == ("link", errno.ENETUNREACH)
    assert len(datagrams) == 1, "the system takes no more for now"
    assert datagrams.send() == []
    assert [call for call in calls if call] == [each for each in sent if each[1] != "far"]
    assert not datagrams.segments


def test_one_address_has_only_so_many_connections(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic, "PER_HOST_MOST", 2)
    a, b = bench.add(ALICE), bench.add(BOB)
    for _ in range(3):
        b.dial(bench.at(a), time.monotonic())
    bench.run(lambda: len(bench.of(b, Up)) == 2)
    bench.run(lambda: True)
    assert len(a._links) == 2


def test_loss_is_repaired(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, accepted, dialed = bench.pair()
    accepted.write(b"x")
    bench.run(lambda: bench.data(b))
    count = 0
    send = QuicTransport._send

    def lossy(self: QuicTransport, link: QuicLink | None, datagram: bytes, address: object) -> None:
        nonlocal count
        count += 1
        if count % 7:
            send(self, link, datagram, address)

    monkeypatch.setattr(QuicTransport, "_send", lossy)
    sent = bytes(range(251)) * 2000
    dialed.write(sent)
    bench.run(lambda: len(bench.data(a)) == len(sent), 30)
    assert bench.data(a) == sent


def test_a_close_brings_what_was_written_and_the_reason(bench: Bench) -> None:
    a, b, accepted, _ = bench.pair()
    accepted.write(b"last words")
    accepted.close("enough")
    bench.run(lambda: bench.of(b, Down))
    assert bench.data(b) == b"last words"
    (down,) = bench.of(b, Down)
    assert isinstance(down, Down)
    assert down.reason == "enough"
    bench.run(lambda: not a._links and not b._links)
    assert not a._routes
    assert not b._routes
    assert not bench.of(a, Down), "who closes is told nothing more"


def test_the_port_of_last_time_is_taken_if_it_is_free(bench: Bench) -> None:
    first = QuicTransport("127.0.0.1:0", ALICE)
    port = first.port
    first.close(time.monotonic())
    again = bench.add(ALICE, port=port)
    assert again.port == port
    assert bench.add(BOB, port=port).port != port


def test_a_port_that_is_taken_is_an_error(bench: Bench) -> None:
    a = bench.add(ALICE)
    with pytest.raises(OSError, match="in use"):
        QuicTransport(a.addresses[0], BOB)


@pytest.mark.parametrize("listen", ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"])
def test_where_to_listen_must_be_an_address(listen: str) -> None:
    with pytest.raises(InvalidInput, match="is not host:port"):
        QuicTransport(listen, ALICE)


def test_a_wildcard_is_advertised_as_addresses(bench: Bench) -> None:
    a = bench.add(ALICE, "0.0.0.0:0")
    assert f"127.0.0.1:{a.port}" in a.addresses
    assert not any(address.startswith("0.0.0.0") for address in a.addresses)


def test_ipv6(bench: Bench) -> None:
    try:
        a = bench.add(ALICE, "[::1]:0")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    b = bench.add(BOB, "[::1]:0")
    assert a.addresses[0].startswith("[::1]:")
    b.dial(bench.at(a), time.monotonic())
    bench.run(lambda: bench.of(a, Up) and bench.of(b, Up))
    with pytest.raises(OSError, match="listens on IPv6"):
        b.dial("127.0.0.1:9", time.monotonic())


def test_a_loopback_listener_says_why_it_reaches_nobody(bench: Bench) -> None:
    a = bench.add(ALICE)
    a.dial("192.0.2.1:9", time.monotonic())
    bench.run(lambda: bench.of(a, Down))
    (down,) = bench.of(a, Down)
    assert isinstance(down, Down)
    assert "only reaches this host" in down.reason


def test_noise_is_ignored(bench: Bench) -> None:
    a, b, accepted, dialed = bench.pair()
    noise = [b"", b"x", bytes(1200), b"\xff" * 1500, b"\xc0" + bytes(1300), b"\x40" * 30]
    with send_raw(a.port, *noise) as stranger:
        accepted.write(b"still here")
        bench.run(lambda: bench.data(b) == b"still here")
        assert len(a._links) == 1
        assert dialed.peer_id
        assert stranger


def test_an_unknown_version_is_negotiated(bench: Bench) -> None:
    a = bench.add(ALICE)
    hello = bytes([0xC0]) + b"\x0a\x0b\x0c\x0d" + b"\x08" + b"d" * 8 + b"\x08" + b"s" * 8
    with send_raw(a.port, hello + bytes(1300)) as stranger:
        answers: list[bytes] = []

        def answered() -> bool:
            try:
                answers.append(stranger.recv(2000))
            except BlockingIOError:
                return False
            return True

        bench.run(answered)
        assert answers[0][1:5] == bytes(4), "a version negotiation packet"
        assert not a._links


def test_damaged_datagrams_are_no_harm(bench: Bench) -> None:
    a, b, accepted, _ = bench.pair()
    random = Random(7)
    for _ in range(40):
        stranger = bench.stranger(a)
        for datagram, address in stranger.quic.datagrams_to_send(time.monotonic()):
            for _ in range(10):
                damaged = bytearray(datagram)
                for _ in range(random.randint(1, 4)):
                    damaged[random.randrange(60)] = random.randrange(256)
                stranger.socket.sendto(damaged, address)
        stranger.socket.close()
        bench.events[a] += a.poll(time.monotonic())
        a.flush(time.monotonic())
    assert len(a._links) < quic.HALF_OPEN_MOST
    accepted.write(b"still here")
    bench.run(lambda: bench.data(b) == b"still here")


def test_another_protocol_is_refused(bench: Bench) -> None:
    a = bench.add(ALICE)
    stranger = bench.stranger(a, "h3")
    bench.run(lambda: stranger.saw("ConnectionTerminated"))
    assert not bench.of(a, Up)
    stranger.socket.close()


def test_another_stream_ends_the_link(bench: Bench) -> None:
    a = bench.add(ALICE)
    stranger = bench.stranger(a)
    bench.run(lambda: stranger.saw("HandshakeCompleted") and bench.of(a, Up))
    stranger.quic.send_stream_data(0, b"not this one")
    bench.run(lambda: stranger.saw("ConnectionTerminated") or not a._links)
    assert not bench.data(a)
    stranger.socket.close()


@only_aioquic
def test_who_makes_us_hoard_is_cut_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, accepted, dialed = bench.pair()
    accepted.write(b"x")
    bench.run(lambda: bench.data(b))
    monkeypatch.setattr(quic, "RECEIVE_BYTES", 100_000)
    send, first = QuicTransport._send, True

    def hole(self: QuicTransport, link: QuicLink | None, datagram: bytes, address: object) -> None:
        nonlocal first
        if self is b and len(datagram) > 10_000 and first:
            first = False  # and what is sent again goes the same way
            return
        if not (self is b and len(bench.of(a, Data)) == 0 and 1_000 < len(datagram) < 10_000):
            send(self, link, datagram, address)

    monkeypatch.setattr(QuicTransport, "_send", hole)
    monkeypatch.setattr(type(dialed.connection._loss), "_detect_loss", lambda *_, **__: None)  # type: ignore[attr-defined]
    for _ in range(40):
        dialed.write(bytes(30_000))
    bench.run(lambda: bench.of(a, Down) or bench.data(a))
    (down,) = bench.of(a, Down)
    assert isinstance(down, Down)
    assert down.reason == "the peer broke QUIC's flow control"


def test_many_half_open_handshakes_make_dialers_prove_their_address(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic, "HALF_OPEN_FREE", 0)
    a, b = bench.add(ALICE), bench.add(BOB)
    b.dial(bench.at(a), time.monotonic())
    bench.run(lambda: bench.of(a, Up) and bench.of(b, Up))
    (link,) = a._links
    assert link.connection._retry_source_connection_id is not None


def test_addresses_as_text() -> None:
    assert join_address("::1", 7) == "[::1]:7"
    assert join_address("127.0.0.1", 7) == "127.0.0.1:7"


def test_an_acceptor_without_the_key_of_its_certificate_is_not_believed(bench: Bench) -> None:
    class Impostor(Identity):
        """Shows the certificate of another, whose key it does not have."""

        def certificate(self) -> object:
            return ALICE.certificate()

    a, b = bench.add(Impostor(b"m" * 32)), bench.add(BOB)
    b.dial(bench.at(a), time.monotonic())
    bench.run(lambda: bench.of(b, Down))
    assert not bench.of(b, Up)
    assert not bench.of(a, Up)


@only_qh3
def test_the_fast_core_sends_no_datagram_that_a_path_may_not_carry(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, far: None
) -> None:
    sizes: list[int] = []
    send = QuicTransport._send

    def noting(self: QuicTransport, link: QuicLink | None, datagram: bytes, to: object) -> None:
        sizes.append(len(datagram))
        send(self, link, datagram, to)

    monkeypatch.setattr(QuicTransport, "_send", noting)
    a, b, accepted, dialed = bench.pair()
    accepted.write(b"x")
    bench.run(lambda: bench.data(b))
    dialed.write(bytes(500_000))
    bench.run(lambda: len(bench.data(a)) == 500_000)
    assert max(sizes) == quic_core.DATAGRAM_BYTES


@only_qh3
def test_a_node_without_the_fast_core_says_so_to_who_dials_it(bench: Bench) -> None:
    a = bench.keep(QuicTransport("127.0.0.1:0", ALICE))
    b = bench.add(BOB)
    b.dial(FAST + a.addresses[0], time.monotonic())
    bench.run(lambda: bench.of(b, Down))
    assert not a._links
    assert not bench.of(b, Up)
    with pytest.raises(OSError, match="does without"):
        a.dial(bench.at(b), time.monotonic())
    assert b.ways(ALICE.node_id, ["x:1", "tcp:x:2", "y:3"]) == ["x:1", "y:3"]
    b.fast_peers.add(ALICE.node_id)
    assert b.ways(ALICE.node_id, ["x:1", "tcp:x:2"]) == [FAST + "x:1", "x:1"]


@only_qh3
@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("sender", ["dialer", "acceptor"])
def test_a_path_that_loses_packets_is_left_to_the_other_core(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, sender: str
) -> None:
    monkeypatch.setattr(quic_qh3, "WORTH", 1e12)  # loopback's round trip makes up for the loss
    a, b, accepted, dialed = bench.pair()
    accepted.write(b"x")
    bench.run(lambda: bench.data(b))
    count, send = 0, QuicTransport._send

    def lossy(self: QuicTransport, link: QuicLink | None, datagram: bytes, to: object) -> None:
        nonlocal count
        count += 1
        if count % 50:
            send(self, link, datagram, to)

    monkeypatch.setattr(QuicTransport, "_send", lossy)
    link = dialed if sender == "dialer" else accepted

    def given_up() -> object:
        if link.room > 0:
            link.write(bytes(100_000))
        return bench.of(a, Down) and bench.of(b, Down)

    bench.run(given_up)
    for transport, other in ((a, b), (b, a)):
        (down,) = bench.of(transport, Down)
        assert isinstance(down, Down)
        assert "the other QUIC core takes over" in down.reason
        with pytest.raises(OSError, match="loses packets"):
            transport.dial(bench.at(other), time.monotonic())
    loss = link.loss
    assert loss is not None
    assert 0.005 < loss < 0.1
    monkeypatch.setattr(QuicTransport, "_send", send)
    b.dial(a.addresses[0], time.monotonic())
    bench.run(lambda: len(bench.of(b, Up)) == 2)


@only_qh3
def test_who_sends_beyond_the_window_is_cut_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic_qh3, "RECEIVE_BYTES", 100_000)
    a = bench.add(ALICE)
    stranger = bench.stranger(a)
    bench.run(lambda: stranger.saw("HandshakeCompleted") and bench.of(a, Up))
    bench.link(a).write(b"x")
    bench.run(lambda: stranger.saw("StreamDataReceived"))
    connection = stranger.quic
    connection._remote_max_data = connection._streams[1].max_stream_data_remote = 1 << 40
    connection._streams[1].sender._buffer_start = connection._streams[1].sender._buffer_stop = (
        99_000
    )
    connection.send_stream_data(1, bytes(10_000))
    bench.run(lambda: stranger.saw("ConnectionTerminated"))
    (ended,) = (e for e in stranger.events if isinstance(e, ConnectionTerminated))
    assert ended.error_code == QuicErrorCode.FLOW_CONTROL_ERROR
    assert not bench.data(a)
    stranger.socket.close()


def test_the_fast_core_must_be_there_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quic_core, "has_fast_core", lambda: False)
    assert check_fast(None) is check_fast(fast=False) is False
    with pytest.raises(InvalidInput, match=r"pip install 'murmurdb\[fast\]'"):
        check_fast(fast=True)
    with pytest.raises(InvalidInput, match="is not True, False or None"):
        check_fast("yes")  # type: ignore[arg-type]
    monkeypatch.setattr(quic_core, "has_fast_core", lambda: True)
    assert check_fast(None) is check_fast(fast=True) is True
    assert check_fast(fast=False) is False


@needs_qh3
def test_a_link_local_host_names_its_interface_as_qh3_takes_it() -> None:
    connection = quic_qh3.Qh3Core(ALICE).connection("fe80::1%eth0", dialed=True)
    connection.connect(("fe80::1%eth0", 7, 0, 2), 0.0)
    ((_, address), *_) = connection.datagrams_to_send(0.0)
    assert tuple(address) == ("fe80::1", 7, 0, 2)
