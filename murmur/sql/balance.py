"""Long chains of set operations as shallow trees: UNION and INTERSECT are associative.

    ((((a UNION b) UNION c) UNION d) UNION e)        (((a UNION b) UNION (c UNION d)) UNION e)

Text that programs write has hundreds of SELECTs in such a chain; each would be a level of the tree.
Short chains stay as they are, and those of WITH RECURSIVE, where the two sides mean two things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlglot import exp

LONG = 32

Tree: TypeAlias = Any  # sqlglot's

_KINDS = (exp.Union, exp.Intersect)
_PLAIN = {"this", "expression", "distinct"}


def balance_unions(tree: Tree) -> None:
    """Change the tree in place; rows of UNION ALL keep their order."""
    for top in [node for node in tree.find_all(*_KINDS) if _is_top(node)]:
        branches = _branches(top)
        if len(branches) > LONG:
            half = _half(len(branches))
            top.set("this", _balanced(top, branches[:half]))
            top.set("expression", _balanced(top, branches[half:]))


def _branches(top: Tree) -> Sequence[Tree]:
    branches = []
    node = top
    while True:
        branches.append(node.expression)
        if not _continues(node, node.this):
            branches.append(node.this)
            return branches[::-1]
        node = node.this


def _continues(upper: Tree, lower: Tree) -> bool:
    """Whether the lower operation is a link of the upper one's chain."""
    return (
        type(upper) is type(lower)
        and upper.this is lower
        and upper.args.get("distinct") == lower.args.get("distinct")
        and not any(value for name, value in lower.args.items() if name not in _PLAIN)
    )


def _is_top(node: Tree) -> bool:
    """Whether a chain begins here that may be balanced."""
    if isinstance(node.parent, exp.CTE):
        return not node.parent.parent.args.get("recursive")
    return not (isinstance(node.parent, _KINDS) and _continues(node.parent, node))


def _half(count: int) -> int:
    """The largest power of two below a count: branches come in full trees, the rest last."""
    return 1 << (count - 1).bit_length() - 1


def _balanced(top: Tree, branches: Sequence[Tree]) -> Tree:
    if len(branches) == 1:
        return branches[0]
    half = _half(len(branches))
    sides = _balanced(top, branches[:half]), _balanced(top, branches[half:])
    return type(top)(this=sides[0], expression=sides[1], distinct=top.args.get("distinct"))
