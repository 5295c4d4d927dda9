"""What an election tells: who leads, in which term, and since when that may be relied upon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from murmur.sync.service import Service


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads, as one node sees it."""

    leader: bytes | None  # node id
    term: int  # grows with every election


@dataclass(frozen=True, slots=True)
class ElectionTiming:
    """How fast a lost leader is replaced, and how often it must be heard.

    A node that heard the leader grants nobody a vote for `timeout_ms`, and waits up to twice as
    long before it stands itself. The leader's lease is shorter, by what two clocks may differ in
    speed: it ends before anybody may vote for another.
    """

    heartbeat_ms: int = 400
    timeout_ms: int = 2_000

    @property
    def lease_ms(self) -> int:
        """From the sending of a heartbeat that a majority answered."""
        return self.timeout_ms * 3 // 4


class Election(Service, Protocol):
    """A service that finds a leader."""

    @property
    def leadership(self) -> Leadership:
        """Who leads now."""
        ...

    def leads(self, now_ms: int) -> bool:
        """Whether this node leads at this moment. From any thread."""
        ...

    def token(self, now_ms: int) -> int | None:
        """The fencing token while this node leads: greater than that of any leader before."""
        ...


Changed = Callable[[Leadership], None]
