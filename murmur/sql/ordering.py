"""Ordering rows: what a term of ORDER BY sorts by, and the first rows of an order.

    ORDER BY a DESC NULLS LAST     rank(row) = (True, a) or (False, 0), sorted backwards

NULLs stand where the term says; NaN is above every other number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from murmur.sql.compile import compile_expression
from murmur.sql.expressions import Context, Row
from murmur.sql.plan import SortKey

Rank: TypeAlias = Callable[[Row, Context], Any]


def rank_of(key: SortKey) -> Rank:
    """A function whose results sort as the values of an ORDER BY term do."""
    value_of = compile_expression(key.expr)
    null_is_large = key.nulls_first == key.descending
    if key.expr.type is not None and key.expr.type.is_float:

        def float_rank(row: Row, context: Context) -> Any:
            value = value_of(row, context)
            if value is None:
                return (null_is_large, False, 0.0)
            if value != value:
                return (not null_is_large, True, 0.0)  # NaN: above all numbers, equal to itself
            return (not null_is_large, False, value)

        return float_rank

    def rank(row: Row, context: Context) -> Any:
        value = value_of(row, context)
        return (null_is_large, 0) if value is None else (not null_is_large, value)

    return rank
