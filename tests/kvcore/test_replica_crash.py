"""Power cuts, kills and failing disks, at the level of whole transactions (laws L1, L2, L6).

Each workload runs on the crashable memory storage and loses power at every storage operation,
beginning with those that create the directory. Whatever was acknowledged must be there, every
transaction whole, memory and log agreeing, and the replica must go on.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from murmur.errors import MurmurError, Poisoned
from murmur.kvcore.cell import visible_fields, visible_value
from murmur.kvcore.clock import ManualClock
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.record import PUT, Operation
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage
from tests.kvcore.each_cut import each_cut

LEFT, RIGHT, ROW = b"\x01left", b"\x01right", b"\x02row"


def opened(storage: Any, seed: int = 1, **options: Any) -> Replica:
    options = {"durability": "commit", "memtable_bytes": 2000, "segment_bytes": 1500, **options}
    return Replica.open(
        storage, clock=ManualClock(), random_bytes=Random(seed).randbytes, **options
    )


class Workload:
    """Numbered transactions: each writes the number in two registers and counts itself in a row."""

    def __init__(self, seed: int, durability: str, cut: int | None = None) -> None:
        self.seed = seed
        self.durability = durability
        self.storage = MemoryStorage()
        self.storage.cut_power(cut)
        self.written = 0
        self.acknowledged = 0

    def run(self) -> None:
        rng = Random(self.seed)
        replica = opened(self.storage, durability=self.durability, sync_interval_ms=None)
        try:
            for _ in range(10):
                step = rng.random()
                if step < 0.75:
                    self.write(replica, bytes(rng.choice((10, 10, 600))))
                elif step < 0.85:
                    replica.flush()
                elif step < 0.92:
                    replica.sync()
                    self.acknowledged = self.written
                else:
                    replica.close()
                    self.acknowledged = self.written
                    replica = opened(
                        self.storage, durability=self.durability, sync_interval_ms=None
                    )
            replica.close()
            self.acknowledged = self.written
        finally:
            abandon(replica)

    def write(self, replica: Replica, padding: bytes) -> None:
        number = self.written + 1
        value = b"%d %s" % (number, padding)
        with replica.begin() as tx:
            tx.put(LEFT, value)
            if number == 1:
                tx.insert(ROW, {1: number}, {2: 0})
            else:
                tx.edit(ROW, {1: number})
            tx.add(ROW, 2, 1)
            tx.put(RIGHT, value)
            self.written = number
        if self.durability == "commit":
            self.acknowledged = number


def abandon(replica: Replica) -> None:
    """Let go of a replica whose machine has lost power: threads end, nothing is written."""
    try:
        replica.close()
    except (PowerCut, MurmurError, OSError):
        return


def run_until_cut(seed: int, durability: str, cut: int) -> bool:
    """Run the workload, cut, restart, look; whether the power was cut within the workload."""
    work = Workload(seed, durability, cut)
    was_cut = False
    try:
        work.run()
    except PowerCut:
        was_cut = True
    except (MurmurError, OSError):
        was_cut = True  # the background thread met the cut first
    examine(work, f"run_until_cut({seed}, {durability!r}, {cut})")
    return was_cut


def sweep(seed: int, durability: str) -> int:
    """Cut the power at every operation of one run; how many there were."""
    work = Workload(seed, durability)
    where = f"sweep({seed}, {durability!r})"
    with each_cut(work.storage, lambda cut: examine(work, f"{where}, operation {cut}")) as cuts:
        work.run()
    return cuts.count


def examine(work: Workload, where: str) -> None:
    for chance in (None, Random(work.seed), Random(work.seed + 1)):
        after = work.storage.crash(chance)
        replica = opened(after, seed=7)
        try:
            number = state_of(replica, where)
            assert work.acknowledged <= number <= work.written, where
            assert list(replica.check()) == [], where
            replica.write([Operation(PUT, LEFT, b"on"), Operation(PUT, RIGHT, b"on")])
            digest = replica.state_hash()
        finally:
            replica.close()
        with opened(after, seed=8) as replica:
            assert replica.state_hash() == digest, where


def state_of(replica: Replica, where: str) -> int:
    left, right, row = replica.get(LEFT), replica.get(RIGHT), replica.get(ROW)
    if left is None:
        assert right is None, where
        assert row is None, where
        return 0
    assert right is not None, where
    assert row is not None, where
    assert visible_value(left) == visible_value(right), where
    number = int(visible_value(left).split()[0])
    assert visible_fields(row) == {1: number, 2: number}, where
    assert sum(replica.vector.values()) >= number, where
    return number


@pytest.mark.parametrize("durability", ["commit", "batched", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_power_is_cut_at_every_operation(seed: int, durability: str) -> None:
    assert sweep(seed, durability) > 30
    cut = 1 + seed
    while run_until_cut(seed, durability, cut):
        cut += 12


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_power_is_cut_at_every_operation_at_length() -> None:
    for seed in range(100, 400):
        for durability in ("commit", "batched", "none"):
            sweep(seed, durability)
            cut = 1 + seed % 7
            while run_until_cut(seed, durability, cut):
                cut += 7


def test_a_failed_sync_poisons_the_handle_and_says_so() -> None:
    storage = MemoryStorage()
    replica = opened(storage)
    replica.write([Operation(PUT, LEFT, b"1")])
    storage.fail("sync", error=errno.EIO)
    with pytest.raises((OSError, Poisoned)):
        replica.write([Operation(PUT, LEFT, b"2")])
    storage.heal()
    with pytest.raises(Poisoned, match="open"):
        replica.write([Operation(PUT, LEFT, b"3")])
    with pytest.raises(MurmurError):
        replica.close()
    with opened(storage) as replica:
        assert visible_value(replica.get(LEFT) or b"") in (b"1", b"2")


def test_a_full_disk_refuses_writes_and_keeps_reads() -> None:
    storage = MemoryStorage()
    replica = opened(storage)
    replica.write([Operation(PUT, LEFT, b"1")])
    storage.limit(0)
    with pytest.raises(OSError, match="space"):
        replica.write([Operation(PUT, LEFT, bytes(5000))])
    assert visible_value(replica.get(LEFT) or b"") == b"1"
    storage.limit(None)
    replica.write([Operation(PUT, LEFT, b"2")])
    assert visible_value(replica.get(LEFT) or b"") == b"2"
    assert replica.vector == {replica.id: 2}
    replica.close()
    with opened(storage) as replica:
        assert visible_value(replica.get(LEFT) or b"") == b"2"


WRITER = """
import sys
from murmur.kvcore.record import PUT, Operation
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage

replica = Replica.open(DiskStorage(sys.argv[1]), durability=sys.argv[2], memtable_bytes=4000,
                       segment_bytes=3000)
number = int(sys.argv[3])
while True:
    number += 1
    value = b"%d" % number
    replica.write([Operation(PUT, b"\\x01left", value), Operation(PUT, b"\\x01right", value)])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("durability", ["commit", "batched", "none"])
def test_a_killed_process_loses_nothing_that_it_acknowledged(
    tmp_path: Path, durability: str
) -> None:
    number = 0
    rng = Random(5)
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "db"), durability, str(number)],
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        for _ in range(rng.randrange(1, 60)):
            number = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split(b"\n")[:-1]
        writer.stdout.close()
        writer.wait()
        number = int(rest[-1]) if rest else number
        with Replica.open(DiskStorage(tmp_path / "db"), durability=durability) as replica:
            left, right = replica.get(LEFT), replica.get(RIGHT)
            assert left is not None
            assert right is not None
            assert visible_value(left) == visible_value(right)
            assert int(visible_value(left)) in (number, number + 1)
            number = int(visible_value(left))
    with Replica.open(DiskStorage(tmp_path / "db")) as replica:
        assert list(replica.check()) == []
