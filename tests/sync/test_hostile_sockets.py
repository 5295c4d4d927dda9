"""Hostile peers over real sockets: refused with a reason, quarantined where they lied, and no harm.

A member's key in the hands of somebody who says what no node would say, over TLS on loopback.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator

import pytest

from murmur.kvcore.clock import SystemClock
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.record import NO_PREVIOUS, PUT, Operation, encode
from murmur.kvcore.replica import Replica
from murmur.sync import Node, Notice, Ticket, Timing, wire
from murmur.sync import messages as m
from murmur.sync.greeting import hello_of
from murmur.sync.identity import Identity
from murmur.sync.peer import Ended, Greeted, Introduced, PeerSession, Role, State
from murmur.sync.tls import context
from murmur.sync.transport import split_address
from tests.patience import PATIENCE_S, eventually
from tests.sync.fakes import FakeOutbox

MALLORY = Identity(b"m" * 32)
AUTHOR = b"mallory-"


class Honest:
    """A node that listens on TCP."""

    def __init__(self) -> None:
        self.storage = MemoryStorage("honest")
        self.replica = Replica.open(self.storage, sync_interval_ms=5)
        self.notices: list[Notice] = []
        self.node = Node(
            self.replica,
            group="team",
            storage=self.storage,
            transport="tcp",
            timing=Timing(handshake_ms=60_000, ping_ms=200, silence_ms=60_000),
            on_event=self.notices.append,
        )
        self.node.start()
        self.replica.put(b"\x01mine", b"v")
        self.ticket = Ticket.parse(self.node.ticket())
        self.before = self.replica.state_hash(), dict(self.replica.vector)

    def unchanged(self) -> bool:
        return (self.replica.state_hash(), dict(self.replica.vector)) == self.before

    def told(self, text: str) -> bool:
        return any(text in notice.text for notice in self.notices)

    def close(self) -> None:
        self.node.close()
        self.replica.close()


class Mallory:
    """A connection to the honest node, with a session of its own to say true things first."""

    def __init__(self, honest: Honest, *, group: str = "team", invite: bool = True) -> None:
        (address,) = [a for a in honest.ticket.addresses if a.startswith("tcp:127.")][:1]
        plain = socket.create_connection(split_address(address.removeprefix("tcp:")), PATIENCE_S)
        self.tls = context(MALLORY, ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain)
        self.tls.settimeout(0.05)
        self.outbox = FakeOutbox("mallory")
        self.sent = bytearray()
        self.ended: Ended | None = None
        self.session = PeerSession(
            Role.DIALER,
            MALLORY,
            group,
            now_ms=now(),
            remote_id=honest.ticket.node_id,
            invite=honest.ticket.invite if invite else None,
        )

    def open(self) -> Mallory:
        assert self.turn(lambda: self.session.state is State.OPEN), self.ended
        return self

    def turn(self, until: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
        """Read and answer as a node does, until that is true or the connection ends."""
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:
            self.say(self.session.take_output())
            data = self.read()
            if data == b"":
                break
            self.handle(self.session.receive(data or b"", now()))
        return until()

    def handle(self, events: list[object]) -> None:
        for event in events:
            match event:
                case Introduced():
                    hello = hello_of(self.outbox, b"incarnat", ())
                    self.handle(self.session.admit(hello, now()))  # type: ignore[arg-type]
                case Greeted():
                    self.handle(self.session.open(now()))  # type: ignore[arg-type]
                case Ended():
                    self.ended = event

    def say(self, data: bytes) -> None:
        self.sent += data
        try:
            self.tls.sendall(data)
        except OSError:
            return  # it was cut off in the middle: that is what is expected of the other side

    def read(self) -> bytes | None:
        """What came; None if nothing, empty at the end."""
        try:
            return self.tls.recv(1 << 16)
        except TimeoutError:
            return None
        except OSError:
            return b""

    def lie(self, kind: int, payload: bytes, flags: int = 0) -> None:
        self.say(self.session.take_output())
        self.say(wire.frame(kind, payload, self.session._output.sequence, flags))
        self.session._output.sequence += 1
        if kind == m.RECORDS:
            self.session._outflow._sent_bytes += len(payload)

    def refused(self) -> str:
        """The reason that the other side gives."""
        self.turn(lambda: self.ended is not None)
        assert self.ended is not None
        assert self.ended.by_peer
        return self.ended.reason

    def close(self) -> None:
        self.tls.close()


def now() -> int:
    return int(time.monotonic() * 1000)


def record(seq: int = 1, key: bytes = b"\x01k") -> bytes:
    stamp = (SystemClock().now_ms() << 16) + seq
    return encode(AUTHOR, seq, stamp, NO_PREVIOUS, {}, {}, [Operation(PUT, key, b"false")])


def records(*data: bytes) -> bytes:
    return m.Records(data).payload()


@pytest.fixture
def honest() -> Iterator[Honest]:
    node = Honest()
    yield node
    node.close()


DEEP = b"\x91" * 5_000 + b"\xc0"


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (m.ACK, DEEP, "nested deeper"),
        (m.ACK, b"\xdd\xff\xff\xff\xff", "cut short"),
        (m.RECORDS, b"\xff\xff\xff\xff", "records do not fit"),
        (m.RECORDS, records(b"\x01" + bytes(40)), "sequence numbers begin at 1"),
        (m.RECORDS, records(b"\x07" + record()[1:]), "version 7 is not 1"),
        (m.RECORDS, records(record()[:-3]), "record byte"),
        (m.PIECE, (1 << 31).to_bytes(4) + b"x", "of a record of 2147483648 bytes"),
        (m.CHALLENGE, wire.pack([bytes(32)]), "Challenge while open"),
        (99, b"", "unknown message type 99"),
        (39, wire.pack([{b"x" * 8: [2, 1]}]), "WANT"),
        (32, wire.pack([1, [], b"", []]), ""),
    ],
    ids=[
        "nested", "cut short", "records", "no record", "version", "operations", "oversized",
        "out of turn", "unknown", "a range", "nobody asked",
    ],
)  # fmt: skip
def test_a_member_who_lies_is_refused_and_stays_out(
    honest: Honest, kind: int, payload: bytes, reason: str
) -> None:
    mallory = Mallory(honest).open()
    mallory.lie(kind, payload)
    if not reason:  # it makes sense, and means nothing here
        assert not mallory.turn(lambda: mallory.ended is not None, 0.5)
        mallory.close()
        return
    assert reason in mallory.refused()
    mallory.close()
    assert honest.unchanged()
    (peer,) = honest.node.peers()
    assert peer.state == "quarantined"
    again = Mallory(honest)
    assert "quarantined" in again.refused()
    again.close()


def test_two_records_with_one_dot_are_kept_apart(honest: Honest) -> None:
    mallory = Mallory(honest).open()
    true, false = record(), record(key=b"\x01other")
    mallory.lie(m.RECORDS, records(true))
    assert mallory.turn(lambda: honest.replica.vector.get(AUTHOR) == 1)
    state = honest.replica.state_hash()
    mallory.lie(m.RECORDS, records(false))
    assert "fork" in mallory.refused()
    assert honest.replica.state_hash() == state
    (letter,) = honest.replica.dead_letters()
    assert (letter.record, letter.peer, letter.seq) == (false, MALLORY.node_id, 1)
    mallory.close()


def test_a_record_that_is_too_large_is_a_letter_without_its_bytes(honest: Honest) -> None:
    mallory = Mallory(honest).open()
    mallory.lie(m.PIECE, (1 << 30).to_bytes(4) + record()[:40])
    assert "of a record of 1073741824 bytes" in mallory.refused()
    eventually(honest.replica.dead_letters)
    (letter,) = honest.replica.dead_letters()
    assert (letter.replica, letter.seq, letter.size, letter.record) == (AUTHOR, 1, 1 << 30, b"")
    assert honest.replica.retry_dead_letters() == 0
    assert honest.unchanged()
    mallory.close()


def test_a_header_that_promises_too_much_is_refused_before_it_comes(honest: Honest) -> None:
    mallory = Mallory(honest).open()
    mallory.say(mallory.session.take_output())
    mallory.say(wire.HEADER.pack(1 << 31, 1, m.RECORDS, 0, mallory.session._output.sequence))
    assert "exceed the limit" in mallory.refused()
    mallory.close()
    assert honest.unchanged()


def test_a_frame_that_never_ends_is_silence(honest: Honest) -> None:
    mallory = Mallory(honest).open()
    whole = wire.frame(m.RECORDS, records(record()), mallory.session._output.sequence)
    mallory.say(mallory.session.take_output() + whole[:-1])
    mallory.turn(lambda: False, 0.3)
    mallory.close()
    assert honest.unchanged()
    eventually(lambda: not honest.node.connected_peers())


def test_a_recorded_conversation_opens_nothing(honest: Honest) -> None:
    first = Mallory(honest).open()
    recorded = bytes(first.sent)
    first.close()
    again = Mallory(honest)
    again.say(recorded)
    reason = again.refused()
    assert "group" in reason or "signature" in reason
    again.close()
    assert honest.unchanged()


def test_whoever_is_in_another_group_is_told_nothing(honest: Honest) -> None:
    mallory = Mallory(honest, group="others")
    assert "another group" in mallory.refused()
    assert mallory.session.hello is None
    mallory.close()


def test_a_signature_by_another_key_is_none(honest: Honest) -> None:
    mallory = Mallory(honest)
    other = Identity(b"o" * 32)
    mallory.session._identity = type(
        "Forger", (), {"node_id": MALLORY.node_id, "sign": lambda _, said: other.sign(said)}
    )()  # type: ignore[assignment]
    assert "not by the node id's key" in mallory.refused()
    mallory.close()
    assert honest.unchanged()


def test_honest_peers_are_served_meanwhile(honest: Honest) -> None:
    liars = [Mallory(honest) for _ in range(5)]
    for liar in liars:
        liar.say(b"GET / HTTP/1.1\r\n\r\n")
    storage = MemoryStorage("friend")
    with Replica.open(storage, sync_interval_ms=5) as replica:
        with Node(replica, group="team", storage=storage, transport="tcp") as node:
            node.connect_peer(honest.node.ticket(), timeout=PATIENCE_S)
            replica.put(b"\x01friend", b"v")
            node.wait_for(timeout=PATIENCE_S)
        assert honest.replica.get(b"\x01friend") is not None
    for liar in liars:
        liar.close()
