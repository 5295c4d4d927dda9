"""Agreement: the row plans whose answers the columnar engine gives to the letter.

A query that one table can answer may be moved to the columnar engine because the table is large.
The size of a table must not change an answer, so only expressions move whose meaning is the same
there: columns, values, comparisons within one family of types, three-valued logic, count, min and
max. Arithmetic, casts and functions stay: DuckDB divides, rounds and spells values in ways of its
own (docs/sql.md lists them).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from murmur.catalog import SqlType
from murmur.sql.expressions import (
    And,
    Between,
    Column,
    Compare,
    Expr,
    In,
    IsDistinct,
    IsNull,
    Literal,
    Not,
    Or,
    Parameter,
    children,
    walk,
)
from murmur.sql.plan import (
    Aggregate,
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
)

_LOGIC = (And, Or, Not, IsNull)
_COMPARISONS = (Compare, Between, In, IsDistinct)
_FAMILIES = {
    **dict.fromkeys(("SMALLINT", "INTEGER", "BIGINT", "COUNTER"), "integer"),
    **dict.fromkeys(("TEXT", "VARCHAR"), "text"),
    **dict.fromkeys(("BOOLEAN", "DOUBLE", "DATE", "TIMESTAMP", "TIMESTAMPTZ", "UUID"), ""),
}


def engines_agree(rows: Rows) -> bool:
    """Whether both engines give this plan's rows alike, up to an order that it leaves open."""
    return all(
        expr is not None and all(_agreed(node) for node in walk(expr))
        for expr in _expressions(rows)
    )


def _expressions(rows: Rows) -> Iterator[Expr | None]:
    """What the plan computes; None where it is a sum, which overflows here and widens there."""
    match rows:
        case Filter(source, predicate):
            yield predicate
        case Sort(source, keys):
            yield from (key.expr for key in keys)
        case Project(source, exprs):
            yield from exprs
        case Aggregate(source, aggregations):
            for each in aggregations:
                if each.operand is not None:
                    yield None if each.name == "sum" else each.operand
        case Distinct(source) | Limit(source, _, _):
            pass
        case KeyLookup() | KeyRange() | IndexRange() | FullScan() | SystemScan() | OneRow():
            return
        case _:
            assert_never(rows)
    yield from _expressions(source)


def _agreed(node: Expr) -> bool:
    match node:
        case Column() | Parameter() | Literal():
            return True
        case _ if isinstance(node, _LOGIC):
            return True
        case _ if isinstance(node, _COMPARISONS):
            families = {_family(child.type) for child in children(node) if child.type is not None}
            return len(families) <= 1 and None not in families
    return False


def _family(sql_type: SqlType | None) -> str | None:
    """Types that are compared as they are; None for those that are not left to the other engine."""
    name = sql_type.name if sql_type is not None else ""
    family = _FAMILIES.get(name)
    return name if family == "" else family
