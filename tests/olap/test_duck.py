"""The columnar engine: right answers in Murmur's types, nothing reachable but its relations."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given

from murmur.catalog import Interval, SqlType, Table, parse_type, update_row
from murmur.errors import (
    BindError,
    Closed,
    DataError,
    InternalError,
    InvalidInput,
    MurmurError,
    ParseError,
    Unsupported,
)
from murmur.kvcore import View
from murmur.olap import cache, duck
from murmur.olap.arrow import sql_type_of
from murmur.olap.beside import Beside
from murmur.olap.cache import ColumnCache
from murmur.olap.duck import DuckEngine
from tests.olap.harness import ONE_OF_EACH, TYPES, Peer, every_type, make_peer, rows
from tests.patience import eventually


@dataclass(frozen=True)
class Relation:
    """What sql/columnar.py hands over."""

    view: Any = None
    table: Table | None = None
    private: bool = False
    columns: tuple[tuple[str, SqlType | None], ...] = ()
    rows: Iterable[tuple[Any, ...]] | None = None
    history: bool = False
    wanted: Sequence[str] | None = None


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    engine = DuckEngine()
    yield engine
    engine.close()


def answer(engine: DuckEngine, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
    return list(engine.rows(engine.run(sql, parameters, {})))


def relation_of(values: Iterable[tuple[Any, ...]], **columns: str) -> Relation:
    typed = tuple((name, parse_type(sql_type)) for name, sql_type in columns.items())
    return Relation(columns=typed, rows=list(values))


@given(rows())
def test_rows_go_through_the_engine_unchanged(given_rows: list[tuple[Any, ...]]) -> None:
    with_engine = SHARED.run(
        "SELECT * FROM r0",
        {},
        {"r0": Relation(columns=tuple((str(t), t) for t in TYPES), rows=given_rows)},
    )
    back = list(SHARED.rows(with_engine))
    assert back == given_rows
    for left, right in zip(back, given_rows, strict=True):
        assert list(map(type, left)) == list(map(type, right))


SHARED = DuckEngine()


def test_results_carry_sql_types(engine: DuckEngine) -> None:
    relation = Relation(
        columns=tuple((str(t), t) for t in TYPES), rows=[tuple(ONE_OF_EACH.values())]
    )
    table = engine.run("SELECT * FROM r0", {}, {"r0": relation})
    assert [str(sql_type_of(field)) for field in table.schema] == [
        {"COUNTER": "BIGINT", "VARCHAR(5)": "TEXT", "DECIMAL": "DECIMAL(38,10)"}.get(name, name)
        for name in ONE_OF_EACH
    ]


def test_sums_are_integers_until_they_do_not_fit(engine: DuckEngine) -> None:
    small = engine.run("SELECT sum(x) AS s FROM (VALUES (1::BIGINT), (2)) v(x)", {}, {})
    assert list(engine.rows(small)) == [(3,)]
    assert str(sql_type_of(small.schema.field("s"))) == "BIGINT"
    large = engine.run(
        "SELECT sum(x) AS s FROM (VALUES (9223372036854775807::BIGINT), (1)) v(x)", {}, {}
    )
    assert list(engine.rows(large)) == [(Decimal(2**63),)]
    assert str(sql_type_of(large.schema.field("s"))) == "DECIMAL(38,0)"
    assert answer(engine, "SELECT sum(x) FROM (SELECT 1::BIGINT AS x LIMIT 0)") == [(None,)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 7 / 2, -7 / 2, 7 / 2.0", (3, -3, 3.5)),
        ("SELECT 'a' || NULL", (None,)),
        ("SELECT 1 WHERE NULL = NULL", None),
        ("SELECT list(x) FROM (SELECT x FROM (VALUES (1), (NULL)) v(x) ORDER BY x)", ([1, None],)),
        (
            "SELECT list(x) FROM (SELECT x FROM (VALUES (1), (NULL)) v(x) ORDER BY x DESC)",
            ([None, 1],),
        ),
        ("SELECT 'infinity'::DOUBLE", (float("inf"),)),
        ("SELECT NULL", (None,)),
    ],
)
def test_semantics_are_postgresqls(
    engine: DuckEngine, sql: str, expected: tuple[Any, ...] | None
) -> None:
    assert answer(engine, sql) == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("sql", "error", "text"),
    [
        ("SELEC 1", ParseError, "syntax error"),
        ("SELECT nope FROM r0", BindError, "nope"),
        ("SELECT * FROM nope", BindError, "nope"),
        ("SELECT 1 / 0", DataError, "^division by zero$"),
        ("SELECT 1e0 / 0", DataError, "^division by zero$"),
        ("SELECT 9223372036854775807 + 1", DataError, "Overflow"),
        ("SELECT CAST('x' AS INTEGER)", DataError, "'x'"),
        ("SELECT ln(-1)", DataError, "logarithm"),
        ("SELECT (SELECT x FROM (VALUES (1), (2)) v(x))", DataError, "(?i)more than one row"),
        ("SELECT 1; SELECT 2", Unsupported, "one SELECT"),
        ("CREATE TABLE x (a INTEGER)", Unsupported, "one SELECT"),
        ("INSERT INTO r0 VALUES (1)", Unsupported, "one SELECT"),
        ("SET threads = 1", Unsupported, "one SELECT"),
        ("PRAGMA database_list", Unsupported, "one SELECT"),
        ("SELECT $p0", InvalidInput, "p0"),
    ],
)
def test_errors_are_murmurs_and_speak_of_the_statement(
    engine: DuckEngine, sql: str, error: type[MurmurError], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        engine.run(sql, {}, {"r0": relation_of([], a="INTEGER")})
    assert type(caught.value) is error
    for advice in ("TRY(", "SET ", "LINE 1", "Did you mean", "Candidate", "Error:"):
        assert advice not in str(caught.value)


def test_errors_name_the_table_instead_of_the_relation(engine: DuckEngine) -> None:
    peer = make_peer()
    table = peer.define(every_type("parcel"))
    with peer.replica.snapshot() as view, pytest.raises(BindError, match="parcel"):
        engine.run("SELECT r0.x.nope FROM r0", {}, {"r0": Relation(view, table)})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{path}')",
        "SELECT * FROM read_text('{path}')",
        "SELECT * FROM '{path}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM parquet_scan('{path}')",
        "SELECT getenv('HOME')",
    ],
)
def test_no_file_and_no_environment_can_be_reached(
    engine: DuckEngine, tmp_path: Path, sql: str
) -> None:
    path = tmp_path / "secret.csv"
    path.write_text("a\n1\n")
    with pytest.raises((Unsupported, BindError)):
        engine.run(sql.format(path=path, folder=tmp_path), {}, {})


def test_python_variables_are_not_relations() -> None:
    connection, local = duck._connect(), pa.table({"a": [1]})
    with pytest.raises(duckdb.CatalogException, match="local"):
        connection.sql("SELECT * FROM local")
    assert local.num_rows == 1
    connection.close()


def test_the_configuration_is_locked() -> None:
    connection = duck._connect()
    with pytest.raises(duckdb.InvalidInputException, match="locked"):
        connection.execute("SET enable_external_access = true")
    connection.close()


def test_parameters_keep_their_types(engine: DuckEngine) -> None:
    values = {f"p{at}": value for at, value in enumerate(ONE_OF_EACH.values())}
    names = ", ".join(f"${name}" for name in values)
    assert answer(engine, f"SELECT {names}", **values) == [tuple(values.values())]


def test_an_interval_parameter_keeps_its_months(engine: DuckEngine) -> None:
    for value in (Interval(1), Interval(-13, days=2, microseconds=-5)):
        ((back,),) = answer(engine, "SELECT $p0", p0=value)
        assert (back.months, back.exact) == (value.months, value.exact)


def test_two_columns_of_one_name_stay_two(engine: DuckEngine) -> None:
    table = engine.run("SELECT 1 AS a, 2 AS a", {}, {})
    assert (table.column_names, list(engine.rows(table))) == (["a", "a"], [(1, 2)])


def test_explain_is_text(engine: DuckEngine) -> None:
    plan = engine.explain("SELECT count(*) FROM r0", {}, {"r0": relation_of([(1,)], a="INTEGER")})
    assert "Scan" in plan


# What is kept ----------------------------------------------------------


def read(peer: Peer, engine: DuckEngine, *, private: bool = False) -> list[tuple[Any, ...]]:
    with peer.replica.snapshot() as view:
        relation = Relation(view, peer.table("t"), private=private)
        return list(engine.rows(engine.run("SELECT id FROM r0 ORDER BY id", {}, {"r0": relation})))


def test_columns_are_built_once_and_again_when_a_row_changes() -> None:
    peer, engine = make_peer(), DuckEngine()
    peer.define(every_type())
    (key,) = peer.insert("t", {"id": 1})
    assert read(peer, engine) == read(peer, engine) == [(1,)]
    assert engine.stats()["arrow_cache_hits"] == 1
    peer.insert("t", {"id": 2})
    assert read(peer, engine) == [(1,), (2,)]
    assert engine.stats()["arrow_cache_misses"] == 2
    table = peer.table("t")
    with peer.replica.begin() as tx:
        update_row(tx, table, key, {table.columns[9].id: "new"})
    with peer.replica.snapshot() as view:
        out = engine.run('SELECT "TEXT" FROM r0 ORDER BY id', {}, {"r0": Relation(view, table)})
    assert list(engine.rows(out)) == [("new",), (None,)]
    engine.close()


def test_an_older_snapshot_reads_its_own_state() -> None:
    peer, engine = make_peer(), DuckEngine()
    peer.define(every_type())
    peer.insert("t", {"id": 1})
    with peer.replica.snapshot() as old:
        peer.insert("t", {"id": 2})
        assert read(peer, engine) == [(1,), (2,)]
        out = engine.run("SELECT id FROM r0", {}, {"r0": Relation(old, peer.table("t"))})
        assert list(engine.rows(out)) == [(1,)]
    assert read(peer, engine) == [(1,), (2,)]
    engine.close()


def test_what_a_transaction_sees_is_not_kept() -> None:
    peer, engine = make_peer(), DuckEngine()
    peer.define(every_type())
    read(peer, engine)
    before = engine.stats()
    read(peer, engine, private=True)
    assert engine.stats() == before
    engine.close()


def test_the_cache_stays_within_its_budget() -> None:
    peer = make_peer()
    for name in ("t", "u"):
        peer.define(every_type(name))
        peer.insert(name, *({"id": at} for at in range(100)))
    with peer.replica.snapshot() as view:
        whole = ColumnCache(1 << 30)
        one = whole.table(view, peer.table("t")).nbytes
        half = ColumnCache(one * 3 // 2)
        for name in ("t", "u"):
            assert half.table(view, peer.table(name)).num_rows == 100
        assert half.stats()["arrow_cache_bytes"] == one
        nothing = ColumnCache(0)
        assert nothing.table(view, peer.table("t")).num_rows == 100
        assert nothing.stats()["arrow_cache_bytes"] == 0


def test_a_renamed_column_is_not_built_again() -> None:
    from murmur.catalog import rename_column

    peer, engine = make_peer(), DuckEngine()
    peer.define(every_type())
    peer.insert("t", {"id": 1})
    read(peer, engine)
    with peer.replica.begin() as tx:
        rename_column(tx, "t", "id", "number")
    with peer.replica.snapshot() as view:
        relation = Relation(view, peer.table("t"))
        out = engine.run("SELECT number FROM r0", {}, {"r0": relation})
    assert list(engine.rows(out)) == [(1,)]
    engine.close()


def test_threads_that_want_one_table_build_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, engine = make_peer(), DuckEngine()
    peer.define(every_type())
    peer.insert("t", *({"id": at} for at in range(50)))
    built = []
    build = cache.table_to_arrow

    def counted(view: View, table: Table, *args: Any, **kwargs: Any) -> pa.Table:
        built.append(table.name)
        time.sleep(0.05)  # so that the others come to want it too
        return build(view, table, *args, **kwargs)

    monkeypatch.setattr(cache, "table_to_arrow", counted)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(len(read(peer, engine)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers, built) == ([50] * 8, ["t"])
    engine.close()


# Stopping --------------------------------------------------------------

ENDLESS = "SELECT count(*) FROM range(1000000000000) a(x) WHERE x % 7 = 3"


def test_ctrl_c_stops_a_query_and_leaves_the_engine_usable(engine: DuckEngine) -> None:
    def press() -> None:
        eventually(lambda: engine._running)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        engine.run(ENDLESS, {}, {})
    presser.join()
    assert answer(engine, "SELECT 1") == [(1,)]


def test_ctrl_c_before_the_query_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, start = DuckEngine(), threading.Thread.start
    ran: list[str] = []

    def interrupted(thread: threading.Thread) -> None:
        if when == "after":
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    for when in ("before", "after"):
        with pytest.raises(KeyboardInterrupt):
            engine.run(ENDLESS, {}, {})
        ran.append(when)
    monkeypatch.undo()
    assert answer(engine, "SELECT 1") == [(1,)]
    engine.close()
    assert ran == ["before", "after"]


def test_a_query_that_was_cancelled_does_not_begin_later() -> None:
    ran: list[str] = []
    beside = Beside(lambda: ran.append("work"), lambda: ran.append("interrupt"))
    beside._cancel()
    beside._run()
    assert ran == []


def test_closing_ends_what_runs() -> None:
    engine = DuckEngine()
    failures: list[BaseException] = []

    def query() -> None:
        try:
            engine.run(ENDLESS, {}, {})
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=query)
    thread.start()
    time.sleep(0.3)
    engine.close()
    thread.join()
    assert [type(failure) for failure in failures] == [Closed]
    with pytest.raises(Closed):
        engine.run("SELECT 1", {}, {})
    engine.close()


def test_an_error_inside_of_duckdb_does_not_end_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DuckEngine()
    assert engine.run("SELECT 1 AS a", {}, {}).to_pylist() == [{"a": 1}]
    broken = engine._connection

    def fail(*_: object) -> None:
        raise duckdb.FatalException("FATAL Error: database has been invalidated")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_query", fail)
        with pytest.raises(InternalError):
            engine.run("SELECT 1 AS a", {}, {})
    assert engine.run("SELECT 2 AS a", {}, {}).to_pylist() == [{"a": 2}]
    assert engine._connection is not broken
    engine.close()
