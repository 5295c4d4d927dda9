"""Point queries by an index: few rows by the values of its leading columns.

    SELECT body FROM note WHERE author = ?      ->  run(snapshot, [7])  ->  [("hello",), ("bye",)]

As for queries by key (point.py) there is no context and there are no operators: the range of the
index is encoded, its entries are read, and for each the row. Rows come in the order of the index,
as from the plan's own reader, and the answer is the same. Who finds more than FEW leaves the query
to that reader, which is lazy and can be told to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from murmur.catalog.decoding import row_reader
from murmur.catalog.keycode import NOT_OF_TYPE, column_encoder
from murmur.catalog.keyspace import entry_prefix, prefix_range, row_prefix
from murmur.catalog.types import SqlType
from murmur.kvcore.view import View
from murmur.sql.expressions import Column, Literal, Parameter
from murmur.sql.parameter_values import parameter_checker
from murmur.sql.parameters import Parameters
from murmur.sql.plan import IndexRange, Project, RowQuery

FEW = 32  # rows that are read at once

Row: TypeAlias = tuple[Any, ...]
Given: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
IndexReader: TypeAlias = Callable[[View, Given], "list[Row] | None"]


def compile_point_index(
    query: RowQuery, parameters: Parameters, types: Sequence[SqlType | None]
) -> IndexReader | None:
    """The function that answers the query from a view, None if it finds many; None if none can."""
    rows = query.rows
    if not isinstance(rows, Project) or not isinstance(rows.source, IndexRange):
        return None
    access = rows.source
    table, index, span = access.table, access.index, access.span
    chosen = [expr.index for expr in rows.exprs if isinstance(expr, Column)]
    if len(chosen) < len(rows.exprs) or table.kv is not None:
        return None
    if span.lower is not None or span.upper is not None or not span.equal:
        return None
    parts: list[tuple[Callable[[Any], bytes], int, Any]] = []
    for equal, column in zip(span.equal, index.columns, strict=False):
        if equal.null or len(equal.alternatives) != 1:
            return None
        encode = column_encoder(table.type_of(column), descending=column.descending)
        match equal.alternatives[0]:
            case Parameter(position):
                parts.append((encode, position, None))
            case Literal(value):
                parts.append((encode, -1, value))
            case _:
                return None
    held = table.columns
    if access.columns is not None:
        held = tuple(table.columns[at] for at in access.columns)
    read = row_reader([held[at] for at in chosen])
    prefix, keys = entry_prefix(index.id, unique=index.unique), row_prefix(table.id)
    arrange, check = parameters.arrange, parameter_checker(types)
    reverse = access.reverse

    def answer(view: View, given: Given) -> list[Row] | None:
        values = check(arrange(given))
        start = prefix
        try:
            for encode, position, literal in parts:
                value = values[position] if position >= 0 else literal
                if value is None:
                    return []  # NULL equals nothing
                start += encode(value)
        except NOT_OF_TYPE:
            return []  # no column holds the value, so no row has it
        pairs = list(islice(view.scan(*prefix_range(start), reverse=reverse), FEW + 1))
        if len(pairs) > FEW:
            return None
        found = []
        for entry, size in pairs:
            cell = view.get(keys + entry[len(entry) - int.from_bytes(size) :])
            assert cell is not None, "an index entry without its row"
            found.append(read(cell))
        return found

    return answer
