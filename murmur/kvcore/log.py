"""The log: a replica's transactions in the order of admission, once, for recovery and for peers.

    log = Log.open(storage)
    end = log.append(ADMITTED, [record, record])    # with the operating system: survives a kill
    log.sync(end)                                   # on the disk: survives a power cut
    for position, record in log.missing({replica: 17}):
        ...

Positions count the bytes of frames (frame.py), from file to file without gaps (segment.py); only
positions that append and the readers return begin a frame. A record begins with a version byte, its
replica (8 bytes) and its seq (u64, big-endian): the log needs to know no more of it. (A BATCH is
the payload of an engine that has no peers, and nothing is known of it.)

Where the storage preallocates, the open segment has zeros behind its last frame, twice as many each
time; the native kernel maps them and stores frames there, which takes 0.2 µs where a write takes
0.7, and a sync of one frame takes 80 µs where it takes 125 in a file that grows. The zeros are cut
off when the segment is closed. Segments are not recycled: a sync of a mapped old file takes 500 µs.

Some room is held in a file of its own, for deletions on a full disk (reserve.py).

Invariants:
    1. What is behind `end` in the file is never read, and is cut off before anything is appended,
       but for zeros: an append that was interrupted anywhere has either happened or not.
    2. A batch lies in one segment, so that it can be cut back; a segment is as large as its last
       batch makes it, and a batch that does not fit begins a new one.
    3. A cut is synced before the next append, so that a crash cannot bring back what was cut.
    4. After a sync has failed nothing is written any more: what is on the disk is unknown.
    5. Readers work on an immutable description of the segments, and need no lock beside writers.

Locks are taken in this order: `_trimming`, `_writing` (append, rewind, close), `_syncing` (whatever
syncs). An append takes only the second: it waits neither for another's sync nor for a removal.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from murmur.errors import Closed, Corruption, InvalidInput, Poisoned, Trimmed
from murmur.kvcore import log_reading
from murmur.kvcore import segment as segments_of
from murmur.kvcore.floor import Floor
from murmur.kvcore.frame import ADMITTED, BATCH, FRAME_SIZE, PARKED
from murmur.kvcore.group_commit import GroupCommit
from murmur.kvcore.kernel import Appender
from murmur.kvcore.log_recovery import TornTail, full_path, recover
from murmur.kvcore.long_record import Record
from murmur.kvcore.reserve import RESERVE, Reserve
from murmur.kvcore.segment import (
    DIRECTORY,
    HEADER_SIZE,
    Segment,
    create_segment,
    encode_footer,
)
from murmur.kvcore.storage import FULL, AppendFile, Problem, ReadFile, Storage, cannot_preallocate

__all__ = ["ADMITTED", "BATCH", "PARKED", "Log", "TornTail"]

SEGMENT_BYTES = 64 << 20
RESERVED_BYTES = 16 << 10  # held for deletions on a full disk
RENEWED = 64  # a segment that is filled to a smaller part than 1/64 is not worth another file
PREALLOCATED = 64 << 10  # at first; then twice what is used


class Log:
    """The log of one storage. Appending, syncing and reading are safe from any thread."""

    def __init__(
        self,
        storage: Storage,
        segments: tuple[Segment, ...],
        *,
        segment_bytes: int,
        torn: TornTail | None,
        footed: bool,
    ) -> None:
        """Only for `Log.open`."""
        self.torn = torn
        self.floor = Floor()  # which records it lacks; replaced as a whole by its owner
        self._storage = storage
        self._segment_bytes = segment_bytes
        self._trimming = threading.Lock()
        self._writing = threading.Lock()
        self._commits = GroupCommit()
        self._syncing = self._commits.syncing
        self._durable = segments[-1].end
        self._preallocates = storage.preallocates
        self._reserve = Reserve(storage, RESERVE)
        # One tuple, replaced as a whole: closed segments, and who appends to the open one.
        self._state: tuple[tuple[Segment, ...], Appender] = (
            segments[:-1],
            self._appender(storage.append(segments[-1].name), segments[-1]),
        )
        self._footed = footed  # the open segment's file has a footer behind the frames
        self._rolling = False  # the open segment is to be closed before anything is appended
        self._poison: str | None = None
        self._closed = False
        self._hold_reserve()

    @classmethod
    def open(
        cls,
        storage: Storage,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        clean_end: int | None = None,
        trimmed: int = 0,
        floor: Floor | None = None,
    ) -> Log:
        """Open or create the log; raises Corruption rather than drop what was durable.

        `clean_end`: all before this position is known to be durable, so it must be there.
        `trimmed`: what lies before this position may be gone. `floor` says which records are.
        """
        recovered = recover(storage, clean_end=clean_end or 0, trimmed=trimmed)
        log = cls(
            storage,
            recovered.segments,
            segment_bytes=segment_bytes,
            torn=recovered.torn,
            footed=recovered.footed,
        )
        if floor is not None:
            log.floor = floor
        return log

    @property
    def start(self) -> int:
        """The position of the first frame that is still there."""
        return self.segments[0].start

    @property
    def end(self) -> int:
        """The position behind the last frame."""
        return self._state[1].end

    @property
    def appender(self) -> Appender:
        """Who appends to the open segment, for a native writer; changed by whatever makes room."""
        return self._state[1]

    @property
    def durable(self) -> int:
        """All before this position survives a power cut."""
        return self._durable

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What is known of the segments, the open one last."""
        closed, appender = self._state
        return (*closed, appender.segment)

    # -- writing

    def append(self, kind: int, records: Sequence[Record], *, deleting: bool = False) -> int:
        """Hand records to the operating system in one write; returns the new end.

        A LongRecord comes alone. After an OSError (a full disk) nothing was appended, and the log
        stays usable. What only deletes may use the room that is held in reserve.
        """
        if not records:
            return self.end
        with self._writing:
            if self._closed or self._poison is not None:
                self._check_usable()
            try:
                return self._append(kind, records, deleting=deleting)
            except OSError as error:
                if not deleting or error.errno not in FULL or not self._reserve.give_up():
                    raise
                return self._append(kind, records, deleting=deleting)

    def sync(self, position: int | None = None) -> int:
        """Wait until all before a position (default: the end) is durable; returns how much is.

        Threads that wait share syncs: the first one syncs for all that has been appended by then.
        """
        self._check_usable()
        target = self.end if position is None else position
        while self._durable < target:
            if self._syncing.locked():
                self._commits.wait()
                self._check_usable()
                continue
            with self._syncing:
                self._check_usable()
                if self._durable < target:  # else the one before has synced for this one
                    self._commits.gather()
                    appender = self._state[1]
                    end = appender.end
                    self._sync_file(appender.file)
                    self._set_durable(end)
            self._commits.wake()
        return self._durable

    def rewind(self, end: int) -> None:
        """Cut off what was appended last, back to a position that append has returned.

        InvalidInput if it is durable already, so that it has to be completed instead.
        """
        with self._writing:
            self._check_usable()
            closed, appender = self._state
            assert end <= appender.end, (end, appender.end)
            if end == appender.end and not self._has_more(appender):
                return
            with self._syncing:
                if end < self._durable:
                    raise InvalidInput(f"the log is durable to {self._durable}, behind {end}")
                segment = log_reading.shortened(self._storage, appender.segment, end)
                appender.close()  # what it has room for is being cut off
                self._state = (closed, self._appender(appender.file, segment))
            self._cut()

    def trim(self, position: int) -> None:
        """Remove the closed segments of which nobody needs anything: those before the position.

        Others append meanwhile: to remove a large file takes the system tens of milliseconds.
        """
        with self._trimming:  # from the oldest on, whoever else trims
            with self._writing:
                self._check_usable()
                closed, appender = self._state
                gone = [segment for segment in closed if segment.end <= position]
                if gone:
                    self._state = (closed[len(gone) :], appender)
            for segment in gone:
                self._storage.remove(segment.name)
            with self._writing:
                self._hold_reserve()

    def with_room(self, job: Callable[[], None]) -> None:
        """Do what makes room, if need be once more, when preallocated room has been given back.

        That helps, as what was deleted may make a flush smaller than that room is.
        """
        try:
            job()
        except OSError as error:
            if error.errno not in FULL:
                raise
            with self._writing:
                self._check_usable()
                appender = self._state[1]
                if appender.file.size() > appender.end + appender.segment.shift:
                    self._cut()
            job()

    def renew(self) -> None:
        """Begin a new segment if the open one is large, so that a trimming can remove that one.

        Without room for it (ENOSPC) the open one stays, until there is some.
        """
        with self._writing:
            self._check_usable()
            segment = self._state[1].segment
            if (segment.end - segment.start) * RENEWED >= self._segment_bytes:
                try:
                    self._roll()
                except OSError as error:
                    if error.errno not in FULL:
                        raise

    def close(self) -> None:
        """Let go of the files. Does not sync, but what is synced opens faster next time."""
        with self._writing, self._syncing:
            if self._closed:
                return
            self._closed = True
            appender = self._state[1]
            segment, file = appender.segment, appender.file
            more = self._has_more(appender)
            appender.close()
            try:
                if self._poison is None and not self._footed:
                    wanted = segment.end + segment.shift
                    if file.size() != wanted or file.tell() != wanted:
                        self._truncate(file, segment)
                        if more:
                            self._sync_file(file)
                            self._durable = segment.end
                    if self._durable == segment.end > segment.start:
                        _leave_footer(segment, file)
            finally:
                file.close()

    # -- reading

    def read(self, start: int, stop: int | None = None) -> Iterator[tuple[int, int, bytes]]:
        """(position after, kind, record) of the frames from start to stop (default: the end now).

        Beside writers, stop at `durable` or before: what is behind it may still be rewound. Raises
        Trimmed, at once or on the way, if what it reads is being removed.
        """
        self._check_open()
        segments = self.segments
        end = segments[-1].end
        if start < segments[0].start:
            raise Trimmed(f"the log of {self._storage.path} begins at {segments[0].start} by now")
        assert start <= end, (segments[0].start, start, end)
        stop = end if stop is None else min(stop, end)
        return log_reading.frames(self._storage, self._opened, segments, start, stop)

    def missing(
        self, have: Mapping[bytes, int], stop: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """(position after, record) of the admitted records with seq > have.get(replica, 0).

        In log order, up to stop (as in `read`); blocks without any are not read. Raises Trimmed,
        at once or on the way, if some of them are not in the log: below the floor.
        """
        self._check_open()
        segments = self.segments
        self._check_served(have)
        end = segments[-1].end
        stop = end if stop is None else min(stop, end)
        return log_reading.missing(self._storage, self._opened, segments, dict(have), stop)

    def find(self, replica: bytes, seq: int) -> bytes | None:
        """The admitted record of this dot; None if it is not in the log."""
        self._check_open()
        return log_reading.find(self._storage, self._opened, self.segments, replica, seq)

    def check(self) -> Iterator[Problem]:
        """Read every byte, and tell what is wrong; not to be run beside `rewind`."""
        self._check_open()
        yield from log_reading.check(self._storage, self.segments)

    def _check_served(self, have: Mapping[bytes, int]) -> None:
        if not self.floor.serves(have):
            raise Trimmed(f"the log of {self._storage.path} lacks some of what was asked for")

    def _opened(self, segment: Segment) -> ReadFile:
        try:
            return self._storage.open(segment.name)
        except FileNotFoundError:
            if segment.start >= self.start:
                raise
            raise Trimmed(f"{segment.name} of {self._storage.path} was removed meanwhile") from None

    # -- the parts of writing

    def _append(self, kind: int, records: Sequence[Record], *, deleting: bool) -> int:
        end = self._try_append(kind, records)
        if end < 0:
            if not deleting and not self._hold_reserve():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._storage.path)
            self._make_room(sum(map(len, records)) + FRAME_SIZE * len(records))
            end = self._try_append(kind, records)
            assert end >= 0, "there is room now"
        return end

    def _hold_reserve(self) -> bool:
        """Whether it is held, or never was needed: what it gave is for deletions."""
        self._reserve.hold(min(RESERVED_BYTES, self._segment_bytes))
        return not self._reserve.spent

    def _try_append(self, kind: int, records: Sequence[Record]) -> int:
        try:
            return self._state[1].append(kind, records)
        except OSError:
            self._cut()
            raise

    def _make_room(self, size: int) -> None:
        """See to it that this many bytes can be appended, if need be to another segment."""
        appender = self._state[1]
        frames = appender.end - appender.segment.start
        if self._rolling or (frames > 0 and frames + size > self._segment_bytes):
            self._roll()
        elif self._has_more(appender) or self._footed:
            self._cut()
        closed, appender = self._state
        segment = appender.segment
        self._check_size(appender.file, segment)
        needed = segment.end + size
        if not self._preallocates:
            appender.limit = max(needed, segment.start + self._segment_bytes)
            return
        used = segment.end + segment.shift
        room = min(max(PREALLOCATED, 2 * used), HEADER_SIZE + self._segment_bytes)
        room = max(room, needed + segment.shift)
        try:
            try:
                appender.file.preallocate(room)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                room = needed + segment.shift
                appender.file.preallocate(room)
        except OSError as error:
            if not cannot_preallocate(error):
                raise
            self._preallocates = False
            # Another handle, which appends in the plain way.
            appender.close()
            file = self._storage.append(segment.name)
            self._state = (closed, self._appender(file, segment))
            self._state[1].limit = max(needed, segment.start + self._segment_bytes)
            appender.file.close()
        else:
            appender.map(max(room, HEADER_SIZE + self._segment_bytes))
            appender.limit = room - segment.shift

    def _appender(self, file: AppendFile, segment: Segment) -> Appender:
        return Appender(file, segment, durable=self._durable, block_bytes=segments_of.BLOCK_BYTES)

    def _set_durable(self, position: int) -> None:
        self._durable = position
        self._state[1].durable = position

    def _has_more(self, appender: Appender) -> bool:
        """Whether there is something else than zeros behind the end."""
        return not appender.mapped and appender.file.tell() != (
            appender.end + appender.segment.shift
        )

    def _roll(self) -> None:
        """Close the open segment and begin another. Interrupted anywhere, it is simply repeated."""
        with self._syncing:
            closed, appender = self._state
            segment, file = appender.segment, appender.file
            if segment.end > segment.start:
                self._rolling = True
                self._footed = False
                appender.close()
                segment = segment.sealed()
                self._truncate(file, segment)
                self._sync_file(file)
                self._set_durable(segment.end)
                file.write(encode_footer(segment))
                self._sync_file(file)
                following = Segment(segment.end, segment.end)
                create_segment(self._storage, following.start)
                try:
                    self._storage.sync_directory(DIRECTORY)
                except OSError as error:
                    self._fail(error)
                new_file = self._storage.append(following.name)
                self._state = ((*closed, segment), self._appender(new_file, following))
                file.close()
            self._rolling = False

    def _cut(self) -> None:
        """Cut off what is behind the end, so that no crash brings it back."""
        with self._syncing:
            closed, appender = self._state
            segment = appender.segment
            self._footed = False
            appender.close()
            self._truncate(appender.file, segment)
            self._sync_file(appender.file)
            self._set_durable(segment.end)
            self._state = (closed, self._appender(appender.file, segment))

    def _truncate(self, file: AppendFile, segment: Segment) -> None:
        size, wanted = self._check_size(file, segment), segment.end + segment.shift
        if size > wanted or file.tell() != wanted:
            try:
                file.truncate(wanted)
            except OSError as error:
                self._fail(error)

    def _check_size(self, file: AppendFile, segment: Segment) -> int:
        size, least = file.size(), segment.end + segment.shift
        if size < least:
            path = full_path(self._storage, segment)
            raise Corruption(path, size, f"the file shrank from {least} bytes")
        return size

    def _sync_file(self, file: AppendFile) -> None:
        try:
            file.sync()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        self._poison = (
            f"{self._storage.path}: the log could not be synced or cut back ({error}), so what is "
            "durable is unknown: close it and open it again"
        )
        raise Poisoned(self._poison) from error

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"the log of {self._storage.path} is closed")

    def _check_usable(self) -> None:
        self._check_open()
        if self._poison is not None:
            raise Poisoned(self._poison)


def _leave_footer(segment: Segment, file: AppendFile) -> None:
    """Spare the next opening from reading the frames. Optional: on a full disk, leave none."""
    with suppress(OSError):
        try:
            file.write(encode_footer(segment))
            file.sync()
        except OSError:
            file.truncate(segment.end + segment.shift)
