"""The records that define tables: one per table, column, index, foreign key and CHECK.

Each is an ordinary replicated record (keyspace.py says under which key), so concurrent DDL merges
as rows do: field by field inside a life, and lives side by side when two replicas made the same
thing apart. Field numbers:

    all          1 name  2 dropped  30 comment
    table        3 generation  4 primary key: column id u32*  5 its name
                 20 prefix of KV keys  21 how values hold columns: "whole" or "json"
    column       3 type as text  4 nullable  5 position
                 6 default's kind  7 default's value  8 default's text  9 generated as: expression
                 10 rows without it read 11, and not the default  11 a value
    index        3 unique  4 constraint  5 columns: (column id u32 | descending u8)*
                 6 predicate: expression  16, 17, ... expressions that stand in its columns
    foreign key  3 columns: u32*  4 parent table: u64  5 parent columns: u32*  6 on delete
    check        3 text  4 columns: u32*  5 their names in the text, each followed by 00
    trigram      3 column: u32
    view         3 text  4 names of its columns, each followed by 00

    note (id UUID PRIMARY KEY)  ->  02 01 9c..|00       {1: "note", 3: 1, 4: 1f.., 5: "note_pkey"}
                                    02 01 9c..|01|1f..  {1: "id", 3: "UUID", 4: False, 5: 0}

An expression is text: the SQL, its type, and name and id in hexadecimal of each column that it
reads, each part followed by 00.

A table or column is dropped by an edit, not removed, because rows that mention it stay: `dropped`
holds the version vector that the dropper had seen, (replica 8s | seq u64)*. A life made by a CREATE
that the dropper had not seen is not dropped with it. Indexes, foreign keys and CHECKs are removed.

A *standing* is what a record's lives amount to: the undropped life with the highest (stamp,
replica) shows its fields; the record ranks by the earliest undropped life that shows the same name,
because who named a thing first keeps the name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar, get_args

from murmur.catalog import keyspace
from murmur.catalog.kv_keys import BYTES_KEYS, TEXT_KEYS
from murmur.catalog.schema import (
    Action,
    Check,
    Column,
    Default,
    ForeignKey,
    Index,
    IndexColumn,
    Kept,
    KvPrefix,
    RowExpression,
    Table,
    TrigramIndex,
)
from murmur.catalog.types import SqlType, parse_type
from murmur.catalog.values import is_atom
from murmur.errors import InvalidInput
from murmur.kvcore import Atom, Life, decode_record

# On disk: never renumber, never reuse.
NAME, DROPPED, COMMENT = 1, 2, 30
TABLE_GENERATION, TABLE_KEY, TABLE_KEY_NAME = 3, 4, 5
TABLE_KV_PREFIX, TABLE_KV_VALUES = 20, 21
COLUMN_TYPE, COLUMN_NULLABLE, COLUMN_POSITION = 3, 4, 5
DEFAULT_KIND, DEFAULT_VALUE, DEFAULT_TEXT = 6, 7, 8
COLUMN_GENERATED, COLUMN_KEEPS_MISSING, COLUMN_MISSING = 9, 10, 11
INDEX_UNIQUE, INDEX_CONSTRAINT, INDEX_COLUMNS, INDEX_PREDICATE = 3, 4, 5, 6
INDEX_EXPRESSION = 16  # the first; the others follow
CHILD_COLUMNS, PARENT_TABLE, PARENT_COLUMNS, ON_DELETE = 3, 4, 5, 6
CHECK_TEXT, CHECK_COLUMNS, CHECK_NAMES = 3, 4, 5
TRIGRAM_COLUMN = 3
VIEW_TEXT, VIEW_COLUMNS = 3, 4

_ACTIONS: tuple[str, ...] = get_args(Action)
_VECTOR = struct.Struct(">8sQ")
_INDEX_COLUMN = struct.Struct(">I?")

T = TypeVar("T")
Fields: TypeAlias = dict[int, Atom]
Rank: TypeAlias = tuple[int, bytes]  # (stamp, replica): who wrote something, and when


class Drop(NamedTuple):
    """When something was dropped, and what those who dropped it had seen."""

    seen: Mapping[bytes, int]
    at: frozenset[Rank]

    def missed(self, life: Life) -> bool:
        """Whether nobody who dropped it had seen this life of a row."""
        return (
            self.seen.get(life.replica, 0) < life.seq
            and (life.stamp, life.replica) not in self.at  # the same transaction
        )

    def missed_edit(self, rank: Rank) -> bool:
        """Whether an edit came later: its author, who did not know, may be anybody."""
        return rank > max(self.at)


class Standing(NamedTuple):
    """What the lives of one definition amount to."""

    life: Life  # whose fields are shown
    rank: Rank  # when and by whom the shown name was first given
    losers: tuple[Life, ...]  # undropped lives that say something else
    dropped: Drop | None  # None: it is live


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
class Disputed:
    """A definition of which another version lost: `said` of the loser, and who said it."""

    what: str
    shown: str
    said: str
    winner: Rank
    loser: Rank


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


def table_fields(table: Table) -> Fields:
    """The record of a table."""
    fields: Fields = {
        NAME: table.name,
        TABLE_GENERATION: table.generation,
        TABLE_KEY: pack_ids(table.primary_key),
        TABLE_KEY_NAME: table.primary_key_name,
    }
    if table.kv is not None:
        fields[TABLE_KV_PREFIX] = table.kv.prefix
        fields[TABLE_KV_VALUES] = table.kv.values
    return fields


def column_fields(column: Column) -> Fields:
    """The record of a column."""
    fields: Fields = {
        NAME: column.name,
        COLUMN_TYPE: str(column.type),
        COLUMN_NULLABLE: column.nullable,
        COLUMN_POSITION: column.position,
    }
    if column.default is not None:
        fields[DEFAULT_KIND] = column.default.kind
        fields[DEFAULT_VALUE] = column.default.value
        fields[DEFAULT_TEXT] = column.default.text
    if column.generated is not None:
        fields[COLUMN_GENERATED] = pack_expression(column.generated)
    if column.kept is not None:
        fields[COLUMN_KEEPS_MISSING], fields[COLUMN_MISSING] = True, column.kept.value
    if column.comment is not None:
        fields[COMMENT] = column.comment
    return fields


def index_fields(index: Index) -> Fields:
    """The record of an index."""
    fields: Fields = {
        NAME: index.name,
        INDEX_UNIQUE: index.unique,
        INDEX_CONSTRAINT: index.constraint,
        INDEX_COLUMNS: b"".join(
            _INDEX_COLUMN.pack(column.column_id, column.descending) for column in index.columns
        ),
    }
    if index.predicate is not None:
        fields[INDEX_PREDICATE] = pack_expression(index.predicate)
    for at, each in enumerate(part.expression for part in index.columns if part.expression):
        fields[INDEX_EXPRESSION + at] = pack_expression(each)
    if index.comment is not None:
        fields[COMMENT] = index.comment
    return fields


def trigram_fields(index: TrigramIndex) -> Fields:
    """The record of a trigram index."""
    return {NAME: index.name, TRIGRAM_COLUMN: pack_ids((index.column_id,))}


def foreign_key_fields(foreign_key: ForeignKey) -> Fields:
    """The record of a foreign key."""
    return {
        NAME: foreign_key.name,
        CHILD_COLUMNS: pack_ids(foreign_key.column_ids),
        PARENT_TABLE: foreign_key.parent_table_id.to_bytes(8),
        PARENT_COLUMNS: pack_ids(foreign_key.parent_column_ids),
        ON_DELETE: foreign_key.on_delete,
    }


def check_fields(check: Check) -> Fields:
    """The record of a CHECK."""
    return {
        NAME: check.name,
        CHECK_TEXT: check.text,
        CHECK_COLUMNS: pack_ids(check.column_ids),
        CHECK_NAMES: "".join(name + "\0" for name in check.column_names),
    }


def pack_expression(expression: RowExpression) -> str:
    """An expression as a field."""
    columns = zip(expression.column_names, expression.column_ids, strict=True)
    named = (part for name, column_id in columns for part in (name, f"{column_id:08x}"))
    return "".join(part + "\0" for part in (expression.text, str(expression.type), *named))


def unpack_expression(fields: Mapping[int, Atom], field: int) -> RowExpression:
    """What pack_expression packed; InvalidInput if it is not that."""
    parts = typed(fields, field, str).split("\0")
    if len(parts) < 3 or len(parts) % 2 == 0 or parts[-1]:
        raise InvalidInput(f"field {field} of a definition is not an expression")
    ids = tuple(int(part, 16) for part in parts[3:-1:2])
    return RowExpression(parts[0], parse_type(parts[1]), ids, tuple(parts[2:-1:2]))


def expression_id(table_id: int, expression: RowExpression) -> int:
    """The id under which an index of the table has the expression."""
    return keyspace.expression_id(
        table_id, expression.text, str(expression.type), expression.column_ids
    )


def pack_vector(vector: Mapping[bytes, int]) -> bytes:
    """A version vector as a field."""
    return b"".join(_VECTOR.pack(replica, seq) for replica, seq in sorted(vector.items()))


def unpack_vector(data: bytes) -> dict[bytes, int]:
    """What pack_vector packed."""
    return dict(_VECTOR.iter_unpack(data))


def pack_ids(column_ids: Iterable[int]) -> bytes:
    """Column ids as a field."""
    return b"".join(column_id.to_bytes(4) for column_id in column_ids)


def standing(cell: bytes) -> Standing:
    """What the lives in a definition's cell amount to."""
    lives = decode_record(cell)
    live = [life for life in lives if life.fields.get(DROPPED) is None]
    if not live:
        return Standing(lives[0], _named_at(lives[0]), (), _drop(lives))
    shown = live[0]
    name = shown.fields.get(NAME)
    rank = min(_named_at(life) for life in live if life.fields.get(NAME) == name)
    losers = tuple(life for life in live[1:] if life.fields != shown.fields)
    return Standing(shown, rank, losers, None)


