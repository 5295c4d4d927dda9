"""The shape of plans: their parts, the width of their rows, and where a column comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeAlias

from murmur.catalog.schema import Table
from murmur.sql.expressions import (
    And,
    Between,
    Column,
    Compare,
    Expr,
    Literal,
    Subquery,
    is_volatile,
    rebuild,
    walk,
)
from murmur.sql.plan import (
    Access,
    Aggregate,
    Aggregation,
    Bound,
    Distinct,
    DistinctOn,
    Equal,
    Filter,
    HashJoin,
    Join,
    Limit,
    LookupJoin,
    OneRow,
    Project,
    Rows,
    SetOperation,
    Shared,
    Sort,
    SortKey,
    Span,
    SystemScan,
    TableScan,
    TrigramScan,
    Values,
)

_PARTS = (SortKey, Aggregation, Span, Equal, Bound)
Mapped: TypeAlias = Mapping[int, int]


def rebuilt(
    rows: Rows, on_rows: Callable[[Rows], Rows], on_expr: Callable[[Expr], Expr] = lambda expr: expr
) -> Rows:
    """The same node over other sources and other expressions."""
    return _rebuilt(rows, on_rows, on_expr)  # type: ignore[no-any-return]


def _rebuilt(node: Any, on_rows: Callable[[Rows], Rows], on_expr: Callable[[Expr], Expr]) -> Any:
    changes = {}
    for field in fields(node):
        old = getattr(node, field.name)
        new = _part(old, on_rows, on_expr)
        if new is not old:
            changes[field.name] = new
    return replace(node, **changes) if changes else node


def _part(value: Any, on_rows: Callable[[Rows], Rows], on_expr: Callable[[Expr], Expr]) -> Any:
    if isinstance(value, Rows):
        return on_rows(value)
    if isinstance(value, Expr):
        return on_expr(value)
    if isinstance(value, _PARTS):
        return _rebuilt(value, on_rows, on_expr)
    if isinstance(value, tuple) and type(value) is tuple:
        items = tuple([_part(item, on_rows, on_expr) for item in value])
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def sources(rows: Rows) -> Iterator[Rows]:
    """The nodes that a node reads."""
    for field in fields(rows):
        value = getattr(rows, field.name)
        if isinstance(value, Rows):
            yield value


def expressions(rows: Rows) -> Iterator[Expr]:
    """The expressions of one node."""
    yield from _expressions(rows)


def _expressions(value: Any) -> Iterator[Expr]:
    if isinstance(value, Expr):
        yield value
    elif type(value) is tuple:
        for item in value:
            yield from _expressions(item)
    elif isinstance(value, _PARTS) or (is_dataclass(value) and isinstance(value, Rows)):
        for field in fields(value):
            part = getattr(value, field.name)
            if not isinstance(part, Rows):
                yield from _expressions(part)


def nodes(rows: Rows) -> Iterator[Rows]:
    """The node and all below it, the plans inside of expressions included."""
    pending = [rows]
    while pending:
        node = pending.pop()
        yield node
        pending += sources(node)
        for expr in expressions(node):
            pending += [part.plan for part in walk(expr) if isinstance(part, Subquery)]


def tables(rows: Rows) -> tuple[Table, ...]:
    """The tables that a plan reads, each once."""
    found: dict[int, Table] = {}
    for node in nodes(rows):
        table = getattr(node, "table", None)
        if isinstance(table, Table):
            found[table.id] = table
    return tuple(found.values())


def width(rows: Rows) -> int:
    """How many columns its rows have."""
    match rows:
        case OneRow():
            return 0
        case SystemScan(_, columns):
            return len(columns)
        case TableScan(table):
            return len(table.columns)
        case Values(lists):
            return len(lists[0])
        case Project(_, exprs):
            return len(exprs)
        case Aggregate(_, aggregations, groups):
            return len(groups) + len(aggregations)
        case Filter(source) | Sort(source) | Limit(source) | Distinct(source) | DistinctOn(source):
            return width(source)
        case Shared(source):
            return width(source)
        case SetOperation(left=left):
            return width(left)
        case Join(kind, left, right) | HashJoin(kind, left, right) | LookupJoin(kind, left, right):
            return width(left) + (0 if kind in ("semi", "anti") else width(right))
        case TrigramScan(table):
            return len(table.columns)
    assert isinstance(rows, Access)
    return len(rows.table.columns if rows.columns is None else rows.columns)


def origin(rows: Rows, index: int) -> tuple[Table, int] | None:
    """The table and the position of the column that a column of the rows is, if it is one."""
    match rows:
        case TableScan(table) | TrigramScan(table):
            return table, index
        case Project(source, exprs):
            expr = exprs[index]
            return origin(source, expr.index) if isinstance(expr, Column) else None
        case Aggregate(source, _, groups):
            group = groups[index] if index < len(groups) else None
            return origin(source, group.index) if isinstance(group, Column) else None
        case Filter(source) | Sort(source) | Limit(source) | Distinct(source) | DistinctOn(source):
            return origin(source, index)
        case Shared(source):
            return origin(source, index)
        case Join(_, left, right) | HashJoin(_, left, right) | LookupJoin(_, left, right):
            at = width(left)
            return origin(left, index) if index < at else origin(right, index - at)
    if isinstance(rows, Access):
        return rows.table, index if rows.columns is None else rows.columns[index]
    return None


# Conditions --------------------------------------------------------------------------------------


def conjuncts(predicate: Expr | None) -> list[Expr]:
    """What has to be TRUE, apart; BETWEEN is two conditions."""
    match predicate:
        case None | Literal(True):
            return []
        case And(operands):
            return [each for operand in operands for each in conjuncts(operand)]
        case Between(operand, low, high, negated=False) if not is_volatile(operand):
            return [Compare(">=", operand, low), Compare("<=", operand, high)]
        case _:
            return [predicate]


def conjunction(operands: Sequence[Expr]) -> Expr | None:
    """All of them; what holds a subquery comes last."""
    ordered = sorted(operands, key=has_subquery)
    if not ordered:
        return None
    return ordered[0] if len(ordered) == 1 else And(tuple(ordered))


def filtered(rows: Rows, operands: Sequence[Expr]) -> Rows:
    """The rows for which all are TRUE."""
    predicate = conjunction(operands)
    return rows if predicate is None else Filter(rows, predicate)


def has_subquery(expr: Expr) -> bool:
    """Whether a subquery is in it."""
    return any(isinstance(part, Subquery) for part in walk(expr))


def moved(expr: Expr, offset: int) -> Expr:
    """The expression over a row in which its columns stand further on."""
    return mapped(expr, lambda index: index + offset) if offset else expr


def mapped(expr: Expr, place: Callable[[int], int]) -> Expr:
    """The expression over a row in which its columns have other places."""
    if isinstance(expr, Column):
        at = place(expr.index)
        return expr if at == expr.index else replace(expr, index=at)
    return rebuild(expr, lambda part: mapped(part, place))


def substituted(expr: Expr, exprs: Sequence[Expr]) -> Expr:
    """The expression with each column replaced by what it was computed from."""
    if isinstance(expr, Column):
        return exprs[expr.index]
    return rebuild(expr, lambda part: substituted(part, exprs))
