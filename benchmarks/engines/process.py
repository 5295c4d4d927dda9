"""Memory, bytes written and page cache, from /proc (Linux)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

QUIET_WINDOWS = 3
WINDOW_S = 0.1
LONGEST_S = 180.0


class Memory(NamedTuple):
    """Resident bytes of this process: all, and those that belong to no file."""

    resident: int
    anonymous: int


def memory() -> Memory:
    found = dict.fromkeys(("VmRSS", "RssAnon"), 0)
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) * 1024
    return Memory(found["VmRSS"], found["RssAnon"])


class Written(NamedTuple):
    """Bytes that this process has made dirty in the page cache, and has handed to write(2).

    The first is what reaches the device, mapped files included; the second counts a page as often
    as it is written, also between two visits of the kernel's flusher.
    """

    dirtied: int
    calls: int


def written() -> Written:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return Written(int(lines["write_bytes"]), int(lines["wchar"]))


def until_quiet() -> float:
    """Wait until the engine's threads have nothing left to do; how long that was, in seconds."""
    begin = time.perf_counter()
    quiet = 0
    while quiet < QUIET_WINDOWS and time.perf_counter() - begin < LONGEST_S:
        cpu, before = time.process_time(), written()
        time.sleep(WINDOW_S)
        busy = time.process_time() - cpu > WINDOW_S / 30
        quiet = 0 if busy or written() != before else quiet + 1
    return max(0.0, time.perf_counter() - begin - QUIET_WINDOWS * WINDOW_S)


def files_of(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def size_on_disk(directory: Path) -> int:
    """Allocated bytes: a sparse file counts as what it holds, a preallocated one in full."""
    return sum(path.stat().st_blocks * 512 for path in files_of(directory))


def write_back(directory: Path) -> None:
    """Leave nothing for the kernel to write while the next workload is measured."""
    for path in files_of(directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def bring_into_page_cache(directory: Path) -> None:
    """So that the next workload finds what the one before the dropping had found."""
    for path in files_of(directory):
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass


def drop_from_page_cache(directory: Path) -> None:
    write_back(directory)  # dirty pages are not dropped
    for path in files_of(directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
