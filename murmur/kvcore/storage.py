"""Storage: one directory of files, and the only way in which the key-value core touches a disk.

A `Storage` is a small Protocol with two twins that pass one test suite: `DiskStorage` here, and
`MemoryStorage`, whose power can be cut. Names are relative and '/'-separated ("log/0000.log").

What is durable, on both twins:

    create, write           the bytes reached the operating system: a killed process loses nothing
    AppendFile.sync         the bytes written so far survive a power cut, if the name does
    create, rename, remove, link, make_directory
                            volatile until sync_directory(the directory that holds the name)

So a new file is safe after `sync` *and* `sync_directory`, in this order, as in `write_atomically`:

    name.tmp: create, write, sync, close    rename name.tmp -> name    sync_directory

Invariants: `write` hands over everything or raises; a failure may leave a prefix behind, which
`tell` tells and `truncate` cuts. A failed `sync` leaves it unknown what is on the disk, and calling
it again proves nothing (Rebello et al., ATC 2020): whoever sees one stops writing.

OSErrors pass through untouched; a name that leaves the directory is a bug.
"""

# ruff: noqa: D102 - the Protocols say what the methods of the twins do

from __future__ import annotations

import errno
import fcntl
import os
import posixpath
import struct
import weakref
from typing import NamedTuple, Protocol

from murmur.errors import Locked

TEMPORARY = ".tmp"  # the end of a name that is not yet the real one
UNKNOWN = -1
FULL = {errno.ENOSPC, errno.EDQUOT}  # of an OSError: there is no room on the disk
_NO_SUCH_OPERATION = {
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.EINVAL,
    errno.ENODEV,
    errno.EBADF,
}
READ_LIMIT = 1 << 30  # one read(2) on Linux returns at most 2 GiB - 4 KiB


class Problem(NamedTuple):
    """What a check found wrong in a file."""

    path: str
    offset: int
    reason: str


class AppendFile(Protocol):
    """A file open for writing at its end."""

    name: str

    def write(self, data: bytes) -> None:
        """Append all of the data, or raise OSError with a prefix of it written."""
        ...

    def tell(self) -> int:
        """Where the next write goes: the end of the file, but for what was preallocated."""
        ...

    def size(self) -> int:
        """The size of the file now, with what was preallocated."""
        ...

    def preallocate(self, size: int) -> None:
        """Let the file have at least this size, with zeros that take their room on the disk now.

        Writes go on where they were. OSError if the disk is too full (the file may have grown by
        some zeros), or with `cannot_preallocate` if this file system has no such operation.
        """
        ...

    def sync(self) -> None:
        """Make what was written durable; any failure raises OSError."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to this size; the next write goes there."""
        ...

    def close(self) -> None:
        """Let go of the file; does not sync. Closing again does nothing."""
        ...


class ReadFile(Protocol):
    """A file open for reading at any offset, by any number of threads."""

    name: str

    def read(self, offset: int, length: int) -> bytes:
        """The bytes there: fewer than `length` only at the end of the file."""
        ...

    def size(self) -> int:
        """The size of the file now."""
        ...

    def close(self) -> None:
        """Let go of the file. Closing again does nothing."""
        ...


class Lock(Protocol):
    """The ownership of a directory."""

    def close(self) -> None:
        """Give it up. Closing again does nothing."""
        ...


