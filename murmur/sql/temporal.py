"""Arithmetic on dates, times and intervals; what EXTRACT, date_trunc and AT TIME ZONE compute.

    2024-01-31 + 1 month                 ->  2024-02-29 00:00:00
    23:00 + 2 hours                      ->  01:00                  a TIME goes around the clock
    EXTRACT(second FROM 10:00:05.5)      ->  5.500000
    date_trunc('week', 2024-01-31)       ->  2024-01-29 00:00:00    a Monday

Whatever leaves the years 1 to 9999 is a DataError. The session's time zone is UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, NoReturn, TypeVar
from zoneinfo import ZoneInfo

from murmur.catalog.interval import (
    add_interval,
    exact_of,
    in_range,
    interval,
    microseconds,
    months_of,
)
from murmur.catalog.types import SqlType
from murmur.errors import DataError

_Moment = TypeVar("_Moment", date, datetime)

_EPOCH = datetime(1970, 1, 1)
_DAY_US = 86_400_000_000
_MONTH_US = 30 * _DAY_US


def _out_of_range(what: str) -> NoReturn:
    raise DataError(f"{what} out of range")


# Arithmetic --------------------------------------------------------------------------------------


def add_days(value: date, days: int) -> date:
    """DATE + INTEGER."""
    try:
        return value + timedelta(days)
    except OverflowError:
        _out_of_range("DATE")


def subtract_days(value: date, days: int) -> date:
    """DATE - INTEGER."""
    return add_days(value, -days)


def days_between(left: date, right: date) -> int:
    """DATE - DATE."""
    return (left - right).days


def combine(day: date, clock: time) -> datetime:
    """DATE + TIME."""
    return datetime.combine(day, clock)


def move(moment: datetime, by: timedelta) -> datetime:
    """TIMESTAMP + INTERVAL."""
    try:
        return add_interval(moment, by)
    except OverflowError:
        _out_of_range("TIMESTAMP")


def move_back(moment: datetime, by: timedelta) -> datetime:
    """TIMESTAMP - INTERVAL."""
    return move(moment, -by)


def move_date(day: date, by: timedelta) -> datetime:
    """DATE + INTERVAL."""
    return move(datetime(day.year, day.month, day.day), by)


def move_date_back(day: date, by: timedelta) -> datetime:
    """DATE - INTERVAL."""
    return move_date(day, -by)


def between(left: datetime, right: datetime) -> timedelta:
    """TIMESTAMP - TIMESTAMP."""
    return left - right


def move_time(clock: time, by: timedelta) -> time:
    """TIME + INTERVAL: around the clock, as often as it takes."""
    return _clock(_since_midnight(clock) + microseconds(exact_of(by)))


def move_time_back(clock: time, by: timedelta) -> time:
    """TIME - INTERVAL."""
    return move_time(clock, -by)


def time_between(left: time, right: time) -> timedelta:
    """TIME - TIME."""
    return timedelta(microseconds=_since_midnight(left) - _since_midnight(right))


def add_spans(left: timedelta, right: timedelta) -> timedelta:
    """INTERVAL + INTERVAL."""
    return _span(
        months_of(left) + months_of(right),
        microseconds(exact_of(left)) + microseconds(exact_of(right)),
    )


def subtract_spans(left: timedelta, right: timedelta) -> timedelta:
    """INTERVAL - INTERVAL."""
    return add_spans(left, -right)


def scale_span(value: timedelta, factor: float) -> timedelta:
    """INTERVAL * number: what is left of a month becomes days of it."""
    if factor - factor != 0.0:
        _out_of_range("INTERVAL")
    exact_factor = Fraction(factor)
    months = months_of(value) * exact_factor
    whole = int(months)
    exact = microseconds(exact_of(value)) * exact_factor + (months - whole) * _MONTH_US
    return _span(whole, round(exact))


def divide_span(value: timedelta, divisor: float) -> timedelta:
    """INTERVAL / number."""
    if divisor == 0.0:
        raise DataError("division by zero")
    return scale_span(value, 1 / divisor)


def _span(months: int, us: int) -> timedelta:
    if not in_range(months, us):
        _out_of_range("INTERVAL")
    return interval(months, timedelta(microseconds=us))


def _since_midnight(clock: time | datetime) -> int:
    seconds = clock.hour * 3600 + clock.minute * 60 + clock.second
    return seconds * 1_000_000 + clock.microsecond


def _clock(us: int) -> time:
    return (datetime.min + timedelta(microseconds=us % _DAY_US)).time()


# The function for left op right, by the types' names; for INTERVAL + DATE that of DATE + INTERVAL.
_OPERATIONS: dict[tuple[str, str, str], Callable[[Any, Any], Any]] = {
    ("+", "DATE", "INTEGER"): add_days,
    ("-", "DATE", "INTEGER"): subtract_days,
    ("-", "DATE", "DATE"): days_between,
    ("+", "DATE", "TIME"): combine,
    ("+", "DATE", "INTERVAL"): move_date,
    ("-", "DATE", "INTERVAL"): move_date_back,
    ("+", "TIMESTAMP", "INTERVAL"): move,
    ("-", "TIMESTAMP", "INTERVAL"): move_back,
    ("-", "TIMESTAMP", "TIMESTAMP"): between,
    ("+", "TIMESTAMPTZ", "INTERVAL"): move,
    ("-", "TIMESTAMPTZ", "INTERVAL"): move_back,
    ("-", "TIMESTAMPTZ", "TIMESTAMPTZ"): between,
    ("+", "TIME", "INTERVAL"): move_time,
    ("-", "TIME", "INTERVAL"): move_time_back,
    ("-", "TIME", "TIME"): time_between,
    ("+", "INTERVAL", "INTERVAL"): add_spans,
    ("-", "INTERVAL", "INTERVAL"): subtract_spans,
    ("*", "INTERVAL", "DOUBLE"): scale_span,
    ("/", "INTERVAL", "DOUBLE"): divide_span,
}


def operation(op: str, left: SqlType, right: SqlType) -> tuple[Callable[[Any, Any], Any], bool]:
    """What computes left op right, and whether its operands are to be swapped."""
    one, two = ("INTEGER" if t.is_integer else t.name for t in (left, right))
    call = _OPERATIONS.get((op, one, two))
    return (call, False) if call is not None else (_OPERATIONS[op, two, one], True)


# EXTRACT -----------------------------------------------------------------------------------------


def _seconds(us: int) -> Decimal:
    return Decimal(us).scaleb(-6)


def _century(year: int) -> int:
    return (year + 99) // 100


def _epoch(moment: datetime) -> Decimal:
    return _seconds(microseconds(moment.replace(tzinfo=None) - _EPOCH))


_DATE_FIELDS: dict[str, Callable[[Any], int]] = {
    "millennium": lambda d: (d.year + 999) // 1000,
    "century": lambda d: _century(d.year),
    "decade": lambda d: d.year // 10,
    "year": lambda d: d.year,
    "isoyear": lambda d: d.isocalendar()[0],
    "quarter": lambda d: (d.month + 2) // 3,
    "month": lambda d: d.month,
    "week": lambda d: d.isocalendar()[1],
    "day": lambda d: d.day,
    "doy": lambda d: d.timetuple().tm_yday,
    "dow": lambda d: d.isoweekday() % 7,
    "isodow": lambda d: d.isoweekday(),
}
_CLOCK_FIELDS: dict[str, Callable[[Any], int | Decimal]] = {
    "hour": lambda t: t.hour,
    "minute": lambda t: t.minute,
    "second": lambda t: _seconds(t.second * 1_000_000 + t.microsecond),
    "milliseconds": lambda t: Decimal(t.second * 1_000_000 + t.microsecond).scaleb(-3),
    "microseconds": lambda t: t.second * 1_000_000 + t.microsecond,
}
_ZONE_FIELDS: dict[str, Callable[[Any], int]] = {
    "timezone": lambda _: 0,
    "timezone_hour": lambda _: 0,
    "timezone_minute": lambda _: 0,
}


def _part(unit: int, below: int) -> Callable[[timedelta], int]:
    """So many whole units of the exact part, without those that make up a larger one."""

    def extract(value: timedelta) -> int:
        us = microseconds(exact_of(value))
        number = abs(us) // unit % below
        return number if us >= 0 else -number

    return extract


def _months(unit: int, below: int) -> Callable[[timedelta], int]:
    def extract(value: timedelta) -> int:
        months = months_of(value)
        number = abs(months) // unit % below
        return number if months >= 0 else -number

    return extract


_NEVER = 1 << 63
_minute_us = _part(1, 60_000_000)
_SPAN_FIELDS: dict[str, Callable[[timedelta], int | Decimal]] = {
    "millennium": _months(12_000, _NEVER),
    "century": _months(1200, _NEVER),
    "decade": _months(120, _NEVER),
    "year": _months(12, _NEVER),
    "quarter": lambda value: _months(1, 12)(value) // 3 + 1,
    "month": _months(1, 12),
    "day": _part(_DAY_US, _NEVER),
    "hour": _part(3_600_000_000, 24),
    "minute": _part(60_000_000, 60),
    "second": lambda value: _seconds(_minute_us(value)),
    "milliseconds": lambda value: Decimal(_minute_us(value)).scaleb(-3),
    "microseconds": _minute_us,
    "epoch": lambda value: _span_epoch(value),
}


def _span_epoch(value: timedelta) -> Decimal:
    # PostgreSQL counts a year as 365.25 days here, and a month of the rest as 30.
    years, months = divmod(abs(months_of(value)), 12)
    days = Fraction(years * 1461, 4) + months * 30
    signed = days if months_of(value) >= 0 else -days
    return _seconds(int(signed * _DAY_US) + microseconds(exact_of(value)))


FIELDS: dict[str, dict[str, Callable[[Any], int | Decimal]]] = {
    "DATE": {
        **_DATE_FIELDS,
        "epoch": lambda d: _epoch(datetime(d.year, d.month, d.day)),
        "julian": lambda d: d.toordinal() + 1_721_425,
    },
    "TIMESTAMP": {**_DATE_FIELDS, **_CLOCK_FIELDS, "epoch": _epoch},
    "TIMESTAMPTZ": {**_DATE_FIELDS, **_CLOCK_FIELDS, **_ZONE_FIELDS, "epoch": _epoch},
    "TIME": {**_CLOCK_FIELDS, "epoch": lambda t: _seconds(_since_midnight(t))},
    "INTERVAL": _SPAN_FIELDS,
}
_FIELD_ALIASES = {
    "y": "year", "years": "year", "yr": "year",
    "months": "month", "mon": "month", "mons": "month",
    "days": "day", "d": "day", "dayofweek": "dow", "dayofyear": "doy",
    "weeks": "week", "w": "week",
    "hours": "hour", "h": "hour", "hr": "hour", "hrs": "hour",
    "minutes": "minute", "m": "minute", "min": "minute", "mins": "minute",
    "seconds": "second", "s": "second", "sec": "second", "secs": "second",
    "millisecond": "milliseconds", "ms": "milliseconds", "msec": "milliseconds",
    "microsecond": "microseconds", "us": "microseconds", "usec": "microseconds",
    "quarters": "quarter", "decades": "decade", "centuries": "century", "millennia": "millennium",
}  # fmt: skip


def field_name(word: str) -> str:
    """The name of a field of time, whichever way it is written."""
    word = word.lower()
    return _FIELD_ALIASES.get(word, word)


@lru_cache(maxsize=256)
def extractor(field: str, type_name: str) -> Callable[[Any], Decimal] | None:
    """EXTRACT(field FROM a value of this type), a DECIMAL; None if the type has no such field."""
    extract = FIELDS.get(type_name, {}).get(field)
    if extract is None:
        return None
    return lambda value: Decimal(extract(value))


# date_trunc --------------------------------------------------------------------------------------

_CLOCK_UNITS = {
    "microseconds": 1,
    "milliseconds": 1_000,
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": _DAY_US,
}
_YEAR_UNITS: dict[str, Callable[[int], int]] = {
    "year": lambda year: year,
    "decade": lambda year: year - year % 10,
    "century": lambda year: _century(year) * 100 - 99,
    "millennium": lambda year: (year + 999) // 1000 * 1000 - 999,
}


@lru_cache(maxsize=64)
def truncator(unit: str) -> Callable[[datetime], datetime] | None:
    """date_trunc(unit, timestamp); None if there is no such unit."""
    if unit in _CLOCK_UNITS:
        size = _CLOCK_UNITS[unit]
        return lambda m: m - timedelta(microseconds=_since_midnight(m) % size)
    if unit == "week":
        return lambda m: _midnight(m) - timedelta(m.weekday())  # 0001-01-01 is a Monday
    if unit == "month":
        return lambda m: _midnight(m).replace(day=1)
    if unit == "quarter":
        return lambda m: _midnight(m).replace(month=m.month - (m.month - 1) % 3, day=1)
    if unit in _YEAR_UNITS:
        first = _YEAR_UNITS[unit]
        return lambda m: _midnight(m).replace(year=max(1, first(m.year)), month=1, day=1)
    return None


@lru_cache(maxsize=64)
def span_truncator(unit: str) -> Callable[[timedelta], timedelta] | None:
    """date_trunc(unit, interval); None if there is no such unit."""
    if unit in _CLOCK_UNITS:
        size = _CLOCK_UNITS[unit]
        return lambda s: _span(months_of(s), _toward_zero(microseconds(exact_of(s)), size))
    months = {"month": 1, "quarter": 3, "year": 12, "decade": 120, "century": 1200}
    months["millennium"] = 12_000
    if unit in months:
        count = months[unit]
        return lambda s: _span(_toward_zero(months_of(s), count), 0)
    return None


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _toward_zero(number: int, unit: int) -> int:
    rounded = abs(number) // unit * unit
    return rounded if number >= 0 else -rounded


# Time zones --------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise DataError(f'unknown time zone "{name:.60}"') from None


def at_zone(moment: datetime, zone: str) -> datetime:
    """TIMESTAMPTZ AT TIME ZONE zone: the clock on the wall there, as a TIMESTAMP."""
    try:
        return moment.astimezone(_zone(zone)).replace(tzinfo=None)
    except OverflowError:
        _out_of_range("TIMESTAMP")


def from_zone(moment: datetime, zone: str) -> datetime:
    """TIMESTAMP AT TIME ZONE zone: when the clock on the wall there shows this."""
    try:
        return moment.replace(tzinfo=_zone(zone)).astimezone(UTC)
    except OverflowError:
        _out_of_range("TIMESTAMPTZ")
