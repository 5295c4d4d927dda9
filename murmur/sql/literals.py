"""How values are written as text, and read from it.

    read_date("2024-01-31")        float_text(1e15)      ->  "1e+15"
    read_decimal("1.50")           timestamp_text(...)   ->  "2024-01-31 10:20:30.5+00"
    read_boolean("yes")            blob_text(b"ab")      ->  "\\x6162"

Text is written as PostgreSQL writes it, and read more strictly than there: dates are ISO 8601, and
a TIMESTAMP with an offset other than UTC is refused instead of losing it. What cannot be read is a
DataError that says so.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import NoReturn

from murmur.catalog.interval import parse_interval
from murmur.catalog.types import (
    DATE,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    SqlType,
    integer_bounds,
)
from murmur.errors import DataError
from murmur.sql.numbers import MAX_DIGITS, out_of_range, plain_decimal, round_real

_DIGITS_LIMIT = 4_000  # int() refuses longer text, for its quadratic cost


# Reading text ------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?")
_FLOAT_WORDS = {"nan": math.nan, "infinity": math.inf, "inf": math.inf}
_SPACE = " \t\n\r\f\v"


def _bad(text: str, target: object) -> NoReturn:
    shown = text if len(text) <= 60 else text[:60] + "..."
    raise DataError(f'"{shown}" is not a valid {target}')


def integer_reader(target: SqlType) -> Callable[[str], int]:
    """Read a whole number within the bounds of its type."""
    low, high = integer_bounds(target)

    def cast(text: str) -> int:
        stripped = text.strip(_SPACE)
        if not _INTEGER.fullmatch(stripped):
            _bad(text, target)
        number = int(stripped) if len(stripped) < _DIGITS_LIMIT else high + 1
        if not low <= number <= high:
            raise DataError(f'"{text.strip(_SPACE)[:60]}" is out of range for {target}')
        return number

    return cast


def float_reader(target: SqlType) -> Callable[[str], float]:
    """Read a REAL or a DOUBLE; what rounds to infinity or to zero is out of range."""

    def cast(text: str) -> float:
        stripped = text.strip(_SPACE)
        if _NUMBER.fullmatch(stripped):
            number = float(stripped)
            zero = number == 0.0 and stripped.lower().partition("e")[0].strip("+-0.") != ""
            if math.isinf(number) or zero:
                raise DataError(f'"{stripped[:60]}" is out of range for {target}')
            return number if target.name == "DOUBLE" else round_real(number)
        word = stripped.lower().lstrip("+-")
        if word not in _FLOAT_WORDS or len(stripped) - len(word) > 1:
            _bad(text, target)
        return -_FLOAT_WORDS[word] if stripped[0] == "-" else _FLOAT_WORDS[word]

    return cast


def read_decimal(text: str) -> Decimal:
    """Read a number as NUMERIC does, keeping the digits after the point as written."""
    stripped = text.strip(_SPACE)
    match = _NUMBER.fullmatch(stripped)
    if match is None:
        _bad(text, "DECIMAL")
    if len(stripped) > MAX_DIGITS or (match[1] and abs(int(match[1][:9])) > 16_000):
        out_of_range("DECIMAL")
    return plain_decimal(Decimal(stripped))


def read_boolean(text: str) -> bool:
    """Read true, yes, on, 1 and their opposites, or a beginning that is one word's only."""
    word = text.strip(_SPACE).lower()
    if word in ("1", "on") or (word and ("true".startswith(word) or "yes".startswith(word))):
        return True
    if word in ("0", "of", "off") or (word and ("false".startswith(word) or "no".startswith(word))):
        return False
    _bad(text, "BOOLEAN")


def read_blob(text: str) -> bytes:
    r"""Read a blob as BYTEA does: \x and hexadecimal digits, or text with \\ and \ooo escapes."""
    if text.startswith("\\x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            _bad(text, "BLOB")
    if "\\" not in text:
        return text.encode()
    if not _ESCAPED.fullmatch(text):
        _bad(text, "BLOB")
    return _ESCAPE.sub(
        lambda match: b"\\" if match[1] == b"\\" else bytes([int(match[1], 8)]), text.encode()
    )


_ESCAPED = re.compile(r"(?:[^\\]|\\\\|\\[0-3][0-7]{2})*", re.DOTALL)
_ESCAPE = re.compile(rb"\\(\\|[0-3][0-7]{2})")


def read_uuid(text: str) -> uuid.UUID:
    """Read 32 hexadecimal digits, with hyphens or without, in braces or not."""
    bare = text.strip(_SPACE)
    if bare[:1] == "{" and bare[-1:] == "}":
        bare = bare[1:-1]
    if not _UUID.fullmatch(bare):
        _bad(text, "UUID")
    return uuid.UUID(bare)


_UUID = re.compile(r"[0-9a-fA-F]{4}(?:-?[0-9a-fA-F]{4}){7}")


def read_json(text: str) -> str:
    """The text itself, if it is JSON."""
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _bad(text, "JSON")
    return text


def _no_constant(word: str) -> NoReturn:
    raise ValueError(word)  # NaN and Infinity, which Python's json reads and JSON does not have


_DATE = r"(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})"
_TIME = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<part>[0-9]*))?)?"
)
_ZONE = r"(?P<zone>[zZ]|UTC|utc|GMT|gmt|[+-][0-9]{1,2}(?::?[0-9]{2})?(?::[0-9]{2})?)"
_MOMENT = re.compile(rf"{_DATE}(?:(?:[ tT]+){_TIME}(?:\s*{_ZONE})?)?")
_CLOCK = re.compile(_TIME)


