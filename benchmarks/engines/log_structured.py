"""RocksDB, LevelDB and fjall, as Python users have them: rocksdict, plyvel, pyfjall.

All three append to a log with write(2) before a put returns. Options that are not named have the
store's own defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from .engine import Budget, Engine, Pair

FILTER_BITS = 10


class RocksDict(Engine):
    def __init__(self, directory: Path, budget: Budget) -> None:
        from rocksdict import (
            BlockBasedOptions,
            Cache,
            DBCompressionType,
            Options,
            Rdict,
            WriteBatch,
            WriteOptions,
        )

        options = Options(raw_mode=True)
        options.create_if_missing(True)  # noqa: FBT003 - as the library has it
        options.set_write_buffer_size(budget.buffer_bytes)
        options.set_compression_type(DBCompressionType.none())
        options.set_max_background_jobs(2)
        table = BlockBasedOptions()
        table.set_block_cache(Cache(budget.cache_bytes))
        table.set_bloom_filter(FILTER_BITS, False)  # noqa: FBT003
        options.set_block_based_table_factory(table)
        self._database = Rdict(str(directory), options)
        if budget.sync:
            writing = WriteOptions()
            writing.sync = True
            self._database.set_write_options(writing)
        self._batch = partial(WriteBatch, raw_mode=True)
        self.put = self._database.put
        self.get = self._database.get
        self.delete = self._database.delete

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = self._database.get(keys)
        return found

    def write(self, pairs: Sequence[Pair]) -> None:
        batch = self._batch()
        put = batch.put
        for key, value in pairs:
            put(key, value)
        self._database.write(batch)

    def scan(self, start: bytes, stop: bytes, count: int) -> list[Pair]:
        return list(islice(self._database.items(from_key=start), count))

    def items(self) -> Iterable[Pair]:
        return self._database.items()

    def flush(self) -> None:
        self._database.flush()

    def describe(self) -> str:
        return f"rocksdict {version('rocksdict')}"

    def close(self) -> None:
        self._database.close()


class Plyvel(Engine):
    def __init__(self, directory: Path, budget: Budget) -> None:
        import plyvel

        self._database = plyvel.DB(
            str(directory),
            create_if_missing=True,
            write_buffer_size=budget.buffer_bytes,
            lru_cache_size=budget.cache_bytes,
            bloom_filter_bits=FILTER_BITS,
            compression=None,
        )
        self._sync = budget.sync
        self.put = self._database.put
        self.delete = self._database.delete
        if budget.sync:
            self.put = partial(self._database.put, sync=True)
            self.delete = partial(self._database.delete, sync=True)
        self.get = self._database.get

    def write(self, pairs: Sequence[Pair]) -> None:
        with self._database.write_batch(sync=self._sync) as batch:
            put = batch.put
            for key, value in pairs:
                put(key, value)

    def scan(self, start: bytes, stop: bytes, count: int) -> list[Pair]:
        return list(self._database.iterator(start=start, stop=stop))

    def items(self) -> Iterable[Pair]:
        return self._database.iterator()  # type: ignore[no-any-return]

    def describe(self) -> str:
        return f"plyvel {version('plyvel')}"

    def close(self) -> None:
        self._database.close()


class Fjall(Engine):
    def __init__(self, directory: Path, budget: Budget) -> None:
        import pyfjall

        self._database = pyfjall.Database(str(directory), cache_size=budget.cache_bytes)
        self._keyspace = self._database.keyspace("kv", max_memtable_size=budget.buffer_bytes)
        self.put = self._keyspace.insert
        self.delete = self._keyspace.remove
        if budget.sync:
            self.put = self._put_and_sync
        self.get = self._keyspace.get

    def _put_and_sync(self, key: bytes, value: bytes) -> None:
        self._keyspace.insert(key, value)
        self._database.persist("sync_data")

    def write(self, pairs: Sequence[Pair]) -> None:
        keyspace = self._keyspace
        with self._database.batch() as batch:
            insert = batch.insert
            for key, value in pairs:
                insert(keyspace, key, value)

    def scan(self, start: bytes, stop: bytes, count: int) -> list[Pair]:
        return list(self._keyspace.range(start, stop))

    def items(self) -> Iterable[Pair]:
        return self._keyspace.iter()  # type: ignore[no-any-return]

    def describe(self) -> str:
        return f"pyfjall {version('pyfjall')}"

    def close(self) -> None:
        self._database.persist("buffer")
        del self.put, self.get, self.delete, self._keyspace, self._database
