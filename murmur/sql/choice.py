"""The choice of an engine for one execution: what it costs here and now.

    row 31 ms, columnar 3.2 ms           the columnar engine
    in a transaction that has written    its tables have to be made into Arrow for this statement
                                         alone: columnar 12 ms, or more than 31
    WHERE at > ?                         guessed at a third of the table: the index is asked, and if
                                         it ends before it has cost what the other engine costs,
                                         the row engine

A plan is made once; what a parameter asks for, and which tables are in Arrow already, is known only
when it is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Protocol

from murmur.kvcore.transaction import Transaction
from murmur.kvcore.view import View
from murmur.sql.execution import Context
from murmur.sql.plan import ColumnarQuery, Costs, RowQuery
from murmur.sql.plan_writes import Plan
from murmur.sql.relation import ColumnarEngine, Relation
from murmur.sql.rules.cost import ARROW_US, PRIVATE_US


class Planned(Protocol):
    """A query as it was prepared."""

    @property
    def plan(self) -> Plan | None:
        """Its plan."""
        ...

    @property
    def reaches(self) -> Callable[[View, Context, int], bool] | None:
        """Whether the only access path of the plan has so many keys, if that can be asked."""
        ...

    def alternative(self) -> ColumnarQuery | None:
        """The plan on the columnar engine, if it can run the query."""
        ...


def cheaper_plan(
    prepared: Planned, view: View, context: Context | None, columnar: ColumnarEngine
) -> RowQuery | ColumnarQuery:
    """The plan of a query on the engine that it costs less on; without a context by guess alone."""
    plan = prepared.plan
    assert isinstance(plan, RowQuery | ColumnarQuery)
    costs = plan.costs
    if isinstance(plan, ColumnarQuery) or costs is None or costs.row_us <= costs.columnar_us:
        return plan
    costs = weighed(costs, view, columnar)
    plan = replace(plan, costs=costs)
    if costs.row_us <= costs.columnar_us:
        return plan
    reaches = prepared.reaches
    if context is not None and reaches is not None:
        share = costs.columnar_us / costs.row_us
        if not reaches(view, context, ceil(share * costs.found)):
            return plan
    other = prepared.alternative()
    return plan if other is None else replace(other, costs=costs)


def weighed(costs: Costs, view: View, columnar: ColumnarEngine) -> Costs:
    """The costs, with what it takes to have the tables in Arrow as this view shows them."""
    private = isinstance(view, Transaction) and view.changed
    extra = 0.0
    for read in costs.reads:
        if private:
            extra += read.values * PRIVATE_US
        elif not columnar.holds(Relation(view, read.table, wanted=read.columns)):
            extra += read.values * ARROW_US
    return replace(costs, columnar_us=costs.columnar_us + extra)
