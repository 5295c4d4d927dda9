"""INTERVAL values: months beside exact time.

A month has no fixed length, so PostgreSQL keeps months apart from days and seconds, and so does
`Interval`. Python's timedelta holds days and seconds; an INTERVAL without months is a plain
timedelta, one with months is an `Interval`.

    INTERVAL '1 year 2 days'   ->  Interval(months=12, days=2)
    INTERVAL '90 minutes'      ->  timedelta(minutes=90)

Text is PostgreSQL's, quantities with units and a clock time at the end, or ISO 8601's, or the SQL
standard's, years and months with a hyphen, then days, then a clock time:

    1 year 2 mons -3 days 04:05:06.5      1.5 hours ago      P1Y2M-3DT4H5M6.5S      1-2 3 4:05:06

A number alone is of seconds.

Comparison counts a month as 30 days, as PostgreSQL does: one month and 30 days are equal, although
they do not move a date by the same distance.

Invariant: the length, with and without the months (30 days each), fits in signed 64-bit
microseconds: some 292,000 years.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any, TypeVar

DAYS_PER_MONTH = 30
MICROSECOND = timedelta(microseconds=1)
MAX_TEXT = 200

_LIMIT_US = 2**63
_US_PER_DAY = 86_400_000_000
_US_PER_MONTH = DAYS_PER_MONTH * _US_PER_DAY

_MONTHS = {
    "month": 1,
    "mon": 1,
    "year": 12,
    "yr": 12,
    "y": 12,
    "decade": 120,
    "century": 1200,
    "centuries": 1200,
    "millennium": 12000,
    "millennia": 12000,
}
_MICROSECONDS = {
    "microsecond": 1,
    "usec": 1,
    "us": 1,
    "millisecond": 1_000,
    "msec": 1_000,
    "ms": 1_000,
    "second": 1_000_000,
    "sec": 1_000_000,
    "s": 1_000_000,
    "minute": 60_000_000,
    "min": 60_000_000,
    "m": 60_000_000,
    "hour": 3_600_000_000,
    "hr": 3_600_000_000,
    "h": 3_600_000_000,
    "day": _US_PER_DAY,
    "d": _US_PER_DAY,
    "week": 7 * _US_PER_DAY,
    "w": 7 * _US_PER_DAY,
}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*([a-z]+)", re.ASCII)
_CLOCK = re.compile(r"\s*([+-]?)(\d+):([0-5]\d)(?::([0-5]\d(?:\.\d*)?))?", re.ASCII)
_YEAR_MONTH = re.compile(r"\s*([+-]?)(\d+)-(\d+)(?=\s|$)", re.ASCII)
_DAYS = re.compile(r"\s*([+-]?\d+)(?=\s+[+-]?\d+:)", re.ASCII)
_SECONDS = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))$", re.ASCII)
_NUMBER = r"([+-]?\d+(?:[.,]\d+)?)"
_ISO = re.compile(
    rf"([+-]?)p(?=.)(?:{_NUMBER}y)?(?:{_NUMBER}m)?(?:{_NUMBER}w)?(?:{_NUMBER}d)?"
    rf"(?:t(?=.)(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?)?",
    re.ASCII,
)
_ISO_UNITS = ("year", "month", "week", "day", "hour", "minute", "second")

_Moment = TypeVar("_Moment", bound=date)


def microseconds(delta: timedelta) -> int:
    """The exact part of an interval, in microseconds; months are left out."""
    return delta.days * _US_PER_DAY + delta.seconds * 1_000_000 + delta.microseconds


class Interval(timedelta):
    """A span of time with a number of calendar months in it."""

    months: int

    def __new__(cls, months: int = 0, **parts: float) -> Interval:
        """Take timedelta's keyword arguments beside the months."""
        self = super().__new__(cls, **parts)
        self.months = months
        if not in_range(months, microseconds(self)):
            raise OverflowError(f"interval of {months} months and {timedelta(**parts)} is too long")
        return self

    @property
    def exact(self) -> timedelta:
        """Days and seconds, without the months."""
        return timedelta(self.days, self.seconds, self.microseconds)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, timedelta):
            return total_microseconds(self) == total_microseconds(other)
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: timedelta) -> bool:
        if isinstance(other, timedelta):
            return total_microseconds(self) < total_microseconds(other)
        return NotImplemented

    def __le__(self, other: timedelta) -> bool:
        if isinstance(other, timedelta):
            return total_microseconds(self) <= total_microseconds(other)
        return NotImplemented

    def __gt__(self, other: timedelta) -> bool:
        if isinstance(other, timedelta):
            return total_microseconds(self) > total_microseconds(other)
        return NotImplemented

    def __ge__(self, other: timedelta) -> bool:
        if isinstance(other, timedelta):
            return total_microseconds(self) >= total_microseconds(other)
        return NotImplemented

    def __hash__(self) -> int:
        # Equal values hash alike, and Interval(months=1) == timedelta(days=30).
        return hash(timedelta(microseconds=total_microseconds(self)))

    def __bool__(self) -> bool:
        return self.months != 0 or bool(self.exact)

    def __neg__(self) -> timedelta:
        return interval(-self.months, -self.exact)

    def __pos__(self) -> timedelta:
        return self

    def __abs__(self) -> timedelta:
        return -self if total_microseconds(self) < 0 else self

    def __add__(self, other: timedelta) -> timedelta:
        if isinstance(other, timedelta):
            return interval(self.months + months_of(other), self.exact + exact_of(other))
        return NotImplemented

    __radd__ = __add__

    def __sub__(self, other: timedelta) -> timedelta:
        if isinstance(other, timedelta):
            return interval(self.months - months_of(other), self.exact - exact_of(other))
        return NotImplemented

    def __rsub__(self, other: timedelta) -> timedelta:
        if isinstance(other, timedelta):
            return interval(months_of(other) - self.months, exact_of(other) - self.exact)
        return NotImplemented

    def __mul__(self, factor: float) -> timedelta:
        if isinstance(factor, int):
            return interval(self.months * factor, self.exact * factor)
        return NotImplemented

    __rmul__ = __mul__

    def _no_division(self, other: Any) -> Any:
        raise TypeError("an interval with months cannot be divided: a month has no fixed length")

    __truediv__ = __floordiv__ = __mod__ = __divmod__ = _no_division
    __rtruediv__ = __rfloordiv__ = __rmod__ = __rdivmod__ = _no_division

    def __str__(self) -> str:
        return format_interval(self)

    def __repr__(self) -> str:
        return f"Interval(months={self.months}, {self.exact!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return interval, (self.months, self.exact)


