"""Sessions: transactions, atomic statements, lazy rows, the plan cache, many rows at once."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from murmur.catalog import CatalogDerivation
from murmur.catalog.types import BIGINT, BOOLEAN, TEXT
from murmur.errors import (
    BindError,
    Closed,
    Conflict,
    ConstraintViolation,
    DataError,
    InvalidInput,
    ParseError,
    TypeMismatch,
    Unsupported,
)
from murmur.kvcore import ManualClock, MemoryStorage, Replica, Snapshot, View
from murmur.sql import ResultColumn, Session, cache, choice
from murmur.sql.row_expressions import compile_row_expression
from murmur.sql.rules import cost
from tests.sql.session_harness import fetch, open_session, plan_of

SECOND = "INSERT INTO t VALUES (2, 'two')"


@pytest.fixture
def session() -> Session:
    session = open_session()
    session.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
    session.execute("INSERT INTO t VALUES (1, 'one')")
    return session


def beside(session: Session) -> Session:
    return open_session(replica=session._replica)


class Pins:
    """Counts the snapshots that are open."""

    def __init__(self) -> None:
        self.open: set[int] = set()

    def __len__(self) -> int:
        return len(self.open)


@pytest.fixture
def pins(session: Session, monkeypatch: pytest.MonkeyPatch) -> Pins:
    """The snapshots that the session takes from here on and has not closed."""
    pins, take, close = Pins(), session._replica.snapshot, Snapshot.close

    def snapshot() -> Snapshot:
        taken = take()
        pins.open.add(id(taken))
        return taken

    def closed(snapshot: Snapshot) -> None:
        pins.open.discard(id(snapshot))
        close(snapshot)

    monkeypatch.setattr(session._replica, "snapshot", snapshot)
    monkeypatch.setattr(Snapshot, "close", closed)
    return pins


# Outcomes ----------------------------------------------------------------------------------------


def test_a_query_tells_columns_and_types(session: Session) -> None:
    outcome = session.execute("SELECT id, a = 'x' AS same, ? FROM t", [5])
    assert outcome.kind == "select"
    assert outcome.columns == (
        ResultColumn("id", BIGINT),
        ResultColumn("same", BOOLEAN),
        ResultColumn("$1", None),
    )
    assert (outcome.rowcount, outcome.lastrowid) == (-1, None)
    assert list(outcome.rows or ()) == [(1, False, 5)]


def test_result_columns_are_named_for_what_they_are(session: Session) -> None:
    text = "SELECT id AS n, t.a, id::text, lower(a), count, -id, CASE WHEN true THEN 1 END FROM "
    text += "(SELECT *, 7 AS count FROM t) t"
    names = [column.name for column in session.execute(text).columns or ()]
    assert names == ["n", "a", "id", "lower", "count", "-id", "case"]
    other = session.execute("SELECT count(*), max(id), sum(id) FROM t").columns or ()
    assert [column.name for column in other] == ["count", "max", "sum"]


def test_a_counter_reads_as_bigint(session: Session) -> None:
    session.execute("CREATE TABLE c (id INT PRIMARY KEY, n COUNTER)")
    for text in ("SELECT n FROM c", "SELECT max(n) FROM c", "UPDATE c SET n = 1 RETURNING n"):
        (column,) = session.execute(text).columns or ()
        assert column.type == BIGINT
    assert [column.type for column in session.execute("SELECT * FROM c").columns or ()] == [
        BIGINT,
        BIGINT,
    ]


def test_a_sum_that_does_not_fit_is_an_error(session: Session) -> None:
    session.execute("INSERT INTO t (id) VALUES (?), (?)", [2**63 - 1, 2**63 - 2])
    assert fetch(session, "SELECT sum(id) FROM t WHERE id = 1 OR id = ?", [2**63 - 2]) == [
        (2**63 - 1,)
    ]
    with pytest.raises(DataError, match="outside of BIGINT"):
        fetch(session, "SELECT sum(id) FROM t WHERE id > 1")


def test_writes_count_rows_and_tell_the_last_integer_key(session: Session) -> None:
    assert session.execute(SECOND).rowcount == 1
    outcome = session.execute("INSERT INTO t VALUES (7, 'x'), (5, 'y')")
    assert (outcome.rowcount, outcome.lastrowid, outcome.columns) == (2, 5, None)
    generated = session.execute("INSERT INTO t (a) VALUES ('z')").lastrowid
    assert fetch(session, "SELECT max(id) FROM t") == [(generated,)]
    upsert = "INSERT INTO t VALUES (2, 'x') ON CONFLICT (id) DO UPDATE SET a = 'y'"
    outcome = session.execute(upsert)
    assert (outcome.rowcount, outcome.lastrowid) == (1, None)
    assert session.execute("UPDATE t SET a = 'w' WHERE id < 6").rowcount == 3
    assert session.execute("DELETE FROM t").rowcount == 5
    outcome = session.execute("CREATE TABLE u (x TEXT)")
    assert (outcome.kind, outcome.rowcount, outcome.rows) == ("create", -1, None)
    assert session.execute("INSERT INTO u VALUES ('x')").lastrowid is None


def test_the_time_stands_still_for_a_statement(session: Session) -> None:
    clock = session._clock
    assert isinstance(clock, ManualClock)
    before = fetch(session, "SELECT now() = now(), now()")
    clock.advance(1000)
    assert before[0][0] is True
    assert fetch(session, "SELECT now()") != [before[0][1:]]


# Lazy rows ---------------------------------------------------------------------------------------


def test_rows_come_from_the_snapshot_of_the_statement(session: Session) -> None:
    rows = session.execute("SELECT id FROM t").rows
    assert rows is not None
    session.execute(SECOND)
    session.execute("DROP TABLE t")
    session.close()
    assert list(rows) == [(1,)]


@pytest.mark.parametrize("end", ["exhaust", "close", "drop", "drop unread", "error"])
def test_the_snapshot_is_released_with_the_rows(session: Session, pins: Pins, end: str) -> None:
    session.execute(SECOND)
    text = "SELECT 1 / (id - 2) FROM t" if end == "error" else "SELECT id FROM t"
    outcome = session.execute(text)
    rows: Any = outcome.rows
    assert len(pins) == 1
    match end:
        case "exhaust":
            assert len(list(rows)) == 2
        case "close":
            next(rows)
            rows.close()
        case "drop":
            next(rows)
        case "error":
            with pytest.raises(Exception, match="ivision by zero"):
                list(rows)
    del rows, outcome
    gc.collect()
    assert len(pins) == 0


def test_a_lookup_and_a_columnar_query_pin_nothing(session: Session, pins: Pins) -> None:
    outcome = session.execute("SELECT a FROM t WHERE id = 1")
    wide = session.execute("SELECT count(*) OVER () FROM t")
    assert len(pins) == 0
    assert list(outcome.rows or ()) == [("one",)]
    assert wide.arrow is not None


def test_a_statement_that_fails_to_start_pins_nothing(session: Session, pins: Pins) -> None:
    with pytest.raises(BindError):
        session.execute("SELECT nope FROM t")
    with pytest.raises(InvalidInput):
        session.execute("SELECT id FROM t WHERE id > ?")
    assert len(pins) == 0


def test_in_a_transaction_rows_are_those_of_the_moment(session: Session) -> None:
    session.begin()
    rows = session.execute("SELECT id FROM t").rows
    session.execute(SECOND)
    session.rollback()
    assert list(rows or ()) == [(1,)]


# Transactions ------------------------------------------------------------------------------------


def test_a_transaction_is_seen_by_others_when_it_commits(session: Session) -> None:
    other = beside(session)
    session.begin()
    session.execute(SECOND)
    assert fetch(other, "SELECT count(*) FROM t") == [(1,)]
    session.commit()
    assert fetch(other, "SELECT count(*) FROM t") == [(2,)]
    assert not session.in_transaction


def test_a_transaction_reads_one_snapshot(session: Session) -> None:
    session.begin()
    beside(session).execute(SECOND)
    assert fetch(session, "SELECT count(*) FROM t") == [(1,)]
    assert fetch(session, "SELECT count(*) FROM t x JOIN t y ON x.id = y.id") == [(1,)]
    session.rollback()
    assert fetch(session, "SELECT count(*) FROM t") == [(2,)]


def test_the_first_committer_wins(session: Session) -> None:
    session.begin()
    session.execute("UPDATE t SET a = 'mine'")
    beside(session).execute("UPDATE t SET a = 'theirs'")
    with pytest.raises(Conflict):
        session.commit()
    assert not session.in_transaction
    assert fetch(session, "SELECT a FROM t") == [("theirs",)]


@pytest.mark.parametrize("lock", ["FOR UPDATE", "FOR SHARE OF t NOWAIT", "FOR UPDATE SKIP LOCKED"])
def test_rows_that_were_locked_have_to_stay(session: Session, lock: str) -> None:
    other = beside(session)
    session.execute("INSERT INTO t VALUES (2, 'b'), (3, 'c')")
    for changed, fails in ((1, True), (2, False)):
        session.begin()
        rows = fetch(session, f"SELECT a FROM t WHERE id = ? ORDER BY id LIMIT 1 {lock}", [1])
        assert len(rows) == 1
        session.execute("INSERT INTO t VALUES (?, 'mine')", [10 + changed])
        other.execute("UPDATE t SET a = 'theirs' WHERE id = ?", [changed])
        if fails:
            with pytest.raises(Conflict):
                session.commit()
        else:
            session.commit()
    assert fetch(session, f"SELECT id FROM t WHERE id > 10 {lock}") == [(12,)]  # nothing is held


def test_increments_do_not_conflict(session: Session) -> None:
    session.execute("ALTER TABLE t ADD COLUMN n COUNTER")
    session.begin()
    session.execute("UPDATE t SET n = n + 1")
    beside(session).execute("UPDATE t SET n = n + 10")
    session.commit()
    assert fetch(session, "SELECT n FROM t") == [(11,)]


def test_a_failing_statement_leaves_no_trace_and_the_transaction_goes_on(session: Session) -> None:
    session.begin()
    session.execute(SECOND)
    for text, error in (
        ("INSERT INTO t VALUES (3, 'x'), (4, 'y'), (1, 'z')", ConstraintViolation),
        ("UPDATE t SET id = 9 - 8", ConstraintViolation),
        ("INSERT INTO t VALUES (5, 6)", TypeMismatch),
        ("ALTER TABLE t ADD COLUMN b INT, DROP COLUMN nope", InvalidInput),
    ):
        with pytest.raises(error):
            session.execute(text)
        assert fetch(session, "SELECT * FROM t ORDER BY id") == [(1, "one"), (2, "two")]
    with pytest.raises(ConstraintViolation):
        session.execute_many("INSERT INTO t VALUES (?, ?)", [(3, "x"), (1, "y")])
    session.commit()
    assert fetch(session, "SELECT count(*) FROM t") == [(2,)]


def test_outside_of_a_transaction_a_failing_statement_leaves_nothing(session: Session) -> None:
    before = session._replica.vector
    with pytest.raises(ConstraintViolation):
        session.execute("INSERT INTO t VALUES (3, 'x'), (1, 'y')")
    assert session._replica.vector == before


class Interrupting:
    """A sequence of parameter rows that Ctrl-C interrupts."""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        yield 10, "x"
        yield 11, "y"
        raise KeyboardInterrupt


@pytest.mark.parametrize("inside", [False, True])
def test_an_interrupted_statement_leaves_no_trace(session: Session, inside: bool) -> None:
    if inside:
        session.begin()
    with pytest.raises(KeyboardInterrupt):
        session.execute_many("INSERT INTO t VALUES (?, ?)", Interrupting())
    assert session.in_transaction is inside
    assert fetch(session, "SELECT count(*) FROM t") == [(1,)]


def test_transactions_do_not_nest_and_do_not_end_twice(session: Session) -> None:
    session.begin()
    with pytest.raises(InvalidInput, match="open already"):
        session.begin()
    session.rollback()
    for end in (session.rollback, session.commit):
        with pytest.raises(InvalidInput, match="no transaction is open"):
            end()


def test_closing_rolls_back(session: Session) -> None:
    session.begin()
    session.execute(SECOND)
    other = beside(session)
    session.close()
    session.close()
    assert fetch(other, "SELECT count(*) FROM t") == [(1,)]
    for use in (lambda: session.execute("SELECT 1"), session.begin, session.commit):
        with pytest.raises(Closed):
            use()


# Many rows ---------------------------------------------------------------------------------------


def test_execute_many_writes_all_rows_as_one(session: Session) -> None:
    before = session._replica.vector[session._replica.id]
    rows = [(i, f"row {i}") for i in range(100, 200)]
    outcome = session.execute_many("INSERT INTO t VALUES (?, ?)", rows)
    assert (outcome.rowcount, outcome.lastrowid) == (100, 199)
    assert session._replica.vector[session._replica.id] == before + 1
    outcome = session.execute_many(
        "UPDATE t SET a = :a WHERE id = :id RETURNING id",
        ({"id": i, "a": "new"} for i in (100, 150, 999)),
    )
    assert (outcome.rowcount, list(outcome.rows or ())) == (2, [(100,), (150,)])
    assert session.execute_many("DELETE FROM t WHERE id = $1", [[100], [100], [1]]).rowcount == 2
    assert session.execute_many("INSERT INTO t VALUES (?, ?)", []).rowcount == 0


def test_execute_many_is_for_writes(session: Session) -> None:
    for text in ("SELECT 1", "CREATE TABLE u (x INT)", "BEGIN", "EXPLAIN DELETE FROM t"):
        with pytest.raises(InvalidInput, match="once per row"):
            session.execute_many(text, [()])


def test_a_wrong_row_names_the_counts_and_undoes_all(session: Session) -> None:
    with pytest.raises(InvalidInput, match="has 2 parameters, 1 value given"):
        session.execute_many("INSERT INTO t VALUES (?, ?)", [(5, "x"), (6,)])
    assert fetch(session, "SELECT count(*) FROM t") == [(1,)]


# Parameters --------------------------------------------------------------------------------------

HOSTILE = [
    "'; DROP TABLE t; --",
    "$p0",
    ":a",
    "?",
    "x' OR 'x' = 'x",
    "\\",
    "%",
    "\x1b[0m",
    "ß" * 999,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_parameter_is_never_read_as_sql(session: Session, text: str) -> None:
    session.execute("INSERT INTO t VALUES (2, ?)", [text])
    assert fetch(session, "SELECT a FROM t WHERE a = ?", [text]) == [(text,)]
    wide = "SELECT x.a, :v FROM t x JOIN t y ON x.id = y.id WHERE x.a = :v"
    assert fetch(session, wide, {"v": text}) == [(text, text)]
    assert fetch(session, "SELECT count(*) FROM t WHERE a = ? OR a = ?", [text, "no"]) == [(1,)]


def test_parameters_are_checked_against_what_they_meet(session: Session) -> None:
    for text in (
        "SELECT * FROM t WHERE id = ?",
        "SELECT id FROM t x JOIN t USING (id) WHERE id = ?",
    ):
        with pytest.raises(TypeMismatch, match="parameter 1"):
            fetch(session, text, ["x"])
    with pytest.raises(TypeMismatch, match=r"t\.a"):
        session.execute("INSERT INTO t VALUES (?, ?)", [5, 6])
    assert fetch(session, "SELECT id FROM t WHERE id = ?", [None]) == []
    # Beyond 64 bits nothing is stored, and nothing can be compared.
    with pytest.raises(Exception, match="parameter 1"):
        fetch(session, "SELECT id FROM t WHERE id = ?", [2**63])


def test_a_parameter_may_be_used_more_than_once_and_in_many_roles(session: Session) -> None:
    text = "INSERT INTO t VALUES (:n, :a || :a) RETURNING id + :n, a"
    assert list(session.execute(text, {"n": 4, "a": "x"}).rows or ()) == [(8, "xx")]
    mixed = "INSERT INTO t (id, a) VALUES (?, upper(?)), (?, ?)"
    session.execute(mixed, [5, "y", 6, "z"])
    found = fetch(session, "SELECT a FROM t WHERE id >= 5 ORDER BY id")
    assert found == [("Y",), ("z",)]


# The plan cache ----------------------------------------------------------------------------------


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are prepared from here on."""
    texts: list[str] = []
    real = cache.prepare

    def prepare(parsed: Any, *args: Any) -> Any:
        texts.append(parsed.text)
        return real(parsed, *args)

    monkeypatch.setattr(cache, "prepare", prepare)
    return texts


