"""Repair: saving what can be saved of a damaged directory, into a new one, with a report.

    repair("data", "data.repaired")  ->  Report(saved=..., losses=[Loss(...), ...])

A replica's log has all that its tree holds, unless it has a floor (floor.py): so the tree is left
out and made anew from the log at the next opening, as far as that is good (repair_log.py). Where
there is no such log, the tables are saved, table by table and block by block: a block whose
checksum is right, whatever else is wrong with its file; nothing is taken that does not have the
checksum its index, or its reference, gives. An index that is damaged is read from its end, where
its handles stand: each proves itself by the block it points to. Levels and mark stay as the
manifest says, so newer values stay above older ones; without a readable manifest the files' numbers
tell, roughly, what is newer, and the mark is where the log begins. What else lies beside the tree
is copied as it is.

Where a block is lost, an older value of its keys may appear again, deleted ones too: each loss says
in which range of keys. The damaged directory is only read.

Invariant: what a repaired tree holds was written once; what it lacks is in the report.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from murmur.errors import Corruption, InvalidInput, UnknownFormat
from murmur.kvcore.engine import decode_mark, encode_mark
from murmur.kvcore.floor import FLOOR_FILE
from murmur.kvcore.ingest import table_info
from murmur.kvcore.kernel import Entry, Memtable, Output, Table, TableInfo, ValueFile, write_tables
from murmur.kvcore.kernel.pure.block import Malformed, Reference, decode_block
from murmur.kvcore.kernel.pure.stored import unwrap
from murmur.kvcore.kernel.pure.table import FOOTER, FOOTER_BYTES, HANDLE
from murmur.kvcore.lineage import CLEAN_FILE, REPLICA_FILE
from murmur.kvcore.manifest import Manifest, decode_manifest
from murmur.kvcore.options import Options
from murmur.kvcore.repair_log import SavedLog, save_log
from murmur.kvcore.reserve import RESERVE
from murmur.kvcore.segment import DIRECTORY as LOG
from murmur.kvcore.segment import create_segment
from murmur.kvcore.storage import DiskStorage, ReadFile, Storage, read_whole
from murmur.kvcore.store import (
    DIRECTORY,
    MANIFEST,
    TABLE_SUFFIX,
    VALUES_SUFFIX,
    Store,
    file_name,
    files_of,
)
from murmur.kvcore.version import Version

PIECE_BYTES = 1 << 20  # copied at once
LEFT_OUT = ("LOCK", RESERVE)

Handle = tuple[int, int, int]
Range = tuple[bytes, bytes]


class Loss(NamedTuple):
    """What could not be saved: keys from first to last, both included; None where unknown."""

    path: str
    offset: int
    reason: str
    first: bytes | None = None
    last: bytes | None = None


@dataclass(slots=True)
class Report:
    """What became of a repair."""

    rebuilt: bool = False  # the tree is to be made anew from the log
    tables: int = 0
    saved: int = 0  # entries, tombstones too
    range_tombstones: int = 0
    copied: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The report, to be read."""
        if self.rebuilt:
            yield "saved the log: the next opening makes everything else from it"
        else:
            yield f"saved {self.saved} entries of {self.tables} tables"
        for name in self.copied:
            yield f"copied {name} as it is"
        for loss in self.losses:
            keys = "" if loss.first is None else f"; keys {loss.first!r} to {loss.last!r}"
            yield f"lost: {loss.path}, offset {loss.offset}: {loss.reason}{keys}"


def repair(
    directory: str | os.PathLike[str] | Storage,
    target: str | os.PathLike[str] | Storage,
    options: Options | None = None,
) -> Report:
    """Make a new directory of all that can be read in a damaged one, which nobody has open.

    Raises InvalidInput if the target holds a tree already, Locked if the directory is in use,
    UnknownFormat if a newer release wrote it: then its manifest has another form, not only another
    number.
    """
    source = directory if not isinstance(directory, str | os.PathLike) else DiskStorage(directory)
    made = target if not isinstance(target, str | os.PathLike) else DiskStorage(target)
    if made.exists(MANIFEST) or (made.exists(DIRECTORY) and made.list(DIRECTORY)):
        raise InvalidInput(f"{made.path} holds a tree already")
    lock = source.lock()
    try:
        return _Repair(source, made, options or Options()).run()
    finally:
        lock.close()


