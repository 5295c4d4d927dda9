"""Backends: what keeps the tree of a directory, sstables or one SQLite file.

    BACKEND    one line of text each: `murmur backend 1`, `name lsm` or `name sqlite`, `crc HEX`

A directory without this file is kept by "lsm". The file is written once when a directory is made
with another backend, and by `convert`, whose very last step is to replace it: it decides, so what
else lies in tree/ is the leftover of a conversion that was interrupted, and is removed.

Both backends are one ordered map with one interface, KeyTree; both hold what was flushed up to a
mark, and the log has the rest. The SQLite one is loaded only where it is used.

Invariant: the tree that BACKEND names is whole, whenever it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from murmur.errors import Corruption, InvalidInput
from murmur.kvcore.lineage import REPLICA_FILE, encode_lines, read_lines
from murmur.kvcore.storage import Problem, Storage, write_atomically
from murmur.kvcore.store import DIRECTORY, MANIFEST
from murmur.kvcore.tree import Tree
from murmur.kvcore.view import View

BACKEND_FILE = "BACKEND"
LSM, SQLITE = "lsm", "sqlite"
BACKENDS = (LSM, SQLITE)
SQLITE_FILE = f"{DIRECTORY}/kv.sqlite"


class TreeView(View, Protocol):
    """A snapshot of a tree."""

    @property
    def sequence(self) -> int:
        """The number of the last batch that it sees."""
        ...

    @property
    def attachment(self) -> object:
        """What came with that batch."""
        ...

    def close(self) -> None:
        """Let go of what it pins."""
        ...

    def __enter__(self) -> TreeView:
        """Itself, closed at the end of the `with`."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        ...


class KeyTree(Protocol):
    """An ordered map of bytes with snapshots: see tree.py for what each method does."""

    @property
    def mark(self) -> bytes:
        """The mark of the last flush."""
        ...

    @property
    def attachment(self) -> object:
        """What came with the last published write."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """The latest published value of the key."""
        ...

    def snapshot(self) -> TreeView:
        """The latest published state, pinned."""
        ...

    def write(self, batch: Sequence[tuple[bytes, bytes | None]], attachment: object = None) -> int:
        """Apply a batch and publish it."""
        ...

    def full(self) -> bool:
        """Whether it should be rotated."""
        ...

    def rotate(self, mark: bytes, *, deleting: bool = False) -> None:
        """Make room in the memtable."""
        ...

    def flush(self, mark: bytes) -> None:
        """Make what was written durable, with its mark."""
        ...

    def prepare(
        self, entries: Iterable[tuple[bytes, bytes | None]], pause: Callable[[], None] = ...
    ) -> Any:
        """Get many entries in key order ready for `adopt`; to be closed."""
        ...

    def adopt(
        self,
        prepared: Any,
        above: Sequence[tuple[bytes, bytes | None]],
        mark: bytes,
        attachment: object,
        flushed: bytes,
    ) -> int:
        """Take them in at once, and more above them, with their mark and attachment."""
        ...

    def wait(self) -> None:
        """Return when nothing is under way that an exception has left to itself."""
        ...

    def compact(self) -> None:
        """Take no more room than the data needs."""
        ...

    def checkpoint(self, directory: str) -> None:
        """Make a copy of what was flushed."""
        ...

    def check(self) -> Iterator[Problem]:
        """Verify what is on the disk."""
        ...

    def stats(self) -> Mapping[str, object]:
        """Figures."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


