"""Plans as trees of operators: what EXPLAIN prints, and what it gives as data.

    project body                                             Operator("project", "body", inputs)
      hash join n.author = a.id                              Operator("hash join", ...)
        full scan note
        full scan author

An operator's inputs stand below it, the left one first. A subquery of an expression stands below
the operator that asks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from murmur.sql.explain_analyze import Figures
from murmur.sql.explain_text import sql_of
from murmur.sql.expressions import Expr, Subquery, walk
from murmur.sql.plan import (
    Aggregate,
    Aggregation,
    Distinct,
    DistinctOn,
    Filter,
    FullScan,
    HashJoin,
    IndexRange,
    Join,
    KeyLookup,
    KeyRange,
    Limit,
    LookupJoin,
    OneRow,
    Project,
    Rows,
    SetOperation,
    Shared,
    Sort,
    SortKey,
    Span,
    SystemScan,
    TableScan,
    TrigramScan,
    Values,
)
from murmur.sql.rules.shape import expressions, sources


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a plan: its kind, what it does in words, the node, and what it reads."""

    kind: str
    detail: str
    node: Rows
    inputs: tuple[Operator, ...]

    @property
    def words(self) -> str:
        """What stands in its line."""
        return f"{self.kind} {self.detail}".rstrip()


def operator_of(rows: Rows) -> Operator:
    """The tree of a plan."""
    kind, detail = _described(rows)
    below = [operator_of(source) for source in sources(rows)]
    if isinstance(rows, LookupJoin):
        del below[1:]  # the path stands in the join's own line
    for expr in expressions(rows):
        for part in walk(expr):
            if isinstance(part, Subquery):
                inner = operator_of(part.plan)
                how = "subquery, for each " + _list(part.arguments) if part.slots else "subquery"
                below.append(Operator(how, "", part.plan, (inner,)))
    return Operator(kind, detail, rows, tuple(below))


def lines_of(
    operator: Operator, depth: int = 0, figures: Mapping[int, Figures] = MappingProxyType({})
) -> Iterator[str]:
    """The tree as text, a line for each operator; with its figures, if there are any."""
    measured = figures.get(id(operator.node))
    words = operator.words if measured is None else f"{operator.words}  {measured}"
    yield "  " * depth + words
    for each in operator.inputs:
        yield from lines_of(each, depth + 1, figures)


def data_of(
    operator: Operator, figures: Mapping[int, Figures] = MappingProxyType({})
) -> dict[str, Any]:
    """The tree as data."""
    data: dict[str, Any] = {"operator": operator.kind}
    if operator.detail:
        data["detail"] = operator.detail
    measured = figures.get(id(operator.node))
    if measured is not None:
        data |= data_of_figures(measured)
    if operator.inputs:
        data["inputs"] = [data_of(each, figures) for each in operator.inputs]
    return data


def data_of_figures(figures: Figures) -> dict[str, Any]:
    """The figures of an operator as data."""
    milliseconds = round(figures.seconds * 1000, 4)
    return {"rows": figures.rows, "ms": milliseconds, "bytes": figures.bytes}


def _list(exprs: Sequence[Expr]) -> str:
    return ", ".join(map(sql_of, exprs))


def _described(rows: Rows) -> tuple[str, str]:
    match rows:
        case Project(_, exprs):
            return "project", _list(exprs)
        case Filter(_, predicate):
            return "filter", sql_of(predicate)
        case Sort(_, keys):
            return "sort by", ", ".join(map(_sort_key, keys))
        case Distinct():
            return "distinct", ""
        case Shared(_, _, name, uses):
            return "shared", f"{name}, read once for {uses} uses"
        case DistinctOn(_, keys):
            return "distinct on", _list(keys)
        case Limit(_, count, offset):
            words = [f"limit {sql_of(count)}"] if count is not None else []
            words += [f"offset {sql_of(offset)}"] if offset is not None else []
            kind, _, detail = " ".join(words).partition(" ")
            return kind, detail
        case Aggregate(_, aggregations, groups):
            calls = ", ".join(map(_aggregation, aggregations))
            if groups:
                return "group by", _list(groups) + (f": {calls}" if calls else "")
            return "aggregate", calls
        case OneRow():
            return "one row", ""
        case Values(lists):
            return "values", f"{len(lists)} row{'' if len(lists) == 1 else 's'}"
        case SystemScan(name, _):
            return "system relation", name
        case SetOperation(op, keeps, _, _):
            return op + (" all" if keeps else ""), ""
        case TableScan(table):
            return "table", table.name
        case Join(kind, _, _, condition):
            return f"{kind} join", "" if condition is None else sql_of(condition)
        case HashJoin():
            return _hash_join(rows)
        case LookupJoin():
            return _lookup_join(rows)
    return _access(rows)


