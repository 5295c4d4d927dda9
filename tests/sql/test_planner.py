"""Which access path is chosen, and that it finds what a full scan finds."""

from __future__ import annotations

import random

import pytest

from murmur.sql import Session
from tests.sql.session_harness import fetch, open_session, plan_of


@pytest.fixture(scope="module")
def session() -> Session:
    session = open_session(columnar=False)
    session.execute(
        "CREATE TABLE t (k INT, l TEXT, a INT, b INT NOT NULL, c TEXT, d DECIMAL(8,2), e BOOLEAN, "
        "s SMALLINT, PRIMARY KEY (k, l))"
    )
    session.execute("CREATE INDEX t_ab ON t (a, b)")
    session.execute("CREATE UNIQUE INDEX t_c ON t (c)")
    session.execute("CREATE INDEX t_d ON t (d DESC)")
    session.execute("CREATE INDEX t_e ON t (e)")
    session.execute("CREATE INDEX t_s ON t (s)")
    session.execute("CREATE TABLE single (id UUID PRIMARY KEY, x INT)")
    session.execute("CREATE TABLE keyless (x INT, y INT)")
    session.execute("CREATE INDEX keyless_x ON keyless (x)")
    return session


def path(session: Session, text: str) -> str:
    """The last line of the plan, covering or not, and whether a sort stands above it."""
    lines = plan_of(session, text)
    sort = any("sort by" in line for line in lines)
    return lines[-1].strip().removeprefix("covering ") + " + sort" * sort


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("k = 1 AND l = 'x'", "key lookup t (k = 1, l = 'x')"),
        ("l = $1 AND k = $2", "key lookup t (k = $2, l = $1)"),
        ("k IN (1, 2) AND l = 'x'", "key lookup t (k in (1, 2), l = 'x')"),
        ("k = 1", "key range t (k = 1)"),
        ("k = 1 AND l > 'x'", "key range t (k = 1, l > 'x')"),
        ("k > 3 AND k <= 5", "key range t (k > 3, k <= 5)"),
        ("3 < k AND 5 >= k", "key range t (k > 3, k <= 5)"),
        ("k BETWEEN ? AND ?", "key range t (k >= $1, k <= $2)"),
        ("l = 'x'", "full scan t"),
        ("a = 1", "index range t_ab on t (a = 1)"),
        ("a = 1 AND b > 2", "index range t_ab on t (a = 1, b > 2)"),
        ("a = 1 OR a = 2 OR a IN (3)", "index range t_ab on t (a in (1, 2, 3))"),
        ("a = 1 OR b = 2", "full scan t"),
        ("a IS NULL", "index range t_ab on t (a is null)"),
        ("a IS NOT NULL", "full scan t"),
        ("b = 2", "full scan t"),
        ("a < 5 AND b = 1", "index range t_ab on t (a < 5)"),
        ("c = 'x'", "index range t_c on t (c = 'x')"),
        ("c = 'x' AND k = 1", "index range t_c on t (c = 'x')"),
        ("c = 'x' AND a = 1", "index range t_c on t (c = 'x')"),
        ("c = 'x' AND k = 1 AND l = 'y'", "key lookup t (k = 1, l = 'y')"),
        ("lower(c) = 'x'", "full scan t"),
        ("a = b", "full scan t"),
        ("a + 1 = 2", "full scan t"),
        ("a = 1 + 1", "index range t_ab on t (a = 2)"),
        ("a = 1 + ?", "index range t_ab on t (a = 1 + $1)"),
        ("c = lower(?)", "index range t_c on t (c = lower($1))"),
        ("a = 1.5", "full scan t"),  # the column is compared as a DECIMAL
        ("a = random()", "full scan t"),
        ("a <> 1", "full scan t"),
        ("a NOT IN (1, 2)", "full scan t"),
        ("NOT (a = 1)", "full scan t"),
        ("d >= 1.5", "index range t_d on t (d >= 1.5)"),
        ("e", "index range t_e on t (e = true)"),
        ("NOT e AND b = 1", "index range t_e on t (e = false)"),
        ("TRUE", "full scan t"),
        ("a IN (1, NULL)", "index range t_ab on t (a in (1, null))"),
    ],
)
def test_conditions(session: Session, where: str, expected: str) -> None:
    assert path(session, f"SELECT * FROM t WHERE {where}") == expected


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("ORDER BY k LIMIT 3", "full scan t"),
        ("ORDER BY k DESC, l DESC LIMIT 3", "full scan t backwards"),
        ("ORDER BY k, l DESC LIMIT 3", "full scan t + sort"),
        ("ORDER BY k, l, a, b", "full scan t"),  # a whole key: nothing is left to order
        ("ORDER BY a LIMIT 3", "index range t_ab on t"),
        ("ORDER BY a DESC, b DESC LIMIT 3", "index range t_ab on t backwards"),
        ("ORDER BY a, b DESC LIMIT 3", "full scan t + sort"),
        ("ORDER BY a, b, k, l LIMIT 3", "index range t_ab on t"),
        ("ORDER BY a, b, l LIMIT 3", "full scan t + sort"),
        ("ORDER BY a NULLS FIRST LIMIT 3", "full scan t + sort"),
        ("ORDER BY a", "full scan t + sort"),  # of everything: an index would cost more
        ("ORDER BY d DESC LIMIT 3", "index range t_d on t"),
        ("ORDER BY d LIMIT 3", "index range t_d on t backwards"),
        ("WHERE a = 1 ORDER BY b", "index range t_ab on t (a = 1)"),
        ("WHERE a = 1 ORDER BY a, b DESC", "index range t_ab on t (a = 1) backwards"),
        ("WHERE a IN (1, 2) ORDER BY a, b", "index range t_ab on t (a in (1, 2))"),
        ("WHERE a IN (1, 2) ORDER BY b", "index range t_ab on t (a in (1, 2)) + sort"),
        ("WHERE a > 1 ORDER BY a NULLS FIRST", "index range t_ab on t (a > 1)"),
        ("WHERE a = 1 ORDER BY b + 1", "index range t_ab on t (a = 1) + sort"),
        ("WHERE k = 1 ORDER BY l DESC", "key range t (k = 1) backwards"),
        ("WHERE k = 1 AND l = 'x' ORDER BY a", "key lookup t (k = 1, l = 'x')"),
    ],
)
def test_orders(session: Session, rest: str, expected: str) -> None:
    assert path(session, f"SELECT k FROM t {rest}") == expected


