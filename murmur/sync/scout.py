"""Better ways to peers that are connected: looked for now and then, taken without a gap.

    rank    0 a socket of this host    1 QUIC, its faster core    2 QUIC    3 TLS over TCP
            4 a relay

A peer that is reached over TCP may become reachable over QUIC, or turn up on this host. So beside a
conversation over a lesser link the better ways are dialed, one at a time: a new way at once, one
that failed after a pause that doubles. Either side may do it. When the conversation over the better
link is open it takes over (mesh.py), and its vectors make the hand-over gapless.

When a link dies the other ways are dialed at once; only if none of them comes up within
FALLBACK_MS is the peer said to be disconnected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from murmur.errors import InvalidInput
from murmur.sync.contact import Contact
from murmur.sync.transport import FAST, LOCAL, RELAY, TCP, Link, Transport, look_up, scheme_of

RANKS = {LOCAL: 0, FAST: 1, "": 2, TCP: 3, RELAY: 4}
LOOK_MS = 5_000  # whether there is a way that was not tried
PAUSE_MS, PAUSE_MOST_MS = 10_000, 600_000  # before a way is tried again
FALLBACK_MS = 1_000


def rank(address: str) -> int:
    """How good a way to a peer is: less is better."""
    return RANKS[scheme_of(address)]


class Scout:
    """Dials better ways to contacts that are open."""

    def __init__(
        self, transport: Transport, random: Random, begun: Callable[[Contact, Link, int], None]
    ) -> None:
        """`begun` is told of each link that may come up."""
        self._transport = transport
        self._random = random
        self._begun = begun

    def others(self, contact: Contact, lost: str) -> list[str]:
        """The ways that are not of the kind that was just lost."""
        member = contact.member
        ways = self._transport.ways(member.node_id, member.addresses)
        return [way for way in ways if rank(way) != rank(lost)]

    def tick(self, contacts: Iterable[Contact], now_ms: int) -> None:
        """Look for ways to whom it is time."""
        for contact in contacts:
            if contact.open is None or not rank(contact.open.link.address):
                continue
            if contact.scout_ms is None:
                contact.scout_ms = now_ms + self._jitter(LOOK_MS)
            elif now_ms >= contact.scout_ms:
                contact.scout_ms = now_ms + self._jitter(LOOK_MS)
                if not contact.dialing:
                    self._dial(contact, now_ms)

    def next_timer_ms(self, contacts: Iterable[Contact], now_ms: int) -> int | None:
        """When tick() is due."""
        due = (
            now_ms if contact.scout_ms is None else contact.scout_ms
            for contact in contacts
            if contact.open is not None and rank(contact.open.link.address)
        )
        return min(due, default=None)

    def _dial(self, contact: Contact, now_ms: int) -> None:
        """Dial the first better way that was not tried lately."""
        assert contact.open is not None
        member, present = contact.member, rank(contact.open.link.address)
        ways = self._transport.ways(member.node_id, member.addresses)
        better = {way for way in ways if rank(way) < present}
        tried = contact.tried = {way: t for way, t in contact.tried.items() if way in better}
        for way in ways:
            again_ms, pause_ms = tried.get(way, (now_ms, PAUSE_MS // 2))
            if way not in better or now_ms < again_ms:
                continue
            pause_ms = min(2 * pause_ms, PAUSE_MOST_MS)
            tried[way] = now_ms + self._jitter(pause_ms), pause_ms
            try:
                numeric = look_up(way, numeric=True)
                link = self._transport.dial(numeric[0], now_ms / 1000) if numeric else None
            except (OSError, InvalidInput):
                continue
            if link is not None:
                self._begun(contact, link, now_ms)
                return

    def _jitter(self, pause_ms: int) -> int:
        return int(pause_ms * (0.5 + self._random.random() / 2))
