"""Opening a log: what is there, what was torn off by a crash, and what is damage.

Only the last segment can be unfinished. Its frames are read to the first bad one, and that is

    damage, if it lies before `clean_end`,           which somebody knows to be durable
            or before the end that a footer states,  which is written after a sync
            or before a witness (see frame.py),      which was written after a sync
    the end, if there is nothing but zeros from there on,  which were preallocated
    the torn end of what was never synced, otherwise: it is cut off, and told of as a `TornTail`.

All other segments are closed: their footers must be valid, their frames are verified when they are
read. A last segment that was closed at exactly `clean_end` is not read either. An interrupted
change of segments can leave an empty one behind one without a footer: the empty one is dropped, and
where it started is a `clean_end`.

What was read may be in the operating system's cache and not on the disk; after a failed sync it can
stay so for ever, while later syncs succeed (Rebello et al., ATC 2020). So a segment that ends
behind what is known to be durable is written anew, to another file, before anything is built on it.
On a full disk it is cut and synced in place instead: a replica that cannot open frees no space.

Invariants: a log opened is durable to its end; a crash at any point of opening changes nothing that
the next opening would find; when Corruption is raised, nothing was changed.
"""

from __future__ import annotations

import posixpath
from contextlib import closing
from itertools import pairwise
from typing import NamedTuple

from murmur.errors import Corruption
from murmur.kvcore.frame import CHUNK, find_witness
from murmur.kvcore.segment import (
    DIRECTORY,
    FOOTER_MARKER,
    HEADER_SIZE,
    Segment,
    check_header,
    create_segment,
    list_segments,
    read_footer,
    survey,
)
from murmur.kvcore.storage import FULL, TEMPORARY, ReadFile, Storage, replace


class TornTail(NamedTuple):
    """What recovery cut off: `length` bytes from `offset` of the file on, and the zeros behind."""

    path: str
    offset: int
    length: int
    reason: str


class Recovered(NamedTuple):
    """A log as it was found, durable to the end of the last segment."""

    segments: tuple[Segment, ...]
    torn: TornTail | None
    footed: bool  # the last segment has a valid footer behind its frames


def recover(storage: Storage, *, clean_end: int = 0, trimmed: int = 0) -> Recovered:
    """Open the log of a storage; make one if there is none.

    Before `clean_end` all is known to be durable; only what lies before `trimmed` may be gone.
    """
    starts = _find_segments(storage, clean_end, trimmed)
    clean_end = max(clean_end, starts[-1])
    dropped = _is_stillborn(storage, starts)
    if dropped:
        *starts, stillborn = starts
    closed, gone = _read_all_closed(storage, starts, trimmed)
    last, torn, footed = _recover_last(storage, starts[-1], clean_end)
    for start in gone:
        storage.remove(Segment(start, start).name)
    if dropped:
        storage.remove(Segment(stillborn, stillborn).name)
        storage.sync_directory(DIRECTORY)
    for name in storage.list(DIRECTORY):
        if name.endswith(TEMPORARY):
            storage.remove(f"{DIRECTORY}/{name}")
    return Recovered((*closed, last), torn, footed)


def full_path(storage: Storage, segment: Segment) -> str:
    """The path of a segment's file, for messages."""
    return posixpath.join(storage.path, segment.name)


def _find_segments(storage: Storage, clean_end: int, trimmed: int) -> list[int]:
    starts = list_segments(storage) if storage.exists(DIRECTORY) else []
    directory = posixpath.join(storage.path, DIRECTORY)
    if not starts and clean_end > 0:
        raise Corruption(directory, 0, f"no segments, but the log reached position {clean_end}")
    if not starts:
        storage.make_directory(DIRECTORY)
        storage.sync_directory()
        create_segment(storage, trimmed)
        starts = [trimmed]
    elif starts[0] > trimmed:
        raise Corruption(directory, 0, f"the log starts at {starts[0]}, not at {trimmed}")
    # A segment's name may be older than the sync that should have saved it.
    storage.sync_directory(DIRECTORY)
    return starts


