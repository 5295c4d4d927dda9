"""A seeded history of one engine and what it has been promised, for the suites of faults.

    history = History(seed=3, storage=MemoryStorage(), configuration="lz4")
    history.run(STEPS)                       # until the power is cut, an operation fails, ...
    history.examine(history.storage.crash(Random(1)), history.floor)

Every batch writes its number under NUMBER too, so that a survivor tells how far it has come: it has
to be exactly what that prefix of the batches makes. `floor` is the last batch that a power cut must
leave, `kept` the last one that a kill must leave.

`use_kernel` lets a test run with either kernel, whichever the process has loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from murmur.errors import MurmurError
from murmur.kvcore import kernel
from murmur.kvcore.engine import Engine, WriteBatch
from murmur.kvcore.kernel import pure
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.storage import Storage

NUMBER = b"#"
KEYS = [b"k%02d" % n for n in range(24)]

State = dict[bytes, bytes]

_TINY: dict[str, Any] = {
    "memtable_bytes": 1500,
    "table_bytes": 1200,
    "block_bytes": 128,
    "level0_tables": 2,
    "level_ratio": 2,
    "cache_bytes": 4000,
    "segment_bytes": 900,
    "sync_interval_ms": None,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {**_TINY, "durability": "commit", "separate_bytes": 0},
    "lz4": {
        **_TINY,
        "durability": "batched",
        "compression": ("lz4",),
        "separate_bytes": 64,
        "garbage_ratio": 0.2,
        "compact_threads": 2,
    },
    "zstd": {
        **_TINY,
        "durability": "none",
        "compression": ("none", "zstd"),
        "separate_bytes": 64,
        "filter_bits": 0,
        "mmap": True,
        "pending_memtables": 1,
    },
    "commit": {
        **_TINY,
        "durability": "commit",
        "compression": "zstd",
        "separate_bytes": 64,
        "garbage_ratio": 0.2,
        "memtable_bytes": 900,
    },
}

KERNELS = ("native", "pure") if kernel.NATIVE else ("pure",)
_SWAPPED = (
    *("Appender", "BlockCache", "Chunk", "Latest", "Memtable", "Reads", "Table", "ValueFile"),
    "write_tables",
)


def use_kernel(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let all of the engine use this kernel, until the test is over."""
    if name == "pure" and kernel.NATIVE:
        loaded = {id(getattr(kernel, each)): getattr(pure, each) for each in _SWAPPED}
        for path, module in list(sys.modules.items()):
            if path.startswith("murmur.kvcore") and not path.startswith("murmur.kvcore.kernel."):
                for each in _SWAPPED:
                    if id(vars(module).get(each)) in loaded:
                        monkeypatch.setattr(module, each, getattr(pure, each))
        monkeypatch.setattr(kernel, "Writer", None)


