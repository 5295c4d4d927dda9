"""Version: the tables that make up the tree at one moment, by level.

    level 0      whole flushed memtables, newest first; their keys overlap
    level 1..    one sorted run each, cut into tables; a deeper level is older

A version never changes. Flush and compaction make the next one, and whoever reads keeps his own; a
table's file is removed when the last version that needs it is gone and no iterator is left on it.

Invariant: of two entries of one key, the newer stands in the lower level, or, both in level 0, in
the table that comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from murmur.kvcore.kernel import Table
from murmur.kvcore.storage import Problem

Levels: TypeAlias = tuple[tuple[Table, ...], ...]


class Version:
    """An immutable set of tables, with the mark and the last sequence that they hold."""

    __slots__ = ("last_sequence", "levels", "mark")

    def __init__(
        self, levels: Iterable[Sequence[Table]] = (), mark: bytes = b"", last_sequence: int = 0
    ) -> None:
        kept = [tuple(level) for level in levels]
        while kept and not kept[-1]:
            kept.pop()
        self.levels: Levels = tuple(kept)
        self.mark = mark
        self.last_sequence = last_sequence

    def level(self, number: int) -> tuple[Table, ...]:
        """The tables of a level."""
        return self.levels[number] if number < len(self.levels) else ()

    def tables(self) -> Iterator[Table]:
        """All tables."""
        for level in self.levels:
            yield from level

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
