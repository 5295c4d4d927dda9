"""Point queries: one row by its whole primary key, the commonest statement of an application.

    SELECT body FROM note WHERE id = ?      ->  run(replica.get, [7])  ->  [("hello",)]

Such a statement reads one key, so it needs no snapshot, no context and no iterators: parameters are
checked, the key is encoded, and the row is read from the cell's bytes, in one function.

Invariant: the answer, errors included, is that of the plan's own reader (access.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from murmur.catalog.decoding import row_reader
from murmur.catalog.keycode import NOT_OF_TYPE, column_encoder
from murmur.catalog.keyspace import row_prefix
from murmur.catalog.types import SqlType
from murmur.sql.expressions import Column, Literal, Parameter
from murmur.sql.parameter_values import parameter_checker
from murmur.sql.parameters import Parameters
from murmur.sql.plan import KeyLookup, Project, RowQuery
from murmur.sql.point_kv import kv_point_reader

Row: TypeAlias = tuple[Any, ...]
Get: TypeAlias = Callable[[bytes], bytes | None]
Given: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
PointReader: TypeAlias = Callable[[Get, Given], list[Row]]


def compile_point(
    query: RowQuery, parameters: Parameters, types: Sequence[SqlType | None]
) -> PointReader | None:
    """The function that answers the query from a `get`; None if it is no point query."""
    rows = query.rows
    chosen = None
    if isinstance(rows, Project):
        if not all(type(expr) is Column for expr in rows.exprs):
            return None
        chosen = [expr.index for expr in rows.exprs if isinstance(expr, Column)]
        rows = rows.source
    if not isinstance(rows, KeyLookup):
        return None
    table = rows.table
    encoders = [column_encoder(table.column_by_id(each).type) for each in table.primary_key]
    parts: list[tuple[Callable[[Any], bytes], int, Any]] = []
    for equal, encode in zip(rows.span.equal, encoders, strict=True):
        if equal.null or len(equal.alternatives) != 1:
            return None
        match equal.alternatives[0]:
            case Parameter(index):
                parts.append((encode, index, None))
            case Literal(value):
                parts.append((encode, -1, value))
            case _:
                return None
    columns = list(table.columns)
    if rows.columns is not None:
        columns = [table.columns[at] for at in rows.columns]
    if chosen is not None:
        columns = [columns[at] for at in chosen]
    if table.kv is not None:
        ((_, index, literal),) = parts
        check_all, arranged = parameter_checker(types), parameters.arrange
        return kv_point_reader(
            table, columns, (index, literal), lambda given: check_all(arranged(given))
        )
    read = row_reader(columns)
    prefix = row_prefix(table.id)
    arrange, check = parameters.arrange, parameter_checker(types)

    def answer(get: Get, given: Given) -> list[Row]:
        values = check(arrange(given))
        key = prefix
        try:
            for encode, index, value in parts:
                key += encode(values[index] if index >= 0 else value)
        except NOT_OF_TYPE:
            return []  # no column holds the value, so no row has it
        cell = get(key)
        return [] if cell is None else [read(cell)]

    return answer
