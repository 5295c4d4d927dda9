"""What stands in FROM, and what the names of a SELECT mean.

    FROM author a JOIN note n ON n.author = a.id
      -> Source(Join(...), fields [("a", id 0), ("a", name 1), ("n", id 2), ("n", author 3)])

    JOIN ... USING (id), NATURAL JOIN      `id` is one column, which * gives first: the left one,
                                           the right one of a RIGHT JOIN, whichever is not NULL of
                                           a FULL JOIN

A field's index is its place in the row that the join yields. A RIGHT JOIN is a LEFT JOIN whose row
has the right side first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from murmur.catalog.schema import Table
from murmur.catalog.types import BIGINT, SqlType
from murmur.errors import BindError
from murmur.sql import operators
from murmur.sql.binder import Binding
from murmur.sql.binder_expressions import bind_condition
from murmur.sql.binder_names import fold, unbound
from murmur.sql.binder_scope import read_type
from murmur.sql.expressions import (
    And,
    Coalesce,
    Column,
    Expr,
    NeedsColumnar,
    Outer,
    Parameter,
    Subquery,
    SubqueryKind,
    transform,
)
from murmur.sql.plan import Aggregation, Join, JoinKind, Rows

Tree: TypeAlias = Any  # sqlglot's
Fields: TypeAlias = list[tuple[str, Column]]  # the relation's name, and the column


class Slots:
    """Gives out the slots of one statement's subqueries."""

    def __init__(self) -> None:
        self.next = 0

    def take(self) -> int:
        """A slot that nobody has."""
        self.next += 1
        return self.next - 1


@dataclass(slots=True)
class Source:
    """Rows, and the names of their columns.

    `star` is what * stands for when it is not the fields: columns that USING has merged, first.
    """

    rows: Rows
    fields: Fields
    star: list[tuple[str, Expr]] | None = None

    @property
    def width(self) -> int:
        """How many columns a row has."""
        return len(self.fields)

    def named(self) -> list[tuple[str, Expr]]:
        """The columns that can be named without their relation."""
        if self.star is not None:
            return self.star
        return [(column.name, column) for _, column in self.fields]

    def star_columns(self) -> list[Expr]:
        """What * stands for."""
        return [expr for _, expr in self.named()]

    def columns_of(self, relation: str) -> list[Expr]:
        """What relation.* stands for."""
        found: list[Expr] = [column for name, column in self.fields if name == relation]
        if not found:
            raise BindError(f'there is no table "{relation}" in FROM')
        return found

    def find(self, name: str, qualifier: str | None) -> Expr | None:
        """The column of this name; BindError if there are two."""
        if qualifier is None:
            found = [expr for each, expr in self.named() if each == name]
        else:
            found = [c for relation, c in self.fields if relation == qualifier and c.name == name]
        if len(found) > 1:
            raise BindError(f'column "{name}" is ambiguous')
        return found[0] if found else None

    def has(self, relation: str) -> bool:
        """Whether a relation of this name is there."""
        return any(name == relation for name, _ in self.fields)


class Queries(Protocol):
    """Who binds the queries inside of expressions."""

    binding: Binding

    def subquery(self, kind: SubqueryKind, node: Tree, scope: QueryScope) -> tuple[Any, Subquery]:
        """The query, bound in this scope: its columns, and the expression."""
        ...


class Boundary:
    """The line between a subquery and the query around it: what crosses it, and in which slot."""

    def __init__(self, around: QueryScope, slots: Slots) -> None:
        self._around = around
        self._slots = slots
        self._taken: dict[Expr, Outer] = {}

    def column(self, name: str, qualifier: str | None) -> Outer | None:
        """A column from around, as the subquery sees it."""
        expr = self._around.column(name, qualifier)
        if expr is None:
            return None
        known = self._taken.get(expr)
        if known is None:
            known = self._taken[expr] = Outer(self._slots.take(), name, read_type(expr))
        return known

    def taken(self) -> tuple[tuple[int, ...], tuple[Expr, ...]]:
        """The slots, and the values from around that fill them."""
        return tuple(outer.slot for outer in self._taken.values()), tuple(self._taken)


