"""Running row plans: each node becomes a function that gives rows, lazily.

    Limit(Project(Filter(IndexRange(...)))) -> read(view, context) -> iterable of output rows

A plan is compiled once and cached with it; an execution costs a call per operator and what the rows
cost. Filter and Project above a source become one loop (compile_pipeline). Only Sort, Distinct and
Aggregate hold rows: Sort under a Limit holds as many as the Limit asks for.

A reader may be asked for rows after the call returned, so the view has to stay open until its rows
are exhausted or dropped; the session sees to that.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from murmur.errors import InvalidInput
from murmur.kvcore.view import View
from murmur.sql.access import Reader, Row, access_count, access_rows
from murmur.sql.aggregates import compile_aggregations
from murmur.sql.compile import (
    compile_expression,
    compile_pipeline,
)
from murmur.sql.execution import Context
from murmur.sql.expressions import Expr
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
    SortKey,
    SystemScan,
    TrigramScan,
)


def compile_rows(rows: Rows) -> Reader:
    """The function that gives the plan's rows."""
    match rows:
        case OneRow():
            return lambda view, context: ((),)
        case SystemScan(name, _):
            return lambda view, context: context.system_rows(name, view)
        case KeyLookup() | KeyRange() | IndexRange() | TrigramScan() | FullScan():
            return access_rows(rows)
        case Project(Filter(source, predicate), exprs):
            return _pipeline(compile_rows(source), predicate, exprs)
        case Project(source, exprs):
            return _pipeline(compile_rows(source), None, exprs)
        case Filter(source, predicate):
            return _pipeline(compile_rows(source), predicate, None)
        case Limit(Sort(source, keys), count, offset) if count is not None:
            return _top(compile_rows(source), keys, count, offset)
        case Limit(source, count, offset):
            return _limit(compile_rows(source), count, offset)
        case Sort(source, keys):
            return _sort(compile_rows(source), keys)
        case Distinct(source):
            return _distinct(compile_rows(source))
        case Aggregate(FullScan() | KeyRange() | IndexRange() as source, (aggregation,)) if (
            aggregation.name == "count" and aggregation.operand is None
        ):
            return access_count(source)
        case Aggregate(source, aggregations):
            return _aggregate(compile_rows(source), aggregations)
    raise AssertionError(rows)


# Operators ---------------------------------------------------------------------------------------


def _pipeline(read: Reader, predicate: Expr | None, exprs: Sequence[Expr] | None) -> Reader:
    run = compile_pipeline(predicate, exprs)
    return lambda view, context: run(read(view, context), context)


def _limit(read: Reader, count: Expr | None, offset: Expr | None) -> Reader:
    window = _window(count, offset)

    def limited(view: View, context: Context) -> Iterable[Row]:
        start, stop = window(context)
        if start == stop:
            return ()
        rows = read(view, context)
        return rows if (start, stop) == (0, None) else islice(rows, start, stop)

    return limited


def _window(count: Expr | None, offset: Expr | None) -> Callable[[Context], tuple[int, int | None]]:
    """LIMIT and OFFSET as start and stop; a NULL stands for none."""
    count_of = None if count is None else compile_expression(count)
    offset_of = None if offset is None else compile_expression(offset)

    def window(context: Context) -> tuple[int, int | None]:
        start = _number("OFFSET", offset_of((), context)) if offset_of else None
        limit = _number("LIMIT", count_of((), context)) if count_of else None
        start = start or 0
        return start, None if limit is None else start + limit

    return window


def _number(clause: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int:
        raise InvalidInput(f"{clause} takes a whole number, not {value!r}")
    if value < 0:
        raise InvalidInput(f"{clause} must not be negative: {value}")
    return min(value, 1 << 62)


def _sort(read: Reader, keys: Sequence[SortKey]) -> Reader:
    passes = [(_rank(key), key.descending) for key in keys]

    def sorted_rows(view: View, context: Context) -> list[Row]:
        rows = list(read(view, context))
        for rank, descending in reversed(passes):  # sorting is stable, the last term goes first
            rows.sort(key=lambda row: rank(row, context), reverse=descending)
        return rows

    return sorted_rows


def _top(read: Reader, keys: Sequence[SortKey], count: Expr, offset: Expr | None) -> Reader:
    """The first rows of an order, without sorting the others."""
    window = _window(count, offset)
    sort = _sort(read, keys)
    ranks = [_rank(key) for key in keys]
    descending = keys[0].descending
    uniform = all(key.descending is descending for key in keys)
    choose = heapq.nlargest if descending else heapq.nsmallest

    def top(view: View, context: Context) -> Iterable[Row]:
        start, stop = window(context)
        if not uniform or stop is None or stop > 10_000:
            return islice(sort(view, context), start, stop)
        if start == stop:
            return ()
        if len(ranks) == 1:
            rank = ranks[0]
            best = choose(stop, read(view, context), key=lambda row: rank(row, context))
        else:
            best = choose(
                stop, read(view, context), key=lambda row: [rank(row, context) for rank in ranks]
            )
        return best[start:]

    return top


def _rank(key: SortKey) -> Callable[[Row, Context], Any]:
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


def _distinct(read: Reader) -> Reader:
    return lambda view, context: dict.fromkeys(map(_without_nan, read(view, context)))


_NAN = float("nan")


def _without_nan(row: Row) -> Row:
    """The row with one NaN object for all, so that NaN equals itself."""
    if any(value != value for value in row):
        return tuple(_NAN if value != value else value for value in row)
    return row


def _aggregate(read: Reader, aggregations: Any) -> Reader:
    run = compile_aggregations(aggregations)
    return lambda view, context: (run(read(view, context), context),)
