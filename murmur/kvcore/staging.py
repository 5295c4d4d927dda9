"""Staging: many changes laid over a snapshot, aside, until they are taken into the tree at once.

    below  a=1 b=2 c=3      write b=None d=4      staging  a=1 c=3 d=4      entries  b=None d=4

What does not fit RUN_BYTES of memory goes to sorted runs, sstables beside the tree. A change is
tagged, so that a deletion hides what is below and is still there when the changes are read out.

    bootstrap/staged-3.sst      a run: key -> 00, or 01 | value
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from murmur.kvcore.kernel import BlockCache, Entry, Memtable, Output, Reads, Table, write_tables
from murmur.kvcore.options import Options
from murmur.kvcore.overlay import overlay
from murmur.kvcore.storage import AppendFile, Storage
from murmur.kvcore.tagged import tag, untag, untagged
from murmur.kvcore.view import View

RUN_BYTES = 16 << 20
CACHE_BYTES = 4 << 20


class Staging:
    """Changes over a view, readable as one view. For one thread at a time."""

    def __init__(
        self, storage: Storage, directory: str, below: View, run_bytes: int = RUN_BYTES
    ) -> None:
        """Runs go to the directory, which is there; what an earlier staging left is removed."""
        self._storage = storage
        self._prefix = f"{directory}/staged-"
        self._below = below
        self._run_bytes = run_bytes
        self._cache = BlockCache(CACHE_BYTES)
        self._runs: list[Table] = []  # newest first
        self._sequence = 0
        self._begin()
        for name in storage.list(directory):
            if f"{directory}/{name}".startswith(self._prefix):
                storage.remove(f"{directory}/{name}")

    def write(self, changes: Iterable[Entry]) -> None:
        """Lay changes over all that was written before; None deletes."""
        self._sequence += 1
        tagged = [(key, tag(value)) for key, value in changes]
        self._memtable.apply(self._sequence, tagged)
        if self._memtable.bytes >= self._run_bytes:
            self._spill()

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        tagged = self._reads.get(key, self._sequence)
        return self._below.get(key) if tagged is None else untag(tagged)

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < stop."""
        above = untagged(self._reads.scan(start, stop, self._sequence, reverse=reverse))
        return overlay(above, self._below.scan(start, stop, reverse=reverse), reverse=reverse)

    def entries(self) -> Iterator[Entry]:
        """The changes, in key order, deletions too."""
        return untagged(self._reads.scan(b"", None, self._sequence))

    def close(self) -> None:
        """Remove the runs."""
        runs, self._runs = self._runs, []
        self._begin()
        for run in runs:
            run.close()
            self._storage.remove(run.name)

    def _begin(self) -> None:
        self._memtable = Memtable(self._sequence)
        self._reads = Reads([self._memtable], (tuple(self._runs),), {})

    def _spill(self) -> None:
        name = f"{self._prefix}{len(self._runs)}.sst"
        files: list[AppendFile] = []

        def create() -> tuple[int, AppendFile]:
            files.append(self._storage.create(name))
            return len(self._runs) + 1, files[-1]

        def no_values() -> tuple[int, AppendFile]:
            raise AssertionError("values stay in their run")

        options = Options().tables(0, deepest=False)
        options = options._replace(table_bytes=1 << 62, separate_bytes=0)
        self._memtable.freeze(self._sequence)
        sources: Sequence[Memtable] = [self._memtable]
        (info,) = write_tables(sources, Output(create, no_values, options, self._sequence))
        self._runs.insert(0, Table(self._storage, name, info, self._cache))
        self._begin()
