"""Which process this is, without asking the system each time: a call of getpid takes a microsecond.

    if self._pid != process.pid: ...      a forked child has the objects of its parent

The interpreter tells of forks; one made without it, by a library in C, is not seen.
"""

from __future__ import annotations

import os

pid = os.getpid()


def _after_fork() -> None:
    global pid
    pid = os.getpid()


os.register_at_fork(after_in_child=_after_fork)
