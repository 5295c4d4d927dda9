"""Relays: members that do not reach each other converge through a third, which learns nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from murmur.errors import PeerError, ProtocolViolation, Unreachable
from murmur.sync import Ticket, circuits, relay, scout
from murmur.sync.circuits import (
    CALL,
    CARRY,
    HANGUP,
    INCOMING,
    ROOM,
    WINDOW_BYTES,
    RelayTransport,
    pack_head,
)
from murmur.sync.endings import Endings
from murmur.sync.identity import Identity
from murmur.sync.messages import RELAY
from murmur.sync.quic import QuicTransport
from murmur.sync.relay import Relay, RelayLimits
from murmur.sync.service import Remote, Urgency
from murmur.sync.ticket import Hint, node_text, parse_node
from murmur.sync.tls import TlsTransport
from murmur.sync.transport import FAST, Data, Down, Up
from tests.patience import PATIENCE_S, eventually
from tests.sync.test_node import Make, Peer, make  # noqa: F401

A, B, C = (Identity(name * 32) for name in (b"a", b"b", b"c"))
Build = Callable[..., Peer]


class Walls:
    """Which nodes cannot dial each other, though everything runs on one host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.apart: set[frozenset[str]] = set()
        self.owner: dict[str, str] = {}  # address -> name of the node that listens there
        for kind in (QuicTransport, TlsTransport):
            monkeypatch.setattr(kind, "dial", self._guarded(kind.dial))

    def _guarded(self, dial: Callable) -> Callable:
        def guarded(transport: object, address: str, now: float) -> object:
            here = self.owner.get(transport.addresses[0])  # type: ignore[attr-defined]
            if frozenset((here, self.owner.get(address.removeprefix(FAST)))) in self.apart:
                raise OSError(113, "No route to host")
            return dial(transport, address, now)

        return guarded

    def between(self, *names: str) -> None:
        self.apart.add(frozenset(names))


@pytest.fixture
def walls(monkeypatch: pytest.MonkeyPatch) -> Walls:
    monkeypatch.setattr(scout, "LOOK_MS", 50)
    monkeypatch.setattr(scout, "PAUSE_MS", 100)
    return Walls(monkeypatch)


@pytest.fixture
def build(make: Make, walls: Walls, short_path: Path) -> Build:  # noqa: F811
    def new(name: str, **options: object) -> Peer:
        directory = str(short_path / name)  # hosts of their own
        peer = make(name, transport="adaptive", local_directory=directory, **options)
        for address in peer.node.addresses:
            walls.owner[address] = name
        return peer

    return new


def bare_ticket(peer: Peer) -> str:
    """A ticket that says nothing of where the node is."""
    ticket = Ticket.parse(peer.node.ticket())
    return str(Ticket(ticket.node_id, ticket.group, (), ticket.invite))


def transport_to(peer: Peer, other: Peer) -> str | None:
    found = {status.node_id: status.transport for status in peer.node.peers()}
    return found.get(other.node.node_id)


def converged(*peers: Peer) -> bool:
    return len({peer.replica.state_hash() for peer in peers}) == 1


def meet_over(relay_peer: Peer, *peers: Peer) -> None:
    for peer in peers:
        peer.node.connect_peer(relay_peer.node.ticket())


