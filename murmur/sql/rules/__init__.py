"""The rules that make a logical plan one to run, in their order.

    unnest       EXISTS (SELECT ... WHERE n.author = a.id)   becomes a semi join
    push_down    conditions go as far down as they mean the same
    flatten      what only chooses columns of a table is seen through
    reorder      inner joins are joined smallest first, whatever order they were written in
    choose       access paths and join methods, by statistics; sorts that a key gives go
    prune        only columns that are needed are read and carried; covering indexes

Each rule takes a plan and gives one with the same rows; what order and duplicates a plan leaves
open, a rule may change. They never look at data but through Estimates.
"""

from __future__ import annotations

from dataclasses import replace

from murmur.sql.expressions import Expr, Subquery, transform
from murmur.sql.plan import Rows
from murmur.sql.rules.choose import choose
from murmur.sql.rules.estimate import Estimates
from murmur.sql.rules.flatten import flatten
from murmur.sql.rules.prune import prune
from murmur.sql.rules.push_down import push_down
from murmur.sql.rules.reorder import reorder
from murmur.sql.rules.shape import rebuilt
from murmur.sql.rules.unnest import unnest

__all__ = ["Estimates", "optimise"]


def optimise(rows: Rows, estimates: Estimates) -> Rows:
    """The plan to run, subqueries of expressions included."""
    rows = flatten(push_down(unnest(rows)))
    rows = reorder(rows, estimates)
    rows = _inside(rows, estimates)
    return prune(choose(rows, estimates))


def _inside(rows: Rows, estimates: Estimates) -> Rows:
    """The plan with the plans inside of its expressions made ready too."""

    def expression(expr: Expr) -> Expr:
        return transform(expr, visit)

    def visit(expr: Expr) -> Expr:
        if isinstance(expr, Subquery):
            return replace(expr, plan=optimise(expr.plan, estimates))
        return expr

    return rebuilt(rows, lambda source: _inside(source, estimates), expression)
