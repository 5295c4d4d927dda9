"""information_schema: the SQL standard's relations about tables, columns and constraints.

    SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'note'

Every table stands in schema public of catalog murmur. Names and meanings are PostgreSQL's, with the
columns that tools read; a COUNTER is a bigint here, since that is what it reads as, and udt_name
says what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from murmur.catalog.catalog import Catalog
from murmur.catalog.schema import ForeignKey, Table
from murmur.catalog.types import INTEGER, TEXT, SqlType

Row: TypeAlias = tuple[Any, ...]

CATALOG, SCHEMA = "murmur", "public"
PREFIX = "information_schema."

_TEXTS = {
    "schemata": "catalog_name schema_name schema_owner",
    "tables": "table_catalog table_schema table_name table_type is_insertable_into is_typed",
    "views": "table_catalog table_schema table_name view_definition check_option is_updatable",
    "table_constraints": (
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema "
        "table_name constraint_type is_deferrable initially_deferred enforced"
    ),
    "referential_constraints": (
        "constraint_catalog constraint_schema constraint_name unique_constraint_catalog "
        "unique_constraint_schema unique_constraint_name match_option update_rule delete_rule"
    ),
    "constraint_column_usage": (
        "table_catalog table_schema table_name column_name constraint_catalog constraint_schema "
        "constraint_name"
    ),
    "check_constraints": "constraint_catalog constraint_schema constraint_name check_clause",
}
COLUMNS: Mapping[str, tuple[tuple[str, SqlType], ...]] = {
    **{
        PREFIX + name: tuple((column, TEXT) for column in columns.split())
        for name, columns in _TEXTS.items()
    },
    PREFIX + "columns": (
        ("table_catalog", TEXT),
        ("table_schema", TEXT),
        ("table_name", TEXT),
        ("column_name", TEXT),
        ("ordinal_position", INTEGER),
        ("column_default", TEXT),
        ("is_nullable", TEXT),
        ("data_type", TEXT),
        ("character_maximum_length", INTEGER),
        ("numeric_precision", INTEGER),
        ("numeric_precision_radix", INTEGER),
        ("numeric_scale", INTEGER),
        ("datetime_precision", INTEGER),
        ("udt_name", TEXT),
        ("is_identity", TEXT),
        ("is_generated", TEXT),
        ("generation_expression", TEXT),
    ),
    PREFIX + "key_column_usage": (
        ("constraint_catalog", TEXT),
        ("constraint_schema", TEXT),
        ("constraint_name", TEXT),
        ("table_catalog", TEXT),
        ("table_schema", TEXT),
        ("table_name", TEXT),
        ("column_name", TEXT),
        ("ordinal_position", INTEGER),
        ("position_in_unique_constraint", INTEGER),
    ),
}


def rows(name: str, catalog: Catalog) -> Iterator[Row]:
    """What one of the relations holds."""
    return _ROWS[name.removeprefix(PREFIX)](catalog)


def _schemata(catalog: Catalog) -> Iterator[Row]:
    yield CATALOG, SCHEMA, CATALOG
    yield CATALOG, PREFIX.rstrip("."), CATALOG


def _tables(catalog: Catalog) -> Iterator[Row]:
    for table in catalog.tables:
        yield CATALOG, SCHEMA, table.name, "BASE TABLE", "YES", "NO"
    for view in catalog.views:
        yield CATALOG, SCHEMA, view.name, "VIEW", "NO", "NO"


def _views(catalog: Catalog) -> Iterator[Row]:
    for view in catalog.views:
        yield CATALOG, SCHEMA, view.name, view.text, "NONE", "NO"


def _columns(catalog: Catalog) -> Iterator[Row]:
    for table in catalog.tables:
        for column in table.columns:
            kind = column.type
            bits = _BITS.get(kind.name)
            yield (
                CATALOG,
                SCHEMA,
                table.name,
                column.name,
                column.position + 1,
                None if column.default is None else column.default.text,
                "YES" if column.nullable else "NO",
                _DATA_TYPES.get(kind.name, kind.name.lower()),
                kind.length,
                bits or kind.precision,
                2 if bits else 10 if kind.precision else None,
                kind.scale if kind.precision else 0 if kind.is_integer else None,
                0 if kind.name == "DATE" else 6 if kind.is_temporal else None,
                str(kind).lower(),
                "NO",
                "NEVER" if column.generated is None else "ALWAYS",
                None if column.generated is None else column.generated.text,
            )


_BITS = {"SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "COUNTER": 64, "REAL": 24, "DOUBLE": 53}
_DATA_TYPES = {
    "COUNTER": "bigint",
    "DOUBLE": "double precision",
    "DECIMAL": "numeric",
    "VARCHAR": "character varying",
    "BLOB": "bytea",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMPTZ": "timestamp with time zone",
}


def _constraints(table: Table) -> Iterator[tuple[str, str]]:
    if table.primary_key:
        yield _primary_key_name(table), "PRIMARY KEY"
    for index in table.indexes:
        if index.constraint:
            yield index.name, "UNIQUE"
    for foreign_key in table.foreign_keys:
        yield foreign_key.name, "FOREIGN KEY"
    for check in table.checks:
        yield check.name, "CHECK"


def _table_constraints(catalog: Catalog) -> Iterator[Row]:
    for table in catalog.tables:
        where = (CATALOG, SCHEMA, table.name)
        for name, kind in _constraints(table):
            yield CATALOG, SCHEMA, name, *where, kind, "NO", "NO", "YES"


def _key_column_usage(catalog: Catalog) -> Iterator[Row]:
    for table in catalog.tables:
        where = (CATALOG, SCHEMA, table.name)
        keys: list[tuple[str, tuple[int, ...], tuple[int, ...] | None]] = []
        if table.primary_key:
            keys.append((_primary_key_name(table), table.primary_key, None))
        keys += [(each.name, each.column_ids, None) for each in table.indexes if each.constraint]
        for each in table.foreign_keys:
            parent = _referenced(catalog, each)
            positions = _positions(each, parent) if parent is not None else None
            keys.append((each.name, each.column_ids, positions))
        for name, column_ids, positions in keys:
            for at, column in enumerate(table.names_of(column_ids)):
                position = positions[at] if positions else None
                yield CATALOG, SCHEMA, name, *where, column, at + 1, position


def _positions(foreign_key: ForeignKey, parent: Table) -> tuple[int, ...]:
    """Where the referenced columns stand in the key that they are, counted from 1."""
    key = _referenced_key(foreign_key, parent)[1]
    return tuple(key.index(column_id) + 1 for column_id in foreign_key.parent_column_ids)


def _referential_constraints(catalog: Catalog) -> Iterator[Row]:
    for table in catalog.tables:
        for each in table.foreign_keys:
            parent = _referenced(catalog, each)
            name = _referenced_key(each, parent)[0] if parent else None
            own, other = (CATALOG, SCHEMA, each.name), (CATALOG, SCHEMA, name)
            yield *own, *other, "NONE", "NO ACTION", each.on_delete


def _constraint_column_usage(catalog: Catalog) -> Iterator[Row]:
    for table in catalog.tables:
        uses: list[tuple[Table, tuple[int, ...], str]] = []
        if table.primary_key:
            uses.append((table, table.primary_key, _primary_key_name(table)))
        uses += [(table, each.column_ids, each.name) for each in table.indexes if each.constraint]
        uses += [(table, each.column_ids, each.name) for each in table.checks]
        for each in table.foreign_keys:
            parent = _referenced(catalog, each)
            if parent is not None:
                uses.append((parent, each.parent_column_ids, each.name))
        for owner, column_ids, name in uses:
            for column in owner.names_of(column_ids):
                yield CATALOG, SCHEMA, owner.name, column, CATALOG, SCHEMA, name


def _check_constraints(catalog: Catalog) -> Iterator[Row]:
    for table in catalog.tables:
        for check in table.checks:
            yield CATALOG, SCHEMA, check.name, check.text


def _primary_key_name(table: Table) -> str:
    return table.primary_key_name or f"{table.name}_pkey"


def _referenced(catalog: Catalog, foreign_key: ForeignKey) -> Table | None:
    return catalog.table_by_id(foreign_key.parent_table_id)


def _referenced_key(foreign_key: ForeignKey, parent: Table) -> tuple[str, tuple[int, ...]]:
    for index in parent.indexes:
        if index.id == foreign_key.parent_index_id:
            return index.name, index.column_ids
    return _primary_key_name(parent), parent.primary_key


_ROWS: Mapping[str, Callable[[Catalog], Iterator[Row]]] = {
    "schemata": _schemata,
    "tables": _tables,
    "columns": _columns,
    "views": _views,
    "table_constraints": _table_constraints,
    "key_column_usage": _key_column_usage,
    "referential_constraints": _referential_constraints,
    "constraint_column_usage": _constraint_column_usage,
    "check_constraints": _check_constraints,
}
