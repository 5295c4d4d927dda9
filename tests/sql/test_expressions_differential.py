"""Random expressions, here and in DuckDB: where both have PostgreSQL's semantics they agree.

Left out is where DuckDB differs by design: division of integers by `/`, of decimals at all, the
text of floats, substrings from negative positions, round() of floats, EXTRACT's types.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from murmur.catalog.types import parse_type
from murmur.errors import DatabaseError
from murmur.sql.compile import compile_expression
from murmur.sql.expressions import Context
from tests.sql.expression_harness import bind

COLUMNS = {
    "s": "SMALLINT",
    "i": "INTEGER",
    "b": "BIGINT",
    "n": "DECIMAL(10,2)",
    "d": "DOUBLE",
    "t": "TEXT",
    "u": "TEXT",
    "f": "BOOLEAN",
    "g": "BOOLEAN",
    "dt": "DATE",
    "ts": "TIMESTAMP",
}
D, NAN = Decimal, math.nan
ROWS: list[tuple[Any, ...]] = [
    (1, -7, 40, D("1.50"), 2.5, "abc", "a%", True, False, date(2024, 1, 31),
     datetime(2024, 2, 29, 23, 59, 59, 999_999)),
    (-3, 0, -2, D("-0.05"), -0.0, "", "%", False, None, date(1999, 12, 31),
     datetime(1970, 1, 1)),
    (None, 3, None, None, NAN, "Äb c", "_b%", None, True, None, datetime(2024, 1, 31, 10, 20)),
    (0, None, 5, D("10.00"), None, None, "abc", True, True, date(2000, 2, 29), None),
    (7, 12, 7, D("12.00"), 12.0, "ABC", None, False, True, date(2024, 1, 31),
     datetime(2024, 1, 31)),
    (None,) * 11,
]  # fmt: skip

Sql: TypeAlias = st.SearchStrategy[tuple[str, str]]  # for us, for DuckDB


def fixed(*texts: str) -> Sql:
    return st.sampled_from([(text, text) for text in texts])


def form(text: str, *operands: Sql, duck: str | None = None) -> Sql:
    """A form with {0}, {1}, ... for its operands; `duck` if DuckDB writes it otherwise."""

    def filled(pairs: tuple[tuple[str, str], ...]) -> tuple[str, str]:
        ours, theirs = zip(*pairs, strict=True)
        return text.format(*ours), (duck or text).format(*theirs)

    return st.tuples(*operands).map(filled)


def choices(kind: Sql, condition: Sql) -> Sql:
    return st.one_of(
        form("CASE WHEN {0} THEN {1} ELSE {2} END", condition, kind, kind),
        form("CASE WHEN {0} THEN {1} END", condition, kind),
        form("COALESCE({0}, {1})", kind, kind),
        form("NULLIF({0}, {1})", kind, kind),
        form("GREATEST({0}, {1}, {2})", kind, kind, kind),
        form("LEAST({0}, {1})", kind, kind),
    )


def comparisons(kind: Sql) -> Sql:
    operators = fixed("=", "<>", "<", "<=", ">", ">=")
    negation = fixed("", "NOT")
    return st.one_of(
        form("({0} {1} {2})", kind, operators, kind),
        form("({0} {1} BETWEEN {2} AND {3})", kind, negation, kind, kind),
        form("({0} {1} IN ({2}, {3}, {4}))", kind, negation, kind, kind, kind),
        form("({0} {1} IN ({2}, NULL))", kind, negation, kind),
        form("({0} IS {1} DISTINCT FROM {2})", kind, negation, kind),
        form("({0} IS {1} NULL)", kind, negation),
    )


DIVISORS = fixed("2", "-3", "7")
integer_leaves = fixed("s", "i", "b", "0", "1", "-4", "17")
decimal_leaves = fixed("n", "1.25", "-0.50", "i::numeric(10,2)")
double_leaves = fixed("d", "i::double precision", "0.5::double precision")
text_leaves = fixed("t", "u", "'a'", "''", "'xyx'", "'Äb'", "i::text", "n::text", "dt::text")
date_leaves = fixed("dt", "DATE '2024-02-28'", "ts::date")
timestamp_leaves = fixed("ts", "TIMESTAMP '2023-12-31 12:00:00.5'", "dt::timestamp")
boolean_leaves = fixed("f", "g", "TRUE", "FALSE", "NULL::boolean")

integers: Sql = st.recursive(
    integer_leaves,
    lambda inner: st.one_of(
        form("({0} + {1})", inner, inner),
        form("({0} - {1})", inner, inner),
        form("({0} * {1})", inner, inner),
        form("({0} / {1})", inner, DIVISORS, duck="({0} // {1})"),
        form("({0} % {1})", inner, DIVISORS),
        form("(- {0})", inner),
        form("abs({0})", inner),
        form("length({0})", text_leaves),
        form("strpos({0}, {1})", text_leaves, text_leaves),
        form("({0} - {1})", date_leaves, date_leaves),
        form("EXTRACT({0} FROM {1})::int", fixed("year", "month", "dow", "doy"), date_leaves),
        form("EXTRACT({0} FROM {1})::int", fixed("hour", "isodow", "week"), timestamp_leaves),
        form("round({0})::int", decimal_leaves),
        form("({0})::int", decimal_leaves),
        form("({0})::int", boolean_leaves),
        choices(inner, boolean_leaves),
    ),
    max_leaves=4,
)
decimals: Sql = st.recursive(
    decimal_leaves,
    lambda inner: st.one_of(
        form("({0} + {1})", inner, inner),
        form("({0} - {1})", inner, integer_leaves),
        form("({0} * {1})", inner, decimal_leaves),
        form("({0} % {1})", inner, fixed("2", "-1.5")),
        form("round({0}, 1)", inner),
        form("floor({0})", inner),
        form("ceil({0})", inner),
        form("abs({0})", inner),
        form("trunc({0})", inner),
        choices(inner, boolean_leaves),
    ),
    max_leaves=4,
)
doubles: Sql = st.recursive(
    double_leaves,
    lambda inner: st.one_of(
        form("({0} + {1})", inner, inner),
        form("({0} * {1})", inner, double_leaves),
        form("({0} / {1})", inner, fixed("4::double precision")),
        form("({0} - {1})", inner, integer_leaves),
        form("floor({0})", inner),
        form("ceil({0})", inner),
        form("abs({0})", inner),
        form("sqrt(abs({0}))", inner),
        choices(inner, boolean_leaves),
    ),
    max_leaves=4,
)
texts: Sql = st.recursive(
    text_leaves,
    lambda inner: st.one_of(
        form("({0} || {1})", inner, inner),
        form("lower({0})", inner),
        form("upper({0})", inner),
        form("trim({0})", inner),
        form("reverse({0})", inner),
        form("replace({0}, 'a', {1})", inner, inner),
        form("substr({0}, {1}, {2})", inner, fixed("1", "2", "5"), fixed("0", "1", "3")),
        form("left({0}, {1})", inner, fixed("0", "1", "-1")),
        form("right({0}, {1})", inner, fixed("0", "1", "-1")),
        form("lpad({0}, 5, 'xy')", inner),
        form("rpad({0}, 4, '-')", inner),
        form("repeat({0}, {1})", inner, fixed("0", "2")),
        form("split_part({0}, 'b', {1})", inner, fixed("1", "2", "-1")),
        form("concat({0}, {1}, 1)", inner, inner),
        form("md5({0})", inner),
        form("({0})::text", boolean_leaves),
        choices(inner, boolean_leaves),
    ),
    max_leaves=4,
)
dates: Sql = st.one_of(
    date_leaves,
    form("({0} + {1})", date_leaves, fixed("1", "-30", "s")),
    form("({0} - {1})", date_leaves, fixed("1", "30")),
    choices(date_leaves, boolean_leaves),
)
timestamps: Sql = st.one_of(
    timestamp_leaves,
    form("({0} + INTERVAL {1})", timestamp_leaves, fixed("'1 month'", "'-1 day'", "'90 minutes'")),
    form("({0} - INTERVAL {1})", timestamp_leaves, fixed("'1 year'", "'1 second'")),
    form("({0} + INTERVAL '1 month')", date_leaves),
    form("date_trunc({0}, {1})", fixed("'hour'", "'day'", "'week'", "'month'", "'quarter'"),
         timestamp_leaves),
    choices(timestamp_leaves, boolean_leaves),
)  # fmt: skip
conditions: Sql = st.recursive(
    st.one_of(
        boolean_leaves,
        *[comparisons(kind) for kind in (integers, decimals, doubles, texts, dates, timestamps)],
        form("({0} < {1})", integers, decimals),
        form("({0} >= {1})", integers, doubles),
        form("({0} <= {1})", dates, timestamps),
        form("({0} LIKE {1})", texts, fixed("u", "'%b%'", "'_b_'", "'a%c'", "'%'")),
        form("({0} NOT ILIKE {1})", texts, fixed("u", "'%B%'", "'ä%'", "'A_'")),
        form("starts_with({0}, {1})", texts, text_leaves),
    ),
    lambda inner: st.one_of(
        form("({0} AND {1})", inner, inner),
        form("({0} OR {1})", inner, inner),
        form("(NOT {0})", inner),
        form("({0} IS {1} TRUE)", inner, fixed("", "NOT")),
        form("({0} IS {1} FALSE)", inner, fixed("", "NOT")),
        form("({0} = {1})", inner, inner),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE tab (k INTEGER, {columns})")
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        for number, row in enumerate(ROWS):
            connection.execute(f"INSERT INTO tab VALUES ({marks})", [number, *row])
        yield connection


def agree(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-12) or (ours != ours and theirs != theirs)
    if isinstance(ours, bool) != isinstance(theirs, bool):
        return False
    return bool(ours == theirs)


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.one_of(conditions, integers, decimals, doubles, texts, dates, timestamps))
def test_both_engines_agree(duck: duckdb.DuckDBPyConnection, pair: tuple[str, str]) -> None:
    ours, theirs = pair
    types = {name: parse_type(kind) for name, kind in COLUMNS.items()}
    evaluate = compile_expression(bind(ours, columns=types))
    try:
        expected = duck.execute(f"SELECT {theirs} FROM tab ORDER BY k").fetchall()
    except duckdb.Error:
        return  # an overflow; its rules are PostgreSQL's for us and others for DuckDB
    for row, (value,) in zip(ROWS, expected, strict=True):
        try:
            actual = evaluate(row, Context())
        except DatabaseError as error:
            pytest.fail(f"{ours} on {row}: {error}, DuckDB has {value!r}")
        assert agree(actual, value), f"{ours} on {row}: {actual!r}, DuckDB has {value!r}"
