"""The tree under several threads, and under signals that interrupt the writer."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from random import Random
from typing import Any

import pytest

from murmur.kvcore.kernel import NATIVE
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.tree import Tree, TreeSnapshot

KB = 1 << 10


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def value_of(snapshot: TreeSnapshot) -> bytes:
    assert isinstance(snapshot.attachment, int)
    return b"%06d" % snapshot.attachment


def run_beside(readers: list[Callable[[], None]], write: Callable[[], None]) -> None:
    """Repeat the readers in threads of their own until the writer is through."""
    failures: list[BaseException] = []
    done = threading.Event()

    def repeat(reader: Callable[[], None]) -> None:
        try:
            while not done.is_set():
                reader()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=repeat, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        write()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def test_readers_see_whole_batches_beside_writes_flushes_and_compactions() -> None:
    tree = Tree.open(
        MemoryStorage(), memtable_bytes=100 * KB, table_bytes=8 * KB, cache_bytes=16 * KB
    )
    keys = [b"%03d" % number for number in range(400)]
    tree.write([(key, b"%06d" % 0) for key in keys], 0)
    batches = 300

    def write() -> None:
        rng = Random(1)
        for number in range(1, batches):
            value = b"%06d" % number
            extra = [(b"x%06d" % rng.randrange(10**6), value) for _ in range(10)]
            tree.write([*((key, value) for key in keys), *extra], number)
            if tree.full():
                tree.rotate(value)
            if number % 100 == 50:
                tree.compact()

    def scan() -> None:
        for reverse in (False, True):
            with tree.snapshot() as snapshot:
                expected = value_of(snapshot)
                found = list(snapshot.scan(b"", b"x", reverse=reverse))
                assert [key for key, _ in found] == (keys[::-1] if reverse else keys)
                assert {value for _, value in found} == {expected}
                others = list(snapshot.scan(b"x", None, reverse=reverse))
                assert all(value <= expected for _, value in others)

    def get() -> None:
        with tree.snapshot() as snapshot:
            expected = value_of(snapshot)
            assert {snapshot.get(key) for key in keys} == {expected}

    latest = [b""]

    def get_latest() -> None:
        value = tree.get(keys[7])
        assert value is not None
        assert value >= latest[0], "what was read once is not unread"
        latest[0] = value

    run_beside([scan, get, get_latest], write)
    assert tree.get(keys[0]) == b"%06d" % (batches - 1)
    tree.close()


class Overtaken(dict[bytes, Any]):
    """A memtable's versions, in which a reader is overtaken by two batches before it looks."""

    overtake: Callable[[], None] | None = None

    def get(self, key: bytes, default: Any = None) -> Any:
        overtake, self.overtake = self.overtake, None
        if overtake is not None:
            overtake()
        return super().get(key, default)


@pytest.mark.skipif(NATIVE, reason="it looks into the memtable of the kernel in Python")
def test_reading_the_latest_never_misses_what_was_there_before() -> None:
    tree = Tree.open(MemoryStorage())
    tree.write([(b"key", b"0")])
    memtable: Any = tree._head.state.memtable
    memtable.versions = versions = Overtaken(memtable.versions)

    def overtake() -> None:
        for number in (1, 2):
            tree.write([(b"key", b"%d" % number)])

    versions.overtake = overtake
    assert tree.get(b"key") == b"2"
    tree.close()


def test_closing_releases_whoever_waits() -> None:
    entered, proceed = threading.Event(), threading.Event()

    def hold(mark: bytes) -> None:
        entered.set()
        proceed.wait()

    storage = MemoryStorage()
    tree = Tree.open(storage, before_install=hold)
    tree.write([(b"a", b"1")])
    errors: list[BaseException] = []

    def flush() -> None:
        try:
            tree.flush(b"1")
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=flush)
    waiting.start()
    entered.wait()
    closing = threading.Thread(target=tree.close)
    closing.start()
    waiting.join()
    proceed.set()
    closing.join()
    assert [type(error).__name__ for error in errors] == ["Closed"]
    assert tree._upkeep._threads
    assert not any(thread.is_alive() for thread in tree._upkeep._threads.values())
    tree = Tree.open(storage)
    assert tree.mark == b"", "the flush was left off"
    tree.close()


def test_readers_do_not_wait_for_a_flush() -> None:
    entered, proceed = threading.Event(), threading.Event()

    def hold(mark: bytes) -> None:
        entered.set()
        proceed.wait()

    tree = Tree.open(MemoryStorage(), before_install=hold)
    tree.write([(b"a", b"1")])
    tree.rotate(b"1")
    entered.wait()
    tree.write([(b"b", b"2")])
    assert (tree.get(b"a"), tree.get(b"b")) == (b"1", b"2")
    with tree.snapshot() as snapshot:
        assert list(snapshot.scan(b"", None)) == [(b"a", b"1"), (b"b", b"2")]
    proceed.set()
    tree.flush(b"2")
    tree.close()


# Python itself swallows an interrupt that meets a finalizer, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_writer_interrupted_by_a_signal_leaves_nothing_and_can_go_on() -> None:
    """The batch is there whole or not at all, in memory and after flush and reopening."""

    main = threading.get_ident()
    delays: SimpleQueue[float | None] = SimpleQueue()
    interrupts: list[int] = []

    def kill() -> None:
        while (delay := delays.get()) is not None:
            time.sleep(delay)
            signal.pthread_kill(main, signal.SIGUSR1)

    def interrupt(number: int, frame: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    storage, rng = MemoryStorage(), Random(1)
    tree = Tree.open(storage, memtable_bytes=200 * KB, table_bytes=256 * KB)
    model: dict[bytes, bytes] = {}
    killer = threading.Thread(target=kill)
    killer.start()
    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for number in range(150):
            some = [b"%04d" % rng.randrange(3000) for _ in range(500)]
            batch: list[tuple[bytes, bytes | None]] = [
                (key, b"%d" % number if rng.random() < 0.8 else None) for key in some
            ]
            try:
                delays.put(rng.random() * 5e-4)
                tree.write(batch, number)
                if tree.full():
                    tree.rotate(b"%d" % number)
                with tree.snapshot() as snapshot:
                    list(snapshot.scan(b"0100", b"0200"))
                while len(interrupts) <= number:
                    time.sleep(1e-4)
            except KeyboardInterrupt:
                assert len(interrupts) == number + 1
            if tree.attachment == number:
                for key, value in batch:
                    model.pop(key, None)
                    if value is not None:
                        model[key] = value
            with tree.snapshot() as snapshot:
                assert dict(snapshot.scan(b"", None)) == model
    finally:
        delays.put(None)
        killer.join()
        signal.signal(signal.SIGUSR1, previous)
    assert len(interrupts) == 150
    tree.flush(b"end")
    tree.close()
    tree = Tree.open(storage)
    with tree.snapshot() as snapshot:
        assert dict(snapshot.scan(b"", None)) == model
    tree.close()


def test_a_forgotten_snapshot_can_be_closed_while_the_lock_is_held() -> None:
    """As when the garbage collector runs there, and ends a generator that has a snapshot."""
    tree = Tree.open(MemoryStorage())
    tree.write([(b"a", b"1")])

    def pairs() -> Iterator[object]:
        with tree.snapshot() as snapshot:
            yield from snapshot.scan(b"", None)

    forgotten = pairs()
    next(forgotten)
    with tree._head.lock:
        del forgotten
    assert not tree._head.state.memtable.pins
    tree.close()
