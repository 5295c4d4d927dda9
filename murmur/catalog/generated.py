"""Keys that columns fill in by themselves, made without asking anyone.

`uuid7()` is RFC 9562's version 7, and integer keys are made likewise of time, place and a counter:

    UUID      48 bits ms since 1970 | 4 version | 12 random | 2 variant | 62 random
    BIGINT    42 bits ms since 2024 | 13 bits slot | 8 bits counter          (63 bits, positive)

    Uuid7(clock.now_ms, random_bytes)()             ->  UUID('018cc251-f400-7c1e-9f3b-...')
    IntegerIds(replica.id, clock.now_ms)()          ->  11902498199273472

The slot is a hash of the replica's id. Two replicas share a slot with a chance of 1 in 8,192, and
then meet only in the same millisecond at the same count; the unique constraint tells if they do.

Invariant: each generator's results rise strictly, whatever its clock does. When the clock stands or
goes back, a generator goes on from its last result; when a millisecond's counter is used up, it
takes the next millisecond, ahead of the clock. Nothing is remembered across restarts: give `now_ms`
a clock that does not go back over one, as the replica's hybrid clock.

One generator may be used from several threads. It must not be used on both sides of a fork.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable
from struct import unpack

from murmur.catalog.atoms import uuid_from_int
from murmur.errors import DataError

ID_EPOCH_MS = 1_704_067_200_000  # 2024-01-01T00:00:00Z; in every id: never change
TIME_BITS, SLOT_BITS, COUNTER_BITS = 42, 13, 8

_RANDOM_BITS = 74
_STEP_BYTES = 4
_LOW_BITS = (1 << 62) - 1
_UUID_MS_LIMIT = 1 << 48


class Uuid7:
    """Version 7 UUIDs in rising order."""

    __slots__ = ("_lock", "_ms", "_now_ms", "_random_bytes", "_tail")

    def __init__(self, now_ms: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._lock = threading.Lock()
        self._ms = -1
        self._tail = 0

    def __call__(self) -> uuid.UUID:
        """The next UUID, later than all before it."""
        with self._lock:
            return uuid_from_int(self._next(self._now_ms(), self._random_step))

    def many(self, count: int) -> bytes:
        """So many UUIDs, one after the other, in 16 bytes each."""
        steps = iter(unpack(f">{count}I", self._random_bytes(_STEP_BYTES * count)))
        made = bytearray()
        with self._lock:
            now_ms = self._now_ms()
            for _ in range(count):
                made += self._next(now_ms, steps.__next__).to_bytes(16)
        return bytes(made)

    def _next(self, now_ms: int, step: Callable[[], int]) -> int:
        if now_ms > self._ms:
            self._ms, self._tail = now_ms, self._fresh_tail()
        else:
            # RFC 9562, 6.2, method 2: a random step keeps the next one hard to guess.
            self._tail += 1 + step()
            if self._tail >> _RANDOM_BITS:
                self._ms, self._tail = self._ms + 1, self._fresh_tail()
        ms, tail = self._ms, self._tail
        if not 0 <= ms < _UUID_MS_LIMIT:
            raise DataError(f"uuid7() cannot hold the time {ms} ms")
        return ms << 80 | 7 << 76 | (tail >> 62) << 64 | 2 << 62 | tail & _LOW_BITS

    def _random_step(self) -> int:
        return int.from_bytes(self._random_bytes(_STEP_BYTES))

    def _fresh_tail(self) -> int:
        # One bit less than there is, so that steps have room.
        return int.from_bytes(self._random_bytes(10)) >> (80 - _RANDOM_BITS + 1)


class IntegerIds:
    """Positive 63-bit integers in rising order, of one replica."""

    __slots__ = ("_last", "_lock", "_now_ms", "_slot")

    def __init__(self, replica: bytes, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._lock = threading.Lock()
        digest = hashlib.blake2b(replica, digest_size=8, person=b"murmur slot").digest()
        self._slot = (int.from_bytes(digest) & ((1 << SLOT_BITS) - 1)) << COUNTER_BITS
        self._last = -1  # a clock before 2024 is a clock that went back

    def __call__(self) -> int:
        """The next id, larger than all before it."""
        with self._lock:
            ms = self._now_ms() - ID_EPOCH_MS
            fresh = ms << (SLOT_BITS + COUNTER_BITS) | self._slot
            if fresh <= self._last:
                fresh = self._last + 1
                if not fresh & ((1 << COUNTER_BITS) - 1):  # the counter ran over into the slot
                    ms = (self._last >> (SLOT_BITS + COUNTER_BITS)) + 1
                    fresh = ms << (SLOT_BITS + COUNTER_BITS) | self._slot
            if ms >> TIME_BITS:
                raise DataError(f"generated ids cannot hold the time {ms + ID_EPOCH_MS} ms")
            self._last = fresh
        return fresh


def id_time_ms(value: int) -> int:
    """When a generated id was made, in milliseconds since 1970 by its maker's clock."""
    return (value >> (SLOT_BITS + COUNTER_BITS)) + ID_EPOCH_MS
