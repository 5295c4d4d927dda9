"""The engine against a dict, losing power at every storage operation, killed, interrupted, refused.

What is left must open, and be what some prefix of the batches made, with all that was durable. A
failure names its workload and cut; `examine(workload, cut)` replays it.
"""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import pytest

from murmur.errors import Poisoned
from murmur.kvcore import engine as engine_module
from murmur.kvcore import log as log_module
from murmur.kvcore import reserve as reserve_module
from murmur.kvcore import state as state_module
from murmur.kvcore import tree as tree_module
from murmur.kvcore.engine import Engine, WriteBatch
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.storage import DiskStorage, Storage
from tests.kvcore.interrupt import Interrupt

STEPS = 22
KEYS = [b"%02d" % n for n in range(30)]

State = dict[bytes, bytes]


def assert_full(error: OSError) -> None:
    if error.errno != errno.ENOSPC:
        raise error


class Workload:
    """A random history of one engine, the same for a seed wherever it is cut."""

    def __init__(self, seed: int, storage: Storage) -> None:
        self.storage = storage
        self.rng = Random(seed)
        self.durability = self.rng.choice(("none", "batched", "commit"))
        self.engine: Engine | None = None
        self.states: list[State] = [{}]  # after each batch
        self.floor = 0  # which of them is durable whatever happens

    def open(self) -> Engine:
        return Engine.open(
            self.storage,
            durability=self.durability,
            sync_interval_ms=None,
            memtable_bytes=1500,
            level0_tables=4,
            table_bytes=2000,
            segment_bytes=700,
        )

    def run(self) -> None:
        self.engine = self.open()
        steps = [self.write] * 12 + [self.sync, self.flush, self.compact, self.reopen]
        steps += [self.kill, self.fill_disk]
        for _ in range(STEPS):
            self.rng.choice(steps)()

    def batch(self) -> tuple[WriteBatch, State]:
        batch, state = WriteBatch(), dict(self.states[-1])
        for _ in range(self.rng.randint(1, 4)):
            key = self.rng.choice(KEYS)
            choice = self.rng.random()
            if choice < 0.7:
                value = self.rng.randbytes(self.rng.choice((0, 10, 10, 60)))
                batch.put(key, value)
                state[key] = value
            elif choice < 0.9:
                batch.delete(key)
                state.pop(key, None)
            else:
                stop = key + b"\xff" if choice < 0.95 else b"%02d" % (int(key) + 3)
                batch.delete_range(key, stop)
                for each in [each for each in state if key <= each < stop]:
                    del state[each]
        return batch, state

    def write(self) -> None:
        assert self.engine is not None
        batch, state = self.batch()
        self.states.append(state)
        self.engine.write(batch)
        if self.durability == "commit":
            self.floor = len(self.states) - 1
        key = self.rng.choice(KEYS)
        assert self.engine.get(key) == state.get(key)

    def sync(self) -> None:
        assert self.engine is not None
        self.engine.sync()
        self.floor = len(self.states) - 1

    def flush(self) -> None:
        assert self.engine is not None
        self.engine.flush()
        self.floor = len(self.states) - 1

    def compact(self) -> None:
        assert self.engine is not None
        self.engine.compact()

    def reopen(self) -> None:
        assert self.engine is not None
        self.engine.close()
        self.floor = len(self.states) - 1
        self.engine = self.open()
        assert dict(self.engine.scan()) == self.states[-1]

    def kill(self) -> None:
        assert self.engine is not None
        self.engine._files.close()
        self.engine = self.open()
        self.floor = len(self.states) - 1
        assert dict(self.engine.scan()) == self.states[-1]

    def fill_disk(self) -> None:
        assert self.engine is not None
        if not isinstance(self.storage, MemoryStorage):
            return
        self.storage.limit(self.rng.choice((0, 3000)))
        batch, state = self.batch()
        self.states.append(state)
        try:
            self.engine.write(batch)
        except OSError as error:
            assert_full(error)
            self.states.pop()
        assert dict(self.engine.scan()) == self.states[-1]
        self.storage.limit(None)
        # A flush that was under way may still fail, and say so to the next who waits for one.
        for _ in range(3):
            try:
                self.engine.flush()
            except OSError as error:
                assert_full(error)
            else:
                self.floor = len(self.states) - 1
                return
        raise AssertionError("it stays full")


