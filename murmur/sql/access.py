"""Access paths at work: the rows, row keys or number of rows that a key lookup or a range finds.

    IndexRange(note, note_author, author IN ($1, $2), written > $3, backwards)

      author = $2, written > $3   ->  start, stop    one byte range for each choice of alternatives,
      author = $1, written > $3   ->  start, stop    in the order of reading

A value that the column cannot hold equals nothing; NULL equals nothing either, unless IS NULL asks
for it. Ranges of different alternatives do not overlap, so no row is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, product
from operator import itemgetter
from typing import Any, TypeAlias

from murmur.catalog.ranges import index_bounds, row_bounds
from murmur.catalog.rows import get_row, key_of, scan_index, scan_rows
from murmur.errors import DataError
from murmur.kvcore.view import View
from murmur.sql.compile import (
    Evaluator,
    compile_expression,
    compile_predicate,
    compile_projection,
)
from murmur.sql.execution import Context
from murmur.sql.plan import (
    Access,
    Bound,
    Filter,
    FullScan,
    IndexRange,
    KeyLookup,
    KeyRange,
    Rows,
    Span,
    TrigramScan,
)
from murmur.sql.trigram_access import trigram_pairs

Row: TypeAlias = tuple[Any, ...]
Reader: TypeAlias = Callable[[View, Context], Iterable[Row]]
KeyedReader: TypeAlias = Callable[[View, Context], Iterable[tuple[bytes, Row]]]
Scan: TypeAlias = FullScan | KeyRange | IndexRange
Ranges: TypeAlias = Callable[[Context], Iterable[tuple[bytes, bytes]]]

_ROW = itemgetter(1)


def access_rows(access: Access) -> Reader:
    """The function that gives the rows of an access path."""
    if isinstance(access, KeyLookup):
        if all(len(equal.alternatives) == 1 for equal in access.span.equal):
            return _single_lookup(access)
    elif isinstance(access, FullScan):
        table, reverse = access.table, access.reverse
        return lambda view, context: map(
            _ROW, context.halt.guard(scan_rows(view, table, reverse=reverse))
        )
    keyed = _keyed(access)
    return lambda view, context: map(_ROW, context.halt.guard(keyed(view, context)))


def access_keys(rows: Rows) -> KeyedReader:
    """The function that gives row keys and rows, for UPDATE and DELETE."""
    if isinstance(rows, Filter):
        read, holds = access_keys(rows.source), compile_predicate(rows.predicate)
        return lambda view, context: (
            pair for pair in read(view, context) if holds(pair[1], context)
        )
    assert isinstance(rows, Access)
    keyed = _keyed(rows)
    return lambda view, context: context.halt.guard(keyed(view, context))


def access_count(access: Scan) -> Reader:
    """The function that gives count(*) of an access path: its keys are enough."""
    ranges = _ranges(access)
    if access.table.kv is not None:
        keyed = _keyed(access)  # not every key is that of a row
        return lambda view, context: ((sum(1 for _ in context.halt.guard(keyed(view, context))),),)

    def count(view: View, context: Context) -> tuple[Row]:
        total = 0
        for start, stop in ranges(context):
            total += sum(1 for _ in context.halt.guard(view.scan(start, stop)))
        return ((total,),)

    return count


def _single_lookup(access: KeyLookup) -> Reader:
    """The commonest read of all: one row by its key."""
    table = access.table
    values_of = compile_projection([equal.alternatives[0] for equal in access.span.equal])

    def lookup(view: View, context: Context) -> tuple[Row, ...]:
        try:
            key = key_of(table, values_of((), context))
        except DataError:
            return ()
        row = get_row(view, table, key)
        return () if row is None else (row,)

    return lookup


def _keyed(access: Access) -> KeyedReader:
    table = access.table
    if isinstance(access, KeyLookup):
        keys = _keys(access)

        def lookup(view: View, context: Context) -> Iterator[tuple[bytes, Row]]:
            for key in keys(context):
                row = get_row(view, table, key)
                if row is not None:
                    yield key, row

        return lookup
    if isinstance(access, TrigramScan):
        return trigram_pairs(access)
    ranges, reverse = _ranges(access), access.reverse
    if isinstance(access, IndexRange):
        index = access.index

        def scan(view: View, context: Context) -> Iterator[tuple[bytes, Row]]:
            for start, stop in ranges(context):
                for key in scan_index(view, table, index, start, stop, reverse=reverse):
                    row = get_row(view, table, key)
                    assert row is not None, "an index entry without its row"
                    yield key, row

        return scan
    return lambda view, context: chain.from_iterable(
        scan_rows(view, table, start, stop, reverse=reverse) for start, stop in ranges(context)
    )


def _keys(access: KeyLookup) -> Callable[[Context], list[bytes]]:
    """The keys of a lookup, in order, each once."""
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
    """All choices of one alternative per column."""
    columns = [(compile_projection(equal.alternatives), equal.null) for equal in span.equal]

    def alternatives(context: Context) -> Iterator[list[Any]]:
        for values_of, null in columns:
            values = [value for value in values_of((), context) if value is not None]
            yield [*values, None] if null else values

    return lambda context: product(*alternatives(context))


def _ranges(access: Scan) -> Ranges:
    """The byte ranges of an access path, disjoint and in the order of reading."""
    bounds: Callable[..., tuple[bytes, bytes]]
    match access:
        case FullScan(table):
            whole = [row_bounds(table)]
            return lambda context: whole
        case KeyRange(table, span):
            bounds = partial(row_bounds, table)
        case IndexRange(table, index, span):
            bounds = partial(index_bounds, table, index)
    combinations, reverse = _combinations(span), access.reverse
    lower, upper = _bound(span.lower), _bound(span.upper)

    def ranges(context: Context) -> Iterable[tuple[bytes, bytes]]:
        low = lower and (lower[0]((), context), lower[1])
        high = upper and (upper[0]((), context), upper[1])
        found = {bounds(equal, lower=low, upper=high) for equal in combinations(context)}
        return sorted((pair for pair in found if pair[0] < pair[1]), reverse=reverse)

    return ranges


def _bound(bound: Bound | None) -> tuple[Evaluator, bool] | None:
    return None if bound is None else (compile_expression(bound.expr), bound.inclusive)
