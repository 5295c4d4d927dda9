"""A scope with one column of every type, and the shortest way from SQL text to a value."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from murmur.catalog.types import SqlType, parse_type
from murmur.sql.binder_expressions import bind_expression
from murmur.sql.compile import compile_expression
from murmur.sql.expressions import Column, Context, Expr, Parameter
from murmur.sql.parameter_values import check_parameters
from murmur.sql.parser import parse

NOW_MS = 1_706_696_430_500  # 2024-01-31 10:20:30.5 UTC

COLUMNS: dict[str, tuple[str, Any]] = {
    "s": ("SMALLINT", 3),
    "i": ("INTEGER", 1),
    "b": ("BIGINT", 2),
    "r": ("REAL", 2.5),
    "d": ("DOUBLE", 1.5),
    "n": ("DECIMAL(10,2)", Decimal("1.50")),
    "t": ("TEXT", "abc"),
    "v": ("VARCHAR(5)", "ab"),
    "f": ("BOOLEAN", True),
    "x": ("BLOB", b"ab"),
    "dt": ("DATE", date(2024, 1, 31)),
    "tm": ("TIME", time(10, 20, 30, 500_000)),
    "ts": ("TIMESTAMP", datetime(2024, 1, 31, 10, 20, 30)),
    "tz": ("TIMESTAMPTZ", datetime(2024, 1, 31, 10, 20, 30, tzinfo=UTC)),
    "iv": ("INTERVAL", timedelta(days=1)),
    "u": ("UUID", uuid.UUID(int=5)),
    "j": ("JSON", '{"a": [1, 2.50, "x"], "b": null, "c": {"d": true}}'),
    "c": ("COUNTER", 7),
    "z": ("INTEGER", None),  # NULL
}
ROW = tuple(value for _, value in COLUMNS.values())


class TableScope:
    """One table, whose columns are the fields of the row."""

    def __init__(self, text: str, columns: Mapping[str, SqlType] | None = None) -> None:
        self.text = text
        self.types: dict[int, SqlType] = {}
        self._columns = columns or {name: parse_type(kind) for name, (kind, _) in COLUMNS.items()}

    def column(self, name: str, qualifier: str | None) -> Column | None:
        if name not in self._columns or qualifier not in (None, "tab"):
            return None
        return Column(list(self._columns).index(name), name, self._columns[name])

    def parameter(self, index: int) -> Parameter:
        return Parameter(index, self.types.get(index))

    def set_parameter_type(self, index: int, sql_type: SqlType) -> None:
        self.types[index] = sql_type


def bind(
    sql: str, *, scope: TableScope | None = None, columns: Mapping[str, SqlType] | None = None
) -> Expr:
    """The expression that the text means."""
    text = f"SELECT {sql}"
    scope = scope or TableScope(text, columns)
    scope.text = text
    return bind_expression(parse(text).tree.expressions[0], scope)


def context(parameters: Sequence[Any] = (), *, seed: int = 1) -> Context:
    """A statement's context in which time and chance are fixed."""
    return Context(parameters, now_ms=NOW_MS, random_bytes=random.Random(seed).randbytes)


def evaluate(sql: str, parameters: Sequence[Any] = (), *, row: Sequence[Any] = ROW) -> Any:
    """The value of the expression for a row."""
    scope = TableScope("")
    expr = bind(sql, scope=scope)
    types = [scope.types.get(index) for index in range(len(parameters))]
    return compile_expression(expr)(row, context(check_parameters(parameters, types)))
