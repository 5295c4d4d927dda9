"""Carrying out DDL through the catalog.

A statement is a list of steps (ddl_actions.py) inside one transaction and one savepoint: all of
them, or none. The catalog's refusals get the place of the step's name in the statement.
"""

from __future__ import annotations

from collections.abc import Sequence

from murmur.catalog import alter, ddl
from murmur.catalog.catalog import Catalog
from murmur.catalog.schema import (
    CheckDefinition,
    ExpressionDefinition,
    ForeignKeyDefinition,
    Table,
    UniqueDefinition,
)
from murmur.errors import InvalidInput
from murmur.kvcore.transaction import Transaction
from murmur.sql.add_primary_key import add_primary_key
from murmur.sql.checks import compile_check
from murmur.sql.ddl_actions import (
    Action,
    AddColumn,
    AddConstraint,
    AddPrimaryKey,
    Comment,
    Constraint,
    CreateIndex,
    CreateTable,
    CreateTrigramIndex,
    CreateView,
    DropColumn,
    DropConstraint,
    DropIndex,
    DropTable,
    DropView,
    RenameColumn,
    RenameIndex,
    RenameTable,
    RenameView,
    SetDefault,
    SetNotNull,
    SetType,
    Step,
)
from murmur.sql.place import place


def run_steps(tx: Transaction, steps: Sequence[Step], text: str) -> None:
    """Carry out the steps of one statement. The caller goes back to a savepoint if one raises."""
    for step in steps:
        try:
            _run(tx, step.action)
        except InvalidInput as error:
            if step.start is None or "\n" in str(error):
                raise
            raise type(error)(f"{error}\n{place(text, step.start)}") from None


def _run(tx: Transaction, action: Action) -> None:
    match action:
        case CreateTable(definition, if_not_exists):
            ddl.create_table(tx, definition, if_not_exists=if_not_exists)
        case DropTable(name, if_exists, cascade):
            ddl.drop_table(tx, name, if_exists=if_exists, cascade=cascade)
        case CreateView(name, text, columns, replace):
            ddl.create_view(tx, name, text, columns, replace=replace)
        case DropView(name, if_exists):
            ddl.drop_view(tx, name, if_exists=if_exists)
        case RenameTable(name, new_name):
            ddl.rename_table(tx, name, new_name)
        case AddColumn(table, column, if_not_exists, constraints):
            if ddl.add_column(tx, table, column, if_not_exists=if_not_exists):
                for constraint in constraints:
                    _run(tx, constraint)
        case RenameColumn(table, name, new_name):
            ddl.rename_column(tx, table, name, new_name)
        case DropColumn(table, name, if_exists):
            ddl.drop_column(tx, table, name, if_exists=if_exists)
        case AddConstraint(table, constraint):
            _add_constraint(tx, table, constraint)
        case AddPrimaryKey(table, names, name):
            for left in add_primary_key(tx, _table(tx, table), names, name):
                _run(tx, left)
        case DropConstraint(table, name, if_exists):
            ddl.drop_constraint(tx, table, name, if_exists=if_exists)
        case CreateIndex(name, table, columns, unique, if_not_exists, predicate):
            ddl.create_index(
                tx,
                table,
                columns,
                name=name,
                unique=unique,
                predicate=predicate,
                if_not_exists=if_not_exists,
            )
        case CreateTrigramIndex(name, table, column_name, if_not_exists):
            ddl.create_trigram_index(tx, table, column_name, name=name, if_not_exists=if_not_exists)
        case DropIndex(name, if_exists):
            ddl.drop_index(tx, name, if_exists=if_exists)
        case SetDefault(table, name, default):
            alter.set_default(tx, table, name, default)
        case SetNotNull(table, name, drop=True):
            alter.drop_not_null(tx, table, name)
        case SetNotNull(table, name):
            alter.set_not_null(tx, table, name)
        case SetType(table, name, sql_type):
            alter.set_type(tx, table, name, sql_type)
        case RenameIndex(name, new_name, if_exists):
            if not if_exists or ddl.catalog_seen(tx).index(name) is not None:
                alter.rename_index(tx, name, new_name)
        case RenameView(name, new_name, if_exists):
            if not if_exists or ddl.catalog_seen(tx).view(name) is not None:
                alter.rename_view(tx, name, new_name)
        case Comment():
            _comment(tx, action)


def _comment(tx: Transaction, action: Comment) -> None:
    match action.kind:
        case "TABLE":
            alter.comment_on_table(tx, action.name, action.text)
        case "COLUMN":
            alter.comment_on_column(tx, action.name, action.column, action.text)
        case "INDEX":
            alter.comment_on_index(tx, action.name, action.text)
        case _:
            alter.comment_on_view(tx, action.name, action.text)


def _add_constraint(tx: Transaction, table_name: str, constraint: Constraint) -> None:
    match constraint:
        case UniqueDefinition(columns, name):
            pairs: list[tuple[str | ExpressionDefinition, bool]] = [(c, False) for c in columns]
            ddl.create_index(tx, table_name, pairs, name=name, unique=True, constraint=True)
        case ForeignKeyDefinition():
            ddl.add_foreign_key(tx, table_name, constraint)
        case CheckDefinition(text, columns):
            table = _table(tx, table_name)
            positions = {}
            for name in columns:
                column = table.column(name)
                if column is None:
                    raise InvalidInput(f'column "{name}" of table "{table_name}" does not exist')
                positions[name] = column
            ddl.add_check(tx, table_name, constraint, compile_check(text, positions))


def _table(tx: Transaction, name: str) -> Table:
    catalog = tx.state
    assert isinstance(catalog, Catalog)
    table = catalog.table(name)
    if table is None:
        raise InvalidInput(f'table "{name}" does not exist')
    return table
