"""Connections to SQLite: how they are set up, and what their errors mean. apsw's only door.

    full disk               OSError, ENOSPC        another program writes    Locked
    SQLite finds damage     Corruption             no memory                 MemoryError
    the disk fails          OSError, EIO

SQLite's own fsyncs are those of a writer with synchronous=FULL. mmap stays off: in a mapped file
that somebody truncates, reading ends the process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from murmur.errors import Corruption, Locked

BUSY_MS = 5000  # how long to wait for another program that writes
WAL_BYTES = 64 << 20  # what SQLite's log is cut to when it begins anew


def connect(path: str, cache_bytes: int) -> Any:
    """A connection to an existing file."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_MS)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.execute(
        "PRAGMA trusted_schema = 0; PRAGMA cell_size_check = 1; PRAGMA mmap_size = 0; "
        f"PRAGMA cache_size = -{cache_bytes >> 10}"
    )
    return connection


def connect_reader(path: str, cache_bytes: int) -> Any:
    """A connection that writes nothing."""
    connection = connect(path, cache_bytes)
    connection.execute("PRAGMA query_only = 1")
    return connection


def become_writer(connection: Any, path: str) -> None:
    """Let a connection write, beside readers, durably at each commit, and past the triggers."""
    if connection.pragma("journal_mode", "wal") != "wal":
        raise OSError(errno.ENOTSUP, "this file system cannot hold SQLite's write-ahead log", path)
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("journal_size_limit", WAL_BYTES)
    connection.pragma("synchronous", "full")
    disable_triggers(connection)


def disable_triggers(connection: Any) -> None:
    """Let this connection write where triggers refuse all others."""
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)


def move_log(connection: Any) -> tuple[int, int]:
    """Move what no reader holds back from SQLite's log to the file: the log's pages, and moved."""
    pages: tuple[int, int] = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    return pages


def cached_bytes(connection: Any) -> int:
    """What the connection's page cache takes."""
    used: int = connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)[0]
    return used


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise what SQLite raises as what the caller does next."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:  # a BLOB whose type became TEXT
        raise error_of(error, path) from error


def error_of(error: Exception, path: str) -> Exception:
    """What SQLite's error means, as an exception."""
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
