"""Arrow data into tables: from whoever has it, of every type, with errors that tell the row."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import murmur
from murmur import (
    BindError,
    ConstraintViolation,
    DataError,
    InvalidInput,
    MurmurError,
    Swarm,
    TypeMismatch,
)
from murmur.kvcore import tree
from murmur.olap import intake
from murmur.sql import bulk, session

SQL = "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT, d DOUBLE PRECISION, b BOOLEAN)"


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a", durability="none") as swarm:
        swarm.sql(SQL)
        yield swarm


DATA = {"id": [3, 1, 2], "s": ["c", None, "bé"], "d": [0.5, None, -1.0], "b": [True, False, None]}
ROWS = [(1, None, None, False), (2, "bé", -1.0, None), (3, "c", 0.5, True)]


def holders() -> dict[str, Any]:
    table = pa.table(DATA)
    return {
        "table": table,
        "batch": table.to_batches()[0],
        "reader": table.to_reader(max_chunksize=2),
        "chunked": pa.concat_tables([table.slice(0, 1), table.slice(1)]),
        "sliced": pa.concat_tables([table, table]).slice(2, 4).slice(1, 3),
        "polars": pl.DataFrame(DATA),
        "pandas": pd.DataFrame({**DATA, "b": pd.array(DATA["b"], dtype="boolean")}),
        "duckdb": duckdb.from_arrow(table),
        "dictionary": table.set_column(1, "s", table["s"].dictionary_encode()),
        "large": table.cast(
            pa.schema([("id", "int16"), ("s", "large_string"), ("d", "float32"), ("b", "bool")])
        ),
        "view": table.set_column(1, "s", table["s"].cast(pa.string_view())),
    }


@pytest.mark.parametrize("kind", list(holders()))
def test_whatever_hands_out_arrow_is_taken(swarm: Swarm, kind: str) -> None:
    result = swarm.insert_arrow("t", holders()[kind])
    assert (result.rowcount, result.kind) == (3, "insert")
    assert swarm.sql("SELECT * FROM t ORDER BY id").fetchall() == ROWS
    assert swarm.check() == []
    again = swarm.sql("SELECT id + 10 AS id, s FROM t ORDER BY id")
    assert swarm.insert_arrow("t", again).rowcount == 3


def test_transactions_and_connections_take_it_too(swarm: Swarm) -> None:
    table = pa.table(DATA)
    with swarm.transaction() as tx:
        tx.sql("INSERT INTO t (id) VALUES (10)")
        assert tx.insert_arrow("t", table).rowcount == 3
        assert tx.sql("SELECT count(*) FROM t").fetchall() == [(4,)]
        with pytest.raises(ConstraintViolation):
            tx.insert_arrow("t", table)
        tx.sql("DELETE FROM t WHERE id = 10")
    connection = murmur.connect(swarm)
    with pytest.raises(ConstraintViolation):
        connection.insert_arrow("t", table)
    assert connection.insert_arrow("t", pa.table({"id": [7, 8]})) == 2
    connection.rollback()
    connection.close()
    assert swarm.sql("SELECT * FROM t ORDER BY id").fetchall() == ROWS


DAYS = [date(1, 1, 1), date(9999, 12, 31), None]
NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
TYPES: list[tuple[str, pa.Array, list[Any]]] = [
    ("SMALLINT", pa.array([1, -(2**15), None], pa.int64()), [1, -(2**15), None]),
    ("INTEGER", pa.array([0, 2**31 - 1, None], pa.uint32()), [0, 2**31 - 1, None]),
    ("BIGINT", pa.array([2**63 - 1, None], pa.uint64()), [2**63 - 1, None]),
    ("COUNTER", pa.array([5, None], pa.int8()), [5, 0]),
    ("REAL", pa.array([0.5, None], pa.float16()), [0.5, None]),
    ("REAL", pa.array([0.1, -0.0], pa.float64()), [pytest.approx(0.1), 0.0]),
    ("DOUBLE PRECISION", pa.array([2**53, -3], pa.int64()), [2.0**53, -3.0]),
    ("DECIMAL(6,2)", pa.array([Decimal("1.5"), None]), [Decimal("1.50"), None]),
    ("DECIMAL(6,2)", pa.array([7, -7], pa.int32()), [Decimal("7.00"), Decimal("-7.00")]),
    ("DECIMAL", pa.array([Decimal("1.50"), Decimal("0.00")]), [Decimal("1.5"), Decimal(0)]),
    ("VARCHAR(2)", pa.array(["éé", ""]), ["éé", ""]),
    ("JSON", pa.array(['{"a": 1}', None]), ['{"a": 1}', None]),
    ("JSON", pa.array([{"a": 1}]), ['{"a":1}']),
    ("BLOB", pa.array([b"\0x", None], pa.large_binary()), [b"\0x", None]),
    ("BLOB", pa.array([b"ab"], pa.binary(2)), [b"ab"]),
    ("DATE", pa.array(DAYS), DAYS),
    ("DATE", pa.array([date(2024, 2, 29)], pa.date64()), [date(2024, 2, 29)]),
    ("DATE", pa.array(["2024-02-29"]), [date(2024, 2, 29)]),
    ("TIME", pa.array([time(23, 59, 59)], pa.time32("s")), [time(23, 59, 59)]),
    ("TIMESTAMP", pa.array([datetime(2024, 1, 1)], pa.timestamp("ns")), [datetime(2024, 1, 1)]),
    ("TIMESTAMP", pa.array(["2024-01-01 12:00:00"]), [datetime(2024, 1, 1, 12)]),
    ("TIMESTAMPTZ", pa.array([NEW_YEAR], pa.timestamp("ms", "Europe/Berlin")), [NEW_YEAR]),
    ("INTERVAL", pa.array([timedelta(1, 0, 5)]), [timedelta(1, 0, 5)]),
    ("UUID", pa.array([uuid.UUID(int=5).bytes], pa.uuid()), [uuid.UUID(int=5)]),
    ("UUID", pa.array([str(uuid.UUID(int=5)), None]), [uuid.UUID(int=5), None]),
    ("BOOLEAN", pa.array([True, None, False]), [True, None, False]),
    ("TEXT", pa.nulls(2), [None, None]),
]  # fmt: skip


@pytest.mark.parametrize(("sql_type", "array", "values"), TYPES)
def test_every_type_comes_in_as_it_is(
    swarm: Swarm, sql_type: str, array: pa.Array, values: list[Any]
) -> None:
    swarm.sql(f"CREATE TABLE v (n INTEGER PRIMARY KEY, v {sql_type})")
    swarm.insert_arrow("v", pa.table({"v": array, "n": range(len(array))}))
    assert [row[0] for row in swarm.sql("SELECT v FROM v ORDER BY n")] == values
    assert swarm.check() == []


WRONG: list[tuple[str, pa.Array, type[MurmurError], str]] = [
    ("SMALLINT", pa.array([1, 40_000]), DataError, "row 2: column v.v: 40000 is not SMALLINT"),
    ("INTEGER", pa.array([1.0, 2.0]), TypeMismatch, "row 1: column v.v: 1.0 is not INTEGER: float"),
    ("INTEGER", pa.array(["1"]), TypeMismatch, "row 1: column v.v: '1' is not INTEGER: str"),
    ("INTEGER", pa.array([True]), TypeMismatch, "row 1: column v.v: True is not INTEGER: bool"),
    ("DOUBLE PRECISION", pa.array([1, 2**53 + 1]), DataError, "row 2: column v.v"),
    ("REAL", pa.array([1e300]), DataError, "row 1: column v.v: 1e[+]300 is not REAL: too large"),
    ("DECIMAL(4,1)", pa.array([Decimal("1.0"), Decimal("1.25")]), DataError, "row 2: .* digits"),
    ("DECIMAL(4,1)", pa.array([0.5]), TypeMismatch, "row 1: .* write it as a Decimal"),
    ("VARCHAR(2)", pa.array(["ab", None, "abc"]), DataError, "row 3: .* 3 characters, more than 2"),
    ("TEXT", pa.array(["a\0b"]), DataError, "row 1: .* NUL"),
    ("TEXT", pa.array([1]), TypeMismatch, "row 1: column v.v: 1 is not TEXT"),
    ("TEXT NOT NULL", pa.array(["a", None]), ConstraintViolation, "row 2: null value in column"),
    ("BLOB", pa.array(["a"]), TypeMismatch, "row 1: column v.v: 'a' is not BLOB"),
    ("DATE", pa.array([datetime(2024, 1, 1)]), TypeMismatch, "row 1: .* it has a time of day"),
    ("TIMESTAMP", pa.array([0], pa.timestamp("us", "UTC")), DataError, "row 1: .* it has a zone"),
    ("TIMESTAMPTZ", pa.array([0], pa.timestamp("us")), DataError, "row 1: .* it has no zone"),
    ("JSON", pa.array(["{"]), DataError, "row 1: column v.v"),
    ("SMALLINT CHECK (v < 5)", pa.array([5]), ConstraintViolation, "check constraint"),
    ("SMALLINT UNIQUE", pa.array([5, 5]), ConstraintViolation, r"Key \(v\)=\(5\) already exists"),
    ("BOOLEAN", pa.array([[True]]), TypeMismatch, "row 1: "),
]


@pytest.mark.parametrize(("sql_type", "array", "kind", "message"), WRONG)
def test_what_does_not_fit_tells_its_row_and_leaves_nothing(
    swarm: Swarm, sql_type: str, array: pa.Array, kind: type[MurmurError], message: str
) -> None:
    swarm.sql(f"CREATE TABLE v (n INTEGER PRIMARY KEY, v {sql_type})")
    with pytest.raises(kind, match=message):
        swarm.insert_arrow("v", pa.table({"n": range(len(array)), "v": array}))
    assert swarm.sql("SELECT count(*) FROM v").fetchall() == [(0,)]


def test_a_row_far_into_the_data_is_told(swarm: Swarm) -> None:
    names: list[str | None] = ["x"] * 40_000
    names[33_333] = "\0"
    table = pa.table({"id": range(40_000), "s": names})
    with pytest.raises(DataError, match=r"row 33334: column t\.s"):
        swarm.insert_arrow("t", table.to_reader(1000))
    with pytest.raises(DataError, match=r"row 33334: column t\.s"):
        swarm.insert_arrow("t", table)


@pytest.mark.parametrize(
    ("table", "data", "kind", "message"),
    [
        ("nope", {"id": [1]}, BindError, 'there is no table "nope"'),
        ("t", {"id": [1], "x": [1]}, BindError, 'no column "x"; it has id, s, d, b'),
        ("t", {}, InvalidInput, "no columns"),
        (7, {"id": [1]}, InvalidInput, "named by str"),
        ("murmur_tables", {"id": [1]}, BindError, "there is no table"),
    ],
)
def test_names_that_do_not_match(
    swarm: Swarm, table: Any, data: dict[str, Any], kind: type[MurmurError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        swarm.insert_arrow(table, pa.table(data))


@pytest.mark.parametrize("data", [[(1, 2)], {"id": [1]}, "text", None, 5])
def test_what_is_no_arrow_data_is_refused(swarm: Swarm, data: Any) -> None:
    with pytest.raises(TypeMismatch, match="is no Arrow data"):
        swarm.insert_arrow("t", data)


def test_a_column_twice_and_a_reader_that_breaks_off(swarm: Swarm) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"])
    with pytest.raises(BindError, match='two columns "id"'):
        swarm.insert_arrow("t", twice)
    schema = pa.schema([("id", pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"id": [1, 2]}, schema=schema)
        raise pa.ArrowInvalid("the source broke off")

    with pytest.raises(InvalidInput, match="row 3 or after: the source broke off"):
        swarm.insert_arrow("t", pa.RecordBatchReader.from_batches(schema, batches()))
    assert swarm.sql("SELECT count(*) FROM t").fetchall() == [(0,)]


def test_keys_and_defaults_fill_themselves(swarm: Swarm) -> None:
    swarm.sql(
        "CREATE TABLE f (id INTEGER PRIMARY KEY, u UUID DEFAULT uuid7(), n SMALLINT DEFAULT 7, "
        "c COUNTER, s TEXT)"
    )
    swarm.sql("CREATE TABLE hidden (s TEXT)")
    data = pa.table({"s": ["a", "b"], "id": pa.array([None, 5])})
    assert swarm.insert_arrow("f", data).lastrowid == 5
    swarm.insert_arrow("f", data.select(["s"]))
    rows = swarm.sql("SELECT id, u, n, c, s FROM f ORDER BY id").fetchall()
    assert len({row[1] for row in rows}) == len({row[0] for row in rows}) == 4
    assert {row[2:4] for row in rows} == {(7, 0)}
    assert rows[0][0] == 5
    assert rows[1][0] > 2**50
    swarm.insert_arrow("hidden", data.select(["s"]))
    assert swarm.sql("SELECT s FROM hidden ORDER BY s").fetchall() == [("a",), ("b",)]
    assert swarm.insert_arrow("f", data.slice(0, 0)).rowcount == 0


@pytest.mark.parametrize("seed", range(3))
def test_arrow_and_rows_make_the_same_table(swarm: Swarm, seed: int) -> None:
    chance = random.Random(seed)
    for name in ("x", "y"):
        swarm.sql(
            f"CREATE TABLE {name} (k TEXT, n BIGINT UNIQUE, m DECIMAL(9,3), t TIMESTAMP, "
            "PRIMARY KEY (n, k))"
        )
        swarm.sql(f"CREATE INDEX {name}_m ON {name} (m DESC, k)")
    rows = [
        (
            f"k{chance.randrange(50)}" * chance.randrange(1, 4),
            n * chance.choice([1, -1, 10**12]),
            chance.choice([None, Decimal(chance.randrange(-(10**6), 10**6)).scaleb(-3)]),
            chance.choice(
                [None, datetime(2000, 1, 1) + timedelta(seconds=chance.randrange(10**9))]
            ),
        )
        for n in range(1, 300)
    ]
    chance.shuffle(rows)
    swarm.execute_many("INSERT INTO x VALUES (?, ?, ?, ?)", rows)
    columns = list(zip(*rows, strict=True))
    table = pa.table(
        {
            "t": columns[3],
            "k": columns[0],
            "n": columns[1],
            "m": pa.array(columns[2], pa.decimal128(9, 3)),
        }
    )
    assert swarm.insert_arrow("y", table.to_reader(70)).rowcount == len(rows)
    for order in ("n, k", "m DESC NULLS LAST, k, n"):
        one, other = (swarm.sql(f"SELECT * FROM {name} ORDER BY {order}") for name in "xy")
        assert one.fetchall() == other.fetchall()
    assert swarm.check() == []


# More than one transaction ---------------------------------------------


def test_a_load_of_many_transactions(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PART_BYTES", 10_000)
    before = sum(swarm.version_vector.values())
    table = pa.table({"id": range(4000), "s": ["text"] * 4000})
    assert swarm.insert_arrow("t", table.to_reader(100), atomic=False).rowcount == 4000
    assert 5 < sum(swarm.version_vector.values()) - before < 20
    assert swarm.sql("SELECT count(*) FROM t").fetchall() == [(4000,)]
    more = pa.table({"id": [*range(4000, 6000), 5], "s": ["text"] * 2001})
    with pytest.raises(ConstraintViolation, match=r"already exists.*rows before were committed"):
        swarm.insert_arrow("t", more.to_reader(100), atomic=False)
    (count,) = swarm.sql("SELECT count(*) FROM t").fetchone() or (0,)
    assert 4000 < count <= 6000
    connection = murmur.connect(swarm)
    with pytest.raises(InvalidInput, match="not within a transaction"):
        connection.insert_arrow("t", pa.table({"id": [-1]}), atomic=False)
    connection.close()
    with murmur.connect(swarm, autocommit=True) as connection:
        assert connection.insert_arrow("t", pa.table({"id": [-1]}), atomic=False) == 1


def test_a_transaction_that_has_written_to_the_table_takes_rows_one_by_one(swarm: Swarm) -> None:
    table = pa.table({"id": range(50), "s": ["text"] * 50})
    swarm.insert_arrow("t", table)
    with swarm.transaction() as tx:
        tx.sql("DELETE FROM t WHERE id < 40")
        with pytest.raises(ConstraintViolation, match=r"\(id\)=\(40\) already exists"):
            tx.insert_arrow("t", table)
        assert tx.insert_arrow("t", table.slice(0, 40)).rowcount == 40
    assert swarm.sql("SELECT count(*) FROM t").fetchall() == [(50,)]
    assert swarm.check() == []


def test_more_than_a_transaction_holds_is_refused(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_RECORD_BYTES", 1 << 20)
    monkeypatch.setattr(session, "PART_BYTES", 1 << 18)
    monkeypatch.setattr(intake, "BATCH_BYTES", 1 << 18)
    table = pa.table({"id": range(70), "s": ["x" * (1 << 15)] * 70})
    with pytest.raises(InvalidInput, match=r"1,048,576 bytes .* pass atomic=False"):
        swarm.insert_arrow("t", table)
    assert swarm.insert_arrow("t", table, atomic=False).rowcount == 70
    assert swarm.sql("SELECT count(*) FROM t").fetchall() == [(70,)]


def test_a_large_load_becomes_tables_with_all_its_entries(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "LARGE", 1 << 30)  # every load is large
    monkeypatch.setattr(bulk, "BLOCK_BYTES", 3000)  # of several blocks
    swarm.sql("CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT UNIQUE, up INTEGER REFERENCES p)")
    swarm.sql("CREATE INDEX p_up ON p (up DESC, name)")
    ids = [n * 7919 % 1009 for n in range(1000)]
    data = pa.table({"id": ids, "name": [f"n{n}" for n in ids], "up": [*ids[1:], None]})
    assert swarm.insert_arrow("p", data.to_reader(100)).rowcount == 1000
    assert list(swarm.replica.check()) == []
    assert swarm.sql("SELECT id FROM p WHERE name = 'n42'").fetchall() == [(42,)]
    for wrong in ({"id": [2000, 42]}, {"id": [2000], "name": ["n7"]}, {"id": [2000], "up": [3000]}):
        with pytest.raises(ConstraintViolation):
            swarm.insert_arrow("p", pa.table(wrong))
    again = pa.table({"id": [*range(2000, 2900), 2000]})
    with pytest.raises(ConstraintViolation, match="2000"):  # in another block
        swarm.insert_arrow("p", again.to_reader(100))
    assert swarm.sql("SELECT count(*) FROM p").fetchall() == [(1000,)]
    swarm.sql("UPDATE p SET up = NULL")
    swarm.sql("DELETE FROM p WHERE id < 500")
    assert list(swarm.replica.check()) == []


@pytest.mark.parametrize("engine", ["row", "columnar"])
def test_a_table_made_in_the_transaction_is_loaded_and_seen(swarm: Swarm, engine: str) -> None:
    with murmur.connect(swarm) as connection:
        connection.execute("CREATE TABLE own (id INTEGER PRIMARY KEY, s TEXT UNIQUE)")
        assert connection.insert_arrow("own", pa.table({"id": [1, 2], "s": ["a", "b"]})) == 2
        assert len(connection._session.transaction.blocks) == 1
        connection.execute(f"SET engine = {engine}")
        assert connection.execute("SELECT sum(id) FROM own").fetchall() == [(3,)]
        connection.execute("SET engine = auto")
        connection.executemany("INSERT INTO own VALUES (?, ?)", [(3, "c"), (4, None)])
        with pytest.raises(murmur.IntegrityError):
            connection.insert_arrow("own", pa.table({"id": [9], "s": ["a"]}))
        connection.execute("CREATE INDEX own_s ON own (s DESC)")
        assert connection.execute("SELECT id FROM own WHERE s = 'c'").fetchall() == [(3,)]
        connection.commit()
    assert swarm.sql("SELECT count(*), max(s) FROM own").fetchall() == [(4, "c")]
    assert list(swarm.replica.check()) == []


def test_an_index_made_in_the_transaction_sees_what_a_load_repeats(swarm: Swarm) -> None:
    swarm.sql("CREATE TABLE old (id INTEGER PRIMARY KEY, s TEXT)")
    swarm.sql("INSERT INTO old VALUES (1, 'a')")
    with murmur.connect(swarm) as connection:
        connection.execute("CREATE UNIQUE INDEX old_s ON old (s)")
        with pytest.raises(murmur.IntegrityError):
            connection.insert_arrow("old", pa.table({"id": [2], "s": ["a"]}))
        connection.insert_arrow("old", pa.table({"id": [3], "s": ["b"]}))
        connection.commit()
    assert list(swarm.replica.check()) == []