def read_table(table_id: int, records: Iterable[tuple[bytes, bytes]]) -> TableRecord | None:
    """A table from the pairs of its definition range; None when its own record is missing.

    A record that does not read as one is left out and remembered in `unreadable`: it came from a
    peer that writes another format, and the rest of the database goes on.
    """
    head: tuple[Fields, Standing] | None = None
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
                _table(table_id, fields, stands)  # read now, so that a bad one is found here
                head = fields, stands
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
    if head is None:
        return None
    return _table(
        table_id,
        *head,
        columns=tuple(columns),
        dropped_columns=tuple(dropped_columns),
        indexes=tuple(indexes),
        foreign_keys=tuple(sorted(foreign_keys, key=lambda each: (each.name, each.id))),
        checks=tuple(sorted(checks, key=lambda each: (each.name, each.id))),
        disputed=tuple(disputed),
        unreadable=tuple(unreadable),
        trigrams=tuple(trigrams),
    )


def _table(
    table_id: int,
    fields: Fields,
    stands: Standing,
    *,
    columns: tuple[ColumnRecord, ...] = (),
    dropped_columns: tuple[tuple[ColumnRecord, Drop], ...] = (),
    indexes: tuple[IndexRecord, ...] = (),
    foreign_keys: tuple[ForeignKey, ...] = (),
    checks: tuple[Check, ...] = (),
    disputed: tuple[Disputed, ...] = (),
    unreadable: tuple[bytes, ...] = (),
    trigrams: tuple[TrigramRecord, ...] = (),
) -> TableRecord:
    return TableRecord(
        id=table_id,
        name=name_of(fields),
        generation=typed(fields, TABLE_GENERATION, int),
        primary_key=_ids(fields, TABLE_KEY),
        primary_key_name=typed(fields, TABLE_KEY_NAME, str),
        rank=stands.rank,
        dropped=stands.dropped,
        columns=columns,
        dropped_columns=dropped_columns,
        indexes=indexes,
        foreign_keys=foreign_keys,
        checks=checks,
        disputed=disputed,
        unreadable=unreadable,
        kv=_kv_prefix(fields),
        trigrams=trigrams,
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


def comment_of(fields: Mapping[int, Atom]) -> str | None:
    """The comment in a definition's fields."""
    comment = fields.get(COMMENT)
    return comment if isinstance(comment, str) else None


def _index(table_id: int, index_id: int, fields: Fields) -> Index:
    packed = typed(fields, INDEX_COLUMNS, bytes)
    expressions: dict[int, RowExpression] = {}
    while fields.get(INDEX_EXPRESSION + len(expressions)) is not None:
        expression = unpack_expression(fields, INDEX_EXPRESSION + len(expressions))
        expressions[expression_id(table_id, expression)] = expression
    columns = tuple(
        IndexColumn(column_id, descending, expressions.get(column_id))
        for column_id, descending in _INDEX_COLUMN.iter_unpack(packed)
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
    columns, parent_columns = _ids(fields, CHILD_COLUMNS), _ids(fields, PARENT_COLUMNS)
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
    columns, name = _ids(fields, TRIGRAM_COLUMN), name_of(fields)
    if len(columns) != 1 or keyspace.trigram_id(table_id, name, columns[0]) != trigram_id:
        raise InvalidInput("not the trigram index that its id names")
    return TrigramIndex(trigram_id, name, table_id, columns[0])


def _check(table_id: int, check_id: int, fields: Fields) -> Check:
    columns = _ids(fields, CHECK_COLUMNS)
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


def _drop(lives: Sequence[Life]) -> Drop:
    seen: dict[bytes, int] = {}
    for life in lives:
        for replica, seq in unpack_vector(typed(life.fields, DROPPED, bytes)).items():
            seen[replica] = max(seq, seen.get(replica, 0))
    at = (life.edited.get(DROPPED, (life.stamp, life.replica)) for life in lives)
    return Drop(seen, frozenset(at))


def disputes_of(what: str, stands: Standing) -> Iterable[Disputed]:
    """What other lives say that are not shown."""
    shown = stands.life
    for loser in stands.losers:
        differing = [
            field
            for field in sorted({*shown.fields, *loser.fields})
            if shown.fields.get(field) != loser.fields.get(field)
        ]
        yield Disputed(
            what=f"{what} {shown.fields.get(NAME)!s}",
            shown=_said(what, shown.fields, differing),
            said=_said(what, loser.fields, differing),
            winner=(shown.stamp, shown.replica),
            loser=(loser.stamp, loser.replica),
        )


def _said(what: str, fields: Mapping[int, Atom], differing: Iterable[int]) -> str:
    names = {COMMENT: "comment", **_FIELD_NAMES[what]}
    return ", ".join(
        f"{names.get(field, f'field {field}')} = {fields.get(field)!r}" for field in differing
    )


def _named_at(life: Life) -> Rank:
    return life.edited.get(NAME, (life.stamp, life.replica))


def name_of(fields: Mapping[int, Atom]) -> str:
    """The name in a definition's fields."""
    name = typed(fields, NAME, str)
    if not name:
        raise InvalidInput("a definition without a name")
    return name


def _ids(fields: Mapping[int, Atom], field: int) -> tuple[int, ...]:
    packed = typed(fields, field, bytes)
    return tuple(each for (each,) in struct.iter_unpack(">I", packed))


def typed(fields: Mapping[int, Atom], field: int, kind: type[T]) -> T:
    """A field that is of this type; InvalidInput if it is not."""
    value = fields.get(field)
    if type(value) is not kind:
        raise InvalidInput(f"field {field} of a definition is not {kind.__name__}")
    return value


_KIND_NAMES = ("table", "column", "index", "foreign key", "check", "view", "trigram index")
_FIELD_NAMES: Mapping[str, Mapping[int, str]] = {
    "table": {
        NAME: "name",
        TABLE_KEY_NAME: "primary key's name",
        TABLE_KV_PREFIX: "prefix of keys",
        TABLE_KV_VALUES: "form of values",
    },
    "column": {
        NAME: "name",
        COLUMN_TYPE: "type",
        COLUMN_NULLABLE: "nullable",
        COLUMN_POSITION: "position",
        DEFAULT_KIND: "default's kind",
        DEFAULT_VALUE: "default's value",
        DEFAULT_TEXT: "default",
        COLUMN_GENERATED: "generated as",
        COLUMN_KEEPS_MISSING: "rows without it keep a value",
        COLUMN_MISSING: "value of rows without it",
    },
    "index": {NAME: "name", INDEX_CONSTRAINT: "constraint"},
    "foreign key": {NAME: "name", ON_DELETE: "on delete"},
    "check": {NAME: "name"},
    "trigram index": {NAME: "name"},
    "view": {NAME: "name", VIEW_TEXT: "text", VIEW_COLUMNS: "columns"},
}
