"""What a bootstrap knows: how far it has come, and each peer that a snapshot can come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from murmur.sync.outbox import serves
from murmur.sync.service import Remote

SILENCE_MS = 30_000  # then a source is given up
MAKING_MS = 600_000  # that a snapshot may take to be made: all of the state is read


class Stage(Enum):
    """How far it has come."""

    IDLE = "idle"
    ASKING = "asking"
    FETCHING = "fetching"
    JOINING = "joining"
    RESTING = "resting"


@dataclass(frozen=True, slots=True)
class BootstrapStatus:
    """The one row of `murmur_bootstrap`."""

    stage: str
    sources: int
    chunks_held: int
    chunks: int
    bytes_held: int
    bytes: int
    joined: int  # snapshots, since the node started
    last_error: str | None


@dataclass(slots=True, eq=False)
class Source:
    """A connected peer, and where it said it stands."""

    remote: Remote
    floor: Mapping[bytes, int] = field(default_factory=dict)
    durable: Mapping[bytes, int] = field(default_factory=dict)
    state_bytes: int = 0
    log_bytes: int = 0
    stood: bool = False
    engaged: bool = False  # it was asked for a snapshot, and holds its log back meanwhile
    offered: bytes | None = None  # the id of its snapshot
    manifest_bytes: int = 0
    asked_ms: int | None = None
    heard_ms: int = 0
    under_way: set[bytes] = field(default_factory=set)
    gone: set[bytes] = field(default_factory=set)

    def lacks_for(self, own: Mapping[bytes, int]) -> bool:
        """Whether its log cannot bring this replica to where the peer is."""
        return not serves(self.floor, own)

    def due_ms(self) -> int | None:
        """When it is given up, if it does not say what it was asked for."""
        if self.under_way:
            return self.heard_ms + SILENCE_MS
        return None if self.asked_ms is None else self.asked_ms + MAKING_MS

    def need_bytes(self, own: Mapping[bytes, int]) -> int:
        """About how much of its log this replica lacks."""
        held = sum(seq - self.floor.get(replica, 0) for replica, seq in self.durable.items())
        lacking = sum(max(0, seq - own.get(replica, 0)) for replica, seq in self.durable.items())
        return self.log_bytes * lacking // max(1, held)
