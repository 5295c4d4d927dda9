"""Work beside whoever waits for it, so that he can end it.

DuckDB does not come back before it is done; and signals reach the main thread only between two
bytecodes, so Ctrl-C would wait as well.

Invariant: `result` has returned or raised  =>  the work does not run any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

INTERRUPT_S = 0.05

_T = TypeVar("_T")


class Beside(Generic[_T]):
    """One piece of work on a thread of its own."""

    def __init__(self, work: Callable[[], _T], interrupt: Callable[[], None]) -> None:
        """`interrupt` ends the work soon, if it has begun."""
        self._work = work
        self._interrupt = interrupt
        self._gate = threading.Lock()
        self._begun = self._cancelled = False
        self._done = threading.Event()
        self._outcome: list[_T] = []
        self._failure: BaseException | None = None

    def result(self, halted: Callable[[], Exception | None]) -> _T:
        """What the work returns or raises; what `halted` gives meanwhile ends it, and is raised."""
        try:
            threading.Thread(target=self._run, name="murmur-query", daemon=True).start()
            # In steps: Polars, once loaded, lets a signal restart a wait instead of ending it.
            while not self._done.wait(INTERRUPT_S):
                error = halted()
                if error is not None:
                    raise error
        except BaseException:
            self._cancel()
            raise
        if self._failure is not None:
            raise self._failure
        return self._outcome[0]

    def _run(self) -> None:
        with self._gate:
            if self._cancelled:
                return
            self._begun = True
        try:
            self._outcome.append(self._work())
        except BaseException as error:  # for the thread that waits
            self._failure = error
        finally:
            self._done.set()

    def _cancel(self) -> None:
        """Return when the work does not run, and will not; Ctrl-C again changes nothing."""
        while True:
            try:
                with self._gate:
                    self._cancelled = True
                # An interrupt that comes before the query has begun is lost: say it again.
                while self._begun and not self._done.is_set():
                    self._interrupt()
                    self._done.wait(INTERRUPT_S)
            except KeyboardInterrupt:
                continue
            return
