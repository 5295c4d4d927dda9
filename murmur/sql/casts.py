"""CAST: from a Python value of one SQL type to a value of another.

    caster(DOUBLE, INTEGER)(2.5)            ->  2         floats round half to even
    caster(DECIMAL, INTEGER)(Decimal("2.5"))->  3         decimals round half away from zero
    caster(TEXT, DATE)("2024-02-30")        ->  DataError: "2024-02-30" is not a DATE
    caster(INTEGER, BIGINT)                 ->  None      nothing to do
    caster(DATE, INTEGER)                   ->  TypeMismatch

The rules are PostgreSQL's (its chapters 8 and 10), including the text that a value casts to. Text
is read more strictly than there: dates are ISO 8601, and a TIMESTAMP with an offset other than UTC
is refused instead of losing it. The session's time zone is always UTC.
"""

from __future__ import annotations

import decimal
import json
import math
import re
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

from murmur.catalog.interval import exact_of, format_interval, parse_interval
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

Caster: TypeAlias = Callable[[Any], Any]

# Exact arithmetic up to PostgreSQL's 131,072 digits before the point and 16,383 after it. Only the
# methods of this context are used, never the thread's current one, which rounds to 28 digits.
EXACT = decimal.Context(
    prec=150_000,
    rounding=ROUND_HALF_UP,
    Emin=-999_999,
    Emax=999_999,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
MAX_DIGITS = 131_072

_DIGITS_LIMIT = 4_000  # int() refuses longer text, for its quadratic cost


def out_of_range(what: object) -> NoReturn:
    """The error of every number that its type cannot hold."""
    raise DataError(f"{what} out of range")


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


def round_decimal(value: Decimal, scale: int) -> Decimal:
    """Round half away from zero to so many digits after the point; a negative scale before it."""
    rounded = EXACT.quantize(value, Decimal((0, (1,), -scale)))
    if scale < 0:  # quantize leaves 1E+2; a NUMERIC has no negative scale
        rounded = EXACT.quantize(rounded, Decimal(1))
    return rounded or abs(rounded)


def check_decimal(value: Decimal) -> Decimal:
    """The value, if PostgreSQL's NUMERIC could hold it."""
    if value and value.adjusted() >= MAX_DIGITS:
        out_of_range("DECIMAL")
    return value


def round_real(value: float) -> float:
    """The nearest 32-bit float."""
    if value - value != 0.0:  # NaN and the infinities
        return value
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        out_of_range("REAL")
    if rounded == 0.0 and value != 0.0:
        out_of_range("REAL")
    return rounded


_SINGLE = struct.Struct("<f")


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
    return _plain(Decimal(f"{value:.15g}"))  # PostgreSQL keeps 15 digits as well


def _plain(value: Decimal) -> Decimal:
    """Without a positive exponent: 1E+2 becomes 100. NUMERIC has no negative scale, and no -0."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent > 0:
        value = EXACT.quantize(value, Decimal(1))
    return value or abs(value)


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


# Reading text ------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?")
_FLOAT_WORDS = {"nan": math.nan, "infinity": math.inf, "inf": math.inf}
_SPACE = " \t\n\r\f\v"


def _bad(text: str, target: object) -> NoReturn:
    shown = text if len(text) <= 60 else text[:60] + "..."
    raise DataError(f'"{shown}" is not a valid {target}')


def _integer_from_text(target: SqlType) -> Caster:
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


def _float_from_text(target: SqlType) -> Caster:
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


def decimal_from_text(text: str) -> Decimal:
    """Read a number as NUMERIC does, keeping the digits after the point as written."""
    stripped = text.strip(_SPACE)
    match = _NUMBER.fullmatch(stripped)
    if match is None:
        _bad(text, "DECIMAL")
    if len(stripped) > MAX_DIGITS or (match[1] and abs(int(match[1][:9])) > 16_000):
        out_of_range("DECIMAL")
    return _plain(Decimal(stripped))


def _boolean_from_text(_target: SqlType) -> Caster:
    def cast(text: str) -> bool:
        word = text.strip(_SPACE).lower()
        # PostgreSQL takes every prefix that is not ambiguous; "o" could be on or off.
        if word in ("1", "on") or (word and ("true".startswith(word) or "yes".startswith(word))):
            return True
        if word in ("0", "of", "off") or (
            word and ("false".startswith(word) or "no".startswith(word))
        ):
            return False
        _bad(text, "BOOLEAN")

    return cast


def blob_from_text(text: str) -> bytes:
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


def _uuid_from_text(text: str) -> uuid.UUID:
    bare = text.strip(_SPACE)
    if bare[:1] == "{" and bare[-1:] == "}":
        bare = bare[1:-1]
    if not _UUID.fullmatch(bare):
        _bad(text, "UUID")
    return uuid.UUID(bare)


_UUID = re.compile(r"[0-9a-fA-F]{4}(?:-?[0-9a-fA-F]{4}){7}")


def _json_from_text(text: str) -> str:
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


def _timestamp_from_text(text: str) -> datetime:
    moment, zone = _moment(text, TIMESTAMP)
    if zone is not None and zone.utcoffset(None):
        raise DataError(f'"{text}" has a time zone, a TIMESTAMP has none: use TIMESTAMPTZ')
    return moment


def _timestamptz_from_text(text: str) -> datetime:
    moment, zone = _moment(text, TIMESTAMPTZ)
    try:
        return moment.replace(tzinfo=zone or UTC).astimezone(UTC)
    except OverflowError:
        _bad(text, TIMESTAMPTZ)


def _date_from_text(text: str) -> date:
    return _moment(text, DATE)[0].date()


def _time_from_text(text: str) -> time:
    match = _CLOCK.fullmatch(text.strip(_SPACE))
    if match is None:
        _bad(text, TIME)
    try:
        return (datetime.min + _clock(match)).time()
    except ValueError:
        _bad(text, TIME)


def _interval_from_text(text: str) -> timedelta:
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


def _boolean_text(value: bool) -> str:
    return "true" if value else "false"


def _blob_text(value: bytes) -> str:
    return "\\x" + value.hex()


_TO_TEXT: dict[str, Caster] = {
    "BOOLEAN": _boolean_text,
    "SMALLINT": str,
    "INTEGER": str,
    "BIGINT": str,
    "COUNTER": str,
    "REAL": real_text,
    "DOUBLE": float_text,
    "DECIMAL": decimal_text,
    "TEXT": str,
    "VARCHAR": str,
    "BLOB": _blob_text,
    "DATE": date.isoformat,
    "TIME": time_text,
    "TIMESTAMP": timestamp_text,
    "TIMESTAMPTZ": timestamp_text,
    "INTERVAL": format_interval,
    "UUID": str,
    "JSON": str,
}


def to_text(source: SqlType) -> Caster | None:
    """How values of the type are written; None if they are text already."""
    return caster(source, TEXT)


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
    ("TEXT", "BOOLEAN"): _boolean_from_text,
    ("TEXT", "INTEGER"): _integer_from_text,
    ("TEXT", "FLOAT"): _float_from_text,
    ("TEXT", "DECIMAL"): _to_decimal(decimal_from_text),
    ("TEXT", "BLOB"): _always(blob_from_text),
    ("TEXT", "DATE"): _always(_date_from_text),
    ("TEXT", "TIME"): _always(_time_from_text),
    ("TEXT", "TIMESTAMP"): _always(_timestamp_from_text),
    ("TEXT", "TIMESTAMPTZ"): _always(_timestamptz_from_text),
    ("TEXT", "INTERVAL"): _always(_interval_from_text),
    ("TEXT", "UUID"): _always(_uuid_from_text),
    ("TEXT", "JSON"): _always(_json_from_text),
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
