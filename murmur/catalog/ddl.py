"""DDL: each function changes definitions through a transaction, after a look at the data.

    create_table(tx, TableDefinition("note", (ColumnDefinition("id", UUID), ...), ("id",)))
    tx.state.table("note")      # there at once, for this transaction

A statement that raises has written nothing. Definitions merge (settling.py), so what is refused
here is only what this replica can know: a name that is taken, a row that breaks the new constraint.
Every statement guards the whole catalog: of two concurrent ones on a replica the later retries.

A dropped table and its rows stay where they are, out of sight; creating it again begins the next
generation, with an id of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from murmur.catalog import keyspace
from murmur.catalog.catalog import Catalog
from murmur.catalog.constraints import check_new_foreign_key, check_new_unique
from murmur.catalog.definitions import (
    DROPPED,
    NAME,
    check_fields,
    column_fields,
    foreign_key_fields,
    index_fields,
    pack_vector,
    table_fields,
    trigram_fields,
)
from murmur.catalog.drafts import (
    check_name,
    check_width,
    draft_check,
    draft_column,
    draft_foreign_key,
    draft_generated,
    draft_index,
    draft_table,
    draft_trigram_index,
    index_named,
    no_table,
)
from murmur.catalog.kv_definitions import check_kv_column
from murmur.catalog.layout import layout_of
from murmur.catalog.rows import scan_rows
from murmur.catalog.schema import (
    Check,
    CheckDefinition,
    Column,
    ColumnDefinition,
    ExpressionDefinition,
    ForeignKey,
    ForeignKeyDefinition,
    Index,
    Table,
    TableDefinition,
)
from murmur.catalog.settling import suffixed
from murmur.catalog.views import SqlView, view_fields
from murmur.errors import ConstraintViolation, InvalidInput
from murmur.kvcore import Transaction, visible_fields

Holds = Callable[[tuple[Any, ...]], bool | None]


def create_table(
    tx: Transaction, definition: TableDefinition, *, if_not_exists: bool = False
) -> bool:
    """CREATE TABLE; False when the table was there and `if_not_exists` says that this is fine."""
    catalog = catalog_seen(tx)
    if if_not_exists and catalog.table(definition.name) is not None:
        return False
    check_free(catalog, definition.name)
    table = draft_table(catalog, definition)
    with whole(tx):
        for column in table.columns:
            _write_column(tx, table.id, column)
        for index in table.indexes:
            _write_index(tx, index)
        for check in table.checks:
            _write_check(tx, check)
        for foreign_key in table.foreign_keys:
            _write_foreign_key(tx, foreign_key)
        tx.insert(keyspace.table_key(table.id), table_fields(table), replace=True)
    return True


def drop_table(
    tx: Transaction, name: str, *, if_exists: bool = False, cascade: bool = False
) -> bool:
    """DROP TABLE; with `cascade`, foreign keys of other tables that lean on it go too."""
    catalog = catalog_seen(tx)
    table = catalog.table(name)
    if table is None:
        if if_exists:
            return False
        raise no_table(name)
    children = [key for key in catalog.referencing(table.id) if key.table_id != table.id]
    if children and not cascade:
        child = catalog.table_by_id(children[0].table_id)
        assert child is not None
        raise InvalidInput(
            f'cannot drop table "{name}": foreign key "{children[0].name}" of table '
            f'"{child.name}" depends on it; use CASCADE to drop the foreign key too'
        )
    with whole(tx):
        for key in children:
            tx.remove(keyspace.item_key(key.table_id, keyspace.FOREIGN_KEY, key.id))
        tx.edit(keyspace.table_key(table.id), {DROPPED: pack_vector(tx.snapshot.vector)})
    return True


def rename_table(tx: Transaction, name: str, new_name: str) -> None:
    """ALTER TABLE ... RENAME TO."""
    catalog = catalog_seen(tx)
    table = table_named(catalog, name)
    check_free(catalog, new_name)
    check_name(new_name)
    with whole(tx):
        tx.edit(keyspace.table_key(table.id), {NAME: new_name})


def create_view(
    tx: Transaction, name: str, text: str, columns: tuple[str, ...] = (), *, replace: bool = False
) -> None:
    """CREATE [OR REPLACE] VIEW; `text` is a query that can be bound now."""
    catalog = catalog_seen(tx)
    known = catalog.view(name)
    if known is None or not replace:
        check_free(catalog, name)
    check_name(name)
    identity, comment = keyspace.view_id(name), None
    if known is not None:
        identity, comment = known.id, known.comment
    view = SqlView(identity, name, text, columns, comment)
    with whole(tx):
        tx.insert(keyspace.view_key(view.id), view_fields(view), replace=True)


def drop_view(tx: Transaction, name: str, *, if_exists: bool = False) -> bool:
    """DROP VIEW; False when there was none and `if_exists` says that this is fine."""
    view = catalog_seen(tx).view(name)
    if view is None:
        if if_exists:
            return False
        raise InvalidInput(f'view "{name}" does not exist')
    with whole(tx):
        tx.remove(keyspace.view_key(view.id))
    return True


def add_column(
    tx: Transaction, table_name: str, column: ColumnDefinition, *, if_not_exists: bool = False
) -> bool:
    """ALTER TABLE ... ADD COLUMN. Rows stay as they are, and read the constant default or NULL."""
    catalog = catalog_seen(tx)
    table = table_named(catalog, table_name)
    if table.column(column.name) is not None:
        if if_not_exists:
            return False
        raise InvalidInput(f'column "{column.name}" of table "{table_name}" already exists')
    check_width(table_name, len(table.columns) + 1)
    if table.kv is not None:
        check_kv_column(table, column)
    record = catalog.records[table.id]
    known = [*record.columns, *(dropped for dropped, _ in record.dropped_columns)]
    taken = {each.id for each in known}
    position = max((each.position for each in known), default=-1) + 1
    new = draft_column(table_name, table.id, column, position, taken)
    if not new.nullable and new.missing is None:
        rows = keyspace.prefix_range(keyspace.row_prefix(table.id))
        tx.guard_range(*rows)
        if next(iter(tx.scan(*rows)), None) is not None:
            raise ConstraintViolation(
                f'column "{column.name}" of table "{table_name}" is NOT NULL without a constant '
                "default, and the table has rows, which would hold NULL there"
            )
    if column.generated is not None:
        by_name = {each.name: each for each in table.columns}
        new = replace(new, generated=draft_generated(table_name, column.generated, by_name))
    with whole(tx):
        _write_column(tx, table.id, new)
        if new.generated is not None:
            _check_computed(tx, table.id)
    return True


def rename_column(tx: Transaction, table_name: str, name: str, new_name: str) -> None:
    """ALTER TABLE ... RENAME COLUMN; also of a hidden column, under its suffixed name."""
    catalog = catalog_seen(tx)
    table = table_named(catalog, table_name)
    column = _column_called(catalog, table, name)
    if table.kv is not None and table.kv.values == "json" and column not in table.primary_key:
        raise InvalidInput(
            f'column "{name}" of table "{table_name}" is the member of this name of JSON values, '
            "and cannot be renamed"
        )
    if table.column(new_name) is not None:
        raise InvalidInput(f'column "{new_name}" of table "{table_name}" already exists')
    check_name(new_name)
    with whole(tx):
        tx.edit(keyspace.item_key(table.id, keyspace.COLUMN, column), {NAME: new_name})


def drop_column(tx: Transaction, table_name: str, name: str, *, if_exists: bool = False) -> bool:
    """ALTER TABLE ... DROP COLUMN: its indexes, CHECKs and foreign keys go with it."""
    catalog = catalog_seen(tx)
    table = table_named(catalog, table_name)
    column = table.column(name)
    if column is None:
        if if_exists:
            return False
        raise InvalidInput(f'column "{name}" of table "{table_name}" does not exist')
    if column.id in table.primary_key:
        raise InvalidInput(f'column "{name}" is in the primary key of table "{table_name}"')
    if len(table.columns) == 1:
        raise InvalidInput(f'column "{name}" is the last one of table "{table_name}"')
    if table.kv is not None and table.kv.values == "whole":
        raise InvalidInput(f'column "{name}" of table "{table_name}" is the value of its keys')
    for foreign_key in catalog.referencing(table.id):
        if column.id in foreign_key.parent_column_ids:
            raise InvalidInput(f'foreign key "{foreign_key.name}" depends on column "{name}"')
    for other in table.columns:
        if other.generated is not None and column.id in other.generated.column_ids:
            raise InvalidInput(f'generated column "{other.name}" depends on column "{name}"')
    with whole(tx):
        for index in table.indexes:
            if column.id in index.input_ids:
                tx.remove(keyspace.item_key(table.id, keyspace.INDEX, index.id))
        for trigrams in table.trigrams:
            if column.id == trigrams.column_id:
                tx.remove(keyspace.item_key(table.id, keyspace.TRIGRAM, trigrams.id))
        for check in table.checks:
            if column.id in check.column_ids:
                tx.remove(keyspace.item_key(table.id, keyspace.CHECK, check.id))
        for foreign_key in table.foreign_keys:
            if column.id in foreign_key.column_ids:
                tx.remove(keyspace.item_key(table.id, keyspace.FOREIGN_KEY, foreign_key.id))
        key = keyspace.item_key(table.id, keyspace.COLUMN, column.id)
        tx.edit(key, {DROPPED: pack_vector(tx.snapshot.vector)})
    return True


def create_index(
    tx: Transaction,
    table_name: str,
    columns: Sequence[tuple[str | ExpressionDefinition, bool]],
    *,
    name: str = "",
    unique: bool = False,
    constraint: bool = False,
    predicate: ExpressionDefinition | None = None,
    if_not_exists: bool = False,
) -> bool:
    """CREATE [UNIQUE] INDEX over (column or expression, descending) pairs; `constraint`: UNIQUE.

    With a `predicate` it holds the rows for which that is TRUE.
    """
    catalog = catalog_seen(tx)
    table = table_named(catalog, table_name)
    if name and index_named(catalog, name) is not None:
        if if_not_exists:
            return False
        raise InvalidInput(f'index "{name}" already exists')
    index = draft_index(
        catalog, table, columns, name, unique=unique, constraint=constraint, predicate=predicate
    )
    with whole(tx):
        if unique or not index.plain:
            tx.guard_range(*keyspace.prefix_range(keyspace.row_prefix(table.id)))
        _write_index(tx, index)
        if not index.plain:
            _check_computed(tx, table.id)
        if unique:
            check_new_unique(tx, index)
    return True


def create_trigram_index(
    tx: Transaction,
    table_name: str,
    column_name: str,
    *,
    name: str = "",
    if_not_exists: bool = False,
) -> bool:
    """CREATE INDEX ... USING trigram, of one text column."""
    catalog = catalog_seen(tx)
    table = table_named(catalog, table_name)
    if name and index_named(catalog, name) is not None:
        if if_not_exists:
            return False
        raise InvalidInput(f'index "{name}" already exists')
    index = draft_trigram_index(catalog, table, column_name, name)
    key = keyspace.item_key(table.id, keyspace.TRIGRAM, index.id)
    with whole(tx):
        tx.insert(key, trigram_fields(index), replace=True)
    return True


def drop_index(tx: Transaction, name: str, *, if_exists: bool = False) -> bool:
    """DROP INDEX; one that UNIQUE made is dropped by drop_constraint."""
    catalog = catalog_seen(tx)
    index = catalog.index(name)
    trigrams = catalog.trigram_index(name)
    if trigrams is not None:
        with whole(tx):
            tx.remove(keyspace.item_key(trigrams.table_id, keyspace.TRIGRAM, trigrams.id))
        return True
    if index is None:
        if if_exists:
            return False
        raise InvalidInput(f'index "{name}" does not exist')
    if index.constraint:
        table = catalog.table_by_id(index.table_id)
        assert table is not None
        raise InvalidInput(f'index "{name}" belongs to a UNIQUE of table "{table.name}"')
    _remove_index(tx, catalog, index)
    return True


def drop_constraint(
    tx: Transaction, table_name: str, name: str, *, if_exists: bool = False
) -> bool:
    """ALTER TABLE ... DROP CONSTRAINT, of a UNIQUE, FOREIGN KEY or CHECK."""
    catalog = catalog_seen(tx)
    table = table_named(catalog, table_name)
    for index in table.indexes:
        if index.constraint and index.name == name:
            _remove_index(tx, catalog, index)
            return True
    named = [(keyspace.FOREIGN_KEY, each.id, each.name) for each in table.foreign_keys]
    named += [(keyspace.CHECK, each.id, each.name) for each in table.checks]
    for kind, item, item_name in named:
        if item_name == name:
            with whole(tx):
                tx.remove(keyspace.item_key(table.id, kind, item))
            return True
    if if_exists:
        return False
    raise InvalidInput(f'constraint "{name}" of table "{table_name}" does not exist')


def add_foreign_key(tx: Transaction, table_name: str, definition: ForeignKeyDefinition) -> None:
    """ALTER TABLE ... ADD FOREIGN KEY; the rows that are there must hold it."""
    catalog = catalog_seen(tx)
    table = table_named(catalog, table_name)
    foreign_key = draft_foreign_key(catalog, table, definition)
    with whole(tx):
        tx.guard_range(*keyspace.prefix_range(keyspace.row_prefix(table.id)))
        _write_foreign_key(tx, foreign_key)
        check_new_foreign_key(tx, foreign_key)


def add_check(tx: Transaction, table_name: str, definition: CheckDefinition, holds: Holds) -> None:
    """ALTER TABLE ... ADD CHECK; `holds` is the compiled text, for the rows that are there."""
    table = table_named(catalog_seen(tx), table_name)
    check = draft_check(table, definition)
    with whole(tx):
        tx.guard_range(*keyspace.prefix_range(keyspace.row_prefix(table.id)))
        for _, row in scan_rows(tx, table):
            if holds(row) is False:
                raise ConstraintViolation(
                    f'check constraint "{check.name}" of table "{table_name}" is violated by '
                    "some row"
                )
        _write_check(tx, check)


@contextmanager
def whole(tx: Transaction) -> Iterator[None]:
    """All writes of the block, or none; and nobody else's DDL beside them."""
    savepoint = tx.savepoint()
    tx.guard_range(*keyspace.prefix_range(keyspace.CATALOG))
    try:
        yield
    except BaseException:
        tx.rollback_to(savepoint)
        raise


