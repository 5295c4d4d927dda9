"""Plans: what a statement will do, as frozen data, nested as EXPLAIN prints it.

    EXPLAIN SELECT body FROM note WHERE author = ? AND likes > 3 ORDER BY written LIMIT 5

      engine: row (index range)
      limit 5
        project body
          filter likes > 3
            index range note_author (author = $1)

A row plan works on *base rows*: a table's columns in their order, so Column(i) in its expressions
is the i-th column. Project and Aggregate end that; above them Column(i) is the i-th output column.

Invariants:
    1. An access path yields every row for which the conjuncts it stands for are TRUE, each row
       once; conjuncts that it does not represent exactly stay in a Filter above it.
    2. A plan names the Table objects it was made from; it is right for catalogs of one version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from murmur.catalog.schema import Index, Table, TrigramIndex
from murmur.catalog.types import SqlType
from murmur.sql.expressions import Expr, Like


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column of a result; the type is None where only the columnar engine knows it."""

    name: str
    type: SqlType | None


# Access paths ------------------------------------------------------------------------------------

Columns: TypeAlias = tuple[int, ...] | None  # positions of the columns that rows have; None: all


@dataclass(frozen=True, slots=True)
class Equal:
    """A key column that equals one of the alternatives, or IS NULL."""

    alternatives: tuple[Expr, ...]
    null: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range."""

    expr: Expr
    inclusive: bool


@dataclass(frozen=True, slots=True)
class Span:
    """The part of an ordered key that an access path reads.

    The leading key columns equal one of their alternatives each; the next one lies between the
    bounds, which NULL never does.
    """

    equal: tuple[Equal, ...] = ()
    lower: Bound | None = None
    upper: Bound | None = None


@dataclass(frozen=True, slots=True)
class KeyLookup:
    """Rows by their whole primary key."""

    table: Table
    span: Span
    columns: Columns = None


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Rows in primary key order, between bounds."""

    table: Table
    span: Span
    reverse: bool = False
    columns: Columns = None


@dataclass(frozen=True, slots=True)
class IndexRange:
    """Rows in the order of an index, between bounds; a whole unique key is the shortest range.

    `covering`: the index and the key in its entries hold every column asked for, so that no row
    has to be read.
    """

    table: Table
    index: Index
    span: Span
    reverse: bool = False
    columns: Columns = None
    covering: bool = False


@dataclass(frozen=True, slots=True)
class FullScan:
    """Every row of a table, in primary key order."""

    table: Table
    reverse: bool = False
    columns: Columns = None


@dataclass(frozen=True, slots=True)
class TrigramScan:
    """The rows that have the trigrams of all these LIKEs, and maybe others, in key order."""

    table: Table
    index: TrigramIndex
    patterns: tuple[Like, ...]
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class SystemScan:
    """Every row of a system relation."""

    name: str
    columns: tuple[ResultColumn, ...]


@dataclass(frozen=True, slots=True)
class OneRow:
    """The single empty row of a SELECT without FROM."""


Access: TypeAlias = KeyLookup | KeyRange | IndexRange | TrigramScan | FullScan
Leaf: TypeAlias = Access | SystemScan | OneRow


# Operators ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """The rows for which the predicate is TRUE."""

    source: Rows
    predicate: Expr


