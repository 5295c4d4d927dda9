"""Tables on keys: types, schemas, rows, constraints, indexes and DDL over kvcore's records.

catalog = tx.state                                  the Catalog that this transaction sees
create_table(tx, TableDefinition(...))              DDL is replicated data
insert_row(tx, catalog.table("note"), {...})        checked, and indexed by CatalogDerivation
conflicts(view, catalog)                            what replicas wrote apart and cannot both hold
"""

from __future__ import annotations

from murmur.catalog.alter import (
    comment_on_column,
    comment_on_index,
    comment_on_table,
    comment_on_view,
    drop_not_null,
    rename_index,
    rename_view,
    set_default,
    set_not_null,
    set_type,
)
from murmur.catalog.atoms import decoder, encoder, from_atom, to_atom
from murmur.catalog.catalog import Catalog
from murmur.catalog.conflicts import Conflict, conflicts
from murmur.catalog.constraints import RowCheck, StatementChecks
from murmur.catalog.ddl import (
    add_check,
    add_column,
    add_foreign_key,
    create_index,
    create_table,
    create_trigram_index,
    drop_column,
    drop_constraint,
    drop_index,
    drop_table,
    rename_column,
    rename_table,
)
from murmur.catalog.decoding import Row, atoms_getter, row_decoder, row_reader
from murmur.catalog.derivation import CatalogDerivation
from murmur.catalog.generated import IntegerIds, Uuid7
from murmur.catalog.keyspace import prefix_range, row_prefix
from murmur.catalog.naming import describe_key
from murmur.catalog.ranges import Bound, index_bounds, row_bounds
from murmur.catalog.rows import (
    Increment,
    Reset,
    conflicting_row,
    delete_row,
    get_row,
    insert_row,
    key_of,
    scan_index,
    scan_rows,
    update_row,
)
from murmur.catalog.schema import (
    Check,
    CheckDefinition,
    Column,
    ColumnDefinition,
    Default,
    ExpressionDefinition,
    ForeignKey,
    ForeignKeyDefinition,
    Index,
    IndexColumn,
    RowExpression,
    Table,
    TableDefinition,
    TrigramIndex,
    UniqueDefinition,
)
from murmur.catalog.settling import Dispute, table_of
from murmur.catalog.types import Interval, SqlType, Value, parse_type
from murmur.catalog.values import check, checker

__all__ = [
    "Bound",
    "Catalog",
    "CatalogDerivation",
    "Check",
    "CheckDefinition",
    "Column",
    "ColumnDefinition",
    "Conflict",
    "Default",
    "Dispute",
    "ExpressionDefinition",
    "ForeignKey",
    "ForeignKeyDefinition",
    "Increment",
    "Index",
    "IndexColumn",
    "IntegerIds",
    "Interval",
    "Reset",
    "Row",
    "RowCheck",
    "RowExpression",
    "SqlType",
    "StatementChecks",
    "Table",
    "TableDefinition",
    "TrigramIndex",
    "UniqueDefinition",
    "Uuid7",
    "Value",
    "add_check",
    "add_column",
    "add_foreign_key",
    "atoms_getter",
    "check",
    "checker",
    "comment_on_column",
    "comment_on_index",
    "comment_on_table",
    "comment_on_view",
    "conflicting_row",
    "conflicts",
    "create_index",
    "create_table",
    "create_trigram_index",
    "decoder",
    "delete_row",
    "describe_key",
    "drop_column",
    "drop_constraint",
    "drop_index",
    "drop_not_null",
    "drop_table",
    "encoder",
    "from_atom",
    "get_row",
    "index_bounds",
    "insert_row",
    "key_of",
    "parse_type",
    "prefix_range",
    "rename_column",
    "rename_index",
    "rename_table",
    "rename_view",
    "row_bounds",
    "row_decoder",
    "row_prefix",
    "row_reader",
    "scan_index",
    "scan_rows",
    "set_default",
    "set_not_null",
    "set_type",
    "table_of",
    "to_atom",
    "update_row",
]
