"""Memtables, flushes, merges and snapshots against a dict: a state machine for each kernel.

What the tree does with a kernel, in the smallest form: two levels below the memtables, level 0 with
whole flushed memtables and one sorted run. Snapshots hold their arrangement and pin their sequence.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from murmur.kvcore.kernel import Entry
from tests.kvcore.kernel.folder import ONE_TABLE, Folder, Range, load_kernel

keys = st.binary(max_size=2) | st.sampled_from([b"key%02d" % number for number in range(30)])
values = st.none() | st.binary(max_size=60) | st.integers(0, 9000).map(bytes)
entries = st.lists(st.tuples(keys, values), max_size=20)
ranges = st.lists(st.tuples(keys, keys), max_size=2)


class Snapshot:
    """A pinned state, and what it is to read."""

    def __init__(self, memtable: Any, reads: Any, sequence: int, model: dict[bytes, bytes]) -> None:
        self.memtable = memtable
        self.reads = reads
        self.sequence = sequence
        self.model = dict(model)


class Engine(RuleBasedStateMachine):
    """A tree without files' names, threads or recovery."""

    name: ClassVar[str]
    kernel: ModuleType
    snapshots = Bundle("snapshots")

    @initialize(
        options=st.fixed_dictionaries(
            {
                "block_bytes": st.sampled_from([1, 50, 4096]),
                "codec": st.sampled_from([0, 1, 2]),
                "bits_per_key": st.sampled_from([0, 10]),
                "separate_bytes": st.sampled_from([0, 30]),
            }
        ),
        table_bytes=st.sampled_from([1, 300, ONE_TABLE]),
    )
    def open(self, options: dict[str, int], table_bytes: int) -> None:
        self.kernel = load_kernel(self.name)
        self.folder = Folder(self.kernel)
        self.options, self.table_bytes = options, table_bytes
        self.sequence = 0
        self.model: dict[bytes, bytes] = {}
        self.memtable = self.kernel.Memtable(0)
        self.frozen: list[Any] = []
        self.level0: list[Any] = []
        self.level1: list[Any] = []
        self.latest = self.kernel.Latest(self._reads(), 0)

    def _reads(self) -> Any:
        return self.folder.reads([self.level0, self.level1], [self.memtable, *self.frozen])

    def _arrange(self) -> None:
        self.latest.move(self._reads(), self.sequence)

    @rule(entries=entries, ranges=ranges, published=st.sampled_from([True, True, True, False]))
    def write(self, entries: list[Entry], ranges: list[Range], published: bool) -> None:
        pinned = sorted(self.memtable.pins)
        self.memtable.apply(self.sequence + 1, entries, pinned, ranges)
        if not published:  # it was interrupted
            return
        self.sequence += 1
        for start, stop in ranges:
            for key in [key for key in self.model if start <= key < stop]:
                del self.model[key]
        for key, value in entries:
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value
        self._arrange()

    @rule(target=snapshots)
    def pin(self) -> Snapshot:
        pins = self.memtable.pins
        pins[self.sequence] = pins.get(self.sequence, 0) + 1
        return Snapshot(self.memtable, self._reads(), self.sequence, self.model)

    @rule(snapshot=consumes(snapshots))
    def unpin(self, snapshot: Snapshot) -> None:
        pins = snapshot.memtable.pins
        pins[snapshot.sequence] -= 1
        if not pins[snapshot.sequence]:
            del pins[snapshot.sequence]

    @rule()
    def rotate(self) -> None:
        self.memtable.freeze(self.sequence)
        self.frozen.insert(0, self.memtable)
        self.memtable = self.kernel.Memtable(self.sequence)
        self._arrange()

    @precondition(lambda self: self.frozen)
    @rule()
    def flush(self) -> None:
        memtable = self.frozen.pop()
        if len(memtable):
            (table,) = self.folder.write([memtable], **self.options)
            self.level0.insert(0, table)
        self._arrange()

    @precondition(lambda self: self.level0 or self.level1)
    @rule(drop=st.booleans(), relocate=st.booleans())
    def merge_all(self, drop: bool, relocate: bool) -> None:
        sources = [*([table] for table in self.level0), self.level1]
        self.level1 = self._merge(sources, drop=drop, relocate=relocate)
        self.level0 = []
        self._arrange()

    @precondition(lambda self: len(self.level0) >= 2)
    @rule(data=st.data())
    def merge_in_level_0(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.level0) - 2))
        stop = data.draw(st.integers(start + 2, len(self.level0)))
        sources = [[table] for table in self.level0[start:stop]]
        self.level0[start:stop] = self._merge(sources, drop=False, relocate=False, one=True)
        self._arrange()

    @precondition(lambda self: len(self.level1) >= 2)
    @rule(data=st.data(), relocate=st.booleans())
    def rewrite_a_part_of_level_1(self, data: st.DataObject, relocate: bool) -> None:
        start = data.draw(st.integers(0, len(self.level1) - 2))
        stop = data.draw(st.integers(start + 1, len(self.level1)))
        self.level1[start:stop] = self._merge(
            [self.level1[start:stop]], drop=False, relocate=relocate
        )
        self._arrange()

    def _merge(self, sources: list[Any], *, drop: bool, relocate: bool, one: bool = False) -> Any:
        return self.folder.write(
            sources,
            drop_tombstones=drop,
            relocate=self.folder.values if relocate else (),
            table_bytes=ONE_TABLE if one else self.table_bytes,
            **self.options,
        )

    @rule(snapshot=snapshots, start=keys, stop=st.none() | keys)
    def read(self, snapshot: Snapshot, start: bytes, stop: bytes | None) -> None:
        self._compare(snapshot.reads, snapshot.sequence, snapshot.model, start, stop)

    @rule(start=keys, stop=st.none() | keys)
    def read_now(self, start: bytes, stop: bytes | None) -> None:
        self._compare(self._reads(), self.sequence, self.model, start, stop)

    @invariant()
    def latest_is_the_model(self) -> None:
        some = [b"key%02d" % number for number in range(0, 30, 3)]
        expected = [self.model.get(key) for key in some]
        assert [self.latest.get(key) for key in some] == expected
        assert self.latest.multi_get(some) == expected

    @invariant()
    def level_1_is_sorted(self) -> None:
        for left, right in zip(self.level1, self.level1[1:], strict=False):
            assert left.info.first <= left.info.last <= right.info.first

    def teardown(self) -> None:
        for table in [*self.level0, *self.level1]:
            assert list(table.check(self.folder.values)) == []

    @staticmethod
    def _compare(
        reads: Any, sequence: int, model: dict[bytes, bytes], start: bytes, stop: bytes | None
    ) -> None:
        within = [
            pair
            for pair in sorted(model.items())
            if start <= pair[0] and (stop is None or pair[0] < stop)
        ]
        assert list(reads.scan(start, stop, sequence)) == within
        assert list(reads.scan(start, stop, sequence, reverse=True)) == within[::-1]
        found = b"".join(
            bytes(chunk.keys) + bytes(chunk.values)
            for chunk in reads.chunks(start, stop, sequence, bytes_=1 << 40)
        )
        assert found == b"".join(k for k, _ in within) + b"".join(v for _, v in within)
        asked = [start, *model]
        assert reads.multi_get(asked, sequence) == [model.get(key) for key in asked]
        assert [reads.get(key, sequence) for key in asked] == [model.get(key) for key in asked]


class PureEngine(Engine):
    name = "pure"


class NativeEngine(Engine):
    name = "native"


TestPure = PureEngine.TestCase
TestNative = NativeEngine.TestCase
TestPure.settings = TestNative.settings = settings(
    max_examples=150, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)
