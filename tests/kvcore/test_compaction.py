"""What compaction picks, on tables that exist only in memory: by example, and against a dict.

The machine runs several plans at once and ends them in any order, beside flushes and ingests; after
every step each key must read as the dict says. Threads would find the same orders, by chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from murmur.kvcore import compaction
from murmur.kvcore.compaction import (
    OLD,
    Plan,
    arranged,
    at_leisure,
    capacity,
    clearing,
    everything,
    hidden,
    pick,
    scores,
)
from murmur.kvcore.ingest import place
from murmur.kvcore.kernel import Ranges, Table, TableInfo, ValueFile
from murmur.kvcore.kernel.pure.ranges import join
from murmur.kvcore.options import Options
from murmur.kvcore.version import Version, size_of

Value = bytes | None
Range = tuple[bytes, bytes]


class FakeTable:
    """A table in name only: what a merge would find in it stands beside."""

    def __init__(
        self,
        number: int,
        entries: Mapping[bytes, Value],
        ranges: Sequence[Range] = (),
        *,
        size: int | None = None,
        references: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.entries = dict(sorted(entries.items()))
        self.pairs = sorted(ranges)
        keys = list(self.entries)
        first = min([*keys[:1], *(start for start, _ in self.pairs[:1])])
        last = max([*keys[-1:], *(stop for _, stop in self.pairs)])
        dead = sum(value is None for value in entries.values())
        self.info = TableInfo(
            number,
            10 * len(keys) + 10 * len(ranges) if size is None else size,
            len(keys),
            dead,
            len(ranges),
            number,
            0,
            first,
            last,
            references,
        )
        self.name = f"{number}"

    def ranges(self) -> Ranges:
        """Its range tombstones."""
        return join(self.pairs)

    def find(self, key: bytes) -> Value | bool:
        """The value, None if it is deleted here, False if older tables know."""
        if key in self.entries:
            return self.entries[key]
        return None if any(start <= key < stop for start, stop in self.pairs) else False


class FakeFile:
    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size


def table(number: int, first: str, last: str = "", **details: Any) -> Table:
    """A table from one key to another."""
    entries = {first.encode(): b"v", (last or first).encode(): b"v"}
    return cast("Table", FakeTable(number, entries, **details))


def dead(number: int, first: str, last: str = "", **details: Any) -> Table:
    """A table of tombstones."""
    entries = {first.encode(): None, (last or first).encode(): None}
    return cast("Table", FakeTable(number, entries, **details))


def version(*levels: Sequence[Table], values: Mapping[int, int] | None = None) -> Version:
    files = {number: FakeFile(number, size) for number, size in (values or {}).items()}
    return Version(levels, values=cast("dict[int, ValueFile]", files))


def numbers(plan: Plan | None) -> list[int]:
    assert plan is not None
    return [table.info.number for table in plan.inputs]


MB = 1 << 20
SMALL = Options(memtable_bytes=100, table_bytes=100, level0_tables=2, level_ratio=10)  # BASE is 800


# -- when


def test_nothing_is_due_in_an_empty_tree() -> None:
    assert pick(version(), Options()) is None
    assert everything(version(), Options()) is None


def test_level_0_goes_down_by_its_count() -> None:
    options = Options(level0_tables=4)
    flushed = [table(number, "a", "z", size=10) for number in (4, 3, 2, 1)]
    assert pick(version(flushed[1:]), options) is None
    plan = pick(version(flushed), options)
    assert numbers(plan) == [4, 3, 2, 1]
    assert plan is not None
    assert (plan.level, plan.target, plan.drop_tombstones, plan.moved) == (0, 1, True, False)


def test_little_in_level_0_is_not_merged_into_much() -> None:
    flushed = [table(number, "a", "z", size=10) for number in (6, 5)]
    old = [table(4, "a", "z", size=100)]
    below = [table(3, "a", "m", size=300), table(2, "n", "z", size=300)]
    plan = pick(version([*flushed, *old], below), SMALL)
    assert numbers(plan) == [6, 5], "the third is five times as large as these"
    assert plan is not None
    assert plan.target == 0
    assert not plan.drop_tombstones, "older tables of level 0 lie below"
    enough = [table(number, "a", "z", size=100) for number in (6, 5)]
    plan = pick(version(enough, below), SMALL)
    assert numbers(plan) == [6, 5, 3, 2]


def test_what_came_in_order_is_moved_down_with_the_small_one_at_its_end() -> None:
    flushed = [table(4, "d", size=2), table(3, "c", size=90), table(2, "b", size=80)]
    plan = pick(version(flushed), SMALL)
    assert plan is not None
    assert plan.moved
    tiny = [table(number, key, size=20) for number, key in ((6, "f"), (5, "e"))]
    plan = pick(version(tiny), SMALL)
    assert plan is not None
    assert not plan.moved, "many tiny tables would pile up"


def test_sizes_follow_the_deepest_level() -> None:
    tree = version([], [table(1, "a", size=50)], [table(2, "a", size=20_000)])
    assert capacity(tree, SMALL, 2) == 20_000
    assert capacity(tree, SMALL, 1) == 2000
    assert scores(tree, SMALL) == [0, 50 / 2000, 0]
    tree = version([], [table(1, "a", size=2001)], [table(2, "b", size=20_000)])
    plan = pick(tree, SMALL)
    assert numbers(plan) == [1]
    assert plan is not None
    assert plan.moved


def test_levels_come_and_go_with_the_bytes() -> None:
    grown = arranged(version([], [table(1, "a", size=801)]), SMALL)
    assert [len(level) for level in grown.levels] == [0, 0, 1]
    assert arranged(version([], [table(1, "a", size=800)]), SMALL).deepest == 1
    deep = arranged(version([], [table(1, "a", size=900_000)]), SMALL)
    assert deep.deepest == 5
    assert capacity(deep, SMALL, 1) == 100, "at least a table"
    shrunk = arranged(version([], [], [], [table(1, "a", size=900)]), SMALL)
    assert shrunk.deepest == 2
    assert arranged(shrunk, SMALL) is shrunk
    filled = version([], [table(2, "b")], [], [table(1, "a", size=900)])
    assert arranged(filled, SMALL) is filled, "level 1 is in use"


def test_the_table_that_costs_least_goes_down() -> None:
    upper = [table(number, key, size=1000) for number, key in ((1, "a"), (2, "h"), (3, "p"))]
    lower = [
        table(4, "a", "b", size=4000),
        table(5, "g", "k", size=1000),
        table(6, "o", "q", size=9000),
    ]
    assert numbers(pick(version([], upper, lower), SMALL)) == [2, 5]
    lower[1] = table(5, "g", "k", size=5000)
    assert numbers(pick(version([], upper, lower), SMALL)) == [1, 4]
    upper[1] = dead(2, "h", size=1000)
    assert numbers(pick(version([], upper, lower), SMALL)) == [2, 5], "it makes room below"


def test_what_is_compressed_below_is_not_moved_there() -> None:
    tree = version([], [table(1, "a", size=3000)], [table(2, "b", size=20_000)])
    options = Options(memtable_bytes=100, table_bytes=100, level0_tables=2, compression="lz4")
    plan = pick(tree, options)
    assert numbers(plan) == [1]
    assert plan is not None
    assert not plan.moved


# -- tombstones and garbage


def test_tables_of_tombstones_go_before_their_turn() -> None:
    below = [table(1, "a", "z", size=5000)]
    plan = pick(version([], [table(3, "a"), dead(2, "m")], below), SMALL)
    assert numbers(plan) == [2, 1]
    assert plan is not None
    assert plan.drop_tombstones


def test_a_range_tombstone_counts_as_many() -> None:
    many = {b"%03d" % number: b"v" for number in range(100)}
    hides = cast("Table", FakeTable(2, many, [(b"a", b"z")]))
    assert numbers(pick(version([], [hides], [table(1, "b", size=5000)]), SMALL)) == [2, 1]


def test_what_newer_ranges_hide_whole_is_dropped_unless_it_is_being_merged() -> None:
    hides = cast("Table", FakeTable(9, {}, [(b"b", b"e"), (b"m", b"p")]))
    older = [table(8, "b", "d"), table(7, "b", "e"), hides, table(6, "c")]
    below = [table(5, "a", "c"), table(4, "d"), table(3, "m", "o"), table(2, "o~", "p")]
    assert hidden(version(older, below)) == [older[3], below[1], below[2]]
    running = Plan([[below[1]]], 1, 2, b"d", b"d")
    assert hidden(version(older, below), [running]) == [older[3], below[2]]
    assert hidden(version([table(1, "a")], below)) == []


def test_level_0_is_cleared_if_it_brings_mostly_deletions() -> None:
    below = [table(1, "a", "z")]
    assert clearing(version([table(2, "a")], below), SMALL) is None
    assert numbers(clearing(version([table(3, "a"), dead(2, "b")], below), SMALL)) == [3, 2, 1]


def test_at_leisure_level_0_goes_down_before_it_is_full_if_it_is_half_of_what_it_meets() -> None:
    flushed = [table(number, "a", "z", size=40 * MB) for number in (5, 4)]
    below = [table(3, "a", "m", size=80 * MB), table(2, "n", "z", size=80 * MB)]
    apart = table(1, "zz", size=90 * MB)
    assert pick(version(flushed, [*below, apart]), Options()) is None, "it is not due"
    plan = at_leisure(version(flushed, [*below, apart]), Options())
    assert numbers(plan) == [5, 4, 3, 2]
    assert plan is not None
    assert plan.target == 1
    assert at_leisure(version(flushed, [*below, apart]), Options(), ["2"]) is None, "set aside"
    assert at_leisure(version(flushed[1:], below), Options()) is None, "a single table"
    more = [*below, table(1, "zz", size=MB)]
    wide = [table(number, "a", "zzz", size=40 * MB) for number in (5, 4)]
    assert at_leisure(version(wide, more), Options()) is None, (
        "it is less than half of what it meets"
    )
    little = [table(number, "a", "z", size=MB) for number in (5, 4)]
    assert at_leisure(version(little), Options()) is None, "it is no burden"


def test_tombstones_with_nothing_below_are_rewritten_where_they_are() -> None:
    plan = pick(version([], [table(1, "a"), dead(2, "m")]), SMALL)
    assert numbers(plan) == [2]
    assert plan is not None
    assert (plan.level, plan.target, plan.drop_tombstones, plan.moved) == (1, 1, True, False)


def test_a_few_tombstones_go_when_they_are_old() -> None:
    some = cast("Table", FakeTable(1, {b"a": None, b"c": b"v"}))
    options = Options(tombstone_ratio=0.8)
    assert pick(version([], [some, table(OLD, "x")]), options) is None
    assert numbers(pick(version([], [some, table(OLD + 1, "x")]), options)) == [1]


def test_values_are_moved_out_of_files_of_garbage() -> None:
    def tree(live: int) -> Version:
        tables = [table(1, "a", references=((7, live - 10),)), table(2, "b", references=((7, 10),))]
        return version([], tables, values={7: 1016})

    assert pick(tree(500), Options()) is None
    plan = pick(tree(499), Options())
    assert numbers(plan) == [1]
    assert plan is not None
    assert (plan.target, plan.relocate) == (1, {7})
    below = [table(3, "a", size=1000)]
    moving = version([], [table(1, "a", size=20_000, references=((7, 1),))], below, values={7: 999})
    plan = pick(moving, SMALL)
    assert plan is not None
    assert plan.relocate == {7}, "any merge takes them along"


def test_what_a_tombstone_is_merged_with_decides_whether_it_may_go() -> None:
    """The table of level 1 spans more than that of level 0, and its tombstones hide keys there."""
    flushed = [table(number, "m", "n", size=100) for number in (9, 8)]
    spanning = cast("Table", FakeTable(7, {b"a": None, b"z": b"v"}, size=700))
    deepest = [table(1, "a", size=20_000)]
    plan = pick(version(flushed, [spanning], deepest), SMALL)
    assert plan is not None
    assert numbers(plan) == [9, 8, 7]
    assert not plan.drop_tombstones


# -- several at once


def test_plans_do_not_disturb_each_other() -> None:
    upper = [table(1, "a", "c", size=2000), table(2, "f", "g", size=2000)]
    lower = [table(3, "a", "d", size=9000), table(4, "e", "h", size=9000)]
    tree = version([], upper, lower)
    first = pick(tree, SMALL)
    assert first is not None
    second = pick(tree, SMALL, [first])
    assert sorted([numbers(first), numbers(second)]) == [[1, 3], [2, 4]]
    assert second is not None
    assert pick(tree, SMALL, [first, second]) is None


def test_level_0_goes_down_once_at_a_time() -> None:
    flushed = [table(number, "a", "z", size=100) for number in (4, 3)]
    running = pick(version(flushed), SMALL)
    assert running is not None
    more = [table(number, "a", "z", size=100) for number in (6, 5)]
    assert pick(version([*more, *flushed]), SMALL, [running]) is None


@pytest.mark.parametrize(
    ("first", "last", "level"),
    [("a", "b", 2), ("d", "d", 1), ("c", "d", 1), ("c", "h", 0), ("f", "g", 0), ("l", "n", 1)],
)
def test_what_is_ingested_goes_as_deep_as_it_may(first: str, last: str, level: int) -> None:
    tree = version([table(9, "f", "h")], [table(8, "k", "l")], [table(7, "d", "e")])
    level = {"l": 0}.get(first, level)
    assert place(tree, first.encode(), last.encode(), []) == level


def test_what_is_ingested_keeps_out_of_the_way_of_a_running_merge() -> None:
    flushed = [table(4, "a", "b", size=100), table(3, "y", "z", size=100)]
    tree = version(flushed)
    running = pick(tree, SMALL)
    assert running is not None
    assert not running.moved or running.target == 1
    assert place(tree, b"m", b"n", []) == 1
    assert place(tree, b"m", b"n", [running]) == 0, "its output may span the gap"


# -- against a dict

KEYS = [b"%c" % letter for letter in range(ord("A"), ord("a"))]
keys = st.sampled_from(KEYS)
bounds = st.tuples(keys, keys).filter(lambda pair: pair[0] < pair[1])


class CompactionMachine(RuleBasedStateMachine):
    @initialize(ratio=st.sampled_from([2, 3, 10]), level0=st.integers(2, 3))
    def begin(self, ratio: int, level0: int) -> None:
        self.options = Options(
            memtable_bytes=1, table_bytes=10, level0_tables=level0, level_ratio=ratio
        )
        self.version = Version()
        self.model: dict[bytes, bytes] = {}
        self.running: list[Plan] = []
        self.number = 0

    def next_number(self) -> int:
        self.number += 1
        return self.number

    @rule(
        some=st.dictionaries(keys, st.booleans(), max_size=8),
        ranges=st.lists(bounds, max_size=1),
    )
    def flush(self, some: dict[bytes, bool], ranges: list[Range]) -> None:
        if not some and not ranges:
            return
        number = self.next_number()
        entries = {key: b"%d" % number if put else None for key, put in some.items()}
        for start, stop in ranges:
            self.model = {k: v for k, v in self.model.items() if not start <= k < stop}
        for key, value in entries.items():
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value
        flushed = cast("Table", FakeTable(number, entries, ranges))
        self.version = self.version.flushed(flushed, b"", number)

    @rule(start=st.integers(0, len(KEYS) - 1), count=st.integers(1, 3))
    def ingest(self, start: int, count: int) -> None:
        number = self.next_number()
        entries = dict.fromkeys(KEYS[start : start + count], b"%d" % number)
        self.model.update(entries)
        ready = cast("Table", FakeTable(number, entries))
        level = place(self.version, ready.info.first, ready.info.last, self.running)
        self.version = self.version.ingested([(level, ready)], number)

    @rule(count=st.integers(1, 3))
    def start(self, count: int) -> None:
        for _ in range(count):
            plan = pick(self.version, self.options, self.running)
            if plan is not None:
                self.running.append(plan)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        plan = self.running[data.draw(st.integers(0, len(self.running) - 1))]
        outputs = plan.inputs if plan.moved else self.merged(plan)
        self.version = self.version.compacted(plan.inputs, plan.target, outputs)
        if self.running == [plan]:
            self.version = arranged(self.version, self.options)
        self.running.remove(plan)

    @rule()
    def drop(self) -> None:
        self.version = self.version.without(hidden(self.version, self.running))

    @precondition(lambda self: not self.running)
    @rule()
    def clear(self) -> None:
        plan = clearing(self.version, self.options)
        if plan is not None:
            self.running.append(plan)

    @precondition(lambda self: not self.running)
    @rule()
    def rest(self) -> None:
        plan = at_leisure(self.version, self.options)
        if plan is not None:
            self.running.append(plan)

    @rule(seed=st.integers(0, 999), count=st.integers(3, 9))
    def flush_often(self, seed: int, count: int) -> None:
        rng = Random(seed)
        for _ in range(count):
            self.flush({key: rng.random() < 0.8 for key in rng.sample(KEYS, 4)}, [])

    @precondition(lambda self: not self.running)
    @rule()
    def compact(self) -> None:
        plan = everything(self.version, self.options)
        if plan is not None:
            self.version = self.version.compacted(plan.inputs, plan.target, self.merged(plan))
            assert sum(map(bool, self.version.levels)) <= 1
            for table in self.version.tables():
                assert not table.info.tombstones
                assert not table.info.ranges

    def merged(self, plan: Plan) -> list[Table]:
        """What the kernel would make of it: see kernel/pure/write.py."""
        entries: dict[bytes, Value] = {}
        ranges: list[Range] = []
        for source in plan.sources:
            tables = cast("Sequence[FakeTable]", source)
            hidden = [key for start, stop in ranges for key in KEYS if start <= key < stop]
            for table in tables:
                for key, value in table.entries.items():
                    if key not in hidden:
                        entries.setdefault(key, value)
            ranges += [one for table in tables for one in table.pairs]
        if plan.drop_tombstones:
            entries = {key: value for key, value in entries.items() if value is not None}
            ranges = []
        if not entries and not ranges:
            return []
        count = len(entries) + 1 if plan.target == 0 else 2
        ordered = sorted(entries)
        pieces = [ordered[at : at + count] for at in range(0, len(ordered), count)] or [[]]
        made = []
        for at, piece in enumerate(pieces):
            lower = piece[0] if at else b""
            upper = pieces[at + 1][0] if at + 1 < len(pieces) else b"\xff"
            cut = [(max(a, lower), min(b, upper)) for a, b in ranges]
            cut = [(a, b) for a, b in cut if a < b]
            made.append(FakeTable(self.next_number(), {k: entries[k] for k in piece}, cut))
        return cast("list[Table]", made)

    def read(self, key: bytes) -> Value:
        for level in cast("Sequence[Sequence[FakeTable]]", self.version.levels):
            for table in level:
                value = table.find(key)
                if value is not False:
                    return cast("Value", value)
        return None

    @invariant()
    def every_key_reads_as_the_dict_says(self) -> None:
        if hasattr(self, "model"):
            assert {k: v for k in KEYS if (v := self.read(k)) is not None} == self.model

    @invariant()
    def levels_are_sorted_and_disjoint(self) -> None:
        if hasattr(self, "version"):
            for level in self.version.levels[1:]:
                firsts = [table.info.first for table in level]
                assert firsts == sorted(set(firsts))
                for left, right in itertools.pairwise(level):
                    assert (left.info.last, bool(left.info.ranges)) <= (right.info.first, True)

    def teardown(self) -> None:
        if hasattr(self, "version"):
            steps = 0
            while self.running or (plan := pick(self.version, self.options)) is not None:
                if not self.running:
                    assert plan is not None
                    self.running.append(plan)
                plan = self.running.pop()
                outputs = plan.inputs if plan.moved else self.merged(plan)
                self.version = self.version.compacted(plan.inputs, plan.target, outputs)
                if not self.running:
                    self.version = arranged(self.version, self.options)
                steps += 1
                assert steps < 200, "it comes to an end"
            self.every_key_reads_as_the_dict_says()
            for level in range(1, self.version.deepest):
                assert size_of(self.version.level(level)) <= capacity(
                    self.version, self.options, level
                )


def test_no_order_of_plans_changes_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "LEISURE_BYTES", 1)
    run_state_machine_as_test(
        CompactionMachine,
        settings=settings(max_examples=150, stateful_step_count=60, deadline=None),
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_order_of_plans_changes_what_is_read_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "LEISURE_BYTES", 1)
    run_state_machine_as_test(
        CompactionMachine,
        settings=settings(max_examples=10_000, stateful_step_count=100, deadline=None),
    )
