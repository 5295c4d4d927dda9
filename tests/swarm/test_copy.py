"""COPY: files into tables and back, of every format; and no file that was not allowed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import murmur
from murmur import (
    BindError,
    ConstraintViolation,
    DataError,
    InvalidInput,
    MurmurError,
    ParseError,
    Swarm,
    Unsupported,
)

EVERY = (
    "CREATE TABLE {} (id INTEGER PRIMARY KEY, a SMALLINT, b BOOLEAN, c REAL, d DOUBLE PRECISION, "
    "e DECIMAL(9,3), f TEXT, g VARCHAR(9), h BLOB, i DATE, j TIME, k TIMESTAMP, l TIMESTAMPTZ, "
    "m INTERVAL, n UUID, o JSON, p COUNTER, q DECIMAL)"
)
FULL: tuple[Any, ...] = (
    1,
    -5,
    True,
    0.5,
    1e300,
    Decimal("-1.250"),
    'a "quoted", text\nof two lines\té',
    "",
    b"\0\xff\\",
    date(2024, 2, 29),
    time(23, 59, 59, 5),
    datetime(2024, 2, 29, 12, 30, 1, 5),
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    timedelta(days=3, seconds=5, microseconds=7),
    UUID(int=7),
    '{"a": [1, null]}',
    9,
    Decimal("0.5"),
)
EMPTY: tuple[Any, ...] = (2, *([None] * 15), 0, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a", durability="none") as swarm:
        swarm.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT, d DOUBLE PRECISION)")
        yield swarm


def rows(swarm: Swarm, table: str = "t") -> list[tuple[Any, ...]]:
    return swarm.sql(f"SELECT * FROM {table} ORDER BY 1").fetchall()


FORMS = [
    ("x.csv", ""),
    ("x.csv", "WITH (FORMAT csv, HEADER, DELIMITER ';')"),
    ("x.csv", "(HEADER MATCH)"),
    ("x.csv", "(NULL '\\N', HEADER false)"),
    ("x.csv", "WITH CSV HEADER DELIMITER AS '|' NULL AS 'NULL'"),
    ("x.csv", "(QUOTE '''')"),
    ("x.tsv", ""),
    ("x.parquet", ""),
    ("x.json", ""),
    ("x.jsonl", "(FORMAT json)"),
    ("x.data", "(FORMAT parquet)"),
]


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_what_is_written_is_read_again(swarm: Swarm, folder: Path, name: str, options: str) -> None:
    swarm.sql(EVERY.format("one"))
    swarm.sql(EVERY.format("two"))
    marks = ", ".join("?" * len(FULL))
    swarm.execute_many(f"INSERT INTO one VALUES ({marks})", [FULL, EMPTY])
    out = options.replace("HEADER MATCH", "HEADER")
    done = swarm.sql(f"COPY one TO '{name}' {out}", files=folder)
    assert (done.kind, done.rowcount) == ("copy", 2)
    assert os.listdir(folder) == [name]
    assert swarm.sql(f"COPY two FROM '{name}' {options}", files=folder).rowcount == 2
    assert swarm.check() == []
    read, given = rows(swarm, "two"), [FULL, EMPTY]
    documents = [json.loads(row[15]) if row[15] else None for row in read]
    assert documents == [{"a": [1, None]}, None]
    assert [row[:15] + row[16:] for row in read] == [row[:15] + row[16:] for row in given]


def test_csv_is_postgresqls(swarm: Swarm, folder: Path) -> None:
    swarm.sql("INSERT INTO t VALUES (1, 'a', 0.5), (2, '', NULL), (3, NULL, 1), (4, 'x,\"y', -2)")
    swarm.sql("COPY t TO 'x.csv' (HEADER)", files=folder)
    assert (folder / "x.csv").read_text() == (
        '"id","s","d"\n1,"a",0.5\n2,"",\n3,,1\n4,"x,""y",-2\n'
    )
    swarm.sql("COPY t (s, id) TO 'y.csv' (NULL 'nil', DELIMITER '|')", files=folder)
    assert (folder / "y.csv").read_text() == 'a|1\n""|2\nnil|3\n"x,""y"|4\n'
    swarm.sql("COPY (SELECT count(*) AS n FROM t WHERE s = ')') TO 'z.csv'", files=folder)
    assert (folder / "z.csv").read_text() == "0\n"
    (folder / "in.csv").write_text('5,""\r\n6,\n7,plain\n8,"two\nlines"')
    assert swarm.sql("COPY t (id, s) FROM 'in.csv'", files=folder).rowcount == 4
    assert [row[1] for row in rows(swarm)[4:]] == ["", None, "plain", "two\nlines"]
    for empty in ("", "id,s\n"):
        (folder / "empty.csv").write_text(empty)
        text = "COPY t (id, s) FROM 'empty.csv' (HEADER)"
        assert swarm.sql(text, files=folder).rowcount == 0


def test_columns_that_the_file_lacks_take_their_defaults(swarm: Swarm, folder: Path) -> None:
    (folder / "x.jsonl").write_text('{"s": "a"}\n{"s": null, "id": 5}\n')
    swarm.sql("COPY t FROM 'x.jsonl'", files=folder)
    (folder / "x.json").write_text('[{"d": 0.1, "id": 7}, {"id": 9007199254740993}]')
    swarm.sql("COPY t FROM 'x.json'", files=folder)
    pq.write_table(pa.table({"id": [8], "s": ["p"], "more": [1]}), folder / "x.parquet")
    swarm.sql("COPY t (s, id) FROM 'x.parquet'", files=folder)
    found = rows(swarm)
    assert found[0] == (5, None, None)
    assert (7, None, 0.1) in found
    assert (8, "p", None) in found
    assert found[-1][0] > found[-2][0] or found[-1][0] == 2**53 + 1
    assert "a" in [row[1] for row in found]


BROKEN: list[tuple[str, str, str, type[MurmurError], str]] = [
    ("x.csv", "1,a\n", "", DataError, "Expected 3 columns, got 2"),
    ("x.csv", "1,a,x\n", "", DataError, "invalid value 'x'"),
    ("x.csv", "1,a,1\n99999999999999999999,b,1\n", "", DataError, "invalid value '9999"),
    ("x.csv", "1,a,1\n1,b,1\n", "", ConstraintViolation, "already exists"),
    ("x.csv", "id,text,d\n1,a,1\n", "(HEADER MATCH)", DataError, "header is id, text, d, not id"),
    ("x.csv", "1,a,1\n,b,1\n2,c,\xff\n", "", MurmurError, "."),
    ("x.jsonl", '{"id": 1}\n{"id": "x"}\n', "", DataError, "x.jsonl: "),
    ("x.jsonl", '{"id": 1, "other": 1}\n', "", BindError, 'its objects have "other"'),
    ("x.jsonl", "nonsense", "", DataError, "x.jsonl: "),
    ("x.json", "[1, 2", "", DataError, "x.json: "),
    ("x.json", "[1, 2]", "", MurmurError, "."),
    ("x.parquet", "nonsense", "", DataError, "x.parquet: "),
    ("x.csv", "\0\0\0", "", MurmurError, "."),
]


@pytest.mark.parametrize(("name", "text", "options", "kind", "message"), BROKEN)
def test_a_broken_file_is_an_error_and_changes_nothing(
    swarm: Swarm,
    folder: Path,
    name: str,
    text: str,
    options: str,
    kind: type[MurmurError],
    message: str,
) -> None:
    (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(kind, match=message):
        swarm.sql(f"COPY t FROM '{name}' {options}", files=folder)
    assert rows(swarm) == []


# What may be opened ----------------------------------------------------


def test_no_file_is_opened_unless_it_is_allowed(swarm: Swarm, folder: Path) -> None:
    secret = folder.parent / "secret.csv"
    secret.write_text("1,a,2\n")
    (folder / "link.csv").symlink_to(secret)
    (folder / "out").symlink_to(folder.parent)
    connection = murmur.connect(swarm)
    for run in (swarm.sql, connection.execute):
        for text in (f"COPY t FROM '{secret}'", f"COPY t TO '{folder}/x.csv'"):
            with pytest.raises(InvalidInput, match="files=directory"):
                run(text)
    connection.close()
    for path in ("../secret.csv", str(secret), "link.csv", "out/secret.csv", "/etc/passwd"):
        for text in (f"COPY t FROM '{path}' (FORMAT csv)", f"COPY t TO '{path}' (FORMAT csv)"):
            with pytest.raises(InvalidInput, match="may use files below"):
                swarm.sql(text, files=folder)
    assert secret.read_text() == "1,a,2\n"
    assert sorted(os.listdir(folder)) == ["link.csv", "out"]
    assert swarm.sql(f"COPY t FROM '{secret}'", files=True).rowcount == 1
    (folder / "below").mkdir()
    assert swarm.sql("COPY t TO 'below/x.csv'", files=str(folder)).rowcount == 1
    assert swarm.sql(f"COPY t TO '{folder}/below/y.csv'", files=folder).rowcount == 1
    with pytest.raises(InvalidInput, match="is a directory"):
        swarm.sql("COPY t TO 'below' (FORMAT csv)", files=folder)
    with pytest.raises(InvalidInput, match="reads files"):
        swarm.sql("COPY t FROM 'below' (FORMAT csv)", files=folder)
    with pytest.raises(FileNotFoundError):
        swarm.sql("COPY t FROM 'nothing.csv'", files=folder)
    for wrong in (5, "/no/such/directory", str(secret)):
        with pytest.raises(InvalidInput, match="files"):
            swarm.sql("SELECT 1", files=wrong)  # type: ignore[arg-type]
    assert swarm.sql("SELECT 1", files=False).fetchall() == [(1,)]


def test_a_connection_keeps_what_it_is_allowed(swarm: Swarm, folder: Path) -> None:
    with murmur.connect(swarm, files=folder) as connection:
        connection.execute("INSERT INTO t VALUES (1, 'a', 2)")
        cursor = connection.execute("COPY t TO 'x.csv'")
        assert (cursor.rowcount, cursor.description) == (1, None)
        connection.execute("DELETE FROM t")
        connection.execute("COPY t FROM 'x.csv'")
        assert connection.execute("SELECT s FROM t").fetchall() == [("a",)]
        with pytest.raises(InvalidInput, match="not within a transaction"):
            connection.execute("COPY t FROM 'x.csv' (ATOMIC false)")
        connection.rollback()
    connection.close()
    assert rows(swarm) == []
    assert swarm.sql("COPY t FROM 'x.csv' (ATOMIC false)", files=folder).rowcount == 1


def test_a_write_that_fails_leaves_what_was_there(swarm: Swarm, folder: Path) -> None:
    (folder / "x.csv").write_text("old")
    for text in ("COPY (SELECT 1 / (id - 1) FROM t) TO 'x.csv'", "COPY nope TO 'x.csv'"):
        swarm.sql("INSERT INTO t (id) VALUES (1) ON CONFLICT DO NOTHING")
        with pytest.raises(MurmurError):
            swarm.sql(text, files=folder)
    assert (folder / "x.csv").read_text() == "old"
    assert os.listdir(folder) == ["x.csv"]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("COPY", ParseError, "expected a table"),
        ("COPY t", ParseError, "expected FROM or TO"),
        ("COPY t FROM", ParseError, "expected a text in quotes"),
        ("COPY t FROM STDIN", Unsupported, "not STDIN"),
        ("COPY t FROM PROGRAM 'rm'", Unsupported, "not PROGRAM"),
        ("COPY t FROM ''", ParseError, "expected the path"),
        ("COPY t FROM 'x'", Unsupported, "tells no format"),
        ("COPY t FROM 'x.csv' (FORMAT text)", Unsupported, "csv, parquet and json"),
        ("COPY t FROM 'x.csv' (HEADER, HEADER)", ParseError, "stands twice"),
        ("COPY t FROM 'x.csv' (FREEZE)", Unsupported, 'no option "FREEZE"'),
        ("COPY t FROM 'x.csv' (DELIMITER ',,')", ParseError, "one character"),
        ("COPY t FROM 'x.csv' (DELIMITER '\"')", Unsupported, "two characters"),
        ("COPY t FROM 'x.csv' (HEADER", ParseError, "expected , or"),
        ("COPY t FROM 'x.csv' (HEADER) x", ParseError, "syntax error"),
        ("COPY t FROM 'x.csv' ()", Unsupported, "no option"),
        ("COPY t FROM 'x.parquet' (HEADER)", Unsupported, "option of FORMAT csv"),
        ("COPY t TO 'x.csv' (ATOMIC)", Unsupported, "COPY FROM"),
        ("COPY t TO 'x.csv' (HEADER MATCH)", Unsupported, "COPY FROM"),
        ("COPY t (a, FROM 'x.csv'", ParseError, "expected"),
        ("COPY () TO 'x.csv'", ParseError, "expected a query"),
        ("COPY (SELECT 1 TO 'x.csv'", ParseError, "expected"),
        ("COPY (SELECT 1) FROM 'x.csv'", ParseError, "expected TO"),
        ("COPY other.t FROM 'x.csv'", ParseError, "schema public"),
        ("EXPLAIN COPY t TO 'x.csv'", ParseError, "no plan"),
        ("COPY (DELETE FROM t) TO 'x.csv'", InvalidInput, "rows of a SELECT"),
        ("COPY (EXPLAIN SELECT 1) TO 'x.csv'", InvalidInput, "rows of a SELECT"),
        ("COPY (SELECT ?) TO 'x.csv'", InvalidInput, "1 parameter"),
        ("COPY nope FROM 'x.csv'", BindError, 'no table "nope"'),
        ("COPY t (nope) FROM 'x.csv'", BindError, 'no column "nope"'),
        ("COPY t (id, id) FROM 'x.csv'", BindError, "stands twice"),
    ],
)
def test_statements_that_are_none(
    swarm: Swarm, folder: Path, text: str, kind: type[MurmurError], message: str
) -> None:
    (folder / "x.csv").write_text("1,a,1\n")
    with pytest.raises(kind, match=message):
        swarm.sql(text, files=folder)
    assert rows(swarm) == []
    with pytest.raises(InvalidInput, match="0 parameters, 1 value"):
        swarm.sql("COPY public.t FROM 'x.csv'", [1], files=folder)
    assert swarm.sql('COPY "t" ("id", S, d) FROM \'x.csv\';', files=folder).rowcount == 1
