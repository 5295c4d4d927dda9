"""The one row of an INSERT, encoded to be committed by itself.

    row = LoneRow(load, catalog)
    row.encode([7, "a"], context)     RowBlock of one; None if rows of this table need more
    row.last_key(block)               7

What can stand against the row is its key, what it claims, and a CHECK; foreign keys need a
transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from murmur.catalog.bulk import lone_plan, verify_checks
from murmur.catalog.catalog import Catalog
from murmur.kvcore.kernel.blocks import RowBlock, RowEncoder
from murmur.kvcore.loads import insertion_of
from murmur.sql.bulk import Given, Load
from murmur.sql.checks import checks_of
from murmur.sql.execution import Context


class LoneRow:
    """What encodes the rows of one statement, one at a time, for one thread at a time."""

    def __init__(self, load: Load, catalog: Catalog) -> None:
        self.load = load
        self._plan = lone_plan(catalog, load.table)
        self._encoder: RowEncoder | None = None  # bound to what stays the same
        self._make_id: Callable[[], bytes] | None = None
        self._busy = threading.RLock()  # the encoder refuses whoever comes from within

    def encode(self, given: Given, context: Callable[[], Context]) -> RowBlock | None:
        """The row; None if it is not to be inserted by itself. Raises what is wrong with it."""
        load, table = self.load, self.load.table
        if self._plan is None:
            return None
        with self._busy:
            encoder = self._encoder
            if encoder is None:
                made = context()
                encoder = RowEncoder(self._plan)
                encoder.bind(load.sources(made), len(load.parameters.names))
                self._make_id = None if table.primary_key else lambda: made.uuid7().bytes
                if not load.varies:
                    self._encoder = encoder
            arrange = load.parameters.arrange
            named = load.parameters.style == ":"
            encoder.add_rows([arrange(given) if named else given], arrange, self._make_id)
            block = encoder.finish()
        verify_checks(table, block, checks_of(table))
        return block

    def last_key(self, block: RowBlock) -> int | None:
        """The key of the row, if it is one integer."""
        key = self.load.key
        if key is None:
            return None
        fields: Any = insertion_of(block.body(0)).fields
        return fields[self.load.columns[key].id]  # type: ignore[no-any-return]
