"""MemoryStorage: the twin of DiskStorage that forgets, at a power cut, what was not synced.

Tests run a workload on it, cut the power, and open what is left:

    storage = MemoryStorage()
    storage.cut_power(at=17)          # operation 17 and all later ones raise PowerCut
    ...                               # the workload, until PowerCut
    survivor = storage.crash(Random(seed))

    crash(rng)     power cut: what was synced, and a random choice of the rest (see memory_disk.py)
    crash(None)    power cut: what was synced and nothing else
    clone()        process kill: everything written is there, and nobody holds a lock
    copy()         cp -a: the same with other identities
    watch(see)     see() before every operation: crash() there is a power cut at it
    fail(...)      chosen operations raise an OSError; a write may get half-way first
    limit(...)     the disk is full at so many bytes

A crash leaves its source as it was, so that one run serves many seeds. Safe for threads.
"""

# ruff: noqa: D102 - the Protocols in storage.py say what the methods of the twins do

from __future__ import annotations

import errno
import os
import posixpath
import struct
from collections import Counter
from collections.abc import Callable
from random import Random

from murmur.kvcore.memory_disk import Directory, Disk, Fault, File, PowerCut, Write, os_error
from murmur.kvcore.storage import AppendFile, Lock, ReadFile, Storage, locked

__all__ = ["MemoryStorage", "PowerCut"]


class MemoryStorage:
    """A directory of a disk in memory."""

    def __init__(
        self, path: str = "memory", *, disk: Disk | None = None, preallocates: bool = False
    ) -> None:
        self.path = posixpath.normpath(path)
        self.preallocates = preallocates
        self._disk = disk or Disk()
        self._disk.make_root(self.path)

    # -- what Storage promises

    def create(self, name: str) -> AppendFile:
        with self._disk.operation("create", name):
            path = self._full(name)
            if path in self._disk.names:
                raise os_error(errno.EEXIST, path)
            file = self._disk.new_file()
            self._disk.change((path, file))
            return _MemoryAppendFile(self._disk, file, name)

    def append(self, name: str) -> AppendFile:
        with self._disk.operation("append", name):
            return _MemoryAppendFile(self._disk, self._disk.file(self._full(name)), name)

    def open(self, name: str) -> ReadFile:
        with self._disk.operation("open", name):
            return _MemoryReadFile(self._disk, self._disk.file(self._full(name)), name)

    def rename(self, source: str, target: str) -> None:
        with self._disk.operation("rename", source):
            old, new = self._full(source), self._full(target)
            file = self._disk.file(old)
            if new in self._disk.names:
                self._disk.file(new)
            if old != new:
                self._disk.change((old, None), (new, file))

    def remove(self, name: str) -> None:
        with self._disk.operation("remove", name):
            path = self._full(name)
            self._disk.file(path)
            self._disk.change((path, None))

    def link(self, source: str, target: Storage, name: str) -> None:
        with self._disk.operation("link", source):
            file = self._disk.file(self._full(source))
            assert isinstance(target, MemoryStorage), target
            path = target._full(name)
            if target._disk is not self._disk:
                raise os_error(errno.EXDEV, path)
            if path in self._disk.names:
                raise os_error(errno.EEXIST, path)
            self._disk.change((path, file))

    def list(self, directory: str = "") -> list[str]:
        with self._disk.operation("list", directory):
            parent = self._disk.directory(self._full(directory))
            return sorted(
                posixpath.basename(path)
                for path, entry in self._disk.names.items()
                if isinstance(entry, File) and posixpath.dirname(path) == parent
            )

    def exists(self, name: str) -> bool:
        with self._disk.operation("exists", name):
            return self._full(name) in self._disk.names

    def make_directory(self, name: str) -> None:
        with self._disk.operation("make_directory", name):
            path = self._full(name)
            entry = self._disk.names.get(path)
            if isinstance(entry, File):
                raise os_error(errno.EEXIST, path)
            if entry is None:
                self._disk.change((path, Directory()))

    def sync_directory(self, directory: str = "") -> None:
        with self._disk.operation("sync_directory", directory):
            self._disk.sync_names(self._disk.directory(self._full(directory)))

    def lock(self, name: str = "LOCK") -> Lock:
        with self._disk.operation("lock", name):
            path = self._full(name)
            if path not in self._disk.names:
                self._disk.change((path, self._disk.new_file()))
            file = self._disk.file(path)
            if path in self._disk.locks:
                raise locked(self.path, file.content.decode("ascii").strip())
            file.change(Write(0, None))
            file.change(Write(0, b"%d\n" % os.getpid()))
            return _MemoryLock(self._disk, path)

    def identity(self, name: str) -> bytes:
        with self._disk.operation("identity", name):
            file = self._disk.file(self._full(name))
            return struct.pack(">QQ", self._disk.device, file.number)

    def at(self, directory: str) -> MemoryStorage:
        with self._disk.operation("at", directory):
            return self._with(self._disk, posixpath.join(self.path, directory))

    # -- what only this twin can do

    @property
    def operations(self) -> int:
        """How many operations the disk has been asked for."""
        return self._disk.operations

    @property
    def calls(self) -> Counter[str]:
        """The same by kind: create, write, sync, truncate, rename, sync_directory, read, ..."""
        return self._disk.calls.copy()

    def cut_power(self, at: int | None) -> None:
        """Raise PowerCut from operation number `at` on, counted from the first (None: never)."""
        self._disk.cut = at

    def watch(self, see: Callable[[], None] | None) -> None:
        """Call this before every operation, in the thread that asks for it, which no other passes.

        So one run shows what a power cut at each of its operations would leave.
        """
        self._disk.watcher = see

    def fail(
        self,
        kind: str,
        *,
        name: str = "",
        error: int = errno.EIO,
        skip: int = 0,
        times: int | None = 1,
        written: int = 0,
    ) -> None:
        """Let operations of a kind raise an OSError: `skip` succeed first, then `times` fail.

        Only names that begin with `name` are concerned; `times=None` is until `heal`. A write that
        fails has written `written` bytes; a sync that fails leaves its bytes volatile for good;
        the others have no effect.
        """
        self._disk.faults.append(Fault(kind, name, error, skip, times, written))

    def heal(self) -> None:
        """Forget the faults that `fail` asked for, and the capacity."""
        self._disk.faults.clear()
        self._disk.capacity = None

    def limit(self, capacity: int | None) -> None:
        """Raise ENOSPC, after a short write, when the files would take more than so many bytes."""
        self._disk.capacity = capacity

    def crash(self, rng: Random | None) -> MemoryStorage:
        """The directory after a power cut and a restart; this storage itself stays as it is."""
        return self._with(self._disk.crashed(rng))

    def clone(self) -> MemoryStorage:
        """The directory after its process was killed."""
        return self._with(self._disk.cloned())

    def copy(self) -> MemoryStorage:
        """A copied directory: the same files with other identities."""
        return self._with(self._disk.cloned(same_device=False))

    def corrupt(self, name: str, content: bytes) -> None:
        """Replace what a file holds, durably and without a trace."""
        with self._disk.mutex:
            file = self._disk.file(self._full(name))
            file.content[:] = content
            file.durable[:] = content
            file.pending.clear()

    def content(self, name: str) -> bytes:
        """What a file holds, not counted as an operation."""
        with self._disk.mutex:
            return bytes(self._disk.file(self._full(name)).content)

    def _with(self, disk: Disk, path: str | None = None) -> MemoryStorage:
        return MemoryStorage(path or self.path, disk=disk, preallocates=self.preallocates)

    def _full(self, name: str) -> str:
        assert not name.startswith("/"), name
        assert ".." not in name.split("/"), name
        return posixpath.join(self.path, name) if name else self.path


