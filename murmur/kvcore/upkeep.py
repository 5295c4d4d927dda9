"""Upkeep: the one thread that flushes frozen memtables, compacts, and removes obsolete files.

    what to do next    a frozen memtable: flush the oldest, unless a compaction is urgent
                       somebody waits in compact(): compact everything
                       a compaction is due: do it, and between its pieces flush what froze since
                       obsolete files that nobody reads: remove them
                       else wait

Only this thread changes the version and the directory. It starts with the first thing to do.

When the disk is full nothing is lost: the memtable stays frozen and readable, whoever waits gets
the OSError, and the next rotate, flush or compact tries again. Any other failure ends the thread
and poisons the tree: every later write raises `Poisoned` with the failure as its cause, for what is
on the disk is now uncertain; opening the tree again finds out.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from murmur.errors import Closed, Poisoned
from murmur.kvcore.compaction import LEVEL0_TABLES, Plan, everything, pick
from murmur.kvcore.kernel import Output, TableOptions, write_tables
from murmur.kvcore.state import Frozen, Head
from murmur.kvcore.storage import AppendFile
from murmur.kvcore.store import Store
from murmur.kvcore.version import Version

PENDING = 2  # frozen memtables; a third has to wait
LEVEL0_URGENT = 2 * LEVEL0_TABLES  # up to here a burst of writes is flushed before compacting
LEVEL0_STOP = 4 * LEVEL0_TABLES  # from here on no flush interrupts a compaction: writers wait
FULL = {errno.ENOSPC, errno.EDQUOT}

T = TypeVar("T")


class _Stopped(BaseException):
    """The tree is being closed: leave off."""


@dataclass(slots=True)
class Counts:
    """What was done since the tree was opened."""

    flushes: int = 0
    compactions: int = 0
    moves: int = 0
    bytes_flushed: int = 0
    bytes_compacted: int = 0


class Upkeep:
    """The background work of one tree."""

    def __init__(
        self,
        head: Head,
        store: Store,
        *,
        table_bytes: int,
        before_install: Callable[[bytes], None],
    ) -> None:
        self.counts = Counts()
        self.installing = threading.Lock()  # held while manifest and state change together
        self._head = head
        self._store = store
        self._table_bytes = table_bytes
        self._before_install = before_install
        self._thread: threading.Thread | None = None
        # Guarded by the head's lock:
        self._plan = pick(head.state.version, table_bytes)
        self._compact_wanted = False
        self._flush_full: OSError | None = None
        self._compaction_full: OSError | None = None
        self._failure: BaseException | None = None
        self._stopping = False

    # -- for the tree's callers

    def usable(self) -> None:
        """Raise Poisoned if the background work has failed."""
        if self._failure is not None:
            raise Poisoned(
                f"the tree's background work failed ({self._failure!r}); close it and open it again"
            ) from self._failure

    def rotate(self, mark: bytes) -> Frozen:
        """Freeze the memtable, when there is room for one more."""
        head = self._head

        def attempt() -> Frozen | None:
            return head.rotate(mark) if len(head.state.frozen) < PENDING else None

        self._retry()
        frozen = self._until(attempt)
        self._start()
        return frozen

    def wait_for(self, frozen: Frozen) -> None:
        """Return when the memtable is installed."""
        self._until(lambda: all(other is not frozen for other in self._head.state.frozen) or None)

    def compact(self) -> None:
        """Merge all tables into one level."""
        self._compact_wanted = True
        self._retry()
        self._start()
        self._until(lambda: not self._compact_wanted or None)
        if self._compaction_full is not None:
            raise self._compaction_full

    def released(self) -> None:
        """A snapshot was closed: perhaps nobody needs some files any more."""
        if self._thread is not None and self._store.sweepable():
            with self._head.lock:
                self._head.notify()

    def close(self) -> None:
        """Stop, without finishing what is going on."""
        with self._head.lock:
            self._stopping = True
            self._head.notify()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()

    def _retry(self) -> None:
        with self._head.lock:
            self._flush_full = self._compaction_full = None
            self._head.notify()

    def _until(self, attempt: Callable[[], T | None]) -> T:
        """Attempt something, under the lock, until it succeeds; raise if it never will."""
        while True:
            with self._head.lock:
                result = attempt()
                if result is not None:
                    return result
                self.usable()
                if self._stopping:
                    raise Closed("the tree is closed")
                if self._flush_full is not None:
                    raise self._flush_full
                waiter = self._head.waiter()
            waiter.acquire()

    def _start(self) -> None:
        with self._head.lock:
            if self._thread is None or self._thread.ident is None:  # interrupted while starting
                self._thread = threading.Thread(target=self._run, name="murmur-tree", daemon=True)
                self._thread.start()

    # -- in the thread

    def _run(self) -> None:
        if threading.current_thread() is not self._thread:
            return
        try:
            while (job := self._next_job()) is not None:
                job()
        except _Stopped:
            return
        except BaseException as error:
            with self._head.lock:
                self._failure = error
                self._head.notify()

    def _next_job(self) -> Callable[[], None] | None:
        while True:
            with self._head.lock:
                if self._stopping:
                    return None
                state = self._head.state
                compactable = self._plan is not None and self._compaction_full is None
                urgent = compactable and len(state.version.level(0)) >= LEVEL0_URGENT
                if state.frozen and self._flush_full is None and not urgent:
                    return self._flush_oldest
                if self._compact_wanted:
                    return self._compact_everything
                if compactable:
                    return self._compact_some
                if self._compaction_full is None and self._store.sweepable():
                    return self._sweep
                waiter = self._head.waiter()
            waiter.acquire()

    def _flush_oldest(self) -> None:
        try:
            self._flush(self._head.state.frozen[-1])
        except OSError as error:
            if error.errno not in FULL:
                raise
            with self._head.lock:
                self._flush_full = error
                self._head.notify()

    def _flush(self, frozen: Frozen) -> None:
        self._before_install(frozen.mark)
        with self._store.writing() as create:
            table = None
            if len(frozen.memtable):
                output = self._output(create, frozen.sequence, lambda _: self._leave_off())
                # A memtable becomes one table, whatever its size.
                output.options = output.options._replace(table_bytes=1 << 62)
                (info,) = write_tables([frozen.memtable], output)
                table = self._store.open(info)
                self.counts.flushes += 1
                self.counts.bytes_flushed += table.info.size
            version = self._head.state.version.flushed(table, frozen.mark, frozen.sequence)
            self._install(version, frozen)

    def _compact_everything(self) -> None:
        plan = everything(self._head.state.version, self._table_bytes)
        if plan is not None:
            self._compact(plan)
        with self._head.lock:
            self._compact_wanted = False
            self._head.notify()

    def _compact_some(self) -> None:
        plan = self._plan
        if plan is not None:
            self._compact(plan)

    def _compact(self, plan: Plan) -> None:
        with self._room_permitting():
            self._merge(plan)

    def _sweep(self) -> None:
        with self._room_permitting():
            self._store.sweep()

    @contextmanager
    def _room_permitting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            with self._head.lock:
                self._compaction_full = error

    def _merge(self, plan: Plan) -> None:
        with self._store.writing() as create:
            if plan.moved:
                tables = plan.inputs
                self.counts.moves += 1
            else:
                sequence = max(table.info.max_sequence for table in plan.inputs)
                output = self._output(create, sequence, lambda _: self._between_pieces())
                output.drop_tombstones = plan.drop_tombstones
                infos = write_tables([source for source in plan.sources if source], output)
                tables = [self._store.open(info) for info in infos]
                self.counts.compactions += 1
                self.counts.bytes_compacted += sum(info.size for info in infos)
            # The version of now: memtables may have been flushed meanwhile.
            version = self._head.state.version.compacted(plan.inputs, plan.target, tables)
            self._install(version, None)

    def _output(
        self,
        create: Callable[[], tuple[int, AppendFile]],
        max_sequence: int,
        pause: Callable[[int], None],
    ) -> Output:
        def no_values() -> tuple[int, AppendFile]:
            raise AssertionError("values stay in their tables")

        options = TableOptions(self._table_bytes)
        return Output(create, no_values, options, max_sequence, pause=pause)

    def _install(self, version: Version, flushed: Frozen | None) -> None:
        plan = pick(version, self._table_bytes)
        with self.installing:
            self._store.install(version)
            self._plan = plan
            self._head.install(version, flushed)

    def _between_pieces(self) -> None:
        self._leave_off()
        state = self._head.state
        room = len(state.version.level(0)) < LEVEL0_STOP
        if state.frozen and self._flush_full is None and room:
            self._flush_oldest()

    def _leave_off(self) -> None:
        if self._stopping:
            raise _Stopped
