"""CREATE INDEX ... USING trigram, of one text column.

    CREATE INDEX note_text ON note USING trigram (body)
    CREATE INDEX note_text ON note USING gin (body gin_trgm_ops)      PostgreSQL's words for it

gin without gin_trgm_ops is an index of something else, and is refused.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlglot import exp

from murmur.sql.binder import Binding
from murmur.sql.binder_names import check_reserved, fold, only, plain_name, start_of, unsupported
from murmur.sql.ddl_actions import CreateTrigramIndex, Step

Tree: TypeAlias = Any  # sqlglot's

_METHODS = ("trigram", "gin")
_OPERATORS = "gin_trgm_ops"


def is_trigram(index: Tree) -> bool:
    """Whether an index is asked for that is not an ordered one."""
    using = index.args["params"].args.get("using")
    return using is not None and using.name.lower() in _METHODS


def bind_trigram_index(tree: Tree, binding: Binding) -> Step:
    """The step of a CREATE INDEX."""
    text, index = binding.text, tree.this
    params = index.args["params"]
    only(params, text, "columns", "using")
    if tree.args.get("unique"):
        raise unsupported("an index of trigrams is not UNIQUE", index, text)
    columns: list[Tree] = params.args.get("columns") or []
    if len(columns) != 1:
        raise unsupported("an index of trigrams is of one column", index, text)
    (ordered,) = columns
    only(ordered, text, "this", "nulls_first")
    node, operators = ordered.this, ""
    if isinstance(node, exp.Opclass):
        node, operators = node.this, node.expression.name.lower()
    is_gin = params.args["using"].name.lower() == "gin"
    if operators not in ({_OPERATORS} if is_gin else {_OPERATORS, ""}):
        raise unsupported(f"of USING gin there is (column {_OPERATORS}) only", ordered, text)
    if not isinstance(node, exp.Column) or node.args.get("table") is not None:
        raise unsupported("an index of trigrams is of a column", ordered, text)
    name = "" if index.this is None else fold(index.this)
    if name:
        check_reserved(name, index, text)
    table = plain_name(index.args["table"], text)
    action = CreateTrigramIndex(name, table, fold(node.this), bool(tree.args.get("exists")))
    return Step(action, start_of(index if name else index.args["table"]))
