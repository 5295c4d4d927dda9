"""DDL that edits a definition in place: a column's default, NULLs and type, names, comments.

    set_default(tx, "note", "stars", Default("constant", 3, "3"))
    comment_on_column(tx, "note", "stars", "one to five")

Rows stay as they are. What rows from before ADD COLUMN read is remembered when the default changes,
and a type gives way only to one that reads the same stored values. Concurrent edits of one
definition merge field by field, the later wins.
"""

from __future__ import annotations

from murmur.catalog import keyspace
from murmur.catalog.catalog import Catalog
from murmur.catalog.ddl import catalog_seen, check_free, table_named, whole
from murmur.catalog.definitions import (
    COLUMN_KEEPS_MISSING,
    COLUMN_MISSING,
    COLUMN_NULLABLE,
    COLUMN_TYPE,
    COMMENT,
    DEFAULT_KIND,
    DEFAULT_TEXT,
    DEFAULT_VALUE,
    Fields,
    index_fields,
)
from murmur.catalog.drafts import check_name, index_named, renamed_index
from murmur.catalog.kv_definitions import refuse_kv
from murmur.catalog.layout import layout_of
from murmur.catalog.schema import Column, Default, Table
from murmur.catalog.types import SqlType
from murmur.catalog.views import SqlView, view_fields
from murmur.errors import ConstraintViolation, InvalidInput, Unsupported
from murmur.kvcore import Transaction, visible_fields


def set_default(tx: Transaction, table_name: str, name: str, default: Default | None) -> None:
    """ALTER COLUMN ... SET DEFAULT, or DROP DEFAULT: for rows that are inserted from now on."""
    table, column = _column(tx, table_name, name)
    if column.generated is not None:
        raise InvalidInput(f'column "{name}" of table "{table_name}" is generated')
    if column.type.name == "COUNTER" and default is not None and default.value != 0:
        raise InvalidInput(f'column "{name}" of table "{table_name}": a COUNTER begins at 0')
    fields: Fields = {
        DEFAULT_KIND: None if default is None else default.kind,
        DEFAULT_VALUE: None if default is None else default.value,
        DEFAULT_TEXT: None if default is None else default.text,
        COLUMN_KEEPS_MISSING: True,
        COLUMN_MISSING: column.missing,
    }
    _edit_column(tx, table, column, fields)


def set_not_null(tx: Transaction, table_name: str, name: str) -> None:
    """ALTER COLUMN ... SET NOT NULL; no row may hold NULL there."""
    table, column = _column(tx, table_name, name)
    if column.generated is not None:
        raise Unsupported(f'column "{name}" is generated: ADD CHECK ({name} IS NOT NULL)')
    refuse_kv(table.kv, table.name, "NOT NULL")
    layout = layout_of(table)
    rows = keyspace.prefix_range(keyspace.row_prefix(table.id))
    tx.guard_range(*rows)
    for _, cell in tx.scan(*rows):
        if column.atom(layout.readable(visible_fields(cell))) is None:
            raise ConstraintViolation(f'column "{name}" of table "{table_name}" holds NULL')
    _edit_column(tx, table, column, {COLUMN_NULLABLE: False})


def drop_not_null(tx: Transaction, table_name: str, name: str) -> None:
    """ALTER COLUMN ... DROP NOT NULL."""
    table, column = _column(tx, table_name, name)
    if column.id in table.primary_key:
        raise InvalidInput(f'column "{name}" is in the primary key of table "{table_name}"')
    _edit_column(tx, table, column, {COLUMN_NULLABLE: True})


def set_type(tx: Transaction, table_name: str, name: str, sql_type: SqlType) -> None:
    """ALTER COLUMN ... TYPE, where the stored values of the old type are values of the new one."""
    table, column = _column(tx, table_name, name)
    if column.type == sql_type:
        return
    is_key = column.id in table.primary_key
    refuse_kv(table.kv, table.name, "other types than it was made with")
    if not _reads_as(column.type, sql_type) or (is_key and not column.type.is_text):
        raise Unsupported(
            f'column "{name}" of table "{table_name}" cannot become {sql_type} where it is '
            f"{column.type}: that would rewrite its rows. Add a column of the new type, UPDATE it, "
            "drop the old one, and give the new one its name"
        )
    for each in table.columns:
        if each.generated is not None and column.id in each.generated.column_ids:
            raise InvalidInput(f'generated column "{each.name}" depends on column "{name}"')
    for index in table.indexes:
        if any(column.id in expression.column_ids for expression in index.expressions):
            raise InvalidInput(f'index "{index.name}" depends on column "{name}": drop it first')
    _edit_column(tx, table, column, {COLUMN_TYPE: str(sql_type)})


