"""UPDATE, DELETE, INSERT and MERGE that find their rows by a query: on either engine the same."""

from __future__ import annotations

import random
import sqlite3
from decimal import Decimal

import pytest

from murmur.errors import MurmurError
from murmur.sql import Session
from murmur.sql.rules import cost
from tests.sql.session_harness import fetch, open_session, plan_of

STATEMENTS = 60
TABLES = {
    "t": "id INTEGER PRIMARY KEY, a INT, b INT, s TEXT",
    "u": "id INTEGER PRIMARY KEY, a INT, n INT, s TEXT",
    "v": "a INT, b INT, s TEXT, PRIMARY KEY (a, b)",
}


def some_rows(rng: random.Random) -> dict[str, list[tuple[object, ...]]]:
    def number() -> int | None:
        return rng.choice((None, 0, 1, 2, 3, 5, 8))

    def word() -> str | None:
        return rng.choice((None, "", "a", "b", "ab"))

    pairs = rng.sample([(a, b) for a in range(5) for b in range(5)], 12)
    return {
        "t": [(i, number(), number(), word()) for i in range(14)],
        "u": [(i, number(), number(), word()) for i in range(9)],
        "v": [(a, b, word()) for a, b in pairs],
    }


def condition(rng: random.Random) -> str:
    n = rng.randrange(5)
    return rng.choice(
        (
            f"t.a IN (SELECT u.a FROM u WHERE u.n > {n})",
            f"t.a NOT IN (SELECT u.a FROM u WHERE u.a IS NOT NULL AND u.n <= {n})",
            "EXISTS (SELECT 1 FROM u WHERE u.id = t.b AND u.s = t.s)",
            "NOT EXISTS (SELECT 1 FROM v WHERE v.a = t.a AND v.b = t.b)",
            f"t.b > (SELECT min(n) FROM u WHERE u.a = t.a) - {n}",
            f"(t.a, t.b) IN (SELECT a, b FROM v WHERE a <> {n})",
            f"t.id < {3 * n} AND t.b = (SELECT max(b) FROM v)",
        )
    )


def value(rng: random.Random) -> str:
    return rng.choice(
        (
            "b = (SELECT count(*) FROM u WHERE u.a = t.a)",
            "b = coalesce(b, 0) + (SELECT max(n) FROM u), s = 'x'",
            "s = (SELECT max(s) FROM v WHERE v.a = t.a)",
            f"a = {rng.randrange(9)}",
        )
    )


def statement(rng: random.Random) -> str:
    """One that SQLite understands too."""
    return rng.choice(
        (
            f"UPDATE t SET {value(rng)} WHERE {condition(rng)}",
            f"DELETE FROM t WHERE id > 9 AND {condition(rng)}",
            f"UPDATE t SET b = u.n + {rng.randrange(3)}, s = u.s FROM u WHERE u.id = t.id",
            "UPDATE t SET s = v.s FROM u JOIN v ON v.a = u.a AND v.b = u.n WHERE u.id = t.id",
            f"WITH c AS (SELECT a, max(n) AS n FROM u GROUP BY a) "
            f"UPDATE t SET b = c.n FROM c WHERE c.a = t.a AND t.id <> {rng.randrange(14)}",
            "INSERT INTO t SELECT id + 20, a, count(*) OVER (), s FROM u WHERE id > 20",
            f"INSERT INTO t SELECT max(t.id) + 1, max(u.a), {rng.randrange(9)}, 'i' FROM t, u",
        )
    )


def filled(rng: random.Random, *, columnar: bool) -> Session:
    session = open_session(columnar=columnar)
    for name, columns in TABLES.items():
        session.execute(f"CREATE TABLE {name} ({columns})")
    session.execute("CREATE INDEX u_a ON u (a)")
    for name, rows in some_rows(rng).items():
        marks = ", ".join("?" * len(rows[0]))
        session.execute_many(f"INSERT INTO {name} VALUES ({marks})", rows)
    return session


def test_both_engines_and_sqlite_find_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    row = filled(random.Random(3), columnar=False)
    other = sqlite3.connect(":memory:")
    for name, columns in TABLES.items():
        other.execute(f"CREATE TABLE {name} ({columns})")
    for name, rows in some_rows(random.Random(3)).items():
        other.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    columnar = filled(random.Random(3), columnar=True)
    columnar.execute("SET engine = 'columnar'")
    monkeypatch.setattr(cost, "START_US", -1e6)  # so that each plan has its alternative
    rng = random.Random(4)
    for _ in range(STATEMENTS):
        text = statement(rng)
        if "OVER" not in text:  # a window is never the row engine's
            row.execute(text)
        columnar.execute(text)
        other.execute(text)
        for name in TABLES:
            query = f"SELECT * FROM {name} ORDER BY 1, 2"
            ours = sorted(fetch(row, query), key=repr)
            assert ours == sorted(fetch(columnar, query), key=repr), text
            assert ours == sorted(other.execute(query).fetchall(), key=repr), text
    other.close()


