"""Version: the tables and value files that make up the tree at one moment, by level.

    level 0      whole flushed memtables, newest first; their keys overlap
    level 1..    one sorted run each, cut into tables; a deeper level is older
    values       the value files that some table points into

A version never changes. Flush, merge and ingest make the next one, and whoever reads keeps his own;
a file is removed when the last version that needs it is gone and no iterator is left on it.

Invariants:
    1. Of two entries of one key, the newer stands in the lower level, or, both in level 0, in the
       table that comes first.
    2. A value file is there as long as a table refers to it, and no longer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TypeAlias

from murmur.kvcore.kernel import Table, ValueFile
from murmur.kvcore.storage import Problem

Levels: TypeAlias = tuple[tuple[Table, ...], ...]
VALUE_HEADER_BYTES = 16  # of a value file, before its values


class Version:
    """An immutable set of tables, with the mark and the last sequence that they hold."""

    __slots__ = ("_ends", "_firsts", "last_sequence", "levels", "live_bytes", "mark", "values")

    def __init__(
        self,
        levels: Iterable[Sequence[Table]] = (),
        mark: bytes = b"",
        last_sequence: int = 0,
        values: Mapping[int, ValueFile] | None = None,
    ) -> None:
        kept = [tuple(level) for level in levels]
        while kept and not kept[-1]:
            kept.pop()
        self.levels: Levels = tuple(kept)
        self.mark = mark
        self.last_sequence = last_sequence
        self.live_bytes: dict[int, int] = {}  # of each value file, those that tables refer to
        for table in self.tables():
            for number, length in table.info.references:
                self.live_bytes[number] = self.live_bytes.get(number, 0) + length
        self.values = {number: (values or {})[number] for number in sorted(self.live_bytes)}
        self._firsts: dict[int, list[bytes]] = {}
        self._ends: dict[int, list[int]] = {}

    # -- looking

    @property
    def deepest(self) -> int:
        """The number of the deepest level; at least 1."""
        return max(1, len(self.levels) - 1)

    def level(self, number: int) -> tuple[Table, ...]:
        """The tables of a level."""
        return self.levels[number] if number < len(self.levels) else ()

    def tables(self) -> Iterator[Table]:
        """All tables."""
        for level in self.levels:
            yield from level

    def overlapping(self, level: int, first: bytes, last: bytes) -> Sequence[Table]:
        """The tables of a level with keys from first to last, both included."""
        start, stop = self._span(level, first, last)
        if level:
            return self.level(level)[start:stop]
        return [t for t in self.level(0) if t.info.first <= last and first <= t.info.last]

    def overlapping_bytes(self, level: int, first: bytes, last: bytes) -> int:
        """Their size, for a level from 1 on."""
        start, stop = self._span(level, first, last)
        if start == stop:
            return 0
        ends = self._ends.get(level)
        if ends is None:
            ends = self._ends[level] = list(accumulate(t.info.size for t in self.level(level)))
        return ends[stop - 1] - (ends[start - 1] if start else 0)

    def _span(self, level: int, first: bytes, last: bytes) -> tuple[int, int]:
        tables = self.level(level)
        if not level or not tables:
            return 0, 0
        firsts = self._firsts.get(level)
        if firsts is None:
            firsts = self._firsts[level] = [table.info.first for table in tables]
        start = max(0, bisect_right(firsts, first) - 1)
        if tables[start].info.last < first:
            start += 1
        return start, max(start, bisect_right(firsts, last))

    def garbage(self, ratio: float) -> frozenset[int]:
        """The value files of which no more than this share is still referred to."""
        return frozenset(
            number
            for number, live in self.live_bytes.items()
            if self.values[number].size - VALUE_HEADER_BYTES - live
            > ratio * (self.values[number].size - VALUE_HEADER_BYTES)
        )

    # -- the next one

    def flushed(
        self,
        table: Table | None,
        mark: bytes,
        last_sequence: int,
        values: Collection[ValueFile] = (),
    ) -> Version:
        """The version after a flush; without a table, only the mark has moved."""
        newest = (table,) if table else ()
        levels = (newest + self.level(0), *self.levels[1:])
        return Version(levels, mark, last_sequence, self._with(values))

    def compacted(
        self,
        inputs: Iterable[Table],
        target: int,
        outputs: Sequence[Table],
        values: Collection[ValueFile] = (),
    ) -> Version:
        """The version with these tables in the target level, in place of the inputs.

        Into level 0 goes only what was there side by side, and it becomes at most one table.
        """
        gone = set(inputs)
        if target == 0:
            assert len(outputs) <= 1, "tables of level 0 are whole"
            at = min(map(self.level(0).index, gone))
            flushed = [table for table in self.level(0) if table not in gone]
            flushed[at:at] = outputs
            levels: list[list[Table]] = [flushed, *map(list, self.levels[1:])]
        else:
            levels = [
                [table for table in self.level(number) if table not in gone]
                for number in range(max(len(self.levels), target + 1))
            ]
            levels[target] = sorted([*levels[target], *outputs], key=_first)
        return Version(levels, self.mark, self.last_sequence, self._with(values))

    def without(self, tables: Collection[Table]) -> Version:
        """The version after these tables are gone, and what only they referred to."""
        gone = set(tables)
        levels = [[table for table in level if table not in gone] for level in self.levels]
        return Version(levels, self.mark, self.last_sequence, self.values)

    def ingested(
        self,
        placed: Sequence[tuple[int, Table]],
        last_sequence: int,
        mark: bytes | None = None,
        values: Collection[ValueFile] = (),
    ) -> Version:
        """The version with further tables, newer than all there is, each in the level it names.

        Of those in level 0, one is newer than those before it. A mark may come with them.
        """
        depth = max([len(self.levels), *(level + 1 for level, _ in placed)])
        levels = [list(self.level(number)) for number in range(depth)]
        for level, table in placed:
            levels[level].insert(0, table)
        for tables in levels[1:]:
            tables.sort(key=_first)
        mark = self.mark if mark is None else mark
        return Version(levels, mark, last_sequence, self._with(values))

    def deepened(self) -> Version:
        """The version with an empty level 1, and all below one deeper."""
        levels = [self.level(0), (), *self.levels[1:]]
        return Version(levels, self.mark, self.last_sequence, self.values)

    def raised(self) -> Version:
        """The version without level 1, which is empty."""
        assert not self.level(1), "it has tables"
        levels = [self.level(0), *self.levels[2:]]
        return Version(levels, self.mark, self.last_sequence, self.values)

    def _with(self, values: Collection[ValueFile]) -> Mapping[int, ValueFile]:
        return {**self.values, **{file.number: file for file in values}} if values else self.values

    # -- checking

    def check(self) -> Iterator[Problem]:
        """Read all tables and value files, and see that the levels are sorted; what is wrong."""
        for level in self.levels[1:]:
            for left, right in pairwise(level):
                # The last key may be the stop of a range, which is not within.
                reach = left.info.last, 0 if left.info.ranges else 1
                if reach > (right.info.first, 0):
                    yield Problem(right.path, 0, f"its keys overlap those of {left.name}")
        for table in self.tables():
            yield from table.check(self.values)
        for file in self.values.values():
            yield from file.check()


def _first(table: Table) -> bytes:
    return table.info.first


def size_of(tables: Iterable[Table]) -> int:
    """The bytes that tables take."""
    return sum(table.info.size for table in tables)
