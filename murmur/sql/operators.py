"""Which operators exist for which types, and what they yield.

    INTEGER + BIGINT        ->  BIGINT              DATE + INTEGER         ->  DATE
    INTEGER / INTEGER       ->  INTEGER             DATE - DATE            ->  INTEGER
    INTEGER * DECIMAL(9,2)  ->  DECIMAL             TIMESTAMP - TIMESTAMP  ->  INTERVAL
    DECIMAL + DOUBLE        ->  DOUBLE              TEXT = INTEGER         ->  TypeMismatch

The rules are PostgreSQL's (its chapter 10), and only these coercions are implied: narrow integers
to wide ones, integers to DECIMAL to floats, DATE to TIMESTAMP to TIMESTAMPTZ, VARCHAR to TEXT, and
whatever is untyped (NULL, a string literal, a parameter) to the type that it meets. A parameter
that meets an integer becomes BIGINT, so that the value 70000 may be compared with a SMALLINT.

The functions here take bound operands and give a node back; the binder adds the place to their
errors. Between two parameters nothing is known: such a node has no type, and the compiler asks here
again when it sees values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from murmur.catalog.types import (
    BIGINT,
    BLOB,
    DATE,
    DECIMAL,
    DOUBLE,
    INTEGER,
    INTERVAL,
    REAL,
    SMALLINT,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    SqlType,
)
from murmur.errors import TypeMismatch
from murmur.sql.casts import can_cast, caster
from murmur.sql.expressions import (
    Arithmetic,
    Cast,
    Compare,
    Comparison,
    Concat,
    Expr,
    Literal,
    Negate,
    Operation,
    Parameter,
)

Typing: TypeAlias = Callable[[Parameter, SqlType], Expr]

_INTEGERS = (SMALLINT, INTEGER, BIGINT)
_INSTANTS = (DATE, TIMESTAMP, TIMESTAMPTZ)


def plain(sql_type: SqlType) -> SqlType:
    """The type without its length, precision and merge rule: what an operator sees."""
    match sql_type.name:
        case "COUNTER":
            return BIGINT
        case "VARCHAR":
            return TEXT
        case "DECIMAL":
            return DECIMAL
    return sql_type


def common_type(types: Iterable[SqlType | None]) -> SqlType | None:
    """The one type of the branches of CASE, the operands of COALESCE and so on.

    None if every type is unknown; TypeMismatch if there is no such type.
    """
    result: SqlType | None = None
    for sql_type in types:
        if sql_type is None or sql_type == result:
            continue
        if result is None:
            result = sql_type
            continue
        left, right = plain(result), plain(sql_type)
        wider = left if left == right else _wider(left, right)
        if wider is None:
            raise TypeMismatch(f"{result} and {sql_type} have no type in common")
        result = wider
    return result


def _wider(left: SqlType, right: SqlType) -> SqlType | None:
    """The one of two plain types that the other coerces to, if any."""
    if is_implied(left, right):
        return right
    return left if is_implied(right, left) else None


_LADDERS = ((*_INTEGERS, DECIMAL, REAL, DOUBLE), _INSTANTS)


def is_implied(source: SqlType, target: SqlType) -> bool:
    """Whether a value of one plain type becomes the other without being asked to."""
    if source == target:
        return True
    return any(
        source in ladder and target in ladder and ladder.index(source) < ladder.index(target)
        for ladder in _LADDERS
    )


def convert(expr: Expr, target: SqlType) -> Expr:
    """Coerce to a type that `common_type` or an operator has chosen.

    Types that differ only in width stay as they are. The text of an untyped literal is read here,
    and a literal of another type is converted once and for all.
    """
    source = expr.type
    match expr:
        case Literal(None, _):
            return Literal(None, target)
        case Literal(str(text), None):
            cast = caster(TEXT, target)
            return Literal(text if cast is None else cast(text), target)
        case Parameter(index, None):
            return Parameter(index, BIGINT if target.is_integer else plain(target))
    if source is None:
        return Cast(expr, plain(target))
    source, target = plain(source), plain(target)
    if source == target or (source.is_integer and target.is_integer):
        return expr
    if not can_cast(source, target):
        raise TypeMismatch(f"{source} is not {target}")
    if isinstance(expr, Literal):
        cast = caster(source, target)
        return expr if cast is None else Literal(cast(expr.value), target)
    return Cast(expr, target)


def as_text_if_untyped(expr: Expr) -> Expr:
    """A string literal that has met no type is TEXT after all."""
    if isinstance(expr, Literal) and expr.type is None and expr.value is not None:
        return Literal(expr.value, TEXT)
    return expr


# Comparison --------------------------------------------------------------------------------------


def compared_type(operands: Sequence[Expr], what: str) -> SqlType | None:
    """The type in which operands are compared with one another; None if nothing is known.

    A REAL beside anything but a REAL is compared as DOUBLE.
    """
    try:
        target = common_type(operand.type for operand in operands)
    except TypeMismatch:
        names = dict.fromkeys(str(o.type) for o in operands if o.type is not None)
        raise TypeMismatch(
            f"{what} does not compare {' with '.join(names)}; cast one of them"
        ) from None
    if target is None:
        texts = [o for o in operands if isinstance(o, Literal) and o.value is not None]
        return TEXT if texts else None  # otherwise there are NULLs and parameters
    if target.name == "JSON":
        raise TypeMismatch(f"{what} does not compare JSON; compare what ->> takes out of it")
    if target == REAL and any(o.type not in (REAL, None) for o in operands):
        return DOUBLE
    return target


def compare(op: Comparison, left: Expr, right: Expr) -> Compare:
    """left op right."""
    target = compared_type((left, right), op)
    if target is not None:
        left, right = convert(left, target), convert(right, target)
    return Compare(op, left, right)


# Arithmetic --------------------------------------------------------------------------------------

# By operator and the plain types of both sides; numbers are in arithmetic() itself.
_TEMPORAL: dict[tuple[str, str, str], SqlType] = {
    ("+", "DATE", "BIGINT"): DATE,
    ("+", "BIGINT", "DATE"): DATE,
    ("-", "DATE", "BIGINT"): DATE,
    ("-", "DATE", "DATE"): INTEGER,
    ("+", "DATE", "TIME"): TIMESTAMP,
    ("+", "TIME", "DATE"): TIMESTAMP,
    ("+", "DATE", "INTERVAL"): TIMESTAMP,
    ("-", "DATE", "INTERVAL"): TIMESTAMP,
    ("+", "INTERVAL", "DATE"): TIMESTAMP,
    ("+", "TIMESTAMP", "INTERVAL"): TIMESTAMP,
    ("-", "TIMESTAMP", "INTERVAL"): TIMESTAMP,
    ("+", "INTERVAL", "TIMESTAMP"): TIMESTAMP,
    ("-", "TIMESTAMP", "TIMESTAMP"): INTERVAL,
    ("+", "TIMESTAMPTZ", "INTERVAL"): TIMESTAMPTZ,
    ("-", "TIMESTAMPTZ", "INTERVAL"): TIMESTAMPTZ,
    ("+", "INTERVAL", "TIMESTAMPTZ"): TIMESTAMPTZ,
    ("-", "TIMESTAMPTZ", "TIMESTAMPTZ"): INTERVAL,
    ("+", "TIME", "INTERVAL"): TIME,
    ("-", "TIME", "INTERVAL"): TIME,
    ("+", "INTERVAL", "TIME"): TIME,
    ("-", "TIME", "TIME"): INTERVAL,
    ("+", "INTERVAL", "INTERVAL"): INTERVAL,
    ("-", "INTERVAL", "INTERVAL"): INTERVAL,
    ("*", "INTERVAL", "DOUBLE"): INTERVAL,
    ("*", "DOUBLE", "INTERVAL"): INTERVAL,
    ("/", "INTERVAL", "DOUBLE"): INTERVAL,
}
# What an untyped operand is beside one of these types. Where a parameter may be several things
# (date - ?), its value decides; a literal then is what the other side is, as in PostgreSQL.
_BESIDE: dict[tuple[str, str], SqlType] = {
    ("+", "TIMESTAMP"): INTERVAL,
    ("+", "TIMESTAMPTZ"): INTERVAL,
    ("+", "TIME"): INTERVAL,
    ("+", "INTERVAL"): INTERVAL,
    ("*", "INTERVAL"): DOUBLE,
    ("/", "INTERVAL"): DOUBLE,
}


def arithmetic(op: Operation, left: Expr, right: Expr) -> Expr:
    """left op right."""
    if left.type is None or right.type is None:
        left, right = _typed_operands(op, left, right)
        if left.type is None or right.type is None:
            null = Literal(None, left.type or right.type)
            return null if null in (left, right) else Arithmetic(op, left, right, None)
    one, two = plain(left.type), plain(right.type)
    if one.is_numeric and two.is_numeric:
        return _numeric(op, left, right, one, two)
    if (op, one, two) in (("-", DATE, TIMESTAMP), ("-", DATE, TIMESTAMPTZ)):
        left, one = convert(left, two), two
    elif one in _INSTANTS and two in _INSTANTS and one != two:
        wider = _wider(one, two)
        assert wider is not None
        left, right, one, two = convert(left, wider), convert(right, wider), wider, wider
    elif one == INTERVAL and two.is_numeric:
        right, two = convert(right, DOUBLE), DOUBLE
    elif two == INTERVAL and one.is_numeric:
        left, one = convert(left, DOUBLE), DOUBLE
    key = (op, "BIGINT" if one.is_integer else one.name, "BIGINT" if two.is_integer else two.name)
    if key not in _TEMPORAL:
        raise TypeMismatch(f"there is no operator {left.type} {op} {right.type}")
    return Arithmetic(op, left, right, _TEMPORAL[key])


def _numeric(op: Operation, left: Expr, right: Expr, one: SqlType, two: SqlType) -> Expr:
    target = common_type((one, two))
    assert target is not None
    if target == REAL and one != two:
        target = DOUBLE
    if op == "%" and target.is_float:
        raise TypeMismatch(f"there is no operator {one} % {two}; cast to DECIMAL")
    return Arithmetic(op, convert(left, target), convert(right, target), target)


def _typed_operands(op: Operation, left: Expr, right: Expr) -> tuple[Expr, Expr]:
    """Type what is untyped on one side by the other side."""
    if left.type is None and right.type is None:
        for operand in (left, right):
            if isinstance(operand, Literal) and operand.value is not None:
                raise TypeMismatch(f'text does not go with {op}; cast "{operand.value}" first')
        return left, right
    known = left.type or right.type
    assert known is not None
    other = plain(known)
    if other.is_numeric:
        target: SqlType | None = other
    elif (op, other.name) == ("-", "INTERVAL"):
        # interval - ? is an interval; ? - interval may move a date as well
        target = INTERVAL if right.type is None else None
    else:
        target = _BESIDE.get((op, other.name))
    untyped = left if left.type is None else right
    if target is None:
        if not isinstance(untyped, Literal):
            return left, right
        if untyped.value is not None and (op, other.name) == ("+", "DATE"):
            raise TypeMismatch(f'DATE + text; write INTERVAL or a number, not "{untyped.value}"')
        target = other
    if left.type is None:
        return convert(left, target), right
    return left, convert(right, target)


def negate(operand: Expr) -> Expr:
    """- operand."""
    operand = as_text_if_untyped(operand)
    if operand.type is None:
        return Literal(None, None) if isinstance(operand, Literal) else Negate(operand, None)
    sql_type = plain(operand.type)
    if not sql_type.is_numeric and sql_type != INTERVAL:
        raise TypeMismatch(f"there is no operator - {operand.type}")
    return Negate(operand, sql_type)


# Text --------------------------------------------------------------------------------------------


def concatenate(operands: Sequence[Expr]) -> Expr:
    """a || b || ...: text with anything, or blobs with blobs."""
    if any(operand.type == BLOB for operand in operands):
        if any(operand.type not in (BLOB, None) for operand in operands):
            raise TypeMismatch("|| joins blobs with blobs only")
        return Concat(tuple(convert(operand, BLOB) for operand in operands), BLOB)
    if not any(operand.type is None or operand.type.is_text for operand in operands):
        names = " || ".join(str(operand.type) for operand in operands)
        raise TypeMismatch(f"there is no operator {names}; cast one side to TEXT")
    for operand in operands:
        if operand.type is not None and operand.type.name == "JSON":
            raise TypeMismatch("|| does not join JSON; cast it to TEXT")
    return Concat(tuple(convert(operand, TEXT) for operand in operands), TEXT)
