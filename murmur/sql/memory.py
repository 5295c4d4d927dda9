"""What one statement holds: hash tables, sorted rows, groups, and rows that are given all at once.

    kept = list(context.memory.hold(rows))      passes rows on, and counts them as held
    memory.begin()                              a query begins: what the last one held is free
    memory.keep(weight(row))                    held until the statement ends: a row of RETURNING

The limit is that of SET memory_limit. It counts what Murmur holds: rows on the row engine, answers
of the columnar one as they arrive; DuckDB limits its own work, to a part of the machine's memory.

Rows are weighed by samples, one in SAMPLE, so the count is an estimate; it is there to end a
statement that would take the process's memory, with an error, while the store stays usable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from sys import getsizeof
from typing import Any, TypeVar

from murmur.errors import OperationalError

LIMIT_BYTES = 1 << 30  # for one statement, unless SET memory_limit says otherwise
SAMPLE = 64
_SLOT_BYTES = 16  # a row's place in a list or a dictionary, about

Row = TypeVar("Row", bound="tuple[Any, ...]")


class Memory:
    """The bytes that one statement holds, against a limit."""

    __slots__ = ("held_bytes", "kept_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = LIMIT_BYTES if limit_bytes is None else limit_bytes
        self.held_bytes = self.kept_bytes = 0

    def begin(self) -> None:
        """Hold nothing, but for what is kept."""
        self.held_bytes = 0

    def keep(self, size: int) -> None:
        """Hold so many bytes until the statement ends; OperationalError as of `add`."""
        self.kept_bytes += size
        self.add(0)

    def add(self, size: int) -> None:
        """Hold so many bytes more; OperationalError when that is beyond the limit."""
        self.held_bytes += size
        if self.held_bytes + self.kept_bytes > self.limit_bytes:
            raise OperationalError(
                f"the statement holds more than {shown_bytes(self.limit_bytes)} in joins, groups, "
                "sorts and rows that are given at once: ask for fewer rows, read them in parts, or "
                "raise the limit with SET memory_limit = '...'"
            )

    def hold(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, counted as held."""
        source = iter(rows)
        while piece := list(islice(source, SAMPLE)):
            self.add(len(piece) * weight(piece[0]))
            yield from piece


def read_bytes(text: str) -> int | None:
    """The bytes of '512MB'; units are kB, MB, GB and TB of 1,024 each. None if it says no size."""
    found = re.fullmatch(r"\s*(\d{1,12})\s*([kMGT])i?B\s*", text, re.IGNORECASE)
    if found is None or not int(found[1]):
        return None
    return int(found[1]) << 10 * (1 + "KMGT".index(found[2].upper()))


def shown_bytes(size: int) -> str:
    """A size as `read_bytes` reads it, in the largest unit that it is a multiple of."""
    for unit, shift in (("TB", 40), ("GB", 30), ("MB", 20)):
        if size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return f"{-(-size >> 10)}kB"


def weight(row: tuple[Any, ...]) -> int:
    """About how many bytes a row takes."""
    return getsizeof(row) + _SLOT_BYTES + sum(map(getsizeof, row))
