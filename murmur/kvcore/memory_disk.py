"""A disk in memory that can lose power: the model under `MemoryStorage`.

A file has the content that readers see, the content that is durable, and the changes in between;
so have the names on the disk. A crash keeps what is durable and a random choice of the rest:

    data      in order     a prefix of each file's changes, the next one cut anywhere
              reordered    any of them, sector by sector, zeros where one is missing before another;
                           sometimes the new size without the bytes
    zeros     preallocated ones are data like any other: they may be there, in part, or not, and
              where a write into them is missing, they show
    names     in order     a prefix of the changes on the disk
              reordered    any of them

The seed picks one of the two models: ordered metadata is what ext4 does, full reordering what
POSIX permits. A rename is atomic in both. Names in a directory whose own name is lost are lost.

After a failed sync its changes stay volatile for ever, even when a later one succeeds, as in Linux,
which marks the pages clean. After ALICE (Pillai et al., OSDI 2014) and CrashMonkey (Mohan et al.,
OSDI 2018).
"""

from __future__ import annotations

import copy
import errno
import itertools
import os
import posixpath
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import TypeAlias

SECTOR = 512  # what a disk writes whole

_devices = itertools.count(1)


class PowerCut(BaseException):
    """The power is off. A BaseException, so that no handler of errors carries on without it."""


@dataclass(slots=True)
class Fault:
    """Operations that shall fail: `skip` more succeed, then `times` raise (None: all)."""

    kind: str
    name: str
    error: int
    skip: int
    times: int | None
    written: int


class Fate(Enum):
    """What a crash does to a change of a file."""

    VOLATILE = 0  # chance decides, until a sync
    KEPT = 1  # synced
    DOUBTFUL = 2  # chance decides, for ever: its sync failed


@dataclass(slots=True)
class Write:
    """A change of a file: data at an offset, or a cut there."""

    offset: int
    data: bytes | None
    fate: Fate = Fate.VOLATILE

    def apply(self, content: bytearray) -> None:
        """Make the change."""
        if self.data is None:
            del content[self.offset :]
        else:
            _overwrite(content, self.offset, self.data)


@dataclass(slots=True, eq=False)
class File:
    """A reader sees `content`; a crash leaves `durable` and a choice of the pending changes."""

    number: int
    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)

    def change(self, write: Write) -> None:
        """Change what readers see."""
        write.apply(self.content)
        self.pending.append(write)

    def sync(self) -> None:
        """Make durable all changes but those of a sync that failed."""
        if any(write.fate is Fate.DOUBTFUL for write in self.pending):
            for write in self.pending:
                if write.fate is Fate.VOLATILE:
                    write.fate = Fate.KEPT
        else:
            for write in self.pending:
                write.apply(self.durable)
            self.pending.clear()

    def fail_sync(self) -> None:
        """Leave the changes so far to chance for good."""
        for write in self.pending:
            if write.fate is Fate.VOLATILE:
                write.fate = Fate.DOUBTFUL

    def crashed(self, rng: Random | None, *, reorder: bool) -> bytearray:
        """The content that a power cut leaves."""
        content = bytearray(self.durable)
        unsafe = sum(write.fate is not Fate.KEPT for write in self.pending)
        whole = 0 if rng is None else rng.randint(0, unsafe)  # in order: how many survive
        for write in self.pending:
            if write.fate is Fate.KEPT:
                write.apply(content)
            elif rng is None:
                continue
            elif reorder:
                _tear(write, content, rng)
            else:
                if whole > 0:
                    write.apply(content)
                elif whole == 0 and write.data is not None:
                    part = write.data[: rng.randint(0, len(write.data))]
                    _overwrite(content, write.offset, part)
                whole -= 1
        if reorder and rng is not None and len(content) < len(self.content) and rng.random() < 0.3:
            # The new size reached the disk and the bytes did not.
            content.extend(bytes(rng.randint(0, len(self.content) - len(content))))
        return content


class Directory:
    """A directory has no content: the names of its files begin with its path."""


Entry: TypeAlias = File | Directory
Naming: TypeAlias = tuple[tuple[str, Entry | None], ...]  # one atomic change; None removes a name


