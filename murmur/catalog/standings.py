"""Standings: what the lives of a definition's record amount to.

The undropped life with the highest (stamp, replica) shows its fields; the record ranks by the
earliest undropped life that shows the same name, because who named a thing first keeps the name.
What other lives say is disputed, and listed.

    {1: "note", 3: 1} of a, {1: "note", 3: 2} of b  ->  b's fields, a's rank, one dispute

A definition is dropped when all of its lives are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from murmur.catalog.definitions import (
    COLUMN_GENERATED,
    COLUMN_KEEPS_MISSING,
    COLUMN_MISSING,
    COLUMN_NULLABLE,
    COLUMN_POSITION,
    COLUMN_TYPE,
    COMMENT,
    DEFAULT_KIND,
    DEFAULT_TEXT,
    DEFAULT_VALUE,
    DROPPED,
    INDEX_CONSTRAINT,
    NAME,
    ON_DELETE,
    TABLE_KEY_NAME,
    TABLE_KV_PREFIX,
    TABLE_KV_VALUES,
    VIEW_COLUMNS,
    VIEW_TEXT,
    typed,
    unpack_vector,
)
from murmur.kvcore import Atom, Life, decode_record

_FIELD_NAMES: Mapping[str, Mapping[int, str]] = {
    "table": {
        NAME: "name",
        TABLE_KEY_NAME: "primary key's name",
        TABLE_KV_PREFIX: "prefix of keys",
        TABLE_KV_VALUES: "form of values",
    },
    "column": {
        NAME: "name",
        COLUMN_TYPE: "type",
        COLUMN_NULLABLE: "nullable",
        COLUMN_POSITION: "position",
        DEFAULT_KIND: "default's kind",
        DEFAULT_VALUE: "default's value",
        DEFAULT_TEXT: "default",
        COLUMN_GENERATED: "generated as",
        COLUMN_KEEPS_MISSING: "rows without it keep a value",
        COLUMN_MISSING: "value of rows without it",
    },
    "index": {NAME: "name", INDEX_CONSTRAINT: "constraint"},
    "foreign key": {NAME: "name", ON_DELETE: "on delete"},
    "check": {NAME: "name"},
    "trigram index": {NAME: "name"},
    "view": {NAME: "name", VIEW_TEXT: "text", VIEW_COLUMNS: "columns"},
}

Rank: TypeAlias = tuple[int, bytes]  # (stamp, replica): who wrote something, and when


class Drop(NamedTuple):
    """When something was dropped, and what those who dropped it had seen."""

    seen: Mapping[bytes, int]
    at: frozenset[Rank]

    def missed(self, life: Life) -> bool:
        """Whether nobody who dropped it had seen this life of a row."""
        return (
            self.seen.get(life.replica, 0) < life.seq
            and (life.stamp, life.replica) not in self.at  # the same transaction
        )

    def missed_edit(self, rank: Rank) -> bool:
        """Whether an edit came later: its author, who did not know, may be anybody."""
        return rank > max(self.at)


class Standing(NamedTuple):
    """What the lives of one definition amount to."""

    life: Life  # whose fields are shown
    rank: Rank  # when and by whom the shown name was first given
    losers: tuple[Life, ...]  # undropped lives that say something else
    dropped: Drop | None  # None: it is live


@dataclass(frozen=True, slots=True)
class Disputed:
    """A definition of which another version lost: `said` of the loser, and who said it."""

    what: str
    shown: str
    said: str
    winner: Rank
    loser: Rank


def standing(cell: bytes) -> Standing:
    """What the lives in a definition's cell amount to."""
    lives = decode_record(cell)
    live = [life for life in lives if life.fields.get(DROPPED) is None]
    if not live:
        return Standing(lives[0], _named_at(lives[0]), (), _drop(lives))
    shown = live[0]
    name = shown.fields.get(NAME)
    rank = min(_named_at(life) for life in live if life.fields.get(NAME) == name)
    losers = tuple(life for life in live[1:] if life.fields != shown.fields)
    return Standing(shown, rank, losers, None)


def disputes_of(what: str, stands: Standing) -> Iterable[Disputed]:
    """What other lives say that are not shown."""
    shown = stands.life
    for loser in stands.losers:
        differing = [
            field
            for field in sorted({*shown.fields, *loser.fields})
            if shown.fields.get(field) != loser.fields.get(field)
        ]
        yield Disputed(
            what=f"{what} {shown.fields.get(NAME)!s}",
            shown=_said(what, shown.fields, differing),
            said=_said(what, loser.fields, differing),
            winner=(shown.stamp, shown.replica),
            loser=(loser.stamp, loser.replica),
        )


def _drop(lives: Sequence[Life]) -> Drop:
    seen: dict[bytes, int] = {}
    for life in lives:
        for replica, seq in unpack_vector(typed(life.fields, DROPPED, bytes)).items():
            seen[replica] = max(seq, seen.get(replica, 0))
    at = (life.edited.get(DROPPED, (life.stamp, life.replica)) for life in lives)
    return Drop(seen, frozenset(at))


def _said(what: str, fields: Mapping[int, Atom], differing: Iterable[int]) -> str:
    names = {COMMENT: "comment", **_FIELD_NAMES[what]}
    return ", ".join(
        f"{names.get(field, f'field {field}')} = {fields.get(field)!r}" for field in differing
    )


def _named_at(life: Life) -> Rank:
    return life.edited.get(NAME, (life.stamp, life.replica))
