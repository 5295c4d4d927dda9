"""Stability: what every member is known to hold, and who has been silent for too long to count.

    ACKS     JSON, mode 0600, replaced atomically:
    {"format": 1, "crc": CRC32, "members": {NODE ID: {"heard_ms": WALL, "durable": {REPLICA: SEQ}}}}

A transaction that every member holds durably is *causally stable*: nobody will ask for it, so the
log may lose it. A member that has not been heard of for `expire_ms` of the wall clock no longer
counts; when it comes back it takes a snapshot, and keeps what it has written. What members last
acknowledged outlives the process: a restart must not forget whom the log is kept for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from murmur.errors import Corruption
from murmur.kvcore import Storage
from murmur.sync.sealed import seal, unseal

ACKS_FILE = "ACKS"
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a member last said it holds durably, and when it was last heard of (wall clock)."""

    heard_ms: int
    durable: Mapping[bytes, int] = field(default_factory=dict)


class Stability:
    """What the members of one group hold. Called by the loop; whoever asks for `changes` writes
    them to the file, in whatever thread."""

    def __init__(self, storage: Storage, expire_ms: int) -> None:
        """What the file says; if it is damaged, nothing: `damage` says what is wrong with it."""
        self.damage: Corruption | None = None
        self.members: dict[bytes, Acknowledged] = {}
        try:
            self.members = _read(storage)
        except Corruption as error:
            self.damage = error
        self._expire_ms = expire_ms
        self._changed = False

    def hear(self, node_id: bytes, durable: Mapping[bytes, int] | None, now_ms: int) -> None:
        """A member is there, and perhaps said what it holds."""
        known = self.members.get(node_id)
        if durable is None:
            durable = known.durable if known is not None else {}
        self.members[node_id] = Acknowledged(now_ms, durable)
        self._changed = True

    def follow(self, members: Iterable[bytes], now_ms: int) -> None:
        """These are the members now: who is new has said nothing yet, who has left is forgotten."""
        wanted = set(members)
        for node_id in wanted - self.members.keys():
            self.members[node_id] = Acknowledged(now_ms)
            self._changed = True
        for node_id in self.members.keys() - wanted:
            del self.members[node_id]
            self._changed = True

    def expired(self, now_ms: int) -> set[bytes]:
        """The members that no longer count."""
        return {
            node_id
            for node_id, member in self.members.items()
            if now_ms - member.heard_ms >= self._expire_ms
        }

    def stable(self, own: Mapping[bytes, int], now_ms: int) -> dict[bytes, int]:
        """What this replica and every member hold, but for those that have expired.

        A member that has never said anything holds nothing.
        """
        gone = self.expired(now_ms)
        stable = {replica: seq for replica, seq in own.items() if seq}
        for node_id, member in self.members.items():
            if node_id not in gone:
                held = member.durable.get
                stable = {replica: min(seq, held(replica, 0)) for replica, seq in stable.items()}
        return {replica: seq for replica, seq in stable.items() if seq}

    def changes(self) -> bytes | None:
        """What is to be written, if anything has changed since the last time."""
        if not self._changed:
            return None
        self._changed = False
        members = {node_id.hex(): _plain(member) for node_id, member in self.members.items()}
        return seal("members", members)


def _read(storage: Storage) -> dict[bytes, Acknowledged]:
    return {
        bytes.fromhex(node_id): Acknowledged(
            member["heard_ms"],
            {bytes.fromhex(replica): seq for replica, seq in member["durable"].items()},
        )
        for node_id, member in unseal(storage, ACKS_FILE, "members").items()
    }


def _plain(member: Acknowledged) -> dict[str, Any]:
    durable = {replica.hex(): seq for replica, seq in member.durable.items()}
    return {"heard_ms": member.heard_ms, "durable": durable}
