"""The tree: an ordered map of bytes with snapshots, on a log-structured merge tree.

    write      memtable, published whole                       rotate   memtable -> frozen memtable
    get, scan  memtable, frozen memtables, tables, in this order: the first that has a key wins
    flush      frozen memtable -> table of level 0, installed with its mark (work.py)
    merge      tables -> tables of the next level (compaction.py says which, merges.py when)

All that a reader needs is one immutable State (state.py), so a snapshot pins what it needs by
holding it, and an iterator goes on whatever flush and merge do meanwhile. Readers never wait for a
write or for I/O of another thread. A writer that is faster than both is slowed (pressure.py).

The tree is not a log: what is in memtables is lost with the process. Its owner logs every batch
first, and after opening writes again what came after `mark`.

Invariants:
    1. A batch and its attachment become visible at once, whole; an interrupted one not at all.
    2. Mark and flushed data agree: all that was written before rotate(mark), nothing later.
    3. before_install(mark) has returned before the manifest with that mark is written.
    4. A key has one value: what was written last, or none if that was None, until overwritten. A
       range is deleted as if every key in it were.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from murmur.errors import Closed, InvalidInput
from murmur.kvcore.backup import Backup, Generation, Item, tree_items
from murmur.kvcore.census import census
from murmur.kvcore.figures import SAMPLE, Histogram
from murmur.kvcore.ingest import Source, validated
from murmur.kvcore.kernel import Entry, Latest, Memtable, TableInfo, prepare_memory
from murmur.kvcore.loads import BlockBatch
from murmur.kvcore.manifest import encode_manifest
from murmur.kvcore.options import Options
from murmur.kvcore.prepared import Prepared
from murmur.kvcore.pressure import LEAST_NAP_S, Pace, SystemPace
from murmur.kvcore.state import Head, State
from murmur.kvcore.storage import Problem, Storage
from murmur.kvcore.store import Store, files_of
from murmur.kvcore.tree_snapshot import TreeSnapshot, after_prefix
from murmur.kvcore.upkeep import Upkeep
from murmur.kvcore.view import View
from murmur.kvcore.work import Work

__all__ = ["Tree", "TreeSnapshot", "View"]

MANY = 16  # a batch of so many entries is weighed before it is applied
BUSY_BYTES = 4 << 20  # in a memtable: more is to be expected
PREPARED = 8  # an eighth of a memtable is cleared ahead
LARGE = 4  # one of more than a quarter of the memtable's budget gets a memtable of its own


class Scan(Protocol):
    """The signature of `Tree.scan`."""

    def __call__(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]: ...


class ScanPrefix(Protocol):
    """The signature of `Tree.scan_prefix`."""

    def __call__(
        self, prefix: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]: ...


class PreparedTables(NamedTuple):
    """Tables that wait for `Tree.adopt`."""

    files: Prepared
    infos: Sequence[TableInfo]

    def close(self) -> None:
        """Remove them, unless they were adopted."""
        self.files.close()


class Tree:
    """An ordered map of bytes. One thread writes at a time; any number reads."""

    get: Callable[[bytes], bytes | None]
    """The latest published value of a key, None if it has none: one call of the kernel."""

    multi_get: Callable[[Sequence[bytes]], list[bytes | None]]
    """The latest published values of several keys, in their order."""

    scan: Scan
    """The pairs with start <= key < stop (None: no bound) of this moment, in key order or against
    it. As a scan of a snapshot that closes itself when the iterator ends or is forgotten; where
    memtables keep all versions it is one call of the kernel."""

    scan_prefix: ScanPrefix
    """The pairs whose keys begin so, in the same way."""

    def __init__(
        self,
        store: Store,
        options: Options,
        *,
        before_install: Callable[[bytes], None],
        pace: Pace,
    ) -> None:
        self.options = options
        self._store = store
        self._pace = pace
        self._head = head = Head(store.version)
        self._work = Work(head, store, options, before_install=before_install, pace=pace)
        self._brake = self._work.brake
        self._upkeep = Upkeep(head, store, options, self._work, pace)
        self._closed = False
        self.get = head.latest.get
        self.multi_get = head.latest.multi_get
        if Memtable.keeps_all:
            self.scan, self.scan_prefix = head.latest.scan, head.latest.scan_prefix
        else:
            self.scan, self.scan_prefix = self._pinned_scan, self._pinned_scan_prefix

    @classmethod
    def open(
        cls,
        storage: Storage,
        *,
        options: Options | None = None,
        memtable_bytes: int | None = None,
        table_bytes: int | None = None,
        cache_bytes: int | None = None,
        before_install: Callable[[bytes], None] = lambda mark: None,
        pace: Pace | None = None,
    ) -> Tree:
        """Open the tree of this storage, which the caller has locked, or make an empty one.

        The three budgets stand for those of `options`, of which the others are the defaults.
        `pace` is where time comes from and is waited for. Raises Corruption or UnknownFormat,
        InvalidInput for options that are none. The budgets are approximate.
        """
        chosen = options or Options()
        budgets: dict[str, Any] = {
            "memtable_bytes": memtable_bytes,
            "table_bytes": table_bytes,
            "cache_bytes": cache_bytes,
        }
        if given := {name: value for name, value in budgets.items() if value is not None}:
            chosen = replace(chosen, **given)
        store = Store(storage, chosen.cache_bytes, mmap=chosen.mmap)
        return cls(store, chosen, before_install=before_install, pace=pace or SystemPace())

    # -- reading

    @property
    def mark(self) -> bytes:
        """The mark of the last installed flush; empty if there was none."""
        return self._head.state.version.mark

    @property
    def attachment(self) -> object:
        """What came with the last published write."""
        head = self._head
        state = head.state
        if head.latest.sequence != state.sequence:
            state = head.catch_up()
        return state.attachment

    def snapshot(self) -> TreeSnapshot:
        """The latest published state, pinned until it is closed."""
        if self._closed:
            raise Closed("the tree is closed")
        figures = self._work.figures
        return TreeSnapshot(self._head.pin(), self._release, figures.gets, self._pace)

    # -- writing

    def write(
        self,
        batch: Sequence[Entry],
        attachment: object = None,
        ranges: Sequence[tuple[bytes, bytes]] = (),
    ) -> int:
        """Apply a batch (None deletes) and publish it with the attachment; its sequence number.

        The ranges (start, stop) are deleted first. If this is interrupted (KeyboardInterrupt) the
        batch is not visible, but for an interrupt in the very last step: the attachment tells.
        Writing it again is right either way. Sleeps first when flush and merge lag behind.
        """
        if self._closed or not self._upkeep.clear:
            self._usable()
        head, brake = self._head, self._brake
        if brake.debt >= LEAST_NAP_S:
            self._pay()
        loaded = batch if isinstance(batch, BlockBatch) else None
        if (len(batch) >= MANY or loaded is not None) and self._is_large(batch):
            head.seal()
        state = head.state
        sequence, memtable = state.sequence + 1, state.memtable
        timed = not sequence % SAMPLE
        began = self._pace.now_ns() if timed else 0
        if ranges:
            for start, stop in ranges:
                if start >= stop:
                    raise InvalidInput(f"the range from {start!r} to {stop!r} is empty")
            memtable.apply(sequence, batch, head.pinned(), ranges)
        elif loaded is not None:
            loaded.apply(memtable, sequence, head.pinned())
        else:
            memtable.apply(sequence, batch, head.pinned())
        head.publish(sequence, attachment)
        size = memtable.bytes
        if size >= brake.due:
            brake.charge(size)
        if timed:
            self._work.figures.writes.record(self._pace.now_ns() - began)
        return sequence

    @property
    def latest(self) -> Latest:
        """What is published, for a native writer."""
        return self._head.latest

    @property
    def write_times(self) -> Histogram:
        """How long writes take, for a native writer."""
        return self._work.figures.writes

    @property
    def memtable(self) -> Memtable:
        """Where writes go, for a native writer; another one after whatever may rotate or seal."""
        return self._head.state.memtable

    def writable_bytes(self) -> int:
        """How large the memtable may become before a write is to come through here: 0 if all are.

        There it is full, or the writer is to be charged for what it has written, or to pay.
        """
        if self._closed or not self._upkeep.clear:
            return 0
        return max(0, int(min(self.options.memtable_bytes, self._brake.due)))

    def clear_ahead(self) -> None:
        """Have memory at hand for a writer who fills memtables; from a thread beside him."""
        if self._head.state.memtable.bytes >= BUSY_BYTES:
            prepare_memory(self.options.memtable_bytes // PREPARED)

    def catch_up(self) -> None:
        """Take over what a native writer has published; it is shut meanwhile."""
        self._head.catch_up()

    def follow(self, follow: Callable[[object], tuple[int, object]]) -> None:
        """Ask this for the sequence and the attachment that a native writer has come to."""
        self._head.follow = follow

    def delete_range(self, start: bytes, stop: bytes, attachment: object = None) -> int:
        """Delete all keys with start <= key < stop; the sequence number. Costs as much as a put."""
        return self.write((), attachment, ((start, stop),))

    def ingest(self, paths: Sequence[str | os.PathLike[str] | Source], mark: bytes) -> int:
        """Take ready sstables in (ingest.py), above all there is, at once; the sequence number.

        What is in memory is flushed first, with the mark. The files stay as they are. Raises
        Corruption or InvalidInput (also where their keys overlap) before anything is changed.
        """
        self._usable()
        sources = sorted(map(validated, paths), key=lambda source: source.info.first)
        for left, right in pairwise(sources):
            if left.info.last >= right.info.first:
                raise InvalidInput(f"{left.name} and {right.name} overlap")
        self.flush(mark)
        if not sources:
            return self._head.state.sequence
        return self._upkeep.ingest(lambda running: self._work.ingest(sources, running))

    def prepare(
        self, entries: Iterable[Entry], pause: Callable[[], None] = lambda: None
    ) -> PreparedTables:
        """Write tables of entries in key order (None deletes) ahead, for `adopt`; from any thread.

        `pause` is called now and then. Close what is not adopted: then its files are removed.
        """
        self._usable()
        prepared = Prepared(self._store, self.options)
        try:
            infos = prepared.write(entries, self._head.state.version.deepest, pause)
        except BaseException:
            prepared.close()
            raise
        return PreparedTables(prepared, infos)

    def adopt(
        self,
        prepared: PreparedTables,
        above: Sequence[Entry],
        mark: bytes,
        attachment: object,
        flushed: bytes,
    ) -> int:
        """Take in what was prepared, and entries in key order above it, at once; the sequence.

        What is in memory is flushed first, with the mark `flushed`. Then one manifest edit moves
        the mark and brings all entries; they are published with the attachment.
        """
        self._usable()
        self.flush(flushed)
        return self._upkeep.ingest(
            partial(self._work.adopt, prepared.files, prepared.infos, above, mark, attachment)
        )

    def takes_tables(self, batch: BlockBatch) -> bool:
        """Whether a batch is large enough to go past the memtable (`load`)."""
        return batch.size >= self.options.memtable_bytes // LARGE

    def make_way(self) -> None:
        """Wait until there is room for a load, before that is logged; an OSError as of `rotate`."""
        self._usable()
        if self._brake.debt >= LEAST_NAP_S:
            self._pay()
        self._upkeep.make_way()

    def load(self, batch: BlockBatch, mark: bytes, attachment: object) -> int:
        """Publish a batch with the attachment, past the memtable; the sequence number.

        Its blocks are read where they are, until the background has made tables of them, which are
        installed with the mark: it is that of the tree with the batch.
        """
        self._usable()
        newest, runs = batch.sources(self._head.state.sequence + 1)
        sequence = self._head.load(newest, runs, mark, attachment)
        self._upkeep.flush_behind()
        return sequence

    def wait(self) -> None:
        """Return when nothing is under way that an exception has left to itself."""
        self._usable()

    def full(self) -> bool:
        """Whether the memtable has reached its budget and should be rotated."""
        state = self._head.state
        return bool(state.sealed) or state.memtable.bytes >= self.options.memtable_bytes

    def rotate(self, mark: bytes, *, deleting: bool = False) -> None:
        """Freeze the memtable, to be flushed in the background and installed with this mark.

        Waits while `pending_memtables` are pending. If the disk is too full to flush them, raises
        that OSError once all memory for writes is taken; who is only deleting gets a little more.
        """
        self._usable()
        self._upkeep.rotate(mark, deleting=deleting)

    def flush(self, mark: bytes) -> None:
        """Rotate and wait until it is installed; an OSError if the disk is full, and try again."""
        self._usable()
        if mark == self.mark and self._is_flushed():
            return
        self._upkeep.flush(mark)

    def compact(self) -> None:
        """Merge what was flushed into one level without tombstones.

        Raises OSError if the disk is too full or a file cannot be read, and Corruption where one is
        damaged: it, and what cannot be merged for it, stay as they are.
        """
        self._usable()
        self._upkeep.compact()

    def settle(self) -> None:
        """Wait until nothing is left to flush, to merge or to remove; OSError if the disk is full.

        For tests and measurements.
        """
        self._usable()
        self._upkeep.settle()

    # -- the whole

    def checkpoint(self, directory: str) -> None:
        """Make a tree of what was flushed in another directory, which then shares the files."""
        self._usable()
        with self._work.installing:
            version = self._head.state.version  # holding it keeps its files
        self._store.checkpoint(version, directory)

    def backup(self, directory: str, label: str = "") -> Generation:
        """Add what was flushed to the backups in a directory (backup.py), which is made if it is
        not there; only what it lacks is copied. `Backup` lists, prunes and restores them.
        """
        target = self._store.storage.at(directory)
        return Backup(target).add(self.backup_items(), label)

    def backup_items(self) -> list[Item]:
        """The files of what was flushed, for a backup of more than the tree."""
        self._usable()
        with self._work.installing:
            version = self._head.state.version
            manifest = encode_manifest(self._store.manifest(version))
        return tree_items(self._store.storage, version, manifest)

    def check(self) -> Iterator[Problem]:
        """Read every file and verify all that can be verified; what is wrong, if anything is."""
        if self._closed:
            raise Closed("the tree is closed")
        with self._work.installing:
            version = self._head.state.version
            problems = list(self._store.check())
        yield from problems
        yield from version.check()

    def stats(self) -> dict[str, object]:
        """Figures: what is in memory, tables and bytes by level, work done since opening.

        Bytes are bytes, times microseconds, latencies histograms (figures.py says what is timed).
        docs/engine.md explains each.
        """
        state = self._head.state
        return {
            "sequence": state.sequence,
            "memtable_entries": len(state.memtable),
            "memtable_bytes": state.memtable.bytes,
            "frozen_memtables": len(state.frozen),
            "unflushed_bytes": sum(memtable.bytes for memtable in state.memtables()),
            "pressure": self._brake.pressure(state.memtable.bytes)[0],
            "reserve_bytes": self._store.reserve.bytes,
            "damaged": self._work.damaged(),
            **census(state.version, self.options, self._store.cache),
            **self._work.figures.summary(),
        }

    def close(self) -> None:
        """Stop. The memtables are not flushed; the log has what is in them."""
        self._closed = True
        self._head.latest.close()
        self._upkeep.close()
        version = self._head.state.version
        for file in files_of(version):
            file.close()

    def abandon(self) -> None:
        """Answer no more, and leave all else as it is: in a forked child."""
        self._closed = True
        self._head.latest.close()

    def _pinned_scan(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        if self._closed:
            raise Closed("the tree is closed")
        return self._pairs(self._head.pin(), start, stop, reverse)

    def _pairs(
        self, state: State, start: bytes, stop: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from state.reads.scan(
                start, stop, state.sequence, reverse=reverse, is_open=lambda: not self._closed
            )
        finally:
            self._release(state)

    def _pinned_scan_prefix(
        self, prefix: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._pinned_scan(prefix, after_prefix(prefix), reverse=reverse)

    def _is_flushed(self) -> bool:
        state = self._head.state
        return not state.frozen and not any(memtable.bytes for memtable in state.memtables())

    def _is_large(self, batch: Sequence[Entry]) -> bool:
        """Whether a batch weighs a quarter of the memtable, by every sixteenth of its entries."""
        if isinstance(batch, BlockBatch):
            weight = batch.size // MANY
        else:
            weight = sum(len(key) + len(value or b"") for key, value in batch[::MANY])
        if weight * MANY * LARGE < self.options.memtable_bytes:
            return False
        return self._head.state.memtable.bytes > 0

    def _pay(self) -> None:
        """Sleep for what the last writes owe, as long as there is pressure."""
        brake, cause = self._brake, self._brake.cause
        began = then = self._pace.now_ns()
        while nap := brake.nap(self._head.state.memtable.bytes):
            self._pace.sleep(nap)
            now = self._pace.now_ns()
            brake.slept((now - then) * 1e-9)
            then = now
            self._usable()
        if then > began:
            self._work.figures.stalls[cause].record(then - began)

    def _usable(self) -> None:
        if self._closed:
            raise Closed("the tree is closed")
        self._upkeep.usable()

    def _release(self, state: State) -> None:
        self._head.unpin(state)
        del state
        self._upkeep.released()
