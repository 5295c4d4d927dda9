"""A file of known size, open for reading by any number of threads: what tables and value files are.

Invariant: `_read` gives as many bytes as it was asked for, or raises Corruption with path and
offset; after `close` it raises Closed.
"""

from __future__ import annotations

import weakref

from murmur.errors import Closed, Corruption
from murmur.kvcore.storage import Storage


class OpenedFile:
    """One file of a tree."""

    def __init__(self, storage: Storage, name: str, size: int) -> None:
        """Open the file; FileNotFoundError or Corruption if it is not there or has another size."""
        self.name = name
        self.path = f"{storage.path}/{name}"
        self._closed = False
        self._file = storage.open(name)
        # The descriptor lives as long as somebody can read through it, even if the tree is closed.
        weakref.finalize(self, self._file.close).atexit = False
        found = self._file.size()
        if found != size:
            raise Corruption(self.path, min(found, size), f"{found} bytes long instead of {size}")

    def close(self) -> None:
        """Read no more from the disk: what is not in memory raises Closed."""
        self._closed = True

    def _read(self, offset: int, length: int) -> bytes:
        if self._closed:
            raise Closed(f"{self.path}: the tree is closed")
        data = self._file.read(offset, length)
        if len(data) != length:
            raise Corruption(self.path, offset, f"{len(data)} bytes are left of {length}")
        return data
