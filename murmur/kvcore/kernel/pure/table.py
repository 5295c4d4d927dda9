"""SSTables: immutable files of sorted entries.

    table   := data block* | filter | index | footer
    index   := a block: last key of each data block -> offset u64 | length u32 | crc u32
    footer  := number u64 | entries u64 | tombstones u64
             | filter offset u64, length u32, crc u32 | index offset u64, length u32, crc u32
             | crc u32 of all before the footer | crc u32 of the footer so far
             | version u16 | "MURMRSST"

Integers are little-endian, checksums CRC-32. Whoever points to something holds its checksum: the
manifest that of the footer (`TableInfo.checksum`), the footer those of filter and index, the index
that of each data block. So bytes that are whole, but old, or another table's, are noticed as well.

Footer, filter and index are read when the table is first used and stay in memory; a data block is
verified and decoded whenever it is read, and stays in the cache.

Invariant: `get` and `runs` give what was added, or raise Corruption with path, offset and reason.
After LevelDB's table format.
"""

from __future__ import annotations

import struct
import threading
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from operator import add
from typing import NamedTuple, cast
from zlib import crc32

from murmur.errors import ChecksumMismatch, Closed, Corruption, UnknownFormat
from murmur.kvcore.kernel.interface import ABSENT, Absent, TableInfo
from murmur.kvcore.kernel.pure.block import TARGET_BYTES, Block, decode_block, encode_block
from murmur.kvcore.kernel.pure.cache import BlockCache
from murmur.kvcore.kernel.pure.filter import build_filter, hash_key, may_contain
from murmur.kvcore.kernel.pure.merge import Run
from murmur.kvcore.storage import AppendFile, Problem, Storage

VERSION = 1  # on disk
MAGIC = b"MURMRSST"

_HANDLE = struct.Struct("<QII")
_FOOTER = struct.Struct("<QQQQIIQIII")
_TAIL = struct.Struct("<IH8s")
_FOOTER_BYTES = _FOOTER.size + _TAIL.size
_WRITE_BYTES = 256 << 10  # handed to the operating system at once
_READ_BYTES = 1 << 20  # read at once by `check`


class TableWriter:
    """Writes one table; keys come in ascending order."""

    def __init__(self, file: AppendFile, number: int) -> None:
        self._file = file
        self._number = number
        self._keys: list[bytes] = []  # of the block that is not full yet
        self._values: list[bytes | None] = []
        self._some_deleted = False
        self._first: bytes | None = None
        self._index: tuple[list[bytes], list[bytes]] = ([], [])
        self._hashes = array("I")
        self._tombstones = 0
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._crc = 0
        self.size = 0  # so far, without what is not a full block yet

    def add(self, run: Run) -> None:
        """Append entries."""
        keys, values, some_deleted = run
        if self._first is None:
            self._first = keys[0]
        self._hashes.extend(map(hash_key, keys))
        if some_deleted:
            self._tombstones += values.count(None)
        if self._keys:
            keys, values = self._keys + keys, self._values + values
            some_deleted = some_deleted or self._some_deleted
        contents = [value or b"" for value in values] if some_deleted else values
        ends = list(accumulate(map(add, map(len, keys), map(len, cast("list[bytes]", contents)))))
        start = position = 0
        while ends[-1] - position >= TARGET_BYTES:
            stop = bisect_left(ends, position + TARGET_BYTES) + 1
            self._write_block(keys[start:stop], values[start:stop], some_deleted)
            start, position = stop, ends[stop - 1]
        self._keys, self._values, self._some_deleted = keys[start:], values[start:], some_deleted

    def finish(self, max_sequence: int) -> TableInfo:
        """Write the rest, make the file durable (its name is the caller's affair), close it."""
        if self._keys:
            self._write_block(self._keys, self._values, self._some_deleted)
        assert self._first is not None, "a table has entries"
        last = self._index[0][-1]
        filter_handle = self._write(build_filter(self._hashes))
        index_handle = self._write(encode_block(*self._index, tombstones=False))
        entries = len(self._hashes)
        self._flush()
        footer = _FOOTER.pack(
            self._number, entries, self._tombstones, *filter_handle, *index_handle, self._crc
        )
        checksum = crc32(footer)
        self._file.write(footer + _TAIL.pack(checksum, VERSION, MAGIC))
        self._file.sync()
        self._file.close()
        return TableInfo(
            self._number,
            self.size + _FOOTER_BYTES,
            entries,
            self._tombstones,
            0,
            max_sequence,
            checksum,
            self._first,
            last,
        )

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()

    def _write_block(
        self, keys: list[bytes], values: list[bytes | None], some_deleted: bool
    ) -> None:
        handle = self._write(encode_block(keys, values, tombstones=some_deleted))
        self._index[0].append(keys[-1])
        self._index[1].append(_HANDLE.pack(*handle))

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


class _Contents(NamedTuple):
    """What stays in memory of a table that is in use."""

    filter: bytes
    lasts: list[bytes]
    handles: list[tuple[int, int, int]]
    crc: int