class _MemoryAppendFile:
    def __init__(self, disk: Disk, file: File, name: str) -> None:
        self.name = name
        self._disk = disk
        self._file: File | None = file
        self._at: int | None = None  # where the next write goes, if not to the end

    def write(self, data: bytes) -> None:
        with self._disk.mutex:
            fault = self._disk.enter("write", self.name)
            file = _opened(self._file, self.name)
            at = self.tell()
            error, room = (fault.error, fault.written) if fault else (errno.ENOSPC, len(data))
            # What was preallocated has its room already.
            room = min(room, len(file.content) - at + self._disk.room())
            written = bytes(data[: max(0, room)])
            if written:
                file.change(Write(at, written))
                if self._at is not None:
                    self._at += len(written)
            if fault or len(written) < len(data):
                raise os_error(error, self.name)

    def tell(self) -> int:
        return self.size() if self._at is None else self._at

    def size(self) -> int:
        with self._disk.mutex:
            return len(_opened(self._file, self.name).content)

    def preallocate(self, size: int) -> None:
        with self._disk.operation("preallocate", self.name):
            file = _opened(self._file, self.name)
            at, present = self.tell(), len(file.content)
            room = min(max(0, size - present), self._disk.room())
            if room:
                file.change(Write(present, bytes(room)))
            self._at = at
            if present + room < size:
                raise os_error(errno.ENOSPC, self.name)

    def sync(self) -> None:
        with self._disk.mutex:
            fault = self._disk.enter("sync", self.name)
            file = _opened(self._file, self.name)
            if fault:
                file.fail_sync()
                raise os_error(fault.error, self.name)
            file.sync()

    def truncate(self, size: int) -> None:
        with self._disk.operation("truncate", self.name):
            file = _opened(self._file, self.name)
            assert size <= len(file.content), (size, len(file.content))
            file.change(Write(size, None))
            self._at = None

    def close(self) -> None:
        self._file = None


class _MemoryReadFile:
    def __init__(self, disk: Disk, file: File, name: str) -> None:
        self.name = name
        self._disk = disk
        self._file: File | None = file

    def read(self, offset: int, length: int) -> bytes:
        with self._disk.operation("read", self.name):
            return bytes(_opened(self._file, self.name).content[offset : offset + length])

    def size(self) -> int:
        with self._disk.operation("size", self.name):
            return len(_opened(self._file, self.name).content)

    def close(self) -> None:
        self._file = None


class _MemoryLock:
    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path: str | None = path
        disk.locks.add(path)

    def close(self) -> None:
        with self._disk.mutex:
            if self._path is not None:
                self._disk.locks.discard(self._path)
                self._path = None


def _opened(file: File | None, name: str) -> File:
    if file is None:
        raise os_error(errno.EBADF, name)
    return file
