"""Ingest: taking ready sstables into a tree, past its log and its memtable.

    write_sstable("load/0001.sst", sorted_pairs)      by whoever has the data, in any process
    tree.ingest(["load/0001.sst"], mark)              whole and all at once, or not at all

The files are verified to the last byte, copied (with the tree's number in their footer) and
installed by one manifest edit, with a sequence of their own: a snapshot that was taken before does
not see them. They are newer than all that the tree holds, so each goes into the deepest level such
that neither there nor above lies a key between its first and last; where keys overlap, into
level 0, to be merged like any other.

What is ingested never was in a log. A tree whose log is replayed, or sent to others, would differ
from what its log says: so this is for a tree without a replicated log, and a Replica, whose truth
is its log, has no ingest.

Invariant: level by level, what lies above is newer; ingested tables included.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

from murmur.errors import ChecksumMismatch, Corruption, InvalidInput, UnknownFormat
from murmur.kvcore.compaction import Plan
from murmur.kvcore.kernel import (
    BlockCache,
    Entry,
    Memtable,
    Output,
    Table,
    TableInfo,
    write_tables,
)
from murmur.kvcore.kernel.pure.cache import BlockCache as PureBlockCache
from murmur.kvcore.kernel.pure.table import (
    FOOTER,
    FOOTER_BYTES,
    MAGIC,
    SHARE,
    TAIL,
    VERSION,
)
from murmur.kvcore.kernel.pure.table import Table as PureTable
from murmur.kvcore.options import Options
from murmur.kvcore.storage import (
    TEMPORARY,
    AppendFile,
    DiskStorage,
    ReadFile,
    Storage,
)
from murmur.kvcore.version import Version

PIECE_BYTES = 16 << 20  # of a table that is being built; so much is held in memory
COPY_BYTES = 1 << 20  # read and written at once


class Source(NamedTuple):
    """A table that waits to be ingested."""

    storage: Storage
    name: str
    info: TableInfo


class TableBuilder:
    """Writes one table outside of any tree, from pairs in ascending order of their keys.

    Holds PIECE_BYTES in memory; what is longer goes through temporary files beside it.
    """

    def __init__(self, storage: Storage, name: str, options: Options | None = None) -> None:
        self._storage = storage
        self._name = name
        chosen = (options or Options()).tables(1, deepest=True)
        self._options = chosen._replace(table_bytes=1 << 62, separate_bytes=0)
        self._last: bytes | None = None
        self._batch: list[Entry] = []
        self._bytes = 0
        self._pieces: list[Table] = []

    def add(self, key: bytes, value: bytes) -> None:
        """Append a pair. Raises InvalidInput if the key does not follow the last one."""
        if self._last is not None and key <= self._last:
            raise InvalidInput(f"key {key!r} does not follow {self._last!r}")
        self._last = key
        self._batch.append((key, value))
        self._bytes += len(key) + len(value)
        if self._bytes >= PIECE_BYTES:
            self._write_piece()

    def finish(self) -> int:
        """Write the table durably, under its name; how many pairs it holds, at least one."""
        if self._last is None:
            raise InvalidInput("a table has at least one pair")
        if self._pieces:
            self._write_piece()
            (info,) = self._write(self._name + TEMPORARY, [self._pieces])
        else:
            (info,) = self._write(self._name + TEMPORARY, [self._memtable()])
        self._storage.rename(self._name + TEMPORARY, self._name)
        self._storage.sync_directory(os.path.dirname(self._name))
        self.close()
        return info.entries

    def close(self) -> None:
        """Remove what was temporary; without `finish` nothing is left."""
        for piece in self._pieces:
            piece.close()
            self._remove(piece.name)
        self._pieces.clear()
        self._remove(self._name + TEMPORARY)

    def _memtable(self) -> Memtable:
        memtable = Memtable(0)
        memtable.apply(1, self._batch)
        memtable.freeze(1)
        self._batch, self._bytes = [], 0
        return memtable

    def _write_piece(self) -> None:
        if self._batch:
            name = f"{self._name}.{len(self._pieces)}{TEMPORARY}"
            (info,) = self._write(name, [self._memtable()])
            self._pieces.append(Table(self._storage, name, info, BlockCache(0)))

    def _write(self, name: str, sources: Sequence[Memtable | Sequence[Table]]) -> list[TableInfo]:
        self._remove(name)

        def create() -> tuple[int, AppendFile]:
            return 0, self._storage.create(name)

        def no_values() -> tuple[int, AppendFile]:
            raise AssertionError("values stay in their table")

        return write_tables(sources, Output(create, no_values, self._options, 0))

    def _remove(self, name: str) -> None:
        if self._storage.exists(name):
            self._storage.remove(name)


def write_sstable(
    path: str | os.PathLike[str],
    pairs: Iterable[tuple[bytes, bytes]],
    options: Options | None = None,
) -> int:
    """Write a table for `ingest` from pairs in ascending order; how many there are.

    Raises InvalidInput if they are not in order or there is none; then no file is left.
    """
    directory, name = os.path.split(os.path.abspath(path))
    builder = TableBuilder(DiskStorage(directory), name, options)
    try:
        for key, value in pairs:
            builder.add(key, value)
        return builder.finish()
    finally:
        builder.close()


def validated(path: str | os.PathLike[str] | Source) -> Source:
    """A table that is whole and refers to no other file. Raises Corruption or InvalidInput."""
    if isinstance(path, tuple):
        storage, name = path.storage, path.name
    else:
        directory, name = os.path.split(os.path.abspath(path))
        storage = DiskStorage(directory, create=False)
    info = table_info(storage, name)
    if info.references:
        raise InvalidInput(f"{storage.path}/{name} refers to values in other files")
    table = Table(storage, name, info, BlockCache(0))
    try:
        for problem in table.check():
            raise Corruption(*problem)
    finally:
        table.close()
    return Source(storage, name, info)


def table_info(storage: Storage, name: str) -> TableInfo:
    """What a manifest would say of a table, from the file itself; its max_sequence is 0.

    Raises Corruption, UnknownFormat, FileNotFoundError.
    """
    file = storage.open(name)
    try:
        return _read_info(storage, name, file)
    finally:
        file.close()


def _read_info(storage: Storage, name: str, file: ReadFile) -> TableInfo:
    path, size = f"{storage.path}/{name}", file.size()
    at = size - FOOTER_BYTES
    if at < 0:
        raise Corruption(path, 0, "not a table: it is shorter than a footer")
    data = file.read(at, FOOTER_BYTES)
    checksum, version, magic = TAIL.unpack_from(data, FOOTER.size)
    if magic != MAGIC:
        raise Corruption(path, at, "not a table: it does not end in the magic bytes")
    if version != VERSION:
        raise UnknownFormat(path, at, f"table format {version}, this release reads {VERSION}")
    number, entries, tombstones, ranges, *handles, _ = FOOTER.unpack_from(data)
    info = TableInfo(number, size, entries, tombstones, ranges, 0, checksum, b"", b"")
    # A cache knows tables by their numbers, which are not unique outside of a tree.
    table = PureTable(storage, name, info, PureBlockCache(0))
    starts, stops = table.ranges()
    newest = next(iter(table.all_runs(1)), None)
    oldest = next(iter(table.runs(b"", None, reverse=True)), None)
    first = [*(newest[0][:1] if newest else []), *starts[:1]]
    last = [*(oldest[0][-1:] if oldest else []), *stops[-1:]]
    if not first:
        raise Corruption(path, at, "the table holds nothing")
    offset, length, crc = handles[6:9]
    shares = file.read(offset, length)
    if length and crc32(shares) != crc:
        raise ChecksumMismatch(path, offset, "the list of references has another checksum")
    references = tuple(SHARE.iter_unpack(shares[1:]))
    return info._replace(first=min(first), last=max(last), references=references)


def copy_table(source: Source, number: int, file: AppendFile) -> TableInfo:
    """Copy a table into a new file, durably, with another number in its footer."""
    reader = source.storage.open(source.name)
    try:
        end = source.info.size - FOOTER_BYTES
        for offset in range(0, end, COPY_BYTES):
            file.write(reader.read(offset, min(COPY_BYTES, end - offset)))
        footer = reader.read(end, FOOTER.size)
    finally:
        reader.close()
    footer = FOOTER.pack(number, *FOOTER.unpack(footer)[1:])
    checksum = crc32(footer)
    file.write(footer + TAIL.pack(checksum, VERSION, MAGIC))
    file.sync()
    file.close()
    return source.info._replace(number=number, checksum=checksum)


def place(version: Version, first: bytes, last: bytes, running: Collection[Plan]) -> int:
    """The deepest level for a table that is newer than all there is.

    What a running merge may yet write to its target level, within what its inputs span, counts as
    being there.
    """
    found = 0
    for level in range(version.deepest + 1):
        if version.overlapping(level, first, last):
            break
        if not any(
            plan.target == level and plan.first <= last and first <= plan.last for plan in running
        ):
            found = level
    return found
