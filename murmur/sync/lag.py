"""Lag: for how long a peer has lacked what is durable here.

Once a second, at most, the vector is marked with the time. A peer's lag is the age of the first
mark that it does not hold; the newest vector, which has no mark yet, counts as the last one.

Invariant: at most MAX_MARKS are kept; of more, every second one of the older half goes.
"""

from __future__ import annotations

from collections.abc import Callable

from murmur.sync.messages import Vector

MARK_MS = 1_000
MAX_MARKS = 512


class Marks:
    """The vectors of the past."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, dict[bytes, int]]] = []
        self._newest: list[tuple[int, dict[bytes, int]]] = []  # one, while it has no mark

    def note(self, vector: Vector, now_ms: int) -> None:
        """The durable vector is this now."""
        if self._marks and now_ms < self._marks[-1][0] + MARK_MS:
            self._newest = [(now_ms, dict(vector))]
            return
        self._marks += [*self._newest, (now_ms, dict(vector))]
        self._newest = []
        if len(self._marks) > MAX_MARKS:
            half = MAX_MARKS // 2
            self._marks[:half] = self._marks[:half:2]

    def lag_ms(self, holds: Callable[[Vector], bool], now_ms: int) -> int:
        """The age of the first mark that is not held; 0 if all are."""
        # What a peer holds only grows, and so do the marks: search for the first that it lacks.
        marks = self._marks + self._newest
        low, high = 0, len(marks)
        while low < high:
            middle = (low + high) // 2
            if holds(marks[middle][1]):
                low = middle + 1
            else:
                high = middle
        return 0 if low == len(marks) else now_ms - marks[low][0]
