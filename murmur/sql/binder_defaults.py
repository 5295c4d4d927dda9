"""A column's type and its DEFAULT, as CREATE TABLE and ALTER TABLE write them.

DEFAULT 'none'     ->  Default("constant", "none", "'none'")
DEFAULT uuid7()    ->  Default("function", None, "uuid7()")
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.atoms import to_atom
from murmur.catalog.schema import ColumnDefinition, Default
from murmur.catalog.types import SqlType
from murmur.catalog.values import check
from murmur.errors import DatabaseError
from murmur.sql.binder import Binding, Scope
from murmur.sql.binder_expressions import bind_assignment, bind_type
from murmur.sql.binder_names import pointing, unbound, unsupported
from murmur.sql.compile import compile_expression
from murmur.sql.expressions import Context, NeedsColumnar, is_constant
from murmur.sql.row_expressions import stored_text

Tree: TypeAlias = Any  # sqlglot's


def bind_column_type(kind: Tree, node: Tree, text: str) -> SqlType:
    """The type that a column gets; errors point at `node` where the type has no place."""
    try:
        return bind_type(kind, text)
    except NeedsColumnar as reason:
        raise unsupported(f"{reason.reason} cannot be stored", node, text) from None


def bind_default(
    node: Tree, column: ColumnDefinition, table: str, binding: Binding
) -> Default | None:
    """A DEFAULT: a constant in stored form, or an expression for each inserted row."""
    text = binding.text
    label = f"{table}.{column.name}"
    try:
        expr = bind_assignment(node, Scope(binding), column.type, name=label)
    except NeedsColumnar as reason:
        raise unsupported(f"{reason.reason} cannot stand in DEFAULT", node, text) from None
    if node.find(exp.Placeholder) is not None:
        raise unbound("a parameter cannot stand in DEFAULT", node, text)
    if not is_constant(expr):
        return Default("function", None, stored_text(node, text))
    try:
        value = compile_expression(expr)((), Context())
        value = check(value, column.type, where=f"column {label}")
    except DatabaseError as error:
        raise type(error)(pointing(f"DEFAULT: {error}", node, text)) from None
    if value is None:
        return None
    return Default("constant", to_atom(value, column.type), stored_text(node, text))