def test_an_index_that_holds_what_is_asked_for_is_read_alone(session: Session) -> None:
    for items, covering in (("k, a, b", True), ("k, c", False), ("a + b", True), ("d", False)):
        line = plan_of(session, f"SELECT {items} FROM t WHERE a = 1 AND b > 2")[-1]
        assert line.strip().startswith("covering index range t_ab") is covering, items


def test_a_long_list_stays_in_the_filter(session: Session) -> None:
    items = ", ".join(map(str, range(600)))
    assert path(session, f"SELECT * FROM t WHERE a IN ({items})").startswith("index range")
    both = f"SELECT * FROM t WHERE a IN ({items}) AND b IN ({items})"
    assert "b in" not in path(session, both)
    assert "filter b in" in "\n".join(plan_of(session, both))


def test_writes_use_the_same_paths(session: Session) -> None:
    assert path(session, "UPDATE t SET b = 1 WHERE c = 'x'") == "index range t_c on t (c = 'x')"
    assert path(session, "DELETE FROM t WHERE k = 1 AND l = 'x'").startswith("key lookup")
    assert path(session, "DELETE FROM keyless WHERE y = 1") == "full scan keyless"


def test_without_a_key_an_index_orders_no_more_than_its_columns(session: Session) -> None:
    ordered = "SELECT x FROM keyless ORDER BY x LIMIT 3"
    assert path(session, ordered) == "index range keyless_x on keyless"
    more = "SELECT x FROM keyless ORDER BY x, y LIMIT 3"
    assert path(session, more) == "full scan keyless + sort"


