"""By ticket: who is dialed because somebody asked for it, and who waits for that.

connect -> the ticket's node is dialed                      -> the answer, when it is connected
        -> its relays are, RELAYS_MS later, to go through      or refuses
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from murmur.errors import Closed, InvalidInput, PeerError
from murmur.sync.company import Company
from murmur.sync.contact import Answer, Contact
from murmur.sync.dialer import Dialer
from murmur.sync.endings import Endings
from murmur.sync.roster import Member, Roster
from murmur.sync.sentences import Sentences
from murmur.sync.ticket import Hint, Ticket

RELAYS_MS = 1_000  # that a ticket's node has to answer before the ticket's relays are dialed


class Tickets:
    """What tickets are used for. Called by the node's thread."""

    def __init__(
        self,
        company: Company,
        roster: Roster,
        dialer: Dialer,
        sentences: Sentences,
        endings: Endings,
        *,
        node_id: bytes,
        group: str,
    ) -> None:
        """`node_id` is this node's own."""
        self._company = company
        self._roster = roster
        self._dialer = dialer
        self._sentences = sentences
        self._endings = endings
        self._node_id = node_id
        self._group = group

    def connect(self, ticket: Ticket, answer: Answer, now_ms: int) -> None:
        """Dial a ticket's node and stay connected; the answer comes with the open conversation."""
        if self._endings.over:
            answer(None, Closed("the node is closed"))
            return
        if ticket.node_id == self._node_id:
            answer(None, InvalidInput("ticket: it is this node's own"))
            return
        if ticket.group != self._group:
            theirs = f"ticket: it is for group {ticket.group!r}"
            answer(None, PeerError(f"{theirs}, this node is in {self._group!r}"))
            return
        contact = self._company.contacts.get(ticket.node_id)
        if contact is None:
            contact = self._company.add(Member(ticket.node_id, ticket.addresses, ticket.invite))
        else:
            addresses = tuple(dict.fromkeys(ticket.addresses + contact.member.addresses))
            invite = ticket.invite or contact.member.invite
            contact.member = replace(contact.member, addresses=addresses, invite=invite)
        if contact.open is not None and contact.remembered:
            answer(contact.info(), None)
            return
        for hint in ticket.relays:
            self._know_relay(hint, now_ms)
        # The refusal of a dial under way, made before this was asked for, would answer for it.
        self._company.give_up_dials(contact, "dialed again with a ticket")
        contact.answers.append(answer)
        # Whoever asks for it by name wants it back.
        self._sentences.lift(contact, partial(self._dial_anew, contact), now_ms)

    def _dial_anew(self, contact: Contact, now_ms: int) -> None:
        contact.ways.clear()
        if not contact.dialing:
            self._dialer.dial(contact, now_ms)

    def _know_relay(self, hint: Hint, now_ms: int) -> None:
        """A ticket's relay: dialed a little later, for whom the ticket's node does not answer."""
        if hint.node_id == self._node_id or hint.node_id in self._roster.refused:
            return
        contact = self._company.contacts.get(hint.node_id)
        if contact is None:
            member = Member(hint.node_id, hint.addresses, hint.invite)
            contact = self._company.add(member)
            contact.wanted = True
        if contact.open is None and not contact.dialing:
            contact.next_dial_ms = now_ms + RELAYS_MS

    def forget_answer(self, node_id: bytes, answer: Answer) -> str:
        """Whoever waited for the answer gave up; what was wrong so far."""
        contact = self._company.contacts.get(node_id)
        if contact is None:
            return "the node was never reached"
        if answer in contact.answers:
            contact.answers.remove(answer)
        if not contact.remembered and not contact.answers and contact.open is None:
            self._company.forget(contact)
            self._company.give_up_dials(contact, "nobody waits for it any more")
        return contact.last_error or "no answer"
