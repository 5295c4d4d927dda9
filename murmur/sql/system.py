"""System relations: what the database says about itself, as relations that can be queried.

    murmur_tables, murmur_columns, murmur_indexes,      from the catalog of the statement's
    murmur_views                                        snapshot
    information_schema.tables, ...                      the same by the standard's names
    murmur_peers, murmur_conflicts, murmur_parked, ...  from whoever joins the floors

    SELECT name, type FROM murmur_columns WHERE table_name = 'note' ORDER BY position

The names begin with murmur_, which no table's name may. They are read only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias

from murmur.catalog.catalog import Catalog
from murmur.catalog.kv_keys import show_key
from murmur.catalog.schema import Table
from murmur.catalog.types import BOOLEAN, INTEGER, TEXT
from murmur.kvcore.view import View
from murmur.sql import information_schema
from murmur.sql.plan import ResultColumn

Row: TypeAlias = tuple[Any, ...]


class SystemRelations(Protocol):
    """Relations that other floors supply."""

    def columns(self, name: str) -> tuple[ResultColumn, ...] | None:
        """The columns of a relation; None when there is none of this name."""
        ...

    def rows(self, name: str, view: View) -> Iterable[Row]:
        """What it holds, in this view."""
        ...


_COLUMNS = {
    "murmur_tables": (
        ("name", TEXT),
        ("columns", INTEGER),
        ("primary_key", TEXT),
        ("indexes", INTEGER),
        ("generation", INTEGER),
        ("id", TEXT),
        ("kv_prefix", TEXT),
        ("kv_values", TEXT),
        ("comment", TEXT),
    ),
    "murmur_columns": (
        ("table_name", TEXT),
        ("name", TEXT),
        ("position", INTEGER),
        ("type", TEXT),
        ("is_nullable", BOOLEAN),
        ("column_default", TEXT),
        ("key_position", INTEGER),
        ("id", TEXT),
        ("generated_as", TEXT),
        ("comment", TEXT),
    ),
    "murmur_views": (("name", TEXT), ("definition", TEXT), ("id", TEXT), ("comment", TEXT)),
    "murmur_indexes": (
        ("name", TEXT),
        ("table_name", TEXT),
        ("columns", TEXT),
        ("is_unique", BOOLEAN),
        ("is_constraint", BOOLEAN),
        ("id", TEXT),
        ("predicate", TEXT),
        ("method", TEXT),
        ("comment", TEXT),
    ),
}


class System:
    """All system relations: the catalog's own, and those of a supplier."""

    def __init__(self, supplier: SystemRelations | None) -> None:
        self._supplier = supplier

    def columns(self, name: str) -> tuple[ResultColumn, ...] | None:
        """The columns of a relation; None when there is none of this name."""
        own = _COLUMNS.get(name) or information_schema.COLUMNS.get(name)
        if own is not None:
            return tuple(ResultColumn(*column) for column in own)
        return None if self._supplier is None else self._supplier.columns(name)

    def rows(self, name: str, view: View) -> Iterable[Row]:
        """What it holds, in this view."""
        match name:
            case "murmur_tables":
                return map(_table, _catalog(view).tables)
            case "murmur_columns":
                return (row for table in _catalog(view).tables for row in _columns(table))
            case "murmur_views":
                views = _catalog(view).views
                return ((v.name, v.text, f"{v.id:016x}", v.comment) for v in views)
            case "murmur_indexes":
                return (row for table in _catalog(view).tables for row in _indexes(table))
        if name.startswith(information_schema.PREFIX):
            return information_schema.rows(name, _catalog(view))
        assert self._supplier is not None
        return self._supplier.rows(name, view)


def _catalog(view: View) -> Catalog:
    catalog = view.state  # type: ignore[attr-defined]  # snapshots and transactions have it
    assert isinstance(catalog, Catalog)
    return catalog


def _table(table: Table) -> Row:
    key = ", ".join(table.names_of(table.primary_key)) or None
    counts = len(table.columns), len(table.indexes) + len(table.trigrams)
    kv = (None, None) if table.kv is None else (show_key(table.kv.prefix), table.kv.values)
    identity = f"{table.id:016x}"
    return table.name, counts[0], key, counts[1], table.generation, identity, *kv, table.comment


def _columns(table: Table) -> Iterator[Row]:
    keys = {column_id: i for i, column_id in enumerate(table.primary_key, 1)}
    for column in table.columns:
        yield (
            table.name,
            column.name,
            column.position + 1,
            str(column.type),
            column.nullable,
            None if column.default is None else column.default.text,
            keys.get(column.id),
            f"{column.id:08x}",
            None if column.generated is None else column.generated.text,
            column.comment,
        )


def _indexes(table: Table) -> Iterator[Row]:
    for index in table.indexes:
        columns = [
            table.text_of(column) + (" DESC" if column.descending else "")
            for column in index.columns
        ]
        yield (
            index.name,
            table.name,
            ", ".join(columns),
            index.unique,
            index.constraint,
            f"{index.id:016x}",
            None if index.predicate is None else index.predicate.text,
            "btree",
            index.comment,
        )
    for each in table.trigrams:
        column = table.column_by_id(each.column_id).name
        yield each.name, table.name, column, False, False, f"{each.id:016x}", None, "trigram", None
