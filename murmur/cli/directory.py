"""Opening the directory that a verb works on.

    there is a replica        it is opened
    nothing, or empty         `shell`, `sql`, `serve` and `put` create one, and say so on stderr;
                              the others find nothing
    something else            refused: a mistyped path should not fill a directory with files

What opening found out is said on stderr too: a torn tail that recovery cut off, an identity that
was given up because the directory is a copy.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from murmur.cli.failure import NOT_BEGUN, Fault, describe, note
from murmur.errors import MurmurError

if TYPE_CHECKING:
    from murmur.swarm import Swarm

DEFAULT_GROUP = "default"

# Each of these says that there is a replica, whole or damaged; names such as log alone do not.
_SIGNS = ("REPLICA", "CLEAN", "BACKEND", "tree/MANIFEST", "tree/kv.sqlite")
_SEGMENT = re.compile(r"[0-9a-f]{16}\.log")


@contextmanager
def opened(
    path: str,
    *,
    create: bool = False,
    group: str = DEFAULT_GROUP,
    listen: str | None = None,
) -> Iterator[Swarm]:
    """The swarm in a directory, closed at the end. Ends the command if it cannot be opened."""
    swarm = open_swarm(path, create=create, group=group, listen=listen)
    try:
        for line in findings(swarm):
            note(f"murmur: {line}")
        yield swarm
    finally:
        swarm.close()


def open_swarm(
    path: str, *, create: bool = False, group: str = DEFAULT_GROUP, listen: str | None = None
) -> Swarm:
    """The swarm in a directory."""
    try:
        new = not holds_replica(path)
        if new and not create:
            raise Fault(f"{path}: there is no replica here", NOT_BEGUN)
        if new and (other := _something_else(path)):
            raise Fault(
                f"{path} holds no replica but other things ({other}): name a new directory",
                NOT_BEGUN,
            )
        from murmur.swarm import open as open_replica

        _hush_transport()
        swarm = open_replica(path, group, listen=listen)
    except MurmurError as error:
        raise Fault(describe(error), NOT_BEGUN) from error
    except OSError as error:
        about = f"cannot listen on {listen}: " if listen and not error.filename else ""
        raise Fault(about + describe(error), NOT_BEGUN) from error
    if new:
        note(f"murmur: created {path}")
    return swarm


def findings(swarm: Swarm) -> list[str]:
    """What opening has repaired or changed, for people."""
    lines = []
    if (torn := swarm.replica.torn) is not None:
        lines.append(
            f"{torn.path}, offset {torn.offset}: recovery cut off {torn.length:,} bytes of a write "
            f"that was never finished ({torn.reason})"
        )
    if swarm.replica.renewed:
        lines.append(f"{swarm.path}: {swarm.replica.renewed}; it writes under a new id from now on")
    return lines


def _hush_transport() -> None:
    """Keep what aioquic says about stray packets off stderr; the node reports what matters."""
    logger = logging.getLogger("quic")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def holds_replica(path: str) -> bool:
    """Whether there is a replica in this directory, whole or damaged."""
    if any(os.path.lexists(os.path.join(path, sign)) for sign in _SIGNS):
        return True
    log = os.path.join(path, "log")
    return os.path.isdir(log) and any(map(_SEGMENT.fullmatch, os.listdir(log)))


def _something_else(path: str) -> str | None:
    """A name that does not belong to a replica whose creation was cut short; None if none is."""
    if not os.path.lexists(path):
        return None
    ours = {"LOCK", "lost+found"}
    names = (name for name in os.listdir(path) if name not in ours and not name.startswith("."))
    return next((name for name in names if not name.startswith("REPLICA")), None)
