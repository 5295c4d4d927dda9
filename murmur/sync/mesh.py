"""All conversations of one node: who is dialed, who is admitted, which of two links stays.

    contact    a peer that this node knows: it is dialed whenever there is no conversation with it
    conversation    one link and the machine on it; a stranger's has no contact yet

Like the conversations themselves this is plain code that is told the time and given a transport;
node.py runs it on a thread, tests/simulation on a virtual clock.

Two nodes that dial each other at once end up with two links. Both keep the one that the smaller
node id dialed. Otherwise the newer link wins: a node does not dial whom it believes connected, so
the peer has lost the older one.

Invariants:
    1. At most one conversation per contact is open; `open` ones have an authenticated node id.
    2. At most MAX_STRANGERS links wait for authentication.
    3. A contact without a conversation has a dial under way or a time for the next one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from murmur.errors import (
    Closed,
    Forked,
    InvalidInput,
    MurmurError,
    PeerError,
    Poisoned,
    ProtocolViolation,
)
from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync import wire
from murmur.sync.backoff import Backoff
from murmur.sync.exchange import Exchange, Outcome, Patience
from murmur.sync.identity import Identity
from murmur.sync.outbox import Outbox, tips_of
from murmur.sync.peer import Event, PeerSession, Role, State, Timing
from murmur.sync.roster import Member, Roster
from murmur.sync.status import PeerInfo, PeerStatus
from murmur.sync.ticket import Ticket, node_text
from murmur.sync.transport import Data, Down, Labour, Link, Transport, TransportEvent, Up, look_up

DIAL_MS = 4_000  # one address, until the link is up
TIE_MS = 5_000  # links that came up within this time were dialed at once
STABLE_MS = 10_000  # a conversation that lasted so long lets the next dial come soon
MAX_STRANGERS = 64
PATIENT_ATTEMPTS = 4  # after a refusal or a goodbye, dial as if so many attempts had failed
SKEW_NOTICE_MS = 2_000

PERMANENT = (p.WRONG_GROUP, p.NOT_ADMITTED, p.VERSION, p.FORK, p.VIOLATION)

log = logging.getLogger("murmur.sync")

Answer = Callable[[PeerInfo | None, BaseException | None], None]


@dataclass(slots=True, eq=False)
class Conversation:
    """One link, the machine on it, and what flows once it is open."""

    link: Link
    contact: Contact | None
    started_ms: int
    session: PeerSession | None = None
    exchange: Exchange | None = None
    skew_ms: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def dialed(self) -> bool:
        """Whether this side dialed."""
        return self.link.dialed


@dataclass(slots=True, eq=False)
class Contact:
    """A peer that this node knows."""

    member: Member
    backoff: Backoff
    open: Conversation | None = None
    dialing: Conversation | None = None
    next_dial_ms: int | None = None
    next_address: int = 0
    remembered: bool = False  # in the roster; else only tried once, for a ticket
    durable: dict[bytes, int] = field(default_factory=dict)
    last_error: str = ""
    met: bool = False  # it was connected since this node started
    answers: list[Answer] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Wait:
    """Somebody waits until peers hold a vector."""

    vector: Mapping[bytes, int]
    peers: frozenset[bytes] | None
    done: Callable[[], None]


class Mesh:
    """The conversations of one node. Everything is called by one thread."""

    def __init__(
        self,
        outbox: Outbox,
        identity: Identity,
        roster: Roster,
        transport: Transport,
        labour: Labour,
        *,
        group: str,
        incarnation: bytes,
        random: Random,
        random_bytes: Callable[[int], bytes],
        timing: Timing | None = None,
        patience: Patience | None = None,
        on_notice: Callable[[str, str, str], None] = lambda kind, peer, text: None,
    ) -> None:
        self.failure: BaseException | None = None
        self.contacts: dict[bytes, Contact] = {}
        self._outbox = outbox
        self._identity = identity
        self._roster = roster
        self._transport = transport
        self._labour = labour
        self._group = group
        self._incarnation = incarnation
        self._random = random
        self._random_bytes = random_bytes
        self._timing = timing or Timing()
        self._patience = patience or Patience()
        self._on_notice = on_notice
        self._conversations: dict[Link, Conversation] = {}
        self._applying = False
        self._to_apply: deque[Conversation] = deque()
        self._waits: list[Wait] = []
        self._ended = False

    # -- what the node asks for

    def start(self, now_ms: int) -> None:
        """Dial everybody who is remembered."""
        for member in self._roster.members.values():
            contact = self._contact(member)
            contact.remembered = True
            contact.next_dial_ms = now_ms

    def connect(self, ticket: Ticket, answer: Answer, now_ms: int) -> None:
        """Dial a ticket's node and stay connected; the answer comes with the open conversation."""
        if self._ended:
            answer(None, Closed("the node is closed"))
            return
        if ticket.node_id == self._identity.node_id:
            answer(None, InvalidInput("ticket: it is this node's own"))
            return
        if ticket.group != self._group:
            theirs = f"ticket: it is for group {ticket.group!r}"
            answer(None, PeerError(f"{theirs}, this node is in {self._group!r}"))
            return
        contact = self.contacts.get(ticket.node_id)
        if contact is None:
            contact = self._contact(Member(ticket.node_id, ticket.addresses, ticket.invite))
        else:
            addresses = tuple(dict.fromkeys(ticket.addresses + contact.member.addresses))
            invite = ticket.invite or contact.member.invite
            contact.member = replace(contact.member, addresses=addresses, invite=invite)
        if contact.open is not None:
            answer(_info(contact, contact.open), None)
            return
        contact.answers.append(answer)
        contact.next_address = 0
        if contact.dialing is None:
            self._dial(contact, now_ms)

    def forget_answer(self, node_id: bytes, answer: Answer) -> str:
        """Whoever waited for the answer gave up; what was wrong so far."""
        contact = self.contacts.get(node_id)
        if contact is None:
            return "the node was never reached"
        if answer in contact.answers:
            contact.answers.remove(answer)
        if not contact.remembered and not contact.answers and contact.open is None:
            del self.contacts[node_id]
            if contact.dialing is not None:
                self._remove(contact.dialing, "nobody waits for it any more")
        return contact.last_error or "no answer"

    def wait(self, wait: Wait) -> None:
        """Call `wait.done` once the peers hold the vector."""
        self._waits.append(wait)
        self._check_waits()

    def forget_wait(self, wait: Wait) -> list[str]:
        """Whoever waited gave up; the peers that it waited for."""
        if wait in self._waits:
            self._waits.remove(wait)
        late = [c for c in self._waited_for(wait) if not _covers(c.durable, wait.vector)]
        return [node_text(contact.member.node_id) for contact in late]

    def connected(self) -> list[PeerInfo]:
        """The peers with an open conversation."""
        return [_info(c, c.open) for c in self.contacts.values() if c.open is not None]

    def status(self, now_ms: int) -> list[PeerStatus]:
        """Everything known about every contact."""
        durable = self._outbox.durable_vector
        return [_status(contact, durable, now_ms) for contact in self.contacts.values()]

    def durable_moved(self, now_ms: int) -> None:
        """The replica made more durable: push it, and tell who waits for acknowledgements."""
        durable, admitted = self._outbox.durable_vector, self._outbox.vector
        for conversation in self._open():
            assert conversation.session is not None
            conversation.session.report(durable, admitted, now_ms)
            self._pump(conversation, now_ms)

    def close(self, reason: str, code: int = p.CLOSING) -> None:
        """Say goodbye to everybody."""
        self._ended = True
        for conversation in list(self._conversations.values()):
            if conversation.session is not None:
                conversation.session.refuse(code, reason)
                self._flush_one(conversation)
            conversation.link.close(reason)
        self._conversations.clear()
        closed = Closed(reason)
        for contact in self.contacts.values():
            contact.open = contact.dialing = contact.next_dial_ms = None
            answers, contact.answers = contact.answers, []
            for answer in answers:
                answer(None, closed)

    # -- what the loop feeds

    def handle(self, event: TransportEvent, now_ms: int) -> None:
        """Take one event of the transport."""
        conversation = self._conversations.get(event.link)
        match event:
            case Data(data=data):
                if conversation is not None and conversation.session is not None:
                    conversation.bytes_in += len(data)
                    events = conversation.session.receive(data, now_ms)
                    self._handle(conversation, events, now_ms)
            case Up(link=link):
                self._link_up(link, conversation, now_ms)
            case Down(reason=reason):
                if conversation is not None:
                    self._lost(conversation, p.CLOSING, reason, now_ms)

    def tick(self, now_ms: int) -> None:
        """Let time pass: timeouts, dials that are due."""
        for conversation in list(self._conversations.values()):
            session = conversation.session
            if session is None:
                if now_ms >= conversation.started_ms + DIAL_MS:
                    conversation.link.close("no answer")
                    reason = f"no answer from {conversation.link.address}"
                    self._lost(conversation, p.TIMED_OUT, reason, now_ms)
                continue
            self._handle(conversation, session.tick(now_ms), now_ms)
            if conversation.exchange is not None and session.state is State.OPEN:
                conversation.exchange.tick(now_ms)
        for contact in list(self.contacts.values()):
            if contact.next_dial_ms is not None and now_ms >= contact.next_dial_ms:
                self._dial(contact, now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due: list[int | None] = [c.next_dial_ms for c in self.contacts.values()]
        for conversation in self._conversations.values():
            if conversation.session is None:
                due.append(conversation.started_ms + DIAL_MS)
            else:
                due.append(conversation.session.next_timer_ms())
            if conversation.exchange is not None:
                due.append(conversation.exchange.next_timer_ms(now_ms))
        return min((moment for moment in due if moment is not None), default=None)

    def flush(self) -> None:
        """Hand what the conversations have to say to their links."""
        for conversation in list(self._conversations.values()):
            self._flush_one(conversation)

    # -- dialing

    def _contact(self, member: Member) -> Contact:
        contact = Contact(member, Backoff(self._random))
        self.contacts[member.node_id] = contact
        return contact

    def _dial(self, contact: Contact, now_ms: int) -> None:
        contact.next_dial_ms = None
        if contact.open is not None or contact.dialing is not None or self._ended:
            return
        addresses = contact.member.addresses
        if not addresses:
            self._dial_failed(contact, "no address of it is known", now_ms)
            return
        address = addresses[contact.next_address % len(addresses)]
        contact.next_address += 1
        numeric = look_up(address, numeric=True)
        if numeric is not None:
            self._dial_address(contact, numeric, now_ms)
            return

        def found(resolved: str | None, error: BaseException | None, later_ms: int) -> None:
            if error is not None or resolved is None:
                self._dial_failed(contact, f"{address}: {error or 'unknown name'}", later_ms)
            elif contact.open is None and contact.dialing is None and not self._ended:
                self._dial_address(contact, resolved, later_ms)

        # Invariant 3 holds while the name is looked up, should the answer never come.
        contact.next_dial_ms = now_ms + 2 * DIAL_MS
        self._labour.submit("names", partial(look_up, address), found)

    def _dial_address(self, contact: Contact, address: str, now_ms: int) -> None:
        contact.next_dial_ms = None
        try:
            link = self._transport.dial(address, now_ms / 1000)
        except OSError as error:
            self._dial_failed(contact, f"{address}: {error.strerror or error}", now_ms)
            return
        contact.dialing = Conversation(link, contact, now_ms)
        self._conversations[link] = contact.dialing

    def _dial_failed(self, contact: Contact, reason: str, now_ms: int) -> None:
        contact.last_error = reason
        if self._ended or contact.member.node_id not in self.contacts:
            return
        if contact.next_address % max(1, len(contact.member.addresses)):
            contact.next_dial_ms = now_ms  # the other addresses first
        else:
            contact.next_dial_ms = now_ms + contact.backoff.next_ms()

    # -- from link to conversation

    def _link_up(self, link: Link, conversation: Conversation | None, now_ms: int) -> None:
        if conversation is not None:  # a dial of ours
            contact = conversation.contact
            assert contact is not None
            if link.peer_id != contact.member.node_id:
                link.close("not the node that was dialed")
                reason = f"another node answers at {link.address}"
                self._lost(conversation, p.CLOSING, reason, now_ms)
                return
            conversation.session = PeerSession(
                Role.DIALER,
                self._identity,
                self._group,
                now_ms=now_ms,
                remote_id=link.peer_id,
                invite=contact.member.invite,
                timing=self._timing,
            )
            return
        strangers = sum(c.contact is None for c in self._conversations.values())
        if strangers >= MAX_STRANGERS or self._ended:
            link.close("busy")
            return
        session = PeerSession(
            Role.ACCEPTOR,
            self._identity,
            self._group,
            now_ms=now_ms,
            nonce=self._random_bytes(m.NONCE_BYTES),
            invites=(self._roster.invite,),
            timing=self._timing,
        )
        self._conversations[link] = Conversation(link, None, now_ms, session)

    def _handle(self, conversation: Conversation, events: Iterable[Event], now_ms: int) -> None:
        session, exchange = conversation.session, conversation.exchange
        assert session is not None
        for event in events:
            match event:
                case p.Received():
                    assert conversation.exchange is not None
                    conversation.exchange.receive(event)
                    self._apply_next(conversation)
                case p.Acknowledged():
                    self._acknowledged(conversation, now_ms)
                case p.Relinked():
                    if exchange is not None:
                        exchange.relinked(now_ms)
                case p.Rewound():
                    if exchange is not None:
                        exchange.rewind()
                        exchange.pump(now_ms)
                case p.Introduced():
                    self._introduced(conversation, event, now_ms)
                case p.Greeted(hello=hello):
                    self._greeted(conversation, hello)
                case p.Ended():
                    self._flush_one(conversation)
                    conversation.link.close(event.reason)
                    self._finished(conversation, event, now_ms)

    def _introduced(self, conversation: Conversation, event: p.Introduced, now_ms: int) -> None:
        session = conversation.session
        assert session is not None
        known = event.node_id in self._roster.members
        if not conversation.dialed and not known and not event.invited:
            text = "it has no invite of this node and is no member: give it a new ticket"
            self._on_notice("refused", node_text(event.node_id), text)
            reason = "not admitted: ask for a ticket with an invite"
            self._handle(conversation, session.refuse(p.NOT_ADMITTED, reason), now_ms)
            return

        def admit() -> m.Hello:
            if not conversation.dialed and not known:
                self._roster.admit(Member(event.node_id))
            return self._hello()

        def admitted(hello: m.Hello | None, error: BaseException | None, now_ms: int) -> None:
            if error is not None or hello is None:
                self._storage_error(conversation, error, now_ms)
            else:
                self._handle(conversation, session.admit(hello, now_ms), now_ms)

        self._labour.submit("roster", admit, admitted)

    def _hello(self) -> m.Hello:
        outbox = self._outbox
        return m.Hello(
            versions=p.VERSIONS,
            features=0,
            max_payload=wire.MAX_PAYLOAD,
            max_record=p.MAX_RECORD_BYTES,
            window=p.WINDOW_BYTES,
            replica=outbox.id,
            incarnation=self._incarnation,
            clock_ms=outbox.clock.now_ms(),
            vector={replica: seq for replica, seq in outbox.durable_vector.items() if seq},
            tips=tips_of(outbox),
            addresses=tuple(self._transport.addresses),
        )

    def _greeted(self, conversation: Conversation, hello: m.Hello) -> None:
        session = conversation.session
        assert session is not None
        conversation.skew_ms = hello.clock_ms - self._outbox.clock.now_ms()

        def judged(
            tips: Mapping[bytes, m.Tip] | None, error: BaseException | None, now_ms: int
        ) -> None:
            if error is not None or tips is None:
                self._storage_error(conversation, error, now_ms)
                return
            reason = self._forked(hello, tips)
            if reason:
                self._handle(conversation, session.refuse(p.FORK, reason), now_ms)
            elif session.state is State.JUDGING and self._settle_tie(conversation, now_ms):
                self._opened(conversation, now_ms)

        self._labour.submit("roster", partial(tips_of, self._outbox), judged)

    def _forked(self, hello: m.Hello, mine: Mapping[bytes, m.Tip]) -> str:
        """Why the peer's history and this one's cannot both be true; empty if they can."""
        if hello.replica == self._outbox.id:
            return f"fork: both ends are replica {hello.replica.hex()}"
        for replica, (seq, digest) in hello.tips.items():
            own = mine.get(replica)
            # Of different seqs the longer history's next record names its predecessor's hash.
            if own is not None and own[0] == seq and own[1] != digest:
                return f"fork: two transactions carry the dot {replica.hex()}:{seq}"
        return ""

    def _settle_tie(self, conversation: Conversation, now_ms: int) -> bool:
        """Whether this conversation may open beside, or in place of, an open one."""
        session = conversation.session
        assert session is not None
        assert session.remote_id is not None
        assert session.hello is not None
        contact = conversation.contact or self.contacts.get(session.remote_id)
        old = contact.open if contact is not None else None
        if old is None or old is conversation:
            return True
        assert old.session is not None
        assert old.session.hello is not None
        at_once = (
            old.session.hello.incarnation == session.hello.incarnation
            and old.dialed != conversation.dialed
            and now_ms - (old.session.opened_ms or 0) < TIE_MS
        )
        mine_is_smaller = self._identity.node_id < session.remote_id
        if at_once and conversation.dialed != mine_is_smaller:
            events = session.refuse(p.DUPLICATE, "another link stays")
            self._handle(conversation, events, now_ms)
            return False
        self._handle(old, old.session.refuse(p.DUPLICATE, "a newer link stays"), now_ms)
        return True

    def _opened(self, conversation: Conversation, now_ms: int) -> None:
        session = conversation.session
        assert session is not None
        assert session.remote_id is not None
        assert session.hello is not None
        contact = conversation.contact or self.contacts.get(session.remote_id)
        if contact is None:
            contact = self._contact(Member(session.remote_id))
        hello, link = session.hello, conversation.link
        found = (link.address,) if conversation.dialed else (link.address, *hello.addresses)
        contact.member = replace(
            contact.member,
            addresses=tuple(dict.fromkeys(found + contact.member.addresses))[: m.MAX_ADDRESSES],
            replica=hello.replica,
        )
        conversation.contact = contact
        contact.open, contact.next_dial_ms = conversation, None
        if contact.dialing is conversation:
            contact.dialing = None  # else it goes on, and the tie is settled when it opens too
        contact.met = contact.remembered = True
        contact.next_address = 0
        contact.last_error = ""
        _raise_to(contact.durable, hello.vector)
        conversation.exchange = Exchange(
            self._outbox,
            session,
            self._labour,
            self._patience,
            on_events=partial(self._handle, conversation),
            on_error=partial(self._storage_error, conversation),
        )
        member = contact.member
        self._labour.submit("roster", partial(self._roster.admit, member), self._roster_written)
        text = f"connected with {link.address}"
        self._on_notice("connected", node_text(session.remote_id), text)
        if abs(conversation.skew_ms) >= SKEW_NOTICE_MS:
            text = f"its clock is {conversation.skew_ms / 1000:+.1f} s from this one's"
            self._on_notice("skew", node_text(session.remote_id), text)
        self._handle(conversation, session.open(now_ms), now_ms)
        if session.state is not State.OPEN:
            return
        answers, contact.answers = contact.answers, []
        for answer in answers:
            answer(_info(contact, conversation), None)
        self._tell_links()
        session.report(self._outbox.durable_vector, self._outbox.vector, now_ms)
        self._pump(conversation, now_ms)
        self._check_waits()

    # -- the exchange

    def _open(self) -> list[Conversation]:
        return [
            conversation
            for conversation in self._conversations.values()
            if conversation.exchange is not None
            and conversation.session is not None
            and conversation.session.state is State.OPEN
        ]

    def _tell_links(self) -> None:
        opened = self._open()
        replicas = {c: c.session.hello.replica for c in opened if c.session and c.session.hello}
        for conversation in opened:
            assert conversation.session is not None
            others = frozenset(r for c, r in replicas.items() if c is not conversation)
            conversation.session.tell_links(others)

    def _pump(self, conversation: Conversation, now_ms: int) -> None:
        if conversation.exchange is not None:
            conversation.exchange.pump(now_ms)

    def _acknowledged(self, conversation: Conversation, now_ms: int) -> None:
        session, contact = conversation.session, conversation.contact
        assert session is not None
        assert contact is not None
        _raise_to(contact.durable, session.durable)
        self._pump(conversation, now_ms)
        self._check_waits()

    def _apply_next(self, more: Conversation | None = None) -> None:
        """Give the next slice to the worker: one at a time, the conversations in turn."""
        if more is not None and more not in self._to_apply:
            self._to_apply.append(more)
        while self._to_apply and not self._applying and not self._ended:
            conversation = self._to_apply.popleft()
            exchange = conversation.exchange
            if (
                exchange is None
                or not exchange.inbox
                or conversation.link not in (self._conversations)
            ):
                continue
            self._applying = True
            self._labour.submit("apply", exchange.take(), partial(self._applied, conversation))

    def _applied(
        self,
        conversation: Conversation,
        outcome: Outcome | None,
        error: BaseException | None,
        now_ms: int,
    ) -> None:
        self._applying = False
        exchange, session = conversation.exchange, conversation.session
        assert exchange is not None
        assert session is not None
        if isinstance(error, ProtocolViolation):
            self._handle(conversation, session.refuse(p.VIOLATION, str(error)), now_ms)
        elif error is not None or outcome is None:
            self._storage_error(conversation, error, now_ms)
        else:
            exchange.done(outcome, now_ms)
            self._report_all(now_ms)
        self._apply_next(conversation)

    def _report_all(self, now_ms: int) -> None:
        durable, admitted = self._outbox.durable_vector, self._outbox.vector
        for conversation in self._open():
            assert conversation.session is not None
            conversation.session.report(durable, admitted, now_ms)

    # -- ends

    def _finished(self, conversation: Conversation, event: p.Ended, now_ms: int) -> None:
        contact, session = conversation.contact, conversation.session
        assert session is not None
        if event.by_peer:
            reason = f"the peer ended the conversation: {event.reason}"
        else:
            reason = event.reason
            if event.code in PERMANENT:
                peer = node_text(session.remote_id) if session.remote_id else ""
                text = f"{conversation.link.address}: {reason}"
                self._on_notice("refused", peer, text)
        if contact is not None and event.by_peer and event.code == p.CLOSING:
            contact.met = False  # it left in order: nobody waits for it
        if contact is not None and event.code in (*PERMANENT, p.CLOSING):
            contact.backoff.attempts = max(contact.backoff.attempts, PATIENT_ATTEMPTS)
        self._lost(conversation, event.code, reason, now_ms)

    def _lost(self, conversation: Conversation, code: int, reason: str, now_ms: int) -> None:
        """The conversation is over, whoever ended it: see to the contact."""
        self._conversations.pop(conversation.link, None)
        contact = conversation.contact
        if contact is None:
            return
        if contact.open is conversation:
            contact.open = None
            self._tell_links()
            self._on_notice("disconnected", node_text(contact.member.node_id), reason)
            session = conversation.session
            opened_ms = session.opened_ms if session is not None else None
            if opened_ms is not None and now_ms - opened_ms >= STABLE_MS:
                contact.backoff.reset()
        elif contact.dialing is conversation:
            contact.dialing = None
        else:
            return
        if contact.open is not None or self._ended:
            return
        if code in PERMANENT:
            answers, contact.answers = contact.answers, []
            contact.last_error = reason
            for answer in answers:
                answer(None, PeerError(reason))
            if not contact.remembered:
                self.contacts.pop(contact.member.node_id, None)
                return
        self._dial_failed(contact, reason, now_ms)

    def _remove(self, conversation: Conversation, reason: str) -> None:
        """Drop a link of which nothing is expected."""
        self._conversations.pop(conversation.link, None)
        conversation.link.close(reason)
        if conversation.contact is not None and conversation.contact.dialing is conversation:
            conversation.contact.dialing = None

    def _storage_error(
        self, conversation: Conversation, error: BaseException | None, now_ms: int
    ) -> None:
        """The replica or the roster failed: end the conversation, or everything."""
        if isinstance(error, (Closed, Forked, Poisoned)):
            self.failure = self.failure or error
            return
        if error is not None and not isinstance(error, (OSError, MurmurError)):
            log.error("a conversation failed", exc_info=error)
        session = conversation.session
        if session is not None:
            reason = f"{type(error).__name__}: {error}"
            self._handle(conversation, session.refuse(p.STORAGE, reason), now_ms)

    def _roster_written(self, _: None, error: BaseException | None, now_ms: int) -> None:
        if error is not None:
            # The peer stays connected; it is only not remembered over a restart.
            self._on_notice("error", "", f"the list of peers could not be written: {error}")

    def _flush_one(self, conversation: Conversation) -> None:
        if conversation.session is not None:
            output = conversation.session.take_output()
            if output:
                conversation.bytes_out += len(output)
                conversation.link.write(output)

    # -- waiting

    def _waited_for(self, wait: Wait) -> list[Contact]:
        if wait.peers is not None:
            return [self.contacts[node_id] for node_id in wait.peers if node_id in self.contacts]
        return [contact for contact in self.contacts.values() if contact.met]

    def _check_waits(self) -> None:
        for wait in list(self._waits):
            contacts = self._waited_for(wait)
            everybody = contacts or not self.contacts
            if everybody and all(_covers(c.durable, wait.vector) for c in contacts):
                self._waits.remove(wait)
                wait.done()


def _raise_to(vector: dict[bytes, int], other: Mapping[bytes, int]) -> None:
    for replica, seq in other.items():
        if seq > vector.get(replica, 0):
            vector[replica] = seq


def _covers(have: Mapping[bytes, int], vector: Mapping[bytes, int]) -> bool:
    return all(have.get(replica, 0) >= seq for replica, seq in vector.items())


def _info(contact: Contact, conversation: Conversation) -> PeerInfo:
    replica = contact.member.replica or b""
    return PeerInfo(node_text(contact.member.node_id), replica.hex(), conversation.link.address)


def _status(contact: Contact, durable: Mapping[bytes, int], now_ms: int) -> PeerStatus:
    member, conversation = contact.member, contact.open
    session = conversation.session if conversation else None
    exchange = conversation.exchange if conversation else None
    address = conversation.link.address if conversation else (member.addresses or ("",))[0]
    if conversation is not None:
        state = "connected"
    else:
        state = "connecting" if contact.dialing is not None else "waiting"
    return PeerStatus(
        node_id=node_text(member.node_id),
        replica_id=(member.replica or b"").hex(),
        address=address,
        state=state,
        dialed=conversation.dialed if conversation else None,
        rtt_ms=session.rtt_ms if session else None,
        skew_ms=conversation.skew_ms if conversation else None,
        backlog=sum(max(0, n - contact.durable.get(r, 0)) for r, n in durable.items()),
        records_in=exchange.applied_records if exchange else 0,
        records_out=exchange.sent_records if exchange else 0,
        bytes_in=conversation.bytes_in if conversation else 0,
        bytes_out=conversation.bytes_out if conversation else 0,
        attempts=contact.backoff.attempts,
        last_error=contact.last_error or None,
    )
