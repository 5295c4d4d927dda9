"""Who has the faster core of QUIC: said in HELLO, remembered while the node runs.

A node that has it (quic_core.py) sets FEATURE. Who has it too dials it from then on at `fast:` and
its address, and looks for that way beside a conversation that is open (scout.py). Nothing else
tells of it: tickets, records of members and what is remembered hold the same addresses as ever.
"""

from __future__ import annotations

from murmur.sync.service import Remote, Service

FEATURE = 1 << 12


class FastOffer(Service):
    """A service without messages: it only looks at who greets."""

    features = FEATURE

    def __init__(self, peers: set[bytes]) -> None:
        """`peers`, kept up to date, is what the transport dials by."""
        self._peers = peers

    def opened(self, remote: Remote, now_ms: int) -> None:
        """Remember whether it has the core."""
        if remote.features & FEATURE:
            self._peers.add(remote.node_id)
        else:
            self._peers.discard(remote.node_id)
