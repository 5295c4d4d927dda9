"""The members of a group, as `murmur_members` shows them, and where their records are kept.

A record is a register under the member's key: written by the member, replicated with the data.
"""

from __future__ import annotations

from collections.abc import Mapping

from murmur.catalog.keyspace import MEMBERS
from murmur.kvcore import Replica, visible_value

_STOP = MEMBERS[:-1] + bytes([MEMBERS[-1] + 1])


class ReplicatedRegistry:
    """The members' records in a replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def read(self) -> Mapping[bytes, bytes]:
        """All records, by node id."""
        with self._replica.snapshot() as snapshot:
            cells = snapshot.scan(MEMBERS, _STOP)
            return {bytes(key[len(MEMBERS) :]): visible_value(cell) for key, cell in cells}

    def write(self, node_id: bytes, record: bytes) -> None:
        """Replace a node's record."""
        self._replica.put(MEMBERS + node_id, record)
