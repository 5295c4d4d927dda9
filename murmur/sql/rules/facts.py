"""What the rules are told of tables; statistics.py keeps it."""

from __future__ import annotations

from typing import Protocol

from murmur.catalog.schema import Table

ROWS = 1000.0  # of a table of which nothing is known


class Facts(Protocol):
    """What is known of tables."""

    @property
    def analyzed(self) -> int:
        """How often it has been counted what is in columns: plans made before are made again."""
        ...

    def rows(self, table: Table) -> float:
        """How many rows it has, about."""
        ...

    def distinct(self, table: Table, position: int) -> float | None:
        """How many values a column has, if that was counted."""
        ...

    def fraction(self, table: Table, position: int, op: str, value: object) -> float | None:
        """The part of the rows whose column compares so with the value, if that is known."""
        ...


class Unknown:
    """Facts of tables that nobody has looked at."""

    analyzed = 0

    def rows(self, table: Table) -> float:
        """As many as any."""
        return ROWS

    def distinct(self, table: Table, position: int) -> float | None:
        """Nobody has counted."""
        return None

    def fraction(self, table: Table, position: int, op: str, value: object) -> float | None:
        """Nobody has counted."""
        return None
