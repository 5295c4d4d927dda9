"""Dataframes: values and types of Polars and pandas, and what they cannot hold."""

from __future__ import annotations

import builtins
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from murmur.catalog import Interval, parse_type
from murmur.errors import DataError, NotSupportedError
from murmur.olap.arrow import rows_to_arrow
from murmur.olap.frames import to_pandas, to_polars
from tests.olap.harness import ONE_OF_EACH, TYPES

SPAN = [("span", parse_type("INTERVAL")), ("n", parse_type("INTEGER"))]


def test_polars_gets_types_of_its_own() -> None:
    columns = [(str(t), t) for t in TYPES]
    values = {**ONE_OF_EACH, "INTERVAL": timedelta(days=1, microseconds=5)}
    frame = to_polars(rows_to_arrow(columns, [tuple(values.values()), (None,) * len(TYPES)]))
    assert frame.schema == {
        "BOOLEAN": pl.Boolean,
        "SMALLINT": pl.Int16,
        "INTEGER": pl.Int32,
        "BIGINT": pl.Int64,
        "REAL": pl.Float32,
        "DOUBLE": pl.Float64,
        "DECIMAL(10,2)": pl.Decimal(10, 2),
        "DECIMAL": pl.Decimal(38, 10),
        "TEXT": pl.String,
        "VARCHAR(5)": pl.String,
        "BLOB": pl.Binary,
        "DATE": pl.Date,
        "TIME": pl.Time,
        "TIMESTAMP": pl.Datetime("us"),
        "TIMESTAMPTZ": pl.Datetime("us", "UTC"),
        "INTERVAL": pl.Duration("us"),
        "UUID": pl.String,
        "JSON": pl.String,
        "COUNTER": pl.Int64,
    }
    assert frame.row(0) == tuple({**values, "UUID": str(values["UUID"])}.values())
    assert frame.row(1) == (None,) * len(TYPES)


def test_pandas_gets_the_values() -> None:
    table = rows_to_arrow(SPAN, [(timedelta(hours=36), 1), (None, 2)])
    frame = to_pandas(table)
    assert list(frame.columns) == ["span", "n"]
    assert frame["span"][0] == timedelta(hours=36)
    assert frame["span"].isna().tolist() == [False, True]
    assert frame["n"].tolist() == [1, 2]


@pytest.mark.parametrize("convert", [to_polars, to_pandas])
def test_months_are_refused_not_guessed(convert: Any) -> None:
    table = rows_to_arrow(SPAN, [(Interval(1, days=2), 1)])
    with pytest.raises(DataError, match="column span has intervals with months"):
        convert(table)


def test_two_columns_of_one_name_are_named_in_the_error() -> None:
    columns = [("a", parse_type("INTEGER")), ("a", parse_type("INTEGER"))]
    with pytest.raises(DataError, match="two columns are called a"):
        to_polars(rows_to_arrow(columns, [(1, 2)]))


def test_a_missing_pandas_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without_pandas(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(NotSupportedError, match=r"pip install murmurdb\[pandas\]"):
        to_pandas(rows_to_arrow(SPAN, []))
