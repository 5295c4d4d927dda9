"""Methods are chosen: an access path for each table, a way to run each join, and no needless sort.

    Join(inner, (a, name = 'ann'), n, a.id = n.author)
      ->  lookup join with index n_author, if few rows come from the left
      ->  hash join, the smaller side in the table, otherwise

    a.id IN (SELECT author FROM n WHERE likes > 9)      (a semi join)
      ->  for each different author of these, if they are few, the row of a with that key

Times are in microseconds, by the constants of cost.py; they need only rank the methods.
A join streams its left rows in their order, so an order that is asked of them can come from below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from murmur.sql.expressions import Column, Compare, Expr, columns_of
from murmur.sql.plan import (
    Distinct,
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
from murmur.sql.rules.access_path import plan_access, plan_lookup
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
            return plan_access(table, None, facts=estimates.facts)[0]
        case Filter(TableScan(table), predicate):
            return plan_access(table, predicate, limited=limited, facts=estimates.facts)[0]
        case Join():
            return _join(rows, estimates, limited=limited)
    return rebuilt(rows, lambda source: _chosen(source, estimates, limited=False))


# Orders ------------------------------------------------------------------------------------------


def _ordered(
    rows: Rows, keys: Sequence[SortKey], estimates: Estimates, *, limited: bool
) -> Rows | None:
    """The rows in an order that a key gives, or None if that is no better than sorting."""
    match rows:
        case TableScan(table) | Filter(TableScan(table)):
            wanted = rows.predicate if isinstance(rows, Filter) else None
            found, ordered = plan_access(
                table, wanted, keys, limited=limited, facts=estimates.facts
            )
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
    lookup = None if join.kind == "full" else _lookup(join, on, at, estimates)
    pairs, rest = _pairs(on, at)
    driven = None if fixed or rest else _driven(join, pairs, at, estimates)
    hashing = scan_cost(join.right, estimates) + theirs * HASH_US + ours * ROW_US * 3
    if not pairs:
        hashing += ours * theirs * PAIR_US
    if limited and fixed:
        ours = min(ours, 100.0)
    looking = float("inf") if lookup is None else lookup[1] * ours
    if driven is not None and driven[1] < min(hashing, looking) + scan_cost(join.left, estimates):
        return driven[0]
    if lookup is not None and looking < hashing:
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


def _driven(
    join: Join, pairs: Sequence[tuple[Expr, Expr]], at: int, estimates: Estimates
) -> tuple[Rows, float] | None:
    """A semi join that begins on the right: its different values, and the left rows of each.

    A left row has one value, so that it is found once. Gives the rows, and what they cost.
    """
    if join.kind != "semi" or not pairs:
        return None
    if not all(isinstance(ours, Column) for ours, _ in pairs):
        return None
    wanted = tuple(mapped(theirs, lambda index: index - at) for _, theirs in pairs)
    values = Distinct(Project(join.right, wanted))
    count = len(pairs)
    equal = [
        Compare("=", Column(i, _name_of(value), value.type), mapped(ours, lambda at: at + count))
        for i, (value, (ours, _)) in enumerate(zip(wanted, pairs, strict=True))
    ]
    turned = Join("inner", values, join.left, conjunction(equal))
    found = _lookup(turned, equal, count, estimates)
    if found is None:
        return None
    lookup, each = found
    rows = replace(lookup, left=_chosen(values, estimates, limited=False))
    total = scan_cost(join.right, estimates) + estimates.rows(values) * (HASH_US + each)
    return Project(rows, tuple(Column(count + i, "", None) for i in range(at))), total


def _name_of(expr: Expr) -> str:
    return expr.name if isinstance(expr, Column) else ""


def scan_cost(rows: Rows, estimates: Estimates) -> float:
    """About how long the rows of one side take, microseconds."""
    total = 0.0
    pending: list[Rows] = [rows]
    while pending:
        node = pending.pop()
        if isinstance(node, TableScan):
            total += estimates.table_rows(node.table) * SCAN_US
        elif isinstance(node, Filter) and isinstance(node.source, TableScan):
            found = plan_access(node.source.table, node.predicate, facts=estimates.facts)[0]
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
    join: Join, on: Sequence[Expr], at: int, estimates: Estimates
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
    found = plan_lookup(table, keys, predicate, estimates.facts)
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
