"""The writer of one table: sorted runs in, blocks out, sections and footer at the end.

    add       cuts blocks entry by entry: one is closed by the entry that brings its keys and
              values to `block_bytes`, where a tombstone's value counts 0 and a reference 24
    full      the data blocks stored so far take `table_bytes` or more: the next entry belongs to
              the next table

So where a block or a table ends depends on the entries and the options alone, not on the runs in
which they come. The format is that of table.py.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate
from operator import add
from typing import cast
from zlib import crc32

from murmur.kvcore.kernel.interface import Ranges, TableInfo, TableOptions
from murmur.kvcore.kernel.pure.block import (
    REFERENCES,
    TOMBSTONES,
    Reference,
    Value,
    encode_block,
)
from murmur.kvcore.kernel.pure.filter import build_filter, hash_key
from murmur.kvcore.kernel.pure.merge import Run
from murmur.kvcore.kernel.pure.ranges import NO_RANGES
from murmur.kvcore.kernel.pure.stored import wrap
from murmur.kvcore.kernel.pure.table import (
    FOOTER,
    FOOTER_BYTES,
    HANDLE,
    MAGIC,
    SHARE,
    TAIL,
    VERSION,
)
from murmur.kvcore.storage import AppendFile

_WRITE_BYTES = 256 << 10  # handed to the operating system at once


class TableWriter:
    """Writes one table; keys come in ascending order."""

    def __init__(self, file: AppendFile, number: int, options: TableOptions) -> None:
        self._file = file
        self._number = number
        self._options = options
        self._keys: list[bytes] = []  # of the block that is not full yet
        self._values: list[Value] = []
        self._kinds = 0
        self._first: bytes | None = None
        self._index: tuple[list[bytes], list[bytes]] = ([], [])
        self._hashes = array("I")
        self._tombstones = 0
        self._shares: dict[int, int] = {}  # bytes referenced, by value file
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._crc = 0
        self.size = 0  # so far, without what is not a full block yet
        self.full = False

    def add(self, run: Run) -> Run | None:
        """Append entries until the table is full; the rest, if there is one."""
        keys, values, kinds = run
        if self._first is None:
            self._first = keys[0]
        if self._keys:
            keys, values, kinds = self._keys + keys, self._values + values, self._kinds | kinds
        contents = [value or b"" for value in values] if kinds & TOMBSTONES else values
        ends = list(accumulate(map(add, map(len, keys), map(len, cast("list[bytes]", contents)))))
        block_bytes = self._options.block_bytes
        start = position = 0
        while ends[-1] - position >= block_bytes:
            stop = bisect_left(ends, position + block_bytes, start) + 1
            self._write_block(keys[start:stop], values[start:stop], kinds)
            start, position = stop, ends[stop - 1]
            if self.size >= self._options.table_bytes:
                self.full = True
                self._keys, self._values = [], []
                return (keys[start:], values[start:], kinds) if start < len(keys) else None
        self._keys, self._values, self._kinds = keys[start:], values[start:], kinds
        return None

    def finish(self, max_sequence: int, ranges: Ranges = NO_RANGES) -> TableInfo:
        """Write the rest, make the file durable (its name is the caller's affair), close it."""
        if self._keys:
            self._write_block(self._keys, self._values, self._kinds)
        lasts, places = self._index
        bits = self._options.bits_per_key
        filter_handle = self._write_section(build_filter(self._hashes, bits) if bits else b"")
        starts, stops = ranges
        ranges_handle = self._write_section(encode_block(starts, stops) if starts else b"")
        shares = tuple(sorted(self._shares.items()))
        shares_handle = self._write_section(b"".join(SHARE.pack(*share) for share in shares))
        index_handle = self._write_section(encode_block(lasts, places))
        self._flush()
        footer = FOOTER.pack(
            self._number,
            len(self._hashes),
            self._tombstones,
            len(starts),
            *filter_handle,
            *ranges_handle,
            *shares_handle,
            *index_handle,
            self._crc,
        )
        checksum = crc32(footer)
        self._file.write(footer + TAIL.pack(checksum, VERSION, MAGIC))
        self._file.sync()
        self._file.close()
        self.size += FOOTER_BYTES
        keys = [] if self._first is None else [self._first, lasts[-1]]
        assert keys or starts, "a table has entries or range tombstones"
        return TableInfo(
            self._number,
            self.size,
            len(self._hashes),
            self._tombstones,
            len(starts),
            max_sequence,
            checksum,
            min([*keys[:1], *starts[:1]]),
            max([*keys[1:], *stops[-1:]]),
            shares,
        )

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()

    def _write_block(self, keys: list[bytes], values: list[Value], kinds: int) -> None:
        self._hashes.extend(map(hash_key, keys))
        if kinds & TOMBSTONES:
            self._tombstones += values.count(None)
        if kinds & REFERENCES:
            for value in values:
                if type(value) is Reference:
                    number, _, length, _ = value.unpack()
                    self._shares[number] = self._shares.get(number, 0) + length
        block = encode_block(keys, values, kinds)
        handle = self._write(wrap(block, self._options.codec, self._options.level))
        self._index[0].append(keys[-1])
        self._index[1].append(HANDLE.pack(*handle))

    def _write_section(self, data: bytes) -> tuple[int, int, int]:
        return self._write(wrap(data)) if data else (self.size, 0, 0)

    def _write(self, data: bytes) -> tuple[int, int, int]:
        handle = (self.size, len(data), crc32(data))
        self._buffer.append(data)
        self._buffered += len(data)
        self.size += len(data)
        if self._buffered >= _WRITE_BYTES:
            self._flush()
        return handle

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self._crc = crc32(data, self._crc)
        self._file.write(data)
