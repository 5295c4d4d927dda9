"""TPC-H: Murmur beside DuckDB over Arrow tables of the same data, and beside sqlite3.

    python -m benchmarks.bench_tpch [--scale 1] [--rounds 3] [--sqlite-limit 60] [--directory DIR]

Murmur's columnar data is warm: each query has run once. Systems take turns, query by query; a
time is the best of the rounds, answers fetched as Python rows. sqlite3 has the primary keys, an
index on every foreign key and on the dates, and statistics; it runs each query once, and one that
takes longer than the limit is stopped and counts with that. With a directory the data is kept
there, and found again.
"""

from __future__ import annotations

import argparse
import platform
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

import murmur
from benchmarks.tpch import QUERIES, create, for_sqlite, generate, load, load_sqlite, same


def main() -> int:
    """Load, run, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_tpch", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="the scale factor")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sqlite-limit", type=float, default=60.0, help="seconds; 0: no sqlite3")
    parser.add_argument("--directory", type=Path, help="where data is kept from run to run")
    options = parser.parse_args()
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
        return run(options.directory, options)
    with tempfile.TemporaryDirectory() as directory:
        return run(Path(directory), options)


def run(directory: Path, options: Any) -> int:
    data = generate(directory / f"data-{options.scale:g}", options.scale)
    with murmur.open(directory / f"murmur-{options.scale:g}") as swarm, duckdb.connect() as other:
        if not swarm.sql("SELECT 1 FROM murmur_tables WHERE name = 'lineitem'").fetchall():
            create(swarm.sql)
            load(swarm, data)
        for name, table in data.items():
            other.register(name, table)
        sqlite = None
        if options.sqlite_limit:
            path = directory / f"sqlite-{options.scale:g}.db"
            loaded = path.exists()
            sqlite = sqlite3.connect(path, check_same_thread=False)
            if not loaded:
                load_sqlite(sqlite, data)
        return measure(swarm, other, sqlite, options)


def measure(
    swarm: murmur.Swarm, other: Any, sqlite: sqlite3.Connection | None, options: Any
) -> int:
    totals = [0.0, 0.0, 0.0]
    wrong = []
    print(
        f"TPC-H, scale factor {options.scale:g}; Python {platform.python_version()}, milliseconds."
    )
    print("\n| query | Murmur | DuckDB over Arrow | ratio | sqlite3 |\n|--:|--:|--:|--:|--:|")
    for number, text in QUERIES.items():
        asks: list[Callable[[], list[Any]]] = [
            lambda text=text: swarm.sql(text).fetchall(),  # type: ignore[misc]
            lambda text=text: other.execute(text).fetchall(),  # type: ignore[misc]
        ]
        ours, theirs = (ask() for ask in asks)
        if not same(ours, theirs):
            wrong.append(number)
        best = [float("inf")] * 2
        for _ in range(options.rounds):
            for which, ask in enumerate(asks):
                start = time.perf_counter()
                ask()
                best[which] = min(best[which], time.perf_counter() - start)
        spent = limited(sqlite, for_sqlite(text), options.sqlite_limit) if sqlite else 0.0
        shown = f"{spent * 1000:.0f}" if spent < options.sqlite_limit else f"> {spent * 1000:.0f}"
        print(
            f"| {number} | {best[0] * 1000:.1f} | {best[1] * 1000:.1f} "
            f"| {best[0] / best[1]:.2f} | {shown if sqlite else '-'} |",
            flush=True,
        )
        totals = [total + each for total, each in zip(totals, (*best, spent), strict=True)]
    print(
        f"| all | {totals[0] * 1000:.0f} | {totals[1] * 1000:.0f} | {totals[0] / totals[1]:.2f} "
        f"| {totals[2] * 1000:.0f} |\n"
    )
    if sqlite is not None:
        print(f"sqlite3 takes {totals[2] / totals[0]:.1f} times as long as Murmur.")
    print(f"columns kept: {swarm.stats().get('arrow_cache_bytes', 0) >> 20} MiB")
    if wrong:
        print(f"other answers than DuckDB's: {wrong}")
    return bool(wrong)


def limited(connection: sqlite3.Connection, text: str, limit_s: float) -> float:
    """Seconds for one query, or the limit, if it has to be stopped there."""
    timer = threading.Timer(limit_s, connection.interrupt)
    timer.start()
    start = time.perf_counter()
    try:
        connection.execute(text).fetchall()
    except sqlite3.OperationalError as error:
        if "interrupt" not in str(error):
            raise
        return limit_s
    finally:
        timer.cancel()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
