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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.errors import DatabaseError, TypeMismatch
from murmur.sql import operators
from murmur.sql.binder import Binding, bind_limit, limited, output_or_input, result_type
from murmur.sql.binder_aggregates import AGGREGATES
from murmur.sql.binder_expressions import bind_condition, bind_expression
from murmur.sql.binder_from import Boundary, Fields, QueryScope, Slots, Source, joined, table_fields
from murmur.sql.binder_names import (
    alias_name,
    check_reserved,
    fold,
    only,
    output_name,
    unbound,
    unsupported,
)
from murmur.sql.expressions import (
    Call,
    Column,
    Expr,
    Literal,
    NeedsColumnar,
    Outer,
    Parameter,
    Subquery,
    SubqueryKind,
    rebuild,
)
from murmur.sql.parser import parse
from murmur.sql.plan import (
    Aggregate,
    Distinct,
    DistinctOn,
    Filter,
    OneRow,
    Project,
    ResultColumn,
    Rows,
    SetOperation,
    Shared,
    Sort,
    SortKey,
    SystemScan,
    TableScan,
    Values,
)

Tree: TypeAlias = Any  # sqlglot's
Ctes: TypeAlias = Mapping[str, "_Cte"]

MAX_VIEW_DEPTH = 16
_SELECT = ("with_", "distinct", "expressions", "from_", "joins", "where", "group", "having")
_ENDS = ("order", "limit", "offset")
_VOLATILE = (exp.Rand, exp.Uuid, exp.Anonymous)  # it may have another value each time
_REASONS = {"windows": "window", "laterals": "LATERAL", "qualify": "QUALIFY"}


