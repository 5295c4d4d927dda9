"""Faults below a swarm: damaged files of the node, and a disk that is full at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

import murmur
from murmur import Corruption, Swarm
from murmur.kvcore import PUT, MemoryStorage, Operation
from murmur.kvcore.record import NO_PREVIOUS, encode


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


def test_keys_of_a_peer_that_are_no_text_are_shown_and_stop_no_scan() -> None:
    peers = b"\xff" * 8, b"\xfe" * 8
    with Swarm(MemoryStorage(), path="memory") as swarm:
        swarm.put("a", b"1")
        now = swarm.replica.last_stamp
        keys = b"\x01", b"\x01\x01\xff\xfe", b"\x01\x03odd", b"\x01\xff\xff"
        for peer in peers:
            puts = [Operation(PUT, key, peer) for key in keys]
            swarm.replica.apply([encode(peer, 1, now + 1, NO_PREVIOUS, {}, {}, puts)])
        assert list(swarm.scan()) == [("a", b"1"), ("\\xff\\xfe", peers[0])]
        with swarm.transaction() as transaction:
            assert len(transaction.scan("a")) == 1
        listed = swarm.sql("SELECT key FROM murmur_conflicts WHERE kind = 'sibling'").fetchall()
        assert len(listed) == len(keys)
