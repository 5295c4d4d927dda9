"""The tree on SQLite: what Tree is, with one SQLite file in place of sstables (sqlite_file.py).

    write      memtable, published whole
    get, scan  memtable first, then the file
    flush      memtable -> the file, in one transaction with the mark

The file holds what was flushed, no more: the log is the write-ahead log here too, and nothing that
the log may lose in a power cut is ever in the file. So `before_install` precedes the commit, one
sync makes a whole memtable durable, and a write costs no I/O.

A snapshot is a sequence of the memtable and the file's base at that moment: a read transaction that
SQLite keeps readable beside whatever is flushed later. A flush runs in the thread that asks for it;
readers go on meanwhile.

In the memtable a value is 01 | bytes, and a deletion is 00, so that the kernel's own walk can tell
a key that was deleted here from one that only the file may have.

Invariants, as Tree's:
    1. A batch and its attachment become visible at once, whole; an interrupted one not at all.
    2. Mark and flushed data agree: all that was written before flush(mark), nothing later.
    3. before_install(mark) has returned before the transaction with that mark begins.
    4. Whatever interrupts a flush, memtable and file together still say the same.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import NamedTuple

from murmur.errors import Closed, InvalidInput, Locked, Poisoned
from murmur.kvcore.kernel import Entry, Memtable, Reads
from murmur.kvcore.kernel.pure.chunk import Chunk, chunks
from murmur.kvcore.overlay import overlay
from murmur.kvcore.sqlite_chain import LONG, Base
from murmur.kvcore.sqlite_file import SqliteFile
from murmur.kvcore.storage import DiskStorage, Problem, Storage
from murmur.kvcore.tagged import DELETED, tag, untag, untagged
from murmur.kvcore.tree_snapshot import CHUNK_BYTES, after_prefix

MEMTABLE_BYTES = 8 << 20  # a flush is waited for: about 0.2 s
CACHE_BYTES = 64 << 20


class _State(NamedTuple):
    """What there is to read."""

    sequence: int
    attachment: object
    memtable: Memtable
    reads: Reads  # of the memtable
    base: Base


class SqliteSnapshot:
    """The tree at one sequence number, until it is closed. For any number of threads."""

    __slots__ = ("_pins", "_state", "attachment", "sequence")

    def __init__(self, state: _State, pins: dict[int, int]) -> None:
        self.sequence = state.sequence
        self.attachment = state.attachment
        self._state: _State | None = state  # None once it is closed
        self._pins = pins

    def get(self, key: bytes) -> bytes | None:
        """The value of the key, None if it has none."""
        state = self._opened()
        value = state.reads.get(key, self.sequence)
        value = state.base.get(key) if value is None else untag(value)
        self._opened()  # asked last: what it sees is kept until then
        return value

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of several keys."""
        return [self.get(key) for key in keys]

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < stop (None: no bound), in key order or against it.

        Closing the snapshot ends an iterator with Closed; nothing else disturbs it.
        """
        state = self._opened()
        if stop is not None and stop <= start:
            return iter(())
        above = state.reads.scan(
            start,
            stop,
            self.sequence,
            reverse=reverse,
            is_open=lambda: self._state is not None,
        )
        below = self._below(state.base, start, stop, reverse=reverse)
        return overlay(untagged(above), below, reverse=reverse)

    def scan_prefix(self, prefix: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The pairs whose keys begin with a prefix."""
        return self.scan(prefix, after_prefix(prefix), reverse=reverse)

    def chunks(
        self, start: bytes, stop: bytes | None, *, bytes_: int = CHUNK_BYTES
    ) -> Iterator[Chunk]:
        """The pairs of `scan` forward, in chunks of about so many bytes."""
        return chunks(_pieces(self.scan(start, stop)), bytes_)

    def close(self) -> None:
        """Let go of what the snapshot pins. Closing again does nothing."""
        state, self._state = self._state, None
        if state is not None:
            self._pins.pop(id(self), None)

    def __enter__(self) -> SqliteSnapshot:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _opened(self) -> _State:
        state = self._state
        if state is None:
            raise Closed("the snapshot is closed")
        return state

    def _below(
        self, base: Base, start: bytes, stop: bytes | None, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        for rows in base.scan(start, stop, reverse=reverse):
            self._opened()
            for row in rows:
                yield row[0], row[1]
        self._opened()


class PreparedEntries(NamedTuple):
    """Entries that wait for `SqliteTree.adopt`."""

    entries: Iterable[Entry]
    pause: Callable[[], None]

    def under(self, above: Sequence[Entry]) -> Iterator[Entry]:
        """These entries, and those above, in key order."""
        left = iter(above)
        upper = next(left, None)
        for entry in self.entries:
            self.pause()
            while upper is not None and upper[0] < entry[0]:
                yield upper
                upper = next(left, None)
            if upper is None or upper[0] != entry[0]:
                yield entry
        while upper is not None:
            yield upper
            upper = next(left, None)

    def close(self) -> None:
        """There is nothing to remove."""


class SqliteTree:
    """An ordered map of bytes. One thread writes at a time; any number reads."""

    def __init__(
        self,
        file: SqliteFile,
        *,
        memtable_bytes: int,
        before_install: Callable[[bytes], None],
    ) -> None:
        self._file = file
        self._memtable_bytes = memtable_bytes
        self._before_install = before_install
        base = file.base()
        sequence = base.flushed.sequence
        memtable = Memtable(sequence)
        reads = Reads((memtable,), (), {})
        self._state = _State(sequence, None, memtable, reads, base)
        # Snapshots by their ids. Changed without a lock: one that a fork or the garbage collector
        # met held could not be released.
        self._pins: dict[int, int] = {}
        self._changing = threading.Lock()  # held where the state is replaced
        self._filing = threading.RLock()  # held while the file is written
        self._failure: BaseException | None = None
        self._closed = False
        self._counts = {"flushes": 0, "compactions": 0, "bytes_flushed": 0, "bytes_compacted": 0}

    @classmethod
    def open(
        cls,
        storage: Storage,
        *,
        memtable_bytes: int = MEMTABLE_BYTES,
        cache_bytes: int = CACHE_BYTES,
        before_install: Callable[[bytes], None] = lambda mark: None,
    ) -> SqliteTree:
        """Open the tree of this storage, which the caller has locked, or make an empty one.

        Raises Corruption or UnknownFormat; InvalidInput where files are not the operating system's.
        """
        file = SqliteFile(on_disk(storage), cache_bytes)
        try:
            return cls(file, memtable_bytes=memtable_bytes, before_install=before_install)
        except BaseException:
            file.close()
            raise

    # -- reading

    @property
    def mark(self) -> bytes:
        """The mark of the last flush; empty if there was none."""
        return self._state.base.flushed.mark

    @property
    def attachment(self) -> object:
        """What came with the last published write."""
        return self._state.attachment

    def get(self, key: bytes) -> bytes | None:
        """The latest published value of the key, None if it has none."""
        while True:
            state = self._state
            if self._closed:
                raise Closed("the tree is closed")
            value = state.reads.get(key, state.sequence)
            value = state.base.get(key) if value is None else untag(value)
            if self._state is state:
                return value
            # A batch was published meanwhile: what this state saw may have gone. Look again.

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The latest published values of several keys, each at its own moment."""
        return [self.get(key) for key in keys]

    def snapshot(self) -> SqliteSnapshot:
        """The latest published state, pinned until it is closed."""
        if self._closed:
            raise Closed("the tree is closed")
        while True:
            state = self._state
            snapshot = SqliteSnapshot(state, self._pins)
            self._pins[id(snapshot)] = state.sequence
            if self._state.sequence == state.sequence:
                return snapshot
            snapshot.close()  # what it should see may have been pruned before it was pinned

    # -- writing

    def write(
        self,
        batch: Sequence[Entry],
        attachment: object = None,
        ranges: Sequence[tuple[bytes, bytes]] = (),
    ) -> int:
        """Apply a batch (None deletes) and publish it with the attachment; its sequence number.

        The keys in `ranges`, (start, stop), are deleted first, one by one. If this is interrupted
        (KeyboardInterrupt) the batch is not visible, but for an interrupt in the very last step:
        the attachment tells. Writing it again is right either way.
        """
        self._usable()
        entries: list[Entry] = []
        if ranges:
            with self.snapshot() as snapshot:
                for start, stop in ranges:
                    if start >= stop:
                        raise InvalidInput(f"the range from {start!r} to {stop!r} is empty")
                    entries += [(key, DELETED) for key, _ in snapshot.scan(start, stop)]
        entries += [(key, tag(value)) for key, value in batch]
        state = self._state
        sequence = state.sequence + 1
        state.memtable.apply(sequence, entries, sorted(set(self._pins.copy().values())))
        with self._changing:
            _, _, memtable, reads, base = self._state
            self._state = _State(sequence, attachment, memtable, reads, base)
        return sequence

    def delete_range(self, start: bytes, stop: bytes, attachment: object = None) -> int:
        """Delete all keys with start <= key < stop; the sequence number. One deletion for each."""
        return self.write((), attachment, ((start, stop),))

    def full(self) -> bool:
        """Whether the memtable has reached its budget and should be rotated."""
        return self._state.memtable.bytes >= self._memtable_bytes

    def rotate(self, mark: bytes, *, deleting: bool = False) -> None:
        """Make room in the memtable: `flush`, which here nobody does in the background."""
        self.flush(mark)

    def flush(self, mark: bytes) -> None:
        """Move the memtable into the file, durably, with this mark.

        Raises OSError if the disk is full, Locked if another program writes into the file: then all
        is as before, and it can be tried again. Whatever else fails poisons the tree.
        """
        self._usable()
        with self._filing:
            state = self._state
            if not len(state.memtable) and mark == self.mark:
                return
            self._before_install(mark)
            with self._poisoning():
                entries = untagged(state.reads.scan(b"", None, state.sequence))
                written = self._file.flush(entries, state.sequence, mark)
                self._counts["flushes"] += bool(len(state.memtable))
                self._counts["bytes_flushed"] += written
                self._rebase(state.sequence)
            del state  # and with it, if no snapshot holds it, the old base
            with self._poisoning():
                self._settle()

    def prepare(
        self, entries: Iterable[Entry], pause: Callable[[], None] = lambda: None
    ) -> PreparedEntries:
        """Hold entries in key order (None deletes), which are read when they are adopted."""
        self._usable()
        return PreparedEntries(entries, pause)

    def adopt(
        self,
        prepared: PreparedEntries,
        above: Sequence[Entry],
        mark: bytes,
        attachment: object,
        flushed: bytes,
    ) -> int:
        """Take in what was prepared, and entries in key order above it, at once; the sequence.

        What is in memory is flushed first, with the mark `flushed`. Then one transaction of the
        file moves the mark and brings all entries; they are published with the attachment.
        """
        self.flush(flushed)
        with self._filing:
            self._before_install(mark)
            sequence = self._state.sequence + 1
            with self._poisoning():
                written = self._file.flush(prepared.under(above), sequence, mark)
                self._counts["bytes_flushed"] += written
                base = self._file.base()
                with self._changing:
                    memtable = Memtable(sequence)
                    reads = Reads((memtable,), (), {})
                    self._state = _State(sequence, attachment, memtable, reads, base)
            with self._poisoning():
                self._settle()
            return sequence

    def wait(self) -> None:
        """Nothing is ever under way: the caller does all the work."""

    def compact(self) -> None:
        """Write the file anew, without the room that deletions have left in it."""
        self._usable()
        with self._filing, self._poisoning():
            self._file.compact()
            self._rebase(None)
            self._settle()
            self._counts["compactions"] += 1
            self._counts["bytes_compacted"] += self._file.size()

    def settle(self) -> None:
        """Move all that was flushed from SQLite's log into the file, unless readers hold it."""
        self._usable()
        with self._filing, self._poisoning():
            self._settle()

    # -- the whole

    def checkpoint(self, directory: str) -> None:
        """Make a tree of what was flushed in another directory."""
        self._usable()
        storage = self._file.storage.at(directory)
        with self._filing:
            self._file.copy_to(storage)

    def check(self) -> Iterator[Problem]:
        """Read the whole file and verify all that can be verified; what is wrong, if anything."""
        if self._closed:
            raise Closed("the tree is closed")
        yield from self._file.check()

    def stats(self) -> dict[str, int | float | list[int]]:
        """Figures: what is in memory, the file, work done since opening."""
        state = self._state
        return {
            "sequence": state.sequence,
            "memtable_entries": len(state.memtable),
            "memtable_bytes": state.memtable.bytes,
            "frozen_memtables": 0,
            "cache_bytes": state.base.cached_bytes(),
            "level_tables": [1],
            "level_bytes": [self._file.size()],
            "moves": 0,
            **self._counts,
        }

    def close(self) -> None:
        """Stop. The memtable is not flushed; the log has what is in it."""
        self._closed = True
        with self._filing:
            self._file.close()

    def _usable(self) -> None:
        if self._closed:
            raise Closed("the tree is closed")
        if self._failure is not None:
            raise Poisoned(
                f"writing {self._file.path} failed ({self._failure!r}); close it and open it again"
            ) from self._failure

    def _rebase(self, flushed: int | None) -> None:
        """Read from what the file holds now; the memtable up to `flushed` is in it."""
        base = self._file.base()
        with self._changing:
            sequence, attachment, memtable, reads, _ = self._state
            if flushed is not None:
                assert flushed == sequence, "one thread writes at a time"
                memtable = Memtable(sequence)
                reads = Reads((memtable,), (), {})
            self._state = _State(sequence, attachment, memtable, reads, base)

    def _settle(self) -> None:
        if self._file.settle():
            # From here on it reads nothing from SQLite's write-ahead log, which then begins anew.
            self._state.base.refresh()

    @contextmanager
    def _poisoning(self) -> Iterator[None]:
        """Refuse to write after a failure that leaves it open what the disk holds."""
        try:
            yield
        except (Locked, Closed, MemoryError):
            raise
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            self._failure = error
            raise Poisoned(f"{error}; close it and open it again") from error
        except Exception as error:
            self._failure = error
            raise


def on_disk(storage: Storage) -> DiskStorage:
    """The storage, if SQLite can open its files; else InvalidInput."""
    if not isinstance(storage, DiskStorage):
        raise InvalidInput(
            'backend="sqlite" needs a directory of the operating system: SQLite opens files itself'
        )
    return storage


def _pieces(
    pairs: Iterator[tuple[bytes, bytes]],
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    while piece := list(islice(pairs, LONG)):
        yield [key for key, _ in piece], [value for _, value in piece]
