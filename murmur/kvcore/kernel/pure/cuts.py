"""Cuts: the range tombstones of a memtable, each with its sequence, in one immutable value.

    [a, m) deleted at 3, [f, z) deleted at 5   ->   bounds   a     f     m     z
                                                    stacks   (3)  (5 3)  (5)   ()

Between two bounds every key is under the same stack of sequences, newest first. A key's own version
is hidden when the stack holds a sequence that the reader sees and that is greater than the
version's: of one batch the ranges come first.

As with versions of a key, of a stack stays what the last published sequence and the pinned ones
see.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from murmur.kvcore.kernel.interface import Ranges
from murmur.kvcore.kernel.pure.ranges import join

NEVER = -1  # precedes every sequence


class Cuts(NamedTuple):
    """Range tombstones by sequence; `newest` is the greatest."""

    bounds: list[bytes]
    stacks: list[tuple[int, ...]]
    newest: int

    def cover(self, key: bytes, sequence: int) -> int:
        """The newest range over the key that a sequence sees, or NEVER."""
        at = bisect_right(self.bounds, key) - 1
        if at >= 0:
            for covered in self.stacks[at]:
                if covered <= sequence:
                    return covered
        return NEVER

    def ranges(self, sequence: int) -> Ranges:
        """All that a sequence sees."""
        stops = self.bounds[1:]
        return join(
            (start, stop)
            for start, stop, stack in zip(self.bounds, stops, self.stacks, strict=False)
            if stack and stack[-1] <= sequence
        )

    def without(self, sequence: int) -> Cuts | None:
        """The same without what was written from this sequence on."""
        stacks = [tuple(at for at in stack if at < sequence) for stack in self.stacks]
        newest = max((stack[0] for stack in stacks if stack), default=NEVER)
        return None if newest == NEVER else Cuts(self.bounds, stacks, newest)


NO_CUTS = Cuts([], [], NEVER)


def cut(
    cuts: Cuts,
    ranges: Sequence[tuple[bytes, bytes]],
    sequence: int,
    pinned: Sequence[int],
) -> Cuts:
    """The cuts with ranges on top, deleted at a sequence that is not less than any before."""
    bounds, stacks = list(cuts.bounds), list(cuts.stacks)
    for start, stop in ranges:
        low, high = _bound(bounds, stacks, start), _bound(bounds, stacks, stop)
        for at in range(low, high):
            stacks[at] = (sequence, *pruned(stacks[at], sequence, pinned))
    return Cuts(bounds, stacks, sequence)


def pruned(stack: Sequence[int], sequence: int, pinned: Sequence[int]) -> list[int]:
    """Of sequences, newest first, those below a new one that somebody can see.

    The first that is older than it is what the published sequence sees; of those below, each stays
    that is the newest for some pin.
    """
    kept = []
    upper = sequence  # the pins from here up would see something newer
    for at in stack:
        if at < sequence and (upper == sequence or _any_within(pinned, at, upper)):
            kept.append(at)
            upper = at
    return kept


def _any_within(pinned: Sequence[int], start: int, stop: int) -> bool:
    at = bisect_left(pinned, start)
    return at < len(pinned) and pinned[at] < stop


def _bound(bounds: list[bytes], stacks: list[tuple[int, ...]], key: bytes) -> int:
    """The position of a bound, which is made if it is missing."""
    at = bisect_left(bounds, key)
    if at == len(bounds) or bounds[at] != key:
        bounds.insert(at, key)
        stacks.insert(at, stacks[at - 1] if at else ())
    return at
