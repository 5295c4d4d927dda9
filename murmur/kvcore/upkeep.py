"""Upkeep: the threads that flush frozen memtables, merge, and remove files; and waiting for them.

    murmur-flush        a frozen memtable: flush the oldest, unless level 0 is full
                        else tables from elsewhere: take them in
    murmur-merge-1..    what merges.py says

Each starts with the first thing to do, and the second to merge once the first is busy and there is
more. Native merges run without the interpreter's lock, so that they cost writers little.

When the disk is full, or there is no memory, nothing is lost: the memtables stay frozen and
readable, whoever waits gets the OSError or MemoryError, and the next rotate, flush or compact tries
again, with all that is frozen as one: what was deleted since then takes no room. What brings
deletions may use the room that is held in reserve (reserve.py), and level 0 is merged before its
turn if it brings little else (room.py). Writers go on until as much is unflushed as ever may be,
and two memtables more for those who delete. Any other failure ends the threads and poisons the
tree: every later write raises `Poisoned` with the failure as its cause, for what is on the disk is
now uncertain; opening the tree again finds out.

Invariant: memtables are flushed in their order, by one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from murmur.errors import Closed, Poisoned
from murmur.kvcore.compaction import Plan
from murmur.kvcore.kernel import eager
from murmur.kvcore.merges import Merges
from murmur.kvcore.options import Options
from murmur.kvcore.pressure import STOP, Pace
from murmur.kvcore.room import Job, Room, bare, passing
from murmur.kvcore.state import Frozen, Head
from murmur.kvcore.store import Store
from murmur.kvcore.work import NotCopied, Running, Work

FLUSH, MERGE = "murmur-flush", "murmur-merge"
REST_S = 0.2  # nobody writes for so long: there is time for what is not due

T = TypeVar("T")


class _Stopped(BaseException):
    """The tree is being closed, or has failed: leave off."""


@dataclass(slots=True, eq=False)
class _Ingesting:
    """Tables on their way in, and what became of it."""

    take: Callable[[], int]
    sequence: int = 0
    error: BaseException | None = None


class Upkeep:
    """The background work of one tree."""

    def __init__(self, head: Head, store: Store, options: Options, work: Work, pace: Pace) -> None:
        self._head = head
        self._store = store
        self._options = options
        self._work = work
        self._pace = pace
        self._room = Room(store, (options.pending_memtables + 2) * options.memtable_bytes)
        self._starting = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}  # guarded by it
        self._merges = Merges(head, store, options, work, self._room, self._leave_off)
        # Guarded by the head's lock:
        self._ingesting: _Ingesting | None = None
        self._placing = False  # tables are being made that find their level at the end
        self._flush_full: OSError | MemoryError | None = None
        self._flushes = 0  # begun so far
        self._full_at = 0  # the sequence of what last found no room to be flushed
        self._full_of = 0  # which of the flushes that was
        self._tight = False  # the last flush found no room
        self.failure: BaseException | None = None
        self.clear = True  # a writer need not look any closer: no failure, and no ingest under way
        self._stopping = False

    # -- for the tree's callers

    def usable(self) -> None:
        """Wait for an ingest that was begun; raise Poisoned if the background work has failed."""
        if self._ingesting is not None:
            self._until(lambda: self._ingesting is None or None)
        self._sound()

    def _sound(self) -> None:
        if self.failure is not None:
            raise Poisoned(
                f"the tree's background work failed ({self.failure!r}); close it and open it again"
            ) from self.failure

    def rotate(self, mark: bytes, *, deleting: bool = False, waiting: bool = False) -> Frozen:
        """Freeze the memtable, when there is room for one more, or for who waits for its flush."""

        def attempt() -> Frozen | None:
            if not waiting and not self._has_room(deleting=deleting):
                return None
            frozen = self._head.rotate(mark)
            self._work.look()
            return frozen

        self._retry()
        frozen = self._until(attempt, stalls=True)
        self.flush_behind()
        return frozen

    def make_way(self) -> None:
        """Wait until there is room for one more that is frozen."""
        self._retry()
        self._start(FLUSH)
        self._until(lambda: self._has_room() or None, stalls=True)

    def flush_behind(self) -> None:
        """Let what is frozen be flushed."""
        self._start(FLUSH)
        if MERGE not in self._threads:
            with self._head.lock:
                full = self._level0_is_full()
            if full:  # since it was opened: the flush waits for somebody to merge
                self._start(MERGE)

    def _has_room(self, *, deleting: bool = False) -> bool:
        """Whether one more may be frozen; under the head's lock."""
        state, pending = self._head.state, self._options.pending_memtables
        if len(state.frozen) >= pending:
            return False
        most = (pending + 1 + 2 * deleting) * self._options.memtable_bytes
        return not self._tight or sum(one.bytes for one in state.memtables()) <= most

    def flush(self, mark: bytes) -> None:
        """Freeze the memtable, and return when it is installed."""
        begun = self._flushes
        frozen = self.rotate(mark, waiting=True)

        def attempt() -> bool | None:
            if all(other.sequence < frozen.sequence for other in self._head.state.frozen):
                return True
            if self._flush_full is not None and (
                # What found no room was older: with this one, less may be left of it.
                self._full_at < frozen.sequence
                # It had begun before this was asked for, and there may be room since.
                or self._full_of <= begun
            ):
                self._flush_full = None
                self._head.notify()
            return None

        self._until(attempt)

    def compact(self) -> None:
        """Merge all tables into one level, and remove what is then obsolete."""
        with self._head.lock:
            mine = self._merges.ask()
        self._retry()
        self._start(MERGE)
        self._until(lambda: self._merges.answered(mine) or None)
        if self._merges.failed is not None:
            raise bare(self._merges.failed)

    def settle(self) -> None:
        """Return when nothing is left to flush, to merge or to remove, for tests and benchmarks."""
        self._retry()
        self._start(FLUSH)
        self._start(MERGE)
        merges, head = self._merges, self._head
        self._until(
            lambda: merges.without_room or (merges.idle() and not head.state.frozen) or None
        )

    def ingest(self, take: Callable[[Running], int]) -> int:
        """Let tables from elsewhere in, when all is flushed; the sequence they are published at.

        `take` is given what tells of running merges. The caller waits, and no other write goes
        before, even if he is interrupted: it is done in the flushing thread, whole, or not at all.
        """
        ingesting = _Ingesting(lambda: take(self._running))
        with self._head.lock:
            self._ingesting, self.clear = ingesting, False
            self._head.notify()
        self._start(FLUSH)
        self._until(lambda: self._ingesting is not ingesting or None)
        if ingesting.error is not None:
            raise ingesting.error
        self._start(MERGE)
        return ingesting.sequence

    def released(self) -> None:
        """A snapshot was closed: perhaps nobody needs some files any more."""
        if self._threads and self._store.sweepable():
            with self._head.lock:
                self._head.notify()

    def close(self) -> None:
        """Stop, without finishing what is going on."""
        with self._head.lock:
            self._stopping = True
            self._head.notify()
        with self._starting:
            threads = list(self._threads.values())
        for thread in threads:
            if thread.ident is not None:
                thread.join()

    def _running(self) -> list[Plan]:
        return self._merges.running

    def _retry(self) -> None:
        with self._head.lock:
            self._flush_full = None
            self._merges.retry()
            self._head.notify()

    def _until(self, attempt: Callable[[], T | None], *, stalls: bool = False) -> T:
        """Attempt something, under the lock, until it succeeds; raise if it never will."""
        began, cause = 0, ""
        while True:
            with self._head.lock:
                result = attempt()
                if result is None:
                    self._sound()
                    if self._stopping:
                        raise Closed("the tree is closed")
                    if self._flush_full is not None:
                        raise bare(self._flush_full)
                    waiter = self._head.waiter()
                    if not cause:
                        began = self._pace.now_ns()
                        cause = "level0_stop" if self._level0_is_full() else "memtables_stop"
            if result is not None:
                if stalls and cause:
                    self._work.figures.stalls[cause].record(self._pace.now_ns() - began)
                return result
            waiter.acquire()

    # -- the threads

    def _start(self, kind: str) -> None:
        """Let there be a thread of this kind that sees what is to do."""
        # Not under the head's lock: a thread may take its time to start.
        with self._starting:
            thread = self._threads.get(kind)
            if self._stopping or (thread is not None and thread.ident is not None):
                return
            # There may be one that was interrupted while it was being started.
            next_job = self._next_flush if kind == FLUSH else self._next_merge
            thread = threading.Thread(
                target=self._run, args=(kind, next_job), name=kind, daemon=True
            )
            self._threads[kind] = thread
            thread.start()

    def _run(self, kind: str, next_job: Callable[[], Job | None]) -> None:
        if threading.current_thread() is not self._threads[kind]:
            return
        try:
            while (job := next_job()) is not None:
                eager(so=True)
                try:
                    job()
                finally:
                    eager(so=False)
                del job  # it holds tables
        except _Stopped:
            return
        except BaseException as error:
            with self._head.lock:
                self.failure, self.clear = self.failure or error, False
                self._head.notify()

    def _leave_off(self) -> None:
        if self._stopping or self.failure is not None:
            raise _Stopped

    # -- flushing

    def _next_flush(self) -> Job | None:
        while True:
            with self._head.lock:
                if self._stopping or self.failure is not None:
                    return None
                frozen = self._head.state.frozen
                if frozen and self._flush_full is None and not self._level0_is_full():
                    self._flushes += 1
                    self._placing = bool(frozen[-1].runs)
                    return partial(self._flush, frozen[-1], self._flushes)
                if self._ingesting is not None and not frozen:
                    return partial(self._ingest, self._ingesting)
                waiter = self._head.waiter()
            waiter.acquire()

    def _level0_is_full(self) -> bool:
        """Whether flushing has to wait for merging, which is under way or due."""
        level0 = self._head.state.version.level(0)
        return len(level0) >= STOP * self._options.level0_tables and self._merges.going_on()

    def _flush(self, frozen: Frozen, number: int) -> None:
        error = self._room.attempt(
            partial(self._work.flush, frozen, self._running, self._leave_off),
            in_need=lambda: self._work.deletes(frozen, self._leave_off),
        )
        with self._head.lock:
            self._tight = error is not None
            if self._placing:
                self._placing = False
                self._head.notify()
            if error is not None:
                self._flush_full = error
                self._full_at, self._full_of = frozen.sequence, number
                self._head.join()
                self._head.notify()
        if error is None:
            self._work.try_again()
        if MERGE not in self._threads:
            with self._head.lock:
                due = self._merges.due()
            if due:
                self._start(MERGE)

    def _ingest(self, ingesting: _Ingesting) -> None:
        try:
            ingesting.sequence = ingesting.take()
        except NotCopied as error:
            ingesting.error = error.__cause__
        except (OSError, MemoryError) as error:
            if not passing(error):
                raise
            ingesting.error = bare(error)
        with self._head.lock:
            self._ingesting, self.clear = None, True
            self._head.notify()

    # -- merging

    def _next_merge(self) -> Job | None:
        merges = self._merges
        while True:
            with self._head.lock:
                if self._stopping or self.failure is not None:
                    return None
                job = None if self._placing or self._ingesting is not None else merges.next()
                if job is None:
                    waiter = self._head.waiter()
                    written = self._head.latest.sequence
                    timeout_s = -1 if merges.leisurely() is None else REST_S
            if job is not None:
                self._start_another()
                return job
            if not waiter.acquire(timeout=timeout_s):
                with self._head.lock:
                    self._head.forget(waiter)
                    merges.rested = self._head.latest.sequence == written

    def _start_another(self) -> None:
        """One more thread, if there may be, and there is something for it."""
        mergers = len(self._threads) - (FLUSH in self._threads)
        if mergers < self._options.compact_threads:
            with self._head.lock:
                more = self._merges.pick()
            if more is not None:
                self._start(f"{MERGE}-{mergers + 1}")
