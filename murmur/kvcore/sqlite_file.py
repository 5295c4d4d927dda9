"""The SQLite file of a tree: one table that anybody can read, and one writer.

    tree/kv.sqlite      application_id "MURM", user_version 1, journal_mode WAL
        kv, flushed     the rows, and what was flushed last (sqlite_chain.py)
        registers, rows, records        views for people (sqlite_views.py)

Only Murmur's own connection writes: in all others a trigger refuses. Readers are welcome, at any
time: WAL lets them read beside a flush.

Invariants:
    1. Rows, chain, mark and sequence change in one transaction; COMMIT is followed by a sync.
    2. The file has its name only when it is whole: it is made under another and renamed.
    3. While a connection is open nothing else in this process opens the file: closing any
       descriptor of a file lets go of all locks that the process has on it.
"""

from __future__ import annotations

import errno
import os
import struct
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from murmur.errors import Corruption, InvalidInput, Locked, UnknownFormat
from murmur.kvcore.kernel import Entry
from murmur.kvcore.sqlite_chain import FIRST, Base, Flushed, Merge, flushed_crc, read_flushed
from murmur.kvcore.sqlite_connection import (
    become_writer,
    connect,
    disable_triggers,
    move_log,
    translated,
)
from murmur.kvcore.sqlite_views import VIEWS
from murmur.kvcore.storage import TEMPORARY, DiskStorage, Problem

DIRECTORY = "tree"
NAME = f"{DIRECTORY}/kv.sqlite"
FORMAT = 1  # user_version, on disk
APPLICATION_ID = int.from_bytes(b"MURM")

_HEADER = struct.Struct(">16sH6x4xI")  # magic, page size, ..., pages
_MAGIC = b"SQLite format 3\0"

_REFUSALS = "".join(
    f"CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, "
    "'only Murmur writes here: a change would not be in its log, and never reach a peer'); END;\n"
    for table in ("kv", "flushed")
    for verb in ("insert", "update", "delete")
)
_SCHEMA = f"""
CREATE TABLE kv (
    key BLOB PRIMARY KEY,
    value BLOB NOT NULL,
    crc INTEGER NOT NULL,
    previous INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE flushed (
    sequence INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    last INTEGER NOT NULL,
    mark BLOB NOT NULL,
    crc INTEGER NOT NULL
);
{VIEWS}
{_REFUSALS}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""


class SqliteFile:
    """The owner of the file: its only writer."""

    def __init__(self, storage: DiskStorage, cache_bytes: int) -> None:
        """Open the file, or make an empty one. Raises Corruption, UnknownFormat, OSError."""
        self.path = f"{storage.path}/{NAME}"
        self.storage = storage
        self._cache_bytes = cache_bytes
        self._bases: weakref.WeakSet[Base] = weakref.WeakSet()
        self._writer: Any = None
        storage.make_directory(DIRECTORY)
        if not storage.exists(NAME):
            create(storage)
        _check_header(self.path)
        try:
            with translated(self.path):
                self._writer = writer = connect(self.path, cache_bytes)
                _check_format(writer, self.path)
                become_writer(writer, self.path)
                read_flushed(writer, self.path)
        except BaseException:
            self.close()
            raise

    def base(self) -> Base:
        """What the file holds now."""
        base = Base(self.path, self._cache_bytes)
        self._bases.add(base)
        return base

    def flush(self, entries: Iterable[Entry], sequence: int, mark: bytes) -> int:
        """Write entries, in order of their keys, with their mark: durably, all or nothing.

        The bytes written. After an OSError with ENOSPC, and after Locked, all is as before; any
        other error leaves it open what the disk holds.
        """
        with translated(self.path), self._transaction() as writer:
            before = read_flushed(writer, self.path)
            merge = Merge(writer, before)
            try:
                merge.run(entries)
            except TypeError as error:
                raise Corruption(self.path, 0, f"kv, a row has other types: {error}") from error
            after = Flushed(sequence, merge.entries, merge.last, mark)
            writer.execute(
                "UPDATE flushed SET sequence = ?, entries = ?, last = ?, mark = ?, crc = ?",
                (*after, flushed_crc(after)),
            )
        return merge.bytes

    def settle(self) -> bool:
        """Move what was flushed out of the write-ahead log; whether readers let all of it go."""
        try:
            with translated(self.path):
                pages, moved = move_log(self._writer)
        except Locked:
            return False  # it stays where it is, durable and readable
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        return pages == moved

    def compact(self) -> None:
        """Write the file anew, without its holes."""
        with translated(self.path):
            self._writer.execute("VACUUM")

    def copy_to(self, target: DiskStorage) -> None:
        """Make the same file in another directory, durably, as of the last flush."""
        if target.exists(NAME):
            raise InvalidInput(f"{target.path} holds a tree already")
        target.make_directory(DIRECTORY)
        target.sync_directory()
        temporary = NAME + TEMPORARY
        _remove_if_there(target, temporary)
        with translated(self.path):
            self._writer.execute("VACUUM INTO ?", (f"{target.path}/{temporary}",))
        _install(target, temporary)

    def check(self) -> Iterator[Problem]:
        """Verify everything: SQLite's structures, every row, the chain, the counts."""
        if not os.path.exists(self.path):
            yield Problem(self.path, 0, "missing")
            return
        try:
            base = self.base()
        except Corruption as error:
            yield Problem(error.path, error.offset, error.reason)
            return
        try:
            yield from (Problem(self.path, 0, text) for text in base.integrity())
            count = 0
            for rows in base.scan(b"", None):
                count += len(rows)
            if count != base.flushed.entries:
                reason = f"kv has {count:,} rows, {base.flushed.entries:,} were written"
                yield Problem(self.path, 0, reason)
        except Corruption as error:
            yield Problem(error.path, error.offset, error.reason)
        finally:
            base.close()

    def size(self) -> int:
        """The bytes of the file and of its write-ahead log."""
        return sum(
            os.stat(name).st_size
            for name in (self.path, f"{self.path}-wal")
            if os.path.exists(name)
        )

    def close(self) -> None:
        """Let go of the file, and of every base that is still held."""
        for base in list(self._bases):
            base.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        writer = self._writer
        writer.execute("BEGIN IMMEDIATE")
        try:
            yield writer
            writer.execute("COMMIT")
        finally:
            if writer.in_transaction:  # SQLite may have rolled back of itself
                writer.execute("ROLLBACK")


