"""Fingerprints of key ranges: two replicas find where they differ without sending what they hold.

    partition   a range cut into about equal parts, each with its fingerprint, in one pass
    measure     the fingerprints of parts that the other side has cut

    fingerprint := number of cells, sum of BLAKE2b-256(salt, key, cell) modulo 2**256

A sum does not depend on how the range was cut, so that parts are put together by adding. The salt
is drawn anew for each comparison: nobody can prepare cells whose sums agree. Only cells count, in
[b"", CELLS_STOP); derived entries follow from them.

    partition([a b c d e], parts=2)  ->  [a b c] [d e]
    partition([k])                   ->  [ ) [k] ( ]        few keys: each alone, with the gaps

After the range-based set reconciliation of Aljoscha Meyer (2023) and negentropy's fingerprints.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from murmur.errors import Interrupted
from murmur.kvcore.record import DERIVED
from murmur.kvcore.view import View

CELLS_STOP = DERIVED  # cells are below, what is derived from them is not compared
SALT_BYTES = 16
DIGEST_BYTES = 32
PARTS = 16
BOUNDS_BYTES = 512 << 10  # of the bounds of one partition, in all
_LOOK_EVERY = 1024  # cells, between two looks at whether to stop
_MODULUS = 1 << (8 * DIGEST_BYTES)
_LENGTH = struct.Struct(">I")


class Fingerprint(NamedTuple):
    """What one range holds."""

    cells: int
    digest: bytes


class Part(NamedTuple):
    """One range of a partition, up to the start of the next."""

    start: bytes
    fingerprint: Fingerprint


class Measured(NamedTuple):
    """A range's fingerprint, and its first key."""

    fingerprint: Fingerprint
    first: bytes | None


Cancelled = Callable[[], bool]


def partition(
    view: View, start: bytes, stop: bytes, salt: bytes, cancelled: Cancelled
) -> list[Part]:
    """Cut the range; at most PARTS keys stand each alone. Raises Interrupted when cancelled."""
    buckets: list[_Bucket] = []
    capacity = 1
    for key, number in _numbers(view, start, stop, salt, cancelled):
        if buckets and buckets[-1].count < capacity:
            buckets[-1].add(key, number)
            continue
        if len(buckets) == 2 * PARTS:
            buckets = [_joined(*buckets[i : i + 2]) for i in range(0, 2 * PARTS, 2)]
            capacity *= 2
        buckets.append(_Bucket(key, number))
    if len(buckets) <= PARTS and capacity == 1 and _exact_bytes(buckets) <= BOUNDS_BYTES:
        return _exact(buckets, start)
    while len(buckets) > 2 and sum(map(len, _separators(buckets))) > BOUNDS_BYTES:
        buckets = [
            _joined(*buckets[i : i + 2]) if i + 1 < len(buckets) else buckets[i]
            for i in range(0, len(buckets), 2)
        ]
    bounds = [start, *_separators(buckets)]
    return [Part(bound, each.fingerprint()) for bound, each in zip(bounds, buckets, strict=True)]


def measure(
    view: View, bounds: Sequence[bytes], stop: bytes, salt: bytes, cancelled: Cancelled
) -> list[Measured]:
    """The ranges between bounds, which ascend, and from the last to `stop`."""
    buckets: list[_Bucket | None] = [None] * len(bounds)
    at = 0
    for key, number in _numbers(view, bounds[0], stop, salt, cancelled):
        while at + 1 < len(bounds) and key >= bounds[at + 1]:
            at += 1
        bucket = buckets[at]
        if bucket is None:
            buckets[at] = _Bucket(key, number)
        else:
            bucket.add(key, number)
    return [
        Measured(bucket.fingerprint(), bucket.first) if bucket else Measured(EMPTY, None)
        for bucket in buckets
    ]


class _Bucket:
    """A run of cells."""

    __slots__ = ("count", "first", "last", "sum")

    def __init__(self, key: bytes, number: int) -> None:
        self.first = self.last = key
        self.count = 1
        self.sum = number

    def add(self, key: bytes, number: int) -> None:
        self.last = key
        self.count += 1
        self.sum += number

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.count, (self.sum % _MODULUS).to_bytes(DIGEST_BYTES))


EMPTY = Fingerprint(0, bytes(DIGEST_BYTES))


def _numbers(
    view: View, start: bytes, stop: bytes, salt: bytes, cancelled: Cancelled
) -> Iterator[tuple[bytes, int]]:
    length, whole = _LENGTH.pack, int.from_bytes
    left = _LOOK_EVERY
    for key, cell in view.scan(start, min(stop, CELLS_STOP)):
        left -= 1
        if not left:
            left = _LOOK_EVERY
            if cancelled():
                raise Interrupted("the comparison was given up")
        hashed = hashlib.blake2b(length(len(key)) + key + cell, digest_size=32, salt=salt)
        yield key, whole(hashed.digest())


def _joined(left: _Bucket, right: _Bucket) -> _Bucket:
    left.last = right.last
    left.count += right.count
    left.sum += right.sum
    return left


def _separators(buckets: Sequence[_Bucket]) -> list[bytes]:
    """The shortest keys between neighbours."""
    return [_between(left.last, right.first) for left, right in pairwise(buckets)]


def _between(left: bytes, right: bytes) -> bytes:
    """The shortest prefix of the right key that is above the left one."""
    same = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(left))
    return right[: same + 1]


def _exact(buckets: Sequence[_Bucket], start: bytes) -> list[Part]:
    """Each key alone, and the gaps before, between and behind."""
    parts = [Part(start, EMPTY)]
    for bucket in buckets:
        if parts[-1].start == bucket.first:
            parts.pop()
        parts += [Part(bucket.first, bucket.fingerprint()), Part(bucket.first + b"\0", EMPTY)]
    return parts


def _exact_bytes(buckets: Sequence[_Bucket]) -> int:
    return sum(2 * len(bucket.first) + 1 for bucket in buckets)
