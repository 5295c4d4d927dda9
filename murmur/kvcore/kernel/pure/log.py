"""The appender: frames at the end of the open segment, and what is known of them.

    appender = Appender(file, segment, durable=0, block_bytes=1 << 20)
    appender.limit = segment.start + 4096        # room, in positions of the log
    appender.append(ADMITTED, [record])          # the new end, or -1: no room, or the file is not
                                                 # as long as it should be

The owner makes room and tries again. Here an append is one write. The native twin stores into the
file's first bytes instead, when the owner has reserved them and calls `map`.

Invariant: end and segment change together, when all frames have been handed over: an append that
raises or is interrupted has not happened, though its bytes may stand behind the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from murmur.kvcore.frame import ADMITTED, FRAME_SIZE, MAX_RECORD, encode
from murmur.kvcore.long_record import Record
from murmur.kvcore.segment import SMALLEST_RECORD, Segment, ranges_of
from murmur.kvcore.storage import AppendFile


class Appender:
    """Appends frames to the open segment. One thread appends at a time."""

    __slots__ = ("_block_bytes", "durable", "file", "limit", "segment")

    mapped = False  # whether appending stores into the mapped file

    def __init__(
        self, file: AppendFile, segment: Segment, *, durable: int, block_bytes: int
    ) -> None:
        self.file = file
        self.segment = segment  # up to the end
        self.limit = segment.end  # there is room up to this position
        self.durable = durable  # what frames are to say of the log
        self._block_bytes = block_bytes

    @property
    def end(self) -> int:
        """The position behind the last frame."""
        return self.segment.end

    def map(self, size: int) -> bool:
        """Store into so many bytes of the file from now on, which are there; False: cannot."""
        return False

    def append(self, kind: int, given: Sequence[Record]) -> int:
        """Append the records; the new end, or -1 when the owner has to make room first.

        A LongRecord comes alone.
        """
        segment = self.segment
        records = list(map(bytes, given))
        lengths = list(map(len, records))
        assert max(lengths) <= MAX_RECORD, max(lengths)
        assert kind != ADMITTED or min(lengths) >= SMALLEST_RECORD, min(lengths)
        end = segment.end + sum(lengths) + FRAME_SIZE * len(lengths)
        if end > self.limit or self.file.tell() != segment.end + segment.shift:
            return -1
        ranges = ranges_of(records) if kind == ADMITTED else {}
        self.file.write(encode(kind, self.durable, segment.end, records))
        self.segment = segment.extended(end, ranges, self._block_bytes)
        return end

    def close(self) -> None:
        """Append no more, and let go of the mapping; the file is the owner's to close."""
        self.limit = 0
