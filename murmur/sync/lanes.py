"""Several transports as one: the local socket first, then QUIC, then TCP.

The lane of an address is what stands before it: `unix:`, `tcp:`, nothing for QUIC. QUIC's faster
core (`fast:`) is dialed by the same lane.
"""

from __future__ import annotations

import errno
import logging
import selectors
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from murmur.sync.identity import Identity
from murmur.sync.local import LocalTransport
from murmur.sync.quic_offer import FastOffer
from murmur.sync.service import Service
from murmur.sync.transport import (
    FAST,
    LOCAL,
    RELAY,
    TCP,
    Link,
    Transport,
    TransportEvent,
    scheme_of,
)

if TYPE_CHECKING:
    from murmur.sync.circuits import RelayTransport

log = logging.getLogger("murmur.sync")


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


@dataclass(slots=True)
class Opened:
    """What was opened for a node."""

    transport: Lanes
    port: int  # that it listens on; 0: on none
    circuits: RelayTransport | None = None
    offers: Sequence[Service] = ()  # what is to be said to peers of these transports


def open_lanes(
    kind: str,
    identity: Identity,
    *,
    listen: str,
    last_port: int,
    local_directory: str | None,
    fast: bool,
    now: float,
) -> Opened:
    """What `kind` asks for: one transport, or with "adaptive" all that the system lets it have."""
    lanes: dict[str, Transport] = {}
    port = 0
    offers: list[Service] = []
    try:
        if kind in ("adaptive", "local"):
            with _dispensable(kind, "a local socket"):
                lanes[LOCAL] = LocalTransport(identity.node_id, local_directory)
        if kind in ("adaptive", "quic"):
            from murmur.sync.quic import QuicTransport  # aioquic loads on first use

            quic = QuicTransport(listen, identity, last_port=last_port, fast=fast)
            lanes[""], port = quic, quic.port
            if fast:
                offers.append(FastOffer(quic.fast_peers))
        if kind in ("adaptive", "tcp"):
            from murmur.sync.tls import TlsTransport

            with _dispensable(kind, "TCP"):
                tcp = TlsTransport(listen, identity, last_port=port or last_port)
                lanes[TCP], port = tcp, port or tcp.port
    except BaseException:
        for lane in lanes.values():
            lane.close(now)
        raise
    circuits = None
    if kind == "adaptive":
        from murmur.sync.circuits import RelayTransport

        lanes[RELAY] = circuits = RelayTransport(identity)
    # The order of the lanes is the order of dialing.
    return Opened(Lanes(lanes), port, circuits, offers)


@contextmanager
def _dispensable(kind: str, what: str) -> Iterator[None]:
    """Do without this transport if the system refuses it, unless it was asked for."""
    try:
        yield
    except OSError as error:
        if kind != "adaptive":
            raise
        log.warning("this node does without %s: %s", what, error)
