"""Point queries of tables over KV keys: see point.py.

SELECT value FROM cfg WHERE key = ?      ->  run(replica.get, ["host"])  ->  [("mx",)]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from murmur.catalog.keycode import NOT_OF_TYPE
from murmur.catalog.kv_tables import KvReader, key_encoder
from murmur.catalog.schema import Column, Table

Row: TypeAlias = tuple[Any, ...]
Get: TypeAlias = Callable[[bytes], bytes | None]
Given: TypeAlias = Sequence[Any] | Mapping[str, Any] | None


def kv_point_reader(
    table: Table,
    columns: Sequence[Column],
    key: tuple[int, Any],
    values_of: Callable[[Given], Sequence[Any]],
) -> Callable[[Get, Given], list[Row]]:
    """The function that reads the row of a key: the parameter of a position, or (-1) a value."""
    encode, read = key_encoder(table), KvReader(table, columns).row
    index, literal = key

    def answer(get: Get, given: Given) -> list[Row]:
        values = values_of(given)
        try:
            encoded = encode(values[index] if index >= 0 else literal)
        except NOT_OF_TYPE:
            return []
        cell = get(encoded)
        row = None if cell is None else read(encoded, cell)
        return [] if row is None else [row]

    return answer