def test_what_analyze_has_counted_chooses_the_index() -> None:
    session = open_session(columnar=False)
    session.execute("CREATE TABLE s (id INT PRIMARY KEY, flag BOOLEAN, kind INT, at INT, x INT)")
    for column in ("flag", "kind", "at"):
        session.execute(f"CREATE INDEX s_{column} ON s ({column})")
    rows = [(i, i % 2 == 0, i % 10, i, i) for i in range(400)]
    session.execute_many("INSERT INTO s VALUES (?, ?, ?, ?, ?)", rows)
    both = "SELECT x FROM s WHERE flag AND kind = 3"
    late, early = (f"SELECT x FROM s WHERE kind = 3 AND at {op} 390" for op in "><")
    assert path(session, both) == "index range s_flag on s (flag = true)"
    assert path(session, late) == "index range s_kind on s (kind = 3)"
    expected = [fetch(session, text) for text in (both, late, early)]
    session.execute("ANALYZE s")  # and the same texts are planned anew
    assert path(session, both) == "index range s_kind on s (kind = 3)"
    assert path(session, "SELECT x FROM s WHERE flag") == "full scan s"
    assert path(session, late) == "index range s_at on s (at > 390)"
    assert path(session, early) == "index range s_kind on s (kind = 3)"
    assert [fetch(session, text) for text in (both, late, early)] == expected
    more = [(i, i % 2 == 0, i, i, i) for i in range(400, 9000)]  # it counts no longer
    session.execute_many("INSERT INTO s VALUES (?, ?, ?, ?, ?)", more)
    assert path(session, "SELECT x FROM s WHERE flag") == "index range s_flag on s (flag = true)"


VALUES = (None, -40_000, -3, 0, 1, 2, 3, 40_000)


def test_every_path_finds_what_a_full_scan_finds() -> None:
    """The same rows in a table with indexes and in one without, asked the same questions."""
    rng = random.Random(5)
    session = open_session(columnar=False)
    for name in ("bare", "full"):
        session.execute(
            f"CREATE TABLE {name} (id INT PRIMARY KEY, a INT, s SMALLINT, d DECIMAL(6,1), r REAL, "
            "v VARCHAR(2), b BLOB)"
        )
    for i, columns in enumerate(("a", "s", "d DESC", "r", "v", "b", "a, d", "s DESC, v")):
        session.execute(f"CREATE INDEX full_{i} ON full ({columns})")
    for name in ("bare", "full"):
        rng.seed(7)
        session.execute_many(
            f"INSERT INTO {name} VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    i,
                    rng.choice(VALUES),
                    rng.choice((None, -3, 0, 1, 2)),
                    rng.choice((None, -1, 0, 1, 2)),
                    rng.choice((None, 0.1, -0.0, 1.5, float("inf"), float("nan"))),
                    rng.choice((None, "", "a", "ab", "b")),
                    rng.choice((None, b"", b"a", b"a\0", b"\xff")),
                )
                for i in range(60)
            ],
        )
    constants = {
        "a": ("0", "1", "3000000000", "-3", "NULL"),
        "s": ("0", "1", "40000", "-40000", "NULL"),
        "d": ("0", "0.5", "1.05", "-1", "99999999", "NULL"),
        "r": ("0", "0.1", "1.5", "1e300", "'NaN'", "'Infinity'", "NULL"),
        "v": ("''", "'a'", "'abcdef'", "'b'", "NULL"),
        "b": ("''", "x'61'", "x'6100'", "NULL"),
    }
    for _ in range(400):
        words = []
        for column in rng.sample(sorted(constants), rng.randint(1, 2)):
            one, two = rng.choices(constants[column], k=2)
            words.append(
                rng.choice(
                    (
                        f"{column} {rng.choice(('=', '<', '<=', '>', '>='))} {one}",
                        f"{column} IN ({one}, {two})",
                        f"{column} BETWEEN {one} AND {two}",
                        f"{column} IS NULL",
                        f"({column} = {one} OR {column} = {two})",
                    )
                )
            )
        where = " AND ".join(words)
        order = rng.choice(("id", "a, id", "d DESC, id", "s DESC, v DESC, id", "r, id"))
        limit = rng.choice(("", " LIMIT 5"))
        bare, full = (
            fetch(session, f"SELECT id FROM {name} WHERE {where} ORDER BY {order}{limit}")
            for name in ("bare", "full")
        )
        assert bare == full, (where, order, limit)
