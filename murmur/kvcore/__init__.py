"""The replicated key-value core: one log, the tree derived from it, and the cells that merge."""

from murmur.kvcore.backend import check_backend
from murmur.kvcore.backup import Backup, Generation
from murmur.kvcore.causality import Dot, VersionVector, format_vector
from murmur.kvcore.cell import (
    Life,
    Sibling,
    decode_record,
    decode_register,
    visible_fields,
    visible_value,
    winner,
)
from murmur.kvcore.clock import (
    Clock,
    HybridClock,
    ManualClock,
    SystemClock,
    check_timeout,
    stamp_datetime,
    stamp_ms,
)
from murmur.kvcore.dead_letters import DeadLetter, Unappliable
from murmur.kvcore.derivation import CellChange, Derivation
from murmur.kvcore.durability import check_durability
from murmur.kvcore.engine import Engine, WriteBatch
from murmur.kvcore.export import Chunk, Export
from murmur.kvcore.fingerprint import (
    CELLS_STOP,
    Fingerprint,
    Measured,
    Part,
    measure,
    partition,
)
from murmur.kvcore.incoming import Applied
from murmur.kvcore.ingest import TableBuilder, write_sstable
from murmur.kvcore.log import Log
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.options import Options
from murmur.kvcore.parking import Delivery, ParkedRecord
from murmur.kvcore.process import Handle
from murmur.kvcore.record import (
    DELETE,
    DERIVED,
    LOCAL,
    MAX_RECORD_BYTES,
    PUT,
    RECORD,
    REGISTER,
    Atom,
    Operation,
)
from murmur.kvcore.repair import repair
from murmur.kvcore.replica import Replica
from murmur.kvcore.snapshot import Snapshot
from murmur.kvcore.spool import Spool
from murmur.kvcore.storage import DiskStorage, Problem, Storage, read_whole, write_atomically
from murmur.kvcore.touched import Narrowed, common, touched
from murmur.kvcore.transaction import Transaction
from murmur.kvcore.view import View

__all__ = [
    "CELLS_STOP",
    "DELETE",
    "DERIVED",
    "LOCAL",
    "MAX_RECORD_BYTES",
    "PUT",
    "RECORD",
    "REGISTER",
    "Applied",
    "Atom",
    "Backup",
    "CellChange",
    "Chunk",
    "Clock",
    "DeadLetter",
    "Delivery",
    "Derivation",
    "DiskStorage",
    "Dot",
    "Engine",
    "Export",
    "Fingerprint",
    "Generation",
    "Handle",
    "HybridClock",
    "Life",
    "Log",
    "ManualClock",
    "Measured",
    "MemoryStorage",
    "Narrowed",
    "Operation",
    "Options",
    "ParkedRecord",
    "Part",
    "Problem",
    "Replica",
    "Sibling",
    "Snapshot",
    "Spool",
    "Storage",
    "SystemClock",
    "TableBuilder",
    "Transaction",
    "Unappliable",
    "VersionVector",
    "View",
    "WriteBatch",
    "check_backend",
    "check_durability",
    "check_timeout",
    "common",
    "decode_record",
    "decode_register",
    "format_vector",
    "measure",
    "partition",
    "read_whole",
    "repair",
    "stamp_datetime",
    "stamp_ms",
    "touched",
    "visible_fields",
    "visible_value",
    "winner",
    "write_atomically",
    "write_sstable",
]
