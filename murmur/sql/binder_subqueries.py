"""Binding the queries inside of expressions: values, EXISTS, IN, ANY and ALL.

    x IN (SELECT author FROM note WHERE at > a.since)
      -> Subquery("any", plan, slots (0,), arguments (Column(2, "since"),), operands (x,), "=")

A scope that has no queries (CHECK, DEFAULT, RETURNING) refuses them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.errors import TypeMismatch
from murmur.sql.binder_scope import Binder, binds
from murmur.sql.expressions import Column, Comparison, Expr, Subquery
from murmur.sql.plan import Project

Tree: TypeAlias = Any  # sqlglot's


@binds(exp.Subquery, "this", "with_", "order", "limit", "offset")
@binds(exp.Select, *exp.Select.arg_types)
@binds(exp.Union, *exp.Union.arg_types)
@binds(exp.Intersect, *exp.Intersect.arg_types)
@binds(exp.Except, *exp.Except.arg_types)
def _value(binder: Binder, node: Tree) -> Expr:
    bound, subquery = _query(binder, "scalar", node)
    if len(bound.columns) != 1:
        raise binder.failure(node, TypeMismatch, "a subquery that is a value has one column")
    sql_type = bound.columns[0].type
    if sql_type is None:
        raise binder.columnar(node, "a subquery without a type")
    return replace(subquery, type=sql_type)


@binds(exp.Exists, "this")
def _exists(binder: Binder, node: Tree) -> Expr:
    if not isinstance(node.this, exp.Query):
        raise binder.columnar(node, "EXISTS")
    return _query(binder, "exists", node.this)[1]


def bind_membership(binder: Binder, node: Tree) -> Expr:
    """x IN (SELECT ...), (x, y) IN (SELECT ...)."""
    left = node.this
    operands = left.expressions if isinstance(left, exp.Tuple) else [left]
    return _compared(binder, "any", "=", operands, node.args["query"])


def bind_quantified(binder: Binder, op: Comparison, left: Tree, right: Tree) -> Expr:
    """x op ANY (SELECT ...), x op ALL (SELECT ...)."""
    kind = "any" if isinstance(right, exp.Any) else "all"
    query = right.this
    while isinstance(query, exp.Paren):
        query = query.this
    if not isinstance(query, exp.Query) or isinstance(left, exp.Tuple):
        raise binder.columnar(left, f"{op} {kind.upper()}")
    return _compared(binder, kind, op, [left], query)


def _compared(binder: Binder, kind: Any, op: Comparison, operands: list[Tree], query: Tree) -> Expr:
    bound, subquery = _query(binder, kind, query)
    if len(bound.columns) != len(operands):
        message = f"the subquery has {len(bound.columns)} columns, {len(operands)} expected"
        raise binder.failure(query, TypeMismatch, message)
    ours, theirs = [], []
    for i, (operand, column) in enumerate(zip(operands, bound.columns, strict=True)):
        if column.type is None:
            raise binder.columnar(query, "a subquery without a type")
        pair = [binder.bind(operand), Column(i, column.name, column.type)]
        one, other = binder.unified((operand, query), pair, "IN")
        ours.append(one)
        theirs.append(other)
    plan = subquery.plan
    if not all(isinstance(each, Column) for each in theirs):
        plan = Project(plan, tuple(theirs))
    return replace(subquery, plan=plan, operands=tuple(ours), op=op)


def _query(binder: Binder, kind: Any, node: Tree) -> tuple[Any, Subquery]:
    queries = getattr(binder.scope, "queries", None)
    if queries is None:
        raise binder.columnar(node, "a subquery")
    found: tuple[Any, Subquery] = queries.subquery(kind, node, binder.scope)
    return found
