"""SSTables: immutable files of sorted entries.

    table      := stored data block* | filter | ranges | references | index | footer
    filter     := 00 | filter.py
    ranges     := 00 | a block: start -> stop of each range tombstone (ranges.py)
    references := 00 | (value file number u64 | bytes referenced u64)*, ascending
    index      := 00 | a block: last key of each data block -> its handle
    footer     := number u64 | entries u64 | tombstones u64 | range tombstones u64
                | filter handle | ranges handle | references handle | index handle
                | crc u32 of all before the footer | crc u32 of the footer so far
                | version u16 | "MURMRSST"
    handle     := offset u64 | length u32 | crc u32

Integers are little-endian, checksums CRC-32; stored blocks are those of stored.py, blocks those of
block.py. What is empty is left out (length and crc 0), but for the index. Whoever points to
something holds its checksum: the manifest that of the footer (`TableInfo.checksum`), the footer
those of the four sections, the index that of each data block, a reference that of its value. So
bytes that are whole, but old, or another table's, are noticed as well.

A table holds a key once. Its range tombstones hide what older tables hold, never its own entries;
it may hold nothing else. `first` and `last` of its `TableInfo` span keys and ranges.

The sections are read when the table is first used, and stay in memory; a data block is verified and
decoded whenever it is read, and stays in the cache.

Invariant: `get` and `runs` give what was added, or raise Corruption with path, offset and reason.
After LevelDB's table format.
"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from zlib import crc32

from murmur.errors import ChecksumMismatch, Corruption, UnknownFormat
from murmur.kvcore.kernel.interface import ABSENT, Absent, Ranges, TableInfo, Values
from murmur.kvcore.kernel.pure.block import Block, Malformed, Reference, Value, decode_block
from murmur.kvcore.kernel.pure.cache import BlockCache
from murmur.kvcore.kernel.pure.filter import hash_key, may_contain
from murmur.kvcore.kernel.pure.merge import Run
from murmur.kvcore.kernel.pure.opened import OpenedFile
from murmur.kvcore.kernel.pure.ranges import NO_RANGES, covers_all, visible
from murmur.kvcore.kernel.pure.stored import unwrap
from murmur.kvcore.storage import Problem, Storage

VERSION = 2  # on disk
MAGIC = b"MURMRSST"

HANDLE = struct.Struct("<QII")
FOOTER = struct.Struct("<QQQQQIIQIIQIIQIII")
TAIL = struct.Struct("<IH8s")
SHARE = struct.Struct("<QQ")  # of a value file: its number, and how much of it is referenced
FOOTER_BYTES = FOOTER.size + TAIL.size

_SHORT_SCAN = 8  # blocks: what a scan reads beyond passes through the cache's porch
_READ_BYTES = 1 << 20  # read at once by `check`


class _Contents(NamedTuple):
    """What stays in memory of a table that is in use."""

    filter: bytes
    lasts: list[bytes]
    handles: list[tuple[int, int, int]]
    ranges: Ranges
    shares: tuple[tuple[int, int], ...]  # bytes referenced, by value file
    counts: tuple[int, ...]  # number, entries, tombstones, range tombstones
    crc: int


class Table(OpenedFile):
    """A table open for reading, by any number of threads."""

    def __init__(
        self,
        storage: Storage,
        name: str,
        info: TableInfo,
        cache: BlockCache,
        *,
        mmap: bool = False,
    ) -> None:
        """Open the file; FileNotFoundError or Corruption if it is not there or has another size.

        `mmap` is for the native kernel: a mapped file that is truncated would kill Python.
        """
        super().__init__(storage, name, info.size)
        self.info = info
        self._cache = cache
        self._block_number = info.number << 32
        self._contents: _Contents | None = None
        self._loading = threading.Lock()

    def get(self, key: bytes) -> Value | Absent:
        """The key's value; None is a tombstone. Range tombstones are not asked."""
        return self.find(key, hash_key(key))

    def find(self, key: bytes, hashed: int) -> Value | Absent:
        """What `get` gives; `hashed` is hash_key(key)."""
        contents = self._contents or self._load()
        if contents.filter and not may_contain(contents.filter, hashed):
            return ABSENT
        at = bisect_left(contents.lasts, key)
        if at == len(contents.lasts):
            return ABSENT
        block = self._cache.get(self._block_number + at) or self._read_block(contents, at)
        keys = block.keys
        position = bisect_left(keys, key)
        # The block's last key is not less than the key, so the position is within.
        return block.values[position] if keys[position] == key else ABSENT

    def ranges(self) -> Ranges:
        """The range tombstones."""
        return (self._contents or self._load()).ranges if self.info.ranges else NO_RANGES

    def runs(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        hidden: Ranges = NO_RANGES,
    ) -> Iterator[Run]:
        """The entries with start <= key < stop, as sources of a merge come, without hidden ones."""
        return visible(self._runs(start, stop, reverse, hidden), hidden)

    def all_runs(self, blocks: int, hidden: Ranges = NO_RANGES) -> Iterator[Run]:
        """All entries, past the cache and in runs of so many blocks: for compaction."""
        return visible(self._all_runs(blocks, hidden), hidden)

    def _runs(
        self, start: bytes, stop: bytes | None, reverse: bool, hidden: Ranges
    ) -> Iterator[Run]:
        contents = self._contents or self._load()
        lasts = contents.lasts
        first = bisect_left(lasts, start)
        end = len(lasts) if stop is None else min(bisect_left(lasts, stop) + 1, len(lasts))
        left = _SHORT_SCAN
        for at in range(end - 1, first - 1, -1) if reverse else range(first, end):
            if hidden.starts and self._is_hidden(contents, at, hidden):
                continue
            left -= 1
            block = self._cache.get(self._block_number + at, scan=left < 0)
            if block is None:
                block = self._read_block(contents, at, scan=left < 0)
            keys, values, kinds, _ = block
            low = bisect_left(keys, start) if at == first else 0
            high = bisect_left(keys, stop) if stop is not None and at == end - 1 else len(keys)
            if high - low == len(keys):
                yield keys, values, kinds
            elif low < high:
                yield keys[low:high], values[low:high], kinds

    def _all_runs(self, blocks: int, hidden: Ranges) -> Iterator[Run]:
        contents = self._contents or self._load()
        count = len(contents.handles)
        for start in range(0, count, blocks):
            keys: list[bytes] = []
            values: list[Value] = []
            kinds = 0
            for at in range(start, min(start + blocks, count)):
                if hidden.starts and self._is_hidden(contents, at, hidden):
                    continue
                block = self._read_block(contents, at, keep=False)
                keys += block.keys
                values += block.values
                kinds |= block.kinds
            if keys:
                yield keys, values, kinds

    def _is_hidden(self, contents: _Contents, at: int, hidden: Ranges) -> bool:
        """Whether ranges of newer sources hide a whole block, which then need not be read."""
        return covers_all(
            hidden, contents.lasts[at - 1] if at else self.info.first, contents.lasts[at]
        )

    def check(self, values: Mapping[int, Values] | None = None) -> Iterator[Problem]:
        """Read all of it; what is wrong, if anything is.

        With the value files at hand, by number, the values that it refers to are read as well.
        """
        try:
            contents = self._load()
            yield from self._check_sections(contents)
        except Corruption as error:
            yield Problem(error.path, error.offset, error.reason)
            return
        end = self.info.size - FOOTER_BYTES
        crc = 0
        for offset in range(0, end, _READ_BYTES):
            crc = crc32(self._file.read(offset, min(_READ_BYTES, end - offset)), crc)
        if crc != contents.crc:
            yield Problem(self.path, 0, "the file does not have its checksum")
        yield from self._check_entries(contents, values)

    def _check_sections(self, contents: _Contents) -> Iterator[Problem]:
        """Footer, ranges and references, against the manifest."""
        at = self.info.size - FOOTER_BYTES
        counts, said = contents.counts, self.info[:1] + self.info[2:5]
        if counts != said:
            yield Problem(self.path, at, f"the manifest counts {said}, the footer {counts}")
        starts, stops = contents.ranges
        if len(starts) != counts[3]:
            yield Problem(self.path, at, f"{len(starts)} range tombstones instead of {counts[3]}")
        sound = all(map(bytes.__lt__, starts, stops)) and all(
            stop < start for stop, start in zip(stops, starts[1:], strict=False)
        )
        if not sound:
            yield Problem(self.path, at, "the range tombstones are not in order")
        if contents.shares != self.info.references:
            yield Problem(self.path, at, "the manifest has other references")

    def _check_entries(
        self, contents: _Contents, values: Mapping[int, Values] | None
    ) -> Iterator[Problem]:
        """Every block, against filter, index and manifest."""
        end = self.info.size - FOOTER_BYTES
        previous: bytes | None = None
        entries = tombstones = 0
        shares: dict[int, int] = {}
        first, last = list(contents.ranges.starts[:1]), list(contents.ranges.stops[-1:])
        for at, (offset, _, _) in enumerate(contents.handles):
            try:
                block = self._read_block(contents, at, keep=False)
            except Corruption as error:
                yield Problem(error.path, error.offset, error.reason)
                return
            for key, value in zip(block.keys, block.values, strict=True):
                if previous is not None and key <= previous:
                    yield Problem(self.path, offset, f"key {key!r} follows {previous!r}")
                if contents.filter and not may_contain(contents.filter, hash_key(key)):
                    yield Problem(self.path, offset, f"key {key!r} is not in the filter")
                if type(value) is Reference:
                    number, _, length, _ = value.unpack()
                    shares[number] = shares.get(number, 0) + length
                    if values is not None:
                        yield from self._check_value(offset, value, values)
                previous = key
            if at == 0:
                first += block.keys[:1]
            entries += len(block.keys)
            tombstones += block.values.count(None)
        if previous is not None:
            last.append(previous)
        if not first or min(first) != self.info.first:
            yield Problem(self.path, 0, "the manifest has another first key")
        if not last or max(last) != self.info.last:
            yield Problem(self.path, end, "the manifest has another last key")
        if (entries, tombstones) != contents.counts[1:3]:
            yield Problem(self.path, end, f"{entries} entries, {tombstones} of them tombstones")
        if tuple(sorted(shares.items())) != contents.shares:
            yield Problem(self.path, end, f"it refers to value files like this: {shares}")

    def _check_value(
        self, offset: int, value: Reference, values: Mapping[int, Values]
    ) -> Iterator[Problem]:
        number, *place = value.unpack()
        if number not in values:
            yield Problem(self.path, offset, f"it refers to value file {number}, which is missing")
            return
        try:
            values[number].read(*place)
        except Corruption as error:
            yield Problem(error.path, error.offset, error.reason)

    def _load(self) -> _Contents:
        with self._loading:
            if self._contents is None:
                self._contents = self._read_contents()
            return self._contents

    def _read_contents(self) -> _Contents:
        at = self.info.size - FOOTER_BYTES
        if at < 0:
            raise Corruption(self.path, 0, "not a table: it is shorter than a footer")
        data = self._read(at, FOOTER_BYTES)
        checksum, version, magic = TAIL.unpack_from(data, FOOTER.size)
        if magic != MAGIC:
            raise Corruption(self.path, at, "not a table: it does not end in the magic bytes")
        if version != VERSION:
            reason = f"table format {version}, this release reads {VERSION}"
            raise UnknownFormat(self.path, at, reason)
        if checksum != self.info.checksum or checksum != crc32(data[: FOOTER.size]):
            raise ChecksumMismatch(self.path, at, "the footer does not have its checksum")
        fields = FOOTER.unpack_from(data)
        filter_ = self._read_section(fields[4:7], "filter")
        starts, stops = self._read_pairs(fields[7:10], "list of range tombstones")
        shares = self._read_section(fields[10:13], "list of references")
        if len(shares) % SHARE.size:
            raise Corruption(self.path, fields[10], "the list of references has an end too many")
        lasts, places = self._read_pairs(fields[13:16], "index")
        if any(len(place) != HANDLE.size for place in places):
            raise Corruption(self.path, fields[13], "a handle in the index is not 16 bytes long")
        handles = list(HANDLE.iter_unpack(b"".join(places)))
        return _Contents(
            filter_,
            lasts,
            handles,
            Ranges(starts, stops),
            tuple(SHARE.iter_unpack(shares)),
            fields[:4],
            fields[16],
        )

    def _read_section(self, handle: tuple[int, ...], what: str) -> bytes:
        if not handle[1]:
            return b""
        stored = self._read_checked(handle, what)
        try:
            data, at = unwrap(stored)
        except Malformed as error:
            raise Corruption(self.path, handle[0], str(error)) from None
        return data[at:]

    def _read_pairs(self, handle: tuple[int, ...], what: str) -> tuple[list[bytes], list[bytes]]:
        """A section that is a block of plain values."""
        data = self._read_section(handle, what)
        if not data:
            return [], []
        try:
            block = decode_block(data)
        except Malformed as error:
            raise Corruption(self.path, handle[0], str(error)) from None
        return block.keys, [value or b"" for value in block.values]

    def _read_block(
        self, contents: _Contents, at: int, *, keep: bool = True, scan: bool = False
    ) -> Block:
        handle = contents.handles[at]
        stored = self._read_checked(handle, "block")
        try:
            block = decode_block(*unwrap(stored))
        except Malformed as error:
            raise Corruption(self.path, handle[0], str(error)) from None
        if block.keys[-1:] != [contents.lasts[at]]:
            raise Corruption(self.path, handle[0], "the index has another last key of the block")
        if keep:
            self._cache.put(self._block_number + at, block, scan=scan)
        return block

    def _read_checked(self, handle: tuple[int, ...], what: str) -> bytes:
        offset, length, crc = handle
        data = self._read(offset, length)
        if crc32(data) != crc:
            raise ChecksumMismatch(self.path, offset, f"the {what} does not have its checksum")
        return data
