"""Access paths at work: the rows, row keys or number of rows that a key lookup or a range finds.

    IndexRange(note, note_author, author IN ($1, $2), written > $3, backwards)

      author = $2, written > $3   ->  start, stop    one byte range for each choice of alternatives,
      author = $1, written > $3   ->  start, stop    in the order of reading

A value that the column cannot hold equals nothing; NULL equals nothing either, unless IS NULL asks
for it. Ranges of different alternatives do not overlap, so no row is read twice.

In a lookup join the span reads the row of the other side: `access_finder` gives the rows for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice, product
from operator import itemgetter
from typing import Any, TypeAlias

from murmur.catalog.decoding import row_reader
from murmur.catalog.keycode import key_decoder
from murmur.catalog.keyspace import entry_prefix
from murmur.catalog.kv_tables import KvReader
from murmur.catalog.layout import layout_of
from murmur.catalog.ranges import index_bounds, row_bounds
from murmur.catalog.rows import key_of, scan_index, scan_rows
from murmur.catalog.schema import Table
from murmur.errors import DataError
from murmur.kvcore.view import View
from murmur.sql.compile import (
    Evaluator,
    compile_expression,
    compile_predicate,
    compile_projection,
)
from murmur.sql.execution import Context
from murmur.sql.memory import weight
from murmur.sql.plan import (
    Access,
    Bound,
    Columns,
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
Finder: TypeAlias = Callable[[View, Context], Callable[[Row], list[Row]]]
Scan: TypeAlias = FullScan | KeyRange | IndexRange
Ranges: TypeAlias = Callable[[Row, Context], Iterable[tuple[bytes, bytes]]]

CACHED = 10_000  # keys whose rows a lookup join remembers

_ROW = itemgetter(1)


def access_rows(access: Access) -> Reader:
    """The function that gives the rows of an access path."""
    if isinstance(access, KeyLookup):
        if all(len(equal.alternatives) == 1 for equal in access.span.equal):
            return _single_lookup(access)
    elif isinstance(access, FullScan):
        table, reverse, columns = access.table, access.reverse, _ids(access)
        return lambda view, context: map(
            _ROW, context.halt.guard(scan_rows(view, table, reverse=reverse, columns=columns))
        )
    elif isinstance(access, IndexRange) and access.covering:
        read = _covered(access)
        return lambda view, context: context.halt.guard(read(view, context, ()))
    keyed = _keyed(access)
    return lambda view, context: map(_ROW, context.halt.guard(keyed(view, context)))


def access_finder(access: KeyLookup | KeyRange | IndexRange) -> Finder:
    """The function that gives the rows that one row of a lookup join's other side finds."""
    names = compile_projection(
        [
            *(each for equal in access.span.equal for each in equal.alternatives),
            *(bound.expr for bound in (access.span.lower, access.span.upper) if bound is not None),
        ]
    )
    read = _found(access)

    def finder(view: View, context: Context) -> Callable[[Row], list[Row]]:
        known: dict[Row, list[Row]] = {}

        def find(row: Row) -> list[Row]:
            name = names(row, context)
            rows = known.get(name)
            if rows is None:
                rows = list(read(view, context, row))
                if len(known) < CACHED:
                    context.memory.add(weight(name) + (len(rows) * weight(rows[0]) if rows else 0))
                    known[name] = rows
            return rows

        return find

    return finder


def _found(
    access: KeyLookup | KeyRange | IndexRange,
) -> Callable[[View, Context, Row], Iterable[Row]]:
    if isinstance(access, KeyLookup):
        keys, read = _keys(access), _reader(access.table, access.columns)

        def lookup(view: View, context: Context, row: Row) -> Iterator[Row]:
            for key in keys(row, context):
                found = read(view, key)
                if found is not None:
                    yield found

        return lookup
    if isinstance(access, IndexRange) and access.covering:
        return _covered(access)
    scan = _scan(access)
    return lambda view, context, row: map(_ROW, scan(view, context, row))


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
        for start, stop in ranges((), context):
            total += sum(1 for _ in context.halt.guard(view.scan(start, stop)))
        return ((total,),)

    return count


def access_reaches(access: KeyRange | IndexRange) -> Callable[[View, Context, int], bool]:
    """The function that tells whether there are so many keys; it looks at no more of them."""
    ranges = _ranges(access)

    def reaches(view: View, context: Context, count: int) -> bool:
        left = count
        for start, stop in ranges((), context):
            left -= sum(1 for _ in islice(view.scan(start, stop), left))
            if left <= 0:
                return True
        return False

    return reaches


def _ids(access: Scan) -> list[int] | None:
    """The ids of the columns that an access path gives; None: all."""
    if access.columns is None:
        return None
    return [access.table.columns[position].id for position in access.columns]


def _reader(table: Table, columns: Columns) -> Callable[[View, bytes], Row | None]:
    """The function that reads a row's columns, by its key; None if there is no row."""
    wanted = [
        table.columns[position]
        for position in (range(len(table.columns)) if columns is None else columns)
    ]
    if table.kv is not None:
        read_kv = KvReader(table, wanted).row

        def read_register(view: View, key: bytes) -> Row | None:
            cell = view.get(key)
            return None if cell is None else read_kv(key, cell)

        return read_register
    read = layout_of(table).read if columns is None else row_reader(wanted)

    def read_record(view: View, key: bytes) -> Row | None:
        cell = view.get(key)
        return None if cell is None else read(cell)

    return read_record


