"""ALTER TABLE ... ADD PRIMARY KEY: the table made anew with the key, and its rows put into it.

Rows stand under their primary key, and the key is a part of what a table is to other replicas. So
the table with the key is another one: it takes the name, the definition and the rows of the one
without, in the transaction of the statement, and history begins with it. What a replica that is
apart writes into the one without meanwhile is kept there and listed, as for a table that is dropped
(docs/consistency.md).
"""

from __future__ import annotations

from dataclasses import replace

from murmur.catalog import ddl
from murmur.catalog.catalog import Catalog
from murmur.catalog.constraints import StatementChecks
from murmur.catalog.rows import insert_row, scan_rows
from murmur.catalog.schema import (
    CheckDefinition,
    ColumnDefinition,
    Default,
    ForeignKeyDefinition,
    Table,
    TableDefinition,
    UniqueDefinition,
)
from murmur.catalog.types import BIGINT
from murmur.errors import ConstraintViolation, InvalidInput
from murmur.kvcore.transaction import Transaction
from murmur.sql.binder_like import copied_column, following, names_then
from murmur.sql.checks import checks_of
from murmur.sql.ddl_actions import Action
from murmur.sql.generate import GENERATED_ID

_EVERYTHING = {"COMMENTS", "CONSTRAINTS", "DEFAULTS", "GENERATED", "IDENTITY", "INDEXES"}


def add_primary_key(
    tx: Transaction, source: Table, columns: tuple[str, ...], name: str
) -> list[Action]:
    """Make the table anew with a key; what is left to be done to it: its indexes and comments.

    InvalidInput where it cannot have the key, ConstraintViolation where its rows do not allow it.
    """
    catalog = tx.state
    assert isinstance(catalog, Catalog)
    _check(source, columns, catalog)
    rows = [row for _, row in scan_rows(tx, source)]
    positions = [source.column(each).position for each in columns]  # type: ignore[union-attr]
    for row in rows:
        for each, position in zip(columns, positions, strict=True):
            if row[position] is None:
                raise ConstraintViolation(
                    f'column "{each}" of "{source.name}" holds NULLs: a primary key has none'
                )
    definition = _definition(source, columns, name, catalog)
    actions = list(following(source, source.name, _EVERYTHING, named=True))
    ddl.drop_table(tx, source.name)
    ddl.create_table(tx, definition)
    table = ddl.catalog_seen(tx).table(source.name)
    assert table is not None
    checks, statement = checks_of(table), StatementChecks(tx, checks_of)
    written = [
        (column.position, table.column(column.name))
        for column in source.columns
        if column.generated is None
    ]
    for row in rows:
        values = {column.id: row[at] for at, column in written if column is not None}
        insert_row(tx, table, values, checks=checks, statement=statement)
    statement.verify()
    return actions


def _check(source: Table, columns: tuple[str, ...], catalog: Catalog) -> None:
    if source.primary_key:
        raise InvalidInput(f'table "{source.name}" has a primary key already')
    if source.kv is not None:
        raise InvalidInput(f'table "{source.name}" stands over keys: its key is theirs')
    for each in columns:
        if source.column(each) is None:
            raise InvalidInput(f'column "{each}" of table "{source.name}" does not exist')
    for other in catalog.tables:
        for key in other.foreign_keys:
            if key.parent_table_id == source.id and other.id != source.id:
                raise InvalidInput(
                    f'table "{other.name}" references "{source.name}": drop "{key.name}" first, '
                    "and add it again behind the primary key"
                )


def _definition(
    source: Table, columns: tuple[str, ...], name: str, catalog: Catalog
) -> TableDefinition:
    defined = [copied_column(column, source, _EVERYTHING) for column in source.columns]
    uniques = tuple(
        UniqueDefinition(source.names_of(index.column_ids), index.name)
        for index in source.indexes
        if index.constraint
    )
    return TableDefinition(
        name=source.name,
        columns=tuple(_keyed(each, columns) for each in defined),
        primary_key=columns,
        primary_key_name=name,
        uniques=uniques,
        foreign_keys=tuple(_foreign_keys(source, catalog)),
        checks=tuple(
            CheckDefinition(
                check.text,
                names_then(source, check.column_ids, check.column_names, check.name),
                check.name,
            )
            for check in source.checks
        ),
    )


def _keyed(column: ColumnDefinition, key: tuple[str, ...]) -> ColumnDefinition:
    """A column of the key: NOT NULL, and one integer alone fills itself (binder_keys.py)."""
    if column.name not in key:
        return column
    if len(key) == 1 and column.type.name in ("INTEGER", "BIGINT") and column.default is None:
        default = Default("function", None, GENERATED_ID)
        return replace(column, type=BIGINT, default=default, nullable=False)
    return replace(column, nullable=False)


def _foreign_keys(source: Table, catalog: Catalog) -> list[ForeignKeyDefinition]:
    found = []
    for key in source.foreign_keys:
        parent = catalog.table_by_id(key.parent_table_id)
        assert parent is not None
        found.append(
            ForeignKeyDefinition(
                source.names_of(key.column_ids),
                parent.name,
                parent.names_of(key.parent_column_ids),
                key.on_delete,
                key.name,
            )
        )
    return found
