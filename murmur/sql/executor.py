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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeAlias

from murmur.errors import InvalidInput
from murmur.kvcore.view import View
from murmur.sql.access import Reader, Row, access_count, access_rows
from murmur.sql.compile import (
    compile_expression,
    compile_pipeline,
    compile_projection,
    compiles_subqueries,
)
from murmur.sql.execution import Context
from murmur.sql.expressions import Expr
from murmur.sql.grouping import compile_grouping
from murmur.sql.joins import compile_hash_join, compile_lookup_join
from murmur.sql.memory import weight
from murmur.sql.ordering import rank_of
from murmur.sql.plan import (
    Aggregate,
    Distinct,
    DistinctOn,
    Filter,
    FullScan,
    HashJoin,
    IndexRange,
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
    SortKey,
    SystemScan,
    TrigramScan,
    Values,
)
from murmur.sql.rules.narrow import counts_keys
from murmur.sql.subqueries import compile_subquery, settled

Watch: TypeAlias = Callable[[Rows, Reader], Reader]


def compile_query(rows: Rows, watch: Watch | None = None) -> Reader:
    """The function that gives the plan's rows; its expressions may hold subqueries."""
    read = compile_rows(rows, watch)

    def whole(view: View, context: Context) -> Iterable[Row]:
        # One context serves all rows of parameters of an executemany: nothing is left of the last.
        context.view, context.answers, context.shared = view, {}, {}
        context.memory.begin()
        return read(view, context)

    return whole


def compile_rows(rows: Rows, watch: Watch | None = None) -> Reader:
    """The function that gives the plan's rows. `watch` sees each operator and may wrap it."""
    if watch is None:
        return _compiled(rows, compile_rows)
    if isinstance(rows, Project) and isinstance(rows.source, Filter):
        below = compile_rows(rows.source, watch)  # not one loop: each has figures of its own
        return watch(rows, _pipeline(below, None, rows.exprs))
    return watch(rows, _compiled(rows, lambda source: compile_rows(source, watch)))


def _compiled(rows: Rows, compiled: Callable[[Rows], Reader]) -> Reader:
    """One operator, over sources that are compiled so."""
    match rows:
        case OneRow():
            return lambda view, context: ((),)
        case SystemScan(name, _):
            return lambda view, context: context.system_rows(name, view)
        case Values(lists):
            makers = [compile_projection(exprs) for exprs in lists]
            return lambda view, context: [make((), context) for make in makers]
        case KeyLookup() | KeyRange() | IndexRange() | TrigramScan() | FullScan():
            return access_rows(rows)
        case Project(Filter(source, predicate), exprs):
            return _pipeline(compiled(source), predicate, exprs)
        case Project(source, exprs):
            return _pipeline(compiled(source), None, exprs)
        case Filter(source, predicate):
            return _pipeline(compiled(source), predicate, None)
        case Limit(Sort(source, keys), count, offset) if count is not None:
            return _top(compiled(source), keys, count, offset)
        case Limit(source, count, offset):
            return _limit(compiled(source), count, offset)
        case Sort(source, keys):
            return _sort(compiled(source), keys)
        case Distinct(source):
            return _distinct(compiled(source))
        case Shared(source, key):
            return _shared(compiled(source), key)
        case DistinctOn(source, keys):
            return _distinct_on(compiled(source), keys)
        case HashJoin(left=left, right=right):
            return compile_hash_join(rows, compiled(left), compiled(right))
        case LookupJoin(left=left):
            return compile_lookup_join(rows, compiled(left))
        case SetOperation(op, keeps, left, right):
            return _set_operation(op, compiled(left), compiled(right), keeps_all=keeps)
        case Aggregate(FullScan() | KeyRange() | IndexRange() as source) if counts_keys(rows):
            return access_count(source)
        case Aggregate(source, aggregations, groups):
            read, run = compiled(source), compile_grouping(groups, aggregations)
            return lambda view, context: run(read(view, context), context)
    raise AssertionError(rows)


compiles_subqueries(lambda expr: compile_subquery(expr, compile_rows(expr.plan)))


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
    passes = [(rank_of(key), key.descending) for key in keys]

    def sorted_rows(view: View, context: Context) -> list[Row]:
        rows = list(context.memory.hold(read(view, context)))
        for rank, descending in reversed(passes):  # sorting is stable, the last term goes first
            rows.sort(key=lambda row: rank(row, context), reverse=descending)
        return rows

    return sorted_rows


def _top(read: Reader, keys: Sequence[SortKey], count: Expr, offset: Expr | None) -> Reader:
    """The first rows of an order, without sorting the others."""
    window = _window(count, offset)
    sort = _sort(read, keys)
    ranks = [rank_of(key) for key in keys]
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


def _shared(read: Reader, key: int) -> Reader:
    """The rows, read by whoever asks first and kept for the others."""

    def shared(view: View, context: Context) -> list[Row]:
        rows = context.shared.get(key)
        if rows is None:
            rows = context.shared[key] = list(context.memory.hold(read(view, context)))
        return rows

    return shared


def _distinct(read: Reader) -> Reader:
    return lambda view, context: _each_once(read(view, context), context)


def _each_once(rows: Iterable[Row], context: Context) -> Iterator[Row]:
    seen = set()
    for row in map(settled, rows):
        if row not in seen:
            seen.add(row)
            context.memory.add(weight(row))
            yield row


def _distinct_on(read: Reader, keys: Sequence[Expr]) -> Reader:
    name_of = compile_projection(keys)

    def first_rows(view: View, context: Context) -> Iterator[Row]:
        seen = set()
        for row in read(view, context):
            name = settled(name_of(row, context))
            if name not in seen:
                seen.add(name)
                context.memory.add(weight(name))
                yield row

    return first_rows


def _set_operation(op: str, left: Reader, right: Reader, *, keeps_all: bool) -> Reader:
    """UNION, INTERSECT, EXCEPT; with ALL each row counts as often as it is there."""

    def union(view: View, context: Context) -> Iterable[Row]:
        rows = chain(left(view, context), right(view, context))
        return rows if keeps_all else _each_once(rows, context)

    def compared(view: View, context: Context) -> Iterator[Row]:
        counts = Counter(map(settled, context.memory.hold(right(view, context))))
        wanted = op == "intersect"
        seen = set()
        for row in map(settled, left(view, context)):
            if keeps_all:
                there = counts[row] > 0
                if there:
                    counts[row] -= 1
                if there is wanted:
                    yield row
            elif (row in counts) is wanted and row not in seen:
                seen.add(row)
                context.memory.add(weight(row))
                yield row

    return union if op == "union" else compared
