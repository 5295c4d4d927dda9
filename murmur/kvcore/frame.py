"""Frames: how the log wraps a record, and how it tells a torn end from damage.

    frame := marker f5 1a 4c 67 | crc u32 | length u32 | kind u8 | durable u64 | record

    "hello" at position 0, kind 1, nothing durable yet:
    f51a4c67 39a1c12b 00000005 01 0000000000000000 68656c6c6f

Integers are big-endian. The crc is CRC-32 (zlib's) over all that follows it, begun with the low 32
bits of the frame's position in the log instead of zero: a frame in another's place is damage too.

`durable` says how much of the log was known to be on the disk when the frame was written. It
decides what a bad frame means. Unsynced writes may reach the disk in any order, so a bad frame can
be the torn end of an unfinished write, even with good ones behind it. But a good frame that was
written when the bad one was already durable proves damage (`find_witness`).

Invariants: durable <= the frame's position; a scan yields exactly what was written or raises
Corruption, allocates no more than the file holds, and makes one system call per CHUNK.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from zlib import crc32

from murmur.errors import ChecksumMismatch, Corruption
from murmur.kvcore.storage import ReadFile

ADMITTED, PARKED, BATCH = 1, 2, 3  # kinds, on disk: never renumber, never reuse

MARKER = b"\xf5\x1aLg"
FRAME_SIZE = 21  # without the record
MAX_RECORD = (1 << 31) - 1
CHUNK = 1 << 20  # what one system call reads

_KINDS = (ADMITTED, PARKED, BATCH)
_START = Struct(">4sIIBQ")
_pack_start = _START.pack
_unpack_start = _START.unpack_from
_pack_checked = Struct(">IBQ").pack  # what the crc covers besides the record
_CHECKED_AT = 8
_RECORD_IN_CHECKED = FRAME_SIZE - _CHECKED_AT
_SEARCH_LIMIT = 1 << 30  # bytes that find_witness checksums before it gives up


def encode(kind: int, durable: int, position: int, records: Sequence[bytes]) -> bytes:
    """The frames of the records, the first of them at this position."""
    parts: list[bytes] = []
    add = parts.append
    for record in records:
        length = len(record)
        crc = crc32(_pack_checked(length, kind, durable), position & 0xFFFFFFFF)
        add(_pack_start(MARKER, crc32(record, crc), length, kind, durable))
        add(record)
        position += FRAME_SIZE + length
    return b"".join(parts)


def scan(
    file: ReadFile, path: str, start: int, stop: int, shift: int
) -> Iterator[tuple[int, int, int, bytes]]:
    """(position after the frame, kind, durable, record) of the frames from start to stop.

    Position p is at offset p + shift of the file; path is for messages.
    """
    position = start
    need = 0
    while position < stop:
        asked = min(max(need, CHUNK), stop - position)
        buffer = file.read(position + shift, asked)
        size = len(buffer)
        at = 0
        while size - at >= FRAME_SIZE:
            marker, crc, length, kind, durable = _unpack_start(buffer, at)
            end = at + FRAME_SIZE + length
            if marker != MARKER:
                raise Corruption(path, position + shift, "no frame begins here")
            if end - at > stop - position:
                raise Corruption(
                    path, position + shift, f"a frame of {end - at} bytes is cut short"
                )
            if end > size:
                need = end - at
                break
            checked = buffer[at + _CHECKED_AT : end]
            if crc32(checked, position & 0xFFFFFFFF) != crc:
                raise ChecksumMismatch(path, position + shift, "a frame's checksum does not match")
            if kind not in _KINDS:
                raise Corruption(path, position + shift, f"frame of unknown kind {kind}")
            position += end - at
            yield position, kind, durable, checked[_RECORD_IN_CHECKED:]
            at = end
        if at == 0 and (size < asked or size < FRAME_SIZE):
            raise Corruption(path, position + shift, f"the last {size} bytes are no whole frame")


def find_witness(content: bytes, position: int) -> int | None:
    """Where a good frame begins that was written when a bad one at `position` was durable.

    Content is the file from the bad frame on. None: the bad frame is the start of a torn end.

    A hostile record may be full of what looks like frames. When checking them takes too long, the
    next one counts unchecked: refusing to open loses nothing.
    """
    size = len(content)
    view = memoryview(content)
    spent = 0
    at = content.find(MARKER, 1)
    while 0 <= at <= size - FRAME_SIZE:
        _, crc, length, kind, durable = _unpack_start(content, at)
        end = at + FRAME_SIZE + length
        if position < durable <= position + at and kind in _KINDS and end <= size:
            spent += length
            if (
                spent > _SEARCH_LIMIT
                or crc32(view[at + _CHECKED_AT : end], (position + at) & 0xFFFFFFFF) == crc
            ):
                return position + at
        at = content.find(MARKER, at + 1)
    return None
