"""The parts of a table's definition, and keys that fill themselves.

    (id INTEGER PRIMARY KEY, up INT REFERENCES t)  ->  id BIGINT DEFAULT generated id, up BIGINT

What an INTEGER PRIMARY KEY is filled with has 63 bits (catalog.generated), so the column is BIGINT,
and so is every column of a narrower integer that references it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from murmur.catalog.schema import (
    CheckDefinition,
    ColumnDefinition,
    Default,
    ForeignKeyDefinition,
    UniqueDefinition,
)
from murmur.catalog.types import BIGINT, SqlType
from murmur.errors import InvalidInput
from murmur.sql.binder import Binding
from murmur.sql.generate import GENERATED_ID

Tree: TypeAlias = Any  # sqlglot's


@dataclass(slots=True)
class Parts:
    """What a definition consists of, in the order in which it was written."""

    table: str
    binding: Binding
    columns: dict[str, ColumnDefinition] = field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    primary_key_name: str = ""
    generated: set[str] = field(default_factory=set)
    computed: dict[str, Tree] = field(default_factory=dict)
    uniques: list[UniqueDefinition] = field(default_factory=list)
    foreign_keys: list[ForeignKeyDefinition] = field(default_factory=list)
    checks: list[tuple[Tree, str]] = field(default_factory=list)
    copied_checks: list[CheckDefinition] = field(default_factory=list)  # LIKE


def widen_keys(parts: Parts) -> None:
    """Keys that fill themselves are BIGINT, and so is what references a BIGINT."""
    for name in parts.primary_key:
        column = parts.columns.get(name)
        if column is None or column.type.name not in ("INTEGER", "BIGINT"):
            continue
        if name in parts.generated or (len(parts.primary_key) == 1 and column.default is None):
            default = Default("function", None, GENERATED_ID)
            parts.columns[name] = replace(column, type=BIGINT, default=default)
            parts.generated.discard(name)
    if parts.generated:
        name = min(parts.generated)
        raise InvalidInput(f'column "{name}": GENERATED AS IDENTITY is for an integer PRIMARY KEY')
    for foreign_key in parts.foreign_keys:
        types = _parent_types(foreign_key, parts)
        for name, parent in zip(foreign_key.columns, types, strict=False):
            column = parts.columns.get(name)
            if column is not None and parent == BIGINT and column.type.name in _NARROW:
                parts.columns[name] = replace(column, type=BIGINT)


_NARROW = ("SMALLINT", "INTEGER")


def _parent_types(foreign_key: ForeignKeyDefinition, parts: Parts) -> Sequence[SqlType | None]:
    if foreign_key.parent == parts.table:
        names = foreign_key.parent_columns or parts.primary_key
        own = [parts.columns.get(name) for name in names]
        return [column.type if column is not None else None for column in own]
    table = parts.binding.catalog.table(foreign_key.parent)
    if table is None:
        return ()
    names = foreign_key.parent_columns or table.names_of(table.primary_key)
    columns = [table.column(name) for name in names]
    return [column.type if column is not None else None for column in columns]
