"""Saving a log: its frames up to the first bad one, in segments that open.

    closed segments whose frames are all good     as they are
    the first with a bad frame                    what stands before that, as an open segment
    what comes behind                             left out, and told of

A log is a sequence: what follows a lost record may rest on it, so nothing behind a gap is taken.
Zeros behind the last frame were preallocated and are no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from murmur.errors import Corruption
from murmur.kvcore.log_recovery import full_path
from murmur.kvcore.segment import (
    DIRECTORY,
    HEADER_SIZE,
    Segment,
    check_header,
    list_segments,
    read_footer,
    survey,
)
from murmur.kvcore.storage import ReadFile, Storage

Lose = Callable[[str, int, str], None]  # path, offset, reason


class SavedLog(NamedTuple):
    """The positions that were saved, and whether that is all there was."""

    start: int
    end: int
    whole: bool


def save_log(source: Storage, target: Storage, lose: Lose) -> SavedLog | None:
    """Copy the log as far as it is good; None if nothing of it can be read."""
    starts = sorted(list_segments(source))
    target.make_directory(DIRECTORY)
    saved: SavedLog | None = None
    for start in starts:
        segment = Segment(start, start)
        path = full_path(source, segment)
        if saved is not None and (start != saved.end or not saved.whole):
            lose(path, 0, "it comes behind what is lost of the log")
            saved = saved._replace(whole=False)
            continue
        with closing(source.open(segment.name)) as file:
            try:
                check_header(file, path, start)
            except Corruption as error:
                lose(error.path, error.offset, error.reason)
                if saved is None:
                    return None
                saved = saved._replace(whole=False)
                continue
            end, copied, whole = _good(file, path, segment, lose)
            with closing(target.create(segment.name)) as writer:
                writer.write(file.read(0, copied))
                writer.sync()
        saved = SavedLog(start if saved is None else saved.start, end, whole)
    target.sync_directory(DIRECTORY)
    return saved


def _good(file: ReadFile, path: str, segment: Segment, lose: Lose) -> tuple[int, int, bool]:
    """Where the good frames end, how much of the file to copy, and whether nothing is lost."""
    size = file.size()
    try:
        stop = read_footer(file, path, segment.start).end
        footed = True
    except Corruption:
        stop, footed = size - segment.shift, False
    found = survey(file, path, segment, stop)
    end = found.segment.end
    if found.damage is None:
        return end, size if footed else end + segment.shift, True
    rest = file.read(end + segment.shift, size)
    if rest.strip(b"\0"):
        lose(path, found.damage.offset, f"{len(rest):,} bytes of the log: {found.damage.reason}")
        return end, max(HEADER_SIZE, end + segment.shift), False
    return end, end + segment.shift, True
