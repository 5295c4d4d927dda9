"""The values of parameters, as the types that the binder gave them have them.

    check_parameters([5, "2024-01-31"], [BIGINT, DATE])   ->  (5, date(2024, 1, 31))
    check_parameters(["5"], [BIGINT])                     ->  TypeMismatch

Types are strict, as for columns (catalog.values), with three differences, because a parameter is
compared as often as it is stored: text reads as a date, a UUID and so on would be read from a
literal; a date may stand for a TIMESTAMP; and a Decimal has as many digits as it has. A parameter
that has met no type takes whatever some SQL type holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias

from murmur.catalog.types import DECIMAL, TEXT, TIMESTAMP, SqlType
from murmur.catalog.values import check, checker
from murmur.errors import DataError, TypeMismatch
from murmur.sql.casts import caster, type_of_value
from murmur.sql.expressions import Value

Check: TypeAlias = Callable[[object], Value]


def check_parameters(
    values: Sequence[object], types: Sequence[SqlType | None]
) -> tuple[Value, ...]:
    """The checked values; both sequences are in the order of position."""
    return parameter_checker(types)(values)


def parameter_checker(
    types: Sequence[SqlType | None],
) -> Callable[[Sequence[object]], tuple[Value, ...]]:
    """`check_parameters` for many rows of parameters of the same types."""
    checks = [_checker(sql_type, position) for position, sql_type in enumerate(types, 1)]

    def check_row(values: Sequence[object]) -> tuple[Value, ...]:
        return tuple([check(value) for check, value in zip(checks, values, strict=True)])

    return check_row


_READ = frozenset({"DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL", "UUID", "JSON"})


@lru_cache(maxsize=1024)
def _checker(sql_type: SqlType | None, position: int) -> Check:
    where = f"parameter {position}"
    if sql_type is None:
        return lambda value: _check_untyped(value, where)
    strict: Check = checker(sql_type, where)
    if sql_type.name in _READ:
        return _reading(sql_type, where, strict)
    if sql_type == DECIMAL:
        return lambda value: (
            # A column's digits are bounded, those of a number that is compared are not.
            value if type(value) is Decimal and value.is_finite() else strict(value)
        )
    return strict


def _check_untyped(value: object, where: str) -> Value:
    if value is None:
        return None
    try:
        sql_type = type_of_value(value)
    except TypeMismatch as error:
        raise TypeMismatch(f"{where}: {error}") from None
    return check(value, sql_type, where=where)


def _reading(sql_type: SqlType, where: str, strict: Check) -> Check:
    """Also take text, as a literal of the type is read; numbers and truth values are not text."""
    read = caster(TEXT, sql_type)
    assert read is not None

    def check_or_read(value: object) -> Value:
        if isinstance(value, str):
            try:
                return read(value)
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
        if type(value) is date and sql_type == TIMESTAMP:
            return datetime(value.year, value.month, value.day)
        return strict(value)

    return check_or_read
