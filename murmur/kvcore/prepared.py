"""Prepared tables: files of a tree that are written ahead, and become part of it at once.

    prepared = tree.prepare(entries)           files, in no manifest: as good as not there
    tree.adopt(prepared, above, mark, ...)     one manifest edit: all of them, and the mark
    prepared.close()                           what was not adopted is removed

The entries come in key order, deletions too, and are newer than all that the tree holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from murmur.kvcore.kernel import Entry, Memtable, Output, Table, TableInfo, ValueFile, write_tables
from murmur.kvcore.options import Options
from murmur.kvcore.store import Store

PIECE_BYTES = 16 << 20  # of entries, in memory at a time
BATCH_ENTRIES = 256  # in one call of the kernel, which other threads wait for


class _NotAdopted(Exception):
    """The files are not part of the tree: remove them."""


class Prepared:
    """Tables that wait to be adopted. For one thread at a time."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._context = store.writing()
        self._writing = self._context.__enter__()
        self._files: list[tuple[int, int]] = []  # value files: numbers and sizes
        self._open = True

    def write(
        self,
        entries: Iterable[Entry],
        level: int,
        pause: Callable[[], None] = lambda: None,
    ) -> list[TableInfo]:
        """Write tables of entries in key order, as those of a level are written."""
        infos: list[TableInfo] = []
        memtable, sequence = Memtable(0), 0
        batch: list[Entry] = []
        for entry in entries:
            batch.append(entry)
            if len(batch) == BATCH_ENTRIES:
                sequence += 1
                memtable.apply(sequence, batch)
                batch = []
                if memtable.bytes >= PIECE_BYTES:
                    infos += self._write(memtable, sequence, level)
                    memtable, sequence = Memtable(0), 0
                pause()
        sequence += 1
        memtable.apply(sequence, batch)
        return infos + self._write(memtable, sequence, level)

    def opened(self, infos: Iterable[TableInfo], sequence: int) -> list[Table]:
        """The tables, with entries of this sequence."""
        return [self._store.open(info._replace(max_sequence=sequence)) for info in infos]

    def values(self) -> list[ValueFile]:
        """The value files that the tables refer to."""
        return [self._store.open_values(number, size) for number, size in self._files]

    def close(self) -> None:
        """Remove what was not adopted."""
        if self._open:
            self._open = False
            with suppress(_NotAdopted):
                error = _NotAdopted()
                self._context.__exit__(_NotAdopted, error, None)

    def _write(self, memtable: Memtable, sequence: int, level: int) -> list[TableInfo]:
        if not len(memtable):
            return []
        memtable.freeze(sequence)
        options = self._options.tables(level, deepest=False)
        if not level:  # one table of it is whole
            options = options._replace(table_bytes=1 << 62)
        output = Output(self._writing.create, self._writing.create_values, options, 0)
        infos = write_tables([memtable], output)
        self._files += output.value_files
        return list(infos)