def interval(months: int, exact: timedelta) -> timedelta:
    """Months and exact time as one value: a plain timedelta when there are no months."""
    if not months:
        return exact
    return Interval(months, days=exact.days, seconds=exact.seconds, microseconds=exact.microseconds)


def months_of(value: timedelta) -> int:
    """The months of an interval, 0 for a plain timedelta."""
    return value.months if isinstance(value, Interval) else 0


def exact_of(value: timedelta) -> timedelta:
    """The interval without its months."""
    return value.exact if isinstance(value, Interval) else value


def total_microseconds(value: timedelta) -> int:
    """The length that comparison uses: a month counts as 30 days."""
    return months_of(value) * _US_PER_MONTH + microseconds(value)


def in_range(months: int, us: int) -> bool:
    """Whether an interval can be this long."""
    total = months * _US_PER_MONTH + us
    return -_LIMIT_US <= us < _LIMIT_US and -_LIMIT_US <= total < _LIMIT_US


def add_interval(moment: _Moment, value: timedelta) -> _Moment:
    """Move a date or datetime: the months first, clipped to the end of the month, then the rest.

    2024-01-31 + 1 month -> 2024-02-29, as in PostgreSQL. Raises OverflowError outside of the years
    1 to 9999. (`moment + value` would drop the months: datetime knows only timedelta.)
    """
    months = months_of(value)
    if months:
        year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
        if not 1 <= year <= 9999:
            raise OverflowError("date value out of range")
        day = min(moment.day, monthrange(year, month + 1)[1])
        moment = moment.replace(year=year, month=month + 1, day=day)
    exact = exact_of(value)
    if not isinstance(moment, datetime) and (exact.seconds or exact.microseconds):
        raise TypeError("a date moves by whole days; use a datetime")
    return moment + exact


