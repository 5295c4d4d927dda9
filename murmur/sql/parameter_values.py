"""The values of parameters, as the types that the binder gave them have them.

    check_parameters([5, "2024-01-31"], [BIGINT, DATE])   ->  (5, date(2024, 1, 31))
    check_parameters(["5"], [BIGINT])                     ->  TypeMismatch

Types are strict, as for columns (catalog.values), with three differences, because a parameter is
compared as often as it is stored: text reads as a date, a UUID and so on would be read from a
literal; a date may stand for a TIMESTAMP; and a Decimal has as many digits as it has. A parameter
that has met no type takes whatever some SQL type holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from murmur.catalog.types import BLOB, BOOLEAN, DECIMAL, TEXT, TIMESTAMP, SqlType
from murmur.catalog.values import check
from murmur.errors import DataError, TypeMismatch
from murmur.sql.casts import caster, type_of_value
from murmur.sql.expressions import Value


def check_parameters(
    values: Sequence[object], types: Sequence[SqlType | None]
) -> tuple[Value, ...]:
    """The checked values; both sequences are in the order of position."""
    return tuple(
        [
            _checked(value, sql_type, position)
            for position, (value, sql_type) in enumerate(zip(values, types, strict=True), 1)
        ]
    )


def _checked(value: object, sql_type: SqlType | None, position: int) -> Value:
    if value is None:
        return None
    where = f"parameter {position}"
    if sql_type is None:
        try:
            return check(value, type_of_value(value), where=where)
        except TypeMismatch as error:
            raise TypeMismatch(f"{where}: {error}") from None
    if isinstance(value, str) and not sql_type.is_text and not sql_type.is_numeric:
        # Text reads as a literal of the type would; numbers and truth values are not text.
        cast = None if sql_type in (BOOLEAN, BLOB) else caster(TEXT, sql_type)
        if cast is not None:
            try:
                return cast(value)
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
    if sql_type == DECIMAL and isinstance(value, Decimal) and value.is_finite():
        return value  # a column's digits are bounded, a number that is compared is not
    if type(value) is date and sql_type == TIMESTAMP:
        return datetime(value.year, value.month, value.day)
    return check(value, sql_type, where=where)
