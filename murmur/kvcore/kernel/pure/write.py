"""Flush and merge: entries of memtables and tables into new tables, files to files.

Sources stand newest first. Of a key only the newest entry is written; a tombstone is written too,
unless the caller knows that nothing older lies below (`drop_tombstones`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from murmur.kvcore.kernel.interface import Output, TableInfo
from murmur.kvcore.kernel.pure.block import TARGET_BYTES
from murmur.kvcore.kernel.pure.memtable import Memtable
from murmur.kvcore.kernel.pure.merge import Run, merge
from murmur.kvcore.kernel.pure.table import Table, TableWriter

RUN_BLOCKS = 8  # read together: larger runs merge faster


def write_tables(sources: Sequence[Memtable | Sequence[Table]], output: Output) -> list[TableInfo]:
    """Write the union of the sources into new tables, in key order, each synced and closed.

    When this raises, the caller removes the files that were created.
    """
    # A table may grow by a run beyond its size, so a run is a small part of it.
    table_bytes = output.options.table_bytes
    blocks = max(1, min(RUN_BLOCKS, table_bytes // (16 * TARGET_BYTES)))
    runs = merge([_runs(source, blocks) for source in sources])
    if output.drop_tombstones:
        runs = _without_tombstones(runs)
    written: list[TableInfo] = []
    writer: TableWriter | None = None
    size = 0
    try:
        for run in runs:
            if writer is None:
                number, file = output.create()
                writer, size = TableWriter(file, number), 0
            writer.add(run)
            output.pause(writer.size - size)
            size = writer.size
            if size >= table_bytes:
                written.append(writer.finish(output.max_sequence))
                writer = None
        if writer is not None:
            written.append(writer.finish(output.max_sequence))
            writer = None
    finally:
        if writer is not None:
            writer.close()
    return written


def _runs(source: Memtable | Sequence[Table], blocks: int) -> Iterator[Run]:
    if isinstance(source, Memtable):
        yield from source.newest_runs()
    else:
        for table in source:
            yield from table.all_runs(blocks)


def _without_tombstones(runs: Iterator[Run]) -> Iterator[Run]:
    for keys, values, tombstones in runs:
        if not tombstones:
            yield keys, values, False
        elif live := [pair for pair in zip(keys, values, strict=True) if pair[1] is not None]:
            yield [key for key, _ in live], [value for _, value in live], False
