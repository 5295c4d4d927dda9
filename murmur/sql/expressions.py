"""Expressions: frozen, typed nodes, and what can be said about them without running them.

`a + 1 > ?` over the columns (a INTEGER, ...) is bound to

    Compare(">", Arithmetic("+", Column(0, "a", INTEGER), Literal(1, INTEGER), INTEGER),
            Parameter(0, BIGINT))

Invariants that the binder establishes and the compiler relies on:

- `type` is None where nothing is known: a bare NULL, a parameter that has met no type, and what is
  computed from those alone. Every other node carries its SQL type.
- The operands of Compare, IsDistinct, Between, In, Case, Coalesce, NullIf and Extreme have one
  type, or types that differ only in width (SMALLINT beside BIGINT, VARCHAR beside TEXT,
  DECIMAL(9,2) beside DECIMAL(4,1)), or are unknown. Every other coercion is a Cast that stands in
  the tree; of literals it is already done.
- And, Or and Concat are n-ary and never directly contain their own kind.
- A Literal holds the Python value that a column of its type would hold; NULL is None.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any, Self, TypeAlias
from typing import Literal as OneOf

from murmur.catalog.generated import Uuid7
from murmur.catalog.types import BOOLEAN, SqlType
from murmur.errors import Unsupported

Value: TypeAlias = Any  # a Python value of the SQL type (see catalog.types); NULL is None
Row: TypeAlias = Sequence[Value]
Comparison: TypeAlias = OneOf["=", "<>", "<", "<=", ">", ">="]
Stability: TypeAlias = OneOf["immutable", "stable", "volatile"]
Operation: TypeAlias = OneOf["+", "-", "*", "/", "%"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NeedsColumnar(Unsupported):
    """Valid SQL that the row engine does not run; the columnar engine may.

    `reason` says what it is in a few words ("aggregate count"); the message also where.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"the row engine does not run {reason}" + (place and f"\n{place}"))
        self.reason = reason


class Context:
    """What one execution of a statement brings along: parameters, the time, and chance.

    `parameters` are as check_parameters (parameter_values.py) returned them. The time stands still
    for the whole statement.
    """

    def __init__(
        self,
        parameters: Sequence[Value] = (),
        *,
        now_ms: int = 0,
        random_bytes: Callable[[int], bytes] | None = None,
    ) -> None:
        self.parameters = parameters
        self.now_ms = now_ms
        self._random_bytes = random_bytes
        self.outer: Mapping[int, Value] = {}  # by slot: the row around a subquery
        self.view: Any = None  # what subqueries of expressions read
        self.answers: dict[Any, Any] = {}  # of subqueries, as long as the query runs
        self.shared: dict[int, list[tuple[Any, ...]]] = {}  # rows of what is named more than once

    def inside(self, outer: Mapping[int, Value]) -> Self:
        """The context of a subquery, for one row around it."""
        context = copy(self)
        context.outer = outer
        return context

    @cached_property
    def now(self) -> datetime:
        """The statement's time, aware and in UTC."""
        return EPOCH + timedelta(milliseconds=self.now_ms)

    @cached_property
    def today(self) -> date:
        """The statement's date in UTC."""
        return self.now.date()

    def random_bytes(self, count: int) -> bytes:
        """Bytes from the source of chance that the session was given."""
        assert self._random_bytes is not None, "this context was made without a source of chance"
        return self._random_bytes(count)

    @cached_property
    def uuid7(self) -> Callable[[], uuid.UUID]:
        """Makes version 7 UUIDs that rise within the statement."""
        return Uuid7(lambda: self.now_ms, self.random_bytes)


class Expr:
    """A bound expression."""

    __slots__ = ()
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Literal(Expr):
    """A constant. While binding, type None is NULL or text that has met no type yet."""

    value: Value
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Parameter(Expr):
    """The value that the caller passes at this position, counted from 0."""

    index: int
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Column(Expr):
    """The field at `index` of the row that the expression is evaluated on."""

    index: int
    name: str
    type: SqlType | None
    nullable: bool = True  # False only where no NULL can arrive; it spares the test


@dataclass(frozen=True, slots=True)
class Outer(Expr):
    """A value of the row around a subquery; `slot` is where an execution finds it (Context)."""

    slot: int
    name: str
    type: SqlType | None


SubqueryKind: TypeAlias = OneOf["scalar", "exists", "any", "all"]


@dataclass(frozen=True, slots=True)
class Subquery(Expr):
    """A query inside an expression.

    scalar: its one value, NULL without a row. exists: whether it has rows. any, all: whether
    `operands op (...)` holds for one row, for every row; IN is `= any`.

    `arguments` are what the query takes from the row around it: they fill `slots`, which its plan
    reads with Outer. Without arguments the query has one answer for a whole statement.
    """

    kind: SubqueryKind
    plan: Any  # plan.Rows, which are made of expressions
    slots: tuple[int, ...]
    arguments: tuple[Expr, ...]
    operands: tuple[Expr, ...] = ()
    op: Comparison = "="
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class Not(Expr):
    """NOT operand."""

    operand: Expr
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class And(Expr):
    """Two or more conditions joined by AND."""

    operands: tuple[Expr, ...]
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class Or(Expr):
    """Two or more conditions joined by OR."""

    operands: tuple[Expr, ...]
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class Compare(Expr):
    """left op right; NULL when either is."""

    op: Comparison
    left: Expr
    right: Expr
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class IsDistinct(Expr):
    """left IS [NOT] DISTINCT FROM right: a comparison in which NULL is a value. Never NULL."""

    left: Expr
    right: Expr
    negated: bool = False
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class IsNull(Expr):
    """operand IS [NOT] NULL. Never NULL."""

    operand: Expr
    negated: bool = False
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class IsTruth(Expr):
    """operand IS [NOT] TRUE, operand IS [NOT] FALSE. Never NULL."""

    operand: Expr
    truth: bool
    negated: bool = False
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class Between(Expr):
    """operand [NOT] BETWEEN low AND high."""

    operand: Expr
    low: Expr
    high: Expr
    negated: bool = False
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class In(Expr):
    """operand [NOT] IN (items)."""

    operand: Expr
    items: tuple[Expr, ...]
    negated: bool = False
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class Like(Expr):
    """operand [NOT] LIKE pattern [ESCAPE escape]; ILIKE when insensitive."""

    operand: Expr
    pattern: Expr
    escape: Expr | None = None
    insensitive: bool = False
    negated: bool = False
    type: SqlType | None = BOOLEAN


