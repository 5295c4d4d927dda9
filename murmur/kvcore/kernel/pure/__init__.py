"""The kernel in Python: the readable specification, and what runs where there is no compiler."""

from zlib import crc32

from murmur.kvcore.kernel.pure.cache import BlockCache
from murmur.kvcore.kernel.pure.chunk import Chunk
from murmur.kvcore.kernel.pure.log import Appender
from murmur.kvcore.kernel.pure.memtable import Memtable
from murmur.kvcore.kernel.pure.reads import Latest, Reads
from murmur.kvcore.kernel.pure.table import Table
from murmur.kvcore.kernel.pure.values import ValueFile
from murmur.kvcore.kernel.pure.write import write_tables

__all__ = [
    "Appender",
    "BlockCache",
    "Chunk",
    "Latest",
    "Memtable",
    "Reads",
    "Table",
    "ValueFile",
    "crc32",
    "write_tables",
]