def _single_lookup(access: KeyLookup) -> Reader:
    """The commonest read of all: one row by its key."""
    table, read = access.table, _reader(access.table, access.columns)
    values_of = compile_projection([equal.alternatives[0] for equal in access.span.equal])

    def lookup(view: View, context: Context) -> tuple[Row, ...]:
        try:
            key = key_of(table, values_of((), context))
        except DataError:
            return ()
        row = read(view, key)
        return () if row is None else (row,)

    return lookup


def _keyed(access: Access) -> KeyedReader:
    if isinstance(access, KeyLookup):
        keys, read = _keys(access), _reader(access.table, access.columns)

        def lookup(view: View, context: Context) -> Iterator[tuple[bytes, Row]]:
            for key in keys((), context):
                row = read(view, key)
                if row is not None:
                    yield key, row

        return lookup
    if isinstance(access, TrigramScan):
        return trigram_pairs(access)
    scan = _scan(access)
    return lambda view, context: scan(view, context, ())


def _scan(access: Scan) -> Callable[[View, Context, Row], Iterable[tuple[bytes, Row]]]:
    """Keys and rows of a range, which may depend on a row."""
    table, reverse, columns = access.table, access.reverse, _ids(access)
    ranges = _ranges(access)
    if isinstance(access, IndexRange):
        index, read = access.index, _reader(table, access.columns)

        def scan(view: View, context: Context, row: Row) -> Iterator[tuple[bytes, Row]]:
            for start, stop in ranges(row, context):
                for key in scan_index(view, table, index, start, stop, reverse=reverse):
                    found = read(view, key)
                    assert found is not None, "an index entry without its row"
                    yield key, found

        return scan
    return lambda view, context, row: chain.from_iterable(
        scan_rows(view, table, start, stop, reverse=reverse, columns=columns)
        for start, stop in ranges(row, context)
    )


def _covered(access: IndexRange) -> Callable[[View, Context, Row], Iterator[Row]]:
    """Rows from the entries of an index alone."""
    table, index, reverse = access.table, access.index, access.reverse
    key = [table.column_by_id(each) for each in table.primary_key]
    types = [*map(table.type_of, index.columns), *(column.type for column in key)]
    down = [*(column.descending for column in index.columns), *(False for _ in key)]
    decode = key_decoder(types, down)
    ids = [*index.column_ids, *table.primary_key]
    places = {column.id: column.position for column in table.columns}
    positions = [places.get(each) for each in ids]  # none of an expression
    assert access.columns is not None
    chosen = [positions.index(position) for position in access.columns]
    take = (
        itemgetter(*chosen)
        if len(chosen) > 1
        else lambda values: tuple([values[at] for at in chosen])
    )
    ranges, start_at = _ranges(access), len(entry_prefix(index.id, unique=index.unique))
    keyed = bool(table.primary_key)

    def scan(view: View, context: Context, row: Row) -> Iterator[Row]:
        for start, stop in ranges(row, context):
            for entry, size in view.scan(start, stop, reverse=reverse):
                end = len(entry) if keyed else len(entry) - int.from_bytes(size)
                yield take(decode(entry, start_at, end))

    return scan


def _keys(access: KeyLookup) -> Callable[[Row, Context], list[bytes]]:
    """The keys of a lookup, in order, each once."""
    combinations = _combinations(access.span)
    table = access.table

    def keys(row: Row, context: Context) -> list[bytes]:
        found = set()
        for values in combinations(row, context):
            try:
                found.add(key_of(table, values))
            except DataError:
                continue
        return sorted(found)

    return keys


def _combinations(span: Span) -> Callable[[Row, Context], Iterable[tuple[Any, ...]]]:
    """All choices of one alternative per column."""
    columns = [(compile_projection(equal.alternatives), equal.null) for equal in span.equal]

    def alternatives(row: Row, context: Context) -> Iterator[list[Any]]:
        for values_of, null in columns:
            values = [value for value in values_of(row, context) if value is not None]
            yield [*values, None] if null else values

    return lambda row, context: product(*alternatives(row, context))


def _ranges(access: Scan) -> Ranges:
    """The byte ranges of an access path, disjoint and in the order of reading."""
    bounds: Callable[..., tuple[bytes, bytes]]
    match access:
        case FullScan(table):
            whole = [row_bounds(table)]
            return lambda row, context: whole
        case KeyRange(table, span):
            bounds = partial(row_bounds, table)
        case IndexRange(table, index, span):
            bounds = partial(index_bounds, table, index)
    combinations, reverse = _combinations(span), access.reverse
    lower, upper = _bound(span.lower), _bound(span.upper)

    def ranges(row: Row, context: Context) -> Iterable[tuple[bytes, bytes]]:
        low = lower and (lower[0](row, context), lower[1])
        high = upper and (upper[0](row, context), upper[1])
        found = {bounds(equal, lower=low, upper=high) for equal in combinations(row, context)}
        return sorted((pair for pair in found if pair[0] < pair[1]), reverse=reverse)

    return ranges


def _bound(bound: Bound | None) -> tuple[Evaluator, bool] | None:
    return None if bound is None else (compile_expression(bound.expr), bound.inclusive)
