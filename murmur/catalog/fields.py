"""Columns as the kernel is told of them: a field's id, its kind of atom, and its Arrow column.

    column likes INTEGER DEFAULT 0    ->    FieldSpec(id, INTEGER, "i", missing=0, width=4, ...)

Formats are those of Arrow's C data interface. olap/arrow.py lists the Arrow type of each SQL type.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from murmur.catalog.schema import Column
from murmur.catalog.types import SqlType, decimal_bounds, integer_bounds
from murmur.kvcore import Atom
from murmur.kvcore.kernel.fields import (
    BINARY,
    BOOLEAN,
    DECIMAL,
    FIXED,
    FLOAT,
    INTEGER,
    INTERVAL,
    TEXT,
    UUID,
    FieldSpec,
)

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1)
_FIRST_US, _LAST_US = (
    (moment - _EPOCH) // timedelta(microseconds=1) for moment in (datetime.min, datetime.max)
)
_INTEGERS = {"SMALLINT": ("s", 2), "INTEGER": ("i", 4), "BIGINT": ("l", 8), "COUNTER": ("l", 8)}
_PLAIN = {
    "BOOLEAN": FieldSpec(0, BOOLEAN, "b"),
    "REAL": FieldSpec(0, FLOAT, "f", width=4),
    "DOUBLE": FieldSpec(0, FLOAT, "g", width=8),
    "TEXT": FieldSpec(0, TEXT, "u"),
    "VARCHAR": FieldSpec(0, TEXT, "u"),
    "JSON": FieldSpec(0, TEXT, "u"),
    "BLOB": FieldSpec(0, BINARY, "z"),
    "DATE": FieldSpec(
        0, INTEGER, "tdD", width=4, bias=_EPOCH_ORDINAL, low=1, high=date.max.toordinal()
    ),
    "TIME": FieldSpec(0, INTEGER, "ttu", width=8, high=86_400_000_000 - 1),
    "TIMESTAMP": FieldSpec(0, INTEGER, "tsu:", width=8, low=_FIRST_US, high=_LAST_US),
    "TIMESTAMPTZ": FieldSpec(0, INTEGER, "tsu:UTC", width=8, low=_FIRST_US, high=_LAST_US),
    "INTERVAL": FieldSpec(0, INTERVAL, "tin"),
    "UUID": FieldSpec(0, UUID, "u"),
}
_RAW_UUID = FieldSpec(0, FIXED, "w:16", width=16)


def field_of(column: Column, *, raw: bool = False) -> FieldSpec:
    """The field in which records keep a column; `raw`: a UUID is 16 bytes, not text."""
    return type_field(column.type, column.id, column.missing, raw=raw)


def type_field(
    sql_type: SqlType, field: int = 0, missing: Atom = None, *, raw: bool = False
) -> FieldSpec:
    """A field of this type."""
    name = sql_type.name
    if name in _INTEGERS:
        form, width = _INTEGERS[name]
        low, high = integer_bounds(sql_type)
        return FieldSpec(field, INTEGER, form, missing, width=width, low=low, high=high)
    if name == "DECIMAL":
        precision, scale = decimal_bounds(sql_type)
        form = f"d:{precision},{scale}"
        free = sql_type.precision is None
        return FieldSpec(
            field, DECIMAL, form, missing, precision=precision, scale=scale, shortest=free
        )
    spec = _RAW_UUID if raw and name == "UUID" else _PLAIN[name]
    return spec._replace(id=field, missing=missing)