class Disk:
    """What storages on one disk share; names are whole paths. `mutex` guards all of it."""

    def __init__(self, device: int | None = None) -> None:
        self.mutex = threading.RLock()
        self.device = next(_devices) if device is None else device
        self.names: dict[str, Entry] = {}
        self.durable: dict[str, Entry] = {}
        self.pending: list[Naming] = []
        self.locks: set[str] = set()
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.operations = 0
        self.cut: int | None = None
        self.watcher: Callable[[], None] | None = None
        self.capacity: int | None = None
        self.files = 0

    # -- every operation begins here

    @contextmanager
    def operation(self, kind: str, name: str) -> Iterator[None]:
        """One operation on the disk: counted, and refused if that was asked for."""
        with self.mutex:
            fault = self.enter(kind, name)
            if fault is not None:
                raise os_error(fault.error, name)
            yield

    def enter(self, kind: str, name: str) -> Fault | None:
        """Count an operation, under the mutex; the fault that it shall suffer, if any."""
        if self.watcher is not None:
            self.watcher()
        self.operations += 1
        self.calls[kind] += 1
        if self.cut is not None and self.operations >= self.cut:
            raise PowerCut(f"operation {self.operations}: {kind} {name}")
        for fault in self.faults:
            if fault.kind == kind and name.startswith(fault.name):
                if fault.skip > 0:
                    fault.skip -= 1
                elif fault.times is None or fault.times > 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def room(self) -> int:
        """How many bytes the disk can take."""
        if self.capacity is None:
            return sys.maxsize
        entries = set(self.names.values())
        used = sum(len(entry.content) for entry in entries if isinstance(entry, File))
        return max(0, self.capacity - used)

    # -- names

    def file(self, path: str) -> File:
        """The file of this name."""
        entry = self.names.get(path)
        if entry is None:
            raise os_error(errno.ENOENT, path)
        if isinstance(entry, Directory):
            raise os_error(errno.EISDIR, path)
        return entry

    def directory(self, path: str) -> str:
        """The same path, if it is a directory."""
        entry = self.names.get(path)
        if entry is None:
            raise os_error(errno.ENOENT, path)
        if isinstance(entry, File):
            raise os_error(errno.ENOTDIR, path)
        return path

    def new_file(self) -> File:
        """An empty file without a name."""
        self.files += 1
        return File(self.files)

    def change(self, *naming: tuple[str, Entry | None]) -> None:
        """Change names, all at once."""
        for path, _ in naming:
            self.directory(posixpath.dirname(path))
        _rename(self.names, naming)
        self.pending.append(naming)

    def sync_names(self, directory: str) -> None:
        """Make the names in a directory durable."""
        later = []
        for naming in self.pending:
            if any(posixpath.dirname(path) == directory for path, _ in naming):
                _rename(self.durable, naming)
            else:
                later.append(naming)
        self.pending = later

    def make_root(self, path: str) -> None:
        """Make a directory and its parents, durably."""
        while path not in ("", "/") and path not in self.names:
            self.names[path] = self.durable[path] = Directory()
            path = posixpath.dirname(path)

    # -- what is left of it

    def crashed(self, rng: Random | None) -> Disk:
        """The disk after a power cut."""
        with self.mutex:
            reorder = rng is not None and rng.random() < 0.5
            names = dict(self.durable)
            survivors = 0 if rng is None else rng.randint(0, len(self.pending))
            for number, naming in enumerate(self.pending):
                if rng is not None and (rng.random() < 0.5 if reorder else number < survivors):
                    _rename(names, naming)
            disk = Disk(self.device)
            disk.files = self.files
            files: dict[File, File] = {}
            for path, entry in names.items():
                if not _reachable(path, names):
                    continue
                if isinstance(entry, File):
                    if entry not in files:
                        content = entry.crashed(rng, reorder=reorder)
                        files[entry] = File(entry.number, content, bytearray(content))
                    disk.names[path] = files[entry]
                else:
                    disk.names[path] = entry
            disk.durable = dict(disk.names)
            return disk

    def cloned(self, *, same_device: bool = True) -> Disk:
        """The disk as it is, without the processes that use it."""
        with self.mutex:
            disk = Disk(self.device if same_device else None)
            disk.files = self.files
            disk.names, disk.durable, disk.pending = copy.deepcopy(
                (self.names, self.durable, self.pending)
            )
            return disk


def _overwrite(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _tear(write: Write, content: bytearray, rng: Random) -> None:
    """Apply all, nothing, or some sectors of a write."""
    choice = rng.random()
    if choice < 0.4:
        write.apply(content)
    elif choice < 0.7 and write.data is not None:
        start, stop = write.offset, write.offset + len(write.data)
        while start < stop:
            end = min(stop, (start // SECTOR + 1) * SECTOR)
            if rng.random() < 0.5:
                _overwrite(content, start, write.data[start - write.offset : end - write.offset])
            start = end


def _rename(names: dict[str, Entry], naming: Naming) -> None:
    for path, entry in naming:
        if entry is None:
            names.pop(path, None)
        else:
            names[path] = entry


def _reachable(path: str, names: dict[str, Entry]) -> bool:
    while (path := posixpath.dirname(path)) not in ("", "/"):
        if path not in names:
            return False
    return True


def os_error(number: int, path: str) -> OSError:
    """The OSError that the operating system would raise."""
    return OSError(number, os.strerror(number), path)
