"""SQLAlchemy's types and Murmur's.

    Integer  <->  INTEGER        Numeric(8, 2)  <->  DECIMAL(8,2)       Uuid  <->  UUID
    String   ->   VARCHAR        DateTime(timezone=True)  <->  TIMESTAMPTZ
    COUNTER  <->  COUNTER        whose increments merge; SQLAlchemy reads it as a BigInteger

Murmur takes values strictly: a float is no DECIMAL, a Decimal no DOUBLE. SQLAlchemy's users expect
both to be converted, so that happens here, by way of the number's shortest decimal notation.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import types as sqltypes
from sqlalchemy.dialects.postgresql import INTERVAL

from murmur.catalog import SqlType

Convert = Callable[[Any], Any]


class COUNTER(sqltypes.BigInteger):
    """A number whose increments of all replicas add up: `SET likes = likes + 1`."""

    __visit_name__ = "COUNTER"


class _Numeric(sqltypes.Numeric[Any]):
    def bind_processor(self, dialect: Any) -> Convert:
        return lambda value: Decimal(repr(value)) if isinstance(value, float) else value


class _Float(sqltypes.Float[Any]):
    def bind_processor(self, dialect: Any) -> Convert:
        return lambda value: float(value) if isinstance(value, Decimal) else value


class _Uuid(sqltypes.Uuid[Any]):
    def bind_processor(self, dialect: Any) -> Any:
        # Where the column is a UUID, uuid.UUID and text are both taken.
        return None if self.native_uuid else super().bind_processor(dialect)

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        if not self.native_uuid:
            return super().result_processor(dialect, coltype)
        if self.as_uuid:
            return None
        return lambda value: str(value) if isinstance(value, uuid.UUID) else value


class _Interval(INTERVAL):
    """A native interval, whatever fields and precision a PostgreSQL definition names."""


class _JsonPath(sqltypes.JSON.JSONPathType):
    """`data[("a", 1)]`: the steps as a JSON path, $."a"[1]."""

    def _text(self, value: Any) -> Any:
        if isinstance(value, str) or value is None:
            return value
        steps = (f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in value)
        return "$" + "".join(steps)

    def bind_processor(self, dialect: Any) -> Convert:
        return self._text

    def literal_processor(self, dialect: Any) -> Callable[[Any], str]:
        return lambda value: "'" + self._text(value).replace("'", "''") + "'"


class _JsonIndex(sqltypes.JSON.JSONIndexType):
    """`data["a"]`, `data[0]`: the step as it is; the generic type would make JSON text of it."""

    def bind_processor(self, dialect: Any) -> None:
        return None


COLSPECS: dict[type[Any], type[Any]] = {
    sqltypes.Numeric: _Numeric,
    sqltypes.Float: _Float,
    sqltypes.Uuid: _Uuid,
    sqltypes.Interval: _Interval,
    sqltypes.JSON.JSONPathType: _JsonPath,
    sqltypes.JSON.JSONIndexType: _JsonIndex,
}

_PLAIN: dict[str, Callable[[], sqltypes.TypeEngine[Any]]] = {
    "BOOLEAN": sqltypes.BOOLEAN,
    "SMALLINT": sqltypes.SMALLINT,
    "INTEGER": sqltypes.INTEGER,
    "BIGINT": sqltypes.BIGINT,
    "COUNTER": COUNTER,
    "REAL": sqltypes.REAL,
    "DOUBLE": sqltypes.DOUBLE_PRECISION,
    "TEXT": sqltypes.TEXT,
    "BLOB": sqltypes.LargeBinary,
    "DATE": sqltypes.DATE,
    "TIME": sqltypes.TIME,
    "TIMESTAMP": sqltypes.TIMESTAMP,
    "TIMESTAMPTZ": lambda: sqltypes.TIMESTAMP(timezone=True),
    "INTERVAL": INTERVAL,
    "UUID": sqltypes.UUID,
    "JSON": sqltypes.JSON,
}


def from_sql_type(sql_type: SqlType) -> sqltypes.TypeEngine[Any]:
    """The SQLAlchemy type of a column that is there."""
    if sql_type.name == "DECIMAL":
        return sqltypes.NUMERIC(sql_type.precision, sql_type.scale)
    if sql_type.name == "VARCHAR":
        return sqltypes.VARCHAR(sql_type.length)
    make = _PLAIN.get(sql_type.name)
    return sqltypes.NullType() if make is None else make()
