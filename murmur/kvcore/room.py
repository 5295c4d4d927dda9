"""Room: background work on a disk that may be full, or without memory, loses nothing and goes on.

    attempt(job)   done                                       None
                   ENOSPC, EDQUOT; no memory                  the error, for who waits
                   ENOSPC, and it is `in_need`                done again without the reserve
                   anything else                              raised: the tree is poisoned

After each attempt the reserve (reserve.py) is held again, as far as there is room. Until it is, the
disk counts as crowded, and what makes room goes first.

Invariant: an error that is returned holds no traceback, whose frames would keep files that are to
be removed.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TypeVar

from murmur.kvcore.storage import FULL
from murmur.kvcore.store import Store

E = TypeVar("E", bound=Exception)
Job = Callable[[], object]


class Room:
    """What one tree does when there is none."""

    def __init__(self, store: Store, most: int) -> None:
        """The reserve takes `most` bytes and no more."""
        self.crowded = False  # something found no room, and the reserve was not held since
        self._store = store
        self._most = most

    def attempt(
        self,
        job: Job,
        *,
        in_need: Callable[[], bool] = lambda: False,
        again: Job | None = None,
    ) -> OSError | MemoryError | None:
        """Do something; the error if there was no room for it, or no memory.

        What finds the disk full is done again without the reserve (`again`, if that differs), if it
        is `in_need`.
        """
        error = _without_room(job)
        if isinstance(error, OSError):
            self.crowded = True
            if self._store.reserve.bytes and in_need() and self._store.reserve.give_up():
                error = _without_room(again or job)
        self._store.hold_reserve(self._most)
        if error is None and self._store.reserve.bytes:
            self.crowded = False
        return error


def _without_room(job: Job) -> OSError | MemoryError | None:
    try:
        job()
    except (OSError, MemoryError) as error:
        if not passing(error):
            raise
        return bare(error)
    return None


def bare(error: E) -> E:
    """The error without its traceback, whose frames keep files that are to be removed."""
    copied = copy(error)
    copied.__traceback__ = copied.__context__ = copied.__cause__ = None
    return copied


def passing(error: OSError | MemoryError) -> bool:
    """Whether there may be room on the disk, or memory, when it is tried again."""
    return isinstance(error, MemoryError) or error.errno in FULL
