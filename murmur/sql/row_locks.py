"""SELECT ... FOR UPDATE: the transaction commits only if nobody has changed the rows meanwhile.

    BEGIN; SELECT stars FROM note WHERE id = 7 FOR UPDATE; ...; COMMIT      Conflict, if it changed

Nothing waits here: the first to commit wins, and the other one runs again. So NOWAIT and SKIP
LOCKED have nothing to add, and FOR SHARE is the same. What is guarded are the rows of one table for
which WHERE is true, whatever LIMIT leaves of them. Outside of a transaction nothing follows.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlglot import exp

from murmur.sql.binder_names import unsupported

Tree: TypeAlias = Any  # sqlglot's

_PARTS = ("joins", "laterals", "group", "having", "distinct", "with_", "windows", "qualify")


def take_locks(tree: Tree, text: str) -> Tree | None:
    """The DELETE that would find the rows that a SELECT locks, and the SELECT without its locks."""
    if not isinstance(tree, exp.Select) or not tree.args.get("locks"):
        return None
    relation = tree.args["from_"].this if tree.args.get("from_") else exp.Null()
    plain = isinstance(relation, exp.Table) and isinstance(relation.this, exp.Identifier)
    if not plain or any(tree.args.get(part) for part in _PARTS):
        raise unsupported("FOR UPDATE is for a SELECT of the rows of one table", tree, text)
    tree.set("locks", None)
    where = tree.args.get("where")
    return exp.Delete(this=relation.copy(), where=None if where is None else where.copy())
