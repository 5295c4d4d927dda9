"""Several transports as one: the local socket first, then QUIC, then TCP.

The lane of an address is what stands before it: `unix:`, `tcp:`, nothing for QUIC. QUIC's faster
core (`fast:`) is dialed by the same lane.
"""

from __future__ import annotations

import errno
import selectors
from collections.abc import Mapping, Sequence

from murmur.sync.transport import FAST, Link, Transport, TransportEvent, scheme_of


class Lanes:
    """A node's transports, by the scheme of their addresses, best first."""

    def __init__(self, lanes: Mapping[str, Transport]) -> None:
        self._lanes = dict(lanes)
        self._selector = selectors.DefaultSelector()
        for lane in self._lanes.values():
            self._selector.register(lane, selectors.EVENT_READ)

    @property
    def addresses(self) -> Sequence[str]:
        """Where this node can be dialed, over all of them."""
        return tuple(address for lane in self._lanes.values() for address in lane.addresses)

    def fileno(self) -> int:
        """A descriptor that is readable when any lane has something to do."""
        return self._selector.fileno()

    def ways(self, node_id: bytes, addresses: Sequence[str]) -> Sequence[str]:
        """Where to dial, best lane first."""
        return [way for lane in self._lanes.values() for way in lane.ways(node_id, addresses)]

    def dial(self, address: str, now: float) -> Link:
        """Dial over the lane that the address names."""
        scheme = scheme_of(address)
        lane = self._lanes.get("" if scheme == FAST else scheme)
        if lane is None:
            raise OSError(errno.EAFNOSUPPORT, f"no transport of this node reaches {address}")
        return lane.dial(address, now)

    def poll(self, now: float) -> list[TransportEvent]:
        """What happened on any lane."""
        self._selector.select(0)
        return [event for lane in self._lanes.values() for event in lane.poll(now)]

    def flush(self, now: float) -> None:
        """Send what was written."""
        for lane in self._lanes.values():
            lane.flush(now)

    def next_timer(self) -> float | None:
        """When `poll` is due."""
        timers = (lane.next_timer() for lane in self._lanes.values())
        return min((timer for timer in timers if timer is not None), default=None)

    def close(self, now: float) -> None:
        """Close every lane."""
        for lane in self._lanes.values():
            lane.close(now)
        self._selector.close()
