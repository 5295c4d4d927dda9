"""The swarms that are open in this process: one per directory, and none when the process ends.

    borrow("data/alice", ...)   ->  the swarm that is open there, or a new one

A swarm that was opened for its borrowers is closed when the last of them has given it back; one
that somebody else has opened stays open. What nobody closed is closed at exit, before the
interpreter stops the threads that closing waits for. A forked child begins with an empty registry:
what it inherited is its parent's.

Invariant: a lease is counted exactly for the directories whose swarm was opened by `borrow`.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol, TypeVar


class Open(Protocol):
    """A swarm, as far as the registry knows it."""

    directory: str | None  # where it is, without symbolic links; None: in memory

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        ...

    def close(self) -> None:
        """Close it."""
        ...

    def abandon(self) -> None:
        """Close it, with a warning that its owner did not."""
        ...


_Swarm = TypeVar("_Swarm", bound=Open)

_open: weakref.WeakSet[Open] = weakref.WeakSet()
_leases: dict[str, int] = {}
_lock = threading.RLock()


def remember(swarm: Open) -> None:
    """A swarm was opened."""
    with _lock:
        _open.add(swarm)


def borrow(
    path: str, kind: type[_Swarm], opener: Callable[[], _Swarm], check: Callable[[_Swarm], None]
) -> tuple[_Swarm, Callable[[], None]]:
    """The swarm of a directory, and what gives it back.

    `check` may refuse the one that is open; `opener` opens one if there is none.
    """
    real = os.path.realpath(path)
    with _lock:
        swarm = _find(real, kind)
        if swarm is None:
            swarm = opener()
            _leases[real] = 0
        else:
            check(swarm)
            if real not in _leases:
                return swarm, _nothing
        _leases[real] += 1
    return swarm, lambda: _give_back(real, swarm)


def _find(real: str, kind: type[_Swarm]) -> _Swarm | None:
    for swarm in _open:
        if isinstance(swarm, kind) and swarm.directory == real and not swarm.closed:
            return swarm
    _leases.pop(real, None)  # of one that was closed while it was lent
    return None


def _give_back(real: str, swarm: Open) -> None:
    with _lock:
        if swarm.closed or real not in _leases:
            return
        _leases[real] -= 1
        if _leases[real]:
            return
        del _leases[real]
    swarm.close()


def _nothing() -> None:
    """There is nothing to give back."""


def _forget_parents() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it
    _open.clear()
    _leases.clear()


os.register_at_fork(after_in_child=_forget_parents)


@atexit.register
def _close_all() -> None:
    with ExitStack() as ending:
        for swarm in list(_open):
            if not swarm.closed:
                ending.callback(swarm.abandon)
