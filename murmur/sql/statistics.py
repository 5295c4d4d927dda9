"""What is known of the tables of a replica: how many rows they have, and what ANALYZE has counted.

    rows      counted from the keys when they are asked for, up to COUNTED; counted again when the
              log has grown by so much that there may be twice as many
    columns   by ANALYZE: distinct values, NULLs, smallest and largest, bounds of equal shares

It is local, derived data: nothing of it is written or replicated, and no answer depends on it.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from murmur.catalog.catalog import Catalog
from murmur.catalog.ranges import row_bounds
from murmur.catalog.rows import scan_rows
from murmur.catalog.schema import Table
from murmur.errors import BindError
from murmur.kvcore.replica import Replica
from murmur.kvcore.view import View

COUNTED = 100_000  # keys; a table with more is taken for that many
ROW_BYTES = 8  # of the log, at least, for a row that is written or deleted
SAMPLED = 30_000  # rows that ANALYZE reads
SHARES = 32  # of a histogram
GROWN = 10  # times as many rows as ANALYZE has found make its figures worthless


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """One column, as ANALYZE found it. `bounds` divide its values into equal shares."""

    distinct: float
    nulls: float  # the part of the rows
    least: Any
    greatest: Any
    bounds: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """One table, as ANALYZE found it; columns by their ids."""

    rows: int
    columns: dict[int, ColumnStatistics]


class Statistics:
    """The statistics of one replica's tables. May be asked by several threads."""

    def __init__(self, replica: Replica) -> None:
        self._replica = weakref.ref(replica)
        self._counts: dict[int, tuple[int, int]] = {}  # by table id: the log's end, rows
        self._analyzed: dict[int, TableStatistics] = {}
        self.analyzed = 0  # how often

    def rows(self, table: Table) -> float:
        """How many rows the table has, about."""
        replica = self._replica()
        if replica is None:
            return 0.0
        end = replica.log.end
        known = self._counts.get(table.id)
        if known is not None and end - known[0] <= known[1] * ROW_BYTES:
            return float(known[1])
        with replica.snapshot() as snapshot:
            count = sum(1 for _ in islice(snapshot.scan(*row_bounds(table)), COUNTED))
        self._counts[table.id] = end, count
        return float(count)

    def distinct(self, table: Table, position: int) -> float | None:
        """How many values a column has, if ANALYZE has counted."""
        column = self._column(table, position)
        return None if column is None else column.distinct

    def fraction(self, table: Table, position: int, op: str, value: object) -> float | None:
        """The part of the rows whose column compares so with the value, by the histogram."""
        column = self._column(table, position)
        if column is None or value is None:
            return None
        present = 1.0 - column.nulls
        if op == "=":
            return present / max(1.0, column.distinct)
        if op == "<>":
            return present * (1.0 - 1.0 / max(1.0, column.distinct))
        if len(column.bounds) < 2:
            return None
        try:
            below = bisect_left(column.bounds, value) / len(column.bounds)
        except TypeError:  # a value of another type
            return None
        part = below if op in ("<", "<=") else 1.0 - below
        return present * min(1.0, max(part, 1.0 / (2 * len(column.bounds))))

    def column(self, table: Table, position: int) -> ColumnStatistics | None:
        """What ANALYZE has found of a column."""
        return self._column(table, position)

    def _column(self, table: Table, position: int) -> ColumnStatistics | None:
        analyzed = self._analyzed.get(table.id)
        if analyzed is None or self.rows(table) > GROWN * max(1, analyzed.rows):
            return None  # what was counted is of another table, nearly
        return analyzed.columns.get(table.columns[position].id)

    def analyze(self, view: View, table: Table) -> TableStatistics:
        """Read a table, or the first part of a large one, and keep what was found."""
        rows = [row for _, row in islice(scan_rows(view, table), SAMPLED)]
        total = len(rows)
        if total == SAMPLED:
            total = sum(1 for _ in view.scan(*row_bounds(table)))
        self.analyzed += 1
        columns = {}
        for column, values in zip(table.columns, zip(*rows, strict=True), strict=False):
            columns[column.id] = _described(values, total)
        found = self._analyzed[table.id] = TableStatistics(total, columns)
        replica = self._replica()
        if replica is not None:
            self._counts[table.id] = replica.log.end, total
        return found


def analyze(statistics: Statistics, view: View, catalog: Catalog, names: Sequence[str]) -> None:
    """Run ANALYZE over the tables of these names, over all without names."""
    tables = []
    for name in names:
        table = catalog.table(name)
        if table is None:
            raise BindError(f'there is no table "{name}"')
        tables.append(table)
    for table in tables or catalog.tables:
        statistics.analyze(view, table)


def _described(values: Sequence[Any], total: int) -> ColumnStatistics:
    present = [value for value in values if value is not None and value == value]
    different = set(present)
    scale = total / len(values) if values else 1.0
    # A column that is nearly all different in the sample goes on like that.
    distinct = len(different) * (scale if len(different) > len(present) * 0.9 else 1.0)
    ordered = _ordered(present)
    step = max(1, len(ordered) // SHARES)
    nulls = 1.0 - len(present) / len(values) if values else 0.0
    least, greatest = (ordered[0], ordered[-1]) if ordered else (None, None)
    return ColumnStatistics(float(distinct), nulls, least, greatest, tuple(ordered[::step]))


def _ordered(values: Iterable[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # of an INTERVAL with months, say
        return []
