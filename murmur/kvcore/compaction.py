"""Compaction: which tables to merge next. A pure function of the version and of what is running.

    level 0        once it has `level0_tables`, they go down into level 1, together
    level n        of N holds the deepest level's bytes / level_ratio^(N - n); beyond that the table
                   that costs least to move goes down into level n + 1
                   (if they are little beside what they meet there, the newest of them are merged
                   into one of level 0 instead: small flushes do not rewrite a large level)
    level 1        a new one is slipped in when it would hold more than BASE times what level 0
                   brings; while there is little, level 0 is merged straight into all there is

So sizes follow the deepest level ("dynamic" in RocksDB): whatever is above it is at most a ninth of
it, and so is what is written twice. With several levels a byte is written about 2 + level_ratio / 2
times for each; where level 0 brings a BASE-th of all or more, merging it in one step costs less.

What goes down is merged with what it overlaps there, into tables of a bounded size, or moved as it
is if it overlaps nothing: keys that come in order are written once. Of each key the newest entry
stays. A tombstone goes too, once no deeper level can hold what it hides. Beside size:

    tombstones     a table of mostly tombstones, or an old one that still has some, goes down before
                   its turn, or is rewritten where nothing lies below
    garbage        tables that refer to a value file of mostly garbage are rewritten where they are,
                   and their values move to a new file; every other merge moves such values as well

    leisure        while nobody writes, level 0 goes down before it is full, if it is no less than
                   half of what it meets there: so that moves a byte but once while the tree grows
                   by half

    hidden         tables whose every key a newer table's range tombstone deletes just go: nothing
                   is read or written for it

    damage         a file that is known to be damaged is set aside: no merge takes it; what cannot
                   go down for it stays above it, and level 0 is merged within itself to stay short

Nothing here asks for snapshots: they keep the version they were taken on.

Invariants:
    1. Reading the newest entry of every key gives the same before and after. Level 0 goes down
       whole, so nothing there is older than what passes it; a tombstone is dropped by what *all*
       inputs span, for those it is merged with bring tombstones of their own.
    2. Plans that run at once share no table, and where they write to one level, no key.
After LevelDB's leveled compaction; RocksDB's dynamic level sizes and tombstone-triggered picking.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple

from murmur.kvcore.kernel import Ranges, Table, TableInfo
from murmur.kvcore.kernel.pure.ranges import NO_RANGES, covers_all, union
from murmur.kvcore.options import Options
from murmur.kvcore.version import Version, size_of

BASE = 4  # level 1 holds up to so many times what level 0 brings down at once
RANGE_WEIGHT = 1000  # a range tombstone counts as so many tombstones: it was written to save them
OLD = 64  # a table with tombstones is old when so many files were written after it
LOPSIDED = 4  # level 0 goes down if it has a quarter of the bytes that it is merged with
LEISURE_BYTES = 8 << 20  # a level 0 of less is left alone until it is full
SMALLEST_MOVE = 4  # flushed tables are moved as they are if their mean is 1/4 of what it could be


class Plan(NamedTuple):
    """Tables to merge into a level."""

    sources: Sequence[Sequence[Table]]  # newest first, each sorted and disjoint
    level: int  # where the newest of them stand
    target: int
    first: bytes  # what all of them span
    last: bytes
    moved: bool = False  # they are put there as they are
    drop_tombstones: bool = False
    relocate: frozenset[int] = frozenset()  # value files to copy values from

    @property
    def inputs(self) -> list[Table]:
        """All tables that go."""
        return [table for tables in self.sources for table in tables]


def pick(
    version: Version,
    options: Options,
    running: Collection[Plan] = (),
    aside: Collection[str] = (),
) -> Plan | None:
    """The most urgent compaction that is due and does not disturb those that are running.

    It takes no file whose name is set `aside`.
    """
    for plan in _due(version, options, running, aside):
        if not any(_disturbs(plan, other) for other in running) and not _takes(plan, aside):
            return plan._replace(relocate=_sound(version, plan.relocate, aside))
    return None


def pressing(version: Version, options: Options, aside: Collection[str] = ()) -> int:
    """How many tables of level 0 are to be merged, which writers are slowed for."""
    flushed = version.level(0)
    if flushed and aside and _takes(_plan_level0(version, options), aside):
        return len(_similar(_movable(flushed, aside)))
    return len(flushed)


def everything(version: Version, options: Options, aside: Collection[str] = ()) -> Plan | None:
    """The compaction of all there is into one level without tombstones, if it is not so already."""
    sources: list[Sequence[Table]] = [(table,) for table in version.level(0)]
    sources += [level for level in version.levels[1:] if level]
    tables = [table for source in sources for table in source]
    if not tables:
        return None
    clean = not any(table.info.tombstones or table.info.ranges for table in tables)
    if clean and not version.level(0) and len(sources) == 1:
        return None
    level = next(number for number, tables in enumerate(version.levels) if tables)
    depth, size = 1, size_of(tables)
    while size > _base(options) * options.level_ratio ** (depth - 1):
        depth += 1
    plan = _plan(version, options, sources, level, depth, drop_tombstones=True)
    return plan._replace(relocate=_sound(version, plan.relocate, aside))


def hidden(
    version: Version, running: Collection[Plan] = (), aside: Collection[str] = ()
) -> list[Table]:
    """The tables, of no running plan, that newer range tombstones hide whole.

    No plan may begin before they are gone: a tombstone that it drops may be what hides them. Reads
    range tombstones from the disk, but not of what is set aside; raises Corruption or OSError.
    """

    def ranges(tables: Iterable[Table]) -> Iterator[Ranges]:
        for table in tables:
            if table.info.ranges and table.name not in aside:
                yield table.ranges()

    if not any(table.info.ranges for table in version.tables()):
        return []
    merging = {table for plan in running for table in plan.inputs}
    gone: list[Table] = []
    above: Ranges = NO_RANGES
    for number, level in enumerate(version.levels):
        # Within level 0 each table hides those that follow it, elsewhere none of its level.
        for tables in ((table,) for table in level) if number == 0 else (level,):
            gone += (
                table
                for table in tables
                if table not in merging and covers_all(above, table.info.first, table.info.last)
            )
            above = union((above, *ranges(tables)))
    return gone


def clearing(version: Version, options: Options, aside: Collection[str] = ()) -> Plan | None:
    """The merge of level 0, due or not, if it brings mostly deletions, which make room below."""
    flushed = version.level(0)
    if any(_deadness(table.info) >= options.tombstone_ratio for table in flushed):
        plan = _plan_level0(version, options)
        return None if _takes(plan, aside) else plan
    return None


def at_leisure(version: Version, options: Options, aside: Collection[str] = ()) -> Plan | None:
    """The merge of level 0 before it is due, for when nobody writes and none is running.

    Each table there is one more to look into for a key, and one more source of every scan.
    """
    flushed = version.level(0)
    size = size_of(flushed)
    if len(flushed) < 2 or size < LEISURE_BYTES:
        return None
    plan = _plan_level0(version, options)
    if not plan.target or size_of(plan.inputs) > 3 * size or _takes(plan, aside):
        return None
    return plan._replace(relocate=_sound(version, plan.relocate, aside))


def arranged(version: Version, options: Options) -> Version:
    """The version with as many levels as its bytes need; for when no compaction is running."""
    base = _base(options)
    while _share(version, options, 1) > base:
        version = version.deepened()
    while (
        version.deepest > 1
        and not version.level(1)
        and _share(version, options, 2) * 2 <= base  # half: lest it goes back and forth
    ):
        version = version.raised()
    return version


def capacity(version: Version, options: Options, level: int) -> int:
    """How many bytes a level from 1 on holds before it sheds tables; the deepest sheds none."""
    return max(_share(version, options, level), options.table_bytes)


def scores(version: Version, options: Options) -> list[float]:
    """How full each level is; from 1 on something goes down. The deepest is never full."""
    return [
        len(version.level(0)) / options.level0_tables,
        *(
            size_of(version.level(level)) / capacity(version, options, level)
            for level in range(1, version.deepest)
        ),
        0.0,
    ]


def _due(
    version: Version, options: Options, running: Collection[Plan], aside: Collection[str]
) -> Iterator[Plan]:
    """The compactions that are due, the most urgent first."""
    filled = scores(version, options)
    for level in sorted(range(len(filled)), key=lambda level: -filled[level]):
        if filled[level] >= 1:
            if level == 0:
                plan = _plan_level0(version, options)
                yield plan
                if _takes(plan, aside):
                    yield from _plans_within_level0(version, options, aside)
            else:
                yield from _plans_of_level(version, options, level, running, bool(aside))
    yield from _plans_of_tombstones(version, options)
    yield from _plans_of_garbage(version, options, aside)


def _plan_level0(version: Version, options: Options) -> Plan:
    flushed = version.level(0)
    first = min(table.info.first for table in flushed)
    last = max(table.info.last for table in flushed)
    below = version.overlapping(1, first, last)
    if size_of(flushed) * LOPSIDED < size_of(below) and len(similar := _similar(flushed)) > 1:
        return _plan(version, options, [(table,) for table in similar], 0, 0)
    sources: list[Sequence[Table]] = [(table,) for table in flushed]
    plan = _plan(version, options, [*sources, below] if below else sources, 0, 1)
    usual = min(options.table_bytes, options.memtable_bytes)
    in_order = sorted(flushed, key=lambda table: table.info.first)
    moved = (
        _may_move(version, options, plan)
        and not below
        and all(a.info.last < b.info.first for a, b in pairwise(in_order))
        and size_of(flushed) * SMALLEST_MOVE >= usual * len(flushed)
    )
    return plan._replace(moved=moved)


def _plans_within_level0(
    version: Version, options: Options, aside: Collection[str]
) -> Iterator[Plan]:
    """What can be merged where level 0 cannot go down."""
    similar = _similar(_movable(version.level(0), aside))
    if len(similar) >= options.level0_tables:
        yield _plan(version, options, [(table,) for table in similar], 0, 0)


def _movable(flushed: Sequence[Table], aside: Collection[str]) -> Sequence[Table]:
    """The tables of level 0 that are newer than any that is set aside."""
    return tuple(takewhile(lambda table: table.name not in aside, flushed))


def _takes(plan: Plan, aside: Collection[str]) -> bool:
    """Whether it reads or moves what is set aside."""
    return bool(aside) and any(table.name in aside for table in plan.inputs)


def _sound(version: Version, numbers: frozenset[int], aside: Collection[str]) -> frozenset[int]:
    """The value files that are not set aside."""
    if not aside:
        return numbers
    return frozenset(number for number in numbers if version.values[number].name not in aside)


def _similar(flushed: Sequence[Table]) -> Sequence[Table]:
    """The newest tables, up to one that is more than twice as large as all before it together."""
    size = 0
    for count, table in enumerate(flushed):
        if count > 1 and table.info.size > 2 * size:
            return flushed[:count]
        size += table.info.size
    return flushed


def _plans_of_level(
    version: Version, options: Options, level: int, running: Collection[Plan], another: bool
) -> Iterator[Plan]:
    """The table that costs least to move; if something disturbs that, the next."""

    def cost(table: Table) -> float:
        info = table.info
        below = version.overlapping_bytes(level + 1, info.first, info.last)
        return below / info.size / (1 + _deadness(info))

    merging = {table for plan in running for table in plan.inputs}
    tables = [table for table in version.level(level) if table not in merging]
    if not running and not another:
        if tables:
            yield _plan_table(version, options, level, min(tables, key=cost))
    else:
        for table in sorted(tables, key=cost):
            yield _plan_table(version, options, level, table)


def _plan_table(version: Version, options: Options, level: int, table: Table) -> Plan:
    below = version.overlapping(level + 1, table.info.first, table.info.last)
    sources: list[Sequence[Table]] = [(table,), below] if below else [(table,)]
    plan = _plan(version, options, sources, level, level + 1)
    return plan._replace(moved=not below and _may_move(version, options, plan))


def _plans_of_tombstones(version: Version, options: Options) -> Iterator[Plan]:
    newest = max((table.info.number for table in version.tables()), default=0)
    for level in range(1, len(version.levels)):
        for table in version.level(level):
            info = table.info
            if not (info.tombstones or info.ranges):
                continue
            old = newest - info.number >= OLD
            if old or _deadness(info) >= options.tombstone_ratio:
                if _is_bottom(version, level, info.first, info.last):
                    yield _rewrite(version, options, level, table)
                else:
                    yield _plan_table(version, options, level, table)


def _plans_of_garbage(version: Version, options: Options, aside: Collection[str]) -> Iterator[Plan]:
    wasteful = _sound(version, version.garbage(options.garbage_ratio), aside)
    if not wasteful:
        return
    for level, tables in enumerate(version.levels):
        for table in tables:
            if any(number in wasteful for number, _ in table.info.references):
                yield _rewrite(version, options, level, table)


def _rewrite(version: Version, options: Options, level: int, table: Table) -> Plan:
    return _plan(version, options, [(table,)], level, level)


def _plan(
    version: Version,
    options: Options,
    sources: Sequence[Sequence[Table]],
    level: int,
    target: int,
    *,
    drop_tombstones: bool = False,
) -> Plan:
    tables = [table for source in sources for table in source]
    first = min(table.info.first for table in tables)
    last = max(table.info.last for table in tables)
    # What is merged within level 0 may have older tables of level 0 below it.
    drop = drop_tombstones or (target > 0 and _is_bottom(version, target, first, last))
    relocate = version.garbage(options.garbage_ratio)
    return Plan(sources, level, target, first, last, drop_tombstones=drop, relocate=relocate)


def _may_move(version: Version, options: Options, plan: Plan) -> bool:
    """Whether tables may be put into the target level as they are."""
    inputs = plan.inputs
    if plan.drop_tombstones and any(t.info.tombstones or t.info.ranges for t in inputs):
        return False
    if any(number in plan.relocate for t in inputs for number, _ in t.info.references):
        return False
    codec = options.codec(plan.target, deepest=plan.target >= version.deepest)
    return codec == options.codec(plan.level, deepest=False)


def _disturbs(plan: Plan, other: Plan) -> bool:
    if plan.target == other.target and plan.first <= other.last and other.first <= plan.last:
        return True
    merging = set(other.inputs)
    return any(table in merging for table in plan.inputs)


def _is_bottom(version: Version, target: int, first: bytes, last: bytes) -> bool:
    """Whether no level below the target holds keys of this range."""
    return not any(
        version.overlapping(level, first, last) for level in range(target + 1, len(version.levels))
    )


def _deadness(info: TableInfo) -> float:
    """The share of a table's entries that only hide others."""
    ranges = info.ranges * RANGE_WEIGHT
    return (info.tombstones + ranges) / (info.entries + ranges)


def _base(options: Options) -> int:
    """The most that level 1 is meant to hold."""
    return BASE * max(options.level0_tables * options.memtable_bytes, options.table_bytes)


def _share(version: Version, options: Options, level: int) -> int:
    """A level's share of the deepest level's bytes."""
    deepest = version.deepest
    size = size_of(version.level(deepest))
    return int(size / options.level_ratio ** (deepest - level))
