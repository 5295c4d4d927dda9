"""Flush and merge: entries of memtables and tables into new tables, files to files.

Sources stand newest first. Of a key only the newest entry is written, and that only if no range
tombstone of a newer source covers it; a tombstone is written too, unless the caller knows that
nothing older lies below (`drop_tombstones`). For each entry that is written, in key order:

    1. If a table is open and full, it is finished.
    2. If none is open, the next one is created.
    3. Where its value is longer than `separate_bytes` (unless that is 0), or a reference to a file
       of `relocate`, the value is appended to the value file of this call, which is created for
       the first such value, and a reference to it stands for the value.
    4. It is added to the open block, and this closed when it is full; that may make the table full
       (writer.py).

So where files are cut, and which numbers they get, depends on the entries and options alone.

The range tombstones of all sources, joined, go along, cut at the tables' borders: each table gets
those from its first key on up to the next table's first key; but the first gets all that precedes
its first key, too, and the last all that follows. Without any entry they get a table of their own.

Invariant: what is read from the output, above older tables, is what was read from the sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from murmur.errors import InvalidInput
from murmur.kvcore.kernel.interface import Output, Ranges, TableInfo
from murmur.kvcore.kernel.pure.block import REFERENCES, TOMBSTONES, Reference, Value
from murmur.kvcore.kernel.pure.memtable import Memtable
from murmur.kvcore.kernel.pure.merge import Run, merge
from murmur.kvcore.kernel.pure.ranges import NO_RANGES, clip, union, visible
from murmur.kvcore.kernel.pure.table import Table
from murmur.kvcore.kernel.pure.values import ValueWriter
from murmur.kvcore.kernel.pure.writer import TableWriter

RUN_BLOCKS = 8  # read together: larger runs merge faster


def write_tables(sources: Sequence[Memtable | Sequence[Table]], output: Output) -> list[TableInfo]:
    """Write the union of the sources into new tables, in key order, each synced and closed.

    When this raises, the caller removes the files that were created. InvalidInput if a file of
    `relocate` is not at hand.
    """
    for number in output.relocate - output.values.keys():
        raise InvalidInput(f"value file {number} is not at hand")
    hidden = NO_RANGES  # by the sources so far
    runs: list[Iterator[Run]] = []
    for source in sources:
        if isinstance(source, Memtable):
            runs.append(visible(source.newest_runs(), hidden))
            hidden = union((hidden, source.ranges(source.newest)))
        else:
            runs.append(_table_runs(source, hidden))
            hidden = union((hidden, *(table.ranges() for table in source)))
    merged = merge(runs)
    if output.drop_tombstones:
        merged, hidden = _without_tombstones(merged), NO_RANGES
    writing = _Writing(output, hidden)
    try:
        for run in merged:
            writing.put(run)
            writing.pause()
        return writing.finish()
    finally:
        writing.close()


class _Writing:
    """What is being written: at most one table and one value file at a time."""

    def __init__(self, output: Output, ranges: Ranges) -> None:
        self._output = output
        self._ranges = ranges
        self._written: list[TableInfo] = []
        self._table: TableWriter | None = None
        self._lower = b""  # the first key of the open table, but of the first one
        self._values: ValueWriter | None = None
        self._finished = 0  # bytes of finished tables
        self._told = 0  # bytes that `pause` was told of

    def put(self, run: Run) -> None:
        """Write entries."""
        keys, values, kinds = run
        at = self._first_moved(run)
        if at is not None:
            if self._values is None:
                # Steps 1 and 2 come first, for all that precedes the first value to be moved.
                if at:
                    self._add((keys[:at], values[:at], kinds))
                    keys, values = keys[at:], values[at:]
                self._open_for(keys[0])
                number, file = self._output.create_values()
                self._values = ValueWriter(file, number)
            kinds |= REFERENCES
            values = [self._moved(value) if self._moves(value) else value for value in values]
        self._add((keys, values, kinds))

    def pause(self) -> None:
        """Let the caller breathe."""
        size = self._finished
        size += self._table.size if self._table is not None else 0
        size += self._values.size if self._values is not None else 0
        told, self._told = self._told, size
        self._output.pause(size - told)

    def finish(self) -> list[TableInfo]:
        """Write the rest."""
        if self._table is None and self._ranges.starts:
            self._open_for(b"")
        self._finish_table(None)
        if self._values is not None:
            self._output.value_files.append(self._values.finish())
        return self._written

    def close(self) -> None:
        """Let go of the files, finished or not."""
        for file in (self._table, self._values):
            if file is not None:
                file.close()

    def _add(self, run: Run) -> None:
        rest: Run | None = run
        while rest is not None:
            rest = self._open_for(rest[0][0]).add(rest)

    def _open_for(self, key: bytes) -> TableWriter:
        """The table that the next entry belongs to."""
        if self._table is not None and self._table.full:
            self._finish_table(key)
        if self._table is None:
            number, file = self._output.create()
            self._table = TableWriter(file, number, self._output.options)
            self._lower = key if self._written else b""
        return self._table

    def _finish_table(self, upper: bytes | None) -> None:
        if self._table is not None:
            ranges = clip(self._ranges, self._lower, upper)
            self._written.append(self._table.finish(self._output.max_sequence, ranges))
            self._finished += self._table.size
            self._table = None

    def _first_moved(self, run: Run) -> int | None:
        """Where the first value stands that goes to a value file."""
        _, values, kinds = run
        limit = self._output.options.separate_bytes
        relocating = self._output.relocate and kinds & REFERENCES
        if not limit and not relocating:
            return None
        return next((at for at, value in enumerate(values) if self._moves(value)), None)

    def _moves(self, value: Value) -> bool:
        if type(value) is Reference:
            return value.unpack()[0] in self._output.relocate
        limit = self._output.options.separate_bytes
        return value is not None and 0 < limit < len(value)

    def _moved(self, value: Value) -> Reference:
        assert value is not None
        assert self._values is not None
        if type(value) is Reference:
            number, offset, length, crc = value.unpack()
            value = self._output.values[number].read(offset, length, crc)
        return self._values.add(value)


def _table_runs(tables: Sequence[Table], hidden: Ranges) -> Iterator[Run]:
    return chain.from_iterable(table.all_runs(RUN_BLOCKS, hidden) for table in tables)


def _without_tombstones(runs: Iterator[Run]) -> Iterator[Run]:
    for keys, values, kinds in runs:
        if not kinds & TOMBSTONES:
            yield keys, values, kinds
        elif live := [pair for pair in zip(keys, values, strict=True) if pair[1] is not None]:
            yield [key for key, _ in live], [value for _, value in live], kinds & ~TOMBSTONES
