"""Values that columns fill themselves with: DEFAULT functions, and keys that nobody gives.

    id UUID PRIMARY KEY DEFAULT uuid7()     evaluated for each inserted row
    id INTEGER PRIMARY KEY                  generated ids: 63 bits, unique without asking anyone

An INTEGER PRIMARY KEY without a DEFAULT fills itself. What it is filled with needs 63 bits, so the
column is a BIGINT, and so are columns that reference it. In the catalog it has the default
GENERATED_ID, a text that no expression can have.
"""

from __future__ import annotations

from functools import lru_cache

from murmur.catalog.schema import Column
from murmur.catalog.types import SqlType
from murmur.errors import BindError, Unsupported
from murmur.sql.binder_expressions import bind_assignment
from murmur.sql.expressions import Column as ColumnExpr
from murmur.sql.expressions import Expr, NeedsColumnar, Parameter
from murmur.sql.parser import parse_expression

GENERATED_ID = "generated id"


def default_expression(column: Column) -> Expr:
    """The expression of a DEFAULT function."""
    assert column.default is not None
    return bind_default(column.default.text, column.type, column.name)


@lru_cache(maxsize=1024)
def bind_default(text: str, sql_type: SqlType, name: str) -> Expr:
    """Bind the text of a DEFAULT, which reads neither columns nor parameters."""
    try:
        return bind_assignment(parse_expression(text), _NoNames(text), sql_type, name=name)
    except NeedsColumnar as reason:
        raise Unsupported(f"{reason.reason} cannot stand in DEFAULT") from None


class _NoNames:
    """The scope of an expression that stands alone."""

    def __init__(self, text: str) -> None:
        self.text = text

    def column(self, name: str, qualifier: str | None) -> ColumnExpr | None:
        """There is none."""
        return None

    def parameter(self, index: int) -> Parameter:
        """There is none."""
        raise BindError("a parameter cannot stand in DEFAULT")

    def set_parameter_type(self, index: int, sql_type: SqlType) -> None:
        """There is none."""
