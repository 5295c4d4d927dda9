"""What is durable: the log position, and the vector that goes with it, that peers may be told.

    note(120, {a: 3})    note(180, {a: 4})    advance to 150    ->  position 120, vector {a: 3}

    durability    what is acknowledged is    and may leave the replica
    none          in the log                 at once
    batched       in the log, to be synced   once the background sync has come as far
    commit        synced                     likewise

Only what is durable leaves the replica (DESIGN section 4, rule 5). What was published is noted, in
the order of the log, and told of once the log is durable as far; then the listeners are called.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from murmur.kvcore.log import Log
from murmur.kvcore.syncer import Syncer


class Durable:
    """The durable position of one replica. For any number of threads."""

    def __init__(
        self, log: Log, durability: str, position: int, vector: Mapping[bytes, int]
    ) -> None:
        self.position = position
        self.vector = vector
        self.listeners: list[Callable[[], None]] = []
        self.syncer: Syncer | None = None  # whom "batched" leaves it to
        self._log = log
        self._durability = durability
        self._lock = threading.Lock()
        self._noted: deque[tuple[int, Mapping[bytes, int]]] = deque()

    def note(self, position: int, vector: Mapping[bytes, int]) -> None:
        """This was published; noting it again changes nothing."""
        with self._lock:
            last = self._noted[-1][0] if self._noted else self.position
            if position > last:
                self._noted.append((position, vector))

    def acknowledge(self, position: int) -> None:
        """Return when all before this position is as durable as `durability` promises (law L6)."""
        if self.syncer is not None:
            self.syncer.wake()
        elif self._durability == "commit":
            self._log.sync(position)
        self.advance()

    def sync(self, position: int | None = None) -> None:
        """Make all before this position (default: the log's end) durable now."""
        self._log.sync(position)
        self.advance()

    def advance(self) -> None:
        """Tell of what has become durable."""
        end = self._log.end if self._durability == "none" else self._log.durable
        moved = False
        with self._lock:
            while self._noted and self._noted[0][0] <= end:
                self.position, self.vector = self._noted[0]
                self._noted.popleft()
                moved = True
        if moved:
            self._tell()

    def jump(self, vector: Mapping[bytes, int]) -> None:
        """A snapshot was joined, durably: this goes with the position from now on."""
        with self._lock:
            assert not self._noted, "a snapshot is joined when all before it is durable"
            self.vector = vector
        self._tell()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call this after the position has moved; what ends that."""
        self.listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self.listeners:
                self.listeners.remove(listener)

        return unsubscribe

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()
