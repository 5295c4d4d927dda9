"""The SQLite file of a tree: one table that anybody can read, in which every row knows its place.

    tree/kv.sqlite      application_id "MURM", user_version 1, journal_mode WAL

    kv(key BLOB PRIMARY KEY, value BLOB, crc INTEGER, previous INTEGER) WITHOUT ROWID
        crc         CRC-32 of (length of the key u32 | key | value) xor CRC-32 of (previous u32)
        previous    link(the key before this one) = CRC-32 of it, begun with 1; 0 in the first row
    flushed(sequence, entries, last, mark, crc)                           one row
        entries     how many rows kv has           last    link(the last key); 0 if there is none
        mark        what the tree was flushed with (mark.py)
        crc         CRC-32 of (sequence u64 | entries u64 | last u32 | mark)

SQLite has no checksums: of damaged files, 27 % were read as wrong data and 24 % as an older or
emptier store, without an error. Its checksum VFS would help readers who have that VFS, and take
any other reader's checkpoint for damage. So a row carries its own: `crc` vouches for key and value,
`previous` for the absence of others. A hit is compared with its crc. A miss, and both ends of a
scan, with the neighbours: what stands to the right must name what stands to the left. A row that is
lost, or put there by somebody else, breaks the chain, wherever the damage was, and reading raises
Corruption. (One thing passes: a page as it was before the last flush.) For a flush the chain costs
one more statement per key that is new or goes; keys that arrive together share it.

Only Murmur's own connection writes: in all others a trigger refuses. Readers are welcome, at any
time: WAL lets them read beside a flush.

A *base* is what the file held at one moment: a read transaction on a connection of its own.

Invariants:
    1. Rows, chain, mark and sequence change in one transaction; COMMIT is followed by a sync.
    2. The file has its name only when it is whole: it is made under another and renamed.

This is apsw's only door.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

import apsw

from murmur.errors import ChecksumMismatch, Closed, Corruption, InvalidInput, Locked, UnknownFormat
from murmur.kvcore.kernel import Entry
from murmur.kvcore.sqlite_views import VIEWS
from murmur.kvcore.storage import TEMPORARY, DiskStorage, Problem

DIRECTORY = "tree"
NAME = f"{DIRECTORY}/kv.sqlite"
FORMAT = 1  # user_version, on disk
APPLICATION_ID = int.from_bytes(b"MURM")
FIRST = 0  # `previous` of the first row
BUSY_MS = 5000  # how long to wait for another program that writes
SHORT, LONG = 4, 512  # rows of the first and of a late piece of a scan: most scans are short
PIECE_BYTES = 1 << 20  # about; a piece of a scan has at least one row
WAL_BYTES = 64 << 20  # what SQLite's log is cut to when it begins anew
WORST = 100  # problems that a check lists

Row: TypeAlias = tuple[bytes, bytes, int, int]  # key, value, crc, previous

_HEADER = struct.Struct(">16sH6x4xI")  # magic, page size, ..., pages
_MAGIC = b"SQLite format 3\0"
_FLUSHED = struct.Struct("<QQI")

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

_TYPES = [bytes, bytes, int]
_ROW = "SELECT key, value, crc, previous FROM kv WHERE "
_AT_OR_AFTER = _ROW + "key >= ? ORDER BY key LIMIT 1"
_BEFORE = "SELECT key FROM kv WHERE key < ? ORDER BY key DESC LIMIT 1"
_FROM = _ROW + "key >= ? ORDER BY key LIMIT ?"
_FROM_TO = _ROW + "key >= ? AND key < ? ORDER BY key LIMIT ?"
_DOWN = _ROW + "key >= ? ORDER BY key DESC LIMIT ?"
_DOWN_FROM = _ROW + "key >= ? AND key < ? ORDER BY key DESC LIMIT ?"
_PLACE = "SELECT key, previous, crc FROM kv WHERE key >= ? ORDER BY key LIMIT 2"


class Flushed(NamedTuple):
    """What one flush left behind."""

    sequence: int
    entries: int
    last: int
    mark: bytes


def link(key: object) -> int:
    """What the next row says of this key; no row says it of one that is not bytes."""
    return crc32(key, 1) if type(key) is bytes else -1


def checksum(key: bytes, value: bytes, previous: int) -> int:
    """A row's crc."""
    return crc32(value, crc32(key, crc32(len(key).to_bytes(4, "little")))) ^ _share(previous)


