"""View: what every floor above the tree sees of it, be it a snapshot or a transaction's overlay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class View(Protocol):
    """One state of an ordered map of bytes."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if it has none."""
        ...

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < stop (None: no bound), in key order or against it."""
        ...
