"""Limits that are told when a table is made, not when its log is read again."""

from __future__ import annotations

import pytest

from murmur.catalog import ColumnDefinition, TableDefinition, add_column, create_table
from murmur.catalog.types import INTEGER
from murmur.errors import InvalidInput
from murmur.kvcore.record import MAX_FIELDS
from tests.catalog.harness import open_replica


def wide(columns: int) -> TableDefinition:
    return TableDefinition(
        "wide", tuple(ColumnDefinition(f"c{number}", INTEGER) for number in range(columns))
    )


def test_a_table_is_no_wider_than_a_record() -> None:
    with open_replica() as replica:
        with pytest.raises(InvalidInput, match="4,096"), replica.begin() as tx:
            create_table(tx, wide(MAX_FIELDS + 1))
        with replica.begin() as tx:
            create_table(tx, wide(MAX_FIELDS))
        with pytest.raises(InvalidInput, match="4,096"), replica.begin() as tx:
            add_column(tx, "wide", ColumnDefinition("more", INTEGER))
