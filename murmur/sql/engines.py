"""Which engine runs a query, and the columnar plan when it is that one.

    by key, by index, LIMIT in an index's order    the row engine
    anything else that it can run                  the cheaper one (rules/cost.py), decided when the
                                                   statement is run (choice.py)
    windows, WITH RECURSIVE, rare things           the columnar engine

The binder of the row engine refuses with NeedsColumnar, and the reason is kept for EXPLAIN. Where
there is no columnar engine that refusal is the answer. `SET engine` decides instead of the cost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.errors import DatabaseError
from murmur.sql.agreement import engines_agree
from murmur.sql.binder import Binding
from murmur.sql.binder_columnar import KEYED, ColumnarBinder
from murmur.sql.binder_query import QueryBinder
from murmur.sql.columnar import columnar_text
from murmur.sql.dependent_columns import with_dependent_columns
from murmur.sql.expressions import NeedsColumnar
from murmur.sql.plan import ColumnarQuery, Query, ResultColumn, RowQuery
from murmur.sql.rules import Estimates, optimise
from murmur.sql.rules.cost import costs_of
from murmur.sql.rules.facts import Unknown
from murmur.sql.rules.narrow import is_narrow
from murmur.sql.rules.reason import reason_of
from murmur.sql.rules.shape import tables

Tree: TypeAlias = Any  # sqlglot's


def plan_query(tree: Tree, binding: Binding) -> Query:
    """The plan of a SELECT, VALUES or set operation."""
    tree = with_dependent_columns(tree, binding.catalog)
    types = list(binding.types)
    try:
        return plan_rows(tree, binding)
    except NeedsColumnar as needs:
        reason = needs.reason
    except DatabaseError:
        if _is_plain(tree):
            raise
        reason = "what only DuckDB binds"  # or it says what is wrong
    binding.types[:] = types
    return plan_columnar(tree, binding, reason)


def _is_plain(tree: Tree) -> bool:
    """Whether it is a SELECT over one relation at most, without groups."""
    wide = (exp.Subquery, exp.SetOperation, exp.With, exp.Join, exp.Group, exp.Having, exp.Exists)
    return isinstance(tree, exp.Select) and tree.find(*wide) is None


def plan_rows(tree: Tree, binding: Binding) -> RowQuery:
    """The row engine's plan of a query, with what it costs where that is more than a few reads."""
    bound = QueryBinder(binding).query(tree, {}, None)
    estimates = Estimates(binding.facts or Unknown())
    rows = optimise(bound.rows, estimates)
    return RowQuery(rows, bound.columns, reason_of(rows), tables(rows), costs_of(rows, estimates))


def plan_found(tree: Tree, binding: Binding, reason: str) -> Query:
    """The plan of a query whose rows a statement writes, or by which it finds those that it writes.

    A plan of the row engine that may cost more there has the columnar one with it. `reason` is for
    EXPLAIN, of a query that asks for hidden row keys, which only the columnar engine is given.
    """
    if any(table.meta.get(KEYED) for table in tree.find_all(exp.Table)):
        return plan_columnar(tree, binding, reason)
    query = plan_query(tree, binding)
    if isinstance(query, ColumnarQuery) or query.costs is None:
        return query
    if query.costs.row_us <= query.costs.columnar_us:
        return query
    return replace(query, alternative=plan_alternative(query, tree, binding))


def plan_columnar(tree: Tree, binding: Binding, reason: str) -> ColumnarQuery:
    """The plan of a query on the columnar engine. The tree is left as it was."""
    binder = ColumnarBinder(binding.catalog, binding.system, binding.text)
    bound, names = binder.bind(with_dependent_columns(tree, binding.catalog).copy())
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

    What one table alone answers moves only if both answer alike, unless it is `forced`.
    """
    if not forced and is_narrow(query.rows) and not engines_agree(query.rows):
        return None
    try:
        # What the row engine's binder has learnt of the parameters stays as it is.
        own = replace(binding, types=list(binding.types))
        plan = plan_columnar(tree, own, "SET engine" if forced else query.reason)
    except DatabaseError:
        if forced:
            raise
        return None  # a function that only the row engine has, say: its plan stands
    return replace(plan, costs=query.costs)
