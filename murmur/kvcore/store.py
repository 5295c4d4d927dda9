"""The tree's directory: which files are needed, which are being made, which nobody needs any more.

    tree/MANIFEST      what there is
    tree/000017.sst    table number 17
    tree/000018.val    value file number 18; tables and value files share the numbers
    tree/RESERVE       room for a flush or merge that frees more (reserve.py)

    write a file, sync it -> sync the directory -> replace the manifest (`install`)

Up to the last step the old manifest holds, and a new file is an orphan, removed at the next
opening. After it, what only the old version needed is obsolete: it is removed once no reader is
left on it. When the last step, a rename and its sync, fails, either manifest may be what a power
cut leaves, so the files of both stay until one succeeds.

Invariant: every file that a manifest on the disk names is there.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from murmur.errors import Corruption, InvalidInput
from murmur.kvcore.kernel import BlockCache, Table, TableInfo, ValueFile
from murmur.kvcore.manifest import EMPTY, Manifest, decode_manifest, encode_manifest
from murmur.kvcore.reserve import Reserve
from murmur.kvcore.storage import (
    AppendFile,
    Problem,
    Storage,
    read_whole,
    write_atomically,
    write_beside,
)
from murmur.kvcore.version import Version, size_of

DIRECTORY = "tree"
MANIFEST = f"{DIRECTORY}/MANIFEST"
RESERVE = f"{DIRECTORY}/RESERVE"
LEAST_RESERVE = 64 << 10  # bytes
RESERVED = 64  # one part in so many of the tree
TABLE_SUFFIX = ".sst"
VALUES_SUFFIX = ".val"

T = TypeVar("T")


class Writing(NamedTuple):
    """How the files of one flush, merge or ingest are made: each gives a number and the file."""

    create: Callable[[], tuple[int, AppendFile]]
    create_values: Callable[[], tuple[int, AppendFile]]


class Store:
    """The owner of the directory. Any number of threads write files; one at a time installs."""

    def __init__(self, storage: Storage, cache_bytes: int, *, mmap: bool = False) -> None:
        """Open the directory, or make it: afterwards `version` is what the manifest says."""
        self.storage = storage
        self.cache = BlockCache(cache_bytes)
        self.reserve = Reserve(storage, RESERVE)
        self._mmap = mmap
        self._path = f"{storage.path}/{MANIFEST}"
        self._numbering = threading.Lock()
        self._unfinished: set[str] = set()  # files that no manifest has named yet
        self._unsure: set[str] = set()  # those that one may have named: its replacement failed
        # Those of former versions, each with a reference to who reads it.
        self._obsolete: dict[str, Callable[[], object]] = {}
        if not storage.exists(MANIFEST):
            self._create()
        manifest = decode_manifest(self._path, read_whole(storage, MANIFEST))
        self._next_number = manifest.next_number
        levels = [[self.open(info) for info in infos] for infos in manifest.levels]
        values = {number: self.open_values(number, size) for number, size in manifest.value_files}
        self._see_references(levels, values)
        self.version = Version(levels, manifest.mark, manifest.last_sequence, values)
        self._remove_orphans()

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Make new files, to be installed before the end; if that fails they are removed."""
        names: list[str] = []
        files: list[AppendFile] = []

        def create(suffix: str) -> tuple[int, AppendFile]:
            with self._numbering:
                number = self._next_number
                self._next_number += 1
            name = file_name(number, suffix)
            names.append(name)
            self._unfinished.add(name)
            files.append(self.storage.create(name))
            return number, files[-1]

        try:
            yield Writing(lambda: create(TABLE_SUFFIX), lambda: create(VALUES_SUFFIX))
        except BaseException:
            for file in files:
                file.close()
            for name in names:
                if name in self._unfinished and self.storage.exists(name):
                    self.storage.remove(name)
            raise
        finally:
            self._unfinished.difference_update(names)

    def open(self, info: TableInfo) -> Table:
        """A table to read."""
        name = file_name(info.number, TABLE_SUFFIX)
        return self._opened(
            name, lambda: Table(self.storage, name, info, self.cache, mmap=self._mmap)
        )

    def open_values(self, number: int, size: int) -> ValueFile:
        """A value file to read."""
        name = file_name(number, VALUES_SUFFIX)
        return self._opened(name, lambda: ValueFile(self.storage, name, number, size))

    def install(self, version: Version) -> None:
        """Make a version the durable one, its files and its mark together."""
        kept = set(names_of(version))
        self.storage.sync_directory(DIRECTORY)
        temporary = write_beside(self.storage, MANIFEST, self._encode(version))
        self._unsure |= kept & self._unfinished
        self._unfinished -= kept
        self.storage.rename(temporary, MANIFEST)
        self.storage.sync_directory(DIRECTORY)
        for file in files_of(self.version):
            if file.name not in kept:
                self._obsolete[file.name] = weakref.ref(file)
        for name in self._unsure - kept:
            self._obsolete[name] = _nobody
        self._unsure.clear()
        self.version = version

    def sweepable(self) -> bool:
        """Whether there are obsolete files that nobody reads. For any thread."""
        return any(reader() is None for reader in list(self._obsolete.values()))

    def sweep(self) -> int:
        """Remove them; how many there were. For one thread at a time."""
        removed = 0
        for name, reader in list(self._obsolete.items()):
            if reader() is None:
                self.storage.remove(name)
                del self._obsolete[name]
                removed += 1
        return removed

    def hold_reserve(self, most: int) -> None:
        """Hold as much room as the tree is large enough for, and no more than `most` bytes."""
        held = size_of(self.version.tables()) + sum(f.size for f in self.version.values.values())
        if held:
            self.reserve.hold(min(max(LEAST_RESERVE, held // RESERVED), most))

    def checkpoint(self, version: Version, directory: str) -> None:
        """Make another tree of a version, in an empty directory, that shares its files."""
        target = self.storage.at(directory)
        if target.exists(MANIFEST):
            raise InvalidInput(f"{target.path} holds a tree already")
        target.make_directory(DIRECTORY)
        target.sync_directory()
        for name in names_of(version):
            if target.exists(name):  # of a checkpoint that was interrupted
                target.remove(name)
            self.storage.link(name, target, name)
        target.sync_directory(DIRECTORY)
        write_atomically(target, MANIFEST, self._encode(version))

    def manifest(self, version: Version) -> Manifest:
        """What the manifest says of a version."""
        levels = [[table.info for table in level] for level in version.levels]
        values = [(file.number, file.size) for file in version.values.values()]
        return Manifest(self._next_number, version.last_sequence, version.mark, levels, values)

    def check(self) -> Iterator[Problem]:
        """Compare the manifest with the directory; the caller sees to it that none is installed."""
        try:
            manifest = decode_manifest(self._path, read_whole(self.storage, MANIFEST))
        except Corruption as error:
            yield Problem(error.path, error.offset, error.reason)
            return
        except FileNotFoundError:
            yield Problem(self._path, 0, "missing")
            return
        if _described(manifest) != _described(self.manifest(self.version)):
            yield Problem(self._path, 0, "it describes another tree than the one that is open")
        known = set(names_of(self.version))
        # Files come and go meanwhile, but these are known before or after.
        others = self._others()
        present = set(self._files_present())
        others |= self._others()
        for name in sorted(known - present):
            yield Problem(f"{self.storage.path}/{name}", 0, "the manifest names this file; missing")
        for name in sorted(present - known - others):
            yield Problem(f"{self.storage.path}/{name}", 0, "the manifest does not name this file")

    def _opened(self, name: str, open_it: Callable[[], T]) -> T:
        try:
            return open_it()
        except FileNotFoundError:
            path = f"{self.storage.path}/{name}"
            raise Corruption(path, 0, "the manifest names this file; it is missing") from None

    def _see_references(
        self, levels: Sequence[Sequence[Table]], values: dict[int, ValueFile]
    ) -> None:
        for table in (table for level in levels for table in level):
            for number, _ in table.info.references:
                if number not in values:
                    reason = f"{table.name} refers to value file {number}, which it does not name"
                    raise Corruption(self._path, 0, reason)

    def _create(self) -> None:
        self.storage.make_directory(DIRECTORY)
        self.storage.sync_directory()
        if orphans := self._files_present():
            # The manifest precedes the first table: it was there, and is lost.
            raise Corruption(self._path, 0, f"missing, though there are tables ({orphans[0]})")
        write_atomically(self.storage, MANIFEST, encode_manifest(EMPTY))

    def _remove_orphans(self) -> None:
        known = set(names_of(self.version))
        for name in self._files_present():
            if name not in known:
                self.storage.remove(name)

    def _files_present(self) -> list[str]:
        names = self.storage.list(DIRECTORY)
        suffixes = TABLE_SUFFIX, VALUES_SUFFIX
        return [f"{DIRECTORY}/{name}" for name in names if name.endswith(suffixes)]

    def _others(self) -> set[str]:
        return self._unfinished | self._unsure | self._obsolete.keys()

    def _encode(self, version: Version) -> bytes:
        return encode_manifest(self.manifest(version))


def file_name(number: int, suffix: str = TABLE_SUFFIX) -> str:
    """The name of a table or value file."""
    return f"{DIRECTORY}/{number:06}{suffix}"


def files_of(version: Version) -> Iterator[Table | ValueFile]:
    """All files of a version."""
    yield from version.tables()
    yield from version.values.values()


def names_of(version: Version) -> Iterator[str]:
    """Their names."""
    for file in files_of(version):
        yield file.name


def _nobody() -> None:
    """The reader of a file that was never installed."""


def _described(manifest: Manifest) -> Iterable[object]:
    # The next number runs ahead while files are being written.
    return (
        manifest.mark,
        manifest.last_sequence,
        list(map(list, manifest.levels)),
        sorted(manifest.value_files),
    )
