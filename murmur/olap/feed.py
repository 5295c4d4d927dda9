"""The log as a snapshot has it: transactions in order of arrival, and what each had seen.

    for entry in read_log(log, vector): ...         every frame, parked ones too, for murmur_log
    for author, operations in transactions(log, vector, prefix): ...        for history.py

The log is ahead of the snapshot by what was admitted since. A frame belongs to the snapshot when
the vector covers its dot; reading ends with the last of these, so it never meets what is being
written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from murmur.kvcore import Log, Operation, View
from murmur.kvcore.cell import Author
from murmur.kvcore.log import ADMITTED
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


def read_log(log: Log, vector: Mapping[bytes, int]) -> Iterator[Entry]:
    """The frames up to the last one that the vector covers."""
    for position, kind, record in _frames(log, vector):
        yield Entry(
            position,
            kind == ADMITTED,
            *origin(record),
            stamp_of(record),
            decode_head(record)[1],
            len(record),
        )


def transactions(
    log: Log, vector: Mapping[bytes, int], prefix: bytes
) -> Iterator[tuple[Author, Sequence[Operation]]]:
    """The transactions within the vector that mention the prefix, each with what it had seen."""
    seen: dict[bytes, Mapping[bytes, int]] = {}
    for _, kind, record in _frames(log, vector):
        replica, seq = origin(record)
        if kind == ADMITTED and seq <= vector.get(replica, 0):
            head, _ = decode_head(record)
            mine = seen[replica] = head.vector(seen.get(replica, {}))
            if prefix in record:  # most records are about something else: do not decode them
                yield Author(head.stamp, replica, seq, mine), decode(record).operations


def _frames(log: Log, vector: Mapping[bytes, int]) -> Iterator[tuple[int, int, bytes]]:
    left = sum(vector.values())
    if not left:
        return
    for position, kind, record in log.read(log.start):
        yield position, kind, record
        if kind == ADMITTED:
            replica, seq = origin(record)
            left -= seq <= vector.get(replica, 0)
            if not left:
                return
