"""Estimates: how many rows a plan gives, and what it costs. They need only rank plans.

    rows of a table          counted, or sampled (statistics.py)
    column = value           rows / distinct values; 1 for a whole unique key
    a range, LIKE            a third, a tenth;  anything else a half
    join on a = b            left * right / the larger number of distinct values
    GROUP BY                 the product of the distinct values, at most the rows

Distinct values are those that ANALYZE counted; without it a unique column has as many as rows, and
any other the square root of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt

from murmur.catalog.schema import Table
from murmur.sql.expressions import (
    And,
    Column,
    Compare,
    Expr,
    In,
    IsNull,
    Like,
    Literal,
    Not,
    Or,
    Parameter,
    Subquery,
)
from murmur.sql.plan import (
    Aggregate,
    Distinct,
    DistinctOn,
    Filter,
    Join,
    Limit,
    OneRow,
    Project,
    Rows,
    SetOperation,
    Shared,
    Sort,
    SystemScan,
    TableScan,
    Values,
)
from murmur.sql.rules.facts import Facts
from murmur.sql.rules.shape import conjuncts, origin, width

SYSTEM_ROWS = 100.0
LIMIT_ROWS = 100.0  # what a LIMIT that is a parameter is taken for
RANGE, LIKE, NULL, OTHER = 1 / 3, 1 / 10, 1 / 20, 1 / 2


class Estimates:
    """What a plan will come to, by what is known of its tables."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def table_rows(self, table: Table) -> float:
        """The rows of a table, at least one."""
        return max(1.0, self.facts.rows(table))

    def rows(self, rows: Rows) -> float:
        """How many rows the plan gives."""
        match rows:
            case OneRow():
                return 1.0
            case SystemScan():
                return SYSTEM_ROWS
            case Values(lists):
                return float(len(lists))
            case TableScan(table):
                return self.table_rows(table)
            case Filter(source, predicate):
                return self.rows(source) * self.selectivity(source, conjuncts(predicate))
            case Project(source) | Sort(source) | Shared(source):
                return self.rows(source)
            case Limit(source, count, _):
                limit = LIMIT_ROWS
                if isinstance(count, Literal) and count.value is not None:
                    limit = float(count.value)
                return min(limit, self.rows(source)) if count is not None else self.rows(source)
            case Distinct(source):
                columns = [Column(i, "", None) for i in range(width(source))]
                return self.groups(source, columns)
            case DistinctOn(source, keys):
                return self.groups(source, keys)
            case Aggregate(source, _, groups):
                return self.groups(source, groups) if groups else 1.0
            case SetOperation(op, _, left, right):
                if op == "union":
                    return self.rows(left) + self.rows(right)
                return self.rows(left)
            case Join():
                return self.joined(rows.kind, rows.left, rows.right, conjuncts(rows.condition))
        raise AssertionError(rows)

    def joined(self, kind: str, left: Rows, right: Rows, on: Sequence[Expr]) -> float:
        """How many rows a join gives."""
        ours, theirs = self.rows(left), self.rows(right)
        at = width(left)
        pairs = ours * theirs
        both = Join("inner", left, right, None)
        for each in on:
            pairs *= self.equality(both, each, at)
        match kind:
            case "left":
                return max(ours, pairs)
            case "full":
                return max(ours, theirs, pairs)
            case "semi":
                return max(1.0, min(ours, pairs) / 2)
            case "anti":
                return max(1.0, ours / 2)
        return max(pairs, 1.0)

    def equality(self, both: Rows, condition: Expr, at: int) -> float:
        """The part of all pairs that a condition leaves."""
        match condition:
            case Compare("=", Column(one), Column(other)) if (one < at) is not (other < at):
                distinct = max(self.distinct(both, one) or 1, self.distinct(both, other) or 1)
                return 1.0 / max(1.0, distinct)
        return self.selectivity(both, [condition])

    def groups(self, source: Rows, keys: Sequence[Expr]) -> float:
        """How many different values the keys have."""
        return self.groups_of(source, keys, self.rows(source))

    def groups_of(self, source: Rows, keys: Sequence[Expr], total: float) -> float:
        """The same, where it is known how many rows there are."""
        product = 1.0
        for key in keys:
            known = self.distinct(source, key.index) if isinstance(key, Column) else None
            product *= known if known is not None else sqrt(total)
        return max(1.0, min(product, total))

    def distinct(self, rows: Rows, index: int) -> float | None:
        """How many values a column has, by its table."""
        found = origin(rows, index)
        if found is None:
            return None
        return self.column_distinct(*found)

    def column_distinct(self, table: Table, position: int) -> float:
        """How many values a column of a table has."""
        known = self.facts.distinct(table, position)
        if known is not None:
            return max(1.0, known)
        total = self.table_rows(table)
        return total if is_unique(table, position) else max(1.0, sqrt(total))

    def selectivity(self, rows: Rows, wanted: Iterable[Expr]) -> float:
        """The part of the rows for which all conditions are TRUE."""
        part = 1.0
        for each in wanted:
            part *= self._one(rows, each)
        return part

    def _one(self, rows: Rows, condition: Expr) -> float:
        match condition:
            case Literal(value):
                return 1.0 if value is True else 0.0
            case Compare(op, Column() as column, other) | Compare(op, other, Column() as column):
                return self._compared(rows, op, column, other)
            case In(Column() as column, items, negated=False):
                each = self._compared(rows, "=", column, Parameter(0, None))
                return min(1.0, each * len(items))
            case In(negated=True):
                return 1 - OTHER / 2
            case IsNull(negated=negated):
                return 1 - NULL if negated else NULL
            case Like(negated=negated):
                return 1 - LIKE if negated else LIKE
            case Not(operand):
                return max(0.0, 1 - self._one(rows, operand))
            case And(operands):
                return self.selectivity(rows, operands)
            case Or(operands):
                return min(1.0, sum(self._one(rows, each) for each in operands))
            case Subquery():
                return OTHER
        return OTHER

    def _compared(self, rows: Rows, op: str, column: Column, other: Expr) -> float:
        found = origin(rows, column.index)
        if found is None:
            return 0.1 if op == "=" else RANGE
        if isinstance(other, Literal):
            known = self.facts.fraction(*found, op, other.value)
            if known is not None:
                return known
        distinct = self.column_distinct(*found)
        match op:
            case "=":
                return 1.0 / distinct
            case "<>":
                return 1.0 - 1.0 / distinct if distinct > 1 else OTHER
        return RANGE


def is_unique(table: Table, position: int) -> bool:
    """Whether a column alone is the primary key, or a unique one."""
    column_id = table.columns[position].id
    if table.primary_key == (column_id,):
        return True
    return any(
        index.unique and index.plain and index.column_ids == (column_id,) for index in table.indexes
    )
