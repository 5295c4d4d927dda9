"""CREATE statements for the tables of a catalog, as `.schema` shows them.

    CREATE TABLE note (
      id BIGINT PRIMARY KEY,
      body TEXT NOT NULL DEFAULT 'none',
      by UUID,
      CONSTRAINT note_by_fkey FOREIGN KEY (by) REFERENCES author (id)
    );
    CREATE INDEX note_body_idx ON note (body DESC);

Parents come before their children; a foreign key whose parent comes later (a cycle) is added at the
end by ALTER TABLE. So is one from a narrow column to a BIGINT: CREATE TABLE would widen the column.

Invariant: run in an empty database, the statements make the same tables under the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from murmur.catalog import (
        Catalog,
        Check,
        Column,
        ForeignKey,
        Index,
        IndexColumn,
        RowExpression,
        Table,
    )

GENERATED_ID = "generated id"  # the default of a key that fills itself: sql/generate.py


def create_statements(catalog: Catalog, tables: Sequence[Table]) -> Iterator[str]:
    """What creates these tables, in an order in which it can run."""
    ordered = _parents_first(tables)
    made: set[int] = set()
    later: list[tuple[Table, ForeignKey]] = []
    wanted = {table.id for table in ordered}
    for table in ordered:
        made.add(table.id)
        now = []
        for foreign_key in table.foreign_keys:
            parent = foreign_key.parent_table_id
            waits = parent in wanted and parent not in made
            if waits or _would_widen(catalog, table, foreign_key):
                later.append((table, foreign_key))
            else:
                now.append(foreign_key)
        yield _create_table(catalog, table, now)
        for index in table.indexes:
            if not index.constraint:
                yield _create_index(table, index)
        for trigrams in table.trigrams:
            column = quote(table.column_by_id(trigrams.column_id).name)
            on = f"{quote(trigrams.name)} ON {quote(table.name)}"
            yield f"CREATE INDEX {on} USING trigram ({column});"
        yield from _comments(table)
    for table, foreign_key in later:
        constraint = _foreign_key(catalog, table, foreign_key)
        yield f"ALTER TABLE {quote(table.name)} ADD {constraint};"


def _comments(table: Table) -> Iterator[str]:
    named = quote(table.name)
    said = [(f"TABLE {named}", table.comment)]
    said += [(f"COLUMN {named}.{quote(each.name)}", each.comment) for each in table.columns]
    said += [(f"INDEX {quote(each.name)}", each.comment) for each in table.indexes]
    for what, comment in said:
        if comment is not None:
            text = comment.replace("'", "''")
            yield f"COMMENT ON {what} IS '{text}';"


def quote(name: str) -> str:
    """A name as SQL reads it back."""
    if _SIMPLE.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def _would_widen(catalog: Catalog, table: Table, foreign_key: ForeignKey) -> bool:
    parent = catalog.table_by_id(foreign_key.parent_table_id)
    assert parent is not None  # the catalog shows no foreign key without its parent
    pairs = zip(foreign_key.column_ids, foreign_key.parent_column_ids, strict=True)
    return any(
        table.column_by_id(child).type.name in ("SMALLINT", "INTEGER")
        and parent.column_by_id(key).type.name == "BIGINT"
        for child, key in pairs
    )


def _parents_first(tables: Sequence[Table]) -> list[Table]:
    by_id = {table.id: table for table in tables}
    ordered: dict[int, Table] = {}
    path: set[int] = set()

    def visit(table: Table) -> None:
        if table.id in ordered or table.id in path:
            return
        path.add(table.id)
        for foreign_key in table.foreign_keys:
            if foreign_key.parent_table_id in by_id:
                visit(by_id[foreign_key.parent_table_id])
        path.discard(table.id)
        ordered[table.id] = table

    for table in tables:
        visit(table)
    return list(ordered.values())


def _create_table(catalog: Catalog, table: Table, foreign_keys: Iterable[ForeignKey]) -> str:
    inline = len(table.primary_key) == 1 and table.primary_key_name in ("", f"{table.name}_pkey")
    items = [_column(table, column, inline=inline) for column in table.columns]
    if table.primary_key and not inline:
        name = f"CONSTRAINT {quote(table.primary_key_name)} " if table.primary_key_name else ""
        items.append(f"{name}PRIMARY KEY {_names(table, table.primary_key)}")
    items += [
        f"CONSTRAINT {quote(index.name)} UNIQUE {_names(table, index.column_ids)}"
        for index in table.indexes
        if index.constraint
    ]
    items += [_check(table, check) for check in table.checks]
    items += [_foreign_key(catalog, table, foreign_key) for foreign_key in foreign_keys]
    body = ",\n".join("  " + item for item in items)
    return f"CREATE TABLE {quote(table.name)} (\n{body}\n){_kv_prefix(table)};"


def _kv_prefix(table: Table) -> str:
    if table.kv is None:
        return ""
    kind, prefix = table.kv.prefix[1], table.kv.prefix[2:]
    literal = "'" + prefix.decode().replace("'", "''") + "'" if kind == 1 else f"x'{prefix.hex()}'"
    return f" USING KV PREFIX {literal}" + (" VALUES JSON" if table.kv.values == "json" else "")


def _column(table: Table, column: Column, *, inline: bool) -> str:
    is_key = column.id in table.primary_key
    parts = [quote(column.name), str(column.type)]
    if inline and is_key:
        parts.append("PRIMARY KEY")
    elif not column.nullable and not is_key:
        parts.append("NOT NULL")
    if column.generated is not None:
        parts.append(f"GENERATED ALWAYS AS ({_expression(table, column.generated)}) STORED")
    if column.default is not None:
        if column.default.text != GENERATED_ID:
            parts.append(f"DEFAULT {column.default.text}")
        elif len(table.primary_key) > 1:
            parts.append("GENERATED BY DEFAULT AS IDENTITY")
    return " ".join(parts)


def _create_index(table: Table, index: Index) -> str:
    columns = ", ".join(
        _index_part(table, column) + (" DESC" if column.descending else "")
        for column in index.columns
    )
    unique = "UNIQUE " if index.unique else ""
    where = ""
    if index.predicate is not None:
        where = f" WHERE {_expression(table, index.predicate)}"
    return f"CREATE {unique}INDEX {quote(index.name)} ON {quote(table.name)} ({columns}){where};"


def _index_part(table: Table, part: IndexColumn) -> str:
    if part.expression is not None:
        return f"({_expression(table, part.expression)})"
    return quote(table.column_by_id(part.column_id).name)


def _check(table: Table, check: Check) -> str:
    return f"CONSTRAINT {quote(check.name)} CHECK ({_expression(table, check)})"


def _expression(table: Table, stored: Check | RowExpression) -> str:
    """A stored expression with today's names of its columns."""
    new = {
        old: table.column_by_id(column_id).name
        for old, column_id in zip(stored.column_names, stored.column_ids, strict=True)
    }
    if all(old == name for old, name in new.items()):
        return stored.text
    return _NAME.sub(lambda match: _renamed(match, new), stored.text)


