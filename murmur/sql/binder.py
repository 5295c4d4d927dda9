"""Binding a SELECT over one relation: from sqlglot's tree to a plan of the row engine.

    SELECT body, likes + 1 FROM note n WHERE n.author = ? ORDER BY written DESC LIMIT 5

      -> Limit(Project(Filter?(access path by planner.py)), ...) over note's columns

A SELECT that needs more than one relation, grouping, a window or a subquery raises NeedsColumnar,
whose message is the reason that EXPLAIN gives; engines.py then hands the whole query over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.catalog import Catalog
from murmur.catalog.schema import Column as TableColumn
from murmur.catalog.schema import Table
from murmur.catalog.types import BIGINT, DECIMAL, SqlType
from murmur.errors import BindError, TypeMismatch
from murmur.sql.binder_expressions import bind_condition, bind_expression
from murmur.sql.binder_names import alias_of, fold, only, output_name, unbound, unsupported
from murmur.sql.binder_scope import Scope as Names
from murmur.sql.expressions import Column, Expr, Literal, NeedsColumnar, Parameter
from murmur.sql.plan import (
    Aggregate,
    Aggregation,
    Distinct,
    Filter,
    FullScan,
    IndexRange,
    KeyLookup,
    KeyRange,
    Limit,
    OneRow,
    Project,
    ResultColumn,
    RowQuery,
    Rows,
    Sort,
    SortKey,
    SystemScan,
    TrigramScan,
)
from murmur.sql.planner import plan_access
from murmur.sql.rules.facts import Facts

Tree: TypeAlias = Any  # sqlglot's
SystemColumns: TypeAlias = Callable[[str], tuple[ResultColumn, ...] | None]


@dataclass(slots=True)
class Binding:
    """One statement being bound: what it is bound against, and what is learnt of its parameters."""

    catalog: Catalog
    system: SystemColumns
    text: str
    types: list[SqlType | None] = field(default_factory=list)  # of parameters, by position
    facts: Facts | None = None  # what is known of the tables' sizes

    def table(self, node: Tree) -> Table:
        """The table that a statement writes to."""
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise unsupported("a table name is expected here", node, self.text)
        only(node, self.text, "this", "alias")
        name = fold(node.this)
        table = self.catalog.table(name)
        if table is None:
            if self.catalog.view(name) is not None:
                raise unbound(f'"{name}" is a view: it can only be read', node, self.text)
            if self.system(name) is not None:
                raise unbound(
                    f'"{name}" is a system relation: it can only be read', node, self.text
                )
            raise unbound(f'there is no table "{name}"', node, self.text)
        return table

    def column(self, table: Table, identifier: Tree) -> TableColumn:
        """A column of the table by its identifier."""
        column = table.column(fold(identifier))
        if column is None:
            message = f'there is no column "{fold(identifier)}" in "{table.name}"'
            raise unbound(message, identifier, self.text)
        return column


class Scope:
    """The columns that an expression can name, under the names of their relations.

    An unqualified name means the column of the first relation that has it.
    """

    def __init__(
        self, binding: Binding, *relations: tuple[str, Sequence[Column]], why: str = ""
    ) -> None:
        self._binding = binding
        self._relations = {
            name: {column.name: column for column in columns} for name, columns in relations
        }
        self._why = why

    @property
    def text(self) -> str:
        """The statement."""
        return self._binding.text

    def column(self, name: str, qualifier: str | None) -> Column | None:
        """The column of this name."""
        if qualifier is not None:
            if qualifier not in self._relations:
                raise BindError(f'there is no table "{qualifier}" here')
            return self._relations[qualifier].get(name)
        for columns in self._relations.values():
            if name in columns:
                return columns[name]
        return None

    def parameter(self, index: int) -> Parameter:
        """The parameter, with the type it has got so far."""
        return Parameter(index, self._binding.types[index])

    def set_parameter_type(self, index: int, sql_type: SqlType) -> None:
        """The parameter has met its type."""
        self._binding.types[index] = sql_type


def row_columns(table: Table, offset: int = 0) -> list[Column]:
    """A table's columns as the fields of its rows, which begin at `offset`."""
    return [
        Column(offset + column.position, column.name, column.type, table.holds_null(column))
        for column in table.columns
    ]


