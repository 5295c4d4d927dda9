"""Services: what nodes have to say to each other besides records.

A service is a machine without I/O, like the conversation that carries it: the mesh tells it whose
conversation opened or ended, what a peer said, and what time it is; it answers through its Fabric.
Each has message types of its own, sent as ignorable frames: a peer without the service skips them.

    types      of
    20-29      bootstrap
    30-39      push, pull, verification
    40-49      relay
    50-59      membership, election
    60-69      discovery

Invariants:
    1. A service hears only of open conversations: opened, then received..., then closed, per peer.
    2. A ProtocolViolation that `received` raises ends the conversation with the peer who lied.
    3. What else `opened` and `received` raise ends the conversation, without blame. What the other
       calls and the results of a service's work raise is told, and costs nobody else anything; a
       service whose timer failed rests (faults.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from random import Random
from typing import Protocol

from murmur.sync.faults import Faults, Run
from murmur.sync.outbox import Outbox, Vector
from murmur.sync.transport import Labour


class Urgency(IntEnum):
    """The class of a message: none of them can starve another."""

    CONTROL = 0  # keep-alives, acknowledgements, votes
    LIVE = 1  # what was just committed
    SYNC = 2  # what a peer lacks
    BULK = 3  # snapshots


@dataclass(frozen=True, slots=True)
class Remote:
    """A peer with whom a conversation is open."""

    node_id: bytes
    replica: bytes
    incarnation: bytes  # of its process: changes with every start
    features: int  # what both sides have, of messages.py
    address: str
    rtt_ms: int | None
    links: frozenset[bytes]  # the replicas with whom it says that it converses
    offers: int = 0  # what the peer says that it has, whether this side has it or not


class Flow(Protocol):
    """The records of an open conversation, in both directions."""

    @property
    def duplicates(self) -> int:
        """Records that came and were known already."""
        ...

    @property
    def heard(self) -> int:
        """Acknowledgements that came; with them `durable` grows."""
        ...

    @property
    def durable(self) -> Vector:
        """What the peer durably holds."""
        ...

    @property
    def busy(self) -> bool:
        """Whether something has arrived and is not yet applied."""
        ...

    @property
    def received(self) -> int:
        """Records that came."""
        ...

    @property
    def received_bytes(self) -> int:
        """How long they were."""
        ...

    @property
    def progress(self) -> int:
        """Slices of them that were applied; with them `arrived` grows."""
        ...

    @property
    def arrived(self) -> Vector:
        """The newest of each author that came, admitted or not."""
        ...

    def turn(self, *, eager: bool, now_ms: int) -> None:
        """Send new records at once from now on, or no more."""
        ...

    def leave(self, until_ms: int) -> None:
        """Leave it to the peer to ask for what it lacks now, as long as it does."""
        ...

    def give(self, ranges: Mapping[bytes, tuple[int, int]], now_ms: int) -> None:
        """Send these transactions, first to last of each author, as far as they are here."""
        ...

    def hear(self, durable: Vector) -> None:
        """The peer says that it durably holds this."""
        ...


class Fabric(Protocol):
    """What a service may ask for."""

    @property
    def node_id(self) -> bytes:
        """This node."""
        ...

    @property
    def outbox(self) -> Outbox:
        """This replica."""
        ...

    @property
    def labour(self) -> Labour:
        """Where work is done that may block."""
        ...

    @property
    def random(self) -> Random:
        """The node's source of chance."""
        ...

    def remotes(self) -> Sequence[Remote]:
        """Everybody with whom a conversation is open."""
        ...

    def flow(self, node_id: bytes) -> Flow | None:
        """The records of the conversation with a node, if one is open."""
        ...

    def clock_of(self, node_id: bytes, clock_ms: int) -> None:
        """What the peer's clock says now."""
        ...

    def say(self, node_id: bytes, kind: int, payload: bytes, urgency: Urgency) -> bool:
        """Send a message; False if no conversation with the node is open."""
        ...

    def hold(self, node_id: bytes, now_ms: int, *, held: bool) -> None:
        """Send the node nothing from the log while it takes a snapshot, if a conversation is open;
        the next conversation begins without."""
        ...

    def hold_against(self, node_id: bytes, reason: str, now_ms: int) -> None:
        """The node lied: end the conversation as a violation."""
        ...

    def notice(self, kind: str, node_id: bytes, text: str) -> None:
        """Tell people."""
        ...


class Service(Protocol):
    """One subject of conversation. What a service has no use for, it leaves out."""

    @property
    def kinds(self) -> Iterable[int]:
        """The message types that are its own."""
        return ()

    @property
    def features(self) -> int:
        """Bits for HELLO that say what this side can do."""
        return 0

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """The mesh begins."""
        return

    def opened(self, remote: Remote, now_ms: int) -> None:
        """A conversation is open."""
        return

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """The peer said something; ProtocolViolation if it makes no sense."""
        return

    def closed(self, remote: Remote, now_ms: int) -> None:
        """A conversation has ended."""
        return

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        return

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        return None

    def end(self) -> None:
        """The mesh closes."""
        return


class Services:
    """The services of one node, as the mesh calls them."""

    def __init__(self, services: Sequence[Service], faults: Faults) -> None:
        self._services = tuple((type(service).__name__, service) for service in services)
        self._by_kind = {kind: service for service in services for kind in service.kinds}
        self._faults = faults
        self.kinds = frozenset(self._by_kind)

    @property
    def features(self) -> int:
        """The bits of all of them."""
        bits = 0
        for _, service in self._services:
            bits |= service.features
        return bits

    def start(self, fabric: Callable[[Run], Fabric], now_ms: int) -> None:
        """Begin, each on a fabric of its own, whose labour reports to this."""
        for name, service in self._services:
            service.start(fabric(partial(self._contain, f"{name}, a result")), now_ms)

    def opened(self, remote: Remote, now_ms: int) -> None:
        """A conversation is open: all hear it, before what one of them raises is raised."""
        fault: Exception | None = None
        for _, service in self._services:
            try:
                service.opened(remote, now_ms)
            except Exception as error:
                fault = fault or error
        if fault is not None:
            raise fault

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """Hand a message to whose it is."""
        self._by_kind[kind].received(remote, kind, payload, now_ms)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """A conversation has ended."""
        for name, service in self._services:
            self._contain(f"{name}, a peer left", partial(service.closed, remote, now_ms), now_ms)

    def tick(self, now_ms: int) -> None:
        """Let time pass, for those who do not rest."""
        for name, service in self._services:
            if self._faults.rested_ms(name, now_ms) is None:
                self._contain(name, partial(service.tick, now_ms), now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        timers: list[int] = []

        def look(service: Service) -> None:
            timer = service.next_timer_ms(now_ms)
            if timer is not None:
                timers.append(timer)

        for name, service in self._services:
            if self._faults.rested_ms(name, now_ms) is None:
                self._contain(name, partial(look, service), now_ms)
            if (until_ms := self._faults.rested_ms(name, now_ms)) is not None:
                timers.append(until_ms)
        return min(timers, default=None)

    def end(self) -> None:
        """Close."""
        for name, service in self._services:
            self._contain(f"{name}, the end", service.end, 0)

    def _contain(self, place: str, call: Callable[[], object], now_ms: int) -> None:
        self._faults.contain(place, call, now_ms)
