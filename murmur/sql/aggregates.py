"""Aggregates over all rows of a plan, on the row engine: count, sum, min and max.

    SELECT count(*), max(written) FROM note WHERE author = ?   ->   one row

Grouping, and aggregates whose result would differ from the columnar engine's in its last digits
(avg, sums of floats), are the columnar engine's. NULLs do not count; over no rows sum, min and max
are NULL. sum of integers is BIGINT and fails when it does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, TypeAlias

from murmur.errors import DataError
from murmur.sql.compile import compile_expression
from murmur.sql.expressions import Context
from murmur.sql.numbers import EXACT, check_decimal
from murmur.sql.plan import Aggregation

Row: TypeAlias = tuple[Any, ...]
Run: TypeAlias = Callable[[Iterable[Row], Context], Row]


def compile_aggregations(aggregations: Sequence[Aggregation]) -> Run:
    """The function that gives the values of all aggregates over the rows, as one row."""
    if len(aggregations) == 1:
        single = _compile(aggregations[0])
        return lambda rows, context: (single(rows, context),)
    functions = [_compile(aggregation) for aggregation in aggregations]

    def run(rows: Iterable[Row], context: Context) -> Row:
        kept = list(rows)
        return tuple([function(kept, context) for function in functions])

    return run


def _compile(aggregation: Aggregation) -> Callable[[Iterable[Row], Context], Any]:
    if aggregation.operand is None:
        return lambda rows, context: sum(1 for _ in rows)
    value_of = compile_expression(aggregation.operand)
    finish = _FINISH[aggregation.name]
    is_float = aggregation.type is not None and aggregation.type.is_float
    distinct = aggregation.distinct

    def run(rows: Iterable[Row], context: Context) -> Any:
        values: Iterable[Any] = (
            value for row in rows if (value := value_of(row, context)) is not None
        )
        if distinct:
            values = dict.fromkeys(values)
        if is_float:
            return _extreme_float(values, largest=aggregation.name == "max")
        return finish(values)

    return run


def _count(values: Iterable[Any]) -> int:
    return sum(1 for _ in values)


def _sum(values: Iterable[Any]) -> Any:
    kept = list(values)
    if not kept:
        return None
    if isinstance(kept[0], int):
        total = sum(kept)
        if not -(1 << 63) <= total < 1 << 63:
            raise DataError(f"sum: {total} is outside of BIGINT")
        return total
    return check_decimal(reduce(EXACT.add, kept))


def _min(values: Iterable[Any]) -> Any:
    return min(values, default=None)


def _max(values: Iterable[Any]) -> Any:
    return max(values, default=None)


_FINISH: dict[str, Callable[[Iterable[Any]], Any]] = {
    "count": _count,
    "sum": _sum,
    "min": _min,
    "max": _max,
}


def _extreme_float(values: Iterable[float], *, largest: bool) -> float | None:
    """min or max where NaN is above all numbers."""
    kept = list(values)
    if not kept:
        return None
    choose = max if largest else min
    return choose(kept, key=lambda value: (value != value, value))
