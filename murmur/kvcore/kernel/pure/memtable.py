"""The memtable: the newest writes, in memory, in as many versions as there are readers to see them.

    versions    key -> (sequence, value, older version or None), newest first; value None deletes
    keys        the same keys, ordered on demand
    cuts        the range tombstones, if there are any (cuts.py)

    put a=1 at 7, snapshot, put a=2 at 8    ->    a: (8, 2, (7, 1, None))

A reader at a sequence walks to the first version that is not newer; a range tombstone that is newer
than that, and not newer than the reader, hides it. Chains and cuts are immutable and replaced
whole, so readers need no lock. One writer at a time.

Invariant: while `apply` runs, the version that the last published sequence sees stays, and so does
that of each pinned sequence; others go when their key is overwritten. If `apply` is interrupted,
what it wrote has a sequence that nobody reads, and the next `apply` or `freeze` takes it back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from murmur.kvcore.kernel.interface import ABSENT, Absent, Entry, Ranges
from murmur.kvcore.kernel.pure.block import TOMBSTONES
from murmur.kvcore.kernel.pure.cuts import NEVER, NO_CUTS, Cuts, cut, pruned
from murmur.kvcore.kernel.pure.keys import CHUNK, SortedKeys
from murmur.kvcore.kernel.pure.merge import Run
from murmur.kvcore.kernel.pure.ranges import NO_RANGES

Chain: TypeAlias = tuple[int, bytes | None, "Chain | None"]

ENTRY_BYTES = 200  # what CPython takes for an entry besides the bytes of key and value
RANGE_BYTES = 1000  # what a range tombstone counts: each copies the others' bounds
SHORT, LONG = 4, CHUNK  # keys of the first and of a late run: most scans are short


class Memtable:
    """An ordered map of bytes in memory; `sequence` is the last one published before it began."""

    keeps_all = False  # whether versions stay that nobody has pinned

    __slots__ = ("_joined", "bytes", "cuts", "keys", "kinds", "newest", "pins", "versions")

    def __init__(self, sequence: int) -> None:
        self.versions: dict[bytes, Chain] = {}
        self.keys = SortedKeys()
        self.cuts: Cuts | None = None
        self.newest = sequence
        self.bytes = 0  # of all that was written, then overwritten or not: it bounds replay too
        self.kinds = 0  # TOMBSTONES, if there may be any
        self.pins: dict[int, int] = {}  # sequence -> snapshots at it; guarded by the tree's lock
        self._joined: tuple[Cuts, int, Ranges] | None = None  # the last answer of `ranges`

    def __len__(self) -> int:
        """Keys and range tombstones, about: 0 only if there is nothing to flush."""
        return len(self.versions) + (len(self.cuts.bounds) // 2 if self.cuts is not None else 0)

    def apply(
        self,
        sequence: int,
        batch: Sequence[Entry],
        pinned: Sequence[int] = (),
        ranges: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Write a batch at a sequence, the one after the last published. `pinned` ascends.

        The `ranges` are deleted first: start <= key < stop, and what the batch puts there stays.
        """
        if self.newest >= sequence:
            self._take_back(sequence)
        self.newest = sequence
        if ranges:
            ranges = [(start, stop) for start, stop in ranges if start < stop]
            self.bytes += sum(RANGE_BYTES + len(start) + len(stop) for start, stop in ranges)
            if ranges:
                self.cuts = cut(self.cuts or NO_CUTS, ranges, sequence, pinned)
        versions, add = self.versions, self.keys.add
        get = versions.get
        size = self.bytes
        for key, value in batch:
            older = get(key)
            if older is None:
                versions[key] = (sequence, value, None)
                add(key)
                size += ENTRY_BYTES + len(key)
            elif older[0] == sequence or (pinned and older[2] is not None):
                versions[key] = (sequence, value, _pruned(older, sequence, pinned))
            elif older[2] is None:
                versions[key] = (sequence, value, older)
            else:
                versions[key] = (sequence, value, (older[0], older[1], None))
            if value is None:
                self.kinds = TOMBSTONES
            else:
                size += len(value)
        self.bytes = size

    def freeze(self, published: int) -> None:
        """Nothing will be applied any more: drop what was not published."""
        if self.newest > published:
            self._take_back(published + 1)
            self.newest = published

    def get(self, key: bytes, sequence: int) -> bytes | Absent | None:
        """The value that a sequence sees; None: deleted, ABSENT: only older sources know."""
        cuts = self.cuts  # before the version: a batch cuts first
        version = self.versions.get(key)
        while version is not None:
            at, value, version = version
            if at <= sequence:
                if cuts is not None and cuts.cover(key, sequence) > at:
                    return None
                return value
        return ABSENT if cuts is None or cuts.cover(key, sequence) == NEVER else None

    def ranges(self, sequence: int) -> Ranges:
        """The range tombstones that a sequence sees."""
        cuts = self.cuts
        if cuts is None:
            return NO_RANGES
        sequence = min(sequence, cuts.newest)  # from there on all is seen
        joined = self._joined
        if joined is None or joined[0] is not cuts or joined[1] != sequence:
            joined = self._joined = (cuts, sequence, cuts.ranges(sequence))
        return joined[2]

    def runs(
        self, sequence: int, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[Run]:
        """The entries that a sequence sees with start <= key < stop, as sources of a merge come."""
        limit, after = SHORT, False
        while True:
            if reverse:
                keys = self.keys.last(stop, limit)
                done = not keys or keys[0] <= start
                if done:
                    keys = keys[bisect_left(keys, start) :]
                else:
                    stop = keys[0]
            else:
                keys = self.keys.first(start, limit, after=after)
                done = not keys or (stop is not None and keys[-1] >= stop)
                if done and stop is not None:
                    keys = keys[: bisect_left(keys, stop)]
                elif not done:
                    start, after = keys[-1], True
            run = self._seen(sequence, keys)
            if run[0]:
                yield run
            if done:
                return
            limit = min(4 * limit, LONG)

    def newest_runs(self) -> Iterator[Run]:
        """All entries of a frozen memtable, each in its newest version."""
        versions = self.versions
        keys = self.keys.first(b"", LONG)
        while keys:
            if self.cuts is None:
                yield keys, [versions[key][1] for key in keys], self.kinds
            elif (run := self._seen(self.newest, keys))[0]:
                yield run
            keys = self.keys.first(keys[-1], LONG, after=True)

    def _seen(self, sequence: int, keys: list[bytes]) -> Run:
        get, cuts = self.versions.get, self.cuts
        seen: list[bytes] = []
        values: list[bytes | None] = []
        for key in keys:
            version = get(key)  # None: taken back meanwhile
            while version is not None:
                if version[0] <= sequence:
                    if cuts is None or cuts.cover(key, sequence) <= version[0]:
                        seen.append(key)
                        values.append(version[1])
                    break
                version = version[2]
        return seen, values, self.kinds

    def _take_back(self, sequence: int) -> None:
        """Remove what an interrupted `apply` wrote; may itself be interrupted and repeated."""
        versions = self.versions
        for key in [key for key, version in versions.items() if version[0] >= sequence]:
            older = versions[key][2]
            if older is None:
                del versions[key]
            else:
                versions[key] = older
        self.keys = SortedKeys(versions)
        if self.cuts is not None:
            self.cuts = self.cuts.without(sequence)


def _pruned(version: Chain, sequence: int, pinned: Sequence[int]) -> Chain | None:
    """The versions below a new one at `sequence` that somebody can see."""
    versions: dict[int, bytes | None] = {}
    below: Chain | None = version
    while below is not None:
        at, value, below = below
        versions[at] = value
    chain: Chain | None = None
    for at in reversed(pruned(list(versions), sequence, pinned)):
        chain = (at, versions[at], chain)
    return chain
