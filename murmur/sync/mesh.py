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
)
from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync.applying import Turns
from murmur.sync.batches import Batches
from murmur.sync.company import Company
from murmur.sync.contact import Answer, Contact, Conversation
from murmur.sync.dialer import DIAL_MS, Dialer
from murmur.sync.discovery.reception import Reception
from murmur.sync.discovery.sighting import Sighting
from murmur.sync.exchange import Exchange, Outcome, Patience
from murmur.sync.fabric import MeshFabric
from murmur.sync.greeting import fork_between, hello_of, tips_of
from murmur.sync.identity import Identity
from murmur.sync.outbox import Outbox
from murmur.sync.peer import Event, PeerSession, Role, State, Timing
from murmur.sync.push import FULL_MESH
from murmur.sync.roster import Member, Roster
from murmur.sync.scout import FALLBACK_MS, Scout, rank
from murmur.sync.service import Service, Services
from murmur.sync.status import PeerStatus
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
        self.company = Company(
            random, bandwidth=bandwidth, peer_bandwidth=peer_bandwidth, on_notice=on_notice
        )
        self.fabric = MeshFabric(
            identity.node_id,
            self.company.contacts,
            outbox,
            labour,
            random,
            Services(services),
            end=self._end,
            on_notice=on_notice,
        )
        self.reception = Reception(self.company, roster, self.fabric, self._end, accept)
        self._outbox = outbox
        self._labour = labour
        self._identity = identity
        self._roster = roster
        self._transport = transport
        self._dialer = Dialer(transport, labour, self._dialed)
        self._scout = Scout(transport, random, self._dialed)
        self._turns = Turns(
            labour, end=self._end, on_applied=self._applied, on_failure=self._failed
        )
        self._group = group
        self._incarnation = incarnation
        self._random_bytes = random_bytes
        self._timing = timing or Timing()
        self._patience = patience or Patience()
        self._on_notice = on_notice
        self._contacts = self.company.contacts
        self._conversations = self.company.conversations
        self._batches = Batches()
        self._ended = False

    # -- what the node asks for

    def start(self, now_ms: int) -> None:
        """Dial everybody who is remembered."""
        self.fabric.services.start(self.fabric, now_ms)
        # Whom it met last, it is the likeliest to meet again.
        for member in sorted(self._roster.members.values(), key=lambda member: -member.met_ms):
            contact = self.company.add(member)
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
        contact = self._contacts.get(ticket.node_id)
        if contact is None:
            contact = self.company.add(Member(ticket.node_id, ticket.addresses, ticket.invite))
        else:
            addresses = tuple(dict.fromkeys(ticket.addresses + contact.member.addresses))
            invite = ticket.invite or contact.member.invite
            if invite != contact.member.invite:
                # A dial under way does not show it: its refusal would answer for this one.
                self.company.give_up_dials(contact, "dialed again with a ticket")
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
        contact = self._contacts.get(node_id)
        if contact is None:
            return "the node was never reached"
        if answer in contact.answers:
            contact.answers.remove(answer)
        if not contact.remembered and not contact.answers and contact.open is None:
            self.company.forget(contact)
            self.company.give_up_dials(contact, "nobody waits for it any more")
        return contact.last_error or "no answer"

    def status(self, now_ms: int) -> list[PeerStatus]:
        """Everything known about every contact."""
        return self.company.status(self._outbox.durable_vector, now_ms)

    def durable_moved(self, now_ms: int) -> None:
        """The replica made more durable: push it, and acknowledge what came from peers."""
        self.company.marks.note(self._outbox.durable_vector, now_ms)
        self._report(now_ms)
        for conversation in self.company.opened():
            assert conversation.exchange is not None
            conversation.exchange.pump(now_ms)

    def close(self, reason: str) -> None:
        """Say goodbye to everybody."""
        self._ended = True
        self._dialer.end()
        self._turns.clear()
        self.fabric.services.end()
        for conversation in list(self._conversations.values()):
            conversation.session.refuse(p.CLOSING, reason)
            conversation.flush()
            conversation.link.close(reason)
        self._conversations.clear()
        for contact in self._contacts.values():
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
        for contact in list(self._contacts.values()):
            contact.quarantine.tick(now_ms)
            if contact.next_dial_ms is not None and now_ms >= contact.next_dial_ms:
                if len(self._conversations) < MAX_CONVERSATIONS:
                    self._dialer.dial(contact, now_ms)
                else:
                    self._dialer.failed(contact, "there are enough conversations", now_ms)
            if contact.lost is not None and now_ms >= contact.lost[0] + FALLBACK_MS:
                self._on_notice("disconnected", contact.name, contact.lost[1])
                contact.lost = None
        self._scout.tick(self._contacts.values(), now_ms)
        self.fabric.services.tick(now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due: list[int | None] = [contact.next_dial_ms for contact in self._contacts.values()]
        due += [c.lost[0] + FALLBACK_MS for c in self._contacts.values() if c.lost is not None]
        due.append(self._scout.next_timer_ms(self._contacts.values(), now_ms))
        due.append(self.fabric.services.next_timer_ms(now_ms))
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

    def _dialed(self, contact: Contact, link: Link, now_ms: int) -> None:
        session = PeerSession(
            Role.DIALER,
            self._identity,
            self._group,
            now_ms=now_ms,
            remote_id=contact.member.node_id,
            invite=contact.member.invite,
            services=self.fabric.services.kinds,
            timing=self._timing,
            batches=self._batches,
            local=scheme_of(link.address) == LOCAL,
        )
        conversation = Conversation(link, session, now_ms, contact)
        conversation.buckets = self.company.buckets_of(contact, link)
        contact.dialing.append(conversation)
        self._conversations[link] = conversation

    def _reached(self, conversation: Conversation, now_ms: int) -> None:
        """The link of a dial is up: is it whom we dialed?"""
        if conversation.link.peer_id == conversation.session.remote_id:
            conversation.up = True
            assert conversation.contact is not None
            self.company.give_up_dials(
                conversation.contact, "another address was faster", conversation
            )
            return
        conversation.link.close("not the node that was dialed")
        reason = f"another node answers at {conversation.link.address}"
        self._lost(conversation, p.CLOSING, reason, now_ms)

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
            services=self.fabric.services.kinds,
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
                    self._turns.next(conversation)
                case p.Acknowledged():
                    self._acknowledged(conversation, now_ms)
                    self._pump(conversation, now_ms)
                case p.Relinked():
                    exchange.relinked(now_ms)
                case p.Rewound():
                    exchange.rewind()
                    exchange.pump(now_ms)
                case p.Said(kind=kind, payload=payload):
                    self.fabric.said(conversation, kind, payload, now_ms)

    def _introduced(self, conversation: Conversation, event: p.Introduced, now_ms: int) -> None:
        """The peer is who it says: may it come in?"""
        session = conversation.session
        # Whom this node dials itself may come in too, before the roster has been written.
        stranger = not (event.node_id in self._roster.members or event.node_id in self._contacts)
        if stranger and not self.reception.door.open_to(event.node_id, invited=event.invited):
            seen = Sighting(event.node_id, dialable(conversation.link), "dialed")
            if self.reception.door.note(seen, asks=True):
                self.fabric.notice("pending", event.node_id, "it asks to be accepted")
            reason = "not admitted: it must be accepted there, or use a ticket with an invite"
            self._end(conversation, p.NOT_ADMITTED, reason, now_ms)
            return
        known = self._contacts.get(event.node_id)
        if known is not None and (reason := known.quarantine.refusal(now_ms)):
            self._end(conversation, p.QUARANTINED, reason, now_ms)
            return
        if (known is None or known.open is None) and len(
            self.company.opened()
        ) >= MAX_CONVERSATIONS:
            self._end(conversation, p.BUSY, "enough conversations", now_ms)
            return

        def admit() -> m.Hello:
            if stranger:
                self._roster.admit(Member(event.node_id))
            addresses = self._transport.addresses
            return hello_of(
                self._outbox, self._incarnation, addresses, self.fabric.services.features
            )

        def admitted(hello: m.Hello | None, error: BaseException | None, later_ms: int) -> None:
            if error is not None or hello is None:
                self._failed(conversation, error, later_ms)
            else:
                self._handle(conversation, session.admit(hello, later_ms), later_ms)

        self._labour.submit("roster", admit, admitted)

    def _greeted(self, conversation: Conversation, hello: m.Hello) -> None:
        """The peer said where it stands: can both histories be true?"""
        session = conversation.session
        conversation.skew_ms = hello.clock_ms - self._outbox.clock.now_ms()

        def judged(
            tips: Mapping[bytes, m.Tip] | None, error: BaseException | None, now_ms: int
        ) -> None:
            if error is not None or tips is None:
                self._failed(conversation, error, now_ms)
                return
            fork = fork_between(hello, self._outbox.id, tips)
            if fork is not None:
                self._end(conversation, p.FORK, fork, now_ms)
            elif session.state is State.JUDGING and self._stays(conversation, hello, now_ms):
                self._opened(conversation, hello, now_ms)

        self._labour.submit("roster", partial(tips_of, self._outbox), judged)

    def _stays(self, conversation: Conversation, hello: m.Hello, now_ms: int) -> bool:
        """Settle the tie with an open conversation with the same node, if there is one."""
        session, link = conversation.session, conversation.link
        assert session.remote_id is not None
        contact = self._contacts.get(session.remote_id)
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
            self._end(conversation, p.DUPLICATE, "a better link stays", now_ms)
            return False
        at_once = recent and old.link.dialed != link.dialed
        mine_is_smaller = self._identity.node_id < session.remote_id
        if at_once and link.dialed != mine_is_smaller:
            self._end(conversation, p.DUPLICATE, "another link stays", now_ms)
            return False
        if not same:
            self._end(old, p.DUPLICATE, "a newer link stays", now_ms)
        return True

    def _opened(self, conversation: Conversation, hello: m.Hello, now_ms: int) -> None:
        session, link = conversation.session, conversation.link
        assert session.remote_id is not None
        contact = self._contacts.get(session.remote_id) or self.company.add(
            Member(session.remote_id)
        )
        found = dialable(link)
        if not found or not link.dialed:
            found += hello.addresses
        addresses = tuple(dict.fromkeys(found + contact.member.addresses))[: m.MAX_ADDRESSES]
        contact.member = replace(
            contact.member,
            addresses=addresses,
            replica=hello.replica,
            met=contact.member.met + 1,
            met_ms=self._outbox.clock.now_ms(),
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
            self.fabric.services.closed(self.fabric.remote(old), now_ms)
        conversation.contact = contact
        conversation.buckets = self.company.buckets_of(contact, link)
        conversation.exchange = Exchange(
            self._outbox,
            session,
            self._labour,
            self._patience,
            on_events=partial(self._handle, conversation),
            on_error=partial(self._failed, conversation),
        )
        remember = partial(self._roster.admit, contact.member)
        self._labour.submit("roster", remember, partial(self.company.remembered, contact))
        moved = old is not None or lost is not None
        self._on_notice("moved" if moved else "connected", contact.name, f"at {link.address}")
        self.fabric.tell_skew(conversation, contact)
        events = session.open(now_ms)
        self.fabric.services.opened(self.fabric.remote(conversation), now_ms)
        self._handle(conversation, events, now_ms)
        if session.state is not State.OPEN:
            return
        self._tell_links()
        session.report(self._outbox.durable_vector, self._outbox.vector, now_ms)
        conversation.exchange.pump(now_ms)
        self.company.check_waits()

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
            self._end(conversation, p.MOVED, "moved to a better link", now_ms)

    def _tell_links(self) -> None:
        opened = [(c, c.session.hello.replica) for c in self.company.opened() if c.session.hello]
        for conversation, _ in opened:
            others = frozenset(replica for c, replica in opened if c is not conversation)
            if len(opened) > FULL_MESH:
                others = frozenset()  # authors do not send to everybody there (push.py)
            conversation.session.tell_links(others)

    def _report(self, now_ms: int) -> None:
        durable, admitted = self._outbox.durable_vector, self._outbox.vector
        for conversation in self.company.opened():
            conversation.session.report(durable, admitted, now_ms)

    def _acknowledged(self, conversation: Conversation, now_ms: int) -> None:
        assert conversation.contact is not None
        conversation.contact.hold(conversation.session.durable)
        self.company.check_waits()

    def _applied(self, outcome: Outcome, now_ms: int) -> None:
        self._report(now_ms)
        for node_id, reason in outcome.refused:
            self.fabric.hold_against(node_id, reason, now_ms)

    # -- ends

    def _end(self, conversation: Conversation, code: int, reason: str, now_ms: int) -> None:
        """End a conversation, and tell the peer why."""
        self._handle(conversation, conversation.session.refuse(code, reason), now_ms)

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

        work = partial(self._outbox.set_aside, piece.part, node_id, reason, piece.total)
        self._labour.submit("apply", work, done)

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
            self.fabric.services.closed(self.fabric.remote(conversation), now_ms)
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
                self.company.forget(contact)
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
        self._end(conversation, p.STORAGE, reason, now_ms)
