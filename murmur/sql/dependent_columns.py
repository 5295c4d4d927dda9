"""GROUP BY a primary key: the table's other columns depend on it and may be selected.

    SELECT a.name, count(n.id) FROM author a JOIN note n ON n.author = a.id GROUP BY a.id
      -> ... GROUP BY a.id, a.name

The columns that the SELECT reads beyond the key are added to GROUP BY, which makes no other groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.catalog import Catalog
from murmur.catalog.schema import Table
from murmur.sql.binder_names import fold

Tree: TypeAlias = Any  # sqlglot's


def with_dependent_columns(tree: Tree, catalog: Catalog) -> Tree:
    """The query, a copy if there is a GROUP BY to add to."""
    wanted = [_missing(select, catalog) for select in _grouped(tree)]
    if not any(wanted):
        return tree
    tree = tree.copy()
    for select, columns in zip(_grouped(tree), wanted, strict=True):
        select.args["group"].set(
            "expressions", [*select.args["group"].expressions, *(each.copy() for each in columns)]
        )
    return tree


def _grouped(tree: Tree) -> list[Tree]:
    """The SELECTs with a GROUP BY of nothing but expressions."""
    found = []
    for group in tree.find_all(exp.Group):
        plain = [key for key, value in group.args.items() if value] == ["expressions"]
        if plain and isinstance(group.parent, exp.Select):
            found.append(group.parent)
    return found


def _missing(select: Tree, catalog: Catalog) -> list[Tree]:
    """The columns to add to a SELECT's GROUP BY."""
    tables = _tables(select, catalog)
    grouped = set()
    for each in select.args["group"].expressions:
        column = _meant(each, select.expressions)
        if isinstance(column, exp.Column):
            grouped.add(_owner(column, tables))
    known = {
        name: table
        for name, table in tables.items()
        if table.primary_key
        and all((name, key) in grouped for key in table.names_of(table.primary_key))
    }
    if not known:
        return []
    missing: dict[tuple[str, str], Tree] = {}
    for relation, name in _read(select, tables, known):
        if (relation, name) not in grouped:
            missing[relation, name] = exp.column(
                exp.to_identifier(name, quoted=True), exp.to_identifier(relation, quoted=True)
            )
    return list(missing.values())


def _tables(select: Tree, catalog: Catalog) -> Mapping[str, Table]:
    """The tables of FROM by the names under which they are read."""
    from_ = select.args.get("from_")
    nodes = [] if from_ is None else [from_.this]
    nodes += [join.this for join in select.args.get("joins") or ()]
    ctes = {fold(cte.args["alias"].this) for cte in select.root().find_all(exp.CTE)}
    tables = {}
    for node in nodes:
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            name, alias = fold(node.this), node.args.get("alias")
            table = None if name in ctes else catalog.table(name)
            if table is not None and not (alias is not None and alias.args.get("columns")):
                tables[fold(alias.this) if alias is not None else name] = table
    return tables


def _meant(node: Tree, items: list[Tree]) -> Tree:
    """What GROUP BY 2 stands for."""
    if isinstance(node, exp.Literal) and node.is_int and 1 <= int(node.this) <= len(items):
        return items[int(node.this) - 1].unalias()
    return node


def _owner(column: Tree, tables: Mapping[str, Table]) -> tuple[str, str]:
    """The relation and the name of a column; a name that no table has is nobody's."""
    if not isinstance(column.this, exp.Identifier):
        return "", ""
    name, qualifier = fold(column.this), column.args.get("table")
    if qualifier is not None:
        return fold(qualifier), name
    owners = [relation for relation, table in tables.items() if table.column(name) is not None]
    return (owners[0], name) if len(owners) == 1 else ("", name)


def _read(
    select: Tree, tables: Mapping[str, Table], known: Mapping[str, Table]
) -> Iterator[tuple[str, str]]:
    """The columns of the known tables that the SELECT reads behind its GROUP BY."""
    clauses = [*select.expressions, select.args.get("having"), select.args.get("order")]
    for clause in filter(None, clauses):
        if isinstance(clause, exp.Star):
            yield from ((name, c.name) for name, table in known.items() for c in table.columns)
            continue
        for node in clause.find_all(exp.Column):
            if node.find_ancestor(exp.AggFunc) is not None:
                continue
            relation, name = _owner(node, tables)
            if isinstance(node.this, exp.Star):
                relation = fold(node.args["table"])
                yield from ((relation, c.name) for c in getattr(known.get(relation), "columns", ()))
            elif relation in known and known[relation].column(name) is not None:
                yield relation, name
