"""Endings: how conversations end, what is said of it, and when the peer is dialed again.

    ended by the machine  -> finished -> lost
    ended by this node    -> end      -> finished -> lost
    tripped over a fault  -> failed   -> end, or lost without a word if that trips too
    the link is gone      -> lost

`serve` is how anything is done for one conversation: what it raises ends this conversation and no
other (faults.py says as what).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from murmur.errors import PeerError, ProtocolViolation
from murmur.kvcore import Unappliable
from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync.company import Company
from murmur.sync.contact import Contact, Conversation
from murmur.sync.dialer import Dialer
from murmur.sync.faults import EXPECTED, Faults
from murmur.sync.outbox import Outbox
from murmur.sync.scout import Scout
from murmur.sync.sentences import Sentences
from murmur.sync.ticket import node_text
from murmur.sync.transport import Labour

STABLE_MS = 10_000  # a conversation that lasted so long lets the next dial come soon
FAULTLESS_MS = 300_000  # the same, of one that a fault has ended
PATIENT_ATTEMPTS = 4  # after a refusal or a goodbye, dial as if so many attempts had failed

REFUSALS = (p.WRONG_GROUP, p.NOT_ADMITTED, p.VERSION, p.FORK, p.VIOLATION, p.QUARANTINED)
FAULTS = (p.STORAGE, p.INTERNAL)
PUT_BACK = (
    "this directory was put back to an earlier state, and wrote before it met anybody who could "
    "tell it so; join the group with a new directory, and write there again what only this one has "
    "(murmur_log)"
)


class Endings:
    """The ends of one node's conversations. Called by its thread."""

    def __init__(
        self,
        company: Company,
        dialer: Dialer,
        scout: Scout,
        faults: Faults,
        sentences: Sentences,
        outbox: Outbox,
        labour: Labour,
        *,
        on_closed: Callable[[Conversation, int], None],
        on_notice: Callable[[str, str, str], None],
    ) -> None:
        """`on_closed` is told when an open conversation has ended."""
        self.over = False  # the node closes: nobody is dialed again
        self._company = company
        self._dialer = dialer
        self._scout = scout
        self._faults = faults
        self._sentences = sentences
        self._outbox = outbox
        self._labour = labour
        self._on_closed = on_closed
        self._on_notice = on_notice

    def serve(self, conversation: Conversation, call: Callable[[], object], now_ms: int) -> None:
        """Do something for one conversation; a fault ends it, and nothing else."""
        try:
            call()
        except Exception as error:
            self.failed(conversation, error, now_ms)

    def end(self, conversation: Conversation, code: int, reason: str, now_ms: int) -> None:
        """End a conversation, and tell the peer why."""
        for event in conversation.session.refuse(code, reason):
            assert isinstance(event, p.Ended)
            self.finished(conversation, event, now_ms)

    def failed(self, conversation: Conversation, error: BaseException | None, now_ms: int) -> None:
        """Something went wrong while the conversation was served: it ends."""
        if isinstance(error, ProtocolViolation):
            if isinstance(error, Unappliable) and error.record[1:9] in self._outbox.former:
                self.end(conversation, p.FORK, f"{error}: {PUT_BACK}", now_ms)
            else:
                self.end(conversation, p.VIOLATION, str(error), now_ms)
            return
        error = error or AssertionError("a worker came back with nothing")
        reason = self._faults.note("a conversation", error, peer=_name(conversation))
        if self._faults.fatal is error:
            return  # the node stops, and says goodbye to everybody
        code = p.STORAGE if isinstance(error, EXPECTED) else p.INTERNAL
        try:
            self.end(conversation, code, reason, now_ms)
        except Exception as another:
            self._faults.note("the end of a conversation", another, peer=_name(conversation))
        if conversation.link in self._company.conversations:  # it could not be ended in order
            conversation.link.close(reason)
            self.lost(conversation, code, reason, now_ms)

    def finished(self, conversation: Conversation, event: p.Ended, now_ms: int) -> None:
        """The machine has ended: so does the link."""
        try:
            conversation.flush()
        except Exception as error:  # a fault in what it had left to say
            self._faults.note("the end of a conversation", error, peer=_name(conversation))
        conversation.link.close(event.reason)
        contact, code, reason = conversation.contact, event.code, event.reason
        if event.by_peer:
            reason = f"the peer ended the conversation: {reason}"
        elif code in REFUSALS:
            text = f"{conversation.link.address}: {reason}"
            self._on_notice("refused", _name(conversation), text)
        if contact is not None and code == p.VIOLATION and not event.by_peer:
            self._quarantine(contact, conversation, event.reason, now_ms)
            if event.oversized is not None:
                self._set_aside(conversation, event.oversized, event.reason)
        if contact is not None and event.by_peer and code == p.CLOSING:
            contact.met = False  # it left in order: nobody waits for it
        if contact is not None and code in (*REFUSALS, p.CLOSING):
            contact.backoff.attempts = max(contact.backoff.attempts, PATIENT_ATTEMPTS)
        self.lost(conversation, code, reason, now_ms)

    def lost(self, conversation: Conversation, code: int, reason: str, now_ms: int) -> None:
        """The link is gone, whoever ended it: see to the contact."""
        self._company.conversations.pop(conversation.link, None)
        conversation.session.lose()  # what is being decided about it must not open it
        contact = conversation.contact
        if contact is None:
            return
        if conversation in contact.dialing:
            contact.dialing.remove(conversation)
        elif contact.open is conversation:
            self._lost_open(contact, conversation, code, reason, now_ms)
        if contact.open is not None or self.over:
            return
        if code in REFUSALS:
            contact.reply(None, PeerError(reason))
            quarantined = contact.quarantine.until_ms is not None
            if not (contact.remembered or contact.wanted or quarantined):
                self._company.forget(contact)
        self._dialer.failed(contact, reason, now_ms)
        if contact.next_dial_ms is not None:
            contact.next_dial_ms = contact.quarantine.next_dial_ms(contact.next_dial_ms)

    def _lost_open(
        self, contact: Contact, conversation: Conversation, code: int, reason: str, now_ms: int
    ) -> None:
        """Of an open conversation: is there another way, and how soon is the next dial?"""
        contact.open = contact.scout_ms = None
        self._on_closed(conversation, now_ms)
        others = self._scout.others(contact, conversation.link.address)
        if code == p.TIMED_OUT and others and not self.over:
            contact.lost, contact.ways = (now_ms, reason), others
        elif code in (p.DUPLICATE, p.MOVED, p.RENEWED) and not self.over:
            contact.lost = now_ms, reason  # the other link is about to open
        else:
            self._on_notice("disconnected", contact.name, reason)
        enough_ms = FAULTLESS_MS if code in FAULTS else STABLE_MS
        if now_ms - (conversation.session.opened_ms or 0) >= enough_ms:
            contact.backoff.reset()

    def _set_aside(self, conversation: Conversation, piece: m.Piece, reason: str) -> None:
        """Keep what can be kept of a record that is too large."""
        node_id = conversation.session.remote_id or b""

        def done(_: None, error: BaseException | None, now_ms: int) -> None:
            if error is not None:
                self.failed(conversation, error, now_ms)

        work = partial(self._outbox.set_aside, piece.part, node_id, reason, piece.total)
        self._labour.submit("apply", work, done)

    def _quarantine(
        self, contact: Contact, conversation: Conversation, reason: str, now_ms: int
    ) -> None:
        """The peer lied, in a conversation in which it had shown who it is."""
        if conversation.session.hello is not None:
            self._sentences.impose(contact, reason, now_ms)


def _name(conversation: Conversation) -> str:
    remote = conversation.session.remote_id
    return node_text(remote) if remote else ""