def create(storage: DiskStorage) -> None:
    """Make an empty file in the tree's directory, durably."""
    temporary = NAME + TEMPORARY
    for name in (temporary, f"{temporary}-journal"):
        _remove_if_there(storage, name)
    path = f"{storage.path}/{temporary}"
    flags = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o600))  # SQLite would let the umask decide
    with translated(path):
        connection = connect(path, 0)
        try:
            connection.execute(f"BEGIN; {_SCHEMA}")
            empty = Flushed(0, 0, FIRST, b"")
            disable_triggers(connection)
            connection.execute(
                "INSERT INTO flushed VALUES (?, ?, ?, ?, ?)", (*empty, flushed_crc(empty))
            )
            connection.execute("COMMIT")
        finally:
            connection.close()
    _install(storage, temporary)


def _install(storage: DiskStorage, temporary: str) -> None:
    file = storage.append(temporary)
    try:
        file.sync()
    finally:
        file.close()
    storage.rename(temporary, NAME)
    storage.sync_directory(DIRECTORY)


def _remove_if_there(storage: DiskStorage, name: str) -> None:
    if storage.exists(name):
        storage.remove(name)


def _check_header(path: str) -> None:
    """See what SQLite would take for an empty or another file, or would not look at.

    Before SQLite opens it: closing a file lets go of all locks that the process has on it.
    """
    with open(path, "rb") as file:
        header = file.read(100)
        size = os.fstat(file.fileno()).st_size
    if len(header) < 100:
        raise Corruption(path, len(header), "the file ends within its header")
    magic, page_size, pages = _HEADER.unpack_from(header)
    if magic != _MAGIC:
        raise Corruption(path, 0, "not an SQLite file: the magic bytes are missing")
    whole = (65536 if page_size == 1 else page_size) * pages
    wal = f"{path}-wal"
    if size < whole and not (os.path.exists(wal) and os.stat(wal).st_size):
        raise Corruption(path, size, f"the file ends before its {pages} pages do")


def _check_format(connection: Any, path: str) -> None:
    if connection.pragma("application_id") != APPLICATION_ID:
        raise Corruption(path, 68, "it is not Murmur's: its application_id is another")
    version = connection.pragma("user_version")
    if version != FORMAT:
        raise UnknownFormat(path, 60, f"format {version} of kv.sqlite, this release reads {FORMAT}")
