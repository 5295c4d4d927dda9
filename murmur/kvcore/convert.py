"""Conversion: moving a directory's tree from one backend to the other.

    copy      every pair of the old tree into a new one beside it, flushed with the old one's mark
    compare   the new one, opened again, with the old one: mark, and a hash over all pairs
    switch    BACKEND is replaced
    sweep     what the old one left is removed

Replica id, vector and log stay untouched: the mark says where the log goes on, in both. Up to the
switch the old tree is the one that counts, after it the new one, and each is whole; whatever
interrupts, the next opening or conversion removes what does not count.
"""

from __future__ import annotations

import hashlib
import struct
from contextlib import closing
from typing import NamedTuple

from murmur.errors import Corruption, InvalidInput
from murmur.kvcore.backend import (
    SQLITE,
    KeyTree,
    check_backend,
    open_tree,
    record_backend,
    recorded_backend,
    remove_leftovers,
)
from murmur.kvcore.storage import Storage
from murmur.kvcore.store import DIRECTORY

BATCH_BYTES = 1 << 20
MEMTABLE_BYTES = 32 << 20

_LENGTHS = struct.Struct("<II")


class Converted(NamedTuple):
    """What a conversion did; `hash` is of all pairs, as hexadecimal digits."""

    source: str
    target: str
    entries: int
    hash: str


def convert(storage: Storage, target: str) -> Converted | None:
    """Let the tree of this directory be kept by another backend; None if it is already.

    Raises Locked while somebody has the directory open, InvalidInput if there is no replica or the
    storage cannot hold the backend, Corruption if the tree cannot be read to its end, OSError (a
    full disk, above all): then everything is as it was.
    """
    check_backend(target)
    if target == SQLITE:
        from murmur.kvcore.sqlite_tree import on_disk

        on_disk(storage)
    with closing(storage.lock()):
        source = recorded_backend(storage)
        if source is None:
            raise InvalidInput(f"{storage.path} holds no replica")
        remove_leftovers(storage, source)
        if source == target:
            return None
        with closing(open_tree(storage, source, memtable_bytes=MEMTABLE_BYTES)) as old:
            mark = old.mark
            with closing(open_tree(storage, target, memtable_bytes=MEMTABLE_BYTES)) as new:
                _copy(old, new)
            entries, digest = _digest(old)
        with closing(open_tree(storage, target, memtable_bytes=MEMTABLE_BYTES)) as new:
            if new.mark != mark or _digest(new) != (entries, digest):
                reason = f"what was written as {target} reads back as something else"
                raise Corruption(f"{storage.path}/{DIRECTORY}", 0, reason)
        record_backend(storage, target)
        remove_leftovers(storage, target)
    return Converted(source, target, entries, digest)


def _copy(old: KeyTree, new: KeyTree) -> None:
    with old.snapshot() as snapshot:
        batch: list[tuple[bytes, bytes | None]] = []
        size = 0
        for key, value in snapshot.scan(b"", None):
            batch.append((key, value))
            size += len(key) + len(value)
            if size >= BATCH_BYTES:
                new.write(batch)
                batch, size = [], 0
                if new.full():
                    new.rotate(b"")  # not yet what the old one is
        new.write(batch)
    new.flush(old.mark)


def _digest(tree: KeyTree) -> tuple[int, str]:
    """How many pairs it has, and a hash over them."""
    hasher = hashlib.blake2b(digest_size=32)
    entries = 0
    with tree.snapshot() as snapshot:
        for key, value in snapshot.scan(b"", None):
            hasher.update(_LENGTHS.pack(len(key), len(value)) + key + value)
            entries += 1
    return entries, hasher.hexdigest()
