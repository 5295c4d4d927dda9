"""How long to wait before the next attempt: full jitter, so that nobody retries in step.

    attempt 1: 0 to 0.5 s    attempt 2: 0 to 1 s    attempt 3: 0 to 2 s    ...    at most 60 s

After "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). A floor keeps an unlucky draw
from making a tight loop.
"""

from __future__ import annotations

from random import Random

BASE_MS = 500
CAP_MS = 60_000
FLOOR_MS = 20


class Backoff:
    """The waiting times of one sequence of attempts."""

    __slots__ = ("_base_ms", "_cap_ms", "_random", "attempts")

    def __init__(self, random: Random, *, base_ms: int = BASE_MS, cap_ms: int = CAP_MS) -> None:
        self.attempts = 0
        self._random = random
        self._base_ms = base_ms
        self._cap_ms = cap_ms

    def next_ms(self) -> int:
        """The wait before the next attempt."""
        # A shift by more than 32 would only be cut down to the cap again.
        ceiling = min(self._cap_ms, self._base_ms << min(self.attempts, 32))
        self.attempts += 1
        return FLOOR_MS + int(self._random.random() * max(0, ceiling - FLOOR_MS))

    def reset(self) -> None:
        """An attempt went well: begin again with short waits."""
        self.attempts = 0
