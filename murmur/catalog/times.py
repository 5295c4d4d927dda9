"""Dates, times and intervals on the way in: what their columns take, and why not.

    "2024-12-31"           DATE             a datetime is refused: it has a time of day
    "23:59:59"             TIME             a zone is refused
    "2024-12-31 23:59:59"  TIMESTAMP        a zone is refused; TIMESTAMPTZ needs one, and keeps UTC
    "1 mon 2 days"         INTERVAL         see interval.py

Nothing finer than a microsecond is taken. Each checker lets the exact Python type through at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from murmur.catalog.interval import Interval, in_range, interval, microseconds, parse_interval
from murmur.catalog.refusal import Checker, Refusal, is_missing, unwrap
from murmur.catalog.types import SqlType

_SAFE_DAYS = 100_000_000  # within the 292,000 years that fit: no need to look closer
# Text that ISO 8601 calls a date and maybe a time; fromisoformat alone takes any separator.
_ISO_MOMENT = re.compile(r"\d{4}(-?)\d\d\1\d\d(?:[T ]\S+)?", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}(-?)\d\d\1\d\d", re.ASCII)
# fromisoformat drops what follows the sixth digit of a fraction.
_TOO_FINE = re.compile(r"[.,]\d{6}0*[1-9]", re.ASCII)


def date_checker(_: SqlType, refuse: Refusal) -> Checker:
    """Takes dates and ISO text."""

    def check_date(value: object) -> date | None:
        if type(value) is date or value is None:
            return value
        plain = unwrap(value)
        if isinstance(plain, str):
            if not _ISO_DATE.fullmatch(plain.strip()):
                raise refuse.data(value, "not an ISO date, as 2024-12-31")
            try:
                return date.fromisoformat(plain.strip())
            except ValueError as error:
                raise refuse.data(value, str(error)) from None
        if isinstance(plain, datetime) and not is_missing(plain):
            raise refuse.kind(value, "it has a time of day; pass .date()")
        if not isinstance(plain, date) or is_missing(plain):
            raise refuse.kind(value)
        return date(plain.year, plain.month, plain.day)

    return check_date


def time_checker(_: SqlType, refuse: Refusal) -> Checker:
    """Takes times without a zone and ISO text."""

    def check_time(value: object) -> time | None:
        if value is None or (type(value) is time and value.tzinfo is None):
            return value
        if isinstance(value, str):
            moment = _parsed(value, time.fromisoformat, "time, as 23:59:59", refuse)
        elif isinstance(value, time):
            moment = value
        else:
            raise refuse.kind(value)
        if moment.tzinfo is not None:
            raise refuse.data(value, "it has a zone")
        return time(moment.hour, moment.minute, moment.second, moment.microsecond)

    return check_time


def timestamp_checker(_: SqlType, refuse: Refusal) -> Checker:
    """Takes datetimes without a zone and ISO text."""

    def check_timestamp(value: object) -> datetime | None:
        if value is None or (type(value) is datetime and value.tzinfo is None):
            return value
        moment = _as_moment(value, refuse)
        if moment.tzinfo is not None:
            raise refuse.data(value, "it has a zone; use TIMESTAMPTZ, or drop the zone")
        return moment

    return check_timestamp


def timestamptz_checker(_: SqlType, refuse: Refusal) -> Checker:
    """Takes datetimes with a zone and ISO text with an offset."""

    def check_timestamptz(value: object) -> datetime | None:
        if value is None or (type(value) is datetime and value.tzinfo is UTC):
            return value
        moment = value if type(value) is datetime else _as_moment(value, refuse)
        if moment.utcoffset() is None:
            raise refuse.data(value, "it has no zone; add one, or use TIMESTAMP")
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise refuse.data(value, "outside of the years 1 to 9999 in UTC") from None

    return check_timestamptz


def interval_checker(_: SqlType, refuse: Refusal) -> Checker:
    """Takes timedelta, intervals and their text."""

    def check_interval(value: object) -> timedelta | None:
        if value is None or (type(value) is timedelta and -_SAFE_DAYS < value.days < _SAFE_DAYS):
            return value
        if isinstance(value, Interval):
            return interval(value.months, value.exact)
        plain = unwrap(value)
        if isinstance(plain, str):
            try:
                return parse_interval(plain)
            except ValueError as error:
                raise refuse.data(value, str(error)) from None
        if not isinstance(plain, timedelta):
            raise refuse.kind(value)
        if getattr(plain, "nanoseconds", 0):
            raise refuse.data(value, "finer than a microsecond")
        if not in_range(0, microseconds(plain)):
            raise refuse.data(value, "longer than 292,000 years")
        return timedelta(plain.days, plain.seconds, plain.microseconds)

    return check_interval


def _as_moment(value: object, refuse: Refusal) -> datetime:
    plain = unwrap(value)
    if isinstance(plain, str):
        if not _ISO_MOMENT.fullmatch(plain.strip()):
            raise refuse.data(value, "not an ISO timestamp, as 2024-12-31 23:59:59")
        parsed: datetime = _parsed(plain, datetime.fromisoformat, "timestamp", refuse)
        return parsed
    if not isinstance(plain, datetime) or is_missing(plain):
        raise refuse.kind(value)
    if getattr(plain, "nanosecond", 0):
        raise refuse.data(value, "finer than a microsecond")
    return datetime.combine(plain.date(), plain.time(), plain.tzinfo)


def _parsed(text: str, parse: Callable[[str], Any], what: str, refuse: Refusal) -> Any:
    if _TOO_FINE.search(text):
        raise refuse.data(text, "finer than a microsecond")
    try:
        return parse(text.strip())
    except ValueError as error:
        raise refuse.data(text, f"not an ISO {what}: {error}") from None
