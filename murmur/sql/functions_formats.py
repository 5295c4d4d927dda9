"""Functions that write values by a pattern, quote them, or compare texts: see functions.py.

    to_char(1234.5, '9,999.99')          to_number('1,234', '9,999')
    to_char(now(), 'DD Mon YYYY')        to_date('05 Jan 2024', 'DD Mon YYYY')
    quote_ident('a b')                   similarity('word', 'two words')      0.36363637

Importing this file registers them.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from murmur.catalog.interval import exact_of, interval, microseconds, months_of
from murmur.catalog.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
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
)
from murmur.errors import DataError
from murmur.sql import texts
from murmur.sql.date_formats import (
    char_to_date,
    char_to_moment,
    moment_to_char,
    since_midnight,
    span_to_char,
)
from murmur.sql.functions import define
from murmur.sql.number_formats import char_to_number, number_to_char

for _type in (DATE, TIMESTAMP, TIMESTAMPTZ):
    define("to_char", [_type, TEXT], TEXT, moment_to_char)
define("to_char", [INTERVAL, TEXT], TEXT, span_to_char)
define("to_char", [TIME, TEXT], TEXT, lambda clock, form: span_to_char(since_midnight(clock), form))
define("to_char", [DECIMAL, TEXT], TEXT, number_to_char)
define("to_char", [DOUBLE, TEXT], TEXT, number_to_char)
define("to_number", [TEXT, TEXT], DECIMAL, char_to_number)
define("to_date", [TEXT, TEXT], DATE, char_to_date)
define("to_timestamp", [TEXT, TEXT], TIMESTAMPTZ, char_to_moment)


# Text --------------------------------------------------------------------------------------------


def _overlay(text: str, new: str, start: int, count: int | None = None) -> str:
    if start < 1:
        raise DataError("negative substring length not allowed")
    stop = start + (len(new) if count is None else count)
    return text[: start - 1] + new + text[max(stop - 1, 0) :]


def _quote_ident(name: str) -> str:
    plain = re.fullmatch("[a-z_][a-z0-9_]*", name)
    return name if plain else '"' + name.replace('"', '""') + '"'


def _quote_literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"E'{quoted}'".replace("\\", "\\\\") if "\\" in text else f"'{quoted}'"


def _quote_nullable(text: str | None) -> str:
    return "NULL" if text is None else _quote_literal(text)


_PLACE = re.compile(r"%(?:(\d+)\$)?(-?)(\d+|\*(?:(\d+)\$)?)?(.)?", re.DOTALL)


def format_text(pattern: str | None, *arguments: str | None) -> str | None:
    """format(): %s, %I and %L with places and widths; %% is a percent sign."""
    if pattern is None:
        return None
    used = 0

    def argument(place: str | None) -> str | None:
        nonlocal used
        used = int(place) if place else used + 1
        if not 1 <= used <= len(arguments):
            raise DataError("format(): too few arguments")
        return arguments[used - 1]

    def said(found: re.Match[str]) -> str:
        place, minus, width, width_place, kind = found.groups()
        if kind == "%" and found[0] == "%%":
            return "%"
        if width and width[0] == "*":
            width = argument(width_place) or "0"
            minus = "-" if width.startswith("-") else minus
            width = width.lstrip("-")
        if kind not in ("s", "I", "L"):
            raise DataError(f'format(): "{found[0]}" is not known: there are %s, %I, %L and %%')
        value = argument(place)
        if kind == "I" and value is None:
            raise DataError("format(): NULL is no name")
        text = _quote_ident(value) if kind == "I" and value is not None else value or ""
        text = _quote_nullable(value) if kind == "L" else text
        size = int(width or 0)
        return text.ljust(size) if minus else text.rjust(size)

    return _PLACE.sub(said, pattern)


_ESCAPED = re.compile(r"\\(\\|\+[0-9A-Fa-f]{6}|U[0-9A-Fa-f]{8}|u?[0-9A-Fa-f]{4})|\\")


def _unistr(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        if found[1] is None:
            raise DataError("invalid Unicode escape: \\XXXX, \\+XXXXXX, \\uXXXX, \\UXXXXXXXX")
        digits = found[1].lstrip("+uU")
        return "\\" if found[1] == "\\" else texts.character(int(digits, 16))

    return _ESCAPED.sub(character, text)


def _normalized(text: str, form: str = "NFC") -> str:
    kinds = ("NFC", "NFD", "NFKC", "NFKD")
    if form.upper() not in kinds:
        raise DataError(f"a normal form is one of {', '.join(kinds)}, not {form}")
    return unicodedata.normalize(form.upper(), text)  # type: ignore[arg-type]


def _from_bytes(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except LookupError:
        raise DataError(f'there is no encoding "{encoding}"') from None
    except UnicodeDecodeError:
        raise DataError(f"the bytes are no text in {encoding}") from None


def _to_bytes(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except LookupError:
        raise DataError(f'there is no encoding "{encoding}"') from None
    except UnicodeEncodeError:
        raise DataError(f"the text cannot be written in {encoding}") from None


define("overlay", [TEXT, TEXT, BIGINT], TEXT, _overlay)
define("overlay", [TEXT, TEXT, BIGINT, BIGINT], TEXT, _overlay)
define("quote_ident", [TEXT], TEXT, _quote_ident)
define("quote_literal", [TEXT], TEXT, _quote_literal)
define("quote_nullable", [TEXT], TEXT, _quote_nullable, strict=False)
# The binder casts the arguments to text.
define("format", [TEXT], TEXT, format_text, strict=False)
define("format", [TEXT, TEXT], TEXT, format_text, strict=False, variadic=True)
define("unistr", [TEXT], TEXT, _unistr)
define("normalize", [TEXT], TEXT, _normalized)
define("normalize", [TEXT, TEXT], TEXT, _normalized)
define("convert_from", [BLOB, TEXT], TEXT, _from_bytes)
define("convert_to", [TEXT, TEXT], BLOB, _to_bytes)


# Similarity, after pg_trgm: here words are padded, unlike in a trigram index ---------------------

_WORD = re.compile(r"[^\W_]+")
SIMILAR = 0.3  # from here on two texts are similar to the operator %


def _trigrams(text: str) -> set[str]:
    return {
        padded[at : at + 3]
        for word in _WORD.findall(text.lower())
        for padded in (f"  {word} ",)
        for at in range(len(padded) - 2)
    }


def similarity(left: str, right: str) -> float:
    """The part of their trigrams that two texts share, 0 to 1."""
    ours, theirs = _trigrams(left), _trigrams(right)
    shared = len(ours & theirs)
    union = len(ours) + len(theirs) - shared
    single: float = struct.unpack("f", struct.pack("f", shared / union if union else 0.0))[0]
    return single


define("similarity", [TEXT, TEXT], REAL, similarity)
define(
    "similarity_op", [TEXT, TEXT], BOOLEAN, lambda left, right: similarity(left, right) >= SIMILAR
)


# Numbers -----------------------------------------------------------------------------------------


def _factorial(number: int) -> Decimal:
    if not 0 <= number <= 33:
        raise DataError("factorial of a negative number, or of one above 33, is not supported")
    result = Decimal(1)
    for each in range(2, number + 1):
        result *= each
    return result


def _width_bucket(value: float, low: float, high: float, count: int) -> int:
    if count <= 0:
        raise DataError("count must be greater than zero")
    if low == high:
        raise DataError("lower bound cannot equal upper bound")
    if (value < low) == (low < high) and value != low:
        return 0
    if value == high or (value > high) == (low < high):
        return count + 1
    return int((value - low) * count / (high - low)) + 1


def _scale(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _trimmed(number: Decimal) -> Decimal:
    plain = number.normalize()
    return plain.quantize(Decimal(1)) if _scale(plain) == 0 else plain


define("factorial", [BIGINT], DECIMAL, _factorial)
define("width_bucket", [DOUBLE, DOUBLE, DOUBLE, INTEGER], INTEGER, _width_bucket)
define("scale", [DECIMAL], INTEGER, _scale)
define("min_scale", [DECIMAL], INTEGER, lambda number: _scale(_trimmed(number)))
define("trim_scale", [DECIMAL], DECIMAL, _trimmed)
define("bitand", [BIGINT, BIGINT], BIGINT, lambda left, right: left & right)
define("bitor", [BIGINT, BIGINT], BIGINT, lambda left, right: left | right)
define("bitxor", [BIGINT, BIGINT], BIGINT, lambda left, right: left ^ right)
define("bitnot", [BIGINT], BIGINT, lambda number: ~number)


# Time --------------------------------------------------------------------------------------------


def _age(left: datetime, right: datetime) -> timedelta:
    """The difference in years, months, days and a clock's time, as a calendar counts them."""
    if left < right:
        return -_age(right, left)
    months = (left.year - right.year) * 12 + left.month - right.month
    clock = datetime.combine(date.min, left.time()) - datetime.combine(date.min, right.time())
    days = left.day - right.day
    if clock < timedelta():
        clock += timedelta(days=1)
        days -= 1
    if days < 0:
        months -= 1
        # The days of the month in which the earlier of the two stands.
        following = (right.replace(day=1) + timedelta(days=32)).replace(day=1)
        days += (following - right.replace(day=1)).days
    return interval(months, timedelta(days=days) + clock)


