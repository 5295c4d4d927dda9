"""Binding what edits a definition in place: ALTER COLUMN, COMMENT ON, RENAME of an index or a view.

ALTER TABLE note ALTER stars SET DEFAULT 3      ->  SetDefault("note", "stars", 3)
COMMENT ON COLUMN note.stars IS 'one to five'   ->  Comment("COLUMN", "note", "stars", ...)
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.schema import ColumnDefinition
from murmur.sql.binder import Binding
from murmur.sql.binder_defaults import bind_column_type, bind_default
from murmur.sql.binder_names import (
    check_reserved,
    fold,
    only,
    plain_name,
    start_of,
    unbound,
    unsupported,
)
from murmur.sql.ddl_actions import (
    Comment,
    RenameIndex,
    RenameView,
    SetDefault,
    SetNotNull,
    SetType,
    Step,
)

Tree: TypeAlias = Any  # sqlglot's


def bind_alter_column(table: str, action: Tree, binding: Binding) -> Step:
    """ALTER [COLUMN] name SET or DROP DEFAULT, SET or DROP NOT NULL, TYPE."""
    text = binding.text
    only(action, text, "this", "default", "drop", "allow_null", "dtype", "using", "collate")
    name, start = fold(action.this), start_of(action.this)
    if (kind := action.args.get("dtype")) is not None:
        if action.args.get("using") or action.args.get("collate"):
            raise unsupported("a type changes without USING and COLLATE", action, text)
        return Step(SetType(table, name, bind_column_type(kind, action, text)), start)
    allow_null = action.args.get("allow_null")
    if allow_null is not None:
        return Step(SetNotNull(table, name, drop=bool(allow_null)), start)
    if action.args.get("drop"):
        return Step(SetDefault(table, name, None), start)
    node = action.args.get("default")
    if node is None:
        raise unsupported("this form of ALTER COLUMN is not supported", action, text)
    known = binding.catalog.table(table)
    column = None if known is None else known.column(name)
    if column is None:
        raise unbound(f'there is no column "{name}" in "{table}"', action.this, text)
    definition = ColumnDefinition(name, column.type)
    return Step(SetDefault(table, name, bind_default(node, definition, table, binding)), start)


def bind_rename(tree: Tree, binding: Binding) -> Step:
    """ALTER INDEX or VIEW name RENAME TO another."""
    text = binding.text
    only(tree, text, "this", "kind", "exists", "actions")
    kind, name = tree.args["kind"], plain_name(tree.this, text)
    actions = tree.args["actions"]
    if len(actions) != 1 or not isinstance(actions[0], exp.AlterRename):
        raise unsupported(f"ALTER {kind} takes RENAME TO", tree, text)
    (action,) = actions
    only(action, text, "this")
    new_name, exists = plain_name(action.this, text), bool(tree.args.get("exists"))
    check_reserved(new_name, action, text)
    make = RenameIndex if kind == "INDEX" else RenameView
    return Step(make(name, new_name, exists), start_of(tree.this))


def bind_comment(tree: Tree, binding: Binding) -> Step:
    """COMMENT ON TABLE, COLUMN, INDEX or VIEW."""
    text = binding.text
    only(tree, text, "this", "kind", "expression")
    kind, node, said = str(tree.args["kind"]).upper(), tree.this, tree.expression
    if not isinstance(said, exp.Null) and not (isinstance(said, exp.Literal) and said.is_string):
        raise unsupported("a comment is a text or NULL", tree, text)
    comment = None if isinstance(said, exp.Null) else str(said.this)
    if kind == "COLUMN":
        if not isinstance(node, exp.Column) or node.args.get("table") is None:
            raise unbound("COMMENT ON COLUMN takes table.column", node, text)
        only(node, text, "this", "table")
        action = Comment(kind, fold(node.args["table"]), fold(node.this), comment)
    elif kind in ("TABLE", "INDEX", "VIEW"):
        action = Comment(kind, plain_name(node, text), "", comment)
    else:
        raise unsupported(f"COMMENT ON {kind} is not supported", node, text)
    return Step(action, start_of(node))
