"""The tree: an ordered map of bytes with snapshots, on a log-structured merge tree.

    write      memtable, published whole                       rotate   memtable -> frozen memtable
    get, scan  memtable, frozen memtables, tables, in this order: the first that has a key wins
    flush      frozen memtable -> table of level 0, installed with its mark (store.py)
    compact    tables -> tables of the next level (compaction.py)

All that a reader needs is one immutable State (state.py), so a snapshot pins what it needs by
holding it, and an iterator goes on whatever flush and compaction do meanwhile. Readers never wait
for a write or for I/O of another thread.

The tree is not a log: what is in memtables is lost with the process. Its owner logs every batch
first, and after opening writes again what came after `mark`.

Invariants:
    1. A batch and its attachment become visible at once, whole; an interrupted one not at all.
    2. Mark and flushed data agree: all that was written before rotate(mark), nothing later.
    3. before_install(mark) has returned before the manifest with that mark is written.
    4. A key has one value: what was written last, or none if that was None, until overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from types import TracebackType

from murmur.errors import Closed
from murmur.kvcore.compaction import size_of
from murmur.kvcore.kernel import Entry, Reads
from murmur.kvcore.state import Head, State
from murmur.kvcore.storage import Problem, Storage
from murmur.kvcore.store import Store
from murmur.kvcore.upkeep import Upkeep
from murmur.kvcore.view import View

__all__ = ["Tree", "TreeSnapshot", "View"]

MEMTABLE_BYTES = 32 << 20
TABLE_BYTES = 32 << 20
CACHE_BYTES = 64 << 20


class TreeSnapshot:
    """The tree at one sequence number, until it is closed. For any number of threads."""

    __slots__ = ("_reads", "_released", "_state", "attachment", "sequence")

    def __init__(self, state: State, released: Callable[[State], None]) -> None:
        self.sequence = state.sequence
        self.attachment = state.attachment
        self._state: State | None = state  # None once it is closed
        self._reads = state.reads
        self._released = released

    def get(self, key: bytes) -> bytes | None:
        """The value of the key, None if it has none."""
        value = self._reads.get(key, self.sequence)
        if self._state is None:  # asked last: what it sees is kept until then
            raise Closed("the snapshot is closed")
        return value

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < stop (None: no bound), in key order or against it.

        Closing the snapshot ends an iterator with Closed; nothing else disturbs it.
        """
        if self._state is None:
            raise Closed("the snapshot is closed")
        return self._reads.scan(
            start, stop, self.sequence, reverse=reverse, is_open=lambda: self._state is not None
        )

    def close(self) -> None:
        """Let go of what the snapshot pins. Closing again does nothing."""
        state, self._state = self._state, None
        if state is not None:
            self._reads = _NOTHING
            self._released(state)

    def __enter__(self) -> TreeSnapshot:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_NOTHING = Reads((), (), {})  # what a closed snapshot reads


class Tree:
    """An ordered map of bytes. One thread writes at a time; any number reads."""

    def __init__(
        self,
        store: Store,
        *,
        memtable_bytes: int,
        table_bytes: int,
        before_install: Callable[[bytes], None],
    ) -> None:
        self._store = store
        self._memtable_bytes = memtable_bytes
        self._head = Head(store.version)
        self._upkeep = Upkeep(
            self._head, store, table_bytes=table_bytes, before_install=before_install
        )
        self._closed = False

    @classmethod
    def open(
        cls,
        storage: Storage,
        *,
        memtable_bytes: int = MEMTABLE_BYTES,
        table_bytes: int = TABLE_BYTES,
        cache_bytes: int = CACHE_BYTES,
        before_install: Callable[[bytes], None] = lambda mark: None,
    ) -> Tree:
        """Open the tree of this storage, which the caller has locked, or make an empty one.

        Raises Corruption or UnknownFormat. The file budgets are approximate; memtable and cache
        count what CPython takes.
        """
        return cls(
            Store(storage, cache_bytes),
            memtable_bytes=memtable_bytes,
            table_bytes=table_bytes,
            before_install=before_install,
        )

    # -- reading

    @property
    def mark(self) -> bytes:
        """The mark of the last installed flush; empty if there was none."""
        return self._head.state.version.mark

    @property
    def attachment(self) -> object:
        """What came with the last published write."""
        return self._head.state.attachment

    def get(self, key: bytes) -> bytes | None:
        """The latest published value of the key, None if it has none."""
        return self._head.latest.get(key)

    def snapshot(self) -> TreeSnapshot:
        """The latest published state, pinned until it is closed."""
        if self._closed:
            raise Closed("the tree is closed")
        return TreeSnapshot(self._head.pin(), self._release)

    # -- writing

    def write(self, batch: Sequence[Entry], attachment: object = None) -> int:
        """Apply a batch (None deletes) and publish it with the attachment; its sequence number.

        If this is interrupted (KeyboardInterrupt) the batch is not visible, but for an interrupt in
        the very last step: the attachment tells. Writing it again is right either way.
        """
        self._usable()
        sequence, _, memtable, _, _, _ = self._head.state
        sequence += 1
        memtable.apply(sequence, batch, self._head.pinned())
        self._head.publish(sequence, attachment)
        return sequence

    def full(self) -> bool:
        """Whether the memtable has reached its budget and should be rotated."""
        return self._head.state.memtable.bytes >= self._memtable_bytes

    def rotate(self, mark: bytes) -> None:
        """Freeze the memtable, to be flushed in the background and installed with this mark.

        Waits while two are pending. If the disk is too full to flush them, raises that OSError.
        """
        self._usable()
        self._upkeep.rotate(mark)

    def flush(self, mark: bytes) -> None:
        """Rotate and wait until it is installed; an OSError if the disk is full, and try again."""
        self._usable()
        state = self._head.state
        if not state.memtable and not state.frozen and mark == state.version.mark:
            return
        self._upkeep.wait_for(self._upkeep.rotate(mark))

    def compact(self) -> None:
        """Merge what was flushed into one level without tombstones."""
        self._usable()
        self._upkeep.compact()

    # -- the whole

    def checkpoint(self, directory: str) -> None:
        """Make a tree of what was flushed in another directory, which then shares the files."""
        self._usable()
        with self._upkeep.installing:
            version = self._head.state.version  # holding it keeps its files
        self._store.checkpoint(version, directory)

    def check(self) -> Iterator[Problem]:
        """Read every file and verify all that can be verified; what is wrong, if anything is."""
        if self._closed:
            raise Closed("the tree is closed")
        with self._upkeep.installing:
            version = self._head.state.version
            problems = list(self._store.check())
        yield from problems
        yield from version.check()

    def stats(self) -> dict[str, int | float | list[int]]:
        """Figures: what is in memory, tables and bytes by level, work done since opening."""
        state = self._head.state
        return {
            "sequence": state.sequence,
            "memtable_entries": len(state.memtable),
            "memtable_bytes": state.memtable.bytes,
            "frozen_memtables": len(state.frozen),
            "cache_bytes": self._store.cache.weight,
            "level_tables": [len(level) for level in state.version.levels],
            "level_bytes": [size_of(level) for level in state.version.levels],
            **asdict(self._upkeep.counts),
        }

    def close(self) -> None:
        """Stop. The memtables are not flushed; the log has what is in them."""
        self._closed = True
        self._head.latest.close()
        self._upkeep.close()
        for table in self._head.state.version.tables():
            table.close()

    def _usable(self) -> None:
        if self._closed:
            raise Closed("the tree is closed")
        self._upkeep.usable()

    def _release(self, state: State) -> None:
        self._head.unpin(state)
        del state
        self._upkeep.released()
