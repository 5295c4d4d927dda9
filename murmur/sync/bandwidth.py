"""Bandwidth: how fast bytes flow with a peer, and how fast they may.

A token bucket fills at the rate that is allowed and holds a quarter of a second of it: what a link
is handed beyond that waits in its conversation's queues, where what is urgent still goes first.
"""

from __future__ import annotations

from collections.abc import Sequence

from murmur.errors import InvalidInput

BURST_MS = 250
LEAST_BURST = 16 << 10  # bytes: at least a small frame goes at once
LEAST_RATE = 1 << 10  # bytes a second
SAMPLE_MS = 1_000


class TokenBucket:
    """What may be sent of so many bytes a second."""

    __slots__ = ("_burst", "_filled_ms", "_rate", "_tokens")

    def __init__(self, rate: int) -> None:
        """`rate` in bytes a second."""
        self._rate = rate
        self._burst = max(LEAST_BURST, rate * BURST_MS // 1000)
        self._tokens = float(self._burst)
        self._filled_ms = 0

    def room(self, now_ms: int) -> int:
        """Bytes that may go now; none or less: wait."""
        if now_ms > self._filled_ms:
            more = (now_ms - self._filled_ms) * self._rate / 1000
            self._tokens = min(self._burst, self._tokens + more)
            self._filled_ms = now_ms
        return int(self._tokens)

    def take(self, size: int) -> None:
        """Bytes went; a frame may be larger than the room, then the next ones wait longer."""
        self._tokens -= size

    def wait_ms(self, now_ms: int) -> int:
        """Until there is room again."""
        lacking = 1 - self.room(now_ms)
        return 0 if lacking <= 0 else 1 + int(lacking * 1000 / self._rate)


class Meter:
    """The rates at which two counters grow, over the last second or two."""

    __slots__ = ("_last", "_now")

    def __init__(self, now_ms: int) -> None:
        self._last = self._now = (now_ms, 0, 0)

    def sample(self, now_ms: int, bytes_in: int, bytes_out: int) -> None:
        """Look at the counters; often enough is once a second."""
        if now_ms >= self._now[0] + SAMPLE_MS:
            self._last, self._now = self._now, (now_ms, bytes_in, bytes_out)

    def rates(self, now_ms: int, bytes_in: int, bytes_out: int) -> tuple[int, int]:
        """(bytes in, bytes out) a second."""
        before_ms, before_in, before_out = self._last
        elapsed = now_ms - before_ms
        if elapsed <= 0:
            return 0, 0
        return (bytes_in - before_in) * 1000 // elapsed, (bytes_out - before_out) * 1000 // elapsed


def room_of(buckets: Sequence[TokenBucket], now_ms: int) -> int | None:
    """What all of them allow; None without any."""
    return min((bucket.room(now_ms) for bucket in buckets), default=None)


def check_rate(rate: object, what: str) -> int | None:
    """A rate in bytes a second, or None for no limit."""
    if rate is None:
        return None
    if type(rate) is not int or rate < LEAST_RATE:
        raise InvalidInput(f"{what}: {rate!r} is not None and not {LEAST_RATE} bytes/s or more")
    return rate
