"""Answers of DuckDB, with each column in the Arrow type of its SQL type.

FLOAT               ->  REAL, float32
TIMESTAMP_NS        ->  TIMESTAMP, in microseconds
HUGEINT             ->  BIGINT, or DECIMAL(38, 0) if a value needs it
ENUM(...)           ->  TEXT
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from murmur.catalog.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    INTERVAL,
    JSON,
    REAL,
    SMALLINT,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    SqlType,
    decimal,
)
from murmur.olap.arrow import arrow_type, make_field

# What HUGEINT becomes depends on its values; types that are absent here have no SQL type in Murmur.
_TYPES: Mapping[str, SqlType] = {
    "BOOLEAN": BOOLEAN,
    "TINYINT": SMALLINT,
    "UTINYINT": SMALLINT,
    "SMALLINT": SMALLINT,
    "USMALLINT": INTEGER,
    "INTEGER": INTEGER,
    "UINTEGER": BIGINT,
    "BIGINT": BIGINT,
    "FLOAT": REAL,
    "DOUBLE": DOUBLE,
    "VARCHAR": TEXT,
    "BLOB": BLOB,
    "DATE": DATE,
    "TIME": TIME,
    "TIMESTAMP": TIMESTAMP,
    "TIMESTAMP_S": TIMESTAMP,
    "TIMESTAMP_MS": TIMESTAMP,
    "TIMESTAMP_NS": TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": TIMESTAMPTZ,
    "INTERVAL": INTERVAL,
    "UUID": UUID,
    "JSON": JSON,
}
_WIDE = frozenset({"HUGEINT", "UHUGEINT", "UBIGINT", "BIGNUM"})
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_AS_TEXT = ("ENUM",)


def relabel(table: pa.Table, types: Sequence[str]) -> pa.Table:
    """The answer with each field in the Arrow type of its SQL type, and saying which."""
    fields, arrays = [], []
    for field, array, name in zip(table.schema, table.columns, types, strict=True):
        sql_type = _sql_type(name)
        if name in _WIDE:
            sql_type, array = _narrowed(array)
        elif sql_type is not None:
            wanted = arrow_type(sql_type)
            if array.type != wanted:
                array = array.cast(wanted, safe=False)  # TIMESTAMP_NS drops its nanoseconds
        elif name.startswith(_AS_TEXT):
            sql_type, array = TEXT, array.cast(pa.string())
        fields.append(make_field(field.name, sql_type, array.type))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _sql_type(name: str) -> SqlType | None:
    if (exact := _DECIMAL.fullmatch(name)) is not None:
        return decimal(int(exact[1]), int(exact[2]))
    return _TYPES.get(name)


def _narrowed(array: pa.ChunkedArray) -> tuple[SqlType, pa.ChunkedArray]:
    whole = array.cast(pa.decimal128(38, 0))
    bounds = pc.min_max(whole).as_py()
    low, high = bounds["min"], bounds["max"]
    if low is None or (low >= -(2**63) and high < 2**63):
        return BIGINT, whole.cast(pa.int64())
    return decimal(38, 0), whole
