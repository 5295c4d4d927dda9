"""What the operators of one statement hold: hash tables, sorted rows, groups, answers.

    kept = list(context.memory.hold(rows))      passes rows on, and counts them as held

Rows are weighed by samples, one in SAMPLE, so the count is an estimate; it is there to end a
statement that would take the process's memory, with an error, while the store stays usable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from sys import getsizeof
from typing import Any, TypeVar

from murmur.errors import OperationalError

LIMIT_BYTES = 1 << 30  # for one statement
SAMPLE = 64
_SLOT_BYTES = 16  # a row's place in a list or a dictionary, about

Row = TypeVar("Row", bound="tuple[Any, ...]")


class Memory:
    """The bytes that one statement holds, against a limit."""

    __slots__ = ("held_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = LIMIT_BYTES if limit_bytes is None else limit_bytes
        self.held_bytes = 0

    def add(self, size: int) -> None:
        """Hold so many bytes more; OperationalError when that is beyond the limit."""
        self.held_bytes += size
        if self.held_bytes > self.limit_bytes:
            raise OperationalError(
                f"the statement holds more than {self.limit_bytes >> 20} MiB in joins, groups and "
                "sorts: ask for fewer rows, or run it with SET engine = 'columnar'"
            )

    def hold(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, counted as held."""
        source = iter(rows)
        while piece := list(islice(source, SAMPLE)):
            self.add(len(piece) * weight(piece[0]))
            yield from piece


def weight(row: tuple[Any, ...]) -> int:
    """About how many bytes a row takes."""
    return getsizeof(row) + _SLOT_BYTES + sum(map(getsizeof, row))
