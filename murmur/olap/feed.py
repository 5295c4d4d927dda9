"""The log as a snapshot has it: transactions in order of arrival, and what each had seen.

    for entry in read_log(log, position): ...         every frame, parked ones too, for murmur_log
    for author, operations in transactions(log, position, prefix): ...        for history.py

The log is ahead of the snapshot by what was admitted since: reading ends at the position of the
snapshot, so it never meets what is being written.

A log that was trimmed, or that a snapshot from a peer came beside, lacks what came before
(kvcore/floor.py): it begins with what it holds. Trimmed says that it was trimmed in the meantime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from murmur.kvcore import Log, Operation, View
from murmur.kvcore.cell import Author
from murmur.kvcore.log import ADMITTED
from murmur.kvcore.mark import NO_TIP, Tip
from murmur.kvcore.record import decode, decode_head, origin, stamp_of


class Entry(NamedTuple):
    """One frame of the log."""

    position: int  # behind it
    admitted: bool  # False: parked, for a clock that is ahead
    replica: bytes
    seq: int
    stamp: int
    operations: int
    bytes: int


def vector_of(view: View) -> Mapping[bytes, int]:
    """The version vector of a snapshot, or of the one under a transaction."""
    snapshot: Any = getattr(view, "snapshot", view)
    vector: Mapping[bytes, int] = snapshot.vector
    return vector


def position_of(view: View) -> int:
    """Up to where the log is in a snapshot, or in the one under a transaction."""
    snapshot: Any = getattr(view, "snapshot", view)
    position: int = snapshot.position
    return position


def read_log(log: Log, stop: int) -> Iterator[Entry]:
    """The frames up to a snapshot's position."""
    for position, kind, record in log.read(log.start, stop):
        yield Entry(
            position,
            kind == ADMITTED,
            *origin(record),
            stamp_of(record),
            decode_head(record)[1],
            len(record),
        )


def transactions(
    log: Log, stop: int, prefix: bytes
) -> Iterator[tuple[Author, Sequence[Operation]]]:
    """The transactions up to a snapshot's position that mention the prefix, each with what it had
    seen."""
    tips: dict[bytes, Tip] = {}
    floor = log.floor
    for _, kind, record in log.read(log.start, stop):
        if kind == ADMITTED:
            head, _ = decode_head(record)
            replica, seq = head.replica, head.seq
            before = floor.predecessor(replica, seq, tips.get(replica)) or NO_TIP
            mine = head.vector(before.vector)
            tips[replica] = Tip(seq, head.stamp, b"", mine)
            if prefix in record:  # most records are about something else: do not decode them
                yield Author(head.stamp, replica, seq, mine), decode(record).operations
