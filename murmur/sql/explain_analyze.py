"""EXPLAIN ANALYZE: a query run for its figures, operator by operator.

    hash join author = id  (28 rows, 0.061 ms, 3,136 bytes)

Rows are those that an operator gave; time is its own and that of what it reads; bytes are what an
access path has read of the tree, keys included, and elsewhere about what the rows given weigh.
Operators that run as one (a sort below a limit, the count of keys) have the figures of the upper.
The columnar engine is one operator here: its bytes are those of the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from murmur.kvcore.view import View
from murmur.sql.access import Reader, Row
from murmur.sql.execution import Context
from murmur.sql.executor import compile_query
from murmur.sql.memory import SAMPLE, weight
from murmur.sql.plan import Access, ColumnarQuery, RowQuery, Rows


@dataclass(slots=True)
class Figures:
    """What one operator came to."""

    rows: int = 0
    seconds: float = 0.0
    bytes: int = 0

    def __str__(self) -> str:
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'}"
        return f"({rows}, {self.seconds * 1000:.3f} ms, {self.bytes:,} bytes)"


class _CountingView:
    """A view that counts the bytes that are read through it."""

    def __init__(self, view: View, figures: Figures) -> None:
        self._view = view
        self._figures = figures

    def get(self, key: bytes) -> bytes | None:
        value = self._view.get(key)
        self._figures.bytes += len(key) + (0 if value is None else len(value))
        return value

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        figures = self._figures
        for key, value in self._view.scan(start, stop, reverse=reverse):
            figures.bytes += len(key) + len(value)
            yield key, value


def measured_rows(
    query: RowQuery, view: View, context: Context, now: Callable[[], float] = time.perf_counter
) -> dict[int, Figures]:
    """Run a row plan to its end; the figures of each operator by the identity of its node."""
    found: dict[int, Figures] = {}

    def watch(node: Rows, read: Reader) -> Reader:
        figures = found[id(node)] = Figures()
        reads = isinstance(node, Access)

        def measured(view: View, context: Context) -> Iterator[Row]:
            seen = _CountingView(view, figures) if reads else view
            begun = now()
            rows: Iterable[Row] = iter(read(seen, context))
            while True:
                row: Any = next(rows, None)  # type: ignore[call-overload]
                figures.seconds += now() - begun
                if row is None:
                    return
                if not reads and figures.rows % SAMPLE == 0:
                    each = weight(row)
                figures.rows += 1
                figures.bytes += 0 if reads else each
                yield row
                begun = now()

        return measured

    for _ in compile_query(query.rows, watch)(view, context):
        pass
    return found


def measured_columns(
    query: ColumnarQuery,
    view: View,
    context: Context,
    now: Callable[[], float] = time.perf_counter,
) -> Figures:
    """Run a columnar plan to its end."""
    begun = now()
    answer = context.run_columnar(query, view)
    return Figures(answer.num_rows, now() - begun, answer.nbytes)