def test_a_text_is_prepared_once_for_all_sessions(session: Session, prepared: list[str]) -> None:
    text = "SELECT a FROM t WHERE id = ?"
    for i in range(3):
        fetch(session, text, [i])
        fetch(beside(session), text, [i])
    assert prepared == [text]


def test_writes_do_not_invalidate_but_schema_changes_do(
    session: Session, prepared: list[str]
) -> None:
    text = "SELECT * FROM t WHERE id = 2"
    assert fetch(session, text) == []
    session.execute(SECOND)
    assert fetch(session, text) == [(2, "two")]
    assert prepared.count(text) == 1
    session.execute("ALTER TABLE t ADD COLUMN b INT DEFAULT 5")
    assert fetch(session, text) == [(2, "two", 5)]
    assert prepared.count(text) == 2


def test_a_schema_that_was_rolled_back_leaves_no_plans_behind(session: Session) -> None:
    text = "SELECT * FROM t"
    session.begin()
    session.execute("ALTER TABLE t ADD COLUMN b INT")
    assert fetch(session, text) == [(1, "one", None)]
    assert fetch(beside(session), text) == [(1, "one")]
    session.rollback()
    assert fetch(session, text) == [(1, "one")]
    session.execute("ALTER TABLE t ADD COLUMN c INT DEFAULT 7")
    assert fetch(session, text) == [(1, "one", 7)]


