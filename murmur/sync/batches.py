"""Batches of records as the bytes of a frame, made once and sent to every peer.

Peers that are as far as each other get the same records at about the same time. Their batches are
remembered by the dots in them (replica and seq, which name a record once and for all), with the
compressed form beside the plain one, until CACHE_BYTES are exceeded; the oldest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from murmur.sync.compression import compress
from murmur.sync.messages import Records

CACHE_BYTES = 4 << 20
_UNTRIED = b""


class Batch:
    """One batch, encoded."""

    __slots__ = ("_packed", "payload")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self._packed: bytes | None = _UNTRIED

    def packed(self) -> bytes | None:
        """Compressed; None where that saves too little."""
        if self._packed is _UNTRIED:
            self._packed = compress(self.payload)
        return self._packed


class Batches:
    """The batches that were sent lately, by any conversation of the node."""

    def __init__(self, capacity: int = CACHE_BYTES) -> None:
        self.encoded = 0  # how many batches were made
        self._capacity = capacity
        self._size = 0
        self._known: OrderedDict[bytes, Batch] = OrderedDict()

    def batch(self, records: Sequence[bytes]) -> Batch:
        """The records as one payload."""
        dots = b"".join([record[1:17] for record in records])
        found = self._known.get(dots)
        if found is not None:
            self._known.move_to_end(dots)
            return found
        self.encoded += 1
        batch = Batch(Records(records).payload())
        self._known[dots] = batch
        self._size += len(batch.payload)
        while self._size > self._capacity and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._size -= len(oldest.payload)
        return batch