@dataclass(frozen=True, slots=True)
class SortKey:
    """One term of ORDER BY."""

    expr: Expr
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Sort:
    """All rows, ordered."""

    source: Rows
    keys: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """One expression per output column."""

    source: Rows
    exprs: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Distinct:
    """Each different row once, the first of its kind."""

    source: Rows


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` rows (None: all) after skipping `offset`."""

    source: Rows
    count: Expr | None
    offset: Expr | None


AggregateName: TypeAlias = Literal[
    "count", "sum", "avg", "min", "max", "bool_and", "bool_or", "string_agg"
]


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One aggregate function; without an operand it is count(*).

    `filter` is FILTER (WHERE ...); `separator` and `order` are string_agg's.
    """

    name: AggregateName
    operand: Expr | None
    distinct: bool
    type: SqlType | None
    filter: Expr | None = None
    separator: Expr | None = None
    order: tuple[SortKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One row: the aggregates over all rows. With `groups`, one row for each of their values.

    The values of the groups come first, then the aggregates.
    """

    source: Rows
    aggregations: tuple[Aggregation, ...]
    groups: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class DistinctOn:
    """The first row of each kind, by the values of some expressions."""

    source: Rows
    keys: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Shared:
    """Rows that are needed in `uses` places, read once for all of them: a query of WITH.

    The places have the same `key`; each has a plan for the rows, of which one is run.
    """

    source: Rows
    key: int
    name: str
    uses: int


@dataclass(frozen=True, slots=True)
class Values:
    """The rows of VALUES."""

    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True, slots=True)
class SetOperation:
    """UNION, INTERSECT or EXCEPT of rows of one shape; `all` keeps what is equal."""

    op: Literal["union", "intersect", "except"]
    all: bool
    left: Rows
    right: Rows


JoinKind: TypeAlias = Literal["inner", "left", "full", "semi", "anti"]


@dataclass(frozen=True, slots=True)
class TableScan:
    """The rows of a table, by a path that has yet to be chosen."""

    table: Table


@dataclass(frozen=True, slots=True)
class Join:
    """Pairs of rows, by a method that has yet to be chosen; see HashJoin for the kinds."""

    kind: JoinKind
    left: Rows
    right: Rows
    condition: Expr | None


@dataclass(frozen=True, slots=True)
class HashJoin:
    """Left rows with right rows whose keys equal theirs, found in a hash table of the right.

    A row is the left one and the right one behind it; `condition` is what is left to test on it.
    left: a left row without a partner has NULLs behind it; full: and the other way round. semi,
    anti: the left rows alone that have a partner, that have none. Without keys all pairs are tried.
    """

    kind: JoinKind
    left: Rows
    right: Rows
    left_keys: tuple[Expr, ...]
    right_keys: tuple[Expr, ...]
    condition: Expr | None
    left_width: int
    width: int  # of the right rows


@dataclass(frozen=True, slots=True)
class LookupJoin:
    """Left rows with the right rows that each finds by a key; the span reads the left row.

    `filter` is tested on right rows alone, `condition` on pairs; kinds as of HashJoin, but full.
    """

    kind: JoinKind
    left: Rows
    right: KeyLookup | KeyRange | IndexRange
    filter: Expr | None
    condition: Expr | None
    width: int


Rows: TypeAlias = (
    Leaf
    | Values
    | TableScan
    | Filter
    | Sort
    | Project
    | Distinct
    | DistinctOn
    | Shared
    | Limit
    | Aggregate
    | SetOperation
    | Join
    | HashJoin
    | LookupJoin
)


# Queries -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableRead:
    """What a query reads of one table: columns by name (None: all), and how many values that is."""

    table: Table
    columns: tuple[str, ...] | None
    values: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What a query is taken to cost on either engine, microseconds.

    The columnar engine's is that over tables which are in Arrow already; what `reads` says may have
    to be turned into Arrow first (choice.py). `found` are the rows that the only access path is
    taken to give, where that is a range whose keys can be counted; else 0.
    """

    row_us: float
    columnar_us: float
    reads: tuple[TableRead, ...] = ()
    found: float = 0.0


@dataclass(frozen=True, slots=True)
class RowQuery:
    """A query on the row engine, the tables that it reads, and what it costs.

    Without costs no other engine is weighed: it reads little, or no table. `alternative` is for the
    columnar engine, of a statement that writes what it finds (found.py).
    """

    rows: Rows
    columns: tuple[ResultColumn, ...]
    reason: str
    tables: tuple[Table, ...] = ()
    costs: Costs | None = None
    alternative: ColumnarQuery | None = None


@dataclass(frozen=True, slots=True)
class RelationUse:
    """A relation under the name that the columnar text has for it.

    It is a table, its history, or a system relation. With `keyed` set the table's rows carry their
    row key in one more column, KEY_COLUMN. `columns` are those of the table that the text reads, in
    the table's order; None for all.
    """

    name: str
    table: Table | None = None
    history: bool = False
    keyed: bool = False
    system: str = ""
    columns: tuple[str, ...] | None = None


KEY_COLUMN = "murmur row key"


@dataclass(frozen=True, slots=True)
class ColumnarQuery:
    """A query on the columnar engine: text, relations, and the parameters that the text uses.

    Parameter i of the statement stands in the text as $p<i>; `parameters` are the positions used.
    `times` are the clock's parameters that are used ($now, $today, ...).
    """

    sql: str
    relations: tuple[RelationUse, ...]
    parameters: tuple[int, ...]
    times: tuple[str, ...]
    columns: tuple[ResultColumn, ...]  # as far as they are known: equal names stand here once
    reason: str
    costs: Costs | None = None


Query: TypeAlias = RowQuery | ColumnarQuery
