"""Functions of the row engine that the columnar engine borrows, so that both give one answer.

    to_char(x, 'FM999')  ->  murmur_to_char(x, 'FM999')
                         ->  murmur_py_to_char(CAST(x AS VARCHAR), typeof(x), 'FM999')   in Python

A macro casts the arguments to what the Python function takes; where the type of an argument
decides, the value goes over as text beside the name of its type. The engine is handed FUNCTIONS and
MACROS when it is made: it knows nothing of this floor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from inspect import Parameter, Signature
from typing import Any, NamedTuple

from murmur.catalog.interval import format_interval, parse_interval
from murmur.catalog.types import BIGINT, BLOB, BOOLEAN, DOUBLE, INTERVAL, JSON, TEXT, SqlType
from murmur.errors import DataError, TypeMismatch
from murmur.sql import functions_formats, functions_json
from murmur.sql.date_formats import (
    char_to_date,
    char_to_moment,
    moment_to_char,
    since_midnight,
    span_to_char,
)
from murmur.sql.functions import extract_function, resolve, truncate_function
from murmur.sql.functions_json import json_of
from murmur.sql.number_formats import char_to_number, number_to_char

_IMPORTED = (functions_formats, functions_json)  # they register what is borrowed


class Borrowed(NamedTuple):
    """One function: its types by DuckDB's names; without `parameters` it takes any number."""

    name: str
    call: Callable[..., Any]
    parameters: Sequence[str] | None
    result: str


def _to_char(text: str, kind: str, pattern: str) -> str:
    value = read_value(text, kind)
    if isinstance(value, date):
        return moment_to_char(value, pattern)
    if isinstance(value, Decimal):
        return number_to_char(value, pattern)
    if isinstance(value, timedelta):
        return span_to_char(value, pattern)
    if isinstance(value, time):
        return span_to_char(since_midnight(value), pattern)
    raise TypeMismatch(f"to_char() takes no {kind}")


def read_value(text: str, kind: str) -> Any:
    """A value of which the engine has given the text and the name of the type."""
    if kind == "DATE":
        return date.fromisoformat(text)
    if kind.startswith("TIMESTAMP"):
        return datetime.fromisoformat(re.sub(r"([+-]\d\d)$", r"\1:00", text))
    if kind == "INTERVAL":
        return parse_interval(text)
    if kind == "TIME":
        return time.fromisoformat(text)
    if kind == "BOOLEAN":
        return text == "true"
    try:
        return Decimal(text) if _NUMERIC.match(kind) else text
    except InvalidOperation:
        raise DataError(f'"{text}" is no number') from None


_NUMERIC = re.compile("DECIMAL|DOUBLE|FLOAT|U?(TINY|SMALL|BIG|HUGE)?INT|INTEGER|UINTEGER")


def _to_json(text: str, kind: str) -> str:
    """A value that is not nested as JSON, as to_jsonb of the row engine writes it."""
    return text if kind == "JSON" else json_of(read_value(text, kind), text)


def _span_text(text: str) -> str:
    """An INTERVAL as PostgreSQL writes it; the engine writes a negative one as days and a time."""
    return format_interval(parse_interval(text))


def _span_field(text: str, field: str) -> str:
    extract = extract_function(field, INTERVAL)
    return str(extract.call(parse_interval(text)))


def _span_trunc(text: str, unit: str) -> str:
    truncate = truncate_function(unit, INTERVAL)
    return format_interval(truncate.call(parse_interval(text)))


def _delete(text: str, what: str, kind: str) -> str:
    by_index = kind.endswith(("INT", "INTEGER"))
    function = resolve("jsonb_delete", (JSON, BIGINT if by_index else TEXT))
    changed: str = function.call(text, int(what) if by_index else what)
    return changed


def _borrowed(
    name: str, call: Callable[..., Any], parameters: Sequence[str] | None, result: str
) -> Borrowed:
    """A function that is NULL where an argument is."""

    def strict(*arguments: Any) -> Any:
        return None if None in arguments else call(*arguments)

    if parameters is not None:  # the engine compares how many there are
        names = [Parameter(f"a{i}", Parameter.POSITIONAL_ONLY) for i in range(len(parameters))]
        strict.__signature__ = Signature(names)  # type: ignore[attr-defined]
    return Borrowed(f"murmur_py_{name}", strict, parameters, result)