def call(caller: Peer, callee: Peer) -> None:
    """As a user who has only a ticket; the relay may not know the callee yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            caller.node.connect_peer(bare_ticket(callee), timeout=2)
            return
        except (Unreachable, PeerError):
            assert time.monotonic() < deadline


def test_two_that_reach_only_a_third_talk_through_it_and_it_learns_nothing(
    build: Build, walls: Walls, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried: list[bytes] = []
    received = Relay.received

    def spy(self: Relay, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        if self._serves and kind == CARRY:
            carried.append(payload)
        received(self, remote, kind, payload, now_ms)

    monkeypatch.setattr(Relay, "received", spy)
    walls.between("a", "b")
    r, a, b = build("r", relay=True), build("a"), build("b")
    meet_over(r, a, b)
    call(a, b)
    eventually(lambda: transport_to(a, b) == transport_to(b, a) == "relay")
    # Without the relay's own replica: what follows takes the circuit or nothing.
    monkeypatch.setattr(type(r.replica), "apply", _refuse(r.replica, type(r.replica).apply))
    secret = b"nobody but the two ends reads this" * 20
    a.put(b"secret", secret)
    b.put(b"large", Random(1).randbytes(1_000_000))
    eventually(lambda: b.has(b"secret") and a.has(b"large"))
    a.node.wait_for([b.node.node_id], timeout=PATIENCE_S)
    assert a.replica.state_hash() == b.replica.state_hash()
    traffic = b"".join(carried)
    assert len(traffic) > 1_000_000
    for plain in (secret[:34], b"team", a.replica.id, b"CERTIFICATE"):
        assert plain not in traffic
    assert transport_to(a, b) == "relay"
    # When a way opens, it is taken; the relay is not needed any more.
    walls.apart.clear()
    eventually(lambda: transport_to(a, b) == transport_to(b, a) == "quic")
    assert "disconnected" not in [notice.kind for notice in a.notices]


def _refuse(own: object, apply: Callable) -> Callable:
    def refusing(self: object, records: list[bytes], *args: object, **how: object) -> object:
        return apply(self, [] if self is own else records, *args, **how)

    return refusing


def test_a_ticket_names_relays_for_who_cannot_reach_its_node(build: Build, walls: Walls) -> None:
    walls.between("a", "b")
    r, a, b = build("r", relay=True), build("a"), build("b")
    r.node.connect_peer(b.node.ticket())  # so that the invite is not known from a ticket
    eventually(lambda: Ticket.parse(b.node.ticket()).relays)
    ticket = Ticket.parse(b.node.ticket())
    assert [node_text(hint.node_id) for hint in ticket.relays] == [r.node.node_id]
    assert set(ticket.relays[0].addresses) <= set(r.node.addresses)
    assert Ticket.parse(b.node.ticket(invite=False)).relays == ()
    b.put(b"k")
    info = a.node.connect_peer(str(ticket), timeout=PATIENCE_S)  # and nothing else
    assert info.node_id == b.node.node_id
    assert transport_to(a, b) == "relay"
    eventually(lambda: transport_to(b, a) == "relay" and a.has(b"k"))
    r.close()
    eventually(lambda: not Ticket.parse(b.node.ticket()).relays)


def test_who_reaches_the_node_of_a_ticket_needs_no_relay(build: Build) -> None:
    r, a, b = build("r", relay=True), build("a"), build("b")
    b.node.connect_peer(r.node.ticket())
    eventually(lambda: Ticket.parse(b.node.ticket()).relays)
    ticket = Ticket.parse(b.node.ticket())
    absent = Hint(b"x" * 32, ("127.0.0.1:1",), bytes(16))
    own = Hint(parse_node(a.node.node_id), ("127.0.0.1:1",), None)
    a.node.connect_peer(str(replace(ticket, relays=(absent, own))), timeout=PATIENCE_S)
    assert transport_to(a, b) == "quic"


def test_a_relay_that_dies_and_comes_back_is_used_again(build: Build, walls: Walls) -> None:
    walls.between("a", "b")
    r, a, b = build("r", relay=True), build("a"), build("b")
    meet_over(r, a, b)
    call(a, b)
    eventually(lambda: transport_to(b, a) == "relay")
    r.close()
    eventually(lambda: not a.node.connected_peers() and not b.node.connected_peers())
    a.put(b"alone")
    again = build("r", relay=True, storage=r.storage)
    meet_over(again, a, b)
    eventually(lambda: transport_to(a, b) == transport_to(b, a) == "relay")
    eventually(lambda: b.has(b"alone") and converged(a, b))


def test_who_is_no_relay_carries_nothing(build: Build, walls: Walls) -> None:
    walls.between("a", "b")
    r, a, b = build("r"), build("a"), build("b")
    meet_over(r, a, b)
    with pytest.raises(Unreachable):
        a.node.connect_peer(bare_ticket(b), timeout=0.5)


def test_a_relay_cannot_pose_as_a_node(
    build: Build, walls: Walls, monkeypatch: pytest.MonkeyPatch
) -> None:
    walls.between("a", "b")
    r, a, b, m = build("r", relay=True), build("a"), build("b"), build("m")
    reasons: list[str] = []
    lost = Endings.lost

    def note(self: Endings, conversation: object, code: int, reason: str, now_ms: int) -> None:
        reasons.append(reason)
        lost(self, conversation, code, reason, now_ms)  # type: ignore[arg-type]

    monkeypatch.setattr(Endings, "lost", note)
    asked = Relay._call
    mallory = parse_node(m.node.node_id)

    def lie(self: Relay, client: object, caller: bytes, circuit: int, callee: bytes) -> None:
        asked(self, client, caller, circuit, mallory)  # type: ignore[arg-type]

    monkeypatch.setattr(Relay, "_call", lie)
    meet_over(r, a, b, m)
    ticket = bare_ticket(b)

    def seen_through() -> bool:
        with pytest.raises(Unreachable):
            a.node.connect_peer(ticket, timeout=1)
        return any("another node answers at relay:" in reason for reason in reasons)

    eventually(seen_through)
    assert transport_to(a, b) is None


# -- the switchboard by hand


class Board:
    """A relay and what it says."""

    def __init__(self, *clients: Identity, **limits: int) -> None:
        self.said: list[tuple[bytes, int, bytes]] = []
        self.relay = Relay(None, serves=True, limits=RelayLimits(**limits))
        self.relay.start(self, 0)  # type: ignore[arg-type]
        self.remotes = {each.node_id: remote(each.node_id) for each in clients}
        for each in self.remotes.values():
            self.relay.opened(each, 0)

    def say(self, node_id: bytes, kind: int, payload: bytes, urgency: Urgency) -> bool:
        self.said.append((node_id, kind, payload))
        return True

    def hear(self, client: Identity, kind: int, circuit: int, body: bytes, now_ms: int = 0) -> None:
        payload = pack_head(circuit, 0) + body
        self.relay.received(self.remotes[client.node_id], kind, payload, now_ms)

    def take(self) -> list[tuple[bytes, int, bytes]]:
        said, self.said = self.said, []
        return said


def remote(node_id: bytes, address: str = "192.0.2.1:7", offers: int = 0) -> Remote:
    return Remote(node_id, b"r" * 8, b"i" * 8, 0, address, None, frozenset(), offers)


def u32(number: int) -> bytes:
    return number.to_bytes(4)


def test_a_call_is_put_through() -> None:
    board = Board(A, B)
    board.hear(A, CALL, 4, B.node_id)
    assert board.take() == [(B.node_id, INCOMING, pack_head(1, 1) + A.node_id)]
    board.hear(A, CARRY, 4, b"hello")
    board.hear(B, CARRY, 1, b"well?")
    assert board.take() == [
        (B.node_id, CARRY, pack_head(1, 1) + b"hello"),
        (A.node_id, CARRY, pack_head(4, 1) + b"well?"),
    ]
    board.hear(B, HANGUP, 1, b"enough")
    board.hear(A, CARRY, 4, b"too late")
    assert board.take() == [(A.node_id, HANGUP, pack_head(4, 1) + b"enough")]
    assert not any(client.ends for client in board.relay._clients.values())


def test_who_is_not_there_is_not_called() -> None:
    board = Board(A, B)
    for callee in (C.node_id, A.node_id):
        board.hear(A, CALL, 0, callee)
        ((to, kind, payload),) = board.take()
        assert (to, kind) == (A.node_id, HANGUP)
        assert b"not connected with that node" in payload
    # Nor who is himself reached over a relay.
    board.relay.opened(remote(C.node_id, f"relay:{node_text(B.node_id)}"), 0)
    board.hear(A, CALL, 0, C.node_id)
    assert board.take()[0][1] == HANGUP


def test_when_one_end_leaves_the_other_is_told() -> None:
    board = Board(A, B)
    board.hear(A, CALL, 0, B.node_id)
    board.take()
    board.relay.closed(board.remotes[A.node_id], 0)
    assert board.take() == [(B.node_id, HANGUP, pack_head(1, 1) + b"the other end is gone")]
    board.hear(B, CARRY, 1, b"still talking")
    assert board.take() == []


def test_a_client_has_so_many_circuits() -> None:
    board = Board(A, B, C, circuits=2)
    for circuit in (0, 2, 4):
        board.hear(A, CALL, circuit, B.node_id)
    assert [kind for _, kind, _ in board.take()] == [INCOMING, INCOMING, HANGUP]
    board.hear(C, CALL, 0, B.node_id)  # B has no place for it
    assert [kind for _, kind, _ in board.take()] == [HANGUP]


def test_more_than_its_room_ends_the_conversation() -> None:
    board = Board(A, B)
    board.hear(A, CALL, 0, B.node_id)
    board.hear(A, CARRY, 0, bytes(WINDOW_BYTES))
    with pytest.raises(ProtocolViolation, match="than there was room for"):
        board.hear(A, CARRY, 0, b"x")
    board = Board(A, B)
    board.hear(A, CALL, 0, B.node_id)
    board.hear(A, CARRY, 0, bytes(100))
    with pytest.raises(ProtocolViolation, match="room for more than was sent"):
        board.hear(B, ROOM, 1, u32(101))


def test_a_rate_holds_room_back() -> None:
    board = Board(A, B, rate=1000, burst=1000)
    board.hear(A, CALL, 0, B.node_id)
    board.hear(A, CARRY, 0, bytes(3000))
    board.take()
    board.hear(B, ROOM, 1, u32(3000))
    assert board.take() == [], "2000 bytes beyond what it had"
    due = board.relay.next_timer_ms(0)
    assert due == 2001
    board.relay.tick(due - 10)
    assert board.take() == []
    board.relay.tick(due)
    assert board.take() == [(A.node_id, ROOM, pack_head(0, 1) + u32(3000))]
    assert board.relay.next_timer_ms(due) is None


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (CARRY, b"\0\0", "without a circuit"),
        (CARRY, b"\0\0\0\0\x02", "without a circuit"),
        (CALL, pack_head(0, 0) + b"short", "makes no sense"),
        (CALL, pack_head(1, 0) + B.node_id, "makes no sense"),
        (INCOMING, pack_head(0, 0) + B.node_id, "from a client"),
        (ROOM, pack_head(2, 0) + b"x", "of no size"),
    ],
)
def test_what_makes_no_sense_is_a_violation(kind: int, payload: bytes, reason: str) -> None:
    board = Board(A, B)
    board.hear(A, CALL, 2, B.node_id)
    with pytest.raises(ProtocolViolation, match=reason):
        board.relay.received(board.remotes[A.node_id], kind, payload, 0)


# -- circuits by hand: two ends, and a relay between them


class Line:
    """A and B, each with its transport, over a relay C that can be made to lie."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ends = {each.node_id: RelayTransport(each) for each in (A, B)}
        self.events: dict[bytes, list] = {A.node_id: [], B.node_id: []}
        self.queue: list[tuple[bytes, bool, int, bytes]] = []
        self.tamper: Callable[[bytes], bytes] = lambda data: data
        self.board = Board(A, B)
        self.board.say = self._from_relay  # type: ignore[method-assign]
        for node_id, end in self.ends.items():
            end.start(lambda to, kind, payload, _, who=node_id: self._to_relay(who, kind, payload))
            end.relay_opened(C.node_id)

    def _to_relay(self, who: bytes, kind: int, payload: bytes) -> bool:
        self.queue.append((who, True, kind, payload))
        return True

    def _from_relay(self, to: bytes, kind: int, payload: bytes, _: Urgency) -> bool:
        self.queue.append((to, False, kind, payload))
        return True

    def run(self, until: Callable[[], object]) -> None:
        for _ in range(2000):
            if until():
                return
            self.now += 0.001
            now_ms = int(self.now * 1000)
            self.board.relay.tick(now_ms)
            queue, self.queue = self.queue, []
            for who, to_relay, kind, payload in queue:
                if to_relay:
                    self.board.relay.received(self.board.remotes[who], kind, payload, now_ms)
                else:
                    body = self.tamper(payload[5:]) if kind == CARRY else payload[5:]
                    circuit = int.from_bytes(payload[:4])
                    self.ends[who].received(C.node_id, kind, circuit, body, now_ms)
            for node_id, end in self.ends.items():
                self.events[node_id] += end.poll(self.now)
                end.flush(self.now)
        raise AssertionError(self.events)

    def of(self, who: Identity, kind: type) -> list:
        return [event for event in self.events[who.node_id] if isinstance(event, kind)]

    def data(self, who: Identity) -> bytes:
        return b"".join(event.data for event in self.of(who, Data))

    def close(self) -> None:
        for end in self.ends.values():
            end.close(self.now)


