"""Operators by example, against what PostgreSQL documents and does."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from murmur.catalog.interval import Interval
from murmur.errors import DataError
from murmur.sql.numbers import round_real
from tests.sql.expression_harness import COLUMNS, bind, evaluate

D = Decimal


def same(left: Any, right: Any) -> bool:
    """Equal, of one Python type, with the same digits after the point."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    return left == right and str(left) == str(right)


def check(sql: str, expected: Any) -> None:
    value = evaluate(sql)
    assert same(value, expected), f"{sql} is {value!r}, not {expected!r}"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("7 / -2", -3),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("i / 2", 0),
        ("(0 - i - 6) / 2", -3),
        ("(0 - i - 6) / (b + 0)", -3),
        ("(0 - i - 6) % (s + 0)", -1),
        ("2147483646 + 1", 2147483647),
        ("2147483647 + b", 2147483649),
        ("- (0 - i)", 1),
        ("-2147483648", -2147483648),
        ("-9223372036854775808", -9223372036854775808),
        ("s * s", 9),
        ("i + c", 8),
        ("2 ^ 10", 1024.0),
        ("2 + 3 * 4 - 1", 13),
        ("1.10 + 2", D("3.10")),
        ("1.10 * 2.0", D("2.200")),
        ("n * i", D("1.50")),
        ("n - 2", D("-0.50")),
        ("n - n", D("0.00")),
        ("- n", D("-1.50")),
        ("7.0 / 2", D("3.5000000000000000")),
        ("1 / 3.0", D("0.33333333333333333333")),
        ("2.0 / 3", D("0.66666666666666666667")),
        ("-7.5 % 2", D("-1.5")),
        ("0.1 + 0.2 = 0.3", True),
        ("12345678901234567890123456789.5 + 0.5", D("12345678901234567890123456790.0")),
        ("99999999999999999999 + 1", D("100000000000000000000")),
        ("d + 1", 2.5),
        ("d * n", 2.25),
        ("d / 4", 0.375),
        ("d - 1e0::double precision", 0.5),
        ("0.1::double precision + 0.2::double precision", 0.30000000000000004),
        ("r + r", 5.0),
        ("r * 0.1::real", 0.25),
        ("r + i", 3.5),
        ("'NaN'::double precision + 1", math.nan),
        ("'Infinity'::double precision - 1", math.inf),
        ("'Infinity'::double precision - 'Infinity'::double precision", math.nan),
        ("'2' + 3", 5),
        ("z + 1", None),
        ("NULL + 1", None),
        ("- z", None),
    ],
)
def test_arithmetic(sql: str, expected: Any) -> None:
    check(sql, expected)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("1 / 0", "division by zero"),
        ("i % 0", "division by zero"),
        ("n / 0", "division by zero"),
        ("d / 0", "division by zero"),
        ("2147483647 + 1", "INTEGER out of range"),
        ("i + 2147483647", "INTEGER out of range"),
        ("i - 2147483647 - 3", "INTEGER out of range"),
        ("s * s * 2147483647", "INTEGER out of range"),
        ("s * 32767::smallint", "SMALLINT out of range"),
        ("9223372036854775807 + b", "BIGINT out of range"),
        ("-2147483648 / -1", "INTEGER out of range"),
        ("- (0 - i - 2147483647)", "INTEGER out of range"),
        ("d * 1e308 * 1e308", "DOUBLE out of range"),
        ("1e-308::double precision / 1e308::double precision", "DOUBLE out of range"),
        ("3e38::real * 10::real", "REAL out of range"),
        ("(-8) ^ 0.5", "not a real number"),
        ("0 ^ -1", "zero raised"),
    ],
)
def test_arithmetic_errors(sql: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(sql)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("dt + 1", date(2024, 2, 1)),
        ("1 + dt", date(2024, 2, 1)),
        ("dt - 31", date(2023, 12, 31)),
        ("dt - DATE '2024-01-01'", 30),
        ("dt + TIME '01:00'", datetime(2024, 1, 31, 1)),
        ("dt + INTERVAL '1 month'", datetime(2024, 2, 29)),
        ("dt - INTERVAL '1 hour'", datetime(2024, 1, 30, 23)),
        ("INTERVAL '1 month' + dt", datetime(2024, 2, 29)),
        ("ts + INTERVAL '1 year 1 day'", datetime(2025, 2, 1, 10, 20, 30)),
        ("ts - INTERVAL '10 hours 20 minutes 30 seconds'", datetime(2024, 1, 31)),
        ("ts - INTERVAL '1' DAY", datetime(2024, 1, 30, 10, 20, 30)),
        ("ts - TIMESTAMP '2024-01-30'", timedelta(days=1, hours=10, minutes=20, seconds=30)),
        ("ts - dt", timedelta(hours=10, minutes=20, seconds=30)),
        ("dt - ts", -timedelta(hours=10, minutes=20, seconds=30)),
        ("tz - ts", timedelta()),
        ("tm + INTERVAL '14 hours'", time(0, 20, 30, 500_000)),
        ("tm - INTERVAL '11 hours'", time(23, 20, 30, 500_000)),
        ("tm - TIME '10:20:30'", timedelta(milliseconds=500)),
        ("iv + INTERVAL '1 month'", Interval(months=1, days=1)),
        ("INTERVAL '1 month' - iv", Interval(months=1, days=-1)),
        ("iv * 1.5", timedelta(days=1, hours=12)),
        ("2 * iv", timedelta(days=2)),
        ("INTERVAL '1 month' * 1.5", Interval(months=1, days=15)),
        ("iv / 2", timedelta(hours=12)),
        ("- iv", timedelta(days=-1)),
        ("- INTERVAL '1 month'", Interval(months=-1)),
        ("iv = INTERVAL '24 hours'", True),
        ("INTERVAL '1 month' = INTERVAL '30 days'", True),
        ("INTERVAL '1 month' > INTERVAL '29 days'", True),
        ("tz AT TIME ZONE 'Europe/Berlin'", datetime(2024, 1, 31, 11, 20, 30)),
    ],
)
def test_dates_and_times(sql: str, expected: Any) -> None:
    check(sql, expected)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DATE '9999-12-31' + 1", "DATE out of range"),
        ("dt + 9223372036854775807", "DATE out of range"),
        ("TIMESTAMP '9999-12-31' + INTERVAL '1 year'", "TIMESTAMP out of range"),
        ("iv / 0", "division by zero"),
        ("iv * 1e300::double precision", "INTERVAL out of range"),
        ("ts AT TIME ZONE 'Nowhere/City'", "unknown time zone"),
    ],
)
def test_date_errors(sql: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(sql)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("i = 1", True),
        ("i <> 1", False),
        ("i != 2", True),
        ("i < b", True),
        ("n >= 1.5", True),
        ("i = 1.0", True),
        ("b = 2::double precision", True),
        ("9007199254740993 = 9007199254740992::double precision", True),  # compared as DOUBLE
        ("9007199254740993 = 9007199254740992.0", False),  # compared as DECIMAL
        ("t < 'abd'", True),
        ("'Z' < 'a'", True),  # by code point
        ("'a' < 'ä'", True),
        ("i = '1'", True),
        ("f = 'yes'", True),
        ("dt = '2024-01-31'", True),
        ("dt < ts", True),
        ("ts = '2024-01-31 10:20:30'", True),
        ("ts = tz", True),
        ("u = '00000000-0000-0000-0000-000000000005'", True),
        ("x = '\\x6162'", True),
        ("x < '\\x62'", True),
        ("f > (i = 2)", True),
        ("'NaN'::double precision = 'NaN'", True),
        ("'NaN'::double precision > 'Infinity'", True),
        ("d < 'NaN'", True),
        ("d <= 'NaN'", True),
        ("d >= 'NaN'", False),
        ("d <> 'NaN'", True),
        ("z = 1", None),
        ("z = NULL", None),
        ("NULL = NULL", None),
        ("i IS DISTINCT FROM NULL", True),
        ("z IS DISTINCT FROM NULL", False),
        ("i IS NOT DISTINCT FROM 1", True),
        ("'NaN'::double precision IS DISTINCT FROM 'NaN'", False),
        ("i IS NULL", False),
        ("z IS NULL", True),
        ("z IS NOT NULL", False),
        ("f IS TRUE", True),
        ("f IS NOT TRUE", False),
        ("(z = 1) IS FALSE", False),
        ("(z = 1) IS NOT FALSE", True),
        ("(z = 1) IS UNKNOWN", True),
        ("(i = 1) IS NOT UNKNOWN", True),
        ("i BETWEEN 1 AND 3", True),
        ("i NOT BETWEEN 2 AND 3", True),
        ("i BETWEEN SYMMETRIC 3 AND 1", True),
        ("i BETWEEN 2 AND NULL", False),
        ("i BETWEEN 1 AND NULL", None),
        ("i NOT BETWEEN NULL AND 0", True),
        ("z BETWEEN 1 AND 3", None),
        ("i IN (1, 2)", True),
        ("i IN (2, NULL)", None),
        ("i IN (1, NULL)", True),
        ("i NOT IN (2, NULL)", None),
        ("i NOT IN (1, NULL)", False),
        ("i NOT IN (2, 3)", True),
        ("z IN (1, 2)", None),
        ("i IN (b, s, 1)", True),
        ("i IN (b, s)", False),
        ("i IN (b, z)", None),
        ("i IN (1.5, 2)", False),
        ("n IN (1.5, 2)", True),
        ("d IN (1.5, 'NaN')", True),
        ("'NaN'::double precision IN (1.5, 'NaN')", True),
        ("dt IN ('2024-01-31')", True),
        ("(i, b) = (1, 2)", True),
        ("(i, b) <> (1, 3)", True),
        ("(i, b) < (1, 3)", True),
        ("(i, b) < (1, 2)", False),
        ("(i, b) <= (1, 2)", True),
        ("(i, b, s) > (1, 2, 2)", True),
        ("(i, z) = (2, 1)", False),
        ("(i, z) = (1, 1)", None),
        ("(i, b) IN ((0, 0), (1, 2))", True),
    ],
)
def test_comparison(sql: str, expected: Any) -> None:
    check(sql, expected)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("t || 'd'", "abcd"),
        ("t || i", "abc1"),
        ("i || t", "1abc"),
        ("f || ''", "true"),
        ("t || n || d", "abc1.501.5"),
        ("'a' || 'b' || 'c'", "abc"),
        ("t || NULL", None),
        ("x || '\\x63'", b"abc"),
        ("t || dt", "abc2024-01-31"),
        ("'a' 'b'", "ab"),
    ],
)
def test_concatenation(sql: str, expected: Any) -> None:
    check(sql, expected)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        # PostgreSQL 9.7.1
        ("'abc' LIKE 'abc'", True),
        ("'abc' LIKE 'a%'", True),
        ("'abc' LIKE '_b_'", True),
        ("'abc' LIKE 'c'", False),
        ("'abc' LIKE '%c'", True),
        ("'abc' LIKE '%b%'", True),
        ("'abc' LIKE 'a%c'", True),
        ("'abc' LIKE '%'", True),
        ("'' LIKE '%'", True),
        ("'' LIKE ''", True),
        ("'' LIKE '_'", False),
        ("'a\nb' LIKE 'a_b'", True),
        ("'a\nb' LIKE 'a%b'", True),
        ("'abc\n' LIKE 'abc'", False),
        ("'abc\n' LIKE 'ab_'", False),
        ("'aba' LIKE 'a%a'", True),
        ("'a' LIKE 'a%a'", False),
        ("'ab' LIKE 'a%_b'", False),
        ("'axb' LIKE 'a%_b'", True),
        ("'abab' LIKE '%ab%ab%'", True),
        ("'aab' LIKE '%ab%ab%'", False),
        ("'abcabd' LIKE '%ab_%b_'", True),
        ("'ABC' LIKE 'abc'", False),
        ("'ABC' ILIKE 'a_c'", True),
        ("'ÄRGER' ILIKE 'ä%'", True),
        ("'ΑΣ' ILIKE 'ασ'", True),
        ("'10%' LIKE '10\\%'", True),
        ("'100' LIKE '10\\%'", False),
        ("'a_b' LIKE 'a!_b' ESCAPE '!'", True),
        ("'axb' LIKE 'a!_b' ESCAPE '!'", False),
        ("'a\\b' LIKE 'a\\b' ESCAPE ''", True),
        ("'a%b' LIKE 'a%%b' ESCAPE '%'", True),
        ("'a.b' LIKE 'a.b'", True),
        ("'axb' LIKE 'a.b'", False),
        ("'abc' NOT LIKE 'a%'", False),
        ("'abc' NOT ILIKE 'B%'", True),
        ("t LIKE NULL", None),
        ("NULL LIKE 'a'", None),
        ("t NOT LIKE NULL", None),
        ("t LIKE t", True),
        ("t LIKE substr(t, 1, 1) || '%'", True),
        ("v LIKE 'a_'", True),
    ],
)
def test_like(sql: str, expected: Any) -> None:
    check(sql, expected)


