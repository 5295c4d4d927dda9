"""Pressure: how a writer that is faster than flush and merge is slowed, long before it is stopped.

Two things pile up when the background cannot follow: level 0 (each table there costs every reader)
and bytes that are not flushed (memory). Both are seen as a pressure from 0 to 1:

    level 0     tables there, and those that memtables will become    0 at slow,  1 at stop tables
    unflushed   bytes in all memtables                                0 at half,  1 at all allowed

    seconds owed for a byte = p / (1 - p) / rate        rate: bytes a second, drained of late

So at p = 1/2 a writer may write as fast as is drained, and its balance is found there, whatever the
machine. The pressure is a continuous function of what has been written and of what has been done:
it does not jump past the slowdown (facebook/rocksdb#9423), needs no smoothing over time, and is
gone as soon as the work is (#1966). A writer is charged for a part of the memtable at a time
(STEPS), so that native writers need not ask at every write. What is owed is paid before the next
write, in naps; the last write is not delayed for nothing.

The hard stop comes last, in `rotate`: it waits for one more memtable to be flushed.

`Bucket` limits what flush and merges write a second; flushes go first, on credit.

Time comes from outside (`Pace`), so that a test replays it.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from murmur.kvcore.options import Options

SLOW, STOP = 1.5, 3.5  # times level0_tables
FULLEST = 0.98  # of pressure: beyond, the hard stop is near enough
FIRST_RATE = 64 << 20  # bytes a second, until something was measured
NAP_S = 0.01  # of a writer: after each it looks again
STEPS = 128  # a memtable is charged for in so many parts: within one, nobody need ask
LEAST_NAP_S = 0.001  # what is owed adds up to this: shorter sleeps are not kept by the system
CREDIT_S = 1.0  # what flushes may write ahead of the limit, in seconds' worth
BURST_S = 0.1  # what an idle bucket saves up

LEVEL0, UNFLUSHED = "level0", "unflushed"


class Pace(Protocol):
    """Where time comes from, and where it is waited for."""

    def now_ns(self) -> int:
        """Nanoseconds since some fixed moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        ...


class SystemPace:
    """The time of the operating system."""

    def now_ns(self) -> int:
        """Nanoseconds since some fixed moment."""
        return time.perf_counter_ns()

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        time.sleep(seconds)


class Brake:
    """What one writer owes. `look` is for whoever changes the state, the rest for the writer."""

    __slots__ = (
        "_frozen_bytes",
        "_memtable_bytes",
        "_rates",
        "_seen",
        "_slow",
        "_step",
        "_stop",
        "_tables",
        "_unflushed_slow",
        "_unflushed_stop",
        "cause",
        "debt",
        "threshold",
    )

    def __init__(self, options: Options) -> None:
        self._slow = SLOW * options.level0_tables
        self._stop = STOP * options.level0_tables
        self._memtable_bytes = options.memtable_bytes
        self._step = options.memtable_bytes // STEPS
        self._unflushed_stop = (options.pending_memtables + 1) * options.memtable_bytes
        self._unflushed_slow = self._unflushed_stop // 2
        self._rates: dict[str, float] = {LEVEL0: FIRST_RATE, UNFLUSHED: FIRST_RATE}
        self.cause = LEVEL0
        self.debt = 0.0  # seconds
        self._seen = 0  # bytes of the memtable that were charged for
        self.look(0, 0, 0, 0)

    def look(self, level0: int, frozen: int, frozen_bytes: int, memtable_bytes: int) -> None:
        """Note the tables of level 0, the frozen memtables, the bytes in them and in the other one.

        Afterwards `threshold` is the size of the memtable from which on there is pressure.
        """
        self._tables = level0 + frozen
        self._frozen_bytes = frozen_bytes
        self.threshold = min(
            (self._slow - self._tables) * self._memtable_bytes,
            self._unflushed_slow - frozen_bytes,
        )
        self._seen = min(self._seen, memtable_bytes)  # less of it: it is another

    @property
    def due(self) -> float:
        """How large the memtable may become before its writer is to pay, or to be charged."""
        if self.debt >= LEAST_NAP_S:
            return 0
        return max(self.threshold, self._seen + self._step)

    def drained(self, cause: str, written: int, nanoseconds: int) -> None:
        """Note how long it took to get rid of what was once so many bytes in memtables."""
        if written and nanoseconds > 0:
            self._rates[cause] += (written * 1e9 / nanoseconds - self._rates[cause]) / 4

    def pressure(self, memtable_bytes: int) -> tuple[float, str]:
        """The pressure, from 0 to nearly 1, and what causes it."""
        tables = self._tables + memtable_bytes / self._memtable_bytes
        level0 = (tables - self._slow) / (self._stop - self._slow)
        memory = (self._frozen_bytes + memtable_bytes - self._unflushed_slow) / (
            self._unflushed_stop - self._unflushed_slow
        )
        pressure, cause = (level0, LEVEL0) if level0 >= memory else (memory, UNFLUSHED)
        return min(max(pressure, 0.0), FULLEST), cause

    def charge(self, memtable_bytes: int) -> None:
        """Owe for what was written since the last time to the memtable, now this large."""
        written = memtable_bytes - max(self._seen, self.threshold, 0)
        self._seen = memtable_bytes
        pressure, self.cause = self.pressure(memtable_bytes)
        self.debt += written * pressure / (1 - pressure) / self._rates[self.cause]

    def nap(self, memtable_bytes: int) -> float:
        """How long to sleep now; 0 when it is not worth it, or the pressure has gone."""
        if memtable_bytes < self.threshold:
            self.debt = 0.0
        return min(self.debt, NAP_S) if self.debt >= LEAST_NAP_S else 0.0

    def slept(self, seconds: float) -> None:
        """Pay with the time that was slept: more than was asked for counts for what comes next."""
        self.debt = max(self.debt - seconds, -NAP_S)


class Bucket:
    """A limit on bytes a second (0: none), for any number of threads."""

    def __init__(self, rate: int, pace: Pace) -> None:
        self._rate = rate
        self._pace = pace
        self._balance = 0.0
        self._then = pace.now_ns()
        self._lock = threading.Lock()

    def take(self, written: int, *, urgent: bool) -> float:
        """Account for bytes that were written; how many seconds to wait before the next."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._pace.now_ns()
            earned = (now - self._then) * 1e-9 * self._rate
            self._then = now
            self._balance = min(self._balance + earned, self._rate * BURST_S) - written
            owed = -self._balance / self._rate
        return max(0.0, owed - CREDIT_S if urgent else owed)
