"""Group commit: threads that wait for a sync of the log share one.

    a syncs                  b, c and d append, and wait
    a has synced             all three go on at once; the first of them syncs for the others

Who waits for a sync waits for a lock of his own, and not for that of who syncs: when it has ended
all go on at once, while the next may begin. A wake-up that was missed costs LONGEST_WAIT.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress

LONGEST_WAIT = 0.005  # seconds


class GroupCommit:
    """The lock of who syncs, and those who wait for him."""

    def __init__(self) -> None:
        self.syncing = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()  # each is released when a sync has ended
        self._group = 1  # how many shared the last sync

    def wait(self) -> None:
        """Return when the sync that goes on has ended."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiting.append(waiter)
        if self.syncing.locked() and not waiter.acquire(timeout=LONGEST_WAIT):
            with suppress(ValueError):
                self._waiting.remove(waiter)

    def wake(self) -> None:
        """A sync has ended."""
        count = 1
        with suppress(IndexError):
            while True:
                self._waiting.popleft().release()
                count += 1
        self._group = count

    def gather(self) -> None:
        """Let those who shared the last sync append for this one: they were woken just now."""
        for _ in range(2 * self._group - 2):
            if len(self._waiting) + 1 >= self._group:
                return
            time.sleep(0)
