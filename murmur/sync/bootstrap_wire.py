"""What nodes say about snapshots, and what the service asks of a replica.

    20 STAND    [floor, durable, state bytes, log bytes]   where the sender stands; when it moves
    21 ASK      [tips, id or nil]          make a snapshot; the last one was this
    22 OFFER    [id, manifest bytes, state bytes]
    23 WANT     [hash]                     of a chunk, or the id: the manifest
    24 DATA     [hash, size, offset, part]
    25 GOT      [hash]                     it has arrived whole: there is room for another
    26 GONE     [hash]                     it is not here (any more)
    27 DONE     []                         nothing more is wanted

Whoever lacks something fetches: it says what it has (ASK, tips {replica: [seq, hash]}), so that a
fork is seen, and takes chunks from whom it likes, by their hashes, a few at a time.

Invariant: a peer has at most MAX_UNCONFIRMED chunks under way from this node; one more is a lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from murmur.kvcore import Export, Spool, VersionVector
from murmur.sync.outbox import Clock, Outbox

STAND, ASK, OFFER, WANT, DATA, GOT, GONE, DONE = range(20, 28)
FEATURE = 1 << STAND

PART_BYTES = 128 << 10
MAX_UNCONFIRMED = 8
HASH_BYTES = 32
MAX_ITEM_BYTES = 1 << 30


class Keeper(Protocol):
    """A replica whose state can be handed over."""

    @property
    def vector(self) -> VersionVector:
        """What is admitted."""
        ...

    @property
    def durable_vector(self) -> VersionVector:
        """What may be told to peers."""
        ...

    @property
    def floor(self) -> VersionVector:
        """What the log may lack."""
        ...

    @property
    def tips(self) -> Mapping[bytes, bytes]:
        """The hash of each author's newest record."""
        ...

    @property
    def clock(self) -> Clock:
        """The wall clock."""
        ...

    def stats(self) -> Mapping[str, object]:
        """Figures of the tree and the log."""
        ...

    def export(self, pause: Callable[[], None] = ...) -> Export:
        """The state of this moment."""
        ...

    def adopt(self, spool: Spool, pause: Callable[[], None] = ...) -> None:
        """Join a fetched state."""
        ...

    def compare(self, tips: Mapping[bytes, tuple[int, bytes]]) -> None:
        """Raise ProtocolViolation for a fork."""
        ...

    def trim(self, stable: VersionVector, *, keep_bytes: int, before_ms: int | None = None) -> int:
        """Remove what nobody needs of the log."""
        ...


class Handed(Outbox, Keeper, Protocol):
    """A replica that a node runs."""
