"""Murmur: the engine by itself, and under everything that makes a replica (dots, stamps, siblings).

Neither waits for the disk when it writes, but for `sync`: what is acknowledged is with the
operating system, as it is with the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .engine import Budget, Engine, Pair


class Murmur(Engine):
    def __init__(self, directory: Path, budget: Budget) -> None:
        from murmur.kvcore.engine import Engine as Store

        self._store = Store.open(
            str(directory),
            durability="commit" if budget.sync else "none",
            memtable_bytes=budget.buffer_bytes,
            cache_bytes=budget.cache_bytes,
        )
        self.put = self._store.put
        self.delete = self._store.delete
        self.get = self._store.get
        self.multi_get = self._store.multi_get  # type: ignore[method-assign]
        self.write = self._store.write  # type: ignore[method-assign]

    def scan(self, start: bytes, stop: bytes, count: int) -> list[Pair]:
        return list(self._store.scan(start, stop))

    def items(self) -> Iterable[Pair]:
        return self._store.scan(b"", None)

    def flush(self) -> None:
        self._store.flush()

    def describe(self) -> str:
        from murmur.kvcore.kernel import NATIVE

        return f"murmur, {'native' if NATIVE else 'pure'} kernel"

    def close(self) -> None:
        self._store.close()


class SwarmEngine(Engine):
    def __init__(self, directory: Path, budget: Budget) -> None:
        import murmur

        durability = "commit" if budget.sync else "batched"
        self._swarm = murmur.open(directory, group="bench", durability=durability)
        self.put = self._swarm.put
        self.delete = self._swarm.delete
        self.get = self._swarm.get

    def write(self, pairs: Sequence[Pair]) -> None:
        with self._swarm.batch() as batch:
            put = batch.put
            for key, value in pairs:
                put(key, value)

    def scan(self, start: bytes, stop: bytes, count: int) -> list[Pair]:
        return list(self._swarm.scan(start=start, stop=stop))  # type: ignore[arg-type]

    def items(self) -> Iterable[Pair]:
        return self._swarm.scan()  # type: ignore[return-value]

    def flush(self) -> None:
        self._swarm.flush()

    def describe(self) -> str:
        return "swarm.put and swarm.get"

    def close(self) -> None:
        self._swarm.close()
