"""Records that may not enter yet: parked for a wild clock, or waiting for what they depend on.

    LOCAL | 01 | replica 8s | seq u64   ->  the record          parked, durable

A *parked* record is stamped further ahead of this replica's clock than the skew bound. It is kept,
listed in `murmur_parked`, and admitted when its time has come or on command; until then it cannot
drag the clock along. A *waiting* record came before something that it depends on. It is held in
memory only: it has not been acknowledged, so whoever sent it still has it. No peer can fill the
room of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from murmur.kvcore.backend import KeyTree
from murmur.kvcore.causality import VersionVector
from murmur.kvcore.clock import stamp_ms
from murmur.kvcore.long_record import Record
from murmur.kvcore.record import LOCAL, Transaction, origin, stamp_of

PARKED_PREFIX = LOCAL + b"\x01"
WAITING_BYTES = 32 << 20
WAITING_BYTES_PER_PEER = 8 << 20


class ParkedRecord(NamedTuple):
    """One parked transaction."""

    replica: bytes
    seq: int
    stamp: int
    bytes: int

    @property
    def time_ms(self) -> int:
        """The wall-clock time that the record claims, in milliseconds since 1970."""
        return stamp_ms(self.stamp)


class Parking:
    """The parked records: in the tree, and by dot in memory."""

    def __init__(self, tree: KeyTree) -> None:
        self._records: dict[tuple[bytes, int], bytes] = {}
        snapshot = tree.snapshot()
        try:
            for _, record in snapshot.scan(PARKED_PREFIX, LOCAL + b"\x02"):
                self.add(record)
        finally:
            snapshot.close()

    @property
    def count(self) -> int:
        """How many are parked."""
        return len(self._records)

    def entries(
        self, parked: Sequence[bytes], admitted: Sequence[Record]
    ) -> list[tuple[bytes, bytes | None]]:
        """What the tree writes when records are parked, and when others are admitted at last."""
        if not parked and not self._records:
            return []
        entries: dict[bytes, bytes | None] = {_key(record): record for record in parked}
        for record in admitted:
            if _key(record) in entries or origin(record) in self._records:
                entries[_key(record)] = None
        return list(entries.items())

    def covered(self, vector: VersionVector) -> list[bytes]:
        """Those that are among what the vector has seen: they came in with a snapshot."""
        return [
            record
            for (replica, seq), record in self._records.items()
            if vector.get(replica, 0) >= seq
        ]

    def add(self, record: bytes) -> None:
        """Remember it."""
        self._records[origin(record)] = record

    def discard(self, record: Record) -> None:
        """It was admitted."""
        if self._records:
            self._records.pop(origin(record), None)

    def holds(self, replica: bytes, seq: int) -> bool:
        """Whether this dot is parked."""
        return (replica, seq) in self._records

    def records(self) -> list[bytes]:
        """All of them, by author and sequence number."""
        return [self._records[dot] for dot in sorted(self._records)]

    def listing(self) -> list[ParkedRecord]:
        """What can be said of each."""
        return [
            ParkedRecord(*origin(record), stamp_of(record), len(record))
            for record in self.records()
        ]


class Delivery(list[bytes]):
    """Records that one peer has sent, in the order in which they came.

    Applying them may show that what other peers had sent before can never be applied; `refused`
    then names those, with the reason.
    """

    def __init__(self, records: Sequence[bytes], peer: bytes) -> None:
        super().__init__(records)
        self.peer = peer
        self.refused: list[tuple[bytes, str]] = []


class Arrived(NamedTuple):
    """A record, and the peer that it came from (empty: nobody in particular)."""

    record: bytes
    decoded: Transaction
    peer: bytes


class Waiting:
    """Records that came too early, by author and sequence number, within a bound per peer."""

    def __init__(self) -> None:
        self._records: dict[bytes, dict[int, Arrived]] = {}
        self._bytes = 0
        self._by_peer: dict[bytes, int] = {}

    @property
    def count(self) -> int:
        """How many wait."""
        return sum(map(len, self._records.values()))

    @property
    def bytes(self) -> int:
        """How long they are in all."""
        return self._bytes

    def add(self, arrived: Arrived) -> None:
        """Hold the record, unless a bound is reached: then it is left to be sent again."""
        record, decoded, peer = arrived
        mine = self._records.get(decoded.replica, {})
        size, used = len(record), self._by_peer.get(peer, 0)
        if (
            decoded.seq not in mine
            and self._bytes + size <= WAITING_BYTES
            and used + size <= WAITING_BYTES_PER_PEER
        ):
            mine[decoded.seq] = arrived
            self._records[decoded.replica] = mine
            self._bytes += size
            self._by_peer[peer] = used + size

    def ready(self, vector: VersionVector) -> Sequence[Arrived]:
        """Take out those whose predecessor is admitted; they may still lack something else."""
        if not self._records:
            return ()
        ready = []
        for replica in list(self._records):
            mine = self._records[replica]
            seen = vector.get(replica, 0)
            for seq in sorted(mine):
                if seq > seen + 1:
                    break
                arrived = mine.pop(seq)
                self._release(arrived)
                if seq == seen + 1:
                    ready.append(arrived)
            if not mine:
                del self._records[replica]
        return ready

    def _release(self, arrived: Arrived) -> None:
        size = len(arrived.record)
        self._bytes -= size
        left = self._by_peer[arrived.peer] - size
        if left:
            self._by_peer[arrived.peer] = left
        else:
            del self._by_peer[arrived.peer]


def _key(record: Record) -> bytes:
    return PARKED_PREFIX + (record if isinstance(record, bytes) else record.head)[1:17]
