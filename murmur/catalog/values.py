"""Values on the way in, and the form in which records keep them.

`checker` compiles a type into a function that lets a value of that type through and refuses
everything else with a reason:

    column note.likes: 2147483648 is not INTEGER: outside of -2147483648 .. 2147483647

    type             takes                                 refuses, among others
    integers         int                                   bool, float, overflow
    REAL, DOUBLE     float, and int when exact             overflow of REAL, Decimal
    DECIMAL(p,s)     Decimal, int                          float, digits beyond s, NaN
    TEXT, VARCHAR    str                                   lone surrogates, NUL, too long
    BLOB             bytes, bytearray, memoryview          str
    DATE             date, ISO text                        datetime
    TIME             time, ISO text                        a zone
    TIMESTAMP        naive datetime, ISO text              a zone
    TIMESTAMPTZ      aware datetime, ISO text with offset  no zone
    INTERVAL         timedelta, text (see interval.py)     finer than a microsecond
    UUID             uuid.UUID, text
    JSON             JSON text, dict, list                 NaN, nesting beyond 128

Nothing is rounded, cut or guessed, with one exception: a float in a REAL column is rounded to 32
bits, which is what the type means. NUL is refused in text, as PostgreSQL refuses it. Scalars of
numpy and pandas are taken for the Python values that they hold, when they hold them exactly. None
is NULL and passes: NOT NULL is not a matter of types.

How records keep these values is told in atoms.py.
"""

from __future__ import annotations

import json
import re
import reprlib
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache
from typing import Any, TypeAlias

from murmur.catalog.atoms import Atom, decoder, encoder, from_atom, to_atom, without_zeros
from murmur.catalog.interval import Interval, in_range, interval, microseconds, parse_interval
from murmur.catalog.types import SqlType, Value, decimal_bounds, integer_bounds
from murmur.errors import DataError, InternalError, TypeMismatch

__all__ = [
    "Atom",
    "Checker",
    "check",
    "checker",
    "decoder",
    "encoder",
    "from_atom",
    "is_atom",
    "show",
    "to_atom",
]

Checker: TypeAlias = Callable[[object], Any]

MAX_JSON_DEPTH = 128

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 40


def check(value: object, sql_type: SqlType, *, where: str) -> Value:
    """The value as this type has it, or a TypeMismatch or DataError that begins with `where`."""
    checked: Value = checker(sql_type, where)(value)
    return checked


@lru_cache(maxsize=4096)
def checker(sql_type: SqlType, where: str, *, key: bool = False) -> Checker:
    """`check` compiled for one column; a column of a primary key refuses NaN, too."""
    refuse = _Refusal(sql_type, where)
    check_value = _CHECKERS[sql_type.name](sql_type, refuse)
    if not (key and sql_type.is_float):
        return check_value

    def check_key(value: object) -> float | None:
        number: float | None = check_value(value)
        if number != number:
            raise refuse.data(value, "NaN cannot be in a key")
        return number

    return check_key


def is_atom(atom: object, sql_type: SqlType) -> bool:
    """Whether this is the stored form of some value of the type: a peer may have sent anything."""
    try:
        value = from_atom(atom, sql_type)  # type: ignore[arg-type]
        again = to_atom(check(value, sql_type, where=""), sql_type)
    except (DataError, InternalError, TypeError, ValueError, ArithmeticError):
        return False
    same = again == atom or atom != atom  # NaN differs from itself
    return type(again) is type(atom) and same


