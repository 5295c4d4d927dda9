"""Expressions in the words of SQL, for EXPLAIN; parameters are $1, $2, ... whatever their style."""

from __future__ import annotations

from decimal import Decimal

from murmur.sql.expressions import (
    And,
    Arithmetic,
    Between,
    Call,
    Case,
    Cast,
    Coalesce,
    Column,
    Compare,
    Concat,
    Expr,
    Extreme,
    In,
    IsDistinct,
    IsNull,
    IsTruth,
    Like,
    Literal,
    Negate,
    Not,
    NullIf,
    Or,
    Outer,
    Parameter,
    Subquery,
)


def sql_of(expr: Expr) -> str:
    """An expression in the words of SQL."""
    match expr:
        case Literal(None, _):
            return "null"
        case Literal(bool(value), _):
            return "true" if value else "false"
        case Literal(int() | float() | Decimal() as value, _):
            return str(value)
        case Literal(value, _):
            return "'" + str(value).replace("'", "''") + "'"
        case Parameter(index, _):
            return f"${index + 1}"
        case Column(index, name, _):
            return name or f"#{index}"
        case Outer(_, name):
            return name
        case Subquery(kind, operands=operands):
            if kind in ("any", "all"):
                return f"{', '.join(map(sql_of, operands))} {expr.op} {kind} (subquery)"
            return "exists (subquery)" if kind == "exists" else "(subquery)"
        case Not(operand):
            return f"not {_inner(operand)}"
        case And(operands):
            return " and ".join(map(_inner, operands))
        case Or(operands):
            return " or ".join(map(_inner, operands))
        case Compare(op, left, right) | Arithmetic(op, left, right, _):
            return f"{_inner(left)} {op} {_inner(right)}"
        case IsDistinct(left, right, negated):
            return f"{_inner(left)} is {'not ' * negated}distinct from {_inner(right)}"
        case IsNull(operand, negated):
            return f"{_inner(operand)} is {'not ' * negated}null"
        case IsTruth(operand, truth, negated):
            return f"{_inner(operand)} is {'not ' * negated}{'true' if truth else 'false'}"
        case Between(operand, low, high, negated):
            words = f"{_inner(operand)} {'not ' * negated}between"
            return f"{words} {_inner(low)} and {_inner(high)}"
        case In(operand, items, negated):
            return f"{_inner(operand)} {'not ' * negated}in ({', '.join(map(sql_of, items))})"
        case Like(operand, pattern, _, insensitive, negated):
            word = "ilike" if insensitive else "like"
            return f"{_inner(operand)} {'not ' * negated}{word} {_inner(pattern)}"
        case Negate(operand, _):
            return f"-{_inner(operand)}"
        case Concat(operands, _):
            return " || ".join(map(_inner, operands))
        case Case(branches, otherwise, _):
            words = " ".join(f"when {sql_of(c)} then {sql_of(r)}" for c, r in branches)
            tail = "" if otherwise is None else f" else {sql_of(otherwise)}"
            return f"case {words}{tail} end"
        case Cast(operand, sql_type):
            return f"{_inner(operand)}::{sql_type}"
        case Coalesce(operands, _):
            return f"coalesce({', '.join(map(sql_of, operands))})"
        case NullIf(left, right, _):
            return f"nullif({sql_of(left)}, {sql_of(right)})"
        case Extreme(greatest, operands, _):
            name = "greatest" if greatest else "least"
            return f"{name}({', '.join(map(sql_of, operands))})"
        case Call(function, arguments, _):
            return f"{function.name}({', '.join(map(sql_of, arguments))})"
    return type(expr).__name__.lower()


_ATOMS = (Literal, Parameter, Column, Outer, Call, Coalesce, NullIf, Extreme, Case)


def _inner(expr: Expr) -> str:
    """An operand, in parentheses unless it cannot be misread."""
    return sql_of(expr) if isinstance(expr, _ATOMS) else f"({sql_of(expr)})"
