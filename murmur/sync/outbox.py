"""What sync needs of a replica, and a cursor that reads what one peer lacks.

The log is the outbox: nothing is queued per peer, and to send again is to read again. A record's
replica and seq stand at fixed places, so sync never decodes one:

    record[1:9] replica    record[9:17] seq, big-endian

A cursor goes through the log twice over:

    catching up    log.missing(known): skips whole segments that hold nothing new for the peer
    live           log.read(position): every record after the position, as it becomes durable

Invariants:
    1. Nothing beyond the durable position is read: only what is durable leaves the replica.
    2. Of each replica, records are handed out in the order of their seqs and without gaps,
       beginning after `known`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from murmur.errors import Trimmed
from murmur.kvcore import Snapshot

MAX_SEQ = (1 << 63) - 1
ADMITTED = 1  # the kind of frame in the log that replicates; others wait or are set aside

Vector = Mapping[bytes, int]


class Log(Protocol):
    """The replica's log, as far as sync reads it."""

    def read(self, start: int, stop: int | None = None) -> Iterator[tuple[int, int, bytes]]:
        """(position after, kind, record) from a position on."""
        ...

    def missing(self, have: Vector, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(position after, record) of every admitted record that `have` does not cover."""
        ...


class Clock(Protocol):
    """The wall clock, to compare with the peer's."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...


class Applied(Protocol):
    """What became of records that were applied."""

    @property
    def admitted(self) -> int:
        """How many were new and are in the log now."""
        ...


class Outbox(Protocol):
    """A replica, seen from the network."""

    @property
    def id(self) -> bytes:
        """The replica's id."""
        ...

    @property
    def vector(self) -> Vector:
        """What is admitted."""
        ...

    @property
    def durable_vector(self) -> Vector:
        """What may be told to peers."""
        ...

    @property
    def durable_position(self) -> int:
        """How far the log may be read for peers."""
        ...

    @property
    def tips(self) -> Mapping[bytes, bytes]:
        """The hash of each replica's newest admitted record."""
        ...

    @property
    def floor(self) -> Vector:
        """For each author, up to which of its transactions the log may lack some."""
        ...

    @property
    def log(self) -> Log:
        """The log."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock that the replica stamps by."""
        ...

    def snapshot(self) -> Snapshot:
        """The cells of this moment, with their vector; to be closed."""
        ...

    def apply(self, records: Sequence[bytes]) -> Applied:
        """Take in records, in any order; ProtocolViolation if one can never be applied.

        Of a Delivery it is told who had sent what waited for these, and can never be applied.
        """
        ...

    def set_aside(self, head: bytes, peer: bytes, reason: str, size: int) -> None:
        """Keep the beginning of a record that a peer sent and that is not taken in."""
        ...

    @property
    def former(self) -> frozenset[bytes]:
        """The ids that the replica wrote under before."""
        ...

    def renew(self, why: str) -> None:
        """Write under a new id from now on; durable when this returns."""
        ...

    def sync(self) -> None:
        """Make everything that was committed durable now."""
        ...

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call the listener, from any thread, after the durable position moved."""
        ...


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of what a peer lacks."""

    records: list[bytes]
    last: dict[bytes, int]  # the newest seq of each replica among the records
    skipped: set[bytes]  # replicas of whom there was something, left to others to send


def serves(floor: Vector, have: Vector) -> bool:
    """Whether a log with this floor holds all that somebody who has so much lacks."""
    return all(have.get(replica, 0) >= seq for replica, seq in floor.items())


class Part:
    """Transactions that a peer asked for, in the order of the log. By one thread at a time."""

    def __init__(self, outbox: Outbox, ranges: Mapping[bytes, tuple[int, int]]) -> None:
        """First and last of each author; what is not here or not durable is left out."""
        self._outbox = outbox
        self._ranges = ranges
        self._left: dict[bytes, int] = {}
        self._source: Iterator[tuple[int, bytes]] | None = None

    def read(self, limit: int) -> tuple[list[bytes], bool]:
        """About `limit` bytes of records, and whether that was all. Raises Trimmed."""
        if self._source is None:
            durable = self._outbox.durable_vector
            self._left = {
                replica: min(last, durable.get(replica, 0))
                for replica, (first, last) in self._ranges.items()
                if first <= durable.get(replica, 0)
            }
            if not self._left:
                return [], True
            have = dict(durable)
            have.update({replica: self._ranges[replica][0] - 1 for replica in self._left})
            self._source = iter(self._outbox.log.missing(have, self._outbox.durable_position))
        records: list[bytes] = []
        size, left = 0, self._left
        for _, record in self._source:
            replica, seq = record[1:9], int.from_bytes(record[9:17])
            last = left.get(replica, 0)
            if not self._ranges.get(replica, (MAX_SEQ, 0))[0] <= seq <= last:
                continue
            records.append(record)
            size += len(record) + 4
            if seq == last:
                del left[replica]
            if size >= limit or not left:
                return records, not left
        return records, True


class Cursor:
    """Where one peer's reading of the log stands. Used by one thread at a time."""

    def __init__(self, outbox: Outbox, known: Vector) -> None:
        """`known` is what the peer holds; it may grow while the cursor reads."""
        self.position = 0
        self.live = False  # the peer has caught up once: only what is new is read
        self._outbox = outbox
        self._known = known
        self._stop = 0
        self._floor: Vector = {}
        self._catching_up: Iterator[tuple[int, bytes]] | None = None

    def distance(self) -> int:
        """Bytes of the log that are still to be looked at."""
        return self._outbox.durable_position - self.position

    def read(self, limit: int, avoid: frozenset[bytes]) -> Slice:
        """At least one record, about `limit` bytes at most, none by the replicas to avoid.

        Raises Trimmed if the log lacks something that the peer lacks: another cursor goes on when
        the peer has it from elsewhere.
        """
        floor = self._outbox.floor
        if floor is not self._floor:
            if not serves(floor, self._known):
                raise Trimmed("the log no longer holds what the peer lacks")
            self._floor = floor
        result = Slice([], {}, set())
        stop = self._outbox.durable_position
        if self.live:
            if self.position < stop:
                admitted = (
                    (position, record)
                    for position, kind, record in self._outbox.log.read(self.position, stop)
                    if kind == ADMITTED
                )
                if not self._collect(admitted, result, limit, avoid):
                    self.position = stop
            return result
        if self._catching_up is None:
            self._catching_up = iter(self._outbox.log.missing(dict(self._known), stop))
            self._stop = stop
        if not self._collect(self._catching_up, result, limit, avoid):
            self.position = self._stop
            self._catching_up = None
            self.live = True
        return result

    def _collect(
        self,
        source: Iterator[tuple[int, bytes]],
        result: Slice,
        limit: int,
        avoid: frozenset[bytes],
    ) -> bool:
        """Move records into the slice; whether it is full."""
        known, last, keep = self._known, result.last, result.records.append
        size = 0
        for position, record in source:
            replica = record[1:9]
            seq = int.from_bytes(record[9:17])
            if seq <= last.get(replica, 0) or seq <= known.get(replica, 0):
                continue
            if replica in avoid:
                result.skipped.add(replica)
                continue
            last[replica] = seq
            keep(record)
            size += len(record) + 4
            if size >= limit:
                self.position = position
                return True
        return False