@dataclass(frozen=True, slots=True)
class Bound:
    """A query, bound: its rows and what its columns are called."""

    rows: Rows
    columns: tuple[ResultColumn, ...]

    def fields(self, name: str) -> Fields:
        """The columns as the fields of a relation."""
        return [
            (name, Column(i, column.name, column.type)) for i, column in enumerate(self.columns)
        ]


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
                self._only(node, "this", "with_", "order", "limit", "offset", "alias")
                ctes = self._with(node, ctes, boundary)
                return self._ended(self.query(node.this, ctes, boundary), node, ctes, boundary)
            case exp.Select():
                return _Select(self, node, self._with(node, ctes, boundary), boundary).bind()
            case exp.SetOperation():
                return self._set_operation(node, self._with(node, ctes, boundary), boundary)
            case exp.Values():
                self._only(node, "expressions", "alias", "order", "limit", "offset")
                return self._ended(self._values(node, ctes, boundary), node, ctes, boundary)
            case exp.Table():
                return self._table_query(node, ctes)
        raise NeedsColumnar("this kind of query")

    def _only(self, node: Tree, *known: str) -> None:
        """NeedsColumnar if the node has any other part: the columnar binder judges that."""
        for key, value in node.args.items():
            if value and key not in known:
                raise NeedsColumnar(_REASONS.get(key, key.strip("_").upper()))

    def _table_query(self, node: Tree, ctes: Ctes) -> Bound:
        source = self.relation(node, ctes, None)
        columns = tuple(ResultColumn(_name_of(c), result_type(c)) for c in source.star_columns())
        return Bound(source.rows, columns)

    def _with(self, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Ctes:
        clause = node.args.get("with_")
        if clause is None:
            return ctes
        if clause.args.get("recursive"):
            raise NeedsColumnar("WITH RECURSIVE")
        self._only(clause, "expressions")
        known = dict(ctes)
        for cte in clause.expressions:
            self._only(cte, "this", "alias", "materialized")
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
        self._only(node, "this", "expression", "distinct", "with_", "order", "limit", "offset")
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
            keys = _sort_keys(order, self._text, lambda term: self._output(term, exprs, scope))
            rows = Sort(rows, keys) if keys else rows
        limit = bind_limit(node, "limit", self.binding)
        rows = limited(rows, limit, bind_limit(node, "offset", self.binding))
        return Bound(rows, bound.columns)

    def _output(self, node: Tree, exprs: Sequence[Expr], scope: QueryScope) -> Expr:
        position = _position(node)
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
        self._only(from_, "this")
        source = self.relation(from_.this, ctes, boundary)
        return self._joins(source, node.args.get("joins") or (), ctes, boundary)

    def _joins(
        self, source: Source, joins: Sequence[Tree], ctes: Ctes, boundary: Boundary | None
    ) -> Source:
        comma = False
        for join in joins:
            self._only(join, "this", "on", "using", "side", "kind", "method")
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
                self._only(node, "this")
                return self.relation(node.this, ctes, boundary)
            case exp.Subquery() | exp.Values():
                bound = self.query(node, ctes, boundary)
                alias = node.args.get("alias")
                name = "" if alias is None else alias_name(alias, self._text)
                return self._renamed(Source(bound.rows, bound.fields(name)), name, alias)
        raise NeedsColumnar("this relation")

    def _named(self, node: Tree, ctes: Ctes, boundary: Boundary | None) -> Source:
        self._only(node, "this", "alias", "joins")
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
            bound = inside.query(parse(view.text).tree, {}, None)
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


class _Select:
    """One SELECT being bound."""

    def __init__(
        self, binder: QueryBinder, node: Tree, ctes: Ctes, boundary: Boundary | None
    ) -> None:
        self._binder = binder
        self._node = node
        self._ctes = ctes
        self._boundary = boundary
        self._text = binder.binding.text
        binder._only(node, *_SELECT, *_ENDS)
        self._source = binder.sources(node, ctes, boundary)
        self._scope = QueryScope(binder, self._source, ctes, boundary)
        self._groups: tuple[Expr, ...] = ()

    def bind(self) -> Bound:
        """The plan of the SELECT."""
        node, rows = self._node, self._source.rows
        if not node.expressions:
            raise unsupported("a SELECT without columns is not supported", node, self._text)
        if where := node.args.get("where"):
            rows = Filter(rows, bind_condition(where.this, self._scope))
        grouped = self._is_grouped()
        if grouped:
            self._groups = self._bind_groups()
            self._scope.aggregates = []
        exprs, columns = self._items()
        having = None
        if clause := node.args.get("having"):
            having = bind_condition(clause.this, self._scope, clause="HAVING")
        keys = self._order(exprs, columns)
        on = self._distinct_on(exprs, columns)
        if grouped:
            aggregations = self._scope.aggregates
            assert aggregations is not None
            self._scope.aggregates = None
            rows = Aggregate(rows, tuple(aggregations), self._groups)
            exprs = tuple(map(self._regrouped, exprs))
            keys = tuple(replace(key, expr=self._regrouped(key.expr)) for key in keys)
            on = None if on is None else tuple(map(self._regrouped, on))
            if having is not None:
                rows = Filter(rows, self._regrouped(having))
        return Bound(self._finished(rows, exprs, columns, keys, on), columns)

    def _finished(
        self,
        rows: Rows,
        exprs: tuple[Expr, ...],
        columns: Sequence[ResultColumn],
        keys: tuple[SortKey, ...],
        on: tuple[Expr, ...] | None,
    ) -> Rows:
        limit = bind_limit(self._node, "limit", self._binder.binding)
        offset = bind_limit(self._node, "offset", self._binder.binding)
        if self._node.args.get("distinct") and on is None:
            rows = Distinct(Project(rows, exprs))
            keys = tuple(self._output_key(key, exprs, columns) for key in keys)
            return limited(Sort(rows, keys) if keys else rows, limit, offset)
        rows = Sort(rows, keys) if keys else rows
        if on is not None:
            rows = DistinctOn(rows, on)
        return Project(limited(rows, limit, offset), exprs)

    def _output_key(
        self, key: SortKey, exprs: tuple[Expr, ...], columns: Sequence[ResultColumn]
    ) -> SortKey:
        if key.expr not in exprs:
            message = "ORDER BY of a SELECT DISTINCT takes its output columns only"
            raise unbound(message, self._node.args["order"], self._text)
        at = exprs.index(key.expr)
        return replace(key, expr=Column(at, columns[at].name, key.expr.type))

    # Items

    def _items(self) -> tuple[tuple[Expr, ...], tuple[ResultColumn, ...]]:
        exprs: list[Expr] = []
        columns: list[ResultColumn] = []
        for item in self._node.expressions:
            star = item.this if isinstance(item, exp.Column) else item
            if isinstance(star, exp.Star):
                self._binder._only(star)
                for column in self._starred(item, star):
                    exprs.append(column)
                    columns.append(ResultColumn(_name_of(column), result_type(column)))
            else:
                expr = bind_expression(item.unalias(), self._scope)
                exprs.append(expr)
                columns.append(ResultColumn(output_name(item), result_type(expr)))
        return tuple(exprs), tuple(columns)

    def _starred(self, item: Tree, star: Tree) -> Sequence[Expr]:
        if item is star:
            found = self._source.star_columns()
        else:
            found = self._source.columns_of(fold(item.args["table"]))
        if not found:
            raise unbound("* needs a FROM", item, self._text)
        return found

    # GROUP BY

    def _is_grouped(self) -> bool:
        node = self._node
        if node.args.get("group") or node.args.get("having"):
            return True
        ends = node.args.get("order")
        trees = [*node.expressions, *([] if ends is None else ends.expressions)]
        return any(isinstance(each, AGGREGATES) for tree in trees for each in _own(tree))

    def _bind_groups(self) -> tuple[Expr, ...]:
        group = self._node.args.get("group")
        if group is None:
            return ()
        self._binder._only(group, "expressions")
        if not group.expressions:
            raise NeedsColumnar("GROUP BY")
        groups = []
        for term in group.expressions:
            expr = self._group(term)
            if expr.type is not None and expr.type.name in ("JSON", "INTERVAL"):
                raise NeedsColumnar(f"GROUP BY {expr.type}")
            groups.append(expr)
        return tuple(dict.fromkeys(groups))

    def _group(self, term: Tree) -> Expr:
        """A column of FROM, an output column by its place or its name, or an expression."""
        items = self._node.expressions
        position = _position(term)
        if position is not None:
            if not 1 <= position <= len(items) or isinstance(items[position - 1], exp.Star):
                raise unbound(f"there is no output column {position}", term, self._text)
            return bind_expression(items[position - 1].unalias(), self._scope)
        if isinstance(term, exp.Column) and term.args.get("table") is None:
            name = fold(term.this)
            if self._source.find(name, None) is None:
                for item in items:
                    if isinstance(item, exp.Alias) and output_name(item) == name:
                        return bind_expression(item.this, self._scope)
        return bind_expression(term, self._scope)

    def _regrouped(self, expr: Expr) -> Expr:
        """An expression over the groups' rows, which are their values and then the aggregates."""
        if isinstance(expr, Column) and expr.index < 0:
            return replace(expr, index=len(self._groups) - 1 - expr.index)
        if expr in self._groups:
            at = self._groups.index(expr)
            return Column(at, _name_of(expr), result_type(expr))
        if isinstance(expr, Column):
            message = f'column "{expr.name}" must stand in GROUP BY or in an aggregate'
            raise unbound(message, self._node, self._text)
        return rebuild(expr, self._regrouped)

    # ORDER BY, DISTINCT ON

    def _order(
        self, exprs: tuple[Expr, ...], columns: Sequence[ResultColumn]
    ) -> tuple[SortKey, ...]:
        order = self._node.args.get("order")
        if order is None:
            return ()
        return _sort_keys(order, self._text, lambda term: self._output(term, exprs, columns))

    def _output(self, node: Tree, exprs: Sequence[Expr], columns: Sequence[ResultColumn]) -> Expr:
        return output_or_input(node, exprs, columns, self._scope, self._text)

    def _distinct_on(
        self, exprs: Sequence[Expr], columns: Sequence[ResultColumn]
    ) -> tuple[Expr, ...] | None:
        distinct = self._node.args.get("distinct")
        if distinct is None or (on := distinct.args.get("on")) is None:
            return None
        terms = on.expressions if isinstance(on, exp.Tuple) else [on]
        return tuple(self._output(term, exprs, columns) for term in terms)


# Terms -------------------------------------------------------------------------------------------


def _own(tree: Tree) -> Iterator[Tree]:
    """The nodes of an expression, without those of the queries inside it."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, exp.Window):
            raise NeedsColumnar("window function")
        if not isinstance(node, exp.Query):
            pending += list(node.iter_expressions())


def _uses(node: Tree, name: str) -> int:
    """In how many places a relation is named, and so may be the query of WITH."""
    tables = node.find_all(exp.Table)
    return sum(1 for t in tables if isinstance(t.this, exp.Identifier) and fold(t.this) == name)


def _position(node: Tree) -> int | None:
    if isinstance(node, exp.Literal) and not node.is_string and node.this.isdigit():
        return int(node.this)
    return None


def _sort_keys(order: Tree, text: str, bind: Any) -> tuple[SortKey, ...]:
    only(order, text, "expressions")
    keys = []
    for term in order.expressions:
        only(term, text, "this", "desc", "nulls_first")
        expr = bind(term.this)
        if expr.type is not None and expr.type.name == "JSON":
            raise TypeMismatch(f"{expr.type} has no order")
        if isinstance(expr, Literal | Parameter | Outer):
            continue  # the same for every row
        keys.append(SortKey(expr, bool(term.args.get("desc")), bool(term.args.get("nulls_first"))))
    return tuple(keys)


def _name_of(expr: Expr) -> str:
    match expr:
        case Column(_, name) | Outer(_, name):
            return name
        case Call(function):
            return function.name
    operands = getattr(expr, "operands", ())
    return _name_of(operands[0]) if operands else ""


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
