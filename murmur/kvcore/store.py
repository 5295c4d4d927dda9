"""The tree's directory: tables and manifest, which files are needed, and which are not any more.

    tree/MANIFEST      what there is
    tree/000017.sst    table number 17

    write a table, sync it -> sync the directory -> replace the manifest (`install`)

Up to the last step the old manifest holds, and a new table is an orphan, removed at the next
opening. After it, what only the old version needed is obsolete: it is removed once no reader is
left on it. When the replacement of the manifest fails, either may be what a power cut leaves, so
the tables of both stay until one succeeds.

Invariant: every table that a manifest on the disk names is there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from murmur.errors import Corruption, InvalidInput
from murmur.kvcore.kernel import BlockCache, Table, TableInfo
from murmur.kvcore.manifest import EMPTY, Manifest, decode_manifest, encode_manifest
from murmur.kvcore.storage import AppendFile, Problem, Storage, read_whole, write_atomically
from murmur.kvcore.version import Version

DIRECTORY = "tree"
MANIFEST = f"{DIRECTORY}/MANIFEST"
TABLE_SUFFIX = ".sst"


class Store:
    """The owner of the directory. One thread writes; `check` and `checkpoint` may run beside it."""

    def __init__(self, storage: Storage, cache_bytes: int) -> None:
        """Open the directory, or make it: afterwards `version` is what the manifest says."""
        self.storage = storage
        self.cache = BlockCache(cache_bytes)
        self._path = f"{storage.path}/{MANIFEST}"
        self._unfinished: set[str] = set()  # tables that no manifest has named yet
        self._unsure: set[str] = set()  # those that one may have named: its replacement failed
        # Those of former versions, each with a reference to who reads it.
        self._obsolete: dict[str, Callable[[], Table | None]] = {}
        if not storage.exists(MANIFEST):
            self._create()
        manifest = decode_manifest(self._path, read_whole(storage, MANIFEST))
        self._next_number = manifest.next_number
        levels = [[self.open(info) for info in infos] for infos in manifest.levels]
        self.version = Version(levels, manifest.mark, manifest.last_sequence)
        self._remove_orphans()

    @contextmanager
    def writing(self) -> Iterator[Callable[[], tuple[int, AppendFile]]]:
        """Make new tables, to be installed before the end; if that fails they are removed."""
        names: list[str] = []
        files: list[AppendFile] = []

        def create() -> tuple[int, AppendFile]:
            number = self._next_number
            self._next_number += 1
            name = _table_name(number)
            names.append(name)
            self._unfinished.add(name)
            files.append(self.storage.create(name))
            return number, files[-1]

        try:
            yield create
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
        name = _table_name(info.number)
        try:
            return Table(self.storage, name, info, self.cache)
        except FileNotFoundError:
            path = f"{self.storage.path}/{name}"
            raise Corruption(path, 0, "the manifest names this file; it is missing") from None

    def install(self, version: Version) -> None:
        """Make a version the durable one, its tables and its mark together."""
        kept = {table.name for table in version.tables()}
        self.storage.sync_directory(DIRECTORY)
        self._unsure |= kept & self._unfinished
        self._unfinished -= kept
        write_atomically(self.storage, MANIFEST, self._encode(version))
        for table in self.version.tables():
            if table.name not in kept:
                self._obsolete[table.name] = weakref.ref(table)
        for name in self._unsure - kept:
            self._obsolete[name] = _nobody
        self._unsure.clear()
        self.version = version

    def sweepable(self) -> bool:
        """Whether there are obsolete tables that nobody reads. For any thread."""
        return any(reader() is None for reader in list(self._obsolete.values()))

    def sweep(self) -> None:
        """Remove them."""
        for name, reader in list(self._obsolete.items()):
            if reader() is None:
                self.storage.remove(name)
                del self._obsolete[name]

    def checkpoint(self, version: Version, directory: str) -> None:
        """Make another tree of a version, in an empty directory, that shares its files."""
        target = self.storage.at(directory)
        if target.exists(MANIFEST):
            raise InvalidInput(f"{target.path} holds a tree already")
        target.make_directory(DIRECTORY)
        target.sync_directory()
        for table in version.tables():
            self.storage.link(table.name, target, table.name)
        target.sync_directory(DIRECTORY)
        write_atomically(target, MANIFEST, self._encode(version))

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
        if _described(manifest) != _described(self._manifest(self.version)):
            yield Problem(self._path, 0, "it describes another tree than the one that is open")
        known = {table.name for table in self.version.tables()}
        # Tables come and go meanwhile, but these are known before or after.
        others = self._others()
        present = set(self._tables_present())
        others |= self._others()
        for name in sorted(known - present):
            yield Problem(f"{self.storage.path}/{name}", 0, "the manifest names this file; missing")
        for name in sorted(present - known - others):
            yield Problem(f"{self.storage.path}/{name}", 0, "the manifest does not name this file")

    def _create(self) -> None:
        self.storage.make_directory(DIRECTORY)
        self.storage.sync_directory()
        if orphans := self._tables_present():
            # The manifest precedes the first table: it was there, and is lost.
            raise Corruption(self._path, 0, f"missing, though there are tables ({orphans[0]})")
        write_atomically(self.storage, MANIFEST, encode_manifest(EMPTY))

    def _remove_orphans(self) -> None:
        known = {table.name for table in self.version.tables()}
        for name in self._tables_present():
            if name not in known:
                self.storage.remove(name)

    def _tables_present(self) -> list[str]:
        names = self.storage.list(DIRECTORY)
        return [f"{DIRECTORY}/{name}" for name in names if name.endswith(TABLE_SUFFIX)]

    def _others(self) -> set[str]:
        return self._unfinished | self._unsure | self._obsolete.keys()

    def _manifest(self, version: Version) -> Manifest:
        levels = [[table.info for table in level] for level in version.levels]
        return Manifest(self._next_number, version.last_sequence, version.mark, levels)

    def _encode(self, version: Version) -> bytes:
        return encode_manifest(self._manifest(version))


def _table_name(number: int) -> str:
    return f"{DIRECTORY}/{number:06}{TABLE_SUFFIX}"


def _nobody() -> None:
    """The reader of a table that was never installed."""


def _described(manifest: Manifest) -> Iterable[object]:
    # The next number runs ahead while tables are being written.
    return manifest.mark, manifest.last_sequence, list(map(list, manifest.levels))