def check(storage: MemoryStorage, work: Workload, where: str) -> None:
    engine = Engine.open(
        storage, durability="commit", memtable_bytes=1500, segment_bytes=700, level0_tables=4
    )
    found = dict(engine.scan())
    assert found in work.states[work.floor :], where
    assert {key: engine.get(key) for key in KEYS if engine.get(key) is not None} == found, where
    assert list(engine.check()) == [], where
    engine.put(b"later", b"1")
    engine.close()
    again = Engine.open(storage.crash(None))
    assert dict(again.scan()) == {**found, b"later": b"1"}, where
    again.close()


def examine(seed: int, cut: int) -> bool:
    """Run a workload up to the cut, and check what is left. False: it ended before the cut."""
    storage = MemoryStorage(preallocates=seed % 2 == 0)
    storage.cut_power(cut)
    work = Workload(seed, storage)
    try:
        work.run()
    except PowerCut:
        pass
    except Poisoned as error:  # the power was cut in the background
        if not isinstance(error.__cause__, PowerCut):
            raise
    else:
        return False
    finally:
        storage.cut_power(0)  # whatever still runs, writes nothing any more
    for chance in range(2):
        check(storage.crash(Random(chance * 1000 + cut)), work, f"{seed}, cut {cut}, {chance}")
    return True


def cuts(seed: int, step: int) -> int:
    cut, count = 1 + seed % step, 0
    while examine(seed, cut):
        cut += step
        count += 1
    return count


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "PREALLOCATED", 100)


@pytest.mark.parametrize("seed", range(12))
def test_power_cuts(seed: int) -> None:
    assert cuts(seed, 7) > 5


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_power_cuts_everywhere(seed: int) -> None:
    assert cuts(seed, 1) > 50


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_random_lives(seed: int, where: str, tmp_path: Path) -> None:
    storage: Storage = DiskStorage(tmp_path / "db") if where == "disk" else MemoryStorage()
    work = Workload(seed, storage)
    for _ in range(4):
        work.run()
        assert work.engine is not None
        assert dict(work.engine.scan()) == work.states[-1]
        assert dict(work.engine.scan(reverse=True)) == work.states[-1]
        assert list(work.engine.check()) == []
        work.engine.close()


INTERRUPTED = engine_module, log_module, reserve_module, state_module, tree_module


@pytest.mark.parametrize("durability", ["batched", "commit"])
@pytest.mark.parametrize("where", ["disk", "memory", "memory, preallocated"])
def test_what_is_interrupted_has_happened_or_not(
    where: str, durability: str, tmp_path: Path
) -> None:
    """Each write in turn is interrupted at some line; in between the memtable is rotated."""
    storage: Storage
    if where == "disk":
        storage = DiskStorage(tmp_path / "db")
    else:
        storage = MemoryStorage(preallocates=where != "memory")
    engine = Engine.open(
        storage,
        durability=durability,
        sync_interval_ms=None,
        memtable_bytes=4000,
        segment_bytes=3000,
    )
    state: State = {}
    interrupted = 0
    for line in range(1, 160):
        key, value = b"%03d" % (line % 40), b"%d" % line * 10
        try:
            with Interrupt(line, INTERRUPTED):
                if line % 3:
                    engine.put(key, value)
                else:
                    engine.write([(key, value), (b"also", value)])
                    engine.delete_range(b"x", b"y")
        except KeyboardInterrupt:
            interrupted += 1
            engine.put(b"after", b"%d" % line)
            state[b"after"] = b"%d" % line
            found = dict(engine.scan())
            if found.get(key) == value:
                state[key] = value
                if line % 3 == 0:
                    state[b"also"] = value
        else:
            state[key] = value
            if line % 3 == 0:
                state[b"also"] = value
        assert dict(engine.scan()) == state, line
        if isinstance(storage, MemoryStorage) and line % 10 == 0:
            again = Engine.open(storage.clone())
            assert dict(again.scan()) == state, line
            again.close()
    assert interrupted > 5
    assert list(engine.check()) == []
    engine.close()
    with Engine.open(storage) as engine:
        assert dict(engine.scan()) == state
