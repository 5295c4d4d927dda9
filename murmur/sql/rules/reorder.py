"""Inner joins in the order that keeps rows few, whatever order they were written in.

    FROM note n, tag t, author a WHERE a.id = n.author AND t.note = n.id AND a.name = 'ann'
      ->  ((a, name = 'ann') join n) join t

Greedy: the smallest relation first, then always the one that leaves the fewest rows; one that no
condition ties to the others comes last. Inner joins that stand below one another are one group;
an outer, semi or anti join is a relation of its group. Above stands a Project that puts the columns
back where they were, which the rule `prune` dissolves.
"""

from __future__ import annotations

from collections.abc import Sequence

from murmur.sql.expressions import Column, Expr, columns_of
from murmur.sql.plan import Filter, Join, Project, Rows
from murmur.sql.rules.estimate import Estimates
from murmur.sql.rules.shape import conjunction, conjuncts, filtered, mapped, rebuilt, width


def reorder(rows: Rows, estimates: Estimates) -> Rows:
    """The plan with its inner joins in the order of the fewest rows."""
    if not (isinstance(rows, Join) and rows.kind == "inner"):
        return rebuilt(rows, lambda source: reorder(source, estimates))
    relations: list[Rows] = []
    conditions: list[Expr] = []
    _flatten(rows, 0, relations, conditions)
    relations = [reorder(each, estimates) for each in relations]
    order = _order(relations, conditions, estimates)
    return _joined(relations, conditions, order)


def _flatten(rows: Rows, offset: int, relations: list[Rows], conditions: list[Expr]) -> None:
    """The relations of a group, and its conditions over all their columns side by side."""
    if isinstance(rows, Join) and rows.kind == "inner":
        _flatten(rows.left, offset, relations, conditions)
        _flatten(rows.right, offset + width(rows.left), relations, conditions)
        found = conjuncts(rows.condition)
    elif (
        isinstance(rows, Filter) and isinstance(rows.source, Join) and (rows.source.kind == "inner")
    ):
        _flatten(rows.source, offset, relations, conditions)
        found = conjuncts(rows.predicate)
    else:
        relations.append(rows)
        return
    conditions += [mapped(each, lambda index: index + offset) for each in found]


def _starts(relations: Sequence[Rows]) -> list[int]:
    starts = [0]
    for relation in relations:
        starts.append(starts[-1] + width(relation))
    return starts


def _order(
    relations: Sequence[Rows], conditions: Sequence[Expr], estimates: Estimates
) -> list[int]:
    starts = _starts(relations)
    needs = [_touched(each, starts) for each in conditions]
    sizes = [estimates.rows(relation) for relation in relations]
    whole = _side_by_side(relations)
    left = set(range(len(relations)))
    tied = {i for need in needs if len(need) > 1 for i in need}
    first = min(left, key=lambda i: (i not in tied, sizes[i], i))
    order, total = [first], sizes[first]
    left.remove(first)

    def after(i: int) -> tuple[bool, float, int]:
        """(whether nothing ties it, rows with it, its place)"""
        known = {*order, i}
        rows = total * sizes[i]
        ties = False
        for need, condition in zip(needs, conditions, strict=True):
            if i in need and len(need) > 1 and need <= known:
                ties = True
                rows *= (
                    estimates.equality(whole, condition, starts[i])
                    if _parts(condition, starts, i)
                    else estimates.selectivity(whole, [condition])
                )
        return not ties, rows, i

    while left:
        _, total, best = min(after(i) for i in left)
        order.append(best)
        left.remove(best)
    return order


def _parts(condition: Expr, starts: Sequence[int], i: int) -> bool:
    """Whether an equality's sides lie before and behind the start of relation i."""
    columns = columns_of(condition)
    return any(c < starts[i] for c in columns) and any(c >= starts[i] for c in columns)


def _side_by_side(relations: Sequence[Rows]) -> Rows:
    rows = relations[0]
    for relation in relations[1:]:
        rows = Join("inner", rows, relation, None)
    return rows


def _touched(condition: Expr, starts: Sequence[int]) -> frozenset[int]:
    """The relations that a condition reads."""
    return frozenset(
        i
        for i in range(len(starts) - 1)
        if any(starts[i] <= column < starts[i + 1] for column in columns_of(condition))
    )


def _joined(relations: Sequence[Rows], conditions: Sequence[Expr], order: Sequence[int]) -> Rows:
    starts = _starts(relations)
    place: dict[int, int] = {}
    at = 0
    for i in order:
        for column in range(starts[i], starts[i + 1]):
            place[column] = at
            at += 1
    left = list(conditions)
    rows = relations[order[0]]
    known = {order[0]}
    for i in order[1:]:
        known.add(i)
        ready = [each for each in left if _touched(each, starts) <= known]
        left = [each for each in left if not any(each is other for other in ready)]
        on = [mapped(each, place.__getitem__) for each in ready]
        rows = Join("inner", rows, relations[i], conjunction(on))
    rows = filtered(rows, [mapped(each, place.__getitem__) for each in left])
    if all(place[column] == column for column in range(at)):
        return rows
    return Project(rows, tuple(Column(place[column], "", None) for column in range(at)))