class Latest:
    """A tree's latest published state as a View, for the one who alone may change it."""

    def __init__(self, tree: KeyTree) -> None:
        self._tree = tree
        self.get = tree.get

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < stop."""
        with self._tree.snapshot() as snapshot:
            yield from snapshot.scan(start, stop, reverse=reverse)


def settle_backend(storage: Storage, wanted: str | None) -> str:
    """Which backend this directory, which the caller has locked, has, or gets if it is new.

    Raises InvalidInput if it has another one than is wanted.
    """
    if wanted is not None:
        check_backend(wanted)
    recorded = recorded_backend(storage)
    if recorded is None:
        if storage.exists("log"):
            return wanted or LSM  # a damaged directory: its opening will say so
        recorded = wanted or LSM
        if recorded == SQLITE:
            _make_sqlite(storage)
    elif wanted not in (None, recorded):
        raise InvalidInput(
            f"{storage.path} is kept by backend {recorded!r}; "
            f"`murmur convert {storage.path} --backend {wanted}` moves it"
        )
    remove_leftovers(storage, recorded)
    return recorded


def recorded_backend(storage: Storage) -> str | None:
    """The backend of this directory; None if it is new."""
    facts = read_lines(storage, BACKEND_FILE, "backend")
    path = f"{storage.path}/{BACKEND_FILE}"
    if facts is None:
        if not storage.exists(REPLICA_FILE) and not storage.exists(MANIFEST):
            return None
        if storage.exists(SQLITE_FILE) and not storage.exists(MANIFEST):
            raise Corruption(path, 0, f"missing, beside {SQLITE_FILE}")
        return LSM
    name = facts.get("name")
    if name not in BACKENDS:
        raise Corruption(path, 0, f"it names the backend {name!r}")
    if name == SQLITE and not storage.exists(SQLITE_FILE):
        raise Corruption(f"{storage.path}/{SQLITE_FILE}", 0, "missing, though BACKEND names it")
    return name


def record_backend(storage: Storage, name: str) -> None:
    """Write down the backend, durably: from now on the tree is read from there."""
    write_atomically(storage, BACKEND_FILE, encode_lines("backend", {"name": name}))


def open_tree(
    storage: Storage,
    backend: str,
    *,
    memtable_bytes: int,
    before_install: Callable[[bytes], None] = lambda mark: None,
) -> KeyTree:
    """Open the tree of a directory."""
    if backend == LSM:
        return Tree.open(storage, memtable_bytes=memtable_bytes, before_install=before_install)
    from murmur.kvcore.sqlite_tree import MEMTABLE_BYTES, SqliteTree

    memtable_bytes = min(memtable_bytes, MEMTABLE_BYTES)
    return SqliteTree.open(storage, memtable_bytes=memtable_bytes, before_install=before_install)


def remove_leftovers(storage: Storage, backend: str) -> None:
    """Remove what an interrupted conversion left of the other backend."""
    if not storage.exists(DIRECTORY):
        return
    ours = _is_sqlite if backend == LSM else _is_lsm
    # The manifest goes first: without it, tables are orphans and not a damaged tree.
    names = sorted((name for name in storage.list(DIRECTORY) if ours(name)), key=_manifest_last)
    for name in reversed(names):
        storage.remove(f"{DIRECTORY}/{name}")


def check_backend(name: object) -> None:
    """Raise InvalidInput unless there is such a backend."""
    if name not in BACKENDS:
        raise InvalidInput(f"backend is one of {', '.join(BACKENDS)}, not {name!r}")


def _make_sqlite(storage: Storage) -> None:
    # First the file, then its record: one that has no record is of a creation that was cut short.
    from murmur.kvcore.sqlite_file import create
    from murmur.kvcore.sqlite_tree import on_disk

    disk = on_disk(storage)
    disk.make_directory(DIRECTORY)
    disk.sync_directory()
    remove_leftovers(disk, LSM)
    create(disk)
    record_backend(disk, SQLITE)


def _is_sqlite(name: str) -> bool:
    return name.startswith("kv.sqlite")


def _is_lsm(name: str) -> bool:
    suffixes = (".sst", ".val", ".sst.tmp", ".val.tmp")
    return name.startswith(("MANIFEST", "RESERVE")) or name.endswith(suffixes)


def _manifest_last(name: str) -> tuple[bool, str]:
    return name.startswith("MANIFEST"), name
