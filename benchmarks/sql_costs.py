"""What the steps of a query cost on either engine: the figures behind murmur/sql/rules/cost.py.

    python -m benchmarks.sql_costs [--rows 100000] [--rounds 5]

Each line is a constant of that file: microseconds as they were measured here, and as they stand
there. A step costs what a query with it takes more than one without it, divided by its rows; of
several rounds the quickest counts. The constants have to rank plans, no more: what matters is that
the figures of both engines come from one machine, in one run, and from an idle one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import murmur
from murmur.sql.rules import cost

NONE = "SELECT count(*) FROM t WHERE b = -1"  # reads one column of each row, and gives one row
WIDER = "SELECT count(*) FROM t WHERE b = -1 AND (c = '' OR d = 2 OR e = -1)"  # reads four
JOIN = "SELECT count(*) FROM t JOIN u ON u.id = t.a"
FEW = 2_000  # left rows of the lookup join and both sides of the nested loop


class Database:
    """A large table and a small one, asked on one engine or the other."""

    def __init__(self, directory: Path, rows: int, rounds: int) -> None:
        self.rows, self._rounds = rows, rounds
        self._swarm = murmur.open(directory / "costs")
        run, many = self._swarm.sql, self._swarm.execute_many
        run("CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, b INT, c TEXT, d DOUBLE, e INT)")
        run("CREATE INDEX t_a ON t (a)")
        run("CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT)")
        values = [
            (n, n * 7919 % rows, n % 100, f"text {n % 1000}", n * 0.37 % 1, n) for n in range(rows)
        ]
        many("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", values)
        many("INSERT INTO u VALUES (?, ?)", [(n, f"name {n}") for n in range(rows)])
        run("ANALYZE")
        self._connection = murmur.connect(self._swarm)

    def close(self) -> None:
        """End."""
        self._connection.close()
        self._swarm.close()

    def takes(self, text: str, engine: str, before: Callable[[], object] = lambda: None) -> float:
        """Microseconds of a query, its rows fetched, after `before`, which is not measured."""
        self._connection.execute(f"SET engine = '{engine}'")
        best = float("inf")
        for _ in range(self._rounds):
            before()
            began = time.perf_counter()
            self._connection.execute(text).fetchall()
            best = min(best, time.perf_counter() - began)
            self._connection.rollback()
        return best * 1e6

    def write(self) -> None:
        """Change a row of the large table, so that its Arrow columns are no longer right."""
        self._swarm.sql("UPDATE t SET b = b + 100 WHERE id = 5")

    def write_uncommitted(self) -> None:
        """The same within the transaction that the query runs in."""
        self._connection.execute("UPDATE t SET b = b + 100 WHERE id = 5")


def row_engine(data: Database) -> Iterator[tuple[str, float]]:
    """Its constants, by name."""
    n = data.rows

    def more(text: str, than: str) -> float:
        return (data.takes(text, "row") - data.takes(than, "row")) / n

    none = data.takes(NONE, "row")
    yield "KEY_US", data.takes("SELECT count(*) FROM t", "row") / n
    yield "SCAN_US", none / n
    yield "VALUE_US", more(WIDER, NONE) / 3
    yield "ROW_US", more("SELECT count(*) FROM t WHERE b = -1 OR b = -2", NONE)
    yield "GIVE_US", more("SELECT b FROM t", NONE)
    yield "HASH_US", more("SELECT a, count(*) FROM t GROUP BY a", NONE)
    yield "SORT_US", more("SELECT b FROM t ORDER BY d", "SELECT b, d FROM t")
    # A LIMIT behind all rows: they are read in the order of the index.
    inner = "SELECT count(*) FROM (SELECT {0} FROM t ORDER BY a LIMIT 1000000000) s WHERE {0} = -1"
    yield "FETCH_US", data.takes(inner.format("b"), "row") / n
    yield "ENTRY_US", data.takes(inner.format("a"), "row") / n
    few = f"FROM t JOIN u ON u.id = t.a WHERE t.id < {FEW}"
    alone = data.takes(f"SELECT count(b) FROM t WHERE id < {FEW}", "row")
    yield "FIND_US", (data.takes(f"SELECT count(u.name) {few}", "row") - alone) / FEW
    some = FEW // 10
    pairs = f"SELECT count(*) FROM t, u WHERE t.id < {some} AND u.id < {some} AND t.b + u.id = -1"
    yield "PAIR_US", data.takes(pairs, "row") / some**2


def columnar_engine(data: Database) -> Iterator[tuple[str, float]]:
    """Its constants, by name."""
    n = data.rows
    start = data.takes("SELECT count(*) FROM t WHERE id = 5 AND b = 1", "columnar")
    yield "START_US", start
    yield "COLUMN_US", (data.takes(JOIN, "columnar") - start) / (2 * n)
    three = data.takes("SELECT b, c, d FROM t", "columnar")
    yield "OUTPUT_US", (three - start) / (3 * n)
    warm = data.takes(WIDER, "columnar")
    yield "ARROW_US", (data.takes(WIDER, "columnar", data.write) - warm) / (4 * n)
    yield "PRIVATE_US", (data.takes(WIDER, "columnar", data.write_uncommitted) - warm) / (4 * n)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        data = Database(Path(directory), arguments.rows, arguments.rounds)
        for engine, figures in (("row", row_engine(data)), ("columnar", columnar_engine(data))):
            print(f"{engine:<12}{'measured':>12}{'cost.py':>12}   us")
            for name, measured in figures:
                print(f"  {name:<10}{measured:12.3f}{getattr(cost, name, 0.0):12.3f}")
        data.close()


if __name__ == "__main__":
    main()
