"""What SQL costs beside sqlite3, Python's own: ratios of one run, in turns, by CPU time.

    python -m benchmarks.sql_ratios [--rows 1000000] [--rounds 5]

Both load into a new table of a new directory, in one transaction that is synced when all is done:
durable, and readable. SQLite has its default journal, which takes it the least time. What Murmur
makes tables of behind is counted apart, with a flush. Loads are shown by CPU time and by the clock,
since Murmur's use more than one thread, queries by CPU time: that of the whole process.
The best of the rounds is shown. A ratio of times below 1 is faster than sqlite3; for loads, `rate`
is its inverse.
"""

from __future__ import annotations

import argparse
import gc
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

import murmur

MANY, SINGLES = 100_000, 5_000
COLUMNS = "(id INTEGER PRIMARY KEY, shop INTEGER, item TEXT, amount {real})"
INSERT = "INSERT INTO sale VALUES (?, ?, ?, ?)"
BY_KEY = "SELECT item, amount FROM sale WHERE id = ?"
BY_INDEX = "SELECT id, amount FROM sale WHERE item = ?"

Work = Callable[[], Any]


def rows_of(count: int) -> list[tuple[int, int, str, float]]:
    return [(n, n % 50, f"item {n}", n * 0.25) for n in range(count)]


def best(
    work: dict[str, Callable[[], Work]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Seconds for each kind of work, in turns; each is made ready first."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, ready in work.items():
            run = ready()
            gc.collect()
            began = clock()
            run()
            times[name].append(clock() - began)
    return {name: min(each) for name, each in times.items()}


def loads(directory: Path, count: int, rounds: int) -> None:
    rows, fewer = rows_of(count), rows_of(MANY)
    table = pa.table(
        dict(zip(("id", "shop", "item", "amount"), zip(*rows, strict=True), strict=True))
    )
    numbers = iter(range(1_000_000))

    def sqlite(some: list[Any]) -> Callable[[], Work]:
        def ready() -> Work:
            connection = sqlite3.connect(directory / f"{next(numbers)}.db")
            connection.execute("CREATE TABLE sale " + COLUMNS.format(real="DOUBLE"))

            def run() -> None:
                connection.executemany(INSERT, some)
                connection.commit()
                connection.close()

            return run

        return ready

    with ExitStack() as swarms:

        def fresh() -> murmur.Swarm:
            swarms.close()
            swarm = swarms.enter_context(murmur.open(directory / f"{next(numbers)}"))
            swarm.sql("CREATE TABLE sale " + COLUMNS.format(real="DOUBLE PRECISION"))
            return swarm

        def executemany() -> Work:
            swarm = fresh()

            def run() -> None:
                with murmur.connect(swarm) as connection:
                    connection.executemany(INSERT, fewer)
                connection.close()
                swarm.sync()

            return run

        def insert_arrow(then: Callable[[murmur.Swarm], object]) -> Callable[[], Work]:
            def ready() -> Work:
                swarm = fresh()

                def run() -> None:
                    swarm.insert_arrow("sale", table)
                    then(swarm)

                return run

            return ready

        for clock, name in ((time.process_time, "CPU"), (time.perf_counter, "clock")):
            times = best({"sqlite3": sqlite(fewer), "murmur": executemany}, rounds, clock)
            show(f"executemany, {MANY:,} rows, {name}", times["murmur"], times["sqlite3"], MANY)
            work = {
                "sqlite3": sqlite(rows),
                "insert_arrow": insert_arrow(murmur.Swarm.sync),
                "and flush": insert_arrow(murmur.Swarm.flush),
            }
            times = best(work, max(2, rounds // 2), clock)
            label = f"insert_arrow, {count:,} rows, {name}"
            show(label, times["insert_arrow"], times["sqlite3"], count)
            show(f"the same and flush, {name}", times["and flush"], times["sqlite3"], count)


def singles(directory: Path, rounds: int) -> None:
    """Rows that commit one by one, and survive the death of the process: SQLite with a WAL."""
    other = sqlite3.connect(directory / "singles.db", isolation_level=None)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("PRAGMA synchronous = NORMAL")
    other.execute("CREATE TABLE sale " + COLUMNS.format(real="DOUBLE"))
    keys = iter(range(1 << 30))

    def each(execute: Callable[[str, Any], Any]) -> Callable[[], Work]:
        def ready() -> Work:
            rows = [(n, n % 50, f"item {n}", n * 0.25) for n in islice(keys, SINGLES)]

            def run() -> None:
                for row in rows:
                    execute(INSERT, row)

            return run

        return ready

    with murmur.open(directory / "singles") as swarm, murmur.connect(swarm) as connection:
        swarm.sql("CREATE TABLE sale " + COLUMNS.format(real="DOUBLE PRECISION"))
        connection.autocommit = True
        ways = {"swarm.sql": each(swarm.sql), "DB-API": each(connection.execute)}
        times = best({"sqlite3": each(other.execute), **ways}, rounds)
        for way in ways:
            show(f"INSERT one by one, {way}, CPU", times[way], times["sqlite3"], SINGLES)
    other.close()


def queries(directory: Path, rounds: int) -> None:
    rows = rows_of(MANY)
    other = sqlite3.connect(directory / "queries.db")
    other.execute("CREATE TABLE sale " + COLUMNS.format(real="DOUBLE"))
    other.execute("CREATE INDEX sale_item ON sale (item)")
    other.executemany(INSERT, rows)
    other.commit()
    swarm = murmur.open(directory / "queries")
    swarm.sql("CREATE TABLE sale " + COLUMNS.format(real="DOUBLE PRECISION"))
    swarm.sql("CREATE INDEX sale_item ON sale (item)")
    swarm.execute_many(INSERT, rows)
    swarm.flush()
    connection = murmur.connect(swarm)
    keys = [[key] for key in range(0, MANY, 20)]
    items = [[f"item {key}"] for key in range(0, MANY, 20)]

    def each(execute: Any, text: str, asked: list[Any]) -> Callable[[], Work]:
        def run() -> None:
            for parameters in asked:
                assert len(execute(text, parameters).fetchall()) == 1

        return lambda: run

    for name, text, asked in (("key", BY_KEY, keys), ("index", BY_INDEX, items)):
        times = best(
            {
                "sqlite3": each(other.execute, text, asked),
                "swarm.sql": each(swarm.sql, text, asked),
                "DB-API": each(connection.execute, text, asked),
            },
            rounds,
        )
        for way in ("swarm.sql", "DB-API"):
            show(f"SELECT by {name}, {way}", times[way], times["sqlite3"], len(asked))
    overhead(swarm, keys, rounds)
    connection.close()
    swarm.close()
    other.close()


def overhead(swarm: murmur.Swarm, keys: list[list[int]], rounds: int) -> None:
    """What finding the plan and making a result cost, over the reading itself."""
    session = swarm.new_session()
    catalog: Any = swarm.replica.state
    prepared = session._shared.statements.get(BY_KEY).point(catalog)
    assert prepared is not None
    read: Any = prepared.point

    def alone() -> None:
        for key in keys:
            read(swarm.replica.get, key)

    def whole() -> None:
        for key in keys:
            swarm.sql(BY_KEY, key)

    times = best({"alone": lambda: alone, "whole": lambda: whole}, rounds)
    session.close()
    cost = (times["whole"] - times["alone"]) / len(keys) * 1e6
    print(f"{'a plan-cache hit, over the reading itself':<48} {cost:8.2f} us")


def show(name: str, murmurs: float, sqlites: float, count: int) -> None:
    print(
        f"{name:<48} {murmurs / count * 1e6:8.2f} us, sqlite3 {sqlites / count * 1e6:6.2f} us: "
        f"time {murmurs / sqlites:5.2f}x, rate {sqlites / murmurs:5.2f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of insert_arrow")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        loads(Path(directory), arguments.rows, arguments.rounds)
        singles(Path(directory), arguments.rounds)
        queries(Path(directory), arguments.rounds)


if __name__ == "__main__":
    main()
