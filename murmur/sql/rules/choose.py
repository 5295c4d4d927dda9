"""Methods are chosen: an access path for each table, a way to run each join, and no needless sort.

    Join(inner, (a, name = 'ann'), n, a.id = n.author)
      ->  lookup join with index n_author, if few rows come from the left
      ->  hash join, the smaller side in the table, otherwise

Times are in microseconds, by the constants of cost.py; they need only rank the methods.
A join streams its left rows in their order, so an order that is asked of them can come from below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from murmur.sql.expressions import Column, Compare, Expr, columns_of
from murmur.sql.plan import (
    Filter,
    HashJoin,
    Join,
    Limit,
    LookupJoin,
    Project,
    Rows,
    Sort,
    SortKey,
    TableScan,
)
from murmur.sql.planner import plan_access, plan_lookup
from murmur.sql.rules.cost import FETCH_US, FIND_US, HASH_US, PAIR_US, ROW_US, SCAN_US
from murmur.sql.rules.estimate import Estimates
from murmur.sql.rules.shape import conjunction, conjuncts, mapped, rebuilt, sources, width


def choose(rows: Rows, estimates: Estimates) -> Rows:
    """The plan with every method chosen."""
    return _chosen(rows, estimates, limited=False)


def _chosen(rows: Rows, estimates: Estimates, *, limited: bool) -> Rows:
    match rows:
        case Limit(source, count, offset):
            return Limit(_chosen(source, estimates, limited=count is not None), count, offset)
        case Sort(source, keys):
            ordered = _ordered(source, keys, estimates, limited=limited)
            return ordered or Sort(_chosen(source, estimates, limited=False), keys)
        case Project(source, exprs):
            return Project(_chosen(source, estimates, limited=limited), exprs)
        case TableScan(table):
            return plan_access(table, None)[0]
        case Filter(TableScan(table), predicate):
            return plan_access(table, predicate, limited=limited)[0]
        case Join():
            return _join(rows, estimates, limited=limited)
    return rebuilt(rows, lambda source: _chosen(source, estimates, limited=False))


# Orders ------------------------------------------------------------------------------------------


def _ordered(
    rows: Rows, keys: Sequence[SortKey], estimates: Estimates, *, limited: bool
) -> Rows | None:
    """The rows in an order that a key gives, or None if that is no better than sorting."""
    match rows:
        case TableScan(table):
            found, ordered = plan_access(table, None, keys, limited=limited)
            return found if ordered else None
        case Filter(TableScan(table), predicate):
            found, ordered = plan_access(table, predicate, keys, limited=limited)
            return found if ordered else None
        case Filter(source, predicate):
            below = _ordered(source, keys, estimates, limited=limited)
            return None if below is None else Filter(below, predicate)
        case Join(kind, left) if limited and kind != "full":
            at = width(left)
            if any(index >= at for key in keys for index in columns_of(key.expr)):
                return None
            below = _ordered(left, keys, estimates, limited=True)
            if below is None:
                return None
            return _join(rows, estimates, limited=True, left=below)
    return None


# Joins -------------------------------------------------------------------------------------------


def _join(join: Join, estimates: Estimates, *, limited: bool, left: Rows | None = None) -> Rows:
    """The join by the cheaper method. `left` is the left side, if it is chosen already."""
    at, on = width(join.left), conjuncts(join.condition)
    ours, theirs = estimates.rows(join.left), estimates.rows(join.right)
    fixed = left is not None
    lookup = None if join.kind == "full" else _lookup(join, on, at, estimates, ours)
    pairs, rest = _pairs(on, at)
    hashing = scan_cost(join.right, estimates) + theirs * HASH_US + ours * ROW_US * 3
    if not pairs:
        hashing += ours * theirs * PAIR_US
    if limited and fixed:
        ours = min(ours, 100.0)
    if lookup is not None and (lookup[1] * ours < hashing):
        left = left or _chosen(join.left, estimates, limited=False)
        return replace(lookup[0], left=left)
    if join.kind == "inner" and not fixed and ours < theirs:
        return _swapped(join, estimates)
    left = left or _chosen(join.left, estimates, limited=False)
    right = _chosen(join.right, estimates, limited=False)
    left_keys = tuple(one for one, _ in pairs)
    right_keys = tuple(mapped(other, lambda index: index - at) for _, other in pairs)
    return HashJoin(
        join.kind, left, right, left_keys, right_keys, conjunction(rest), at, width(join.right)
    )


def scan_cost(rows: Rows, estimates: Estimates) -> float:
    """About how long the rows of one side take, microseconds."""
    total = 0.0
    pending: list[Rows] = [rows]
    while pending:
        node = pending.pop()
        if isinstance(node, TableScan):
            total += estimates.table_rows(node.table) * SCAN_US
        elif isinstance(node, Filter) and isinstance(node.source, TableScan):
            found = plan_access(node.source.table, node.predicate)[0]
            leaf = found.source if isinstance(found, Filter) else found
            if getattr(leaf, "span", None):
                total += FIND_US + estimates.rows(node) * FETCH_US
            else:
                total += estimates.table_rows(node.source.table) * SCAN_US
        else:
            total += 1.0
            pending += sources(node)
    return total


def _swapped(join: Join, estimates: Estimates) -> Rows:
    """An inner join with the smaller side in the hash table; columns go back to their places."""
    at, other = width(join.left), width(join.right)

    def place(index: int) -> int:
        return index + other if index < at else index - at

    condition = None if join.condition is None else mapped(join.condition, place)
    turned = Join("inner", join.right, join.left, condition)
    exprs = tuple(Column(place(index), "", None) for index in range(at + other))
    pairs, rest = _pairs(conjuncts(condition), other)
    rows = HashJoin(
        "inner",
        _chosen(turned.left, estimates, limited=False),
        _chosen(turned.right, estimates, limited=False),
        tuple(one for one, _ in pairs),
        tuple(mapped(each, lambda index: index - other) for _, each in pairs),
        conjunction(rest),
        other,
        at,
    )
    return Project(rows, exprs)


def _pairs(on: Sequence[Expr], at: int) -> tuple[list[tuple[Expr, Expr]], list[Expr]]:
    """What is equal on both sides, left expression first, and the other conditions."""
    pairs: list[tuple[Expr, Expr]] = []
    rest: list[Expr] = []
    for each in on:
        match each:
            case Compare("=", one, other) if _hashable(one) and _hashable(other):
                if _below(one, at) and _above(other, at):
                    pairs.append((one, other))
                    continue
                if _below(other, at) and _above(one, at):
                    pairs.append((other, one))
                    continue
        rest.append(each)
    return pairs, rest


def _hashable(expr: Expr) -> bool:
    return expr.type is not None and expr.type.name not in ("JSON", "INTERVAL")


def _below(expr: Expr, at: int) -> bool:
    return all(index < at for index in columns_of(expr))


def _above(expr: Expr, at: int) -> bool:
    columns = columns_of(expr)
    return bool(columns) and all(index >= at for index in columns)


def _lookup(
    join: Join, on: Sequence[Expr], at: int, estimates: Estimates, ours: float
) -> tuple[LookupJoin, float] | None:
    """A lookup join, and what it costs for each left row; None if no key serves."""
    match join.right:
        case TableScan(table):
            predicate = None
        case Filter(TableScan(table), predicate):
            pass
        case _:
            return None
    pairs, _ = _pairs(on, at)
    keys = [(other.index - at, one) for one, other in pairs if isinstance(other, Column)]
    if not keys:
        return None
    found = plan_lookup(table, keys, predicate)
    if found is None:
        return None
    access, used, left_over = found
    served = {(position, id(expr)) for position, expr in used}
    rest = [each for each in on if not _is_served(each, at, served)]
    matches = estimates.table_rows(table)
    for position, _ in used:
        matches /= estimates.column_distinct(table, position)
    cost = FIND_US + max(0.0, matches) * FETCH_US
    left = join.left
    return (
        LookupJoin(join.kind, left, access, left_over, conjunction(rest), width(join.right)),
        cost,
    )


def _is_served(condition: Expr, at: int, served: set[tuple[int, int]]) -> bool:
    match condition:
        case Compare("=", one, other):
            for key, column in ((one, other), (other, one)):
                if isinstance(column, Column) and (column.index - at, id(key)) in served:
                    return True
    return False
