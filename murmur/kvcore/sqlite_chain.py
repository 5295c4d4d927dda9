"""Rows of the SQLite file, each of which knows its place.

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

    a -> previous 0     c -> previous link(a)     get(b): c names a, so there is no b

Invariant: a row's `previous`, and at the end `last`, is the link of the key that precedes it.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

from murmur.errors import ChecksumMismatch, Closed, Corruption
from murmur.kvcore.kernel import Entry
from murmur.kvcore.sqlite_connection import cached_bytes, connect_reader, translated

FIRST = 0  # `previous` of the first row
SHORT, LONG = 4, 512  # rows of the first and of a late piece of a scan: most scans are short
PIECE_BYTES = 1 << 20  # about; a piece of a scan has at least one row
WORST = 100  # problems that a check lists

Row: TypeAlias = tuple[bytes, bytes, int, int]  # key, value, crc, previous

_FLUSHED = struct.Struct("<QQI")
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
    """What the file held at one moment: a read transaction on a connection of its own.

    For any number of threads, until `close`.
    """

    def __init__(self, path: str, cache_bytes: int) -> None:
        self.path = path
        self._lock = threading.Lock()
        with translated(path):
            self._connection = connect_reader(path, cache_bytes)
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
        with self._lock, translated(self.path):
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
            return cached_bytes(self._connection)

    def close(self) -> None:
        """Let go of the file; reading raises Closed. Closing again does nothing."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _begin(self) -> Flushed:
        with self._lock, translated(self.path):
            self._connection.execute("BEGIN")
            return read_flushed(self._connection, self.path)

    def _rows(self, sql: str, bindings: tuple[object, ...]) -> list[Any]:
        with self._lock:
            if self._connection is None:
                raise Closed(f"{self.path} is closed")
            with translated(self.path):
                rows: list[Any] = self._connection.execute(sql, bindings).fetchall()
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


class Merge:
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


def read_flushed(connection: Any, path: str) -> Flushed:
    """What the last flush left behind. Raises ChecksumMismatch."""
    rows = connection.execute("SELECT sequence, entries, last, mark, crc FROM flushed").fetchall()
    if len(rows) == 1:
        *facts, crc = rows[0]
        if [type(fact) for fact in facts] == [int, int, int, bytes]:
            flushed = Flushed(*facts)
            if min(flushed[:3]) >= 0 and flushed_crc(flushed) == crc:
                return flushed
    raise ChecksumMismatch(path, 0, "flushed does not have its checksum")


def flushed_crc(flushed: Flushed) -> int:
    """Its crc."""
    sequence, entries, last, mark = flushed
    return crc32(mark, crc32(_FLUSHED.pack(sequence, entries, last & 0xFFFFFFFF)))


def _next_limit(rows: Sequence[Row]) -> int:
    size = sum(len(row[1]) for row in rows) // len(rows) + 1
    return max(1, min(4 * len(rows), LONG, PIECE_BYTES // size))


def _shown(key: object) -> str:
    if type(key) is not bytes:
        return f"{key!r:.40}, no BLOB"
    return f"x'{key[:32].hex()}'" + ("…" if len(key) > 32 else "")
