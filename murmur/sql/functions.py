"""The scalar functions of the row engine, and which of one name fits the arguments.

    resolve("lower", (TEXT,))           ->  lower(TEXT) -> TEXT
    resolve("abs", (SMALLINT,))         ->  abs(SMALLINT) -> SMALLINT
    resolve("round", (INTEGER,))        ->  round(DOUBLE) -> DOUBLE      as in PostgreSQL
    resolve("lower", (INTEGER,))        ->  TypeMismatch
    resolve("no_such_function", ())     ->  NeedsColumnar: DuckDB may know it

Of several that fit, the one wins that takes most arguments as they are, then the one that takes
most of the rest as DOUBLE, TEXT or TIMESTAMPTZ, which PostgreSQL prefers, then the first. A strict
function is NULL when an argument is. `stability` says what its value depends on besides the
arguments: nothing (immutable), the statement (stable), chance (volatile).
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from murmur.catalog.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    INTEGER,
    INTERVAL,
    JSON,
    REAL,
    SMALLINT,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    SqlType,
    integer_bounds,
)
from murmur.errors import DataError, TypeMismatch
from murmur.sql import json_values, numbers, temporal, texts
from murmur.sql.expressions import Context, Function, NeedsColumnar
from murmur.sql.numbers import out_of_range
from murmur.sql.operators import is_implied, plain

_PREFERRED = (DOUBLE, TEXT, TIMESTAMPTZ)


def resolve(name: str, arguments: Sequence[SqlType | None]) -> Function:
    """The function of this name that fits arguments of these types; None is an untyped one."""
    overloads = FUNCTIONS.get(name)
    if overloads is None:
        raise NeedsColumnar(f"function {name}")
    best: Function | None = None
    best_score = (-1, -1)
    for function in overloads:
        if function.takes(len(arguments)):
            score = _score(function, arguments)
            if score is not None and score > best_score:
                best, best_score = function, score
    if best is None:
        types = ", ".join("unknown" if t is None else str(t) for t in arguments)
        raise TypeMismatch(f"there is no function {name}({types})")
    return best


def _score(function: Function, arguments: Sequence[SqlType | None]) -> tuple[int, int] | None:
    exact = preferred = 0
    for position, given in enumerate(arguments):
        wanted = function.parameter(position)
        if given is not None:
            if not is_implied(plain(given), wanted):
                return None
            exact += plain(given) == wanted
        preferred += wanted in _PREFERRED
    return exact, preferred


FUNCTIONS: dict[str, list[Function]] = {}


def define(
    names: str,
    parameters: Sequence[SqlType],
    result: SqlType,
    call: Callable[..., Any],
    **options: Any,
) -> None:
    """One function under all of these names."""
    for name in names.split():
        function = Function(name, tuple(parameters), result, call, **options)
        FUNCTIONS.setdefault(name, []).append(function)


# Text --------------------------------------------------------------------------------------------

define("lower", [TEXT], TEXT, str.lower)
define("upper", [TEXT], TEXT, str.upper)
define("initcap", [TEXT], TEXT, texts.initcap)
define("length char_length character_length", [TEXT], INTEGER, len)
define("length octet_length", [BLOB], INTEGER, len)
define("octet_length", [TEXT], INTEGER, texts.octet_length)
define("bit_length", [TEXT], INTEGER, lambda text: 8 * texts.octet_length(text))
define("bit_length", [BLOB], INTEGER, lambda blob: 8 * len(blob))
for _type in (TEXT, BLOB):
    define("substr substring", [_type, BIGINT], _type, texts.substring)
    define("substr substring", [_type, BIGINT, BIGINT], _type, texts.substring)
define("strpos position", [TEXT, TEXT], INTEGER, lambda text, part: text.find(part) + 1)
define("trim btrim", [TEXT], TEXT, lambda text: text.strip(" "))
define("ltrim", [TEXT], TEXT, lambda text: text.lstrip(" "))
define("rtrim", [TEXT], TEXT, lambda text: text.rstrip(" "))
define("trim btrim", [TEXT, TEXT], TEXT, str.strip)
define("ltrim", [TEXT, TEXT], TEXT, str.lstrip)
define("rtrim", [TEXT, TEXT], TEXT, str.rstrip)
define("replace", [TEXT, TEXT, TEXT], TEXT, texts.replace)
define("translate", [TEXT, TEXT, TEXT], TEXT, texts.translate)
define("left", [TEXT, BIGINT], TEXT, texts.left)
define("right", [TEXT, BIGINT], TEXT, texts.right)
define("lpad", [TEXT, BIGINT], TEXT, texts.pad_left)
define("lpad", [TEXT, BIGINT, TEXT], TEXT, texts.pad_left)
define("rpad", [TEXT, BIGINT], TEXT, texts.pad_right)
define("rpad", [TEXT, BIGINT, TEXT], TEXT, texts.pad_right)
define("repeat", [TEXT, BIGINT], TEXT, texts.repeat)
define("reverse", [TEXT], TEXT, lambda text: text[::-1])
define("split_part", [TEXT, TEXT, BIGINT], TEXT, texts.split_part)
for _size in ("sha224", "sha256", "sha384", "sha512"):
    define(_size, [BLOB], BLOB, texts.digest(_size))
define("starts_with", [TEXT, TEXT], BOOLEAN, str.startswith)
define("chr", [BIGINT], TEXT, texts.character)
define("ascii", [TEXT], INTEGER, lambda text: ord(text[0]) if text else 0)
define("md5", [TEXT], TEXT, lambda text: texts.md5(text.encode()))
define("md5", [BLOB], TEXT, texts.md5)
define("encode", [BLOB, TEXT], TEXT, texts.encode)
define("decode", [TEXT, TEXT], BLOB, texts.decode)
define("to_hex", [INTEGER], TEXT, lambda number: f"{number & 0xFFFFFFFF:x}")
define("to_hex", [BIGINT], TEXT, lambda number: f"{number & 0xFFFFFFFFFFFFFFFF:x}")
# The binder casts what these two take to text, so that here a value is text or NULL.
define("concat", [TEXT], TEXT, texts.concat, strict=False, variadic=True)
define("concat_ws", [TEXT, TEXT], TEXT, texts.concat_ws, strict=False, variadic=True)


# Numbers -----------------------------------------------------------------------------------------


def _abs_within(sql_type: SqlType) -> Callable[[int], int]:
    _, high = integer_bounds(sql_type)

    def absolute(value: int) -> int:
        return abs(value) if abs(value) <= high else out_of_range(sql_type)

    return absolute


def _finite(function: Callable[[float], float]) -> Callable[[float], float]:
    """A function of math whose errors are ours."""

    def call(value: float) -> float:
        try:
            return function(value)
        except OverflowError:
            out_of_range("DOUBLE")
        except ValueError:
            raise DataError("input is out of range") from None

    return call


def _whole(function: Callable[[float], int]) -> Callable[[float], float]:
    """ceil and floor of a float that may be infinite; the sign of zero stays."""
    return lambda value: math.copysign(function(value), value) if value - value == 0.0 else value


def _sqrt(value: float) -> float:
    if value < 0.0:
        raise DataError("the square root of a negative number is not a real number")
    return math.sqrt(value)


def _logarithm(function: Callable[[float], float]) -> Callable[[float], float]:
    def call(value: float) -> float:
        if value <= 0.0:
            raise DataError("a logarithm needs a number above zero")
        return function(value)

    return call


def _sign(value: float) -> float:
    return value if value != value else float((value > 0) - (value < 0))


def _least_common_multiple(left: int, right: int) -> int:
    result = math.lcm(left, right)
    return result if result < 2**63 else out_of_range("BIGINT")


for _type in (SMALLINT, INTEGER, BIGINT):
    define("abs", [_type], _type, _abs_within(_type))
define("abs", [DECIMAL], DECIMAL, lambda value: value.copy_abs())
define("abs", [REAL], REAL, abs)
define("abs", [DOUBLE], DOUBLE, abs)
define("ceil ceiling", [DECIMAL], DECIMAL, numbers.ceil_decimal)
define("ceil ceiling", [DOUBLE], DOUBLE, _whole(math.ceil))
define("floor", [DECIMAL], DECIMAL, numbers.floor_decimal)
define("floor", [DOUBLE], DOUBLE, _whole(math.floor))
define("round", [DECIMAL], DECIMAL, lambda value: numbers.round_decimal_to(value, 0))
define("round", [DOUBLE], DOUBLE, _whole(round))
define("round", [DECIMAL, BIGINT], DECIMAL, numbers.round_decimal_to)
define("round", [DOUBLE, BIGINT], DOUBLE, numbers.round_float)
define("trunc", [DECIMAL], DECIMAL, numbers.truncate_decimal)
define("trunc", [DOUBLE], DOUBLE, _whole(math.trunc))
define("trunc", [DECIMAL, BIGINT], DECIMAL, numbers.truncate_decimal)
define("sign", [DECIMAL], DECIMAL, lambda value: Decimal((value > 0) - (value < 0)))
define("sign", [DOUBLE], DOUBLE, _sign)
define("div", [DECIMAL, DECIMAL], DECIMAL, numbers.whole_quotient)
define("power pow", [DECIMAL, DECIMAL], DECIMAL, numbers.power_decimals)
define("power pow", [DOUBLE, DOUBLE], DOUBLE, numbers.power_floats)
define("sqrt", [DECIMAL], DECIMAL, numbers.sqrt_decimal)
define("sqrt", [DOUBLE], DOUBLE, _sqrt)
define("cbrt", [DOUBLE], DOUBLE, numbers.cube_root)
define("exp", [DECIMAL], DECIMAL, numbers.exp_decimal)
define("exp", [DOUBLE], DOUBLE, _finite(math.exp))
define("ln", [DECIMAL], DECIMAL, numbers.ln_decimal)
define("ln", [DOUBLE], DOUBLE, _logarithm(math.log))
define("log log10", [DECIMAL], DECIMAL, lambda value: numbers.log_decimal(Decimal(10), value))
define("log log10", [DOUBLE], DOUBLE, _logarithm(math.log10))
define("log", [DECIMAL, DECIMAL], DECIMAL, numbers.log_decimal)
define("gcd", [BIGINT, BIGINT], BIGINT, math.gcd)
define("lcm", [BIGINT, BIGINT], BIGINT, _least_common_multiple)
define("pi", [], DOUBLE, lambda: math.pi)
for _function in (math.sin, math.cos, math.tan, math.asin, math.acos, math.atan):
    define(_function.__name__, [DOUBLE], DOUBLE, _finite(_function))
for _function in (math.sinh, math.cosh, math.tanh, math.degrees, math.radians):
    define(_function.__name__, [DOUBLE], DOUBLE, _finite(_function))
define("atan2", [DOUBLE, DOUBLE], DOUBLE, math.atan2)


# Dates and times ---------------------------------------------------------------------------------


def _make_date(year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except (ValueError, OverflowError):
        raise DataError(f"there is no date {year}-{month}-{day}") from None


def _make_timestamp(
    year: int, month: int, day: int, hour: int, minute: int, second: float
) -> datetime:
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        raise DataError(f"there is no time {hour}:{minute}:{second}")
    midnight = datetime.combine(_make_date(year, month, day), datetime.min.time())
    clock = timedelta(hours=hour, minutes=minute, microseconds=round(second * 1e6))
    return temporal.move(midnight, clock)


def _from_epoch(seconds: float) -> datetime:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=round(seconds * 1e6))
    except (OverflowError, ValueError):
        out_of_range("TIMESTAMPTZ")


_STATEMENT: dict[str, Any] = {"stability": "stable", "takes_context": True}
define(
    "now transaction_timestamp statement_timestamp current_timestamp",
    [],
    TIMESTAMPTZ,
    lambda context: context.now,
    **_STATEMENT,
)
define("current_date", [], DATE, lambda context: context.today, **_STATEMENT)
define(
    "localtimestamp", [], TIMESTAMP, lambda context: context.now.replace(tzinfo=None), **_STATEMENT
)
define("localtime", [], TIME, lambda context: context.now.time(), **_STATEMENT)
define("make_date", [BIGINT, BIGINT, BIGINT], DATE, _make_date)
define("make_timestamp", [BIGINT] * 5 + [DOUBLE], TIMESTAMP, _make_timestamp)
define("to_timestamp", [DOUBLE], TIMESTAMPTZ, _from_epoch)
define("timezone", [TEXT, TIMESTAMPTZ], TIMESTAMP, lambda z, m: temporal.at_zone(m, z))
define("timezone", [TEXT, TIMESTAMP], TIMESTAMPTZ, lambda z, m: temporal.from_zone(m, z))


def extract_function(field: str, source: SqlType) -> Function:
    """EXTRACT(field FROM ...) as a function of its one argument."""
    extract = temporal.extractor(temporal.field_name(field), source.name)
    if extract is None:
        raise TypeMismatch(f"{source} has no field {field.lower()}")
    return Function(f"extract_{temporal.field_name(field)}", (source,), DECIMAL, extract)


def truncate_function(unit: str, source: SqlType) -> Function:
    """date_trunc('unit', ...) as a function of its one argument; a DATE is taken as a TIMESTAMP."""
    target = TIMESTAMP if source == DATE else source
    unit = temporal.field_name(unit)
    if target not in (TIMESTAMP, TIMESTAMPTZ, INTERVAL):
        raise TypeMismatch(f"date_trunc takes a TIMESTAMP or an INTERVAL, not {source}")
    truncate: Callable[[Any], Any] | None = (
        temporal.span_truncator(unit) if target == INTERVAL else temporal.truncator(unit)
    )
    if truncate is None:
        raise TypeMismatch(f"date_trunc does not know the unit {unit} for {source}")
    return Function(f"date_trunc_{unit}", (target,), target, truncate)


# JSON, UUID, chance ------------------------------------------------------------------------------


def _uuid4(context: Context) -> uuid.UUID:
    return uuid.UUID(bytes=context.random_bytes(16), version=4)


def _random(context: Context) -> float:
    return (int.from_bytes(context.random_bytes(7)) >> 3) / (1 << 53)


_CHANCE: dict[str, Any] = {"stability": "volatile", "takes_context": True}
define("gen_random_uuid uuid uuidv4", [], UUID, _uuid4, **_CHANCE)
define("uuid7 uuidv7", [], UUID, lambda context: context.uuid7(), **_CHANCE)
define("random", [], DOUBLE, _random, **_CHANCE)
define("json_get", [JSON, TEXT], JSON, json_values.member)
define("json_get", [JSON, BIGINT], JSON, json_values.element)
define("json_get_text", [JSON, TEXT], TEXT, json_values.member_text)
define("json_get_text", [JSON, BIGINT], TEXT, json_values.element_text)
define("json_typeof jsonb_typeof", [JSON], TEXT, json_values.type_name)
define("json_array_length jsonb_array_length", [JSON], INTEGER, json_values.array_length)
