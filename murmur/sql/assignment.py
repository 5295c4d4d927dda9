"""What a computed value becomes on its way into a column: PostgreSQL's assignment casts.

    INSERT INTO t (price) SELECT avg(price) FROM u      DOUBLE to DECIMAL(8,2), rounded
    UPDATE t SET n = d * 1.5                            DECIMAL to INTEGER, rounded
    INSERT INTO log (line) SELECT id FROM t             anything to TEXT
    INSERT INTO t (day) SELECT now()                    TIMESTAMPTZ to DATE

A number becomes any number, a moment any type that is a part of it, and everything text. Nothing
else is converted: text is not read as a number, nor a number taken for a BOOLEAN. Literals and
parameters are not computed: they have to fit (binder_expressions.assigned).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, time, timedelta
from functools import lru_cache
from typing import Any, TypeAlias

from murmur.catalog.types import TEXT, SqlType
from murmur.errors import TypeMismatch
from murmur.sql.casts import can_cast, caster, type_of_value
from murmur.sql.expressions import Call, Expr, Function
from murmur.sql.operators import is_implied, plain

Converter: TypeAlias = Callable[[Any], Any]

_NARROWER = frozenset(
    {
        ("TIMESTAMPTZ", "TIMESTAMP"),
        ("TIMESTAMPTZ", "DATE"),
        ("TIMESTAMPTZ", "TIME"),
        ("TIMESTAMP", "DATE"),
        ("TIMESTAMP", "TIME"),
        ("INTERVAL", "TIME"),
    }
)


def is_assigned(source: SqlType, target: SqlType) -> bool:
    """Whether a value of one plain type becomes the other when it is written to a column."""
    return (
        is_implied(source, target)
        or (source.is_numeric and target.is_numeric)
        or (target.is_text and can_cast(source, TEXT))
        or (source.name, target.name) in _NARROWER
    )


def assignment_target(target: SqlType) -> SqlType:
    """What to cast to: a text that is too long for its column is refused there, not cut."""
    return plain(target) if target.is_text else target


@lru_cache(maxsize=1024)
def converter(target: SqlType) -> Converter:
    """Converts a value whose type is known by its Python type alone; NULL stays NULL.

    What has no such conversion is left as it is: the catalog says what is wrong with it.
    """
    wanted = assignment_target(target)
    # What needs no look: ints that are too big and the like are refused by the catalog.
    same = _SAME.get(plain(target).name, ())

    def convert(value: Any) -> Any:
        if value is None or type(value) in same:
            return value
        try:
            source = type_of_value(value)
        except TypeMismatch:
            return value
        if not is_assigned(source, plain(target)):
            return value
        cast = caster(source, wanted)
        return value if cast is None else cast(value)

    return convert


_SAME: dict[str, tuple[type, ...]] = {
    "BOOLEAN": (bool,),
    "SMALLINT": (int,),
    "INTEGER": (int,),
    "BIGINT": (int,),
    "REAL": (float,),
    "DOUBLE": (float,),
    "TEXT": (str,),
    "BLOB": (bytes,),
    "DATE": (date,),
    "TIME": (time,),
    "INTERVAL": (timedelta,),
    "UUID": (uuid.UUID,),
    "JSON": (str,),
}


def converted(expr: Expr, target: SqlType) -> Expr:
    """An expression whose type is known only when it is evaluated, converted then."""
    function = Function("assigned", (target,), target, converter(target))
    return Call(function, (expr,), target)


def needs_converter(source: SqlType | None, target: SqlType) -> bool:
    """Whether values of a query's column may have to be converted."""
    if source is None or target.precision is not None:
        return True
    return plain(source) != plain(target)
