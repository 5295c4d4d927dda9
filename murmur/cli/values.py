"""Values as text: for people and CSV as CAST(x AS TEXT) writes them, for JSON as JSON has them.

    type            text and CSV                  JSON
    BOOLEAN         true                          true
    numbers         1.50                          1.50            all digits, as a JSON number
    NaN, Infinity   NaN                           "NaN"           JSON has no such numbers
    TEXT            as it is                      "..."
    BLOB            \\x0aff                        "\\\\x0aff"
    DATE            2024-01-31                    "2024-01-31"
    TIME            10:20:30.5                    "10:20:30.500000"
    TIMESTAMP       2024-01-31 10:20:30.5         "2024-01-31T10:20:30.500000"
    TIMESTAMPTZ     2024-01-31 10:20:30.5+00      "2024-01-31T10:20:30.500000+00:00"
    INTERVAL        1 mon 2 days 03:00:00         "1 mon 2 days 03:00:00"
    UUID            0190...                       "0190..."
    JSON            as it is                      the value itself, not a text of it

A DECIMAL in JSON keeps its digits; whether they survive is up to the reader (Python:
`json.loads(text, parse_float=Decimal)`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date, time
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from murmur.catalog import SqlType

Writer: TypeAlias = Callable[[Any], str]


def text_writer(sql_type: SqlType | None) -> Writer:
    """The function that writes values of a type, other than NULL, as text."""
    from murmur.catalog.types import TEXT
    from murmur.sql.casts import cast_value, caster

    if sql_type is None:
        return lambda value: str(cast_value(value, TEXT))
    return caster(sql_type, TEXT) or str


def json_writer(sql_type: SqlType | None) -> Writer:
    """The function that writes values of a type, other than NULL, as JSON."""
    if sql_type is None:
        return _untyped
    if sql_type.is_float:
        return _float(text_writer(sql_type))
    if sql_type.is_integer:
        return str
    if sql_type.name in ("BOOLEAN", "DECIMAL", "JSON"):
        return text_writer(sql_type)
    if sql_type.name in ("DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ"):
        return _moment
    if sql_type.is_text:
        return quoted
    text = text_writer(sql_type)
    return lambda value: quoted(text(value))


quoted: Writer = json.JSONEncoder(ensure_ascii=False).encode


def _float(text: Writer) -> Writer:
    return lambda value: text(value) if math.isfinite(value) else quoted(text(value))


def _moment(value: date | time) -> str:
    return f'"{value.isoformat()}"'


def _untyped(value: Any) -> str:
    from murmur.sql.casts import type_of_value

    return json_writer(type_of_value(value))(value)
