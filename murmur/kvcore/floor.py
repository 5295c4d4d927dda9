"""The floor of a log: which records it no longer holds, or never held.

    FLOOR   one file, replaced atomically:
    floor  := "MURFLOOR" | version u16 | crc u32 of the body | msgpack body
    body   := [log start, [[replica, seq]*], [[replica, seq, hash, [[replica, seq]*]]*]]

A log that was trimmed lacks its head; one that a snapshot was joined into lacks the transactions
that came with it. For each author the floor is the highest seq that may be missing: whoever holds
all up to there can be sent the rest, and nobody else. `start` is where the log may begin.

Each record's vector is written as a difference from that of its author's record before. Where that
one is missing, a *joint* has its vector, and its hash, which the next record names.

    A 1 2 3 . . . . 8 9        floor {A: 7}, joint (A, 7)

It is written before what it tells of comes true: a floor that is too high costs a peer a snapshot,
one that is too low would leave a gap.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from zlib import crc32

import msgpack

from murmur.errors import ChecksumMismatch, Corruption, UnknownFormat
from murmur.kvcore.causality import Dot, VersionVector
from murmur.kvcore.mark import Tip
from murmur.kvcore.storage import Storage, read_whole, write_atomically

FLOOR_FILE = "FLOOR"
VERSION = 1  # on disk
MAGIC = b"MURFLOOR"

_HEADER = struct.Struct(">8sHI")


@dataclass(frozen=True, slots=True)
class Joint:
    """The missing record before one that is there: its hash and its vector."""

    hash: bytes
    vector: VersionVector


@dataclass(frozen=True, slots=True)
class Floor:
    """What the log of one replica lacks."""

    start: int = 0
    missing: Mapping[bytes, int] = field(default_factory=dict)
    joints: Mapping[Dot, Joint] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether the log lacks anything, so that it cannot speak for the whole state."""
        return bool(self.missing)

    def serves(self, have: VersionVector) -> bool:
        """Whether the log holds all that somebody who has seen this lacks."""
        seen = have.get
        return all(seen(replica, 0) >= seq for replica, seq in self.missing.items())

    def joined(self, tips: Mapping[bytes, Tip]) -> Floor:
        """The floor after a snapshot brought these authors' transactions up to these tips."""
        joints = {(replica, tip.seq): Joint(tip.hash, tip.vector) for replica, tip in tips.items()}
        seqs = {replica: tip.seq for replica, tip in tips.items()}
        return Floor(self.start, {**self.missing, **seqs}, {**self.joints, **joints})

    def trimmed(self, start: int, tips: Mapping[bytes, Tip]) -> Floor:
        """The floor after the log's head, with records up to these tips, was removed."""
        joints = {
            dot: joint
            for dot, joint in self.joints.items()
            if dot[0] not in tips or dot[1] >= tips[dot[0]].seq
        }
        missing = dict(self.missing)
        for replica, tip in tips.items():
            joints[replica, tip.seq] = Joint(tip.hash, tip.vector)
            missing[replica] = max(missing.get(replica, 0), tip.seq)
        return Floor(start, missing, joints)

    def predecessor(self, replica: bytes, seq: int, known: Tip | None) -> Tip | None:
        """The author's record before this one: as it was read, or its joint; None if unknown."""
        if known is not None and known.seq == seq - 1:
            return known
        joint = self.joints.get((replica, seq - 1))
        if joint is not None:
            return Tip(seq - 1, 0, joint.hash, joint.vector)
        return None


def read_floor(storage: Storage) -> Floor:
    """The floor of this directory's log; nothing is missing where there is no file of it."""
    if not storage.exists(FLOOR_FILE):
        return Floor()
    path = f"{storage.path}/{FLOOR_FILE}"
    data = read_whole(storage, FLOOR_FILE)
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        raise Corruption(path, 0, "not a floor: the magic bytes are missing")
    _, version, crc = _HEADER.unpack_from(data)
    if version != VERSION:
        raise UnknownFormat(path, len(MAGIC), f"format {version} is not {VERSION}")
    body = data[_HEADER.size :]
    if crc32(body) != crc:
        raise ChecksumMismatch(path, _HEADER.size, "the floor does not have its checksum")
    start, missing, joints = msgpack.unpackb(body)
    return Floor(
        start,
        dict(missing),
        {(replica, seq): Joint(digest, dict(vector)) for replica, seq, digest, vector in joints},
    )


def write_floor(storage: Storage, floor: Floor) -> None:
    """Replace the floor, durably."""
    joints: Iterable[object] = (
        (*dot, joint.hash, list(joint.vector.items()))
        for dot, joint in sorted(floor.joints.items())
    )
    body: bytes = msgpack.packb((floor.start, sorted(floor.missing.items()), list(joints)))
    write_atomically(storage, FLOOR_FILE, _HEADER.pack(MAGIC, VERSION, crc32(body)) + body)
