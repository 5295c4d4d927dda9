"""The kernel: native where it was compiled, else in Python, as MURMUR_PURE=1 forces it to be."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
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


def _load() -> ModuleType:
    """The kernel's classes: the compiled ones, unless there are none or they are not wanted."""
    if os.environ.get("MURMUR_PURE", "0") in ("", "0"):
        try:
            return import_module("murmur.kvcore.kernel._native")
        except ModuleNotFoundError as error:
            if error.name != "murmur.kvcore.kernel._native":
                raise
    return import_module("murmur.kvcore.kernel.pure")


_kernel = _load()
# Only the native kernel has these; writer.py knows their keywords.
Writer: Callable[..., Any] | None = getattr(_kernel, "Writer", None)
AuthorWriter: Callable[..., Any] | None = getattr(_kernel, "AuthorWriter", None)
# A thread tells the native writers whether it waits for them to step aside.
eager: Callable[..., None] = getattr(_kernel, "eager", lambda so: None)
# Memory for memtables is cleared ahead of who writes to them.
prepare_memory: Callable[[int], None] = getattr(_kernel, "prepare_memory", lambda bytes_: None)
NATIVE = _kernel.__name__.endswith("._native")

if not TYPE_CHECKING:
    Appender = _kernel.Appender
    BlockCache = _kernel.BlockCache
    Chunk = _kernel.Chunk
    Latest = _kernel.Latest
    Memtable = _kernel.Memtable
    Reads = _kernel.Reads
    Table = _kernel.Table
    ValueFile = _kernel.ValueFile
    crc32 = _kernel.crc32
    write_tables = _kernel.write_tables

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
    "eager",
    "prepare_memory",
    "write_tables",
]
