"""Schemas as values: what a table is, and what a statement asks a table to be.

Everything here is frozen. A `Table` is what the catalog shows after merging: live columns only,
each visible name once. Ids are hashes and survive renames (keyspace.py draws them), so whatever
refers to a column refers to its id:

    Table(id=0x9c.., name="note", columns=(Column(0x1f.., "id", UUID),
          Column(0x0a.., "body", TEXT)), primary_key=(0x1f..,))

`TableDefinition` and its parts are what CREATE TABLE says, by names; ddl.py makes records of them.

Invariants of a Table that a Catalog hands out:
    1. columns are in position order, and every id that primary_key, indexes, foreign_keys and
       checks mention is the id of one of them;
    2. a foreign key's parent table is live, and its parent columns are the parent's primary key
       (`parent_index_id` is None) or the columns of its unique index `parent_index_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from murmur.catalog.types import SqlType
from murmur.errors import DatabaseError
from murmur.kvcore import Atom

Action = Literal["NO ACTION", "RESTRICT", "CASCADE", "SET NULL"]


@dataclass(frozen=True, slots=True)
class Default:
    """What a column holds when an INSERT leaves it out.

    constant: `value`, in stored form; rows written before the column existed read it too.
    function: the expression `text` (uuid7(), now(), ...) is evaluated for each inserted row by the
    caller; rows written before the column existed read NULL. `value` is then None.
    `text` is the SQL of either, for people to read and for `function` to be bound from.
    """

    kind: Literal["constant", "function"]
    value: Atom
    text: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What rows from before a column read, in stored form, after its default has changed."""

    value: Atom


def _unread(fields: Mapping[int, Atom]) -> Atom:
    return None


@dataclass(frozen=True, slots=True)
class RowExpression:
    """SQL over one row, as text: what an index or a generated column is made of.

    The text's names stand for ids, so renaming a column does not touch it. `compute` gives its
    value for the fields of a record, as an atom of `type`, and raises DatabaseError where it has
    none; a catalog hands out expressions in which it is compiled (expressions.py).
    """

    text: str
    type: SqlType
    column_ids: tuple[int, ...]
    column_names: tuple[str, ...]  # as the text writes them, pairwise with column_ids
    compute: Callable[[Mapping[int, Atom]], Atom] = field(
        default=_unread, compare=False, repr=False
    )

    def atom(self, fields: Mapping[int, Atom]) -> Atom:
        """Its value; None where it has none, because what was written apart does not fit."""
        try:
            return self.compute(fields)
        except DatabaseError:
            return None


@dataclass(frozen=True, slots=True)
class Column:
    """One visible column. A generated one has no field in records: it is computed by readers."""

    id: int
    name: str
    type: SqlType
    nullable: bool = True
    default: Default | None = None
    position: int = 0  # index into Table.columns, and into a row tuple
    generated: RowExpression | None = None
    kept: Kept | None = None
    comment: str | None = None

    def atom(self, fields: Mapping[int, Atom]) -> Atom:
        """What it holds in the row with these fields, in stored form."""
        if self.generated is not None:
            return self.generated.atom(fields)
        return fields.get(self.id, self.missing)

    @property
    def left_out(self) -> Atom:
        """What an INSERT that leaves it out stores, unless its default is a function."""
        if self.type.name == "COUNTER":
            return 0
        return None if self.default is None else self.default.value

    @property
    def missing(self) -> Atom:
        """What a row that was written without this column reads, in stored form."""
        return self.left_out if self.kept is None else self.kept.value


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """One column of an index, or an expression in the place of one, and its direction.

    An expression's `column_id` is its own (keyspace.expression_id): no column has it.
    """

    column_id: int
    descending: bool = False
    expression: RowExpression | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index. A unique one holds claims: one live row for each value without NULLs.

    A partial one has entries of the rows for which its predicate is TRUE, and of no others.
    """

    id: int
    name: str
    table_id: int
    columns: tuple[IndexColumn, ...]
    unique: bool = False
    constraint: bool = False  # it came from UNIQUE in a table, not from CREATE INDEX
    predicate: RowExpression | None = None
    comment: str | None = None

    @property
    def column_ids(self) -> tuple[int, ...]:
        """The ids of its columns and expressions, in index order."""
        return tuple(column.column_id for column in self.columns)

    @property
    def plain(self) -> bool:
        """Whether it is over columns alone, and of all rows."""
        return self.predicate is None and all(each.expression is None for each in self.columns)

    @property
    def expressions(self) -> tuple[RowExpression, ...]:
        """What has to be computed of a row for its entry, the predicate last."""
        found = [each.expression for each in self.columns if each.expression is not None]
        return (*found, self.predicate) if self.predicate is not None else tuple(found)

    @property
    def input_ids(self) -> tuple[int, ...]:
        """The ids of all columns that an entry depends on, each once."""
        plain = [each.column_id for each in self.columns if each.expression is None]
        inputs = [column_id for each in self.expressions for column_id in each.column_ids]
        return tuple(dict.fromkeys([*plain, *inputs]))


@dataclass(frozen=True, slots=True)
class TrigramIndex:
    """An index of the trigrams of one text column: trigrams.py."""

    id: int
    name: str
    table_id: int
    column_id: int


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """REFERENCES: a child's columns name the parent's row by its primary key or a unique index."""

    id: int
    name: str
    table_id: int  # the child
    column_ids: tuple[int, ...]
    parent_table_id: int
    parent_column_ids: tuple[int, ...]  # pairwise with column_ids
    on_delete: Action = "NO ACTION"
    parent_index_id: int | None = None  # None: the parent's primary key


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK as text. The text's names stand for ids, so renaming a column does not touch it."""

    id: int
    name: str
    table_id: int
    text: str
    column_ids: tuple[int, ...]
    column_names: tuple[str, ...]  # as the text writes them, pairwise with column_ids