def test_a_bad_pattern_is_an_error_of_the_row_that_meets_it() -> None:
    with pytest.raises(DataError, match="must not end with its escape"):
        evaluate("t LIKE 'a\\'")
    with pytest.raises(DataError, match="one character"):
        evaluate("t LIKE 'a' ESCAPE 'xy'")
    assert evaluate("CASE WHEN i = 2 THEN t LIKE 'a\\' END") is None


def test_like_does_not_backtrack() -> None:
    row = row_with(t="a" * 20_000)
    assert evaluate("t LIKE '%a%a%a%a%a%a%a%a%a%a%b'", row=row) is False
    assert evaluate("t LIKE '%_a%_a%_a%_a%_a%_a%_ab%'", row=row) is False


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CASE WHEN i = 1 THEN 'one' WHEN i = 2 THEN 'two' ELSE 'other' END", "one"),
        ("CASE WHEN z = 1 THEN 'one' ELSE 'other' END", "other"),
        ("CASE WHEN i = 2 THEN 'two' END", None),
        ("CASE i WHEN 1 THEN 2.5 ELSE 3 END", D("2.5")),
        ("CASE i WHEN 2 THEN 2.5 ELSE 3 END", D("3")),
        ("CASE z WHEN NULL THEN 1 ELSE 2 END", 2),
        ("CASE WHEN i = 1 THEN i ELSE 1 / (i - 1) END", 1),
        ("CASE WHEN f THEN dt ELSE ts END", datetime(2024, 1, 31)),
        ("COALESCE(z, i, 1 / 0)", 1),
        ("COALESCE(z, NULL)", None),
        ("COALESCE(z, 1.5)", D("1.5")),
        ("COALESCE(NULL, 'x')", "x"),
        ("NULLIF(i, 1)", None),
        ("NULLIF(i, 2)", 1),
        ("NULLIF(i, z)", 1),
        ("NULLIF(z, 1)", None),
        ("GREATEST(i, b, s)", 3),
        ("LEAST(i, b, z)", 1),
        ("GREATEST(z, NULL)", None),
        ("GREATEST(i, 1.5)", D("1.5")),
        ("GREATEST(d, 'NaN')", math.nan),
        ("LEAST(d, 'NaN')", 1.5),
        ("GREATEST('a', t)", "abc"),
    ],
)
def test_choices(sql: str, expected: Any) -> None:
    check(sql, expected)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("j -> 'a'", '[1, 2.50, "x"]'),
        ("j -> 'a' -> 1", "2.50"),
        ("j -> 'a' -> -1", '"x"'),
        ("j -> 'a' ->> -1", "x"),
        ("j ->> 'a'", '[1, 2.50, "x"]'),
        ("j -> 'b'", "null"),
        ("j ->> 'b'", None),
        ("j -> 'nope'", None),
        ("j -> 0", None),
        ("j -> 'a' -> 'a'", None),
        ("j -> 'a' -> 3", None),
        ("(j -> 'c' ->> 'd')::boolean", True),
        ("(j -> 'a' ->> 0)::int + 1", 2),
        ("'{\"a.b\": 1, \"$\": 2}'::json -> 'a.b'", "1"),
        ("'{\"a.b\": 1, \"$\": 2}'::json -> '$'", "2"),
        ("'{\"k\": \"\\u00e9\\n\"}'::json ->> 'k'", "é\n"),
        ("j ->> ('a' || '')", '[1, 2.50, "x"]'),
    ],
)
def test_json(sql: str, expected: Any) -> None:
    check(sql, expected)