class Table:
    """A table open for reading, by any number of threads."""

    def __init__(self, storage: Storage, name: str, info: TableInfo, cache: BlockCache) -> None:
        """Open the file; FileNotFoundError or Corruption if it is not there or has another size."""
        self.info = info
        self.name = name
        self.path = f"{storage.path}/{name}"
        self._cache = cache
        self._block_number = info.number << 32
        self._contents: _Contents | None = None
        self._loading = threading.Lock()
        self._closed = False
        self._file = storage.open(name)
        # The descriptor lives as long as somebody can read through it, even if the tree is closed.
        weakref.finalize(self, self._file.close).atexit = False
        size = self._file.size()
        if size != info.size:
            raise Corruption(
                self.path, min(size, info.size), f"{size} bytes long instead of {info.size}"
            )

    def get(self, key: bytes, hashed: int) -> bytes | Absent | None:
        """The key's value; None is a tombstone. `hashed` is hash_key(key)."""
        contents = self._contents or self._load()
        if not may_contain(contents.filter, hashed):
            return ABSENT
        at = bisect_left(contents.lasts, key)
        if at == len(contents.lasts):
            return ABSENT
        block = self._cache.get(self._block_number + at) or self._read_block(contents, at)
        keys = block.keys
        position = bisect_left(keys, key)
        # The block's last key is not less than the key, so the position is within.
        return block.values[position] if keys[position] == key else ABSENT

    def runs(self, start: bytes, stop: bytes | None, *, reverse: bool = False) -> Iterator[Run]:
        """The entries with start <= key < stop, as sources of a merge come."""
        contents = self._contents or self._load()
        lasts = contents.lasts
        first = bisect_left(lasts, start)
        end = len(lasts) if stop is None else min(bisect_left(lasts, stop) + 1, len(lasts))
        for at in range(end - 1, first - 1, -1) if reverse else range(first, end):
            block = self._cache.get(self._block_number + at) or self._read_block(contents, at)
            keys, values, tombstones, _ = block
            low = bisect_left(keys, start) if at == first else 0
            high = bisect_left(keys, stop) if stop is not None and at == end - 1 else len(keys)
            if high - low == len(keys):
                yield keys, values, tombstones
            elif low < high:
                yield keys[low:high], values[low:high], tombstones

    def all_runs(self, blocks: int) -> Iterator[Run]:
        """All entries, past the cache and in runs of so many blocks: for compaction."""
        contents = self._contents or self._load()
        count = len(contents.handles)
        for start in range(0, count, blocks):
            keys: list[bytes] = []
            values: list[bytes | None] = []
            some_deleted = False
            for at in range(start, min(start + blocks, count)):
                block = self._read_block(contents, at, keep=False)
                keys += block.keys
                values += block.values
                some_deleted = some_deleted or block.tombstones
            yield keys, values, some_deleted

    def close(self) -> None:
        """Read no more from the disk: what is not in memory raises Closed."""
        self._closed = True

    def check(self) -> Iterator[Problem]:
        """Read all of it; what is wrong, if anything is."""
        try:
            contents = self._load()
        except Corruption as error:
            yield Problem(error.path, error.offset, error.reason)
            return
        end = self.info.size - _FOOTER_BYTES
        crc = 0
        for offset in range(0, end, _READ_BYTES):
            crc = crc32(self._file.read(offset, min(_READ_BYTES, end - offset)), crc)
        if crc != contents.crc:
            yield Problem(self.path, 0, "the file does not have its checksum")
        previous: bytes | None = None
        entries = tombstones = 0
        for at, (offset, _, _) in enumerate(contents.handles):
            try:
                block = self._read_block(contents, at, keep=False)
            except Corruption as error:
                yield Problem(error.path, error.offset, error.reason)
                return
            for key in block.keys:
                if previous is not None and key <= previous:
                    yield Problem(self.path, offset, f"key {key!r} follows {previous!r}")
                if not may_contain(contents.filter, hash_key(key)):
                    yield Problem(self.path, offset, f"key {key!r} is not in the filter")
                previous = key
            if block.keys[-1] != contents.lasts[at]:
                yield Problem(self.path, offset, "the index has another last key of the block")
            if at == 0 and block.keys[0] != self.info.first:
                yield Problem(self.path, offset, "the manifest has another first key")
            entries += len(block.keys)
            tombstones += block.values.count(None)
        if previous != self.info.last:
            yield Problem(self.path, end, "the manifest has another last key")
        if (entries, tombstones) != (self.info.entries, self.info.tombstones):
            yield Problem(self.path, end, f"{entries} entries, {tombstones} of them tombstones")

    def _load(self) -> _Contents:
        with self._loading:
            if self._contents is None:
                self._contents = self._read_contents()
            return self._contents

    def _read_contents(self) -> _Contents:
        at = self.info.size - _FOOTER_BYTES
        data = self._read(at, _FOOTER_BYTES)
        checksum, version, magic = _TAIL.unpack_from(data, _FOOTER.size)
        if magic != MAGIC:
            raise Corruption(self.path, at, "not a table: it does not end in the magic bytes")
        if version != VERSION:
            raise UnknownFormat(self.path, at, f"table format {version}, this release reads 1")
        if checksum != self.info.checksum or checksum != crc32(data[: _FOOTER.size]):
            raise ChecksumMismatch(self.path, at, "the footer does not have its checksum")
        fields = _FOOTER.unpack_from(data)
        filter_ = self._read_checked(fields[3:6], "filter")
        keys, values, _, _ = decode_block(self._read_checked(fields[6:9], "index"))
        handles = list(_HANDLE.iter_unpack(b"".join(value or b"" for value in values)))
        return _Contents(filter_, keys, handles, fields[9])

    def _read_block(self, contents: _Contents, at: int, *, keep: bool = True) -> Block:
        block = decode_block(self._read_checked(contents.handles[at], "block"))
        if keep:
            self._cache.put(self._block_number + at, block)
        return block

    def _read_checked(self, handle: tuple[int, ...], what: str) -> bytes:
        offset, length, crc = handle
        data = self._read(offset, length)
        if crc32(data) != crc:
            raise ChecksumMismatch(self.path, offset, f"the {what} does not have its checksum")
        return data

    def _read(self, offset: int, length: int) -> bytes:
        if self._closed:
            raise Closed(f"{self.path}: the tree is closed")
        data = self._file.read(offset, length)
        if len(data) != length:
            raise Corruption(self.path, offset, f"{len(data)} bytes are left of {length}")
        return data
