"""Drafts: what a statement asks for by names, checked and given ids, before anything is written.

    draft_table(catalog, TableDefinition("note", ..., uniques=(UniqueDefinition(("body",)),)))
        ->  Table(0x9c.., "note", ..., indexes=(Index(0x77.., "note_body_key", ...),))

Ids are hashes (keyspace.py). A table or column whose id is in use, because it was dropped or
renamed, becomes the next generation. Constraints and indexes without a name get PostgreSQL's, with
a number when it is taken: table_column_key, _idx, _fkey, _check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

from murmur.catalog import keyspace
from murmur.catalog.catalog import Catalog
from murmur.catalog.definitions import expression_id
from murmur.catalog.kv_definitions import check_kv_definition, refuse_kv
from murmur.catalog.schema import (
    Check,
    CheckDefinition,
    Column,
    ColumnDefinition,
    ExpressionDefinition,
    ForeignKey,
    ForeignKeyDefinition,
    Index,
    IndexColumn,
    RowExpression,
    Table,
    TableDefinition,
    TrigramIndex,
)
from murmur.catalog.settling import resolve_parent
from murmur.catalog.types import SqlType
from murmur.errors import InvalidInput
from murmur.kvcore.record import MAX_FIELDS

# Types whose equal values have equal stored forms and key bytes, read by either.
_SAME_KEYS = ({"SMALLINT", "INTEGER", "BIGINT"}, {"TEXT", "VARCHAR"}, {"REAL", "DOUBLE"})


def draft_table(catalog: Catalog, definition: TableDefinition) -> Table:
    """CREATE TABLE."""
    _check_columns(definition)
    types = {column.name: column.type for column in definition.columns}
    check_kv_definition(definition)
    key = [(name, str(types[name])) for name in definition.primary_key]
    if definition.kv is not None:
        # Of two tables of one name that show different keys, or none, each stays what it is.
        key.append((f"kv {definition.kv.values}", definition.kv.prefix.hex()))
    generations = ((each, keyspace.table_id(definition.name, each, key)) for each in count(1))
    generation, table_id = next(each for each in generations if each[1] not in catalog.records)
    taken: set[int] = set()
    columns = [
        draft_column(definition.name, table_id, column, position, taken)
        for position, column in enumerate(definition.columns)
    ]
    key_columns = {column.id for column in columns if column.name in definition.primary_key}
    columns = [
        replace(column, nullable=column.nullable and column.id not in key_columns)
        for column in columns
    ]
    by_name = {column.name: column for column in columns}
    columns = [
        column
        if each.generated is None
        else replace(column, generated=draft_generated(definition.name, each.generated, by_name))
        for column, each in zip(columns, definition.columns, strict=True)
    ]
    ids = {column.name: column.id for column in columns}
    key_name = definition.primary_key_name or f"{definition.name}_pkey"
    table = Table(
        id=table_id,
        name=definition.name,
        generation=generation,
        columns=tuple(columns),
        primary_key=tuple(ids[name] for name in definition.primary_key),
        primary_key_name=key_name if definition.primary_key else "",
        kv=definition.kv,
    )
    for unique in definition.uniques:
        listed = [(name, False) for name in unique.columns]
        index = draft_index(catalog, table, listed, unique.name, unique=True, constraint=True)
        if all(index.column_ids != other.column_ids for other in table.indexes):
            table = replace(table, indexes=(*table.indexes, index), compiled={})
    for check in definition.checks:
        table = replace(table, checks=(*table.checks, draft_check(table, check)), compiled={})
    for foreign in definition.foreign_keys:
        foreign_key = draft_foreign_key(catalog, table, foreign)
        table = replace(table, foreign_keys=(*table.foreign_keys, foreign_key), compiled={})
    return table


def draft_column(
    table_name: str, table_id: int, column: ColumnDefinition, position: int, taken: set[int]
) -> Column:
    """A column, with an id that is not taken; it is then."""
    check_name(column.name)
    default = column.default
    if column.type.name == "COUNTER" and default is not None and default.value != 0:
        raise InvalidInput(f'column "{column.name}" of table "{table_name}": a COUNTER begins at 0')
    type_text = str(column.type)
    generations = (keyspace.column_id(table_id, column.name, type_text, each) for each in count(1))
    column_id = next(each for each in generations if each not in taken)
    taken.add(column_id)
    return Column(
        id=column_id,
        name=column.name,
        type=column.type,
        nullable=column.nullable,
        default=column.default,
        position=position,
    )


def draft_generated(
    table_name: str, definition: ExpressionDefinition, columns: Mapping[str, Column]
) -> RowExpression:
    """What a generated column is computed of: the table's other columns."""
    ids = []
    for name in definition.columns:
        column = columns.get(name)
        if column is None:
            raise InvalidInput(f'column "{name}" of table "{table_name}" does not exist')
        if column.generated is not None:
            raise _computed_twice(table_name, name)
        ids.append(column.id)
    return RowExpression(definition.text, definition.type, tuple(ids), definition.columns)