def row_with(**values: Any) -> tuple[Any, ...]:
    return tuple(values.get(name, value) for name, (_, value) in COLUMNS.items())


def test_nan_is_found_in_a_list() -> None:
    row = row_with(d=float("nan"))
    assert evaluate("d IN (1.5, 'NaN')", row=row) is True
    assert evaluate("d IN (1.5, 2)", row=row) is False
    assert evaluate("d NOT IN ('NaN')", row=row) is False


def test_a_real_is_compared_with_others_as_double() -> None:
    row = row_with(r=round_real(0.1))
    assert evaluate("r = 0.1::real", row=row) is True
    assert evaluate("r = 0.1", row=row) is False
    assert evaluate("r = ?", [0.1], row=row) is True
    assert evaluate("GREATEST(r, i)", row=row) == 1.0


def test_parameters_take_the_type_of_what_they_meet() -> None:
    assert evaluate("i = ?", [1]) is True
    assert evaluate("? < n", [D("1.4")]) is True
    assert evaluate("dt = ?", ["2024-01-31"]) is True
    assert evaluate("ts > ?", [date(2024, 1, 1)]) is True
    assert evaluate("t LIKE ?", ["a%"]) is True
    assert evaluate("i IN (?, ?)", [1, None]) is True
    assert evaluate("ts + ?", [timedelta(days=1)]) == datetime(2024, 2, 1, 10, 20, 30)
    assert evaluate("? || 'b'", ["a"]) == "ab"
    assert evaluate("COALESCE(?, 'b')", [None]) == "b"
    assert evaluate("CASE WHEN ? THEN i END", [True]) == 1


