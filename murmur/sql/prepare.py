"""Preparing a statement: bound to one version of the catalog, planned and compiled.

    Parsed  --bind-->  plan  --compile-->  Prepared.read / .write / .steps

A Prepared holds no state of an execution and may serve several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from murmur.catalog.catalog import Catalog
from murmur.catalog.schema import Table
from murmur.catalog.types import SqlType
from murmur.errors import ParseError, Unsupported
from murmur.kvcore.view import View
from murmur.sql.access import Reader, access_reaches
from murmur.sql.binder import Binding
from murmur.sql.binder_ddl import bind_ddl
from murmur.sql.binder_merge import bind_merge
from murmur.sql.binder_with import bind_several
from murmur.sql.binder_writes import bind_delete, bind_insert, bind_update
from murmur.sql.bulk import Load, compile_load, load_values
from murmur.sql.create_as import bind_create_as
from murmur.sql.ddl_actions import Step
from murmur.sql.dml import (
    Program,
    TargetSource,
    compile_delete,
    compile_insert,
    compile_update,
    target_source,
)
from murmur.sql.engines import plan_alternative, plan_query
from murmur.sql.execution import Context
from murmur.sql.executor import compile_query
from murmur.sql.expressions import Parameter
from murmur.sql.merge import compile_merge
from murmur.sql.parameter_values import check_parameters
from murmur.sql.parser import Parsed, writes_several
from murmur.sql.plan import (
    Aggregate,
    ColumnarQuery,
    KeyLookup,
    OneRow,
    Query,
    ResultColumn,
    RowQuery,
    Rows,
)
from murmur.sql.plan_writes import CreateAs, Delete, Insert, Merge, Plan, Several, Update
from murmur.sql.point import PointReader, compile_point
from murmur.sql.point_index import IndexReader, compile_point_index
from murmur.sql.rules.cost import counted_path
from murmur.sql.rules.facts import Facts
from murmur.sql.settings import Engine
from murmur.sql.several import compile_several
from murmur.sql.system import System

OUTGROWN = 64.0  # rows: below, all tables are alike


@dataclass(slots=True)
class Prepared:
    """A statement ready to run against catalogs of one version."""

    version: int
    parsed: Parsed
    types: Sequence[SqlType | None]
    analyzed: int = 0  # of the facts that it was planned by
    plan: Plan | None = None  # None: DDL
    read: Reader | None = None  # of a RowQuery
    write: Program | None = None  # of INSERT, UPDATE, DELETE and MERGE
    steps: Sequence[Step] = ()  # of DDL
    columns: tuple[ResultColumn, ...] | None = None
    point: PointReader | None = None  # of a RowQuery that reads one row by its key
    by_index: IndexReader | None = None  # of one that reads rows by the values of an index
    short: bool = False  # the rows are few: reading them at once is cheaper than a lazy reader
    binding: Binding | None = None
    described: tuple[tuple[str, SqlType | None], ...] = ()  # the columns of a point query
    locked: TargetSource | None = None  # the rows that FOR UPDATE is about
    load: Load | None = None  # of an INSERT that can take many rows together
    _as_given: frozenset[int] = frozenset()
    _asked: bool = False
    _alternative: ColumnarQuery | None = field(default=None)
    _forced: ColumnarQuery | None = field(default=None)
    sizes: tuple[tuple[Table, float], ...] = ()  # of the tables of a query, when it was planned
    reaches: Callable[[View, Context, int], bool] | None = None  # of a plan over one range

    def check(self, values: Sequence[Any]) -> Sequence[Any]:
        """The parameters, checked against the types that they have met.

        What goes straight into a column is left as it is: the catalog checks it there.
        """
        as_given = self._as_given
        if len(as_given) == len(self.types):
            return values
        if not as_given:
            return check_parameters(values, self.types)
        rest = [i for i in range(len(values)) if i not in as_given]
        checked = check_parameters([values[i] for i in rest], [self.types[i] for i in rest])
        result = list(values)
        for i, value in zip(rest, checked, strict=True):
            result[i] = value
        return result

    def alternative(self) -> ColumnarQuery | None:
        """The columnar plan of a query that reads much, if that engine can run it."""
        plan, binding = self.plan, self.binding
        if self._asked or binding is None or not isinstance(plan, RowQuery):
            return self._alternative
        self._alternative = plan_alternative(plan, self.parsed.tree, binding)
        self._asked = True
        return self._alternative

    def forced(self, engine: Engine) -> RowQuery | ColumnarQuery:
        """The plan on the engine that SET engine names; Unsupported if it has none."""
        plan = self.plan
        assert isinstance(plan, RowQuery | ColumnarQuery)
        if isinstance(plan, ColumnarQuery):
            if engine == "row":
                raise Unsupported(f"the row engine does not run this: {plan.reason}")
            return plan
        if engine == "row":
            return plan
        if self._forced is None:
            assert self.binding is not None
            self._forced = plan_alternative(plan, self.parsed.tree, self.binding, forced=True)
        assert self._forced is not None
        return self._forced

    def outgrown(self, facts: Facts) -> bool:
        """Whether a table has four times as many rows as when the plan was made, or a quarter."""
        for table, size in self.sizes:
            now = max(OUTGROWN, facts.rows(table))
            if not size / 4 < now < size * 4:
                return True
        return False


def prepare(parsed: Parsed, catalog: Catalog, system: System, facts: Facts) -> Prepared:
    """Bind, plan and compile a statement."""
    try:
        return _prepare(parsed, catalog, system, facts)
    except RecursionError:
        raise ParseError("the statement is nested too deeply") from None


def _prepare(parsed: Parsed, catalog: Catalog, system: System, facts: Facts) -> Prepared:
    types: list[SqlType | None] = [None] * len(parsed.parameters.names)
    binding = Binding(catalog, system.columns, parsed.text, types, facts)
    tree = parsed.tree
    prepared = Prepared(catalog.version, parsed, binding.types, analyzed=facts.analyzed)
    match parsed.kind:
        case _ if writes_several(tree):
            _prepare_several(prepared, bind_several(tree, binding))
        case "select":
            query = plan_query(tree, binding)
            prepared.plan, prepared.columns = query, query.columns
            if parsed.locked is not None:
                found = bind_delete(parsed.locked, binding)
                prepared.locked = target_source(found.source, found.table)
            if isinstance(query, RowQuery):
                prepared.read, prepared.short = compile_query(query.rows), _is_short(query.rows)
                prepared.point = compile_point(query, parsed.parameters, binding.types)
                prepared.by_index = compile_point_index(query, parsed.parameters, binding.types)
                prepared.described = tuple((each.name, each.type) for each in query.columns)
                prepared.binding = binding
                path = counted_path(query.rows) if query.costs is not None else None
                prepared.reaches = None if path is None else access_reaches(path)
        case "insert":
            prepared.plan = insert = bind_insert(tree, binding)
            prepared.write = compile_insert(insert, load_values)
            prepared._as_given = _as_given(insert, binding.types)
            prepared.load = compile_load(insert, parsed.parameters, prepared._as_given)
        case "update":
            prepared.plan = bind_update(tree, binding)
            prepared.write = compile_update(prepared.plan)
        case "delete":
            prepared.plan = bind_delete(tree, binding)
            prepared.write = compile_delete(prepared.plan)
        case "merge":
            prepared.plan = bind_merge(tree, binding)
            prepared.write = compile_merge(prepared.plan)
        case "create" if tree.args.get("expression") is not None and tree.kind == "TABLE":
            prepared.plan = bind_create_as(tree, binding)
        case _:
            prepared.steps = bind_ddl(tree, binding)
            return prepared
    plan = prepared.plan
    prepared.sizes = tuple((table, max(OUTGROWN, facts.rows(table))) for table in _weighed(plan))
    if isinstance(plan, Insert | Update | Delete | Merge) and plan.returning is not None:
        prepared.columns = plan.returning.columns
    return prepared


def _prepare_several(prepared: Prepared, plan: Several | Delete) -> None:
    """A statement that writes in several places, or only seems to."""
    prepared.plan = plan
    if isinstance(plan, Delete):
        prepared.write = compile_delete(plan)
        return
    prepared.write = compile_several(plan)
    inserts = [each.plan for each in plan.parts] + [plan.main]
    direct = [_as_given(each, prepared.types) for each in inserts if isinstance(each, Insert)]
    prepared._as_given = frozenset().union(*direct)
    if isinstance(plan.main, Query):
        prepared.columns = plan.main.columns
    elif plan.main.returning is not None:
        prepared.columns = plan.main.returning.columns


def _weighed(plan: Plan | None) -> Sequence[Table]:
    """The tables by whose sizes a plan was made."""
    match plan:
        case Update(source=query) | Delete(source=query):
            pass
        case Insert(query=query) | Merge(query=query) | CreateAs(query=query):
            pass
        case Several():
            return ()
        case _:
            query = plan
    return query.tables if isinstance(query, RowQuery) else ()


def _is_short(rows: Rows) -> bool:
    """Whether the plan yields few rows, whatever the data."""
    while not isinstance(rows, KeyLookup | OneRow | Aggregate):
        source = getattr(rows, "source", None)
        if source is None:
            return False
        rows = source
    return True


def _as_given(plan: Insert, types: Sequence[SqlType | None]) -> frozenset[int]:
    """Parameters that are a column's value and nothing else.

    One that the rest of the statement uses has met a type there, or stands in an expression.
    """
    direct = {expr.index for row in plan.rows for expr in row if isinstance(expr, Parameter)}
    return frozenset(i for i in direct if types[i] is None)
