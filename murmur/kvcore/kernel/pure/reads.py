"""Reads: one arrangement of memtables and tables, and the walk through all of it.

    get, scan    memtables newest first, then level 0 newest first, then the levels downward:
                 the first that has a key, or a range tombstone over it, wins

A level below level 0 is searched by the first keys of its tables: a table answers for all keys up
to the next one's, for its range tombstones may reach as far. What is found may be a reference: then
the value stands in a value file.

A `Reads` never changes, so whoever holds it reads consistently at a sequence whatever flush and
compaction do meanwhile. `Latest` is the one that is published now, and its sequence.

Invariant: at a sequence, a key has the value of the last batch up to it that wrote the key, and
none if a later one up to it deleted the key or a range around it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence

from murmur.errors import Closed, Corruption, TypeMismatch
from murmur.kvcore.kernel.interface import ABSENT, Absent, Ranges, Values
from murmur.kvcore.kernel.pure.block import Reference
from murmur.kvcore.kernel.pure.chunk import Chunk, chunks
from murmur.kvcore.kernel.pure.filter import hash_key
from murmur.kvcore.kernel.pure.live import live_pairs, live_pieces
from murmur.kvcore.kernel.pure.memtable import Memtable
from murmur.kvcore.kernel.pure.merge import Run, merge
from murmur.kvcore.kernel.pure.ranges import NO_RANGES, clip, covers, covers_all, union, visible
from murmur.kvcore.kernel.pure.table import Table

CHUNK_BYTES = 1 << 20


class Reads:
    """What there is to read. For any number of threads."""

    __slots__ = ("_deep", "_shallow", "levels", "memtables", "values")

    def __init__(
        self,
        memtables: Sequence[Memtable],
        levels: Sequence[Sequence[Table]],
        values: Mapping[int, Values],
    ) -> None:
        self.memtables = tuple(memtables)
        self.levels = tuple(tuple(level) for level in levels)
        self.values = dict(values)
        # Keys are compared before a table is asked: bounds beside the tables, ready for it.
        shallow = self.levels[0] if self.levels else ()
        self._shallow = [(table.info.first, table.info.last, table) for table in shallow]
        self._deep = [
            ([table.info.first for table in level], level) for level in self.levels[1:] if level
        ]

    def get(self, key: bytes, sequence: int) -> bytes | None:
        """The value of the key at a sequence that is pinned, None if it has none."""
        if type(key) is not bytes:
            _need_bytes(key, "a key")
        value = self.recent(key, sequence)
        return self.below(key) if value is ABSENT else value

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
        _need_bounds(start, stop)
        runs = self.runs(start, stop, sequence, reverse=reverse)
        if is_open is not None:
            runs = _while_open(runs, is_open, "snapshot")
        return live_pairs(runs, self.read, reverse=reverse)

    def chunks(
        self, start: bytes, stop: bytes | None, sequence: int, *, bytes_: int = CHUNK_BYTES
    ) -> Iterator[Chunk]:
        """The same pairs, ascending, in chunks of at least so many bytes, but for the last."""
        _need_bounds(start, stop)
        return chunks(
            live_pieces(self.runs(start, stop, sequence, reverse=False), self.read), bytes_
        )

    def recent(self, key: bytes, sequence: int) -> bytes | Absent | None:
        """What memtables know of a key: None that it is deleted, ABSENT nothing."""
        for memtable in self.memtables:
            if memtable.cuts is not None:
                value = memtable.get(key, sequence)
                if value is not ABSENT:
                    return value
            else:
                version = memtable.versions.get(key)
                while version is not None:
                    at, value, version = version
                    if at <= sequence:
                        return value
        return ABSENT

    def below(self, key: bytes) -> bytes | None:
        """The value of a key of which no memtable knows."""
        hashed = hash_key(key)
        for first, last, table in self._shallow:
            if first <= key <= last:
                value = table.find(key, hashed)
                if value is not ABSENT:
                    return self.read(value) if type(value) is Reference else value
                if table.info.ranges and covers(table.ranges(), key):
                    return None
        for firsts, tables in self._deep:
            at = bisect_right(firsts, key) - 1
            if at >= 0:
                table = tables[at]
                if key <= table.info.last:
                    value = table.find(key, hashed)
                    if value is not ABSENT:
                        return self.read(value) if type(value) is Reference else value
                    if table.info.ranges and covers(table.ranges(), key):
                        return None
        return None

    def read(self, reference: Reference) -> bytes:
        """The value that a reference stands for."""
        number, offset, length, crc = reference.unpack()
        file = self.values.get(number)
        if file is None:
            raise Corruption(f"{number:06}.val", offset, "a table refers to it; it is missing")
        return file.read(offset, length, crc)

    def runs(
        self, start: bytes, stop: bytes | None, sequence: int, *, reverse: bool
    ) -> Iterator[Run]:
        """What is visible of all sources, tombstones too; opens tables when it is first asked."""
        hidden = NO_RANGES  # by the sources so far
        sources: list[Iterator[Run]] = []
        for memtable in self.memtables:
            if memtable:
                runs = memtable.runs(sequence, start, stop, reverse=reverse)
                sources.append(visible(runs, hidden))
                hidden = union((hidden, clip(memtable.ranges(sequence), start, stop)))
        for tables in self._sorted_tables(start, stop):
            sources.append(_table_runs(tables, start, stop, reverse, hidden))
            ranges = [table.ranges() for table in tables if table.info.ranges]
            if ranges:
                hidden = union((hidden, *(clip(some, start, stop) for some in ranges)))
        yield from merge(sources, reverse=reverse) if len(sources) != 1 else sources[0]

    def _sorted_tables(self, start: bytes, stop: bytes | None) -> Iterator[Sequence[Table]]:
        """The tables that may hold something of a range, as sources: disjoint and sorted."""
        for first, last, table in self._shallow:
            if last >= start and (stop is None or first < stop):
                yield (table,)
        for firsts, tables in self._deep:
            low = max(0, bisect_right(firsts, start) - 1)
            high = len(tables) if stop is None else bisect_left(firsts, stop)
            if low < high:
                yield tables[low:high]


class Latest:
    """The arrangement and the sequence that were published last."""

    __slots__ = ("_now",)

    def __init__(self, reads: Reads, sequence: int) -> None:
        self._now: tuple[Reads, int] | None = (reads, sequence)

    @property
    def sequence(self) -> int:
        """What was published last; 0 after closing."""
        return self._now[1] if self._now is not None else 0

    def move(self, reads: Reads, sequence: int) -> None:
        """Publish; a sequence that is older than the last one moves only the arrangement."""
        now = self._now
        if now is not None:
            self._now = (reads, max(sequence, now[1]))

    def close(self) -> None:
        """Answer no more: reading raises Closed."""
        self._now = None

    def get(self, key: bytes) -> bytes | None:
        """The latest published value of the key, None if it has none."""
        if type(key) is not bytes:
            _need_bytes(key, "a key")
        while True:
            now = self._now
            if now is None:
                raise Closed("the tree is closed")
            reads, sequence = now
            for memtable in reads.memtables:
                version = memtable.versions.get(key)
                if memtable.cuts is not None:
                    break
                if version is not None:
                    if version[0] <= sequence:
                        return version[1]
                    break
            else:
                return reads.below(key)
            value = reads.recent(key, sequence)
            if self._now is now:
                return reads.below(key) if value is ABSENT else value
            # Batches were published meanwhile, and what this state saw may be gone: look again.

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The latest published values of several keys, each at its own moment."""
        return [self.get(key) for key in keys]

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < stop (None: no bound) of this moment, in key order or
        against it.

        What is published later is not seen, as long as the memtables keep the versions of this
        moment: these do if it is pinned, the native ones always (`Memtable.keeps_all`). Ends with
        Closed when this is closed, and else as `Reads.scan`. Lets go of what it reads at its end,
        or when it is forgotten.
        """
        _need_bounds(start, stop)
        now = self._now
        if now is None:
            raise Closed("the tree is closed")
        reads, sequence = now
        runs = reads.runs(start, stop, sequence, reverse=reverse)
        return live_pairs(
            _while_open(runs, lambda: self._now is not None, "tree"), reads.read, reverse=reverse
        )

    def scan_prefix(self, prefix: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The pairs whose keys begin so, as `scan` gives them."""
        _need_bytes(prefix, "a prefix")
        return self.scan(prefix, after_prefix(prefix), reverse=reverse)


def _need_bytes(given: object, what: str) -> None:
    if not isinstance(given, bytes):
        raise TypeMismatch(f"{what} is bytes, not {type(given).__name__}")


def _need_bounds(start: object, stop: object) -> None:
    if not isinstance(start, bytes) or not isinstance(stop, bytes | None):
        raise TypeMismatch(
            f"bounds are bytes, and stop may be None; not {type(start).__name__} and "
            f"{type(stop).__name__}"
        )


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key after all that begin with a prefix; None if there is none."""
    shortened = prefix.rstrip(b"\xff")
    return shortened[:-1] + bytes([shortened[-1] + 1]) if shortened else None


def _while_open(runs: Iterator[Run], is_open: Callable[[], bool], what: str) -> Iterator[Run]:
    for run in runs:
        if not is_open():  # since then a memtable may give another sequence's values
            raise Closed(f"the {what} is closed")
        yield run


def _table_runs(
    tables: Sequence[Table], start: bytes, stop: bytes | None, reverse: bool, hidden: Ranges
) -> Iterator[Run]:
    for table in reversed(tables) if reverse else tables:
        if not (hidden.starts and covers_all(hidden, table.info.first, table.info.last)):
            yield from table.runs(start, stop, reverse=reverse, hidden=hidden)
