"""Trimming: which of the log's oldest segments nobody needs, and what they leave behind.

A closed segment may go when the tree has flushed it and every member holds all of it (it lies below
the causally stable vector); the tree then stands for it. It does go when the log is larger than it
is to be, or the segment older. Records at its end leave a joint in the floor (floor.py): the vector
that their authors' next records are written against.
"""

from __future__ import annotations

from murmur.errors import Corruption
from murmur.kvcore.causality import VersionVector
from murmur.kvcore.clock import stamp_ms
from murmur.kvcore.ledger import Ledger
from murmur.kvcore.log import ADMITTED, Log
from murmur.kvcore.mark import NO_TIP, Tip
from murmur.kvcore.record import decode_head, digest, stamp_of
from murmur.kvcore.segment import Segment


def trim(ledger: Ledger, stable: VersionVector, *, keep_bytes: int, before_ms: int | None) -> int:
    """Remove what nobody needs; how many bytes it was. `Replica.trim` says more."""
    log, flushed = ledger.log, ledger.flushed.position
    gone = _trimmable(log, flushed, stable, keep_bytes=keep_bytes, before_ms=before_ms)
    if gone is None:
        return 0
    start, stop = gone
    tips = _tips_within(log, start, stop)
    with ledger.lock:
        ledger.enter()
        ledger.raise_floor(log.floor.trimmed(stop, tips))
        log.trim(stop)
    return stop - start


def _trimmable(
    log: Log,
    flushed: int,
    stable: VersionVector,
    *,
    keep_bytes: int,
    before_ms: int | None,
) -> tuple[int, int] | None:
    """From where to where the log's head is to go; None if nothing is.

    `keep_bytes` are kept in any case but one: what was written before `before_ms` (since 1970) is
    not.
    """
    start = stop = log.start
    end = log.end
    for segment in log.segments[:-1]:
        if segment.end > flushed or segment.holds_more_than(stable):
            break
        old = before_ms is not None and _newest_ms(log, segment) < before_ms
        if end - segment.end < keep_bytes and not old:
            break
        stop = segment.end
    return (start, stop) if stop > start else None


def _tips_within(log: Log, start: int, stop: int) -> dict[bytes, Tip]:
    """The newest record of each author between two positions, `start` being the log's."""
    tips: dict[bytes, Tip] = {}
    last: dict[bytes, bytes] = {}
    floor = log.floor
    for position, kind, record in log.read(start, stop):
        if kind != ADMITTED:
            continue
        head, _ = decode_head(record)
        replica, seq = head.replica, head.seq
        before = floor.predecessor(replica, seq, tips.get(replica)) if seq > 1 else NO_TIP
        if before is None:
            raise Corruption("log", position, f"the record before {replica.hex()}:{seq} is missing")
        tips[replica] = Tip(seq, head.stamp, b"", head.vector(before.vector))
        last[replica] = record
    return {replica: tip._replace(hash=digest(last[replica])) for replica, tip in tips.items()}


def _newest_ms(log: Log, segment: Segment) -> int:
    """When the last of it was written: its last block tells, the others were admitted before."""
    start = segment.blocks[-2].stop if len(segment.blocks) > 1 else segment.start
    records = (r for _, kind, r in log.read(start, segment.end) if kind == ADMITTED)
    return max((stamp_ms(stamp_of(record)) for record in records), default=0)
