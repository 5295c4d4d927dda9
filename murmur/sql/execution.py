"""One execution of a statement: its parameters, its time, and what it may ask of others.

A plan is shared by many executions and holds none of this. What an expression needs is in
expressions.Context; readers and writers find here the system relations, the columnar engine, and
the generators of keys, which are one per replica so that what they give rises strictly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

from murmur.catalog.rows import scan_rows
from murmur.catalog.types import BLOB
from murmur.errors import Unsupported
from murmur.kvcore.snapshot import Snapshot
from murmur.kvcore.transaction import Transaction
from murmur.kvcore.view import View
from murmur.sql import expressions
from murmur.sql.cancellation import Halt
from murmur.sql.memory import Memory
from murmur.sql.plan import KEY_COLUMN, ColumnarQuery, RelationUse, ResultColumn
from murmur.sql.relation import Relation, Watched
from murmur.sql.settings import Engine
from murmur.sql.system import System

if TYPE_CHECKING:
    from murmur.catalog.constraints import StatementChecks
    from murmur.catalog.generated import IntegerIds, Uuid7
    from murmur.sql.relation import ColumnarEngine


class Context(expressions.Context):
    """What one execution brings along."""

    def __init__(
        self,
        parameters: Sequence[Any],
        *,
        now_ms: int,
        random_bytes: Callable[[int], bytes],
        system: System,
        columnar: ColumnarEngine | None,
        uuid7: Uuid7,
        ids: IntegerIds,
        halt: Halt,
        engine: Engine = "auto",
        memory: Memory | None = None,
    ) -> None:
        super().__init__(parameters, now_ms=now_ms, random_bytes=random_bytes)
        self.system = system
        self.columnar = columnar
        self.uuid7 = uuid7
        self.row_ids = uuid7.many
        self.ids = ids
        self.halt = halt
        self.memory = memory or Memory()
        self.engine: Engine = engine  # SET engine
        # Of a statement that writes in several places (several.py): what its parts read, what it
        # verifies when it ends, and what the parts before have returned.
        self.standing: Transaction | None = None
        self.checks: StatementChecks | None = None
        self.given: dict[str, tuple[tuple[ResultColumn, ...], list[tuple[Any, ...]]]] = {}

    def system_rows(self, name: str, view: View) -> Iterable[tuple[Any, ...]]:
        """A system relation's rows, or what a part of the statement has returned."""
        if name in self.given:
            return self.given[name][1]
        return self.system.rows(name, view)

    def run_columnar(self, query: ColumnarQuery, view: View) -> Any:
        """The answer of the columnar engine, a pyarrow.Table."""
        engine = self.engine_for(query)
        self.memory.begin()
        return engine.run(
            query.sql,
            self.columnar_parameters(query),
            self.relations(query, view),
            Watched(self.halt.reason, self.memory.add),
        )

    def columnar_rows(self, query: ColumnarQuery, view: View) -> Iterator[tuple[Any, ...]]:
        """The answer of the columnar engine, as rows of Python values."""
        return self.halt.guard(self.engine_for(query).rows(self.run_columnar(query, view)))

    def engine_for(self, query: ColumnarQuery) -> ColumnarEngine:
        """The columnar engine, if there is one."""
        if self.columnar is None:
            raise Unsupported(f"{query.reason}: this needs the columnar engine, which is not here")
        return self.columnar

    def columnar_parameters(self, query: ColumnarQuery) -> Mapping[str, Any]:
        """Values for the names that the text has for parameters and times."""
        values = {f"p{position}": self.parameters[position] for position in query.parameters}
        for name in query.times:
            values[name] = _TIMES[name](self)
        return values

    def relations(self, query: ColumnarQuery, view: View) -> Mapping[str, Relation]:
        """What the text's relations stand for, in this view."""
        private = isinstance(view, Transaction) and view.changed
        return {use.name: self._relation(use, view, private=private) for use in query.relations}

    def _relation(self, use: RelationUse, view: View, *, private: bool) -> Relation:
        table = use.table
        if table is None:
            given = self.given.get(use.system)
            columns = self.system.columns(use.system) if given is None else given[0]
            assert columns is not None
            names = tuple((column.name, column.type) for column in columns)
            return Relation(view, columns=names, rows=self.system_rows(use.system, view))
        if use.keyed:
            columns_of = tuple((column.name, column.type) for column in table.columns)
            rows = ((*row, key) for key, row in scan_rows(view, table))
            return Relation(view, table, columns=(*columns_of, (KEY_COLUMN, BLOB)), rows=rows)
        return Relation(view, table, private, history=use.history, wanted=use.columns)


def released(rows: Iterable[tuple[Any, ...]], snapshot: Snapshot) -> Iterator[tuple[Any, ...]]:
    """The rows, after an empty one; the snapshot is closed with the last, or when it is dropped.

    The first `next` is for the `finally`: a generator that never began would not run it.
    """
    try:
        yield ()
        yield from rows
    finally:
        snapshot.close()


_TIMES: Mapping[str, Callable[[Context], Any]] = {
    "now": lambda context: context.now,
    "today": lambda context: context.today,
    "localtimestamp": lambda context: context.now.astimezone(UTC).replace(tzinfo=None),
    "localtime": lambda context: context.now.astimezone(UTC).time(),
}
