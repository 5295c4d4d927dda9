"""Ending a statement early: at a deadline, or because another thread has had enough of it.

    halt = Halt(timeout_s=2.0)        the statement asks it between pieces of its work:
    halt.check()                      Timeout after two seconds, Interrupted after halt.interrupt()

The row engine asks once for every few rows that it reads or writes, the columnar engine is told by
whoever waits for it (relation.py). What the statement has written is undone as after any error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from murmur.errors import Interrupted, InvalidInput, OperationalError, Timeout
from murmur.kvcore import check_timeout

FEW, MANY = 8, 512  # rows read before the next question: the first rows shall not wait for more

T = TypeVar("T")


class Halt:
    """Whether one statement is to stop. `interrupt` may be called from any thread."""

    __slots__ = ("_deadline", "_interrupted", "_now", "_timeout_s")

    def __init__(
        self, timeout_s: float | None = None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        number = isinstance(timeout_s, (int, float)) and not isinstance(timeout_s, bool)
        if timeout_s is not None and not (number and timeout_s > 0):
            raise InvalidInput(f"a timeout is a number of seconds above 0, not {timeout_s!r}")
        self._now = now
        timeout_s = None if timeout_s is None else check_timeout(timeout_s)
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else now() + timeout_s
        self._interrupted = False

    def interrupt(self) -> None:
        """Let the statement end with Interrupted."""
        self._interrupted = True

    def reason(self) -> OperationalError | None:
        """Why the statement is to stop; None if it may go on."""
        if self._interrupted:
            return Interrupted("the statement was interrupted; nothing that it did remains")
        if self._deadline is not None and self._now() >= self._deadline:
            return Timeout(
                f"the statement took longer than its timeout of {self._timeout_s:g} s; "
                "nothing that it did remains"
            )
        return None

    def check(self) -> None:
        """Raise Interrupted or Timeout if the statement is to stop."""
        if self._interrupted or self._deadline is not None:
            reason = self.reason()
            if reason is not None:
                raise reason

    def guard(self, rows: Iterable[T]) -> Iterator[T]:
        """The rows, until the statement is to stop."""
        source = iter(rows)
        count = FEW
        while piece := list(islice(source, count)):
            self.check()
            yield from piece
            count = min(2 * count, MANY)
