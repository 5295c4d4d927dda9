"""Plans as text: one line per operator, indented below the one that reads it.

    engine: row (index range)
    project body
      limit 5
        filter likes > 3
          index range note_author on note (author = $1)

Expressions are written as SQL, parameters as $1, $2, ... whatever their style.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

from murmur.kvcore.view import View
from murmur.sql.ddl_actions import (
    AddColumn,
    AddConstraint,
    CreateIndex,
    CreateTable,
    CreateTrigramIndex,
    DropColumn,
    DropConstraint,
    RenameColumn,
    SetDefault,
    SetNotNull,
    SetType,
    Step,
)
from murmur.sql.execution import Context
from murmur.sql.explain_analyze import measured_columns, measured_rows
from murmur.sql.explain_text import sql_of
from murmur.sql.explain_tree import data_of, data_of_figures, lines_of, operator_of
from murmur.sql.plan import ColumnarQuery, Costs, Query, RelationUse, RowQuery, Rows
from murmur.sql.plan_writes import (
    CreateAs,
    Delete,
    Insert,
    Merge,
    MergeDelete,
    MergeInsert,
    MergeUpdate,
    OnConflict,
    Part,
    Plan,
    Several,
    Update,
)


def explain(plan: Plan | None, steps: Sequence[Step] = ()) -> list[str]:
    """The lines of a plan."""
    match plan:
        case None:
            return ["engine: row (schema change)", *(_step(step) for step in steps)]
        case RowQuery(rows, _, reason):
            return [f"engine: row ({reason}{_costs(plan.costs)})", *lines_of(operator_of(rows))]
        case ColumnarQuery():
            return [f"engine: columnar ({plan.reason}{_costs(plan.costs)})", *_columnar(plan, 0)]
        case Insert():
            return ["engine: row (write)", *_insert(plan)]
        case Update(table, source, assignments, _):
            sets = ", ".join(
                f"{a.column.name} {'+=' if a.increment else '='} {sql_of(a.value)}"
                for a in assignments
            )
            return ["engine: row (write)", f"update {table.name} set {sets}", *_source(source)]
        case Delete(table, source, _):
            return ["engine: row (write)", f"delete from {table.name}", *_source(source)]
        case Merge():
            return ["engine: row (write)", *_merge(plan)]
        case Several(parts, main):
            return ["engine: row (write)", *_several(parts, main)]
        case CreateAs(name, _, _, query, _):
            return ["engine: row (write)", f"create table {name}", *map(_indented, explain(query))]
    raise AssertionError(plan)


def explain_data(plan: Plan | None, steps: Sequence[Step] = ()) -> dict[str, Any]:
    """A plan as data, for JSON; of what is no query, the lines."""
    if not isinstance(plan, RowQuery | ColumnarQuery):
        first, *rest = explain(plan, steps)
        return {"engine": "row", "reason": first.split("(")[-1].rstrip(")"), "lines": rest}
    data: dict[str, Any] = {"reason": plan.reason}
    if plan.costs is not None:
        costs = plan.costs
        data["costs_ms"] = {"row": costs.row_us / 1000, "columnar": costs.columnar_us / 1000}
    if isinstance(plan, RowQuery):
        return {"engine": "row", **data, "plan": data_of(operator_of(plan.rows))}
    return {"engine": "columnar", **data, "plan": _columnar_data(plan)}


def _columnar_data(plan: ColumnarQuery) -> dict[str, Any]:
    relations = {use.name: _relation(use) for use in plan.relations}
    return {"operator": "columnar query", "detail": plan.sql, "relations": relations}


def explain_analyzed(
    plan: Plan | None, view: View, context: Context
) -> tuple[list[str], dict[str, Any]]:
    """The lines and the data of a query that is run for its figures."""
    data = explain_data(plan)
    first, *rest = explain(plan)
    if isinstance(plan, RowQuery):
        found = measured_rows(plan, view, context)
        tree = operator_of(plan.rows)
        return [first, *lines_of(tree, 0, found)], data | {"plan": data_of(tree, found)}
    if isinstance(plan, ColumnarQuery):
        figures = measured_columns(plan, view, context)
        rest[0] = f"{rest[0]}  {figures}"
        return [first, *rest], data | {"plan": data["plan"] | data_of_figures(figures)}
    raise AssertionError(plan)


def explain_written(
    plan: Plan | None, write: Callable[[], int]
) -> tuple[list[str], dict[str, Any]]:
    """The lines and the data of a statement that writes, and how many rows that were."""
    data = explain_data(plan)
    first, second, *rest = explain(plan)
    begin_s = perf_counter()
    rows = write()
    ms = 1000 * (perf_counter() - begin_s)
    count = f"{rows:,} row{'' if rows == 1 else 's'}, " if rows >= 0 else ""  # not of a query
    figures = f"({count}{ms:.3f} ms)"
    return [first, f"{second}  {figures}", *rest], data | {"rows": rows, "ms": round(ms, 4)}


def _costs(costs: Costs | None) -> str:
    """What the choice of the engine went by."""
    if costs is None:
        return ""
    return f"; row {_time(costs.row_us)}, columnar {_time(costs.columnar_us)}"


def _time(us: float) -> str:
    return f"{us / 1000:.2g} ms" if us < 100_000 else f"{us / 1000:,.0f} ms"


def _indented(line: str) -> str:
    return "  " + line


def _step(step: Step) -> str:
    """CreateTable(...) -> create table note"""
    action = step.action
    words = re.sub("(?<!^)([A-Z])", r" \1", type(action).__name__).lower()
    match action:
        case CreateTable(definition):
            return f"{words} {definition.name}"
        case AddColumn(table, column):
            return f"{words} {column.name} of {table}"
        case AddConstraint(table):
            return f"{words} of {table}"
        case (
            RenameColumn(table, name)
            | DropColumn(table, name)
            | DropConstraint(table, name)
            | SetDefault(table, name)
            | SetNotNull(table, name)
            | SetType(table, name)
        ):
            return f"{words} {name} of {table}"
        case CreateIndex(name, table) | CreateTrigramIndex(name, table):
            return f"{words} {name} on {table}".replace("  ", " ")
    return f"{words} {action.name}"


def _source(source: Rows | Query) -> Iterator[str]:
    """What finds the rows of a statement that writes."""
    if isinstance(source, RowQuery):
        source = source.rows if source.alternative is None else source.alternative
    if isinstance(source, ColumnarQuery):
        yield f"  engine: columnar ({source.reason}{_costs(source.costs)})"
        yield from _columnar(source, 1)
    else:
        yield from lines_of(operator_of(source), 1)


def _several(parts: Sequence[Part], main: Plan) -> Iterator[str]:
    """The parts of a statement that writes in several places, and what stands behind them."""
    for part in parts:
        _, *lines = explain(part.plan)
        yield from [f"with {part.name}", *map(_indented, lines)] if part.name else lines
    first, *lines = explain(main)
    yield from [first, *lines] if isinstance(main, Query) else lines


def _insert(plan: Insert) -> Iterator[str]:
    columns = ", ".join(column.name for column in plan.columns)
    yield f"insert into {plan.table.name} ({columns})"
    if plan.conflict is not None:
        yield f"  on conflict {_conflict(plan.conflict)}"
    if plan.query is None:
        yield f"  {len(plan.rows)} row{'' if len(plan.rows) == 1 else 's'} of values"
    else:
        yield from _source(plan.query)


def _merge(plan: Merge) -> Iterator[str]:
    yield f"merge into {plan.table.name}"
    for action in plan.actions:
        match action:
            case MergeUpdate(assignments):
                yield f"  when matched update {', '.join(a.column.name for a in assignments)}"
            case MergeDelete():
                yield "  when matched delete"
            case MergeInsert(insert):
                yield f"  when not matched insert ({', '.join(c.name for c in insert.columns)})"
            case None:
                yield "  do nothing"
    yield from _source(plan.query)


def _conflict(conflict: OnConflict) -> str:
    match conflict.target:
        case None:
            target = "of the primary key"
        case "any":
            target = "of any unique key"
        case index:
            target = f"of {index.name}"
    if conflict.assignments is None:
        return f"{target} do nothing"
    names = ", ".join(assignment.column.name for assignment in conflict.assignments)
    return f"{target} update {names}"


def _columnar(query: ColumnarQuery, depth: int) -> Iterator[str]:
    indent = "  " * (depth + 1)
    yield f"{'  ' * depth}columnar query"
    for use in query.relations:
        yield f"{indent}{use.name}: {_relation(use)}"
    yield f"{indent}{query.sql}"


def _relation(use: RelationUse) -> str:
    if use.table is None:
        return f"system relation {use.system}"
    return f"history of {use.table.name}" if use.history else f"columns of {use.table.name}"