def _share(previous: int) -> int:
    """The share of `previous` in a row's crc: that can be exchanged without reading the value."""
    return crc32((previous & 0xFFFFFFFF).to_bytes(4, "little"))


class Base:
    """What the file holds, as of now and until `close`. For any number of threads."""

    def __init__(self, path: str, cache_bytes: int) -> None:
        self.path = path
        self._lock = threading.Lock()
        with _translated(path):
            self._connection = _connect(path, cache_bytes)
            self._connection.execute("PRAGMA query_only = 1")
        self.flushed = self._begin()

    def get(self, key: bytes) -> bytes | None:
        """The value of the key, None if it has none."""
        row = self._at_or_after(key)
        if row is not None and row[0] == key:
            return row[1]
        self._joined(self._before(key), row)
        return None

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[Sequence[Row]]:
        """The rows with start <= key < stop (None: no bound), in pieces, in order or against it."""
        return self._scan_down(start, stop) if reverse else self._scan_up(start, stop)

    def refresh(self) -> None:
        """Read the file as it is now. Only where it holds nothing new: then nobody can tell."""
        with self._lock, _translated(self.path):
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        flushed = self._begin()
        if flushed != self.flushed:
            raise Corruption(self.path, 0, "another program has written into it")

    def integrity(self) -> list[str]:
        """What SQLite's own check finds."""
        rows = self._rows(f"PRAGMA integrity_check({WORST})", ())
        return [str(text) for (text,) in rows if text != "ok"]

    def cached_bytes(self) -> int:
        """What its page cache takes."""
        with self._lock:
            if self._connection is None:
                return 0
            used: int = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)[0]
            return used

    def close(self) -> None:
        """Let go of the file; reading raises Closed. Closing again does nothing."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _begin(self) -> Flushed:
        with self._lock, _translated(self.path):
            self._connection.execute("BEGIN")
            return _read_flushed(self._connection, self.path)

    def _rows(self, sql: str, bindings: tuple[object, ...]) -> list[Any]:
        with self._lock:
            if self._connection is None:
                raise Closed(f"{self.path} is closed")
            try:
                rows: list[Any] = self._connection.execute(sql, bindings).fetchall()
            except (apsw.Error, UnicodeDecodeError) as error:
                raise _error(error, self.path) from error
        return rows

    def _at_or_after(self, key: bytes) -> Row | None:
        rows: list[Row] = self._rows(_AT_OR_AFTER, (key,))
        self._sound(rows)
        return rows[0] if rows else None

    def _before(self, key: bytes) -> object:
        rows = self._rows(_BEFORE, (key,))
        return rows[0][0] if rows else None

    def _scan_up(self, start: bytes, stop: bytes | None) -> Iterator[Sequence[Row]]:
        last = self._before(start)
        limit, low = SHORT, start
        while True:
            sql, bounds = (_FROM, (low,)) if stop is None else (_FROM_TO, (low, stop))
            rows: list[Row] = self._rows(sql, (*bounds, limit))
            if rows:
                self._sound(rows)
                self._joined(last, rows[0])
                self._chained(rows)
                last = rows[-1][0]
                low = rows[-1][0] + b"\0"
                yield rows
            if len(rows) < limit:
                break
            limit = _next_limit(rows)
        self._joined(last, None if stop is None else self._at_or_after(stop))

    def _scan_down(self, start: bytes, stop: bytes | None) -> Iterator[Sequence[Row]]:
        first = None if stop is None else self._at_or_after(stop)
        limit, high = SHORT, stop
        while True:
            sql, bounds = (_DOWN, (start,)) if high is None else (_DOWN_FROM, (start, high))
            rows: list[Row] = self._rows(sql, (*bounds, limit))
            if rows:
                self._sound(rows)
                self._joined(rows[0][0], first)
                self._chained(rows[::-1])
                first = rows[-1]
                high = first[0]
                yield rows
            if len(rows) < limit:
                break
            limit = _next_limit(rows)
        self._joined(self._before(start), first)

    def _sound(self, rows: Sequence[Row]) -> None:
        """Compare rows with their checksums."""
        for key, value, crc, previous in rows:
            if [type(key), type(value), type(previous)] != _TYPES or crc != checksum(
                key, value, previous
            ):
                raise ChecksumMismatch(self.path, 0, f"kv, key {_shown(key)}: its crc differs")

    def _chained(self, rows: Sequence[Row]) -> None:
        """See that rows, ascending, follow one another."""
        for left, right in pairwise(rows):
            if right[3] != link(left[0]):
                self._broken(right)

    def _joined(self, left: object, right: Row | None) -> None:
        """See that nothing is missing between a key and a row, before the first, after the last."""
        said = self.flushed.last if right is None else right[3]
        if said != (FIRST if left is None else link(left)):
            self._broken(right)

    def _broken(self, right: Row | None) -> None:
        place = "at the end" if right is None else f"before key {_shown(right[0])}"
        raise Corruption(self.path, 0, f"kv, {place}: rows are missing, or were put there")


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
            with _translated(self.path):
                self._writer = writer = _connect(self.path, cache_bytes)
                _check_format(writer, self.path)
                writer.pragma("journal_mode", "wal")
                writer.pragma("wal_autocheckpoint", 0)
                writer.pragma("journal_size_limit", WAL_BYTES)
                writer.pragma("synchronous", "full")
                writer.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
                _read_flushed(writer, self.path)
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
        with _translated(self.path), self._transaction() as writer:
            before = _read_flushed(writer, self.path)
            merge = _Merge(writer, before)
            try:
                merge.run(entries)
            except TypeError as error:
                raise Corruption(self.path, 0, f"kv, a row has other types: {error}") from error
            after = Flushed(sequence, merge.entries, merge.last, mark)
            writer.execute(
                "UPDATE flushed SET sequence = ?, entries = ?, last = ?, mark = ?, crc = ?",
                (*after, _flushed_crc(after)),
            )
        return merge.bytes

    def settle(self) -> bool:
        """Move what was flushed out of the write-ahead log; whether readers let all of it go."""
        try:
            with _translated(self.path):
                frames, moved = self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (Locked, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOSPC:
                raise
            return False  # it stays where it is, durable and readable
        return bool(frames == moved)

    def compact(self) -> None:
        """Write the file anew, without its holes."""
        with _translated(self.path):
            self._writer.execute("VACUUM")

    def copy_to(self, target: DiskStorage) -> None:
        """Make the same file in another directory, durably, as of the last flush."""
        if target.exists(NAME):
            raise InvalidInput(f"{target.path} holds a tree already")
        target.make_directory(DIRECTORY)
        target.sync_directory()
        temporary = NAME + TEMPORARY
        _remove_if_there(target, temporary)
        with _translated(self.path):
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


class _Merge:
    """Entries in key order on their way into kv.

    Between two rows is a gap. A gap is looked up once; keys that are new and fall into the same gap
    are chained to one another, and the row on its right side is told at the end.
    """

    def __init__(self, writer: Any, flushed: Flushed) -> None:
        self._execute = writer.execute
        self.entries = flushed.entries
        self.last = flushed.last
        self.bytes = 0
        self._left = FIRST  # the link of what stands left of the gap
        self._right: bytes | None = b""  # the key on its right; None: the end
        self._right_crc = 0  # that row's crc, but for the share of its `previous`
        self._told = True  # whether the right side names the left one

    def run(self, entries: Iterable[Entry]) -> None:
        """Write them all."""
        execute = self._execute
        for key, value in entries:
            right = self._right
            present = False if right is None or key < right else self._go_to(key)
            if value is not None:
                crc = checksum(key, value, self._left)
                if present:
                    sql = "UPDATE kv SET value = ?, crc = ? WHERE key = ?"
                    execute(sql, (value, crc, key))
                else:
                    execute("INSERT INTO kv VALUES (?, ?, ?, ?)", (key, value, crc, self._left))
                    self.entries += 1
                self._left = link(key)
                self._told = present
                self.bytes += len(key) + len(value)
            elif present:
                execute("DELETE FROM kv WHERE key = ?", (key,))
                self.entries -= 1
                self._told = False
        self._tell()

    def _go_to(self, key: bytes) -> bool:
        """Leave the gap for that of the key, or for that after it, if a row has it."""
        self._tell()
        rows = self._execute(_PLACE, (key,)).fetchall()
        present = bool(rows) and rows[0][0] == key
        self._left = rows[0][1] if rows else self.last
        beyond = rows[1:] if present else rows
        if beyond:
            self._right, previous, crc = beyond[0]
            self._right_crc = crc ^ _share(previous)
        else:
            self._right = None
        return present

    def _tell(self) -> None:
        if self._told:
            return
        if self._right is None:
            self.last = self._left
        else:
            crc = self._right_crc ^ _share(self._left)
            sql = "UPDATE kv SET previous = ?, crc = ? WHERE key = ?"
            self._execute(sql, (self._left, crc, self._right))
        self._told = True


def create(storage: DiskStorage) -> None:
    """Make an empty file in the tree's directory, durably."""
    temporary = NAME + TEMPORARY
    for name in (temporary, f"{temporary}-journal"):
        _remove_if_there(storage, name)
    path = f"{storage.path}/{temporary}"
    flags = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o600))  # SQLite would let the umask decide
    with _translated(path):
        connection = _connect(path, 0)
        try:
            connection.execute(f"BEGIN; {_SCHEMA}")
            empty = Flushed(0, 0, FIRST, b"")
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
            connection.execute(
                "INSERT INTO flushed VALUES (?, ?, ?, ?, ?)", (*empty, _flushed_crc(empty))
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


def _connect(path: str, cache_bytes: int) -> Any:
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_MS)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.execute(
        "PRAGMA trusted_schema = 0; PRAGMA cell_size_check = 1; PRAGMA mmap_size = 0; "
        f"PRAGMA cache_size = -{cache_bytes >> 10}"
    )
    return connection


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


