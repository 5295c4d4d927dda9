"""B-trees in one file: LMDB as it comes and tuned, and SQLite through apsw.

LMDB writes pages with write(2) or, tuned, into a writable map: either survives the death of the
process. Its cache is the page cache, so the budgets do not bind it. SQLite writes a log which it
folds into its file after as many bytes as the others buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from .engine import Budget, Engine, Pair

PAGE_BYTES = 4096


class Lmdb(Engine):
    """A transaction for each operation."""

    options: dict[str, int] = {}

    def __init__(self, directory: Path, budget: Budget) -> None:
        import lmdb

        self._environment = lmdb.open(
            str(directory),
            map_size=budget.map_bytes,
            sync=budget.sync,
            map_async=not budget.sync,  # says something only with writemap
            **self.options,
        )

    def put(self, key: bytes, value: bytes) -> None:  # type: ignore[override]
        with self._environment.begin(write=True) as transaction:
            transaction.put(key, value)

    def delete(self, key: bytes) -> None:  # type: ignore[override]
        with self._environment.begin(write=True) as transaction:
            transaction.delete(key)

    def get(self, key: bytes) -> bytes | None:  # type: ignore[override]
        with self._environment.begin() as transaction:
            value: bytes | None = transaction.get(key)
            return value

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._environment.begin() as transaction:
            return list(map(transaction.get, keys))

    def write(self, pairs: Sequence[Pair]) -> None:
        with self._environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(pairs)

    def scan(self, start: bytes, stop: bytes, count: int) -> list[Pair]:
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            return list(islice(cursor, count)) if cursor.set_range(start) else []

    def items(self) -> Iterator[Pair]:
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            yield from cursor

    def describe(self) -> str:
        return f"lmdb {version('lmdb')}"

    def close(self) -> None:
        self._environment.close()


class LmdbTuned(Lmdb):
    """A writable map, and one read transaction that is held until there is a write.

    Held any longer it would see what was, and keep all pages since then from being used again.
    """

    # The spare transaction is what the held one becomes until it is begun again.
    options = {"writemap": True, "meminit": False, "max_spare_txns": 1}

    def __init__(self, directory: Path, budget: Budget) -> None:
        super().__init__(directory, budget)
        self._begin = self._environment.begin
        self._reader: Any = None
        self._cursor: Any = None

    def only_reads_follow(self) -> None:
        self._hold()
        self.get = self._reader.get  # type: ignore[method-assign]

    def _hold(self) -> None:
        self._reader = self._begin()
        self._cursor = self._reader.cursor()

    def _release(self) -> None:
        self._cursor.close()
        self._reader.abort()
        self._reader = None

    def put(self, key: bytes, value: bytes) -> None:  # type: ignore[override]
        if self._reader is not None:
            self._release()
        transaction = self._begin(write=True)  # without `with`: an exception drops it, too
        transaction.put(key, value)
        transaction.commit()

    def delete(self, key: bytes) -> None:  # type: ignore[override]
        if self._reader is not None:
            self._release()
        transaction = self._begin(write=True)
        transaction.delete(key)
        transaction.commit()

    def get(self, key: bytes) -> bytes | None:  # type: ignore[override]
        if self._reader is None:
            self._hold()
        value: bytes | None = self._reader.get(key)
        return value

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if self._reader is None:
            self._hold()
        return list(map(self._reader.get, keys))

    def scan(self, start: bytes, stop: bytes, count: int) -> list[Pair]:
        if self._reader is None:
            self._hold()
        return list(islice(self._cursor, count)) if self._cursor.set_range(start) else []

    def describe(self) -> str:
        return f"lmdb {version('lmdb')}, writemap, held read transaction"

    def close(self) -> None:
        if self._reader is not None:
            self._release()
        super().close()


class Sqlite(Engine):
    def __init__(self, directory: Path, budget: Budget) -> None:
        self._directory, self._budget = directory, budget
        self._others: list[Sqlite] = []
        self._open()

    def _open(self) -> None:
        import apsw

        connection = self._connection = apsw.Connection(str(self._directory / "sqlite.db"))
        connection.set_busy_timeout(60_000)
        connection.pragma("page_size", PAGE_BYTES)
        assert connection.pragma("journal_mode", "wal") == "wal"
        connection.pragma("synchronous", "full" if self._budget.sync else "off")
        connection.pragma("cache_size", -self._budget.cache_bytes // 1024)
        connection.pragma("wal_autocheckpoint", self._budget.buffer_bytes // PAGE_BYTES)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )
        self._execute = connection.cursor().execute

    def put(self, key: bytes, value: bytes) -> None:  # type: ignore[override]
        self._execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))

    def delete(self, key: bytes) -> None:  # type: ignore[override]
        self._execute("DELETE FROM kv WHERE key = ?", (key,))

    def get(self, key: bytes) -> bytes | None:  # type: ignore[override]
        value: bytes | None = self._execute("SELECT value FROM kv WHERE key = ?", (key,)).get
        return value

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        marks = ",".join("?" * len(keys))
        rows = self._execute(f"SELECT key, value FROM kv WHERE key IN ({marks})", keys)
        return list(map(dict(rows).get, keys))

    def write(self, pairs: Sequence[Pair]) -> None:
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", pairs)

    def scan(self, start: bytes, stop: bytes, count: int) -> list[Pair]:
        select = "SELECT key, value FROM kv WHERE key >= ? AND key < ? ORDER BY key"
        return self._execute(select, (start, stop)).fetchall()  # type: ignore[no-any-return]

    def items(self) -> Iterable[Pair]:
        return self._execute("SELECT key, value FROM kv ORDER BY key")  # type: ignore[no-any-return]

    def for_thread(self) -> Sqlite:
        other = Sqlite(self._directory, self._budget)
        self._others.append(other)
        return other

    def describe(self) -> str:
        return f"apsw {version('apsw')}, WAL"

    def close(self) -> None:
        for other in self._others:
            other.close()
        self._connection.close()
