"""Reads: one arrangement of memtables and tables, and the walk through all of it.

    get, scan    memtables newest first, then level 0 newest first, then the levels downward:
                 the first that has a key wins

A `Reads` never changes, so whoever holds it reads consistently at a sequence whatever flush and
compaction do meanwhile. `Latest` is the one that is published now, and its sequence.

Invariant: at a sequence, a key has the value of the last batch up to it that wrote the key.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

from murmur.errors import Closed
from murmur.kvcore.kernel.interface import ABSENT
from murmur.kvcore.kernel.pure.filter import hash_key
from murmur.kvcore.kernel.pure.memtable import Memtable
from murmur.kvcore.kernel.pure.merge import Run, live_pairs, merge
from murmur.kvcore.kernel.pure.table import Table


class Reads:
    """What there is to read. For any number of threads."""

    __slots__ = ("_deep", "_shallow", "levels", "memtables", "values")

    def __init__(
        self,
        memtables: Sequence[Memtable],
        levels: Sequence[Sequence[Table]],
        values: Mapping[int, object],
    ) -> None:
        self.memtables = tuple(memtables)
        self.levels = tuple(tuple(level) for level in levels)
        self.values = dict(values)
        # Keys are compared before a table is asked: bounds beside the tables, ready for it.
        shallow = self.levels[0] if self.levels else ()
        self._shallow = [(table.info.first, table.info.last, table) for table in shallow]
        self._deep = [
            ([table.info.last for table in level], level) for level in self.levels[1:] if level
        ]

    def get(self, key: bytes, sequence: int) -> bytes | None:
        """The value of the key at a sequence that is pinned, None if it has none."""
        for memtable in self.memtables:
            version = memtable.versions.get(key)
            while version is not None:
                at, value, version = version
                if at <= sequence:
                    return value
        return self.below(key)

    def multi_get(self, keys: Sequence[bytes], sequence: int) -> list[bytes | None]:
        """The values of several keys."""
        return [self.get(key, sequence) for key in keys]

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        sequence: int,
        *,
        reverse: bool = False,
        is_open: Callable[[], bool] | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < stop (None: no bound), in key order or against it.

        Ends with Closed when `is_open`, asked between pieces, says so.
        """
        sources = [
            memtable.runs(sequence, start, stop, reverse=reverse)
            for memtable in self.memtables
            if memtable
        ]
        sources += self._table_runs(start, stop, reverse=reverse)
        runs = merge(sources, reverse=reverse) if len(sources) != 1 else sources[0]
        if is_open is not None:
            runs = _while_open(runs, is_open)
        return live_pairs(runs, reverse=reverse)

    def below(self, key: bytes) -> bytes | None:
        """The value of a key that no memtable holds."""
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

    def _table_runs(
        self, start: bytes, stop: bytes | None, *, reverse: bool
    ) -> list[Iterator[Run]]:
        runs = [
            table.runs(start, stop, reverse=reverse)
            for first, last, table in self._shallow
            if last >= start and (stop is None or first < stop)
        ]
        for lasts, tables in self._deep:
            low = bisect_left(lasts, start)
            high = len(tables) if stop is None else min(bisect_left(lasts, stop) + 1, len(tables))
            if low < high:
                runs.append(_sorted_runs(tables[low:high], start, stop, reverse=reverse))
        return runs


class Latest:
    """The arrangement and the sequence that were published last."""

    __slots__ = ("_now",)

    def __init__(self, reads: Reads, sequence: int) -> None:
        self._now: tuple[Reads, int] | None = (reads, sequence)

    def move(self, reads: Reads, sequence: int) -> None:
        """Publish."""
        if self._now is not None:
            self._now = (reads, sequence)

    def close(self) -> None:
        """Answer no more: reading raises Closed."""
        self._now = None

    def get(self, key: bytes) -> bytes | None:
        """The latest published value of the key, None if it has none."""
        while True:
            now = self._now
            if now is None:
                raise Closed("the tree is closed")
            reads, sequence = now
            for memtable in reads.memtables:
                version = memtable.versions.get(key)
                if version is not None:
                    break
            else:
                return reads.below(key)
            while version is not None:
                at, value, version = version
                if at <= sequence:
                    return value
            if self._now is now:
                return reads.get(key, sequence)  # only an unpublished batch has it so far
            # Batches were published meanwhile, and what this state saw is gone: look again.

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The latest published values of several keys, each at its own moment."""
        return [self.get(key) for key in keys]


def _while_open(runs: Iterator[Run], is_open: Callable[[], bool]) -> Iterator[Run]:
    for run in runs:
        if not is_open():  # since then a memtable may give another sequence's values
            raise Closed("the snapshot is closed")
        yield run


def _sorted_runs(
    tables: Sequence[Table], start: bytes, stop: bytes | None, *, reverse: bool
) -> Iterator[Run]:
    for table in reversed(tables) if reverse else tables:
        yield from table.runs(start, stop, reverse=reverse)
