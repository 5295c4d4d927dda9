"""One conversation with one peer: bytes in, events and bytes out.

    dialer                          acceptor
                 <- CHALLENGE       nonce
    PROOF ->                        Introduced: the owner calls admit() or refuse()
    Introduced   <- WELCOME         the group is proved in both directions
    HELLO ->     <- HELLO           Greeted: the owner looks for a fork, calls open() or refuse()
    RECORDS, ACK, LINKS, PING ...   in both directions
    BYE ->                          CLOSED

    state    PROVING -> DECIDING -> GREETING -> JUDGING -> OPEN -> CLOSED

No sockets, no clock, no log: the owner moves bytes, says what time it is, reads the log and applies
records. While it decides (DECIDING, JUDGING) what arrives waits unread.

Invariants:
    1. Before the peer is authenticated, nothing but one CHALLENGE or PROOF is parsed.
    2. Records move within the windows of flow.py.
    3. `known` is, per replica, how far the peer holds an unbroken run of transactions, counting
       what was sent in this conversation: a stream does not lose, and a new conversation begins
       with a new HELLO.
    4. A conversation that ended says why, once, and stays silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from murmur.errors import PeerError, ProtocolViolation
from murmur.sync import messages as m
from murmur.sync import wire
from murmur.sync.batches import Batches
from murmur.sync.flow import WINDOW_BYTES, Inflow, Outflow, Oversized
from murmur.sync.identity import (
    Identity,
    equal,
    group_tag,
    invite_proof,
    transcript,
    verify,
)
from murmur.sync.output import Output
from murmur.sync.service import Urgency

VERSIONS = (1, 1)  # of the protocol, oldest and newest that this release speaks
PENDING_BYTES_BEFORE_WELCOME = 4 << 10
QUEUE_BYTES = 256 << 10  # of records that wait for the link; the log holds the rest
MAX_REPLICAS = 1 << 16  # that a peer may name

# Why a conversation ended, on the wire: never renumber, never reuse.
(
    CLOSING, VIOLATION, WRONG_GROUP, NOT_ADMITTED, VERSION, FORK,
    DUPLICATE, TIMED_OUT, STORAGE, LIMIT, BUSY, QUARANTINED, MOVED, INTERNAL, RENEWED,
) = range(15)  # fmt: skip


class Role(Enum):
    """Which side of the link this is."""

    DIALER = b"dialer"
    ACCEPTOR = b"acceptor"


class State(Enum):
    """How far the conversation has come."""

    PROVING = "proving"
    DECIDING = "deciding"
    GREETING = "greeting"
    JUDGING = "judging"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a conversation waits for what."""

    handshake_ms: int = 10_000  # from the link to OPEN
    ping_ms: int = 5_000
    silence_ms: int = 20_000  # nothing heard: the peer is gone
    ack_ms: int = 20  # acknowledgements are gathered for so long


@dataclass(frozen=True, slots=True)
class Introduced:
    """The peer proved its key and that it knows the group: call admit() or refuse()."""

    node_id: bytes
    invited: bool


@dataclass(frozen=True, slots=True)
class Greeted:
    """The peer said where it stands: call open() or refuse()."""

    hello: m.Hello


@dataclass(frozen=True, slots=True)
class Received:
    """Records to apply; call applied(size) when that is done."""

    records: Sequence[bytes]
    size: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The peer holds more than before, or gave room for more."""


@dataclass(frozen=True, slots=True)
class Relinked:
    """The peer converses with other replicas than before."""


@dataclass(frozen=True, slots=True)
class Rewound:
    """The peer lacks what it was sent: `known` went back, read the log again."""


@dataclass(frozen=True, slots=True)
class Said:
    """The peer said something to a service of this node."""

    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The conversation is over."""

    code: int
    reason: str
    by_peer: bool
    oversized: m.Piece | None = None  # the beginning of a record that is not taken in


Event = Introduced | Greeted | Received | Acknowledged | Relinked | Rewound | Said | Ended

