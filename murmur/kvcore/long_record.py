"""A record that is too long to be copied about: its bytes in pieces.

    LongRecord((head, b"\\x07...", memoryview of the rows))

It stands for the bytes that its pieces make one after the other, wherever a record is hashed,
written to the log, or asked for its dot. The first piece holds at least the record's header.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias


class LongRecord:
    """The pieces of a record."""

    __slots__ = ("_size", "pieces")

    def __init__(self, pieces: Sequence[bytes | memoryview]) -> None:
        self.pieces = tuple(pieces)
        self._size = sum(map(len, self.pieces))

    @property
    def head(self) -> bytes:
        """The first piece."""
        return bytes(self.pieces[0])

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)


Record: TypeAlias = bytes | LongRecord