class Storage(Protocol):
    """One directory."""

    path: str
    preallocates: bool  # whether files that grow for long should be preallocated

    def create(self, name: str) -> AppendFile:
        """A new, empty file; FileExistsError if there is one."""
        ...

    def append(self, name: str) -> AppendFile:
        """An existing file, to write at its end."""
        ...

    def open(self, name: str) -> ReadFile:
        """An existing file, to read. It stays readable after it is renamed or removed."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, atomically; an old target is replaced."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file."""
        ...

    def link(self, source: str, target: Storage, name: str) -> None:
        """Give a file a second name in the same or another storage of this kind (a hard link)."""
        ...

    def list(self, directory: str = "") -> list[str]:
        """The names of the files in a directory, sorted; subdirectories are left out."""
        ...

    def exists(self, name: str) -> bool:
        """Whether a file or directory has this name."""
        ...

    def make_directory(self, name: str) -> None:
        """Make a directory in an existing one; it may be there already."""
        ...

    def sync_directory(self, directory: str = "") -> None:
        """Make the names in a directory durable."""
        ...

    def lock(self, name: str = "LOCK") -> Lock:
        """Own the directory; `Locked` names the pid of who does, be it this very process."""
        ...

    def identity(self, name: str) -> bytes:
        """16 bytes that a copy of the file does not share: its file system and its inode."""
        ...

    def at(self, directory: str) -> Storage:
        """Storage of the same kind in another directory (relative to this, or absolute)."""
        ...


def write_atomically(storage: Storage, name: str, data: bytes) -> None:
    """Replace a file durably: whoever reads it, now or after a crash, sees all of one version."""
    replace(storage, name, data)
    storage.sync_directory(posixpath.dirname(name))


def replace(storage: Storage, name: str, data: bytes) -> None:
    """`write_atomically` but for the last step: until `sync_directory`, a crash may undo it."""
    storage.rename(write_beside(storage, name, data), name)


def write_beside(storage: Storage, name: str, data: bytes) -> str:
    """Write what is to replace a file, durably, under the name that is returned."""
    temporary = name + TEMPORARY
    if storage.exists(temporary):  # of a writer that did not live to rename it
        storage.remove(temporary)
    file = storage.create(temporary)
    try:
        file.write(data)
        file.sync()
    except OSError:
        storage.remove(temporary)
        raise
    finally:
        file.close()
    return temporary


def cannot_preallocate(error: OSError) -> bool:
    """Whether a failed `preallocate` will never succeed here."""
    return error.errno in _NO_SUCH_OPERATION


def read_whole(storage: Storage, name: str) -> bytes:
    """The content of a file."""
    file = storage.open(name)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


class DiskStorage:
    """A directory of the operating system. Files are created 0600, directories 0700."""

    preallocates = True

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        self.path = os.path.abspath(path)
        if create:
            _make_directories(self.path)
        elif not os.path.isdir(self.path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)

    def create(self, name: str) -> AppendFile:
        return _DiskAppendFile(self._full(name), name, os.O_CREAT | os.O_EXCL)

    def append(self, name: str) -> AppendFile:
        return _DiskAppendFile(self._full(name), name, 0)

    def open(self, name: str) -> ReadFile:
        return _DiskReadFile(self._full(name), name)

    def rename(self, source: str, target: str) -> None:
        os.replace(self._full(source), self._full(target))

    def remove(self, name: str) -> None:
        os.unlink(self._full(name))

    def link(self, source: str, target: Storage, name: str) -> None:
        os.link(self._full(source), _inside(target.path, name))

    def list(self, directory: str = "") -> list[str]:
        with os.scandir(self._full(directory)) as entries:
            return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))

    def exists(self, name: str) -> bool:
        return os.path.exists(self._full(name))

    def make_directory(self, name: str) -> None:
        try:
            os.mkdir(self._full(name), 0o700)
        except FileExistsError:
            if not os.path.isdir(self._full(name)):
                raise

    def sync_directory(self, directory: str = "") -> None:
        _sync_directory(self._full(directory))

    def lock(self, name: str = "LOCK") -> Lock:
        return _DiskLock(self._full(name), self.path)

    def identity(self, name: str) -> bytes:
        # Not st_dev: device numbers may change with a reboot, the file system's id does not.
        path = self._full(name)
        return struct.pack(">QQ", os.statvfs(path).f_fsid, os.stat(path).st_ino)

    def at(self, directory: str) -> DiskStorage:
        return DiskStorage(os.path.join(self.path, directory))

    def _full(self, name: str) -> str:
        return _inside(self.path, name)