def _aggregation(aggregation: Aggregation) -> str:
    operand = "*" if aggregation.operand is None else sql_of(aggregation.operand)
    if aggregation.separator is not None:
        operand += f", {sql_of(aggregation.separator)}"
    if aggregation.order:
        operand += " order by " + ", ".join(map(_sort_key, aggregation.order))
    words = f"{aggregation.name}({'distinct ' * aggregation.distinct}{operand})"
    if aggregation.filter is not None:
        words += f" filter ({sql_of(aggregation.filter)})"
    return words


# Joins -------------------------------------------------------------------------------------------


def _hash_join(join: HashJoin) -> tuple[str, str]:
    kind = "" if join.kind == "inner" else f"{join.kind} "
    pairs = zip(join.left_keys, join.right_keys, strict=True)
    words = [f"{sql_of(one)} = {sql_of(other)}" for one, other in pairs]
    if join.condition is not None:
        words.append(sql_of(join.condition))
    return kind + ("hash join" if join.left_keys else "nested loop join"), ", ".join(words)


def _lookup_join(join: LookupJoin) -> tuple[str, str]:
    kind = "" if join.kind == "inner" else f"{join.kind} "
    words = " ".join(_access(join.right))
    for condition in (join.filter, join.condition):
        if condition is not None:
            words += f", filter {sql_of(condition)}"
    return f"{kind}lookup join", f"by {words}"


# Access paths ------------------------------------------------------------------------------------


def _access(rows: Rows) -> tuple[str, str]:
    match rows:
        case KeyLookup(table, span):
            return "key lookup", f"{table.name} ({_span(table.names_of(table.primary_key), span)})"
        case KeyRange(table, span, reverse):
            words = f"{table.name} ({_span(table.names_of(table.primary_key), span)})"
            return "key range", words + " backwards" * reverse
        case IndexRange(table, index, span, reverse):
            spanned = _span(list(map(table.text_of, index.columns)), span)
            words = f"{index.name} on {table.name}" + (f" ({spanned})" if spanned else "")
            kind = "covering index range" if rows.covering else "index range"
            return kind, words + " backwards" * reverse
        case TrigramScan(table, index, patterns, reverse):
            words = f"{index.name} on {table.name} ({' and '.join(map(sql_of, patterns))})"
            return "trigram scan", words + " backwards" * reverse
        case FullScan(table, reverse):
            return "full scan", table.name + " backwards" * reverse
    raise AssertionError(rows)


def _span(names: Sequence[str], span: Span) -> str:
    words = []
    for name, equal in zip(names, span.equal, strict=False):
        alternatives = [sql_of(each) for each in equal.alternatives]
        if equal.null:
            words.append(f"{name} is null")
        elif len(alternatives) == 1:
            words.append(f"{name} = {alternatives[0]}")
        else:
            words.append(f"{name} in ({', '.join(alternatives)})")
    for bound, op in ((span.lower, ">"), (span.upper, "<")):
        if bound is not None:
            name = names[len(span.equal)]
            words.append(f"{name} {op}{'=' * bound.inclusive} {sql_of(bound.expr)}")
    return ", ".join(words)


def _sort_key(key: SortKey) -> str:
    words = sql_of(key.expr) + (" desc" if key.descending else "")
    if key.nulls_first != key.descending:
        words += " nulls first" if key.nulls_first else " nulls last"
    return words
