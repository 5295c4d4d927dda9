"""Binding aggregate functions: collected apart, and a column in their place.

    SELECT sum(likes) + 1 FROM note GROUP BY author      binding `sum(likes) + 1` gives

      aggregates [Aggregation("sum", Column(2, "likes"))]       over the rows of FROM
      Arithmetic("+", Column(-1, "sum"), Literal(1))            -1 - n is the n-th aggregate

The scope says where aggregates may stand (QueryScope.aggregates); elsewhere they are refused, as
are those that only DuckDB has, or whose value depends on what the row engine does not keep.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.types import BIGINT, BOOLEAN, DECIMAL, DOUBLE, TEXT, SqlType
from murmur.sql.binder_scope import Binder, binds, read_type
from murmur.sql.expressions import Column, Expr, Literal, Outer, walk
from murmur.sql.plan import AggregateName, Aggregation, SortKey

Tree: TypeAlias = Any  # sqlglot's

_NAMES: dict[type, AggregateName] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
    exp.LogicalAnd: "bool_and",
    exp.LogicalOr: "bool_or",
    exp.GroupConcat: "string_agg",
}
AGGREGATES = (exp.AggFunc,)


def _aggregate(binder: Binder, node: Tree) -> Expr:
    return _collected(binder, node, None)


for _tree in _NAMES:
    binds(_tree, "this", "separator")(_aggregate)


@binds(exp.Filter, "this", "expression")
def _filter(binder: Binder, node: Tree) -> Expr:
    if type(node.this) not in _NAMES:
        raise binder.columnar(node, "FILTER")
    return _collected(binder, node.this, node.expression.this)


def _collected(binder: Binder, node: Tree, condition: Tree | None) -> Expr:
    scope = binder.scope
    collected: list[Aggregation] | None = getattr(scope, "aggregates", None)
    if collected is None:
        raise binder.columnar(node, f"aggregate {_NAMES[type(node)]}")
    scope.aggregates = None  # type: ignore[attr-defined]  # none within another
    try:
        aggregation = _bound(binder, node, condition)
    finally:
        scope.aggregates = collected  # type: ignore[attr-defined]
    if aggregation not in collected:
        collected.append(aggregation)
    at = collected.index(aggregation)
    return Column(-1 - at, aggregation.name, aggregation.type, aggregation.name != "count")


def _bound(binder: Binder, node: Tree, condition: Tree | None) -> Aggregation:
    name = _NAMES[type(node)]
    keep = None if condition is None else binder.condition(condition, "FILTER")
    operand, distinct = node.this, False
    order: tuple[SortKey, ...] = ()
    if isinstance(operand, exp.Order):
        if name != "string_agg":
            raise binder.columnar(node, f"{name} with ORDER BY")
        order, operand = (
            tuple(_sort_key(binder, term) for term in operand.expressions),
            operand.this,
        )
    if operand is None:
        raise binder.columnar(node, f"{name}()")
    if isinstance(operand, exp.Star):
        return Aggregation("count", None, distinct=False, type=BIGINT, filter=keep)
    if isinstance(operand, exp.Distinct):
        if operand.args.get("on") or len(operand.expressions) != 1 or name == "string_agg":
            raise binder.columnar(node, f"{name} DISTINCT")
        operand, distinct = operand.expressions[0], True
    expr = binder.bind(operand)
    if name == "string_agg" and isinstance(expr, Literal) and expr.type is None:
        expr = binder.convert(operand, expr, TEXT)
    result = _result(binder, node, name, expr)
    separator = _separator(binder, node) if name == "string_agg" else None
    if _is_foreign(expr):
        raise binder.columnar(node, "an aggregate of the query around")
    return Aggregation(name, expr, distinct, result, keep, separator, order)


def _sort_key(binder: Binder, term: Tree) -> SortKey:
    expr = binder.bind(term.this)
    return SortKey(expr, bool(term.args.get("desc")), bool(term.args.get("nulls_first")))


def _separator(binder: Binder, node: Tree) -> Expr:
    separator = node.args.get("separator")
    if separator is None:
        raise binder.columnar(node, "string_agg without a separator")
    return binder.convert(separator, binder.bind(separator), TEXT)


def _is_foreign(expr: Expr) -> bool:
    """Whether it reads the query around and nothing of its own: it is then aggregated there."""
    parts = list(walk(expr))
    return any(isinstance(part, Outer) for part in parts) and not any(
        isinstance(part, Column) for part in parts
    )


def _result(binder: Binder, node: Tree, name: AggregateName, expr: Expr) -> SqlType | None:
    sql_type = read_type(expr)
    if name == "count":
        return BIGINT
    if sql_type is None:
        raise binder.columnar(node, f"{name} of a value without a type")
    match name:
        case "sum" if sql_type.is_integer:
            return BIGINT
        case "sum" if sql_type.name == "DECIMAL":
            return DECIMAL
        case "sum" | "avg" if sql_type.is_numeric:
            return DOUBLE
        case "min" | "max" if sql_type.name not in ("JSON", "INTERVAL"):
            return sql_type
        case "bool_and" | "bool_or" if sql_type == BOOLEAN:
            return BOOLEAN
        case "string_agg" if sql_type.is_text:
            return TEXT
    raise binder.columnar(node, f"{name} of {sql_type}")
