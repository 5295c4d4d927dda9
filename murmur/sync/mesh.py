"""All conversations of one node: who is dialed, who is admitted, which of two links stays.

    dial or accept -> link up -> authenticated -> greeted -> open -> lost -> dial again

Like the conversations themselves this is plain code that is told the time and given a transport;
node.py runs it on a thread, tests/simulation on a virtual clock.

admittance.py says who comes in and which of two links stays, endings.py how conversations end.

Invariants:
    1. At most one conversation per contact is open, and its node id is authenticated.
    2. At most MAX_STRANGERS links wait for authentication.
    3. One slice of received records is applied at a time; the conversations take turns.
    4. Whatever is done for one conversation is done by `serve`: its faults end it and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random

from murmur.errors import Closed
from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync.admittance import MAX_CONVERSATIONS, Admittance
from murmur.sync.applying import Turns
from murmur.sync.batches import Batches
from murmur.sync.company import Company
from murmur.sync.contact import Answer, Contact, Conversation
from murmur.sync.dialer import DIAL_MS, Dialer
from murmur.sync.discovery.reception import Reception
from murmur.sync.endings import Endings
from murmur.sync.exchange import Exchange, Outcome, Patience
from murmur.sync.fabric import MeshFabric
from murmur.sync.faults import Faults, Guarded
from murmur.sync.identity import Identity
from murmur.sync.outbox import Outbox
from murmur.sync.peer import Event, PeerSession, Role, State, Timing
from murmur.sync.push import FULL_MESH
from murmur.sync.roster import Roster
from murmur.sync.scout import FALLBACK_MS, Scout
from murmur.sync.sentences import Sentences
from murmur.sync.service import Service, Services
from murmur.sync.status import PeerStatus
from murmur.sync.ticket import Ticket, node_text
from murmur.sync.tickets import Tickets
from murmur.sync.transport import (
    LOCAL,
    Data,
    Down,
    Labour,
    Link,
    Transport,
    TransportEvent,
    Up,
    scheme_of,
)

DRAIN_MS = 5_000  # that a link which was replaced may still bring what was under way
MAX_STRANGERS = 64
SCOUT = "the scout"


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
        self.company = Company(
            random, bandwidth=bandwidth, peer_bandwidth=peer_bandwidth, on_notice=on_notice
        )
        self.faults = Faults(node_text(identity.node_id), on_notice)
        labour = Guarded(labour, partial(self.faults.contain, "the result of a worker"))
        self._dialer = Dialer(transport, labour, self._dialed, self.faults)
        self._scout = Scout(transport, random, self._dialed)
        self._sentences = Sentences(self.company, roster, labour, outbox.clock.now_ms, on_notice)
        self._endings = Endings(
            self.company,
            self._dialer,
            self._scout,
            self.faults,
            self._sentences,
            outbox,
            labour,
            on_closed=self._closed,
            on_notice=on_notice,
        )
        end = self._endings.end
        self.fabric = MeshFabric(
            identity.node_id,
            self.company.contacts,
            outbox,
            labour,
            random,
            Services(services, self.faults),
            end=end,
            on_notice=on_notice,
        )
        self.reception = Reception(self.company, roster, self.fabric, end, self._sentences, accept)
        self._admittance = Admittance(
            self.company,
            self.reception,
            roster,
            outbox,
            transport,
            self.fabric,
            self._endings,
            labour,
            incarnation=incarnation,
            handle=self._handle,
            begin=self._begin,
            on_renewed=self._renewed,
            on_notice=on_notice,
        )
        self._tickets = Tickets(
            self.company,
            roster,
            self._dialer,
            self._sentences,
            self._endings,
            node_id=identity.node_id,
            group=group,
        )
        self._turns = Turns(
            labour,
            serve=self._endings.serve,
            on_applied=self._applied,
            on_failure=self._endings.failed,
        )
        self._outbox = outbox
        self._labour = labour
        self._identity = identity
        self._roster = roster
        self._group = group
        self._random_bytes = random_bytes
        self._timing = timing or Timing()
        self._patience = patience or Patience()
        self._on_notice = on_notice
        self._contacts = self.company.contacts
        self._conversations = self.company.conversations
        self._serve = self._endings.serve
        self._batches = Batches()

    @property
    def failure(self) -> BaseException | None:
        """What of the replica's ends the node."""
        return self.faults.fatal

    # -- what the node asks for

    def start(self, now_ms: int) -> None:
        """Dial everybody who is remembered."""
        self.company.marks.note(self._outbox.durable_vector, now_ms)
        self.fabric.services.start(self.fabric.guarded, now_ms)
        # Whom it met last, it is the likeliest to meet again.
        for member in sorted(self._roster.members.values(), key=lambda member: -member.met_ms):
            contact = self.company.add(member)
            contact.remembered = True
            contact.next_dial_ms = now_ms
        self._sentences.recall(now_ms)

    def connect(self, ticket: Ticket, answer: Answer, now_ms: int) -> None:
        """Dial a ticket's node and stay connected; the answer comes with the open conversation."""
        self._tickets.connect(ticket, answer, now_ms)

    def forget_answer(self, node_id: bytes, answer: Answer) -> str:
        """Whoever waited for the answer gave up; what was wrong so far."""
        return self._tickets.forget_answer(node_id, answer)

    def status(self, now_ms: int) -> list[PeerStatus]:
        """Everything known about every contact."""
        return self.company.status(self._outbox.durable_vector, now_ms)

    def durable_moved(self, now_ms: int) -> None:
        """The replica made more durable: push it, and acknowledge what came from peers."""
        self.company.marks.note(self._outbox.durable_vector, now_ms)
        self._report(now_ms)
        for conversation in self.company.opened():
            self._serve(conversation, partial(self._pump, conversation, now_ms), now_ms)

    def close(self, reason: str) -> None:
        """Say goodbye to everybody."""
        self._endings.over = True
        self._dialer.end()
        self._turns.clear()
        self.fabric.services.end()
        for conversation in list(self._conversations.values()):
            self.faults.contain("a goodbye", partial(_say_goodbye, conversation, reason), 0)
        self._conversations.clear()
        for contact in self._contacts.values():
            contact.open = contact.next_dial_ms = None
            contact.dialing.clear()
            contact.reply(None, Closed(reason))

    # -- what the loop feeds

    def handle(self, event: TransportEvent, now_ms: int) -> None:
        """Take one event of the transport."""
        conversation = self._conversations.get(event.link)
        if conversation is not None:
            self._serve(conversation, partial(self._take, conversation, event, now_ms), now_ms)
        elif isinstance(event, Up) and not event.link.dialed:
            accept = partial(self._accept, event.link, now_ms)
            if not self.faults.contain("accepting a link", accept, now_ms):
                event.link.close("this node cannot take it in")

    def fail_links(self, error: Exception, now_ms: int) -> None:
        """A transport tripped: what was under way in it is unknown, so all links end."""
        reason = self.faults.note("a transport", error)
        for conversation in list(self._conversations.values()):
            self._serve(
                conversation,
                partial(self._endings.end, conversation, p.INTERNAL, reason, now_ms),
                now_ms,
            )

    def tick(self, now_ms: int) -> None:
        """Let time pass: timeouts, dials that are due."""
        for conversation in list(self._conversations.values()):
            self._serve(conversation, partial(self._tick, conversation, now_ms), now_ms)
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
        if self.faults.rested_ms(SCOUT, now_ms) is None:
            look = partial(self._scout.tick, self._contacts.values(), now_ms)
            self.faults.contain(SCOUT, look, now_ms)
        self.fabric.services.tick(now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due: list[int | None] = [contact.next_dial_ms for contact in self._contacts.values()]
        due += [c.lost[0] + FALLBACK_MS for c in self._contacts.values() if c.lost is not None]
        rested_ms = self.faults.rested_ms(SCOUT, now_ms)
        due.append(rested_ms or self._scout.next_timer_ms(self._contacts.values(), now_ms))
        due.append(self.fabric.services.next_timer_ms(now_ms))
        for conversation in list(self._conversations.values()):
            look = partial(self._look_at_timers, conversation, due, now_ms)
            self._serve(conversation, look, now_ms)
        return min((moment for moment in due if moment is not None), default=None)

    def flush(self, now_ms: int) -> None:
        """Hand what the conversations have to say to their links, as far as these have room."""
        for conversation in list(self._conversations.values()):
            self._serve(conversation, partial(self._flush, conversation, now_ms), now_ms)

    # -- the same for one conversation

    def _take(self, conversation: Conversation, event: TransportEvent, now_ms: int) -> None:
        match event:
            case Data(data=data):
                conversation.bytes_in += len(data)
                self._handle(conversation, conversation.session.receive(data, now_ms), now_ms)
            case Up():
                self._reached(conversation, now_ms)
            case Down(reason=reason):
                self._endings.lost(conversation, p.TIMED_OUT, reason, now_ms)

    def _tick(self, conversation: Conversation, now_ms: int) -> None:
        if not conversation.up:
            if now_ms >= conversation.started_ms + DIAL_MS:
                conversation.link.close("no answer")
                reason = f"no answer from {conversation.link.address}"
                self._endings.lost(conversation, p.TIMED_OUT, reason, now_ms)
            return
        self._handle(conversation, conversation.session.tick(now_ms), now_ms)
        if conversation.moved_ms is not None:
            self._drain(conversation, conversation.moved_ms, now_ms)
        elif conversation.exchange is not None and conversation.session.state is State.OPEN:
            conversation.exchange.tick(now_ms)

    def _look_at_timers(
        self, conversation: Conversation, due: list[int | None], now_ms: int
    ) -> None:
        if not conversation.up:
            due.append(conversation.started_ms + DIAL_MS)
            return
        due.append(conversation.session.next_timer_ms())
        due.append(conversation.due_ms(now_ms))
        if conversation.moved_ms is not None:
            due.append(conversation.moved_ms + DRAIN_MS)
        elif conversation.exchange is not None:
            due.append(conversation.exchange.next_timer_ms(now_ms))

    def _flush(self, conversation: Conversation, now_ms: int) -> None:
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
        self._endings.lost(conversation, p.CLOSING, reason, now_ms)

    # -- from link to conversation

    def _accept(self, link: Link, now_ms: int) -> None:
        strangers = sum(c.contact is None for c in self._conversations.values())
        if strangers >= MAX_STRANGERS or self._endings.over:
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

    def _handle(self, conversation: Conversation, events: Iterable[Event], now_ms: int) -> None:
        for event in events:
            exchange = conversation.exchange
            match event:
                case p.Introduced():
                    self._admittance.introduced(conversation, event, now_ms)
                case p.Greeted(hello=hello):
                    self._admittance.greeted(conversation, hello, now_ms)
                case p.Ended():
                    self._endings.finished(conversation, event, now_ms)
                case _ if exchange is None:
                    raise AssertionError(f"{event} before the conversation is open")
                case p.Received():
                    exchange.receive(event)
                    self._turns.next(conversation, now_ms)
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

    # -- the exchange

    def _begin(self, conversation: Conversation, now_ms: int) -> None:
        """A conversation may be opened."""
        session = conversation.session
        conversation.exchange = Exchange(
            self._outbox,
            session,
            Guarded(self._labour, partial(self._serve, conversation)),
            self._patience,
            on_events=partial(self._handle, conversation),
            on_error=partial(self._endings.failed, conversation),
        )
        events = session.open(now_ms)
        self.fabric.services.opened(self.fabric.remote(conversation), now_ms)
        self._handle(conversation, events, now_ms)
        if session.state is not State.OPEN:
            return
        if session.hello is not None and session.hello.features & m.RELAY:
            for contact in self._contacts.values():
                if contact.answers:
                    self._dialer.dial_over_relays(contact, now_ms)
        self._tell_links(now_ms)
        session.report(self._outbox.durable_vector, self._outbox.vector, now_ms)
        conversation.exchange.pump(now_ms)
        self.company.check_waits()

    def _renewed(self, why: str, now_ms: int) -> None:
        """The replica has another id: peers are to know it by this, so all begin anew."""
        self._admittance.incarnation = self._random_bytes(m.REPLICA_ID_BYTES)
        self._on_notice("renewed", node_text(self._identity.node_id), why)
        reason = "this replica took a new id"
        for conversation in list(self._conversations.values()):
            end = partial(self._endings.end, conversation, p.RENEWED, reason, now_ms)
            self._serve(conversation, end, now_ms)
        for contact in self._contacts.values():
            if contact.next_dial_ms is not None:
                contact.backoff.reset()
                contact.next_dial_ms = contact.quarantine.next_dial_ms(now_ms)

    def _closed(self, conversation: Conversation, now_ms: int) -> None:
        """A conversation that was open has ended."""
        self._tell_links(now_ms)
        self.fabric.services.closed(self.fabric.remote(conversation), now_ms)

    def _pump(self, conversation: Conversation, now_ms: int) -> None:
        if conversation.exchange is not None and conversation.moved_ms is None:
            conversation.exchange.pump(now_ms)

    def _drain(self, conversation: Conversation, moved_ms: int, now_ms: int) -> None:
        """End a link that was replaced, once the peer answers over the other one."""
        contact = conversation.contact
        successor = contact.open if contact is not None else None
        heard = successor is not None and successor.session.rtt_ms is not None
        if heard or now_ms >= moved_ms + DRAIN_MS:
            self._endings.end(conversation, p.MOVED, "moved to a better link", now_ms)

    def _tell_links(self, now_ms: int) -> None:
        opened = [(c, c.session.hello.replica) for c in self.company.opened() if c.session.hello]
        for conversation, _ in opened:
            others = frozenset(replica for c, replica in opened if c is not conversation)
            if len(opened) > FULL_MESH:
                others = frozenset()  # authors do not send to everybody there (push.py)
            tell = partial(conversation.session.tell_links, others)
            self._serve(conversation, tell, now_ms)

    def _report(self, now_ms: int) -> None:
        durable, admitted = self._outbox.durable_vector, self._outbox.vector
        for conversation in self.company.opened():
            report = partial(conversation.session.report, durable, admitted, now_ms)
            self._serve(conversation, report, now_ms)

    def _acknowledged(self, conversation: Conversation, now_ms: int) -> None:
        assert conversation.contact is not None
        conversation.contact.hold(conversation.session.durable)
        self.company.check_waits()

    def _applied(self, outcome: Outcome, now_ms: int) -> None:
        self._report(now_ms)
        for node_id, reason in outcome.refused:
            self.fabric.hold_against(node_id, reason, now_ms)


def _say_goodbye(conversation: Conversation, reason: str) -> None:
    conversation.session.refuse(p.CLOSING, reason)
    try:
        conversation.flush()
    finally:
        conversation.link.close(reason)