def _is_stillborn(storage: Storage, starts: list[int]) -> bool:
    """Whether the last segment has no frames, and the one before no footer."""
    if len(starts) == 1:
        return False
    with closing(storage.open(Segment(starts[-1], starts[-1]).name)) as file:
        check_header(file, full_path(storage, Segment(starts[-1], starts[-1])), starts[-1])
        if not _only_zeros(file, HEADER_SIZE):
            return False
    before = Segment(starts[-2], starts[-2])
    with closing(storage.open(before.name)) as file:
        return _closed_properly(file, full_path(storage, before), before.start) is None


def _read_all_closed(
    storage: Storage, starts: list[int], trimmed: int
) -> tuple[list[Segment], list[int]]:
    """The closed segments, and where those start that a trimming was about to remove.

    It was interrupted, and a removal may be lost where a later one is not.
    """
    closed: list[Segment] = []
    for start, next_start in reversed(list(pairwise(starts))):
        try:
            closed.insert(0, _read_closed(storage, start, next_start))
        except Corruption:
            if next_start > trimmed:
                raise
            return closed, starts[: starts.index(next_start)]
    return closed, []


def _read_closed(storage: Storage, start: int, next_start: int) -> Segment:
    path = full_path(storage, Segment(start, start))
    with closing(storage.open(Segment(start, start).name)) as file:
        check_header(file, path, start)
        segment = read_footer(file, path, start)
    if segment.end != next_start:
        reason = f"the segment ends at {segment.end}, the next one starts at {next_start}"
        raise Corruption(path, segment.end + segment.shift, reason)
    return segment


def _recover_last(
    storage: Storage, start: int, clean_end: int
) -> tuple[Segment, TornTail | None, bool]:
    empty = Segment(start, start)
    path = full_path(storage, empty)
    with closing(storage.open(empty.name)) as file:
        check_header(file, path, start)
        closed = _closed_properly(file, path, start)
        if closed is not None and closed.end == clean_end:
            return closed, None, True
        size = file.size()
        segment, durable, damage = survey(file, path, empty, size - empty.shift)
        footed = closed is not None and closed.end == segment.end
        if footed:
            damage = None  # what is no frame is the footer
        if segment.end < clean_end:
            reason = f"the log ends at {segment.end}, but it reached {clean_end}"
            raise damage or Corruption(path, size, reason)
        torn = None
        if damage is not None:
            if closed is not None and segment.end < closed.end:
                raise damage
            if _only_zeros(file, damage.offset):
                damage = None
            else:
                torn = _judge(file, damage, segment.end, size)
        if damage is not None or (not footed and segment.end > max(clean_end, durable, start)):
            _save(storage, segment, file)
        return segment, torn, footed


def _save(storage: Storage, segment: Segment, file: ReadFile) -> None:
    """Make the segment durable up to its end, and cut off the rest of the file."""
    size = segment.end + segment.shift
    try:
        replace(storage, segment.name, file.read(0, size))
        storage.sync_directory(DIRECTORY)
    except OSError as error:
        if error.errno not in FULL:
            raise
        with closing(storage.append(segment.name)) as same:
            same.truncate(size)
            same.sync()


def _closed_properly(file: ReadFile, path: str, start: int) -> Segment | None:
    try:
        return read_footer(file, path, start)
    except Corruption:  # never closed, most likely; the frames decide
        return None


def _judge(file: ReadFile, damage: Corruption, position: int, size: int) -> TornTail | None:
    """The torn end that begins with a bad frame; raises if it is damage."""
    rest = file.read(damage.offset, size - damage.offset)
    if rest.startswith(FOOTER_MARKER):  # cut while being closed: no frame is lost
        return None
    witness = find_witness(rest, position)
    if witness is not None:
        raise type(damage)(
            damage.path,
            damage.offset,
            f"{damage.reason}, and it was durable before the frame at position {witness}",
        )
    return TornTail(damage.path, damage.offset, len(rest.rstrip(b"\0")), damage.reason)


def _only_zeros(file: ReadFile, offset: int) -> bool:
    """Whether there is nothing else from the offset to the end of the file."""
    size = file.size()
    while offset < size:
        piece = file.read(offset, min(CHUNK, size - offset))
        if piece.count(0) != len(piece) or not piece:
            return False
        offset += len(piece)
    return True