@dataclass(frozen=True, slots=True)
class KvPrefix:
    """Where the rows of a table over KV keys are, and how its columns stand in their values."""

    prefix: bytes  # of cell keys, the kind of key included
    values: Literal["whole", "json"]


@dataclass(frozen=True)
class Table:
    """A live table, as one snapshot of the catalog shows it."""

    id: int
    name: str
    generation: int
    columns: tuple[Column, ...]
    primary_key: tuple[int, ...]  # column ids; empty: rows are keyed by a hidden id
    primary_key_name: str = ""
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()  # of which this table is the child
    checks: tuple[Check, ...] = ()
    kv: KvPrefix | None = None  # its rows are KV keys: kv_tables.py
    trigrams: tuple[TrigramIndex, ...] = ()
    comment: str | None = None
    # What other modules compile from a table (codecs, entry functions) lives as long as it.
    compiled: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {column.name: column for column in self.columns})
        object.__setattr__(self, "_by_id", {column.id: column for column in self.columns})

    def column(self, name: str) -> Column | None:
        """The visible column of this exact name."""
        by_name: dict[str, Column] = self._by_name  # type: ignore[attr-defined]
        return by_name.get(name)

    def column_by_id(self, column_id: int) -> Column:
        """The visible column of this id; KeyError when there is none."""
        by_id: dict[int, Column] = self._by_id  # type: ignore[attr-defined]
        return by_id[column_id]

    def holds_null(self, column: Column) -> bool:
        """Whether a row may read NULL there. What replicas write apart can break any NOT NULL."""
        return column.id not in self.primary_key

    def type_of(self, part: IndexColumn) -> SqlType:
        """The type of the values that an index has of this column or expression."""
        if part.expression is not None:
            return part.expression.type
        return self.column_by_id(part.column_id).type

    def text_of(self, part: IndexColumn) -> str:
        """What an index calls this column or expression."""
        if part.expression is not None:
            return part.expression.text
        return self.column_by_id(part.column_id).name

    def stored_ids(self, column_ids: Iterable[int]) -> tuple[int, ...]:
        """The columns with fields that these are: themselves, or what they are computed of."""
        found: dict[int, None] = {}
        for column_id in column_ids:
            generated = self.column_by_id(column_id).generated
            found |= dict.fromkeys((column_id,) if generated is None else generated.column_ids)
        return tuple(found)

    def index(self, name: str) -> Index | None:
        """The index of this exact name."""
        return next((index for index in self.indexes if index.name == name), None)

    def names_of(self, column_ids: tuple[int, ...]) -> tuple[str, ...]:
        """Column names, in the order of the ids."""
        return tuple(self.column_by_id(column_id).name for column_id in column_ids)


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column as a statement asks for it."""

    name: str
    type: SqlType
    nullable: bool = True
    default: Default | None = None
    generated: ExpressionDefinition | None = None


@dataclass(frozen=True, slots=True)
class ExpressionDefinition:
    """SQL over one row; `columns` are the names that the text uses."""

    text: str
    type: SqlType
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UniqueDefinition:
    """UNIQUE (columns); an empty name is filled in as PostgreSQL does: table_columns_key."""

    columns: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class ForeignKeyDefinition:
    """FOREIGN KEY (columns) REFERENCES parent (its columns; none: its primary key)."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...] = ()
    on_delete: Action = "NO ACTION"
    name: str = ""


@dataclass(frozen=True, slots=True)
class CheckDefinition:
    """CHECK (text); `columns` are the names that the text uses."""

    text: str
    columns: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """CREATE TABLE, by names."""

    name: str
    columns: tuple[ColumnDefinition, ...]
    primary_key: tuple[str, ...] = ()
    primary_key_name: str = ""
    uniques: tuple[UniqueDefinition, ...] = ()
    foreign_keys: tuple[ForeignKeyDefinition, ...] = ()
    checks: tuple[CheckDefinition, ...] = ()
    kv: KvPrefix | None = None
