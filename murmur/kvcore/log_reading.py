"""Reading the log: frames of its segments from a description of them, which never changes.

    frames     from one position to another, whatever their kind
    missing    the admitted records that a peer lacks; blocks that hold none are not read
    find       one record, by its dot
    check      every byte, against the footers and checksums
    shortened  what a segment holds that is to be cut back

`opened` opens a segment's file, and raises Trimmed if that was removed meanwhile.

Invariant: what is read lies in the description, so writers and readers need no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import TypeAlias

from murmur.errors import Corruption
from murmur.kvcore.frame import ADMITTED, scan
from murmur.kvcore.log_recovery import full_path
from murmur.kvcore.record import origin
from murmur.kvcore.segment import (
    Segment,
    check_header,
    lacking,
    ranges_of,
    read_footer,
    survey,
)
from murmur.kvcore.storage import Problem, ReadFile, Storage

Segments: TypeAlias = tuple[Segment, ...]
Opened: TypeAlias = Callable[[Segment], ReadFile]


def frames(
    storage: Storage, opened: Opened, segments: Segments, start: int, stop: int
) -> Iterator[tuple[int, int, bytes]]:
    """(position after, kind, record) of the frames from start to stop."""
    for segment in segments:
        begin, end = max(start, segment.start), min(stop, segment.end)
        if begin < end:
            with closing(opened(segment)) as file:
                path = full_path(storage, segment)
                for after, kind, _, record in scan(file, path, begin, end, segment.shift):
                    yield after, kind, record


def missing(
    storage: Storage, opened: Opened, segments: Segments, have: Mapping[bytes, int], stop: int
) -> Iterator[tuple[int, bytes]]:
    """(position after, record) of the admitted records before stop that `have` lacks."""
    for segment in segments:
        if segment.start < stop and segment.holds_more_than(have):
            with closing(opened(segment)) as file:
                path = full_path(storage, segment)
                yield from lacking(file, path, segment, stop, have)


def find(
    storage: Storage, opened: Opened, segments: Segments, replica: bytes, seq: int
) -> bytes | None:
    """The admitted record of this dot; None if it is not there."""
    for segment in segments:
        begin = segment.start
        for block in segment.sealed().blocks:
            first, last = block.ranges.get(replica, (1, 0))
            if first <= seq <= last:
                for _, kind, record in frames(storage, opened, (segment,), begin, block.stop):
                    if kind == ADMITTED and origin(record) == (replica, seq):
                        return record
            begin = block.stop
    return None


def check(storage: Storage, segments: Segments) -> Iterator[Problem]:
    """What is wrong with any byte; the last segment is the open one."""
    for segment in segments:
        path = full_path(storage, segment)
        try:
            yield from _check_segment(storage, segment, path, closed=segment is not segments[-1])
        except Corruption as error:
            yield Problem(error.path, error.offset, error.reason)
        except OSError as error:
            yield Problem(path, 0, str(error))


def _check_segment(
    storage: Storage, segment: Segment, path: str, *, closed: bool
) -> Iterator[Problem]:
    with closing(storage.open(segment.name)) as file:
        check_header(file, path, segment.start)
        if closed and read_footer(file, path, segment.start) != segment:
            yield Problem(path, segment.end + segment.shift, "the footer was exchanged")
        start = segment.start
        for block in segment.sealed().blocks:
            scanned = scan(file, path, start, block.stop, segment.shift)
            ranges = ranges_of(record for _, kind, _, record in scanned if kind == ADMITTED)
            if ranges != block.ranges:
                reason = "the block's ranges are not those of its records"
                yield Problem(path, start + segment.shift, reason)
            start = block.stop


def shortened(storage: Storage, segment: Segment, end: int) -> Segment:
    """What is known of a segment that is to be cut back to where one of its frames ends."""
    if end == segment.end:
        return segment
    blocks = tuple(block for block in segment.blocks if block.stop <= end)
    known = Segment(segment.start, blocks[-1].stop if blocks else segment.start, blocks)
    with closing(storage.open(segment.name)) as file:
        found = survey(file, full_path(storage, segment), known, end)
    if found.damage is not None:
        raise found.damage
    return found.segment
