"""Version: the tables that make up the tree at one moment, and how to look through them.

    level 0      whole flushed memtables, newest first; their keys overlap
    level 1..    one sorted run each, cut into tables; a deeper level is older

A version never changes. Flush and compaction make the next one, and whoever reads keeps his own; a
table's file is removed when the last version that needs it is gone and no iterator is left on it.

Invariant: of two entries of one key, the newer stands in the lower level, or, both in level 0, in
the table that comes first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from murmur.kvcore.filter import hash_key
from murmur.kvcore.merge import Run
from murmur.kvcore.sstable import ABSENT, Table
from murmur.kvcore.storage import Problem

Levels: TypeAlias = tuple[tuple[Table, ...], ...]


class Version:
    """An immutable set of tables, with the mark and the last sequence that they hold."""

    __slots__ = ("_deep", "_shallow", "last_sequence", "levels", "mark")

    def __init__(
        self, levels: Iterable[Sequence[Table]] = (), mark: bytes = b"", last_sequence: int = 0
    ) -> None:
        kept = [tuple(level) for level in levels]
        while kept and not kept[-1]:
            kept.pop()
        self.levels: Levels = tuple(kept)
        self.mark = mark
        self.last_sequence = last_sequence
        # Keys are compared before a table is asked: bounds beside the tables, ready for it.
        self._shallow = [(table.info.first, table.info.last, table) for table in self.level(0)]
        self._deep = [
            ([table.info.last for table in level], level) for level in self.levels[1:] if level
        ]

    def level(self, number: int) -> tuple[Table, ...]:
        """The tables of a level."""
        return self.levels[number] if number < len(self.levels) else ()

    def tables(self) -> Iterator[Table]:
        """All tables."""
        for level in self.levels:
            yield from level

    def get(self, key: bytes) -> bytes | None:
        """The newest value of the key; None if it was deleted or is not here."""
        hashed = hash_key(key)
        for first, last, table in self._shallow:
            if first <= key <= last:
                value = table.get(key, hashed)
                if value is not ABSENT:
                    return value
        for lasts, tables in self._deep:
            at = bisect_left(lasts, key)
            if at < len(lasts):
                table = tables[at]
                if table.info.first <= key:
                    value = table.get(key, hashed)
                    if value is not ABSENT:
                        return value
        return None

    def sources(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> list[Iterator[Run]]:
        """What a merge over a range of keys must read, newest first."""
        sources = [
            table.runs(start, stop, reverse=reverse)
            for first, last, table in self._shallow
            if last >= start and (stop is None or first < stop)
        ]
        for lasts, tables in self._deep:
            low = bisect_left(lasts, start)
            high = len(tables) if stop is None else min(bisect_left(lasts, stop) + 1, len(tables))
            if low < high:
                sources.append(_sorted_runs(tables[low:high], start, stop, reverse=reverse))
        return sources

    def flushed(self, table: Table | None, mark: bytes, last_sequence: int) -> Version:
        """The version after a flush; without a table, only the mark has moved."""
        newest = (table,) if table else ()
        return Version((newest + self.level(0), *self.levels[1:]), mark, last_sequence)

    def compacted(self, inputs: Iterable[Table], target: int, outputs: Iterable[Table]) -> Version:
        """The version with these tables in the target level, in place of the inputs."""
        gone = set(inputs)
        levels = [
            [table for table in self.level(number) if table not in gone]
            for number in range(max(len(self.levels), target + 1))
        ]
        levels[target] = sorted([*levels[target], *outputs], key=lambda table: table.info.first)
        return Version(levels, self.mark, self.last_sequence)

    def check(self) -> Iterator[Problem]:
        """Read all tables, and see that the levels are sorted; what is wrong, if anything is."""
        for level in self.levels[1:]:
            for left, right in pairwise(level):
                if left.info.last >= right.info.first:
                    yield Problem(right.path, 0, f"its keys overlap those of {left.name}")
        for table in self.tables():
            yield from table.check()


def _sorted_runs(
    tables: Sequence[Table], start: bytes, stop: bytes | None, *, reverse: bool
) -> Iterator[Run]:
    for table in reversed(tables) if reverse else tables:
        yield from table.runs(start, stop, reverse=reverse)