@contextmanager
def replay(line: str) -> Iterator[None]:
    """Say with any failure how to see it again."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"replay: {line}")
        raise


class History:
    """Random operations on one engine: the same for a seed, whatever goes wrong."""

    def __init__(self, seed: int, storage: Storage, configuration: str) -> None:
        self.storage = storage
        self.configuration = configuration
        self.options = CONFIGURATIONS[configuration]
        self.rng = Random(f"{seed} {configuration}")
        # Half of the histories let the background finish after each step, so that they come
        # again operation by operation; the others race with it.
        self.settled = seed % 2 == 0
        self.engine: Engine | None = None
        self.states: list[State] = [{}]  # after each batch; the last one may be uncertain
        self.floor = self.kept = 0
        self.uncertain = False  # whether the last state is of a write that failed half-way
        self.checkpoints: dict[str, int] = {}

    # -- operations

    def open(self, storage: Storage | None = None) -> Engine:
        return Engine.open(self.storage if storage is None else storage, **self.options)

    def run(self, steps: int) -> None:
        self.engine = self.open()
        for _ in range(steps):
            self.step()
            if self.settled:
                self.engine._tree.settle()

    def step(self) -> None:
        writes = (self.write,) * 14
        others = self.sync, self.flush, self.flush, self.compact, self.checkpoint, self.reopen
        self.rng.choice((*writes, *others, self.kill))()

    @property
    def usable(self) -> Engine:
        assert self.engine is not None
        return self.engine

    def batch(self) -> tuple[WriteBatch, State]:
        """The next batch, and what it makes of the last state."""
        rng, batch, state = self.rng, WriteBatch(), dict(self.states[-1])
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            key, choice = rng.choice(KEYS), rng.random()
            if choice < 0.75:
                value = rng.choice((b"", b"ab" * rng.randrange(30), rng.randbytes(150)))
                batch.put(key, value)
                state[key] = value
            elif choice < 0.9:
                batch.delete(key)
                state.pop(key, None)
            else:
                stop = rng.choice((key + b"\xff", b"k%02d" % (int(key[1:]) + 5)))
                batch.delete_range(key, stop)
                for each in [each for each in state if key <= each < stop]:
                    del state[each]
        number = b"%d" % len(self.states)
        batch.put(NUMBER, number)
        state[NUMBER] = number
        return batch, state

    def write(self) -> None:
        batch, state = self.batch()
        self.states.append(state)
        self.uncertain = True
        try:
            self.usable.write(batch)
        except OSError:  # then it has not happened
            self.states.pop()
            self.uncertain = False
            raise
        self.uncertain = False
        self.kept = len(self.states) - 1
        if self.options["durability"] == "commit":
            self.floor = self.kept

    def sync(self) -> None:
        self.usable.sync()
        self.floor = self.kept

    def flush(self) -> None:
        self.usable.flush()
        self.floor = self.kept

    def compact(self) -> None:
        self.usable.compact()

    def checkpoint(self) -> None:
        name = f"copy{self.rng.randrange(1 << 30)}"  # one that failed is left as it is
        self.usable.checkpoint(name)
        self.checkpoints[name] = self.floor = self.kept

    def reopen(self) -> None:
        engine, self.engine = self.usable, None
        engine.close()
        self.floor = self.kept
        self.engine = self.open()
        assert dict(self.engine.scan()) == self.states[-1]

    def kill(self) -> None:
        engine, self.engine = self.usable, None
        engine._files.close()
        self.engine = self.open()
        # What was opened is durable: a reader has perhaps seen it.
        self.floor = self.kept
        assert dict(self.engine.scan()) == self.states[-1]

    def abandon(self) -> None:
        """Let go of the engine whatever state it and its disk are in."""
        engine, self.engine = self.engine, None
        if engine is not None:
            try:
                engine._files.close()
            except (PowerCut, MurmurError, OSError):
                return

    # -- what has to hold

    def number(self, found: State) -> int:
        """Which prefix of the history this is."""
        number = int(found.get(NUMBER, b"0"))
        assert number < len(self.states), f"batch {number} was never written"
        expected = self.states[number]
        assert found == expected, (
            f"not what batch {number} left: {sorted(found.items() ^ expected.items())}"
        )
        return number

    def see(self, engine: Engine) -> int:
        """Read all in every way; which prefix of the history it is."""
        found = dict(engine.scan())
        number = self.number(found)
        assert list(engine.scan()) == sorted(found.items())
        assert list(engine.scan(reverse=True)) == sorted(found.items(), reverse=True)
        assert engine.multi_get(KEYS) == [found.get(key) for key in KEYS]
        assert [engine.get(key) for key in KEYS] == [found.get(key) for key in KEYS]
        return number

    def examine(self, storage: MemoryStorage, floor: int) -> int:
        """Open what is left: nothing promised is lost, and writing goes on; how far it goes."""
        engine = self.open(storage)
        try:
            number = self.see(engine)
            assert number >= floor, f"batch {floor} was acknowledged, {number} is what is there"
            assert list(engine.check()) == []
            self._see_again(storage.crash(None), number)
            engine.put(b"later", b"1" * 70)
            engine.flush()
            engine.compact()
            assert engine.get(b"later") == b"1" * 70
        finally:
            engine.close()
        with self.open(storage.crash(None)) as engine:
            found = dict(engine.scan())
            assert found.pop(b"later") == b"1" * 70
            assert found == self.states[number]
            assert list(engine.check()) == []
        return number

    def _see_again(self, storage: MemoryStorage, number: int) -> None:
        """What has been read after opening is there after the next power cut."""
        with self.open(storage) as engine:
            assert self.number(dict(engine.scan())) == number

    def examine_checkpoints(self, storage: MemoryStorage) -> None:
        for name, number in self.checkpoints.items():
            with self.open(storage.at(name)) as engine:
                assert self.number(dict(engine.scan())) == number
                assert list(engine.check()) == []
