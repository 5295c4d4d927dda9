"""GROUP BY and aggregates: one generated loop that keeps a few values for each group.

    SELECT author, count(*), sum(likes) FROM note GROUP BY author

      for row in rows:
          key = row[1]
          state = groups.get(key)
          if state is None: state = groups[key] = [0, None]
          state[0] += 1
          if (t0 := row[2]) is not None: state[1] = t0 if state[1] is None else state[1] + t0

NULLs do not count; over no rows count is 0 and every other aggregate NULL. sum of integers is a
BIGINT, and an error beyond; of DECIMALs it is exact; of floats it is added in the order of rows.
avg is a DOUBLE. DISTINCT keeps the different values of a group and adds them up at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import Any, TypeAlias

from murmur.errors import DataError
from murmur.sql.compile import Source
from murmur.sql.execution import Context
from murmur.sql.expressions import Column, Expr, Row
from murmur.sql.numbers import EXACT, check_decimal
from murmur.sql.ordering import rank_of
from murmur.sql.plan import Aggregation, SortKey
from murmur.sql.subqueries import settled

State: TypeAlias = list[Any]
Finish: TypeAlias = Callable[[Any, Context], Any]
Grouping: TypeAlias = Callable[[Iterable[Row], Context], Iterable[tuple[Any, ...]]]

_STATE_BYTES = 160  # of a group, about, besides its key


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a group keeps for one aggregate: the first value, and the statements that change it."""

    first: str
    lines: list[str]
    finish: Finish | None


def compile_grouping(groups: Sequence[Expr], aggregations: Sequence[Aggregation]) -> Grouping:
    """The function that gives one row for each group: its values, then the aggregates."""
    source = Source()
    key = _key(source, groups)
    kept = [_kept(source, i, each) for i, each in enumerate(aggregations)]
    first = "[" + ", ".join(each.first for each in kept) + "]"
    grown = source.constant(_grown)
    loop = [
        "groups = {}",
        "get = groups.get",
        "for row in rows:",
        f"    key = {key}",
        "    state = get(key)",
        "    if state is None:",
        f"        state = groups[key] = {first}",
        f"        {grown}(context, key)",
        *("    " + line for each in kept for line in each.lines),
        "return groups",
    ]
    run: Callable[[Iterable[Row], Context], dict[Any, State]] = source.build(
        "\n    ".join(loop), argument="rows"
    )
    finishers = [(i, each.finish) for i, each in enumerate(kept) if each.finish is not None]
    empty = _empty(kept)
    single = len(groups) == 1

    def grouped(rows: Iterable[Row], context: Context) -> Iterator[tuple[Any, ...]]:
        found = run(rows, context)
        if not groups and not found:
            found[()] = empty()
        for value, state in found.items():
            for i, finish in finishers:
                state[i] = finish(state[i], context)
            yield ((value, *state) if single else (*value, *state))

    return grouped


def _empty(kept: Sequence[_Kept]) -> Callable[[], State]:
    """Makes the state of a group without rows."""
    source = Source()
    make = source.build("return [" + ", ".join(each.first for each in kept) + "]")
    return lambda: make((), None)


def _grown(context: Context, key: Any) -> None:
    context.memory.add(_STATE_BYTES)


def _key(source: Source, groups: Sequence[Expr]) -> str:
    may_be_nan = any(each.type is None or each.type.is_float for each in groups)
    row = source.row_of(groups) if groups else "()"
    if may_be_nan:
        row = f"{source.constant(settled)}({row})"
        return f"{row}[0]" if len(groups) == 1 else row
    return source.value(groups[0]) if len(groups) == 1 else row


# Aggregates --------------------------------------------------------------------------------------


def _kept(source: Source, at: int, aggregation: Aggregation) -> _Kept:
    state = f"state[{at}]"
    kept = _made(source, state, aggregation)
    if aggregation.filter is None:
        return kept
    condition = f"if {source.true(aggregation.filter)}:"
    return _Kept(kept.first, [condition, *("    " + line for line in kept.lines)], kept.finish)


