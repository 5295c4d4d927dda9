"""Plans that one relation answers alone.

    SELECT body FROM note WHERE likes > 3 ORDER BY id LIMIT 5      narrow
    SELECT count(*), sum(likes) FROM note WHERE author = 7         narrow
    SELECT author, count(*) FROM note GROUP BY author              not: it groups
    SELECT sum(likes) + 1 FROM note                                not: it computes with the sum

They are what an application asks all day. Such a plan reads little, mostly, and the size of its
table must not change its answer, so it leaves the row engine only where both answer alike
(agreement.py).
"""

from __future__ import annotations

from murmur.sql.expressions import Column, Subquery, walk
from murmur.sql.plan import (
    Aggregate,
    Aggregation,
    Distinct,
    Filter,
    FullScan,
    IndexRange,
    KeyLookup,
    KeyRange,
    Limit,
    OneRow,
    Project,
    Rows,
    Sort,
    SystemScan,
    TrigramScan,
)
from murmur.sql.rules.shape import expressions


def is_narrow(rows: Rows) -> bool:
    """Whether one relation answers the plan: its rows, filtered and ordered, or counted up."""
    return _is_narrow(rows, counted=True)


def _is_narrow(rows: Rows, *, counted: bool) -> bool:
    if any(isinstance(part, Subquery) for expr in expressions(rows) for part in walk(expr)):
        return False
    match rows:
        case Project(source, exprs):
            return _is_narrow(source, counted=counted and all(type(e) is Column for e in exprs))
        case Limit(source):
            return _is_narrow(source, counted=counted)
        case Filter(source) | Sort(source) | Distinct(source):
            return _is_narrow(source, counted=False)
        case Aggregate(source, aggregations, ()):
            plain = counted and all(map(_is_plain, aggregations))
            return plain and _is_narrow(source, counted=False)
        case KeyLookup() | KeyRange() | IndexRange() | TrigramScan() | FullScan():
            return True
        case SystemScan() | OneRow():
            return True
    return False


def _is_plain(aggregation: Aggregation) -> bool:
    if aggregation.filter is not None or aggregation.operand is None:
        return aggregation.filter is None
    is_exact = aggregation.operand.type is not None and not aggregation.operand.type.is_float
    return aggregation.name in ("count", "min", "max") or (aggregation.name == "sum" and is_exact)


def counts_keys(rows: Rows) -> bool:
    """Whether a node is count(*) of an access path, for which no row is read."""
    match rows:
        case Aggregate(FullScan() | KeyRange() | IndexRange(), (aggregation,), ()):
            return (
                aggregation.name == "count"
                and aggregation.operand is None
                and aggregation.filter is None
            )
    return False
