"""The types that a column can have, and the names by which SQL calls them.

    type          Python value                        notes
    BOOLEAN       bool
    SMALLINT      int                                 16 bits
    INTEGER       int                                 32 bits
    BIGINT        int                                 64 bits
    REAL          float                               rounded to 32 bits
    DOUBLE        float                               64 bits
    DECIMAL(p,s)  decimal.Decimal                     p <= 38 digits, s of them after the point
    TEXT          str
    VARCHAR(n)    str                                 at most n code points
    BLOB          bytes
    DATE          datetime.date                       years 1 to 9999
    TIME          datetime.time                       naive, microseconds
    TIMESTAMP     datetime.datetime                   naive, microseconds
    TIMESTAMPTZ   datetime.datetime                   aware, in UTC
    INTERVAL      datetime.timedelta or Interval      Interval when there are months
    UUID          uuid.UUID
    JSON          str                                 JSON text, as given
    COUNTER       int                                 64 bits; merged by adding

`str` of a type is its SQL name, and `parse_type` reads it back:

    parse_type("numeric", (10, 2))  ->  DECIMAL(10,2)  <-  parse_type("DECIMAL(10,2)")

DECIMAL without arguments has neither precision nor scale of its own: as the type of an expression
it is any exact number; a column of it holds 28 digits before the point and 10 after
(`decimal_bounds`).
CHAR(n) is read as VARCHAR(n): nothing is padded. JSONB is read as JSON.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TypeAlias

from murmur.catalog.interval import Interval
from murmur.errors import InvalidInput, Unsupported

__all__ = [
    "BIGINT",
    "BLOB",
    "BOOLEAN",
    "COUNTER",
    "DATE",
    "DECIMAL",
    "DOUBLE",
    "INTEGER",
    "INTERVAL",
    "JSON",
    "REAL",
    "SMALLINT",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TYPE_NAMES",
    "UUID",
    "Interval",
    "SqlType",
    "Value",
    "decimal",
    "decimal_bounds",
    "integer_bounds",
    "parse_type",
    "varchar",
]

Value: TypeAlias = (
    bool
    | int
    | float
    | Decimal
    | str
    | bytes
    | date
    | time
    | datetime
    | timedelta
    | uuid.UUID
    | None
)

MAX_PRECISION = 38  # what a 128-bit decimal holds, here, in Arrow and in DuckDB
MAX_VARCHAR = 10_485_760  # PostgreSQL's

_FREE_PRECISION, _FREE_SCALE = MAX_PRECISION, 10

_INTEGER_BITS = {"SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "COUNTER": 64}
_NUMERIC = frozenset({*_INTEGER_BITS, "REAL", "DOUBLE", "DECIMAL"})
_TEXT = frozenset({"TEXT", "VARCHAR"})
_TEMPORAL = frozenset({"DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL"})
_NOT_KEYS = frozenset({"JSON", "COUNTER"})

TYPE_NAMES = frozenset({*_NUMERIC, *_TEXT, *_TEMPORAL, "BOOLEAN", "BLOB", "UUID", "JSON"})


@dataclass(frozen=True, slots=True)
class SqlType:
    """A column's or an expression's type. Make one with a constant of this file or `parse_type`."""

    name: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None

    def __str__(self) -> str:
        if self.precision is not None:
            return f"{self.name}({self.precision},{self.scale})"
        return self.name if self.length is None else f"{self.name}({self.length})"

    @property
    def is_integer(self) -> bool:
        """Whole numbers: SMALLINT, INTEGER, BIGINT and COUNTER."""
        return self.name in _INTEGER_BITS

    @property
    def is_float(self) -> bool:
        """Inexact numbers: REAL and DOUBLE."""
        return self.name in ("REAL", "DOUBLE")

    @property
    def is_numeric(self) -> bool:
        """Whatever can be added."""
        return self.name in _NUMERIC

    @property
    def is_text(self) -> bool:
        """TEXT and VARCHAR(n)."""
        return self.name in _TEXT

    @property
    def is_temporal(self) -> bool:
        """Dates, times and intervals."""
        return self.name in _TEMPORAL

    @property
    def can_be_key(self) -> bool:
        """Whether columns of this type can stand in a key or an index."""
        return self.name not in _NOT_KEYS


BOOLEAN = SqlType("BOOLEAN")
SMALLINT = SqlType("SMALLINT")
INTEGER = SqlType("INTEGER")
BIGINT = SqlType("BIGINT")
REAL = SqlType("REAL")
DOUBLE = SqlType("DOUBLE")
DECIMAL = SqlType("DECIMAL")
TEXT = SqlType("TEXT")
BLOB = SqlType("BLOB")
DATE = SqlType("DATE")
TIME = SqlType("TIME")
TIMESTAMP = SqlType("TIMESTAMP")
TIMESTAMPTZ = SqlType("TIMESTAMPTZ")
INTERVAL = SqlType("INTERVAL")
UUID = SqlType("UUID")
JSON = SqlType("JSON")
COUNTER = SqlType("COUNTER")

_PLAIN = {
    "BOOLEAN": BOOLEAN,
    "BOOL": BOOLEAN,
    "SMALLINT": SMALLINT,
    "INT2": SMALLINT,
    "INTEGER": INTEGER,
    "INT": INTEGER,
    "INT4": INTEGER,
    "BIGINT": BIGINT,
    "INT8": BIGINT,
    "REAL": REAL,
    "FLOAT4": REAL,
    "DOUBLE": DOUBLE,
    "DOUBLE PRECISION": DOUBLE,
    "FLOAT8": DOUBLE,
    "TEXT": TEXT,
    "STRING": TEXT,
    "BLOB": BLOB,
    "BYTEA": BLOB,
    "DATE": DATE,
    "UUID": UUID,
    "JSON": JSON,
    "JSONB": JSON,
    "COUNTER": COUNTER,
}
# These take the number of digits after the second; Murmur keeps all six.
_CLOCK = {
    "TIME": TIME,
    "TIME WITHOUT TIME ZONE": TIME,
    "TIMESTAMP": TIMESTAMP,
    "TIMESTAMP WITHOUT TIME ZONE": TIMESTAMP,
    "DATETIME": TIMESTAMP,
    "TIMESTAMPTZ": TIMESTAMPTZ,
    "TIMESTAMP WITH TIME ZONE": TIMESTAMPTZ,
    "INTERVAL": INTERVAL,
}
_UNSUPPORTED = {
    "TIMETZ": "a time of day with a zone has no meaning of its own; use TIME or TIMESTAMPTZ",
    "TIME WITH TIME ZONE": "a time of day with a zone has no meaning of its own; "
    "use TIME or TIMESTAMPTZ",
    "MONEY": "use DECIMAL(p,s)",
    "XML": "use TEXT",
    "SMALLSERIAL": "use BIGINT, which can generate its keys",
    "SERIAL": "use BIGINT, which can generate its keys",
    "BIGSERIAL": "use BIGINT, which can generate its keys",
}

_WRITTEN = re.compile(r"\s*([^()]+?)\s*\(\s*(\d+(?:\s*,\s*\d+)*)\s*\)\s*")


def decimal(precision: int, scale: int = 0) -> SqlType:
    """DECIMAL(precision,scale)."""
    if not 1 <= precision <= MAX_PRECISION:
        raise InvalidInput(f"DECIMAL precision {precision} must be between 1 and {MAX_PRECISION}")
    if not 0 <= scale <= precision:
        raise InvalidInput(f"DECIMAL scale {scale} must be between 0 and precision {precision}")
    return SqlType("DECIMAL", precision, scale)


def varchar(length: int) -> SqlType:
    """VARCHAR(length), counted in code points."""
    if not 1 <= length <= MAX_VARCHAR:
        raise InvalidInput(f"VARCHAR length {length} must be between 1 and {MAX_VARCHAR}")
    return SqlType("VARCHAR", length=length)


def parse_type(name: str, args: Sequence[int] = ()) -> SqlType:
    """The type that SQL calls by this name, in any of PostgreSQL's spellings.

    Arguments come apart, `parse_type("numeric", (10, 2))`, or written out, as `str` does:
    `parse_type("DECIMAL(10,2)")`.
    """
    if not args and (written := _WRITTEN.fullmatch(name)):
        name, args = written[1], [int(argument) for argument in written[2].split(",")]
    name = " ".join(name.upper().split())
    match name, list(args):
        case (("DECIMAL" | "NUMERIC" | "DEC"), []):
            return DECIMAL
        case (("DECIMAL" | "NUMERIC" | "DEC"), [precision]):
            return decimal(precision)
        case (("DECIMAL" | "NUMERIC" | "DEC"), [precision, scale]):
            return decimal(precision, scale)
        case (("VARCHAR" | "CHARACTER VARYING"), []):
            return TEXT
        case (("CHAR" | "CHARACTER"), []):
            return varchar(1)
        case (("VARCHAR" | "CHARACTER VARYING" | "CHAR" | "CHARACTER" | "BPCHAR"), [length]):
            return varchar(length)
        case "FLOAT", []:
            return DOUBLE
        case "FLOAT", [bits]:
            if not 1 <= bits <= 53:
                raise InvalidInput(f"FLOAT precision {bits} must be between 1 and 53 bits")
            return REAL if bits <= 24 else DOUBLE
        case clock, [] | [6] if clock in _CLOCK:
            return _CLOCK[clock]
        case clock, [digits] if clock in _CLOCK:
            raise Unsupported(f"type {name}({digits}): times are kept in microseconds, as {name}")
        case plain, [] if plain in _PLAIN:
            return _PLAIN[plain]
        case other, _ if other in _UNSUPPORTED:
            raise Unsupported(f"type {name}: {_UNSUPPORTED[other]}")
        case _, []:
            raise InvalidInput(f"unknown type {name}")
        case _, given:
            raise InvalidInput(f"type {name} takes no arguments {tuple(given)}")


def decimal_bounds(sql_type: SqlType) -> tuple[int, int]:
    """Precision and scale that a DECIMAL column is held to; DECIMAL alone means (38, 10)."""
    if sql_type.precision is None or sql_type.scale is None:
        return _FREE_PRECISION, _FREE_SCALE
    return sql_type.precision, sql_type.scale


def integer_bounds(sql_type: SqlType) -> tuple[int, int]:
    """The smallest and the largest value of an integer type, both inclusive."""
    half = 1 << (_INTEGER_BITS[sql_type.name] - 1)
    return -half, half - 1
