"""Blocks: a few kilobytes of sorted entries, laid out so that Python decodes them in bulk.

    block     := count u32 | deleted count u32 | referenced count u32 | widths 3 x u8
               | prefix lengths  | suffix lengths | value lengths
               | deleted positions u32* | referenced positions u32*
               | prefixes | suffixes | values
    prefix    := what the keys of one group of 16 entries have in common (the restart points)
    length    := u8, u16 or u32, little-endian; the widths say which, for each of the three arrays:
                 the smallest that holds its longest
    reference := value file number u64 | offset u64 | length u32 | crc u32 of the value

    put "ab1" "x", delete "ab2", put "ab34" "yz"  ->
        03 00 00 00 | 01 00 00 00 | 00 00 00 00 | 01 01 01 | 02 | 01 01 02 | 01 00 02 | 01 00 00 00
        | "ab" | "1" "2" "34" | "x" "yz"

Entries that differ in kind stand in arrays of one kind: an array of lengths is unpacked by one call
and turned into bounds by `accumulate`, a key is one slice and one concatenation, a value one slice,
about 0.25 microseconds for an entry. A group's prefix is that of its first and last key, since the
keys between lie between; so encoding compares two keys in sixteen.

A deleted key (tombstone) has an empty value, and its position is listed. So is that of a key whose
value stands in a value file: the block has a reference to it. The checksum of a block stands with
whoever points to it: a block that is whole, but in another's place, is noticed too.

Invariant: decode(encode(keys, values)) gives the same keys and values.
After LevelDB's table format, with columns for speed in Python.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeAlias, cast

GROUP = 16  # on disk: entries that share one prefix
OBJECT_BYTES = 90  # what CPython takes for a decoded entry besides its bytes

# What there is besides plain values, among the values of a block or run.
TOMBSTONES, REFERENCES = 1, 2

_HEADER = struct.Struct("<IIIBBB")
_REFERENCE = struct.Struct("<QQII")
_CODES = {1: "B", 2: "H", 4: "I"}


class Reference(bytes):
    """Where a value stands: what a block holds in its place."""

    __slots__ = ()

    @classmethod
    def pack(cls, number: int, offset: int, length: int, crc: int) -> Reference:
        """A reference to so many bytes of a value file, from the offset on."""
        return cls(_REFERENCE.pack(number, offset, length, crc))

    def unpack(self) -> tuple[int, int, int, int]:
        """Value file number, offset, length, and the value's CRC-32."""
        return cast("tuple[int, int, int, int]", _REFERENCE.unpack(self))


Value: TypeAlias = bytes | None  # None deletes; a Reference stands for its value


class Malformed(ValueError):
    """These bytes are no block, though their checksum is right."""


class Block(NamedTuple):
    """A decoded block, never changed: parallel lists, and what kinds of values there are."""

    keys: list[bytes]
    values: list[Value]
    kinds: int  # TOMBSTONES | REFERENCES, as far as there are any
    weight: int  # about what it takes in memory


def encode_block(keys: Sequence[bytes], values: Sequence[Value], kinds: int = 0) -> bytes:
    """The bytes of ascending keys and their values. `kinds` says what kinds there may be."""
    deleted: list[int] = []
    referenced: list[int] = []
    if kinds & TOMBSTONES:
        deleted = [at for at, value in enumerate(values) if value is None]
    if kinds & REFERENCES:
        referenced = [at for at, value in enumerate(values) if type(value) is Reference]
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
            _HEADER.pack(len(keys), len(deleted), len(referenced), *widths),
            *map(_pack, lengths, widths),
            _pack(deleted, 4),
            _pack(referenced, 4),
            *prefixes,
            *suffixes,
            *contents,
        )
    )


def decode_block(data: bytes, at: int = 0) -> Block:
    """The entries of a block whose checksum is right; Malformed if it is none all the same.

    It begins at `at`, and ends where the data ends.
    """
    try:
        return _decode(data, at)
    except (struct.error, KeyError, IndexError) as error:
        raise Malformed(f"not a block: {error}") from None


def _decode(data: bytes, at: int) -> Block:
    count, deleted_count, referenced_count, *widths = _HEADER.unpack_from(data, at)
    groups = (count + GROUP - 1) // GROUP
    at += _HEADER.size
    prefix_lengths = _unpack(data, at, groups, widths[0])
    at += groups * widths[0]
    suffix_lengths = _unpack(data, at, count, widths[1])
    at += count * widths[1]
    value_lengths = _unpack(data, at, count, widths[2])
    at += count * widths[2]
    if deleted_count or referenced_count:
        deleted = _unpack(data, at, deleted_count, 4)
        at += deleted_count * 4
        referenced = _unpack(data, at, referenced_count, 4)
        at += referenced_count * 4

    prefixes = [
        data[start:stop] for start, stop in pairwise(accumulate(prefix_lengths, initial=at))
    ]
    at += sum(prefix_lengths)
    keys = [data[start:stop] for start, stop in pairwise(accumulate(suffix_lengths, initial=at))]
    at += sum(suffix_lengths)
    bounds = list(accumulate(value_lengths, initial=at))
    if bounds[-1] != len(data):
        raise Malformed("not a block: its lengths do not add up")
    values: list[Value] = [data[start:stop] for start, stop in pairwise(bounds)]
    for start, prefix in zip(range(0, count, GROUP), prefixes, strict=True):
        if prefix:
            keys[start : start + GROUP] = map(prefix.__add__, keys[start : start + GROUP])
    kinds = 0
    if deleted_count:
        kinds = TOMBSTONES
        for position in deleted:
            values[position] = None
    if referenced_count:
        kinds |= REFERENCES
        for position in referenced:
            value = values[position]
            if value is None or len(value) != _REFERENCE.size:
                raise Malformed("not a block: a reference is not 24 bytes long")
            values[position] = Reference(value)
    return Block(keys, values, kinds, len(data) + OBJECT_BYTES * count)


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
