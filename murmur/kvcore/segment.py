"""Segments: the files of the log.

    file    := header | frame* | footer?
    header  := "MURLOG" | version u16 | start u64 | crc u32
    footer  := marker f5 1a 4c 66 | block* | count u32 | length u32 | end u64 | crc u32 | marker
    block   := stop u64 | origins u32 | (replica 8s | first u64 | last u64)*

Integers are big-endian. Start is the log position of the first frame, and in hexadecimal the name:

    log/0000000000000000.log      frames at 0 .. 67108802, a footer: closed
    log/0000000003ffffc2.log      frames from 67108802 on: the open one

Headers and footers have no positions, so positions run on from file to file. The crcs are CRC-32:
of the header's bytes before it (this layout holds for all versions), and of the footer's before it,
begun with the low 32 bits of start. `count` and `length` are the blocks' number and size in bytes.

A block is a stretch of about BLOCK_BYTES of frames. It names the first and last seq of each origin
that it holds admitted records of. The seqs of an origin ascend in the log (law L3): a peer that has
the last ones of a block lacks nothing in it.

Invariants: a footer is written after its frames were synced, so behind a valid footer a bad frame
is damage; the next segment is created after the footer was synced, so only the last may lack one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import NamedTuple
from zlib import crc32

from murmur.errors import ChecksumMismatch, Corruption, UnknownFormat
from murmur.kvcore.frame import ADMITTED, scan
from murmur.kvcore.storage import ReadFile, Storage, replace

DIRECTORY = "log"
MAGIC = b"MURLOG"
VERSION = 1
BLOCK_BYTES = 1 << 20
FOOTER_MARKER = b"\xf5\x1aLf"
SMALLEST_RECORD = 17  # version u8 | replica 8s | seq u64 | ...

Ranges = Mapping[bytes, tuple[int, int]]  # origin -> first and last seq

_HEADER_FIELDS = Struct(">6sHQ")
HEADER_SIZE = _HEADER_FIELDS.size + 4
_TRAILER_FIELDS = Struct(">IIQ")
TRAILER_SIZE = _TRAILER_FIELDS.size + 8
_BLOCK = Struct(">QI")
_RANGE = Struct(">8sQQ")
_NAME = re.compile(r"[0-9a-f]{16}\.log")
_unpack_dot = Struct(">8sQ").unpack_from  # at offset 1 of a record


class Block(NamedTuple):
    """A stretch of frames, from where the block before stops, and what it holds of whom."""

    stop: int
    ranges: Ranges


class Segment(NamedTuple):
    """What is known of a segment without reading its frames. The tail is the unfinished block."""

    start: int
    end: int
    blocks: tuple[Block, ...] = ()
    tail: Ranges = {}

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{DIRECTORY}/{self.start:016x}.log"

    @property
    def shift(self) -> int:
        """What to add to a position for the offset in the file."""
        return HEADER_SIZE - self.start

    def extended(self, end: int, ranges: Ranges, block_bytes: int | None = None) -> Segment:
        """The segment with frames up to `end` more, of these ranges."""
        start, _, blocks, tail = self
        if ranges:
            tail = _union(tail, ranges)
        if end - (blocks[-1].stop if blocks else start) < (block_bytes or BLOCK_BYTES):
            return Segment(start, end, blocks, tail)
        return Segment(start, end, (*blocks, Block(end, tail)))

    def sealed(self) -> Segment:
        """The segment with its tail as a block."""
        if self.end == (self.blocks[-1].stop if self.blocks else self.start):
            return self
        return Segment(self.start, self.end, (*self.blocks, Block(self.end, self.tail)))

    def ranges(self) -> Ranges:
        """What the segment holds of whom."""
        ranges = self.tail
        for block in reversed(self.blocks):
            ranges = _union(block.ranges, ranges)
        return ranges

    def holds_more_than(self, have: Mapping[bytes, int]) -> bool:
        """Whether any block may hold a record that `have` lacks."""
        return any(_lacks(block.ranges, have) for block in self.blocks) or _lacks(self.tail, have)


def ranges_of(records: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
    """The first and last seq of every origin among records in log order."""
    first: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    for record in records:
        replica, seq = _unpack_dot(record, 1)
        if replica not in last:
            first[replica] = seq
        last[replica] = seq
    return {replica: (first[replica], last[replica]) for replica in last}


class Survey(NamedTuple):
    """What reading the frames of a segment showed."""

    segment: Segment  # up to the last good frame
    durable: int  # the highest that a good frame names
    damage: Corruption | None  # what is wrong with the next one


def survey(file: ReadFile, path: str, segment: Segment, stop: int) -> Survey:
    """Read on, from the end of what is known of a segment to stop or to the first bad frame."""
    _, end, _, _ = segment
    highest = 0
    damage = None
    admitted: list[bytes] = []
    try:
        for after, kind, durable, record in scan(file, path, end, stop, segment.shift):
            end = after
            if durable > highest:
                highest = durable
            if kind == ADMITTED:
                admitted.append(record)
            if end - segment.end >= BLOCK_BYTES:
                segment = segment.extended(end, ranges_of(admitted))
                admitted.clear()
    except Corruption as error:
        damage = error
    return Survey(segment.extended(end, ranges_of(admitted)), highest, damage)


def lacking(
    file: ReadFile, path: str, segment: Segment, stop: int, have: Mapping[bytes, int]
) -> Iterator[tuple[int, bytes]]:
    """(position after, record) of the admitted records before stop that `have` lacks."""
    seen = have.get
    start = segment.start
    for block in segment.sealed().blocks:
        if start >= stop:
            return
        if _lacks(block.ranges, have):
            end = min(block.stop, stop)
            for after, kind, _, record in scan(file, path, start, end, segment.shift):
                if kind == ADMITTED:
                    replica, seq = _unpack_dot(record, 1)
                    if seq > seen(replica, 0):
                        yield after, record
        start = block.stop


def encode_header(start: int) -> bytes:
    """A segment without frames."""
    header = _HEADER_FIELDS.pack(MAGIC, VERSION, start)
    return header + crc32(header).to_bytes(4)


def create_segment(storage: Storage, start: int) -> None:
    """A segment without frames; the caller syncs the directory."""
    replace(storage, Segment(start, start).name, encode_header(start))


def list_segments(storage: Storage) -> list[int]:
    """Where the segments in the directory start, by their names."""
    return [int(name[:16], 16) for name in storage.list(DIRECTORY) if _NAME.fullmatch(name)]


def check_header(file: ReadFile, path: str, start: int) -> None:
    """Raise unless the file is a segment that starts here."""
    header = file.read(0, HEADER_SIZE)
    if header[: len(MAGIC)] != MAGIC:
        raise Corruption(path, 0, "this is no segment of a log")
    if len(header) < HEADER_SIZE or crc32(header[:-4]).to_bytes(4) != header[-4:]:
        raise ChecksumMismatch(path, 0, "the header's checksum does not match")
    _, version, named = _HEADER_FIELDS.unpack_from(header)
    if version != VERSION:
        raise UnknownFormat(path, len(MAGIC), f"log format {version}; this release reads {VERSION}")
    if named != start:
        raise Corruption(path, len(MAGIC) + 2, f"the segment starts at {named}, not at {start}")


def encode_footer(segment: Segment) -> bytes:
    """What closes the segment."""
    blocks = segment.sealed().blocks
    parts = [FOOTER_MARKER]
    for stop, ranges in blocks:
        parts.append(_BLOCK.pack(stop, len(ranges)))
        parts += [_RANGE.pack(replica, *ranges[replica]) for replica in sorted(ranges)]
    length = sum(map(len, parts)) - len(FOOTER_MARKER)
    parts.append(_TRAILER_FIELDS.pack(len(blocks), length, segment.end))
    footer = b"".join(parts)
    crc = crc32(footer, segment.start & 0xFFFFFFFF)
    return footer + crc.to_bytes(4) + FOOTER_MARKER


def read_footer(file: ReadFile, path: str, start: int) -> Segment:
    """The closed segment, from its footer; raises Corruption if there is no valid one."""
    size = file.size()
    trailer = file.read(max(0, size - TRAILER_SIZE), TRAILER_SIZE)
    if len(trailer) < TRAILER_SIZE or not trailer.endswith(FOOTER_MARKER):
        raise Corruption(path, size, "a closed segment has no footer at its end")
    count, length, end = _TRAILER_FIELDS.unpack_from(trailer)
    offset = size - TRAILER_SIZE - length - len(FOOTER_MARKER)
    if not (HEADER_SIZE <= offset == HEADER_SIZE + end - start):
        raise Corruption(path, size - TRAILER_SIZE, "the footer's lengths do not fit the file")
    footer = file.read(offset, size - offset)
    crc = crc32(footer[:-8], start & 0xFFFFFFFF).to_bytes(4)
    if crc != footer[-8:-4] or not footer.startswith(FOOTER_MARKER):
        raise ChecksumMismatch(path, offset, "the footer's checksum does not match")
    blocks = []
    at = len(FOOTER_MARKER)
    try:
        for _ in range(count):
            stop, origins = _BLOCK.unpack_from(footer, at)
            at += _BLOCK.size
            ranges = {}
            for _ in range(origins):
                replica, first, last = _RANGE.unpack_from(footer, at)
                ranges[replica] = (first, last)
                at += _RANGE.size
            blocks.append(Block(stop, ranges))
    except StructError:
        raise Corruption(path, offset + at, "the footer ends within a block") from None
    stops = [start, *(block.stop for block in blocks)]
    if stops != sorted(set(stops)) or stops[-1] != end:
        raise Corruption(path, offset, "the footer's blocks do not span the frames")
    return Segment(start, end, tuple(blocks))


def _lacks(ranges: Ranges, have: Mapping[bytes, int]) -> bool:
    return any(last > have.get(replica, 0) for replica, (_, last) in ranges.items())


def _union(left: Ranges, right: Ranges) -> Ranges:
    union = dict(left)
    for replica, (first, last) in right.items():
        known = left.get(replica)
        union[replica] = (first, last) if known is None else (known[0], last)
    return union
