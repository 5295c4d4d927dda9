"""The columnar engine on the SQL floor's seam, started by the first query that wants it.

sql asks for a ColumnarEngine, olap has one; DuckDB and Arrow take a tenth of a second to load,
which a program that only reads and writes by key never pays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from murmur.errors import Closed
from murmur.kvcore import Log, View

if TYPE_CHECKING:
    import pyarrow

    from murmur.catalog import SqlType, Table
    from murmur.olap.duck import DuckEngine
    from murmur.sql import Relation


class LazyEngine:
    """A ColumnarEngine over the tables and the log of one replica."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._engine: DuckEngine | None = None
        self._closed = False

    def run(
        self,
        sql: str,
        parameters: Mapping[str, object],
        relations: Mapping[str, Relation],
        halted: Callable[[], Exception | None] = lambda: None,
    ) -> Any:
        """The answer, a pyarrow.Table."""
        return self._started().run(sql, parameters, relations, halted)

    def holds(self, relation: Relation) -> bool:
        """Whether a table's columns are at hand as the view shows them."""
        return self._engine is not None and self._engine.holds(relation)

    def types(self, table: Any) -> list[SqlType | None]:
        """The SQL types of an answer's columns."""
        return self._started().types(table)

    def rows(self, table: Any) -> Iterator[tuple[Any, ...]]:
        """An answer's rows as Python values."""
        return self._started().rows(table)

    def explain(
        self, sql: str, parameters: Mapping[str, object], relations: Mapping[str, Relation]
    ) -> str:
        """The engine's own plan, as text."""
        return self._started().explain(sql, parameters, relations)

    def stats(self) -> Mapping[str, int]:
        """Figures of its cache; none before it has started."""
        return {} if self._engine is None else self._engine.stats()

    def close(self) -> None:
        """Stop; running queries fail with Closed."""
        with self._lock:
            self._closed = True
            if self._engine is not None:
                self._engine.close()

    def _started(self) -> DuckEngine:
        with self._lock:
            if self._closed:
                raise Closed("the swarm is closed")
            if self._engine is None:
                from murmur.olap.duck import DuckEngine
                from murmur.sql import BORROWED_FUNCTIONS, BORROWED_MACROS

                self._engine = DuckEngine(
                    history=self._history, functions=BORROWED_FUNCTIONS, macros=BORROWED_MACROS
                )
            return self._engine

    def _history(self, table: Table, view: View) -> pyarrow.Table:
        from murmur.olap.feed import position_of
        from murmur.olap.history import history

        snapshot: Any = getattr(view, "snapshot", view)
        return history(self._log, position_of(view), table, snapshot.get, engine=True)
