"""Sentences: who is in quarantine, over restarts; imposed and lifted, and written down first.

Whoever lied is out at once, in memory; people are told of it when it is durable. Whoever is wanted
back comes back when that is durable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from murmur.sync.company import Company
from murmur.sync.contact import Contact
from murmur.sync.roster import Member, Roster
from murmur.sync.transport import Labour

Then = Callable[[int], None]


class Sentences:
    """The quarantines of one node's contacts. Called by its thread."""

    def __init__(
        self,
        company: Company,
        roster: Roster,
        labour: Labour,
        wall_ms: Callable[[], int],
        on_notice: Callable[[str, str, str], None],
    ) -> None:
        """`wall_ms` is the wall clock."""
        self._company = company
        self._roster = roster
        self._labour = labour
        self._wall_ms = wall_ms
        self._on_notice = on_notice

    def recall(self, now_ms: int) -> None:
        """Go on with what was imposed before this process began."""
        wall_ms = self._wall_ms()
        for node_id, sentence in self._roster.sentences.items():
            if sentence.forgiven(wall_ms) or node_id in self._roster.refused:
                continue
            contact = self._company.contacts.get(node_id)
            if contact is None:
                contact = self._company.add(Member(node_id))
            contact.quarantine.resume(sentence, now_ms, wall_ms)
            if contact.next_dial_ms is not None:
                contact.next_dial_ms = contact.quarantine.next_dial_ms(contact.next_dial_ms)

    def impose(self, contact: Contact, reason: str, now_ms: int) -> None:
        """The peer lied."""
        contact.met = False  # nobody waits for it
        sentence = contact.quarantine.offend(reason, now_ms, self._wall_ms())
        text = contact.quarantine.refusal(now_ms)

        def written(_: None, error: BaseException | None, later_ms: int) -> None:
            if error is not None:
                self._tell_unwritten(contact, error)
            self._on_notice("quarantined", contact.name, text)

        write = partial(self._roster.sentence, contact.member.node_id, sentence)
        self._labour.submit("roster", write, written)

    def lift(self, contact: Contact, then: Then, now_ms: int) -> None:
        """Somebody wants the peer back: do this when it may come."""
        quarantine = contact.quarantine
        if quarantine.until_ms is None:
            then(now_ms)
            return

        def written(_: None, error: BaseException | None, later_ms: int) -> None:
            if error is not None:
                self._tell_unwritten(contact, error)
            quarantine.lift()
            then(later_ms)

        lifted = quarantine.lifted(self._wall_ms())
        write = partial(self._roster.sentence, contact.member.node_id, lifted)
        self._labour.submit("roster", write, written)

    def _tell_unwritten(self, contact: Contact, error: BaseException) -> None:
        # It holds until a restart.
        text = f"its quarantine could not be written: {error}"
        self._on_notice("error", contact.name, text)