def draft_index(
    catalog: Catalog,
    table: Table,
    columns: Sequence[tuple[str | ExpressionDefinition, bool]],
    name: str,
    *,
    unique: bool,
    constraint: bool,
    predicate: ExpressionDefinition | None = None,
) -> Index:
    """An index over (column or expression, descending) pairs; an empty name is filled in."""
    types = {column.name: column.type for column in table.columns}
    if not columns:
        raise InvalidInput(f'an index of table "{table.name}" has no columns')
    refuse_kv(table.kv, table.name, "UNIQUE" if constraint else "an index")
    _check_key(table.name, [each for each, _ in columns if isinstance(each, str)], types)
    names = [each if isinstance(each, str) else "expr" for each, _ in columns]
    taken = {index.name for index in table.indexes}
    taken |= {index.name for index in table.trigrams}
    if name and (name in taken or index_named(catalog, name) is not None):
        raise InvalidInput(f'index "{name}" already exists')
    ending = "key" if constraint else "idx"
    name = name or next(
        each
        for each in _numbered("_".join((table.name, *names, ending)))
        if each not in taken and index_named(catalog, each) is None
    )
    parts = []
    for each, descending in columns:
        if isinstance(each, str):
            parts.append(IndexColumn(_column(table, each).id, descending))
            continue
        expression = _indexed(table, each)
        if not expression.type.can_be_key or _is_free_decimal(expression.type):
            cast = "; cast it to a DECIMAL(p,s)" if _is_free_decimal(expression.type) else ""
            raise InvalidInput(
                f"the expression {expression.text} is {expression.type}, which cannot be a key"
                + cast
            )
        parts.append(IndexColumn(expression_id(table.id, expression), descending, expression))
    where = None if predicate is None else _indexed(table, predicate)
    identity = keyspace.index_id(
        table.id,
        name,
        [(part.column_id, part.descending) for part in parts],
        unique=unique,
        predicate=None if where is None else expression_id(table.id, where),
    )
    return Index(identity, name, table.id, tuple(parts), unique, constraint, where)


def renamed_index(index: Index, name: str) -> Index:
    """The same index under another name, and so under another id."""
    predicate = index.predicate
    identity = keyspace.index_id(
        index.table_id,
        name,
        [(part.column_id, part.descending) for part in index.columns],
        unique=index.unique,
        predicate=None if predicate is None else expression_id(index.table_id, predicate),
    )
    return replace(index, id=identity, name=name)


def _indexed(table: Table, definition: ExpressionDefinition) -> RowExpression:
    columns = [_column(table, name) for name in definition.columns]
    if not columns:
        raise InvalidInput(f"{definition.text} reads no column: it is the same for every row")
    if any(column.type.name == "COUNTER" for column in columns):
        raise InvalidInput(f"{definition.text} reads a COUNTER, which cannot be indexed")
    ids = tuple(column.id for column in columns)
    return RowExpression(definition.text, definition.type, ids, definition.columns)


def _is_free_decimal(sql_type: SqlType) -> bool:
    return sql_type.name == "DECIMAL" and sql_type.precision is None


def draft_trigram_index(
    catalog: Catalog, table: Table, column_name: str, name: str
) -> TrigramIndex:
    """A trigram index of a text column; an empty name is filled in."""
    refuse_kv(table.kv, table.name, "an index")
    column = _column(table, column_name)
    if not column.type.is_text:
        raise InvalidInput(
            f'column "{column_name}" of table "{table.name}" is {column.type}, and has no trigrams'
        )
    name = name or next(
        each
        for each in _numbered("_".join((table.name, column_name, "idx")))
        if index_named(catalog, each) is None
    )
    return TrigramIndex(keyspace.trigram_id(table.id, name, column.id), name, table.id, column.id)


