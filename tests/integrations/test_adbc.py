"""The ADBC connection: pandas, Polars and marimo take it, and take its Arrow path."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import adbc_driver_manager
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import murmur
from murmur.integrations import adbc

EVERY = {
    "a": [1, None],
    "b": [1.5, None],
    "c": ["x", None],
    "d": [True, None],
    "e": [date(2024, 1, 1), None],
    "f": [datetime(2024, 1, 1, 2, 3, 4, 5), None],
    "g": [datetime(2024, 1, 1, tzinfo=UTC), None],
    "h": [b"\0", None],
    "i": [timedelta(seconds=90), None],
    "j": [time(1, 2, 3), None],
    "k": [Decimal("1.25"), None],
    "l": [None, None],
}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[adbc.Connection]:
    connection = adbc.connect(tmp_path / "db", durability="none")
    yield connection
    connection.close()


@pytest.fixture
def notes(connection: adbc.Connection) -> adbc.Connection:
    connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
    connection.execute("INSERT INTO note VALUES (1, 'one'), (2, 'two')")
    connection.execute("CREATE VIEW bodies AS SELECT body FROM note")
    connection.commit()
    return connection


@pytest.fixture
def rows_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may read rows: what passes came as Arrow."""

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("rows were read")

    for name in ("fetchone", "fetchmany", "fetchall", "__next__"):
        monkeypatch.setattr(murmur.Cursor, name, refuse)


@pytest.mark.usefixtures("rows_refused")
def test_pandas_reads_and_writes_arrow(notes: adbc.Connection) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as pandas warns of connections that it does not know
        frame = pd.read_sql("SELECT id, body FROM note WHERE id > 1", notes)
        assert frame.to_dict("list") == {"id": [2], "body": ["two"]}
        assert pd.read_sql("note", notes)["body"].to_list() == ["one", "two"]
        new = pd.DataFrame({"n": [1, 2, 3], "t": pd.to_datetime(["2024-01-01"] * 3)})
        assert new.to_sql("new", notes, index=False) == 3
        assert new.to_sql("new", notes, index=False, if_exists="append") == 3
        with pytest.raises(ValueError, match="already exists"):
            new.to_sql("new", notes, index=False)
        new.to_sql("new", notes, index=False, if_exists="replace")
        found = pd.read_sql("SELECT * FROM new ORDER BY n", notes)
    pd.testing.assert_frame_equal(found, new, check_dtype=False)


@pytest.mark.usefixtures("rows_refused")
def test_polars_reads_and_writes_arrow(notes: adbc.Connection) -> None:
    query = "SELECT * FROM note ORDER BY id"
    assert pl.read_database(query, notes).rows() == [(1, "one"), (2, "two")]
    batches = pl.read_database(query, notes, iter_batches=True)
    assert [batch.height for batch in batches] == [2]
    frame = pl.DataFrame(EVERY)
    assert frame.write_database("every", notes) == 2
    assert frame.write_database("every", notes, if_table_exists="append") == 2
    assert frame.write_database("public.other", notes, if_table_exists="append") == 2
    with pytest.raises(murmur.InvalidInput, match="exists"):
        frame.write_database("every", notes)
    frame.write_database("every", notes, if_table_exists="replace")
    notes.commit()
    found = pl.read_database("SELECT * FROM every ORDER BY a", notes)
    assert_frame_equal(found, frame, check_dtypes=False)


def test_every_type_is_the_same_column_in_the_database(notes: adbc.Connection) -> None:
    pl.DataFrame(EVERY).write_database("every", notes)
    types = [field.type for field in notes.adbc_get_table_schema("every")]
    assert types[:4] == [pa.int64(), pa.float64(), pa.string(), pa.bool_()]
    table = notes.connection.catalog.table("every")
    assert table is not None
    assert " ".join(str(column.type) for column in table.columns).startswith(
        "BIGINT DOUBLE TEXT BOOLEAN DATE TIMESTAMP TIMESTAMPTZ BLOB INTERVAL TIME DECIMAL"
    )


