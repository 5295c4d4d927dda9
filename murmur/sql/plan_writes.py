"""Plans of statements that write: what they write, and the queries that find it (plan.py).

UPDATE note SET likes = likes + ? WHERE id = 3
  -> Update(note, KeyLookup(note, id = 3), (Assignment(likes, $1, increment=True),))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from murmur.catalog.schema import Column, Index, Table
from murmur.sql.expressions import Expr
from murmur.sql.plan import Query, ResultColumn, Rows


@dataclass(frozen=True, slots=True)
class Returning:
    """RETURNING: expressions over the row as written and, behind it, values of other relations.

    `others` is how many of these there are: the last ones of each row of the statement's query.
    """

    exprs: tuple[Expr, ...]
    columns: tuple[ResultColumn, ...]
    others: int = 0


@dataclass(frozen=True, slots=True)
class Assignment:
    """SET column = value. For a COUNTER, an increment adds the value; otherwise it is a reset."""

    column: Column
    value: Expr
    increment: bool = False


@dataclass(frozen=True, slots=True)
class OnConflict:
    """ON CONFLICT. `target` is an index, None for the primary key, or "any".

    `assignments` None is DO NOTHING. Expressions see the standing row, and after it the row that
    was to be inserted (excluded).
    """

    target: Index | Literal["any"] | None
    assignments: tuple[Assignment, ...] | None = None
    predicate: Expr | None = None


@dataclass(frozen=True, slots=True)
class Insert:
    """INSERT. Each row of `rows` has one entry per target column, None for DEFAULT.

    `defaults` are the columns whose default is a function, with it: they are evaluated for every
    row that leaves them out.
    """

    table: Table
    columns: tuple[Column, ...]
    rows: tuple[tuple[Expr | None, ...], ...]
    query: Query | None
    defaults: tuple[tuple[Column, Expr], ...]
    generated: Column | None  # the key that fills itself
    conflict: OnConflict | None
    returning: Returning | None
    named: bool = False  # the columns were written out: each of them needs a value


@dataclass(frozen=True, slots=True)
class Update:
    """UPDATE of the rows that `source` finds, by an access path or by a query.

    A query yields primary keys (or row keys) and, after them, values that the assignments read:
    their expressions are over that row instead of the table's.
    """

    table: Table
    source: Rows | Query
    assignments: tuple[Assignment, ...]
    returning: Returning | None


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE of the rows that `source` finds; see Update for a query."""

    table: Table
    source: Rows | Query
    returning: Returning | None


@dataclass(frozen=True, slots=True)
class MergeUpdate:
    """WHEN MATCHED THEN UPDATE; the expressions read the row of the MERGE's query."""

    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class MergeDelete:
    """WHEN MATCHED THEN DELETE."""


@dataclass(frozen=True, slots=True)
class MergeInsert:
    """WHEN NOT MATCHED THEN INSERT, of one row whose expressions read that of the query."""

    insert: Insert


MergeAction: TypeAlias = MergeUpdate | MergeDelete | MergeInsert


@dataclass(frozen=True, slots=True)
class Merge:
    """MERGE. A row of the query is a target's key (NULLs: none is met), the number of the action
    (NULL: none applies), what the actions read and, from `source_at` on, the source's columns.

    RETURNING reads those, then the target's row, then the action's name.
    """

    table: Table
    query: Query
    actions: tuple[MergeAction | None, ...]
    returning: Returning | None
    source_at: int = 0


@dataclass(frozen=True, slots=True)
class CreateAs:
    """CREATE TABLE ... AS query. `names` are its first columns'; `filled`: not WITH NO DATA."""

    name: str
    if_not_exists: bool
    names: tuple[str, ...]
    query: Query
    filled: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A part of WITH that writes; what it returns is the relation of this name to those behind."""

    name: str
    relation: str
    columns: tuple[ResultColumn, ...]
    plan: Insert | Update | Delete | Merge


@dataclass(frozen=True, slots=True)
class Several:
    """Parts that write, and the statement behind them; `counted`: all of their rows count."""

    parts: tuple[Part, ...]
    main: Query | Insert | Update | Delete | Merge
    counted: bool = False


Plan: TypeAlias = Query | Insert | Update | Delete | Merge | CreateAs | Several
