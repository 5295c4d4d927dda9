"""Constant folding: what does not depend on row, parameters, time or chance becomes its value.

    2 * 3 + a                     ->  6 + a
    TRUE AND a < 5                ->  a < 5
    a < 5 AND 1 = 2               ->  FALSE
    CASE WHEN a = 0 THEN 1/0 END  ->  itself: the error belongs to the row that meets it

Invariant: a folded expression has the value of the original for every row, or raises where the
original does, except that what AND and OR do not need may no longer raise.
"""

from __future__ import annotations

from murmur.catalog.types import BOOLEAN
from murmur.errors import DatabaseError
from murmur.sql.compile import compile_expression
from murmur.sql.expressions import (
    And,
    Column,
    Context,
    Expr,
    Literal,
    Or,
    Outer,
    Parameter,
    Subquery,
    is_constant,
    transform,
)


def fold(expr: Expr) -> Expr:
    """Replace what is constant by its value."""
    return transform(expr, _folded)


def _folded(expr: Expr) -> Expr:
    match expr:
        case Literal() | Parameter() | Column() | Outer() | Subquery():
            return expr
        case And(operands):
            return _folded_chain(expr, operands, neutral=True)
        case Or(operands):
            return _folded_chain(expr, operands, neutral=False)
    # The operands are folded already, so a constant that did not fail is a Literal by now.
    if not is_constant(expr):
        return expr
    try:
        return Literal(compile_expression(expr)((), Context()), expr.type)
    except DatabaseError:
        return expr


def _folded_chain(expr: And | Or, operands: tuple[Expr, ...], *, neutral: bool) -> Expr:
    """TRUE AND x is x, FALSE AND x is FALSE; for OR the other way round."""
    kept = []
    for operand in operands:
        if isinstance(operand, Literal) and operand.value is not None:
            if operand.value is not neutral:
                return Literal(not neutral, BOOLEAN)
        else:
            kept.append(operand)
    if not kept:
        return Literal(neutral, BOOLEAN)
    if len(kept) == 1:
        return kept[0]
    if all(isinstance(operand, Literal) for operand in kept):
        return Literal(None, BOOLEAN)  # nothing but NULLs
    return expr if len(kept) == len(operands) else type(expr)(tuple(kept))
