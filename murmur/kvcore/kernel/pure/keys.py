"""SortedKeys: a set of keys that is cheap to add to, and sorted when somebody asks for its order.

    arrived   all keys in the order of their arrival; adding is a list append
    chunks    the first `folded` of them, in sorted lists of about CHUNK keys;
              `lasts` holds the last key of each

The first question after an addition folds the new keys in: a few by insertion, many by one sort of
everything, which the sorted chunks make a merge. So a bulk load pays for one sort, and a single
write between two scans for one insertion into a short list.

One thread adds; any number asks, beside it. Only those who ask share a lock, so a reader never
waits for the writer, nor the writer for anybody. A fold that is interrupted stays marked as torn
and is done from scratch by the next question.

Invariant: a key is added once. Whoever walks the keys asks again from the last one it has seen, so
keys that arrive meanwhile may or may not be met, and no other is missed.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from itertools import chain

CHUNK = 512  # insertion moves half a chunk of pointers, 2 KB
RESORT = 16  # more new keys than 1/16 of the others are sorted in, not inserted one by one


class SortedKeys:
    """The ordered keys of a memtable."""

    __slots__ = ("_arrived", "_chunks", "_folded", "_folding", "_lasts", "_torn", "add")

    add: Callable[[bytes], None]  # a key that is not there yet

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._arrived = list(keys)
        self._chunks: list[list[bytes]] = []
        self._lasts: list[bytes] = []
        self._folded = 0
        self._torn = False
        self._folding = threading.Lock()
        self.add = self._arrived.append

    def first(self, start: bytes, limit: int, *, after: bool = False) -> list[bytes]:
        """The first keys >= start (> start: `after`), at most so many; none only at the end."""
        bisect = bisect_right if after else bisect_left
        with self._folding:
            self._fold()
            at = bisect(self._lasts, start)
            if at == len(self._lasts):
                return []
            chunk = self._chunks[at]
            begin = bisect(chunk, start)
            return chunk[begin : begin + limit]

    def last(self, stop: bytes | None, limit: int) -> list[bytes]:
        """The last keys < stop (None: of all), ascending; none only at the beginning."""
        with self._folding:
            self._fold()
            count = len(self._chunks)
            at = count if stop is None else min(bisect_left(self._lasts, stop) + 1, count)
            for chunk in reversed(self._chunks[max(0, at - 2) : at]):
                end = len(chunk) if stop is None else bisect_left(chunk, stop)
                if end:
                    return chunk[max(0, end - limit) : end]
            return []

    def _fold(self) -> None:
        count = len(self._arrived)
        if count == self._folded and not self._torn:
            return
        new = self._arrived[self._folded : count]
        torn, self._torn = self._torn, True
        if torn:
            self._spread(sorted(self._arrived[:count]))
        elif len(new) * RESORT > self._folded:
            self._spread(sorted(chain(*self._chunks, new)))
        else:
            for key in new:
                self._insert(key)
        self._folded = count
        self._torn = False

    def _insert(self, key: bytes) -> None:
        at = min(bisect_left(self._lasts, key), len(self._lasts) - 1)
        chunk = self._chunks[at]
        insort(chunk, key)
        if len(chunk) < 2 * CHUNK:
            self._lasts[at] = chunk[-1]
        else:
            self._chunks[at : at + 1] = [chunk[:CHUNK], chunk[CHUNK:]]
            self._lasts[at : at + 1] = [chunk[CHUNK - 1], chunk[-1]]

    def _spread(self, keys: list[bytes]) -> None:
        self._chunks = [keys[at : at + CHUNK] for at in range(0, len(keys), CHUNK)]
        self._lasts = [chunk[-1] for chunk in self._chunks]
