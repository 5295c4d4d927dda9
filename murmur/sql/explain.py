"""Plans as text: one line per operator, indented below the one that reads it.

    engine: row (index range)
    project body
      limit 5
        filter likes > 3
          index range note_author on note (author = $1)

Expressions are written as SQL, parameters as $1, $2, ... whatever their style.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

from murmur.sql.ddl import (
    AddColumn,
    AddConstraint,
    CreateIndex,
    CreateTable,
    CreateTrigramIndex,
    DropColumn,
    DropConstraint,
    RenameColumn,
    Step,
)
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
    Parameter,
)
from murmur.sql.plan import (
    Aggregate,
    ColumnarQuery,
    CreateAs,
    Delete,
    Distinct,
    Filter,
    FullScan,
    IndexRange,
    Insert,
    KeyLookup,
    KeyRange,
    Limit,
    Merge,
    MergeDelete,
    MergeInsert,
    MergeUpdate,
    OnConflict,
    OneRow,
    Plan,
    Project,
    RelationUse,
    RowQuery,
    Rows,
    Sort,
    SortKey,
    Span,
    SystemScan,
    TrigramScan,
    Update,
)


def explain(plan: Plan | None, steps: Sequence[Step] = ()) -> list[str]:
    """The lines of a plan."""
    match plan:
        case None:
            return ["engine: row (schema change)", *(_step(step) for step in steps)]
        case RowQuery(rows, _, reason):
            return [f"engine: row ({reason})", *_rows(rows, 0)]
        case ColumnarQuery():
            return [f"engine: columnar ({plan.reason})", *_columnar(plan, 0)]
        case Insert():
            return ["engine: row (write)", *_insert(plan)]
        case Update(table, source, assignments, _):
            sets = ", ".join(
                f"{a.column.name} {'+=' if a.increment else '='} {sql_of(a.value)}"
                for a in assignments
            )
            return ["engine: row (write)", f"update {table.name} set {sets}", *_source(source)]
        case Delete(table, source, _):
            return ["engine: row (write)", f"delete from {table.name}", *_source(source)]
        case Merge():
            return ["engine: row (write)", *_merge(plan)]
        case CreateAs(name, _, _, query, _):
            return ["engine: row (write)", f"create table {name}", *map(_indented, explain(query))]
    raise AssertionError(plan)


def _indented(line: str) -> str:
    return "  " + line


def _step(step: Step) -> str:
    """CreateTable(...) -> create table note"""
    action = step.action
    words = re.sub("(?<!^)([A-Z])", r" \1", type(action).__name__).lower()
    match action:
        case CreateTable(definition):
            return f"{words} {definition.name}"
        case AddColumn(table, column):
            return f"{words} {column.name} of {table}"
        case AddConstraint(table):
            return f"{words} of {table}"
        case RenameColumn(table, name) | DropColumn(table, name) | DropConstraint(table, name):
            return f"{words} {name} of {table}"
        case CreateIndex(name, table) | CreateTrigramIndex(name, table):
            return f"{words} {name} on {table}".replace("  ", " ")
    return f"{words} {action.name}"


def _source(source: Rows | ColumnarQuery) -> Iterator[str]:
    if isinstance(source, ColumnarQuery):
        yield f"  engine: columnar ({source.reason})"
        yield from _columnar(source, 1)
    else:
        yield from _rows(source, 1)


def _insert(plan: Insert) -> Iterator[str]:
    columns = ", ".join(column.name for column in plan.columns)
    yield f"insert into {plan.table.name} ({columns})"
    if plan.conflict is not None:
        yield f"  on conflict {_conflict(plan.conflict)}"
    match plan.query:
        case None:
            yield f"  {len(plan.rows)} row{'' if len(plan.rows) == 1 else 's'} of values"
        case ColumnarQuery() as query:
            yield f"  engine: columnar ({query.reason})"
            yield from _columnar(query, 1)
        case RowQuery(rows):
            yield from _rows(rows, 1)


def _merge(plan: Merge) -> Iterator[str]:
    yield f"merge into {plan.table.name}"
    for action in plan.actions:
        match action:
            case MergeUpdate(assignments):
                yield f"  when matched update {', '.join(a.column.name for a in assignments)}"
            case MergeDelete():
                yield "  when matched delete"
            case MergeInsert(insert):
                yield f"  when not matched insert ({', '.join(c.name for c in insert.columns)})"
            case None:
                yield "  do nothing"
    yield from _source(plan.query)


def _conflict(conflict: OnConflict) -> str:
    match conflict.target:
        case None:
            target = "of the primary key"
        case "any":
            target = "of any unique key"
        case index:
            target = f"of {index.name}"
    if conflict.assignments is None:
        return f"{target} do nothing"
    names = ", ".join(assignment.column.name for assignment in conflict.assignments)
    return f"{target} update {names}"


def _columnar(query: ColumnarQuery, depth: int) -> Iterator[str]:
    indent = "  " * (depth + 1)
    yield f"{'  ' * depth}columnar query"
    for use in query.relations:
        yield f"{indent}{use.name}: {_relation(use)}"
    yield f"{indent}{query.sql}"


def _relation(use: RelationUse) -> str:
    if use.table is None:
        return f"system relation {use.system}"
    return f"history of {use.table.name}" if use.history else f"columns of {use.table.name}"


# Operators ---------------------------------------------------------------------------------------


def _rows(rows: Rows, depth: int) -> Iterator[str]:
    indent = "  " * depth
    match rows:
        case Project(source, exprs):
            yield f"{indent}project {', '.join(map(sql_of, exprs))}"
        case Filter(source, predicate):
            yield f"{indent}filter {sql_of(predicate)}"
        case Sort(source, keys):
            yield f"{indent}sort by {', '.join(map(_sort_key, keys))}"
        case Distinct(source):
            yield f"{indent}distinct"
        case Limit(source, count, offset):
            words = [f"limit {sql_of(count)}"] if count is not None else []
            words += [f"offset {sql_of(offset)}"] if offset is not None else []
            yield indent + " ".join(words)
        case Aggregate(source, aggregations):
            calls = [
                f"{a.name}({'distinct ' if a.distinct else ''}"
                f"{'*' if a.operand is None else sql_of(a.operand)})"
                for a in aggregations
            ]
            yield f"{indent}aggregate {', '.join(calls)}"
        case OneRow():
            yield f"{indent}one row"
            return
        case SystemScan(name, _):
            yield f"{indent}system relation {name}"
            return
        case _:
            yield indent + _access(rows)
            return
    yield from _rows(source, depth + 1)


def _access(rows: Rows) -> str:
    match rows:
        case KeyLookup(table, span):
            return f"key lookup {table.name} ({_span(table.names_of(table.primary_key), span)})"
        case KeyRange(table, span, reverse):
            words = f"key range {table.name} ({_span(table.names_of(table.primary_key), span)})"
            return words + " backwards" * reverse
        case IndexRange(table, index, span, reverse):
            spanned = _span(list(map(table.text_of, index.columns)), span)
            words = f"index range {index.name} on {table.name}"
            return words + (f" ({spanned})" if spanned else "") + " backwards" * reverse
        case TrigramScan(table, index, patterns, reverse):
            words = f"trigram scan {index.name} on {table.name}"
            return f"{words} ({' and '.join(map(sql_of, patterns))})" + " backwards" * reverse
        case FullScan(table, reverse):
            return f"full scan {table.name}" + " backwards" * reverse
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


# Expressions -------------------------------------------------------------------------------------


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
        case Column(_, name, _):
            return name
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


_ATOMS = (Literal, Parameter, Column, Call, Coalesce, NullIf, Extreme, Case)


def _inner(expr: Expr) -> str:
    """An operand, in parentheses unless it cannot be misread."""
    return sql_of(expr) if isinstance(expr, _ATOMS) else f"({sql_of(expr)})"
