"""Reflection: the catalog in the words of SQLAlchemy's Inspector.

    inspect(engine).get_columns("note")   ->  [{"name": "id", "type": BIGINT(), ...}, ...]
    Table("note", MetaData(), autoload_with=engine)

It reads the definitions that the connection's next statement would see, uncommitted ones included,
and asks nothing of SQL but the columns of views. Tables stand in the schema `public`, which is also
what no schema means; information_schema can be named, and is not listed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine.reflection import ReflectionDefaults, cache

from murmur.catalog import SqlType, parse_type
from murmur.catalog.catalog import Catalog
from murmur.catalog.schema import Column, ForeignKey, Index, Table
from murmur.integrations.sqlalchemy.types import from_sql_type
from murmur.sql.information_schema import SCHEMA

_GENERATED = "generated id"


class Reflection:
    """What a dialect answers about the definitions."""

    # Names -------------------------------------------------------------

    @cache
    def get_schema_names(self, connection: Any, **kw: Any) -> list[str]:
        """There is one."""
        return [SCHEMA]

    @cache
    def has_schema(self, connection: Any, schema_name: str, **kw: Any) -> bool:
        """Whether it is that one."""
        return schema_name == SCHEMA

    @cache
    def get_table_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        """The tables, by name."""
        return [] if _elsewhere(schema) else [table.name for table in _catalog(connection).tables]

    @cache
    def get_view_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        """The views, by name."""
        return [] if _elsewhere(schema) else [view.name for view in _catalog(connection).views]

    @cache
    def get_temp_table_names(
        self, connection: Any, schema: str | None = None, **kw: Any
    ) -> list[str]:
        """There are no temporary tables."""
        return []

    @cache
    def get_temp_view_names(
        self, connection: Any, schema: str | None = None, **kw: Any
    ) -> list[str]:
        """There are no temporary views."""
        return []

    @cache
    def get_materialized_view_names(
        self, connection: Any, schema: str | None = None, **kw: Any
    ) -> list[str]:
        """There are no materialized views."""
        return []

    @cache
    def get_sequence_names(
        self, connection: Any, schema: str | None = None, **kw: Any
    ) -> list[str]:
        """There are no sequences."""
        return []

    @cache
    def has_sequence(
        self, connection: Any, sequence_name: str, schema: str | None = None, **kw: Any
    ) -> bool:
        """There are no sequences."""
        return False

    @cache
    def has_table(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> bool:
        """Whether there is a table or a view of this name."""
        if _elsewhere(schema):
            return False
        catalog = _catalog(connection)
        return catalog.table(table_name) is not None or catalog.view(table_name) is not None

    @cache
    def get_view_definition(
        self, connection: Any, view_name: str, schema: str | None = None, **kw: Any
    ) -> str:
        """The query that the view stands for."""
        view = None if _elsewhere(schema) else _catalog(connection).view(view_name)
        if view is None:
            raise exc.NoSuchTableError(_shown(view_name, schema))
        return view.text

    # What a table holds ------------------------------------------------

    @cache
    def get_columns(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[dict[str, Any]]:
        """The columns of a table or view, in their order."""
        found = _find(connection, table_name, schema)
        if found is None:
            return _view_columns(connection, table_name)
        return [_column(column) for column in found.columns]

    @cache
    def get_pk_constraint(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        """The primary key."""
        found = _find(connection, table_name, schema)
        if found is None or not found.primary_key:
            return ReflectionDefaults.pk_constraint()
        return {
            "constrained_columns": list(found.names_of(found.primary_key)),
            "name": found.primary_key_name or f"{found.name}_pkey",
        }

    @cache
    def get_foreign_keys(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[dict[str, Any]]:
        """The foreign keys of which the table is the child."""
        found = _find(connection, table_name, schema)
        if found is None:
            return []
        catalog = _catalog(connection)
        return [_foreign_key(found, each, catalog, schema) for each in found.foreign_keys]

    @cache
    def get_indexes(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[dict[str, Any]]:
        """The indexes, those behind UNIQUE constraints too."""
        found = _find(connection, table_name, schema)
        return [] if found is None else [_index(found, index) for index in found.indexes]

    @cache
    def get_unique_constraints(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[dict[str, Any]]:
        """The UNIQUE constraints."""
        found = _find(connection, table_name, schema)
        return [
            {
                "name": index.name,
                "column_names": list(found.names_of(index.column_ids)),
            }
            for index in (found.indexes if found is not None else ())
            if found is not None and index.constraint
        ]

    @cache
    def get_check_constraints(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[dict[str, Any]]:
        """The CHECK constraints."""
        found = _find(connection, table_name, schema)
        checks = sorted(found.checks, key=lambda check: check.name) if found is not None else ()
        return [{"name": check.name, "sqltext": check.text} for check in checks]

    @cache
    def get_table_comment(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        """The comment on a table or view."""
        found = _find(connection, table_name, schema) or _catalog(connection).view(table_name)
        return {"text": None if found is None else found.comment}


def _catalog(connection: Any) -> Catalog:
    catalog = connection.connection.driver_connection.catalog
    assert isinstance(catalog, Catalog)
    return catalog


def _elsewhere(schema: str | None) -> bool:
    return schema not in (None, SCHEMA)


def _shown(name: str, schema: str | None) -> str:
    return name if schema is None else f"{schema}.{name}"


def _find(connection: Any, name: str, schema: str | None) -> Table | None:
    """The table; None for a view. NoSuchTableError when it is neither."""
    if not _elsewhere(schema):
        catalog = _catalog(connection)
        table = catalog.table(name)
        if table is not None:
            return table
        if catalog.view(name) is not None:
            return None
    raise exc.NoSuchTableError(_shown(name, schema))


def _column(column: Column) -> dict[str, Any]:
    text = None if column.default is None else column.default.text
    fills_itself = text == _GENERATED
    shown: dict[str, Any] = {
        "name": column.name,
        "type": from_sql_type(column.type),
        "nullable": column.nullable,
        "default": None if fills_itself else text,
        "autoincrement": fills_itself,
        "comment": column.comment,
    }
    if column.generated is not None:
        shown["computed"] = {"sqltext": column.generated.text, "persisted": True}
    return shown


def _view_columns(connection: Any, name: str) -> list[dict[str, Any]]:
    """The columns of a view, as the definitions of the moment make them."""
    quoted = '"' + name.replace('"', '""') + '"'
    cursor = connection.exec_driver_sql(f"SELECT * FROM {quoted} LIMIT 0").cursor
    described = [] if cursor is None or cursor.description is None else cursor.description
    return [
        {
            "name": column[0],
            "type": from_sql_type(_type_named(column[1])),
            "nullable": True,
            "default": None,
            "autoincrement": False,
        }
        for column in described
    ]


def _type_named(name: str | None) -> SqlType:
    return SqlType("NULL") if name is None else parse_type(name)


def _foreign_key(
    table: Table, key: ForeignKey, catalog: Catalog, schema: str | None
) -> dict[str, Any]:
    parent = catalog.table_by_id(key.parent_table_id)
    assert parent is not None  # a foreign key without a parent is not shown
    return {
        "name": key.name,
        "constrained_columns": list(table.names_of(key.column_ids)),
        "referred_schema": schema,
        "referred_table": parent.name,
        "referred_columns": list(parent.names_of(key.parent_column_ids)),
        "options": {} if key.on_delete == "NO ACTION" else {"ondelete": key.on_delete},
    }


def _index(table: Table, index: Index) -> dict[str, Any]:
    names = [
        None if each.expression is not None else table.column_by_id(each.column_id).name
        for each in index.columns
    ]
    texts = [
        name if each.expression is None else each.expression.text
        for name, each in zip(names, index.columns, strict=True)
    ]
    shown: dict[str, Any] = {
        "name": index.name,
        "column_names": names,
        "unique": index.unique,
        "dialect_options": {},
    }
    if None in names:
        shown["expressions"] = texts
    if index.predicate is not None:
        shown["dialect_options"]["murmur_where"] = index.predicate.text
    descending = {
        text: ("desc",) for text, each in zip(texts, index.columns, strict=True) if each.descending
    }
    if descending:
        shown["column_sorting"] = descending
    if index.constraint:
        shown["duplicates_constraint"] = index.name
    return shown