def parse_interval(text: str) -> timedelta:
    """Read an interval; a ValueError says what is wrong with the text."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"longer than {MAX_TEXT} characters")
    text = text.strip().lower()
    iso = _ISO.fullmatch(text)
    parts = _iso_parts(iso) if iso else _written_parts(text)
    months = us = Fraction(0)
    for quantity, unit in parts:
        # "mins" is read as "min" when it is not a unit itself; "ms" and "us" are.
        known = unit if unit in _MONTHS or unit in _MICROSECONDS else unit.removesuffix("s")
        if known in _MONTHS:
            months += quantity * _MONTHS[known]
        elif known in _MICROSECONDS:
            us += quantity * _MICROSECONDS[known]
        else:
            raise ValueError(f"unknown unit {unit}")
    whole = int(months)
    us += (months - whole) * _US_PER_MONTH  # half a month is 15 days
    if us.denominator != 1:
        raise ValueError("finer than a microsecond")
    if not in_range(whole, int(us)):
        raise ValueError("longer than 292,000 years")
    return interval(whole, timedelta(microseconds=int(us)))


def format_interval(value: timedelta) -> str:
    """Write an interval as PostgreSQL does: `1 year 2 mons 3 days 04:05:06.5`."""
    words = []
    months, us = months_of(value), microseconds(value)
    for quantity, unit in (
        (_toward_zero(months, 12), "year"),
        (months - 12 * _toward_zero(months, 12), "mon"),
        (_toward_zero(us, _US_PER_DAY), "day"),
    ):
        if quantity:
            words.append(f"{quantity} {unit}{'' if quantity == 1 else 's'}")
    clock = us - _US_PER_DAY * _toward_zero(us, _US_PER_DAY)
    if clock or not words:
        seconds, fraction = divmod(abs(clock), 1_000_000)
        minutes, seconds = divmod(seconds, 60)
        written = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{fraction:06}"
        words.append(("-" if clock < 0 else "") + written.rstrip("0").removesuffix("."))
    return " ".join(words)


def _toward_zero(value: int, unit: int) -> int:
    return value // unit if value >= 0 else -(-value // unit)


def _iso_parts(match: re.Match[str]) -> list[tuple[Fraction, str]]:
    sign = -1 if match[1] == "-" else 1
    return [
        (sign * Fraction(number.replace(",", ".")), unit)
        for number, unit in zip(match.groups()[1:], _ISO_UNITS, strict=True)
        if number is not None
    ]


def _written_parts(text: str) -> list[tuple[Fraction, str]]:
    parts: list[tuple[Fraction, str]] = []
    ago = text.endswith("ago")
    text = text.removesuffix("ago").removeprefix("@").rstrip()
    position = 0
    while position < len(text):
        if clock := _CLOCK.match(text, position):
            sign, hours, minutes, seconds = clock.groups(default="0")
            length = Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
            parts.append((-length if sign == "-" else length, "second"))
            position = clock.end()
        elif quantity := _QUANTITY.match(text, position):
            parts.append((Fraction(quantity[1]), quantity[2]))
            position = quantity.end()
        elif years := _YEAR_MONTH.match(text, position):
            months = 12 * int(years[2]) + int(years[3])
            parts.append((Fraction(-months if years[1] == "-" else months), "month"))
            position = years.end()
        elif days := _DAYS.match(text, position):
            parts.append((Fraction(days[1]), "day"))
            position = days.end()
        elif seconds_alone := _SECONDS.match(text, position):
            parts.append((Fraction(seconds_alone[1]), "second"))
            position = seconds_alone.end()
        else:
            raise ValueError(f"no quantity with a unit at {text[position:].strip()[:20]!r}")
    if not parts:
        raise ValueError("empty")
    return [(-quantity, unit) for quantity, unit in parts] if ago else parts
