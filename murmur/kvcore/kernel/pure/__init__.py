"""The kernel in Python: the readable specification, and what runs where there is no compiler."""

from murmur.kvcore.kernel.pure.cache import BlockCache
from murmur.kvcore.kernel.pure.log import Appender
from murmur.kvcore.kernel.pure.memtable import Memtable
from murmur.kvcore.kernel.pure.reads import Latest, Reads
from murmur.kvcore.kernel.pure.table import Table
from murmur.kvcore.kernel.pure.write import write_tables

__all__ = ["Appender", "BlockCache", "Latest", "Memtable", "Reads", "Table", "write_tables"]
