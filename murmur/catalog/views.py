"""Views: queries with a name, as replicated records.

    02 01 | id | 05      {1: "busy", 3: "SELECT author FROM note ...", 4: "a\\0b\\0" or ""}

A view's id is a hash of its name, so two devices that create one view of one name share a record:
when their texts differ, the later one is shown and the other is listed, as for any definition. Text
is kept as it was written and bound anew by whoever uses it: it means what the tables of that moment
let it mean. A view without its tables raises when it is used, and works again when they are back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from murmur.catalog import keyspace
from murmur.catalog.definitions import (
    COMMENT,
    NAME,
    VIEW_COLUMNS,
    VIEW_TEXT,
    Fields,
    comment_of,
    name_of,
    typed,
)
from murmur.catalog.standings import Disputed, Rank, disputes_of, standing
from murmur.errors import InvalidInput
from murmur.kvcore import Atom


@dataclass(frozen=True, slots=True)
class SqlView:
    """A visible view; `columns` are names for its first columns."""

    id: int
    name: str
    text: str
    columns: tuple[str, ...] = ()
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class ViewRecord:
    """What the record of a view says, before names are settled."""

    view: SqlView
    rank: Rank
    disputed: tuple[Disputed, ...] = ()


def view_fields(view: SqlView) -> Fields:
    """The record of a view."""
    columns = "".join(name + "\0" for name in view.columns)
    fields: Fields = {NAME: view.name, VIEW_TEXT: view.text, VIEW_COLUMNS: columns}
    if view.comment is not None:
        fields[COMMENT] = view.comment
    return fields


def read_view(view_id: int, records: Iterable[tuple[bytes, bytes]]) -> ViewRecord | None:
    """The view among the records under one id; None when there is none that can be read."""
    for key, cell in records:
        place = keyspace.parse_catalog_key(key)
        if place is None or place[1] != keyspace.VIEW:
            continue
        try:
            stands = standing(cell)
            fields: dict[int, Atom] = dict(stands.life.fields)
            view = SqlView(
                view_id,
                name_of(fields),
                typed(fields, VIEW_TEXT, str),
                tuple(typed(fields, VIEW_COLUMNS, str).split("\0")[:-1]),
                comment_of(fields),
            )
        except (InvalidInput, ValueError):
            continue
        return ViewRecord(view, stands.rank, tuple(disputes_of("view", stands)))
    return None
