"""What a plan costs, in microseconds: the row engine's plan, and the columnar engine for the same.

    row        each operator by the rows that it reads
    columnar   START_US, what a query costs there at least; then each row that it reads, and each
               value that it gives; tables that are not in Arrow yet come on top (choice.py)

The constants are rounded from `python -m benchmarks.sql_costs`, which says of each how it is
measured. They were taken on one machine: they rank plans, and are no promise.

The row engine's plan is one to run, so its access paths and joins are known. A subquery of an
expression is run once for each row that it reads from, unless it reads none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

from murmur.sql.expressions import Compare, Expr, Literal, Subquery, walk
from murmur.sql.plan import (
    Access,
    Aggregate,
    Costs,
    Distinct,
    DistinctOn,
    Filter,
    FullScan,
    HashJoin,
    IndexRange,
    Join,
    KeyLookup,
    KeyRange,
    Limit,
    LookupJoin,
    OneRow,
    Project,
    Rows,
    SetOperation,
    Shared,
    Sort,
    Span,
    SystemScan,
    TableRead,
    TrigramScan,
    Values,
)
from murmur.sql.rules.estimate import LIKE, RANGE, SYSTEM_ROWS, Estimates
from murmur.sql.rules.narrow import counts_keys, is_narrow
from murmur.sql.rules.shape import conjuncts, expressions, moved, nodes, sources, tables, width

# The columnar engine: a query at least; a row that is read; a value that is given to Python; a
# value of a table to be turned into Arrow, from what was committed and with writes of one's own.
START_US, COLUMN_US, OUTPUT_US = 1500.0, 0.02, 0.09
ARROW_US, PRIVATE_US = 0.015, 0.08

# The row engine: a key that is counted; a row of a scan with one column, each further one; a row
# found by a key, one more row through an index, an entry of a covering one.
KEY_US, SCAN_US, VALUE_US = 0.15, 0.25, 0.03
FIND_US, FETCH_US, ENTRY_US = 3.0, 1.8, 0.8
# A row that an expression is computed for, that is given, hashed, or sorted; a pair that is tried.
ROW_US, GIVE_US, HASH_US, SORT_US, PAIR_US = 0.05, 0.15, 0.3, 0.8, 0.06


def columnar_cost(rows: Rows, estimates: Estimates) -> float:
    """About how long the columnar engine takes for the query of a plan."""
    read = sum(estimates.table_rows(table) for table in tables(rows))
    given = size(rows, estimates)
    return START_US + COLUMN_US * read + OUTPUT_US * given * max(1, width(rows))


def costs_of(rows: Rows, estimates: Estimates) -> Costs | None:
    """What both engines cost; None of a plan that is too little for the other to be weighed."""
    row_us = row_cost(rows, estimates)
    if not tables(rows) or (is_narrow(rows) and row_us < START_US):
        return None
    row_us += size(rows, estimates) * GIVE_US
    columnar_us, reads = columnar_cost(rows, estimates), tuple(_reads(rows, estimates))
    path = counted_path(rows)
    found = 0.0 if path is None else size(path, estimates)
    return Costs(row_us, columnar_us, reads, found)


def counted_path(rows: Rows) -> KeyRange | IndexRange | None:
    """The only access path of a plan, where that is a range between bounds."""
    paths = [node for node in nodes(rows) if isinstance(node, Access)]
    if len(paths) == 1 and isinstance(paths[0], KeyRange | IndexRange):
        return None if paths[0].span == Span() else paths[0]
    return None


def _reads(rows: Rows, estimates: Estimates) -> Iterator[TableRead]:
    """The tables that a plan reads, each once, with all the columns that are read somewhere."""
    columns: dict[int, set[int]] = {}
    for node in nodes(rows):
        if isinstance(node, Access):
            given = getattr(node, "columns", None)
            every = range(len(node.table.columns)) if given is None else given
            columns.setdefault(node.table.id, set()).update(every)
    for table in tables(rows):
        names = tuple(table.columns[at].name for at in sorted(columns[table.id]))
        values = estimates.table_rows(table) * max(1, len(names))
        yield TableRead(table, names, values)


def row_cost(rows: Rows, estimates: Estimates) -> float:
    """About how long the row engine takes for a plan."""
    match rows:
        case OneRow():
            return ROW_US
        case SystemScan():
            return SYSTEM_ROWS
        case Values(lists):
            return len(lists) * ROW_US
        case FullScan(table):
            return estimates.table_rows(table) * _scanned(rows)
        case KeyLookup():
            return size(rows, estimates) * FIND_US
        case Aggregate(source) if counts_keys(rows):
            return size(source, estimates) * KEY_US
        case Limit(source, _, _) if not isinstance(source, Sort | Aggregate):
            whole, part = size(source, estimates), size(rows, estimates)
            return row_cost(source, estimates) * max(0.001, min(1.0, part / max(whole, 1.0)))
        case HashJoin(left=left, right=right, left_keys=keys):
            ours, theirs = size(left, estimates), size(right, estimates)
            cost = row_cost(left, estimates) + row_cost(right, estimates)
            cost += ours * ROW_US * 3 + theirs * HASH_US + size(rows, estimates) * ROW_US
            return cost if keys else cost + ours * theirs * PAIR_US
        case LookupJoin(left=left):
            ours = size(left, estimates)
            each = FIND_US + _matches(rows, estimates) * FETCH_US
            return row_cost(left, estimates) + ours * each + size(rows, estimates) * ROW_US
        case SetOperation(left=left, right=right):
            both = size(left, estimates) + size(right, estimates)
            return row_cost(left, estimates) + row_cost(right, estimates) + both * HASH_US
        case Shared(source, uses=uses):
            return row_cost(source, estimates) / uses + size(source, estimates) * ROW_US
        case Filter() | Project() | Sort() | Distinct() | DistinctOn() | Limit() | Aggregate():
            return row_cost(rows.source, estimates) + _own(rows, estimates)
    assert isinstance(rows, Access)
    found = size(rows, estimates)
    if isinstance(rows, IndexRange | TrigramScan):
        covering = isinstance(rows, IndexRange) and rows.covering
        return FIND_US + found * (ENTRY_US if covering else FETCH_US)
    return FIND_US + found * _scanned(rows)


def _scanned(access: FullScan | KeyRange) -> float:
    """What a row of a scan costs."""
    count = len(access.table.columns if access.columns is None else access.columns)
    return SCAN_US + VALUE_US * max(0, count - 1)


def _own(rows: Rows, estimates: Estimates) -> float:
    """What an operator with one source costs beyond its source."""
    read = size(next(sources(rows)), estimates)
    match rows:
        case Sort():
            each = SORT_US
        case Distinct() | DistinctOn():
            each = HASH_US
        case Aggregate(_, aggregations, groups):
            each = ROW_US * len(aggregations) + (HASH_US if groups else ROW_US)
        case _:
            each = ROW_US
    return read * each + _subqueries(list(expressions(rows)), read, estimates)


def _subqueries(exprs: Sequence[Expr], read: float, estimates: Estimates) -> float:
    total = 0.0
    for expr in exprs:
        for part in walk(expr):
            if isinstance(part, Subquery):
                times = read if part.slots else 1.0
                total += times * (row_cost(part.plan, estimates) + 2.0)
    return total


# Rows of a plan to run ---------------------------------------------------------------------------


def size(rows: Rows, estimates: Estimates) -> float:
    """How many rows a plan to run gives."""
    match rows:
        case FullScan(table):
            return estimates.table_rows(table)
        case KeyLookup(_, span):
            return _alternatives(span)
        case Filter(source, predicate):
            return size(source, estimates) * estimates.selectivity(source, conjuncts(predicate))
        case Project(source) | Sort(source) | Shared(source):
            return size(source, estimates)
        case Distinct(source) | DistinctOn(source):
            return max(1.0, size(source, estimates) / 2)
        case Limit(source, count, _):
            whole = size(source, estimates)
            if isinstance(count, Literal) and count.value is not None:
                return min(whole, float(count.value))
            return whole if count is None else min(whole, 100.0)
        case Aggregate(source, _, groups):
            whole = size(source, estimates)
            return min(whole, estimates.groups_of(source, groups, whole)) if groups else 1.0
        case SetOperation(op, _, left, right):
            ours = size(left, estimates)
            return ours + size(right, estimates) if op == "union" else ours
        case HashJoin():
            return _joined(rows, estimates)
        case LookupJoin(kind, left):
            ours = size(left, estimates)
            pairs = ours * _matches(rows, estimates)
            return (
                max(ours, pairs)
                if kind == "left"
                else max(1.0, min(ours, pairs))
                if (kind in ("semi", "anti"))
                else max(1.0, pairs)
            )
    if isinstance(rows, Access):
        return max(1.0, estimates.table_rows(rows.table) * _span(rows, estimates))
    return estimates.rows(rows)


def _joined(join: HashJoin, estimates: Estimates) -> float:
    ours, theirs = size(join.left, estimates), size(join.right, estimates)
    both = Join("inner", join.left, join.right, None)
    at = width(join.left)
    pairs = ours * theirs
    for one, other in zip(join.left_keys, join.right_keys, strict=True):
        pairs *= estimates.equality(both, Compare("=", one, moved(other, at)), at)
    pairs *= estimates.selectivity(both, conjuncts(join.condition))
    match join.kind:
        case "left":
            return max(ours, pairs)
        case "full":
            return max(ours, theirs, pairs)
        case "semi" | "anti":
            return max(1.0, ours / 2)
    return max(1.0, pairs)


def _matches(join: LookupJoin, estimates: Estimates) -> float:
    """How many rows one left row finds."""
    access = join.right
    if isinstance(access, KeyLookup):
        found = _alternatives(access.span)
    else:
        found = estimates.table_rows(access.table) * _span(access, estimates)
    return found * estimates.selectivity(access, conjuncts(join.filter))


def _alternatives(span: Span) -> float:
    total = 1.0
    for equal in span.equal:
        total *= max(1, len(equal.alternatives))
    return total


def _span(access: Access, estimates: Estimates) -> float:
    """The part of a table that a span leaves."""
    if isinstance(access, FullScan):
        return 1.0
    if isinstance(access, TrigramScan):
        return LIKE
    table = access.table
    ids = access.index.column_ids if isinstance(access, IndexRange) else table.primary_key
    places = {column.id: column.position for column in table.columns}
    part = 1.0
    for column_id, equal in zip(ids, access.span.equal, strict=False):
        position = places.get(column_id)  # none of an expression
        distinct = sqrt(estimates.table_rows(table))
        if position is not None:
            distinct = estimates.column_distinct(table, position)
        part *= max(1, len(equal.alternatives)) / distinct
    for bound in (access.span.lower, access.span.upper):
        part *= 1.0 if bound is None else RANGE
    return min(1.0, part)
