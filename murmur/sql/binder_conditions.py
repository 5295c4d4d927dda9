"""Binding conditions: AND, OR and NOT, comparisons, BETWEEN, IN, LIKE, IS.

    a < 5 AND b IN (1, 2)   ->  And(Compare("<", a, 5), In(b, (1, 2)))

Operands are compared in their common type (operators.py); a literal or parameter without one takes
that of the other side.
"""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from murmur.catalog.types import (
    TEXT,
)
from murmur.errors import InvalidInput, TypeMismatch
from murmur.sql import operators
from murmur.sql.binder_scope import Bind, Binder, Tree, binds
from murmur.sql.binder_subqueries import bind_membership, bind_quantified
from murmur.sql.expressions import (
    And,
    Between,
    Compare,
    Comparison,
    Expr,
    In,
    IsDistinct,
    IsNull,
    IsTruth,
    Like,
    Not,
    Or,
)

# Logic -------------------------------------------------------------------------------------------


def _chain(kind: type[And | Or], tree: Any) -> Bind:
    def bind(binder: Binder, node: Tree) -> Expr:
        clause = kind.__name__.upper()
        operands: list[Expr] = []
        for operand in flattened(node, tree):
            bound = binder.condition(operand, clause)
            operands.extend(bound.operands if isinstance(bound, kind) else [bound])
        return kind(tuple(operands))

    return bind


for _tree, _kind in ((exp.And, And), (exp.Or, Or)):
    binds(_tree, "this", "expression")(_chain(_kind, _tree))


def flattened(node: Tree, tree: Any) -> list[Tree]:
    """The operands of a chain of one operator, from left to right."""
    operands: list[Tree] = []
    pending = [node]
    while pending:
        top = pending.pop()
        if isinstance(top, tree):
            pending += [top.expression, top.this]
        else:
            operands.append(top)
    return operands


@binds(exp.Not, "this")
def _not(binder: Binder, node: Tree) -> Expr:
    operand = binder.condition(node.this, "NOT")
    match operand:
        case Between() | In() | Like() if not operand.negated:
            return _negated(operand)
        case IsNull() | IsTruth() | IsDistinct():
            return _negated(operand)
    return Not(operand)


def _negated(expr: Between | In | Like | IsNull | IsTruth | IsDistinct) -> Expr:
    match expr:
        case Between(operand, low, high, negated):
            return Between(operand, low, high, not negated)
        case In(operand, items, negated):
            return In(operand, items, not negated)
        case Like(operand, pattern, escape, insensitive, negated):
            return Like(operand, pattern, escape, insensitive, not negated)
        case IsNull(operand, negated):
            return IsNull(operand, not negated)
        case IsTruth(operand, truth, negated):
            return IsTruth(operand, truth, not negated)
        case IsDistinct(left, right, negated):
            return IsDistinct(left, right, not negated)


@binds(exp.Is, "this", "expression")
def _is(binder: Binder, node: Tree) -> Expr:
    negated = bool(node.args.get("negate"))
    if isinstance(node.expression, exp.Null):
        return IsNull(operators.as_text_if_untyped(binder.bind(node.this)), negated)
    if isinstance(node.expression, exp.Boolean):
        truth = bool(node.expression.this)
        word = "IS TRUE" if truth else "IS FALSE"
        return IsTruth(binder.condition(node.this, word), truth, negated)
    raise binder.columnar(node, f"IS {node.expression.sql(dialect='postgres')}")


# Comparison --------------------------------------------------------------------------------------


def _comparison(op: Comparison) -> Bind:
    def bind(binder: Binder, node: Tree) -> Expr:
        left, right = node.this, node.expression
        if isinstance(right, exp.Any | exp.All):
            return bind_quantified(binder, op, left, right)
        if _is_row(left) or _is_row(right):
            return _row_comparison(binder, op, left, right)
        return compared(binder, op, left, right)

    return bind


_COMPARISONS: dict[type, Comparison] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
for _tree, _comparison_operator in _COMPARISONS.items():
    binds(_tree, "this", "expression")(_comparison(_comparison_operator))


def compared(binder: Binder, op: Comparison, left: Tree, right: Tree) -> Expr:
    """A comparison of two operands, in the type that they have in common."""
    nodes = (left, right)
    one, two = binder.unified(nodes, [binder.bind(left), binder.bind(right)], op)
    return Compare(op, one, two)


