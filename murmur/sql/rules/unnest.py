"""Subqueries of WHERE become joins where that is proven to mean the same.

    WHERE EXISTS (SELECT 1 FROM note n WHERE n.author = a.id AND n.likes > 3)
      ->  semi join of a and (note, likes > 3) on n.author = a.id;   NOT EXISTS: anti join

    WHERE a.id IN (SELECT author FROM note WHERE ...)    ->  semi join on author = a.id

NOT IN stays an expression: a NULL on either side makes it neither true nor false, which no join
says. So does what stands below OR or NOT, and a subquery that reads the row around it in any other
place than its WHERE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from murmur.sql.expressions import (
    Column,
    Compare,
    Expr,
    Literal,
    Not,
    Outer,
    Subquery,
    is_volatile,
    rebuild,
    walk,
)
from murmur.sql.plan import (
    Distinct,
    Filter,
    Join,
    JoinKind,
    Limit,
    Project,
    Rows,
    Sort,
)
from murmur.sql.rules.shape import (
    conjunction,
    conjuncts,
    expressions,
    filtered,
    moved,
    nodes,
    rebuilt,
    width,
)


def unnest(rows: Rows) -> Rows:
    """The plan with semi and anti joins in the place of subqueries."""
    if isinstance(rows, Filter):
        source = unnest(rows.source)
        left: list[Expr] = []
        for each in conjuncts(rows.predicate):
            joined = _joined(source, each)
            if joined is None:
                left.append(each)
            else:
                source = joined
        return filtered(source, left)
    return rebuilt(rows, unnest)


def _joined(source: Rows, condition: Expr) -> Rows | None:
    kind: JoinKind = "semi"
    if isinstance(condition, Not) and isinstance(condition.operand, Subquery):
        kind, condition = "anti", condition.operand
        if condition.kind != "exists":
            return None
    if not isinstance(condition, Subquery) or is_volatile(condition):
        return None
    if condition.kind == "any" and condition.op == "=":
        return _membership(source, condition)
    if condition.kind == "exists" and condition.slots:
        return _existence(source, condition, kind)
    return None


def _existence(source: Rows, subquery: Subquery, kind: JoinKind) -> Rows | None:
    plan = subquery.plan
    while isinstance(plan, Project | Sort | Distinct) or _keeps_one(plan):
        if _reads_outer(plan):
            break
        plan = plan.source
    return _semi(source, subquery, plan, (), kind)


def _keeps_one(plan: Rows) -> bool:
    """Whether it is a LIMIT that leaves a row if there is one."""
    match plan:
        case Limit(_, Literal(int() as count), None):
            return count > 0
    return False


def _membership(source: Rows, subquery: Subquery) -> Rows | None:
    plan = subquery.plan
    while isinstance(plan, Sort | Distinct):
        plan = plan.source
    if not isinstance(plan, Project):
        equal = tuple(
            Compare("=", operand, Column(width(source) + i, "", operand.type))
            for i, operand in enumerate(subquery.operands)
        )
        if subquery.slots or any(_reads_outer(node) for node in nodes(plan)):
            return None
        return Join("semi", source, unnest(plan), conjunction(equal))
    if any(isinstance(part, Outer) for expr in plan.exprs for part in walk(expr)):
        return None
    at = width(source)
    pairs = tuple(
        Compare("=", operand, moved(expr, at))
        for operand, expr in zip(subquery.operands, plan.exprs, strict=True)
    )
    return _semi(source, subquery, plan.source, pairs, "semi")


def _semi(
    source: Rows, subquery: Subquery, plan: Rows, pairs: tuple[Expr, ...], kind: JoinKind
) -> Rows | None:
    """The join, if all that the plan takes from around stands in its topmost WHERE."""
    wanted: list[Expr] = []
    while isinstance(plan, Filter):
        wanted += conjuncts(plan.predicate)
        plan = plan.source
    around = dict(zip(subquery.slots, subquery.arguments, strict=True))
    crossing = [each for each in wanted if _crosses(each, around)]
    inside = [each for each in wanted if not _crosses(each, around)]
    if any(_crosses(expr, around) for node in nodes(plan) for expr in expressions(node)):
        return None
    at = width(source)
    conditions = [_here(each, around, at) for each in crossing]
    right = unnest(filtered(plan, inside))
    return Join(kind, source, right, conjunction([*pairs, *conditions]))


def _crosses(expr: Expr, around: Mapping[int, Expr]) -> bool:
    return any(isinstance(part, Outer) and part.slot in around for part in walk(expr))


def _reads_outer(rows: Rows) -> bool:
    return any(isinstance(part, Outer) for expr in expressions(rows) for part in walk(expr))


def _here(expr: Expr, around: Mapping[int, Expr], at: int) -> Expr:
    """A condition of the subquery over the row of the join: its own columns come second."""
    if isinstance(expr, Outer) and expr.slot in around:
        return around[expr.slot]
    if isinstance(expr, Column):
        return replace(expr, index=expr.index + at)
    return rebuild(expr, lambda part: _here(part, around, at))
