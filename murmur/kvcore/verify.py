"""Deep verification: does the tree hold what the log says, and the entries what the cells say?

    state_hash   BLAKE2b over every cell in key order: equal vectors, equal hashes (law L5)
    verify       the chain of every author, and the whole state computed again (law L1)

Each cell enters the hash as  key length u32 | key | cell length u32 | cell.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from typing import Protocol

from murmur.kvcore.admission import Group
from murmur.kvcore.causality import dominates
from murmur.kvcore.derivation import CellChange, Derivation
from murmur.kvcore.log import ADMITTED, Log
from murmur.kvcore.mark import NO_TIP, Tip
from murmur.kvcore.record import DERIVED, LOCAL, RECORD, Malformed, decode, digest
from murmur.kvcore.storage import Problem
from murmur.kvcore.view import View

_LENGTH = struct.Struct(">I")


class Held(View, Protocol):
    """A snapshot together with the vector that it stands for."""

    @property
    def vector(self) -> Mapping[bytes, int]:
        """What the snapshot has seen."""
        ...


def state_hash(view: View) -> bytes:
    """The hash of everything that replicates, 32 bytes."""
    hasher = hashlib.blake2b(digest_size=32)
    length = _LENGTH.pack
    for key, cell in view.scan(b"", DERIVED):
        hasher.update(length(len(key)) + key + length(len(cell)) + cell)
    return hasher.digest()


def verify(
    log: Log, position: int, view: Held, derivation: Derivation | None, path: str
) -> Iterator[Problem]:
    """Compute the state again from the log up to `position`, and compare it with the view.

    A log that lacks records cannot speak for the cells; then its chains are checked, and the
    entries are derived from the cells that are there.
    """
    cells = _Cells()
    group = Group(cells, {})
    tips: dict[bytes, Tip] = {}
    for at, kind, record in log.read(log.start, position):
        if kind != ADMITTED:
            continue
        try:
            decoded = decode(record)
        except Malformed as error:
            yield Problem(f"{path}/log", at, str(error))
            return
        name = f"{decoded.replica.hex()}:{decoded.seq}"
        tip = tips.get(decoded.replica, NO_TIP)
        if decoded.seq != tip.seq + 1:
            tip = log.floor.predecessor(decoded.replica, decoded.seq, tip) or NO_TIP
        vector = decoded.vector(tip.vector)
        if decoded.seq != tip.seq + 1 or decoded.previous != tip.hash:
            yield Problem(f"{path}/log", at, f"{name} does not follow its author's last record")
        if log.floor:
            tips[decoded.replica] = Tip(decoded.seq, decoded.stamp, digest(record), vector)
            continue
        if not dominates(group.vector, vector):
            yield Problem(f"{path}/log", at, f"{name} stands before something it depends on")
        group.admit(record, decoded, vector)
        tips[decoded.replica] = group.tips[decoded.replica]
        group.records.clear()
    missing = log.floor.missing
    for replica in {*tips, *view.vector}:
        read = tips.get(replica, NO_TIP).seq
        if not read <= view.vector.get(replica, 0) <= max(read, missing.get(replica, 0)):
            yield Problem(f"{path}/tree", 0, "the tree's vector is not that of the log")
            break
    if log.floor:
        pairs = list(view.scan(b"", DERIVED))
        expected = dict(pairs)
        changes = [CellChange(key, None, cell) for key, cell in pairs if key[:1] == RECORD]
        if derivation is not None:
            entries, _ = derivation.derive(derivation.load(cells), changes, cells)
            expected.update((key, value) for key, value in entries if value is not None)
    else:
        batch, _ = group.batch(derivation, derivation.load(cells) if derivation else None, cells)
        expected = {key: value for key, value in batch if value is not None}
    for key, value in view.scan(b"", LOCAL):
        if expected.pop(key, None) != value:
            what = "an entry" if key >= DERIVED else "a cell"
            yield Problem(f"{path}/tree", 0, f"{what} differs from what the log gives: {key.hex()}")
    for key in sorted(expected):
        yield Problem(f"{path}/tree", 0, f"missing, though the log gives it: {key.hex()}")


class _Cells:
    """An empty keyspace: what a replica begins from."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return iter(())
