"""Scalar functions by example, against PostgreSQL's chapters 9.3 to 9.9 and 9.16."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from murmur.catalog.interval import Interval
from murmur.catalog.types import BIGINT, DECIMAL, DOUBLE, INTEGER, REAL, SMALLINT, TEXT
from murmur.errors import DataError, TypeMismatch
from murmur.sql.compile import compile_expression
from murmur.sql.expressions import Call, Literal, NeedsColumnar, Parameter, is_volatile
from murmur.sql.functions import FUNCTIONS, resolve
from tests.sql.expression_harness import NOW_MS, ROW, bind, context, evaluate
from tests.sql.test_expressions import same

D = Decimal


def check(sql: str, expected: Any) -> None:
    value = evaluate(sql)
    assert same(value, expected), f"{sql} is {value!r}, not {expected!r}"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("lower('TOM')", "tom"),
        ("upper('tom')", "TOM"),
        ("initcap('hi THOMAS, o''neil_x 2nd')", "Hi Thomas, O'Neil_X 2nd"),
        ("length('josé')", 4),
        ("char_length('josé')", 4),
        ("character_length('josé')", 4),
        ("octet_length('josé')", 5),
        ("bit_length('jose')", 32),
        ("length(x)", 2),
        ("octet_length(x)", 2),
        ("substring('Thomas' from 2 for 3)", "hom"),
        ("substring('Thomas' from 3)", "omas"),
        ("substring('Thomas' for 2)", "Th"),
        ("substr('alphabet', 3)", "phabet"),
        ("substr('alphabet', 3, 2)", "ph"),
        ("substr('hello', -1, 4)", "he"),
        ("substr('hello', 0)", "hello"),
        ("substr('hello', 4, 100)", "lo"),
        ("substr('hello', 2, 0)", ""),
        ("substr('hello', -5, 2)", ""),
        ("substr(x, 2, 1)", b"b"),
        ("position('om' in 'Thomas')", 3),
        ("position('' in 'abc')", 1),
        ("strpos('high', 'ig')", 2),
        ("strpos('high', 'x')", 0),
        ("trim('  a b  ')", "a b"),
        ("trim(both 'xyz' from 'yxTomxx')", "Tom"),
        ("trim(leading 'x' from 'xxaxx')", "axx"),
        ("trim(trailing 'x' from 'xxaxx')", "xxa"),
        ("trim(leading from '  a ')", "a "),
        ("btrim('xyxtrimyyx', 'xyz')", "trim"),
        ("ltrim('zzzytest', 'xyz')", "test"),
        ("rtrim('testxxzx', 'xyz')", "test"),
        ("ltrim('  a ')", "a "),
        ("rtrim(' a  ')", " a"),
        ("trim('\t a ')", "\t a"),
        ("replace('abcdefabcdef', 'cd', 'XX')", "abXXefabXXef"),
        ("replace('abc', '', 'x')", "abc"),
        ("translate('12345', '143', 'ax')", "a2x5"),
        ("left('abcde', 2)", "ab"),
        ("left('abcde', -2)", "abc"),
        ("left('abcde', 0)", ""),
        ("right('abcde', 2)", "de"),
        ("right('abcde', -2)", "cde"),
        ("right('abcde', 0)", ""),
        ("lpad('hi', 5, 'xy')", "xyxhi"),
        ("lpad('hello', 2)", "he"),
        ("lpad('hi', 4)", "  hi"),
        ("lpad('hi', 4, '')", "hi"),
        ("lpad('hi', -1)", ""),
        ("rpad('hi', 5, 'xy')", "hixyx"),
        ("rpad('hello', 2)", "he"),
        ("repeat('Pg', 4)", "PgPgPgPg"),
        ("repeat('Pg', -1)", ""),
        ("repeat('', 9000000000)", ""),
        ("reverse('abcde')", "edcba"),
        ("split_part('abc~@~def~@~ghi', '~@~', 2)", "def"),
        ("split_part('abc,def,ghi,jkl', ',', -2)", "ghi"),
        ("split_part('a,b', ',', 3)", ""),
        ("split_part('a,b', '', 1)", "a,b"),
        ("starts_with('alphabet', 'alph')", True),
        ("starts_with('alphabet', 'x')", False),
        ("concat('abcde', 2, NULL, 22)", "abcde222"),
        ("concat(NULL, NULL)", ""),
        ("concat(f, n, dt)", "true1.502024-01-31"),
        ("concat_ws(',', 'abcde', 2, NULL, 22)", "abcde,2,22"),
        ("concat_ws(NULL, 'a', 'b')", None),
        ("chr(65)", "A"),
        ("chr(8364)", "€"),
        ("ascii('x')", 120),
        ("ascii('')", 0),
        ("ascii('€')", 8364),
        ("md5('abc')", "900150983cd24fb0d6963f7d28e17f72"),
        ("md5(x)", "187ef4436122d1cc2f40dc2b92f0eba0"),
        ("encode('123\\000\\001'::bytea, 'hex')", "3132330001"),
        ("encode('123\\000\\001'::bytea, 'base64')", "MTIzAAE="),
        ("encode('a\\\\b\\377'::bytea, 'escape')", "a\\\\b\\377"),
        ("decode('3132330001', 'hex')", b"123\x00\x01"),
        ("decode('MTIz AAE=', 'base64')", b"123\x00\x01"),
        ("decode('a\\\\b\\377', 'escape')", b"a\\b\xff"),
        ("to_hex(2147483647)", "7fffffff"),
        ("to_hex(-1)", "ffffffff"),
        ("to_hex(-1::bigint)", "ffffffffffffffff"),
        ("lower(z::text)", None),
        ("substr(t, z)", None),
        ("upper(?)", "A"),
    ],
)
def test_text(sql: str, expected: Any) -> None:
    value = evaluate(sql, ["a"] if "?" in sql else [])
    assert same(value, expected), f"{sql} is {value!r}, not {expected!r}"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        # The type decides: integers and floats give floats, decimals decimals.
        ("abs(-17)", 17),
        ("abs(-17.4)", D("17.4")),
        ("abs(-1.5::double precision)", 1.5),
        ("ceil(42.2)", D("43")),
        ("ceil(-42.8)", D("-42")),
        ("ceiling(-0.5)", D("0")),
        ("ceil(d)", 2.0),
        ("ceil(i)", 1.0),
        ("floor(42.8)", D("42")),
        ("floor(-42.8)", D("-43")),
        ("floor('-Infinity'::double precision)", -math.inf),
        ("round(42.4)", D("42")),
        ("round(2.5)", D("3")),
        ("round(-2.5)", D("-3")),
        ("round(2.5::double precision)", 2.0),
        ("round(-0.4::double precision)", -0.0),
        ("round(42.4382, 2)", D("42.44")),
        ("round(1234.56, -1)", D("1230")),
        ("round(1.5, 3)", D("1.500")),
        ("round(2.675::double precision, 2)", 2.68),
        ("round(1234.5::double precision, -2)", 1200.0),
        ("trunc(42.8)", D("42")),
        ("trunc(-42.8)", D("-42")),
        ("trunc(42.4382, 2)", D("42.43")),
        ("trunc(-1.9::double precision)", -1.0),
        ("mod(9, 4)", 1),
        ("mod(-9, 4)", -1),
        ("mod(5.5, 2)", D("1.5")),
        ("div(9, 4)", D("2")),
        ("div(-9.5, 2)", D("-4")),
        ("power(9, 3)", 729.0),
        ("power(9.0, 3.0)", D("729.0000000000000000")),
        ("2.0 ^ 0.5", D("1.4142135623730950")),
        ("2 ^ -1", 0.5),
        ("sqrt(2)", 1.4142135623730951),
        ("sqrt(2.0)", D("1.414213562373095")),
        ("cbrt(27)", 3.0),
        ("exp(1.0)", D("2.7182818284590452")),
        ("exp(1)", 2.718281828459045),
        ("ln(2.0)", D("0.6931471805599453")),
        ("ln(2)", 0.6931471805599453),
        ("log(100)", 2.0),
        ("log(100.0)", D("2.0000000000000000")),
        ("log(2.0, 64.0)", D("6.0000000000000000")),
        ("log10(1000)", 3.0),
        ("log10(1000.0)", D("3.0000000000000000")),
        ("sign(-8.4)", D("-1")),
        ("sign(-8)", -1.0),
        ("sign(0)", 0.0),
        ("pi()", math.pi),
        ("degrees(pi())", 180.0),
        ("radians(180)", math.pi),
        ("sin(0)", 0.0),
        ("atan2(1, 1)", math.pi / 4),
        ("gcd(1071, 462)", 21),
        ("lcm(1071, 462)", 23562),
        ("abs(z)", None),
        ("round(z::numeric, 2)", None),
    ],
)
def test_numbers(sql: str, expected: Any) -> None:
    check(sql, expected)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("substr('a', 1, -1)", "negative substring length"),
        ("split_part('a', ',', 0)", "must not be zero"),
        ("chr(0)", "there is no character 0"),
        ("chr(55296)", "there is no character"),
        ("repeat('abc', 100000000)", "too long"),
        ("lpad('a', 1000000000)", "too long"),
        ("encode(x, 'rot13')", "unknown encoding"),
        ("decode('xyz', 'hex')", "is not hex"),
        ("decode('***', 'base64')", "is not base64"),
        ("abs(-2147483648)", "INTEGER out of range"),
        ("abs(-32768::smallint - 1::smallint)", "out of range"),
        ("sqrt(-1)", "square root"),
        ("sqrt(-1.0)", "square root"),
        ("ln(0)", "above zero"),
        ("log(-1.0)", "above zero"),
        ("exp(1000)", "DOUBLE out of range"),
        ("power(10.0, 1000000)", "DECIMAL out of range"),
        ("mod(1, 0)", "division by zero"),
        ("div(1, 0)", "division by zero"),
        ("acos(2)", "out of range"),
        ("lcm(9223372036854775807, 9223372036854775806)", "BIGINT out of range"),
        ("make_date(2024, 2, 30)", "there is no date 2024-2-30"),
        ("make_timestamp(2024, 1, 1, 25, 0, 0)", "there is no time"),
        ("to_timestamp(1e300::double precision)", "TIMESTAMPTZ out of range"),
    ],
)
def test_errors(sql: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(sql)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        # PostgreSQL 9.9.1
        ("EXTRACT(century FROM TIMESTAMP '2000-12-16 12:21:13')", 20),
        ("EXTRACT(century FROM TIMESTAMP '2001-02-16 20:38:40')", 21),
        ("EXTRACT(day FROM TIMESTAMP '2001-02-16 20:38:40')", 16),
        ("EXTRACT(day FROM INTERVAL '40 days 1 minute')", 40),
        ("EXTRACT(decade FROM TIMESTAMP '2001-02-16 20:38:40')", 200),
        ("EXTRACT(dow FROM TIMESTAMP '2001-02-16 20:38:40')", 5),
        ("EXTRACT(doy FROM TIMESTAMP '2001-02-16 20:38:40')", 47),
        ("EXTRACT(epoch FROM TIMESTAMPTZ '2001-02-16 20:38:40.12-08')", D("982384720.120000")),
        ("EXTRACT(epoch FROM INTERVAL '5 days 3 hours')", D("442800.000000")),
        ("EXTRACT(epoch FROM INTERVAL '1 year')", D("31557600.000000")),
        ("EXTRACT(hour FROM TIMESTAMP '2001-02-16 20:38:40')", 20),
        ("EXTRACT(isodow FROM TIMESTAMP '2001-02-18 20:38:40')", 7),
        ("EXTRACT(isoyear FROM DATE '2006-01-01')", 2005),
        ("EXTRACT(isoyear FROM DATE '2006-01-02')", 2006),
        ("EXTRACT(julian FROM DATE '2006-01-01')", 2453737),
        ("EXTRACT(microseconds FROM TIME '17:12:28.5')", 28500000),
        ("EXTRACT(millennium FROM TIMESTAMP '2001-02-16 20:38:40')", 3),
        ("EXTRACT(milliseconds FROM TIME '17:12:28.5')", D("28500.000")),
        ("EXTRACT(minute FROM TIMESTAMP '2001-02-16 20:38:40')", 38),
        ("EXTRACT(month FROM INTERVAL '2 years 13 months')", 1),
        ("EXTRACT(quarter FROM TIMESTAMP '2001-02-16 20:38:40')", 1),
        ("EXTRACT(second FROM TIMESTAMP '2001-02-16 20:38:40')", D("40.000000")),
        ("EXTRACT(second FROM TIME '17:12:28.5')", D("28.500000")),
        ("EXTRACT(week FROM TIMESTAMP '2001-02-16 20:38:40')", 7),
        ("EXTRACT(year FROM TIMESTAMP '2001-02-16 20:38:40')", 2001),
        ("EXTRACT(year FROM INTERVAL '2 years 13 months')", 3),
        ("EXTRACT(hour FROM INTERVAL '-1 hours -30 minutes')", -1),
        ("EXTRACT(minute FROM INTERVAL '-1 hours -30 minutes')", -30),
        ("EXTRACT(timezone FROM tz)", 0),
        ("date_part('year', dt)", 2024),
        ("EXTRACT(year FROM '2001-02-16')", 2001),
        ("EXTRACT(year FROM NULL)", None),
    ],
)
def test_extract(sql: str, expected: Any) -> None:
    check(sql, expected if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("date_trunc('hour', TIMESTAMP '2001-02-16 20:38:40')", datetime(2001, 2, 16, 20)),
        ("date_trunc('year', TIMESTAMP '2001-02-16 20:38:40')", datetime(2001, 1, 1)),
        ("date_trunc('quarter', TIMESTAMP '2001-06-16')", datetime(2001, 4, 1)),
        ("date_trunc('week', TIMESTAMP '2001-02-16 20:38:40')", datetime(2001, 2, 12)),
        ("date_trunc('week', TIMESTAMP '0001-01-03')", datetime(1, 1, 1)),
        ("date_trunc('decade', ts)", datetime(2020, 1, 1)),
        ("date_trunc('century', ts)", datetime(2001, 1, 1)),
        ("date_trunc('millennium', ts)", datetime(2001, 1, 1)),
        ("date_trunc('milliseconds', TIMESTAMP '2001-02-16 20:38:40.123456')",
         datetime(2001, 2, 16, 20, 38, 40, 123000)),
        ("date_trunc('day', tz)", datetime(2024, 1, 31, tzinfo=UTC)),
        ("date_trunc('month', dt)", datetime(2024, 1, 1)),
        ("date_trunc('hour', INTERVAL '3 days 02:47:33')", timedelta(days=3, hours=2)),
        ("date_trunc('month', INTERVAL '14 months 3 days')", Interval(months=14)),
        ("date_trunc('year', INTERVAL '14 months 3 days')", Interval(months=12)),
        ("make_date(2013, 7, 15)", date(2013, 7, 15)),
        ("make_timestamp(2013, 7, 15, 8, 15, 23.5)", datetime(2013, 7, 15, 8, 15, 23, 500_000)),
        ("to_timestamp(1284352323)", datetime(2010, 9, 13, 4, 32, 3, tzinfo=UTC)),
        ("TIMESTAMP '2001-02-16 20:38:40' AT TIME ZONE 'America/Denver'",
         datetime(2001, 2, 17, 3, 38, 40, tzinfo=UTC)),
        ("TIMESTAMPTZ '2001-02-16 20:38:40-05' AT TIME ZONE 'America/Denver'",
         datetime(2001, 2, 16, 18, 38, 40)),
        ("now()", datetime(2024, 1, 31, 10, 20, 30, 500_000, tzinfo=UTC)),
        ("CURRENT_TIMESTAMP = now()", True),
        ("transaction_timestamp() = now()", True),
        ("CURRENT_DATE", date(2024, 1, 31)),
        ("LOCALTIMESTAMP", datetime(2024, 1, 31, 10, 20, 30, 500_000)),
        ("LOCALTIME", time(10, 20, 30, 500_000)),
    ],
)  # fmt: skip
def test_dates_and_times(sql: str, expected: Any) -> None:
    check(sql, expected)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("typeof(i)", "INTEGER"),
        ("typeof(n)", "DECIMAL(10,2)"),
        ("typeof(c)", "BIGINT"),
        ("typeof('a')", "TEXT"),
        ("pg_typeof(d)", "double precision"),
        ("pg_typeof(n)", "numeric"),
        ("pg_typeof(tz)", "timestamp with time zone"),
        ("pg_typeof(v)", "character varying"),
        ("pg_typeof(i + b)", "bigint"),
        ("pg_typeof(1.5)", "numeric"),
        ("pg_typeof(s + s)", "smallint"),
        ("json_typeof(j)", "object"),
        ("json_typeof(j -> 'a')", "array"),
        ("json_typeof('  1'::json)", "number"),
        ("json_typeof('null'::json)", "null"),
        ("json_array_length(j -> 'a')", 3),
        ("json_array_length('[]'::json)", 0),
    ],
)
def test_types_and_json(sql: str, expected: Any) -> None:
    check(sql, expected)


def test_chance_comes_from_the_context() -> None:
    expr = bind("random()")
    assert is_volatile(expr)
    draw = compile_expression(expr)
    first = [draw(ROW, context(seed=seed)) for seed in (1, 1, 2)]
    assert first[0] == first[1] != first[2]
    one = context()
    values = [draw(ROW, one) for _ in range(100)]
    assert len(set(values)) == 100
    assert all(0.0 <= value < 1.0 for value in values)


def test_uuids() -> None:
    one = context()
    random_uuid = compile_expression(bind("gen_random_uuid()"))(ROW, one)
    assert isinstance(random_uuid, uuid.UUID)
    assert random_uuid.version == 4
    draw = compile_expression(bind("uuid7()"))
    made = [draw(ROW, one) for _ in range(50)]
    assert made == sorted(made)
    assert {value.version for value in made} == {7}
    assert {value.int >> 80 for value in made} == {NOW_MS}


def test_the_statement_has_one_time() -> None:
    assert not is_volatile(bind("now()"))
    one = context()
    assert one.now is one.now


def test_resolution_prefers_exact_types_then_double() -> None:
    assert resolve("abs", [SMALLINT]).result == SMALLINT
    assert resolve("abs", [REAL]).result == REAL
    assert resolve("round", [INTEGER]).result == DOUBLE
    assert resolve("round", [DECIMAL]).result == DECIMAL
    assert resolve("round", [INTEGER, INTEGER]).result == DOUBLE
    assert resolve("power", [INTEGER, DECIMAL]).result == DECIMAL
    assert resolve("power", [DECIMAL, REAL]).result == DOUBLE
    assert resolve("to_hex", [BIGINT]).parameters == (BIGINT,)
    assert resolve("length", [None]).parameters == (TEXT,)


def test_what_does_not_resolve() -> None:
    with pytest.raises(TypeMismatch, match=r"there is no function lower\(INTEGER\)"):
        resolve("lower", [INTEGER])
    with pytest.raises(TypeMismatch, match=r"there is no function pi\(INTEGER\)"):
        resolve("pi", [INTEGER])
    with pytest.raises(NeedsColumnar, match="function levenshtein"):
        resolve("levenshtein", [TEXT, TEXT])


def test_strict_functions_are_null_on_null() -> None:
    """No function of the registry sees a NULL that it did not ask for."""
    for overloads in FUNCTIONS.values():
        for function in overloads:
            if function.strict and function.parameters:
                for position in range(len(function.parameters)):
                    arguments = tuple(
                        Literal(None, t) if n == position else Parameter(n, t)
                        for n, t in enumerate(function.parameters)
                    )
                    call = Call(function, arguments, function.result)
                    assert compile_expression(call)((), context([1, 1, 1, 1, 1, 1])) is None
