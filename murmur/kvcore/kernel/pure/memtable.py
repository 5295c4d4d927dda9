"""The memtable: the newest writes, in memory, in as many versions as there are readers to see them.

    versions    key -> (sequence, value, older version or None), newest first; value None deletes
    keys        the same keys, ordered on demand

    put a=1 at 7, snapshot, put a=2 at 8    ->    a: (8, 2, (7, 1, None))

A reader at a sequence walks to the first version that is not newer. Chains are immutable tuples and
replaced whole, so readers need no lock. One writer at a time.

Invariant: while `apply` runs, the version that the last published sequence sees stays, and so does
that of each pinned sequence; others go when their key is overwritten. If `apply` is interrupted,
what it wrote has a sequence that nobody reads, and the next `apply` or `freeze` takes it back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from murmur.kvcore.kernel.interface import Entry
from murmur.kvcore.kernel.pure.keys import CHUNK, SortedKeys
from murmur.kvcore.kernel.pure.merge import Run

Chain: TypeAlias = tuple[int, bytes | None, "Chain | None"]

ENTRY_BYTES = 200  # what CPython takes for an entry besides the bytes of key and value
SHORT, LONG = 4, CHUNK  # keys of the first and of a late run: most scans are short


class Memtable:
    """An ordered map of bytes in memory; `sequence` is the last one published before it began."""

    __slots__ = ("bytes", "deleted", "keys", "newest", "pins", "versions")

    def __init__(self, sequence: int) -> None:
        self.versions: dict[bytes, Chain] = {}
        self.keys = SortedKeys()
        self.newest = sequence
        self.bytes = 0  # of all that was written, then overwritten or not: it bounds replay too
        self.deleted = False  # whether there may be tombstones
        self.pins: dict[int, int] = {}  # sequence -> snapshots at it; guarded by the tree's lock

    def __len__(self) -> int:
        return len(self.versions)

    def apply(self, sequence: int, batch: Sequence[Entry], pinned: Sequence[int]) -> None:
        """Write a batch at a sequence, the one after the last published. `pinned` ascends."""
        if self.newest >= sequence:
            self._take_back(sequence)
        self.newest = sequence
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
                self.deleted = True
            else:
                size += len(value)
        self.bytes = size

    def freeze(self, published: int) -> None:
        """Nothing will be applied any more: drop what was not published."""
        if self.newest > published:
            self._take_back(published + 1)
            self.newest = published

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
            yield keys, [versions[key][1] for key in keys], self.deleted
            keys = self.keys.first(keys[-1], LONG, after=True)

    def _seen(self, sequence: int, keys: list[bytes]) -> Run:
        get = self.versions.get
        seen: list[bytes] = []
        values: list[bytes | None] = []
        for key in keys:
            version = get(key)  # None: taken back meanwhile
            while version is not None:
                if version[0] <= sequence:
                    seen.append(key)
                    values.append(version[1])
                    break
                version = version[2]
        return seen, values, self.deleted

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


def _pruned(version: Chain, sequence: int, pinned: Sequence[int]) -> Chain | None:
    """The versions below a new one at `sequence` that somebody can see.

    The first that is older than `sequence` is what the published sequence sees; of those below it,
    each stays that is the newest for some pin.
    """
    kept = []
    below: Chain | None = version
    upper = sequence  # the pins from the version up to here would see it
    while below is not None:
        at = below[0]
        if at < sequence and (upper == sequence or _any_within(pinned, at, upper)):
            kept.append(below)
            upper = at
        below = below[2]
    chain: Chain | None = None
    for at, value, _ in reversed(kept):
        chain = (at, value, chain)
    return chain


def _any_within(pinned: Sequence[int], start: int, stop: int) -> bool:
    at = bisect_left(pinned, start)
    return at < len(pinned) and pinned[at] < stop
