"""A swarm on a full disk: what is asked for fails by name, reading goes on, deleting works."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from murmur.kvcore import DiskStorage, MemoryStorage, Storage
from murmur.swarm import Swarm

ROOM = 600_000  # bytes
BODY = "x" * 500


@pytest.fixture(params=["memory", "preallocated", "disk"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A directory with little room: in memory, with zeros ahead, on a file system of its own."""
    if request.param != "disk":
        memory = MemoryStorage(preallocates=request.param == "preallocated")
        memory.limit(ROOM)
        yield memory
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system takes more rights")
    try:
        yield DiskStorage(tmp_path / "db")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(swarm: Swarm) -> int:
    """Insert and put until there is no room; how many of each."""
    for number in range(10_000):
        try:
            swarm.sql("INSERT INTO note VALUES (?, ?)", [number, BODY])
            swarm.put(f"key {number}", BODY.encode())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return number
    raise AssertionError("it never was full")


def close(swarm: Swarm) -> None:
    with suppress(OSError):  # a flush may find no room: the log has all
        swarm.close()
    assert swarm.closed


def ids(swarm: Swarm) -> list[int]:
    return [row[0] for row in swarm.sql("SELECT id FROM note ORDER BY id").fetchall()]


def test_deleting_works_where_nothing_else_does(storage: Storage) -> None:
    swarm = Swarm(storage)
    swarm.sql("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
    swarm.sql("CREATE INDEX body ON note (body)")
    swarm.flush()
    count = fill(swarm)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            swarm.put("more", bytes(50_000))
    assert swarm.get(f"key {count - 1}") == BODY.encode()
    rows = ids(swarm)
    assert len(rows) >= count

    for number in range(20):
        assert swarm.delete(f"key {number}")
    swarm.sql("DELETE FROM note WHERE id < 20")
    assert swarm.get("key 0") is None
    assert ids(swarm) == rows[20:]
    close(swarm)
    swarm = Swarm(storage)
    assert ids(swarm) == rows[20:]
    assert swarm.get("key 19") is None
    assert swarm.get("key 20") == BODY.encode()
    assert swarm.check() == []
    swarm.sql("DELETE FROM note WHERE id < 30")
    assert ids(swarm) == rows[30:]
    close(swarm)


def test_a_full_disk_that_is_emptied_needs_no_opening_again() -> None:
    storage = MemoryStorage(preallocates=True)
    storage.limit(ROOM)
    with Swarm(storage) as swarm:
        swarm.sql("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        fill(swarm)
        swarm.sql("DELETE FROM note WHERE id < 20")
        storage.limit(None)
        swarm.put("more", b"room")
        swarm.sql("INSERT INTO note VALUES (100000, 'room')")
        swarm.flush()
        assert ids(swarm)[0] == 20
        assert ids(swarm)[-1] == 100_000
        assert swarm.check() == []