def test_parameters_without_a_type_take_the_one_of_their_value() -> None:
    assert evaluate("?", ["a"]) == "a"
    assert evaluate("? + ?", [1, 2]) == 3
    assert evaluate("? + ?", [date(2024, 1, 1), 2]) == date(2024, 1, 3)
    assert evaluate("? = ?", [1, D("1.0")]) is True
    assert evaluate("dt - ?", [date(2024, 1, 1)]) == 30
    assert evaluate("dt - ?", [1]) == date(2024, 1, 30)
    assert evaluate("- ?", [5]) == -5
    assert evaluate("? BETWEEN ? AND ?", [2, 1, 3]) is True
    assert evaluate("GREATEST(?, ?)", [2, 3]) == 3
    assert evaluate("CAST(? AS INTEGER)", ["12"]) == 12
    assert evaluate("?::date", ["2024-01-31"]) == date(2024, 1, 31)
    assert evaluate("? IS NULL", [None]) is True


def test_a_deep_tree_is_cut_into_functions() -> None:
    assert evaluate("i" + " + 1" * 90) == 91
    nested = "f"
    for _ in range(20):
        nested = f"NOT ({nested} AND i = 1)"
    assert evaluate(nested) is True
    chain = " AND ".join(f"i <> {n}" for n in range(2, 3000))
    assert evaluate(chain) is True
    branches = " ".join(f"WHEN i = {n} THEN {n}" for n in range(500, 0, -1))
    assert evaluate(f"CASE {branches} END") == 1
    assert evaluate(f"COALESCE({', '.join(['z'] * 3000)}, i)") == 1
    assert evaluate(" || ".join(["t"] * 3000)) == "abc" * 3000
    assert evaluate(" || ".join(["x"] * 3000)) == b"ab" * 3000
    assert evaluate(f"concat({', '.join(['t'] * 3000)})") == "abc" * 3000
    assert evaluate(f"GREATEST({', '.join(['i'] * 3000)}, b)") == 2
    items = ", ".join(f"{n} + b" for n in range(1000))
    assert evaluate(f"i NOT IN ({items})") is True


def test_binding_twice_gives_equal_trees() -> None:
    sql = "i + 1 > 2 AND t LIKE 'a%' OR b IN (1, 2)"
    assert bind(sql) == bind(sql)
    assert hash(bind(sql)) == hash(bind(sql))
