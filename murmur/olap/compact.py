"""Columns as the cache keeps them: narrower, and quicker for the columnar engine to read.

    DECIMAL(15,2)     decimal128, 16 bytes     ->  decimal64, 8 bytes, which DuckDB takes as it is
    TEXT, few values  'AIR', 'SHIP', 'AIR' ... ->  a dictionary, 4 bytes a row

DuckDB reads them as the same types. A text column becomes a dictionary when it has few different
values, in each of its chunks and as a whole.
"""

from __future__ import annotations

import pyarrow as pa

_FEW = 1000  # different values of one column
_SHARE = 8  # rows for each different value, at least


def compact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values in the form that is kept."""
    if pa.types.is_decimal128(column.type) and column.type.precision <= 18:
        return column.cast(pa.decimal64(column.type.precision, column.type.scale))
    if pa.types.is_string(column.type) and len(column):
        return _dictionary(column)
    return column


def _dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    chunks = []
    for chunk in column.chunks:
        encoded = chunk.dictionary_encode()
        if len(encoded.dictionary) > min(_FEW, len(chunk) // _SHARE):
            return column
        chunks.append(encoded)
    unified = pa.chunked_array(chunks).unify_dictionaries()
    return unified if len(unified.chunk(0).dictionary) <= _FEW else column
