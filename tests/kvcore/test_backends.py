"""What every backend does: the same examples, and the same race against a dict.

A backend is opened by one function; all else in this file knows only the interface. A process that
is killed loses nothing that was flushed, whichever backend it had.
"""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import islice, pairwise, product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

import murmur
from murmur.errors import Closed, InvalidInput
from murmur.kvcore.backend import BACKENDS, KeyTree
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.replica import Replica
from murmur.kvcore.sqlite_tree import SqliteTree
from murmur.kvcore.storage import DiskStorage, Storage
from murmur.kvcore.tree import Tree
from tests.kvcore import test_replica

KB = 1 << 10


class SqliteStorage(DiskStorage):
    """A directory whose tree is on SQLite."""

    def at(self, directory: str) -> SqliteStorage:
        return SqliteStorage(Path(self.path) / directory)


@pytest.fixture(params=["lsm in memory", "lsm", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    match request.param:
        case "sqlite":
            return SqliteStorage(tmp_path / "db")
        case "lsm":
            return DiskStorage(tmp_path / "db")
    return MemoryStorage()


def open_tree(storage: Storage, before_install: Callable[[bytes], None] = lambda mark: None) -> Any:
    if isinstance(storage, SqliteStorage):
        return SqliteTree.open(
            storage, memtable_bytes=16 * KB, cache_bytes=64 * KB, before_install=before_install
        )
    return Tree.open(
        storage,
        memtable_bytes=16 * KB,
        table_bytes=4 * KB,
        cache_bytes=64 * KB,
        before_install=before_install,
    )


@pytest.fixture
def tree(storage: Storage) -> Iterator[KeyTree]:
    tree = open_tree(storage)
    yield tree
    tree.close()


def content(tree: KeyTree) -> dict[bytes, bytes]:
    with tree.snapshot() as snapshot:
        return dict(snapshot.scan(b"", None))


def numbered(start: int, stop: int, value: bytes = b"v") -> list[tuple[bytes, bytes | None]]:
    return [(b"%05d" % number, value * 50) for number in range(start, stop)]


# -- examples


def test_a_new_tree_is_empty(tree: KeyTree) -> None:
    assert tree.mark == b""
    assert tree.attachment is None
    assert tree.get(b"a") is None
    assert content(tree) == {}
    assert list(tree.check()) == []


def test_a_batch_is_published_with_its_attachment(tree: KeyTree) -> None:
    first = tree.write([(b"a", b"1"), (b"b", b"1")], "first")
    with tree.snapshot() as snapshot:
        second = tree.write([(b"a", None), (b"c", b"2")], "second")
        assert (snapshot.sequence, snapshot.attachment) == (first, "first")
        assert list(snapshot.scan(b"", None)) == [(b"a", b"1"), (b"b", b"1")]
        assert snapshot.get(b"c") is None
        assert snapshot.get(b"a") == b"1"
    assert second == first + 1
    assert tree.attachment == "second"
    assert [tree.get(key) for key in (b"a", b"b", b"c")] == [None, b"1", b"2"]


def test_an_empty_batch_publishes_its_attachment(tree: KeyTree) -> None:
    tree.write([], "only this")
    assert tree.attachment == "only this"


def test_an_empty_value_is_a_value(tree: KeyTree) -> None:
    tree.write([(b"", b""), (b"a", b"")])
    for _ in range(2):
        assert tree.get(b"") == b""
        assert content(tree) == {b"": b"", b"a": b""}
        tree.flush(b"m")


def test_ranges_are_half_open_both_ways(tree: KeyTree) -> None:
    tree.write([(key, key) for key in (b"a", b"b", b"ba", b"c")])
    for _ in range(2):
        with tree.snapshot() as snapshot:
            within = [(b"b", b"b"), (b"ba", b"ba")]
            assert list(snapshot.scan(b"b", b"c")) == within
            assert list(snapshot.scan(b"b", b"c", reverse=True)) == within[::-1]
            assert list(snapshot.scan(b"c", b"b")) == []
            assert list(snapshot.scan(b"b", b"b", reverse=True)) == []
            for start in (b"bb", b"c"):
                assert list(snapshot.scan(start, None)) == [(b"c", b"c")]
                assert list(snapshot.scan(start, None, reverse=True)) == [(b"c", b"c")]
            assert list(snapshot.scan(b"", b"a")) == []
        tree.flush(b"m")


class Interrupted(list[tuple[bytes, bytes | None]]):
    """A batch during which Ctrl-C is pressed."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes | None]]:
        yield from super().__iter__()
        raise KeyboardInterrupt


def test_an_interrupted_batch_is_not_flushed(tree: KeyTree, storage: Storage) -> None:
    tree.write([(b"a", b"1"), (b"b", b"1")], "before")
    with tree.snapshot() as snapshot:
        with pytest.raises(KeyboardInterrupt):
            tree.write(Interrupted([(b"a", b"2"), (b"c", b"2"), (b"b", None)]), "after")
        assert tree.attachment == "before"
        for _ in range(2):
            assert [tree.get(key) for key in (b"a", b"b", b"c")] == [b"1", b"1", None]
            assert dict(snapshot.scan(b"", None)) == content(tree) == {b"a": b"1", b"b": b"1"}
            tree.flush(b"m")
    tree.close()
    tree = open_tree(storage)
    assert content(tree) == {b"a": b"1", b"b": b"1"}
    tree.close()


def test_what_is_not_flushed_is_not_there_after_reopening(storage: Storage) -> None:
    tree = open_tree(storage)
    flushed = tree.write([(b"a", b"1")])
    tree.flush(b"m")
    tree.write([(b"a", b"2"), (b"b", b"2")])
    tree.close()
    tree = open_tree(storage)
    assert (tree.mark, content(tree)) == (b"m", {b"a": b"1"})
    assert tree.write([]) > flushed
    tree.close()


def test_closed_handles_say_so(tree: KeyTree) -> None:
    tree.write([(b"a", b"1")])
    snapshot = tree.snapshot()
    iterator = snapshot.scan(b"", None)
    snapshot.close()
    snapshot.close()
    with pytest.raises(Closed):
        next(iterator)
    with pytest.raises(Closed):
        snapshot.get(b"a")
    with pytest.raises(Closed):
        snapshot.scan(b"", None)
    tree.close()
    tree.close()
    for use in (
        lambda: tree.get(b"a"),
        lambda: tree.write([]),
        lambda: tree.flush(b""),
        lambda: tree.rotate(b""),
        tree.snapshot,
        tree.compact,
    ):
        with pytest.raises(Closed):
            use()


def test_full_and_rotate(tree: KeyTree, storage: Storage) -> None:
    rotations = 0
    for number in range(1000):
        tree.write([(b"%05d" % number, b"v" * 50)])
        if tree.full():
            tree.rotate(b"%d" % number)
            rotations += 1
    assert rotations > 5
    assert len(content(tree)) == 1000
    tree.flush(b"end")
    assert tree.mark == b"end"
    assert tree.stats()["frozen_memtables"] == 0


def test_a_checkpoint_is_a_tree_of_its_own(tree: KeyTree, storage: Storage) -> None:
    tree.write(numbered(0, 100))
    tree.flush(b"1")
    tree.write(numbered(50, 150, b"w"))
    tree.flush(b"2")
    tree.write([(b"00000", None)])
    target = storage.at("backup")
    storage.make_directory("backup")
    tree.checkpoint("backup")
    with pytest.raises(InvalidInput, match="holds a tree already"):
        tree.checkpoint("backup")
    tree.write([(key, None) for key, _ in numbered(0, 150)])
    tree.flush(b"3")
    tree.compact()
    copy = open_tree(target)
    assert copy.mark == b"2"
    assert content(copy) == dict(numbered(0, 50)) | dict(numbered(50, 150, b"w"))
    assert list(copy.check()) == []
    copy.compact()
    copy.close()
    assert content(tree) == {}


def test_a_snapshot_stays_whatever_is_flushed(tree: KeyTree) -> None:
    tree.write(numbered(0, 300))
    tree.flush(b"1")
    tree.write(numbered(100, 200, b"w"))
    expected = dict(numbered(0, 300)) | dict(numbered(100, 200, b"w"))
    snapshot = tree.snapshot()
    iterator = snapshot.scan(b"", None)
    backwards = snapshot.scan(b"", None, reverse=True)
    seen = [next(iterator) for _ in range(10)]
    seen_backwards = [next(backwards) for _ in range(10)]
    tree.write([(key, None) for key, _ in numbered(0, 300)])
    tree.flush(b"2")
    tree.compact()
    tree.write(numbered(50, 60, b"x"))
    tree.flush(b"3")
    assert content(tree) == dict(numbered(50, 60, b"x"))
    assert dict(snapshot.scan(b"", None)) == expected
    assert dict(seen + list(iterator)) == expected
    assert dict(seen_backwards + list(backwards)) == expected
    assert all(snapshot.get(key) == value for key, value in expected.items())
    snapshot.close()


def test_each_snapshot_has_its_own_version_of_a_key(tree: KeyTree) -> None:
    snapshots = []
    for number in range(12):
        tree.write([(b"key", b"%d" % number if number % 4 else None), (b"other", b"%d" % number)])
        snapshots.append(tree.snapshot())
        tree.write([(b"key", b"unseen")])
        if number == 6:
            tree.flush(b"m")
    for number, snapshot in enumerate(snapshots):
        value = b"%d" % number if number % 4 else None
        assert snapshot.get(b"key") == value
        assert dict(snapshot.scan(b"key", b"kez")) == ({b"key": value} if value else {})
        assert snapshot.get(b"other") == b"%d" % number
        snapshot.close()
    assert tree.get(b"key") == b"unseen"


def test_what_is_deleted_stays_deleted(tree: KeyTree) -> None:
    tree.write(numbered(0, 200))
    tree.flush(b"1")
    tree.write([(key, None) for key, _ in numbered(0, 200)[::2]])
    expected = dict(numbered(0, 200)[1::2])
    for mark in (b"2", b"3"):
        assert tree.get(b"00100") is None
        assert content(tree) == expected
        tree.flush(mark)
        tree.compact()
    assert list(tree.check()) == []


def test_a_flush_has_called_before_install_and_records_the_mark(storage: Storage) -> None:
    marks: list[bytes] = []
    tree = open_tree(storage, marks.append)
    tree.flush(b"1")
    tree.write([(b"a", b"1")])
    tree.flush(b"2")
    tree.flush(b"3")
    tree.flush(b"3")
    assert tree.mark == b"3"
    tree.close()
    assert marks == [b"1", b"2", b"3"]
    tree = open_tree(storage)
    assert (tree.mark, content(tree)) == (b"3", {b"a": b"1"})
    tree.close()


def test_what_the_hook_refuses_is_not_installed(storage: Storage) -> None:
    def refuse(mark: bytes) -> None:
        raise ValueError("the log")

    tree = open_tree(storage, refuse)
    tree.write([(b"a", b"1")])
    with pytest.raises((ValueError, murmur.Poisoned), match="the log"):
        tree.flush(b"m")
    assert tree.get(b"a") == b"1"
    tree.close()
    tree = open_tree(storage)
    assert (tree.mark, tree.get(b"a")) == (b"", None)
    tree.close()


def test_several_keys_prefixes_and_chunks(tree: Any) -> None:
    pairs = [*numbered(0, 700), (b"00100x", b"")]
    tree.write(pairs)
    for mark in (b"1", b"2"):
        assert tree.multi_get([b"00007", b"nothing", b"00100x"]) == [b"v" * 50, None, b""]
        with tree.snapshot() as snapshot:
            assert snapshot.multi_get([b"00007", b"nothing", b"00100x"]) == [b"v" * 50, None, b""]
            for reverse in (False, True):
                found = [key for key, _ in snapshot.scan_prefix(b"00100", reverse=reverse)]
                assert sorted(found, reverse=reverse) == found
                assert set(found) == {b"00100", b"00100x"}
            assert len(list(snapshot.scan_prefix(b"\xff"))) == 0
            seen = []
            for chunk in snapshot.chunks(b"00050", b"00650", bytes_=5000):
                parts = []
                for data, offsets in (
                    (chunk.keys, chunk.key_offsets),
                    (chunk.values, chunk.value_offsets),
                ):
                    ends = memoryview(offsets).cast("B").cast("I")
                    parts.append([bytes(data[a:b]) for a, b in pairwise(ends)])
                assert len(parts[0]) == chunk.count
                seen += zip(*parts, strict=True)
            assert seen == list(snapshot.scan(b"00050", b"00650"))
        tree.flush(mark)


def test_ranges_are_deleted_before_what_is_written_with_them(tree: Any) -> None:
    tree.write(numbered(0, 100))
    tree.flush(b"1")
    tree.write(numbered(100, 200))
    with tree.snapshot() as snapshot:
        tree.write([(b"00150", b"again"), (b"00300", b"new")], "with", [(b"00050", b"00180")])
        assert len(list(snapshot.scan(b"", None))) == 200
    tree.delete_range(b"00000", b"00010")
    kept = [*numbered(10, 50), (b"00150", b"again"), *numbered(180, 200), (b"00300", b"new")]
    for mark in (b"2", b"3"):
        assert content(tree) == dict(kept)
        assert tree.get(b"00060") is None
        tree.flush(mark)
        tree.compact()
    with pytest.raises(InvalidInput, match="is empty"):
        tree.delete_range(b"b", b"b")


def test_large_values_and_long_keys(tree: KeyTree) -> None:
    pairs = [(b"k" * 60_000 + b"%d" % number, bytes([number]) * (1 << 20)) for number in range(6)]
    tree.write(pairs)
    for mark in (b"1", b"2"):
        assert content(tree) == dict(pairs)
        tree.flush(mark)
    assert tree.get(pairs[3][0]) == pairs[3][1]


def test_readers_beside_a_writer_see_whole_batches(tree: KeyTree) -> None:
    keys = [b"%03d" % number for number in range(100)]
    tree.write([(key, b"%06d" % 0) for key in keys], 0)
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            latest = b""
            while not done.is_set():
                for reverse in (False, True):
                    with tree.snapshot() as snapshot:
                        expected = b"%06d" % snapshot.attachment
                        found = dict(snapshot.scan(b"", b"x", reverse=reverse))
                        assert found == dict.fromkeys(keys, expected)
                        assert snapshot.get(keys[7]) == expected
                value = tree.get(keys[7])
                assert value is not None
                assert value >= latest, "what was read once is not unread"
                latest = value
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, 120):
            value = b"%06d" % number
            tree.write([*((key, value) for key in keys), (b"x" + value, value)], number)
            if tree.full():
                tree.rotate(value)
            if number % 40 == 0:
                tree.compact()
    finally:
        done.set()
        for reader in readers:
            reader.join()
    if failures:
        raise failures[0]


# -- against a dict


Batch = list[tuple[bytes, bytes | None]]
Model = dict[bytes, bytes]

KEYS = [b"", *(b"%c%c" % pair for pair in product(b"abcdefgh", b"0123456789"))]
keys = st.sampled_from(KEYS)
bounds = keys | st.binary(max_size=3)


class Kept(NamedTuple):
    """A snapshot, what it must show, and iterators that are under way on it, with their rest."""

    snapshot: Any
    model: Model
    iterators: list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]]

    def expected(
        self, start: bytes, stop: bytes | None, *, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        within = (key for key in self.model if start <= key and (stop is None or key < stop))
        return [(key, self.model[key]) for key in sorted(within, reverse=reverse)]


class BackendMachine(RuleBasedStateMachine):
    """A log of batches and a dict beside the tree; a mark is a position in that log."""

    snapshots = Bundle("snapshots")
    kind: type[DiskStorage] = DiskStorage

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.log: list[Batch] = []
        self.model: Model = {}
        self.attachment: object = None
        self.count = 0
        self.kept: list[Kept] = []
        self.tree = self.open()

    def open(self) -> Any:
        self.marks: list[int] = []
        storage = self.kind(self.directory.name)
        tree = open_tree(storage, lambda mark: self.marks.append(int(mark)))
        self.found = int(tree.mark or b"0")
        return tree

    def mark(self) -> bytes:
        return b"%d" % len(self.log)

    def value(self, length: int) -> bytes | None:
        """Every value is different; length 0 stands for a deletion."""
        self.count += 1
        return (b"%d," % self.count).ljust(length) if length else None

    @rule(batch=st.lists(st.tuples(keys, st.sampled_from([0, 3, 60, 700])), max_size=12))
    def write(self, batch: list[tuple[bytes, int]]) -> None:
        self.put([(key, self.value(length)) for key, length in batch])

    @rule(seed=st.integers(0, 999), share=st.sampled_from([0.0, 0.3, 1.0]))
    def write_many(self, seed: int, share: float) -> None:
        rng = Random(seed)
        some = rng.sample(KEYS, rng.randrange(20, len(KEYS)))
        self.put([(key, self.value(0 if rng.random() < share else 80)) for key in some])

    @rule(start=bounds, stop=bounds, key=keys)
    def delete_range(self, start: bytes, stop: bytes, key: bytes) -> None:
        if start < stop:
            gone: Batch = [(each, None) for each in self.model if start <= each < stop]
            self.put([(key, b"with it")], ((start, stop),), gone)

    def put(
        self,
        entries: Batch,
        ranges: tuple[tuple[bytes, bytes], ...] = (),
        gone: Batch | None = None,
    ) -> None:
        self.log.append([*(gone or []), *entries])
        apply(self.model, self.log[-1])
        self.attachment = dict(self.model)
        self.tree.write(entries, self.attachment, ranges)
        if self.tree.full():
            self.tree.rotate(self.mark())

    @rule()
    def rotate(self) -> None:
        self.tree.rotate(self.mark())

    @rule()
    def flush(self) -> None:
        self.tree.flush(self.mark())
        assert self.tree.mark == self.mark()

    @rule()
    def compact(self) -> None:
        self.tree.compact()

    @rule()
    def reopen(self) -> None:
        self.let_go()
        self.tree.close()
        self.tree = self.open()
        self.recover()

    @rule()
    def crash(self) -> None:
        """Go on with the files as a killed process leaves them."""
        self.let_go()
        if self.kind is not SqliteStorage:
            self.tree.settle()  # else files go while they are being copied
        left = tempfile.TemporaryDirectory()
        shutil.copytree(self.directory.name, left.name, dirs_exist_ok=True)
        self.tree.close()
        self.directory.cleanup()
        self.directory = left
        self.tree = self.open()
        self.recover()

    def let_go(self) -> None:
        for kept in self.kept:
            kept.snapshot.close()
        self.kept.clear()

    def recover(self) -> None:
        position = int(self.tree.mark or b"0")
        model: Model = {}
        for entries in self.log[:position]:
            apply(model, entries)
        assert content(self.tree) == model
        self.attachment = None
        for entries in self.log[position:]:
            self.attachment = object()
            self.tree.write(entries, self.attachment)

    @rule()
    def check(self) -> None:
        assert list(self.tree.check()) == []

    @rule()
    def checkpoint(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            mark = int(self.tree.mark or b"0")
            self.tree.checkpoint(directory)
            copy = open_tree(self.kind(directory))
            assert int(copy.mark or b"0") >= mark
            assert list(copy.check()) == []
            copy.close()

    @rule(target=snapshots)
    def snapshot(self) -> Kept:
        kept = Kept(self.tree.snapshot(), dict(self.model), [])
        assert kept.snapshot.attachment == self.attachment
        self.kept.append(kept)
        return kept

    @rule(kept=consumes(snapshots))
    def close_snapshot(self, kept: Kept) -> None:
        kept.snapshot.close()
        self.kept = [each for each in self.kept if each is not kept]

    def open_still(self, kept: Kept) -> bool:
        return any(each is kept for each in self.kept)

    @rule(kept=snapshots, start=bounds, stop=st.none() | bounds, reverse=st.booleans())
    def scan(self, kept: Kept, start: bytes, stop: bytes | None, reverse: bool) -> None:
        if self.open_still(kept):
            found = list(kept.snapshot.scan(start, stop, reverse=reverse))
            assert found == kept.expected(start, stop, reverse=reverse)

    @rule(kept=snapshots, start=bounds, reverse=st.booleans(), steps=st.integers(0, 30))
    def begin_scan(self, kept: Kept, start: bytes, reverse: bool, steps: int) -> None:
        if self.open_still(kept):
            iterator = kept.snapshot.scan(start, None, reverse=reverse)
            expected = kept.expected(start, None, reverse=reverse)
            assert list(islice(iterator, steps)) == expected[:steps]
            kept.iterators.append((iterator, expected[steps:]))

    @rule(kept=snapshots)
    def end_scan(self, kept: Kept) -> None:
        if self.open_still(kept) and kept.iterators:
            iterator, expected = kept.iterators.pop(0)
            assert list(iterator) == expected

    @rule(kept=snapshots, some=st.lists(bounds, max_size=5))
    def get_from_snapshot(self, kept: Kept, some: list[bytes]) -> None:
        if self.open_still(kept):
            assert kept.snapshot.multi_get(some) == [kept.model.get(key) for key in some]

    @rule(key=bounds)
    def get(self, key: bytes) -> None:
        assert self.tree.get(key) == self.model.get(key)

    @invariant()
    def marks_are_announced_in_order(self) -> None:
        installed = int(self.tree.mark or b"0")  # first: a background may go on
        assert self.marks == sorted(self.marks)
        assert installed <= max([self.found, *self.marks])

    def teardown(self) -> None:
        assert list(self.tree.check()) == []
        assert content(self.tree) == self.model
        self.let_go()
        self.tree.close()
        self.directory.cleanup()


class SqliteMachine(BackendMachine):
    """The same on SQLite."""

    kind = SqliteStorage


@pytest.mark.parametrize("machine", [BackendMachine, SqliteMachine])
def test_a_backend_is_a_dict(machine: type[BackendMachine]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=25, stateful_step_count=40, deadline=None)
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("machine", [BackendMachine, SqliteMachine])
def test_a_backend_is_a_dict_for_long(machine: type[BackendMachine]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=2000, stateful_step_count=80, deadline=None)
    )


# -- killed

WRITER = """
import sys
from random import Random
from tests.kvcore.test_backends import SqliteStorage, apply, batch_of, content, open_tree
from murmur.kvcore.storage import DiskStorage

path, backend, seed = sys.argv[1:]
tree = open_tree((SqliteStorage if backend == "sqlite" else DiskStorage)(path))
number = int(tree.mark or b"0")
while True:
    number += 1
    tree.write(batch_of(int(seed), number))
    if number % 3 == 0:
        tree.flush(b"%d" % number)
        print(number, flush=True)
    if number % 100 == 0:
        tree.compact()
"""


def batch_of(seed: int, number: int) -> Batch:
    rng = Random(seed * 1_000_003 + number)
    some = [b"%03d" % rng.randrange(500) for _ in range(60)]
    return [(key, None if rng.random() < 0.3 else rng.randbytes(200)) for key in some]


def apply(model: Model, batch: Batch) -> None:
    for key, value in batch:
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_process_loses_nothing_that_was_flushed(tmp_path: Path, backend: str) -> None:
    rng = Random(5)
    model: dict[bytes, bytes] = {}
    number = 0
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "db"), backend, "7"],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert writer.stdout is not None
        flushed = 0
        for _ in range(rng.randrange(1, 60)):
            flushed = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        flushed = int(rest[-1]) if rest else flushed
        writer.stdout.close()
        writer.wait()
        kind = SqliteStorage if backend == "sqlite" else DiskStorage
        tree = open_tree(kind(tmp_path / "db"))
        mark = int(tree.mark)
        assert flushed <= mark
        while number < mark:
            number += 1
            apply(model, batch_of(7, number))
        assert content(tree) == model
        assert list(tree.check()) == []
        tree.close()


# -- replicas and swarms

# What test_replica shows of a replica on any storage, shown again of one on SQLite.
REPLICA_TESTS = [
    test
    for name, test in vars(test_replica).items()
    if name.startswith("test_")
    and "MemoryStorage" not in test.__code__.co_names
    and {*inspect.signature(test).parameters} <= {"tmp_path"}
]


@pytest.mark.parametrize("test", REPLICA_TESTS, ids=lambda test: test.__name__)
def test_a_replica_on_sqlite(
    test: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Replica] = []
    open_replica = test_replica.open_replica

    def open_on_sqlite(storage: Any = None, **options: Any) -> Replica:
        if storage is None:
            storage = DiskStorage(tmp_path / f"replica {len(opened)}")
        opened.append(open_replica(storage, backend="sqlite", **options))
        return opened[-1]

    monkeypatch.setattr(test_replica, "open_replica", open_on_sqlite)
    try:
        test(**dict.fromkeys(inspect.signature(test).parameters, tmp_path))
    finally:
        for replica in opened:
            replica.close()


def test_most_of_what_a_replica_does_is_shown_on_sqlite() -> None:
    assert len(REPLICA_TESTS) > 15


def test_replicas_of_both_backends_come_to_hold_the_same(tmp_path: Path) -> None:
    with (
        murmur.open(tmp_path / "lsm", group="g") as lsm,
        murmur.open(tmp_path / "sqlite", group="g", backend="sqlite") as sqlite,
    ):
        sqlite.sql("CREATE TABLE note (id INT PRIMARY KEY, body TEXT UNIQUE, likes COUNTER)")
        rows = [(number, f"body {number}", 1) for number in range(500)]
        sqlite.execute_many("INSERT INTO note VALUES (?, ?, ?)", rows)
        sqlite.put("host", b"one")
        lsm.put("host", b"two")
        lsm.connect_peer(sqlite.ticket())
        for swarm in (lsm, sqlite):
            swarm.wait_for()
        sqlite.flush()
        for swarm in (lsm, sqlite):
            swarm.sql("UPDATE note SET likes = likes + 1 WHERE id % 2 = 0")
        lsm.sql("DELETE FROM note WHERE id >= 400")
        for swarm in (lsm, sqlite):
            swarm.wait_for()
        for swarm in (lsm, sqlite):
            assert swarm.sql("SELECT count(*), sum(likes) FROM note").fetchall() == [(400, 800)]
            assert swarm.sql("SELECT id FROM note WHERE body = 'body 77'").fetchall() == [(77,)]
            assert swarm.check() == []
        assert lsm.state_hash() == sqlite.state_hash()
        assert lsm.get("host") == sqlite.get("host")
    with murmur.open(tmp_path / "sqlite", group="g") as again:
        assert again.settings["backend"] == "sqlite"
        assert again.sql("SELECT count(*) FROM note").fetchall() == [(400,)]
