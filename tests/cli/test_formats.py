"""Every format is read back by somebody else's reader, and holds what was written."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
import uuid
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

import murmur
from murmur.cli.parameters import parse_value
from tests.cli.commands import Ran, query, run

UUID = uuid.UUID("01900000-0000-7000-8000-000000000001")
TYPES = """
    id INT PRIMARY KEY, b BOOLEAN, i BIGINT, r REAL, d DOUBLE, n DECIMAL(30,10), t TEXT, bl BLOB,
    da DATE, ti TIME, ts TIMESTAMP, tz TIMESTAMPTZ, iv INTERVAL, u UUID, j JSON, c COUNTER
"""
FULL = (
    1,
    True,
    -(2**63),
    0.5,
    1e300,
    Decimal("12345678901234567890.0123456789"),
    'a "quoted", text\r\nof \\ two lines\t日本 \x1b[2J',
    b"\x00\xff,",
    dt.date(2024, 2, 29),
    dt.time(10, 20, 30, 500000),
    dt.datetime(2024, 2, 29, 10, 20, 30),
    dt.datetime(2024, 2, 29, 10, 20, 30, 1, dt.UTC),
    murmur.Interval(months=14, days=3, hours=4),
    UUID,
    '{"a": [1.10, null,\n"é"], "b": 12345678901234567890123}',
    7,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("formats") / "data"
    with murmur.open(path) as swarm:
        swarm.sql(f"CREATE TABLE x ({TYPES})")
        marks = ", ".join("?" * len(FULL))
        swarm.sql(f"INSERT INTO x VALUES ({marks})", FULL)
        swarm.sql("INSERT INTO x (id) VALUES (2)")
        swarm.sql("INSERT INTO x (id, t, d) VALUES (3, '', ?)", [math.nan])
        swarm.sql("INSERT INTO x (id, t, d) VALUES (4, 'NULL', ?)", [-math.inf])
    return path


def ask(store: Path, statement: str, form: str, *options: object) -> Ran:
    ran = run("sql", store, statement, "--format", form, *options)
    assert (ran.code, ran.err) == (0, "")
    return ran


def test_csv(store: Path) -> None:
    ran = ask(store, "SELECT * FROM x ORDER BY id", "csv")
    names, full, *rest = csv.reader(io.StringIO(ran.out, newline=""), strict=True)
    assert names[:4] == ["id", "b", "i", "r"]
    assert full == [
        "1",
        "true",
        "-9223372036854775808",
        "0.5",
        "1e+300",
        "12345678901234567890.0123456789",
        FULL[6],
        "\\x00ff2c",
        "2024-02-29",
        "10:20:30.5",
        "2024-02-29 10:20:30",
        "2024-02-29 10:20:30.000001+00",
        "1 year 2 mons 3 days 04:00:00",
        str(UUID),
        FULL[14],
        "7",
    ]
    assert [row[0] for row in rest] == ["2", "3", "4"]
    assert ran.raw.count(b"\r\n") == 1 + 4 + 1  # and one inside the text
    # An empty text is quoted, NULL is nothing.
    assert '\r\n3,,,,NaN,,"",,' in ran.out
    assert "\r\n2,,,,,,,,,,,,,,,0\r\n" in ran.out


def test_csv_of_one_column_keeps_its_rows(store: Path) -> None:
    ran = ask(store, "SELECT t FROM x WHERE id > 1 ORDER BY id", "csv")
    assert ran.out == 't\r\n""\r\n""\r\nNULL\r\n'


def test_json(store: Path) -> None:
    ran = ask(store, "SELECT * FROM x ORDER BY id", "json")
    full, null, nan, text = json.loads(ran.raw, parse_float=Decimal)
    assert full == {
        "id": 1,
        "b": True,
        "i": -(2**63),
        "r": Decimal("0.5"),
        "d": Decimal("1e300"),
        "n": FULL[5],
        "t": FULL[6],
        "bl": "\\x00ff2c",
        "da": "2024-02-29",
        "ti": "10:20:30.500000",
        "ts": "2024-02-29T10:20:30",
        "tz": "2024-02-29T10:20:30.000001+00:00",
        "iv": "1 year 2 mons 3 days 04:00:00",
        "u": str(UUID),
        "j": {"a": [Decimal("1.10"), None, "é"], "b": 12345678901234567890123},
        "c": 7,
    }
    assert {key: value for key, value in null.items() if value is not None} == {"id": 2, "c": 0}
    assert (nan["d"], nan["t"]) == ("NaN", "")
    assert (text["d"], text["t"]) == ("-Infinity", "NULL")
    assert "日本" in ran.out
    assert dt.datetime.fromisoformat(full["tz"]) == FULL[11]


def test_json_of_nothing_and_of_the_columnar_engine(store: Path) -> None:
    assert json.loads(ask(store, "SELECT * FROM x WHERE id = 9", "json").out) == []
    ran = ask(store, "SELECT t, count(*) AS n, sum(n) FROM x GROUP BY t ORDER BY t LIMIT 1", "json")
    assert json.loads(ran.out) == [{"t": "", "n": 1, "sum": None}]


def test_an_object_has_each_name_once(store: Path) -> None:
    ran = run("sql", store, "SELECT id, id FROM x", "--format", "json")
    assert ran[:3] == (
        1,
        "",
        "murmur: two columns are called id, which an object cannot hold; use AS\n",
    )


@pytest.mark.parametrize("engine", ["row", "columnar"])
def test_arrow(store: Path, engine: str) -> None:
    statement = "SELECT * FROM x ORDER BY id"
    if engine == "columnar":
        statement = "SELECT * FROM x WHERE id IN (SELECT id FROM x) ORDER BY id"
    table = pa.ipc.open_stream(ask(store, statement, "arrow").raw).read_all()
    assert table.num_rows == 4
    assert table.column("n").to_pylist()[0] == FULL[5]
    assert table.column("tz").to_pylist()[0] == FULL[11]
    assert table.column("bl").to_pylist() == [FULL[7], None, None, None]
    assert table.schema.field("da").type == pa.date32()


def test_table(store: Path) -> None:
    ran = ask(store, "SELECT id, t, n, b FROM x ORDER BY id", "table")
    shown = 'a "quoted", text↵↵of \\ two lines 日本 �[2J'
    blanks = " " * (len(shown) + 2)
    assert ran.out.splitlines() == [
        " id │ t" + blanks + "│                               n │ b",
        "────┼" + "─" * (len(shown) + 4) + "┼─────────────────────────────────┼──────",
        f"  1 │ {shown} │ 12345678901234567890.0123456789 │ true",
        "  2 │ NULL" + blanks[3:] + "│                            NULL │ NULL",
        "  3 │     " + blanks[3:] + "│                            NULL │ NULL",
        '  4 │ "NULL"' + blanks[5:] + "│                            NULL │ NULL",
        "(4 rows)",
    ]


def test_a_table_of_the_columnar_engine(store: Path) -> None:
    ran = ask(store, "SELECT count(*) AS how_many, 'x' AS t FROM x GROUP BY id > 0", "table")
    assert ran.out.splitlines() == [" how_many │ t", "──────────┼───", "        4 │ x", "(1 row)"]


def test_statements_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "data"
    assert run("sql", path, "CREATE TABLE t (a INT)").out == "CREATE\n"
    assert run("sql", path, "INSERT INTO t VALUES (1), (2)").out == "2 rows inserted\n"
    assert run("sql", path, "UPDATE t SET a = 3 WHERE a = 1").out == "1 row updated\n"
    assert run("sql", path, "DELETE FROM t WHERE a = 9").out == "0 rows deleted\n"
    assert run("sql", path, "DELETE FROM t WHERE a = 3", "--format", "csv").out == ""
    returned = run("sql", path, "INSERT INTO t VALUES (4) RETURNING a + 1 AS b", "--format", "json")
    assert json.loads(returned.out) == [{"b": 5}]
    assert query(path, "SELECT a FROM t ORDER BY a") == [["2"], ["4"]]


def test_the_statement_from_stdin(tmp_path: Path) -> None:
    ran = run("sql", tmp_path / "a", "-", "--format", "csv", stdin="\ufeffSELECT 'é' AS x;\n")
    assert (ran.code, ran.out) == (0, "x\r\né\r\n")
    ran = run("sql", tmp_path / "a", "-", stdin=b"SELECT '\xff'")
    assert ran[:3] == (2, "", "murmur: stdin is not UTF-8: invalid start byte at byte 8\n")


def test_errors_point_into_the_statement(tmp_path: Path) -> None:
    ran = run("sql", tmp_path / "a", "SELECT 1,\n  nope")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[1:] == [
        "murmur: there is no column nope",
        "line 2, column 3",
        "    nope",
        "    ^",
    ]


def test_an_error_behind_the_first_rows_leaves_no_whole_array(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with murmur.open(path) as swarm:
        swarm.sql("CREATE TABLE t (a INT PRIMARY KEY)")
        swarm.execute_many("INSERT INTO t VALUES (?)", [(number,) for number in range(1, 1000)])
    ran = run("sql", path, "SELECT 10 / (a - 900) FROM t", "--format", "json")
    assert ran.code == 1
    assert ran.err.startswith("murmur: division by zero")
    with pytest.raises(json.JSONDecodeError):
        json.loads(ran.out)


def test_a_transaction_cannot_outlive_the_command(tmp_path: Path) -> None:
    ran = run("sql", tmp_path / "a", "BEGIN")
    assert ran.code == 1
    assert "murmur shell" in ran.err


def test_parameters(tmp_path: Path) -> None:
    path = tmp_path / "data"
    run("sql", path, "CREATE TABLE t (a INT PRIMARY KEY, d DECIMAL(9,2), f DOUBLE, z TEXT, b BLOB)")
    values = ["--param", "7", "--param", "1.50", "--param", "25e-1", "--param", "02134"]
    ran = run("sql", path, "INSERT INTO t VALUES (?, ?, ?, ?, ?)", *values, "--param", "x'0aff'")
    assert ran.code == 0, ran.err
    named = ["--param", ":low=-1", "--param", ":zip=02134"]
    found = query(path, "SELECT * FROM t WHERE a > :low AND z = :zip", *named)
    assert found == [["7", "1.50", "2.5", "02134", "\\x0aff"]]
    assert query(path, "SELECT $1 IS NULL", "--param", "NULL") == [["true"]]
    ran = run("sql", path, "SELECT ?", "--param", "1", "--param", "2")
    assert (ran.code, ran.err) == (1, "murmur: the statement has 1 parameter, 2 values given\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("-0", 0),
        ("007", "007"),
        ("1.", "1."),
        ("1.50", Decimal("1.50")),
        ("1e3", 1000.0),
        ("true", True),
        ("Null", None),
        ("nullable", "nullable"),
        ("'it''s'", "it's"),
        ("'a'b'", "'a'b'"),
        ("x''", b""),
        ("x'0'", "x'0'"),
        ("", ""),
        ("2024-01-31", "2024-01-31"),
        ("9" * 5000, Decimal("9" * 5000)),
    ],
)
def test_literals(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert (parsed, type(parsed)) == (value, type(value))
