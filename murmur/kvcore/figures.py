"""Figures: what a tree counts and times, cheaply enough to do so always.

A histogram has four buckets for each doubling, so what it says of a percentile is at most a quarter
too high; it takes a list of numbers, whatever was recorded.

    record(1000 ns)  ->  bucket 39: from 896 to 1023;  percentile(0.99) answers its upper end, 1024

What is timed: one write in 16 (timing all would cost a tenth of one), one `get` of a snapshot in
16, every flush, merge and stall. `Tree.get` is one call of the kernel with no frame of Python, and
is not timed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

# Delays by what they are for, and the two reasons for which `rotate` waits.
STALLS = ("level0", "unflushed", "level0_stop", "memtables_stop")
SAMPLE = 16  # one write, and one get, of so many is timed
_BUCKETS = 4 * 64


class Histogram:
    """How often something took how long, in nanoseconds. For any number of threads."""

    __slots__ = ("_buckets", "_lock", "count", "highest", "total")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self._lock = threading.Lock()
        self.count = 0
        self.total = 0
        self.highest = 0

    def record(self, nanoseconds: int) -> None:
        """Count one."""
        with self._lock:
            self._buckets[bucket(nanoseconds)] += 1
            self.count += 1
            self.total += nanoseconds
            if nanoseconds > self.highest:
                self.highest = nanoseconds

    def percentile(self, share: float) -> int:
        """What this share of all was not above, in nanoseconds; 0 if there were none."""
        wanted = share * self.count
        seen = 0
        for number, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(upper_bound(number), self.highest)
        return 0

    def summary(self) -> dict[str, float]:
        """How many there were, and how long they took, in microseconds."""
        return {
            "count": self.count,
            "total_us": self.total / 1000,
            "p50_us": self.percentile(0.5) / 1000,
            "p90_us": self.percentile(0.9) / 1000,
            "p99_us": self.percentile(0.99) / 1000,
            "max_us": self.highest / 1000,
        }


def bucket(nanoseconds: int) -> int:
    """The bucket of a duration: its power of two, and the two bits below."""
    if nanoseconds < 4:
        return max(nanoseconds, 0)
    power = nanoseconds.bit_length()
    return min((power - 2) * 4 + (nanoseconds >> (power - 3) & 3), _BUCKETS - 1)


def upper_bound(number: int) -> int:
    """The first duration that lies beyond a bucket."""
    if number < 4:
        return number + 1
    power, part = number // 4 + 2, number % 4
    return (5 + part) << (power - 3)


@dataclass(slots=True)
class Counts:
    """What was done since the tree was opened; bytes of files."""

    flushes: int = 0
    compactions: int = 0
    moves: int = 0
    relocations: int = 0
    tables_dropped: int = 0
    ingested: int = 0
    bytes_flushed: int = 0
    bytes_compacted: int = 0
    bytes_read_by_compactions: int = 0
    bytes_ingested: int = 0
    value_bytes_written: int = 0
    files_removed: int = 0


@dataclass(slots=True)
class Figures:
    """All that one tree counts."""

    counts: Counts = field(default_factory=Counts)
    gets: Histogram = field(default_factory=Histogram)
    writes: Histogram = field(default_factory=Histogram)
    flushes: Histogram = field(default_factory=Histogram)
    compactions: Histogram = field(default_factory=Histogram)
    stalls: dict[str, Histogram] = field(
        default_factory=lambda: {cause: Histogram() for cause in STALLS}
    )

    def summary(self) -> Mapping[str, object]:
        """The figures as `Tree.stats` shows them."""
        return {
            **asdict(self.counts),
            "write_amplification": write_amplification(self.counts),
            "latency": {
                "get": self.gets.summary(),
                "write": self.writes.summary(),
                "flush": self.flushes.summary(),
                "compaction": self.compactions.summary(),
            },
            "stalls": {cause: stall.summary() for cause, stall in self.stalls.items()},
        }


def write_amplification(counts: Counts) -> float:
    """Bytes written to tables and value files for each that was flushed; the log is one more."""
    first = counts.bytes_flushed + counts.bytes_ingested
    return (first + counts.bytes_compacted) / first if first else 1.0
