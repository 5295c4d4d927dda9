"""What is durable: the log position, and the vector that goes with it, that peers may be told.

    note(120, {a: 3})    note(180, {a: 4})    advance(150)    ->  position 120, vector {a: 3}

Only what is durable leaves the replica. What was published is noted, in the order of the log, and
told of once the log is synced as far; then the listeners are called.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping


class Durable:
    """The durable position of one replica. For any number of threads."""

    def __init__(self, position: int, vector: Mapping[bytes, int]) -> None:
        self.position = position
        self.vector = vector
        self.listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._noted: deque[tuple[int, Mapping[bytes, int]]] = deque()

    def note(self, position: int, vector: Mapping[bytes, int]) -> None:
        """This was published; noting it again changes nothing."""
        with self._lock:
            last = self._noted[-1][0] if self._noted else self.position
            if position > last:
                self._noted.append((position, vector))

    def advance(self, end: int) -> None:
        """All of the log before this position is durable."""
        moved = False
        with self._lock:
            while self._noted and self._noted[0][0] <= end:
                self.position, self.vector = self._noted[0]
                self._noted.popleft()
                moved = True
        if moved:
            for listener in tuple(self.listeners):
                listener()

    def jump(self, vector: Mapping[bytes, int]) -> None:
        """A snapshot was joined, durably: this goes with the position from now on."""
        with self._lock:
            assert not self._noted, "a snapshot is joined when all before it is durable"
            self.vector = vector
        for listener in tuple(self.listeners):
            listener()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call this after the position has moved; what ends that."""
        self.listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self.listeners:
                self.listeners.remove(listener)

        return unsubscribe
