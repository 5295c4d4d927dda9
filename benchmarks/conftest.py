"""The two systems that every benchmark runs on, with durability of one class.

Both keep what was acknowledged when the process dies, and may lose the last moments at a power cut:
Murmur with durability="batched", SQLite (through apsw) with a write-ahead log and
synchronous=NORMAL.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import murmur

SYSTEMS = ("murmur", "sqlite")


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[murmur.Swarm]:
    with murmur.open(tmp_path / "murmur", group="bench") as swarm:
        yield swarm


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_sqlite(tmp_path / "sqlite.db")
    yield connection
    connection.close()


def open_sqlite(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    # One at a time: apsw stops a script at its first row, and journal_mode returns one.
    assert connection.pragma("journal_mode", "wal") == "wal"
    connection.pragma("synchronous", "normal")
    assert connection.pragma("synchronous") == 1
    return connection
