"""Hybrid logical clock: stamps that follow the wall clock and never run backwards.

    stamp = milliseconds since 1970 (48 bits) | counter (16 bits)        one 64-bit integer

    2026-01-01T00:00:00Z, third stamp of that millisecond  ->  0x019b76da_a800_0002

A stamp is issued as max(last + 1, now << 16): the counter overflows into the milliseconds, so order
is plain integer order.

Invariants:
    1. No two stamps issued by one clock are equal, and each exceeds every stamp observed before it.
    2. A stamp further ahead of the wall than `max_skew_ms` is wild: it is never observed, so a peer
       with a broken clock cannot drag this one along.

After Kulkarni et al., "Logical Physical Clocks" (2014), folded into one integer.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from murmur.errors import InvalidInput

COUNTER_BITS = 16
MAX_STAMP = (1 << 64) - 1
LAST_STAMP = (1 << 63) - 1  # year 6429: nothing beyond is admitted, lest no stamp be left to issue
MAX_SKEW_MS = 60_000
LONGEST_S = 1e9  # thirty years: nobody waits longer, and every clock can count it


def check_timeout(seconds: object) -> float:
    """A timeout as a caller gave it, at most LONGEST_S; InvalidInput for what is none."""
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not seconds >= 0:  # type: ignore[operator]
        raise InvalidInput(f"timeout: {seconds!r} is not a number of seconds from 0 on")
    return float(min(seconds, LONGEST_S))  # type: ignore[call-overload]


class Clock(Protocol):
    """Where time comes from: the wall for stamps, the monotonic clock for intervals."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed moment; never runs backwards."""
        ...


class SystemClock:
    """The clock of the operating system."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed moment; never runs backwards."""
        return time.monotonic_ns() // 1_000_000


class ManualClock:
    """A clock that moves only when told to: the twin for tests and simulations."""

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:
        self.wall_ms = now_ms
        self.elapsed_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970, as set."""
        return self.wall_ms

    def monotonic_ms(self) -> int:
        """Milliseconds advanced so far."""
        return self.elapsed_ms

    def advance(self, milliseconds: int) -> None:
        """Let time pass on both clocks."""
        self.wall_ms += milliseconds
        self.elapsed_ms += milliseconds


class HybridClock:
    """Issues the stamps of one replica. Its owner serialises the calls."""

    def __init__(self, clock: Clock, *, last: int = 0, max_skew_ms: int = MAX_SKEW_MS) -> None:
        self.clock = clock
        self.last = last
        self.max_skew_ms = max_skew_ms

    def tick(self) -> int:
        """The next stamp: later than everything issued or observed."""
        now = self.clock.now_ms() << COUNTER_BITS
        self.last = now if now > self.last else self.last + 1
        return self.last

    def observe(self, stamp: int) -> None:
        """Take note of an admitted stamp: what is written next happens after it."""
        if stamp > self.last:
            self.last = stamp

    def is_wild(self, stamp: int) -> bool:
        """Whether the stamp lies further ahead of the wall clock than the skew bound."""
        return stamp >> COUNTER_BITS > self.clock.now_ms() + self.max_skew_ms


def stamp_ms(stamp: int) -> int:
    """The wall-clock milliseconds of a stamp."""
    return stamp >> COUNTER_BITS


def stamp_datetime(stamp: int) -> datetime:
    """The wall-clock time of a stamp, in UTC, with the counter as microseconds within bounds."""
    seconds, milliseconds = divmod(stamp >> COUNTER_BITS, 1000)
    microseconds = milliseconds * 1000 + min(stamp & 0xFFFF, 999)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
