"""Handles: what one process has opened, until it closes it, and which process this is.

    handle.check()               Closed; or Forked, in a child that has the objects of its parent
    if handle.inherited: ...     files, threads and locks are the parent's, and to be left alone

The process is known without asking the system each time: a call of getpid takes a microsecond. The
interpreter tells of forks; one made without it, by a library in C, is not seen.
"""

from __future__ import annotations

import os

from murmur.errors import Closed, Forked

_pid = os.getpid()


class Handle:
    """What stands for an open directory."""

    __slots__ = ("_path", "_pid", "closed")

    def __init__(self, path: str) -> None:
        self.closed = False
        self._path = path
        self._pid = _pid

    @property
    def inherited(self) -> bool:
        """Whether this is a child that was forked after it was opened."""
        return self._pid != _pid

    def check(self) -> None:
        """Raise Closed or Forked unless it can be used here."""
        if self.closed:
            raise Closed(f"{self._path} is closed; open it again")
        if self._pid != _pid:
            raise Forked(
                f"{self._path} was opened by process {self._pid}, before the fork; open it in this "
                "process, after the other has closed it"
            )


def _after_fork() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_after_fork)
