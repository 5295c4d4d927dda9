"""murmur.polars.scan: a lazy frame means what the eager one means, and reads less."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import murmur
from murmur.polars import translate
from murmur.swarm.result import Result

ROWS = [
    (
        i,
        None if i % 7 == 0 else i % 5 - 2,
        None if i % 6 == 0 else (i % 9) / 4 - 1,
        None if i % 8 == 0 else ["", "a", "ab", "abc", "é", "ab%"][i % 6],
        [None, True, False][i % 3],
        date(2024, 1, 1) + timedelta(days=i % 4),
        datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=i % 5),
        Decimal(i % 4) / 4,
    )
    for i in range(60)
]


class Recorder:
    """A swarm that remembers what it was asked."""

    def __init__(self, swarm: murmur.Swarm) -> None:
        self.swarm = swarm
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def sql(self, text: str, parameters: tuple[Any, ...] = ()) -> Result:
        self.asked.append((text, parameters))
        return self.swarm.sql(text, parameters)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    with murmur.open(tmp_path_factory.mktemp("polars") / "db") as swarm:
        swarm.sql(
            'CREATE TABLE t (id INTEGER PRIMARY KEY, i INT, f DOUBLE, "a b" TEXT, b BOOLEAN, '
            "d DATE, z TIMESTAMPTZ, n DECIMAL(8,2))"
        )
        swarm.execute_many("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?)", ROWS)
        yield Recorder(swarm)


@pytest.fixture(scope="module")
def eager(source: Recorder) -> pl.DataFrame:
    return source.swarm.sql("SELECT * FROM t").pl()


def test_columns_and_predicates_reach_the_statement(source: Recorder) -> None:
    frame = murmur.polars.scan(source, "t")
    assert frame.collect_schema().names() == ["id", "i", "f", "a b", "b", "d", "z", "n"]
    found = frame.filter(pl.col("i") > 1, pl.col("a b").str.to_uppercase() != "AB").select("id")
    assert found.collect()["id"].to_list() == [
        row[0] for row in ROWS if row[1] == 2 and row[3] not in (None, "ab")
    ]
    text, parameters = source.asked[-1]
    columns, _, where = text.partition(" FROM ")
    assert sorted(columns.removeprefix("SELECT ").split(", ")) == ['"a b"', '"i"', '"id"']
    assert where == '"t" WHERE "i" > ?'
    assert parameters == (1,)


def test_a_limit_reaches_the_statement(source: Recorder) -> None:
    assert murmur.polars.scan(source, "t").head(3).collect().height == 3
    assert source.asked[-1][0].endswith('FROM "t" LIMIT 3')
    assert murmur.polars.scan(source, "t").select(pl.len()).collect().item() == len(ROWS)


def test_a_scan_reads_the_newest_state_and_a_transaction_its_own(source: Recorder) -> None:
    source.swarm.sql("CREATE TABLE now (a INT)")
    frame = murmur.polars.scan(source.swarm, "now")
    assert frame.collect().height == 0
    connection = murmur.connect(source.swarm)
    connection.execute("INSERT INTO now VALUES (1)")
    assert frame.collect().height == 0
    assert murmur.polars.scan(connection, "now").collect().height == 1
    connection.commit()
    assert frame.collect().height == 1
    connection.close()


def test_duckdb_hands_over_its_filters(source: Recorder) -> None:
    frame = murmur.polars.scan(source, "t")
    query = "SELECT count(*) FROM frame WHERE i = 2 AND id < 30"
    with duckdb.connect() as connection:
        (count,) = connection.sql(query).fetchall()
    assert count == (sum(row[1] == 2 and row[0] < 30 for row in ROWS),)
    assert frame is not None
    assert " WHERE " in source.asked[-1][0]


def test_a_table_that_is_not_there_is_named(source: Recorder) -> None:
    with pytest.raises(murmur.BindError, match="nowhere"):
        murmur.polars.scan(source, "nowhere")


# A predicate means the same, translated or not -------------------------

COMPARE = st.sampled_from(["__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"])
CONSTANTS: dict[str, st.SearchStrategy[Any]] = {
    "i": st.integers(-3, 3) | st.just(1.5),
    "f": st.sampled_from([-1.0, -0.75, 0.0, 0.5, float("nan")]) | st.integers(-1, 1),
    "a b": st.sampled_from(["", "a", "ab", "abd", "é", "ab%"]),
    "b": st.booleans(),
    "d": st.dates(date(2023, 12, 31), date(2024, 1, 6)),
    "z": st.sampled_from([row[6] for row in ROWS]),
    "n": st.sampled_from([Decimal("0.25"), Decimal("0.5"), Decimal("0.125")]),
}
LISTED = {"i": st.integers(-3, 3), "f": st.sampled_from([-1.0, -0.75, 0.0, 0.5, float("nan")])}


@st.composite
def comparisons(draw: st.DrawFn) -> pl.Expr:
    name = draw(st.sampled_from(sorted(CONSTANTS)))
    column, constant = pl.col(name), CONSTANTS[name]
    match draw(st.integers(0, 5)):
        case 0:
            return column.is_null() if draw(st.booleans()) else column.is_not_null()
        case 1:
            listed = LISTED.get(name, constant)
            return column.is_in(draw(st.lists(listed, min_size=1, max_size=3)))
        case 2:
            closed = draw(st.sampled_from(["both", "left", "right", "none"]))
            low, high = pl.lit(draw(constant)), pl.lit(draw(constant))
            return column.is_between(low, high, closed=closed)
        case 3 if name == "a b":
            return column.str.starts_with(draw(constant))
        case 4 if name in "if":
            return column + 1 > draw(st.integers(-1, 2))
    comparison: pl.Expr = getattr(column, draw(COMPARE))(draw(constant))
    return comparison


PREDICATES = st.recursive(
    comparisons(),
    lambda inner: (
        st.builds(lambda left, right: left & right, inner, inner)
        | st.builds(lambda left, right: left | right, inner, inner)
        | st.builds(lambda each: ~each, inner)
    ),
    max_leaves=4,
)


@settings(max_examples=150)
@given(predicate=PREDICATES)
def test_a_filtered_scan_is_the_filtered_table(
    source: Recorder, eager: pl.DataFrame, predicate: pl.Expr
) -> None:
    found = murmur.polars.scan(source, "t").filter(predicate).collect()
    assert_frame_equal(found, eager.filter(predicate), check_row_order=False)


@pytest.mark.parametrize(
    ("predicate", "text"),
    [
        (pl.col("i") == 1, '"i" = ?'),
        (pl.lit(1) < pl.col("i"), '"i" > ?'),
        (pl.col("i").is_in([1, 2]), '"i" IN (?, ?)'),
        ((pl.col("i") > 1) | pl.col("b").is_null(), '("i" > ? OR "b" IS NULL)'),
        (~(pl.col("a b") == "x"), '(NOT "a b" = ?)'),
        (pl.col("i").is_between(1, 2), '("i" >= ? AND "i" <= ?)'),
        (pl.col("a b").str.starts_with("x"), 'starts_with("a b", ?)'),
        (pl.col("i") * 2 > 1, None),
        (pl.col("i") > 1.5, None),
        (pl.col("f") > float("nan"), None),
        ((pl.col("i") * 2 > 1) | (pl.col("i") > 1), None),
    ],
)
def test_what_is_translated(source: Recorder, predicate: pl.Expr, text: str | None) -> None:
    kinds = source.swarm.sql("SELECT * FROM t LIMIT 0")
    types = {
        name: murmur.catalog.parse_type(kind or "")
        for name, kind in zip(kinds.columns, kinds.types, strict=True)
    }
    found = translate(predicate, types)
    assert (found.text if found else None) == text
