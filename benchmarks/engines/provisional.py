"""Tree and Log put together: Murmur's engine, as long as there is no murmur.kvcore.Engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from murmur.kvcore import DiskStorage, Log
from murmur.kvcore.log import ADMITTED
from murmur.kvcore.tree import Tree


class Engine:
    def __init__(self, path: str, durability: str, memtable_bytes: int, cache_bytes: int) -> None:
        self._storage = DiskStorage(path)
        self._log = Log.open(self._storage)
        self._tree = Tree.open(
            self._storage, memtable_bytes=memtable_bytes, cache_bytes=cache_bytes
        )
        self._sync = durability == "commit"
        self._seq = 0
        self.get = self._tree.get

    @classmethod
    def open(cls, path: str, *, durability: str, memtable_bytes: int, cache_bytes: int) -> Engine:
        engine = cls(path, durability, memtable_bytes, cache_bytes)
        mark = int.from_bytes(engine._tree.mark)
        for _, _, record in engine._log.read(max(mark, engine._log.start)):
            engine._seq = int.from_bytes(record[9:17])
            size = int.from_bytes(record[17:19])
            engine._tree.write([(record[19 : 19 + size], record[19 + size :])])
        return engine

    def put(self, key: bytes, value: bytes) -> None:
        self.write([(key, value)])

    def delete(self, key: bytes) -> None:
        self.write([(key, None)])

    def write(self, batch: Sequence[tuple[bytes, bytes | None]]) -> None:
        records = []
        for key, value in batch:
            self._seq += 1
            head = b"\1" + b"provided" + self._seq.to_bytes(8) + len(key).to_bytes(2)
            records.append(head + key + (value or b""))
        end = self._log.append(ADMITTED, records)
        if self._sync:
            self._log.sync(end)
        self._tree.write(batch)
        if self._tree.full():
            self._tree.rotate(end.to_bytes(8))

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return list(map(self._tree.get, keys))

    def scan(self, start: bytes, stop: bytes | None) -> Iterable[tuple[bytes, bytes]]:
        return self._scan(start, stop)

    def _scan(self, start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        with self._tree.snapshot() as snapshot:
            yield from snapshot.scan(start, stop)

    def flush(self) -> None:
        self._tree.flush(self._log.end.to_bytes(8))

    def close(self) -> None:
        self._tree.close()
        self._log.close()
