"""A reserve: room on the disk that is held while there is some, and given up for what frees more.

    RESERVE    zeros, which nobody reads

On a full disk nothing can be deleted: the deletion has to be written down, and a flush or a merge
writes its files before those that they replace can go. So a file of zeros holds a little room. Who
is about to free some removes it, and it is made again when there is room. Nothing of it is synced:
one that a power cut takes is made again, too. Where it cannot be made, there is none.

A file system that compresses zeros away, or copies on write with snapshots, gives less for it.
"""

from __future__ import annotations

import threading

from murmur.kvcore.storage import AppendFile, Storage, cannot_preallocate

RESERVE = "RESERVE"  # the file's name
PIECE_BYTES = 1 << 20  # written at once where nothing can be preallocated


class Reserve:
    """One file that holds room. Safe to use from many threads."""

    def __init__(self, storage: Storage, name: str) -> None:
        """Take over what an earlier session has left."""
        self.name = name
        self._storage = storage
        self._lock = threading.Lock()
        self.bytes = 0
        self.spent = False  # it was given up, and is not held again
        if storage.exists(name):
            file = storage.open(name)
            self.bytes = file.size()
            file.close()

    def hold(self, size: int) -> None:
        """Let it have at least this size; where there is no room for more, it stays as it is."""
        if self.bytes >= size:
            return
        with self._lock:
            try:
                self._grow(size)
            except OSError:
                # Nothing depends on it, and whoever needs the disk will hear of what is wrong.
                if not self.bytes:
                    self._remove()

    def give_up(self) -> bool:
        """Make room by all of it; whether there was any."""
        with self._lock:
            given = self.bytes > 0 and self._remove()
            self.spent = self.spent or given
            return given

    def _grow(self, size: int) -> None:
        storage = self._storage
        there = storage.exists(self.name)  # perhaps of an attempt that was interrupted
        file = storage.append(self.name) if there else storage.create(self.name)
        try:
            try:
                _fill(file, size)
            except OSError:
                file.truncate(self.bytes)
                raise
            self.bytes, self.spent = size, False
        finally:
            file.close()

    def _remove(self) -> bool:
        try:
            if self._storage.exists(self.name):
                self._storage.remove(self.name)
        except OSError:
            return False
        self.bytes = 0
        return True


def _fill(file: AppendFile, size: int) -> None:
    try:
        file.preallocate(size)
    except OSError as error:
        if not cannot_preallocate(error):
            raise
        while (missing := size - file.size()) > 0:
            file.write(bytes(min(PIECE_BYTES, missing)))
