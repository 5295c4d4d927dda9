"""Who has the faster core of QUIC: said in HELLO, remembered while the node runs.

A node that has it (quic_core.py) sets FEATURE. Who has it too dials it from then on at `fast:` and
its address, and looks for that way beside a conversation that is open (scout.py). Nothing else
tells of it: tickets, records of members and what is remembered hold the same addresses as ever.
"""

from __future__ import annotations

from murmur.sync.service import Fabric, Remote

FEATURE = 1 << 12


class FastOffer:
    """A service without messages: it only looks at who greets."""

    kinds = ()
    features = FEATURE

    def __init__(self, peers: set[bytes]) -> None:
        """`peers`, kept up to date, is what the transport dials by."""
        self._peers = peers

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """Nothing is to be done."""

    def opened(self, remote: Remote, now_ms: int) -> None:
        """Remember whether it has the core."""
        if remote.features & FEATURE:
            self._peers.add(remote.node_id)
        else:
            self._peers.discard(remote.node_id)

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """It has no messages."""

    def closed(self, remote: Remote, now_ms: int) -> None:
        """It may come back."""

    def tick(self, now_ms: int) -> None:
        """Nothing is timed."""

    def next_timer_ms(self, now_ms: int) -> int | None:
        """Never."""
        return None

    def end(self) -> None:
        """Nothing is to be done."""
