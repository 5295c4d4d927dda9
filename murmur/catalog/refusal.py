"""Refusals: why a value does not go into a column, said in one way.

    column note.likes: 2147483648 is not INTEGER: outside of -2147483648 .. 2147483647

A TypeMismatch says that the value has another type, a DataError that the type cannot hold it.
"""

from __future__ import annotations

import reprlib
import uuid
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from murmur.catalog.types import SqlType
from murmur.errors import DataError, TypeMismatch

Checker: TypeAlias = Callable[[object], Any]
"""Lets a value through, in the form that its type has, or raises."""

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 40


def show(value: object) -> str:
    """A value, shortened, for messages."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to write longer ones
    if isinstance(value, date | time | timedelta | Decimal | uuid.UUID):
        return f"{value!s:.60}"
    return _repr.repr(value)


class Refusal:
    """Makes the errors of one column."""

    __slots__ = ("sql_type", "where")

    def __init__(self, sql_type: SqlType, where: str) -> None:
        self.sql_type = sql_type
        self.where = where

    def kind(self, value: object, hint: str = "") -> TypeMismatch:
        """The value has another type."""
        if is_missing(value):
            hint = "pass None for NULL"
        elif type(value).__name__ in ("datetime64", "timedelta64"):
            hint = "finer than a microsecond, or another kind of time"
        reason = f"{type(value).__name__} given" + (f"; {hint}" if hint else "")
        return TypeMismatch(self._say(value, reason))

    def data(self, value: object, reason: str) -> DataError:
        """The type is right, and yet it cannot hold the value."""
        return DataError(self._say(value, reason))

    def _say(self, value: object, reason: str) -> str:
        return f"{self.where}: {show(value)} is not {self.sql_type}: {reason}"


def is_missing(value: object) -> bool:
    """What pandas puts where there is no value: NaT, NA and NaN."""
    nan = isinstance(value, float) and value != value
    return nan or type(value).__name__ in ("NaTType", "NAType")


def unwrap(value: Any) -> Any:
    """The Python value in a numpy scalar, when it is exactly that; otherwise the argument."""
    if type(value).__module__ != "numpy" or getattr(value, "ndim", None) != 0:
        return value
    plain = value.item()
    if (kind := value.dtype.kind) in "Mm" and not isinstance(plain, date | timedelta):
        # Nanoseconds come out as an int, NaT as None; and NaT equals nothing.
        cut = value.astype("M8[us]" if kind == "M" else "m8[us]")
        return cut.item() if cut == value else value
    return plain
