"""Faults below a swarm: damaged files of the node, and a disk that is full at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

import murmur
from murmur import Corruption, Swarm
from murmur.kvcore import MemoryStorage


@pytest.mark.parametrize("name", ["NODE", "PEERS"])
@pytest.mark.parametrize("offset", [0, 40, -3])
def test_check_finds_a_damaged_file_of_the_node(tmp_path: Path, name: str, offset: int) -> None:
    with murmur.open(tmp_path / "a") as swarm:
        swarm.ticket()
        assert swarm.check() == []
    file = tmp_path / "a" / name
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)
    with murmur.open(tmp_path / "a") as swarm:
        assert [Path(problem.path).name for problem in swarm.check()] == [name]
        with pytest.raises(Corruption):
            swarm.ticket()


def test_a_swarm_that_could_not_flush_at_its_end_is_closed_and_has_lost_nothing() -> None:
    storage = MemoryStorage()
    swarm = Swarm(storage, path="memory")
    swarm.put("a", b"1")
    storage.limit(0)
    with pytest.raises(OSError, match="space"):
        swarm.close()
    assert swarm.closed
    storage.limit(None)
    with Swarm(storage.crash(None), path="memory") as again:
        assert again.get("a") == b"1"