class _Repair:
    def __init__(self, source: Storage, target: Storage, options: Options) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._report = Report()
        self._values: dict[int, ValueFile | None] = {}

    def run(self) -> Report:
        log = None
        if self._source.exists(LOG):
            log = save_log(self._source, self._target, self._lose)
        # A log with a floor lacks records: its tree holds what it does not.
        speaks = log is not None and log.start == 0 and not self._source.exists(FLOOR_FILE)
        if self._source.exists(REPLICA_FILE) and log is not None and speaks:
            self._report.rebuilt = True
            self._copy_the_rest([] if log.whole else [CLEAN_FILE])
            return self._report
        self._save_tables(log)
        self._copy_the_rest([])
        return self._report

    def _save_tables(self, log: SavedLog | None) -> None:
        manifest = self._manifest()
        if self._source.exists(LOG) and not self._source.exists(REPLICA_FILE):
            manifest = self._replace_mark(manifest, log)
        sizes = dict(manifest.value_files)
        store = Store(self._target, 0)
        with store.writing() as writing:
            levels: list[list[Table]] = []
            values: dict[int, ValueFile] = {}
            for level, infos in enumerate(manifest.levels):
                deepest = level + 1 == len(manifest.levels)
                table_options = self._options.tables(level, deepest=deepest)
                if level == 0:
                    table_options = table_options._replace(table_bytes=1 << 62)
                levels.append([])
                for info in infos:
                    memtable = self._saved(info, sizes)
                    if memtable is None:
                        continue
                    output = Output(
                        writing.create, writing.create_values, table_options, info.max_sequence
                    )
                    tables = write_tables([memtable], output)
                    levels[-1] += [store.open(written) for written in tables]
                    for number, size in output.value_files:
                        values[number] = store.open_values(number, size)
            version = Version(levels, manifest.mark, manifest.last_sequence, values)
            store.install(version)
        for opened in files_of(version):
            opened.close()

    def _replace_mark(self, manifest: Manifest, log: SavedLog | None) -> Manifest:
        """Let the mark of an engine's tree point into what was saved of the log."""
        marked = decode_mark(manifest.mark, self._source.path)
        if log is not None and log.start <= marked <= log.end:
            return manifest
        if log is not None and marked < log.start:
            return manifest._replace(mark=encode_mark(log.start))
        for name in self._target.list(LOG):  # all of it is in the tables
            self._target.remove(f"{LOG}/{name}")
        create_segment(self._target, marked)
        self._target.sync_directory(LOG)
        return manifest

    # -- what there is

    def _manifest(self) -> Manifest:
        path = f"{self._source.path}/{MANIFEST}"
        try:
            data = read_whole(self._source, MANIFEST)
            try:
                return decode_manifest(path, data)
            except UnknownFormat as error:
                manifest = decode_manifest(path, data, whatever_version=True)
                reason = f"{error.reason}; the rest is as this release writes it"
                self._lose(path, error.offset, reason)
                return manifest
        except UnknownFormat:
            raise  # nothing is damaged
        except Corruption as error:
            self._lose(error.path, error.offset, error.reason)
        except FileNotFoundError:
            self._lose(path, 0, "missing")
        if not self._source.exists(DIRECTORY):
            return Manifest(1, 0, b"", ())
        names = self._source.list(DIRECTORY)
        numbers = [int(name[:-4]) for name in names if _is_numbered(name, TABLE_SUFFIX)]
        infos = [
            info for number in sorted(numbers, reverse=True) if (info := self._guessed(number))
        ]
        values = []
        for name in names:
            if _is_numbered(name, VALUES_SUFFIX):
                file = self._source.open(f"{DIRECTORY}/{name}")
                values.append((int(name[:-4]), file.size()))
                file.close()
        return Manifest(1, len(numbers), b"", (infos,), values)

    def _guessed(self, number: int) -> TableInfo | None:
        """What the manifest would have said of a table; None where there is nothing to say."""
        name = file_name(number)
        try:
            return table_info(self._source, name)._replace(number=number, max_sequence=number)
        except Corruption:
            file = self._source.open(name)
            size = file.size()
            file.close()
            return TableInfo(number, size, 0, 0, 0, number, 0, b"", b"")

    # -- one table

    def _saved(self, info: TableInfo, sizes: Mapping[int, int]) -> Memtable | None:
        """The entries of a table that can be read."""
        name = file_name(info.number)
        path = f"{self._source.path}/{name}"
        try:
            file = self._source.open(name)
        except OSError as error:
            self._lose(path, 0, error.strerror or str(error), info.first, info.last)
            return None
        try:
            ranges, blocks = self._read_sections(path, file, info)
            batch: list[Entry] = []
            before: bytes | None = info.first
            for last, handle in blocks:
                entries = self._read_block(path, file, handle, before, last)
                if entries:
                    batch += self._resolved(entries, sizes)
                    before = entries[-1][0]
                else:
                    before = last
        finally:
            file.close()
        if not batch and not ranges:
            return None
        memtable = Memtable(0)
        memtable.apply(1, batch, (), ranges)
        memtable.freeze(1)
        self._report.tables += 1
        self._report.saved += len(batch)
        self._report.range_tombstones += len(ranges)
        return memtable

    def _read_sections(
        self, path: str, file: ReadFile, info: TableInfo
    ) -> tuple[list[Range], list[tuple[bytes | None, Handle]]]:
        """Range tombstones, and the last key (if it is known) and place of each block."""
        end = min(info.size, file.size()) - FOOTER_BYTES
        footer = _read(file, end, FOOTER_BYTES) if end >= 0 else b""
        if len(footer) != FOOTER_BYTES:
            self._lose(path, max(end, 0), "the footer is missing", info.first, info.last)
            return [], []
        _, _, _, range_count, *handles, _ = FOOTER.unpack_from(footer)
        if crc32(footer[: FOOTER.size]) != info.checksum and info.checksum:
            self._lose(path, end, "the footer does not have its checksum")
        ranges_handle, index_handle = tuple(handles[3:6]), tuple(handles[9:12])
        ranges: list[Range] = []
        if ranges_handle[1]:
            found = _pairs(_checked(file, ranges_handle))
            if found is None:
                reason = f"{range_count} range tombstones: what they deleted may be back"
                self._lose(path, ranges_handle[0], reason, info.first, info.last)
            else:
                ranges = found
        if not index_handle[1] and info.entries == 0:
            return ranges, []
        index = _pairs(_checked(file, index_handle))
        if index is not None and all(len(place) == HANDLE.size for _, place in index):
            return ranges, [(last, HANDLE.unpack(place)) for last, place in index]
        self._lose(path, index_handle[0], "the index does not have its checksum")
        stored = _read(file, index_handle[0], index_handle[1])
        return ranges, [(None, handle) for handle in _handles_at_the_end(stored, end)]

    def _read_block(
        self, path: str, file: ReadFile, handle: Handle, before: bytes | None, last: bytes | None
    ) -> list[tuple[bytes, object]]:
        stored = _checked(file, handle)
        try:
            if stored is not None:
                keys, values, _, _ = decode_block(*unwrap(stored))
                return list(zip(keys, values, strict=True))
        except Malformed as error:
            self._lose(path, handle[0], str(error), before, last)
            return []
        if last is not None:  # else it is no handle at all: the index is damaged
            self._lose(path, handle[0], "the block does not have its checksum", before, last)
        return []

    def _resolved(
        self, entries: Sequence[tuple[bytes, object]], sizes: Mapping[int, int]
    ) -> Iterator[Entry]:
        """The entries with their values, wherever they stand."""
        for key, value in entries:
            if not isinstance(value, Reference):
                assert value is None or isinstance(value, bytes)
                yield key, value
                continue
            number, offset, length, crc = value.unpack()
            file = self._values_of(number, sizes)
            path = f"{self._source.path}/{file_name(number, VALUES_SUFFIX)}"
            try:
                if file is not None:
                    yield key, file.read(offset, length, crc)
                else:
                    self._lose(path, offset, "the value file cannot be read", key, key)
            except (Corruption, OSError) as error:
                self._lose(path, offset, str(error), key, key)

    def _values_of(self, number: int, sizes: Mapping[int, int]) -> ValueFile | None:
        if number not in self._values:
            name = file_name(number, VALUES_SUFFIX)
            try:
                reader = self._source.open(name)
                size = reader.size()  # a shorter file still has its first values
                reader.close()
                self._values[number] = ValueFile(self._source, name, number, size)
            except (Corruption, OSError):
                self._values[number] = None
        return self._values[number]

    # -- the rest

    def _copy_the_rest(self, left_out: Sequence[str]) -> None:
        names = [name for name in self._source.list() if name not in (*LEFT_OUT, *left_out)]
        for name in names:
            if self._target.exists(name):
                continue
            reader = self._source.open(name)
            writer = self._target.create(name)
            size = reader.size()
            try:
                for offset in range(0, size, PIECE_BYTES):
                    writer.write(reader.read(offset, min(PIECE_BYTES, size - offset)))
                writer.sync()
                self._report.copied.append(name)
            finally:
                reader.close()
                writer.close()
        self._target.sync_directory()

    def _lose(
        self,
        path: str,
        offset: int,
        reason: str,
        first: bytes | None = None,
        last: bytes | None = None,
    ) -> None:
        self._report.losses.append(Loss(path, offset, reason, first, last))


