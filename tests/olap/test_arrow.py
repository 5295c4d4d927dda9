"""Rows to Arrow and back: nothing changes on the way, and types survive it."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given

from murmur.catalog import Interval, SqlType, parse_type
from murmur.errors import DataError
from murmur.olap.arrow import (
    arrow_type,
    atoms_to_array,
    infer_type,
    iterate_rows,
    rows_to_arrow,
    sql_type_of,
    table_to_arrow,
)
from tests.olap.harness import ONE_OF_EACH, TYPES, every_type, make_peer, rows

COLUMNS = [(str(sql_type), sql_type) for sql_type in TYPES]


def kinds(row: tuple[Any, ...]) -> list[type]:
    return [type(value) for value in row]


@given(rows())
def test_rows_come_back_as_they_went(given_rows: list[tuple[Any, ...]]) -> None:
    table = rows_to_arrow(COLUMNS, given_rows)
    back = list(iterate_rows(table))
    assert back == given_rows
    assert list(map(kinds, back)) == list(map(kinds, given_rows))


def test_every_type_has_its_arrow_type_and_remembers_where_it_came_from() -> None:
    table = rows_to_arrow(COLUMNS, [tuple(ONE_OF_EACH.values()), (None,) * len(TYPES)])
    assert [str(sql_type_of(field)) for field in table.schema] == [str(t) for t in TYPES]
    assert [field.type for field in table.schema] == [arrow_type(t) for t in TYPES]
    assert [str(field.type) for field in table.schema] == [
        "bool",
        "int16",
        "int32",
        "int64",
        "float",
        "double",
        "decimal128(10, 2)",
        "decimal128(38, 10)",
        "string",
        "string",
        "binary",
        "date32[day]",
        "time64[us]",
        "timestamp[us]",
        "timestamp[us, tz=UTC]",
        "month_day_nano_interval",
        "string",
        "string",
        "int64",
    ]


def test_a_table_is_read_from_its_stored_form() -> None:
    peer = make_peer()
    peer.define(every_type())
    peer.insert("t", {"id": 1, **ONE_OF_EACH}, {"id": 2})
    with peer.replica.snapshot() as view:
        table = table_to_arrow(view, peer.table("t"))
    assert table.column_names == ["id", *ONE_OF_EACH]
    assert list(iterate_rows(table)) == [
        (1, *ONE_OF_EACH.values()),
        (2, *[0 if name == "COUNTER" else None for name in ONE_OF_EACH]),
    ]


def test_columns_can_be_chosen_and_an_empty_table_keeps_its_types() -> None:
    peer = make_peer()
    table = peer.define(every_type())
    with peer.replica.snapshot() as view:
        arrow = table_to_arrow(view, table, [table.columns[17], table.columns[0]])
    assert arrow.num_rows == 0
    assert [(f.name, str(f.type)) for f in arrow.schema] == [("UUID", "string"), ("id", "int32")]


def test_the_engine_gets_uuid_and_json_in_types_of_their_own() -> None:
    columns = [("u", parse_type("UUID")), ("j", parse_type("JSON"))]
    value = uuid.uuid4()
    table = rows_to_arrow(columns, [(value, "{}"), (None, None)], engine=True)
    assert table.column("u").combine_chunks().storage.to_pylist() == [value.bytes, None]
    assert str(table.schema.field("j").type) == "extension<arrow.json>"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([None], None),
        ([True, None], "BOOLEAN"),
        ([1, 2**62], "BIGINT"),
        ([1, 2**64], "DECIMAL"),
        ([1, 1.5], "DOUBLE"),
        ([1, Decimal("1.5")], "DECIMAL"),
        (["x", None], "TEXT"),
        ([b"x"], "BLOB"),
        ([date(2024, 1, 1)], "DATE"),
        ([datetime(2024, 1, 1)], "TIMESTAMP"),
        ([datetime(2024, 1, 1, tzinfo=UTC)], "TIMESTAMPTZ"),
        ([timedelta(1), Interval(1)], "INTERVAL"),
        ([uuid.uuid4()], "UUID"),
    ],
)
def test_an_unknown_type_is_that_of_the_values(values: list[Any], expected: str | None) -> None:
    found = infer_type(values)
    assert (None if found is None else str(found)) == expected
    column = rows_to_arrow([("x", None)], [(value,) for value in values])
    assert [row[0] for row in iterate_rows(column)] == values


def test_values_that_share_no_type_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="different types cannot share a column: bytes, str"):
        infer_type(["x", b"x"])
    with pytest.raises(DataError, match="zone"):
        infer_type([datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)])


def test_exact_numbers_without_a_scale_keep_all_their_digits() -> None:
    table = rows_to_arrow([("x", SqlType("DECIMAL"))], [(Decimal("0.00001"),), (7,), (None,)])
    assert str(table.schema.field("x").type) == "decimal128(38, 5)"
    assert [row[0] for row in iterate_rows(table)] == [Decimal("0.00001"), Decimal(7), None]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("INTEGER", 1, "x"),
        ("SMALLINT", 1, 1 << 20),
        ("DECIMAL(4,1)", "1.5", "NaN"),
        ("UUID", bytes(16), b"short"),
        ("DATE", 1, 0),
        ("TIME", 1, 86_400_000_000),
        ("TIMESTAMP", 1, 1 << 62),
        ("TIMESTAMPTZ", 1, -(1 << 62)),
        ("INTERVAL", 1, b"short"),
        ("TEXT", "x", 5),
    ],
)
def test_a_stored_value_of_another_type_is_null(name: str, good: Any, bad: Any) -> None:
    array = atoms_to_array([good, bad, None], parse_type(name))
    assert [value.is_valid for value in array] == [True, False, False]


def test_a_moment_beyond_what_python_can_say_is_an_error_not_a_wrong_year() -> None:
    table = pa.table({"x": pa.array([2**62], pa.timestamp("us"))})
    with pytest.raises(DataError, match="TIMESTAMP"):
        list(iterate_rows(table))


def test_rows_without_columns_are_counted() -> None:
    table = rows_to_arrow([], [(), ()])
    assert table.num_rows == 2
    assert list(iterate_rows(table)) == [(), ()]


def test_polars_reads_every_type_but_intervals() -> None:
    columns = [column for column in COLUMNS if column[0] != "INTERVAL"]
    values = [value for name, value in ONE_OF_EACH.items() if name != "INTERVAL"]
    frame = pl.from_arrow(rows_to_arrow(columns, [tuple(values)]))
    assert isinstance(frame, pl.DataFrame)
    row = dict(zip(frame.columns, frame.row(0), strict=True))
    assert row["UUID"] == str(ONE_OF_EACH["UUID"])
    assert {name: value for name, value in row.items() if name != "UUID"} == {
        name: value for name, value in ONE_OF_EACH.items() if name not in ("UUID", "INTERVAL")
    }
