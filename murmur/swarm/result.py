"""The answer of one statement, in whatever form its reader likes.

    result = swarm.sql("SELECT id, body FROM note ORDER BY id")
    result.columns         ("id", "body")
    list(result)           [(1, "hello"), ...]        also fetchone, fetchmany, fetchall
    result.pl()            a Polars DataFrame;        .df() pandas, .arrow() a pyarrow.Table
    duckdb.sql("FROM result")                         anything that reads the Arrow C stream

A result can be read as often as one likes, in any of these forms: iteration begins at the first row
each time, and only fetchone, fetchmany and fetchall move on. Rows of the row engine are computed
when they are first asked for, and kept; the snapshot that they come from is let go after the last
of them, at `close()`, at the end of a `with`, or when the result is forgotten. (To read millions of
rows once without keeping them, use a DB-API cursor.)
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from murmur.errors import Closed

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from murmur.catalog.types import SqlType
    from murmur.sql import Outcome

SHOWN_ROWS = 20
SHOWN_CHARACTERS = 60

Row = tuple[Any, ...]
Description = tuple[
    tuple[str, str | None, None, int | None, int | None, int | None, bool | None], ...
]


class Rows(Protocol):
    """Where a result's rows come from."""

    def slice(self, start: int, count: int | None) -> list[Row]:
        """The rows from `start` on, at most `count` of them."""
        ...

    def arrow(self) -> pyarrow.Table:
        """All of them."""
        ...

    def close(self) -> None:
        """Let go of what they come from."""
        ...


class Result:
    """Rows, under named and typed columns; without columns when the statement gives no rows."""

    def __init__(self, columns: Sequence[tuple[str, SqlType | None]], rows: Rows) -> None:
        self._columns = tuple(columns)
        self._rows: Rows | None = rows
        self._position = 0
        self.kind = "select"  # or insert, update, delete, create table, ...
        self.rowcount = -1  # how many rows were written; -1 for a query
        self.lastrowid: int | None = None  # the last integer key that an INSERT wrote

    # What it is --------------------------------------------------------

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(name for name, _ in self._columns)

    @property
    def types(self) -> tuple[str | None, ...]:
        """The SQL types of the columns; None where it is not known."""
        return tuple(None if sql_type is None else str(sql_type) for _, sql_type in self._columns)

    @property
    def description(self) -> Description | None:
        """The columns as PEP 249 describes them; None when the statement gives no rows."""
        return describe(self._columns) if self._columns else None

    # Rows --------------------------------------------------------------

    def fetchone(self) -> Row | None:
        """The next row, or None after the last."""
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int = 1) -> list[Row]:
        """The next rows, at most `size` of them."""
        rows = self._open().slice(self._position, size)
        self._position += len(rows)
        return rows

    def fetchall(self) -> list[Row]:
        """The rows that are left."""
        rows = self._open().slice(self._position, None)
        self._position += len(rows)
        return rows

    def __iter__(self) -> Iterator[Row]:
        rows = self._open()
        position, size = 0, 16
        while block := rows.slice(position, size):
            yield from block
            position += len(block)
            size = min(size * 4, 8192)

    def __len__(self) -> int:
        rows = self._open()
        return rows.total() if isinstance(rows, _Columns) else len(rows.slice(0, None))

    def __bool__(self) -> bool:
        return True  # a result without rows is a result too

    # Tables ------------------------------------------------------------

    def arrow(self) -> pyarrow.Table:
        """All rows as a pyarrow.Table."""
        return self._open().arrow()

    def pl(self) -> polars.DataFrame:
        """All rows as a Polars DataFrame."""
        from murmur.olap.frames import to_polars

        frame: polars.DataFrame = to_polars(self.arrow())
        return frame

    def df(self) -> pandas.DataFrame:
        """All rows as a pandas DataFrame."""
        from murmur.olap.frames import to_pandas

        return to_pandas(self.arrow())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)

    # Showing it --------------------------------------------------------

    def __repr__(self) -> str:
        if self._rows is None:
            return "<closed result>"
        if not self._columns:
            count = f": {self.rowcount} rows" if self.rowcount >= 0 else ""
            return f"<{self.kind}{count}>"
        rows, more = self._head()
        cells = [[_text(value) for value in row] for row in rows]
        right = [_is_number(sql_type) for _, sql_type in self._columns]
        widths = [
            max(len(name), *(len(row[at]) for row in cells)) if cells else len(name)
            for at, name in enumerate(self.columns)
        ]

        def line(parts: Sequence[str]) -> str:
            padded = (
                part.rjust(width) if number else part.ljust(width)
                for part, width, number in zip(parts, widths, right, strict=True)
            )
            return "  ".join(padded).rstrip()

        lines = [line(self.columns), "  ".join("-" * width for width in widths), *map(line, cells)]
        lines.append("…" if more else f"({len(rows)} row{'' if len(rows) == 1 else 's'})")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if self._rows is None or not self._columns:
            return f"<p>{html.escape(repr(self))}</p>"
        rows, more = self._head()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_text(value))}</td>" for value in row) + "</tr>"
            for row in rows
        )
        foot = f"<p>the first {len(rows)} rows</p>" if more else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"

    def _head(self) -> tuple[list[Row], bool]:
        rows = self._open().slice(0, SHOWN_ROWS + 1)
        return rows[:SHOWN_ROWS], len(rows) > SHOWN_ROWS

    # Its end -----------------------------------------------------------

    def close(self) -> None:
        """Let go of rows and snapshot. Closing twice is once."""
        rows, self._rows = self._rows, None
        if rows is not None:
            rows.close()

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Rows:
        if self._rows is None:
            raise Closed("the result is closed")
        return self._rows


