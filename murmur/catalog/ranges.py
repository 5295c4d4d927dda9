"""Ranges: which keys a condition on leading columns can match.

    row_bounds(flight, (2013,), lower=(5, True), upper=(8, False))    year = 2013, 5 <= month < 8

The columns of a key or an index are compared in order: as many as `equal` has by equality, and the
next one between `lower` and `upper`, each a value and whether it is inclusive. In `equal`, None
means IS NULL; a range never matches NULL, as comparisons in SQL do not. Where a column descends,
its range is turned round here, so callers speak of values only.

Values must be of the column's own Python type. One that the column cannot hold equals nothing, and
bounds nothing or everything: 100000 is above every SMALLINT.
"""

from __future__ import annotations

from collections.abc import Sequence

from murmur.catalog import keyspace
from murmur.catalog.keycode import NOT_OF_TYPE, ColumnEncoder, column_encoder, value_range
from murmur.catalog.keyspace import after_prefix, prefix_range
from murmur.catalog.kv_tables import kv_bounds
from murmur.catalog.schema import Index, Table
from murmur.catalog.types import SqlType, Value, integer_bounds

Bound = tuple[Value, bool]  # the value, and whether it is inclusive
Bounds = tuple[bytes, bytes]


def row_bounds(
    table: Table,
    equal: Sequence[Value] = (),
    *,
    lower: Bound | None = None,
    upper: Bound | None = None,
) -> Bounds:
    """start and stop for scan_rows, by the table's primary key."""
    if table.kv is not None:
        return kv_bounds(table, equal, lower=lower, upper=upper)
    columns = [(table.column_by_id(column_id).type, False) for column_id in table.primary_key]
    return _bounds(keyspace.row_prefix(table.id), columns, equal, lower, upper)


def index_bounds(
    table: Table,
    index: Index,
    equal: Sequence[Value] = (),
    *,
    lower: Bound | None = None,
    upper: Bound | None = None,
) -> Bounds:
    """start and stop for scan_index."""
    columns = [(table.type_of(column), column.descending) for column in index.columns]
    prefix = keyspace.entry_prefix(index.id, unique=index.unique)
    return _bounds(prefix, columns, equal, lower, upper)


def _bounds(
    prefix: bytes,
    columns: Sequence[tuple[SqlType, bool]],
    equal: Sequence[Value],
    lower: Bound | None,
    upper: Bound | None,
) -> Bounds:
    for (sql_type, descending), value in zip(columns, equal, strict=False):
        try:
            prefix += column_encoder(sql_type, descending=descending)(value)
        except NOT_OF_TYPE:
            return prefix, prefix  # no row has it
    if lower is None and upper is None:
        return prefix_range(prefix)
    sql_type, descending = columns[len(equal)]
    encode = column_encoder(sql_type, descending=descending)
    first, last = value_range(prefix, descending=descending)
    if _beyond(sql_type, lower, above=True) or _beyond(sql_type, upper, above=False):
        return prefix, prefix
    if descending:
        lower, upper = upper, lower
    start = _edge(prefix, encode, lower, after=False)
    stop = _edge(prefix, encode, upper, after=True)
    return start or first, stop or last


def _edge(
    prefix: bytes, encode: ColumnEncoder, bound: Bound | None, *, after: bool
) -> bytes | None:
    """Where the keys of a bound begin or end; None when it bounds nothing."""
    if bound is None:
        return None
    value, inclusive = bound
    try:
        key = prefix + encode(value)
    except NOT_OF_TYPE:
        return None
    return after_prefix(key) if inclusive is after else key


def _beyond(sql_type: SqlType, bound: Bound | None, *, above: bool) -> bool:
    """Whether no value is within the bound: it is NULL, or outside of the column's integers."""
    if bound is None:
        return False
    if bound[0] is None:
        return True
    if not sql_type.is_integer or not isinstance(bound[0], int):
        return False
    smallest, largest = integer_bounds(sql_type)
    return bound[0] > largest if above else bound[0] < smallest
