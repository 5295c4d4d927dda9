"""INTERVAL as text: read in PostgreSQL's three styles, written in its own.

    1 year 2 mons 3 days 04:05:06.7     verbose: numbers and units, a time of day, `ago` turns it
    1-2                                 the standard's years and months
    P1Y2M3DT4H5M6.7S                    ISO 8601

    parse_interval("1 day ago")       ->  timedelta(days=-1)
    interval_text(timedelta(days=1))  ->  "1 day"

A fraction of a unit goes down to smaller ones, where a month has 30 days: 1.5 months are 1 month
and 15 days. Months stand apart (see catalog.interval); days and hours do not: 36 hours are written
1 day 12:00:00, where PostgreSQL keeps 36:00:00.
"""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction

from murmur.catalog.interval import exact_of, interval, microseconds, months_of

_MONTHS = {"month": 1, "year": 12, "decade": 120, "century": 1200, "millennium": 12000}
_MICROSECONDS = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": 86_400_000_000,
    "week": 604_800_000_000,
}
_MONTH_US = 30 * _MICROSECONDS["day"]
_ALIASES = {
    "us": "microsecond", "usec": "microsecond", "usecs": "microsecond", "usecond": "microsecond",
    "useconds": "microsecond", "microsecon": "microsecond",
    "ms": "millisecond", "msec": "millisecond", "msecs": "millisecond", "msecond": "millisecond",
    "mseconds": "millisecond",
    "s": "second", "sec": "second", "secs": "second",
    "m": "minute", "min": "minute", "mins": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour",
    "d": "day", "w": "week",
    "mon": "month", "mons": "month",
    "y": "year", "yr": "year", "yrs": "year",
    "dec": "decade", "decs": "decade",
    "c": "century", "cent": "century", "centuries": "century",
    "mil": "millennium", "mils": "millennium", "millennia": "millennium",
}  # fmt: skip

_PART = re.compile(
    r"\s*(?:"
    r"(?P<sign>[+-])?(?P<hour>[0-9]+):(?P<minute>[0-9]{1,2})(?::(?P<second>[0-9]{1,2}(?:\.[0-9]*)?))?"
    r"|(?P<years>[+-]?[0-9]+)-(?P<months>[0-9]{1,2})(?![0-9.])"
    r"|(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*(?P<unit>[a-zA-Z]+)?"
    r")\s*(?:,\s*)?"
)
_ISO = re.compile(
    r"P(?:(?P<year>N)Y)?(?:(?P<month>N)M)?(?:(?P<week>N)W)?(?:(?P<day>N)D)?"
    r"(?:T(?:(?P<hour>N)H)?(?:(?P<minute>N)M)?(?:(?P<second>N)S)?)?".replace(
        "N", r"[+-]?[0-9]+(?:\.[0-9]*)?"
    )
)
_MAX_TEXT = 200


def parse_interval(text: str, default_unit: str = "second") -> timedelta:
    """Read an interval; ValueError if it is none, OverflowError if it is too long.

    A number without a unit counts in `default_unit`, as in INTERVAL '5' DAY.
    """
    bare = text.strip()
    if not bare or len(bare) > _MAX_TEXT:
        raise ValueError(text)
    if bare[0] == "P":
        return _parse_iso(bare)
    if bare[0] == "@":
        bare = bare[1:]
    ago = bare[-3:].lower() == "ago" and not bare[-4:-3].isalpha()
    if ago:
        bare = bare[:-3]
    months, exact = Fraction(0), Fraction(0)
    position, bare = 0, bare.strip()
    if not bare:
        raise ValueError(text)
    while position < len(bare):
        match = _PART.match(bare, position)
        if match is None:
            raise ValueError(text)
        more_months, more_exact = _part(match, default_unit)
        months, exact = months + more_months, exact + more_exact
        position = match.end()
    return _interval(-months, -exact) if ago else _interval(months, exact)


def unit_of(word: str) -> str | None:
    """The unit that a word names, in the singular: "hrs" -> "hour"; None if it names none."""
    word = word.lower()
    word = _ALIASES.get(word, word)
    if word in _MONTHS or word in _MICROSECONDS:
        return word
    single = word.removesuffix("s")
    return single if single in _MONTHS or single in _MICROSECONDS else None


def span(number: Fraction, unit: str) -> timedelta:
    """So many of a unit."""
    return _interval(*_count(number, unit))


def _part(match: re.Match[str], default_unit: str) -> tuple[Fraction, Fraction]:
    """Months and microseconds of one part."""
    if match["hour"] is not None:
        if int(match["minute"]) > 59 or Fraction(match["second"] or 0) >= 60:
            raise ValueError(match[0])
        seconds = int(match["hour"]) * 3600 + int(match["minute"]) * 60
        exact = (seconds + Fraction(match["second"] or 0)) * 1_000_000
        return Fraction(0), -exact if match["sign"] == "-" else exact
    if match["years"] is not None:
        months = abs(int(match["years"])) * 12 + int(match["months"])
        if int(match["months"]) > 11:
            raise ValueError(match[0])
        return Fraction(-months if match["years"][0] == "-" else months), Fraction(0)
    unit = unit_of(match["unit"] or default_unit)
    if unit is None:
        raise ValueError(match[0])
    return _count(Fraction(match["number"]), unit)


def _count(number: Fraction, unit: str) -> tuple[Fraction, Fraction]:
    if unit in _MONTHS:
        return number * _MONTHS[unit], Fraction(0)
    return Fraction(0), number * _MICROSECONDS[unit]


def _parse_iso(text: str) -> timedelta:
    match = _ISO.fullmatch(text)
    if match is None or text[-1] in "PT":
        raise ValueError(text)
    months, exact = Fraction(0), Fraction(0)
    for unit, number in match.groupdict().items():
        if number is not None:
            more_months, more_exact = _count(Fraction(number), unit)
            months, exact = months + more_months, exact + more_exact
    return _interval(months, exact)


def _interval(months: Fraction, exact: Fraction) -> timedelta:
    """Whole months; what is left of a month becomes days of it."""
    whole = int(months)  # toward zero
    return interval(whole, timedelta(microseconds=round(exact + (months - whole) * _MONTH_US)))


def scale_interval(value: timedelta, factor: Fraction) -> timedelta:
    """The interval multiplied, fractions of a month going to days."""
    return _interval(months_of(value) * factor, microseconds(exact_of(value)) * factor)


def interval_text(value: timedelta) -> str:
    """Write an interval as PostgreSQL does by default."""
    months, exact = months_of(value), microseconds(exact_of(value))
    years, months = _toward_zero(months, 12)
    days, rest = _toward_zero(exact, _MICROSECONDS["day"])
    parts: list[str] = []
    for number, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if number:
            # Once a part was negative, a positive one needs its sign to be read back.
            plus = "+" if number > 0 and parts and parts[-1].startswith("-") else ""
            parts.append(f"{plus}{number} {unit}{'' if number == 1 else 's'}")
    if rest or not parts:
        seconds, fraction = divmod(abs(rest), 1_000_000)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        if fraction:
            clock += f".{fraction:06d}".rstrip("0")
        plus = "+" if parts and parts[-1].startswith("-") else ""
        parts.append(("-" if rest < 0 else plus) + clock)
    return " ".join(parts)


def _toward_zero(number: int, unit: int) -> tuple[int, int]:
    quotient, rest = divmod(abs(number), unit)
    return (quotient, rest) if number >= 0 else (-quotient, -rest)
