"""Schema names: tables stand in `public`, and `information_schema` tells of them.

public.note, murmur.public.note     ->  note
information_schema.tables t         ->  "information_schema.tables" t
ONLY note                           ->  note     (no table inherits from another)
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlglot import exp

from murmur.errors import BindError
from murmur.sql.binder_names import fold, unbound
from murmur.sql.information_schema import CATALOG, PREFIX, SCHEMA

Tree: TypeAlias = Any  # sqlglot's


def resolve_schemas(tree: Tree, text: str) -> None:
    """Take the schema names out of a statement's tree; BindError for one that there is not."""
    if isinstance(tree, exp.Alter):
        tree.set("only", None)
    for node in list(tree.find_all(exp.Table, exp.Column)):
        if isinstance(node, exp.Table):
            node.set("only", None)
        schema, catalog = node.args.get("db"), node.args.get("catalog")
        if schema is None:
            continue
        if not isinstance(schema, exp.Identifier):  # a..b
            raise unbound("the name of a schema is missing", node, text)
        if catalog is not None and fold(catalog) != CATALOG:
            raise unbound(f'there is no database "{fold(catalog)}"', node, text)
        name = fold(schema)
        if isinstance(node, exp.Table) and name == PREFIX[:-1]:
            _qualify(node)
        elif name not in (SCHEMA, PREFIX[:-1]):
            raise _no_schema(name, node, text)
        node.set("db", None)
        node.set("catalog", None)


def _qualify(node: Tree) -> None:
    if not isinstance(node.this, exp.Identifier):
        return
    short = fold(node.this)
    identifier = exp.to_identifier(PREFIX + short, quoted=True)
    identifier.meta.update(node.this.meta)  # errors still point at it
    node.set("this", identifier)
    if node.args.get("alias") is None:
        node.set("alias", exp.TableAlias(this=exp.to_identifier(short, quoted=True)))


def _no_schema(name: str, node: Tree, text: str) -> BindError:
    return unbound(f'there is no schema "{name}": tables stand in {SCHEMA}', node, text)
