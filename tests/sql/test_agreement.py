"""The size of a table never changes an answer: what moves to the other engine means the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import murmur

LARGE = 30_000  # rows: to read them all costs more on the row engine
OWN = "(big < 5 OR big IS NULL)"  # the rows that both tables have
QUERIES = [
    (
        f"SELECT sum(d * d - 1), min(d) FROM t WHERE {OWN} AND d BETWEEN 0.5 AND 1 + 1.25",
        "columnar",
    ),
    (
        f"SELECT sum(d) FROM t WHERE {OWN} AND day < DATE '2026-01-01' + INTERVAL '1 year'",
        "columnar",
    ),
    (f"SELECT d * 2, 1 - d FROM t WHERE {OWN} AND d > 1 ORDER BY id", "columnar"),
    (f"SELECT d * 2 FROM t WHERE {OWN} AND f > d ORDER BY id", "row"),
    (f"SELECT d * d * d * d FROM t WHERE {OWN} ORDER BY id", "row"),
    (f"SELECT d / 3 FROM t WHERE {OWN} ORDER BY id", "row"),
    (f"SELECT round(f) FROM t WHERE {OWN} ORDER BY id", "row"),
    (f"SELECT s::varchar(1), substr(s, -1, 4) FROM t WHERE {OWN} ORDER BY id", "row"),
    (f"SELECT sum(big) FROM t WHERE {OWN}", "row"),
    (f"SELECT sum(n), max(n) FROM t WHERE {OWN}", "columnar"),
    (f"SELECT extract(second FROM at) FROM t WHERE {OWN} ORDER BY id", "row"),
    (f"SELECT s, f, at, d FROM t WHERE {OWN} AND s < 'm' AND f > 1.5 ORDER BY s, id", "columnar"),
    (f"SELECT count(*), min(s), max(at) FROM t WHERE {OWN} AND NOT s = 'a'", "columnar"),
    (f"SELECT DISTINCT s FROM t WHERE {OWN} AND (f IN (2.5) OR s IS NULL) ORDER BY s", "columnar"),
]


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> object:
    path: Path = tmp_path_factory.mktemp("agreement")
    with murmur.open(path / "a") as swarm:
        for name in ("small", "large"):
            swarm.sql(
                f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, s TEXT, f DOUBLE PRECISION, "
                "d DECIMAL(10, 2), at TIMESTAMP, big BIGINT, day DATE, n INT DEFAULT 3)"
            )
        row = (None, None, None, None, None, None)
        values = [
            ("a", 2.5, "1.00", "2026-01-01T00:00:05.25", 1, "2027-01-01"),
            ("b", 3.5, "2.50", None, 2, "2026-12-31"),
            row,
        ]
        rows = [(n, *values[n % 3]) for n in range(10)]
        insert = "INSERT INTO {} (id, s, f, d, at, big, day) VALUES (?, ?, ?, ?::decimal, ?, ?, ?)"
        swarm.execute_many(insert.format("small"), rows)
        more = [(n, "z", 1.0, "1.00", None, 9, None) for n in range(10, LARGE + 10)]
        swarm.execute_many(insert.format("large"), rows + more)
        yield swarm


@pytest.mark.parametrize(("query", "engine"), QUERIES)
def test_a_large_table_answers_as_a_small_one(swarm: murmur.Swarm, query: str, engine: str) -> None:
    small = swarm.sql(query.replace("FROM t", "FROM small")).fetchall()
    on_large = query.replace("FROM t", "FROM large")
    explained = swarm.sql("EXPLAIN " + on_large).fetchall()
    assert explained[0][0].startswith(f"engine: {engine}"), explained
    assert repr(swarm.sql(on_large).fetchall()) == repr(small)
