"""The form in which records keep values: an *atom* is what msgpack writes in one piece.

    DECIMAL      text, "12.50"
    DATE         int, day 1 is 0001-01-01
    TIME         int, microseconds since midnight
    TIMESTAMP    int, microseconds since 1970; TIMESTAMPTZ the same, in UTC
    INTERVAL     int, microseconds; with months, 12 bytes: i32 months, i64 microseconds, big-endian
    UUID         16 bytes
    all others   the value itself

    date(2024, 2, 29)          ->  738945
    Interval(months=1)         ->  00 00 00 01 00 00 00 00 00 00 00 00

Invariant: from_atom(to_atom(v)) == v for every value that `checker` lets through.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, TypeAlias

from murmur.catalog.interval import MICROSECOND, Interval, interval, microseconds
from murmur.catalog.types import SqlType, Value
from murmur.errors import InternalError

Atom: TypeAlias = bool | int | float | str | bytes | None

_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)


def to_atom(value: Value, sql_type: SqlType) -> Atom:
    """The stored form of a checked value."""
    encode = encoder(sql_type)
    return value if encode is None or value is None else encode(value)  # type: ignore[return-value]


def from_atom(atom: Atom, sql_type: SqlType) -> Value:
    """The value of a stored form; InternalError when it is not one of this type."""
    decode = decoder(sql_type)
    if decode is None or atom is None:
        return atom
    try:
        value: Value = decode(atom)
    except (TypeError, ValueError, ArithmeticError, struct.error) as error:
        raise InternalError(f"stored value {atom!r:.60} is not {sql_type}: {error}") from error
    return value


def encoder(sql_type: SqlType) -> Callable[[Any], Atom] | None:
    """`to_atom` compiled, for values other than None; None when the value is its own atom."""
    return _ENCODERS.get(sql_type.name)


def decoder(sql_type: SqlType) -> Callable[[Any], Any] | None:
    """`from_atom` compiled, for atoms other than None; None when the atom is the value.

    On an atom of another type it raises whatever Python raises there (TypeError, ValueError,
    ArithmeticError, struct.error).
    """
    return _DECODERS.get(sql_type.name)


def without_zeros(number: Decimal) -> Decimal:
    """The form of a number in a DECIMAL column without a scale: no zeros end the fraction."""
    if number == int(number):
        return Decimal(int(number))
    return Decimal(format(number, "f").rstrip("0"))


_DECIMAL_DIGITS = 38
_MONTHS_AND_US = struct.Struct(">iq")
_new_uuid = object.__new__
_set_uuid = object.__setattr__
_unknown_safety = uuid.SafeUUID.unknown


def _decode_decimal(atom: str) -> Decimal:
    value = Decimal(atom)
    if not value.is_finite() or not -_DECIMAL_DIGITS <= value.adjusted() <= _DECIMAL_DIGITS:
        raise ValueError("not a number of a DECIMAL")
    return value


def _encode_time(value: time) -> int:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return seconds * 1_000_000 + value.microsecond


def _decode_time(atom: int) -> time:
    if not 0 <= atom < 86_400_000_000:
        raise ValueError("not a time of day")
    return (_EPOCH + atom * MICROSECOND).time()


def _encode_timestamp(value: datetime) -> int:
    since = value - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def _decode_timestamp(atom: int) -> datetime:
    return _EPOCH + atom * MICROSECOND


def _encode_timestamptz(value: datetime) -> int:
    since = value - _EPOCH_UTC
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def _decode_timestamptz(atom: int) -> datetime:
    return _EPOCH_UTC + atom * MICROSECOND


def _encode_interval(value: timedelta) -> int | bytes:
    if isinstance(value, Interval):
        return _MONTHS_AND_US.pack(value.months, microseconds(value))
    return microseconds(value)


def _decode_interval(atom: int | bytes) -> timedelta:
    if isinstance(atom, bytes):
        months, us = _MONTHS_AND_US.unpack(atom)
        return interval(months, us * MICROSECOND)
    return atom * MICROSECOND


def uuid_from_bytes(atom: bytes) -> uuid.UUID:
    """`uuid.UUID(bytes=atom)`."""
    if len(atom) != 16:
        raise ValueError("not 16 bytes")
    return uuid_from_int(int.from_bytes(atom))


def uuid_from_int(number: int) -> uuid.UUID:
    """`uuid.UUID(int=number)`, which looks at all its arguments and takes three times as long."""
    value = _new_uuid(uuid.UUID)
    _set_uuid(value, "int", number)
    _set_uuid(value, "is_safe", _unknown_safety)
    return value


_ENCODERS: dict[str, Callable[[Any], Atom]] = {
    "DECIMAL": str,
    "DATE": date.toordinal,
    "TIME": _encode_time,
    "TIMESTAMP": _encode_timestamp,
    "TIMESTAMPTZ": _encode_timestamptz,
    "INTERVAL": _encode_interval,
    "UUID": attrgetter("bytes"),
}
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "DECIMAL": _decode_decimal,
    "DATE": date.fromordinal,
    "TIME": _decode_time,
    "TIMESTAMP": _decode_timestamp,
    "TIMESTAMPTZ": _decode_timestamptz,
    "INTERVAL": _decode_interval,
    "UUID": uuid_from_bytes,
}
