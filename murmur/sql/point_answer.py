"""The answer of a point query, without a session's ways: in the latest state, or in a view.

point_answer(replica, statement, [7])  ->  (what it was prepared to, rows), None if it is none
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from murmur.kvcore.replica import Replica
from murmur.kvcore.view import View
from murmur.sql.cache import Statement
from murmur.sql.prepare import Prepared
from murmur.sql.session_transaction import catalog_of

Row = tuple[Any, ...]
Given = Sequence[Any] | Mapping[str, Any] | None


def point_answer(
    replica: Replica, statement: Statement, parameters: Given, *, by_index: bool = True
) -> tuple[Prepared, list[Row]] | None:
    """What a point query was prepared to, and its rows in the latest state; None if it is none.

    One key is read, so the state needs no pin; only the catalog must not have moved meanwhile. By
    an index, entries and rows are of one snapshot.
    """
    catalog = catalog_of(replica)
    prepared = statement.point(catalog)
    if prepared is None:
        return None
    if prepared.point is not None:
        rows = prepared.point(replica.get, parameters)
        return (prepared, rows) if catalog_of(replica).version == catalog.version else None
    if not by_index:
        return None
    with replica.snapshot() as snapshot:
        if catalog_of(snapshot).version != catalog.version:
            return None
        found = point_rows(prepared, snapshot, parameters)
    return None if found is None else (prepared, found)


def point_rows(prepared: Prepared, view: View, parameters: Given) -> list[Row] | None:
    """The rows of a point query; None if they are too many to be read at once."""
    if prepared.point is not None:
        return prepared.point(view.get, parameters)
    assert prepared.by_index is not None
    return prepared.by_index(view, parameters)
