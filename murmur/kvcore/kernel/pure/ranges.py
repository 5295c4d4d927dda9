"""Range tombstones: each hides the keys with start <= key < stop of every older source.

    newest   b=1               range [c, e)
    older    a=0 b=7 c=9 d=2                     ->  a=0 b=1

A set of them is two parallel lists, disjoint and ascending, so a bisection finds what covers a key,
and a run of entries is cut by slices. In a table they never hide its own entries: whoever writes
one leaves out what they hid.

Invariant: no two ranges of a set overlap or touch, and none is empty.
After RocksDB's range tombstones (DeleteRange), without its fragments by sequence on disk.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from murmur.kvcore.kernel.interface import Ranges
from murmur.kvcore.kernel.pure.merge import Run

NO_RANGES = Ranges((), ())


def join(ranges: Iterable[tuple[bytes, bytes]]) -> Ranges:
    """The union of ranges in any order; overlapping and touching ones become one."""
    starts: list[bytes] = []
    stops: list[bytes] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if stops and start <= stops[-1]:
            stops[-1] = max(stops[-1], stop)
        else:
            starts.append(start)
            stops.append(stop)
    return Ranges(starts, stops)


def union(sets: Iterable[Ranges]) -> Ranges:
    """The union of sets."""
    some = [ranges for ranges in sets if ranges.starts]
    if len(some) < 2:
        return some[0] if some else NO_RANGES
    return join(pair for ranges in some for pair in zip(*ranges, strict=True))


def clip(ranges: Ranges, lower: bytes, upper: bytes | None) -> Ranges:
    """What of them lies in [lower, upper); None: no bound."""
    low = bisect_right(ranges.stops, lower)
    high = len(ranges.starts) if upper is None else bisect_left(ranges.starts, upper)
    if low >= high:
        return NO_RANGES
    starts, stops = list(ranges.starts[low:high]), list(ranges.stops[low:high])
    starts[0] = max(starts[0], lower)
    if upper is not None:
        stops[-1] = min(stops[-1], upper)
    return Ranges(starts, stops)


def covers(ranges: Ranges, key: bytes) -> bool:
    """Whether one of them hides the key."""
    at = bisect_right(ranges.starts, key)
    return at > 0 and key < ranges.stops[at - 1]


def covers_all(ranges: Ranges, first: bytes, last: bytes) -> bool:
    """Whether a single one of them hides all keys from the first to the last."""
    at = bisect_right(ranges.starts, first)
    return at > 0 and last < ranges.stops[at - 1]


def visible(runs: Iterator[Run], hidden: Ranges) -> Iterator[Run]:
    """The runs of a source without the entries that newer sources' ranges hide."""
    if not hidden.starts:
        return runs
    return (run for run in (_uncovered(run, hidden) for run in runs) if run[0])


def _uncovered(run: Run, hidden: Ranges) -> Run:
    keys, values, kinds = run
    starts, stops = hidden
    first = bisect_right(stops, keys[0])
    end = bisect_right(starts, keys[-1])
    if first >= end:
        return run
    kept: list[bytes] = []
    kept_values: list[bytes | None] = []
    at = 0
    for number in range(first, end):
        low = bisect_left(keys, starts[number], at)
        kept += keys[at:low]
        kept_values += values[at:low]
        at = bisect_left(keys, stops[number], low)
    kept += keys[at:]
    kept_values += values[at:]
    return kept, kept_values, kinds