_WAITING = (State.DECIDING, State.JUDGING, State.CLOSED)


class PeerSession:
    """The machine of one conversation."""

    def __init__(
        self,
        role: Role,
        identity: Identity,
        group: str,
        *,
        now_ms: int,
        remote_id: bytes | None = None,
        invite: bytes | None = None,
        invites: Sequence[bytes] = (),
        nonce: bytes = b"",
        services: frozenset[int] = frozenset(),
        timing: Timing | None = None,
        batches: Batches | None = None,
        local: bool = False,
    ) -> None:
        """A dialer gives `remote_id`, whom the transport proved, and its invite if it has one; an
        acceptor gives a fresh nonce and the invites that it issued. Messages of the types in
        `services` are not this machine's: it hands them on. `batches` is shared by the
        conversations of a node; over a `local` link nothing is compressed."""
        self.role = role
        self.state = State.PROVING
        self.remote_id = remote_id
        self.hello: m.Hello | None = None
        self.known: dict[bytes, int] = {}
        self.durable: dict[bytes, int] = {}
        self.admitted: dict[bytes, int] = {}
        self.links: frozenset[bytes] = frozenset()
        self.acks = 0  # that came
        self.rtt_ms: int | None = None
        self.opened_ms: int | None = None

        self._identity = identity
        self._group = group
        self._invite = invite
        self._invites = invites
        self._nonce = nonce
        self._services = services
        self._timing = timing or Timing()
        self._transcript = b""

        self._reader = wire.FrameReader()
        self._pong: int | None = None

        self._started_ms = self._heard_ms = now_ms
        self._ping_at = self._acked_ms = now_ms
        self._ack_at: int | None = None

        self._outflow = Outflow(batches)
        self._output = Output(self._outflow)
        self._local = local
        self._features = 0  # that this side said it has
        self._inflow = Inflow()
        self._applied_told = 0
        self._told_links: frozenset[bytes] | None = None
        self._told_durable: dict[bytes, int] = {}
        self._told_admitted: dict[bytes, int] = {}
        self._report: tuple[Mapping[bytes, int], Mapping[bytes, int]] = ({}, {})

        if role is Role.ACCEPTOR:
            assert len(nonce) == m.NONCE_BYTES
            self._send(m.Challenge(nonce))
        else:
            assert remote_id is not None

    # -- bytes and time

    def receive(self, data: bytes, now_ms: int) -> list[Event]:
        """Take bytes of the peer's stream."""
        if self.state is State.CLOSED:
            return []
        self._heard_ms = now_ms
        self._reader.feed(data)
        return self._advance(now_ms)

    def tick(self, now_ms: int) -> list[Event]:
        """Let time pass: timeouts, keep-alive, acknowledgements that were gathered."""
        if self.state is State.CLOSED:
            return []
        timing = self._timing
        if self.state is not State.OPEN:
            if now_ms >= self._started_ms + timing.handshake_ms:
                return [self._end(TIMED_OUT, f"no handshake within {timing.handshake_ms} ms")]
            return []
        if now_ms >= self._heard_ms + timing.silence_ms:
            return [self._end(TIMED_OUT, f"nothing heard for {now_ms - self._heard_ms} ms")]
        if now_ms >= self._ping_at:
            self._ping_at = now_ms + timing.ping_ms
            self._send(m.Ping(now_ms))
        if self._ack_at is not None and now_ms >= self._ack_at:
            self._acknowledge(now_ms)
        return []

    def next_timer_ms(self) -> int | None:
        """When tick() is due."""
        if self.state is State.CLOSED:
            return None
        if self.state is not State.OPEN:
            return self._started_ms + self._timing.handshake_ms
        due = min(self._heard_ms + self._timing.silence_ms, self._ping_at)
        return due if self._ack_at is None else min(due, self._ack_at)

    def take_output(self, room: int | None = None) -> bytes:
        """Bytes for the peer: about so many as the link has room for, or all."""
        if self._pong is not None:
            # One answer to however many pings: a flood of them cannot pile up output.
            token, self._pong = self._pong, None
            self._send(m.Pong(token))
        return b"".join(self._output.take(room))

    @property
    def waits(self) -> bool:
        """Whether there is something to take as soon as the link has room."""
        return self._pong is not None or self._output.waits()

    # -- decisions of the owner

    def admit(self, hello: m.Hello, now_ms: int) -> list[Event]:
        """Let the introduced peer in, and tell it where this side stands."""
        if self.state is not State.DECIDING:
            return []
        if self.role is Role.ACCEPTOR:
            self._send(m.Welcome(group_tag(Role.ACCEPTOR.value, self._group, self._transcript)))
        self.state = State.GREETING
        self._reader.limit = wire.MAX_PAYLOAD
        self._told_durable = dict(hello.vector)
        self._told_admitted = dict(hello.vector)
        self._features = hello.features
        self._send(hello)
        return self._advance(now_ms)

    def open(self, now_ms: int) -> list[Event]:
        """Begin the exchange."""
        if self.state is not State.JUDGING:
            return []
        assert self.hello is not None
        self.state = State.OPEN
        self.opened_ms = self._acked_ms = self._ping_at = now_ms
        for vector in (self.known, self.durable, self.admitted):
            vector.update(self.hello.vector)
        return self._advance(now_ms)

    def refuse(self, code: int, reason: str) -> list[Event]:
        """End the conversation and tell the peer why."""
        return [] if self.state is State.CLOSED else [self._end(code, reason)]

    def lose(self) -> None:
        """The link is gone: there is nobody to say anything to."""
        self.state = State.CLOSED
        self._output.drop()

    # -- the exchange

    @property
    def hungry(self) -> bool:
        """Whether more records can be given to send()."""
        queued = self._outflow.queued_bytes
        return self.state is State.OPEN and queued < QUEUE_BYTES and self.room() > 0

    def room(self) -> int:
        """How many bytes of records the peer takes now."""
        return self._outflow.room() - self._outflow.queued_bytes

    def send(
        self,
        records: Sequence[bytes],
        last: Mapping[bytes, int],
        urgency: Urgency = Urgency.LIVE,
    ) -> list[Event]:
        """Queue records; `last` is the newest seq of each replica among them."""
        if self.state is not State.OPEN:
            return []
        try:
            self._outflow.put(records, urgency)
        except PeerError as error:
            return [self._end(LIMIT, str(error))]
        for replica, seq in last.items():
            if seq > self.known.get(replica, 0):
                self.known[replica] = seq
        return []

    def applied(self, size: int, now_ms: int) -> None:
        """Records of that size were applied: the peer may send as many more."""
        self._inflow.applied(size)
        if self.state is State.OPEN:
            self._give_room(now_ms)

    def report(
        self, durable: Mapping[bytes, int], admitted: Mapping[bytes, int], now_ms: int
    ) -> None:
        """What this replica holds now."""
        self._report = (durable, admitted)
        if self.state is State.OPEN:
            self._acknowledge_soon(now_ms)

    @property
    def in_flight(self) -> bool:
        """Whether records are on their way that the peer has not applied."""
        return self._outflow.in_flight

    @property
    def told(self) -> Mapping[bytes, int]:
        """What the peer was told that this side durably holds."""
        return self._told_durable

    def hear(self, durable: Mapping[bytes, int]) -> None:
        """The peer says by another message that it durably holds this."""
        self._raise((self.durable, self.admitted, self.known), durable)
        self.acks += 1

    def tell_links(self, replicas: frozenset[bytes]) -> None:
        """Whom else this node converses with."""
        if self.state is State.OPEN and replicas != self._told_links:
            self._told_links = replicas
            self._send(m.Links(replicas))

    def say(self, kind: int, payload: bytes, urgency: Urgency = Urgency.CONTROL) -> None:
        """Send a service's message; a peer that does not know its type skips it."""
        if self.state is State.OPEN:
            self._output.put(kind, payload, urgency, wire.IGNORABLE)

    def ask_again(self, admitted: Mapping[bytes, int]) -> None:
        """Ask the peer to go on from here: something it sent cannot be used yet or was lost."""
        if self.state is State.OPEN:
            self._send(m.Resend({replica: seq for replica, seq in admitted.items() if seq}))

    # -- inside

    def _advance(self, now_ms: int) -> list[Event]:
        events: list[Event] = []
        try:
            while self.state not in _WAITING:
                found = self._reader.next()
                if found is None:
                    break
                kind, ignorable, payload = found
                if kind in self._services:
                    self._hand_on(kind, payload, events)
                    continue
                message = m.parse(kind, payload, ignorable=ignorable)
                if message is not None:
                    self._handle(message, len(payload), now_ms, events)
            limit = WINDOW_BYTES + 2 * wire.MAX_PAYLOAD
            if self.state in (State.PROVING, State.DECIDING) and self.role is Role.ACCEPTOR:
                limit = PENDING_BYTES_BEFORE_WELCOME
            if len(self._reader) > limit:
                raise ProtocolViolation(f"{len(self._reader)} bytes before they are allowed")
        except ProtocolViolation as error:
            piece = error.piece if isinstance(error, Oversized) else None
            events.append(replace(self._end(VIOLATION, str(error)), oversized=piece))
        return events

    def _hand_on(self, kind: int, payload: bytes, events: list[Event]) -> None:
        if self.state is not State.OPEN:
            raise ProtocolViolation(f"message type {kind} while {self.state.value}")
        events.append(Said(kind, payload))

    def _handle(self, message: m.Message, size: int, now_ms: int, events: list[Event]) -> None:
        state, dialing = self.state, self.role is Role.DIALER
        match message:
            case m.Records() | m.Piece() if state is State.OPEN:
                records = self._inflow.receive(message, size)
                if records:
                    events.append(Received(records, size))
                else:
                    self._give_room(now_ms)
            case m.Ack() if state is State.OPEN:
                self._receive_ack(message, events)
            case m.Ping() if state is State.OPEN:
                self._pong = message.token
            case m.Pong() if state is State.OPEN:
                if message.token <= now_ms:
                    self.rtt_ms = now_ms - message.token
            case m.Links() if state is State.OPEN:
                self.links = message.replicas
                events.append(Relinked())
            case m.Resend() if state is State.OPEN:
                # What is queued still goes out; what it lacks beyond is read from the log again.
                self.known = dict(message.vector)
                events.append(Rewound())
            case m.Bye():
                self.state = State.CLOSED
                reason = "".join(c if c.isprintable() else "?" for c in message.reason)
                events.append(Ended(message.code, reason, by_peer=True))
            case m.Challenge() if state is State.PROVING and dialing and not self._transcript:
                self._prove(message.nonce)
            case m.Proof() if state is State.PROVING and not dialing:
                events.append(self._check_proof(message))
            case m.Welcome() if state is State.PROVING and dialing and self._transcript:
                tag = group_tag(Role.ACCEPTOR.value, self._group, self._transcript)
                if equal(tag, message.group_tag):
                    assert self.remote_id is not None
                    self.state = State.DECIDING
                    events.append(Introduced(self.remote_id, invited=True))
                else:
                    events.append(self._end(WRONG_GROUP, "the node is in another group"))
            case m.Hello() if state is State.GREETING:
                events.append(self._receive_hello(message))
            case _:
                raise ProtocolViolation(f"{type(message).__name__} while {state.value}")

    # -- inside: authentication

    def _prove(self, nonce: bytes) -> None:
        assert self.remote_id is not None
        own = self._identity.node_id
        self._transcript = transcript(own, self.remote_id, self._group, nonce)
        self._send(
            m.Proof(
                own,
                group_tag(Role.DIALER.value, self._group, self._transcript),
                self._identity.sign(self._transcript),
                invite_proof(self._invite, self._transcript) if self._invite else None,
            )
        )

    def _check_proof(self, proof: m.Proof) -> Event:
        own = self._identity.node_id
        said = transcript(proof.node_id, own, self._group, self._nonce)
        # The group comes first: to a stranger this node shows neither its name nor its members.
        if not equal(proof.group_tag, group_tag(Role.DIALER.value, self._group, said)):
            return self._end(WRONG_GROUP, "the node is in another group")
        if proof.node_id == own:
            return self._end(NOT_ADMITTED, "this is the node itself")
        if not verify(proof.node_id, said, proof.signature):
            raise ProtocolViolation("PROOF: the signature is not by the node id's key")
        self._transcript = said
        self.remote_id = proof.node_id
        offered = proof.invite_proof
        invited = offered is not None and any(
            equal(offered, invite_proof(invite, said)) for invite in self._invites
        )
        self.state = State.DECIDING
        return Introduced(proof.node_id, invited)

    def _receive_hello(self, hello: m.Hello) -> Event:
        version = min(VERSIONS[1], hello.versions[1])
        if version < max(VERSIONS[0], hello.versions[0]):
            ours, theirs = "{}-{}".format(*VERSIONS), "{}-{}".format(*hello.versions)
            return self._end(VERSION, f"protocol versions {theirs} and {ours} have none in common")
        self.hello = hello
        self._outflow.open(hello)
        shared = hello.features & self._features
        if shared & m.PARTS:
            self._reader.accepts |= wire.MORE | wire.CLASS_BITS
            self._output.parts = True
        if shared & m.ZSTD:
            self._reader.accepts |= wire.COMPRESSED
            self._output.compresses = not self._local
        self.state = State.JUDGING
        return Greeted(hello)

    # -- inside: records

    def _receive_ack(self, ack: m.Ack, events: list[Event]) -> None:
        self._outflow.acknowledge(ack.applied_bytes)
        self.acks += 1
        self._raise((self.durable, self.known), ack.durable)
        self._raise((self.admitted, self.known), ack.admitted)
        events.append(Acknowledged())

    def _raise(self, mine: Sequence[dict[bytes, int]], told: Mapping[bytes, int]) -> None:
        for replica, seq in told.items():
            for vector in mine:
                if seq > vector.get(replica, 0):
                    vector[replica] = seq
        if any(len(vector) > MAX_REPLICAS for vector in mine):
            raise ProtocolViolation(f"vector: more than {MAX_REPLICAS} replicas")

    # -- inside: output

    def _give_room(self, now_ms: int) -> None:
        """Bytes were applied: tell the peer at once when it may be waiting for it."""
        if self._inflow.applied_bytes - self._applied_told >= WINDOW_BYTES // 4:
            self._acknowledge(now_ms)
        else:
            self._acknowledge_soon(now_ms)

    def _acknowledge_soon(self, now_ms: int) -> None:
        if self._ack_at is None:
            self._ack_at = max(now_ms, self._acked_ms + self._timing.ack_ms)

    def _acknowledge(self, now_ms: int) -> None:
        self._ack_at = None
        durable, admitted = self._report
        news = _difference(durable, self._told_durable)
        more = _difference(admitted, self._told_admitted)
        applied = self._inflow.applied_bytes
        if news or more or applied != self._applied_told:
            self._told_durable.update(news)
            self._told_admitted.update(more)
            self._applied_told = applied
            self._acked_ms = now_ms
            self._send(m.Ack(applied, news, more))

    def _send(self, message: m.Message) -> None:
        self._output.put(message.TYPE, message.payload(), Urgency.CONTROL)

    def _end(self, code: int, reason: str) -> Ended:
        self._pong = None
        # Who leaves in order says first what it had to say, as far as the peer takes it.
        bye = m.Bye(code, reason)
        self._output.end(bye.TYPE, bye.payload(), drop=code != CLOSING)
        self.state = State.CLOSED
        return Ended(code, reason, by_peer=False)


def _difference(now: Mapping[bytes, int], told: Mapping[bytes, int]) -> dict[bytes, int]:
    return {replica: seq for replica, seq in now.items() if seq > told.get(replica, 0)}
