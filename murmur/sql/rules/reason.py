"""Why a plan is what it is, in a word for EXPLAIN.

SELECT name, count(*) FROM author JOIN note ... GROUP BY name     join
SELECT body FROM note WHERE id = ?                                key lookup
"""

from __future__ import annotations

from collections.abc import Iterator

from murmur.sql.expressions import Subquery, walk
from murmur.sql.plan import (
    Aggregate,
    DistinctOn,
    FullScan,
    HashJoin,
    IndexRange,
    KeyLookup,
    KeyRange,
    LookupJoin,
    OneRow,
    Rows,
    SetOperation,
    SystemScan,
    TrigramScan,
    Values,
)
from murmur.sql.rules.narrow import counts_keys
from murmur.sql.rules.shape import expressions, sources

_ACCESS: dict[type, str] = {
    OneRow: "no table",
    SystemScan: "system relation",
    Values: "VALUES",
    FullScan: "full scan",
    KeyLookup: "key lookup",
    KeyRange: "key range",
    IndexRange: "index range",
    TrigramScan: "trigram scan",
}


def reason_of(rows: Rows) -> str:
    """The words for a plan to run."""
    found = list(_nodes(rows))
    for kinds, words in (((HashJoin, LookupJoin), "join"), ((SetOperation,), "set operation")):
        if joins := [node for node in found if isinstance(node, kinds)]:
            kind = getattr(joins[0], "kind", "")
            return "subquery" if kind in ("semi", "anti") and len(joins) == 1 else words
    exprs = [expr for node in found for expr in expressions(node)]
    if any(isinstance(part, Subquery) for expr in exprs for part in walk(expr)):
        return "subquery"
    if any(isinstance(node, DistinctOn) for node in found):
        return "DISTINCT ON"
    if any(isinstance(node, Aggregate) and node.groups for node in found):
        return "GROUP BY"
    if any(counts_keys(node) for node in found):
        return "count of keys"
    return _ACCESS[type(found[-1])]


def _nodes(rows: Rows) -> Iterator[Rows]:
    """The nodes, from above; of a plan without joins the last one is its leaf."""
    yield rows
    for source in sources(rows):
        yield from _nodes(source)
