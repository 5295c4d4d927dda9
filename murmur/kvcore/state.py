"""State: all that a reader of the tree needs, in one immutable value, and how the next one is made.

    publish    a write: the next sequence, with its attachment
    seal       the memtable is closed, an empty one takes its place: before a large batch
    rotate     the memtable and the sealed ones join the frozen ones, an empty one takes their place
    load       the same, with the sorted runs of a load on top, and its sequence
    install    a flush, merge or ingest: the next version, perhaps without the oldest frozen ones

Each is one assignment to `Head.state`, under a lock that is never held over a write or over I/O. A
reader takes the state without it. Only pinning needs the lock: a pin must be there before the
writer, two batches later, drops the versions that nobody sees.

Invariants:
    1. memtable, sealed and frozen memtables (newest first) and version hold what was written up to
       `sequence`, each newer than what follows it.
    2. While a state is pinned, the versions in its memtable that its sequence sees are kept.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

from murmur.kvcore.kernel import Latest, Memtable, Reads
from murmur.kvcore.version import Version


class Frozen(NamedTuple):
    """Memtables, newest first, that are to become a table, installed together with their mark.

    `runs` are those among them that came sorted, side by side, no key in two of them; they are to
    be tables of their own.
    """

    memtables: tuple[Memtable, ...]
    mark: bytes
    sequence: int
    runs: tuple[Memtable, ...] = ()

    @property
    def bytes(self) -> int:
        """What they weigh."""
        return sum(memtable.bytes for memtable in self.memtables)

    def parts(self) -> tuple[tuple[Memtable, ...], tuple[Memtable, ...]]:
        """The memtables older than the runs, and those that are newer."""
        if not self.runs:
            return self.memtables, ()
        at = self.memtables.index(self.runs[0])
        return self.memtables[at + len(self.runs) :], self.memtables[:at]


class State(NamedTuple):
    """What there is to read."""

    sequence: int
    attachment: object
    memtable: Memtable
    sealed: tuple[Memtable, ...]
    frozen: tuple[Frozen, ...]
    version: Version
    reads: Reads

    def memtables(self) -> list[Memtable]:
        """All memtables, newest first."""
        frozen = (memtable for old in self.frozen for memtable in old.memtables)
        return [self.memtable, *self.sealed, *frozen]


def _state(
    sequence: int,
    attachment: object,
    memtable: Memtable,
    sealed: tuple[Memtable, ...],
    frozen: tuple[Frozen, ...],
    version: Version,
) -> State:
    memtables = [memtable, *sealed, *(one for old in frozen for one in old.memtables)]
    reads = Reads(memtables, version.levels, version.values)
    return State(sequence, attachment, memtable, sealed, frozen, version, reads)


class Head:
    """The newest state of a tree."""

    __slots__ = ("__weakref__", "_waiting", "follow", "latest", "lock", "state")

    def __init__(self, version: Version) -> None:
        sequence = version.last_sequence
        self.state = _state(sequence, None, Memtable(sequence), (), (), version)
        self.latest = Latest(self.state.reads, sequence)
        # Reentrant: the garbage collector may close a forgotten snapshot in whoever holds it.
        self.lock = threading.RLock()
        self._waiting: list[threading.Lock] = []
        # Of a native writer: the sequence it has published, and the attachment after this one.
        self.follow: Callable[[object], tuple[int, object]] | None = None
        _heads.add(self)

    def publish(self, sequence: int, attachment: object) -> None:
        """Let readers see what was written to the memtable at this sequence."""
        with self.lock:
            _, _, memtable, sealed, frozen, version, reads = self.state
            self.state = State(sequence, attachment, memtable, sealed, frozen, version, reads)
            self.latest.move(reads, sequence)

    def catch_up(self) -> State:
        """The state, with what a native writer has published since: it knows only `latest`.

        Whoever pins needs it, and whoever writes or ends a memtable, with that writer shut.
        """
        with self.lock:
            state, sequence = self.state, self.latest.sequence
            if sequence > state.sequence:
                attachment = state.attachment
                if self.follow is not None:
                    sequence, attachment = self.follow(attachment)
                state = state._replace(sequence=sequence, attachment=attachment)
                self.state = state
            return state

    def seal(self) -> None:
        """Begin another memtable; for the writer."""
        with self.lock:
            sequence, attachment, memtable, sealed, frozen, version, _ = self.state
            memtable.apply(sequence + 1, ())  # takes back what an interrupted batch left there
            self.state = _state(
                sequence, attachment, Memtable(sequence), (memtable, *sealed), frozen, version
            )
            self.latest.move(self.state.reads, sequence)

    def rotate(self, mark: bytes) -> Frozen:
        """Freeze the memtable and the sealed ones; for the writer, who holds the lock."""
        sequence, attachment, memtable, sealed, frozen, version, _ = self.state
        # It is frozen by who flushes it: here an interrupt could leave a frozen one to be written.
        memtable.apply(sequence + 1, ())  # takes back what an interrupted batch left there
        newest = Frozen((memtable, *sealed), mark, sequence)
        self.state = _state(
            sequence, attachment, Memtable(sequence), (), (newest, *frozen), version
        )
        self.latest.move(self.state.reads, sequence)
        self.notify()
        return newest

    def load(
        self, newest: Sequence[Memtable], runs: Sequence[Memtable], mark: bytes, attachment: object
    ) -> int:
        """Publish sorted runs, and memtables of what came with them, frozen; at which sequence."""
        with self.lock:
            sequence, _, memtable, sealed, frozen, version, _ = self.state
            memtable.apply(sequence + 1, ())  # takes back what an interrupted batch left there
            loaded = Frozen((*newest, *runs, memtable, *sealed), mark, sequence + 1, tuple(runs))
            self.state = _state(
                sequence + 1, attachment, Memtable(sequence + 1), (), (loaded, *frozen), version
            )
            self.latest.move(self.state.reads, sequence + 1)
            self.notify()
            return sequence + 1

    def join(self) -> None:
        """Let all that is frozen become one table; while none of it is being flushed."""
        with self.lock:
            state = self.state
            if len(state.frozen) > 1:
                newest = state.frozen[0]
                memtables = tuple(one for old in state.frozen for one in old.memtables)
                joined = Frozen(memtables, newest.mark, newest.sequence)
                self.state = state._replace(frozen=(joined,))

    def install(
        self,
        version: Version,
        flushed: Frozen | None = None,
        sequence: int | None = None,
        attachment: object = None,
    ) -> None:
        """Read from the next version on, which holds what was in the flushed memtables.

        A sequence is published with it, if it brings something new, and perhaps an attachment.
        """
        with self.lock:
            now, attached, memtable, sealed, frozen, _, _ = self.state
            sequence = now if sequence is None else sequence
            attachment = attached if attachment is None else attachment
            if flushed is not None:
                assert frozen[-1] is flushed, "memtables are flushed in their order"
                frozen = frozen[:-1]
            self.state = _state(sequence, attachment, memtable, sealed, frozen, version)
            self.latest.move(self.state.reads, sequence)
            self.notify()

    def waiter(self) -> threading.Lock:
        """A lock that the next `notify` releases: to be acquired when this one is not held.

        A Condition would be the usual thing, but an interrupt in its `wait` can leave it unlocked
        for whoever believes to hold it.
        """
        waiter = threading.Lock()
        waiter.acquire()
        self._waiting.append(waiter)
        return waiter

    def notify(self) -> None:
        """Wake all who wait for something else than a publication; under the lock."""
        for waiter in self._waiting:
            if waiter.locked():  # else it was woken before, and an interrupt kept it in the list
                waiter.release()
        self._waiting.clear()

    def forget(self, waiter: threading.Lock) -> None:
        """Wake it no more: it has waited long enough."""
        with self.lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def pin(self) -> State:
        """The state; its sequence stays readable in its memtable until it is unpinned."""
        with self.lock:
            state = self.catch_up()
            pins = state.memtable.pins
            pins[state.sequence] = pins.get(state.sequence, 0) + 1
            return state

    def unpin(self, state: State) -> None:
        """Undo one pin."""
        with self.lock:
            pins = state.memtable.pins
            count = pins[state.sequence] - 1
            if count:
                pins[state.sequence] = count
            else:
                del pins[state.sequence]

    def pinned(self) -> list[int]:
        """The sequences that are pinned in the memtable, ascending."""
        pins = self.state.memtable.pins
        if not pins:
            # One that is being added now is that of the last published sequence, which a write
            # keeps anyway; by the write after that it is here to be seen.
            return []
        with self.lock:
            return sorted(pins)


def _after_fork() -> None:
    """In a forked child: nobody is left to release a lock, and snapshots are still let go of."""
    for head in tuple(_heads):
        head.lock = threading.RLock()


_heads: weakref.WeakSet[Head] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