def test_an_ingest_is_all_or_nothing(notes: adbc.Connection) -> None:
    with notes.cursor() as cursor:
        clash = pa.table({"id": [3, 1], "body": ["three", "one again"]})
        with pytest.raises(murmur.IntegrityError):
            cursor.adbc_ingest("note", clash, mode="append")
        with pytest.raises(murmur.NotSupportedError, match="column x"):
            cursor.adbc_ingest("lists", pa.table({"x": [[1]]}), mode="create")
    assert notes.connection.catalog.table("lists") is None
    assert notes.execute("SELECT count(*) FROM note").fetchone() == (2,)
    automatic = adbc.connect(notes.connection.swarm, autocommit=True)
    with pytest.raises(murmur.IntegrityError):
        automatic.cursor().adbc_ingest("note", clash, mode="append")
    good = pa.table({"body": pa.array(["four"]).dictionary_encode(), "id": pa.array([4], "uint8")})
    assert automatic.cursor().adbc_ingest("note", good, mode="append") == 1
    assert automatic.execute("SELECT count(*) FROM note").fetchone() == (3,)
    automatic.close()


def test_the_cursor_is_a_cursor(notes: adbc.Connection) -> None:
    with notes.cursor() as cursor:
        cursor.execute("SELECT id, body FROM note WHERE id = ?", (1,))
        assert cursor.fetchone() == (1, "one")
        cursor.execute("SELECT body FROM note WHERE id = :id", {"id": 2})
        assert list(cursor) == [("two",)]
        cursor.execute("SELECT body FROM note WHERE id = ?", pa.record_batch({"x": [2]}))
        assert cursor.fetchall() == [("two",)]
        rows = pa.table({"id": [7, 8], "body": ["seven", "eight"]})
        cursor.executemany("INSERT INTO note VALUES (?, ?)", rows)
        assert cursor.rowcount == 2
        cursor.execute("SELECT * FROM note ORDER BY id")
        assert cursor.fetch_polars().height == 4
        cursor.execute("SELECT * FROM note ORDER BY id")
        assert len(cursor.fetch_df()) == 4
        cursor.executescript("INSERT INTO note VALUES (9, ';'); DELETE FROM note WHERE id = 7;")
        assert cursor.execute("SELECT count(*) FROM note").fetchone() == (4,)
    notes.rollback()
    with notes.adbc_clone() as clone:
        assert clone.execute("SELECT count(*) FROM note").fetchone() == (2,)
    with pytest.raises(murmur.NotSupportedError):
        notes.adbc_get_statistics()


def test_objects_are_nested_as_adbc_nests_them(notes: adbc.Connection) -> None:
    (catalog,) = notes.adbc_get_objects().read_all().to_pylist()
    (schema,) = catalog["catalog_db_schemas"]
    note, view = schema["db_schema_tables"]
    assert (catalog["catalog_name"], schema["db_schema_name"]) == ("murmur", "public")
    assert [each["column_name"] for each in note["table_columns"]] == ["id", "body"]
    (key,) = note["table_constraints"]
    assert key["constraint_type"] == "PRIMARY KEY"
    assert key["constraint_column_names"] == ["id"]
    assert (view["table_name"], view["table_type"]) == ("bodies", "VIEW")
    shallow = notes.adbc_get_objects(depth="catalogs").read_all().to_pylist()
    assert shallow == [{"catalog_name": "murmur", "catalog_db_schemas": None}]
    filtered = notes.adbc_get_objects(table_name_filter="n_t%", column_name_filter="b%")
    (catalog,) = filtered.read_all().to_pylist()
    (note,) = catalog["catalog_db_schemas"][0]["db_schema_tables"]
    assert [each["column_name"] for each in note["table_columns"]] == ["body"]


def test_marimo_would_take_it(notes: adbc.Connection) -> None:
    """What marimo asks of a variable before it takes it for an ADBC connection, and then uses."""
    methods = "cursor commit rollback close adbc_get_objects adbc_get_table_schema adbc_get_info"
    assert all(callable(getattr(notes, name)) for name in methods.split())
    assert notes.adbc_get_info()["vendor_name"] == "Murmur"
    assert (notes.adbc_current_catalog, notes.adbc_current_db_schema) == ("murmur", "public")
    schema = notes.adbc_get_table_schema("note", db_schema_filter="public")
    assert schema.names == ["id", "body"]
    with pytest.raises(adbc_driver_manager.ProgrammingError) as missing:
        notes.adbc_get_table_schema("nowhere")
    assert missing.value.status_code == adbc_driver_manager.AdbcStatusCode.NOT_FOUND
    assert callable(notes.cursor().fetch_arrow_table)


def test_it_wraps_what_is_open(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "db") as swarm:
        plain = murmur.connect(swarm)
        plain.execute("CREATE TABLE t (a INT)")
        assert adbc.connect(plain).adbc_get_table_schema("t").names == ["a"]
        with pytest.raises(murmur.InvalidInput, match="made already"):
            adbc.connect(plain, autocommit=True)
        plain.close()
