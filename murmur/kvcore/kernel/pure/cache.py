"""The cache of decoded blocks: least recently used first out, in two generations.

    get     from the young generation, else from the old one, and then it is young again
    put     into the young; when that holds half of the budget it becomes the old one,
            and what the old one still held, untouched for a whole generation, is dropped

So a hit is one dict lookup without a lock, where a strict LRU list would cost a lock and a move.

Invariant: the weights of all blocks held are within the budget, but for the last one put.
"""

from __future__ import annotations

import threading

from murmur.kvcore.kernel.pure.block import Block


class BlockCache:
    """Decoded blocks by number; shared by the tables and threads of a tree."""

    def __init__(self, budget_bytes: int) -> None:
        self._half = budget_bytes // 2
        self._young: dict[int, Block] = {}
        self._old: dict[int, Block] = {}
        self._weight = self._old_weight = 0
        self._lock = threading.Lock()

    @property
    def weight(self) -> int:
        """About how many bytes it holds; a block in both generations counts twice."""
        return self._weight + self._old_weight

    def get(self, number: int) -> Block | None:
        """The block, if it is here."""
        block = self._young.get(number)
        if block is None:
            block = self._old.get(number)
            if block is not None:
                self.put(number, block)
        return block

    def put(self, number: int, block: Block) -> None:
        """Keep a block."""
        with self._lock:
            if number in self._young:
                return
            if self._weight + block.weight > self._half:
                self._old, self._young = self._young, {}
                self._old_weight, self._weight = self._weight, 0
            self._young[number] = block
            self._weight += block.weight
