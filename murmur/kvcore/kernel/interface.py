"""What both kernels share: the records that pass between kernel and policy, and their constants.

The kernel is the hot part of the tree: memtable, tables, merging, and the walk through all of them.
It exists twice, with one interface and one format on the disk: in C++ (`native`), and in Python
(`pure`), which is the specification. Policy (manifest, recovery, what to compact, checkpoints) is
written once, above both.

    Memtable(sequence)               the newest writes, ordered
    Table(storage, name, info, ...)  an sstable open for reading
    ValueFile(storage, name, ...)    large values, pointed to from tables
    Reads(memtables, levels, values) one immutable arrangement of all that can be read
    Latest(reads, sequence)          the arrangement that is published now
    write_tables(sources, output)    flush and merge: files to files
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from murmur.kvcore.storage import AppendFile

Entry: TypeAlias = tuple[bytes, bytes | None]  # None deletes

NO_CODEC, LZ4, ZSTD = range(3)  # on disk: never renumber, never reuse


class Absent(Enum):
    """What a table answers about a key that it does not hold; None would be a tombstone."""

    ABSENT = 0


ABSENT = Absent.ABSENT


class Values(Protocol):
    """A value file that can be read, as both kernels have it."""

    def read(self, offset: int, length: int, crc: int) -> bytes:
        """The value there, of this checksum; Corruption if it is not there."""
        ...


class TableInfo(NamedTuple):
    """What the manifest knows of a table.

    `first` and `last` span all its entries and range tombstones, whose stops are exclusive;
    `references` are (value file, bytes referenced), ascending.
    """

    number: int
    size: int
    entries: int
    tombstones: int
    ranges: int
    max_sequence: int
    checksum: int
    first: bytes
    last: bytes
    references: tuple[tuple[int, int], ...] = ()


class TableOptions(NamedTuple):
    """How tables are written; sizes in bytes."""

    table_bytes: int
    block_bytes: int = 4096
    codec: int = NO_CODEC
    level: int = 3  # of zstd
    bits_per_key: int = 10  # of the filter; 0 writes none
    separate_bytes: int = 0  # values longer than this go to value files; 0: none


@dataclass(slots=True)
class Output:
    """Where `write_tables` writes, and how.

    `create` and `create_values` make the next file and give its number; `pause` is called with
    the bytes written since, after about `pause_bytes` or sooner, and may raise to give up. Values
    in the files of `relocate` are copied into a new value file. Afterwards `value_files` are
    (number, size) of the new ones.
    """

    create: Callable[[], tuple[int, AppendFile]]
    create_values: Callable[[], tuple[int, AppendFile]]
    options: TableOptions
    max_sequence: int
    drop_tombstones: bool = False
    relocate: frozenset[int] = frozenset()
    values: Mapping[int, Values] = field(default_factory=dict)  # by number
    pause: Callable[[int], None] = lambda written: None
    pause_bytes: int = 1 << 20
    value_files: list[tuple[int, int]] = field(default_factory=list)


class Ranges(NamedTuple):
    """Range tombstones: disjoint, ascending; each hides start <= key < stop of older sources."""

    starts: Sequence[bytes]
    stops: Sequence[bytes]
