"""Tables for people.

     id │ body   │  price
    ────┼────────┼───────
      1 │ hello  │   1.50
      2 │ NULL   │ 120.00
    (2 rows)

Numbers stand on the right. NULL is dimmed on a terminal; a text that reads NULL stands in quotes.
A value takes one line, whatever is in it (width.py).

On a terminal no line is longer than the terminal is wide: what makes room are the widest texts,
numbers are never cut. If that is not enough for all columns, rows are written one under another:

    ── row 1 ───────
    id    │ 1
    body  │ hello

The layout is that of the first LAID_OUT rows, so that the first lines appear at once and a long
result takes no memory. Later values that are wider are cut on a terminal, and stick out elsewhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from murmur.cli.answer import Answer, Row
from murmur.cli.output import Output
from murmur.cli.values import text_writer
from murmur.cli.width import ELLIPSIS, cut, visible, width

LAID_OUT = 1000
NARROWEST = 8  # columns that a text keeps when others need room
NULL = "NULL"

_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"
_LINES = {True: ("│", "─", "┼", ELLIPSIS), False: ("|", "-", "+", "...")}

Cells = list[str | None]


def write_table(answer: Answer, output: Output) -> int:
    """Write the rows as a table; how many there were."""
    lines = _Lines(output)
    rows = _cells(answer)
    head = list(islice(rows, LAID_OUT))
    right = [sql_type is not None and sql_type.is_numeric for sql_type in answer.types]
    names = [visible(name) for name in answer.names]
    widths = _fit(_natural(names, head), right, output.width)
    count = 0
    if widths is None:
        for count, cells in enumerate(chain(head, rows), 1):
            output.text(lines.record(count, names, cells))
        return count
    output.text(lines.row(names, widths, right))
    output.text(lines.rule(widths))
    for cells in chain(head, rows):
        output.text(lines.row(cells, widths, right))
        count += 1
    return count


def _cells(answer: Answer) -> Iterator[Cells]:
    writers = [text_writer(sql_type) for sql_type in answer.types]

    def cells(row: Row) -> Cells:
        return [
            None if value is None else visible(write(value))
            for write, value in zip(writers, row, strict=True)
        ]

    return map(cells, answer.rows())


def _natural(names: Sequence[str], rows: Sequence[Cells]) -> list[int]:
    widths = list(map(width, names))
    for cells in rows:
        for at, cell in enumerate(cells):
            needed = width(_shown(cell))
            if needed > widths[at]:
                widths[at] = needed
    return widths


def _fit(natural: list[int], right: Sequence[bool], columns: int | None) -> list[int] | None:
    """Widths that make the lines short enough; None if there are too many columns for that."""
    if columns is None:
        return natural
    room = columns - 3 * len(natural) + 1
    if sum(natural) <= room:
        return natural

    def bounded(bound: int) -> list[int]:
        return [
            wanted if number else min(wanted, bound)
            for wanted, number in zip(natural, right, strict=True)
        ]

    if sum(bounded(NARROWEST)) > room:
        return None
    # The widest gives way first: all texts are held to one bound, the highest that fits.
    bounds = range(NARROWEST, max(natural) + 1)
    fitting = bisect_right(bounds, room, key=lambda bound: sum(bounded(bound)))
    return bounded(bounds[fitting - 1])


def _shown(cell: str | None) -> str:
    if cell is None:
        return NULL
    return f'"{NULL}"' if cell == NULL else cell


class _Lines:
    """Writes cells as lines."""

    def __init__(self, output: Output) -> None:
        self._bar, self._dash, self._cross, self._ellipsis = _LINES[output.draws]
        self._columns = output.width
        self._null = f"{_DIM}{NULL}{_PLAIN}" if output.colored else NULL

    def row(self, cells: Sequence[str | None], widths: Sequence[int], right: Sequence[bool]) -> str:
        parts = []
        for cell, room, number in zip(cells, widths, right, strict=True):
            text = _shown(cell)
            if self._columns is not None and not number:
                text = cut(text, room, self._ellipsis)
            blanks = " " * (room - width(text))
            if cell is None:
                text = self._null
            parts.append(f" {blanks}{text} " if number else f" {text}{blanks} ")
        return self._bar.join(parts).rstrip() + "\n"

    def rule(self, widths: Sequence[int]) -> str:
        return self._cross.join(self._dash * (room + 2) for room in widths) + "\n"

    def record(self, number: int, names: Sequence[str], cells: Sequence[str | None]) -> str:
        assert self._columns is not None  # elsewhere every table fits
        name_room = min(max(map(width, names)), max(1, self._columns // 3))
        room = max(1, self._columns - name_room - 3)
        title = f"{self._dash * 2} row {number} "
        lines = [title + self._dash * max(0, self._columns - len(title))]
        for name, cell in zip(names, cells, strict=True):
            name = cut(name, name_room, self._ellipsis)
            text = self._null if cell is None else cut(_shown(cell), room, self._ellipsis)
            lines.append(f"{name}{' ' * (name_room - width(name))} {self._bar} {text}")
        return "\n".join(lines) + "\n"