class _DiskAppendFile:
    def __init__(self, path: str, name: str, flags: int) -> None:
        self.name = name
        # O_APPEND: after a truncate the next write lands at the new end. Readable, to be mapped.
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
        self._end = os.fstat(self._fd).st_size  # where the next write goes
        self._preallocated = False

    def write(self, data: bytes) -> None:
        at = self.tell()
        self._end = UNKNOWN  # should an exception come between the system call and the sum
        written = self._write(data, at)  # Python itself retries EINTR
        if written < len(data):  # a full disk or a signal: try the rest, so as to learn the error
            rest = memoryview(data)[written:]
            while rest:
                rest = rest[self._write(rest, at + len(data) - len(rest)) :]
        self._end = at + len(data)

    def tell(self) -> int:
        if self._end == UNKNOWN:
            self._end = self.size()
        return self._end

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def preallocate(self, size: int) -> None:
        at = self.tell()
        if not self._preallocated:
            # O_APPEND would write behind the zeros, whatever position pwrite names.
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_APPEND)
            self._preallocated = True
        if not hasattr(os, "posix_fallocate"):  # macOS
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), self.name)
        os.posix_fallocate(self._fd, 0, size)
        self._end = at

    def sync(self) -> None:
        _sync_data(self._fd)

    def truncate(self, size: int) -> None:
        self._end = UNKNOWN
        os.ftruncate(self._fd, size)
        self._end = size

    def fileno(self) -> int:
        """The descriptor, for the native kernel; it is this object's to close."""
        return self._fd

    def close(self) -> None:
        # Forget the number first: it belongs to another file as soon as it is closed.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write(self, data: bytes | memoryview, at: int) -> int:
        return os.pwrite(self._fd, data, at) if self._preallocated else os.write(self._fd, data)


class _DiskReadFile:
    def __init__(self, path: str, name: str) -> None:
        self.name = name
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._fd, min(length, READ_LIMIT), offset)
        except OSError as error:
            error.filename = self.name
            raise
        if len(data) == length or not data:
            return data
        parts = [data]
        while data and length > len(data):
            offset += len(data)
            length -= len(data)
            data = os.pread(self._fd, min(length, READ_LIMIT), offset)
            parts.append(data)
        return b"".join(parts)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def fileno(self) -> int:
        """The descriptor, for the native kernel; it is this object's to close."""
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _DiskLock:
    """flock(2) holds while the descriptor is open, so it ends with the process, however that ends.

    A fork copies the descriptor, and with it the lock: the child closes its copy at once, so that
    the directory is free when the owner has let go of it, whatever became of the child.

    The pid in the file only serves the message. The file stays: removing it would let two
    processes lock two files of one name.
    """

    def __init__(self, path: str, directory: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.pwrite(fd, b"%d\n" % os.getpid(), 0)
            if os.fstat(fd).st_size > size:  # cutting takes milliseconds where it frees blocks
                os.ftruncate(fd, size)
        except BlockingIOError:
            owner, _, _ = os.pread(fd, 32, 0).decode("ascii", "replace").partition("\n")
            os.close(fd)
            raise locked(directory, owner) from None
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._pid = os.getpid()
        _locks.add(self)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if os.getpid() == self._pid:
            # Closing would leave the lock with a child that has not come to close its copy yet;
            # in the child, unlocking would take it from the parent.
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _after_fork() -> None:
    for lock in tuple(_locks):
        lock.close()


_locks: weakref.WeakSet[_DiskLock] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)


def locked(directory: str, owner: str) -> Locked:
    """The error for a directory that has an owner; the text of a lock file names its pid."""
    if owner == str(os.getpid()):
        return Locked(f"{directory} is already open in this process (pid {owner})")
    return Locked(f"{directory} is in use by process {owner or '(pid not yet written)'}")


def _inside(path: str, name: str) -> str:
    assert not name.startswith("/"), name
    assert ".." not in name.split("/"), name
    return os.path.join(path, name) if name else path


def _make_directories(path: str) -> None:
    """Make a directory and the parents that it lacks, each durably."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            if not os.path.isdir(directory):
                raise
        _sync_directory(os.path.dirname(directory))


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_data(fd: int) -> None:
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the drive's cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)