def _justify(span: timedelta) -> timedelta:
    """Thirty days are a month, with the sign of the whole."""
    months, exact = months_of(span), microseconds(exact_of(span))
    total = months * _MONTH_US + exact
    sign = -1 if total < 0 else 1
    months, rest = divmod(abs(total), _MONTH_US)
    return interval(sign * months, timedelta(microseconds=sign * rest))


_MONTH_US = 30 * 86_400_000_000


def _justify_days(span: timedelta) -> timedelta:
    """Thirty days are a month; months that are there already keep their sign."""
    exact = exact_of(span)
    months = int(exact / timedelta(days=30))
    return interval(months_of(span) + months, exact - months * timedelta(days=30))


def _make_time(hour: int, minute: int, second: float) -> time:
    micros = round(second * 1_000_000)
    try:
        return time(hour, minute, micros // 1_000_000, micros % 1_000_000)
    except ValueError:
        raise DataError(f"there is no time {hour}:{minute}:{second}") from None


def make_interval(
    years: int, months: int, weeks: int, days: int, hours: int, minutes: int, seconds: float
) -> timedelta:
    """The parts of a span, added up."""
    exact = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes)
    return interval(years * 12 + months, exact + timedelta(microseconds=round(seconds * 1e6)))


def _date_bin(stride: timedelta, moment: datetime, origin: datetime) -> datetime:
    size = microseconds(exact_of(stride))
    if months_of(stride) or size <= 0:
        raise DataError("date_bin takes a stride above zero, without months and years")
    since = microseconds(moment - origin)
    return origin + timedelta(microseconds=since // size * size)


define("age", [TIMESTAMP, TIMESTAMP], INTERVAL, _age)
define("age", [TIMESTAMPTZ, TIMESTAMPTZ], INTERVAL, _age)
define(
    "age",
    [TIMESTAMP],
    INTERVAL,
    lambda context, moment: _age(datetime.combine(context.today, time()), moment),
    stability="stable",
    takes_context=True,
)
define("justify_interval", [INTERVAL], INTERVAL, _justify)
define("justify_days", [INTERVAL], INTERVAL, _justify_days)
define("justify_hours", [INTERVAL], INTERVAL, lambda span: span)  # a day is 24 hours here
define("make_time", [BIGINT, BIGINT, DOUBLE], TIME, _make_time)
define("make_interval", [*[BIGINT] * 6, DOUBLE], INTERVAL, make_interval)
define("date_bin", [INTERVAL, TIMESTAMP, TIMESTAMP], TIMESTAMP, _date_bin)
define("date_bin", [INTERVAL, TIMESTAMPTZ, TIMESTAMPTZ], TIMESTAMPTZ, _date_bin)
for _type in (DATE, TIMESTAMP, TIMESTAMPTZ, INTERVAL):
    define("isfinite", [_type], BOOLEAN, lambda value: True)
define(
    "clock_timestamp",
    [],
    TIMESTAMPTZ,
    lambda context: context.now,
    stability="stable",
    takes_context=True,
)