def _read_flushed(connection: Any, path: str) -> Flushed:
    rows = connection.execute("SELECT sequence, entries, last, mark, crc FROM flushed").fetchall()
    if len(rows) == 1:
        *facts, crc = rows[0]
        if [type(fact) for fact in facts] == [int, int, int, bytes]:
            flushed = Flushed(*facts)
            if min(flushed[:3]) >= 0 and _flushed_crc(flushed) == crc:
                return flushed
    raise ChecksumMismatch(path, 0, "flushed does not have its checksum")


def _flushed_crc(flushed: Flushed) -> int:
    sequence, entries, last, mark = flushed
    return crc32(mark, crc32(_FLUSHED.pack(sequence, entries, last & 0xFFFFFFFF)))


def _next_limit(rows: Sequence[Row]) -> int:
    size = sum(len(row[1]) for row in rows) // len(rows) + 1
    return max(1, min(4 * len(rows), LONG, PIECE_BYTES // size))


def _shown(key: object) -> str:
    if type(key) is not bytes:
        return f"{key!r:.40}, no BLOB"
    return f"x'{key[:32].hex()}'" + ("…" if len(key) > 32 else "")


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:  # a BLOB whose type became TEXT
        raise _error(error, path) from error


def _error(error: Exception, path: str) -> Exception:
    """SQLite's error, as what the caller does next."""
    match error:
        case apsw.FullError():
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        case apsw.NoMemError():
            return MemoryError()
        case apsw.BusyError() | apsw.LockedError():
            return Locked(f"{path} is being written by another program")
        case apsw.CantOpenError() if not os.path.exists(path):
            return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        case apsw.CantOpenError() | apsw.PermissionsError():
            return PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        case apsw.ReadOnlyError():
            return OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        case apsw.IOError() if _extended(error) != apsw.SQLITE_IOERR_SHORT_READ:
            return OSError(errno.EIO, f"{os.strerror(errno.EIO)} ({error})", path)
    return Corruption(path, 0, f"SQLite: {error}")


def _extended(error: Exception) -> int:
    return getattr(error, "extendedresult", 0)
