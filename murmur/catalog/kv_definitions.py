"""What a table over KV keys may be: which keys and columns, and what it cannot have.

    one primary key column, TEXT for a prefix of str keys, BLOB for one of bytes keys
    whole      exactly one more column: TEXT, BLOB or JSON
    json       more columns, of any type but COUNTER

Its rows change with every put, which asks no table. So nothing can be promised of them beyond the
key, nor derived from them: constraints, indexes and references are refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from murmur.catalog.kv_keys import TEXT_KEYS
from murmur.catalog.schema import ColumnDefinition, KvPrefix, Table, TableDefinition
from murmur.catalog.types import SqlType
from murmur.errors import InvalidInput

_WHOLE = ("TEXT", "BLOB", "JSON")


def kv_problem(kv: KvPrefix, key: Iterable[SqlType], others: Iterable[SqlType]) -> str | None:
    """Why a table with these columns cannot show the keys; None if it can."""
    text = kv.prefix.startswith(TEXT_KEYS)
    wanted = "TEXT" if text else "BLOB"
    if [each.name for each in key] != [wanted]:
        kind = "str" if text else "bytes"
        return f"its primary key is one {wanted} column, the rest of a key that is {kind}"
    names = [each.name for each in others]
    if kv.values == "whole" and (len(names) != 1 or names[0] not in _WHOLE):
        return (
            "besides the key it has one column, TEXT, BLOB or JSON, for the value; with "
            "VALUES JSON its columns are members of a JSON object"
        )
    if "COUNTER" in names:
        return "a value of a key has no COUNTER"
    return None


def check_kv_definition(definition: TableDefinition) -> None:
    """Refuse a CREATE TABLE over KV keys that cannot be."""
    kv = definition.kv
    if kv is None:
        return
    columns, key = definition.columns, definition.primary_key
    problem = kv_problem(
        kv,
        [column.type for column in columns if column.name in key],
        [column.type for column in columns if column.name not in key],
    )
    if problem is None:
        names = [
            (definition.uniques, "UNIQUE"),
            (definition.checks, "CHECK"),
            (definition.foreign_keys, "REFERENCES"),
            ([c for c in columns if not c.nullable and c.name not in key], "NOT NULL"),
            ([c for c in columns if c.generated is not None], "generated columns"),
        ]
        for parts, name in names:
            if parts:
                problem = f"it cannot have {name}: a put of a key asks no table"
    if problem is not None:
        raise InvalidInput(f'table "{definition.name}" over KV keys: {problem}')


def check_kv_column(table: Table, column: ColumnDefinition) -> None:
    """Refuse a column that cannot be added to a table over KV keys."""
    assert table.kv is not None
    key = [each.type for each in table.columns if each.id in table.primary_key]
    others = [each.type for each in table.columns if each.id not in table.primary_key]
    problem = kv_problem(table.kv, key, [*others, column.type])
    if problem is not None:
        raise InvalidInput(f'table "{table.name}" over KV keys: {problem}')
    if not column.nullable:
        refuse_kv(table.kv, table.name, "NOT NULL")
    if column.generated is not None:
        refuse_kv(table.kv, table.name, "generated columns")


def refuse_kv(kv: KvPrefix | None, table: str, what: str) -> None:
    """Refuse what a table over KV keys cannot have."""
    if kv is not None:
        raise InvalidInput(
            f'table "{table}" is over KV keys and cannot have {what}: a put of a key asks no table'
        )
