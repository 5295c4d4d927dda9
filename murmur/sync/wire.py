"""Frames: the stream of a conversation cut into pieces, and the bounded msgpack inside them.

A conversation is one ordered stream of frames in each direction, big-endian:

    length u32 | version u8 | type u8 | flags u16 | sequence u64 | payload (length bytes)

    PING, the third frame  ->  00000002 01 09 0000 0000000000000002 | 91 07

`sequence` counts the frames of one direction from 0, without gaps. What the types mean is in
messages.py. The flags:

    1       IGNORABLE    a receiver that does not know the type skips the frame
    2       COMPRESSED   the payload is one zstd frame (compression.py)
    4       MORE         the payload goes on in the next frame of this class
    8, 16   the class of a frame that is a part of a payload: control, live, sync, bulk

COMPRESSED and MORE are used where both sides said in HELLO that they know them. Any other flag ends
the conversation.

Invariants:
    1. A length is compared with its limit when the header arrives, before anything is allocated;
       so are the size that a compressed payload will have, and that of a payload in parts.
    2. msgpack sees a payload only after a scan has found it complete, at most MAX_DEPTH deep and
       free of extension types, so what it allocates is bounded by the payload's own length.
Whatever breaks them is a ProtocolViolation that names the frame and the reason.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from murmur.errors import ProtocolViolation
from murmur.sync.compression import decompress

FRAME_VERSION = 1
HEADER = struct.Struct(">IBBHQ")
IGNORABLE, COMPRESSED, MORE = 1, 2, 4
CLASS_SHIFT, CLASS_BITS = 3, 3 << 3

MAX_PAYLOAD = 1 << 20
MAX_PAYLOAD_BEFORE_HELLO = 1 << 10
MAX_DEPTH = 6

_pack = msgpack.Packer(autoreset=True, use_bin_type=True).pack


def frame(kind: int, payload: bytes, sequence: int, flags: int = 0) -> bytes:
    """One frame."""
    return header(kind, len(payload), sequence, flags) + payload


def header(kind: int, length: int, sequence: int, flags: int = 0) -> bytes:
    """What stands before a payload."""
    return HEADER.pack(length, FRAME_VERSION, kind, flags, sequence)


class FrameReader:
    """Cuts one direction of a conversation into frames, and makes payloads whole."""

    __slots__ = ("_buffer", "_offset", "_parts", "_sequence", "accepts", "limit")

    def __init__(self) -> None:
        self.limit = MAX_PAYLOAD_BEFORE_HELLO
        self.accepts = IGNORABLE  # the flags that this side has agreed to
        self._buffer = b""
        self._offset = 0  # so much of the buffer was read
        self._sequence = 0
        self._parts: dict[int, tuple[int, bytearray]] = {}  # class -> (type, payload so far)

    def __len__(self) -> int:
        """Bytes waiting for the rest of their frame, or to be asked for."""
        return len(self._buffer) - self._offset

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        rest = self._buffer[self._offset :]
        self._buffer = rest + data if rest else data
        self._offset = 0

    def next(self) -> tuple[int, bool, bytes] | None:
        """(type, ignorable, payload) of the next complete message."""
        while (found := self._next_frame()) is not None:
            kind, flags, payload = found
            if flags & COMPRESSED:
                payload = self._decompress(payload)
            if flags & MORE or self._parts:
                whole = self._assemble(kind, flags, payload)
                if whole is None:
                    continue
                payload = whole
            return kind, bool(flags & IGNORABLE), payload
        return None

    def _next_frame(self) -> tuple[int, int, bytes] | None:
        buffer, start = self._buffer, self._offset
        if len(buffer) - start < HEADER.size:
            return None
        length, version, kind, flags, sequence = HEADER.unpack_from(buffer, start)
        if version != FRAME_VERSION:
            raise self._violation(f"its version is {version}, not {FRAME_VERSION}")
        if length > self.limit:
            raise self._violation(f"{length} bytes exceed the limit of {self.limit}")
        if sequence != self._sequence:
            raise self._violation(f"out of sequence: it says {sequence}")
        if flags & ~self.accepts:
            raise self._violation(f"unknown flags {flags:#06x}")
        start += HEADER.size
        if len(buffer) - start < length:
            return None
        self._offset = start + length
        self._sequence += 1
        return kind, flags, buffer[start : start + length]

    def _decompress(self, payload: bytes) -> bytes:
        try:
            return decompress(payload, self.limit)
        except ProtocolViolation as error:
            raise self._violation(str(error), 1) from None

    def _assemble(self, kind: int, flags: int, payload: bytes) -> bytes | None:
        """The whole payload, if this frame completes it or was never one of several."""
        stream = flags & CLASS_BITS
        begun, parts = self._parts.get(stream, (kind, None))
        if not flags & MORE and (parts is None or begun != kind):
            return payload  # another message of this class, between the parts
        if parts is None:
            parts = bytearray()
            self._parts[stream] = kind, parts
        elif begun != kind:
            raise self._violation(f"a part of type {kind} between parts of type {begun}", 1)
        if len(parts) + len(payload) > self.limit:
            raise self._violation(f"its parts exceed the limit of {self.limit} bytes", 1)
        parts += payload
        if flags & MORE:
            return None
        del self._parts[stream]
        return bytes(parts)

    def _violation(self, reason: str, read: int = 0) -> ProtocolViolation:
        return ProtocolViolation(f"frame {self._sequence - read}: {reason}")


def pack(fields: list[object]) -> bytes:
    """A positional message."""
    packed: bytes = _pack(fields)
    return packed


def unpack(payload: bytes) -> Any:
    """Bounded msgpack: scanned first, so that a small lie cannot make a large allocation."""
    _scan(payload)
    try:
        # The scan has checked the structure: left are text that is not UTF-8, unhashable keys.
        return msgpack.unpackb(payload, raw=False, strict_map_key=False)
    except (ValueError, TypeError) as error:
        raise ProtocolViolation(f"msgpack: {error}") from None


def _scan(payload: bytes) -> None:
    """Walk the headers: every element is there, nothing nests too deep, nothing follows."""
    position, size = 0, len(payload)
    open_containers = [1]  # how many elements each still expects
    while open_containers:
        if not open_containers[-1]:
            open_containers.pop()
            continue
        open_containers[-1] -= 1
        if position >= size:
            raise ProtocolViolation("msgpack: cut short")
        first = payload[position]
        position += 1
        elements = 0
        if first <= 0x7F or first >= 0xE0 or first in (0xC0, 0xC2, 0xC3):
            continue
        if first <= 0x8F:
            elements = 2 * (first & 0x0F)
        elif first <= 0x9F:
            elements = first & 0x0F
        elif first <= 0xBF:
            position += first & 0x1F
        elif first in _FIXED_SIZES:
            position += _FIXED_SIZES[first]
        elif first in _LENGTH_SIZES:
            width, per_item, is_container = _LENGTH_SIZES[first]
            count = int.from_bytes(payload[position : position + width]) * per_item
            position += width
            if is_container:
                elements = count
            else:
                position += count
        else:
            raise ProtocolViolation(f"msgpack: type {first:#04x} is not allowed")
        if position + elements > size:
            raise ProtocolViolation("msgpack: cut short")
        if elements:
            open_containers.append(elements)
            if len(open_containers) > MAX_DEPTH + 1:
                raise ProtocolViolation(f"msgpack: nested deeper than {MAX_DEPTH}")
    if position != size:
        raise ProtocolViolation(f"msgpack: {size - position} bytes too many")


# float 32/64, uint 8-64, int 8-64
_FIXED_SIZES = {
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8
}  # fmt: skip
# bin, str, array, map: width of the length, elements per unit of it, whether it is a container
_LENGTH_SIZES = {
    0xC4: (1, 1, False), 0xC5: (2, 1, False), 0xC6: (4, 1, False),
    0xD9: (1, 1, False), 0xDA: (2, 1, False), 0xDB: (4, 1, False),
    0xDC: (2, 1, True), 0xDD: (4, 1, True), 0xDE: (2, 2, True), 0xDF: (4, 2, True),
}  # fmt: skip
