"""Conditions go down: a row that will not be needed is best never made.

Filter(Join(left, A, B), A.x = 1 AND B.y = 2)
  ->  Filter(Join(inner, Filter(A, A.x = 1), Filter(B, B.y = 2)))

inner join     conditions on one side go to that side, the rest becomes the join's
left join      WHERE on the left goes left; ON on the right goes right. WHERE that no row of
               NULLs passes makes it an inner join
full join      nothing passes, nothing goes
semi, anti     WHERE goes left; ON on the right goes right
projection     the condition is written in terms of what it computes
GROUP BY       conditions on the groups' values go below
set operation  goes to both sides
LIMIT, DISTINCT ON, and what is volatile, stay where they are
"""

from __future__ import annotations

from collections.abc import Sequence

from murmur.catalog.types import BIGINT
from murmur.sql.expressions import (
    Column,
    Compare,
    Expr,
    IsNull,
    Literal,
    columns_of,
    is_volatile,
)
from murmur.sql.plan import (
    Aggregate,
    Distinct,
    Filter,
    Join,
    Limit,
    Project,
    Rows,
    SetOperation,
    Sort,
)
from murmur.sql.rules.shape import (
    conjunction,
    conjuncts,
    filtered,
    mapped,
    rebuilt,
    substituted,
    width,
)


def push_down(rows: Rows) -> Rows:
    """The plan with its conditions as far down as they mean the same."""
    return _pushed(rows, [])


def _pushed(rows: Rows, wanted: Sequence[Expr]) -> Rows:
    """The rows for which all of `wanted` is TRUE."""
    fixed = [each for each in wanted if is_volatile(each)]
    if fixed:
        free = [each for each in wanted if not is_volatile(each)]
        return filtered(_pushed(rows, free), fixed)
    if any(isinstance(each, Literal) and each.value is not True for each in wanted):
        return Limit(_pushed(rows, []), Literal(0, BIGINT), None)
    match rows:
        case Filter(source, predicate):
            return _pushed(source, [*conjuncts(predicate), *wanted])
        case Project(source, exprs):
            inside = [each for each in wanted if not _reads_volatile(each, exprs)]
            above = [each for each in wanted if _reads_volatile(each, exprs)]
            below = [substituted(each, exprs) for each in inside]
            return filtered(Project(_pushed(source, below), exprs), above)
        case Sort(source, keys):
            return Sort(_pushed(source, wanted), keys)
        case Distinct(source):
            return Distinct(_pushed(source, wanted))
        case Aggregate(source, aggregations, groups):
            below = [each for each in wanted if columns_of(each) <= frozenset(range(len(groups)))]
            below = [each for each in below if columns_of(each)]
            above = [each for each in wanted if not any(each is other for other in below)]
            inner = _pushed(source, [substituted(each, groups) for each in below])
            return filtered(Aggregate(inner, aggregations, groups), above)
        case SetOperation(op, keeps, left, right):
            return SetOperation(op, keeps, _pushed(left, wanted), _pushed(right, wanted))
        case Join():
            return _joined(rows, wanted)
    return filtered(rebuilt(rows, push_down), wanted)


def _reads_volatile(condition: Expr, exprs: Sequence[Expr]) -> bool:
    return any(is_volatile(exprs[index]) for index in columns_of(condition))


def _joined(join: Join, wanted: Sequence[Expr]) -> Rows:
    kind, at = join.kind, width(join.left)
    on = conjuncts(join.condition)
    if kind == "left" and any(_rejects_nulls(each, at) for each in wanted):
        kind = "inner"
    left: list[Expr] = []
    right: list[Expr] = []
    above: list[Expr] = []
    stays: list[Expr] = []
    if kind == "inner":
        on, wanted = [*on, *wanted], []
    for each in wanted:
        (left if kind != "full" and _is_left(each, at) else above).append(each)
    for each in on:
        if is_volatile(each) or kind == "full":
            stays.append(each)
        elif kind in ("inner", "semi") and _is_left(each, at):
            left.append(each)
        elif _is_right(each, at):
            right.append(mapped(each, lambda index: index - at))
        else:
            stays.append(each)
    joined = Join(kind, _pushed(join.left, left), _pushed(join.right, right), conjunction(stays))
    return filtered(joined, above)


def _is_left(condition: Expr, at: int) -> bool:
    return all(index < at for index in columns_of(condition))


def _is_right(condition: Expr, at: int) -> bool:
    columns = columns_of(condition)
    return bool(columns) and all(index >= at for index in columns)


def _rejects_nulls(condition: Expr, at: int) -> bool:
    """Whether no row whose right side is NULLs passes."""
    match condition:
        case Compare(_, left, right):
            sides = (left, right)
        case IsNull(operand, negated=True):
            sides = (operand, operand)
        case _:
            return False
    return any(isinstance(side, Column) and side.index >= at for side in sides)
