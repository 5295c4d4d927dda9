"""Subqueries inside of expressions: run once for all that they take from the row around them.

    (SELECT max(at) FROM note WHERE author = a.id)      once for each different a.id
    x IN (SELECT ...), x > ALL (SELECT ...)             the rows once, then a test for each x

An answer is what the kind needs: the one value, whether there is a row, or the rows to test.
Answers are kept as long as the statement runs, up to KEPT of them for one subquery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeAlias

from murmur.errors import DataError
from murmur.sql.compile import SubqueryValue, compile_expression
from murmur.sql.expressions import Column, Compare, Context, Row, Subquery, Value
from murmur.sql.memory import weight

KEPT = 100_000  # answers of one subquery

PlanReader: TypeAlias = Callable[[Any, Any], Iterable[tuple[Any, ...]]]
Judge: TypeAlias = Callable[[Any, tuple[Value, ...], Context], Value]


def compile_subquery(expr: Subquery, read: PlanReader) -> SubqueryValue:
    """The value of a subquery, from its arguments and operands."""
    slots = expr.slots
    answer_of, judge = _kind(expr)
    name = object()

    def value(arguments: tuple[Value, ...], operands: tuple[Value, ...], context: Any) -> Value:
        answers = context.answers.setdefault(name, {})
        try:
            answer = answers[arguments]
        except KeyError:
            inner = context.inside(dict(zip(slots, arguments, strict=True)))
            answer = answer_of(read(context.view, inner), context)
            if len(answers) < KEPT:
                context.memory.add(weight(arguments))
                answers[arguments] = answer
        return judge(answer, operands, context)

    return value


def _kind(expr: Subquery) -> tuple[Callable[[Iterable[Row], Any], Any], Judge]:
    match expr.kind:
        case "scalar":
            return _scalar, lambda answer, operands, context: answer
        case "exists":
            return _exists, lambda answer, operands, context: answer
        case "any" if expr.op == "=":
            return _members, _is_member
    return _listed, _compared(expr)


def _scalar(rows: Iterable[Row], _context: Context) -> Value:
    found = list(islice(rows, 2))
    if len(found) > 1:
        raise DataError("a subquery that stands for a value has more than one row")
    return found[0][0] if found else None


def _exists(rows: Iterable[Row], _context: Context) -> bool:
    return next(iter(rows), None) is not None


def _listed(rows: Iterable[Row], context: Any) -> list[Row]:
    return list(dict.fromkeys(context.memory.hold(rows)))


# IN ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Members:
    """The rows of an IN: those without NULLs for a look-up, the others to compare with."""

    whole: frozenset[Row]
    partial: tuple[Row, ...]
    empty: bool


def _members(rows: Iterable[Row], context: Any) -> _Members:
    found = dict.fromkeys(map(settled, context.memory.hold(rows)))
    partial = tuple([row for row in found if None in row])
    whole = frozenset(row for row in found if None not in row) if partial else frozenset(found)
    return _Members(whole, partial, not found)


def _is_member(answer: _Members, operands: tuple[Value, ...], _context: Context) -> bool | None:
    operands = settled(operands)
    if operands in answer.whole:
        return True
    if answer.empty:
        return False
    rows: Iterable[Row] = answer.partial
    if None in operands:
        rows = chain(answer.partial, answer.whole)
    return None if any(_may_be_equal(operands, row) for row in rows) else False


def _may_be_equal(left: Row, right: Row) -> bool:
    """Whether rows are equal as far as is known: no two values are there and differ."""
    return all(a is None or b is None or a == b for a, b in zip(left, right, strict=True))


_NAN = float("nan")


def settled(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row with one NaN object for all, so that NaN equals itself."""
    for value in row:
        if value != value:
            return tuple([_NAN if value != value else value for value in row])
    return row


# ANY, ALL ----------------------------------------------------------------------------------------


def _compared(expr: Subquery) -> Judge:
    operand = expr.operands[0]
    compare = compile_expression(
        Compare(expr.op, Column(0, "", operand.type), Column(1, "", operand.type))
    )
    decides = expr.kind == "any"

    def judge(answer: list[Row], operands: tuple[Value, ...], context: Context) -> bool | None:
        unknown = False
        for row in answer:
            truth = compare((operands[0], row[0]), context)
            if truth is decides:
                return bool(decides)
            unknown = unknown or truth is None
        return None if unknown else not decides

    return judge
