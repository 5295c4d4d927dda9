"""Relations that only choose columns of others are dissolved, so that the tables below are seen.

    FROM (SELECT id, name FROM author) a JOIN note n ON n.author = a.id

    Join(Project(author, (id, name)), note, ...)
      ->  Project(Join(author, note, ...), ...)     which can be ordered, and looked up by key

A view, a subquery in FROM and a query of WITH bind to such a Project. It goes above the join that
reads it; two Projects above one another become one, if what the lower one computes is not computed
more often for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from murmur.sql.expressions import Column, Expr
from murmur.sql.plan import Join, Project, Rows
from murmur.sql.rules.shape import mapped, rebuilt, width


def flatten(rows: Rows) -> Rows:
    """The plan with its Projects of plain columns above its joins."""
    rows = rebuilt(rows, flatten)
    match rows:
        case Join():
            return _lifted(rows)
        case Project(Project(source, inner), outer) if (columns := _plain(inner)) is not None:
            # Only the places are taken over: the upper expressions know their types.
            places = [column.index for column in columns]
            return Project(source, tuple(mapped(expr, places.__getitem__) for expr in outer))
    return rows


def _lifted(join: Join) -> Rows:
    (left, ours), (right, theirs) = _parts(join.left), _parts(join.right)
    if left is join.left and right is join.right:
        return join
    at = width(left)
    columns = [*ours, *(replace(column, index=column.index + at) for column in theirs)]
    condition = join.condition
    if condition is not None:
        condition = mapped(condition, lambda index: columns[index].index)
    shown = ours if join.kind in ("semi", "anti") else columns
    return Project(Join(join.kind, left, right, condition), tuple(shown))


def _parts(rows: Rows) -> tuple[Rows, Sequence[Column]]:
    """What a side of a join reads, and where its columns stand there."""
    if isinstance(rows, Project) and (columns := _plain(rows.exprs)) is not None:
        return rows.source, columns
    return rows, [Column(i, "", None) for i in range(width(rows))]


def _plain(exprs: Sequence[Expr]) -> list[Column] | None:
    """The expressions, if they are columns and nothing else."""
    columns = [expr for expr in exprs if isinstance(expr, Column)]
    return columns if len(columns) == len(exprs) else None