@dataclass(frozen=True, slots=True)
class Arithmetic(Expr):
    """left op right on numbers, dates and intervals."""

    op: Operation
    left: Expr
    right: Expr
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Negate(Expr):
    """- operand."""

    operand: Expr
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Concat(Expr):
    """Two or more texts, or two or more blobs, joined by ||; NULL when any is."""

    operands: tuple[Expr, ...]
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Case(Expr):
    """CASE WHEN condition THEN result ... ELSE otherwise END; otherwise None means NULL."""

    branches: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr | None
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Coalesce(Expr):
    """The first operand that is not NULL; later ones are not evaluated."""

    operands: tuple[Expr, ...]
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class NullIf(Expr):
    """NULL if left = right, else left."""

    left: Expr
    right: Expr
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Extreme(Expr):
    """GREATEST or LEAST: NULLs are ignored; NULL only if every operand is."""

    greatest: bool
    operands: tuple[Expr, ...]
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Cast(Expr):
    """CAST(operand AS type), written or implied."""

    operand: Expr
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Function:
    """A scalar function for one list of parameter types (see functions.py)."""

    name: str
    parameters: tuple[SqlType, ...]
    result: SqlType
    call: Callable[..., Any]
    strict: bool = True
    stability: Stability = "immutable"
    variadic: bool = False  # the last parameter stands for any number of arguments, at least one
    takes_context: bool = False  # the Context comes before the arguments

    def takes(self, count: int) -> bool:
        """Whether it can be called with so many arguments."""
        expected = len(self.parameters)
        return count >= expected if self.variadic else count == expected

    def parameter(self, position: int) -> SqlType:
        """The type of the parameter for the argument at this position."""
        return self.parameters[min(position, len(self.parameters) - 1)]


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A scalar function of the registry, applied."""

    function: Function
    arguments: tuple[Expr, ...]
    type: SqlType | None


def children(expr: Expr) -> Iterator[Expr]:
    """The direct operands of a node, in the order in which they are written."""
    for field in fields(expr):  # type: ignore[arg-type]  # every node is a dataclass
        yield from _nodes(getattr(expr, field.name))


def _nodes(value: object) -> Iterator[Expr]:
    if isinstance(value, Expr):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _nodes(item)


def walk(expr: Expr) -> Iterator[Expr]:
    """The node and everything below it, parents first."""
    pending = [expr]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(list(children(node))))


def transform(expr: Expr, visit: Callable[[Expr], Expr]) -> Expr:
    """Rebuild the tree bottom-up, each node replaced by what `visit` makes of it."""
    return visit(rebuild(expr, lambda operand: transform(operand, visit)))


def rebuild(expr: Expr, visit: Callable[[Expr], Expr]) -> Expr:
    """The same node over other operands; the very same object if none has changed."""
    changes = {}
    for field in fields(expr):  # type: ignore[arg-type]
        old = getattr(expr, field.name)
        new = _rebuilt(old, visit)
        if new is not old:
            changes[field.name] = new
    if not changes:
        return expr
    kept = {f.name: getattr(expr, f.name) for f in fields(expr)}  # type: ignore[arg-type]
    return type(expr)(**(kept | changes))


def _rebuilt(value: object, visit: Callable[[Expr], Expr]) -> object:
    if isinstance(value, Expr):
        return visit(value)
    if isinstance(value, tuple):
        items = tuple([_rebuilt(item, visit) for item in value])
        return value if all(map(_same, items, value)) else items
    return value


def _same(left: object, right: object) -> bool:
    return left is right


def columns_of(expr: Expr) -> frozenset[int]:
    """The indexes of the columns that the expression reads."""
    return frozenset(node.index for node in walk(expr) if isinstance(node, Column))


def parameters_of(expr: Expr) -> frozenset[int]:
    """The indexes of the parameters that the expression reads."""
    return frozenset(node.index for node in walk(expr) if isinstance(node, Parameter))


def is_volatile(expr: Expr) -> bool:
    """Whether two evaluations on one row may differ: random(), uuid7(), ..."""
    return any(isinstance(n, Call) and n.function.stability == "volatile" for n in walk(expr))


def is_constant(expr: Expr) -> bool:
    """Whether the value depends on neither row, parameters, time nor chance."""
    return all(
        not isinstance(node, Column | Parameter | Outer | Subquery)
        and not (isinstance(node, Call) and node.function.stability != "immutable")
        for node in walk(expr)
    )
