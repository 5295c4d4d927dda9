"""Binding one SELECT: its items, WHERE, GROUP BY, HAVING, ORDER BY, DISTINCT and LIMIT.

    SELECT author, count(*) AS n FROM note WHERE likes > 3 GROUP BY author ORDER BY n DESC LIMIT 5

      -> Project(Limit(Sort(Aggregate(Filter(FROM, likes > 3), (count(*),), (author,)), ...), ...))

What FROM amounts to is for who binds queries (binder_query.py). LIMIT stands below the projection:
what it drops need not be computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from sqlglot import exp

from murmur.errors import TypeMismatch
from murmur.sql.binder import bind_limit, limited, result_type
from murmur.sql.binder_aggregates import AGGREGATES
from murmur.sql.binder_expressions import bind_condition, bind_expression
from murmur.sql.binder_from import Boundary, Fields, Queries, QueryScope, Source
from murmur.sql.binder_names import fold, only, output_name, unbound, unsupported
from murmur.sql.expressions import (
    Call,
    Column,
    Expr,
    Literal,
    NeedsColumnar,
    Outer,
    Parameter,
    rebuild,
)
from murmur.sql.plan import (
    Aggregate,
    Distinct,
    DistinctOn,
    Filter,
    Project,
    ResultColumn,
    Rows,
    Sort,
    SortKey,
)

Tree: TypeAlias = Any  # sqlglot's

_SELECT = ("with_", "distinct", "expressions", "from_", "joins", "where", "group", "having")
_ENDS = ("order", "limit", "offset")
_REASONS = {"windows": "window", "laterals": "LATERAL", "qualify": "QUALIFY"}


class Relations(Queries, Protocol):
    """Who binds FROM."""

    def sources(self, node: Tree, ctes: Mapping[str, Any], boundary: Boundary | None) -> Source:
        """What FROM and the joins behind it amount to."""
        ...


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


class SelectBinder:
    """One SELECT being bound."""

    def __init__(
        self, binder: Relations, node: Tree, ctes: Mapping[str, Any], boundary: Boundary | None
    ) -> None:
        self._binder = binder
        self._node = node
        self._ctes = ctes
        self._boundary = boundary
        self._text = binder.binding.text
        understood(node, *_SELECT, *_ENDS)
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
                understood(star)
                for column in self._starred(item, star):
                    exprs.append(column)
                    columns.append(ResultColumn(name_of(column), result_type(column)))
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
        understood(group, "expressions")
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
        position = position_of(term)
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
            return Column(at, name_of(expr), result_type(expr))
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
        return sort_keys(order, self._text, lambda term: self._output(term, exprs, columns))

    def _output(self, node: Tree, exprs: Sequence[Expr], columns: Sequence[ResultColumn]) -> Expr:
        return _output_or_input(node, exprs, columns, self._scope, self._text)

    def _distinct_on(
        self, exprs: Sequence[Expr], columns: Sequence[ResultColumn]
    ) -> tuple[Expr, ...] | None:
        distinct = self._node.args.get("distinct")
        if distinct is None or (on := distinct.args.get("on")) is None:
            return None
        terms = on.expressions if isinstance(on, exp.Tuple) else [on]
        return tuple(self._output(term, exprs, columns) for term in terms)


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


def position_of(node: Tree) -> int | None:
    """The number of an output column, where a term is one."""
    if isinstance(node, exp.Literal) and not node.is_string and node.this.isdigit():
        return int(node.this)
    return None


def sort_keys(order: Tree, text: str, bind: Any) -> tuple[SortKey, ...]:
    """The terms of ORDER BY, each bound by `bind`, without those that are the same for all rows."""
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


def name_of(expr: Expr) -> str:
    """What a column is called that has no name of its own."""
    match expr:
        case Column(_, name) | Outer(_, name):
            return name
        case Call(function):
            return function.name
    operands = getattr(expr, "operands", ())
    return name_of(operands[0]) if operands else ""


def _output_or_input(
    node: Tree, exprs: Sequence[Expr], columns: Sequence[ResultColumn], scope: QueryScope, text: str
) -> Expr:
    """An output column by its place or its name, or an expression over the input."""
    if isinstance(node, exp.Literal) and not node.is_string and node.this.isdigit():
        position = int(node.this)
        if not 1 <= position <= len(exprs):
            raise unbound(f"there is no output column {position}", node, text)
        return exprs[position - 1]
    if isinstance(node, exp.Column) and node.args.get("table") is None:
        name = fold(node.this)
        named = [e for e, column in zip(exprs, columns, strict=True) if column.name == name]
        if len(set(named)) > 1:
            raise unbound(f'"{name}" names two output columns', node, text)
        if named:
            return named[0]
    return bind_expression(node, scope)


def understood(node: Tree, *known: str) -> None:
    """NeedsColumnar if the node has any other part: the columnar binder judges that."""
    for key, value in node.args.items():
        if value and key not in known:
            raise NeedsColumnar(_REASONS.get(key, key.strip("_").upper()))
