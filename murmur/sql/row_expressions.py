"""Expressions over one row, kept as text: of a CHECK, an index, a generated column.

    define_expression(node, fields, text, "an index")  ->  ExpressionDefinition("lower(name)", TEXT)
    compile_row_expression("lower(name)", [("name", TEXT)], TEXT)  ->  f(("Ann",)) == "ann"

Such an expression reads one row and nothing else, no clock and no chance: replicas that hold the
same row must agree about it. Its text must read back as what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.schema import ExpressionDefinition
from murmur.catalog.types import SqlType
from murmur.errors import BindError, ParseError, Unsupported
from murmur.sql.binder_expressions import bind_assignment, bind_condition, bind_expression
from murmur.sql.binder_names import fold, unsupported
from murmur.sql.compile import compile_expression
from murmur.sql.expressions import Call, Column, Context, Expr, NeedsColumnar, Parameter, walk
from murmur.sql.parser import parse_expression

Tree: TypeAlias = Any  # sqlglot's


class RowScope:
    """The columns of one row, by their plain names; `clause` is where the expression stands."""

    def __init__(self, fields: Mapping[str, Column], text: str, clause: str) -> None:
        self._fields = fields
        self._clause = clause
        self.text = text

    def column(self, name: str, qualifier: str | None) -> Column | None:
        """A column of the row, by its plain name."""
        if qualifier is not None:
            raise BindError(f"columns stand in {self._clause} without a table's name")
        return self._fields.get(name)

    def parameter(self, index: int) -> Parameter:
        """There is none."""
        raise BindError(f"a parameter cannot stand in {self._clause}")

    def set_parameter_type(self, index: int, sql_type: SqlType) -> None:
        """There is none."""


def bind_row_condition(node: Tree, fields: Mapping[str, Column], text: str, clause: str) -> Expr:
    """Bind a condition over one row; errors point into `text`."""
    scope = RowScope(fields, text, clause)
    return _sound(lambda: bind_condition(node, scope, clause=clause), clause)


def bind_row_expression(
    node: Tree,
    fields: Mapping[str, Column],
    text: str,
    clause: str,
    *,
    result: SqlType | None = None,
) -> Expr:
    """Bind an expression over one row; with `result`, as a value for a column of that type."""
    scope = RowScope(fields, text, clause)
    if result is None:
        return _sound(lambda: bind_expression(node, scope), clause)
    return _sound(lambda: bind_assignment(node, scope, result, name=clause), clause)


def define_expression(
    node: Tree,
    fields: Mapping[str, Column],
    text: str,
    clause: str,
    *,
    result: SqlType | None = None,
) -> ExpressionDefinition:
    """The expression as the catalog is told of it."""
    expr = bind_row_expression(node, fields, text, clause, result=result)
    sql_type = expr.type if result is None else result
    if sql_type is None:
        raise unsupported(f"{clause} needs an expression of a known type: cast it", node, text)
    names = dict.fromkeys(fold(column.this) for column in node.find_all(exp.Column))
    return ExpressionDefinition(stored_text(node, text), sql_type, tuple(names))


def compile_row_expression(
    text: str, columns: Sequence[tuple[str, SqlType]], result: SqlType
) -> Callable[[Sequence[Any]], Any]:
    """The function of a stored expression (catalog/expressions.py says what it is for)."""
    return _compiled(text, tuple(columns), result)


@lru_cache(maxsize=256)  # a catalog is settled anew with every schema change
def _compiled(
    text: str, columns: tuple[tuple[str, SqlType], ...], result: SqlType
) -> Callable[[Sequence[Any]], Any]:
    fields = {name: Column(i, name, sql_type) for i, (name, sql_type) in enumerate(columns)}
    node = parse_expression(text)
    expr = bind_row_expression(node, fields, text, "a stored expression", result=result)
    value_of, context = compile_expression(expr), Context()
    return lambda row: value_of(row, context)


def stored_text(node: Tree, text: str) -> str:
    """The expression as the catalog keeps it: it must read back as what it was."""
    copy = node.copy()
    for identifier in copy.find_all(exp.Identifier):
        identifier.set("this", fold(identifier))
    written: str = copy.sql(dialect="postgres", comments=False, normalize_functions="lower")
    try:
        same = parse_expression(written) == copy
    except ParseError:
        same = False
    if not same:
        raise unsupported("this expression cannot be stored", node, text)
    return written


def _sound(bind: Callable[[], Expr], clause: str) -> Expr:
    try:
        expr = bind()
    except NeedsColumnar as reason:
        raise Unsupported(f"{reason.reason} cannot stand in {clause}") from None
    for part in walk(expr):
        if isinstance(part, Call) and part.function.stability != "immutable":
            name = part.function.name
            raise Unsupported(f"{clause} cannot use {name}(): its value changes from call to call")
    return expr
