"""The engine while one operation after the other fails: each kind, each call; and without memory.

A seeded history meets the fault wherever that is: while it is opened, written, flushed, merged,
copied or closed, in the foreground or behind it. Whoever asked gets a clear error or what he asked
for; reading goes on; when the disk is well again, so is the engine, after opening it anew if it
said Poisoned; and nothing that was acknowledged is lost, by no kill and by no power cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from murmur.errors import Closed, Corruption, Locked, Poisoned
from murmur.kvcore import kernel
from murmur.kvcore import log as log_module
from murmur.kvcore.engine import Engine
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.record import PUT, Operation
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage, Storage
from tests.kvcore.engine_history import CONFIGURATIONS, KERNELS, History, replay, use_kernel

STEPS = 16
FULL = errno.ENOSPC


class Kind(NamedTuple):
    """A way to fail."""

    operation: str
    error: int = errno.EIO
    written: int = 0  # by a write, before it fails
    times: int | None = 1  # None: until somebody repairs it


KINDS = {
    "write": Kind("write"),
    "short write": Kind("write", written=5),
    "writes": Kind("write", times=None),
    "full disk": Kind("write", FULL, written=9),
    "full for long": Kind("write", FULL, written=9, times=None),
    "sync": Kind("sync"),
    "syncs": Kind("sync", times=None),
    "full at sync": Kind("sync", FULL),
    "directory sync": Kind("sync_directory"),
    "full at directory sync": Kind("sync_directory", FULL),
    "create": Kind("create"),
    "full at create": Kind("create", FULL),
    "rename": Kind("rename"),
    "full at rename": Kind("rename", FULL),
    "read": Kind("read"),
    "reads": Kind("read", times=None),
    "open": Kind("open"),
    "append": Kind("append"),
    "remove": Kind("remove"),
    "truncate": Kind("truncate"),
    "link": Kind("link"),
    "make directory": Kind("make_directory"),
    "list": Kind("list"),
    "exists": Kind("exists"),
    "size": Kind("size"),
    "lock": Kind("lock"),
    "preallocate": Kind("preallocate"),
    "full at preallocate": Kind("preallocate", FULL, times=None),
}


@pytest.fixture(params=KERNELS)
def kernel_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    use_kernel(monkeypatch, name)
    monkeypatch.setattr(log_module, "PREALLOCATED", 100)
    return name


class Trial(History):
    """A history in which something fails once; then all is well again."""

    storage: MemoryStorage

    def __init__(self, seed: int, configuration: str, kind: Kind, skip: int | None) -> None:
        super().__init__(seed, MemoryStorage(preallocates=seed % 2 == 1), configuration)
        self.settled = True
        self.kind = kind
        self.failures = 0
        if skip is not None:
            self.storage.fail(
                kind.operation,
                error=kind.error,
                skip=skip,
                times=kind.times,
                written=kind.written,
            )

    def run(self, steps: int) -> None:
        for turn in range(-1, steps):
            try:
                if turn < 0 or self.engine is None:
                    self.engine = self.open()
                else:
                    self.step()
                self.usable._tree.settle()
            except (OSError, Poisoned, Corruption) as error:
                self.failures += 1
                self.failed(error)
        try:
            self.reopen()
        except (OSError, Poisoned, Corruption) as error:
            self.failures += 1
            self.failed(error)

    def failed(self, error: Exception) -> None:
        cause = error
        while not isinstance(cause, OSError) and cause.__cause__ is not None:
            assert isinstance(cause.__cause__, Exception)
            cause = cause.__cause__
        # A file that could not be read is perhaps called damaged, with its name.
        assert isinstance(cause, OSError | Corruption), repr(error)
        if isinstance(cause, OSError):
            assert cause.errno == self.kind.error
        if self.engine is not None:
            self.read_on()
        self.storage.heal()
        if self.engine is None:
            self.open_again()
        elif isinstance(error, OSError) and self.kind.times is not None:
            self.go_on()
        else:
            try:
                self.go_on()
            except (Poisoned, Corruption):
                self.give_up()

    def read_on(self) -> None:
        """Read while the disk still fails."""
        try:
            assert self.see(self.usable) >= self.kept
        except OSError as again:
            if again.errno != self.kind.error or self.kind.operation not in (
                "read",
                "open",
                "size",
            ):
                raise

    def go_on(self) -> None:
        """Without opening it again."""
        assert self.see(self.usable) >= self.kept
        if self.uncertain:
            self.usable.put(b"never", b"")
        self.write()
        for _ in range(3):  # what failed behind a write may be told of once more
            try:
                self.flush()
            except OSError as error:
                if error.errno != FULL:
                    raise
            else:
                break
        else:
            raise AssertionError("it stays full")
        assert self.see(self.usable) == len(self.states) - 1

    def give_up(self) -> None:
        """Poisoned: refused until it is opened again."""
        engine, self.engine = self.usable, None
        with pytest.raises((Poisoned, Corruption)):
            engine.put(b"never", b"")
        self.see(engine)
        with suppress(Poisoned, Corruption):
            engine.close()
        with pytest.raises(Closed):
            engine.get(b"a")
        self.open_again()

    def open_again(self) -> None:
        """All that was acknowledged is there, for nobody was killed and no power was cut."""
        for chance in (None, Random(self.failures)):
            self.examine(self.storage.crash(chance), self.floor)
        self.engine = self.open()
        number = self.see(self.engine)
        assert number >= self.kept
        del self.states[number + 1 :]
        self.kept = self.floor = number


def calls(seed: int, configuration: str, kind: Kind) -> int:
    trial = Trial(seed, configuration, kind, None)
    before = trial.storage.calls[kind.operation]
    trial.run(STEPS)
    assert trial.failures == 0
    return trial.storage.calls[kind.operation] - before


def fail(seed: int, configuration: str, kind: str, skip: int) -> int:
    """One history with one fault; how many errors it gave."""
    with replay(f"fail({seed}, {configuration!r}, {kind!r}, {skip})"):
        trial = Trial(seed, configuration, KINDS[kind], skip)
        try:
            trial.run(STEPS)
            trial.storage.heal()
            assert trial.see(trial.usable) == len(trial.states) - 1
            trial.examine(trial.storage.crash(None), trial.floor)
        finally:
            trial.storage.heal()
            trial.abandon()
        return trial.failures


SILENT = {"exists", "list", "preallocate", "full at preallocate", "link", "make directory"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_operation_that_fails_is_told_of_and_costs_nothing(kernel_name: str, kind: str) -> None:
    failures = 0
    for number, configuration in enumerate(CONFIGURATIONS):
        seed = 2 + len(kind) + number
        total = calls(seed, configuration, KINDS[kind])
        most = 5 if kernel_name == "native" else 1
        step = max(1, -(-total // most))
        for skip in range(number % step, total, step):
            failures += fail(seed, configuration, kind, skip)
    assert failures or kind in SILENT or kernel_name == "pure"


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_at_every_call(kernel_name: str, configuration: str, kind: str) -> None:
    for seed in range(100, 104):
        for skip in range(calls(seed, configuration, KINDS[kind])):
            fail(seed, configuration, kind, skip)


def test_a_directory_that_could_not_be_closed_well_is_given_up() -> None:
    storage = MemoryStorage(preallocates=True)
    engine = Engine.open(storage)
    engine.put(b"a", b"1")
    storage.fail("truncate", times=None)
    with pytest.raises(Poisoned):
        engine.close()
    storage.heal()
    with Engine.open(storage) as engine:
        assert engine.get(b"a") == b"1"

    storage = MemoryStorage(preallocates=True)
    replica = Replica.open(storage)
    replica.write([Operation(PUT, b"\1a", b"1")])
    storage.fail("truncate", times=None)
    with pytest.raises(Poisoned):
        replica.close()
    storage.heal()
    with pytest.raises(Locked), Replica.open(storage):
        Replica.open(storage)


# -- without memory


class Starved(History):
    """A history whose every step is tried with memory for nothing, for one block, for two, ..."""

    failures = 0

    def run(self, steps: int) -> None:
        self.engine = self.open()
        for _ in range(steps):
            before, blocks = self.rng.getstate(), 0
            while not self.tried(blocks):
                blocks += 1 + blocks // 8
                self.rng.setstate(before)

    def tried(self, blocks: int) -> bool:
        if self.engine is None:
            self.engine = self.open()
        self.engine._tree.settle()
        batches = len(self.states)
        kernel._kernel.fail_allocation(1 + blocks)
        try:
            self.step()
        except MemoryError:
            self.failures += 1
        except Poisoned as error:  # durable already: then it happens all the same, with the next
            if not isinstance(error.__cause__, MemoryError):
                raise
            kernel._kernel.fail_allocation(0)
            self.usable.write([])
            self.kept = len(self.states) - 1
            assert self.see(self.usable) == self.kept
            return True
        else:
            return True
        finally:
            kernel._kernel.fail_allocation(0)
        if len(self.states) > batches:
            self.states.pop()  # it has not happened
        if self.engine is not None:
            assert self.see(self.engine) == len(self.states) - 1
            self.engine.write([])
            assert self.see(self.engine) == len(self.states) - 1, "it has happened after all"
            assert isinstance(self.storage, MemoryStorage)
            with self.open(self.storage.clone()) as again:
                assert self.number(dict(again.scan())) == len(self.states) - 1, "it is in the log"
        return False


def starve(seed: int, configuration: str, steps: int) -> int:
    with replay(f"starve({seed}, {configuration!r}, {steps})"):
        history = Starved(seed, MemoryStorage(preallocates=seed % 2 == 1), configuration)
        assert isinstance(history.storage, MemoryStorage)
        try:
            history.run(steps)
            history.examine(history.storage.clone(), history.kept)
            history.examine(history.storage.crash(None), history.floor)
        finally:
            history.abandon()
        return history.failures


needs_native = pytest.mark.skipif(not kernel.NATIVE, reason="counts the native kernel's blocks")


@needs_native
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_without_memory_nothing_happens_and_all_goes_on(configuration: str) -> None:
    assert starve(4, configuration, 20) + starve(5, configuration, 20) > 50


@needs_native
@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_without_memory_at_length(configuration: str) -> None:
    for seed in range(100, 150):
        starve(seed, configuration, 60)


# -- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(tmp_path)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system takes more rights")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(engine: Engine, state: dict[bytes, bytes], rng: Random) -> int:
    """Write until that fails a few times; how often it did."""
    refused = 0
    for _ in range(3000):
        key, value = b"%04d" % rng.randrange(2000), rng.randbytes(rng.choice((50, 2000)))
        try:
            engine.put(key, value)
        except OSError as error:
            if error.errno != FULL:
                raise
            refused += 1
            if refused == 5:
                break
        else:
            state[key] = value
    return refused


def patiently(engine: Engine) -> None:
    """Flush and compact; what failed behind may be told of once more."""
    for _ in range(4):
        try:
            engine.flush()
            engine.compact()
        except OSError as error:
            if error.errno != FULL:
                raise
        else:
            return
    raise AssertionError("it stays full")


def fill_and_free(storage: Storage, seed: int) -> None:
    """Fill the disk, read, make room, and write on, twice in one opening."""
    ballast = sorted(Path(storage.path).parent.glob("ballast*"))
    rng, state = Random(seed), dict[bytes, bytes]()
    engine = Engine.open(
        storage,
        durability=rng.choice(("none", "batched", "commit")),
        memtable_bytes=rng.choice((20_000, 100_000)),
        level0_tables=4,
        segment_bytes=60_000,
        separate_bytes=1000,
    )
    for round_ in range(2):
        assert fill(engine, state, rng) == 5
        assert dict(engine.scan()) == state
        assert engine.multi_get(list(state)) == list(state.values())
        assert list(engine.check()) == []
        if isinstance(storage, MemoryStorage):
            storage.limit(3 * SMALL if round_ else 2 * SMALL)
        else:
            ballast[round_].unlink()
        patiently(engine)
        engine.put(b"room", b"x" * 2000)
        state[b"room"] = b"x" * 2000
    assert dict(engine.scan()) == state
    engine.close()
    with Engine.open(storage) as engine:
        assert dict(engine.scan()) == state
        assert list(engine.check()) == []


SMALL = 400_000


@pytest.mark.parametrize("seed", range(6))
def test_a_full_disk_is_survived_without_opening_again(kernel_name: str, seed: int) -> None:
    storage = MemoryStorage(preallocates=seed % 2 == 1)
    storage.limit(SMALL)
    fill_and_free(storage, seed)


@pytest.mark.parametrize("seed", range(4))
def test_a_real_disk_that_is_full(kernel_name: str, small_disk: Path, seed: int) -> None:
    for name in ("ballast1", "ballast2"):
        (small_disk / name).write_bytes(bytes(700_000))
    fill_and_free(DiskStorage(small_disk / "db"), seed)


@pytest.mark.parametrize("seed", range(4))
def test_deleting_works_on_a_full_disk(kernel_name: str, seed: int) -> None:
    storage, rng, state = MemoryStorage(preallocates=True), Random(seed), dict[bytes, bytes]()
    storage.limit(SMALL)
    engine = Engine.open(
        storage, memtable_bytes=20_000, segment_bytes=60_000, separate_bytes=1000, level0_tables=4
    )
    assert fill(engine, state, rng) == 5
    for key in list(state)[:20]:
        engine.delete(key)
        del state[key]
    engine.delete_range(b"0", b"0500")
    state = {key: value for key, value in state.items() if key >= b"0500"}
    assert dict(engine.scan()) == state
    engine.sync()
    with contextlib.suppress(OSError):  # there is no room for a flush
        engine.close()
    storage.limit(None)
    with Engine.open(storage) as engine:
        assert dict(engine.scan()) == state


@pytest.mark.parametrize("seed", range(6))
def test_deleting_makes_room_on_a_full_disk(kernel_name: str, seed: int) -> None:
    storage = MemoryStorage(preallocates=seed % 2 == 1)
    storage.limit(SMALL)
    make_room(storage, seed)


@pytest.mark.parametrize("seed", range(2))
def test_deleting_makes_room_on_a_real_disk(kernel_name: str, small_disk: Path, seed: int) -> None:
    make_room(DiskStorage(small_disk / "db"), seed)


def make_room(storage: Storage, seed: int) -> None:
    rng = Random(seed)
    engine = Engine.open(
        storage, memtable_bytes=20_000, segment_bytes=20_000, separate_bytes=1000, level0_tables=4
    )
    for _ in range(2):
        state: dict[bytes, bytes] = {}
        assert fill(engine, state, rng) == 5
        engine.delete_range(b"0", b"1500")
        engine.delete_range(b"1500", b"2")
        assert dict(engine.scan()) == {}
        engine.flush()
        engine.compact()
        for n in range(100):
            engine.put(b"again %03d" % n, b"x" * 500)
        assert len(list(engine.scan())) == 100
        assert list(engine.check()) == []
        engine.delete_range(b"again", b"b")
    engine.close()
    with Engine.open(storage) as engine:
        assert list(engine.scan()) == []
