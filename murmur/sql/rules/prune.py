"""Only what is needed is read and carried: columns that nothing above uses are left out.

    Project(HashJoin(full scan note, full scan author, ...), (note.body, author.name))
      ->  the scans decode (author, body) of note and (id, name) of author, nothing else

    SELECT author FROM note WHERE author > ?     the index on author holds all that is needed:
                                                 no row is read (a covering index)

A Project that only moves columns is dissolved into what stands above it, and one that gives what an
aggregate of all rows below it gives is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from murmur.catalog.keycode import restores
from murmur.sql.expressions import Column, Expr, columns_of
from murmur.sql.plan import (
    Access,
    Aggregate,
    Aggregation,
    Distinct,
    DistinctOn,
    Filter,
    HashJoin,
    IndexRange,
    Limit,
    LookupJoin,
    Project,
    Rows,
    SetOperation,
    Shared,
    Sort,
    TrigramScan,
)
from murmur.sql.rules.shape import expressions, mapped, rebuilt, width

Places: TypeAlias = Mapping[int, int]  # where a column stands now; those left out are not in it


def prune(rows: Rows) -> Rows:
    """The plan with the same columns, over sources that have no others than they need."""
    pruned, places = _pruned(rows, frozenset(range(width(rows))))
    return _restored(pruned, places, width(rows))


def _restored(rows: Rows, places: Places, count: int) -> Rows:
    """The rows with their first columns where they were."""
    if width(rows) == count and all(places[i] == i for i in range(count)):
        return rows
    return Project(rows, tuple(Column(places[i], "", None) for i in range(count)))


def _pruned(rows: Rows, needed: frozenset[int]) -> tuple[Rows, Places]:
    """The rows with the needed columns, perhaps more, and where these stand."""
    match rows:
        case Project(source, exprs):
            return _project(source, exprs, needed)
        case Filter(source, predicate):
            source, places = _pruned(source, needed | columns_of(predicate))
            return Filter(source, _placed(predicate, places)), places
        case Sort(source, keys):
            read = frozenset(i for key in keys for i in columns_of(key.expr))
            source, places = _pruned(source, needed | read)
            keys = tuple(replace(key, expr=_placed(key.expr, places)) for key in keys)
            return Sort(source, keys), places
        case DistinctOn(source, exprs):
            source, places = _pruned(source, needed | _read(exprs))
            return DistinctOn(source, tuple(_placed(each, places) for each in exprs)), places
        case Limit(source, count, offset):
            source, places = _pruned(source, needed)
            return Limit(source, count, offset), places
        case Aggregate(source, aggregations, groups):
            read = _read(groups) | _read(e for each in aggregations for e in _operands(each))
            source, places = _pruned(source, read)
            moved = rebuilt(
                Aggregate(source, aggregations, groups),
                lambda same: same,
                lambda expr: _placed(expr, places),
            )
            return moved, _same(width(rows))
        case HashJoin() | LookupJoin():
            return _join(rows, needed)
        case Distinct() | SetOperation() | Shared():
            return rebuilt(rows, prune), _same(width(rows))
    if isinstance(rows, Access):
        return _access(rows, needed)
    return rows, _same(width(rows))


def _same(count: int) -> Places:
    return {i: i for i in range(count)}


def _read(exprs: Iterable[Expr]) -> frozenset[int]:
    return frozenset(i for expr in exprs for i in columns_of(expr))


def _operands(aggregation: Aggregation) -> list[Expr]:
    found = [aggregation.operand, aggregation.filter, aggregation.separator]
    return [*(e for e in found if e is not None), *(key.expr for key in aggregation.order)]


def _placed(expr: Expr, places: Places) -> Expr:
    return mapped(expr, places.__getitem__)


def _project(source: Rows, exprs: tuple[Expr, ...], needed: frozenset[int]) -> tuple[Rows, Places]:
    kept = sorted(needed)
    read = _read(exprs[i] for i in kept)
    below, places = _pruned(source, read)
    if all(isinstance(exprs[i], Column) and not exprs[i].name for i in kept):  # type: ignore[attr-defined]
        return below, {i: places[exprs[i].index] for i in kept}  # type: ignore[attr-defined]
    fresh = tuple(_placed(exprs[i], places) for i in kept)
    if isinstance(below, Aggregate) and not below.groups and _is_same(fresh, width(below)):
        return below, {old: new for new, old in enumerate(kept)}
    return Project(below, fresh), {old: new for new, old in enumerate(kept)}


def _is_same(exprs: Sequence[Expr], count: int) -> bool:
    """Whether these are the columns below, all of them, as they stand."""
    places = [expr.index if isinstance(expr, Column) else -1 for expr in exprs]
    return places == list(range(count))


def _join(join: HashJoin | LookupJoin, needed: frozenset[int]) -> tuple[Rows, Places]:
    at = width(join.left)
    read = needed if join.condition is None else needed | columns_of(join.condition)
    ours = frozenset(i for i in read if i < at)
    theirs = frozenset(i - at for i in read if i >= at)
    if isinstance(join, HashJoin):
        ours |= _read(join.left_keys)
        theirs |= _read(join.right_keys)
    else:
        ours |= _read(expressions(join.right))
        if join.filter is not None:
            theirs |= columns_of(join.filter)
    left, left_places = _pruned(join.left, ours)
    right, right_places = _pruned(join.right, theirs)
    shift = width(left)
    places = dict(left_places)
    pairs = places | {old + at: new + shift for old, new in right_places.items()}
    condition = None if join.condition is None else _placed(join.condition, pairs)
    if join.kind not in ("semi", "anti"):
        places = pairs
    if isinstance(join, HashJoin):
        return (
            replace(
                join,
                left=left,
                right=right,
                left_keys=tuple(_placed(each, left_places) for each in join.left_keys),
                right_keys=tuple(_placed(each, right_places) for each in join.right_keys),
                condition=condition,
                left_width=shift,
                width=width(right),
            ),
            places,
        )
    assert not isinstance(right, Project)
    found = rebuilt(right, lambda same: same, lambda expr: _placed(expr, left_places))
    return (
        replace(
            join,
            left=left,
            right=found,  # type: ignore[arg-type]
            filter=None if join.filter is None else _placed(join.filter, right_places),
            condition=condition,
            width=width(right),
        ),
        places,
    )


def _access(access: Access, needed: frozenset[int]) -> tuple[Rows, Places]:
    """The path with the needed columns; by the index alone if it holds them."""
    if isinstance(access, TrigramScan):
        return access, _same(len(access.table.columns))
    assert access.columns is None
    columns = tuple(sorted(needed))
    if len(columns) == len(access.table.columns):
        return access, _same(len(columns))
    found = replace(access, columns=columns)
    if isinstance(found, IndexRange):
        found = replace(found, covering=_covers(found))
    return found, {old: new for new, old in enumerate(columns)}


def _covers(access: IndexRange) -> bool:
    table = access.table
    held = {*access.index.column_ids, *table.primary_key}
    return all(
        table.columns[at].id in held and restores(table.columns[at].type)
        for at in access.columns or ()
    )