@pytest.fixture
def line() -> object:
    line = Line()
    yield line
    line.close()


def joined(line: Line) -> tuple:
    a, b = line.ends[A.node_id], line.ends[B.node_id]
    (way,) = a.ways(B.node_id, [])
    dialed = a.dial(way, line.now)
    line.run(lambda: line.of(A, Up) and line.of(B, Up))
    (accepted,) = (event.link for event in line.of(B, Up))
    assert b.addresses == (f"relay:{node_text(C.node_id)}",)
    return dialed, accepted


def test_a_circuit_is_a_link_like_any_other(line: Line) -> None:
    dialed, accepted = joined(line)
    assert dialed.peer_id == B.node_id
    assert dialed.dialed
    assert accepted.peer_id is None
    there = bytes(range(256)) * 12_000
    before = dialed.room
    dialed.write(there)
    assert dialed.room == before - len(there)
    accepted.write(there[::-1])
    line.run(lambda: len(line.data(A)) == len(line.data(B)) == len(there))
    assert line.data(B) == there
    assert line.data(A) == there[::-1]
    assert dialed.room == before
    dialed.write(b"last words")
    dialed.close("enough")
    line.run(lambda: line.of(B, Down))
    assert line.data(B).endswith(b"last words")
    assert line.of(B, Down)[0].reason == "the relay ended the circuit: enough"
    assert not line.of(A, Down)
    assert not any(end._links for end in line.ends.values())


