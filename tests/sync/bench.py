"""Transports that are turned by hand in one loop, and what each of their links brought."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from murmur.sync.transport import Data, Link, Transport, TransportEvent, Up
from tests.patience import PATIENCE_S

T = TypeVar("T", bound=Transport)


class Bench(Generic[T]):
    def __init__(self) -> None:
        self.transports: list[T] = []
        self.events: dict[T, list[TransportEvent]] = {}

    def keep(self, transport: T) -> T:
        self.transports.append(transport)
        self.events[transport] = []
        return transport

    def run(self, until: Callable[[], object], seconds: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, self.events
            for transport in self.transports:
                transport.flush(time.monotonic())
            select.select(self.transports, [], [], 0.005)
            for transport in self.transports:
                self.events[transport] += transport.poll(time.monotonic())

    def of(self, transport: T, kind: type) -> list[TransportEvent]:
        return [event for event in self.events[transport] if isinstance(event, kind)]

    def data(self, transport: T) -> bytes:
        return b"".join(e.data for e in self.events[transport] if isinstance(e, Data))

    def link(self, transport: T) -> Link:
        return self.of(transport, Up)[0].link

    def join(self, a: T, b: T, address: str) -> tuple[T, T, Link, Link]:
        """Let b dial a; both, the link that a accepted and the one that b dialed."""
        dialed = b.dial(address, time.monotonic())
        self.run(lambda: self.of(a, Up) and self.of(b, Up))
        return a, b, self.link(a), dialed

    def close(self) -> None:
        for transport in self.transports:
            transport.close(time.monotonic())
