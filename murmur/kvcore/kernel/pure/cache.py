"""The cache of decoded blocks: least recently used first out, in two generations, and a porch.

    get     from the young generation, else from the old one, and then it is young again
    put     into the young; when that is full it becomes the old one, and what the old one still
            held, untouched for a whole generation, is dropped
    a scan  puts what it reads into the old one while there is room, then on the porch, an eighth
            of the budget, which is emptied when it is full: a block that somebody gets while it
            lies there comes in

So a hit is one dict lookup without a lock, where a strict LRU list would cost a lock and a move;
and a scan over everything leaves the generations as they are.

Invariant: the weights of all blocks held are within the budget, but for the last one put.
"""

from __future__ import annotations

import threading

from murmur.kvcore.kernel.pure.block import Block


class BlockCache:
    """Decoded blocks by number; shared by the tables and threads of a tree."""

    def __init__(self, budget_bytes: int) -> None:
        self._porch_limit = budget_bytes // 8
        self._limit = (budget_bytes - self._porch_limit) // 2  # of a generation
        self._young: dict[int, Block] = {}
        self._old: dict[int, Block] = {}
        self._porch: dict[int, Block] = {}
        self._weight = self._old_weight = self._porch_weight = 0
        self._lock = threading.Lock()
        # Two threads may count at once and lose one: no lock for a statistic.
        self.hits = 0
        self.misses = 0

    @property
    def weight(self) -> int:
        """About how many bytes it holds; a block in two places counts twice."""
        return self._weight + self._old_weight + self._porch_weight

    def get(self, number: int, *, scan: bool = False) -> Block | None:
        """The block, if it is here."""
        block = self._young.get(number)
        if block is None:
            block = self._old.get(number) or self._porch.get(number)
            if block is None:
                self.misses += 1
                return None
            if not scan:
                self.put(number, block)
        self.hits += 1
        return block

    def put(self, number: int, block: Block, *, scan: bool = False) -> None:
        """Keep a block."""
        with self._lock:
            if scan:
                self._put_aside(number, block)
            elif number not in self._young:
                if self._weight + block.weight > self._limit:
                    self._old, self._young = self._young, {}
                    self._old_weight, self._weight = self._weight, 0
                self._young[number] = block
                self._weight += block.weight

    def _put_aside(self, number: int, block: Block) -> None:
        if number in self._young or number in self._old or number in self._porch:
            return
        if self._old_weight + block.weight <= self._limit:
            self._old[number] = block
            self._old_weight += block.weight
            return
        if self._porch_weight + block.weight > self._porch_limit:
            self._porch, self._porch_weight = {}, 0
        self._porch[number] = block
        self._porch_weight += block.weight