def _moment(text: str, target: SqlType) -> tuple[datetime, timezone | None]:
    match = _MOMENT.fullmatch(text.strip(_SPACE))
    if match is None:
        _bad(text, target)
    try:
        day = datetime(int(match["year"]), int(match["month"]), int(match["day"]))
        return day + _clock(match), _zone(match["zone"])
    except (ValueError, OverflowError):
        _bad(text, target)


def _clock(match: re.Match[str]) -> timedelta:
    """The time of day; parts of a microsecond are rounded, as PostgreSQL does."""
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(match[0])
    part = match["part"] or "0"
    fraction = round(int(part[:12]) / 10 ** (len(part[:12]) - 6))
    return timedelta(hours=hour, minutes=minute, seconds=second, microseconds=fraction)


def _zone(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text[0] not in "+-":
        return UTC
    parts = text[1:].split(":")
    digits = "".join(parts) if len(parts[0]) > 1 else "0" + "".join(parts)
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4] or 0), int(digits[4:6] or 0)
    if hours > 15 or minutes > 59 or seconds > 59:
        raise ValueError(text)
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-offset if text[0] == "-" else offset)


def read_timestamp(text: str) -> datetime:
    """Read a date and maybe a time of day; a zone other than UTC is an error."""
    moment, zone = _moment(text, TIMESTAMP)
    if zone is not None and zone.utcoffset(None):
        raise DataError(f'"{text}" has a time zone, a TIMESTAMP has none: use TIMESTAMPTZ')
    return moment


def read_timestamptz(text: str) -> datetime:
    """Read a date, maybe a time of day and an offset; without one it is UTC."""
    moment, zone = _moment(text, TIMESTAMPTZ)
    try:
        return moment.replace(tzinfo=zone or UTC).astimezone(UTC)
    except OverflowError:
        _bad(text, TIMESTAMPTZ)


def read_date(text: str) -> date:
    """Read a date; a time of day is left out."""
    return _moment(text, DATE)[0].date()


def read_time(text: str) -> time:
    """Read a time of day."""
    match = _CLOCK.fullmatch(text.strip(_SPACE))
    if match is None:
        _bad(text, TIME)
    try:
        return (datetime.min + _clock(match)).time()
    except ValueError:
        _bad(text, TIME)


def read_interval(text: str) -> timedelta:
    """Read an interval (see catalog.interval)."""
    try:
        return parse_interval(text)
    except ValueError as error:
        raise DataError(f'"{text:.60}" is not a valid INTERVAL: {error}') from None


# Writing text ------------------------------------------------------------------------------------


def float_text(value: float) -> str:
    """The shortest text that reads back as the same 64-bit float, as PostgreSQL writes it."""
    return _shortest(value, repr(value), 15)


def real_text(value: float) -> str:
    """The shortest text that reads back as the same 32-bit float."""
    if value - value != 0.0:
        return float_text(value)
    for digits in range(6, 10):
        text = f"{value:.{digits}g}"
        if round_real(float(text)) == value:
            break
    return _shortest(value, text, 6)


def _shortest(value: float, text: str, digits: int) -> str:
    if value != value:
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    sign, mantissa, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    figures = "".join(map(str, mantissa)).rstrip("0") or "0"
    exponent += len(mantissa) - len(figures)
    point = exponent + len(figures) - 1 if value else 0  # of scientific notation
    minus = "-" if sign else ""
    if -5 < point < digits:
        return minus + format(Decimal(figures).scaleb(exponent if value else 0), "f")
    rest = f".{figures[1:]}" if len(figures) > 1 else ""
    return f"{minus}{figures[0]}{rest}e{'-' if point < 0 else '+'}{abs(point):02d}"


def decimal_text(value: Decimal) -> str:
    """All digits, never an exponent."""
    return format(value, "f")


def time_text(value: time | datetime) -> str:
    """HH:MM:SS with as much of the fraction as there is."""
    text = f"{value.hour:02d}:{value.minute:02d}:{value.second:02d}"
    return f"{text}.{value.microsecond:06d}".rstrip("0") if value.microsecond else text


def timestamp_text(value: datetime) -> str:
    """YYYY-MM-DD HH:MM:SS, and +00 if it is aware."""
    text = f"{value.date().isoformat()} {time_text(value)}"
    return text if value.tzinfo is None else text + "+00"


def boolean_text(value: bool) -> str:
    """true or false."""
    return "true" if value else "false"


def blob_text(value: bytes) -> str:
    """A backslash, x, and hexadecimal digits."""
    return "\\x" + value.hex()