def _renamed(match: re.Match[str], new: dict[str, str]) -> str:
    """One word of a stored expression under today's names: there, keywords are in capitals."""
    word = match[0]
    name = word[1:-1].replace('""', '"') if word.startswith('"') else word
    return quote(new[name]) if name in new else word


def _foreign_key(catalog: Catalog, table: Table, foreign_key: ForeignKey) -> str:
    parent = catalog.table_by_id(foreign_key.parent_table_id)
    assert parent is not None
    action = "" if foreign_key.on_delete == "NO ACTION" else f" ON DELETE {foreign_key.on_delete}"
    return (
        f"CONSTRAINT {quote(foreign_key.name)} "
        f"FOREIGN KEY {_names(table, foreign_key.column_ids)} "
        f"REFERENCES {quote(parent.name)} {_names(parent, foreign_key.parent_column_ids)}{action}"
    )


def _names(table: Table, column_ids: Sequence[int]) -> str:
    return "(" + ", ".join(map(quote, table.names_of(tuple(column_ids)))) + ")"


_SIMPLE = re.compile("[a-z_][a-z0-9_]*")
_NAME = re.compile(r"""[eE]?'(?:[^']|'')*'|"(?:[^"]|"")*"|[^\W\d]\w*""")

_POSTGRESQL = """
all analyse analyze and any array as asc asymmetric authorization between binary both case cast
check collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user default deferrable desc
distinct do else end except exists false fetch for foreign freeze from full grant group having
ilike in initially inner intersect into is isnull join lateral leading left like limit localtime
localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
references returning right select session_user similar some symmetric system_user table
tablesample then to trailing true union unique user using variadic verbose when where window with
"""
_PARSER = """
alter connect_by_root describe drop exclude function glob if insert partitioned_by qualify regexp
revoke rlike rollback uncache unnest values xor
"""
# Reserved in PostgreSQL, and read as something else by the parser.
_RESERVED = frozenset((_POSTGRESQL + _PARSER).split())