MERGES = [
    """MERGE INTO t USING u ON t.id = u.id WHEN MATCHED AND u.n > 2 THEN DELETE
    WHEN MATCHED THEN UPDATE SET b = t.b + u.n, s = 'm'
    WHEN NOT MATCHED THEN INSERT (id, a) VALUES (u.id, u.a) RETURNING merge_action(), t.id""",
    """MERGE INTO t USING (SELECT id + 8 AS id, max(n) AS n FROM u GROUP BY id) c ON t.id = c.id
    WHEN MATCHED THEN UPDATE SET a = 7, b = c.n
    WHEN NOT MATCHED THEN INSERT VALUES (c.id, c.n, 1, 'n')""",
    """MERGE INTO v USING (VALUES (1, 1, 'x'), (9, 9, 'y')) AS d (a, b, s)
    ON v.a = d.a AND v.b = d.b WHEN MATCHED THEN UPDATE SET s = d.s || v.s
    WHEN NOT MATCHED THEN INSERT VALUES (d.a, d.b, d.s)""",
    """MERGE INTO v USING u ON v.a = u.id AND v.b = u.n
    WHEN NOT MATCHED BY SOURCE THEN UPDATE SET s = 'gone'""",
]


@pytest.mark.parametrize("text", MERGES)
def test_merge_is_the_same_on_either_engine(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, columnar = (filled(random.Random(5), columnar=each) for each in (False, True))
    columnar.execute("SET engine = 'columnar'")
    monkeypatch.setattr(cost, "START_US", -1e6)
    said = [sorted(fetch(session, text), key=repr) for session in (row, columnar)]
    assert said[0] == said[1]
    for name in TABLES:
        query = f"SELECT * FROM {name}"
        assert sorted(fetch(row, query), key=repr) == sorted(fetch(columnar, query), key=repr)


def test_what_is_found_is_converted_as_any_value_is() -> None:
    session = open_session(columnar=False)
    session.execute("CREATE TABLE p (id INT PRIMARY KEY, d DECIMAL(6,2), r REAL, n COUNTER)")
    session.execute("CREATE TABLE q (id INT PRIMARY KEY, f DOUBLE PRECISION, m INT)")
    session.execute("INSERT INTO p VALUES (1, 1.11, 0, 2)")
    session.execute("INSERT INTO q VALUES (1, 0.5, 3)")
    session.execute("UPDATE p SET d = d * 1.11, r = f, n = n + m FROM q WHERE q.id = p.id")
    plain = fetch(session, "SELECT (1.11 * 1.11)::decimal(6,2), 0.5::real, 5")
    assert fetch(session, "SELECT d, r, n FROM p") == plain
    session.execute("UPDATE p SET d = ?, n = '7' FROM q WHERE q.id = ?", [Decimal("2.50"), 1])
    with pytest.raises(MurmurError, match=r"column p\.id"):
        session.execute("UPDATE p SET id = q.f > 0 FROM q")
    session.execute("UPDATE p SET id = q.f + 3.2 FROM q")  # rounded, as any computed value is
    assert fetch(session, "SELECT id FROM p") == [(4,)]


def test_rows_are_found_by_key_and_own_writes_are_seen() -> None:
    session = filled(random.Random(1), columnar=False)
    text = "UPDATE t SET b = 1 WHERE id IN (SELECT a FROM u WHERE id = 3)"
    assert plan_of(session, text)[-1].strip() == "key lookup u (id = 3)"
    session.begin()
    session.execute("INSERT INTO u VALUES (50, 2, 2, 'new')")
    outcome = session.execute("DELETE FROM t WHERE id IN (SELECT a FROM u WHERE s = 'new')")
    assert outcome.rowcount == 1
    session.rollback()
    assert fetch(session, "SELECT count(*) FROM t") == [(14,)]


def test_each_row_of_parameters_asks_its_own_subqueries() -> None:
    session = filled(random.Random(1), columnar=False)
    session.execute("UPDATE t SET b = 0")
    text = (
        "WITH c AS (SELECT a FROM u WHERE id = ?) "
        "UPDATE t SET b = (SELECT max(id) FROM u WHERE id <= ?) + (SELECT count(*) FROM c) "
        "FROM c x WHERE t.id = ?"
    )
    session.execute_many(text, [(1, 3, 0), (2, 5, 1), (99, 7, 2)])
    assert fetch(session, "SELECT b FROM t WHERE id < 3 ORDER BY id") == [(4,), (6,), (0,)]