def _read(file: ReadFile, offset: int, length: int) -> bytes:
    """What can be read there: a failing disk gives as little as a short file."""
    try:
        return file.read(offset, length)
    except OSError:
        return b""


def _checked(file: ReadFile, handle: Sequence[int]) -> bytes | None:
    """The bytes of a handle, if they have its checksum."""
    offset, length, crc = handle
    if offset + length > file.size():
        return None
    data = _read(file, offset, length)
    return data if len(data) == length and crc32(data) == crc else None


def _pairs(stored: bytes | None) -> list[tuple[bytes, bytes]] | None:
    """A section that is a block of plain values; None if it is none."""
    if stored is None:
        return None
    try:
        keys, values, _, _ = decode_block(*unwrap(stored))
    except Malformed:
        return None
    return [(key, value or b"") for key, value in zip(keys, values, strict=True)]


def _handles_at_the_end(stored: bytes, end: int) -> list[Handle]:
    """What may be the handles of a damaged index: its values stand last, 16 bytes each."""
    handles = []
    at = len(stored) - HANDLE.size
    while at >= 0:
        offset, length, crc = HANDLE.unpack_from(stored, at)
        if not length or offset + length > end:
            break
        handles.append((offset, length, crc))
        at -= HANDLE.size
        if offset == 0:
            break
    return handles[::-1]


def _is_numbered(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and name[: -len(suffix)].isdigit()