def from_rows(columns: Sequence[tuple[str, SqlType | None]], rows: Iterator[Row]) -> Result:
    """A result whose rows are computed as they are asked for."""
    return Result(columns, _Lazy(columns, rows))


def from_list(columns: Sequence[tuple[str, SqlType | None]], rows: list[Row]) -> Result:
    """A result whose rows are there already."""
    kept = _Lazy(columns, None)
    kept._kept = rows
    return Result(columns, kept)


def from_arrow(table: pyarrow.Table) -> Result:
    """A result that stands in a table already."""
    from murmur.olap.arrow import column_types

    return Result(list(zip(table.column_names, column_types(table), strict=True)), _Columns(table))


def count_of(kind: str, rowcount: int, lastrowid: int | None) -> Result:
    """The result of a statement that has written, and returns no rows."""
    result = from_list((), [])
    result.kind, result.rowcount, result.lastrowid = kind, rowcount, lastrowid
    return result


def result_of(outcome: Outcome) -> Result:
    """What a statement came to, as a Result."""
    result = (
        from_arrow(outcome.arrow)
        if outcome.arrow is not None
        else from_rows(
            [(column.name, column.type) for column in outcome.columns or ()],
            iter(outcome.rows or ()),
        )
    )
    result.kind = outcome.kind
    result.rowcount = outcome.rowcount
    result.lastrowid = outcome.lastrowid
    return result


def describe(columns: Sequence[tuple[str, SqlType | None]]) -> Description:
    """PEP 249's seven items for each column; the type code is the type's SQL name."""
    return tuple(
        (name, None, None, None, None, None, None)
        if sql_type is None
        else (name, str(sql_type), None, None, sql_type.precision, sql_type.scale, None)
        for name, sql_type in columns
    )


class _Lazy:
    """Rows of the row engine, kept as they are computed."""

    def __init__(
        self, columns: Sequence[tuple[str, SqlType | None]], source: Iterator[Row] | None
    ) -> None:
        self._columns = columns
        self._source = source
        self._failure: BaseException | None = None
        self._kept: list[Row] = []
        self._table: pyarrow.Table | None = None

    def slice(self, start: int, count: int | None) -> list[Row]:
        stop = None if count is None else start + count
        wanted = None if stop is None else stop - len(self._kept)
        if wanted is None or wanted > 0:
            self._compute(wanted)
        return self._kept[start:stop]

    def _compute(self, count: int | None) -> None:
        if self._failure is not None:
            raise self._failure  # a result that broke off never looks like a short one
        if self._source is None:
            return
        before = len(self._kept)
        try:
            self._kept.extend(islice(self._source, count))
        except BaseException as error:
            self._failure = error
            raise
        if count is None or len(self._kept) - before < count:
            self._source = None

    def arrow(self) -> pyarrow.Table:
        if self._table is None:
            from murmur.olap.arrow import rows_to_arrow

            self._table = rows_to_arrow(self._columns, self.slice(0, None))
        return self._table

    def close(self) -> None:
        self._kept.clear()
        close = getattr(self._source, "close", None)
        self._source = None
        if close is not None:
            close()


class _Columns:
    """Rows of the columnar engine: a table, made Python values as they are asked for."""

    def __init__(self, table: pyarrow.Table) -> None:
        self._table = table

    def slice(self, start: int, count: int | None) -> list[Row]:
        from murmur.olap.arrow import iterate_rows

        return list(iterate_rows(self._table.slice(start, count)))

    def total(self) -> int:
        return int(self._table.num_rows)

    def arrow(self) -> pyarrow.Table:
        return self._table

    def close(self) -> None:
        pass  # the table goes with the last reference to it


def _text(value: object) -> str:
    if value is None:
        return "NULL"
    text = value.hex() if isinstance(value, bytes) else str(value)
    text = text[: SHOWN_CHARACTERS + 1].translate(_INVISIBLE)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


# One row, one line; and nothing that a terminal would obey.
_INVISIBLE = dict.fromkeys((*range(32), *range(127, 160)), "�") | {9: " ", 10: "↵", 13: "↵"}


def _is_number(sql_type: SqlType | None) -> bool:
    return sql_type is not None and sql_type.is_numeric
