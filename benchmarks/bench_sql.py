"""SQL: a table of four columns, and a join with grouping over 100k rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import murmur

COUNT = 100_000
SINGLE = 2_000
CREATE = (
    "CREATE TABLE sale (id INTEGER PRIMARY KEY, shop INTEGER NOT NULL, item TEXT, amount {real})",
    "CREATE TABLE shop (id INTEGER PRIMARY KEY, city TEXT)",
)
INSERT = "INSERT INTO sale (id, shop, item, amount) VALUES (?, ?, ?, ?)"
ROWS = [(n, n % 50, f"item {n % 1000}", n * 0.25) for n in range(COUNT)]
SHOPS = [(n, f"city {n % 12}") for n in range(50)]
JOIN = """
SELECT shop.city, count(*) AS sales, sum(sale.amount) AS amount
FROM sale JOIN shop ON shop.id = sale.shop
WHERE sale.item <> 'item 7' GROUP BY shop.city ORDER BY amount DESC"""

Setup = tuple[tuple[Any, ...], dict[str, Any]]


def create(run: Callable[[str], Any], real: str) -> None:
    for statement in CREATE:
        run(statement.format(real=real))


def clearing(run: Callable[[str], Any]) -> Callable[[], None]:
    """Empty the table before a round."""

    def setup() -> None:
        run("DELETE FROM sale")

    return setup


@pytest.mark.benchmark(group="INSERT one by one, 2k rows")
class TestInsert:
    def test_murmur(self, benchmark: BenchmarkFixture, swarm: murmur.Swarm) -> None:
        create(swarm.sql, "DOUBLE PRECISION")

        def work() -> None:
            for row in ROWS[:SINGLE]:
                swarm.sql(INSERT, row)

        benchmark.pedantic(work, setup=clearing(swarm.sql), rounds=5, warmup_rounds=1)

    def test_sqlite(self, benchmark: BenchmarkFixture, sqlite: apsw.Connection) -> None:
        create(sqlite.execute, "REAL")

        def work() -> None:
            for row in ROWS[:SINGLE]:
                sqlite.execute(INSERT, row)

        benchmark.pedantic(work, setup=clearing(sqlite.execute), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="executemany, 100k rows in one transaction")
class TestExecuteMany:
    def test_murmur(self, benchmark: BenchmarkFixture, swarm: murmur.Swarm) -> None:
        create(swarm.sql, "DOUBLE PRECISION")

        def work() -> None:
            swarm.execute_many(INSERT, ROWS)

        benchmark.pedantic(work, setup=clearing(swarm.sql), rounds=3)

    def test_sqlite(self, benchmark: BenchmarkFixture, sqlite: apsw.Connection) -> None:
        create(sqlite.execute, "REAL")

        def work() -> None:
            with sqlite:
                sqlite.executemany(INSERT, ROWS)

        benchmark.pedantic(work, setup=clearing(sqlite.execute), rounds=3)


@pytest.mark.benchmark(group="point SELECT by key, 5k")
class TestPointSelect:
    select = "SELECT item, amount FROM sale WHERE id = ?"

    def test_murmur(self, benchmark: BenchmarkFixture, swarm: murmur.Swarm) -> None:
        create(swarm.sql, "DOUBLE PRECISION")
        swarm.execute_many(INSERT, ROWS)
        swarm.flush()

        def work() -> None:
            for key in range(0, COUNT, 20):
                assert len(swarm.sql(self.select, [key]).fetchall()) == 1

        benchmark.pedantic(work, rounds=5, warmup_rounds=1)

    def test_sqlite(self, benchmark: BenchmarkFixture, sqlite: apsw.Connection) -> None:
        create(sqlite.execute, "REAL")
        with sqlite:
            sqlite.executemany(INSERT, ROWS)

        def work() -> None:
            for key in range(0, COUNT, 20):
                assert len(sqlite.execute(self.select, [key]).fetchall()) == 1

        benchmark.pedantic(work, rounds=5, warmup_rounds=1)


def join_murmur(swarm: murmur.Swarm) -> None:
    create(swarm.sql, "DOUBLE PRECISION")
    swarm.execute_many(INSERT, ROWS)
    swarm.execute_many("INSERT INTO shop VALUES (?, ?)", SHOPS)


@pytest.mark.benchmark(group="join and group over 100k rows, again")
class TestJoin:
    def test_murmur(self, benchmark: BenchmarkFixture, swarm: murmur.Swarm) -> None:
        join_murmur(swarm)

        def work() -> None:
            assert len(swarm.sql(JOIN).fetchall()) == 12

        benchmark.pedantic(work, rounds=5, warmup_rounds=1)

    def test_sqlite(self, benchmark: BenchmarkFixture, sqlite: apsw.Connection) -> None:
        create(sqlite.execute, "REAL")
        with sqlite:
            sqlite.executemany(INSERT, ROWS)
            sqlite.executemany("INSERT INTO shop VALUES (?, ?)", SHOPS)

        def work() -> None:
            assert len(sqlite.execute(JOIN).fetchall()) == 12

        benchmark.pedantic(work, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="join and group over 100k rows, after a write")
class TestJoinAfterWrite:
    touch = "UPDATE sale SET amount = amount + 1 WHERE id = 5"

    def test_murmur(self, benchmark: BenchmarkFixture, swarm: murmur.Swarm) -> None:
        join_murmur(swarm)

        def work() -> None:
            swarm.sql(self.touch)
            assert len(swarm.sql(JOIN).fetchall()) == 12

        benchmark.pedantic(work, rounds=3, warmup_rounds=1)

    def test_sqlite(self, benchmark: BenchmarkFixture, sqlite: apsw.Connection) -> None:
        create(sqlite.execute, "REAL")
        with sqlite:
            sqlite.executemany(INSERT, ROWS)
            sqlite.executemany("INSERT INTO shop VALUES (?, ?)", SHOPS)

        def work() -> None:
            sqlite.execute(self.touch)
            assert len(sqlite.execute(JOIN).fetchall()) == 12

        benchmark.pedantic(work, rounds=3, warmup_rounds=1)
