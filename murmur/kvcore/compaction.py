"""Compaction: which tables to merge next, and merging them.

    level 0         every fourth flush its tables go down into level 1, together
    level n >= 1    holds up to LEVEL_TABLES * RATIO^(n-1) tables' worth of bytes; beyond that the
                    table that costs least to move goes down into level n+1

What goes down is merged with what it overlaps there, into tables of a bounded size, or moved as it
is if it overlaps nothing: keys that come in order are written once. Only the newest entry of a key
stays. A tombstone goes too, once no deeper level can hold what it hides.

Nothing here asks for snapshots: they keep the version they were taken on.

Invariant: reading the newest entry of every key gives the same before and after. (Level 0 only ever
goes down whole, so nothing there is older than what passes it.)
After LevelDB's leveled compaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from murmur.kvcore.kernel import Table
from murmur.kvcore.version import Version

LEVEL0_TABLES = 4
LEVEL_TABLES = 4
RATIO = 10
SMALLEST_MOVE = 4  # a flushed table is moved as it is if it has 1/4 of a table's size


class Plan(NamedTuple):
    """Tables to merge into a level."""

    sources: Sequence[Sequence[Table]]  # newest first, each sorted and disjoint
    target: int
    moved: bool  # they are put there as they are
    drop_tombstones: bool

    @property
    def inputs(self) -> list[Table]:
        """All tables that go."""
        return [table for tables in self.sources for table in tables]


def pick(version: Version, table_bytes: int) -> Plan | None:
    """The most urgent compaction, if one is due."""
    flushed = version.level(0)
    if len(flushed) >= LEVEL0_TABLES:
        return _plan_level0(version, flushed, table_bytes)
    for number in range(1, len(version.levels)):
        if size_of(version.level(number)) > capacity(number, table_bytes):
            return _plan_level(version, number)
    return None


def everything(version: Version, table_bytes: int) -> Plan | None:
    """The compaction of all there is into one level without tombstones, if it is not so already."""
    sources: list[Sequence[Table]] = [(table,) for table in version.level(0)]
    sources += [level for level in version.levels[1:] if level]
    tables = [table for source in sources for table in source]
    if not tables:
        return None
    if not version.level(0) and len(sources) == 1 and not any(t.info.tombstones for t in tables):
        return None
    target = 1
    while capacity(target, table_bytes) < size_of(tables):
        target += 1
    return Plan(sources, target, moved=False, drop_tombstones=True)


def capacity(level: int, table_bytes: int) -> int:
    """How many bytes a level from 1 on holds before it sheds tables."""
    return int(table_bytes * LEVEL_TABLES * RATIO ** (level - 1))


def size_of(tables: Sequence[Table]) -> int:
    """The bytes that tables take."""
    return sum(table.info.size for table in tables)


def _plan_level0(version: Version, flushed: Sequence[Table], table_bytes: int) -> Plan:
    start = min(table.info.first for table in flushed)
    last = max(table.info.last for table in flushed)
    below = _overlapping(version.level(1), start, last)
    drop = _is_bottom(version, 1, start, last)
    in_order = sorted(flushed, key=lambda table: table.info.first)
    moved = (
        not below
        and all(a.info.last < b.info.first for a, b in pairwise(in_order))
        and all(table.info.size * SMALLEST_MOVE >= table_bytes for table in flushed)
        and not (drop and any(table.info.tombstones for table in flushed))
    )
    return Plan([*((table,) for table in flushed), below], 1, moved, drop)


def _plan_level(version: Version, number: int) -> Plan:
    below = version.level(number + 1)

    def below_of(table: Table) -> Sequence[Table]:
        return _overlapping(below, table.info.first, table.info.last)

    table = min(version.level(number), key=lambda table: size_of(below_of(table)) / table.info.size)
    overlapping = below_of(table)
    drop = _is_bottom(version, number + 1, table.info.first, table.info.last)
    moved = not overlapping and not (drop and table.info.tombstones)
    return Plan([(table,), overlapping], number + 1, moved, drop)


def _overlapping(tables: Sequence[Table], first: bytes, last: bytes) -> Sequence[Table]:
    return [table for table in tables if table.info.first <= last and first <= table.info.last]


def _is_bottom(version: Version, target: int, first: bytes, last: bytes) -> bool:
    """Whether no level below the target holds keys of this range."""
    deeper = version.levels[target + 1 :]
    return not any(_overlapping(tables, first, last) for tables in deeper)
