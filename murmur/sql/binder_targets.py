"""The rows that an UPDATE or DELETE is about, where the columnar engine has to find them.

    UPDATE note n SET body = a.name FROM author a WHERE a.id = n.author

      -> SELECT n.id, a.name AS "murmur value 0" FROM note n CROSS JOIN author a
         WHERE a.id = n.author

The key is the primary key, or the row key. A row that several rows of FROM or USING meet is changed
once, by the first of them; which one that is, is not defined, as in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.schema import Column as TableColumn
from murmur.catalog.schema import Table
from murmur.sql.binder import Binding
from murmur.sql.binder_columnar import KEYED
from murmur.sql.binder_names import fold
from murmur.sql.engines import plan_columnar
from murmur.sql.expressions import NeedsColumnar
from murmur.sql.plan import KEY_COLUMN, ColumnarQuery

Tree: TypeAlias = Any  # sqlglot's


def refuse_others(tree: Tree) -> None:
    """NeedsColumnar if the statement names other relations than its table."""
    for key, words in (("from_", "FROM"), ("using", "USING"), ("with_", "WITH")):
        if tree.args.get(key):
            raise NeedsColumnar(words)


def qualifier_of(tree: Tree) -> str:
    """What columns of the statement's table are qualified with."""
    return fold((tree.this.args.get("alias") or tree.this).this)


def columnar_rows(
    tree: Tree, table: Table, values: Sequence[Tree], binding: Binding, reason: str
) -> ColumnarQuery:
    """The query for the keys of the rows and, after them, the values."""
    relation = tree.this.copy()
    qualifier = qualifier_of(tree)
    if table.primary_key:
        key = list(table.names_of(table.primary_key))
    else:
        key = [KEY_COLUMN]
        relation.meta[KEYED] = True
    items: list[Tree] = [
        exp.column(exp.to_identifier(name, quoted=True), exp.to_identifier(qualifier, quoted=True))
        for name in key
    ]
    for i, value in enumerate(values):
        name = exp.to_identifier(f"murmur value {i}", quoted=True)
        items.append(exp.Alias(this=value.copy(), alias=name))
    select = exp.Select(expressions=items, from_=exp.From(this=relation), joins=_joins(tree))
    if (with_ := tree.args.get("with_")) is not None:
        select.set("with_", with_.copy())
    if (where := tree.args.get("where")) is not None:
        select.set("where", where.copy())
    return plan_columnar(select, binding, reason)


def tree_amount(column: TableColumn, node: Tree, qualifier: str) -> tuple[Tree, bool]:
    """n + x and n - x as what they add, on the tree."""

    def is_column(side: Tree) -> bool:
        return (
            isinstance(side, exp.Column)
            and fold(side.this) == column.name
            and (side.args.get("table") is None or fold(side.args["table"]) == qualifier)
        )

    def reads_column(side: Tree) -> bool:
        return any(is_column(each) for each in side.find_all(exp.Column))

    match node:
        case exp.Add() if is_column(node.this) and not reads_column(node.expression):
            return node.expression, True
        case exp.Add() if is_column(node.expression) and not reads_column(node.this):
            return node.this, True
        case exp.Sub() if is_column(node.this) and not reads_column(node.expression):
            return exp.Neg(this=exp.Paren(this=node.expression.copy())), True
    return node, False


def _joins(tree: Tree) -> list[Tree]:
    """What the table is joined with: the relations of FROM or USING, and their joins."""
    from_ = tree.args.get("from_")
    relations = [from_.this] if from_ else tree.args.get("using") or []
    joins: list[Tree] = []
    for relation in relations:
        first = relation.copy()
        others = first.args.get("joins") or []
        first.set("joins", None)
        joins += [exp.Join(this=first, kind="CROSS"), *others]
    return joins
