"""Choosing an access path: which key the rows are found by, and what is left to test.

    table note (id, author, written), index note_author on (author, written)

    WHERE author = ? AND written > ? AND id <> 3 ORDER BY written DESC LIMIT 10

      -> index range note_author, author = $1, written > $2, backwards;  no sort;  left: id <> 3

Every key, the primary one and each index, is a candidate. It can use conjuncts `column = x`,
`column IN (...)` and `column IS NULL` on its leading columns, then one range on the next; x may
hold parameters and functions but no columns. What an index computes counts as a column of the key,
and a partial index is a candidate where its conditions are asked for (index_matching.py). The
cheapest wins, by what ANALYZE has counted, and else by guesses; they need only rank:

    column = x      leaves one row of its different values, else one of 5,000
    a range         what the histogram says of a literal, else each bound leaves a fifth
    a unique key    leaves one row                      a row through an index costs four rows
    no sort needed  spares one step per row, and under LIMIT almost everything

A key gives its order, its direction either way, if each ORDER BY term is its next column. Columns
bound to one value do not count; NULLs stand where PostgreSQL puts them by default (keycode.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod

from murmur.catalog.schema import Index, Table
from murmur.catalog.types import BOOLEAN
from murmur.sql.expressions import (
    And,
    Between,
    Column,
    Compare,
    Expr,
    In,
    IsNull,
    Literal,
    Not,
    Or,
    columns_of,
    is_volatile,
)
from murmur.sql.index_matching import KeyFields, key_fields, serves, with_key_fields
from murmur.sql.plan import (
    Access,
    Bound,
    Equal,
    Filter,
    FullScan,
    IndexRange,
    KeyLookup,
    KeyRange,
    Rows,
    SortKey,
    Span,
)
from murmur.sql.rules.facts import Facts, Unknown
from murmur.sql.trigram_access import TRIGRAM_COST, prefix_bounds, trigram_scan

MAX_ALTERNATIVES = 1000  # of all IN lists together; more are left to the filter
_ROWS = 1_000_000.0
_EQUAL, _BOUND = 0.0002, 0.2
_INDEX_COST = 4.0
_LIMITED = 100.0  # rows that a LIMIT is taken to ask for


@dataclass(frozen=True, slots=True)
class _Term:
    """What one conjunct says about one column."""

    conjunct: Expr
    column: int
    equal: Equal | None = None
    lower: Bound | None = None
    upper: Bound | None = None
    exact: bool = True  # a key that represents it makes up for the conjunct


@dataclass(slots=True)
class _Candidate:
    """A key, and how much of the statement it can serve."""

    index: Index | None  # None: the primary key
    span: Span
    used: list[Expr]
    rows: float
    whole_key: bool
    ordered: bool = False
    reverse: bool = False
    cost: float = field(default=0.0)


def plan_access(
    table: Table,
    predicate: Expr | None,
    order: Sequence[SortKey] = (),
    *,
    limited: bool = False,
    facts: Facts | None = None,
) -> tuple[Rows, bool]:
    """The rows of a table for which the predicate is TRUE, and whether they come in order."""
    conjuncts = list(_conjuncts(predicate))
    fields = key_fields(table)
    terms = [*_all_terms(fields, conjuncts, _terms)]
    terms += _all_terms(fields, conjuncts, partial(_prefix_terms, table))
    order = [replace(key, expr=with_key_fields(fields, key.expr)) for key in order]
    facts = facts or Unknown()
    candidates = [_candidate(table, None, terms, facts)]
    candidates += [
        _candidate(table, index, terms, facts)
        for index in table.indexes
        if serves(fields, index, conjuncts)
    ]
    for candidate in candidates:
        _judge(table, candidate, order, limited=limited, filtered=len(conjuncts))
    best = min(candidates, key=lambda candidate: candidate.cost)
    # What a LIMIT makes of a scan is a guess; reading too many postings ends soon.
    wide = best.span == Span() or best.cost > TRIGRAM_COST
    found = trigram_scan(table, conjuncts) if wide else None
    if found is not None:
        by_key = _Candidate(None, Span(), [], 0.0, whole_key=False)
        ordered, reverse = _gives_order(table, by_key, order)
        return _filtered(replace(found, reverse=reverse), conjuncts), ordered
    left = [conjunct for conjunct in conjuncts if not any(conjunct is u for u in best.used)]
    return _filtered(_access(table, best), left), best.ordered


def plan_lookup(
    table: Table,
    keys: Sequence[tuple[int, Expr]],
    predicate: Expr | None,
    facts: Facts | None = None,
) -> tuple[KeyLookup | KeyRange | IndexRange, list[tuple[int, Expr]], Expr | None] | None:
    """The key by which a row of another relation finds rows of a table; None if there is none.

    `keys` are columns of the table by position, and what they equal, which may read the other row.
    Gives the path, the keys that it stands for, and what of the predicate is left to test.
    """
    conjuncts = list(_conjuncts(predicate))
    fields = key_fields(table)
    terms = [*_all_terms(fields, conjuncts, _terms)]
    joined = {}
    for position, expr in keys:
        column = Column(position, "", table.columns[position].type)
        conjunct = Compare("=", column, expr)
        joined[id(conjunct)] = (conjunct, (position, expr))
        terms.insert(0, _Term(conjunct, position, Equal((expr,))))
    best: tuple[float, _Candidate] | None = None
    served_by = [index for index in table.indexes if serves(fields, index, conjuncts)]
    for index in (None, *served_by):
        candidate = _candidate(table, index, terms, facts or Unknown())
        if any(id(each) in joined for each in candidate.used):
            cost = candidate.rows * (1.0 if index is None else _INDEX_COST)
            if best is None or cost < best[0]:
                best = cost, candidate
    if best is None:
        return None
    access = _access(table, best[1])
    assert isinstance(access, KeyLookup | KeyRange | IndexRange)
    used = best[1].used
    left = [conjunct for conjunct in conjuncts if not any(conjunct is u for u in used)]
    served = [pair for conjunct, pair in joined.values() if any(conjunct is u for u in used)]
    return access, served, None if not left else _all(left)


def _all_terms(
    fields: KeyFields, conjuncts: Sequence[Expr], read: Callable[[Expr], Sequence[_Term]]
) -> Iterator[_Term]:
    """What the conjuncts say, each under the name of what a key holds."""
    for conjunct in conjuncts:
        for term in read(with_key_fields(fields, conjunct)):
            yield replace(term, conjunct=conjunct)


def _all(conjuncts: Sequence[Expr]) -> Expr:
    return conjuncts[0] if len(conjuncts) == 1 else And(tuple(conjuncts))


def _filtered(rows: Rows, conjuncts: Sequence[Expr]) -> Rows:
    if not conjuncts:
        return rows
    return Filter(rows, _all(conjuncts))


# Terms -------------------------------------------------------------------------------------------


def _conjuncts(predicate: Expr | None) -> Iterator[Expr]:
    """What has to be TRUE, apart; BETWEEN is two conditions."""
    match predicate:
        case None | Literal(True):
            return
        case And(operands):
            for operand in operands:
                yield from _conjuncts(operand)
        case Between(operand, low, high, negated=False) if not is_volatile(operand):
            yield Compare(">=", operand, low)
            yield Compare("<=", operand, high)
        case _:
            yield predicate


_MIRRORED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _terms(conjunct: Expr) -> list[_Term]:
    """What a conjunct says, as far as a key can use it."""
    match conjunct:
        case Compare(op, Column() as column, other) if op != "<>" and _is_fixed(other):
            return [_comparison(conjunct, op, column, other)]
        case Compare(op, other, Column() as column) if op != "<>" and _is_fixed(other):
            return [_comparison(conjunct, _MIRRORED[op], column, other)]
        case In(Column() as column, items, negated=False) if all(map(_is_fixed, items)):
            return [_Term(conjunct, column.index, Equal(items))]
        case IsNull(Column() as column, negated=False):
            return [_Term(conjunct, column.index, Equal((), null=True))]
        case Column(type=type_) if type_ == BOOLEAN:
            equal = Equal((Literal(True, BOOLEAN),))  # noqa: FBT003
            return [_Term(conjunct, conjunct.index, equal)]
        case Not(Column(type=type_) as column) if type_ == BOOLEAN:
            equal = Equal((Literal(False, BOOLEAN),))  # noqa: FBT003
            return [_Term(conjunct, column.index, equal)]
        case Or(operands):
            return _alternatives(conjunct, operands)
    return []


def _comparison(conjunct: Expr, op: str, column: Column, other: Expr) -> _Term:
    match op:
        case "=":
            return _Term(conjunct, column.index, Equal((other,)))
        case "<" | "<=":
            return _Term(conjunct, column.index, upper=Bound(other, inclusive=op == "<="))
    return _Term(conjunct, column.index, lower=Bound(other, inclusive=op == ">="))


def _alternatives(conjunct: Expr, operands: Sequence[Expr]) -> list[_Term]:
    """a = 1 OR a = 2 OR a IN (3, 4) is a IN (1, 2, 3, 4)."""
    found: list[Expr] = []
    columns = set()
    for operand in operands:
        match _terms(operand):
            case [_Term(equal=Equal(alternatives, null=False)) as term]:
                columns.add(term.column)
                found += alternatives
            case _:
                return []
    return [_Term(conjunct, columns.pop(), Equal(tuple(found)))] if len(columns) == 1 else []


def _prefix_terms(table: Table, conjunct: Expr) -> list[_Term]:
    """The range of a LIKE that begins with literal characters."""
    bounds = prefix_bounds(table, conjunct)
    if bounds is None:
        return []
    column, lower, upper = bounds
    terms = [_Term(conjunct, column, lower=lower, exact=False)]
    if upper is not None:
        terms.append(_Term(conjunct, column, upper=upper, exact=False))
    return terms


def _is_fixed(expr: Expr) -> bool:
    """Whether the value is the same for every row of one execution."""
    return isinstance(expr, Literal) or not (columns_of(expr) or is_volatile(expr))


# Candidates --------------------------------------------------------------------------------------


def _key_columns(table: Table, index: Index | None) -> list[tuple[int, bool]]:
    """(position, descending) of the columns that a key begins with."""
    if index is None:
        return [(table.column_by_id(column_id).position, False) for column_id in table.primary_key]
    return list(key_fields(table).of_index[index.id])


def _equal_part(table: Table, position: int, count: int, facts: Facts) -> float:
    """The part of the rows whose column has one of so many values."""
    known = facts.distinct(table, position) if position < len(table.columns) else None
    return min(1.0, count * (_EQUAL if known is None else 1.0 / max(1.0, known)))


def _bound_part(table: Table, position: int, op: str, bound: Bound, facts: Facts) -> float:
    """The part of the rows on one side of a bound."""
    known = None
    if isinstance(bound.expr, Literal) and position < len(table.columns):
        known = facts.fraction(table, position, op, bound.expr.value)
    return _BOUND if known is None else known


def _candidate(
    table: Table, index: Index | None, terms: Sequence[_Term], facts: Facts
) -> _Candidate:
    equal: list[Equal] = []
    used: list[Expr] = []
    lower: Bound | None = None
    upper: Bound | None = None
    rows = _ROWS
    alternatives = 1
    columns = _key_columns(table, index)
    for position, _ in columns:
        here = [term for term in terms if term.column == position]
        term = min(
            (term for term in here if term.equal is not None),
            key=lambda term: len(term.equal.alternatives) if term.equal else 0,
            default=None,
        )
        if term is not None and term.equal is not None:
            count = max(1, len(term.equal.alternatives))
            if alternatives * count <= MAX_ALTERNATIVES:
                alternatives *= count
                equal.append(term.equal)
                used.append(term.conjunct)
                rows *= _equal_part(table, position, count, facts)
                continue
        for term in here:
            if lower is None and term.lower is not None:
                lower = term.lower
                rows *= _bound_part(table, position, ">", lower, facts)
            elif upper is None and term.upper is not None:
                upper = term.upper
                rows *= _bound_part(table, position, "<", upper, facts)
            else:
                continue
            sql_type = key_fields(table).columns[position].type
            if term.exact and sql_type is not None and sql_type.name != "DECIMAL":
                # A bound between two values of a DECIMAL column reads as none: test it as well.
                used.append(term.conjunct)
        break
    whole = len(equal) == len(columns) > 0
    unique = index is None or (index.unique and not any(each.null for each in equal))
    if whole and unique:
        rows = float(prod(max(1, len(each.alternatives)) for each in equal))
    return _Candidate(index, Span(tuple(equal), lower, upper), used, max(rows, 1.0), whole)


def _judge(
    table: Table,
    candidate: _Candidate,
    order: Sequence[SortKey],
    *,
    limited: bool,
    filtered: int,
) -> None:
    candidate.ordered, candidate.reverse = _gives_order(table, candidate, order)
    rows = candidate.rows
    sort = 0.0 if candidate.ordered else rows
    if limited and candidate.ordered and order:
        # What is left to test may let many rows pass by before the LIMIT is reached.
        rows = min(rows, _LIMITED * 10 ** (filtered - len(candidate.used)))
    candidate.cost = rows * (1.0 if candidate.index is None else _INDEX_COST) + sort


def _gives_order(
    table: Table, candidate: _Candidate, order: Sequence[SortKey]
) -> tuple[bool, bool]:
    """Whether the key's order is the one asked for, and whether it is to be read backwards."""
    if not order:
        return True, False
    span = candidate.span
    columns = _key_columns(table, candidate.index)
    if candidate.index is not None:
        columns += _key_columns(table, None)  # entries of equal values stand in row key order
    equal = dict(zip((position for position, _ in columns), span.equal, strict=False))
    fixed = {
        position for position, each in equal.items() if len(each.alternatives) + each.null == 1
    }
    bounded = span.lower is not None or span.upper is not None
    reverse: bool | None = None
    at = 0
    for key in order:
        if not isinstance(key.expr, Column):
            return False, False
        position = key.expr.index
        if position in fixed:
            continue
        while at < len(columns) and columns[at][0] in fixed:
            at += 1
        if at == len(columns):
            # Nothing more to tell rows apart, if the primary key was among the columns.
            return bool(table.primary_key), bool(reverse)
        if columns[at][0] != position or reverse not in (None, key.descending != columns[at][1]):
            return False, False
        reverse = key.descending != columns[at][1]
        nullable = (
            key_fields(table).columns[position].nullable
            and position not in equal
            and not (bounded and at == len(span.equal))
        )
        if nullable and key.nulls_first != key.descending:
            return False, False
        at += 1
    return True, bool(reverse)


def _access(table: Table, candidate: _Candidate) -> Access:
    span, reverse = candidate.span, candidate.reverse
    if candidate.index is not None:
        return IndexRange(table, candidate.index, span, reverse)
    if candidate.whole_key and not reverse:
        return KeyLookup(table, span)
    if span == Span():
        return FullScan(table, reverse)
    return KeyRange(table, span, reverse)