def test_a_plan_survives_until_the_table_is_another_one(session: Session) -> None:
    text = "SELECT * FROM t"
    assert fetch(session, text) == [(1, "one")]
    session.execute("DROP TABLE t")
    with pytest.raises(BindError):
        fetch(session, text)
    session.execute("CREATE TABLE t (x INT)")
    assert fetch(session, text) == []


def test_the_cache_forgets_what_was_not_used_for_longest() -> None:
    statements = cache.StatementCache(capacity=3)
    texts = [f"SELECT {i}" for i in range(4)]
    kept = [statements.get(text) for text in texts[:3]]
    assert statements.get(texts[0]) is kept[0]
    statements.get(texts[3])
    assert len(statements) == 3
    assert statements.get(texts[0]) is kept[0]
    assert statements.get(texts[1]) is not kept[1]
    long = "SELECT " + "1 + " * 10 + " " * cache.MAX_CACHED_TEXT + "1"
    assert statements.get(long) is not statements.get(long)


def test_generated_keys_rise_across_sessions(session: Session) -> None:
    keys = []
    for i in range(20):
        one = (session, beside(session))[i % 2]
        keys.append(one.execute("INSERT INTO t (a) VALUES ('x')").lastrowid)
    assert keys == sorted(set(keys), key=lambda key: key or 0)