def _variadic(name: str, call: Callable[..., Any]) -> Borrowed:
    """A function of any number of texts, some of which may be NULL."""
    return Borrowed(f"murmur_py_{name}", lambda *texts: call(*texts), None, "VARCHAR")


def _plain(name: str, types: Sequence[SqlType]) -> Borrowed:
    """A function of the registry whose argument types are these."""
    function = resolve(name, types)
    parameters = [_NAMES[each.name] for each in types]
    return _borrowed(name, function.call, parameters, _NAMES[function.result.name])


_NAMES = {
    "TEXT": "VARCHAR",
    "JSON": "VARCHAR",
    "BIGINT": "BIGINT",
    "INTEGER": "INTEGER",
    "BOOLEAN": "BOOLEAN",
    "BLOB": "BLOB",
    "REAL": "FLOAT",
    "DOUBLE": "DOUBLE",
}

FUNCTIONS: Sequence[Borrowed] = (
    _borrowed("to_char", _to_char, ["VARCHAR"] * 3, "VARCHAR"),
    _borrowed(
        "to_number",
        lambda text, pattern: str(char_to_number(text, pattern)),
        ["VARCHAR"] * 2,
        "VARCHAR",
    ),
    _borrowed("to_date", char_to_date, ["VARCHAR"] * 2, "DATE"),
    _borrowed(
        "to_timestamp",
        lambda text, pattern: char_to_moment(text, pattern).replace(tzinfo=None),
        ["VARCHAR"] * 2,
        "TIMESTAMP",
    ),
    _borrowed("to_json", _to_json, ["VARCHAR"] * 2, "VARCHAR"),
    _borrowed("span_text", _span_text, ["VARCHAR"], "VARCHAR"),
    _borrowed("span_field", _span_field, ["VARCHAR"] * 2, "VARCHAR"),
    _borrowed("span_trunc", _span_trunc, ["VARCHAR"] * 2, "VARCHAR"),
    _borrowed("jsonb_delete", _delete, ["VARCHAR"] * 3, "VARCHAR"),
    _borrowed(
        "extract_path",
        resolve("jsonb_extract_path", (JSON, TEXT)).call,
        None,
        "VARCHAR",
    ),
    _borrowed(
        "extract_path_text",
        resolve("jsonb_extract_path_text", (JSON, TEXT)).call,
        None,
        "VARCHAR",
    ),
    _variadic("format", functions_formats.format_text),
    _variadic("json_object", functions_json.OBJECT.call),
    _variadic("json_array", functions_json.ARRAY.call),
    _plain("cbrt", (DOUBLE,)),
    _plain("initcap", (TEXT,)),
    _plain("similarity", (TEXT, TEXT)),
    _plain("convert_from", (BLOB, TEXT)),
    _plain("convert_to", (TEXT, TEXT)),
    _plain("sha224", (BLOB,)),
    _plain("sha384", (BLOB,)),
    _plain("sha512", (BLOB,)),
    _plain("unistr", (TEXT,)),
    _plain("normalize", (TEXT, TEXT)),
    _plain("json_path_get", (JSON, TEXT)),
    _plain("json_path_get_text", (JSON, TEXT)),
    _plain("jsonb_contains", (JSON, JSON)),
    _plain("jsonb_exists", (JSON, TEXT)),
    _plain("jsonb_concat", (JSON, JSON)),
    _plain("jsonb_delete_path", (JSON, TEXT)),
    _plain("jsonb_set", (JSON, TEXT, JSON, BOOLEAN)),
    _plain("jsonb_insert", (JSON, TEXT, JSON, BOOLEAN)),
    _plain("jsonb_pretty", (JSON,)),
    _plain("jsonb_strip_nulls", (JSON,)),
)

