"""Which engine runs a query, and the columnar plan when it is that one.

    one relation, no grouping, no subquery      the row engine
    anything wider                              the columnar engine, as a whole
    a full scan of a large table                the columnar engine, if both answer alike
                                                (agreement.py, session.py)

The row engine's binder refuses with NeedsColumnar, and the reason is kept for EXPLAIN. Where there
is no columnar engine that refusal is the answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from murmur.errors import DatabaseError
from murmur.sql.agreement import engines_agree
from murmur.sql.binder import Binding, bind_select
from murmur.sql.binder_columnar import ColumnarBinder
from murmur.sql.columnar import columnar_text
from murmur.sql.expressions import NeedsColumnar
from murmur.sql.plan import ColumnarQuery, Query, ResultColumn, RowQuery

Tree: TypeAlias = Any  # sqlglot's


def plan_query(tree: Tree, binding: Binding) -> Query:
    """The plan of a SELECT, VALUES or set operation."""
    try:
        return bind_select(tree, binding)
    except NeedsColumnar as reason:
        binding.types[:] = [None] * len(binding.types)
        return plan_columnar(tree, binding, reason.reason)


def plan_columnar(tree: Tree, binding: Binding, reason: str) -> ColumnarQuery:
    """The plan of a query on the columnar engine. The tree is left as it was."""
    binder = ColumnarBinder(binding.catalog, binding.system, binding.text)
    bound, names = binder.bind(tree.copy())
    text = columnar_text(bound)
    for position, sql_type in binder.parameters:
        if binding.types[position] is None:
            binding.types[position] = sql_type
    return ColumnarQuery(
        sql=text,
        relations=binder.relations,
        parameters=tuple(position for position, _ in binder.parameters),
        times=binder.times,
        columns=tuple(ResultColumn(name, sql_type) for name, sql_type in names.items()),
        reason=reason,
    )


def plan_alternative(query: RowQuery, tree: Tree, binding: Binding) -> ColumnarQuery | None:
    """The columnar plan of a query that the row engine can run too, if both answer it alike."""
    if query.whole is None or not engines_agree(query.rows):
        return None
    try:
        # What the row engine's binder has learnt of the parameters stays as it is.
        own = replace(binding, types=list(binding.types))
        return plan_columnar(tree, own, "full scan of a large table")
    except DatabaseError:
        return None  # a function that only the row engine has, say: its plan stands
