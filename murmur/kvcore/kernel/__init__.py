"""The kernel: native where it was compiled, else in Python, as MURMUR_PURE=1 forces it to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from murmur.kvcore.kernel.interface import (
    ABSENT,
    LZ4,
    NO_CODEC,
    ZSTD,
    Absent,
    Entry,
    Output,
    Ranges,
    TableInfo,
    TableOptions,
)
from murmur.kvcore.kernel.pure import (
    Appender,
    BlockCache,
    Chunk,
    Latest,
    Memtable,
    Reads,
    Table,
    ValueFile,
    crc32,
    write_tables,
)

NATIVE = False
# Only the native kernel has these; writer.py knows their keywords.
Writer: Callable[..., Any] | None = None
AuthorWriter: Callable[..., Any] | None = None

__all__ = [
    "ABSENT",
    "LZ4",
    "NATIVE",
    "NO_CODEC",
    "ZSTD",
    "Absent",
    "Appender",
    "AuthorWriter",
    "BlockCache",
    "Chunk",
    "Entry",
    "Latest",
    "Memtable",
    "Output",
    "Ranges",
    "Reads",
    "Table",
    "TableInfo",
    "TableOptions",
    "ValueFile",
    "Writer",
    "crc32",
    "write_tables",
]
