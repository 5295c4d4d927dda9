"""Columns that are kept: narrower, with the same values, and of the same types to DuckDB."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.olap.compact import compact

DECIMALS = st.decimals(-9999, 9999, places=2, allow_nan=False)
TEXTS = st.none() | st.sampled_from(["", "a", "b", "ß"])
CHUNKS = st.lists(st.lists(TEXTS, max_size=40), max_size=4)


@given(st.lists(st.none() | DECIMALS))
def test_decimals_keep_value_and_type(values: list[Decimal | None]) -> None:
    column = pa.chunked_array([pa.array(values, pa.decimal128(6, 2))])
    kept = compact(column)
    assert kept.type == pa.decimal64(6, 2)
    assert kept.to_pylist() == values


@given(CHUNKS)
def test_texts_keep_their_values(chunks: list[list[str | None]]) -> None:
    column = pa.chunked_array(chunks, pa.string())
    assert compact(column).to_pylist() == column.to_pylist()


def test_few_texts_are_a_dictionary_and_many_are_not() -> None:
    few = pa.chunked_array([["a", "b"] * 50, ["c", None] * 50])
    assert pa.types.is_dictionary(compact(few).type)
    assert len(compact(few).chunk(0).dictionary) == 3
    own = pa.chunked_array([[f"{n}{i}" for i in range(100)] for n in "ab"])
    assert compact(own) is own
    apart = pa.chunked_array([[f"{n} {i % 5}" for i in range(100)] for n in range(300)])
    assert compact(apart) is apart  # few in each chunk, many together


@pytest.mark.parametrize("precision", [1, 9, 18, 19, 38])
def test_duckdb_sees_the_same_types(precision: int) -> None:
    numbers = pa.chunked_array([pa.array([Decimal(1), None], pa.decimal128(precision, 0))])
    texts = pa.chunked_array([["a", "b"] * 50])
    with duckdb.connect() as connection:
        connection.register("n", pa.table({"n": compact(numbers)}))
        connection.register("t", pa.table({"t": compact(texts)}))
        assert connection.execute("SELECT DISTINCT typeof(n), typeof(t) FROM n, t").fetchall() == [
            (f"DECIMAL({precision},0)", "VARCHAR")
        ]
        assert connection.execute("SELECT n FROM n WHERE n = 1").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM t WHERE t > 'a'").fetchall() == [(50,)]
