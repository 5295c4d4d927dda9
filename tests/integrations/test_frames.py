"""pandas and Polars through SQLAlchemy and through plain connections; DuckDB on results."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
import sqlalchemy as sa

import murmur


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"murmur:///{tmp_path / 'db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)"))
        connection.execute(sa.text("INSERT INTO note VALUES (1, 'one'), (2, NULL)"))
    yield engine
    engine.dispose()


def test_pandas_over_an_engine(engine: sa.Engine) -> None:
    frame = pd.read_sql("note", engine, index_col="id")
    assert frame["body"].to_list()[0] == "one"
    found = pd.read_sql(
        sa.text("SELECT id FROM note WHERE id > :least"), engine, params={"least": 1}
    )
    assert found["id"].to_list() == [2]
    new = pd.DataFrame(
        {
            "n": [1, 2],
            "x": [0.5, None],
            "t": ["a", None],
            "d": pd.to_datetime(["2024-01-01 10:00", None]),
            "b": [True, False],
        }
    )
    assert new.to_sql("new", engine, index=False) == 2
    assert new.to_sql("new", engine, index=False, if_exists="append", method="multi") == 2
    with pytest.raises(ValueError, match="already exists"):
        new.to_sql("new", engine)
    new.to_sql("new", engine, index=False, if_exists="replace", chunksize=1)
    found = pd.read_sql_table("new", engine)
    pd.testing.assert_frame_equal(found, new, check_dtype=False)
    assert sum(len(chunk) for chunk in pd.read_sql("SELECT * FROM new", engine, chunksize=1)) == 2


def test_pandas_over_a_plain_connection(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        plain = connection.connection.driver_connection
        with pytest.warns(UserWarning, match="only supports SQLAlchemy"):
            frame = pd.read_sql("SELECT * FROM note WHERE id = ?", plain, params=[1])
    assert frame.to_dict("list") == {"id": [1], "body": ["one"]}


def test_polars_over_an_engine_and_a_plain_connection(engine: sa.Engine) -> None:
    query = "SELECT * FROM note ORDER BY id"
    with engine.connect() as connection:
        expected = [(1, "one"), (2, None)]
        assert pl.read_database(query, connection).rows() == expected
        assert pl.read_database(query, connection.connection.driver_connection).rows() == expected
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert frame.write_database("frame", engine) == 2
    assert frame.write_database("frame", engine, if_table_exists="append") == 2
    with engine.connect() as connection:
        assert pl.read_database("SELECT count(*) FROM frame", connection).item() == 4


def test_duckdb_reads_results_by_their_names(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "db") as swarm, duckdb.connect() as connection:
        swarm.sql("CREATE TABLE t (a INT, b DECIMAL(8,2), c UUID)")
        swarm.sql("INSERT INTO t VALUES (1, 1.5, uuid7()), (2, NULL, NULL)")
        result = swarm.sql("SELECT * FROM t ORDER BY a")
        arrow = result.arrow()
        for name in ("result", "arrow"):
            query = f"SELECT sum(a), sum(b)::text, count(c) FROM {name}"
            assert connection.sql(query).fetchall() == [(3, "1.50", 1)]
        assert (len(result), arrow.num_rows) == (2, 2)


JUPYSQL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
import murmur

connection = murmur.connect(sys.argv[1], autocommit=True)
shell = InteractiveShell.instance()
shell.history_manager.enabled = False
shell.user_ns["connection"] = connection
for line in (
    "%load_ext sql", "%config SqlMagic.displaycon = False", "%sql connection",
    "%sql CREATE TABLE t (a INT, b TEXT)", "%sql INSERT INTO t VALUES (1, 'x'), (2, 'y')",
):
    assert shell.run_cell(line).success, line
found = shell.run_cell("%sql SELECT b FROM t WHERE a > 1").result
assert found.DataFrame()["b"].to_list() == ["y"], found
shell.history_manager.end_session()
connection.close()
print("taken")
"""


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("sql") is None, reason="JupySQL is not installed")
def test_jupysql_takes_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process of its own: JupySQL brings settings, and sends statistics unless it is told not to.
    monkeypatch.setenv("PLOOMBER_STATS_ENABLED", "false")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", JUPYSQL, str(tmp_path / "db")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "taken" in done.stdout.splitlines(), done.stdout + done.stderr