def catalog_seen(tx: Transaction) -> Catalog:
    """The catalog as this transaction sees it."""
    catalog = tx.state
    assert isinstance(catalog, Catalog)
    return catalog


def check_free(catalog: Catalog, name: str) -> None:
    """Refuse a name that a table or a view has."""
    for what, known in (("table", catalog.table(name)), ("view", catalog.view(name))):
        if known is not None:
            raise InvalidInput(f'{what} "{name}" already exists')


def table_named(catalog: Catalog, name: str) -> Table:
    """The table of this name; InvalidInput if there is none."""
    table = catalog.table(name)
    if table is None:
        raise no_table(name)
    return table


def _column_called(catalog: Catalog, table: Table, name: str) -> int:
    column = table.column(name)
    if column is not None:
        return column.id
    shown = {each.id for each in table.columns}
    for record in catalog.records[table.id].columns:
        if record.id not in shown and suffixed(record.name, record.id) == name:
            return record.id
    raise InvalidInput(f'column "{name}" of table "{table.name}" does not exist')


def _check_computed(tx: Transaction, table_id: int) -> None:
    """What has just been defined can be computed of every row; DataError otherwise."""
    table = catalog_seen(tx).table_by_id(table_id)
    assert table is not None
    layout = layout_of(table)
    rows = keyspace.prefix_range(keyspace.row_prefix(table_id))
    tx.guard_range(*rows)
    for _, cell in tx.scan(*rows):
        layout.check_computed(layout.readable(visible_fields(cell)))


