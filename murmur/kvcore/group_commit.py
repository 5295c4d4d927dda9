"""Group commit: threads that wait for a sync of the log share one.

    a syncs                  b, c and d append, and wait
    a has synced             b goes on and wakes c, who wakes d; the first of them that is back with
                             another write syncs for the others

Who waits for a sync waits for a lock of his own, and not for that of who syncs: when it has ended
all go on, while the next may begin. They are woken one by one, each by the one before: all at once
they would contend for the interpreter's lock, which takes twice the time. A wake-up that was missed
costs LONGEST_WAIT.
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
        self._waiting: deque[threading.Lock] = deque()  # each is released after a sync has ended
        self._woken: deque[threading.Lock] = deque()  # one has ended, and they are next in turn
        self._group = 1  # how many shared the last sync

    def wait(self) -> None:
        """Return when the sync that goes on has ended."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiting.append(waiter)
        woken = False
        try:
            woken = self.syncing.locked() and waiter.acquire(timeout=LONGEST_WAIT)
        finally:
            if not woken:  # nobody is to leave it to this one to wake the next
                for queue in (self._waiting, self._woken):
                    with suppress(ValueError):
                        queue.remove(waiter)
            self._wake_next()

    def wake(self) -> None:
        """A sync has ended."""
        count = 1
        with suppress(IndexError):
            while True:
                self._woken.append(self._waiting.popleft())
                count += 1
        self._group = count
        self._wake_next()

    def _wake_next(self) -> None:
        with suppress(IndexError):
            self._woken.popleft().release()

    def gather(self) -> None:
        """Let those who shared the last sync append for this one: they were woken just now."""
        for _ in range(2 * self._group - 2):
            if len(self._waiting) + 1 >= self._group:
                return
            time.sleep(0)
