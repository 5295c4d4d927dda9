"""Overlay: keys in order laid over what is below, a transaction's own keys, and ranges of keys.

below  a=1 b=2 c=3        own  b=None d=4        overlay  a=1 c=3 d=4
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

_FEW = 16  # unsorted keys up to this many are inserted one by one, more are sorted in


class OwnKeys:
    """Keys in order, of which most are asked for rarely and many are added at once."""

    def __init__(self) -> None:
        self._sorted: list[bytes] = []
        self._added: list[bytes] = []

    def add(self, key: bytes) -> None:
        """Add a key; one that is there may be added again."""
        self._added.append(key)

    def copy(self) -> OwnKeys:
        """The same keys, to which others may be added."""
        other = OwnKeys()
        other._sorted, other._added = list(self._sorted), list(self._added)
        return other

    def between(self, start: bytes, stop: bytes | None) -> Iterator[bytes]:
        """The keys with start <= key < stop, each once."""
        added = self._added
        if added:
            if len(added) <= _FEW:
                for key in added:
                    insort(self._sorted, key)
            else:
                self._sorted += added
                self._sorted.sort()
            added.clear()
        keys = self._sorted
        first = bisect_left(keys, start)
        last = len(keys) if stop is None else bisect_left(keys, stop)
        previous = None
        for key in keys[first:last]:
            if key != previous:  # a key that was rolled back and written again stands here twice
                yield key
            previous = key


class Ranges:
    """A set of ranges start <= key < stop (None: no bound), of which most are asked for rarely."""

    def __init__(self) -> None:
        self._added: list[tuple[bytes, bytes | None]] = []
        self._merged = 0  # how many of them are in:
        self._starts: list[bytes] = []
        self._stops: list[bytes | None] = []

    def __bool__(self) -> bool:
        return bool(self._added)

    def add(self, start: bytes, stop: bytes | None) -> None:
        """Add a range."""
        self._added.append((start, stop))

    def hold(self, key: bytes) -> bool:
        """Whether the key lies in one of the ranges."""
        if self._merged < len(self._added):
            self._merge()
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return False
        stop = self._stops[at]
        return stop is None or key < stop

    def _merge(self) -> None:
        starts: list[bytes] = []
        stops: list[bytes | None] = []
        for start, stop in sorted(self._added, key=lambda bounds: bounds[0]):
            last = stops[-1] if stops else b""
            if starts and (last is None or start <= last):
                stops[-1] = None if last is None or stop is None else max(last, stop)
            else:
                starts.append(start)
                stops.append(stop)
        self._starts, self._stops = starts, stops
        self._merged = len(self._added)


def overlay(
    own: Iterable[tuple[bytes, bytes | None]],
    below: Iterator[tuple[bytes, bytes]],
    *,
    reverse: bool,
) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of `below` with `own` laid over them, in one order; None hides a pair."""
    rest = iter(own)
    mine = next(rest, None)
    for pair in below:
        key = pair[0]
        while mine is not None and (mine[0] > key if reverse else mine[0] < key):
            if mine[1] is not None:
                yield mine[0], mine[1]
            mine = next(rest, None)
        if mine is None or mine[0] != key:
            yield pair
    while mine is not None:
        if mine[1] is not None:
            yield mine[0], mine[1]
        mine = next(rest, None)
