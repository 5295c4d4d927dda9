"""The reception: who is found is dialed if it is one of the group's, else noted at the door."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from murmur.sync.company import Company
from murmur.sync.discovery.door import Door, Stranger
from murmur.sync.discovery.introductions import ENOUGH
from murmur.sync.discovery.sighting import Sighting
from murmur.sync.fabric import End, MeshFabric
from murmur.sync.messages import MAX_ADDRESSES
from murmur.sync.peer import NOT_ADMITTED
from murmur.sync.roster import Member, Roster
from murmur.sync.sentences import Sentences


class Reception:
    """What becomes of the nodes that are seen. Called by the node's thread."""

    def __init__(
        self,
        company: Company,
        roster: Roster,
        fabric: MeshFabric,
        end: End,
        sentences: Sentences,
        accept: str,
    ) -> None:
        self.door = Door(roster, fabric.outbox.clock.now_ms, accept)
        self._company = company
        self._roster = roster
        self._fabric = fabric
        self._end = end
        self._sentences = sentences

    def meet(self, seen: Sighting, now_ms: int) -> None:
        """A node of the group was seen: dial it if it is one of ours, else note it at the door."""
        node_id = seen.node_id
        if node_id == self._fabric.node_id or node_id in self._roster.refused:
            return
        contact = self._company.contacts.get(node_id)
        if contact is None:
            if seen.via != "introduced" and self.door.accept != "all":
                if self.door.note(seen):
                    self._fabric.notice("found", node_id, f"by {seen.via}; accept_peer admits it")
                return
            self.door.take(node_id)
            contact = self._company.add(Member(node_id, seen.addresses))
            contact.wanted = True
        else:
            addresses = tuple(dict.fromkeys(seen.addresses + contact.member.addresses))
            contact.member = replace(contact.member, addresses=addresses[:MAX_ADDRESSES])
        near = seen.via in ("mdns", "host", "accepted")
        if contact.open is None and (near or len(self._company.opened()) < ENOUGH):
            contact.next_dial_ms = now_ms

    def strangers(self) -> list[Stranger]:
        """Who waits to be accepted."""
        return list(self.door.pending.values())

    def accept(self, node_id: bytes, now_ms: int) -> None:
        """Admit a node, known or not, also one that lied, and dial it where it was seen."""
        stranger = self.door.take(node_id)
        addresses = stranger.addresses if stranger is not None else ()
        contact = self._company.contacts.get(node_id) or self._company.add(
            Member(node_id, addresses)
        )
        contact.wanted = True
        admit = partial(self._roster.admit, contact.member)

        def admitted(_: None, error: BaseException | None, later_ms: int) -> None:
            self._company.remembered(contact, None, error, later_ms)
            seen = Sighting(node_id, addresses, "accepted")
            self._sentences.lift(contact, partial(self.meet, seen), later_ms)

        self._fabric.labour.submit("roster", admit, admitted)

    def refuse(self, node_id: bytes, now_ms: int) -> None:
        """Keep a node out from now on; a conversation with it ends."""
        self.door.take(node_id)
        contact = self._company.contacts.get(node_id)
        if contact is not None:
            conversation, contact.remembered, contact.wanted = contact.open, False, False
            if conversation is not None:
                self._end(conversation, NOT_ADMITTED, "refused", now_ms)
            if not contact.forgotten:
                self._company.give_up_dials(contact, "refused")
                self._company.forget(contact)

    def acquaintances(self) -> list[tuple[Member, int]]:
        """The members that were met, and how many seconds ago."""
        now_ms = self._fabric.outbox.clock.now_ms()
        return [
            (c.member, 0 if c.open is not None else max(0, now_ms - c.member.met_ms) // 1000)
            for c in self._company.contacts.values()
            if c.member.met
        ]
