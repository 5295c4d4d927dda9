"""CREATE TABLE x (LIKE y INCLUDING ...): another table's columns, and what else is asked for.

    LIKE y                            names, types, NOT NULL
    INCLUDING DEFAULTS | IDENTITY     DEFAULTs; keys that fill themselves
    INCLUDING GENERATED               generated columns, which are plain columns without it
    INCLUDING CONSTRAINTS             CHECKs
    INCLUDING INDEXES                 the primary key, UNIQUE and indexes, under names of their own
    INCLUDING COMMENTS                of the columns
    INCLUDING ALL EXCLUDING INDEXES   in order: the last word counts

Foreign keys are not copied. The tables have nothing in common afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from murmur.catalog.schema import (
    CheckDefinition,
    Column,
    ColumnDefinition,
    ExpressionDefinition,
    RowExpression,
    Table,
    UniqueDefinition,
)
from murmur.errors import Unsupported
from murmur.sql.binder_keys import Parts
from murmur.sql.binder_names import plain_name, unbound, unsupported
from murmur.sql.ddl_actions import Action, Comment, CreateIndex, CreateTrigramIndex
from murmur.sql.generate import GENERATED_ID

Tree: TypeAlias = Any  # sqlglot's

_KNOWN = ("COMMENTS", "CONSTRAINTS", "DEFAULTS", "GENERATED", "IDENTITY", "INDEXES")
_NOTHING_HERE = ("COMPRESSION", "STATISTICS", "STORAGE")


def bind_like(node: Tree, parts: Parts) -> list[Action]:
    """Add to a definition what LIKE copies; the actions that follow when the table is made."""
    text = parts.binding.text
    name = plain_name(node.this, text)
    source = parts.binding.catalog.table(name)
    if source is None:
        raise unbound(f'there is no table "{name}"', node.this, text)
    wanted = _wanted(node, text)
    for column in source.columns:
        if column.name in parts.columns:
            raise unbound(f'column "{column.name}" is defined twice', node.this, text)
        parts.columns[column.name] = copied_column(column, source, wanted)
    if "CONSTRAINTS" in wanted:
        for check in source.checks:
            names = names_then(source, check.column_ids, check.column_names, check.name)
            parts.copied_checks.append(CheckDefinition(check.text, names, check.name))
    if "INDEXES" in wanted:
        if parts.primary_key and source.primary_key:
            raise unbound("a table has one PRIMARY KEY", node.this, text)
        parts.primary_key = parts.primary_key or source.names_of(source.primary_key)
        for index in source.indexes:
            if index.constraint:
                parts.uniques.append(UniqueDefinition(source.names_of(index.column_ids)))
    return list(following(source, parts.table, wanted))


def _wanted(node: Tree, text: str) -> set[str]:
    wanted: set[str] = set()
    for option in node.args.get("expressions") or ():
        word = option.args["value"].name.upper()
        if word != "ALL" and word not in (*_KNOWN, *_NOTHING_HERE):
            raise unsupported(f"LIKE knows no {word}", node, text)
        words = set(_KNOWN) if word == "ALL" else {word}
        including = str(option.this).upper() == "INCLUDING"
        wanted = wanted | words if including else wanted - words
    return wanted


def copied_column(column: Column, source: Table, wanted: set[str]) -> ColumnDefinition:
    """A column as a definition, with what is wanted of it."""
    default = column.default
    if default is not None:
        fills_itself = default.text == GENERATED_ID
        default = default if ("IDENTITY" if fills_itself else "DEFAULTS") in wanted else None
    generated = column.generated if "GENERATED" in wanted else None
    return ColumnDefinition(
        column.name,
        column.type,
        column.nullable,
        default,
        None if generated is None else _definition(generated, source, column.name),
    )


def following(
    source: Table, table: str, wanted: set[str], *, named: bool = False
) -> Iterator[Action]:
    """What a table gets when it is made, its indexes as they are `named` or by themselves."""
    if "INDEXES" in wanted:
        for index in source.indexes:
            if index.constraint:
                continue
            columns: tuple[tuple[str | ExpressionDefinition, bool], ...] = tuple(
                (
                    source.column_by_id(part.column_id).name
                    if part.expression is None
                    else _definition(part.expression, source, index.name),
                    part.descending,
                )
                for part in index.columns
            )
            predicate = index.predicate
            yield CreateIndex(
                index.name if named else "",
                table,
                columns,
                index.unique,
                if_not_exists=False,
                predicate=None if predicate is None else _definition(predicate, source, index.name),
            )
        for each in source.trigrams:
            indexed = source.column_by_id(each.column_id).name
            name = each.name if named else ""
            yield CreateTrigramIndex(name, table, indexed, if_not_exists=False)
    if "COMMENTS" in wanted:
        if named:
            if source.comment is not None:
                yield Comment("TABLE", table, "", source.comment)
            for index in source.indexes:
                if index.comment is not None:
                    yield Comment("INDEX", index.name, "", index.comment)
        for column in source.columns:
            if column.comment is not None:
                yield Comment("COLUMN", table, column.name, column.comment)


def _definition(expression: RowExpression, source: Table, name: str) -> ExpressionDefinition:
    names = names_then(source, expression.column_ids, expression.column_names, name)
    return ExpressionDefinition(expression.text, expression.type, names)


def names_then(
    source: Table, column_ids: tuple[int, ...], names: tuple[str, ...], what: str
) -> tuple[str, ...]:
    """The names that a text has for columns, as long as they are still called so."""
    if source.names_of(column_ids) != names:
        raise Unsupported(
            f'"{what}" of "{source.name}" was written before a column got another name: '
            "LIKE cannot copy it"
        )
    return names