def test_a_statement_too_deep_for_the_caller_s_stack_is_an_error_with_a_name(
    session: Session,
) -> None:
    text = "SELECT id" + " + 1" * 90 + " FROM t"
    statement = session._shared.statements.get(text)  # parsed, where there is room

    def below(frames: int) -> Any:
        if frames:
            return below(frames - 1)
        return statement.prepared(session._replica.snapshot().state, session._system)

    room = sys.getrecursionlimit() - len(inspect.stack())
    with pytest.raises(ParseError, match="nested too deeply"):
        below(room - 60)
    assert fetch(session, text) == [(91,)]


# Engines -----------------------------------------------------------------------------------------


def test_one_table_is_read_by_the_engine_that_costs_less(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "SELECT id, a FROM t WHERE a > 'a' ORDER BY a, id"
    assert plan_of(session, text)[0] == "engine: row (full scan)"
    monkeypatch.setattr(cost, "START_US", 2.0)
    session.execute_many("INSERT INTO t VALUES (?, ?)", [(i, f"{i:03}") for i in range(10, 400)])
    assert plan_of(session, text)[0].startswith("engine: columnar (full scan; row 0.")
    assert session.execute(text).arrow is not None
    assert fetch(session, text) == [(1, "one")]
    for near in ("WHERE id = 5", "WHERE id = 5 OR id = 8", "LIMIT 5", "ORDER BY id LIMIT 5"):
        assert plan_of(session, f"SELECT a FROM t {near}")[0].startswith("engine: row (")
    # What a transaction has written is in no column yet: that is done for the statement alone.
    session.begin()
    assert plan_of(session, text)[0].startswith("engine: columnar")
    session.execute("UPDATE t SET a = 'zzz' WHERE id = 1")
    monkeypatch.setattr(choice, "PRIVATE_US", 10.0)
    assert plan_of(session, text)[0].startswith("engine: row (full scan; ")
    assert fetch(session, text) == [(1, "zzz")]
    session.rollback()


def test_a_range_is_counted_before_it_is_left_to_the_other_engine(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(i, f"{i:03}") for i in range(10, 90)]
    session.execute_many("INSERT INTO t VALUES (?, ?)", rows)
    monkeypatch.setattr(cost, "START_US", 4.0)
    text = "SELECT a FROM t WHERE id > ?"
    assert fetch(session, text, [20]) == [(a,) for i, a in rows if i > 20]
    assert session.execute(text, [20]).arrow is not None  # guessed at a third, and it is more
    assert session.execute(text, [85]).arrow is None
    assert fetch(session, text, [85]) == [(a,) for i, a in rows if i > 85]


def test_without_a_columnar_engine_the_refusal_says_why() -> None:
    session = open_session(columnar=False)
    session.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    for text, reason in (
        ("SELECT count(*) FROM t GROUP BY ROLLUP (id)", "ROLLUP"),
        ("SELECT count(*) OVER () FROM t", "window function"),
    ):
        with pytest.raises(Unsupported, match=f"{reason}: this needs the columnar engine"):
            session.execute(text)


class Peers:
    """A supplier of one system relation."""

    def columns(self, name: str) -> tuple[ResultColumn, ...] | None:
        if name != "murmur_peers":
            return None
        return ResultColumn("node", TEXT), ResultColumn("backlog", BIGINT)

    def rows(self, name: str, view: View) -> Iterator[tuple[Any, ...]]:
        assert name == "murmur_peers"
        return iter([("ann", 3), ("bob", None), ("eve", 1)])


def test_system_relations_are_relations() -> None:
    session = open_session(system=Peers())
    assert fetch(session, "SELECT node FROM murmur_peers WHERE backlog > 0 ORDER BY backlog") == [
        ("eve",),
        ("ann",),
    ]
    text = "SELECT count(*), sum(p.backlog) FROM murmur_peers p JOIN murmur_tables ON FALSE"
    assert fetch(session, text) == [(0, None)]
    text = "SELECT node, rank() OVER (ORDER BY backlog) FROM murmur_peers ORDER BY node LIMIT 1"
    assert fetch(session, text) == [("ann", 2)]
    with pytest.raises(BindError, match="can only be read"):
        session.execute("DELETE FROM murmur_peers")
    with pytest.raises(BindError, match="there is no table"):
        session.execute("SELECT * FROM murmur_parked")


def test_sessions_of_one_replica_may_come_and_go() -> None:
    clock = ManualClock()
    replica = Replica.open(
        MemoryStorage(), clock=clock, derivation=CatalogDerivation(compile_row_expression)
    )
    for i in range(3):
        session = open_session(replica=replica)
        session.execute("CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)")
        session.execute("INSERT INTO t VALUES (?)", [i])
        session.close()
    assert fetch(open_session(replica=replica), "SELECT id FROM t") == [(0,), (1,), (2,)]
    replica.close()
