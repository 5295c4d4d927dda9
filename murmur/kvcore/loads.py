"""Loads: blocks of rows on their way through a transaction into the tree.

    tx.load(block)              rows that nobody has looked at since stay encoded
    replica.commit(tx)          their operations stand in the record as they are
    tree.write(BlockBatch)      cells and entries enter the memtable in one call of the kernel
    tree.load(BlockBatch)       or are read where they are, past the memtable, and become tables

A BlockBatch is a batch like others: whoever does not know it iterates over its entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import msgpack

from murmur.kvcore.kernel import Entry, Memtable
from murmur.kvcore.kernel.blocks import RowBlock, apply_blocks, runs_of
from murmur.kvcore.record import Insertion


class Loaded(NamedTuple):
    """A block, and the stamp and dot of the transaction that inserted it."""

    block: RowBlock
    stamp: int
    replica: bytes
    seq: int


class BlockBatch(Sequence[Entry]):
    """Entries and blocks that enter a tree together."""

    def __init__(self, entries: Sequence[Entry], loads: Sequence[Loaded]) -> None:
        self._entries = entries
        self._loads = loads
        self.size = sum(load.block.size for load in loads)

    def __len__(self) -> int:
        return len(self._entries) + sum(load.block.count for load in self._loads)

    def __iter__(self) -> Iterator[Entry]:
        yield from self._entries
        for block, stamp, replica, seq in self._loads:
            yield from block.pairs(stamp, replica, seq)

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Entry]: ...
    def __getitem__(self, at: int | slice) -> Entry | Sequence[Entry]:
        return list(self)[at]

    def sources(self, sequence: int) -> tuple[list[Memtable], list[Memtable]]:
        """What to read them from, past a memtable: the entries, and the blocks in disjoint runs."""
        memtables = []
        if self._entries:
            memtables.append(Memtable(sequence - 1))
            memtables[0].apply(sequence, self._entries, ())
            memtables[0].freeze(sequence)
        return memtables, list(runs_of(self._loads))

    def apply(self, memtable: Memtable, sequence: int, pinned: Sequence[int]) -> None:
        """Write all of it to a memtable, as Memtable.apply does."""
        apply_blocks(memtable, sequence, self._entries, self._loads, pinned)


def with_blocks(entries: Sequence[Entry], loads: Sequence[Loaded]) -> Sequence[Entry]:
    """The entries, and with them the blocks, if there are any."""
    return BlockBatch(entries, loads) if loads else entries


def insertion_of(body: bytes) -> Insertion:
    """What an operation inserts."""
    fields, *counters = msgpack.unpackb(body, strict_map_key=False)
    return Insertion(fields, counters[0] if counters else {})
