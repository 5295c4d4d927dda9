"""What a statement answers: named columns, and rows that are read once.

A SELECT of the row engine gives its rows as they are asked for; one of the columnar engine gives a
pyarrow.Table. Whoever writes them down wants either: rows for a table, CSV or JSON, columns for
Arrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

    from murmur.catalog import SqlType
    from murmur.sql import Outcome

Row = tuple[Any, ...]


class Answer:
    """The rows of one statement. Close it, so that its snapshot goes."""

    def __init__(
        self,
        columns: Sequence[tuple[str, SqlType | None]],
        rows: Iterator[Row],
        *,
        table: pyarrow.Table | None = None,
        kind: str = "select",
        rowcount: int = -1,
    ) -> None:
        self.names = tuple(name for name, _ in columns)
        self.types = tuple(sql_type for _, sql_type in columns)
        self.kind = kind
        self.rowcount = rowcount
        self._rows = rows
        self._table = table

    def rows(self) -> Iterator[Row]:
        """The rows as Python values."""
        if self._table is None:
            return self._rows
        from murmur.olap.arrow import iterate_rows

        return iterate_rows(self._table)

    def arrow(self) -> pyarrow.Table:
        """The rows as a pyarrow.Table."""
        if self._table is None:
            from murmur.olap.arrow import rows_to_arrow

            columns = list(zip(self.names, self.types, strict=True))
            self._table = rows_to_arrow(columns, list(self._rows))
        return self._table

    def close(self) -> None:
        """Let go of what the rows come from."""
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answer_of(outcome: Outcome) -> Answer:
    """The answer of a statement; without columns if the statement gives no rows."""
    columns = [(column.name, column.type) for column in outcome.columns or ()]
    if outcome.arrow is not None:
        from murmur.olap.arrow import column_types

        # The engine knows types that the statement did not: those of its own functions.
        columns = list(zip(outcome.arrow.column_names, column_types(outcome.arrow), strict=True))
    return Answer(
        columns,
        iter(outcome.rows or ()),
        table=outcome.arrow,
        kind=outcome.kind,
        rowcount=outcome.rowcount,
    )
