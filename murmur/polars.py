"""Tables as lazy frames of Polars, which read what a query needs and no more.

    notes = murmur.polars.scan(swarm, "note")
    notes.filter(pl.col("stars") > 3).select("body").collect()
      -> SELECT body, stars FROM note WHERE stars > ?      when it is collected

Each `collect` reads the newest state: of a swarm, or of the transaction of a connection. Polars
hands over the columns and the predicate; what of the predicate SQL says in the same words becomes a
WHERE, by which rows are left out early, and Polars' own predicate then has the last word on those
that are left. So both mean the same, however little could be translated:

    comparisons, is_in, is_between, is_null, starts_with, & | ~       over columns and constants
    anything else                                                     Polars alone

DuckDB reads such a frame too, and hands over its filters.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from murmur.catalog import SqlType, parse_type
from murmur.errors import InvalidInput

if TYPE_CHECKING:
    import polars

    from murmur.swarm.result import Result

BATCH_ROWS = 100_000
LISTED_VALUES = 1000  # of is_in, that are worth a statement's text

Node: TypeAlias = Any  # of Polars' expression in JSON


class Source(Protocol):
    """A murmur.Swarm or a murmur.Connection."""

    def sql(self, text: str, /) -> Result:
        """Run a statement."""
        ...


class Condition(NamedTuple):
    """What of a predicate SQL can say, and the parameters of it."""

    text: str
    parameters: tuple[Any, ...]


def scan(source: Any, table: str) -> polars.LazyFrame:
    """A table or view as a LazyFrame. Raises BindError when there is none of this name."""
    from polars.io.plugins import register_io_source

    if not isinstance(table, str):
        raise InvalidInput(f"a table is named by text, not by {type(table).__name__}")
    empty = source.sql(f"SELECT * FROM {_quoted(table)} LIMIT 0")
    types = {
        name: None if kind is None else parse_type(kind)
        for name, kind in zip(empty.columns, empty.types, strict=True)
    }

    def read(
        with_columns: list[str] | None,
        predicate: polars.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[polars.DataFrame]:
        wanted = list(types) if with_columns is None else with_columns
        needed = wanted if predicate is None else [*wanted, *predicate.meta.root_names()]
        text = _select(table, list(dict.fromkeys(needed)) or list(types)[:1])
        condition = None if predicate is None else translate(predicate, types)
        parameters: tuple[Any, ...] = ()
        if condition is not None:
            text += f" WHERE {condition.text}"
            parameters = condition.parameters
        if n_rows is not None and predicate is None:
            text += f" LIMIT {n_rows}"
        frame = source.sql(text, parameters).pl()
        if predicate is not None:
            frame = frame.filter(predicate)
        frame = frame if n_rows is None else frame.head(n_rows)
        yield from frame.select(wanted).iter_slices(batch_size or BATCH_ROWS)

    return register_io_source(read, schema=empty.pl().schema)


def _select(table: str, columns: Sequence[str]) -> str:
    return f"SELECT {', '.join(map(_quoted, columns))} FROM {_quoted(table)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# Predicates ------------------------------------------------------------


class _Untranslatable(Exception):
    """SQL does not say it, or not certainly the same."""


def translate(predicate: polars.Expr, types: dict[str, SqlType | None]) -> Condition | None:
    """What a row fulfils whenever it fulfils the predicate; None if nothing can be said."""
    try:
        node = json.loads(predicate.meta.serialize(format="json"))
    except Exception:
        return None
    parts = []
    for conjunct in _conjuncts(node):
        parameters: list[Any] = []
        try:
            parts.append((_condition(conjunct, types, parameters), parameters))
        except _Untranslatable:
            continue
    if not parts:
        return None
    text = " AND ".join(text for text, _ in parts)
    return Condition(text, tuple(value for _, values in parts for value in values))


def _conjuncts(node: Node) -> Iterator[Node]:
    match node:
        case {"BinaryExpr": {"left": left, "op": "And" | "LogicalAnd", "right": right}}:
            yield from _conjuncts(left)
            yield from _conjuncts(right)
        case _:
            yield node


def _condition(node: Node, types: dict[str, SqlType | None], parameters: list[Any]) -> str:
    match node:
        case {"BinaryExpr": {"left": left, "op": op, "right": right}} if op in _JUNCTIONS:
            sides = [_condition(each, types, parameters) for each in (left, right)]
            return f"({_JUNCTIONS[op].join(sides)})"
        case {"BinaryExpr": {"left": {"Column": name}, "op": op, "right": right}}:
            return _comparison(name, op, right, types, parameters)
        case {"BinaryExpr": {"left": left, "op": op, "right": {"Column": name}}} if op in _TURNED:
            return _comparison(name, _TURNED[op], left, types, parameters)
        case {"Function": {"input": [inner], "function": {"Boolean": "Not"}}}:
            return f"(NOT {_condition(inner, types, parameters)})"
        case {"Function": {"input": [{"Column": name}], "function": {"Boolean": "IsNull"}}}:
            return f"{_column(name, types)} IS NULL"
        case {"Function": {"input": [{"Column": name}], "function": {"Boolean": "IsNotNull"}}}:
            return f"{_column(name, types)} IS NOT NULL"
        case {
            "Function": {
                "input": [{"Column": name}, low, high],
                "function": {"Boolean": {"IsBetween": {"closed": closed}}},
            }
        } if closed in _CLOSED:
            sides = [
                _comparison(name, op, bound, types, parameters)
                for op, bound in zip(_CLOSED[closed], (low, high), strict=True)
            ]
            return f"({' AND '.join(sides)})"
        case {
            "Function": {
                "input": [{"Column": name}, {"Literal": _} as listed],
                "function": {"Boolean": {"IsIn": {"nulls_equal": False}}},
            }
        }:
            return _is_in(name, _literal(listed), types, parameters)
        case {
            "Function": {
                "input": [{"Column": name}, {"Literal": _} as start],
                "function": {"StringExpr": "StartsWith"},
            }
        }:
            return f"starts_with({_column(name, types)}, {_value(start, name, types, parameters)})"
    raise _Untranslatable


_JUNCTIONS = {"And": " AND ", "LogicalAnd": " AND ", "Or": " OR ", "LogicalOr": " OR "}
_OPERATORS = {"Eq": "=", "NotEq": "<>", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
_TURNED = {"Eq": "Eq", "NotEq": "NotEq", "Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq"}
_CLOSED = {
    "Both": ("GtEq", "LtEq"),
    "Left": ("GtEq", "Lt"),
    "Right": ("Gt", "LtEq"),
    "None": ("Gt", "Lt"),
}


def _comparison(
    name: str, op: str, other: Node, types: dict[str, SqlType | None], parameters: list[Any]
) -> str:
    if op not in _OPERATORS:
        raise _Untranslatable
    return f"{_column(name, types)} {_OPERATORS[op]} {_value(other, name, types, parameters)}"


def _is_in(name: str, values: Any, types: dict[str, SqlType | None], parameters: list[Any]) -> str:
    if not isinstance(values, list) or not 0 < len(values) <= LISTED_VALUES:
        raise _Untranslatable
    kind = types[name]
    parameters += [_checked(value, kind) for value in values]
    return f"{_column(name, types)} IN ({', '.join('?' * len(values))})"


def _column(name: str, types: dict[str, SqlType | None]) -> str:
    if name not in types:
        raise _Untranslatable
    return _quoted(name)


def _value(node: Node, name: str, types: dict[str, SqlType | None], parameters: list[Any]) -> str:
    """A constant beside a column, as a parameter."""
    if "Literal" not in node:
        raise _Untranslatable
    parameters.append(_checked(_literal(node), types.get(name)))
    return "?"


def _literal(node: Node) -> Any:
    """The Python value of a constant; Polars reads its own notation."""
    import polars

    try:
        constant = polars.Expr.deserialize(io.BytesIO(json.dumps(node).encode()), format="json")
    except polars.exceptions.ComputeError:
        raise _Untranslatable from None  # JSON has no NaN
    found = polars.select(constant).to_series()
    if found.len() != 1:
        return found.to_list()
    value = found.item()
    return value.to_list() if isinstance(value, polars.Series) else value


def _checked(value: Any, kind: SqlType | None) -> Any:
    """The value, if comparing it with a column of this type means the same to both sides."""
    convert = None if kind is None else _CONSTANTS.get((type(value), kind.name))
    if convert is None:
        raise _Untranslatable
    return convert(value)


def _same(value: Any) -> Any:
    return value


def _as_float(value: Any) -> float:
    if math.isnan(value) or (int(value) == value and abs(value) > 2**53):
        raise _Untranslatable
    return float(value)


def _is_zoned(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise _Untranslatable
    return value


def _is_plain(value: datetime) -> datetime:
    if value.tzinfo is not None:
        raise _Untranslatable
    return value


_CONSTANTS: dict[tuple[type, str], Callable[[Any], Any]] = {
    **{(int, name): _same for name in ("SMALLINT", "INTEGER", "BIGINT", "COUNTER")},
    (int, "DOUBLE"): _as_float,
    (float, "DOUBLE"): _as_float,
    (Decimal, "DECIMAL"): _same,
    (bool, "BOOLEAN"): _same,
    (str, "TEXT"): _same,
    (str, "VARCHAR"): _same,
    (bytes, "BLOB"): _same,
    (date, "DATE"): _same,
    (time, "TIME"): _same,
    (datetime, "TIMESTAMP"): _is_plain,
    (datetime, "TIMESTAMPTZ"): _is_zoned,
}
