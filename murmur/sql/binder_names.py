"""What every binder needs of a sqlglot tree: names, places, and that no part of it is ignored.

    fold(note), fold(NOTE) -> "note"      fold("Note" in quotes) -> "Note"

    only(select, "expressions", "from_")  raises Unsupported if the SELECT has any other clause

sqlglot reads far more than Murmur runs. A binder therefore states the parts of a node that it
understands, and anything else that is set is refused, never dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.errors import BindError, Unsupported
from murmur.sql.place import place

Tree: TypeAlias = Any  # sqlglot's
RESERVED = "murmur_"  # what system relations begin with

_PARAMETER = re.compile(r"%\((\d+)\)s")
_UPPER_TO_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")

# What users call the parts that sqlglot calls otherwise.
_CLAUSES = {
    "alternative": "INSERT OR ...",
    "cascade": "CASCADE",
    "cluster": "CLUSTER BY",
    "concurrently": "CONCURRENTLY",
    "db": "a schema name",
    "catalog": "a database name",
    "expression": "AS SELECT",
    "from_": "FROM",
    "group": "GROUP BY",
    "hint": "hints",
    "index_predicate": "a partial index as the target of ON CONFLICT",
    "into": "INTO",
    "joins": "joins",
    "locks": "FOR UPDATE",
    "materialized": "MATERIALIZED",
    "only": "ONLY",
    "properties": "table properties",
    "qualify": "QUALIFY",
    "replace": "OR REPLACE",
    "restrict": "RESTRICT",
    "sample": "TABLESAMPLE",
    "temporary": "TEMPORARY",
    "using": "USING",
    "version": "FOR SYSTEM_TIME",
    "windows": "WINDOW",
    "with_": "WITH",
}


def fold(identifier: Tree) -> str:
    """The name that an identifier means: quoted as it stands, otherwise in lower case (ASCII)."""
    name: str = identifier.name
    return name if identifier.args.get("quoted") else name.translate(_UPPER_TO_LOWER)


def start_of(node: Tree) -> int | None:
    """The offset in the text of the first token that is known to belong to the node."""
    starts = [found.meta["start"] for found in node.walk() if "start" in found.meta]
    return min(starts, default=None)


def pointing(message: str, node: Tree, text: str) -> str:
    """The message, and the place of the node below it."""
    start = start_of(node)
    return message if start is None else f"{message}\n{place(text, start)}"


def unsupported(message: str, node: Tree, text: str) -> Unsupported:
    """The error for valid SQL that Murmur does not have, with its place."""
    return Unsupported(pointing(message, node, text))


def unbound(message: str, node: Tree, text: str) -> BindError:
    """The error for a name that means nothing, or two things, with its place."""
    return BindError(pointing(message, node, text))


def only(node: Tree, text: str, *known: str) -> None:
    """Refuse a node of which anything but the `known` arguments is set."""
    for key, value in node.args.items():
        if value and key not in known:
            what = _CLAUSES.get(key, key.rstrip("_").replace("_", " ").upper())
            part = value[0] if isinstance(value, list) else value
            where = (
                part if isinstance(part, exp.Expression) and start_of(part) is not None else node
            )
            raise unsupported(f"{what} is not supported here", where, text)


def plain_name(table: Tree, text: str) -> str:
    """The name of a table reference that is nothing but a name (and perhaps an alias)."""
    if not isinstance(table, exp.Table):
        raise unsupported("a table name is expected here", table, text)
    only(table, text, "this", "alias")
    if not isinstance(table.this, exp.Identifier):
        raise unsupported("a table name is expected here", table, text)
    return fold(table.this)


def check_reserved(name: str, node: Tree, text: str) -> None:
    """Refuse a name that is kept for system relations."""
    if name.startswith(RESERVED):
        raise unbound(f'names that begin with "{RESERVED}" are reserved', node, text)


def named_before_as(target: Tree, text: str) -> tuple[Tree, str, tuple[str, ...]]:
    """What CREATE ... AS names before AS: the node of its name, the name, and names of columns."""
    columns: list[str] = []
    if isinstance(target, exp.Schema):
        columns = column_names(target.expressions, text, "before AS stand names of columns only")
        target = target.this
    name = plain_name(target, text)
    check_reserved(name, target, text)
    return target, name, tuple(columns)


def column_names(nodes: Iterable[Tree], text: str, otherwise: str) -> list[str]:
    """The names in a list of plain names; Unsupported, as `otherwise` says, for anything else."""
    names = []
    for node in nodes:
        if not isinstance(node, exp.Identifier):
            raise unsupported(otherwise, node, text)
        names.append(fold(node))
    return names


def alias_of(relation: Tree, text: str) -> str | None:
    """The alias of a relation, which must not rename its columns."""
    alias = relation.args.get("alias")
    if alias is None:
        return None
    if alias.args.get("columns"):
        raise unsupported("column names after a table's alias are not supported here", alias, text)
    return alias_name(alias, text)


def alias_name(alias: Tree, text: str) -> str:
    """What an alias calls its relation; sqlglot lets `AS (a, b)` pass without a name."""
    if not isinstance(alias.this, exp.Identifier):
        raise unbound("an alias begins with the relation's name", alias, text)
    return fold(alias.this)


def output_name(node: Tree) -> str:
    """What a result column is called when the statement does not say: the column's name, the
    function's name, or else the expression itself."""
    inner = node
    while isinstance(inner, exp.Cast | exp.Paren):
        inner = inner.this
    match inner:
        case exp.Alias():
            return fold(inner.args["alias"])
        case exp.Column():
            return fold(inner.this)
        case exp.Window() | exp.Filter() | exp.WithinGroup() | exp.IgnoreNulls():
            return output_name(inner.this)
        case exp.Case():
            return "case"
        case exp.Exists():
            return "exists"
        case exp.Subquery() if isinstance(inner.this, exp.Select) and inner.this.expressions:
            return output_name(inner.this.expressions[0])
        case exp.Anonymous():
            return str(inner.name).lower()
        case exp.Binary() | exp.Unary() | exp.Predicate() | exp.Bracket():
            pass
        case exp.Func():
            return _FUNCTIONS.get(inner.sql_name(), str(inner.sql_name()).lower())
    text = node.sql(dialect="postgres", comments=False, normalize_functions="lower")
    return str(_PARAMETER.sub(lambda found: f"${int(found[1]) + 1}", text))


# Functions that sqlglot knows under another name than the one that people write.
_FUNCTIONS = {
    "CURRENT_TIMESTAMP": "now",
    "GROUP_CONCAT": "string_agg",
    "LOGICAL_AND": "bool_and",
    "LOGICAL_OR": "bool_or",
    "ARRAY_UNIQUE_AGG": "array_agg",
    "STR_POSITION": "position",
    "TIME_TO_STR": "to_char",
    "TIMESTAMP_TRUNC": "date_trunc",
}