def draft_foreign_key(
    catalog: Catalog, table: Table, definition: ForeignKeyDefinition
) -> ForeignKey:
    """REFERENCES: the parent must have these columns as its primary key, or unique."""
    parent = table if definition.parent == table.name else catalog.table(definition.parent)
    if parent is None:
        raise no_table(definition.parent)
    refuse_kv(table.kv, table.name, "REFERENCES")
    refuse_kv(parent.kv, parent.name, "rows that others reference")
    children = [_column(table, name) for name in definition.columns]
    if any(child.generated is not None for child in children):
        raise InvalidInput(f'a generated column of table "{table.name}" cannot be a reference')
    if definition.parent_columns:
        parents = [_column(parent, name) for name in definition.parent_columns]
    else:
        parents = [parent.column_by_id(column_id) for column_id in parent.primary_key]
    if not children or len(children) != len(parents):
        raise InvalidInput(
            f'a foreign key of table "{table.name}" has {len(children)} columns and references '
            f'{len(parents)} of table "{parent.name}"'
        )
    for child, referenced in zip(children, parents, strict=True):
        if not _same_keys(child.type, referenced.type):
            raise InvalidInput(
                f'column "{child.name}" of table "{table.name}" is {child.type}, and cannot '
                f'reference column "{referenced.name}" of table "{parent.name}", which is '
                f"{referenced.type}"
            )
        if not child.nullable and definition.on_delete == "SET NULL":
            raise InvalidInput(f'ON DELETE SET NULL: column "{child.name}" is NOT NULL')
    column_ids = tuple(column.id for column in children)
    parent_ids = tuple(column.id for column in parents)
    identity = keyspace.foreign_key_id(table.id, column_ids, parent.id, parent_ids)
    name = definition.name or "_".join((table.name, *definition.columns, "fkey"))
    foreign_key = ForeignKey(
        id=identity,
        name=_constraint_name(table, name, given=bool(definition.name)),
        table_id=table.id,
        column_ids=column_ids,
        parent_table_id=parent.id,
        parent_column_ids=parent_ids,
        on_delete=definition.on_delete,
    )
    resolved = resolve_parent(foreign_key, parent)
    if resolved is None:
        names = ", ".join(column.name for column in parents)
        raise InvalidInput(
            f'table "{parent.name}" has no primary key or unique constraint over ({names})'
        )
    return resolved


def draft_check(table: Table, definition: CheckDefinition) -> Check:
    """A CHECK, of which the text is not looked at."""
    refuse_kv(table.kv, table.name, "CHECK")
    columns = tuple(_column(table, name).id for name in definition.columns)
    middle = definition.columns if len(definition.columns) == 1 else ()
    name = definition.name or "_".join((table.name, *middle, "check"))
    name = _constraint_name(table, name, given=bool(definition.name))
    return Check(
        id=keyspace.check_id(table.id, name, definition.text),
        name=name,
        table_id=table.id,
        text=definition.text,
        column_ids=columns,
        column_names=definition.columns,
    )


def index_named(catalog: Catalog, name: str) -> Index | TrigramIndex | None:
    """The index of either kind that has this name."""
    return catalog.index(name) or catalog.trigram_index(name)


def no_table(name: str) -> InvalidInput:
    """The error for a table that is not there."""
    return InvalidInput(f'table "{name}" does not exist')


def check_width(table: str, columns: int) -> None:
    """Refuse more columns than a record can hold fields."""
    if columns > MAX_FIELDS:
        raise InvalidInput(f'table "{table}" has at most {MAX_FIELDS:,} columns, not {columns:,}')


def check_name(name: str) -> None:
    """Refuse what cannot be a name."""
    if not name or "\0" in name:
        raise InvalidInput(f"{name!r} cannot be a name")


def _check_columns(definition: TableDefinition) -> None:
    check_name(definition.name)
    if not definition.columns:
        raise InvalidInput(f'table "{definition.name}" has no columns')
    check_width(definition.name, len(definition.columns))
    seen: set[str] = set()
    for column in definition.columns:
        if column.name in seen:
            raise InvalidInput(
                f'column "{column.name}" of table "{definition.name}" is defined twice'
            )
        seen.add(column.name)
    types = {column.name: column.type for column in definition.columns}
    _check_key(definition.name, definition.primary_key, types)
    generated = {each.name: each.generated for each in definition.columns if each.generated}
    for name, expression in generated.items():
        if name in definition.primary_key:
            raise InvalidInput(f'column "{name}" is generated, and cannot be a primary key')
        for read in expression.columns:
            if read in generated:
                raise _computed_twice(definition.name, read)


def _computed_twice(table: str, column: str) -> InvalidInput:
    return InvalidInput(
        f'column "{column}" of table "{table}" is generated: '
        "another generated column cannot be computed of it"
    )


def _check_key(table: str, names: Sequence[str], types: Mapping[str, SqlType]) -> None:
    for name in names:
        if name not in types:
            raise InvalidInput(f'column "{name}" of table "{table}" does not exist')
        if not types[name].can_be_key:
            raise InvalidInput(
                f'column "{name}" of table "{table}" is {types[name]}, which cannot be a key'
            )
    if len(set(names)) < len(names):
        raise InvalidInput(f'a key of table "{table}" names one column twice')


def _constraint_name(table: Table, name: str, *, given: bool) -> str:
    taken = {check.name for check in table.checks}
    taken |= {foreign_key.name for foreign_key in table.foreign_keys}
    if given and name in taken:
        raise InvalidInput(f'constraint "{name}" of table "{table.name}" already exists')
    return next(each for each in _numbered(name) if each not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in count(1):
        yield f"{name}{number}"


def _column(table: Table, name: str) -> Column:
    column = table.column(name)
    if column is None:
        raise InvalidInput(f'column "{name}" of table "{table.name}" does not exist')
    return column


def _same_keys(child: SqlType, parent: SqlType) -> bool:
    """Whether equal values of both have equal stored forms and key bytes."""
    return child == parent or any(
        child.name in family and parent.name in family for family in _SAME_KEYS
    )
