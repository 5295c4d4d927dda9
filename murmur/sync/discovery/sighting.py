"""A sighting: a node of this group was seen somewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

MARK_BYTES = 10


@dataclass(frozen=True, slots=True)
class Sighting:
    """Who was seen, where it can be dialed, and by what means: mdns, host, introduced, dialed."""

    node_id: bytes
    addresses: tuple[str, ...]
    via: str


Report = Callable[[Sighting], None]


def group_mark(group: str) -> str:
    """What stands for a group's name in public: it tells members apart, and not the name."""
    return hashlib.sha256(b"murmur/1 discovery" + group.encode()).digest()[:MARK_BYTES].hex()
