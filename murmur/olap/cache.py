"""Columns of tables as Arrow, built once for each state of a table.

    cache.table(view, airline)      scans the rows, builds every column
    cache.table(view, airline)      the same columns
    ...an airline is renamed...
    cache.table(view, airline)      scans again; the older columns are let go

Columns are kept, up to a budget of bytes, for as long as `catalog.touched` says that no row of the
table has changed (of a table over KV keys: as long as nothing has); of one table only the state
that was built last. Which table was used longest ago is let go first. Columns are known by their
ids: renaming one builds nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence

import pyarrow as pa

from murmur.catalog import Catalog, Table
from murmur.catalog.schema import Column
from murmur.kvcore import View
from murmur.olap.arrow import make_table, table_to_arrow
from murmur.olap.compact import compact
from murmur.olap.feed import vector_of

CACHE_BYTES = 512 << 20


class ColumnCache:
    """Columns of tables in Arrow form, each kept until a row of its table changes."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._lock = threading.Lock()
        self._tables: OrderedDict[int, _Cached] = OrderedDict()
        self._building: dict[int, threading.Lock] = {}
        self._hits = self._misses = 0

    def table(self, view: View, table: Table, columns: Sequence[Column] | None = None) -> pa.Table:
        """The table, or these columns of it, as this view shows it."""
        wanted = table.columns if columns is None else columns
        version = _version(view, table)
        with self._lock:
            building = self._building.setdefault(table.id, threading.Lock())
        # One thread builds, the others that want the same state wait for it.
        with building:
            cached = self._lookup(table.id, version)
            missing = [c for c in wanted if (c.id, c.missing) not in cached.columns]
            if missing:
                built = table_to_arrow(view, table, missing, engine=True)
                for column, array in zip(missing, built.columns, strict=True):
                    kept = compact(array)
                    cached.columns[column.id, column.missing] = kept
                    cached.bytes += kept.nbytes
                self._keep(table.id, cached)
        arrays = [cached.columns[column.id, column.missing] for column in wanted]
        return make_table([(column.name, column.type) for column in wanted], arrays)

    def holds(self, view: View, table: Table, columns: Sequence[Column]) -> bool:
        """Whether nothing has to be built for these columns, as this view shows them."""
        with self._lock:
            cached = self._tables.get(table.id)
        if cached is None or cached.version != _version(view, table):
            return False
        return all((column.id, column.missing) in cached.columns for column in columns)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._tables.clear()

    def stats(self) -> Mapping[str, int]:
        """How much is kept, and how often it served."""
        with self._lock:
            return {
                "arrow_cache_bytes": sum(cached.bytes for cached in self._tables.values()),
                "arrow_cache_hits": self._hits,
                "arrow_cache_misses": self._misses,
            }

    def _lookup(self, table_id: int, version: Hashable) -> _Cached:
        with self._lock:
            cached = self._tables.get(table_id)
            if cached is not None and cached.version == version:
                self._tables.move_to_end(table_id)
                self._hits += 1
                return cached
            self._misses += 1
            return _Cached(version)

    def _keep(self, table_id: int, cached: _Cached) -> None:
        with self._lock:
            self._tables[table_id] = cached
            self._tables.move_to_end(table_id)
            total = sum(other.bytes for other in self._tables.values())
            while total > self._budget:
                _, dropped = self._tables.popitem(last=False)
                total -= dropped.bytes


class _Cached:
    """One table's columns, in one state of its rows."""

    __slots__ = ("bytes", "columns", "version")

    def __init__(self, version: Hashable) -> None:
        self.version = version
        self.columns: dict[tuple[int, object], pa.ChunkedArray] = {}
        self.bytes = 0


def _version(view: View, table: Table) -> Hashable:
    """What is another after every change of the table's rows."""
    catalog = view.state  # type: ignore[attr-defined]
    assert isinstance(catalog, Catalog)
    if table.kv is not None:
        # No table hears of a put. Equal vectors are equal states (law L5).
        return frozenset(vector_of(view).items())
    return catalog.touched.get(table.id, 0)
