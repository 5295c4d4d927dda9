"""What the binders share: the statement being bound, and names over the columns of its tables.

    binding.table(node)                          the table that a statement writes to
    Scope(binding, ("n", row_columns(note)))     the columns that an expression can name
    bind_items(tree.expressions, scope, ...)     a list of RETURNING, stars expanded
    bind_limit(tree, "limit", binding)           LIMIT and OFFSET

Queries are bound in binder_query.py, writes in binder_writes.py and binder_merge.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.catalog import Catalog
from murmur.catalog.schema import Column as TableColumn
from murmur.catalog.schema import Table
from murmur.catalog.types import BIGINT, SqlType
from murmur.errors import BindError
from murmur.sql.binder_expressions import bind_expression
from murmur.sql.binder_names import fold, only, output_name, unbound, unsupported
from murmur.sql.expressions import Column, Expr, Literal, Parameter
from murmur.sql.plan import (
    Limit,
    ResultColumn,
    Rows,
)
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


# LIMIT, OFFSET -----------------------------------------------------------------------------------


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