MACROS: Sequence[str] = (
    "murmur_to_char(x, f) AS murmur_py_to_char(CAST(x AS VARCHAR), typeof(x), f)",
    "murmur_span_text(x) AS murmur_py_span_text(CAST(x AS VARCHAR))",
    "murmur_span_field(x, f) AS murmur_py_span_field(CAST(x AS VARCHAR), f)",
    "murmur_span_trunc(x, u) AS CAST(murmur_py_span_trunc(CAST(x AS VARCHAR), u) AS INTERVAL)",
    "murmur_to_number(x, f) AS CAST(murmur_py_to_number(x, f) AS DECIMAL(38,10))",
    "murmur_to_date(x, f) AS murmur_py_to_date(x, f)",
    """murmur_to_timestamp(x) AS to_timestamp(x),
        (x, f) AS CAST(murmur_py_to_timestamp(x, f) AS TIMESTAMPTZ)""",
    """murmur_to_json(x) AS CASE
        WHEN typeof(x) LIKE 'STRUCT%' OR typeof(x) LIKE '%[]' OR typeof(x) LIKE 'MAP%'
            THEN to_json(x)
        ELSE CAST(murmur_py_to_json(CAST(x AS VARCHAR), typeof(x)) AS JSON) END""",
    "murmur_cbrt(x) AS murmur_py_cbrt(CAST(x AS DOUBLE))",
    "murmur_similarity(x, y) AS murmur_py_similarity(x, y)",
    f"murmur_similar_op(x, y) AS murmur_py_similarity(x, y) >= {functions_formats.SIMILAR}::FLOAT",
    "murmur_convert_from(x, e) AS murmur_py_convert_from(x, e)",
    "murmur_convert_to(x, e) AS murmur_py_convert_to(x, e)",
    "murmur_sha224(x) AS murmur_py_sha224(x)",
    "murmur_sha384(x) AS murmur_py_sha384(x)",
    "murmur_sha512(x) AS murmur_py_sha512(x)",
    "murmur_unistr(x) AS murmur_py_unistr(x)",
    "murmur_normalize(x) AS murmur_py_normalize(x, 'NFC'), (x, f) AS murmur_py_normalize(x, f)",
    "murmur_json_path_get(x, p) AS CAST(murmur_py_json_path_get(x, p) AS JSON)",
    "murmur_json_path_get_text(x, p) AS murmur_py_json_path_get_text(x, p)",
    "murmur_jsonb_contains(x, y) AS murmur_py_jsonb_contains(x, y)",
    "murmur_jsonb_contained(x, y) AS murmur_py_jsonb_contains(y, x)",
    "murmur_jsonb_exists(x, y) AS murmur_py_jsonb_exists(x, y)",
    "murmur_jsonb_concat(x, y) AS CAST(murmur_py_jsonb_concat(x, y) AS JSON)",
    """murmur_jsonb_delete(x, y) AS
        CAST(murmur_py_jsonb_delete(x, CAST(y AS VARCHAR), typeof(y)) AS JSON)""",
    "murmur_jsonb_delete_path(x, p) AS CAST(murmur_py_jsonb_delete_path(x, p) AS JSON)",
    """murmur_jsonb_set(x, p, y) AS CAST(murmur_py_jsonb_set(x, p, y, true) AS JSON),
        (x, p, y, c) AS CAST(murmur_py_jsonb_set(x, p, y, c) AS JSON)""",
    """murmur_jsonb_insert(x, p, y) AS CAST(murmur_py_jsonb_insert(x, p, y, false) AS JSON),
        (x, p, y, c) AS CAST(murmur_py_jsonb_insert(x, p, y, c) AS JSON)""",
    "murmur_jsonb_pretty(x) AS murmur_py_jsonb_pretty(x)",
    "murmur_jsonb_strip_nulls(x) AS CAST(murmur_py_jsonb_strip_nulls(x) AS JSON)",
)

_CALLED = """
    to_char to_number to_date to_timestamp similarity unistr normalize jsonb_exists jsonb_set
    jsonb_insert jsonb_pretty jsonb_strip_nulls convert_from convert_to sha224 sha384 sha512
"""
# What a statement calls each of them, and what the engine does.
CALLED = {
    **{name: f"murmur_{name}" for name in _CALLED.split()},
    "json_strip_nulls": "murmur_jsonb_strip_nulls",
    "to_json": "murmur_to_json",
    "to_jsonb": "murmur_to_json",
    "row_to_json": "to_json",
    **{f"{prefix}_extract_path": "murmur_py_extract_path" for prefix in ("json", "jsonb")},
    **{
        f"{prefix}_extract_path_text": "murmur_py_extract_path_text" for prefix in ("json", "jsonb")
    },
}
