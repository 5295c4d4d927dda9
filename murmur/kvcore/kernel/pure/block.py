"""Blocks: a few kilobytes of sorted entries, laid out so that Python decodes them in bulk.

    block     := count u32 | deleted count u32 | widths 3 x u8
               | prefix lengths  | suffix lengths | value lengths | deleted positions u32*
               | prefixes | suffixes | values
    prefix    := what the keys of one group of 16 entries have in common (the restart points)
    length    := u8, u16 or u32, little-endian; the widths say which, for each of the three arrays

    put "ab1" "x", delete "ab2", put "ab34" "yz"  ->
        03 00 00 00 | 01 00 00 00 | 01 01 01 | 02 | 01 01 02 | 01 00 02 | 01 00 00 00
        | "ab" | "1" "2" "34" | "x" "yz"

Entries that differ in kind stand in arrays of one kind: an array of lengths is unpacked by one call
and turned into bounds by `accumulate`, a key is one slice and one concatenation, a value one slice,
about 0.25 microseconds for an entry. A group's prefix is that of its first and last key, since the
keys between lie between; so encoding compares two keys in sixteen.

A deleted key (tombstone) has an empty value, and its position is listed. The checksum of a block
stands with whoever points to it: a block that is whole, but in another's place, is noticed too.

Invariant: decode(encode(keys, values)) gives the same keys and values.
After LevelDB's table format, with columns for speed in Python.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, cast

GROUP = 16  # on disk: entries that share one prefix
TARGET_BYTES = 4 << 10  # of a block; the last entry may exceed it
OBJECT_BYTES = 90  # what CPython takes for a decoded entry besides its bytes

_HEADER = struct.Struct("<IIBBB")
_CODES = {1: "B", 2: "H", 4: "I"}


class Block(NamedTuple):
    """A decoded block, never changed: parallel lists, and whether some value is None."""

    keys: list[bytes]
    values: list[bytes | None]
    tombstones: bool
    weight: int  # about what it takes in memory


def encode_block(
    keys: Sequence[bytes], values: Sequence[bytes | None], *, tombstones: bool
) -> bytes:
    """The bytes of ascending keys and their values; without tombstones no value is None."""
    deleted: list[int] = []
    if tombstones:
        deleted = [at for at, value in enumerate(values) if value is None]
    contents = [value or b"" for value in values] if deleted else cast("Sequence[bytes]", values)
    prefixes: list[bytes] = []
    suffixes: list[bytes] = []
    for start in range(0, len(keys), GROUP):
        group = keys[start : start + GROUP]
        shared = _shared(group[0], group[-1])
        prefixes.append(group[0][:shared])
        suffixes += [key[shared:] for key in group]
    lengths = [list(map(len, part)) for part in (prefixes, suffixes, contents)]
    widths = [_width(part) for part in lengths]
    return b"".join(
        (
            _HEADER.pack(len(keys), len(deleted), *widths),
            *map(_pack, lengths, widths),
            _pack(deleted, 4),
            *prefixes,
            *suffixes,
            *contents,
        )
    )


def decode_block(data: bytes) -> Block:
    """The entries of a block whose checksum is right."""
    count, deleted_count, *widths = _HEADER.unpack_from(data)
    groups = (count + GROUP - 1) // GROUP
    at = _HEADER.size
    prefix_lengths = _unpack(data, at, groups, widths[0])
    at += groups * widths[0]
    suffix_lengths = _unpack(data, at, count, widths[1])
    at += count * widths[1]
    value_lengths = _unpack(data, at, count, widths[2])
    at += count * widths[2]
    deleted = _unpack(data, at, deleted_count, 4)
    at += deleted_count * 4

    prefixes = [
        data[start:stop] for start, stop in pairwise(accumulate(prefix_lengths, initial=at))
    ]
    at += sum(prefix_lengths)
    keys = [data[start:stop] for start, stop in pairwise(accumulate(suffix_lengths, initial=at))]
    at += sum(suffix_lengths)
    values: list[bytes | None] = [
        data[start:stop] for start, stop in pairwise(accumulate(value_lengths, initial=at))
    ]
    for start, prefix in zip(range(0, count, GROUP), prefixes, strict=True):
        if prefix:
            keys[start : start + GROUP] = map(prefix.__add__, keys[start : start + GROUP])
    for position in deleted:
        values[position] = None
    return Block(keys, values, bool(deleted_count), len(data) + OBJECT_BYTES * count)


def _shared(first: bytes, last: bytes) -> int:
    """How many bytes two keys have in common at the beginning."""
    length = min(len(first), len(last))
    difference = int.from_bytes(first[:length]) ^ int.from_bytes(last[:length])
    return length - (difference.bit_length() + 7) // 8


def _width(lengths: Sequence[int]) -> int:
    longest = max(lengths, default=0)
    return 1 if longest < 1 << 8 else 2 if longest < 1 << 16 else 4


def _pack(numbers: Sequence[int], width: int) -> bytes:
    return (
        bytes(numbers) if width == 1 else struct.pack(f"<{len(numbers)}{_CODES[width]}", *numbers)
    )


def _unpack(data: bytes, at: int, count: int, width: int) -> Sequence[int]:
    if width == 1:
        return data[at : at + count]
    return struct.unpack_from(f"<{count}{_CODES[width]}", data, at)
