"""The scouts of one node: who is found on this host and on the local network comes to the mesh."""

from __future__ import annotations

import logging
from collections.abc import Callable

from murmur.sync.discovery.host import HostScout
from murmur.sync.discovery.mdns import MulticastScout
from murmur.sync.discovery.sighting import Sighting
from murmur.sync.service import Fabric, Service

LOOK_MS = 5_000  # between two looks at this host's nodes

log = logging.getLogger("murmur.sync")


class Scouts(Service):
    """A service without messages: it looks around, and tells the mesh whom it sees."""

    def __init__(self, meet: Callable[[Sighting, int], None]) -> None:
        self._meet = meet
        self._host: HostScout | None = None
        self._mdns: MulticastScout | None = None
        self._look_ms: int | None = None
        self._ended = False

    def send(self, host: HostScout | None, mdns: MulticastScout | None, now_ms: int) -> None:
        """Look with these from now on; those before them come home."""
        self._recall()
        self._host, self._mdns = host, mdns
        self._look_ms = None if host is None else now_ms
        if self._ended:
            self._recall()

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """Begin."""
        self._fabric = fabric

    def tick(self, now_ms: int) -> None:
        """Look at this host, now and then."""
        host = self._host
        if host is None or self._look_ms is None or now_ms < self._look_ms:
            return
        self._look_ms = now_ms + LOOK_MS

        def looked(
            found: list[Sighting] | None, error: BaseException | None, later_ms: int
        ) -> None:
            if error is not None:
                log.warning("the nodes of this host cannot be seen: %s", error)
            for seen in found or ():
                self._meet(seen, later_ms)

        self._fabric.labour.submit("names", host.look, looked)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        return self._look_ms

    def end(self) -> None:
        """The mesh closes."""
        self._ended = True
        self._recall()

    def _recall(self) -> None:
        host, mdns = self._host, self._mdns
        self._host = self._mdns = self._look_ms = None
        if host is not None:
            host.close()
        if mdns is not None:
            mdns.close()
