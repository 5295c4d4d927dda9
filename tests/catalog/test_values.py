import enum
import math
import struct
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest

from murmur.catalog import types
from murmur.catalog.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    COUNTER,
    DATE,
    DECIMAL,
    DOUBLE,
    INTEGER,
    INTERVAL,
    JSON,
    REAL,
    SMALLINT,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    Interval,
    varchar,
)
from murmur.catalog.values import check, checker, from_atom, is_atom, to_atom
from murmur.errors import DataError, InternalError, InvalidInput, TypeMismatch


class Colour(enum.StrEnum):
    RED = "red"

    def __str__(self):
        return "not red"


class Number(enum.IntEnum):
    ONE = 1


MONEY = types.decimal(5, 2)
EAST = timezone(timedelta(hours=2))
NIL = uuid.UUID(int=0)
MOMENT = datetime(2024, 2, 29, 10, 30)
NESTED = "[" * 128 + "]" * 128
NANOSECOND = np.datetime64("2024-02-29T10:30:00.000000001")

ACCEPTED = [
    (BOOLEAN, True, True),
    (BOOLEAN, np.bool_(0), False),
    (SMALLINT, -32768, -32768),
    (INTEGER, 2**31 - 1, 2**31 - 1),
    (INTEGER, Number.ONE, 1),
    (BIGINT, np.int64(-(2**63)), -(2**63)),
    (BIGINT, np.uint8(7), 7),
    (COUNTER, -5, -5),
    (REAL, 0.1, struct.unpack("<f", struct.pack("<f", 0.1))[0]),
    (REAL, np.float32(0.1), struct.unpack("<f", struct.pack("<f", 0.1))[0]),
    (REAL, 2**24, 16777216.0),
    (REAL, -math.inf, -math.inf),
    (DOUBLE, 0.1, 0.1),
    (DOUBLE, np.float64(0.1), 0.1),
    (DOUBLE, 2**53, 9007199254740992.0),
    (MONEY, Decimal("1.5"), Decimal("1.50")),
    (MONEY, Decimal("1.500"), Decimal("1.50")),
    (MONEY, Decimal("-999.99"), Decimal("-999.99")),
    (MONEY, Decimal("1E+2"), Decimal("100.00")),
    (MONEY, Decimal("-0"), Decimal("0.00")),
    (MONEY, 7, Decimal("7.00")),
    (MONEY, np.int64(7), Decimal("7.00")),
    (DECIMAL, Decimal("1.5000"), Decimal("1.5")),
    (DECIMAL, Decimal("1E-10"), Decimal("1E-10")),
    (DECIMAL, Decimal(100), Decimal(100)),
    (DECIMAL, 10**28 - 1, Decimal(10**28 - 1)),
    (TEXT, "", ""),
    (TEXT, "ż\U0001f600", "ż\U0001f600"),
    (TEXT, Colour.RED, "red"),
    (TEXT, np.str_("a"), "a"),
    (varchar(3), "\U0001f600" * 3, "\U0001f600" * 3),
    (BLOB, b"\0\xff", b"\0\xff"),
    (BLOB, bytearray(b"a"), b"a"),
    (BLOB, memoryview(b"abcd")[::2], b"ac"),
    (DATE, date(1, 1, 1), date(1, 1, 1)),
    (DATE, " 2024-02-29 ", date(2024, 2, 29)),
    (DATE, "20240229", date(2024, 2, 29)),
    (DATE, np.datetime64("2024-02-29"), date(2024, 2, 29)),
    (TIME, time(1, 2, 3, 4), time(1, 2, 3, 4)),
    (TIME, "10:30", time(10, 30)),
    (TIME, "10:30:00.123456000", time(10, 30, 0, 123456)),
    (TIMESTAMP, MOMENT, MOMENT),
    (TIMESTAMP, "2024-02-29", datetime(2024, 2, 29)),
    (TIMESTAMP, "2024-02-29 10:30", MOMENT),
    (TIMESTAMP, "2024-02-29T10:30:00.5", MOMENT.replace(microsecond=500_000)),
    (TIMESTAMP, pd.Timestamp(MOMENT), MOMENT),
    (TIMESTAMP, np.datetime64(MOMENT, "ns"), MOMENT),
    (TIMESTAMPTZ, MOMENT.replace(tzinfo=EAST), datetime(2024, 2, 29, 8, 30, tzinfo=UTC)),
    (TIMESTAMPTZ, "2024-02-29 10:30+02", datetime(2024, 2, 29, 8, 30, tzinfo=UTC)),
    (TIMESTAMPTZ, "2024-02-29T10:30:00Z", MOMENT.replace(tzinfo=UTC)),
    (TIMESTAMPTZ, pd.Timestamp(MOMENT, tz="UTC"), MOMENT.replace(tzinfo=UTC)),
    (INTERVAL, timedelta(days=-1), timedelta(days=-1)),
    (INTERVAL, Interval(months=0, days=1), timedelta(days=1)),
    (INTERVAL, "90 minutes", timedelta(minutes=90)),
    (INTERVAL, pd.Timedelta(days=1), timedelta(days=1)),
    (INTERVAL, np.timedelta64(5, "D"), timedelta(days=5)),
    (UUID, NIL, NIL),
    (UUID, f"{{{NIL}}}", NIL),
    (UUID, NIL.hex.upper(), NIL),
    (JSON, '{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
    (JSON, {"a": [1, None, "ż"]}, '{"a":[1,null,"ż"]}'),
    (JSON, [], "[]"),
    (JSON, '"\\ud800"', '"\\ud800"'),
    (JSON, "1" * 10_000, "1" * 10_000),
    (JSON, NESTED, NESTED),
    (JSON, '["' + "[" * 500 + '\\""]', '["' + "[" * 500 + '\\""]'),
]


def ids(table):
    """Type and line of the table: some values are too long to be written."""
    return [f"{row[0]}-{line}" for line, row in enumerate(table)]


def same(left, right):
    """Equal, of one type, and written alike: 1 == 1.0 == True, and 1.5 == 1.50."""
    return type(left) is type(right) and left == right and repr(left) == repr(right)


@pytest.mark.parametrize(("sql_type", "given", "taken"), ACCEPTED, ids=ids(ACCEPTED))
def test_accepted(sql_type, given, taken):
    value = check(given, sql_type, where="column t.c")
    assert same(value, taken)
    assert is_atom(to_atom(value, sql_type), sql_type)
    assert same(from_atom(to_atom(value, sql_type), sql_type), taken)


def test_interval_keeps_its_months():
    value = check("1 mon 1 day", INTERVAL, where="column t.c")
    assert same(value, Interval(months=1, days=1))
    atom = to_atom(value, INTERVAL)
    assert atom == bytes.fromhex("00000001 000000141dd76000")
    assert same(from_atom(atom, INTERVAL), value)


REFUSED = [
    (BOOLEAN, 1, TypeMismatch, "int given"),
    (BOOLEAN, "true", TypeMismatch, "str given"),
    (SMALLINT, 32768, DataError, "outside of -32768 .. 32767"),
    (INTEGER, -(2**31) - 1, DataError, "-2147483649 is not INTEGER: outside of"),
    (INTEGER, True, TypeMismatch, "True is not INTEGER: bool given"),
    (INTEGER, np.bool_(1), TypeMismatch, "bool given"),
    (INTEGER, 1.0, TypeMismatch, "float given"),
    (INTEGER, "1", TypeMismatch, "'1' is not INTEGER: str given"),
    (INTEGER, Decimal(1), TypeMismatch, "Decimal given"),
    (INTEGER, np.float64(1), TypeMismatch, "float64 given"),
    (INTEGER, np.array([1]), TypeMismatch, "ndarray given"),
    (INTEGER, math.nan, TypeMismatch, "pass None for NULL"),
    (INTEGER, pd.NA, TypeMismatch, "pass None for NULL"),
    (INTEGER, 10**5000, DataError, "an integer of 16610 bits"),
    (COUNTER, 2**63, DataError, "outside of"),
    (REAL, 1e39, DataError, "too large for 32 bits"),
    (REAL, 1e-60, DataError, "too small for 32 bits"),
    (REAL, 2**24 + 1, DataError, "no 32-bit float is exactly this integer"),
    (DOUBLE, 2**53 + 1, DataError, "no float is exactly this integer"),
    (DOUBLE, 10**400, DataError, "too large"),
    (DOUBLE, True, TypeMismatch, "bool given"),
    (DOUBLE, "1.5", TypeMismatch, "str given"),
    (DOUBLE, Decimal("1.5"), TypeMismatch, "convert it with float()"),
    (MONEY, 1.5, TypeMismatch, "write it as a Decimal"),
    (MONEY, True, TypeMismatch, "bool given"),
    (MONEY, "1.5", TypeMismatch, "str given"),
    (MONEY, Decimal("1.555"), DataError, "1.555 is not DECIMAL(5,2): more than 2 digits after"),
    (MONEY, Decimal("1E-300"), DataError, "more than 2 digits after the point"),
    (MONEY, Decimal(1000), DataError, "more than 3 digits before the point"),
    (MONEY, Decimal("1E+999999"), DataError, "more than 3 digits before the point"),
    (MONEY, 10**5000, DataError, "more than 3 digits before the point"),
    (MONEY, Decimal("NaN"), DataError, "not a finite number"),
    (MONEY, Decimal("sNaN"), DataError, "not a finite number"),
    (MONEY, Decimal("-Infinity"), DataError, "not a finite number"),
    (DECIMAL, Decimal("1E-11"), DataError, "more than 10 digits after the point"),
    (DECIMAL, 10**28, DataError, "more than 28 digits before the point"),
    (TEXT, "a\0b", DataError, "NUL at character 1"),
    (TEXT, "ab\ud800", DataError, "lone surrogate at character 2"),
    (TEXT, b"a", TypeMismatch, "bytes given"),
    (TEXT, 1, TypeMismatch, "int given"),
    (TEXT, math.nan, TypeMismatch, "pass None for NULL"),
    (varchar(3), "abcd", DataError, "'abcd' is not VARCHAR(3): 4 characters, more than 3"),
    (BLOB, "a", TypeMismatch, "encode the text"),
    (BLOB, [1], TypeMismatch, "list given"),
    (DATE, MOMENT, TypeMismatch, "pass .date()"),
    (DATE, pd.Timestamp(MOMENT), TypeMismatch, "pass .date()"),
    (DATE, pd.NaT, TypeMismatch, "pass None for NULL"),
    (DATE, "2024-02-30", DataError, "day is out of range"),
    (DATE, "2024-W09-4", DataError, "not an ISO date"),
    (DATE, "10000-01-01", DataError, "not an ISO date"),
    (DATE, "0000-01-01", DataError, "year 0"),
    (DATE, "today", DataError, "not an ISO date"),
    (DATE, 738945, TypeMismatch, "int given"),
    (TIME, time(1, tzinfo=EAST), DataError, "it has a zone"),
    (TIME, "10:30+02", DataError, "it has a zone"),
    (TIME, "10:30:00.0000001", DataError, "finer than a microsecond"),
    (TIME, "24:00", DataError, "not an ISO time"),
    (TIME, MOMENT, TypeMismatch, "datetime given"),
    (TIMESTAMP, MOMENT.replace(tzinfo=UTC), DataError, "use TIMESTAMPTZ, or drop the zone"),
    (TIMESTAMP, "2024-02-29T10:30Z", DataError, "it has a zone"),
    (TIMESTAMP, "2024-02-29x10:30", DataError, "not an ISO timestamp"),
    (TIMESTAMP, "2024-02-29 25:30", DataError, "not an ISO timestamp: hour must be"),
    (TIMESTAMP, "2024-02-29 10:30:00.1234567", DataError, "finer than a microsecond"),
    (TIMESTAMP, "infinity", DataError, "not an ISO timestamp"),
    (TIMESTAMP, date(2024, 2, 29), TypeMismatch, "date given"),
    (TIMESTAMP, pd.Timestamp(1), DataError, "finer than a microsecond"),
    (TIMESTAMP, pd.NaT, TypeMismatch, "pass None for NULL"),
    (TIMESTAMP, NANOSECOND, TypeMismatch, "finer than a microsecond"),
    (TIMESTAMP, np.datetime64("NaT", "ns"), TypeMismatch, "datetime64 given"),
    (TIMESTAMP, 1709202600, TypeMismatch, "int given"),
    (TIMESTAMPTZ, MOMENT, DataError, "it has no zone; add one, or use TIMESTAMP"),
    (TIMESTAMPTZ, "2024-02-29 10:30", DataError, "it has no zone"),
    (TIMESTAMPTZ, "0001-01-01 00:00+02", DataError, "outside of the years 1 to 9999"),
    (INTERVAL, timedelta.max, DataError, "longer than 292,000 years"),
    (INTERVAL, "soon", DataError, "no quantity with a unit"),
    (INTERVAL, pd.Timedelta(1), DataError, "finer than a microsecond"),
    (INTERVAL, 5, TypeMismatch, "int given"),
    (UUID, "xyz", DataError, "not 32 hexadecimal digits"),
    (UUID, f"{{{NIL}", DataError, "not 32 hexadecimal digits"),
    (UUID, "1_" * 16, DataError, "not 32 hexadecimal digits"),
    (UUID, bytes(16), TypeMismatch, "use uuid.UUID(bytes=...)"),
    (JSON, "hello", DataError, "'hello' is not JSON: Expecting value"),
    (JSON, "", DataError, "Expecting value"),
    (JSON, "[NaN]", DataError, "NaN is not a JSON number"),
    (JSON, "-Infinity", DataError, "-Infinity is not a JSON number"),
    (JSON, [math.nan], DataError, "not JSON compliant"),
    (JSON, {"a": {1}}, DataError, "set is not JSON serializable"),
    (JSON, f"[{NESTED}]", DataError, "nested deeper than 128"),
    (JSON, "[" * 100_000, DataError, "nested deeper than 128"),
    (JSON, '"\ud800"', DataError, "lone surrogate"),
    (JSON, ["\ud800"], DataError, "lone surrogate"),
    (JSON, 5, TypeMismatch, "pass JSON text, a dict or a list"),
]


@pytest.mark.parametrize(("sql_type", "given", "error", "reason"), REFUSED, ids=ids(REFUSED))
def test_refused(sql_type, given, error, reason):
    with pytest.raises(error) as caught:
        check(given, sql_type, where="column t.c")
    message = str(caught.value)
    assert type(caught.value) is error
    assert message.startswith("column t.c: ")
    assert f" is not {sql_type}: " in message
    assert reason in message
    assert len(message) < 250


def test_a_type_mismatch_is_both_invalid_input_and_a_data_error():
    with pytest.raises(InvalidInput):
        check("1", INTEGER, where="c")
    with pytest.raises(DataError):
        check("1", INTEGER, where="c")


def test_deep_python_values():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(DataError, match="nested deeper than 128"):
        check(value, JSON, where="column t.c")


def test_json_that_contains_itself():
    value = []
    value.append(value)
    with pytest.raises(DataError, match="Circular"):
        check(value, JSON, where="column t.c")


@pytest.mark.parametrize("name", sorted(types.TYPE_NAMES))
def test_none_is_null_in_every_type(name):
    sql_type = varchar(3) if name == "VARCHAR" else types.parse_type(name)
    assert check(None, sql_type, where="c") is None
    assert to_atom(None, sql_type) is None
    assert from_atom(None, sql_type) is None
    assert is_atom(None, sql_type)


def test_nan_is_a_value_but_not_a_key():
    assert math.isnan(check(math.nan, DOUBLE, where="c"))
    assert is_atom(math.nan, REAL)
    key = checker(DOUBLE, "column t.c", key=True)
    assert key(1.5) == 1.5
    assert key(None) is None
    with pytest.raises(DataError, match=r"column t\.c: nan is not DOUBLE: NaN cannot be in a key"):
        key(math.nan)


def test_the_callers_decimal_context_changes_nothing():
    with localcontext() as context:
        context.prec = 2
        assert check(Decimal("123.45"), MONEY, where="c") == Decimal("123.45")
        assert check(Decimal("123.4567"), DECIMAL, where="c") == Decimal("123.4567")


@pytest.mark.parametrize(
    ("sql_type", "atom"),
    [
        (DATE, 0),
        (DATE, "2024-02-29"),
        (TIME, -1),
        (TIME, 86_400_000_000),
        (TIMESTAMP, 2**63 - 1),
        (INTERVAL, b"short"),
        (INTERVAL, b"\x7f" * 12),
        (UUID, b"short"),
        (UUID, "a" * 16),
        (DECIMAL, "twelve"),
        (DECIMAL, b"1"),
    ],
)
def test_foreign_atoms_are_an_error_with_a_name(sql_type, atom):
    with pytest.raises(InternalError, match=f"is not {sql_type}"):
        from_atom(atom, sql_type)
    assert not is_atom(atom, sql_type)


@pytest.mark.parametrize(
    ("sql_type", "atom"),
    [
        (BOOLEAN, 1),
        (INTEGER, True),
        (INTEGER, 2**31),
        (INTEGER, "1"),
        (DOUBLE, 1),
        (REAL, 0.1),
        (MONEY, "1.5"),
        (MONEY, "1000.00"),
        (MONEY, "NaN"),
        (MONEY, 1.5),
        (TEXT, "a\0"),
        (TEXT, b"a"),
        (varchar(3), "abcd"),
        (DATE, True),
        (TIME, 1.5),
        (INTERVAL, bytes(12)),
        (JSON, "[NaN]"),
        (UUID, bytes(15)),
    ],
)
def test_is_atom_refuses_what_no_checked_value_becomes(sql_type, atom):
    assert not is_atom(atom, sql_type)
