"""What the compiler turns nodes into before it writes source for them.

    a BETWEEN 1 AND 9        t := a         t >= 1 AND t <= 9
    a IN (1, 2, b, NULL)     t := a         t in {1, 2} OR t = b OR NULL
    CAST(i AS DECIMAL) = d                  i = d       Python compares int and Decimal exactly

The operand is evaluated once: `t` is a Bound, the name of a Python variable that holds a value
other than NULL.
"""

from __future__ import annotations

from dataclasses import dataclass

from murmur.catalog.types import BOOLEAN, DECIMAL, SqlType
from murmur.sql.expressions import (
    And,
    Between,
    Cast,
    Column,
    Compare,
    Expr,
    In,
    Literal,
    Or,
    Outer,
    Parameter,
    Value,
    walk,
)


@dataclass(frozen=True, slots=True)
class Bound(Expr):
    """An operand whose value, not NULL, is already in a Python variable."""

    name: str
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Member(Expr):
    """Whether a value that is not NULL is in a set of constants."""

    operand: Bound
    values: frozenset[Value]
    type: SqlType | None = BOOLEAN


def refers_to_variable(expr: Expr) -> bool:
    """Whether the expression makes sense in one function only."""
    return any(isinstance(node, Bound) for node in walk(expr))


def is_atom(expr: Expr) -> bool:
    """Whether its source may be repeated without being evaluated twice."""
    match expr:
        case Column(nullable=nullable):
            return not nullable
        case Bound() | Literal() | Parameter() | Outer():
            return True
    return False


def ranged(expr: Between, operand: Bound) -> Expr:
    """BETWEEN as two comparisons; negation is left to the caller."""
    return And((Compare(">=", operand, expr.low), Compare("<=", operand, expr.high)))


def listed(expr: In, operand: Bound) -> Expr:
    """IN as one test for all constants and a comparison for each of the rest; not negated."""
    rest: list[Expr] = []
    constants: list[Value] = []
    for item in expr.items:
        if isinstance(item, Literal) and item.value is None:
            rest.append(Literal(None, BOOLEAN))
        elif isinstance(item, Literal) and item.value == item.value and operand.type is not None:
            constants.append(item.value)
        else:
            rest.append(Compare("=", operand, item))
    if constants:
        rest.insert(0, Member(operand, frozenset(constants)))
    return rest[0] if len(rest) == 1 else Or(tuple(rest))


def uncast(left: Expr, right: Expr) -> list[Expr]:
    """Python compares and adds int and Decimal as they are: the cast between them is not needed."""
    return [_without_cast(left), _without_cast(right)]


def _without_cast(expr: Expr) -> Expr:
    match expr:
        case Cast(operand, type) if type == DECIMAL and operand.type is not None:
            return operand if operand.type.is_integer else expr
    return expr
