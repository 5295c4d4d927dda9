"""Keys and values: 16-byte keys, 100-byte values, each put a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import apsw
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import murmur

COUNT = 20_000
VALUE = b"v" * 100
KEYS = [f"key:{number:012d}" for number in range(COUNT)]
SHUFFLED = Random(1).sample(KEYS, COUNT)

Work = Callable[[], None]


def put_murmur(swarm: murmur.Swarm, keys: list[str]) -> Work:
    def work() -> None:
        for key in keys:
            swarm.put(key, VALUE)

    return work


def put_sqlite(sqlite: apsw.Connection, keys: list[str]) -> Work:
    sqlite.execute("CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def work() -> None:
        for key in keys:
            sqlite.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, VALUE))

    return work


@pytest.mark.benchmark(group="put, 20k keys in random order")
class TestPut:
    def test_murmur(self, benchmark: BenchmarkFixture, swarm: murmur.Swarm) -> None:
        benchmark.pedantic(put_murmur(swarm, SHUFFLED), rounds=5, warmup_rounds=1)

    def test_sqlite(self, benchmark: BenchmarkFixture, sqlite: apsw.Connection) -> None:
        benchmark.pedantic(put_sqlite(sqlite, SHUFFLED), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="get, 20k keys in random order")
class TestGet:
    def test_murmur(self, benchmark: BenchmarkFixture, swarm: murmur.Swarm) -> None:
        put_murmur(swarm, KEYS)()
        swarm.flush()

        def work() -> None:
            for key in SHUFFLED:
                assert swarm.get(key) is not None

        benchmark.pedantic(work, rounds=5, warmup_rounds=1)

    def test_sqlite(self, benchmark: BenchmarkFixture, sqlite: apsw.Connection) -> None:
        put_sqlite(sqlite, KEYS)()

        def work() -> None:
            for key in SHUFFLED:
                select = sqlite.execute("SELECT value FROM kv WHERE key = ?", (key,))
                assert select.get is not None

        benchmark.pedantic(work, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="scan, 200 ranges of 100 keys")
class TestScan:
    starts = KEYS[: COUNT - 100 : 99][:200]

    def test_murmur(self, benchmark: BenchmarkFixture, swarm: murmur.Swarm) -> None:
        put_murmur(swarm, KEYS)()
        swarm.flush()

        def work() -> None:
            for start in self.starts:
                stop = f"key:{int(start[4:]) + 100:012d}"
                assert len(list(swarm.scan(start=start, stop=stop))) == 100

        benchmark.pedantic(work, rounds=5, warmup_rounds=1)

    def test_sqlite(self, benchmark: BenchmarkFixture, sqlite: apsw.Connection) -> None:
        put_sqlite(sqlite, KEYS)()

        def work() -> None:
            for start in self.starts:
                stop = f"key:{int(start[4:]) + 100:012d}"
                select = "SELECT key, value FROM kv WHERE key >= ? AND key < ? ORDER BY key"
                assert len(list(sqlite.execute(select, (start, stop)))) == 100

        benchmark.pedantic(work, rounds=5, warmup_rounds=1)
