"""Batches: several writes that happen at once, and how the engine's log holds them.

    batch  := count of ranges varint | range* | entry*          the payload of one BATCH frame
    range  := length varint | start | length varint | stop      delete start <= key < stop, first
    entry  := length of the key varint | length of the value + 1 varint, 0 deletes | key | value

    put a=1, delete b        00 | 01 02 61 31 | 01 00 62
    delete [c, e), put d=2   01 01 63 01 65 | 01 02 64 32

Varints are LEB128, of at most five bytes. Entries go on to the end of the frame, which has their
checksum. A key may come twice: the later entry counts.

Invariant: applying ranges and entries of a decoded batch, in this order, does what the operations
of the `WriteBatch` would have done one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from murmur.errors import InvalidInput, TypeMismatch
from murmur.kvcore.kernel import Entry
from murmur.kvcore.varint import TooLong, read_varint, varint

MAX_KEY_BYTES = 1 << 20
MAX_VALUE_BYTES = 1 << 29
MAX_BATCH_BYTES = 1 << 30  # of keys and values: a frame and a memtable can hold it
LENGTH_BYTES = 5  # of the longest varint

Range = tuple[bytes, bytes]


class WriteBatch:
    """Puts and deletes that `Engine.write` applies all at once, as if in this order.

    Not for several threads at a time. It may be written again, changed or not.
    """

    __slots__ = ("_entries", "_ranges")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._ranges: list[Range] = []

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key."""
        self._entries.append((key, value))

    def delete(self, key: bytes) -> None:
        """Delete a key, if it is there."""
        self._entries.append((key, None))

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """Delete all keys with start <= key < stop that are there by now, those put above too."""
        check_range(start, stop)
        self._entries = [entry for entry in self._entries if not start <= entry[0] < stop]
        self._ranges.append((start, stop))

    def clear(self) -> None:
        """Forget what was collected."""
        self._entries, self._ranges = [], []

    @property
    def entries(self) -> Sequence[Entry]:
        """What is put and deleted after the ranges were."""
        return self._entries

    @property
    def ranges(self) -> Sequence[Range]:
        """What is deleted first."""
        return self._ranges

    def __len__(self) -> int:
        return len(self._entries) + len(self._ranges)


def check_range(start: bytes, stop: bytes) -> None:
    """Raise InvalidInput or TypeMismatch for what is not a range of keys."""
    if type(start) is not bytes or type(stop) is not bytes:
        raise TypeMismatch("start and stop of a range are bytes")
    if not start < stop:
        raise InvalidInput(f"the range from {start[:24]!r} to {stop[:24]!r} is empty")
    if len(stop) > MAX_KEY_BYTES or len(start) > MAX_KEY_BYTES:
        raise InvalidInput(f"a key has at most {MAX_KEY_BYTES:,} bytes")


def encode_batch(entries: Iterable[Entry], ranges: Sequence[Range] = ()) -> bytes:
    """The bytes of a batch. Raises TypeMismatch or InvalidInput for what a tree cannot hold."""
    parts = [varint(len(ranges))]
    add = parts.append
    for start, stop in ranges:
        check_range(start, stop)
        parts += (varint(len(start)), start, varint(len(stop)), stop)
    for entry in entries:
        if type(entry) is not tuple or len(entry) != 2:
            raise TypeMismatch("an entry is a tuple of key and value")
        key, value = entry
        if type(key) is not bytes:
            raise TypeMismatch(f"a key is bytes, not {type(key).__name__}")
        if len(key) > MAX_KEY_BYTES:
            raise InvalidInput(f"a key has at most {MAX_KEY_BYTES:,} bytes, not {len(key):,}")
        add(varint(len(key)))
        if value is None:
            add(b"\0")
            add(key)
        else:
            if type(value) is not bytes:
                raise TypeMismatch(f"a value is bytes, not {type(value).__name__}")
            if len(value) > MAX_VALUE_BYTES:
                raise InvalidInput(f"a value has at most {MAX_VALUE_BYTES:,} bytes")
            add(varint(len(value) + 1))
            add(key)
            add(value)
    payload = b"".join(parts)
    if len(payload) > MAX_BATCH_BYTES:
        raise InvalidInput(f"a batch has at most {MAX_BATCH_BYTES:,} bytes: write it in parts")
    return payload


def decode_batch(payload: bytes) -> tuple[list[Entry], list[Range]]:
    """Entries and ranges. Raises ValueError with the offset for what is not a batch."""
    entries: list[Entry] = []
    ranges: list[Range] = []
    end = len(payload)
    try:
        count, at = read_varint(payload, 0, LENGTH_BYTES)
        for _ in range(min(count, end)):
            size, at = read_varint(payload, at, LENGTH_BYTES)
            start, at = payload[at : at + size], at + size
            size, at = read_varint(payload, at, LENGTH_BYTES)
            stop, at = payload[at : at + size], at + size
            if at > end or not start < stop:
                raise ValueError(f"batch byte {at}: not a range")
            ranges.append((start, stop))
        while at < end:
            # Lengths below 128 are one byte: the common case is inlined.
            size = payload[at]
            at += 1
            if size > 127:
                size, at = read_varint(payload, at - 1, LENGTH_BYTES)
            length = payload[at]
            at += 1
            if length > 127:
                length, at = read_varint(payload, at - 1, LENGTH_BYTES)
            key = payload[at : at + size]
            at += size
            if length:
                entries.append((key, payload[at : at + length - 1]))
                at += length - 1
            else:
                entries.append((key, None))
    except IndexError:
        raise ValueError(f"batch byte {end}: it ends within a number") from None
    except TooLong as error:
        reason = f"a length of more than {LENGTH_BYTES} bytes"
        raise ValueError(f"batch byte {error.at}: {reason}") from None
    if at != end or count != len(ranges):
        raise ValueError(f"batch byte {end}: it ends within an entry")
    return entries, ranges