def output_or_input(
    node: Tree, exprs: Sequence[Expr], columns: Sequence[ResultColumn], scope: Names, text: str
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


def result_type(expr: Expr) -> SqlType | None:
    """The type of a result column: a COUNTER reads as BIGINT."""
    return BIGINT if expr.type is not None and expr.type.name == "COUNTER" else expr.type


def bind_items(
    items: Iterable[Tree], scope: Scope, columns: Sequence[Column], relation: str, text: str
) -> tuple[tuple[Expr, ...], tuple[ResultColumn, ...]]:
    """The expressions of a select list or RETURNING, stars expanded, and their names."""
    exprs: list[Expr] = []
    results: list[ResultColumn] = []
    for item in items:
        star = item.this if isinstance(item, exp.Column) else item
        if isinstance(star, exp.Star):
            only(star, text)
            if item is not star and fold(item.args["table"]) != relation:
                message = f'there is no table "{fold(item.args["table"])}" here'
                raise unbound(message, item, text)
            if not columns:
                raise unbound("* needs a FROM", item, text)
            exprs += columns
            results += [ResultColumn(column.name, result_type(column)) for column in columns]
        else:
            expr = bind_expression(item.unalias(), scope)
            exprs.append(expr)
            results.append(ResultColumn(output_name(item), result_type(expr)))
    return tuple(exprs), tuple(results)


# SELECT ------------------------------------------------------------------------------------------

_CLAUSES = frozenset({"expressions", "from_", "where", "order", "limit", "offset", "distinct"})
_REASONS = {
    "with_": "WITH",
    "joins": "join",
    "group": "GROUP BY",
    "having": "HAVING",
    "windows": "window",
    "laterals": "LATERAL",
}


def bind_select(tree: Tree, binding: Binding) -> RowQuery:
    """The row plan of a query, or NeedsColumnar with the reason why there is none."""
    while isinstance(tree, exp.Subquery) and [k for k, v in tree.args.items() if v] == ["this"]:
        tree = tree.this  # SELECT in parentheses
    if not isinstance(tree, exp.Select):
        raise NeedsColumnar(_kind(tree))
    for key, value in tree.args.items():
        if value and key not in _CLAUSES:
            if key in _REASONS:
                raise NeedsColumnar(_REASONS[key])
            only(tree, binding.text, *_CLAUSES, *_REASONS)
    if not tree.expressions:
        raise unsupported("a SELECT without columns is not supported", tree, binding.text)
    return _Select(tree, binding).bind()


def _kind(tree: Tree) -> str:
    match tree:
        case exp.SetOperation():
            return "set operation"
        case exp.Values():
            return "VALUES"
    return "query in parentheses"


class _Select:
    def __init__(self, tree: Tree, binding: Binding) -> None:
        self._tree = tree
        self._binding = binding
        self._text = binding.text
        self._table: Table | None = None
        self._name = ""
        self._leaf: Rows = OneRow()
        self._columns: list[Column] = []

    def bind(self) -> RowQuery:
        tree = self._tree
        if from_ := tree.args.get("from_"):
            only(from_, self._text, "this")
            self._from(from_.this)
        self._scope = Scope(self._binding, (self._name, self._columns))
        where = tree.args.get("where")
        predicate = None if where is None else bind_condition(where.this, self._scope)
        limit = bind_limit(tree, "limit", self._binding)
        offset = bind_limit(tree, "offset", self._binding)
        if any(item.find(exp.Window) for item in tree.expressions):
            raise NeedsColumnar("window function")
        if any(item.find(exp.AggFunc) for item in tree.expressions):
            return self._aggregates(predicate, limit, offset)
        exprs, results = bind_items(
            tree.expressions, self._scope, self._columns, self._name, self._text
        )
        distinct = self._distinct()
        keys = self._order(exprs, results, distinct=distinct)
        source, ordered = self._source(predicate, () if distinct else keys, limit is not None)
        sorts = bool(keys) and not ordered
        if distinct:
            rows: Rows = Distinct(Project(source, exprs))
            rows = limited(Sort(rows, keys) if keys else rows, limit, offset)
        else:
            # LIMIT stands below the projection: what it drops need not be computed.
            rows = limited(Sort(source, keys) if sorts else source, limit, offset)
            rows = Project(rows, exprs)
        stops = limit is not None and not sorts and not distinct
        return self._query(rows, source, results, stops=stops)

    def _query(
        self, rows: Rows, source: Rows, results: tuple[ResultColumn, ...], *, stops: bool
    ) -> RowQuery:
        """The query; `stops` says that a LIMIT may end it before every row was read."""
        leaf = source.source if isinstance(source, Filter) else source
        whole = self._table if isinstance(leaf, FullScan) and not stops else None
        return RowQuery(rows, results, _REASON_OF[type(leaf)], whole)

    # FROM, WHERE

    def _from(self, node: Tree) -> None:
        if not isinstance(node, exp.Table):
            raise NeedsColumnar("subquery in FROM")
        if not isinstance(node.this, exp.Identifier):
            raise NeedsColumnar("table function")
        if node.args.get("joins"):
            raise NeedsColumnar("join")
        alias = node.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            raise NeedsColumnar("renamed columns")
        only(node, self._text, "this", "alias")
        name = fold(node.this)
        self._name = alias_of(node, self._text) or name
        self._table = self._binding.catalog.table(name)
        if self._table is not None:
            self._columns = row_columns(self._table)
            return
        if self._binding.catalog.view(name) is not None:
            raise NeedsColumnar("view")
        system = self._binding.system(name)
        if system is None:
            raise unbound(f'there is no table "{name}"', node, self._text)
        self._columns = [Column(i, each.name, each.type) for i, each in enumerate(system)]
        self._leaf = SystemScan(name, system)

    def _source(
        self, predicate: Expr | None, keys: Sequence[SortKey], limited: bool
    ) -> tuple[Rows, bool]:
        if self._table is not None:
            return plan_access(self._table, predicate, keys, limited=limited)
        leaf = self._leaf
        return (leaf if predicate is None else Filter(leaf, predicate)), False

    # SELECT list

    def _aggregates(
        self, predicate: Expr | None, limit: Expr | None, offset: Expr | None
    ) -> RowQuery:
        tree = self._tree
        if tree.args.get("order") or tree.args.get("distinct"):
            raise NeedsColumnar("aggregates with ORDER BY or DISTINCT")
        aggregations = []
        results = []
        for item in tree.expressions:
            aggregation = self._aggregation(item.unalias())
            aggregations.append(aggregation)
            results.append(ResultColumn(output_name(item), aggregation.type))
        source, _ = self._source(predicate, (), limited=False)
        rows = limited(Aggregate(source, tuple(aggregations)), limit, offset)
        query = self._query(rows, source, tuple(results), stops=False)
        counted = len(aggregations) == 1 and aggregations[0].operand is None
        if counted and isinstance(source, FullScan):
            # Counting keys is quicker than anything that reads the rows.
            return RowQuery(query.rows, query.columns, "count of keys")
        return query

    def _aggregation(self, node: Tree) -> Aggregation:
        kind = {exp.Count: "count", exp.Sum: "sum", exp.Min: "min", exp.Max: "max"}.get(type(node))
        if kind is None or node.expressions:
            raise NeedsColumnar("aggregates")
        only(node, self._text, "this", "big_int")
        operand, distinct = node.this, False
        if operand is None:
            raise unbound(f"{kind}() takes one value", node, self._text)
        if isinstance(operand, exp.Star):
            return Aggregation("count", None, distinct=False, type=BIGINT)
        if isinstance(operand, exp.Distinct):
            if operand.args.get("on") or len(operand.expressions) != 1:
                raise NeedsColumnar("aggregates")
            operand, distinct = operand.expressions[0], True
        expr = bind_expression(operand, self._scope)
        match kind:
            case "count":
                return Aggregation("count", expr, distinct, BIGINT)
            case "sum":
                if expr.type is None or not (expr.type.is_integer or expr.type.name == "DECIMAL"):
                    raise NeedsColumnar("sum of inexact numbers")
                total = BIGINT if expr.type.is_integer else DECIMAL
                return Aggregation("sum", expr, distinct, total)
        if expr.type is None or not _has_order(expr.type):
            raise NeedsColumnar("aggregates")
        result = result_type(expr)
        return Aggregation("min" if kind == "min" else "max", expr, distinct, result)

    def _distinct(self) -> bool:
        distinct = self._tree.args.get("distinct")
        if distinct is None:
            return False
        if distinct.args.get("on") is not None:
            raise NeedsColumnar("DISTINCT ON")
        only(distinct, self._text)
        return True

    # ORDER BY, LIMIT

    def _order(
        self, exprs: Sequence[Expr], results: Sequence[ResultColumn], *, distinct: bool
    ) -> tuple[SortKey, ...]:
        order = self._tree.args.get("order")
        if order is None:
            return ()
        only(order, self._text, "expressions")
        keys = []
        for term in order.expressions:
            only(term, self._text, "this", "desc", "nulls_first")
            expr = output_or_input(term.this, exprs, results, self._scope, self._text)
            if expr.type is not None and not _has_order(expr.type):
                raise TypeMismatch(f"{expr.type} has no order")
            if distinct:
                if expr not in exprs:
                    message = "ORDER BY of a SELECT DISTINCT takes its output columns only"
                    raise unbound(message, term, self._text)
                at = list(exprs).index(expr)
                expr = Column(at, results[at].name, expr.type)
            if isinstance(expr, Literal | Parameter):
                continue  # the same for every row
            descending = bool(term.args.get("desc"))
            keys.append(SortKey(expr, descending, bool(term.args.get("nulls_first"))))
        return tuple(keys)


def bind_limit(tree: Tree, key: str, binding: Binding) -> Expr | None:
    """LIMIT or OFFSET (`key`) of a query; None if it has none."""
    clause = tree.args.get(key)
    if clause is None:
        return None
    if isinstance(clause, exp.Fetch):
        only(clause, binding.text, "direction", "count", "limit_options")
        if options := clause.args.get("limit_options"):
            only(options, binding.text, "rows")
        node = clause.args.get("count")
    else:
        only(clause, binding.text, "expression")
        node = clause.expression
    if node is None:
        return Literal(1, BIGINT)  # FETCH FIRST ROW ONLY
    if isinstance(node, exp.Var) and node.name.upper() == "ALL":
        return None
    expr = bind_expression(node, Scope(binding), expected=BIGINT)
    if expr.type is not None and not expr.type.is_integer:
        message = f"{key.upper()} takes a whole number, not {expr.type}"
        raise unbound(message, node, binding.text)
    return None if expr == Literal(None, BIGINT) else expr


def limited(rows: Rows, limit: Expr | None, offset: Expr | None) -> Rows:
    """LIMIT and OFFSET over rows, if there are any."""
    return rows if limit is None and offset is None else Limit(rows, limit, offset)


def _has_order(sql_type: SqlType) -> bool:
    return sql_type.name != "JSON"


_REASON_OF: dict[type, str] = {
    OneRow: "no table",
    SystemScan: "system relation",
    FullScan: "full scan",
    KeyLookup: "key lookup",
    KeyRange: "key range",
    IndexRange: "index range",
    TrigramScan: "trigram scan",
}
