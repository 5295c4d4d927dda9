"""The seam to the columnar engine: relations, and what is asked of the engine.

    run("SELECT ... FROM murmur_r0 AS t WHERE c = $p0", {"p0": 5}, {"murmur_r0": Relation(view, t)})

swarm hands the engine in, olap has it: this floor knows the Protocol only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from murmur.catalog.schema import Table
from murmur.catalog.types import SqlType
from murmur.kvcore.view import View


@dataclass(frozen=True, slots=True)
class Relation:
    """What a name in the text stands for: a table, its history (`history`), or `rows`."""

    view: View
    table: Table | None = None
    private: bool = False  # the view has uncommitted writes: nothing read from it may be kept
    columns: tuple[tuple[str, SqlType | None], ...] = ()  # of `rows`
    rows: Iterable[tuple[Any, ...]] | None = None
    history: bool = False
    wanted: tuple[str, ...] | None = None  # of the table's columns; None: all of them


@dataclass(frozen=True, slots=True)
class Watched:
    """Who waits for an answer: asked whether it is still wanted, and told how large it gets."""

    reason: Callable[[], Exception | None]
    hold: Callable[[int], None]

    def __call__(self) -> Exception | None:
        """Why the statement is to stop; None if it may go on."""
        return self.reason()


class ColumnarEngine(Protocol):
    """Runs one SELECT over relations. A parameter called p0 stands in the text as $p0."""

    def run(
        self,
        sql: str,
        parameters: Mapping[str, object],
        relations: Mapping[str, Relation],
        halted: Callable[[], Exception | None] = lambda: None,
    ) -> Any:
        """The answer, a pyarrow.Table.

        Whoever waits for it asks `halted` now and then, and gives up with the error that it gives.
        If it is Watched, it is told the bytes of each part of the answer, and may raise an error.
        """
        ...

    def holds(self, relation: Relation) -> bool:
        """Whether a table's columns are at hand as the view shows them: nothing has to be read."""
        ...

    def types(self, table: Any) -> list[SqlType | None]:
        """The SQL types of an answer's columns; None for one that Murmur does not have."""
        ...

    def rows(self, table: Any) -> Iterator[tuple[Any, ...]]:
        """An answer's rows as Python values, what the row engine would give."""
        ...