def show(value: object) -> str:
    """A value, shortened, for messages."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to write longer ones
    if isinstance(value, date | time | timedelta | Decimal | uuid.UUID):
        return f"{value!s:.60}"
    return _repr.repr(value)


class _Refusal:
    """Makes the errors of one column."""

    __slots__ = ("sql_type", "where")

    def __init__(self, sql_type: SqlType, where: str) -> None:
        self.sql_type = sql_type
        self.where = where

    def kind(self, value: object, hint: str = "") -> TypeMismatch:
        """The value has another type."""
        if _is_missing(value):
            hint = "pass None for NULL"
        elif type(value).__name__ in ("datetime64", "timedelta64"):
            hint = "finer than a microsecond, or another kind of time"
        reason = f"{type(value).__name__} given" + (f"; {hint}" if hint else "")
        return TypeMismatch(self._say(value, reason))

    def data(self, value: object, reason: str) -> DataError:
        """The type is right, and yet it cannot hold the value."""
        return DataError(self._say(value, reason))

    def _say(self, value: object, reason: str) -> str:
        return f"{self.where}: {show(value)} is not {self.sql_type}: {reason}"


def _is_missing(value: object) -> bool:
    """What pandas puts where there is no value: NaT, NA and NaN."""
    nan = isinstance(value, float) and value != value
    return nan or type(value).__name__ in ("NaTType", "NAType")


def _unwrap(value: Any) -> Any:
    """The Python value in a numpy scalar, when it is exactly that; otherwise the argument."""
    if type(value).__module__ != "numpy" or getattr(value, "ndim", None) != 0:
        return value
    plain = value.item()
    if (kind := value.dtype.kind) in "Mm" and not isinstance(plain, date | timedelta):
        # Nanoseconds come out as an int, NaT as None; and NaT equals nothing.
        cut = value.astype("M8[us]" if kind == "M" else "m8[us]")
        return cut.item() if cut == value else value
    return plain


# Checkers. Each one lets the exact Python type through at once and leaves the rest to `slow`.


def _boolean(_: SqlType, refuse: _Refusal) -> Checker:
    def check_boolean(value: object) -> bool | None:
        if value is True or value is False or value is None:
            return value
        plain = _unwrap(value)
        if isinstance(plain, bool):
            return plain
        raise refuse.kind(value)

    return check_boolean


def _integer(sql_type: SqlType, refuse: _Refusal) -> Checker:
    low, high = integer_bounds(sql_type)

    def check_integer(value: object) -> int | None:
        if type(value) is int and low <= value <= high:
            return value
        return None if value is None else slow(value)

    def slow(value: object) -> int:
        plain = _unwrap(value)
        if not isinstance(plain, int) or isinstance(plain, bool):
            raise refuse.kind(value)
        plain = int(plain)
        if not low <= plain <= high:
            raise refuse.data(value, f"outside of {low} .. {high}")
        return plain

    return check_integer


def _double(_: SqlType, refuse: _Refusal) -> Checker:
    def check_double(value: object) -> float | None:
        if type(value) is float:
            return value
        return None if value is None else _as_float(value, refuse)

    return check_double


def _real(_: SqlType, refuse: _Refusal) -> Checker:
    single = struct.Struct("<f")  # the native one overflows to infinity

    def check_real(value: object) -> float | None:
        if value is None:
            return None
        wide = value if type(value) is float else _as_float(value, refuse)
        try:
            rounded: float = single.unpack(single.pack(wide))[0]
        except OverflowError:
            raise refuse.data(value, "too large for 32 bits") from None
        if not rounded and wide:
            raise refuse.data(value, "too small for 32 bits")
        if rounded != wide and isinstance(_unwrap(value), int):
            raise refuse.data(value, "no 32-bit float is exactly this integer")
        return rounded

    return check_real


def _as_float(value: object, refuse: _Refusal) -> float:
    plain = _unwrap(value)
    if isinstance(plain, float):
        return float(plain)
    if not isinstance(plain, int) or isinstance(plain, bool):
        raise refuse.kind(value, "convert it with float()" if isinstance(plain, Decimal) else "")
    try:
        exact = float(plain)
    except OverflowError:
        raise refuse.data(value, "too large") from None
    if exact != plain:
        raise refuse.data(value, "no float is exactly this integer")
    return exact


def _decimal(sql_type: SqlType, refuse: _Refusal) -> Checker:
    precision, scale = decimal_bounds(sql_type)
    # A context of its own: the caller's may round.
    context = Context(prec=precision, traps=[Inexact, InvalidOperation])
    unit = Decimal((0, (1,), -scale))
    zero = Decimal((0, (0,), -scale))
    free = sql_type.precision is None
    whole = precision - scale

    def check_decimal(value: object) -> Decimal | None:
        if value is None:
            return None
        try:
            if type(value) is Decimal and value.is_finite():
                exact = value.quantize(unit, None, context) or zero  # there is no -0
                return without_zeros(exact) if free else exact
        except (Inexact, InvalidOperation):
            pass  # told apart below
        return slow(value)

    def slow(value: object) -> Decimal | None:
        plain = _unwrap(value)
        if isinstance(plain, float):
            raise refuse.kind(value, "write it as a Decimal")
        if not isinstance(plain, int | Decimal) or isinstance(plain, bool):
            raise refuse.kind(value)
        number = Decimal(plain)
        if not number.is_finite():
            raise refuse.data(value, "not a finite number")
        if type(plain) is not Decimal:  # an int, or a subclass
            return check_decimal(number)
        if number.adjusted() >= whole:
            raise refuse.data(value, f"more than {whole} digits before the point")
        raise refuse.data(value, f"more than {scale} digits after the point")

    return check_decimal


def _text(sql_type: SqlType, refuse: _Refusal) -> Checker:
    limit = sql_type.length

    def check_text(value: object) -> str | None:
        if type(value) is str:
            if "\0" in value:
                raise refuse.data(value, f"NUL at character {value.index(chr(0))}")
            if not value.isascii():
                _encodable(value, refuse)
            if limit is not None and len(value) > limit:
                raise refuse.data(value, f"{len(value)} characters, more than {limit}")
            return value
        if value is None:
            return None
        if isinstance(value, str):
            return check_text(str.__str__(value))  # a subclass may say something else
        raise refuse.kind(value)

    return check_text


def _encodable(text: str, refuse: _Refusal) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise refuse.data(text, f"lone surrogate at character {error.start}") from None


def _blob(_: SqlType, refuse: _Refusal) -> Checker:
    def check_blob(value: object) -> bytes | None:
        if type(value) is bytes or value is None:
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise refuse.kind(value, "encode the text" if isinstance(value, str) else "")

    return check_blob


# Text that ISO 8601 calls a date and maybe a time; fromisoformat alone takes any separator.
_ISO_MOMENT = re.compile(r"\d{4}(-?)\d\d\1\d\d(?:[T ]\S+)?", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}(-?)\d\d\1\d\d", re.ASCII)
# fromisoformat drops what follows the sixth digit of a fraction.
_TOO_FINE = re.compile(r"[.,]\d{6}0*[1-9]", re.ASCII)


def _date(_: SqlType, refuse: _Refusal) -> Checker:
    def check_date(value: object) -> date | None:
        if type(value) is date or value is None:
            return value
        plain = _unwrap(value)
        if isinstance(plain, str):
            if not _ISO_DATE.fullmatch(plain.strip()):
                raise refuse.data(value, "not an ISO date, as 2024-12-31")
            try:
                return date.fromisoformat(plain.strip())
            except ValueError as error:
                raise refuse.data(value, str(error)) from None
        if isinstance(plain, datetime) and not _is_missing(plain):
            raise refuse.kind(value, "it has a time of day; pass .date()")
        if not isinstance(plain, date) or _is_missing(plain):
            raise refuse.kind(value)
        return date(plain.year, plain.month, plain.day)

    return check_date


def _time(_: SqlType, refuse: _Refusal) -> Checker:
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


def _timestamp(_: SqlType, refuse: _Refusal) -> Checker:
    def check_timestamp(value: object) -> datetime | None:
        if value is None or (type(value) is datetime and value.tzinfo is None):
            return value
        moment = _as_moment(value, refuse)
        if moment.tzinfo is not None:
            raise refuse.data(value, "it has a zone; use TIMESTAMPTZ, or drop the zone")
        return moment

    return check_timestamp


def _timestamptz(_: SqlType, refuse: _Refusal) -> Checker:
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


def _as_moment(value: object, refuse: _Refusal) -> datetime:
    plain = _unwrap(value)
    if isinstance(plain, str):
        if not _ISO_MOMENT.fullmatch(plain.strip()):
            raise refuse.data(value, "not an ISO timestamp, as 2024-12-31 23:59:59")
        parsed: datetime = _parsed(plain, datetime.fromisoformat, "timestamp", refuse)
        return parsed
    if not isinstance(plain, datetime) or _is_missing(plain):
        raise refuse.kind(value)
    if getattr(plain, "nanosecond", 0):
        raise refuse.data(value, "finer than a microsecond")
    return datetime.combine(plain.date(), plain.time(), plain.tzinfo)


def _parsed(text: str, parse: Callable[[str], Any], what: str, refuse: _Refusal) -> Any:
    if _TOO_FINE.search(text):
        raise refuse.data(text, "finer than a microsecond")
    try:
        return parse(text.strip())
    except ValueError as error:
        raise refuse.data(text, f"not an ISO {what}: {error}") from None


_SAFE_DAYS = 100_000_000  # within the 292,000 years that fit: no need to look closer


def _interval(_: SqlType, refuse: _Refusal) -> Checker:
    def check_interval(value: object) -> timedelta | None:
        if value is None or (type(value) is timedelta and -_SAFE_DAYS < value.days < _SAFE_DAYS):
            return value
        if isinstance(value, Interval):
            return interval(value.months, value.exact)
        plain = _unwrap(value)
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


_UUID_TEXT = re.compile(
    r"(\{)?[0-9a-f]{8}(-?)(?:[0-9a-f]{4}\2){3}[0-9a-f]{12}(?(1)\})", re.ASCII | re.IGNORECASE
)


def _uuid(_: SqlType, refuse: _Refusal) -> Checker:
    def check_uuid(value: object) -> uuid.UUID | None:
        if type(value) is uuid.UUID or value is None:
            return value
        if isinstance(value, uuid.UUID):
            return uuid.UUID(int=value.int)
        if not isinstance(value, str):
            raise refuse.kind(value, "use uuid.UUID(bytes=...)" if type(value) is bytes else "")
        text = value.strip()
        if not _UUID_TEXT.fullmatch(text):
            raise refuse.data(value, "not 32 hexadecimal digits, with or without hyphens")
        return uuid.UUID(text)

    return check_uuid


_JSON_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def _json(_: SqlType, refuse: _Refusal) -> Checker:
    def check_json(value: object) -> str | None:
        if value is None:
            return None
        if isinstance(value, dict | list):
            try:
                text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            except (TypeError, ValueError) as error:
                raise refuse.data(value, str(error)) from None
            except RecursionError:
                raise refuse.data(value, f"nested deeper than {MAX_JSON_DEPTH}") from None
        elif isinstance(value, str):
            text = str.__str__(value)
        else:
            raise refuse.kind(value, "pass JSON text, a dict or a list")
        if not text.isascii():
            _encodable(text, refuse)
        if text.count("[") + text.count("{") > MAX_JSON_DEPTH and _depth(text) > MAX_JSON_DEPTH:
            raise refuse.data(value, f"nested deeper than {MAX_JSON_DEPTH}")
        try:
            _json_decoder.decode(text)
        except ValueError as error:
            raise refuse.data(value, str(error)) from None
        return text

    return check_json


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _depth(text: str) -> int:
    """How deep the brackets of a JSON text go, strings left out."""
    deepest = depth = 0
    for match in _JSON_BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in "]}":
            depth -= 1
    return deepest


# Numbers stay as they are written: their size is the reader's affair.
_json_decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_constant)

_CHECKERS: dict[str, Callable[[SqlType, _Refusal], Checker]] = {
    "BOOLEAN": _boolean,
    "SMALLINT": _integer,
    "INTEGER": _integer,
    "BIGINT": _integer,
    "COUNTER": _integer,
    "REAL": _real,
    "DOUBLE": _double,
    "DECIMAL": _decimal,
    "TEXT": _text,
    "VARCHAR": _text,
    "BLOB": _blob,
    "DATE": _date,
    "TIME": _time,
    "TIMESTAMP": _timestamp,
    "TIMESTAMPTZ": _timestamptz,
    "INTERVAL": _interval,
    "UUID": _uuid,
    "JSON": _json,
}
