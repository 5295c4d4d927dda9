"""The seam for data from outside: rows as columns, and the files that COPY may open.

Whoever opens a session brings along what reads and writes files, or nothing; then COPY is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from murmur.catalog.schema import Column, Table
from murmur.catalog.types import SqlType
from murmur.kvcore.kernel.block_plan import ColumnSource
from murmur.sql.copy import Copy


class Batch(Protocol):
    """Columns of as many rows, each the value of one parameter."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        ...

    @property
    def first(self) -> int:
        """How many rows there were in batches before."""
        ...

    def source(self, at: int, column: Column) -> ColumnSource | None:
        """The values of a parameter, as the kernel reads them; None if Python has to."""
        ...

    def values(self, at: int) -> Sequence[Any]:
        """The values of a parameter, as Python has them."""
        ...


class Files(Protocol):
    """What COPY may open, and the formats. All of it raises OSError as it comes."""

    def read(self, copy: Copy, table: Table) -> tuple[Sequence[str], Iterator[Batch]]:
        """The columns that the file has, and its rows."""
        ...

    def write(self, copy: Copy, columns: Sequence[tuple[str, SqlType | None]], rows: Any) -> int:
        """Write rows, an Arrow table or an iterator of tuples, as a whole; how many."""
        ...