def test_a_relay_that_changes_a_byte_ends_the_link(line: Line) -> None:
    dialed, _ = joined(line)
    line.tamper = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    dialed.write(b"pay alice 10")
    line.run(lambda: line.of(B, Down))
    assert line.data(B) == b""


def test_a_relay_that_goes_takes_its_links_along(line: Line) -> None:
    joined(line)
    for node_id, end in line.ends.items():
        end.relay_closed(C.node_id)
        line.events[node_id] += end.poll(line.now)
        assert end.ways(B.node_id, []) == []
        with pytest.raises(OSError, match="not connected"):
            end.dial(f"relay:{node_text(C.node_id)}/{node_text(B.node_id)}", line.now)
    assert [event.reason for event in line.of(A, Down)] == ["the relay is gone"]


def test_a_call_may_follow_a_hangup_at_once(line: Line) -> None:
    dialed, _ = joined(line)
    a, b = line.ends[A.node_id], line.ends[B.node_id]
    dialed.write(b"last words")
    dialed.close("enough")
    again = a.dial(a.ways(B.node_id, [])[0], line.now)
    a.flush(line.now)
    line.run(lambda: any(up.link is again for up in line.of(A, Up)) and len(line.of(B, Up)) == 2)
    assert line.data(B) == b"last words"
    assert [down.reason for down in line.of(B, Down)] == ["the relay ended the circuit: enough"]
    # No number is used twice: what was said of the first circuit may still be under way.
    assert [link.circuit for link in b._links.values()] == [3]


