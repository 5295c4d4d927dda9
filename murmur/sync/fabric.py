"""The fabric: the mesh as its services see it.

Services speak to peers, not to links: a link that takes another's place is no news to them, but
that the conversation on it is a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from random import Random

from murmur.errors import ProtocolViolation
from murmur.sync.contact import Contact, Conversation
from murmur.sync.exchange import Exchange
from murmur.sync.faults import Guarded, Run
from murmur.sync.outbox import Outbox
from murmur.sync.peer import VIOLATION
from murmur.sync.service import Remote, Services, Urgency
from murmur.sync.ticket import node_text
from murmur.sync.transport import Labour

SKEW_NOTICE_MS = 2_000

End = Callable[[Conversation, int, str, int], None]


class MeshFabric:
    """What the services of one mesh may ask for."""

    def __init__(
        self,
        node_id: bytes,
        contacts: Mapping[bytes, Contact],
        outbox: Outbox,
        labour: Labour,
        random: Random,
        services: Services,
        *,
        end: End,
        on_notice: Callable[[str, str, str], None],
    ) -> None:
        """`end` ends a conversation with a code and a reason."""
        self.outbox = outbox
        self.labour: Labour = labour
        self.random = random
        self.services = services
        self._node_id = node_id
        self._contacts = contacts
        self._end = end
        self._on_notice = on_notice

    def guarded(self, run: Run) -> MeshFabric:
        """The same for one service, the results of whose work are handed on by `run`."""
        mine = copy(self)
        mine.labour = Guarded(self.labour, run)
        return mine

    @property
    def node_id(self) -> bytes:
        """This node."""
        return self._node_id

    def remotes(self) -> list[Remote]:
        """Everybody with whom a conversation is open."""
        opened = (c.open for c in self._contacts.values())
        return [self.remote(conversation) for conversation in opened if conversation is not None]

    def flow(self, node_id: bytes) -> Exchange | None:
        """The records of the conversation with a node, if one is open."""
        contact = self._contacts.get(node_id)
        return contact.open.exchange if contact is not None and contact.open is not None else None

    def clock_of(self, node_id: bytes, clock_ms: int) -> None:
        """What the peer's clock says now: clocks jump, also during a conversation."""
        contact = self._contacts.get(node_id)
        if contact is not None and contact.open is not None:
            conversation, before = contact.open, contact.open.skew_ms
            conversation.skew_ms = clock_ms - self.outbox.clock.now_ms()
            if abs(conversation.skew_ms - before) >= SKEW_NOTICE_MS:
                self.tell_skew(conversation, contact)

    def tell_skew(self, conversation: Conversation, contact: Contact) -> None:
        """Tell people that a clock is wrong, if it is."""
        if abs(conversation.skew_ms) < SKEW_NOTICE_MS:
            return
        text = f"its clock is {conversation.skew_ms / 1000:+.1f} s from this one's"
        self._on_notice("skew", contact.name, text)

    def say(self, node_id: bytes, kind: int, payload: bytes, urgency: Urgency) -> bool:
        """Send a service's message; False if no conversation with the node is open."""
        contact = self._contacts.get(node_id)
        if contact is None or contact.open is None:
            return False
        contact.open.session.say(kind, payload, urgency)
        return True

    def hold(self, node_id: bytes, now_ms: int, *, held: bool) -> None:
        """Send the node nothing from the log while it takes a snapshot."""
        contact = self._contacts.get(node_id)
        if contact is not None and contact.open is not None:
            assert contact.open.exchange is not None
            contact.open.exchange.hold(now_ms, held=held)

    def hold_against(self, node_id: bytes, reason: str, now_ms: int) -> None:
        """The node lied: end the conversation as a violation."""
        contact = self._contacts.get(node_id)
        if contact is not None and contact.open is not None:
            self._end(contact.open, VIOLATION, reason, now_ms)

    def notice(self, kind: str, node_id: bytes, text: str) -> None:
        """Tell people; what is wrong with a peer also stands in its status."""
        contact = self._contacts.get(node_id)
        if contact is not None and kind in ("diverged", "error"):
            contact.last_error = text
        self._on_notice(kind, node_text(node_id), text)

    def said(self, conversation: Conversation, kind: int, payload: bytes, now_ms: int) -> None:
        """A peer said something to a service."""
        if conversation.moved_ms is not None:
            return  # services have heard that this one is closed
        remote = self.remote(conversation)
        try:
            self.services.received(remote, kind, payload, now_ms)
        except ProtocolViolation as error:
            self._end(conversation, VIOLATION, str(error), now_ms)

    def remote(self, conversation: Conversation) -> Remote:
        """The peer of an open conversation."""
        session, hello = conversation.session, conversation.session.hello
        assert session.remote_id is not None
        assert hello is not None
        return Remote(
            session.remote_id,
            hello.replica,
            hello.incarnation,
            hello.features & self.services.features,
            conversation.link.address,
            session.rtt_ms,
            session.links,
            hello.features,
        )
