"""What lately admitted records said of their predecessors, to know another record by the same dot.

    a:7 is admitted, and names the hash of a:6   ->   whoever sends another a:6 has two faces

An author's newest record is known by its tip; of those before it, the hash stands in the next one.
The newest LIMIT of them are remembered, in memory: what comes twice mostly comes soon.
"""

from __future__ import annotations

LIMIT = 4096


class Successors:
    """Hashes of records, as those after them name them."""

    def __init__(self) -> None:
        self._hashes: dict[tuple[bytes, int], bytes] = {}

    def note(self, replica: bytes, seq: int, previous: bytes) -> None:
        """The record of this dot is admitted, and names its predecessor by this hash."""
        hashes = self._hashes
        hashes[replica, seq - 1] = previous
        if len(hashes) > LIMIT:
            del hashes[next(iter(hashes))]

    def hash_of(self, replica: bytes, seq: int) -> bytes | None:
        """The hash of the admitted record of this dot, if it is remembered."""
        return self._hashes.get((replica, seq))