def rename_index(tx: Transaction, name: str, new_name: str) -> None:
    """ALTER INDEX ... RENAME TO: the index is made again, because its id is of its name."""
    catalog = catalog_seen(tx)
    index = catalog.index(name)
    if index is None:
        raise _no_index(catalog, name)
    if index_named(catalog, new_name) is not None:
        raise InvalidInput(f'index "{new_name}" already exists')
    check_name(new_name)
    with whole(tx):
        tx.remove(keyspace.item_key(index.table_id, keyspace.INDEX, index.id))
        renamed = renamed_index(index, new_name)
        key = keyspace.item_key(index.table_id, keyspace.INDEX, renamed.id)
        tx.insert(key, index_fields(renamed), replace=True)


def rename_view(tx: Transaction, name: str, new_name: str) -> None:
    """ALTER VIEW ... RENAME TO."""
    catalog = catalog_seen(tx)
    view = _view(tx, name)
    check_free(catalog, new_name)
    check_name(new_name)
    renamed = SqlView(keyspace.view_id(new_name), new_name, view.text, view.columns, view.comment)
    with whole(tx):
        tx.remove(keyspace.view_key(view.id))
        tx.insert(keyspace.view_key(renamed.id), view_fields(renamed), replace=True)


# Comments ------------------------------------------------------------------


def comment_on_table(tx: Transaction, name: str, text: str | None) -> None:
    """COMMENT ON TABLE; None takes it away, here and below."""
    _comment(tx, keyspace.table_key(table_named(catalog_seen(tx), name).id), text)


def comment_on_column(tx: Transaction, table_name: str, name: str, text: str | None) -> None:
    """COMMENT ON COLUMN."""
    table, column = _column(tx, table_name, name)
    _comment(tx, keyspace.item_key(table.id, keyspace.COLUMN, column.id), text)


def comment_on_index(tx: Transaction, name: str, text: str | None) -> None:
    """COMMENT ON INDEX."""
    catalog = catalog_seen(tx)
    index = catalog.index(name)
    if index is None:
        raise _no_index(catalog, name)
    _comment(tx, keyspace.item_key(index.table_id, keyspace.INDEX, index.id), text)


def comment_on_view(tx: Transaction, name: str, text: str | None) -> None:
    """COMMENT ON VIEW."""
    _comment(tx, keyspace.view_key(_view(tx, name).id), text)


def _no_index(catalog: Catalog, name: str) -> InvalidInput:
    if catalog.trigram_index(name) is not None:
        return InvalidInput(f'index "{name}" is of trigrams: drop it and create another')
    return InvalidInput(f'index "{name}" does not exist')


def _comment(tx: Transaction, key: bytes, text: str | None) -> None:
    with whole(tx):
        tx.edit(key, {COMMENT: text or None})


def _view(tx: Transaction, name: str) -> SqlView:
    view = catalog_seen(tx).view(name)
    if view is None:
        raise InvalidInput(f'view "{name}" does not exist')
    return view


def _column(tx: Transaction, table_name: str, name: str) -> tuple[Table, Column]:
    table = table_named(catalog_seen(tx), table_name)
    column = table.column(name)
    if column is None:
        raise InvalidInput(f'column "{name}" of table "{table_name}" does not exist')
    return table, column


def _edit_column(tx: Transaction, table: Table, column: Column, fields: Fields) -> None:
    with whole(tx):
        tx.edit(keyspace.item_key(table.id, keyspace.COLUMN, column.id), fields)


_INTEGERS = ("SMALLINT", "INTEGER", "BIGINT")


def _reads_as(old: SqlType, new: SqlType) -> bool:
    """Whether every stored value of the old type is one of the new type, and the same value."""
    if old.name in _INTEGERS and new.name in _INTEGERS:
        return _INTEGERS.index(old.name) < _INTEGERS.index(new.name)
    if old.is_text and new.is_text:
        return new.length is None or (old.length is not None and old.length <= new.length)
    if old.name == new.name == "DECIMAL" and old.precision is not None:
        return (
            new.precision is not None and old.scale == new.scale and old.precision < new.precision
        )
    return (old.name, new.name) == ("REAL", "DOUBLE")
