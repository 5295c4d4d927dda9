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

What the lives of one record amount to is its standing (standings.py); table_records.py reads them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

from murmur.catalog import keyspace
from murmur.catalog.schema import (
    Check,
    Column,
    ForeignKey,
    Index,
    RowExpression,
    Table,
    TrigramIndex,
)
from murmur.catalog.types import parse_type
from murmur.errors import InvalidInput
from murmur.kvcore import Atom

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

_VECTOR = struct.Struct(">8sQ")
INDEX_COLUMN_FORM = struct.Struct(">I?")

T = TypeVar("T")
Fields: TypeAlias = dict[int, Atom]


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
            INDEX_COLUMN_FORM.pack(column.column_id, column.descending) for column in index.columns
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


def comment_of(fields: Mapping[int, Atom]) -> str | None:
    """The comment in a definition's fields."""
    comment = fields.get(COMMENT)
    return comment if isinstance(comment, str) else None


def name_of(fields: Mapping[int, Atom]) -> str:
    """The name in a definition's fields."""
    name = typed(fields, NAME, str)
    if not name:
        raise InvalidInput("a definition without a name")
    return name


def unpack_ids(fields: Mapping[int, Atom], field: int) -> tuple[int, ...]:
    """The column ids in a field."""
    packed = typed(fields, field, bytes)
    return tuple(each for (each,) in struct.iter_unpack(">I", packed))


def typed(fields: Mapping[int, Atom], field: int, kind: type[T]) -> T:
    """A field that is of this type; InvalidInput if it is not."""
    value = fields.get(field)
    if type(value) is not kind:
        raise InvalidInput(f"field {field} of a definition is not {kind.__name__}")
    return value
