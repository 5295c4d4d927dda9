"""CHECK constraints: from the text in the catalog to a function over a row.

    CHECK (price > 0 AND price >= cost)  ->  holds((id, price, cost)) -> True, False or None

The text's names are those of the columns when the constraint was made; the catalog keeps what they
stand for, so renaming a column does not touch the text. A CHECK reads one row and nothing else, no
clock and no chance: replicas that hold the same row must agree about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from murmur.catalog.constraints import RowCheck
from murmur.catalog.schema import Column as TableColumn
from murmur.catalog.schema import Table
from murmur.catalog.types import SqlType
from murmur.errors import BindError, Unsupported
from murmur.sql.binder_expressions import bind_condition
from murmur.sql.compile import compile_expression
from murmur.sql.expressions import Call, Column, Context, Expr, NeedsColumnar, Parameter, walk
from murmur.sql.parser import parse_expression

Holds = Callable[[tuple[Any, ...]], bool | None]


def checks_of(table: Table) -> Sequence[RowCheck]:
    """A table's CHECKs, compiled; they are kept with the table."""
    if not table.checks:
        return ()
    compiled: list[RowCheck] | None = table.compiled.get(checks_of)
    if compiled is None:
        compiled = []
        for check in table.checks:
            columns = {
                name: table.column_by_id(column_id)
                for name, column_id in zip(check.column_names, check.column_ids, strict=True)
            }
            compiled.append((check, compile_check(check.text, columns)))
        table.compiled[checks_of] = compiled
    return compiled


def compile_check(text: str, columns: Mapping[str, TableColumn]) -> Holds:
    """The function for a CHECK whose names stand for these columns."""
    fields = {
        name: Column(column.position, name, column.type, column.nullable)
        for name, column in columns.items()
    }
    value_of = compile_expression(bind_check(parse_expression(text), fields, text))
    context = Context()
    return lambda row: value_of(row, context)


def bind_check(node: Any, fields: Mapping[str, Column], text: str) -> Expr:
    """Bind the condition of a CHECK; errors point into `text`."""
    try:
        expr = bind_condition(node, _RowScope(fields, text), clause="CHECK")
    except NeedsColumnar as reason:
        raise Unsupported(f"{reason.reason} cannot stand in CHECK") from None
    for part in walk(expr):
        if isinstance(part, Call) and part.function.stability != "immutable":
            name = part.function.name
            raise Unsupported(f"CHECK cannot use {name}(): its value changes from call to call")
    return expr


class _RowScope:
    def __init__(self, fields: Mapping[str, Column], text: str) -> None:
        self._fields = fields
        self.text = text

    def column(self, name: str, qualifier: str | None) -> Column | None:
        """A column of the row, by its plain name."""
        if qualifier is not None:
            raise BindError("columns stand in CHECK without a table's name")
        return self._fields.get(name)

    def parameter(self, index: int) -> Parameter:
        """There is none."""
        raise BindError("a parameter cannot stand in CHECK")

    def set_parameter_type(self, index: int, sql_type: SqlType) -> None:
        """There is none."""
