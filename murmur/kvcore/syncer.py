"""The background sync of durability "batched": one thread, at most one sync an interval.

Invariant: after wake, a sync begins within the interval, or the failure of one is kept by the log,
which refuses every write from then on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from murmur.errors import MurmurError


class Syncer:
    """Calls `sync` after a wake, having waited the interval for more."""

    def __init__(self, sync: Callable[[], None], interval_ms: int) -> None:
        self._sync = sync
        self._interval = interval_ms / 1000
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="murmur-sync", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was written."""
        if not self._dirty.is_set():
            self._dirty.set()

    def close(self) -> None:
        """End the thread; what was written since its last sync is the closer's to sync."""
        self._closing.set()
        self._dirty.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._dirty.wait()
            if self._closing.wait(self._interval):
                return
            self._dirty.clear()
            if self._closing.is_set():
                return  # close came in between, and its wake-up was just cleared
            try:
                self._sync()
            except (OSError, MurmurError):
                # The log is poisoned now and says so to every writer; there is nothing left to
                # sync.
                return
