"""INTERVAL with the fields that it is about, as the value that it is.

    INTERVAL '1-2' YEAR TO MONTH      1 year 2 mons
    INTERVAL '10:20' MINUTE TO SECOND 00:10:20
    INTERVAL '3 10' DAY TO HOUR       3 days 10:00:00
    INTERVAL '90' MINUTE              01:30:00
    INTERVAL '1 day 2:03:04' HOUR TO MINUTE    1 day 02:03:00

A number without a unit is of the last field. What is finer than the last field is left out, as
PostgreSQL does; SECOND(n) rounds to n digits.
"""

from __future__ import annotations

import re
from datetime import timedelta

from murmur.catalog.interval import (
    MICROSECOND,
    exact_of,
    interval,
    microseconds,
    months_of,
    parse_interval,
)
from murmur.errors import DataError

FIELDS = ("YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND")

_FINEST_US = {
    "DAY": 86_400_000_000,
    "HOUR": 3_600_000_000,
    "MINUTE": 60_000_000,
    "SECOND": 1,
}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)
_DAY_HOUR = re.compile(r"([+-]?\d+)\s+(\d+)", re.ASCII)
_MINUTE_SECOND = re.compile(r"[+-]?\d+:\d+(\.\d*)?", re.ASCII)


def qualified_interval(text: str, first: str, last: str, digits: int | None = None) -> timedelta:
    """The value of INTERVAL 'text' first TO last; DataError if the text is none."""
    written = text.strip()
    if _NUMBER.fullmatch(written):
        written = f"{written} {last}"
    elif (first, last) == ("DAY", "HOUR") and (both := _DAY_HOUR.fullmatch(written)):
        written = f"{both[1]} day {both[2]} hour"
    elif (first, last) == ("MINUTE", "SECOND") and _MINUTE_SECOND.fullmatch(written):
        sign = "-" if written.startswith("-") else ""
        written = f"{sign}0:{written.lstrip('+-')}"
    try:
        value = parse_interval(written)
    except ValueError as error:
        raise DataError(f'"{text:.60}" is not a valid INTERVAL: {error}') from None
    months, us = months_of(value), microseconds(exact_of(value))
    if last in ("YEAR", "MONTH"):
        return interval(_cut(months, 12 if last == "YEAR" else 1), timedelta())
    us = _cut(us, _FINEST_US[last])
    if digits is not None and digits < 6:
        step = 10 ** (6 - digits)
        us = (abs(us) + step // 2) // step * step * (-1 if us < 0 else 1)
    return interval(months, us * MICROSECOND)


def _cut(value: int, step: int) -> int:
    """The multiple of `step` toward zero."""
    return abs(value) // step * step * (-1 if value < 0 else 1)
