"""Agreement: the row plans whose answers the columnar engine gives to the letter.

A query that one table can answer may be moved to the columnar engine because the table is large.
The size of a table must not change an answer, so only expressions move whose meaning is the same
there: columns, values, comparisons within one family of types, three-valued logic, count, min and
max; sums, differences and products of DECIMALs whose types say that 38 digits are enough, and the
sum of such. Other arithmetic, casts and functions stay: DuckDB divides, rounds and spells values in
ways of its own (docs/sql.md lists them).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from murmur.catalog import SqlType
from murmur.sql.binder_regular import REGEXP
from murmur.sql.expressions import (
    And,
    Arithmetic,
    Between,
    Call,
    Cast,
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
    TrigramScan,
)

_LOGIC = (And, Or, Not, IsNull)
_COMPARISONS = (Compare, Between, In, IsDistinct)
_FAMILIES = {
    **dict.fromkeys(("SMALLINT", "INTEGER", "BIGINT", "COUNTER"), "integer"),
    **dict.fromkeys(("TEXT", "VARCHAR"), "text"),
    "DECIMAL": "DECIMAL",
    **dict.fromkeys(("BOOLEAN", "DOUBLE", "DATE", "TIMESTAMP", "TIMESTAMPTZ", "UUID"), ""),
}


def engines_agree(rows: Rows) -> bool:
    """Whether both engines give a narrow plan's rows alike, up to an order that it leaves open."""
    return all(
        expr is not None and all(_agreed(node) for node in walk(expr))
        for expr in _expressions(rows)
    )


def _expressions(rows: Rows) -> Iterator[Expr | None]:
    """What the plan computes; None where it is a sum that overflows here and widens there."""
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
                    summed = each.name == "sum" and not _is_short(each.operand)
                    yield None if summed else each.operand
        case Distinct(source) | Limit(source, _, _):
            pass
        case KeyLookup() | KeyRange() | IndexRange() | TrigramScan() | FullScan():
            return
        case SystemScan() | OneRow():
            return
        case _:
            raise AssertionError(rows)
    yield from _expressions(source)


def _agreed(node: Expr) -> bool:
    match node:
        case Column() | Parameter() | Literal():
            return True
        case _ if isinstance(node, _LOGIC):
            return True
        case _ if isinstance(node, _COMPARISONS):
            families = {_family(child.type) for child in children(node) if child.type is not None}
            if families == {"DECIMAL"} or families == {"DECIMAL", "integer"}:
                return all(_digits(child) is not None for child in children(node))
            return len(families) <= 1 and families.isdisjoint((None, "DECIMAL"))
        case Call(function):
            return function.name == REGEXP
        case Cast(operand, SqlType(name="TIMESTAMP")):
            return operand.type is not None and operand.type.name == "DATE"
        case Arithmetic(op="+" | "-" | "*"):
            return node.type is not None and node.type.name == "DECIMAL" and bool(_digits(node))
    return False


def _is_short(expr: Expr) -> bool:
    """Whether no sum of so many values as there may be is too long for its type."""
    name = "" if expr.type is None else expr.type.name
    return name in ("SMALLINT", "INTEGER") or (name == "DECIMAL" and _digits(expr) is not None)


def _digits(expr: Expr) -> tuple[int, int] | None:
    """Digits before and behind the point that every value fits in; None if they may be over 38."""
    digits = _bounds(expr)
    return digits if digits is not None and sum(digits) <= _MAX_DIGITS else None


def _bounds(expr: Expr) -> tuple[int, int] | None:
    match expr:
        case Literal(int() as value) if not isinstance(value, bool):
            return len(str(abs(value))), 0
        case Literal(Decimal() as value):
            _, digits, exponent = value.as_tuple()
            if not isinstance(exponent, int) or exponent > 0:
                return None
            return max(1, len(digits) + exponent), -exponent
        case Column(type=SqlType(name="DECIMAL", precision=int() as precision) as sql_type):
            scale = sql_type.scale or 0
            return precision - scale, scale
        case Column(type=SqlType(name=name)) if name in _INTEGER_DIGITS:
            return _INTEGER_DIGITS[name], 0
        case Arithmetic(op="+" | "-", left=left, right=right):
            ours, theirs = _digits(left), _digits(right)
            if ours is None or theirs is None:
                return None
            return max(ours[0], theirs[0]) + 1, max(ours[1], theirs[1])
        case Arithmetic(op="*", left=left, right=right):
            ours, theirs = _digits(left), _digits(right)
            return (
                None
                if ours is None or theirs is None
                else (ours[0] + theirs[0], ours[1] + theirs[1])
            )
    return None


_MAX_DIGITS = 38
_INTEGER_DIGITS = {"SMALLINT": 5, "INTEGER": 10, "BIGINT": 19, "COUNTER": 19}


def _family(sql_type: SqlType | None) -> str | None:
    """Types that are compared as they are; None for those that are not left to the other engine."""
    name = sql_type.name if sql_type is not None else ""
    family = _FAMILIES.get(name)
    return name if family == "" else family
