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
import struct
import uuid
from collections.abc import Callable
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache

from murmur.catalog.atoms import Atom, decoder, encoder, from_atom, to_atom, without_zeros
from murmur.catalog.refusal import Checker, Refusal, show, unwrap
from murmur.catalog.times import (
    date_checker,
    interval_checker,
    time_checker,
    timestamp_checker,
    timestamptz_checker,
)
from murmur.catalog.types import SqlType, Value, decimal_bounds, integer_bounds
from murmur.errors import DataError, InternalError

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

MAX_JSON_DEPTH = 128


def check(value: object, sql_type: SqlType, *, where: str) -> Value:
    """The value as this type has it, or a TypeMismatch or DataError that begins with `where`."""
    checked: Value = checker(sql_type, where)(value)
    return checked


@lru_cache(maxsize=4096)
def checker(sql_type: SqlType, where: str, *, key: bool = False) -> Checker:
    """`check` compiled for one column; a column of a primary key refuses NaN, too."""
    refuse = Refusal(sql_type, where)
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


# Checkers. Each one lets the exact Python type through at once and leaves the rest to `slow`.


def _boolean(_: SqlType, refuse: Refusal) -> Checker:
    def check_boolean(value: object) -> bool | None:
        if value is True or value is False or value is None:
            return value
        plain = unwrap(value)
        if isinstance(plain, bool):
            return plain
        raise refuse.kind(value)

    return check_boolean


def _integer(sql_type: SqlType, refuse: Refusal) -> Checker:
    low, high = integer_bounds(sql_type)

    def check_integer(value: object) -> int | None:
        if type(value) is int and low <= value <= high:
            return value
        return None if value is None else slow(value)

    def slow(value: object) -> int:
        plain = unwrap(value)
        if not isinstance(plain, int) or isinstance(plain, bool):
            raise refuse.kind(value)
        plain = int(plain)
        if not low <= plain <= high:
            raise refuse.data(value, f"outside of {low} .. {high}")
        return plain

    return check_integer


def _double(_: SqlType, refuse: Refusal) -> Checker:
    def check_double(value: object) -> float | None:
        if type(value) is float:
            return value
        return None if value is None else _as_float(value, refuse)

    return check_double


def _real(_: SqlType, refuse: Refusal) -> Checker:
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
        if rounded != wide and isinstance(unwrap(value), int):
            raise refuse.data(value, "no 32-bit float is exactly this integer")
        return rounded

    return check_real


def _as_float(value: object, refuse: Refusal) -> float:
    plain = unwrap(value)
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


def _decimal(sql_type: SqlType, refuse: Refusal) -> Checker:
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
        plain = unwrap(value)
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


def _text(sql_type: SqlType, refuse: Refusal) -> Checker:
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


def _encodable(text: str, refuse: Refusal) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise refuse.data(text, f"lone surrogate at character {error.start}") from None


def _blob(_: SqlType, refuse: Refusal) -> Checker:
    def check_blob(value: object) -> bytes | None:
        if type(value) is bytes or value is None:
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise refuse.kind(value, "encode the text" if isinstance(value, str) else "")

    return check_blob


_UUID_TEXT = re.compile(
    r"(\{)?[0-9a-f]{8}(-?)(?:[0-9a-f]{4}\2){3}[0-9a-f]{12}(?(1)\})", re.ASCII | re.IGNORECASE
)


def _uuid(_: SqlType, refuse: Refusal) -> Checker:
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


def _json(_: SqlType, refuse: Refusal) -> Checker:
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

_CHECKERS: dict[str, Callable[[SqlType, Refusal], Checker]] = {
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
    "DATE": date_checker,
    "TIME": time_checker,
    "TIMESTAMP": timestamp_checker,
    "TIMESTAMPTZ": timestamptz_checker,
    "INTERVAL": interval_checker,
    "UUID": _uuid,
    "JSON": _json,
}