def _is_row(node: Tree) -> bool:
    return isinstance(node, exp.Tuple)


def _row_comparison(binder: Binder, op: Comparison, left: Tree, right: Tree) -> Expr:
    """(a, b) < (c, d) is a < c OR a = c AND b < d; = and <> compare all."""
    if not _is_row(left) or not _is_row(right) or len(left.expressions) != len(right.expressions):
        raise binder.failure(left, TypeMismatch, "rows are compared with rows of the same length")
    pairs = list(zip(left.expressions, right.expressions, strict=True))
    if len(pairs) == 1:
        return compared(binder, op, *pairs[0])
    if op in ("=", "<>"):
        each = tuple(compared(binder, op, one, two) for one, two in pairs)
        return And(each) if op == "=" else Or(each)
    strict: Comparison = "<" if op in ("<", "<=") else ">"
    (one, two), *_ = pairs
    rest = _without_first(left), _without_first(right)
    below = _row_comparison(binder, op, *rest)
    also = below.operands if isinstance(below, And) else (below,)
    equal = And((compared(binder, "=", one, two), *also))
    return Or((compared(binder, strict, one, two), equal))


def _without_first(row: Tree) -> Tree:
    return exp.Tuple(expressions=[item.copy() for item in row.expressions[1:]])


def _distinct(*, negated: bool) -> Bind:
    def bind(binder: Binder, node: Tree) -> Expr:
        nodes = (node.this, node.expression)
        left, right = binder.unified(
            nodes, [binder.bind(node.this), binder.bind(node.expression)], "IS DISTINCT FROM"
        )
        return IsDistinct(left, right, negated)

    return bind


binds(exp.NullSafeEQ, "this", "expression")(_distinct(negated=True))
binds(exp.NullSafeNEQ, "this", "expression")(_distinct(negated=False))


@binds(exp.Between, "this", "low", "high")
def _between(binder: Binder, node: Tree) -> Expr:
    nodes = (node.this, node.args["low"], node.args["high"])
    exprs = [binder.bind(child) for child in nodes]
    operand, low, high = binder.unified(nodes, exprs, "BETWEEN")
    between = Between(operand, low, high)
    return Or((between, Between(operand, high, low))) if node.args.get("symmetric") else between


@binds(exp.In, "this", "expressions", "query", "unnest", "field")
def _in(binder: Binder, node: Tree) -> Expr:
    if node.args.get("query"):
        return bind_membership(binder, node)
    if any(node.args.get(key) for key in ("unnest", "field")):
        raise binder.columnar(node, "a subquery")
    items = node.expressions
    if not items:
        raise binder.failure(node, InvalidInput, "IN takes at least one value")
    if _is_row(node.this):
        rows = tuple(_row_comparison(binder, "=", node.this, item) for item in items)
        return rows[0] if len(rows) == 1 else Or(rows)
    nodes = (node.this, *items)
    operand, *bound = binder.unified(nodes, [binder.bind(child) for child in nodes], "IN")
    return In(operand, tuple(bound))


def _like(binder: Binder, node: Tree, escape: Tree | None = None) -> Expr:
    if isinstance(node.expression, exp.Any | exp.All):
        raise binder.columnar(node, f"LIKE {node.expression.key.upper()}")
    insensitive = isinstance(node, exp.ILike)
    word = "ILIKE" if insensitive else "LIKE"
    operand, pattern = (_text_operand(binder, n, word) for n in (node.this, node.expression))
    bound = None if escape is None else _text_operand(binder, escape, "ESCAPE")
    return Like(operand, pattern, bound, insensitive, bool(node.args.get("negate")))


for _tree in (exp.Like, exp.ILike):
    binds(_tree, "this", "expression")(_like)


@binds(exp.Escape, "this", "expression")
def _escape(binder: Binder, node: Tree) -> Expr:
    if not isinstance(node.this, exp.Like | exp.ILike):
        raise binder.columnar(node, "ESCAPE")
    return _like(binder, node.this, node.expression)


def _text_operand(binder: Binder, node: Tree, word: str) -> Expr:
    expr = binder.bind(node)
    if expr.type is None:
        return binder.convert(node, expr, TEXT)
    if not expr.type.is_text:
        raise binder.failure(
            node, TypeMismatch, f"{word} takes text, not {expr.type}; cast it to TEXT"
        )
    return expr