def _write_column(tx: Transaction, table_id: int, column: Column) -> None:
    key = keyspace.item_key(table_id, keyspace.COLUMN, column.id)
    tx.insert(key, column_fields(column), replace=True)


def _write_index(tx: Transaction, index: Index) -> None:
    key = keyspace.item_key(index.table_id, keyspace.INDEX, index.id)
    tx.insert(key, index_fields(index), replace=True)


def _write_check(tx: Transaction, check: Check) -> None:
    key = keyspace.item_key(check.table_id, keyspace.CHECK, check.id)
    tx.insert(key, check_fields(check), replace=True)


def _write_foreign_key(tx: Transaction, foreign_key: ForeignKey) -> None:
    key = keyspace.item_key(foreign_key.table_id, keyspace.FOREIGN_KEY, foreign_key.id)
    tx.insert(key, foreign_key_fields(foreign_key), replace=True)


def _remove_index(tx: Transaction, catalog: Catalog, index: Index) -> None:
    for foreign_key in catalog.referencing(index.table_id):
        if foreign_key.parent_index_id == index.id:
            raise InvalidInput(f'foreign key "{foreign_key.name}" depends on index "{index.name}"')
    with whole(tx):
        tx.remove(keyspace.item_key(index.table_id, keyspace.INDEX, index.id))