class QueryScope:
    """The columns that the expressions of one SELECT can name, its own and those around it.

    `aggregates` is where aggregates are collected, None where there may be none: the n-th stands in
    the expression as a column at -1 - n.
    """

    def __init__(
        self,
        queries: Queries,
        source: Source,
        ctes: Mapping[str, Any],
        boundary: Boundary | None,
    ) -> None:
        self.queries = queries
        self.ctes = ctes
        self.aggregates: list[Aggregation] | None = None
        self._source = source
        self._boundary = boundary
        self._binding = queries.binding

    @property
    def text(self) -> str:
        """The statement."""
        return self._binding.text

    def column(self, name: str, qualifier: str | None) -> Expr | None:
        """The column of this name."""
        found = self._source.find(name, qualifier)
        if found is not None:
            if isinstance(found, Column) and found.type != read_type(found):
                return replace(found, type=BIGINT)
            return found
        if qualifier is not None and self._source.has(qualifier):
            return None
        if qualifier is None and self._source.has(name):
            raise NeedsColumnar("a row as a value")
        if self._boundary is not None:
            return self._boundary.column(name, qualifier)
        if qualifier is not None:
            raise BindError(f'there is no table "{qualifier}" in FROM')
        return None

    def parameter(self, index: int) -> Parameter:
        """The parameter, with the type it has got so far."""
        return Parameter(index, self._binding.types[index])

    def set_parameter_type(self, index: int, sql_type: SqlType) -> None:
        """The parameter has met its type."""
        self._binding.types[index] = sql_type


def table_fields(table: Table, name: str) -> Fields:
    """A table's columns as the fields of a relation."""
    return [
        (name, Column(column.position, column.name, column.type, table.holds_null(column)))
        for column in table.columns
    ]


# Joins -------------------------------------------------------------------------------------------

_KINDS: Mapping[str, JoinKind] = {"": "inner", "LEFT": "left", "RIGHT": "left", "FULL": "full"}


def joined(
    queries: Queries,
    left: Source,
    right: Source,
    join: Tree,
    ctes: Mapping[str, Any],
    boundary: Boundary | None,
) -> Source:
    """The join of two sources."""
    text = queries.binding.text
    for name in dict.fromkeys(name for name, _ in right.fields):
        if name and left.has(name):
            raise unbound(f'"{name}" stands twice in FROM: give one an alias', join, text)
    side = join.args.get("side") or ""
    kind = _KINDS[side]
    first, second = (right, left) if side == "RIGHT" else (left, right)
    left = _placed(left, right.width if side == "RIGHT" else 0, nullable=side in ("RIGHT", "FULL"))
    right = _placed(right, 0 if side == "RIGHT" else left.width, nullable=side in ("LEFT", "FULL"))
    pairs = _pairs(left, right, join, text)
    source = Source(first.rows, [*left.fields, *right.fields], _star(left, right, pairs, side))
    conditions: list[Expr] = [operators.compare("=", one, other) for _, one, other in pairs]
    if on := join.args.get("on"):
        scope = QueryScope(queries, source, ctes, boundary)
        conditions.append(bind_condition(on, scope, clause="ON"))
    condition = None
    if conditions:
        condition = conditions[0] if len(conditions) == 1 else And(tuple(conditions))
    return replace(source, rows=Join(kind, first.rows, second.rows, condition))


def _placed(source: Source, offset: int, *, nullable: bool) -> Source:
    """The source with its columns further on in the row."""

    def placed(expr: Expr) -> Expr:
        return transform(expr, moved)

    def moved(expr: Expr) -> Expr:
        if not isinstance(expr, Column):
            return expr
        return replace(expr, index=expr.index + offset, nullable=expr.nullable or nullable)

    fields = [(name, placed(column)) for name, column in source.fields]
    star = None if source.star is None else [(name, placed(expr)) for name, expr in source.star]
    return Source(source.rows, fields, star)  # type: ignore[arg-type]


def _pairs(left: Source, right: Source, join: Tree, text: str) -> list[tuple[str, Expr, Expr]]:
    """The columns that USING or NATURAL names, on both sides."""
    if join.args.get("method") == "NATURAL":
        theirs = {name for name, _ in right.named()}
        names = [name for name, _ in left.named() if name in theirs]
        nodes = [join.this] * len(names)
    else:
        nodes = join.args.get("using") or []
        names = [fold(node) for node in nodes]
    pairs = []
    for name, node in zip(names, nodes, strict=True):
        one, other = left.find(name, None), right.find(name, None)
        if one is None or other is None:
            raise unbound(f'column "{name}" of USING is not on both sides', node, text)
        pairs.append((name, one, other))
    return pairs


def _star(
    left: Source, right: Source, pairs: Sequence[tuple[str, Expr, Expr]], side: str
) -> list[tuple[str, Expr]]:
    merged: list[tuple[str, Expr]] = []
    for name, one, other in pairs:
        match side:
            case "RIGHT":
                merged.append((name, other))
            case "FULL":
                merged.append((name, Coalesce((one, other), read_type(one))))
            case _:
                merged.append((name, one))
    names = {name for name, _, _ in pairs}
    rest = [pair for source in (left, right) for pair in source.named() if pair[0] not in names]
    return [*merged, *rest]
