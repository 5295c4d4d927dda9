"""Tables as their records say: read from the pairs of a table's definition range.

    (02 01 9c..|00, cell) (02 01 9c..|01|1f.., cell) ...  ->  TableRecord

Which of it is seen, once names are settled between all tables, is told by settling.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

from murmur.catalog import keyspace
from murmur.catalog.definitions import (
    CHECK_COLUMNS,
    CHECK_NAMES,
    CHECK_TEXT,
    CHILD_COLUMNS,
    COLUMN_GENERATED,
    COLUMN_KEEPS_MISSING,
    COLUMN_MISSING,
    COLUMN_NULLABLE,
    COLUMN_POSITION,
    COLUMN_TYPE,
    DEFAULT_KIND,
    DEFAULT_TEXT,
    DEFAULT_VALUE,
    INDEX_COLUMN_FORM,
    INDEX_COLUMNS,
    INDEX_CONSTRAINT,
    INDEX_EXPRESSION,
    INDEX_PREDICATE,
    INDEX_UNIQUE,
    ON_DELETE,
    PARENT_COLUMNS,
    PARENT_TABLE,
    TABLE_GENERATION,
    TABLE_KEY,
    TABLE_KEY_NAME,
    TABLE_KV_PREFIX,
    TABLE_KV_VALUES,
    TRIGRAM_COLUMN,
    Fields,
    comment_of,
    expression_id,
    name_of,
    typed,
    unpack_expression,
    unpack_ids,
)
from murmur.catalog.kv_keys import BYTES_KEYS, TEXT_KEYS
from murmur.catalog.schema import (
    Action,
    Check,
    Default,
    ForeignKey,
    Index,
    IndexColumn,
    Kept,
    KvPrefix,
    RowExpression,
    TrigramIndex,
)
from murmur.catalog.standings import Disputed, Drop, Rank, Standing, disputes_of, standing
from murmur.catalog.types import SqlType, parse_type
from murmur.catalog.values import is_atom
from murmur.errors import InvalidInput

_ACTIONS: tuple[str, ...] = get_args(Action)
_KIND_NAMES = ("table", "column", "index", "foreign key", "check", "view", "trigram index")


@dataclass(frozen=True, slots=True)
class ColumnRecord:
    """A column that is not dropped, whether or not its name is contested."""

    id: int
    name: str
    type: SqlType
    nullable: bool
    default: Default | None
    position: int
    rank: Rank
    generated: RowExpression | None = None
    kept: Kept | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """An index, whether or not its columns are visible."""

    index: Index
    rank: Rank


@dataclass(frozen=True, slots=True)
class TrigramRecord:
    """A trigram index, whether or not its column is visible."""

    index: TrigramIndex
    rank: Rank


@dataclass(frozen=True, slots=True)
class TableRecord:
    """Everything that the records say about one table id, before names are settled."""

    id: int
    name: str
    generation: int
    primary_key: tuple[int, ...]
    primary_key_name: str
    rank: Rank
    dropped: Drop | None
    columns: tuple[ColumnRecord, ...] = ()
    dropped_columns: tuple[tuple[ColumnRecord, Drop], ...] = ()
    indexes: tuple[IndexRecord, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[Check, ...] = ()
    disputed: tuple[Disputed, ...] = ()
    unreadable: tuple[bytes, ...] = ()  # keys of records that are not as this release writes them
    kv: KvPrefix | None = None
    trigrams: tuple[TrigramRecord, ...] = ()
    comment: str | None = None


def read_table(table_id: int, records: Iterable[tuple[bytes, bytes]]) -> TableRecord | None:
    """A table from the pairs of its definition range; None when its own record is missing.

    A record that does not read as one is left out and remembered in `unreadable`: it came from a
    peer that writes another format, and the rest of the database goes on.
    """
    table: TableRecord | None = None
    columns: list[ColumnRecord] = []
    dropped_columns: list[tuple[ColumnRecord, Drop]] = []
    indexes: list[IndexRecord] = []
    foreign_keys: list[ForeignKey] = []
    checks: list[Check] = []
    trigrams: list[TrigramRecord] = []
    disputed: list[Disputed] = []
    unreadable: list[bytes] = []
    for key, cell in records:
        place = keyspace.parse_catalog_key(key)
        try:
            if place is None:
                raise InvalidInput("a key of another format")
            _, kind, item = place
            stands = standing(cell)
            fields = dict(stands.life.fields)
            if kind == keyspace.TABLE:
                table = _table(table_id, fields, stands)
            elif kind == keyspace.COLUMN:
                column = _column(item, fields, stands.rank)
                if stands.dropped is None:
                    columns.append(column)
                else:
                    dropped_columns.append((column, stands.dropped))
            elif kind == keyspace.INDEX:
                indexes.append(IndexRecord(_index(table_id, item, fields), stands.rank))
            elif kind == keyspace.FOREIGN_KEY:
                foreign_keys.append(_foreign_key(table_id, item, fields))
            elif kind == keyspace.CHECK:
                checks.append(_check(table_id, item, fields))
            elif kind == keyspace.TRIGRAM:
                trigrams.append(TrigramRecord(_trigram(table_id, item, fields), stands.rank))
            else:
                raise InvalidInput("a view under the id of a table")
            disputed += disputes_of(_KIND_NAMES[kind], stands)
        except (InvalidInput, ValueError, struct.error):
            unreadable.append(key)
    if table is None:
        return None
    return replace(
        table,
        columns=tuple(columns),
        dropped_columns=tuple(dropped_columns),
        indexes=tuple(indexes),
        foreign_keys=tuple(sorted(foreign_keys, key=lambda each: (each.name, each.id))),
        checks=tuple(sorted(checks, key=lambda each: (each.name, each.id))),
        disputed=tuple(disputed),
        unreadable=tuple(unreadable),
        trigrams=tuple(trigrams),
    )


def _table(table_id: int, fields: Fields, stands: Standing) -> TableRecord:
    return TableRecord(
        id=table_id,
        name=name_of(fields),
        generation=typed(fields, TABLE_GENERATION, int),
        primary_key=unpack_ids(fields, TABLE_KEY),
        primary_key_name=typed(fields, TABLE_KEY_NAME, str),
        rank=stands.rank,
        dropped=stands.dropped,
        kv=_kv_prefix(fields),
        comment=comment_of(fields),
    )


def _kv_prefix(fields: Fields) -> KvPrefix | None:
    if TABLE_KV_PREFIX not in fields:
        return None
    prefix = typed(fields, TABLE_KV_PREFIX, bytes)
    values = typed(fields, TABLE_KV_VALUES, str)
    if not prefix.startswith((TEXT_KEYS, BYTES_KEYS)) or values not in ("whole", "json"):
        raise InvalidInput("a table over KV keys of another format")
    return KvPrefix(prefix, values)  # type: ignore[arg-type]


def _column(column_id: int, fields: Fields, rank: Rank) -> ColumnRecord:
    sql_type = parse_type(typed(fields, COLUMN_TYPE, str))
    default = None
    match fields.get(DEFAULT_KIND):
        case None:
            pass
        case "constant":
            text = typed(fields, DEFAULT_TEXT, str)
            value = fields.get(DEFAULT_VALUE)
            if value is not None and not is_atom(value, sql_type):
                raise InvalidInput(f"a default that is not {sql_type}")
            default = Default("constant", value, text)
        case "function":
            default = Default("function", None, typed(fields, DEFAULT_TEXT, str))
        case other:
            raise InvalidInput(f"default of kind {other!r}")
    return ColumnRecord(
        id=column_id,
        name=name_of(fields),
        type=sql_type,
        nullable=typed(fields, COLUMN_NULLABLE, bool),
        default=default,
        position=typed(fields, COLUMN_POSITION, int),
        rank=rank,
        generated=unpack_expression(fields, COLUMN_GENERATED)
        if fields.get(COLUMN_GENERATED) is not None
        else None,
        kept=_kept(fields, sql_type),
        comment=comment_of(fields),
    )


def _kept(fields: Fields, sql_type: SqlType) -> Kept | None:
    if fields.get(COLUMN_KEEPS_MISSING) is not True:
        return None
    value = fields.get(COLUMN_MISSING)
    if value is not None and not is_atom(value, sql_type):
        raise InvalidInput(f"a value of rows that lack it that is not {sql_type}")
    return Kept(value)


def _index(table_id: int, index_id: int, fields: Fields) -> Index:
    packed = typed(fields, INDEX_COLUMNS, bytes)
    expressions: dict[int, RowExpression] = {}
    while fields.get(INDEX_EXPRESSION + len(expressions)) is not None:
        expression = unpack_expression(fields, INDEX_EXPRESSION + len(expressions))
        expressions[expression_id(table_id, expression)] = expression
    columns = tuple(
        IndexColumn(column_id, descending, expressions.get(column_id))
        for column_id, descending in INDEX_COLUMN_FORM.iter_unpack(packed)
    )
    where = None
    if fields.get(INDEX_PREDICATE) is not None:
        where = unpack_expression(fields, INDEX_PREDICATE)
    name, unique = name_of(fields), typed(fields, INDEX_UNIQUE, bool)
    pairs = [(column.column_id, column.descending) for column in columns]
    predicate = None if where is None else expression_id(table_id, where)
    known = keyspace.index_id(table_id, name, pairs, unique=unique, predicate=predicate)
    if not columns or known != index_id:
        raise InvalidInput("not the index that its id names")  # two must not share their entries
    return Index(
        id=index_id,
        name=name,
        table_id=table_id,
        columns=columns,
        unique=unique,
        constraint=typed(fields, INDEX_CONSTRAINT, bool),
        predicate=where,
        comment=comment_of(fields),
    )


def _foreign_key(table_id: int, foreign_key_id: int, fields: Fields) -> ForeignKey:
    columns, parent_columns = unpack_ids(fields, CHILD_COLUMNS), unpack_ids(fields, PARENT_COLUMNS)
    on_delete = typed(fields, ON_DELETE, str)
    packed = typed(fields, PARENT_TABLE, bytes)
    parent = int.from_bytes(packed)
    if len(packed) != 8:
        raise InvalidInput("not the id of a table")
    if not columns or len(columns) != len(parent_columns) or on_delete not in _ACTIONS:
        raise InvalidInput("a foreign key of another format")
    if keyspace.foreign_key_id(table_id, columns, parent, parent_columns) != foreign_key_id:
        raise InvalidInput("not the foreign key that its id names")
    return ForeignKey(
        id=foreign_key_id,
        name=name_of(fields),
        table_id=table_id,
        column_ids=columns,
        parent_table_id=parent,
        parent_column_ids=parent_columns,
        on_delete=on_delete,  # type: ignore[arg-type]
    )


def _trigram(table_id: int, trigram_id: int, fields: Fields) -> TrigramIndex:
    columns, name = unpack_ids(fields, TRIGRAM_COLUMN), name_of(fields)
    if len(columns) != 1 or keyspace.trigram_id(table_id, name, columns[0]) != trigram_id:
        raise InvalidInput("not the trigram index that its id names")
    return TrigramIndex(trigram_id, name, table_id, columns[0])


def _check(table_id: int, check_id: int, fields: Fields) -> Check:
    columns = unpack_ids(fields, CHECK_COLUMNS)
    names = tuple(typed(fields, CHECK_NAMES, str).split("\0")[:-1])
    if len(names) != len(columns):
        raise InvalidInput("a CHECK of another format")
    return Check(
        id=check_id,
        name=name_of(fields),
        table_id=table_id,
        text=typed(fields, CHECK_TEXT, str),
        column_ids=columns,
        column_names=names,
    )
