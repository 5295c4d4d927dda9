"""The tree against a dict, through snapshots, flushes, merges, ingests, backups and reopenings.

Under several options: whole, with many small levels and two threads to merge, with large values in
files of their own, and compressed.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
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

from murmur.kvcore.backup import Backup
from murmur.kvcore.ingest import Source, TableBuilder, table_info
from murmur.kvcore.kernel import Chunk
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.options import Options
from murmur.kvcore.storage import DiskStorage, Storage
from murmur.kvcore.tree import Tree, TreeSnapshot

Model = dict[bytes, bytes]
Entries = list[tuple[bytes, bytes | None]]
Ranges = list[tuple[bytes, bytes]]
Batch = tuple[Entries, Ranges]

KEYS = [b"", *(b"%c%c" % pair for pair in itertools.product(b"abcdefgh", b"0123456789"))]
keys = st.sampled_from(KEYS)
bounds = keys | st.binary(max_size=3)
ranges = st.tuples(bounds, bounds).filter(lambda pair: pair[0] < pair[1])

KB = 1 << 10
OPTIONS = {
    "plain": Options(
        memtable_bytes=12 * KB, table_bytes=1 * KB, cache_bytes=20 * KB, level0_tables=4
    ),
    "deep": Options(
        memtable_bytes=1 * KB,
        table_bytes=512,
        cache_bytes=4 * KB,
        block_bytes=128,
        level0_tables=2,
        level_ratio=2,
        compact_threads=2,
        filter_bits=0,
    ),
    "apart": Options(
        memtable_bytes=8 * KB,
        table_bytes=512,
        cache_bytes=0,
        level0_tables=2,
        level_ratio=3,
        separate_bytes=50,
        garbage_ratio=0.2,
        tombstone_ratio=0.2,
        filter_bits=10,
    ),
    "small": Options(
        memtable_bytes=4 * KB,
        pending_memtables=1,
        table_bytes=2 * KB,
        cache_bytes=2 * KB,
        block_bytes=256,
        level0_tables=3,
        compression=("none", "lz4", "zstd"),
        separate_bytes=500,
        garbage_ratio=0.9,
    ),
}


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
    options = OPTIONS["plain"]

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
        return Tree.open(self.storage, options=self.options, before_install=self.marks.append)

    def mark(self) -> bytes:
        return b"%d" % len(self.log)

    @rule(batch=st.lists(st.tuples(keys, st.sampled_from([0, 3, 60, 700])), max_size=12))
    def write(self, batch: list[tuple[bytes, int]]) -> None:
        # Length 0 stands for a deletion; every value is different.
        entries: Entries = [
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

    @rule(some=st.lists(ranges, min_size=1, max_size=3), key=keys, put=st.booleans())
    def delete_ranges(self, some: Ranges, key: bytes, put: bool) -> None:
        self.put([(key, b"%d," % next(self.counter))] if put else [], some)

    @rule(start=st.integers(0, 70), count=st.integers(1, 30), gap=st.integers(1, 3))
    def ingest(self, start: int, count: int, gap: int) -> None:
        pairs = [
            (key, (b"%d," % next(self.counter)).ljust(70))
            for key in sorted(KEYS)[start : start + count * gap : gap]
        ]
        name = f"{next(self.counter)}.ready"
        builder = TableBuilder(self.storage, name)
        for pair in pairs:
            builder.add(*pair)
        builder.finish()
        self.log.append((list(pairs), []))
        apply(self.model, self.log[-1])
        self.tree.ingest([Source(self.storage, name, table_info(self.storage, name))], self.mark())
        self.storage.remove(name)

    def put(self, entries: Entries, ranges: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.log.append((entries, list(ranges)))
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
        for entries, some in self.log[position:]:
            self.attachment = object()
            self.tree.write(entries, self.attachment, some)

    @rule()
    def check(self) -> None:
        assert list(self.tree.check()) == []

    @rule()
    def settle(self) -> None:
        self.tree.settle()
        assert self.tree.stats()["frozen_memtables"] == 0

    @rule()
    def checkpoint(self) -> None:
        name = f"checkpoint{next(self.counter)}"
        self.tree.checkpoint(name)
        self.holds_what_its_mark_says(self.storage.at(name))

    @rule(keep=st.integers(1, 3))
    def backup(self, keep: int) -> None:
        self.tree.backup("backup")
        name = f"restored{next(self.counter)}"
        backup = Backup(self.storage.at("backup"))
        backup.restore(self.storage.at(name))
        self.holds_what_its_mark_says(self.storage.at(name))
        backup.prune(keep)
        assert list(backup.check()) == []

    def holds_what_its_mark_says(self, storage: Storage) -> None:
        copy = Tree.open(storage, options=self.options)
        with copy.snapshot() as snapshot:
            expected = replay(self.log[: int(copy.mark or b"0")])
            assert dict(snapshot.scan(b"", None)) == expected
        assert list(copy.check()) == []
        copy.close()

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

    @rule(kept=snapshots, some=st.lists(bounds, max_size=8))
    def get_many_from_snapshot(self, kept: Kept, some: list[bytes]) -> None:
        if kept in self.kept:
            assert kept.snapshot.multi_get(some) == [kept.model.get(key) for key in some]

    @rule(kept=snapshots, prefix=st.binary(max_size=1), reverse=st.booleans())
    def scan_prefix(self, kept: Kept, prefix: bytes, reverse: bool) -> None:
        if kept in self.kept:
            found = list(kept.snapshot.scan_prefix(prefix, reverse=reverse))
            expected = [pair for pair in kept.model.items() if pair[0].startswith(prefix)]
            assert found == sorted(expected, reverse=reverse)

    @rule(kept=snapshots, start=bounds, stop=st.none() | bounds)
    def chunks(self, kept: Kept, start: bytes, stop: bytes | None) -> None:
        if kept in self.kept:
            found = []
            for chunk in kept.snapshot.chunks(start, stop, bytes_=500):
                found += list(unpacked(chunk))
            assert found == kept.expected(start, stop, reverse=False)

    @rule(some=st.lists(bounds, max_size=8))
    def get_many(self, some: list[bytes]) -> None:
        assert self.tree.multi_get(some) == [self.model.get(key) for key in some]

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


def apply(model: Model, batch: Batch) -> None:
    entries, ranges = batch
    for start, stop in ranges:
        for key in [key for key in model if start <= key < stop]:
            del model[key]
    for key, value in entries:
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value


def replay(log: list[Batch]) -> Model:
    model: Model = {}
    for batch in log:
        apply(model, batch)
    return model


def unpacked(chunk: Chunk) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of a chunk, from its bytes and offsets."""
    keys, values = bytes(chunk.keys), bytes(chunk.values)
    key_offsets = memoryview(chunk.key_offsets).cast("B").cast("I").tolist()
    value_offsets = memoryview(chunk.value_offsets).cast("B").cast("I").tolist()
    assert len(key_offsets) == len(value_offsets) == chunk.count + 1
    for (a, b), (c, d) in zip(
        itertools.pairwise(key_offsets), itertools.pairwise(value_offsets), strict=True
    ):
        yield keys[a:b], values[c:d]


def run(name: str, *, on_disk: bool, examples: int, steps: int) -> None:
    machine = type(
        f"{name.title()}TreeMachine",
        (TreeMachine,),
        {"options": OPTIONS[name], "on_disk": on_disk},
    )
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_the_tree_is_a_dict_in_memory(name: str) -> None:
    run(name, on_disk=False, examples=45, steps=50)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_tree_is_a_dict_on_disk(name: str) -> None:
    run(name, on_disk=True, examples=8, steps=50)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_tree_is_a_dict_for_long(name: str) -> None:
    run(name, on_disk=False, examples=1000, steps=100)
