"""Records in transit over one conversation, in both directions, within the room that was given.

    room = window - (bytes sent - bytes that the peer acknowledged as applied)

A frame of records is cut at BATCH_BYTES; a record larger than a frame may be goes in pieces, which
are put together again as they arrive. What counts are the payloads of RECORDS and PIECE, before
they are compressed. Live records may use all of the room, others leave a part of it to them.

Invariants:
    1. Nothing is sent beyond the room, and nothing beyond it is taken in.
    2. Whole records may come between the pieces of one, but no piece of another; at most one record
       is being put together, of at most MAX_RECORD_BYTES, and memory for it grows only as its bytes
       arrive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from murmur.errors import PeerError, ProtocolViolation
from murmur.kvcore import MAX_RECORD_BYTES
from murmur.sync.batches import Batch, Batches
from murmur.sync.messages import PIECE, RECORDS, Hello, Piece, Records
from murmur.sync.service import Urgency

WINDOW_BYTES = 4 << 20  # records received and not yet applied
BATCH_BYTES = 64 << 10  # a RECORDS frame is cut here
LARGE_BYTES = 256 << 10  # a record beyond this goes in pieces
PIECE_BYTES = 64 << 10
SMALL_BYTES = 1 << 10  # a piece smaller than this waits for more room
LIVE_SHARE = 8  # this part of the window is for live records alone


class Oversized(ProtocolViolation):
    """The first piece of a record that is larger than any record may be."""

    def __init__(self, piece: Piece) -> None:
        super().__init__(f"PIECE: of a record of {piece.total} bytes")
        self.piece = piece


class Outflow:
    """Records on their way to the peer, live ones and others."""

    def __init__(self, batches: Batches | None = None) -> None:
        self.queued_bytes = 0
        self._batches = batches or Batches()
        self._queues: dict[Urgency, deque[bytes]] = {Urgency.LIVE: deque(), Urgency.SYNC: deque()}
        self._offset = 0  # of the record that is being sent in pieces
        self._in_pieces: Urgency | None = None  # the queue that it is the first of
        self._sent_bytes = self._applied_bytes = 0
        self._window = self._single = self._max_record = 0

    def open(self, hello: Hello) -> None:
        """The peer said what it takes."""
        self._window = hello.window
        self._single = min(hello.max_payload, hello.window, LARGE_BYTES)
        self._max_record = hello.max_record

    def __len__(self) -> int:
        """Records that wait for room."""
        return sum(map(len, self._queues.values()))

    @property
    def in_flight(self) -> bool:
        """Whether something was queued or sent that the peer has not applied."""
        return bool(self.queued_bytes) or self._sent_bytes > self._applied_bytes

    def room(self, urgency: Urgency = Urgency.LIVE) -> int:
        """Bytes that may be sent now."""
        kept = 0 if urgency is Urgency.LIVE else self._window // LIVE_SHARE
        return self._window - kept - (self._sent_bytes - self._applied_bytes)

    def put(self, records: Sequence[bytes], urgency: Urgency = Urgency.LIVE) -> None:
        """Queue records. PeerError if the peer takes no record of such a size."""
        largest = max(map(len, records), default=0)
        if largest > self._max_record:
            over = f"{largest} bytes, the peer takes {self._max_record}"
            raise PeerError(f"a transaction has {over}")
        self._queues[urgency].extend(records)
        self.queued_bytes += sum(map(len, records))

    def clear(self) -> None:
        """Forget what waits: the conversation has ended."""
        for queue in self._queues.values():
            queue.clear()
        self.queued_bytes = 0

    def acknowledge(self, applied_bytes: int) -> None:
        """The peer has applied so many bytes in all."""
        if not self._applied_bytes <= applied_bytes <= self._sent_bytes:
            raise ProtocolViolation(f"ACK of {applied_bytes} bytes, sent {self._sent_bytes}")
        self._applied_bytes = applied_bytes

    def next(self, urgency: Urgency) -> tuple[int, Batch] | None:
        """Type and payload of the next frame of this class that fits."""
        queue = self._queues[urgency]
        if not queue:
            return None
        room = self.room(urgency)
        if 8 + len(queue[0]) > self._single:
            if self._in_pieces not in (None, urgency):
                return None
            return self._next_piece(urgency, min(self._single, PIECE_BYTES, room) - 4)
        size, limit = 4, min(self._single, room)
        batch: list[bytes] = []
        while queue and size + 4 + len(queue[0]) <= limit and (not batch or size < BATCH_BYTES):
            record = queue.popleft()
            size += 4 + len(record)
            batch.append(record)
        if not batch:
            return None
        self.queued_bytes -= size - 4 - 4 * len(batch)
        self._sent_bytes += size
        return RECORDS, self._batches.batch(batch)

    def _next_piece(self, urgency: Urgency, limit: int) -> tuple[int, Batch] | None:
        queue = self._queues[urgency]
        record = queue[0]
        part = record[self._offset : self._offset + limit] if limit > 0 else b""
        if not part or (len(part) < SMALL_BYTES and self._offset + len(part) < len(record)):
            return None
        self._sent_bytes += 4 + len(part)
        self._offset += len(part)
        self.queued_bytes -= len(part)
        self._in_pieces = urgency
        if self._offset == len(record):
            queue.popleft()
            self._offset, self._in_pieces = 0, None
        return PIECE, Batch(Piece(len(record), part).payload())


class Inflow:
    """Records on their way from the peer to the replica."""

    def __init__(self) -> None:
        self.applied_bytes = 0
        self._received_bytes = 0
        self._assembly = bytearray()
        self._total = 0

    def applied(self, size: int) -> None:
        """So many bytes more were applied: the peer may send as many."""
        self.applied_bytes += size

    def receive(self, message: Records | Piece, size: int) -> Sequence[bytes]:
        """Complete records; `size` is what the message counts against the window."""
        self._received_bytes += size
        if self._received_bytes - self.applied_bytes > WINDOW_BYTES:
            raise ProtocolViolation("records beyond the window")
        if isinstance(message, Piece):
            return self._receive_piece(message, size)
        return message.records

    def _receive_piece(self, piece: Piece, size: int) -> Sequence[bytes]:
        if not self._assembly:
            if piece.total > MAX_RECORD_BYTES:
                raise Oversized(piece)
            self._total = piece.total
        self._assembly += piece.part
        if piece.total != self._total or len(self._assembly) > piece.total:
            raise ProtocolViolation("PIECE: does not fit the pieces before it")
        if len(self._assembly) < piece.total:
            # The window must not stop a record that is larger; the record limit bounds this.
            self.applied(size)
            return ()
        record = bytes(self._assembly)
        self._assembly = bytearray()
        return (record,)
