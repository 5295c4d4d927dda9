"""Faults: what becomes of an exception that was raised where nobody waited for it.

    the replica is closed, poisoned, or of another process   the node stops, and `state` says why
    the peer said what the protocol forbids                  its conversation ends: VIOLATION
    the store is damaged, the disk is full, a file is gone   what needed it ends: STORAGE
    anything else, a bug                                     what it happened to ends: INTERNAL

What it happened to is the smallest thing that can begin anew: a conversation (endings.py), which is
dialed again after a pause; a service's timer, which rests and is tried again, longer each time; one
call of the application, which gets the error. What comes of a bug in a transport is not known, so
it ends all conversations (loop.py). The replica goes on, for it knows nothing of all this.

Each fault is told once for each line of code that raises it: with its traceback in the log, and as
the notice "error". Repetitions are only logged for debugging.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from murmur.errors import Closed, Forked, MurmurError, Poisoned
from murmur.sync.transport import Labour

FATAL = (Closed, Forked, Poisoned)
EXPECTED = (OSError, MurmurError)  # the circumstances, not a bug: no traceback
REST_MS, REST_MOST_MS = 1_000, 60_000
MAX_TOLD = 256

log = logging.getLogger("murmur.sync")

Run = Callable[[Callable[[], object], int], object]


class Faults:
    """The faults of one node. Called by its thread."""

    def __init__(self, name: str, on_notice: Callable[[str, str, str], None]) -> None:
        """`name` is the node's own id, for people."""
        self.fatal: BaseException | None = None  # of the replica: nothing goes on after it
        self._name = name
        self._on_notice = on_notice
        self._told: set[tuple[object, ...]] = set()
        self._rests: dict[str, tuple[int, int]] = {}  # place: until when, after what pause

    def note(self, place: str, error: BaseException, *, peer: str = "") -> str:
        """Tell of a fault, at its first time; what to call it."""
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, FATAL):
            self.fatal = self.fatal or error
            return reason
        expected = isinstance(error, EXPECTED)
        known = (type(error), str(error) if expected else _where(error))
        if known in self._told:
            log.debug("again, %s: %s", place, reason)
            return reason
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told.add(known)
        if expected:
            log.warning("%s: %s", place, reason)
        else:
            log.error("a fault in %s", place, exc_info=error)
        self._on_notice("error", peer or self._name, f"{place}: {reason}")
        return reason

    def contain(self, place: str, call: Callable[[], object], now_ms: int) -> bool:
        """Call it; False, and a rest for the place, if that raises."""
        try:
            call()
        except Exception as error:
            self.note(place, error)
            _, pause_ms = self._rests.get(place, (0, REST_MS // 2))
            pause_ms = min(2 * pause_ms, REST_MOST_MS)
            self._rests[place] = now_ms + pause_ms, pause_ms
            return False
        return True

    def rested_ms(self, place: str, now_ms: int) -> int | None:
        """Until when a place rests; None if it does not. Its pauses are short again after long."""
        rest = self._rests.get(place)
        if rest is None:
            return None
        until_ms, pause_ms = rest
        if now_ms >= until_ms + 2 * pause_ms + REST_MOST_MS:
            del self._rests[place]
        return until_ms if now_ms < until_ms else None


class Guarded:
    """Labour whose results are handed on by `run`, which sees to what they trip over."""

    def __init__(self, labour: Labour, run: Run) -> None:
        self._labour = labour
        self._run = run

    def submit(
        self,
        lane: str,
        work: Callable[[], Any],
        done: Callable[[Any, BaseException | None, int], None],
    ) -> None:
        """Queue the work."""

        def guarded(result: Any, error: BaseException | None, now_ms: int) -> None:
            self._run(lambda: done(result, error, now_ms), now_ms)

        self._labour.submit(lane, work, guarded)


def _where(error: BaseException) -> tuple[str, int]:
    """File and line that raised it."""
    traceback = error.__traceback__
    if traceback is None:
        return "", 0
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