def _made(source: Source, state: str, aggregation: Aggregation) -> _Kept:
    operand = aggregation.operand
    if operand is None:
        return _Kept("0", [f"{state} += 1"], None)
    value = source.temporary()
    present = f"if ({value} := {source.value(operand)}) is not None:"
    if aggregation.name == "string_agg":
        return _string_agg(source, state, present, value, aggregation)
    if aggregation.distinct:
        add, hold = f"{state}[{value}] = None", source.constant(_held)
        lines = [present, f"    if {value} not in {state}:", f"        {add}"]
        return _Kept("{}", [*lines, f"        {hold}(context, {value})"], _distinct(aggregation))
    is_float = operand.type is not None and operand.type.is_float
    match aggregation.name:
        case "count":
            return _Kept("0", [present, f"    {state} += 1"], None)
        case "sum":
            plus = f"{state} + {value}"
            if operand.type is not None and operand.type.name == "DECIMAL":
                plus = f"{source.constant(EXACT.add)}({state}, {value})"
            line = f"    {state} = {value} if {state} is None else {plus}"
            return _Kept("None", [present, line], None if is_float else _checked_sum)
        case "avg":
            lines = [present, f"    {state}[0] += {value}", f"    {state}[1] += 1"]
            if operand.type is not None and operand.type.name == "DECIMAL":
                add = source.constant(EXACT.add)
                lines[1] = f"    {state}[0] = {add}({state}[0], {value})"
            return _Kept("[0, 0]", lines, _average)
        case "min" | "max" if is_float:
            better = source.constant(_better_float(largest=aggregation.name == "max"))
            return _Kept("None", [present, f"    {state} = {better}({state}, {value})"], None)
        case "min" | "max":
            op = "<" if aggregation.name == "min" else ">"
            lines = [present, f"    if {state} is None or {value} {op} {state}:"]
            return _Kept("None", [*lines, f"        {state} = {value}"], None)
        case "bool_and":
            return _Kept("None", [present, f"    {state} = {value} and {state} is not False"], None)
        case "bool_or":
            return _Kept("None", [present, f"    {state} = {value} or {state} is True"], None)
    raise AssertionError(aggregation)


def _string_agg(
    source: Source, state: str, present: str, value: str, aggregation: Aggregation
) -> _Kept:
    """The parts, each with its separator and what it is ordered by."""
    assert aggregation.separator is not None
    separator = source.value(aggregation.separator)
    order = source.row_of([key.expr for key in aggregation.order])
    hold = source.constant(_held)
    lines = [
        present,
        f"    {state}.append(({order}, {separator}, {value}))",
        f"    {hold}(context, {value})",
    ]
    return _Kept("[]", lines, _joined(aggregation))


def _held(context: Context, value: Any) -> None:
    context.memory.add(64 + (len(value) if isinstance(value, str | bytes) else 0))


def _joined(aggregation: Aggregation) -> Finish:
    ranks = [
        (rank_of(SortKey(Column(i, "", key.expr.type), key.descending, key.nulls_first)), key)
        for i, key in enumerate(aggregation.order)
    ]

    def finish(parts: list[tuple[Row, str | None, str]], context: Context) -> str | None:
        if not parts:
            return None
        for rank, key in reversed(ranks):
            parts.sort(key=lambda part: rank(part[0], context), reverse=key.descending)
        if aggregation.distinct:
            parts = list({part[2]: part for part in reversed(parts)}.values())[::-1]
        (_, _, first), *rest = parts
        return first + "".join([(separator or "") + text for _, separator, text in rest])

    return finish


def _distinct(aggregation: Aggregation) -> Finish:
    """The aggregate over the different values that a group has kept."""
    name, operand = aggregation.name, aggregation.operand
    assert operand is not None
    is_float = operand.type is not None and operand.type.is_float
    is_decimal = operand.type is not None and operand.type.name == "DECIMAL"

    def finish(values: dict[Any, None], context: Context) -> Any:
        if name == "count":
            return len({*map(_settled_value, values)} if is_float else values)
        if not values:
            return None
        if is_float:
            values = dict.fromkeys(map(_settled_value, values))
        match name:
            case "sum" | "avg":
                total = reduce(EXACT.add, values) if is_decimal else sum(values)
                return (
                    _average([total, len(values)], context)
                    if name == "avg"
                    else (total if is_float else _checked_sum(total, context))
                )
            case "min" | "max" if is_float:
                return reduce(_better_float(largest=name == "max"), values)
            case "min" | "bool_and":
                return min(values)
        return max(values)

    return finish


def _settled_value(value: Any) -> Any:
    return settled((value,))[0]


def _checked_sum(total: Any, _context: Context) -> Any:
    if isinstance(total, Decimal):
        return check_decimal(total)
    if total is not None and not -(1 << 63) <= total < 1 << 63:
        raise DataError(f"sum: {total} is outside of BIGINT")
    return total


def _average(state: Sequence[Any], _context: Context) -> float | None:
    total: Any
    count: int
    total, count = state
    if not count:
        return None
    if isinstance(total, Decimal):
        return float(total) / count
    return float(total / count)


def _better_float(*, largest: bool) -> Callable[[float | None, float], float]:
    """min or max where NaN is above all numbers."""

    def better(one: float | None, other: float) -> float:
        if one is None or one != one:
            return other if one is None or not largest else one
        if other != other:
            return other if largest else one
        return max(one, other) if largest else min(one, other)

    return better
