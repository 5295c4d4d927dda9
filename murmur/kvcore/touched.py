"""Touched: the keys that transactions beyond a vector changed, and a view without them.

Two replicas that write all the time never have one vector at one moment. But a cell that no
transaction beyond their common cut has touched is a function of the transactions before it, which
both have (law L5), so it must be the same on both:

    mine    {a: 7, b: 3}    cut {a: 5, b: 3}    beyond it: a:6 put k, a:7 put m
    theirs  {a: 5, b: 4}                        beyond it: b:4 put k
    to be left out: k, m
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from murmur.errors import Trimmed
from murmur.kvcore.causality import VersionVector
from murmur.kvcore.record import decode, origin
from murmur.kvcore.view import View

KEY_BYTES = 8  # what a message spends on each beside its bytes


class Readable(Protocol):
    """The log, as far as it is read here."""

    def missing(self, have: VersionVector, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(position after, record) of the admitted records that `have` does not cover."""
        ...


def touched(
    log: Readable, have: VersionVector, vector: VersionVector, position: int, most_bytes: int
) -> frozenset[bytes] | None:
    """Which keys changed between `have` and a snapshot with this vector and log position.

    None if they are more than so many bytes with their framing, or if the log does not hold all of
    these records.
    """
    lacking = sum(max(0, seq - have.get(replica, 0)) for replica, seq in vector.items())
    keys: set[bytes] = set()
    size = 0
    try:
        for _, record in log.missing(have, position):
            replica, seq = origin(record)
            if seq > vector.get(replica, 0):
                return None
            lacking -= 1
            for operation in decode(record).operations:
                if operation.key not in keys:
                    keys.add(operation.key)
                    size += len(operation.key) + KEY_BYTES
            if size > most_bytes:
                return None
    except Trimmed:
        return None
    return frozenset(keys) if not lacking else None


class Narrowed:
    """A view of some keys only (None: all), and without others."""

    def __init__(
        self, view: View, only: Sequence[bytes] | None, without: Collection[bytes]
    ) -> None:
        """`only` ascends."""
        self._view = view
        self._only = only
        self._without = frozenset(without)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if it has none or is left out."""
        if self._only is not None:
            at = bisect_left(self._only, key)
            if at == len(self._only) or self._only[at] != key:
                return None
        return None if key in self._without else self._view.get(key)

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < stop that are not left out."""
        if self._only is None:
            pairs = self._view.scan(start, stop, reverse=reverse)
            return ((key, cell) for key, cell in pairs if key not in self._without)
        end = len(self._only) if stop is None else bisect_left(self._only, stop)
        keys = self._only[bisect_left(self._only, start) : end]
        found = ((key, self.get(key)) for key in (reversed(keys) if reverse else keys))
        return ((key, cell) for key, cell in found if cell is not None)


def common(left: Mapping[bytes, int], right: Mapping[bytes, int]) -> dict[bytes, int]:
    """The cut: what both vectors have."""
    cut = {replica: min(seq, right.get(replica, 0)) for replica, seq in left.items()}
    return {replica: seq for replica, seq in cut.items() if seq}
