"""Binding any query that the row engine runs: joins, grouping, subqueries, set operations.

    SELECT a.name, count(*) FROM author a JOIN note n ON n.author = a.id WHERE a.id > ? GROUP BY 1

      -> Project(Aggregate(Filter(Join(inner, TableScan(author), TableScan(note), ...), ...), ...))

The plan is logical: tables are TableScan, joins are Join, subqueries stand where they were written;
the rules (rules/) make it a plan to run. A column is an index into the row of the node below.

A name that FROM does not have is looked for around the subquery: the value then comes from outside
(Outer), and the subquery lists it among its arguments. What the row engine does not run raises
NeedsColumnar (windows, recursive WITH, grouping sets, LATERAL, functions in FROM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.errors import DatabaseError
from murmur.sql import operators
from murmur.sql.binder import Binding, bind_limit, limited, result_type
from murmur.sql.binder_expressions import bind_expression
from murmur.sql.binder_from import Boundary, Fields, QueryScope, Slots, Source, joined, table_fields
from murmur.sql.binder_names import (
    alias_name,
    check_reserved,
    fold,
    unbound,
)
from murmur.sql.binder_select import (
    Bound,
    SelectBinder,
    name_of,
    position_of,
    sort_keys,
    understood,
)
from murmur.sql.dependent_columns import with_dependent_columns
from murmur.sql.expressions import (
    Column,
    Expr,
    Literal,
    NeedsColumnar,
    Subquery,
    SubqueryKind,
)
from murmur.sql.parser import parse
from murmur.sql.plan import (
    OneRow,
    Project,
    ResultColumn,
    Rows,
    SetOperation,
    Shared,
    Sort,
    SystemScan,
    TableScan,
    Values,
)

Tree: TypeAlias = Any  # sqlglot's
Ctes: TypeAlias = Mapping[str, "_Cte"]

MAX_VIEW_DEPTH = 16
_VOLATILE = (exp.Rand, exp.Uuid, exp.Anonymous)  # it may have another value each time


@dataclass(frozen=True, slots=True)
class _Cte:
    """A query of WITH, bound anew wherever it is named, or once for all `uses` of it."""

    tree: Tree
    names: tuple[str, ...]
    ctes: Ctes
    uses: int = 1


class QueryBinder:
    """Binds the queries of one statement."""

    def __init__(self, binding: Binding, slots: Slots | None = None, depth: int = 0) -> None:
        self.binding = binding
        self.slots = slots or Slots()
        self._depth = depth  # of views within views
        self._shared: dict[int, Bound] = {}  # queries of WITH that are bound once
        self._text = binding.text

    def query(self, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Bound:
        """Bind a SELECT, VALUES or set operation."""
        match node:
            case exp.Subquery():
                understood(node, "this", "with_", "order", "limit", "offset", "alias")
                ctes = self._with(node, ctes, boundary)
                return self._ended(self.query(node.this, ctes, boundary), node, ctes, boundary)
            case exp.Select():
                return SelectBinder(self, node, self._with(node, ctes, boundary), boundary).bind()
            case exp.SetOperation():
                return self._set_operation(node, self._with(node, ctes, boundary), boundary)
            case exp.Values():
                understood(node, "expressions", "alias", "order", "limit", "offset")
                return self._ended(self._values(node, ctes, boundary), node, ctes, boundary)
            case exp.Table():
                return self._table_query(node, ctes)
        raise NeedsColumnar("this kind of query")

    def _table_query(self, node: Tree, ctes: Ctes) -> Bound:
        source = self.relation(node, ctes, None)
        columns = tuple(ResultColumn(name_of(c), result_type(c)) for c in source.star_columns())
        return Bound(source.rows, columns)

    def _with(self, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Ctes:
        clause = node.args.get("with_")
        if clause is None:
            return ctes
        if clause.args.get("recursive"):
            raise NeedsColumnar("WITH RECURSIVE")
        understood(clause, "expressions")
        known = dict(ctes)
        for cte in clause.expressions:
            understood(cte, "this", "alias", "materialized")
            alias = cte.args["alias"]
            if not isinstance(cte.this, exp.Query):
                raise NeedsColumnar("WITH")
            names = tuple(fold(column) for column in alias.args.get("columns") or ())
            name = alias_name(alias, self._text)
            check_reserved(name, alias, self._text)
            uses = _uses(node, name) - _uses(cte.this, name)
            volatile = any(isinstance(n, _VOLATILE) for n in cte.this.walk())
            if boundary is not None:  # it may read the row around it, and be another for each
                if volatile and uses > 1:
                    raise NeedsColumnar("WITH")
                uses = 1
            elif cte.args.get("materialized") is False and not volatile:
                uses = 1
            known[name] = _Cte(cte.this, names, dict(known), max(uses, 1))
        return known

    # Set operations, VALUES ----------------------------------------------------------------------

    def _set_operation(self, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Bound:
        understood(node, "this", "expression", "distinct", "with_", "order", "limit", "offset")
        left = self.query(node.this, ctes, boundary)
        right = self.query(node.expression, ctes, boundary)
        if len(left.columns) != len(right.columns):
            message = "both sides of a set operation need the same number of columns"
            raise unbound(message, node.expression, self._text)
        types = [_common(a, b) for a, b in zip(left.columns, right.columns, strict=True)]
        op = {exp.Union: "union", exp.Intersect: "intersect", exp.Except: "except"}[type(node)]
        rows = SetOperation(
            op,  # type: ignore[arg-type]
            not node.args.get("distinct"),
            _converted(left, types),
            _converted(right, types),
        )
        columns = tuple(
            ResultColumn(column.name, sql_type)
            for column, sql_type in zip(left.columns, types, strict=True)
        )
        return self._ended(Bound(rows, columns), node, ctes, boundary)

    def _values(self, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Bound:
        scope = QueryScope(self, Source(OneRow(), []), ctes, boundary)
        lists = [[bind_expression(cell, scope) for cell in _cells(row)] for row in node.expressions]
        if len({len(exprs) for exprs in lists}) != 1:
            raise unbound("VALUES rows differ in length", node, self._text)
        columns = []
        for i, exprs in enumerate(zip(*lists, strict=True)):
            sql_type = None
            for expr in exprs:
                sql_type = _one_type(sql_type, result_type(expr), is_null=_is_null(expr))
            if sql_type is None:
                raise NeedsColumnar("VALUES without a type")
            for row, expr in zip(lists, exprs, strict=True):
                row[i] = operators.convert(expr, sql_type)
            columns.append(ResultColumn(f"column{i + 1}", sql_type))
        return Bound(Values(tuple(map(tuple, lists))), tuple(columns))

    def _ended(self, bound: Bound, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Bound:
        """ORDER BY, LIMIT and OFFSET of what is no plain SELECT."""
        rows = bound.rows
        fields = bound.fields("")
        if order := node.args.get("order"):
            scope = QueryScope(self, Source(rows, fields), ctes, boundary)
            exprs = tuple(column for _, column in fields)
            keys = sort_keys(order, self._text, lambda term: self._output(term, exprs, scope))
            rows = Sort(rows, keys) if keys else rows
        limit = bind_limit(node, "limit", self.binding)
        rows = limited(rows, limit, bind_limit(node, "offset", self.binding))
        return Bound(rows, bound.columns)

    def _output(self, node: Tree, exprs: Sequence[Expr], scope: QueryScope) -> Expr:
        position = position_of(node)
        if position is None:
            return bind_expression(node, scope)
        if not 1 <= position <= len(exprs):
            raise unbound(f"there is no output column {position}", node, self._text)
        return exprs[position - 1]

    # FROM ----------------------------------------------------------------------------------------

    def sources(self, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Source:
        """What FROM and the joins behind it amount to."""
        from_ = node.args.get("from_")
        if from_ is None:
            if node.args.get("joins"):
                raise NeedsColumnar("join")
            return Source(OneRow(), [])
        understood(from_, "this")
        source = self.relation(from_.this, ctes, boundary)
        return self._joins(source, node.args.get("joins") or (), ctes, boundary)

    def _joins(
        self, source: Source, joins: Sequence[Tree], ctes: Ctes, boundary: Boundary | None
    ) -> Source:
        comma = False
        for join in joins:
            understood(join, "this", "on", "using", "side", "kind", "method")
            side, kind = join.args.get("side") or "", join.args.get("kind") or ""
            if kind not in ("", "INNER", "OUTER", "CROSS"):
                raise NeedsColumnar(f"{kind} JOIN")
            if comma and side in ("RIGHT", "FULL"):
                raise NeedsColumnar("an outer join behind a comma")
            comma = comma or not (side or kind or join.args.get("on") or join.args.get("using"))
            other = self.relation(join.this, ctes, boundary)
            source = joined(self, source, other, join, ctes, boundary)
        return source

    def relation(self, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Source:
        """One relation of FROM."""
        match node:
            case exp.Table() if isinstance(node.this, exp.Identifier):
                return self._named(node, ctes, boundary)
            case exp.Subquery() if isinstance(node.this, exp.Table):
                understood(node, "this")
                return self.relation(node.this, ctes, boundary)
            case exp.Subquery() | exp.Values():
                bound = self.query(node, ctes, boundary)
                alias = node.args.get("alias")
                name = "" if alias is None else alias_name(alias, self._text)
                return self._renamed(Source(bound.rows, bound.fields(name)), name, alias)
        raise NeedsColumnar("this relation")

    def _named(self, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Source:
        understood(node, "this", "alias", "joins")
        name, alias = fold(node.this), node.args.get("alias")
        known_as = name if alias is None else alias_name(alias, self._text)
        source = self._table(name, known_as, node, ctes, boundary)
        source = self._renamed(source, known_as, alias)
        return self._joins(source, node.args.get("joins") or (), ctes, boundary)

    def _table(
        self, name: str, known_as: str, node: Tree, ctes: Ctes, boundary: Boundary | None
    ) -> Source:
        if name in ctes:
            cte = ctes[name]
            bound = self._cte(name, cte, boundary)
            return Source(bound.rows, _renamed(bound.fields(known_as), cte.names))
        table = self.binding.catalog.table(name)
        if table is not None:
            return Source(TableScan(table), table_fields(table, known_as))
        view = self.binding.catalog.view(name)
        if view is not None:
            return self._view(view, known_as, node)
        system = self.binding.system(name)
        if system is None:
            raise unbound(f'there is no table "{name}"', node, self._text)
        columns = [(known_as, Column(i, each.name, each.type)) for i, each in enumerate(system)]
        return Source(SystemScan(name, system), columns)

    def _cte(self, name: str, cte: _Cte, boundary: Boundary | None) -> Bound:
        if cte.uses == 1:
            return self.query(cte.tree, cte.ctes, boundary)
        known = self._shared.get(id(cte.tree))
        if known is None:
            bound = self.query(cte.tree, cte.ctes, None)
            rows = Shared(bound.rows, self.slots.take(), name, cte.uses)
            known = self._shared[id(cte.tree)] = replace(bound, rows=rows)
        return known

    def _view(self, view: Any, known_as: str, node: Tree) -> Source:
        if self._depth == MAX_VIEW_DEPTH:
            message = f'view "{view.name}" stands on too many others, or on itself'
            raise unbound(message, node, self._text)
        binding = replace(self.binding, text=view.text, types=[])
        try:
            inside = QueryBinder(binding, self.slots, self._depth + 1)
            body = with_dependent_columns(parse(view.text).tree, binding.catalog)
            bound = inside.query(body, {}, None)
        except NeedsColumnar:
            raise
        except DatabaseError as error:
            raise type(error)(f'in view "{view.name}": {error}') from None
        return Source(bound.rows, _renamed(bound.fields(known_as), view.columns))

    def _renamed(self, source: Source, name: str, alias: Tree | None) -> Source:
        names = () if alias is None else tuple(map(fold, alias.args.get("columns") or ()))
        if len(names) > len(source.fields):
            raise unbound("more column names than columns", alias, self._text)
        return Source(source.rows, _renamed(source.fields, names))

    # Subqueries of expressions -------------------------------------------------------------------

    def subquery(
        self,
        kind: SubqueryKind,
        node: Tree,
        scope: QueryScope,
    ) -> tuple[Bound, Subquery]:
        """A query inside of an expression of this scope."""
        boundary = Boundary(scope, self.slots)
        bound = self.query(node, scope.ctes, boundary)
        slots, arguments = boundary.taken()
        return bound, Subquery(kind, bound.rows, slots, arguments)


# Terms -------------------------------------------------------------------------------------------


def _uses(node: Tree, name: str) -> int:
    """In how many places a relation is named, and so may be the query of WITH."""
    tables = node.find_all(exp.Table)
    return sum(1 for t in tables if isinstance(t.this, exp.Identifier) and fold(t.this) == name)


def _renamed(fields: Fields, names: Sequence[str]) -> Fields:
    fresh = [
        (relation, replace(column, name=name))
        for (relation, column), name in zip(fields, names, strict=False)
    ]
    return [*fresh, *fields[len(fresh) :]]


def _cells(row: Tree) -> Sequence[Tree]:
    return row.expressions if isinstance(row, exp.Tuple) else [row]


def _is_null(expr: Expr) -> bool:
    return isinstance(expr, Literal) and expr.value is None


def _one_type(one: Any, other: Any, *, is_null: bool = False) -> Any:
    """The type of values that meet in one column, where both engines hold them alike."""
    if is_null or one == other:
        return other if one is None else one
    if other is None:
        raise NeedsColumnar("values without a type")
    if one is None:
        return other
    if "DECIMAL" in (one.name, other.name) or "REAL" in (one.name, other.name):
        raise NeedsColumnar("DECIMALs of different digits")
    return operators.common_type((one, other))


def _common(left: ResultColumn, right: ResultColumn) -> Any:
    if left.type is None or right.type is None:
        raise NeedsColumnar("values without a type")
    if left.type.name in ("JSON", "INTERVAL"):
        raise NeedsColumnar(f"a set operation over {left.type}")
    return _one_type(left.type, right.type)


def _converted(bound: Bound, types: Sequence[Any]) -> Rows:
    """The rows with their columns in other types."""
    exprs = tuple(
        operators.convert(Column(i, column.name, column.type), sql_type)
        for i, (column, sql_type) in enumerate(zip(bound.columns, types, strict=True))
    )
    same = all(isinstance(expr, Column) for expr in exprs)
    return bound.rows if same else Project(bound.rows, exprs)
