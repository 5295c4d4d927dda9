"""DDL as data: the actions that statements are made of.

    ALTER TABLE note ADD COLUMN stars INT UNIQUE CHECK (stars > 0)
      -> AddColumn("note", ...), AddUnique("note", ...), AddCheck("note", ...)

A statement is a list of steps, which ddl.py carries out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from murmur.catalog.schema import (
    CheckDefinition,
    ColumnDefinition,
    Default,
    ExpressionDefinition,
    ForeignKeyDefinition,
    TableDefinition,
    UniqueDefinition,
)
from murmur.catalog.types import SqlType


@dataclass(frozen=True, slots=True)
class CreateTable:
    """CREATE TABLE."""

    definition: TableDefinition
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class DropTable:
    """DROP TABLE."""

    name: str
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True)
class CreateView:
    """CREATE [OR REPLACE] VIEW."""

    name: str
    text: str
    columns: tuple[str, ...]
    replace: bool


@dataclass(frozen=True, slots=True)
class DropView:
    """DROP VIEW."""

    name: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class RenameTable:
    """ALTER TABLE ... RENAME TO."""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class AddColumn:
    """ALTER TABLE ... ADD COLUMN, with the constraints that came with it."""

    table: str
    column: ColumnDefinition
    if_not_exists: bool
    constraints: tuple[AddConstraint, ...] = ()


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """ALTER TABLE ... RENAME COLUMN."""

    table: str
    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class DropColumn:
    """ALTER TABLE ... DROP COLUMN."""

    table: str
    name: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class SetDefault:
    """ALTER COLUMN ... SET DEFAULT; None: DROP DEFAULT."""

    table: str
    name: str
    default: Default | None


@dataclass(frozen=True, slots=True)
class SetNotNull:
    """ALTER COLUMN ... SET NOT NULL, or DROP NOT NULL."""

    table: str
    name: str
    drop: bool


@dataclass(frozen=True, slots=True)
class SetType:
    """ALTER COLUMN ... TYPE."""

    table: str
    name: str
    type: SqlType


@dataclass(frozen=True, slots=True)
class RenameIndex:
    """ALTER INDEX ... RENAME TO."""

    name: str
    new_name: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class RenameView:
    """ALTER VIEW ... RENAME TO."""

    name: str
    new_name: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class Comment:
    """COMMENT ON kind name, or table.column; None takes the comment away."""

    kind: str
    name: str
    column: str
    text: str | None


Constraint: TypeAlias = UniqueDefinition | ForeignKeyDefinition | CheckDefinition


@dataclass(frozen=True, slots=True)
class AddConstraint:
    """ALTER TABLE ... ADD CONSTRAINT."""

    table: str
    constraint: Constraint


@dataclass(frozen=True, slots=True)
class AddPrimaryKey:
    """ALTER TABLE ... ADD PRIMARY KEY."""

    table: str
    columns: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class DropConstraint:
    """ALTER TABLE ... DROP CONSTRAINT."""

    table: str
    name: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """CREATE INDEX; columns and expressions, with whether they descend."""

    name: str
    table: str
    columns: tuple[tuple[str | ExpressionDefinition, bool], ...]
    unique: bool
    if_not_exists: bool
    predicate: ExpressionDefinition | None = None


@dataclass(frozen=True, slots=True)
class CreateTrigramIndex:
    """CREATE INDEX ... USING trigram."""

    name: str
    table: str
    column: str
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class DropIndex:
    """DROP INDEX."""

    name: str
    if_exists: bool


Action: TypeAlias = (
    CreateTable
    | DropTable
    | CreateView
    | DropView
    | RenameTable
    | AddColumn
    | RenameColumn
    | DropColumn
    | AddConstraint
    | AddPrimaryKey
    | DropConstraint
    | CreateIndex
    | CreateTrigramIndex
    | DropIndex
    | SetDefault
    | SetNotNull
    | SetType
    | RenameIndex
    | RenameView
    | Comment
)


@dataclass(frozen=True, slots=True)
class Step:
    """One action, and where in the statement its name stands."""

    action: Action
    start: int | None
