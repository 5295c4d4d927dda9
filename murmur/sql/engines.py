"""Which engine runs a query, and the columnar plan when it is that one.

    one table, filtered                    the row engine; a full scan of a large table the columnar
                                           one, if both answer alike (agreement.py, session.py)
    joins, grouping, subqueries, ...       the cheaper one for the whole statement (rules/cost.py)
    windows, WITH RECURSIVE, rare things   the columnar engine

The binders of the row engine refuse with NeedsColumnar, and the reason is kept for EXPLAIN. Where
there is no columnar engine that refusal is the answer. `SET engine` decides instead of the cost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from murmur.errors import DatabaseError
from murmur.sql.agreement import engines_agree
from murmur.sql.binder import Binding, bind_select
from murmur.sql.binder_columnar import ColumnarBinder
from murmur.sql.binder_query import QueryBinder
from murmur.sql.columnar import columnar_text
from murmur.sql.expressions import NeedsColumnar
from murmur.sql.plan import ColumnarQuery, Costs, Query, ResultColumn, RowQuery
from murmur.sql.rules import Estimates, optimise
from murmur.sql.rules.cost import columnar_cost, row_cost
from murmur.sql.rules.facts import Unknown
from murmur.sql.rules.shape import tables

Tree: TypeAlias = Any  # sqlglot's


def plan_query(tree: Tree, binding: Binding) -> Query:
    """The plan of a SELECT, VALUES or set operation."""
    try:
        return bind_select(tree, binding)
    except NeedsColumnar as needs:
        reason = needs.reason
    binding.types[:] = [None] * len(binding.types)
    try:
        return plan_wide(tree, binding, reason)
    except NeedsColumnar as needs:
        reason = needs.reason
    except DatabaseError:
        pass  # the columnar binder takes more, or says what is wrong
    binding.types[:] = [None] * len(binding.types)
    return plan_columnar(tree, binding, reason)


def plan_wide(tree: Tree, binding: Binding, reason: str) -> RowQuery:
    """The row engine's plan of a query over more than one table, with what it costs."""
    bound = QueryBinder(binding).query(tree, {}, None)
    estimates = Estimates(binding.facts or Unknown())
    rows = optimise(bound.rows, estimates)
    costs = Costs(row_cost(rows, estimates), columnar_cost(rows, estimates))
    return RowQuery(rows, bound.columns, reason, wide=True, tables=tables(rows), costs=costs)


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


def plan_alternative(
    query: RowQuery, tree: Tree, binding: Binding, *, forced: bool = False
) -> ColumnarQuery | None:
    """The columnar plan of a query that the row engine can run too.

    One table alone moves only if both answer alike, unless it is `forced`.
    """
    if not (forced or query.wide) and (query.whole is None or not engines_agree(query.rows)):
        return None
    reason = query.reason if query.wide else "full scan of a large table"
    try:
        # What the row engine's binder has learnt of the parameters stays as it is.
        own = replace(binding, types=list(binding.types))
        plan = plan_columnar(tree, own, "SET engine" if forced else reason)
    except DatabaseError:
        if forced:
            raise
        return None  # a function that only the row engine has, say: its plan stands
    return replace(plan, costs=query.costs)
