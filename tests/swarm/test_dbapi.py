"""Connections as programs use them: transactions, shared directories, bulk loads, dataframes."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import murmur
from murmur import (
    Closed,
    Conflict,
    Connection,
    ConstraintViolation,
    InvalidInput,
    Swarm,
)

CREATE = "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)"


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a") as swarm:
        swarm.sql(CREATE)
        yield swarm


@pytest.fixture
def connection(swarm: Swarm) -> Iterator[Connection]:
    connection = murmur.connect(swarm)
    yield connection
    connection.close()


def count(of: Swarm | Connection) -> int:
    if isinstance(of, Swarm):
        return int(of.sql("SELECT count(*) FROM t").fetchall()[0][0])
    return int(of.execute("SELECT count(*) FROM t").fetchall()[0][0])


# Transactions ----------------------------------------------------------


def test_nothing_is_committed_until_commit(swarm: Swarm, connection: Connection) -> None:
    assert connection.autocommit is False
    assert connection.in_transaction is True
    connection.execute("INSERT INTO t VALUES (1, 'x')")
    assert (count(connection), count(swarm)) == (1, 0)
    connection.commit()
    assert count(swarm) == 1
    connection.execute("DELETE FROM t")
    connection.rollback()
    assert count(connection) == 1
    connection.commit()
    connection.commit()
    connection.rollback()


def test_a_transaction_begins_with_its_first_statement(
    swarm: Swarm, connection: Connection
) -> None:
    swarm.sql("INSERT INTO t VALUES (1, 'x')")
    assert count(connection) == 1
    swarm.sql("INSERT INTO t VALUES (2, 'y')")
    assert count(connection) == 1
    connection.commit()
    swarm.sql("INSERT INTO t VALUES (3, 'z')")
    assert count(connection) == 3


def test_with_commits_or_rolls_back_and_leaves_the_connection_open(
    swarm: Swarm, connection: Connection
) -> None:
    with connection as same:
        assert same is connection
        connection.execute("INSERT INTO t VALUES (1, 'x')")
    assert count(swarm) == 1
    with pytest.raises(ConstraintViolation), connection:
        _insert_two(connection)
    assert count(swarm) == 1
    assert count(connection) == 1


def _insert_two(connection: Connection) -> None:
    connection.execute("INSERT INTO t VALUES (2, 'y')")
    connection.execute("INSERT INTO t VALUES (1, 'again')")


def test_a_failed_statement_leaves_the_transaction_open(
    swarm: Swarm, connection: Connection
) -> None:
    connection.execute("INSERT INTO t VALUES (1, 'x')")
    with pytest.raises(ConstraintViolation):
        connection.execute("INSERT INTO t VALUES (2, 'y'), (1, 'again')")
    connection.commit()
    assert swarm.sql("SELECT id FROM t").fetchall() == [(1,)]


def test_closing_rolls_back(swarm: Swarm) -> None:
    connection = murmur.connect(swarm)
    connection.execute("INSERT INTO t VALUES (1, 'x')")
    connection.close()
    assert count(swarm) == 0


def test_autocommit_commits_each_statement(swarm: Swarm) -> None:
    connection = murmur.connect(swarm, autocommit=True)
    assert connection.in_transaction is False
    connection.execute("INSERT INTO t VALUES (1, 'x')")
    assert count(swarm) == 1
    connection.rollback()
    connection.commit()
    connection.execute("BEGIN")
    assert connection.in_transaction is True
    connection.execute("INSERT INTO t VALUES (2, 'y')")
    assert count(swarm) == 1
    connection.execute("COMMIT")
    assert (count(swarm), connection.in_transaction) == (2, False)
    connection.execute("BEGIN")
    connection.execute("DELETE FROM t")
    connection.rollback()
    assert count(swarm) == 2
    connection.close()


def test_switching_autocommit(swarm: Swarm, connection: Connection) -> None:
    connection.execute("INSERT INTO t VALUES (1, 'x')")
    connection.autocommit = True
    assert count(swarm) == 1
    connection.execute("INSERT INTO t VALUES (2, 'x')")
    assert count(swarm) == 2
    connection.autocommit = False
    connection.execute("INSERT INTO t VALUES (3, 'x')")
    assert count(swarm) == 2
    for wrong in (-1, 1, None, "on"):
        with pytest.raises(InvalidInput, match="autocommit is True or False"):
            connection.autocommit = wrong  # type: ignore[assignment]
    with pytest.raises(InvalidInput, match="autocommit"):
        murmur.connect(swarm, autocommit=-1)  # type: ignore[arg-type]


def test_begin_inside_the_implicit_transaction_is_refused(connection: Connection) -> None:
    with pytest.raises(InvalidInput, match="open already"):
        connection.execute("BEGIN")


def test_the_second_committer_starts_over(swarm: Swarm, connection: Connection) -> None:
    swarm.sql("INSERT INTO t VALUES (1, 'x')")
    connection.execute("UPDATE t SET s = 'mine' WHERE id = 1")
    swarm.sql("UPDATE t SET s = 'theirs' WHERE id = 1")
    with pytest.raises(Conflict):
        connection.commit()
    connection.execute("UPDATE t SET s = s || ', mine' WHERE id = 1")
    connection.commit()
    assert swarm.sql("SELECT s FROM t").fetchall() == [("theirs, mine",)]


def test_rows_survive_what_the_connection_does_next(swarm: Swarm) -> None:
    swarm.execute_many("INSERT INTO t VALUES (?, ?)", [(at, "x") for at in range(10)])
    for autocommit in (False, True):
        connection = murmur.connect(swarm, autocommit=autocommit)
        cursor = connection.execute("SELECT id FROM t WHERE id >= 0 ORDER BY id")
        assert cursor.fetchone() == (0,)
        connection.execute("UPDATE t SET s = 'y'")
        assert cursor.fetchone() == (1,)
        connection.commit()
        connection.execute("DELETE FROM t WHERE id > 100")
        connection.rollback()
        assert cursor.fetchall() == [(at,) for at in range(2, 10)]
        connection.close()


# Directories -----------------------------------------------------------


def test_connections_to_one_directory_share_a_swarm(tmp_path: Path) -> None:
    path = tmp_path / "a"
    first = murmur.connect(path, group="team", durability="none")
    second = murmur.connect(str(path) + "/../a")
    assert first.swarm is second.swarm
    assert first.swarm.group == "team"
    first.execute(CREATE)
    first.execute("INSERT INTO t VALUES (1, 'x')")
    first.commit()
    first.close()
    assert count(second) == 1
    shared = second.swarm
    second.close()
    second.close()
    assert shared.closed
    with murmur.open(path, "team") as swarm:
        assert count(swarm) == 1


def test_a_swarm_that_is_open_already_is_shared_and_stays_open(
    swarm: Swarm, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for path in (tmp_path / "a", tmp_path / "link"):
        connection = murmur.connect(path)
        assert connection.swarm is swarm
        connection.close()
    assert not swarm.closed
    with pytest.raises(InvalidInput, match="group='default', not 'other'"):
        murmur.connect(tmp_path / "a", group="other")
    with pytest.raises(InvalidInput, match="no option colour"):
        murmur.connect(tmp_path / "a", colour="red")
    with pytest.raises(InvalidInput, match="group cannot be set"):
        murmur.connect(swarm, group="other")


def test_a_swarm_opened_through_a_link_is_found_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with murmur.open(tmp_path / "link") as swarm:
        connection = murmur.connect(tmp_path / "a")
        assert connection.swarm is swarm
        connection.close()


def test_a_swarm_that_was_closed_is_not_shared(tmp_path: Path) -> None:
    swarm = murmur.open(tmp_path / "a")
    swarm.close()
    connection = murmur.connect(tmp_path / "a")
    assert connection.swarm is not swarm
    # Closed under its borrower: the next connection opens it again, and owns what it opened.
    connection.swarm.close()
    again = murmur.connect(tmp_path / "a")
    connection.close()
    assert again.execute("SELECT 1").fetchall() == [(1,)]
    again.close()
    assert again.swarm.closed


def test_a_forgotten_connection_gives_its_swarm_back(tmp_path: Path) -> None:
    connection = murmur.connect(tmp_path / "a")
    connection.execute(CREATE)
    del connection
    gc.collect()
    with murmur.open(tmp_path / "a") as swarm:
        assert swarm.version_vector == {}


def test_a_connection_whose_swarm_was_closed_is_closed(tmp_path: Path) -> None:
    swarm = murmur.open(tmp_path / "a")
    connection = murmur.connect(swarm)
    cursor = connection.cursor()
    swarm.close()
    for call in (connection.commit, connection.cursor, lambda: cursor.execute("SELECT 1")):
        with pytest.raises(Closed):
            call()
    connection.close()


@pytest.mark.parametrize("target", ["", None, 5, b"x", ":memory:"])
def test_wrong_targets(target: Any) -> None:
    with pytest.raises(InvalidInput):
        murmur.connect(target)


def test_threads_may_share_a_connection(
    swarm: Swarm, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[BaseException] = []
    inside: list[int] = []
    session = connection._session
    assert session is not None
    execute = session.execute

    def alone(text: str, parameters: Any, **options: Any) -> Any:
        inside.append(1)
        time.sleep(0.001)  # so that another thread could come in
        assert len(inside) == 1
        outcome = execute(text, parameters, **options)
        inside.pop()
        return outcome

    monkeypatch.setattr(session, "execute", alone)

    def work(number: int) -> None:
        try:
            for step in range(10):
                connection.execute("INSERT INTO t VALUES (?, 'x')", [number * 100 + step])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.commit()
    assert (failures, count(swarm)) == ([], 40)


# Loading and reading ---------------------------------------------------


def test_executemany_loads_from_any_iterable(swarm: Swarm, connection: Connection) -> None:
    cursor = connection.cursor()
    loaded = cursor.executemany("INSERT INTO t VALUES (?, ?)", ((at, f"s{at}") for at in range(99)))
    assert loaded is cursor
    assert (cursor.rowcount, cursor.lastrowid, cursor.description) == (99, 98, None)
    named = connection.executemany(
        "UPDATE t SET s = :s WHERE id = :id", [{"s": "a", "id": 1}, {"s": "b", "id": 1000}]
    )
    assert named.rowcount == 1
    assert connection.executemany("DELETE FROM t WHERE id = ?", []).rowcount == 0
    connection.commit()
    assert count(swarm) == 99
    with pytest.raises(InvalidInput):
        cursor.executemany("SELECT * FROM t WHERE id = ?", [(1,)])
    with pytest.raises(murmur.DatabaseError):
        cursor.executemany("INSERT INTO t VALUES (?, ?)", [(200, "a"), (201, 5)])
    assert count(connection) == 99


def test_parameter_styles(connection: Connection) -> None:
    for text, parameters in (
        ("SELECT ?, ?", [1, "a"]),
        ("SELECT ?, ?", (1, "a")),
        ("SELECT :n, :s", {"n": 1, "s": "a"}),
        ("SELECT $1, $2", [1, "a"]),
    ):
        assert connection.execute(text, parameters).fetchall() == [(1, "a")]
    for text, wrong in (
        ("SELECT ?", []),
        ("SELECT ?", [1, 2]),
        ("SELECT ?", "a"),
        ("SELECT :n", [1]),
        ("SELECT :n", {"m": 1}),
    ):
        with pytest.raises(InvalidInput):
            connection.execute(text, wrong)


@pytest.fixture
def wide(swarm: Swarm) -> Iterator[Connection]:
    connection = murmur.connect(swarm)
    connection.execute(
        "CREATE TABLE w (n INTEGER PRIMARY KEY, f DOUBLE, d DECIMAL(10,2), s TEXT, day DATE,"
        " at TIMESTAMPTZ, ok BOOLEAN, raw BLOB)"
    )
    connection.execute(
        "INSERT INTO w VALUES (1, 1.5, 2.50, 'x', '2024-02-29', '2024-02-29 12:00:00Z', true, ?),"
        " (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        [b"\x00"],
    )
    yield connection
    connection.close()


QUERIES = [
    "SELECT * FROM w ORDER BY n",
    "SELECT n, f, d, s, day, at, ok, raw FROM w WHERE n IN (SELECT n FROM w) ORDER BY n",
]


@pytest.mark.parametrize("query", QUERIES)
def test_pandas_reads_it(wide: Connection, query: str) -> None:
    with warnings.catch_warnings():
        # pandas says so of every connection but SQLAlchemy's and sqlite3's.
        warnings.filterwarnings("ignore", "pandas only supports SQLAlchemy", UserWarning)
        frame = pd.read_sql(query, wide)
        one = pd.read_sql("SELECT s FROM w WHERE n = ?", wide, params=(1,))
        chunks = list(pd.read_sql(query, wide, chunksize=1))
    assert frame["n"].tolist() == [1, 2]
    assert frame["f"].tolist()[0] == 1.5
    assert frame["d"].tolist()[0] == Decimal("2.50")
    assert frame["at"][0] == datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert one["s"].tolist() == ["x"]
    assert [len(chunk) for chunk in chunks] == [1, 1]


@pytest.mark.parametrize("query", QUERIES)
def test_polars_reads_it(wide: Connection, query: str) -> None:
    for source in (wide, wide.cursor()):
        frame = pl.read_database(query, source)
        assert frame.columns == ["n", "f", "d", "s", "day", "at", "ok", "raw"]
        assert frame.row(0) == (
            1,
            1.5,
            Decimal("2.50"),
            "x",
            date(2024, 2, 29),
            datetime(2024, 2, 29, 12, tzinfo=UTC),
            True,
            b"\x00",
        )
        assert frame.row(1) == (2, *[None] * 7)
    batches = pl.read_database(query, wide, iter_batches=True, batch_size=1)
    assert [batch.height for batch in batches] == [1, 1]
    with_parameters = pl.read_database(
        "SELECT s FROM w WHERE n = ?", wide, execute_options={"parameters": [1]}
    )
    assert with_parameters["s"].to_list() == ["x"]


@pytest.mark.parametrize("query", QUERIES)
def test_arrow_tables_hold_what_was_not_fetched(wide: Connection, query: str) -> None:
    cursor = wide.execute(query)
    assert cursor.fetchone() is not None
    table = cursor.fetch_arrow_table()
    assert table.column("n").to_pylist() == [2]
    assert cursor.fetch_arrow_table().num_rows == 0
    assert cursor.fetchall() == []
    assert cursor.rownumber == 2
