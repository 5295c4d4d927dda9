"""Binding a statement that writes in several places: WITH ... RETURNING, and TRUNCATE a, b.

    WITH gone AS (DELETE FROM note WHERE likes < 0 RETURNING *) INSERT INTO attic SELECT * FROM gone

      -> Several((Part("murmur_with_0", Delete(note)),), Insert(attic, query over murmur_with_0))

What a part returns is a relation to those behind it, under a name that nothing else can have. All
parts read what stood when the statement began (several.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.schema import Table
from murmur.catalog.types import TEXT
from murmur.sql.binder import Binding
from murmur.sql.binder_merge import bind_merge
from murmur.sql.binder_names import (
    RESERVED,
    alias_name,
    check_reserved,
    fold,
    only,
    unbound,
    unsupported,
)
from murmur.sql.binder_writes import bind_delete, bind_insert, bind_update
from murmur.sql.engines import plan_found
from murmur.sql.parser import WRITES
from murmur.sql.plan import Query, ResultColumn
from murmur.sql.plan_writes import Delete, Insert, Merge, Part, Several, Update

Tree: TypeAlias = Any  # sqlglot's

MAX_PARTS = 100


def bind_several(tree: Tree, binding: Binding) -> Several | Delete:
    """The plan of a statement that writes in several places."""
    if isinstance(tree, exp.TruncateTable):
        return _bind_truncate(tree, binding)
    return bind_with(tree, binding)


def bind_with(tree: Tree, binding: Binding) -> Several:
    """The plan of a statement whose WITH has parts that write."""
    main = tree.copy()
    clause = main.args["with_"]
    main.set("with_", None)
    only(clause, binding.text, "expressions", "recursive")
    relations: dict[str, tuple[ResultColumn, ...]] = {}

    def system(name: str) -> tuple[ResultColumn, ...] | None:
        return relations.get(name) or binding.system(name)

    binding = replace(binding, system=system)
    queries: list[Tree] = []  # of WITH, that only read
    parts: list[Part] = []
    pending = list(clause.expressions)
    if len(pending) > MAX_PARTS:
        raise unsupported(f"a WITH has at most {MAX_PARTS} parts that write", tree, binding.text)
    while pending:
        cte = pending.pop(0)
        if not isinstance(cte.this, WRITES):
            queries.append(cte)
            continue
        only(cte, binding.text, "this", "alias", "materialized")
        alias = cte.args["alias"]
        name = alias_name(alias, binding.text)
        check_reserved(name, alias, binding.text)
        plan = _bind_part(_with_queries(cte.this, queries, clause), binding)
        relation = f"{RESERVED}with_{len(parts)}"
        columns = () if plan.returning is None else plan.returning.columns
        renamed = [fold(column) for column in alias.args.get("columns") or ()]
        if len(renamed) > len(columns):
            raise unbound("more column names than columns", alias, binding.text)
        names = [*renamed, *(column.name for column in columns[len(renamed) :])]
        relations[relation] = tuple(
            ResultColumn(said, column.type or TEXT)
            for said, column in zip(names, columns, strict=True)
        )
        parts.append(Part(name, relation, relations[relation], plan))
        for behind in (*(each.this for each in pending), main):
            _refer(behind, name, relation, bool(columns), binding.text)
    bound = _with_queries(main, queries, clause)
    return Several(tuple(parts), _bind_main(bound, binding))


def _bind_truncate(tree: Tree, binding: Binding) -> Several | Delete:
    """The plan of TRUNCATE: a DELETE of all rows of each table; CASCADE adds those that refer to
    them. No key goes by a sequence, so that there is none to restart.
    """
    only(tree, binding.text, "expressions", "option", "identity")
    tables = list(dict.fromkeys(binding.table(each) for each in tree.expressions))
    if tree.args.get("option") == "CASCADE":
        for table in tables:  # which grows
            tables += [each for each in _children(table, binding) if each not in tables]
    plans = []
    for table in tables:
        name = exp.to_identifier(table.name, quoted=True)
        plans.append(bind_delete(exp.Delete(this=exp.Table(this=name)), binding))
    if len(plans) == 1:
        return plans[0]
    *first, last = plans
    parts = tuple(Part("", "", (), plan) for plan in first)
    return Several(parts, last, counted=True)


def _children(table: Table, binding: Binding) -> list[Table]:
    """The tables with a foreign key to this one."""
    return [
        child
        for child in binding.catalog.tables
        if any(key.parent_table_id == table.id for key in child.foreign_keys)
    ]


_BINDERS: dict[type, Callable[[Tree, Binding], Insert | Update | Delete | Merge]] = {
    exp.Insert: bind_insert,
    exp.Update: bind_update,
    exp.Delete: bind_delete,
    exp.Merge: bind_merge,
}


def _bind_part(tree: Tree, binding: Binding) -> Insert | Update | Delete | Merge:
    return _BINDERS[type(tree)](tree, binding)


def _bind_main(tree: Tree, binding: Binding) -> Query | Insert | Update | Delete | Merge:
    if isinstance(tree, WRITES):
        return _bind_part(tree, binding)
    return plan_found(tree, binding, "WITH")


def _with_queries(tree: Tree, queries: Sequence[Tree], clause: Tree) -> Tree:
    """The statement with the queries of the WITH before it that only read."""
    own = tree.args.get("with_")
    given = [*queries, *(() if own is None else own.expressions)]
    if not given:
        return tree
    recursive = clause.args.get("recursive") or (own is not None and own.args.get("recursive"))
    tree = tree.copy()
    copies = [query.copy() for query in given]
    tree.set("with_", exp.With(expressions=copies, recursive=recursive))
    return tree


def _refer(tree: Tree, name: str, relation: str, returns: bool, text: str) -> None:
    """Let a statement that names a part read the relation that it makes."""
    for cte in tree.find_all(exp.CTE):
        if alias_name(cte.args["alias"], text) == name:
            raise unsupported(f'"{name}" stands for two parts of WITH', cte, text)
    for table in list(tree.find_all(exp.Table)):
        if not isinstance(table.this, exp.Identifier) or fold(table.this) != name:
            continue
        if _is_target(table):
            message = f'"{name}" is a part of WITH, which cannot be written to'
            raise unbound(message, table, text)
        if not returns:
            raise unbound(f'"{name}" of WITH has no RETURNING, and so no rows', table, text)
        identifier = exp.to_identifier(relation, quoted=True)
        identifier.meta.update(table.this.meta)  # errors still point at it
        table.set("this", identifier)
        if table.args.get("alias") is None:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(name, quoted=True)))


def _is_target(table: Tree) -> bool:
    """Whether a statement writes to the table that is named here."""
    parent = table.parent
    if isinstance(parent, exp.Schema):
        table, parent = parent, parent.parent
    return isinstance(parent, WRITES) and table.arg_key == "this"
