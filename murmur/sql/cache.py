"""Statements by their text, parsed once, and bound again when the schema has changed.

    text -> Statement(parsed)  -> Prepared(plan, compiled)      for one version of the catalog

A query over more than one table is also planned anew when a table has grown or shrunk a lot.

Parsing and binding cost a hundred times a point read; a hit costs a dictionary lookup. One cache
serves all sessions of a replica, with the generators of keys, which must rise across sessions too.
A text is kept while it is among the last `capacity` used. Long texts are not kept: they are bulk
loads with their values written out, and will not come again.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

from murmur.catalog.catalog import Catalog
from murmur.catalog.generated import IntegerIds, Uuid7
from murmur.kvcore.clock import Clock, stamp_ms
from murmur.kvcore.replica import Replica
from murmur.sql.lone_row import LoneRow
from murmur.sql.parser import Parsed, parse
from murmur.sql.prepare import Prepared, prepare
from murmur.sql.rules.facts import Facts, Unknown
from murmur.sql.statistics import Statistics
from murmur.sql.system import System

CAPACITY = 512  # statements
MAX_CACHED_TEXT = 20_000  # characters


class Statement:
    """A parsed statement, and what it was last prepared to."""

    __slots__ = ("_facts", "_prepared", "_row", "parsed")

    def __init__(self, parsed: Parsed, facts: Facts) -> None:
        self.parsed = parsed
        self._facts = facts
        self._prepared: Prepared | None = None
        self._row: LoneRow | None = None

    def prepared(self, catalog: Catalog, system: System) -> Prepared:
        """The statement bound to this catalog."""
        prepared = self._prepared
        if (
            prepared is None
            or prepared.version != catalog.version
            or prepared.analyzed != self._facts.analyzed
            or (prepared.sizes and prepared.outgrown(self._facts))
        ):
            prepared = prepare(self.parsed, catalog, system, self._facts)
            self._prepared = prepared
        return prepared

    @property
    def inserts_rows(self) -> bool:
        """Whether the statement, run before, inserts one row of parameters at a time."""
        prepared = self._prepared
        return prepared is not None and prepared.load is not None and not self.parsed.explain

    def lone_row(self, catalog: Catalog) -> LoneRow | None:
        """What encodes its row, if what it was prepared to is still right."""
        prepared = self._prepared
        if prepared is None or prepared.load is None or prepared.version != catalog.version:
            return None
        row = self._row
        if row is None or row.load is not prepared.load:
            row = self._row = LoneRow(prepared.load, catalog)
        return row

    def point(self, catalog: Catalog) -> Prepared | None:
        """What the statement was prepared to, if it is a point query and still right."""
        prepared = self._prepared
        if prepared is None or prepared.version != catalog.version:
            return None
        if self.parsed.lists or self.parsed.locked is not None:
            return None
        return prepared if prepared.point is not None or prepared.by_index is not None else None


class StatementCache:
    """The statements that were used last."""

    def __init__(self, facts: Facts | None = None, *, capacity: int = CAPACITY) -> None:
        self._facts = facts or Unknown()
        self._capacity = capacity
        self._statements: OrderedDict[str, Statement] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str) -> Statement:
        """The statement of this text, parsed now if need be."""
        return self.find(text) or self._parsed(text)  # not a text: parse says so

    def find(self, text: str) -> Statement | None:
        """The statement of this text, if it is here."""
        try:
            statement = self._statements[text]
            self._statements.move_to_end(text)
        except (KeyError, TypeError):
            return None
        return statement

    def _parsed(self, text: str) -> Statement:
        statement = Statement(parse(text), self._facts)
        if len(text) <= MAX_CACHED_TEXT:
            with self._lock:
                self._statements[text] = statement
                while len(self._statements) > self._capacity:
                    self._statements.popitem(last=False)
        return statement

    def __len__(self) -> int:
        return len(self._statements)


class Shared:
    """What all sessions of one replica share."""

    def __init__(
        self, replica: Replica, clock: Clock, random_bytes: Callable[[int], bytes]
    ) -> None:
        owner = weakref.ref(replica)  # this is kept with the replica, and must not keep it

        def now_ms() -> int:
            """Never the wall clock alone: over a restart it may go back, stamps do not."""
            known = owner()
            wall_ms = clock.now_ms()
            return wall_ms if known is None else max(wall_ms, stamp_ms(known.last_stamp))

        self.statistics = Statistics(replica)
        self.statements = StatementCache(self.statistics)
        self.uuid7 = Uuid7(now_ms, random_bytes)
        self.ids = IntegerIds(replica.id, now_ms)


_shared: weakref.WeakKeyDictionary[Replica, Shared] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def shared_of(replica: Replica, clock: Clock, random_bytes: Callable[[int], bytes]) -> Shared:
    """What the sessions of this replica share, made with the first of them."""
    with _lock:
        found = _shared.get(replica)
        if found is None:
            found = _shared[replica] = Shared(replica, clock, random_bytes)
        return found
