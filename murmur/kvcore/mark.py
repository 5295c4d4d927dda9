"""The mark: where the tree stands in the log, changed in one manifest edit with the tree itself.

    mark := msgpack [version, log position, highest stamp, [[replica, seq, stamp, hash, [[replica,
    seq]*]]*]]

For each author it holds the tip: the newest admitted transaction, its hash and its vector, which
its next record is written as a difference from. The tips' seqs are the version vector.

Invariant: the tree holds exactly the records before the position; replay starts strictly there,
since increments are not idempotent (DESIGN section 4, rule 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgpack

from murmur.kvcore.record import NO_PREVIOUS

VERSION = 1  # on disk


class Tip(NamedTuple):
    """The newest admitted transaction of one author."""

    seq: int
    stamp: int
    hash: bytes
    vector: Mapping[bytes, int]


class Mark(NamedTuple):
    """A point of the log, and all that replaying from there needs."""

    position: int
    stamp: int
    tips: Mapping[bytes, Tip]


NO_TIP = Tip(0, 0, NO_PREVIOUS, {})
ORIGIN = Mark(0, 0, {})


def encode_mark(mark: Mark) -> bytes:
    """The mark's bytes."""
    tips = [
        (replica, tip.seq, tip.stamp, tip.hash, list(tip.vector.items()))
        for replica, tip in mark.tips.items()
    ]
    packed: bytes = msgpack.packb((VERSION, mark.position, mark.stamp, tips))
    return packed


def decode_mark(data: bytes) -> Mark:
    """The mark; an empty one is the beginning. Raises ValueError for an unknown version."""
    if not data:
        return ORIGIN
    version, position, stamp, tips = msgpack.unpackb(data)
    if version != VERSION:
        raise ValueError(f"mark version {version} is not {VERSION}")
    return Mark(
        position,
        stamp,
        {replica: Tip(seq, at, digest, dict(vector)) for replica, seq, at, digest, vector in tips},
    )
