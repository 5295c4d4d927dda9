"""Value files: large values, which tables only point to, so that merging does not copy them.

    file      := "MURMRVAL" | version u16 | 6 zero bytes | value*
    reference := value file number u64 | offset u64 | length u32 | crc u32, in a block (block.py)

A flush moves values above a limit into one, a merge copies those of files that are mostly garbage
into another. Nothing in the file says where a value begins: that, and its checksum, stand with the
references, and how much of a file is still referenced stands with the tables.

Invariant: `read` gives what was written, or raises Corruption with path and offset.
After WiscKey (Lu et al., FAST 2016) and RocksDB's BlobDB.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from zlib import crc32

from murmur.errors import ChecksumMismatch, Corruption, UnknownFormat
from murmur.kvcore.kernel.pure.block import Reference
from murmur.kvcore.kernel.pure.opened import OpenedFile
from murmur.kvcore.storage import AppendFile, Problem, Storage

VERSION = 1  # on disk
MAGIC = b"MURMRVAL"

_HEADER = struct.Struct("<8sH6x")
_WRITE_BYTES = 256 << 10  # handed to the operating system at once


class ValueWriter:
    """Writes one value file."""

    def __init__(self, file: AppendFile, number: int) -> None:
        self._file = file
        self._number = number
        header = _HEADER.pack(MAGIC, VERSION)
        self._buffer = [header]
        self._buffered = self.size = len(header)

    def add(self, value: bytes) -> Reference:
        """Append a value."""
        reference = Reference.pack(self._number, self.size, len(value), crc32(value))
        self._buffer.append(value)
        self._buffered += len(value)
        self.size += len(value)
        if self._buffered >= _WRITE_BYTES:
            self._flush()
        return reference

    def finish(self) -> tuple[int, int]:
        """Make the file durable (its name is the caller's affair), close it; number and size."""
        self._flush()
        self._file.sync()
        self._file.close()
        return self._number, self.size

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self._file.write(data)


class ValueFile(OpenedFile):
    """A value file open for reading, by any number of threads."""

    def __init__(self, storage: Storage, name: str, number: int, size: int) -> None:
        """Open the file; FileNotFoundError or Corruption if it is not there or has another size."""
        super().__init__(storage, name, size)
        self.number = number
        self.size = size

    def read(self, offset: int, length: int, crc: int) -> bytes:
        """The value that a reference describes."""
        if offset < _HEADER.size or offset + length > self.size:
            raise Corruption(self.path, offset, f"a reference to {length} bytes, past the end")
        data = self._read(offset, length)
        if crc32(data) != crc:
            raise ChecksumMismatch(self.path, offset, "the value does not have its checksum")
        return data

    def check(self) -> Iterator[Problem]:
        """Read the header; what is wrong, if anything is. `Table.check` reads the values."""
        try:
            magic, version = _HEADER.unpack(self._read(0, _HEADER.size))
            if magic != MAGIC:
                raise Corruption(self.path, 0, "not a value file: the magic bytes are missing")
            if version != VERSION:
                reason = f"value file format {version}, this release reads {VERSION}"
                raise UnknownFormat(self.path, len(MAGIC), reason)
        except Corruption as error:
            yield Problem(error.path, error.offset, error.reason)
