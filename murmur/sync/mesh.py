"""All conversations of one node: who is dialed, who is admitted, which of two links stays.

    dial or accept -> link up -> authenticated -> greeted -> open -> lost -> dial again

Like the conversations themselves this is plain code that is told the time and given a transport;
node.py runs it on a thread, tests/simulation on a virtual clock.

Two nodes that dial each other at once end up with two links. Both keep the one that the smaller
node id dialed. Otherwise the newer link wins: a node does not dial whom it believes connected, so
the peer has lost the older one.

A link of a better kind (scout.py) takes an open one's place: the conversation over it begins with
both vectors like any other, so nothing is missed; the older one ends when the peer answers over the
new one. Peers are not said to be disconnected meanwhile.

Invariants:
    1. At most one conversation per contact is open, and its node id is authenticated.
    2. At most MAX_STRANGERS links wait for authentication.
    3. One slice of received records is applied at a time; the conversations take turns.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
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
from murmur.sync.backoff import Backoff
from murmur.sync.bandwidth import TokenBucket
from murmur.sync.batches import Batches
from murmur.sync.contact import Answer, Contact, Conversation, Wait
from murmur.sync.dialer import DIAL_MS, Dialer
from murmur.sync.discovery.door import Door, Stranger
from murmur.sync.discovery.introductions import ENOUGH
from murmur.sync.discovery.sighting import Sighting
from murmur.sync.exchange import Exchange, Outcome, Patience
from murmur.sync.greeting import fork_between, hello_of, tips_of
from murmur.sync.identity import Identity
from murmur.sync.lag import Marks
from murmur.sync.outbox import Outbox
from murmur.sync.peer import Event, PeerSession, Role, State, Timing
from murmur.sync.push import FULL_MESH
from murmur.sync.roster import Member, Roster
from murmur.sync.scout import FALLBACK_MS, Scout, rank
from murmur.sync.service import Remote, Service, Services, Urgency
from murmur.sync.status import PeerInfo, PeerStatus
from murmur.sync.ticket import Ticket, node_text
from murmur.sync.transport import (
    LOCAL,
    Data,
    Down,
    Labour,
    Link,
    Transport,
    TransportEvent,
    Up,
    dialable,
    scheme_of,
)

TIE_MS = 5_000  # links that came up within this time were dialed at once
STABLE_MS = 10_000  # a conversation that lasted so long lets the next dial come soon
DRAIN_MS = 5_000  # that a link which was replaced may still bring what was under way
MAX_STRANGERS = 64
MAX_CONVERSATIONS = 128
PATIENT_ATTEMPTS = 4  # after a refusal or a goodbye, dial as if so many attempts had failed
SKEW_NOTICE_MS = 2_000

REFUSALS = (p.WRONG_GROUP, p.NOT_ADMITTED, p.VERSION, p.FORK, p.VIOLATION, p.QUARANTINED)

log = logging.getLogger("murmur.sync")


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
        services: Sequence[Service] = (),
        accept: str = "ask",
        bandwidth: int | None = None,
        peer_bandwidth: int | None = None,
        on_notice: Callable[[str, str, str], None] = lambda kind, peer, text: None,
    ) -> None:
        """`accept` says what becomes of strangers (door.py). `bandwidth` is what may be sent in
        all, `peer_bandwidth` to each peer, in bytes a second; what stays on this host does not
        count. `on_notice` is told (kind, node id, text) of what people may want to know."""
        self.failure: BaseException | None = None  # of the replica: nothing goes on after it
        self.contacts: dict[bytes, Contact] = {}
        self.outbox = outbox
        self.labour = labour
        self.random = random
        self._services = Services(services)
        self._identity = identity
        self._roster = roster
        self.door = Door(roster, outbox.clock.now_ms, accept)
        self._transport = transport
        self._dialer = Dialer(transport, labour, self._dialed)
        self._scout = Scout(transport, random, self._dialed)
        self._group = group
        self._incarnation = incarnation
        self._random_bytes = random_bytes
        self._timing = timing or Timing()
        self._patience = patience or Patience()
        self._on_notice = on_notice
        self._conversations: dict[Link, Conversation] = {}
        self._batches = Batches()
        self._to_apply: deque[Conversation] = deque()
        self._applying = False
        self._waits: list[Wait] = []
        self._marks = Marks()
        self._bucket = None if bandwidth is None else TokenBucket(bandwidth)
        self._peer_bandwidth = peer_bandwidth
        self._ended = False

    # -- what the node asks for

    def start(self, now_ms: int) -> None:
        """Dial everybody who is remembered."""
        self._services.start(self, now_ms)
        # Whom it met last, it is the likeliest to meet again.
        for member in sorted(self._roster.members.values(), key=lambda member: -member.met_ms):
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
            if invite != contact.member.invite:
                # A dial under way does not show it: its refusal would answer for this one.
                self._give_up_dials(contact, "dialed again with a ticket")
            contact.member = replace(contact.member, addresses=addresses, invite=invite)
        if contact.open is not None and contact.remembered:
            answer(contact.info(), None)
            return
        contact.quarantine.lift()  # whoever asks for it by name wants it back
        contact.answers.append(answer)
        contact.ways.clear()
        if not contact.dialing:
            self._dialer.dial(contact, now_ms)

    def forget_answer(self, node_id: bytes, answer: Answer) -> str:
        """Whoever waited for the answer gave up; what was wrong so far."""
        contact = self.contacts.get(node_id)
        if contact is None:
            return "the node was never reached"
        if answer in contact.answers:
            contact.answers.remove(answer)
        if not contact.remembered and not contact.answers and contact.open is None:
            self._forget(contact)
            self._give_up_dials(contact, "nobody waits for it any more")
        return contact.last_error or "no answer"

    def wait(self, wait: Wait) -> None:
        """Call `wait.done` once the peers hold the vector."""
        self._waits.append(wait)
        self._check_waits()

    def forget_wait(self, wait: Wait) -> list[str]:
        """Whoever waited gave up; the peers that are late."""
        if wait in self._waits:
            self._waits.remove(wait)
        return [c.name for c in wait.contacts(self.contacts) if not c.holds(wait.vector)]

    def connected(self) -> list[PeerInfo]:
        """The peers with an open conversation."""
        return [contact.info() for contact in self.contacts.values() if contact.open is not None]

    def status(self, now_ms: int) -> list[PeerStatus]:
        """Everything known about every contact."""
        durable = self.outbox.durable_vector
        return [c.status(durable, self._marks, now_ms) for c in self.contacts.values()]

    def durable_moved(self, now_ms: int) -> None:
        """The replica made more durable: push it, and acknowledge what came from peers."""
        self._marks.note(self.outbox.durable_vector, now_ms)
        self._report(now_ms)
        for conversation in self._open():
            assert conversation.exchange is not None
            conversation.exchange.pump(now_ms)

    def close(self, reason: str) -> None:
        """Say goodbye to everybody."""
        self._ended = True
        self._dialer.end()
        self._services.end()
        for conversation in list(self._conversations.values()):
            conversation.session.refuse(p.CLOSING, reason)
            conversation.flush()
            conversation.link.close(reason)
        self._conversations.clear()
        for contact in self.contacts.values():
            contact.open = contact.next_dial_ms = None
            contact.dialing.clear()
            contact.reply(None, Closed(reason))

    # -- what the loop feeds

    def handle(self, event: TransportEvent, now_ms: int) -> None:
        """Take one event of the transport."""
        conversation = self._conversations.get(event.link)
        match event:
            case Data(data=data):
                if conversation is not None:
                    self._receive(conversation, data, now_ms)
            case Up(link=link):
                if conversation is not None:
                    self._reached(conversation, now_ms)
                elif not link.dialed:
                    self._accept(link, now_ms)
            case Down(reason=reason):
                if conversation is not None:
                    self._lost(conversation, p.TIMED_OUT, reason, now_ms)

    def tick(self, now_ms: int) -> None:
        """Let time pass: timeouts, dials that are due."""
        for conversation in list(self._conversations.values()):
            if not conversation.up:
                if now_ms >= conversation.started_ms + DIAL_MS:
                    conversation.link.close("no answer")
                    reason = f"no answer from {conversation.link.address}"
                    self._lost(conversation, p.TIMED_OUT, reason, now_ms)
                continue
            self._handle(conversation, conversation.session.tick(now_ms), now_ms)
            if conversation.moved_ms is not None:
                self._drain(conversation, conversation.moved_ms, now_ms)
            elif conversation.exchange is not None and conversation.session.state is State.OPEN:
                conversation.exchange.tick(now_ms)
        for contact in list(self.contacts.values()):
            contact.quarantine.tick(now_ms)
            if contact.next_dial_ms is not None and now_ms >= contact.next_dial_ms:
                if len(self._conversations) < MAX_CONVERSATIONS:
                    self._dialer.dial(contact, now_ms)
                else:
                    self._dialer.failed(contact, "there are enough conversations", now_ms)
            if contact.lost is not None and now_ms >= contact.lost[0] + FALLBACK_MS:
                self._on_notice("disconnected", contact.name, contact.lost[1])
                contact.lost = None
        self._scout.tick(self.contacts.values(), now_ms)
        self._services.tick(now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due: list[int | None] = [contact.next_dial_ms for contact in self.contacts.values()]
        due += [c.lost[0] + FALLBACK_MS for c in self.contacts.values() if c.lost is not None]
        due.append(self._scout.next_timer_ms(self.contacts.values(), now_ms))
        due.append(self._services.next_timer_ms(now_ms))
        for conversation in self._conversations.values():
            if not conversation.up:
                due.append(conversation.started_ms + DIAL_MS)
                continue
            due.append(conversation.session.next_timer_ms())
            due.append(conversation.due_ms(now_ms))
            if conversation.moved_ms is not None:
                due.append(conversation.moved_ms + DRAIN_MS)
            elif conversation.exchange is not None:
                due.append(conversation.exchange.next_timer_ms(now_ms))
        return min((moment for moment in due if moment is not None), default=None)

    def flush(self, now_ms: int) -> None:
        """Hand what the conversations have to say to their links, as far as these have room."""
        for conversation in list(self._conversations.values()):
            conversation.flush(now_ms)
            conversation.meter.sample(now_ms, conversation.bytes_in, conversation.bytes_out)
            if conversation.session.hungry:
                self._pump(conversation, now_ms)

    # -- dialing

    def _contact(self, member: Member) -> Contact:
        contact = Contact(member, Backoff(self.random))
        mine = None if self._peer_bandwidth is None else TokenBucket(self._peer_bandwidth)
        contact.buckets = [bucket for bucket in (self._bucket, mine) if bucket is not None]
        self.contacts[member.node_id] = contact
        return contact

    def _buckets(self, contact: Contact, link: Link) -> Sequence[TokenBucket]:
        """What limits the bytes of a link; nothing, on this host."""
        return () if scheme_of(link.address) == LOCAL else contact.buckets

    def _forget(self, contact: Contact) -> None:
        contact.forgotten = True
        del self.contacts[contact.member.node_id]

    def _dialed(self, contact: Contact, link: Link, now_ms: int) -> None:
        session = PeerSession(
            Role.DIALER,
            self._identity,
            self._group,
            now_ms=now_ms,
            remote_id=contact.member.node_id,
            invite=contact.member.invite,
            services=self._services.kinds,
            timing=self._timing,
            batches=self._batches,
            local=scheme_of(link.address) == LOCAL,
        )
        conversation = Conversation(link, session, now_ms, contact)
        conversation.buckets = self._buckets(contact, link)
        contact.dialing.append(conversation)
        self._conversations[link] = conversation

    def _reached(self, conversation: Conversation, now_ms: int) -> None:
        """The link of a dial is up: is it whom we dialed?"""
        if conversation.link.peer_id == conversation.session.remote_id:
            conversation.up = True
            assert conversation.contact is not None
            self._give_up_dials(conversation.contact, "another address was faster", conversation)
            return
        conversation.link.close("not the node that was dialed")
        reason = f"another node answers at {conversation.link.address}"
        self._lost(conversation, p.CLOSING, reason, now_ms)

    def _give_up_dials(
        self, contact: Contact, reason: str, but: Conversation | None = None
    ) -> None:
        """End the dials of a contact that are under way, but for one."""
        for conversation in contact.dialing:
            if conversation is not but:
                self._conversations.pop(conversation.link, None)
                conversation.session.lose()
                conversation.link.close(reason)
        # One that is open already is no dial any more, even if it learns only now that it is up.
        contact.dialing = [but] if but is not None and but in contact.dialing else []
        if but is not None:
            contact.next_dial_ms = None

    # -- who was found

    def meet(self, seen: Sighting, now_ms: int) -> None:
        """A node of the group was seen: dial it if it is one of ours, else note it at the door."""
        node_id = seen.node_id
        if self._ended or node_id == self.node_id or node_id in self._roster.refused:
            return
        contact = self.contacts.get(node_id)
        if contact is None:
            if seen.via != "introduced" and self.door.accept != "all":
                if self.door.note(seen):
                    self.notice("found", node_id, f"by {seen.via}; accept_peer admits it")
                return
            self.door.take(node_id)
            contact = self._contact(Member(node_id, seen.addresses))
            contact.wanted = True
        else:
            addresses = tuple(dict.fromkeys(seen.addresses + contact.member.addresses))
            contact.member = replace(contact.member, addresses=addresses[: m.MAX_ADDRESSES])
        near = seen.via in ("mdns", "host", "accepted")
        if contact.open is None and (near or len(self._open()) < ENOUGH):
            contact.next_dial_ms = now_ms

    def strangers(self) -> list[Stranger]:
        """Who waits to be accepted."""
        return list(self.door.pending.values())

    def accept(self, node_id: bytes, now_ms: int) -> None:
        """Admit a node, known or not, and dial it where it was seen."""
        stranger = self.door.take(node_id)
        addresses = stranger.addresses if stranger is not None else ()
        contact = self.contacts.get(node_id) or self._contact(Member(node_id, addresses))
        contact.wanted = True
        admit = partial(self._roster.admit, contact.member)

        def admitted(_: None, error: BaseException | None, later_ms: int) -> None:
            self._remembered(contact, None, error, later_ms)
            self.meet(Sighting(node_id, addresses, "accepted"), later_ms)

        self.labour.submit("roster", admit, admitted)

    def refuse(self, node_id: bytes, now_ms: int) -> None:
        """Keep a node out from now on; a conversation with it ends."""
        self.door.take(node_id)
        contact = self.contacts.get(node_id)
        if contact is not None:
            conversation, contact.remembered, contact.wanted = contact.open, False, False
            if conversation is not None:
                events = conversation.session.refuse(p.NOT_ADMITTED, "refused")
                self._handle(conversation, events, now_ms)
            if not contact.forgotten:
                self._give_up_dials(contact, "refused")
                self._forget(contact)

    def acquaintances(self) -> list[tuple[Member, int]]:
        """The members that were met, and how many seconds ago."""
        now_ms = self.outbox.clock.now_ms()
        return [
            (c.member, 0 if c.open is not None else max(0, now_ms - c.member.met_ms) // 1000)
            for c in self.contacts.values()
            if c.member.met
        ]

    # -- from link to conversation

    def _accept(self, link: Link, now_ms: int) -> None:
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
            services=self._services.kinds,
            timing=self._timing,
            batches=self._batches,
            local=scheme_of(link.address) == LOCAL,
        )
        self._conversations[link] = Conversation(link, session, now_ms, None, up=True)

    def _receive(self, conversation: Conversation, data: bytes, now_ms: int) -> None:
        conversation.bytes_in += len(data)
        try:
            self._handle(conversation, conversation.session.receive(data, now_ms), now_ms)
        except Exception as error:
            # Whatever a peer's bytes trip over ends its conversation, not the node.
            self._failed(conversation, error, now_ms)

    def _handle(self, conversation: Conversation, events: Iterable[Event], now_ms: int) -> None:
        for event in events:
            exchange = conversation.exchange
            match event:
                case p.Introduced():
                    self._introduced(conversation, event, now_ms)
                case p.Greeted(hello=hello):
                    self._greeted(conversation, hello)
                case p.Ended():
                    self._finished(conversation, event, now_ms)
                case _ if exchange is None:
                    raise AssertionError(f"{event} before the conversation is open")
                case p.Received():
                    exchange.receive(event)
                    self._apply_next(conversation)
                case p.Acknowledged():
                    self._acknowledged(conversation, now_ms)
                    self._pump(conversation, now_ms)
                case p.Relinked():
                    exchange.relinked(now_ms)
                case p.Rewound():
                    exchange.rewind()
                    exchange.pump(now_ms)
                case p.Said(kind=kind, payload=payload):
                    self._said(conversation, kind, payload, now_ms)

    def _introduced(self, conversation: Conversation, event: p.Introduced, now_ms: int) -> None:
        """The peer is who it says: may it come in?"""
        session = conversation.session
        # Whom this node dials itself may come in too, before the roster has been written.
        stranger = not (event.node_id in self._roster.members or event.node_id in self.contacts)
        if stranger and not self.door.open_to(event.node_id, invited=event.invited):
            seen = Sighting(event.node_id, dialable(conversation.link), "dialed")
            if self.door.note(seen, asks=True):
                self.notice("pending", event.node_id, "it asks to be accepted")
            reason = "not admitted: it must be accepted there, or use a ticket with an invite"
            self._handle(conversation, session.refuse(p.NOT_ADMITTED, reason), now_ms)
            return
        known = self.contacts.get(event.node_id)
        if known is not None and (reason := known.quarantine.refusal(now_ms)):
            self._handle(conversation, session.refuse(p.QUARANTINED, reason), now_ms)
            return
        if (known is None or known.open is None) and len(self._open()) >= MAX_CONVERSATIONS:
            self._handle(conversation, session.refuse(p.BUSY, "enough conversations"), now_ms)
            return

        def admit() -> m.Hello:
            if stranger:
                self._roster.admit(Member(event.node_id))
            addresses = self._transport.addresses
            return hello_of(self.outbox, self._incarnation, addresses, self._services.features)

        def admitted(hello: m.Hello | None, error: BaseException | None, later_ms: int) -> None:
            if error is not None or hello is None:
                self._failed(conversation, error, later_ms)
            else:
                self._handle(conversation, session.admit(hello, later_ms), later_ms)

        self.labour.submit("roster", admit, admitted)

    def _greeted(self, conversation: Conversation, hello: m.Hello) -> None:
        """The peer said where it stands: can both histories be true?"""
        session = conversation.session
        conversation.skew_ms = hello.clock_ms - self.outbox.clock.now_ms()

        def judged(
            tips: Mapping[bytes, m.Tip] | None, error: BaseException | None, now_ms: int
        ) -> None:
            if error is not None or tips is None:
                self._failed(conversation, error, now_ms)
                return
            fork = fork_between(hello, self.outbox.id, tips)
            if fork is not None:
                self._handle(conversation, session.refuse(p.FORK, fork), now_ms)
            elif session.state is State.JUDGING and self._stays(conversation, hello, now_ms):
                self._opened(conversation, hello, now_ms)

        self.labour.submit("roster", partial(tips_of, self.outbox), judged)

    def _stays(self, conversation: Conversation, hello: m.Hello, now_ms: int) -> bool:
        """Settle the tie with an open conversation with the same node, if there is one."""
        session, link = conversation.session, conversation.link
        assert session.remote_id is not None
        contact = self.contacts.get(session.remote_id)
        old = contact.open if contact is not None else None
        if old is None:
            return True
        assert old.session.hello is not None
        same = old.session.hello.incarnation == hello.incarnation
        worse = rank(link.address) - rank(old.link.address)
        if same and worse < 0:
            return True  # and takes over
        recent = same and now_ms - (old.session.opened_ms or 0) < TIE_MS
        if recent and worse > 0:
            events = session.refuse(p.DUPLICATE, "a better link stays")
            self._handle(conversation, events, now_ms)
            return False
        at_once = recent and old.link.dialed != link.dialed
        mine_is_smaller = self._identity.node_id < session.remote_id
        if at_once and link.dialed != mine_is_smaller:
            events = session.refuse(p.DUPLICATE, "another link stays")
            self._handle(conversation, events, now_ms)
            return False
        if not same:
            self._handle(old, old.session.refuse(p.DUPLICATE, "a newer link stays"), now_ms)
        return True

    def _opened(self, conversation: Conversation, hello: m.Hello, now_ms: int) -> None:
        session, link = conversation.session, conversation.link
        assert session.remote_id is not None
        contact = self.contacts.get(session.remote_id) or self._contact(Member(session.remote_id))
        found = dialable(link)
        if not found or not link.dialed:
            found += hello.addresses
        addresses = tuple(dict.fromkeys(found + contact.member.addresses))[: m.MAX_ADDRESSES]
        contact.member = replace(
            contact.member,
            addresses=addresses,
            replica=hello.replica,
            met=contact.member.met + 1,
            met_ms=self.outbox.clock.now_ms(),
        )
        old, lost = contact.open, contact.lost
        contact.open, contact.next_dial_ms, contact.lost = conversation, None, None
        if conversation in contact.dialing:
            contact.dialing.remove(conversation)  # others go on: a tie is settled when they open
        contact.met = True
        contact.last_error = ""
        contact.ways.clear()
        if old is None:
            contact.durable = dict(hello.vector)  # it may hold less than it once did
        else:
            contact.hold(hello.vector)
            old.moved_ms = now_ms
            self._services.closed(_remote(old, self._services.features), now_ms)
        conversation.contact = contact
        conversation.buckets = self._buckets(contact, link)
        conversation.exchange = Exchange(
            self.outbox,
            session,
            self.labour,
            self._patience,
            on_events=partial(self._handle, conversation),
            on_error=partial(self._failed, conversation),
        )
        remember = partial(self._roster.admit, contact.member)
        self.labour.submit("roster", remember, partial(self._remembered, contact))
        moved = old is not None or lost is not None
        self._on_notice("moved" if moved else "connected", contact.name, f"at {link.address}")
        if abs(conversation.skew_ms) >= SKEW_NOTICE_MS:
            self._tell_skew(conversation, contact)
        events = session.open(now_ms)
        self._services.opened(_remote(conversation, self._services.features), now_ms)
        self._handle(conversation, events, now_ms)
        if session.state is not State.OPEN:
            return
        self._tell_links()
        session.report(self.outbox.durable_vector, self.outbox.vector, now_ms)
        conversation.exchange.pump(now_ms)
        self._check_waits()

    def _remembered(
        self, contact: Contact, _: None, error: BaseException | None, now_ms: int
    ) -> None:
        """The contact is in the roster: who waits for the connection may rely on it."""
        if error is None:
            contact.remembered = True
        else:
            # It stays connected; it is only not remembered over a restart.
            self._on_notice("error", contact.name, f"its address could not be written: {error}")
        if contact.open is not None:
            contact.reply(contact.info(), None)

    # -- services

    @property
    def node_id(self) -> bytes:
        """This node."""
        return self._identity.node_id

    def remotes(self) -> list[Remote]:
        """Everybody with whom a conversation is open."""
        features = self._services.features
        return [_remote(conversation, features) for conversation in self._open()]

    def flow(self, node_id: bytes) -> Exchange | None:
        """The records of the conversation with a node, if one is open."""
        contact = self.contacts.get(node_id)
        return contact.open.exchange if contact is not None and contact.open is not None else None

    def clock_of(self, node_id: bytes, clock_ms: int) -> None:
        """What the peer's clock says now: clocks jump, also during a conversation."""
        contact = self.contacts.get(node_id)
        if contact is not None and contact.open is not None:
            conversation, before = contact.open, contact.open.skew_ms
            conversation.skew_ms = clock_ms - self.outbox.clock.now_ms()
            if abs(conversation.skew_ms - before) >= SKEW_NOTICE_MS:
                self._tell_skew(conversation, contact)

    def _tell_skew(self, conversation: Conversation, contact: Contact) -> None:
        text = f"its clock is {conversation.skew_ms / 1000:+.1f} s from this one's"
        self._on_notice("skew", contact.name, text)

    def say(self, node_id: bytes, kind: int, payload: bytes, urgency: Urgency) -> bool:
        """Send a service's message; False if no conversation with the node is open."""
        contact = self.contacts.get(node_id)
        if contact is None or contact.open is None:
            return False
        contact.open.session.say(kind, payload, urgency)
        return True

    def hold(self, node_id: bytes, now_ms: int, *, held: bool) -> None:
        """Send the node nothing from the log while it takes a snapshot."""
        contact = self.contacts.get(node_id)
        if contact is not None and contact.open is not None:
            assert contact.open.exchange is not None
            contact.open.exchange.hold(now_ms, held=held)

    def hold_against(self, node_id: bytes, reason: str, now_ms: int) -> None:
        """The node lied: end the conversation as a violation."""
        contact = self.contacts.get(node_id)
        if contact is not None and contact.open is not None:
            conversation = contact.open
            events = conversation.session.refuse(p.VIOLATION, reason)
            self._handle(conversation, events, now_ms)

    def notice(self, kind: str, node_id: bytes, text: str) -> None:
        """Tell people; what is wrong with a peer also stands in its status."""
        contact = self.contacts.get(node_id)
        if contact is not None and kind in ("diverged", "error"):
            contact.last_error = text
        self._on_notice(kind, node_text(node_id), text)

    def _said(self, conversation: Conversation, kind: int, payload: bytes, now_ms: int) -> None:
        if conversation.moved_ms is not None:
            return  # services have heard that this one is closed
        remote = _remote(conversation, self._services.features)
        try:
            self._services.received(remote, kind, payload, now_ms)
        except ProtocolViolation as error:
            events = conversation.session.refuse(p.VIOLATION, str(error))
            self._handle(conversation, events, now_ms)

    # -- the exchange

    def _pump(self, conversation: Conversation, now_ms: int) -> None:
        if conversation.exchange is not None and conversation.moved_ms is None:
            conversation.exchange.pump(now_ms)

    def _drain(self, conversation: Conversation, moved_ms: int, now_ms: int) -> None:
        """End a link that was replaced, once the peer answers over the other one."""
        contact = conversation.contact
        successor = contact.open if contact is not None else None
        heard = successor is not None and successor.session.rtt_ms is not None
        if heard or now_ms >= moved_ms + DRAIN_MS:
            events = conversation.session.refuse(p.MOVED, "moved to a better link")
            self._handle(conversation, events, now_ms)

    def _open(self) -> list[Conversation]:
        return [contact.open for contact in self.contacts.values() if contact.open is not None]

    def _tell_links(self) -> None:
        opened = [(c, c.session.hello.replica) for c in self._open() if c.session.hello]
        for conversation, _ in opened:
            others = frozenset(replica for c, replica in opened if c is not conversation)
            if len(opened) > FULL_MESH:
                others = frozenset()  # authors do not send to everybody there (push.py)
            conversation.session.tell_links(others)

    def _report(self, now_ms: int) -> None:
        durable, admitted = self.outbox.durable_vector, self.outbox.vector
        for conversation in self._open():
            conversation.session.report(durable, admitted, now_ms)

    def _acknowledged(self, conversation: Conversation, now_ms: int) -> None:
        assert conversation.contact is not None
        conversation.contact.hold(conversation.session.durable)
        self._check_waits()

    def _check_waits(self) -> None:
        for wait in list(self._waits):
            if wait.over(self.contacts):
                self._waits.remove(wait)
                wait.done()

    def _apply_next(self, more: Conversation) -> None:
        if more not in self._to_apply:
            self._to_apply.append(more)
        while self._to_apply and not self._applying and not self._ended:
            conversation = self._to_apply.popleft()
            exchange = conversation.exchange
            if exchange is None or not exchange.inbox or conversation.session.state is State.CLOSED:
                continue
            self._applying = True
            self.labour.submit("apply", exchange.take(), partial(self._applied, conversation))

    def _applied(
        self,
        conversation: Conversation,
        outcome: Outcome | None,
        error: BaseException | None,
        now_ms: int,
    ) -> None:
        self._applying = False
        assert conversation.exchange is not None
        if isinstance(error, ProtocolViolation):
            events = conversation.session.refuse(p.VIOLATION, str(error))
            self._handle(conversation, events, now_ms)
        elif error is not None or outcome is None:
            self._failed(conversation, error, now_ms)
        else:
            conversation.exchange.done(outcome, now_ms)
            self._report(now_ms)
            for node_id, reason in outcome.refused:
                self.hold_against(node_id, reason, now_ms)
        self._apply_next(conversation)

    # -- ends

    def _finished(self, conversation: Conversation, event: p.Ended, now_ms: int) -> None:
        """The machine has ended: so does the link."""
        conversation.flush()
        conversation.link.close(event.reason)
        contact, code, reason = conversation.contact, event.code, event.reason
        if event.by_peer:
            reason = f"the peer ended the conversation: {reason}"
        elif code in REFUSALS:
            remote = conversation.session.remote_id
            text = f"{conversation.link.address}: {reason}"
            self._on_notice("refused", node_text(remote) if remote else "", text)
        if contact is not None and code == p.VIOLATION and not event.by_peer:
            self._quarantine(contact, conversation, event.reason, now_ms)
            if event.oversized is not None:
                self._set_aside(conversation, event.oversized, event.reason)
        if contact is not None and event.by_peer and code == p.CLOSING:
            contact.met = False  # it left in order: nobody waits for it
        if contact is not None and code in (*REFUSALS, p.CLOSING):
            contact.backoff.attempts = max(contact.backoff.attempts, PATIENT_ATTEMPTS)
        self._lost(conversation, code, reason, now_ms)

    def _set_aside(self, conversation: Conversation, piece: m.Piece, reason: str) -> None:
        """Keep what can be kept of a record that is too large."""
        node_id = conversation.session.remote_id or b""

        def done(_: None, error: BaseException | None, now_ms: int) -> None:
            if error is not None:
                self._failed(conversation, error, now_ms)

        work = partial(self.outbox.set_aside, piece.part, node_id, reason, piece.total)
        self.labour.submit("apply", work, done)

    def _quarantine(
        self, contact: Contact, conversation: Conversation, reason: str, now_ms: int
    ) -> None:
        """The peer lied, in a conversation in which it had shown who it is."""
        if conversation.session.hello is not None:
            contact.met = False  # nobody waits for it
            contact.quarantine.offend(reason, now_ms)
            self._on_notice("quarantined", contact.name, contact.quarantine.refusal(now_ms))

    def _lost(self, conversation: Conversation, code: int, reason: str, now_ms: int) -> None:
        """The link is gone, whoever ended it: see to the contact."""
        self._conversations.pop(conversation.link, None)
        conversation.session.lose()  # what is being decided about it must not open it
        contact = conversation.contact
        if contact is None:
            return
        if conversation in contact.dialing:
            contact.dialing.remove(conversation)
        elif contact.open is conversation:
            contact.open = contact.scout_ms = None
            self._tell_links()
            self._services.closed(_remote(conversation, self._services.features), now_ms)
            others = self._scout.others(contact, conversation.link.address)
            if code == p.TIMED_OUT and others and not self._ended:
                contact.lost, contact.ways = (now_ms, reason), others
            elif code in (p.DUPLICATE, p.MOVED) and not self._ended:
                contact.lost = now_ms, reason  # the other link is about to open
            else:
                self._on_notice("disconnected", contact.name, reason)
            if now_ms - (conversation.session.opened_ms or 0) >= STABLE_MS:
                contact.backoff.reset()
        if contact.open is not None or self._ended:
            return
        if code in REFUSALS:
            contact.reply(None, PeerError(reason))
            quarantined = contact.quarantine.until_ms is not None
            if not (contact.remembered or contact.wanted or quarantined):
                self._forget(contact)
        self._dialer.failed(contact, reason, now_ms)
        if contact.next_dial_ms is not None:
            contact.next_dial_ms = contact.quarantine.next_dial_ms(contact.next_dial_ms)

    def _failed(self, conversation: Conversation, error: BaseException | None, now_ms: int) -> None:
        """The replica or the roster failed: end the conversation, or everything."""
        if isinstance(error, (Closed, Forked, Poisoned)):
            self.failure = self.failure or error
            return
        if not isinstance(error, (OSError, MurmurError)):
            log.error("a conversation failed", exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        self._handle(conversation, conversation.session.refuse(p.STORAGE, reason), now_ms)


def _remote(conversation: Conversation, features: int) -> Remote:
    """The peer of an open conversation, as services see it; `features` are this side's."""
    session, hello = conversation.session, conversation.session.hello
    assert session.remote_id is not None
    assert hello is not None
    return Remote(
        session.remote_id,
        hello.replica,
        hello.incarnation,
        hello.features & features,
        conversation.link.address,
        session.rtt_ms,
        session.links,
        hello.features,
    )
