"""The rows that an UPDATE or DELETE is about, where a query has to find them.

    UPDATE note n SET body = a.name FROM author a WHERE a.id = n.author

      -> SELECT n.id, a.name AS "murmur value 0" FROM note n CROSS JOIN author a
         WHERE a.id = n.author

The key is the primary key, or the row key. What RETURNING reads of the other relations comes behind
the values. A row that several rows of FROM or USING meet is changed once, by the first of them;
which one that is, is not defined, as in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.schema import Column as TableColumn
from murmur.catalog.schema import Table
from murmur.sql.binder import Binding, Scope, bind_items
from murmur.sql.binder_columnar import KEYED
from murmur.sql.binder_names import alias_name, fold, only, unbound, unsupported
from murmur.sql.engines import plan_columnar, plan_found
from murmur.sql.expressions import Column, Expr, NeedsColumnar
from murmur.sql.plan import KEY_COLUMN, Query, ResultColumn
from murmur.sql.plan_writes import Returning

Tree: TypeAlias = Any  # sqlglot's


def refuse_others(tree: Tree) -> None:
    """NeedsColumnar if the statement names other relations than its table."""
    for key, words in (("from_", "FROM"), ("using", "USING"), ("with_", "WITH")):
        if tree.args.get(key):
            raise NeedsColumnar(words)


def qualifier_of(tree: Tree) -> str:
    """What columns of the statement's table are qualified with."""
    return fold((tree.this.args.get("alias") or tree.this).this)


def target_rows(
    tree: Tree, table: Table, values: Sequence[Tree], binding: Binding, reason: str
) -> Query:
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
    return plan_found(select, binding, reason)


def bind_returning(
    tree: Tree, target: Sequence[Column], name: str, binding: Binding
) -> tuple[Returning, list[Tree]]:
    """RETURNING over the columns of the table and of FROM or USING, and which of these it reads."""
    node = tree.args["returning"]
    only(node, binding.text, "expressions")
    starred = any(isinstance(each, exp.Star) for each in node.find_all(exp.Star))
    named = {fold(each.this) for each in node.find_all(exp.Column) if each.name != "*"}
    relations = [(name, list(target))]
    read: list[Tree] = []
    for relation, columns in _other_columns(tree, binding):
        kept = []
        for column in columns:
            if starred or column.name in named:
                kept.append(Column(len(target) + len(read), column.name, column.type))
                read.append(_named(column.name, relation))
        relations.append((relation, kept))
    exprs: list[Expr] = []
    results: list[ResultColumn] = []
    scope = Scope(binding, *relations)
    try:
        for item in node.expressions:
            check_ambiguous(item, relations, binding.text)
            columns, of = [column for _, each in relations for column in each], ""
            if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
                of = fold(item.args["table"])
                columns = dict(relations).get(of, [])
                of = of if columns else name
            more, said = bind_items([item], scope, columns, of, binding.text)
            exprs += more
            results += said
    except NeedsColumnar as reason:
        message = f"{reason.reason} cannot stand in RETURNING"
        raise unsupported(message, node, binding.text) from None
    return Returning(tuple(exprs), tuple(results), len(read)), read


def check_ambiguous(
    item: Tree, relations: Sequence[tuple[str, Sequence[Column]]], text: str
) -> None:
    """Refuse a name without a relation that is a column of several."""
    for column in item.find_all(exp.Column):
        if column.args.get("table") is None:
            owners = [
                name
                for name, columns in relations
                if any(each.name == fold(column.this) for each in columns)
            ]
            if len(owners) > 1:
                message = f'column "{fold(column.this)}" is in {" and ".join(owners)}: say whose'
                raise unbound(message, column, text)


def _other_columns(tree: Tree, binding: Binding) -> list[tuple[str, list[Column]]]:
    """The relations of FROM or USING by name, with their columns."""
    found = []
    joins = _joins(tree)
    first, others = exp.From(this=joins[0].this), joins[1:]
    types = list(binding.types)
    for relation in (first.this, *(join.this for join in others)):
        name = _relation_name(relation, binding.text)
        star = exp.Column(this=exp.Star(), table=exp.to_identifier(name, quoted=True))
        select = exp.Select(
            expressions=[star], from_=first.copy(), joins=[join.copy() for join in others]
        )
        if (with_ := tree.args.get("with_")) is not None:
            select.set("with_", with_.copy())
        columns = plan_columnar(select, binding, "RETURNING").columns
        found.append((name, [Column(i, each.name, each.type) for i, each in enumerate(columns)]))
    binding.types[:] = types
    return found


def _relation_name(relation: Tree, text: str) -> str:
    alias = relation.args.get("alias")
    if alias is not None:
        return alias_name(alias, text)
    if isinstance(relation, exp.Table) and isinstance(relation.this, exp.Identifier):
        return fold(relation.this)
    raise unbound("a relation that RETURNING may read needs an alias", relation, text)


def _named(name: str, relation: str) -> Tree:
    return exp.column(
        exp.to_identifier(name, quoted=True), exp.to_identifier(relation, quoted=True)
    )


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
