"""The rows of a query within a statement that writes: INSERT ... SELECT, UPDATE ... FROM, MERGE.

    read = compile_found(query)
    rows = list(read(tx, context))      read to the end before the first row is written

The query runs on the engine that costs less, or on that of SET engine, and sees what the
transaction has written already.
"""

from __future__ import annotations

from collections.abc import Iterable

from murmur.kvcore.view import View
from murmur.sql.access import Reader, Row
from murmur.sql.choice import weighed
from murmur.sql.execution import Context
from murmur.sql.executor import compile_query
from murmur.sql.plan import ColumnarQuery, Query


def compile_found(query: Query) -> Reader:
    """The function that gives the query's rows."""
    if isinstance(query, ColumnarQuery):
        return lambda view, context: context.columnar_rows(query, view)
    read, costs, other = compile_query(query.rows), query.costs, query.alternative
    if other is None or costs is None:
        return read

    def found(view: View, context: Context) -> Iterable[Row]:
        columnar = context.columnar
        if columnar is None or context.engine == "row":
            return read(view, context)
        if context.engine == "auto":
            now = weighed(costs, view, columnar)
            if now.row_us <= now.columnar_us:
                return read(view, context)
        return context.columnar_rows(other, view)

    return found
