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
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, product
from operator import itemgetter
from typing import Any, TypeAlias

from murmur.catalog.ranges import index_bounds, row_bounds
from murmur.catalog.rows import get_row, key_of, scan_index, scan_rows
from murmur.errors import DataError, InvalidInput
from murmur.kvcore.view import View
from murmur.sql.aggregates import compile_aggregations
from murmur.sql.compile import (
    Evaluator,
    compile_expression,
    compile_pipeline,
    compile_predicate,
    compile_projection,
)
from murmur.sql.execution import Context
from murmur.sql.expressions import Expr
from murmur.sql.plan import (
    Access,
    Aggregate,
    Bound,
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
    Span,
    SystemScan,
)

Row: TypeAlias = tuple[Any, ...]
Reader: TypeAlias = Callable[[View, Context], Iterable[Row]]
KeyedReader: TypeAlias = Callable[[View, Context], Iterable[tuple[bytes, Row]]]
Ranges: TypeAlias = Callable[[Context], Iterable[tuple[bytes, bytes]]]


def compile_rows(rows: Rows) -> Reader:
    """The function that gives the plan's rows."""
    match rows:
        case OneRow():
            return lambda view, context: ((),)
        case SystemScan(name, _):
            return lambda view, context: context.system_rows(name, view)
        case KeyLookup() | KeyRange() | IndexRange() | FullScan():
            return _access(rows)
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
            return _count(source)
        case Aggregate(source, aggregations):
            return _aggregate(compile_rows(source), aggregations)
    raise AssertionError(rows)


def compile_keyed(rows: Rows) -> KeyedReader:
    """The function that gives row keys and rows, for UPDATE and DELETE."""
    match rows:
        case Filter(source, predicate):
            read, holds = compile_keyed(source), compile_predicate(predicate)

            def filtered(view: View, context: Context) -> Iterator[tuple[bytes, Row]]:
                return (pair for pair in read(view, context) if holds(pair[1], context))

            return filtered
        case KeyLookup() | KeyRange() | IndexRange() | FullScan():
            return _keyed_access(rows)
    raise AssertionError(rows)


# Access paths ------------------------------------------------------------------------------------


def _access(access: Access) -> Reader:
    table = access.table
    match access:
        case KeyLookup(_, span):
            if all(len(equal.alternatives) == 1 for equal in span.equal):
                return _single_lookup(access)
            keys = _keys(access)

            def lookup(view: View, context: Context) -> Iterator[Row]:
                rows = (get_row(view, table, key) for key in keys(context))
                return (row for row in rows if row is not None)

            return lookup
        case FullScan(_, reverse):
            return lambda view, context: map(_ROW, scan_rows(view, table, reverse=reverse))
    keyed = _keyed_access(access)
    return lambda view, context: map(_ROW, keyed(view, context))


_ROW = itemgetter(1)


def _single_lookup(access: KeyLookup) -> Reader:
    """The commonest read of all: one row by its key."""
    table = access.table
    values_of = compile_projection([equal.alternatives[0] for equal in access.span.equal])

    def lookup(view: View, context: Context) -> tuple[Row, ...]:
        try:
            key = key_of(table, values_of((), context))
        except DataError:
            return ()  # a value that the column cannot hold equals nothing
        row = get_row(view, table, key)
        return () if row is None else (row,)

    return lookup


def _keyed_access(access: Access) -> KeyedReader:
    table = access.table
    match access:
        case KeyLookup():
            keys = _keys(access)

            def lookup(view: View, context: Context) -> Iterator[tuple[bytes, Row]]:
                for key in keys(context):
                    row = get_row(view, table, key)
                    if row is not None:
                        yield key, row

            return lookup
        case KeyRange(_, span, reverse):
            row_ranges = _ranges(
                span,
                lambda equal, low, high: row_bounds(table, equal, lower=low, upper=high),
                reverse=reverse,
            )
            return lambda view, context: chain.from_iterable(
                scan_rows(view, table, start, stop, reverse=reverse)
                for start, stop in row_ranges(context)
            )
        case IndexRange(_, index, span, reverse):
            index_ranges = _ranges(
                span,
                lambda equal, low, high: index_bounds(table, index, equal, lower=low, upper=high),
                reverse=reverse,
            )

            def scan(view: View, context: Context) -> Iterator[tuple[bytes, Row]]:
                for start, stop in index_ranges(context):
                    for key in scan_index(view, table, index, start, stop, reverse=reverse):
                        row = get_row(view, table, key)
                        assert row is not None, "an index entry without its row"
                        yield key, row

            return scan
        case FullScan(_, reverse):
            return lambda view, context: scan_rows(view, table, reverse=reverse)


def _keys(access: KeyLookup) -> Callable[[Context], list[bytes]]:
    """The keys of a lookup with alternatives, in order, each once."""
    combinations = _combinations(access.span)
    table = access.table

    def keys(context: Context) -> list[bytes]:
        found = set()
        for values in combinations(context):
            try:
                found.add(key_of(table, values))
            except DataError:
                continue
        return sorted(found)

    return keys


def _combinations(span: Span) -> Callable[[Context], Iterable[tuple[Any, ...]]]:
    """All choices of one alternative per column. NULL equals nothing, but IS NULL asks for it."""
    columns = [(compile_projection(equal.alternatives), equal.null) for equal in span.equal]

    def combinations(context: Context) -> Iterable[tuple[Any, ...]]:
        return product(
            *(
                [value for value in values((), context) if value is not None]
                + ([None] if null else [])
                for values, null in columns
            )
        )

    return combinations


def _ranges(span: Span, bounds: Callable[..., tuple[bytes, bytes]], *, reverse: bool) -> Ranges:
    """The byte ranges of a span, disjoint and in the order of reading."""
    combinations = _combinations(span)
    lower, upper = _bound(span.lower), _bound(span.upper)

    def ranges(context: Context) -> Iterable[tuple[bytes, bytes]]:
        low = lower and (lower[0]((), context), lower[1])
        high = upper and (upper[0]((), context), upper[1])
        found = {bounds(equal, low, high) for equal in combinations(context)}
        return sorted((pair for pair in found if pair[0] < pair[1]), reverse=reverse)

    return ranges


def _bound(bound: Bound | None) -> tuple[Evaluator, bool] | None:
    return None if bound is None else (compile_expression(bound.expr), bound.inclusive)


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


def _count(access: FullScan | KeyRange | IndexRange) -> Reader:
    """count(*) of an access path: its keys are enough."""
    table = access.table
    match access:
        case FullScan():
            whole = [row_bounds(table)]
            ranges: Ranges = lambda context: whole  # noqa: E731
        case KeyRange(_, span, _):
            ranges = _ranges(
                span,
                lambda equal, low, high: row_bounds(table, equal, lower=low, upper=high),
                reverse=False,
            )
        case IndexRange(_, index, span, _):
            ranges = _ranges(
                span,
                lambda equal, low, high: index_bounds(table, index, equal, lower=low, upper=high),
                reverse=False,
            )

    def count(view: View, context: Context) -> tuple[Row]:
        total = 0
        for start, stop in ranges(context):
            total += sum(1 for _ in view.scan(start, stop))
        return ((total,),)

    return count
