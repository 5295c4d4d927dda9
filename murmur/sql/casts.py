"""CAST: from a Python value of one SQL type to a value of another.

    caster(DOUBLE, INTEGER)(2.5)            ->  2         floats round half to even
    caster(DECIMAL, INTEGER)(Decimal("2.5"))->  3         decimals round half away from zero
    caster(TEXT, DATE)("2024-02-30")        ->  DataError: "2024-02-30" is not a DATE
    caster(INTEGER, BIGINT)                 ->  None      nothing to do
    caster(DATE, INTEGER)                   ->  TypeMismatch

The rules are PostgreSQL's (its chapters 8 and 10). How text is read and written is in literals.py.
The session's time zone is always UTC.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any, TypeAlias

from murmur.catalog.interval import exact_of, format_interval
from murmur.catalog.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    INTERVAL,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    SqlType,
    integer_bounds,
)
from murmur.errors import DataError, TypeMismatch
from murmur.sql.literals import (
    blob_text,
    boolean_text,
    decimal_text,
    float_reader,
    float_text,
    integer_reader,
    read_blob,
    read_boolean,
    read_date,
    read_decimal,
    read_interval,
    read_json,
    read_time,
    read_timestamp,
    read_timestamptz,
    read_uuid,
    real_text,
    time_text,
    timestamp_text,
)
from murmur.sql.numbers import out_of_range, plain_decimal, round_decimal, round_real

Caster: TypeAlias = Callable[[Any], Any]


@lru_cache(maxsize=1024)
def caster(source: SqlType, target: SqlType) -> Caster | None:
    """The function that casts values other than NULL; None if there is nothing to do."""
    if source == target:
        return None
    if target.is_text and source.is_text:
        return _cut(target.length) if _narrows(source, target) else None
    if target.is_text:
        to_text = _TO_TEXT[source.name]
        return to_text if target.length is None else _after(to_text, _cut(target.length))
    if target.is_integer and source.is_integer:
        return None if _holds(target, source) else _integer_from(target, int)
    if source.name == "DECIMAL" and target.name == "DECIMAL":
        return _rescale(target) if target.precision is not None else None
    make = _CASTS.get((_kind(source), _kind(target)))
    if make is None:
        raise TypeMismatch(f"cannot cast {source} to {target}")
    return make(target)


def can_cast(source: SqlType, target: SqlType) -> bool:
    """Whether CAST(source AS target) exists."""
    same = source == target or (target.is_text and source.name in _TO_TEXT)
    return same or (_kind(source), _kind(target)) in _CASTS or _kind(source) == _kind(target)


def cast_value(value: Any, target: SqlType) -> Any:
    """Cast a value whose SQL type is only known from its Python type: an untyped parameter."""
    if value is None:
        return None
    cast = caster(type_of_value(value), target)
    return value if cast is None else cast(value)


def type_of_value(value: object) -> SqlType:
    """The SQL type that a Python value has by itself."""
    for python_type, sql_type in _PYTHON_TYPES:
        if isinstance(value, python_type):
            if sql_type is TIMESTAMP and value.tzinfo is not None:  # type: ignore[attr-defined]
                return TIMESTAMPTZ
            return sql_type
    raise TypeMismatch(f"no SQL type holds a Python {type(value).__name__}")


_PYTHON_TYPES: tuple[tuple[type, SqlType], ...] = (
    (bool, BOOLEAN),  # before int: in Python a bool is an int
    (int, BIGINT),
    (float, DOUBLE),
    (Decimal, DECIMAL),
    (str, TEXT),
    (bytes, BLOB),
    (datetime, TIMESTAMP),  # before date, for the same reason
    (date, DATE),
    (time, TIME),
    (timedelta, INTERVAL),
    (uuid.UUID, UUID),
)


def _kind(sql_type: SqlType) -> str:
    if sql_type.is_integer:
        return "INTEGER"
    if sql_type.is_float:
        return "FLOAT"
    return "TEXT" if sql_type.is_text else sql_type.name


def _after(first: Caster, second: Caster) -> Caster:
    return lambda value: second(first(value))


def _holds(target: SqlType, source: SqlType) -> bool:
    low, high = integer_bounds(target)
    source_low, source_high = integer_bounds(source)
    return low <= source_low and source_high <= high


# Numbers -----------------------------------------------------------------------------------------


def _integer_from(target: SqlType, convert: Callable[[Any], int]) -> Caster:
    low, high = integer_bounds(target)

    def cast(value: Any) -> int:
        number = convert(value)
        if not low <= number <= high:
            out_of_range(target)
        return number

    return cast


def _rescale(target: SqlType) -> Caster:
    precision, scale = target.precision, target.scale
    assert precision is not None
    assert scale is not None
    limit = Decimal(10) ** (precision - scale)

    def cast(value: Decimal) -> Decimal:
        rounded = round_decimal(value, scale)
        if not -limit < rounded < limit:
            raise DataError(f"{value} does not fit {target}")
        return rounded

    return cast


def _to_decimal(convert: Callable[[Any], Decimal]) -> Callable[[SqlType], Caster]:
    return lambda target: convert if target.precision is None else _after(convert, _rescale(target))


def _decimal_from_float(value: float) -> Decimal:
    if not math.isfinite(value):
        raise DataError(f"a DECIMAL cannot be {float_text(value)}")
    return plain_decimal(Decimal(f"{value:.15g}"))  # PostgreSQL keeps 15 digits as well


def _integer_from_float(value: float) -> int:
    if not math.isfinite(value):
        out_of_range("INTEGER")
    return round(value)


def _integer_from_decimal(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_UP))


def _float_from_decimal(value: Decimal) -> float:
    number = float(value)
    if math.isinf(number) or (number == 0.0 and value):
        out_of_range("DOUBLE")
    return number


def _to_float(convert: Callable[[Any], float]) -> Callable[[SqlType], Caster]:
    return lambda target: convert if target.name == "DOUBLE" else _after(convert, round_real)


_TO_TEXT: dict[str, Caster] = {
    "BOOLEAN": boolean_text,
    "SMALLINT": str,
    "INTEGER": str,
    "BIGINT": str,
    "COUNTER": str,
    "REAL": real_text,
    "DOUBLE": float_text,
    "DECIMAL": decimal_text,
    "TEXT": str,
    "VARCHAR": str,
    "BLOB": blob_text,
    "DATE": date.isoformat,
    "TIME": time_text,
    "TIMESTAMP": timestamp_text,
    "TIMESTAMPTZ": timestamp_text,
    "INTERVAL": format_interval,
    "UUID": str,
    "JSON": str,
}


def _narrows(source: SqlType, target: SqlType) -> bool:
    return target.length is not None and (source.length is None or source.length > target.length)


def _cut(length: int | None) -> Caster:
    # A cast that is written out cuts, says the standard; a column refuses (catalog.values.check).
    return lambda text: text[:length]


# Dates and times ---------------------------------------------------------------------------------


def timestamp_from_date(value: date) -> datetime:
    """Midnight."""
    return datetime(value.year, value.month, value.day)


def timestamptz_from_date(value: date) -> datetime:
    """Midnight in UTC."""
    return datetime(value.year, value.month, value.day, tzinfo=UTC)


def _time_from_interval(value: timedelta) -> time:
    exact = exact_of(value)
    return (datetime.min + timedelta(0, exact.seconds, exact.microseconds)).time()


def _interval_from_time(value: time) -> timedelta:
    return timedelta(
        hours=value.hour,
        minutes=value.minute,
        seconds=value.second,
        microseconds=value.microsecond,
    )


def _always(convert: Caster) -> Callable[[SqlType], Caster]:
    return lambda _target: convert


def _naive(value: datetime) -> datetime:
    return value.replace(tzinfo=None)


def _aware(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


_CASTS: dict[tuple[str, str], Callable[[SqlType], Caster]] = {
    ("BOOLEAN", "INTEGER"): _always(int),
    ("INTEGER", "BOOLEAN"): _always(bool),
    ("INTEGER", "FLOAT"): _to_float(float),
    ("INTEGER", "DECIMAL"): _to_decimal(Decimal),
    ("FLOAT", "INTEGER"): lambda target: _integer_from(target, _integer_from_float),
    ("FLOAT", "FLOAT"): _to_float(float),
    ("FLOAT", "DECIMAL"): _to_decimal(_decimal_from_float),
    ("DECIMAL", "INTEGER"): lambda target: _integer_from(target, _integer_from_decimal),
    ("DECIMAL", "FLOAT"): _to_float(_float_from_decimal),
    ("TEXT", "BOOLEAN"): _always(read_boolean),
    ("TEXT", "INTEGER"): integer_reader,
    ("TEXT", "FLOAT"): float_reader,
    ("TEXT", "DECIMAL"): _to_decimal(read_decimal),
    ("TEXT", "BLOB"): _always(read_blob),
    ("TEXT", "DATE"): _always(read_date),
    ("TEXT", "TIME"): _always(read_time),
    ("TEXT", "TIMESTAMP"): _always(read_timestamp),
    ("TEXT", "TIMESTAMPTZ"): _always(read_timestamptz),
    ("TEXT", "INTERVAL"): _always(read_interval),
    ("TEXT", "UUID"): _always(read_uuid),
    ("TEXT", "JSON"): _always(read_json),
    ("DATE", "TIMESTAMP"): _always(timestamp_from_date),
    ("DATE", "TIMESTAMPTZ"): _always(timestamptz_from_date),
    ("TIMESTAMP", "DATE"): _always(datetime.date),
    ("TIMESTAMP", "TIME"): _always(datetime.time),
    ("TIMESTAMP", "TIMESTAMPTZ"): _always(_aware),
    ("TIMESTAMPTZ", "DATE"): _always(datetime.date),
    ("TIMESTAMPTZ", "TIME"): _always(datetime.time),
    ("TIMESTAMPTZ", "TIMESTAMP"): _always(_naive),
    ("TIME", "INTERVAL"): _always(_interval_from_time),
    ("INTERVAL", "TIME"): _always(_time_from_interval),
}
