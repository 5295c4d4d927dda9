"""Forks: two different transactions under one dot, because one replica id was in use twice.

    a:7 is admitted, and names the hash of a:6   ->   whoever sends another a:6 has two faces

Each record names the hash of its author's record before. So an author's newest record is known by
its tip, and those before it by the one that follows: in the log, or, of the newest LIMIT of them,
in memory, since what comes twice mostly comes soon.
"""

from __future__ import annotations

from collections.abc import Mapping

from murmur.errors import ProtocolViolation
from murmur.kvcore.log import Log
from murmur.kvcore.mark import NO_TIP, Tip
from murmur.kvcore.record import decode_head

LIMIT = 4096


class Successors:
    """Hashes of lately admitted records, as those after them name them."""

    def __init__(self) -> None:
        self._hashes: dict[tuple[bytes, int], bytes] = {}

    def note(self, replica: bytes, seq: int, previous: bytes) -> None:
        """The record of this dot is admitted, and names its predecessor by this hash."""
        hashes = self._hashes
        hashes[replica, seq - 1] = previous
        if len(hashes) > LIMIT:
            del hashes[next(iter(hashes))]

    def hash_of(self, replica: bytes, seq: int) -> bytes | None:
        """The hash of the admitted record of this dot, if it is remembered."""
        return self._hashes.get((replica, seq))


def fork(replica: bytes, seq: int) -> ProtocolViolation:
    """The error that says so."""
    return ProtocolViolation(
        f"fork: two different transactions carry the dot {replica.hex()}:{seq}; "
        "one replica id is in use twice"
    )


def compare(log: Log, own: Mapping[bytes, Tip], tips: Mapping[bytes, tuple[int, bytes]]) -> None:
    """Raise ProtocolViolation if somebody's tips (author: seq, hash) are another history's.

    Where the author's next record was trimmed, or is not here, nothing can be said.
    """
    for replica, (seq, theirs) in tips.items():
        tip = own.get(replica, NO_TIP)
        if seq == tip.seq and theirs != tip.hash:
            raise fork(replica, seq)
        if seq < tip.seq:
            following = log.find(replica, seq + 1)
            if following is not None and decode_head(following)[0].previous != theirs:
                raise fork(replica, seq)
