"""The tree against a dict, through snapshots, flushes, compactions and reopenings."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import DiskStorage, Storage
from murmur.kvcore.tree import Tree, TreeSnapshot

Model = dict[bytes, bytes]
Batch = list[tuple[bytes, bytes | None]]

KEYS = [b"", *(b"%c%c" % pair for pair in itertools.product(b"abcdefgh", b"0123456789"))]
keys = st.sampled_from(KEYS)
bounds = keys | st.binary(max_size=3)


class Kept:
    """A snapshot, what it must show, and iterators that are under way on it."""

    def __init__(self, snapshot: TreeSnapshot, model: Model) -> None:
        self.snapshot = snapshot
        self.model = model
        self.iterators: list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = []

    def expected(
        self, start: bytes, stop: bytes | None, *, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        within = (k for k in self.model if start <= k and (stop is None or k < stop))
        return [(key, self.model[key]) for key in sorted(within, reverse=reverse)]


class TreeMachine(RuleBasedStateMachine):
    """Log of batches and a dict beside the tree; a mark is a position in that log."""

    snapshots = Bundle("snapshots")
    on_disk = False

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory() if self.on_disk else None
        self.storage: Storage = (
            DiskStorage(self.directory.name) if self.directory else MemoryStorage()
        )
        self.log: list[Batch] = []
        self.model: Model = {}
        self.attachment: object = None
        self.marks: list[bytes] = []
        self.counter = itertools.count()
        self.kept: list[Kept] = []

    @initialize()
    def begin(self) -> None:
        self.tree = self.open()

    def open(self) -> Tree:
        self.marks = []
        return Tree.open(
            self.storage,
            memtable_bytes=12 << 10,
            table_bytes=1 << 10,  # so that some levels fill
            cache_bytes=20 << 10,
            before_install=self.marks.append,
        )

    def mark(self) -> bytes:
        return b"%d" % len(self.log)

    @rule(batch=st.lists(st.tuples(keys, st.sampled_from([0, 3, 60, 700])), max_size=12))
    def write(self, batch: list[tuple[bytes, int]]) -> None:
        # Length 0 stands for a deletion; every value is different.
        entries: Batch = [
            (key, (b"%d," % next(self.counter)).ljust(length) if length else None)
            for key, length in batch
        ]
        self.put(entries)

    @rule(seed=st.integers(0, 999), share=st.sampled_from([0.0, 0.3, 1.0]))
    def write_many(self, seed: int, share: float) -> None:
        rng = Random(seed)
        some = rng.sample(KEYS, rng.randrange(20, len(KEYS)))
        self.put(
            [
                (key, None if rng.random() < share else (b"%d," % next(self.counter)).ljust(80))
                for key in some
            ]
        )

    @rule(start=st.integers(0, 70), count=st.integers(5, 12), remove=st.booleans())
    def write_in_order(self, start: int, count: int, remove: bool) -> None:
        some = sorted(KEYS)[start : start + count]
        value = None if remove else (b"%d," % next(self.counter)).ljust(100)
        self.put([(key, value) for key in some])
        self.flush()

    def put(self, entries: Batch) -> None:
        self.log.append(entries)
        apply(self.model, entries)
        self.attachment = dict(self.model)
        self.tree.write(entries, self.attachment)
        if self.tree.full():
            self.tree.rotate(self.mark())

    @rule()
    def rotate(self) -> None:
        self.tree.rotate(self.mark())

    @rule()
    def flush(self) -> None:
        self.tree.flush(self.mark())
        assert self.tree.mark == self.mark()
        assert self.tree.stats()["frozen_memtables"] == 0

    @rule()
    def compact(self) -> None:
        self.tree.compact()

    @rule()
    def reopen(self) -> None:
        for kept in self.kept:
            kept.snapshot.close()
        self.kept.clear()
        self.tree.close()
        self.tree = self.open()
        position = int(self.tree.mark or b"0")
        with self.tree.snapshot() as snapshot:
            assert dict(snapshot.scan(b"", None)) == replay(self.log[:position])
        self.attachment = None
        for entries in self.log[position:]:
            self.attachment = object()
            self.tree.write(entries, self.attachment)

    @rule()
    def check(self) -> None:
        assert list(self.tree.check()) == []

    @rule(target=snapshots)
    def snapshot(self) -> Kept:
        kept = Kept(self.tree.snapshot(), dict(self.model))
        assert kept.snapshot.attachment == self.attachment
        self.kept.append(kept)
        return kept

    @rule(kept=consumes(snapshots))
    def close_snapshot(self, kept: Kept) -> None:
        kept.snapshot.close()
        if kept in self.kept:
            self.kept.remove(kept)

    @rule(kept=snapshots, start=bounds, stop=st.none() | bounds, reverse=st.booleans())
    def scan(self, kept: Kept, start: bytes, stop: bytes | None, reverse: bool) -> None:
        if kept in self.kept:
            found = list(kept.snapshot.scan(start, stop, reverse=reverse))
            assert found == kept.expected(start, stop, reverse=reverse)

    @rule(kept=snapshots, start=bounds, reverse=st.booleans(), steps=st.integers(0, 30))
    def begin_scan(self, kept: Kept, start: bytes, reverse: bool, steps: int) -> None:
        if kept in self.kept:
            iterator = kept.snapshot.scan(start, None, reverse=reverse)
            expected = kept.expected(start, None, reverse=reverse)
            assert list(itertools.islice(iterator, steps)) == expected[:steps]
            kept.iterators.append((iterator, expected[steps:]))

    @rule(kept=snapshots)
    def end_scan(self, kept: Kept) -> None:
        if kept in self.kept and kept.iterators:
            iterator, expected = kept.iterators.pop(0)
            assert list(iterator) == expected

    @rule(kept=snapshots, key=bounds)
    def get_from_snapshot(self, kept: Kept, key: bytes) -> None:
        if kept in self.kept:
            assert kept.snapshot.get(key) == kept.model.get(key)

    @rule(key=bounds)
    def get(self, key: bytes) -> None:
        assert self.tree.get(key) == self.model.get(key)

    @invariant()
    def marks_are_announced_in_order(self) -> None:
        if hasattr(self, "tree"):
            installed = self.tree.mark  # first: the background goes on
            announced = [*map(int, self.marks)]
            assert announced == sorted(announced)
            assert not announced or int(installed or b"0") <= announced[-1]

    def teardown(self) -> None:
        if hasattr(self, "tree"):
            assert list(self.tree.check()) == []
            with self.tree.snapshot() as snapshot:
                assert dict(snapshot.scan(b"", None)) == self.model
            self.tree.close()
        if self.directory:
            self.directory.cleanup()


class DiskTreeMachine(TreeMachine):
    """The same on a real directory."""

    on_disk = True


def apply(model: Model, entries: Batch) -> None:
    for key, value in entries:
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value


def replay(log: list[Batch]) -> Model:
    model: Model = {}
    for entries in log:
        apply(model, entries)
    return model


def test_the_tree_is_a_dict_in_memory() -> None:
    run_state_machine_as_test(
        TreeMachine, settings=settings(max_examples=300, stateful_step_count=40, deadline=None)
    )


def test_the_tree_is_a_dict_on_disk() -> None:
    run_state_machine_as_test(
        DiskTreeMachine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None)
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_tree_is_a_dict_for_long() -> None:
    run_state_machine_as_test(
        TreeMachine, settings=settings(max_examples=2000, stateful_step_count=100, deadline=None)
    )
