"""Merges: what the merging threads of a tree do next, one job at a time, and what becomes of it.

    range tombstones hide whole tables          drop those
    somebody waits in compact()                 merge everything
    a compaction is due that disturbs none      do it
    nobody has written for REST_S               merge level 0 if that is worth it
    obsolete files that nobody reads            remove them

Damage (Corruption) that a merge meets in what it reads does not fail the tree: the file is set
aside, no merge takes it any more, and all else goes on. Readers of it hear of it, and so does who
waits in compact(). So it is with a file that cannot be read (an OSError that names it), but that
merges try it again now and then, and compact() does at once.

When there is no room on the disk, or no memory, merging rests until somebody asks again. Any other
failure is raised, and ends the threads (upkeep.py).

Invariant: plans that run at once are those that `pick` let stand beside each other; levels are
renumbered only where one runs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from murmur.errors import Corruption
from murmur.kvcore.compaction import Plan, at_leisure, clearing, everything, pick
from murmur.kvcore.options import Options
from murmur.kvcore.room import Job, Room, bare, passing
from murmur.kvcore.state import Head
from murmur.kvcore.store import Store
from murmur.kvcore.work import Work


class Merges:
    """The merges of one tree. What is not a job is for who holds the head's lock."""

    def __init__(
        self,
        head: Head,
        store: Store,
        options: Options,
        work: Work,
        room: Room,
        leave_off: Callable[[], None],
    ) -> None:
        """`leave_off` is called now and then by what takes long, and raises to end it."""
        self._head = head
        self._store = store
        self._options = options
        self._work = work
        self._room = room
        self._leave_off = leave_off
        # Guarded by the head's lock:
        self.running: list[Plan] = []
        self.exclusive = False  # everything is being merged
        self.full: OSError | MemoryError | None = None  # a merge has found no room
        self.failed: Exception | None = None  # what became of the last merge of everything
        self.rested = False  # nobody has written for a while
        self._alone = False  # one plan is installed, and no other may begin: levels are renumbered
        self._sweeping = False
        self._sweep_full: OSError | MemoryError | None = None
        self._dropping = False  # hidden tables are looked for, and no plan may begin
        self._examined = -1  # the edition without hidden tables, but for what was being merged
        self._asked = self._answered = 0  # merges of everything
        self._damage: Corruption | OSError | None = None  # met by the merge of everything

    def ask(self) -> int:
        """Ask for a merge of everything that begins from now on; its number."""
        self._asked += 1
        return self._asked

    def answered(self, number: int) -> bool:
        """Whether it has come to its end."""
        return self._answered >= number

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a merge of everything."""
        return self._asked > self._answered

    def retry(self) -> None:
        """There may be room again."""
        self.full = self._sweep_full = None

    @property
    def without_room(self) -> bool:
        """Whether something was left undone for want of room."""
        return (self.full or self._sweep_full) is not None

    def going_on(self) -> bool:
        """Whether something is being merged, or will be."""
        return self.full is None and bool(self.running or self.wanted or self.pick())

    def idle(self) -> bool:
        """Whether nothing is left to merge or to remove."""
        if self._store.sweepable() and not self._sweeping:
            # Who read these files let go of them when the threads had already looked.
            self._head.notify()
            return False
        return not (
            self.running or self._sweeping or self.wanted or self._to_examine() or self.pick()
        )

    def due(self) -> bool:
        """Whether there is anything for a merging thread, now or when nobody writes."""
        return (
            self._plan() is not None
            or self._to_examine()
            or self._store.sweepable()
            or self.leisurely() is not None
        )

    def pick(self) -> Plan | None:
        """The compaction that is due beside those that run."""
        # The version is held by nobody who waits: it would keep files that are to be removed.
        return pick(self._head.state.version, self._options, self.running, self._work.aside)

    def leisurely(self) -> Plan | None:
        """What is to be merged, though not due, when nobody has written for a while."""
        if self.running or self._room.crowded or self.full is not None:
            return None
        state = self._head.state
        return None if state.frozen else at_leisure(state.version, self._options, self._work.aside)

    def next(self) -> Job | None:
        """What to do now; it is as good as begun."""
        if self._alone or self.exclusive or self._dropping:
            return None
        if self.full is None and self._to_examine():
            self._dropping = True
            return self._drop
        if self.wanted:
            if self.running or self._sweeping:
                return None
            self.exclusive = True
            return self._merge_everything
        if self.full is None:
            plan = self._plan()
            if plan is not None:
                self.running.append(plan)
                return partial(self._merge, plan)
        if not self._sweeping and self._sweep_full is None and self._store.sweepable():
            self._sweeping = True
            return self._sweep
        return None

    def _plan(self) -> Plan | None:
        """What is to be merged next; on a full disk what clears it, too."""
        plan = self.pick()
        if plan is None and self._room.crowded and not self.running:
            return clearing(self._head.state.version, self._options, self._work.aside)
        if plan is None and self.rested:
            self.rested = False
            return self.leisurely()
        return plan

    def _to_examine(self) -> bool:
        """Whether there may be hidden tables."""
        return self._examined != self._work.edition and any(
            table.info.ranges for table in self._head.state.version.tables()
        )

    # The jobs, without the lock -----------------------------------------

    def _drop(self) -> None:
        try:
            self._compacting(partial(self._reading, self._examine), in_need=lambda: True)
        finally:
            with self._head.lock:
                self._dropping = False
                self._head.notify()

    def _examine(self) -> None:
        edition = self._work.edition  # before the version is looked at, which is no older then
        self._work.drop(lambda: self.running)
        self._examined = edition

    def _merge_everything(self) -> None:
        failed: Exception | None = None
        asked = 0
        try:
            with self._head.lock:
                asked = self._asked  # who asks later has perhaps flushed since
                plan = self._everything()
            if plan is not None:
                self.running.append(plan)
                failed = self._merge(plan)
                del plan  # it holds tables that are to be removed
            failed = self._damage or self._sweep() or failed
        finally:
            with self._head.lock:
                self.failed = failed
                self._answered, self.exclusive = asked, False
                self._head.notify()

    def _everything(self) -> Plan | None:
        # What found no room before this began is not the answer to who waits for it.
        self.full = self._damage = None
        self._work.try_again(now=True)
        aside = self._work.aside
        plan = everything(self._head.state.version, self._options, aside)
        if plan is not None:
            for table in plan.inputs:
                if table.name in aside:
                    self._damage = Corruption(*aside[table.name])
                    return None
        return plan

    def _merge(self, plan: Plan) -> OSError | MemoryError | None:
        def merge(plan: Plan) -> None:
            self._reading(lambda: self._work.merge(plan, self._leave_off, self._rearranging))

        try:
            return self._compacting(
                partial(merge, plan),
                in_need=lambda: any(t.info.tombstones or t.info.ranges for t in plan.inputs),
                again=partial(merge, plan._replace(relocate=frozenset())),
            )
        finally:
            with self._head.lock:
                self.running.remove(plan)
                self._alone = False
                self._head.notify()

    def _reading(self, job: Job) -> None:
        """Do something that reads tables; what of them is damaged, or unreadable, is set aside."""
        try:
            job()
        except (Corruption, OSError) as error:
            if (isinstance(error, OSError) and passing(error)) or not self._work.set_aside(error):
                raise
            if self.exclusive:
                self._damage = bare(error)

    def _rearranging(self) -> bool:
        """Whether a merge that is about to be installed may renumber the levels."""
        with self._head.lock:
            self._alone = len(self.running) == 1
            return self._alone

    def _sweep(self) -> OSError | MemoryError | None:
        try:
            error = self._room.attempt(self._work.sweep)
            with self._head.lock:
                self._sweep_full = error
            return error
        finally:
            with self._head.lock:
                self._sweeping = False
                self._head.notify()

    def _compacting(
        self, job: Job, *, in_need: Callable[[], bool], again: Job | None = None
    ) -> OSError | MemoryError | None:
        error = self._room.attempt(job, in_need=in_need, again=again)
        if error is not None:
            with self._head.lock:
                self.full = error
        return error
