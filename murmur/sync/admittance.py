"""Admittance: from the proof of a key to an open conversation.

    Introduced   quarantined? at the door? too many?      admitted: durable, then HELLO
    Greeted      has it more of this replica than is here?    a new id, and all begin anew
                 can both histories be true?              fork
                 is there another link with it?           one of the two stays
                 -> opened

Two nodes that dial each other at once end up with two links. Both keep the one that the smaller
node id dialed. Otherwise the newer link wins: a node does not dial whom it believes connected, so
the peer has lost the older one.

A link of a better kind (scout.py) takes an open one's place: the conversation over it begins with
both vectors like any other, so nothing is missed; the older one ends when the peer answers over the
new one. Peers are not said to be disconnected meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync.company import Company
from murmur.sync.contact import Conversation
from murmur.sync.discovery.reception import Reception
from murmur.sync.discovery.sighting import Sighting
from murmur.sync.endings import Endings
from murmur.sync.fabric import MeshFabric
from murmur.sync.faults import Guarded
from murmur.sync.greeting import fork_between, hello_of, put_back, tips_of
from murmur.sync.outbox import Outbox
from murmur.sync.peer import Event, State
from murmur.sync.roster import Member, Roster
from murmur.sync.scout import rank
from murmur.sync.transport import Labour, Transport, dialable

TIE_MS = 5_000  # links that came up within this time were dialed at once
MAX_CONVERSATIONS = 128
RENEW_MS = 60_000  # the replica takes no second id within this time

Result = TypeVar("Result")


class Admittance:
    """Who of those that reach this node gets to converse with it. Called by its thread."""

    def __init__(
        self,
        company: Company,
        reception: Reception,
        roster: Roster,
        outbox: Outbox,
        transport: Transport,
        fabric: MeshFabric,
        endings: Endings,
        labour: Labour,
        *,
        incarnation: bytes,
        handle: Callable[[Conversation, Iterable[Event], int], None],
        begin: Callable[[Conversation, int], None],
        on_renewed: Callable[[str, int], None],
        on_notice: Callable[[str, str, str], None],
    ) -> None:
        """`handle` takes a machine's events, `begin` opens a conversation. `on_renewed` is told
        why the replica took a new id: what conversations believed of it is no longer true."""
        self.incarnation = incarnation
        self._renewed_ms: int | None = None
        self._on_renewed = on_renewed
        self._company = company
        self._reception = reception
        self._roster = roster
        self._outbox = outbox
        self._transport = transport
        self._fabric = fabric
        self._endings = endings
        self._labour = labour
        self._handle = handle
        self._begin = begin
        self._on_notice = on_notice

    def introduced(self, conversation: Conversation, event: p.Introduced, now_ms: int) -> None:
        """The peer is who it says: may it come in?"""
        session, end = conversation.session, self._endings.end
        contacts, door = self._company.contacts, self._reception.door
        known = contacts.get(event.node_id)
        if known is not None and (reason := known.quarantine.refusal(now_ms)):
            end(conversation, p.QUARANTINED, reason, now_ms)
            return
        # Whom this node dials itself may come in too, before the roster has been written.
        stranger = event.node_id not in self._roster.members and (
            known is None or not (known.remembered or known.wanted or known.answers or known.open)
        )
        if stranger and not door.open_to(event.node_id, invited=event.invited):
            seen = Sighting(event.node_id, dialable(conversation.link), "dialed")
            if door.note(seen, asks=True):
                self._fabric.notice("pending", event.node_id, "it asks to be accepted")
            reason = "not admitted: it must be accepted there, or use a ticket with an invite"
            end(conversation, p.NOT_ADMITTED, reason, now_ms)
            return
        connected = known is not None and known.open is not None
        if not connected and len(self._company.opened()) >= MAX_CONVERSATIONS:
            end(conversation, p.BUSY, "enough conversations", now_ms)
            return

        def admit() -> m.Hello:
            if stranger:
                self._roster.admit(Member(event.node_id))
            addresses, features = self._transport.addresses, self._fabric.services.features
            return hello_of(self._outbox, self.incarnation, addresses, features)

        def admitted(hello: m.Hello | None, error: BaseException | None, later_ms: int) -> None:
            if error is not None or hello is None:
                self._endings.failed(conversation, error, later_ms)
            else:
                self._handle(conversation, session.admit(hello, later_ms), later_ms)

        self._submit(conversation, admit, admitted)

    def greeted(self, conversation: Conversation, hello: m.Hello, now_ms: int) -> None:
        """The peer said where it stands: can both histories be true?"""
        outbox = self._outbox
        conversation.skew_ms = hello.clock_ms - outbox.clock.now_ms()
        # Once is an accident. More often it is a peer that lies.
        may_renew = self._renewed_ms is None or now_ms - self._renewed_ms >= RENEW_MS

        def judge() -> tuple[Mapping[bytes, m.Tip], str | None]:
            # Here and at once: until it has a new id, what the application commits may fork.
            why = put_back(hello, outbox)
            if why is not None and may_renew:
                outbox.renew(why)
            return tips_of(outbox), why

        def judged(
            found: tuple[Mapping[bytes, m.Tip], str | None] | None,
            error: BaseException | None,
            now_ms: int,
        ) -> None:
            if error is not None or found is None:
                self._endings.failed(conversation, error, now_ms)
                return
            tips, why = found
            if why is not None and may_renew:
                self._renewed_ms = now_ms
                self._on_renewed(why, now_ms)
                return
            fork = why or fork_between(hello, outbox.id, tips)
            if fork is not None:
                self._endings.end(conversation, p.FORK, fork, now_ms)
            elif conversation.session.state is State.JUDGING and self._stays(
                conversation, hello, now_ms
            ):
                self._opened(conversation, hello, now_ms)

        self._submit(conversation, judge, judged)

    def _submit(
        self,
        conversation: Conversation,
        work: Callable[[], Result],
        done: Callable[[Result | None, BaseException | None, int], None],
    ) -> None:
        run = partial(self._endings.serve, conversation)
        Guarded(self._labour, run).submit("roster", work, done)

    def _stays(self, conversation: Conversation, hello: m.Hello, now_ms: int) -> bool:
        """Settle the tie with an open conversation with the same node, if there is one."""
        session, link, end = conversation.session, conversation.link, self._endings.end
        assert session.remote_id is not None
        contact = self._company.contacts.get(session.remote_id)
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
            end(conversation, p.DUPLICATE, "a better link stays", now_ms)
            return False
        at_once = recent and old.link.dialed != link.dialed
        mine_is_smaller = self._fabric.node_id < session.remote_id
        if at_once and link.dialed != mine_is_smaller:
            end(conversation, p.DUPLICATE, "another link stays", now_ms)
            return False
        if not same:
            end(old, p.DUPLICATE, "a newer link stays", now_ms)
        return True

    def _opened(self, conversation: Conversation, hello: m.Hello, now_ms: int) -> None:
        """Enter it in the books, and begin."""
        session, link = conversation.session, conversation.link
        assert session.remote_id is not None
        contact = self._company.contacts.get(session.remote_id) or self._company.add(
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
        conversation.contact = contact
        conversation.buckets = self._company.buckets_of(contact, link)
        if old is None:
            contact.durable = dict(hello.vector)  # it may hold less than it once did
        else:
            contact.hold(hello.vector)
            old.moved_ms = now_ms
            self._fabric.services.closed(self._fabric.remote(old), now_ms)
        remember = partial(self._roster.admit, contact.member)
        self._labour.submit("roster", remember, partial(self._company.remembered, contact))
        moved = old is not None or lost is not None
        self._on_notice("moved" if moved else "connected", contact.name, f"at {link.address}")
        self._fabric.tell_skew(conversation, contact)
        self._begin(conversation, now_ms)
