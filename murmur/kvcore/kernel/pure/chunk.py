"""Chunks: live pairs by the thousand, as bytes and offsets: no object for each of them.

    a=1, bc=23    ->    keys "abc" | key_offsets 0 1 3 | values "123" | value_offsets 0 1 3

The layout is that of Arrow's binary columns (offsets of 4 bytes), so a chunk becomes one without a
copy.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

OFFSETS = "I"  # of array: u32 wherever CPython runs
_MOST_BYTES = (1 << 32) - 1  # what an offset can say


@dataclass(frozen=True, slots=True)
class Chunk:
    """So many pairs; key number i is keys[key_offsets[i]:key_offsets[i + 1]], values alike."""

    count: int
    keys: bytes
    key_offsets: array[int]
    values: bytes
    value_offsets: array[int]


def chunks(pieces: Iterable[tuple[list[bytes], list[bytes]]], bytes_: int) -> Iterator[Chunk]:
    """Chunks of at least so many bytes, but for the last, of pieces of keys and values."""
    keys: list[bytes] = []
    values: list[bytes] = []
    size = 0
    for some_keys, some_values in pieces:
        more = sum(map(len, some_keys)) + sum(map(len, some_values))
        if keys and size + more > _MOST_BYTES:
            yield _chunk(keys, values)
            keys, values, size = [], [], 0
        keys += some_keys
        values += some_values
        size += more
        if size >= bytes_:
            yield _chunk(keys, values)
            keys, values, size = [], [], 0
    if keys:
        yield _chunk(keys, values)


def _chunk(keys: list[bytes], values: list[bytes]) -> Chunk:
    return Chunk(
        len(keys),
        b"".join(keys),
        array(OFFSETS, accumulate(map(len, keys), initial=0)),
        b"".join(values),
        array(OFFSETS, accumulate(map(len, values), initial=0)),
    )
