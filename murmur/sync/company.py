"""The company: everybody whom a node knows, and how it stands with each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from murmur.sync.backoff import Backoff
from murmur.sync.bandwidth import TokenBucket
from murmur.sync.contact import Contact, Conversation, Wait
from murmur.sync.lag import Marks
from murmur.sync.messages import Vector
from murmur.sync.roster import Member
from murmur.sync.status import PeerInfo, PeerStatus
from murmur.sync.transport import LOCAL, Link, scheme_of


class Company:
    """The contacts of one node, by node id, and the conversations with them, by link."""

    def __init__(
        self,
        random: Random,
        *,
        bandwidth: int | None,
        peer_bandwidth: int | None,
        on_notice: Callable[[str, str, str], None],
    ) -> None:
        self.contacts: dict[bytes, Contact] = {}
        self.conversations: dict[Link, Conversation] = {}
        self.marks = Marks()
        self._random = random
        self._waits: list[Wait] = []
        self._bucket = None if bandwidth is None else TokenBucket(bandwidth)
        self._peer_bandwidth = peer_bandwidth
        self._on_notice = on_notice

    def add(self, member: Member) -> Contact:
        """Know one more."""
        contact = Contact(member, Backoff(self._random))
        mine = None if self._peer_bandwidth is None else TokenBucket(self._peer_bandwidth)
        contact.buckets = [bucket for bucket in (self._bucket, mine) if bucket is not None]
        self.contacts[member.node_id] = contact
        return contact

    def forget(self, contact: Contact) -> None:
        """Know one less."""
        contact.forgotten = True
        del self.contacts[contact.member.node_id]

    def opened(self) -> list[Conversation]:
        """The conversations that are open, one with each who is connected."""
        return [contact.open for contact in self.contacts.values() if contact.open is not None]

    def buckets_of(self, contact: Contact, link: Link) -> Sequence[TokenBucket]:
        """What limits the bytes of a link; nothing, on this host."""
        return () if scheme_of(link.address) == LOCAL else contact.buckets

    def give_up_dials(self, contact: Contact, reason: str, but: Conversation | None = None) -> None:
        """End the dials of a contact that are under way, but for one."""
        for conversation in contact.dialing:
            if conversation is not but:
                self.conversations.pop(conversation.link, None)
                conversation.session.lose()
                conversation.link.close(reason)
        # One that is open already is no dial any more, even if it learns only now that it is up.
        contact.dialing = [but] if but is not None and but in contact.dialing else []
        if but is not None:
            contact.next_dial_ms = None

    def remembered(
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

    # -- what may be asked

    def connected(self) -> list[PeerInfo]:
        """The peers with an open conversation."""
        return [contact.info() for contact in self.contacts.values() if contact.open is not None]

    def status(self, durable: Vector, now_ms: int) -> list[PeerStatus]:
        """Everything known about every contact, compared with what is durable here."""
        return [contact.status(durable, self.marks, now_ms) for contact in self.contacts.values()]

    def wait(self, wait: Wait) -> None:
        """Call `wait.done` once the peers hold the vector."""
        self._waits.append(wait)
        self.check_waits()

    def forget_wait(self, wait: Wait) -> list[str]:
        """Whoever waited gave up; the peers that are late."""
        if wait in self._waits:
            self._waits.remove(wait)
        return [c.name for c in wait.contacts(self.contacts) if not c.holds(wait.vector)]

    def check_waits(self) -> None:
        """Peers may hold more than before."""
        for wait in list(self._waits):
            if wait.over(self.contacts):
                self._waits.remove(wait)
                wait.done()
