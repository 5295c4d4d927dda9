"""The catalog: the tables that the definitions amount to, as one immutable value per snapshot.

    records --read_table--> TableRecord per id --settle--> Table per visible name (settling.py)

`version` and `touched` are cache keys. They come from a sequence of the process, never from the
state: a number that two snapshots share stands for the same content, even if one of them is a
transaction's own view that was rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from murmur.catalog import keyspace
from murmur.catalog.expressions import Compile, no_compiler
from murmur.catalog.schema import ForeignKey, Index, Table, TrigramIndex
from murmur.catalog.settling import Dispute, Settled, settle
from murmur.catalog.table_records import (
    TableRecord,
    read_table,
)
from murmur.catalog.views import SqlView, ViewRecord, read_view


class Catalog:
    """All tables of one snapshot. Immutable."""

    __slots__ = ("_settled", "touched")

    touched: Mapping[int, int]

    def __init__(self, settled: Settled, touched: Mapping[int, int]) -> None:
        self._settled = settled
        self.touched = touched

    @property
    def version(self) -> int:
        """Changes with every schema change; unique in the process."""
        return self._settled.version

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every visible table, by name."""
        return tuple(self._settled.by_name.values())

    def table(self, name: str) -> Table | None:
        """The visible table of this exact name."""
        return self._settled.by_name.get(name)

    def table_by_id(self, table_id: int) -> Table | None:
        """The visible table of this id."""
        return self._settled.by_id.get(table_id)

    @property
    def views(self) -> tuple[SqlView, ...]:
        """Every visible view, by name."""
        return tuple(self._settled.views.values())

    def view(self, name: str) -> SqlView | None:
        """The visible view of this exact name."""
        return self._settled.views.get(name)

    def index(self, name: str) -> Index | None:
        """The index of this exact name."""
        return self._settled.indexes.get(name)

    def trigram_index(self, name: str) -> TrigramIndex | None:
        """The trigram index of this exact name."""
        return self._settled.trigrams.get(name)

    def referencing(self, table_id: int) -> tuple[ForeignKey, ...]:
        """The foreign keys of which this table is the parent."""
        return self._settled.referencing.get(table_id, ())

    @property
    def disputes(self) -> tuple[Dispute, ...]:
        """Definitions that lost, or sleep."""
        return self._settled.disputes

    @property
    def records(self) -> Mapping[int, TableRecord]:
        """What the records say, dropped tables included."""
        return self._settled.records

    @property
    def view_records(self) -> Mapping[int, ViewRecord]:
        """What the records of views say."""
        return self._settled.view_records

    def touching(self, table_ids: Iterable[int], tick: int) -> Catalog:
        """This catalog after rows of these tables changed."""
        return Catalog(self._settled, {**self.touched, **dict.fromkeys(table_ids, tick)})

    def redefined(
        self, records: Mapping[int, TableRecord], views: Mapping[int, ViewRecord], tick: int
    ) -> Catalog:
        """This catalog with these definitions; tables that did not change stay the same objects."""
        known, compile_text = self._settled.by_id, self._settled.compile
        return Catalog(settle(records, views, known, tick, compile_text), self.touched)


def empty_catalog(version: int = 0, compile_text: Compile = no_compiler) -> Catalog:
    """A catalog without tables; `compile_text` reads the expressions of those to come."""
    return Catalog(settle({}, {}, {}, version, compile_text), {})


def read_definitions(
    pairs: Iterable[tuple[bytes, bytes]],
) -> tuple[dict[int, TableRecord], dict[int, ViewRecord]]:
    """The tables and views that the catalog's pairs, in key order, define."""
    first, last = len(keyspace.CATALOG), len(keyspace.CATALOG) + 8
    tables: dict[int, TableRecord] = {}
    views: dict[int, ViewRecord] = {}
    for packed, group in groupby(pairs, key=lambda pair: pair[0][first:last]):
        records = list(group)
        identity = int.from_bytes(packed)
        table = read_table(identity, records)
        if table is not None:
            tables[identity] = table
        elif (view := read_view(identity, records)) is not None:
            views[identity] = view
    return tables, views
