"""Which engine runs a query, by cost or by SET engine; limits, interruptions, figures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from murmur.catalog.types import INTEGER
from murmur.errors import (
    BindError,
    Interrupted,
    OperationalError,
    ParseError,
    Timeout,
    Unsupported,
)
from murmur.sql import Session, memory
from murmur.sql.cancellation import Halt
from murmur.sql.expressions import Column, Compare
from murmur.sql.joins import compile_hash_join
from murmur.sql.plan import HashJoin, OneRow
from murmur.sql.rules import cost
from murmur.sql.session import shared_of
from tests.sql.session_harness import fetch, open_session, plan_of

JOIN = "SELECT name, count(*) FROM a JOIN n ON n.author = a.id GROUP BY name ORDER BY name"
WINDOW = "SELECT rank() OVER (ORDER BY id) FROM a"


@pytest.fixture
def session() -> Session:
    session = open_session()
    session.execute("CREATE TABLE a (id INT PRIMARY KEY, name TEXT)")
    session.execute("CREATE TABLE n (id INT PRIMARY KEY, author INT, likes INT)")
    session.execute("CREATE INDEX n_author ON n (author)")
    session.execute_many("INSERT INTO a VALUES (?, ?)", [(i, f"a{i % 3}") for i in range(6)])
    session.execute_many("INSERT INTO n VALUES (?, ?, ?)", [(i, i % 7, i) for i in range(40)])
    return session


def first(session: Session, text: str) -> str:
    return plan_of(session, text)[0]


def test_the_cheaper_engine_runs_a_join(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(
        r"engine: row \(join; row 0\.\d+ ms, columnar 1\.5 ms\)", first(session, JOIN)
    )
    assert session.execute(JOIN).arrow is None
    monkeypatch.setattr(cost, "START_US", 0.0)
    again = JOIN + " "  # planned anew
    assert re.fullmatch(
        r"engine: columnar \(join; row 0\.\d+ ms, columnar 0\.\d+ ms\)", first(session, again)
    )
    outcome = session.execute(again)
    assert outcome.arrow is not None
    assert fetch(session, again) == fetch(session, JOIN)


def test_set_engine_decides(session: Session) -> None:
    auto = fetch(session, JOIN)
    session.execute("SET engine = 'columnar'")
    assert first(session, JOIN) == "engine: columnar (SET engine; row 0.037 ms, columnar 1.5 ms)"
    assert session.execute(JOIN).arrow is not None
    assert fetch(session, JOIN) == auto
    assert fetch(session, "SELECT name FROM a WHERE id = 1") == [("a1",)]
    session.execute("SET engine TO row")
    assert session.execute(JOIN).arrow is None
    with pytest.raises(Unsupported, match="the row engine does not run this: window function"):
        session.execute(WINDOW)
    session.execute("RESET engine")
    assert len(fetch(session, WINDOW)) == 6


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("SET engine = 'quick'", ParseError, "'row', 'columnar' or 'auto'"),
        ("SET engine", ParseError, "expected ="),
        ("SET pages = 3", Unsupported, "there are engine"),
        ("SET LOCAL engine = 'row'", Unsupported, "SET LOCAL"),
        ("EXPLAIN SET engine = 'row'", ParseError, "no plan"),
        ("ANALYZE nope", BindError, 'no table "nope"'),
        ("ANALYZE a,", ParseError, "nothing follows"),
        ("EXPLAIN ANALYZE DROP TABLE a", Unsupported, "for queries"),
        ("EXPLAIN (HINTS) SELECT 1", Unsupported, "ANALYZE and FORMAT"),
        ("EXPLAIN (ANALYZE SELECT 1", ParseError, r"expected , or \)"),
        ("EXPLAIN ANALYZE", ParseError, "EXPLAIN of what"),
    ],
)
def test_what_is_not_understood_is_refused(
    session: Session, text: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        session.execute(text)


@pytest.mark.parametrize("engine", ["row", "columnar"])
def test_a_transaction_sees_its_own_writes_on_either_engine(session: Session, engine: str) -> None:
    session.execute(f"SET engine = '{engine}'")
    before = dict(fetch(session, JOIN))
    session.begin()
    session.execute("INSERT INTO n VALUES (1000, 0, 0)")
    session.execute("DELETE FROM a WHERE id = 1")
    after = dict(fetch(session, JOIN))
    assert after["a0"] == before["a0"] + 1
    assert after["a1"] < before["a1"]
    session.rollback()
    assert dict(fetch(session, JOIN)) == before


def test_a_plan_is_made_anew_when_a_table_has_grown(session: Session) -> None:
    text = "SELECT n.likes FROM a JOIN n ON n.author = a.id"
    assert "hash join" in "\n".join(plan_of(session, text))
    rows = [(i, i % 500, i) for i in range(40, 2000)]
    session.execute_many("INSERT INTO n VALUES (?, ?, ?)", rows)
    assert "lookup join by index range n_author" in "\n".join(plan_of(session, text))


# ANALYZE -----------------------------------------------------------------------------------------


def test_analyze_counts_what_is_in_columns(session: Session) -> None:
    session.execute("INSERT INTO n VALUES (100, NULL, NULL), (101, NULL, 5)")
    assert session.execute("ANALYZE n").kind == "analyze"
    statistics = shared_of(session._replica, session._clock, session._random_bytes).statistics
    with session._replica.snapshot() as snapshot:
        table = snapshot.state.table("n")  # type: ignore[attr-defined]
    assert statistics.rows(table) == 42
    author, likes = (statistics.column(table, position) for position in (1, 2))
    assert author is not None
    assert likes is not None
    assert (author.distinct, author.least, author.greatest) == (7, 0, 6)
    assert author.nulls == pytest.approx(2 / 42)
    assert likes.bounds[0] == 0
    assert list(likes.bounds) == sorted(likes.bounds)
    assert statistics.fraction(table, 1, "=", 3) == pytest.approx((40 / 42) / 7)
    assert statistics.fraction(table, 2, "<", 10) == pytest.approx(0.25, abs=0.1)
    assert statistics.fraction(table, 2, ">", 10) == pytest.approx(0.75, abs=0.1)
    assert statistics.fraction(table, 2, "<", "x") is None
    session.execute("ANALYZE")
    assert statistics.distinct(table, 1) == 7


# Limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "SELECT n.id FROM n JOIN n m ON n.likes = m.id + 0",
        "SELECT likes, count(*) FROM n GROUP BY likes",
        "SELECT string_agg(likes::text, ',') FROM n, a",
        "SELECT likes FROM n, a ORDER BY likes",
        "SELECT DISTINCT likes, a.id FROM n, a",
        "SELECT id FROM n EXCEPT SELECT likes FROM n",
        "SELECT id FROM a WHERE id NOT IN (SELECT likes FROM n)",
        "SELECT id, (SELECT max(id) FROM a WHERE a.id < n.likes) FROM n",
        "WITH c AS (SELECT id, likes FROM n) SELECT x.id FROM c x, c y WHERE x.id = y.likes",
    ],
)
def test_a_query_that_holds_too_much_ends(
    session: Session, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    session.execute("SET engine = 'row'")
    whole = sorted(fetch(session, text))
    with monkeypatch.context() as patched:
        patched.setattr(memory, "LIMIT_BYTES", 2_000)
        with pytest.raises(OperationalError, match="holds more than"):
            fetch(session, text)
    assert sorted(fetch(session, text)) == whole


@pytest.mark.parametrize("engine", ["row", "columnar"])
@pytest.mark.parametrize(
    "text",
    [
        "SELECT n.*, name FROM n, a",
        "INSERT INTO a SELECT 100 + n.id * 10 + a.id, name FROM n, a",
        "UPDATE n SET likes = likes + 1 FROM a WHERE a.id <= n.id RETURNING n.likes, name",
        "DELETE FROM n RETURNING *",
    ],
)
def test_rows_that_are_held_are_limited_on_either_engine(
    session: Session, engine: str, text: str
) -> None:
    session.execute(f"SET engine = '{engine}'")
    before = fetch(session, "SELECT * FROM n ORDER BY id")
    session.begin()
    session.execute("SET memory_limit = '2kB'")
    for _ in range(2):
        with pytest.raises(OperationalError, match=r"holds more than 2kB .* SET memory_limit"):
            fetch(session, text)
        assert fetch(session, "SELECT count(*) FROM n") == [(40,)]  # the transaction goes on
    session.execute("SET memory_limit TO '64 MB'")
    assert session.execute(text).rowcount != 0
    session.rollback()
    assert fetch(session, "SELECT * FROM n ORDER BY id") == before


def test_what_a_lookup_join_remembers_is_limited(session: Session) -> None:
    session.execute_many("INSERT INTO n VALUES (?, ?, ?)", [(i, i, i) for i in range(40, 2000)])
    text = "SELECT count(n.likes) FROM a x JOIN n ON n.author = x.id"
    assert any("lookup join" in line for line in plan_of(session, text))
    assert fetch(session, text) == [(35,)]
    session.execute("SET memory_limit = '1kB'")
    with pytest.raises(OperationalError, match="holds more than 1kB"):
        fetch(session, text)


def test_what_many_rows_of_parameters_hold_is_not_added_up(session: Session) -> None:
    session.execute("SET memory_limit = '4kB'")
    text = "UPDATE n SET likes = (SELECT max(id) FROM a WHERE id < ?) WHERE author = ?"
    session.execute_many(text, [(i % 5, i % 7) for i in range(200)])
    session.execute_many("UPDATE n SET likes = ? WHERE author = ?", [(i, 3) for i in range(200)])
    assert fetch(session, "SHOW memory_limit") == [("4kB",)]
    session.execute("RESET memory_limit")
    assert fetch(session, "SHOW memory_limit") == [("1GB",)]


@pytest.mark.parametrize("size", ["0MB", "2", "-1GB", "big", "1.5GB"])
def test_a_size_has_a_unit(session: Session, size: str) -> None:
    with pytest.raises(ParseError, match="memory_limit is a size such as '512MB'"):
        session.execute(f"SET memory_limit = '{size}'")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM big x JOIN big y ON x.v < y.v - 100000",
        "SELECT count(*) FROM big x LEFT JOIN big y ON x.v + y.v = -1 - y.id",
        "SELECT id FROM big x WHERE EXISTS (SELECT 1 FROM big y WHERE y.v < x.v - 100000)",
        "SELECT count(*) FROM big x JOIN big y ON x.one = y.one",
        "SELECT (SELECT count(*) FROM big y WHERE y.v > x.v) FROM big x",
    ],
)
def test_a_long_join_ends_at_its_deadline(text: str) -> None:
    session = open_session()
    session.execute("CREATE TABLE big (id INT PRIMARY KEY, v INT, one INT)")
    session.execute_many("INSERT INTO big VALUES (?, ?, 1)", [(i, i) for i in range(4000)])
    session.execute("SET engine = 'row'")
    with pytest.raises(Timeout):
        list(session.execute(text, timeout_s=0.02).rows or ())
    assert fetch(session, "SELECT count(*) FROM big") == [(4000,)]


@pytest.mark.parametrize("kind", ["inner", "left", "semi", "anti"])
def test_a_join_asks_between_long_loops_itself(kind: Any) -> None:
    halt = Halt()
    condition = Compare("=", Column(0, "x", INTEGER), Column(1, "y", INTEGER))
    join = HashJoin(kind, OneRow(), OneRow(), (), (), condition, 1, 1)

    def left(_view: Any, _context: Any) -> Iterator[tuple[int]]:
        yield (1,)
        halt.interrupt()
        yield (2,)
        raise AssertionError("it went on")

    read = compile_hash_join(join, left, lambda view, context: [(0,)] * 300)
    context: Any = SimpleNamespace(halt=halt, memory=memory.Memory(), parameters=())
    with pytest.raises(Interrupted):
        list(read(None, context))  # type: ignore[arg-type]


# EXPLAIN -----------------------------------------------------------------------------------------

FIGURES = re.compile(r"  \((\d+) rows?, \d+\.\d{3} ms, [\d,]+ bytes\)$")


def test_explain_as_data(session: Session) -> None:
    ((text,),) = fetch(session, f"EXPLAIN (FORMAT JSON) {JOIN}")
    data = json.loads(text)
    assert data["engine"] == "row"
    assert data["reason"] == "join"
    assert set(data["costs_ms"]) == {"row", "columnar"}
    kinds = []
    node = data["plan"]
    while node:
        kinds.append(node["operator"])
        node = node.get("inputs", [None])[0]
    assert kinds == ["project", "sort by", "group by", "hash join", "full scan"]
    ((text,),) = fetch(session, f"EXPLAIN (FORMAT JSON) {WINDOW}")
    assert json.loads(text)["plan"]["relations"] == {"murmur_r0": "columns of a"}
    ((text,),) = fetch(session, "EXPLAIN (FORMAT JSON) DELETE FROM a WHERE id = 1")
    assert json.loads(text)["lines"] == ["delete from a", "  key lookup a (id = 1)"]


def test_explain_analyze_counts_the_rows_of_each_operator(session: Session) -> None:
    lines = plan_of(session, f"ANALYZE {JOIN}")
    counts = {}
    for line in lines[1:]:
        found = FIGURES.search(line)
        assert found is not None, line
        counts[line[: found.start()].strip()] = int(found[1])
    assert counts["full scan n"] == 40
    assert counts["full scan a"] == 6
    assert counts["hash join author = id"] == len(
        fetch(session, "SELECT 1 FROM a JOIN n ON n.author = a.id")
    )
    assert counts["project name, count"] == 3
    ((text,),) = fetch(session, f"EXPLAIN (ANALYZE, FORMAT JSON) {WINDOW}")
    assert json.loads(text)["plan"]["rows"] == 6
    lines = plan_of(session, "(ANALYZE, FORMAT TEXT) SELECT likes FROM n WHERE id < 5")
    assert [FIGURES.search(line) is not None for line in lines] == [False, True, True]


def test_explain_analyze_takes_parameters_and_sees_own_writes(session: Session) -> None:
    session.begin()
    session.execute("DELETE FROM n WHERE id = 3")
    text = "EXPLAIN ANALYZE SELECT likes FROM n WHERE id = ?"
    for key, rows in ((3, 0), (4, 1)):
        lines = [line for (line,) in fetch(session, text, [key])]
        assert f"({rows} row" in lines[-1]
    session.rollback()
