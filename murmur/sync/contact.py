"""Whom a node knows, and the links it has with them: the state of a mesh, as data.

contact         a peer that this node knows, connected or not
conversation    one link and the machine on it; a stranger's has no contact yet
wait            somebody blocks until peers hold a vector
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from murmur.sync.backoff import Backoff
from murmur.sync.bandwidth import Meter, TokenBucket, room_of
from murmur.sync.exchange import Exchange
from murmur.sync.lag import Marks
from murmur.sync.messages import Vector
from murmur.sync.peer import PeerSession
from murmur.sync.quarantine import Quarantine
from murmur.sync.roster import Member
from murmur.sync.status import PeerInfo, PeerStatus
from murmur.sync.ticket import node_text
from murmur.sync.transport import Link, transport_of

Answer = Callable[[PeerInfo | None, BaseException | None], None]


@dataclass(slots=True, eq=False)
class Conversation:
    """One link, the machine on it, and what flows once it is open."""

    link: Link
    session: PeerSession
    started_ms: int
    contact: Contact | None
    up: bool = False
    exchange: Exchange | None = None
    skew_ms: int = 0
    moved_ms: int | None = None  # since when another link has its place, and it only drains
    bytes_in: int = 0
    bytes_out: int = 0
    buckets: Sequence[TokenBucket] = ()  # that limit what is sent
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = Meter(self.started_ms)

    def flush(self, now_ms: int | None = None) -> None:
        """Hand the link what the session has to say, as far as it has room; without time, all."""
        room = self.link.room
        if self.buckets and now_ms is not None:
            room = min(room, room_of(self.buckets, now_ms) or 0)
        output = self.session.take_output(room)
        if output:
            self.bytes_out += len(output)
            for bucket in self.buckets:
                bucket.take(len(output))
            self.link.write(output)

    def due_ms(self, now_ms: int) -> int | None:
        """When flush() has something to hand on; None while only the link is waited for."""
        if not (self.up and self.link.room > 0 and self.session.waits):
            return None
        return now_ms + max((bucket.wait_ms(now_ms) for bucket in self.buckets), default=0)


@dataclass(slots=True, eq=False)
class Contact:
    """A peer that this node knows."""

    member: Member
    backoff: Backoff
    open: Conversation | None = None
    dialing: list[Conversation] = field(default_factory=list)  # at several addresses at once
    next_dial_ms: int | None = None
    ways: list[str] = field(default_factory=list)  # addresses left to try before the next pause
    remembered: bool = False  # in the roster; else only tried, for a ticket
    wanted: bool = False  # found, and to be dialed until it lets this node in
    forgotten: bool = False  # nobody wants it any more: the mesh has let go of it
    met: bool = False  # connected since this node started, and not gone with a goodbye
    durable: dict[bytes, int] = field(default_factory=dict)  # what it acknowledged
    last_error: str = ""
    quarantine: Quarantine = field(default_factory=Quarantine)
    buckets: Sequence[TokenBucket] = ()  # of all conversations with it, and of the node's
    lost: tuple[int, str] | None = None  # when and why the link died that is being replaced
    scout_ms: int | None = None  # when to look for a better way
    tried: dict[str, tuple[int, int]] = field(default_factory=dict)  # way: again when, after what
    answers: list[Answer] = field(default_factory=list)  # of who waits to be connected

    @property
    def name(self) -> str:
        """The node id, for people."""
        return node_text(self.member.node_id)

    def hold(self, vector: Vector) -> None:
        """The peer says that it durably holds this."""
        for replica, seq in vector.items():
            if seq > self.durable.get(replica, 0):
                self.durable[replica] = seq

    def holds(self, vector: Vector) -> bool:
        """Whether it does."""
        return all(self.durable.get(replica, 0) >= seq for replica, seq in vector.items())

    def reply(self, info: PeerInfo | None, error: BaseException | None) -> None:
        """Answer everybody who waits to be connected."""
        answers, self.answers = self.answers, []
        for answer in answers:
            answer(info, error)

    def info(self) -> PeerInfo:
        """Who is connected."""
        assert self.open is not None
        return PeerInfo(self.name, (self.member.replica or b"").hex(), self.open.link.address)

    def status(self, durable: Vector, marks: Marks, now_ms: int) -> PeerStatus:
        """All that is known of it, compared with what is durable here, and was."""
        conversation, sentence = self.open, self.quarantine.sentence
        exchange = conversation.exchange if conversation else None
        if conversation is not None:
            state, address = "connected", conversation.link.address
        else:
            state = "connecting" if self.dialing else "waiting"
            if sentence is not None:
                state = "quarantined"
            address = self.member.addresses[0] if self.member.addresses else ""
        counters = (conversation.bytes_in, conversation.bytes_out) if conversation else (0, 0)
        rates = conversation.meter.rates(now_ms, *counters) if conversation else (0, 0)
        return PeerStatus(
            node_id=self.name,
            replica_id=(self.member.replica or b"").hex(),
            address=address,
            transport=transport_of(address) if conversation else None,
            state=state,
            dialed=conversation.link.dialed if conversation else None,
            rtt_ms=conversation.session.rtt_ms if conversation else None,
            loss=conversation.link.loss if conversation else None,
            skew_ms=conversation.skew_ms if conversation else None,
            backlog=sum(max(0, seq - self.durable.get(r, 0)) for r, seq in durable.items()),
            lag_ms=marks.lag_ms(self.holds, now_ms),
            records_in=exchange.applied_records if exchange else 0,
            records_out=exchange.sent_records if exchange else 0,
            bytes_in=counters[0],
            bytes_out=counters[1],
            rate_in=rates[0],
            rate_out=rates[1],
            attempts=self.backoff.attempts,
            last_error=(self.last_error if sentence is None else sentence.reason) or None,
            quarantined_ms=None if sentence is None else sentence.since_ms,
            quarantined_until_ms=None if sentence is None else sentence.until_ms,
        )


@dataclass(slots=True, eq=False)
class Wait:
    """Somebody blocks until peers hold the vector: these, or so many; else all that were met."""

    vector: Vector
    peers: frozenset[bytes] | None
    done: Callable[[], None]
    count: int | None = None

    def contacts(self, contacts: Mapping[bytes, Contact]) -> list[Contact]:
        """For whom it waits."""
        if self.count is not None:
            return list(contacts.values())
        if self.peers is None:
            return [contact for contact in contacts.values() if contact.met]
        return [contacts[node_id] for node_id in self.peers if node_id in contacts]

    def over(self, contacts: Mapping[bytes, Contact]) -> bool:
        """Whether they hold it. While nobody was met, the wait is for the first who comes."""
        mine = self.contacts(contacts)
        if self.count is not None:
            return sum(contact.holds(self.vector) for contact in mine) >= self.count
        return bool(mine) and all(contact.holds(self.vector) for contact in mine)
