"""CAST between all types: PostgreSQL's results, and clear errors."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.catalog.interval import Interval, interval
from murmur.catalog.types import (
    DATE,
    DECIMAL,
    DOUBLE,
    INTEGER,
    INTERVAL,
    REAL,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    SqlType,
    parse_type,
)
from murmur.errors import DataError, TypeMismatch
from murmur.sql.casts import can_cast, cast_value, caster
from murmur.sql.literals import float_text, real_text
from murmur.sql.numbers import round_real
from tests.sql.expression_harness import COLUMNS, bind, evaluate
from tests.sql.test_expressions import same

D = Decimal


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        # Floats round half to even, decimals half away from zero.
        ("2.5::double precision::int", 2),
        ("3.5::double precision::int", 4),
        ("-2.5::double precision::int", -2),
        ("2.5::int", 3),
        ("(-2.5)::int", -3),
        ("2.4::bigint", 2),
        ("(i + 0.5)::smallint", 2),
        ("'  42 '::int", 42),
        ("'-7'::smallint", -7),
        ("f::int", 1),
        ("0::boolean", False),
        ("i::boolean", True),
        ("i::double precision", 1.0),
        ("i::numeric", D("1")),
        ("i::numeric(5,2)", D("1.00")),
        ("0.1::double precision::numeric", D("0.1")),
        ("1e20::double precision::numeric", D("100000000000000000000")),
        ("2.345::numeric(5,2)", D("2.35")),
        ("(-2.345)::numeric(5,2)", D("-2.35")),
        ("'1e3'::numeric", D("1000")),
        ("'1.50'::numeric", D("1.50")),
        ("'.5'::numeric", D("0.5")),
        ("'-0'::numeric", D("0")),
        ("0.1::real::double precision", round_real(0.1)),
        ("'NaN'::double precision", math.nan),
        ("'-inf'::double precision", -math.inf),
        ("' 1e3 '::double precision", 1000.0),
        ("'t'::boolean", True),
        ("' YES '::boolean", True),
        ("'of'::boolean", False),
        ("'0'::boolean", False),
        ("i::text", "1"),
        ("f::text", "true"),
        ("n::text", "1.50"),
        ("1e20::text", "100000000000000000000"),
        ("d::text", "1.5"),
        ("1::double precision::text", "1"),
        ("1e15::double precision::text", "1e+15"),
        ("1e14::double precision::text", "100000000000000"),
        ("0.0001::double precision::text", "0.0001"),
        ("0.00001::double precision::text", "1e-05"),
        ("0.1::real::text", "0.1"),
        ("1e6::real::text", "1e+06"),
        ("'-Infinity'::double precision::text", "-Infinity"),
        ("dt::text", "2024-01-31"),
        ("tm::text", "10:20:30.5"),
        ("ts::text", "2024-01-31 10:20:30"),
        ("tz::text", "2024-01-31 10:20:30+00"),
        ("iv::text", "1 day"),
        ("INTERVAL '1 year 2 months 3 days 4 hours'::text", "1 year 2 mons 3 days 04:00:00"),
        ("u::text", "00000000-0000-0000-0000-000000000005"),
        ("x::text", "\\x6162"),
        ("j::text", COLUMNS["j"][1]),
        ("t::varchar(2)", "ab"),  # a cast that is written out cuts
        ("123::varchar(2)", "12"),
        ("'abc'::char", "a"),
        ("'\\x6162'::bytea", b"ab"),
        ("'a\\\\b\\001'::bytea", b"a\\b\x01"),
        ("'{00000000-0000-0000-0000-000000000005}'::uuid", uuid.UUID(int=5)),
        ("'00000000000000000000000000000005'::uuid", uuid.UUID(int=5)),
        ("'[1, 2]'::json", "[1, 2]"),
        ("'2024-01-31'::date", date(2024, 1, 31)),
        ("'2024-1-5'::date", date(2024, 1, 5)),
        ("'2024-01-31 23:59:59'::date", date(2024, 1, 31)),
        ("'10:20'::time", time(10, 20)),
        ("'10:20:30.1234567'::time", time(10, 20, 30, 123_457)),
        ("'2024-01-31'::timestamp", datetime(2024, 1, 31)),
        ("'2024-01-31T10:20:30.5'::timestamp", datetime(2024, 1, 31, 10, 20, 30, 500_000)),
        ("'2024-01-31 10:20:30Z'::timestamp", datetime(2024, 1, 31, 10, 20, 30)),
        ("'2024-01-31 23:59:59.9999999'::timestamp", datetime(2024, 2, 1)),
        ("'2024-01-31 10:00+02'::timestamptz", datetime(2024, 1, 31, 8, tzinfo=UTC)),
        ("'2024-01-31 10:00 -0530'::timestamptz", datetime(2024, 1, 31, 15, 30, tzinfo=UTC)),
        ("'2024-01-31'::timestamptz", datetime(2024, 1, 31, tzinfo=UTC)),
        ("dt::timestamp", datetime(2024, 1, 31)),
        ("ts::date", date(2024, 1, 31)),
        ("ts::time", time(10, 20, 30)),
        ("tz::timestamp", datetime(2024, 1, 31, 10, 20, 30)),
        ("ts::timestamptz", datetime(2024, 1, 31, 10, 20, 30, tzinfo=UTC)),
        ("tm::interval", timedelta(hours=10, minutes=20, seconds=30.5)),
        ("'25 hours'::interval::time", time(1)),
        ("'1 day ago'::interval", timedelta(days=-1)),
        ("'P1Y2M3DT4H'::interval", Interval(months=14, days=3, hours=4)),
        ("INTERVAL '90' MINUTE", timedelta(minutes=90)),
        ("z::text", None),
        ("NULL::int", None),
    ],
)
def test_cast(sql: str, expected: Any) -> None:
    value = evaluate(sql)
    assert same(value, expected), f"{sql} is {value!r}, not {expected!r}"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("'abc'::int", '"abc" is not a valid INTEGER'),
        ("''::int", '"" is not a valid INTEGER'),
        ("'1.5'::int", "not a valid INTEGER"),
        ("'1_000'::int", "not a valid INTEGER"),
        ("'١'::int", "not a valid INTEGER"),
        ("'99999999999'::int", "out of range for INTEGER"),
        (f"'{'9' * 10_000}'::int", "out of range for INTEGER"),
        ("b::smallint + 99999999999::int", "INTEGER out of range"),
        ("1e30::bigint", "BIGINT out of range"),
        ("'NaN'::double precision::int", "out of range"),
        ("'Infinity'::double precision::numeric", "a DECIMAL cannot be Infinity"),
        ("'1e400'::double precision", "out of range for DOUBLE"),
        ("'1e-400'::double precision", "out of range for DOUBLE"),
        ("1e39::real", "REAL out of range"),
        ("'1e400'::real", "out of range for REAL"),
        ("'NaN'::numeric", "not a valid DECIMAL"),
        ("'1e999999'::numeric", "DECIMAL out of range"),
        ("12345.6::numeric(4,2)", r"does not fit DECIMAL\(4,2\)"),
        ("99.995::numeric(4,2)", r"does not fit DECIMAL\(4,2\)"),
        ("'o'::boolean", "not a valid BOOLEAN"),
        ("''::boolean", "not a valid BOOLEAN"),
        ("'2024-02-30'::date", '"2024-02-30" is not a valid DATE'),
        ("'31.01.2024'::date", "not a valid DATE"),
        ("'2024-W01-1'::date", "not a valid DATE"),
        ("'24:00'::time", "not a valid TIME"),
        ("'10:60'::time", "not a valid TIME"),
        ("'2024-01-31 10:00+02'::timestamp", "has a time zone"),
        ("'9999-12-31 23:59:59.9999999'::timestamp", "not a valid TIMESTAMP"),
        ("'0001-01-01 00:00+02'::timestamptz", "not a valid TIMESTAMPTZ"),
        ("'1 fortnight'::interval", "not a valid INTERVAL"),
        ("'xyz'::uuid", "not a valid UUID"),
        ("'{'::json", "not a valid JSON"),
        ("'NaN'::json", "not a valid JSON"),
        ("'\\xg'::bytea", "not a valid BLOB"),
        ("'\\9'::bytea", "not a valid BLOB"),
    ],
)
def test_what_cannot_be_cast(sql: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(sql)
    # The same text in a column is an error of the row that holds it.
    literal, _, target = sql.partition("::")
    if literal.startswith("'") and "::" not in target:
        with pytest.raises(DataError, match=message):
            cast_value(literal[1:-1], bind(sql.replace(literal, "NULL")).type)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("INTEGER", "DATE"),
        ("DATE", "INTEGER"),
        ("BOOLEAN", "DOUBLE"),
        ("BLOB", "INTEGER"),
        ("UUID", "BLOB"),
        ("TIME", "DATE"),
        ("JSON", "INTEGER"),
        ("INTEGER", "UUID"),
    ],
)
def test_casts_that_do_not_exist(source: str, target: str) -> None:
    with pytest.raises(TypeMismatch, match=f"cannot cast {source} to {target}"):
        caster(parse_type(source), parse_type(target))
    assert not can_cast(parse_type(source), parse_type(target))


def test_can_cast_agrees_with_caster() -> None:
    types = [parse_type(kind) for kind, _ in COLUMNS.values()]
    for source in types:
        for target in types:
            try:
                caster(source, target)
            except TypeMismatch:
                assert not can_cast(source, target), (source, target)
            else:
                assert can_cast(source, target), (source, target)


# Whatever is written reads back as itself.

ROUND_TRIPS: list[tuple[SqlType, st.SearchStrategy[Any]]] = [
    (INTEGER, st.integers(-(2**31), 2**31 - 1)),
    (DOUBLE, st.floats(allow_nan=False)),
    (REAL, st.floats(allow_nan=False, width=32)),
    (DECIMAL, st.decimals(-(10**30), 10**30, places=5)),
    (DATE, st.dates()),
    (TIME, st.times()),
    (TIMESTAMP, st.datetimes()),
    (TIMESTAMPTZ, st.datetimes(timezones=st.just(UTC))),
    (
        INTERVAL,
        st.builds(
            interval,
            st.integers(-10_000, 10_000),
            st.timedeltas(timedelta(days=-9999), timedelta(days=9999)),
        ),
    ),
    (parse_type("BLOB"), st.binary(max_size=20)),
    (parse_type("UUID"), st.uuids()),
    (parse_type("BOOLEAN"), st.booleans()),
]


@given(st.one_of([st.tuples(st.just(sql_type), values) for sql_type, values in ROUND_TRIPS]))
def test_text_reads_back_as_the_value(pair: tuple[SqlType, Any]) -> None:
    sql_type, value = pair
    write, read = caster(sql_type, TEXT), caster(TEXT, sql_type)
    assert write is not None
    assert read is not None
    assert read(write(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_written_as_short_as_possible(value: float) -> None:
    def digits(text: str) -> str:
        return text.partition("e")[0].replace(".", "").strip("-0")

    assert float(float_text(value)) == value
    assert digits(float_text(value)) == digits(repr(value))


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_32_bit_floats_read_back(value: float) -> None:
    assert round_real(float(real_text(value))) == value