def test_calls_that_never_speak_are_ended(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuits, "HALF_OPEN_MOST", 3)
    b = line.ends[B.node_id]
    for circuit in (1, 3, 5, 7):
        b.received(C.node_id, INCOMING, circuit, A.node_id, int(line.now * 1000))
    assert len(b._links) == 3
    assert [kind for _, _, kind, _ in line.queue] == [HANGUP]
    timer = b.next_timer()
    assert timer is not None
    assert b.poll(timer + 0.1) == []
    assert not b._links


@pytest.mark.parametrize(
    ("kind", "circuit", "body", "reason"),
    [
        (INCOMING, 2, A.node_id, "makes no sense"),
        (CALL, 0, A.node_id, "from a relay"),
        (ROOM, 0, u32(1), "room for more than was sent"),
    ],
)
def test_a_relay_that_talks_nonsense(
    line: Line, kind: int, circuit: int, body: bytes, reason: str
) -> None:
    a = line.ends[A.node_id]
    a.dial(a.ways(B.node_id, [])[0], line.now)
    with pytest.raises(ProtocolViolation, match=reason):
        a.received(C.node_id, kind, circuit, body, 0)


def test_named_relays_come_first_and_only_few_are_called() -> None:
    end = RelayTransport(A)
    relays = [bytes([n]) * 32 for n in range(6)]
    for each in relays:
        end.relay_opened(each)
    ways = end.ways(relays[0], ["192.0.2.1:7", f"relay:{node_text(relays[5])}", "relay:unknown"])
    target = node_text(relays[0])
    assert ways == [f"relay:{node_text(relays[n])}/{target}" for n in (5, 1, 2)]
    end.close(0)


def test_a_client_only_relay_offers_nothing() -> None:
    assert Relay(None, serves=False).features == 0
    assert Relay(None, serves=True).features == RELAY
    assert relay.FROM_RELAY == 1
