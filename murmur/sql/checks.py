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
from murmur.sql.compile import compile_expression
from murmur.sql.expressions import Column, Context, Expr
from murmur.sql.parser import parse_expression
from murmur.sql.row_expressions import bind_row_condition

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
    fields = {name: Column(column.position, name, column.type) for name, column in columns.items()}
    value_of = compile_expression(bind_check(parse_expression(text), fields, text))
    context = Context()
    return lambda row: value_of(row, context)


def bind_check(node: Any, fields: Mapping[str, Column], text: str) -> Expr:
    """Bind the condition of a CHECK; errors point into `text`."""
    return bind_row_condition(node, fields, text, "CHECK")
