r"""Order-preserving keys: sorting the bytes sorts the values as SQL's ORDER BY does.

A key is its columns one after the other, and a column is a tag and a body:

    NULL                03
    BOOLEAN             02 | 00 or 01
    SMALLINT            02 | 2 bytes, sign bit flipped; INTEGER 4, BIGINT 8
    REAL, DOUBLE        02 | 8 bytes of IEEE 754 from 0 up; below 0: 01 | the same, complemented
    DECIMAL(p,s)        02 | value * 10^s in 8 bytes (p <= 18) or 16, sign bit flipped
    TEXT, VARCHAR       02 | UTF-8 with 00 written as 00 ff | 00 01
    BLOB                02 | bytes with 00 written as 00 ff | 00 01
    DATE                02 | 4 bytes, day 1 is 0001-01-01
    TIME                02 | 8 bytes, microseconds since midnight
    TIMESTAMP(TZ)       02 | 8 bytes, microseconds since 1970, sign bit flipped
    INTERVAL            02 | 8 bytes, microseconds with 30 days to the month, sign bit flipped
    UUID                02 | 16 bytes

    (1, 'a')          ->  02 80 00 00 01 | 02 61 00 01        (INTEGER, TEXT)
    (1, 'a' DESC)     ->  02 80 00 00 01 | fd 9e ff fe
    (NULL, 'a')       ->  03 | 02 61 00 01

A descending column is the complement of the ascending one. NULL sorts after all values where the
column ascends and before them where it descends: PostgreSQL's NULLS LAST and NULLS FIRST.

Invariants: left < right  <=>  encode(left) < encode(right); equal values have equal bytes; no
column's bytes are the beginning of another's, so that columns can follow one another and a prefix
of columns is a prefix of bytes. Whatever decodes encodes to the same bytes.

-0.0 is 0.0, and an INTERVAL of one month is 30 days: what decodes is equal, but need not be the
same (`restores`). NaN has one form, above infinity, as in PostgreSQL, so that an index of floats is
whole; primary keys refuse it (values.py). JSON and COUNTER have no order and cannot be in keys.

After FoundationDB's tuple layer and CockroachDB's encoding.
"""

from __future__ import annotations

import reprlib
import struct
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, NamedTuple, TypeAlias

from murmur.catalog.atoms import decoder, encoder, uuid_from_bytes, without_zeros
from murmur.catalog.interval import MICROSECOND, total_microseconds
from murmur.catalog.types import SqlType, decimal_bounds
from murmur.errors import Corruption, DataError, Unsupported

ColumnEncoder: TypeAlias = Callable[[Any], bytes]
KeyEncoder: TypeAlias = Callable[[Sequence[Any]], bytes]
KeyDecoder: TypeAlias = Callable[..., tuple[Any, ...]]

# On disk: never renumber. Neither 00 nor ff, so that there is room before and after.
NEGATIVE, VALUE, NULL = 1, 2, 3

# What an encoder raises for something that is not a value, or atom, of its type.
NOT_OF_TYPE = (TypeError, ValueError, ArithmeticError, AttributeError, struct.error)

_NULL = bytes([NULL])
_END = b"\0\1"
_ESCAPED = b"\0\xff"
_COMPLEMENT = bytes(range(255, -1, -1))

_Read: TypeAlias = Callable[[bytes, int], tuple[Any, int]]


def column_encoder(sql_type: SqlType, *, descending: bool = False) -> ColumnEncoder:
    """The bytes of one column from its value; None is NULL.

    Raises one of NOT_OF_TYPE for anything that is not a value of the type.
    """
    return _directed(_codec(sql_type).encode, descending=descending)


def atom_encoder(sql_type: SqlType, *, descending: bool = False) -> ColumnEncoder:
    """`column_encoder` for stored forms (atoms.py), which saves making the values first."""
    return _directed(_codec(sql_type).encode_atom, descending=descending)


def key_encoder(types: Sequence[SqlType], descending: Sequence[bool] = ()) -> KeyEncoder:
    """The bytes of a key from its values, in the order of `types`; DataError if one does not fit.

    Without `descending` all columns ascend.
    """
    columns = [
        column_encoder(sql_type, descending=down) for sql_type, down in _paired(types, descending)
    ]
    match columns:  # most keys are short: no loop for them
        case [only]:

            def encode_one(values: Sequence[Any]) -> bytes:
                try:
                    (value,) = values
                    return only(value)
                except NOT_OF_TYPE as error:
                    raise _unfit(types, values) from error

            return encode_one
        case [first, second]:

            def encode_two(values: Sequence[Any]) -> bytes:
                try:
                    left, right = values
                    return first(left) + second(right)
                except NOT_OF_TYPE as error:
                    raise _unfit(types, values) from error

            return encode_two

    def encode(values: Sequence[Any]) -> bytes:
        try:
            pairs = zip(columns, values, strict=True)
            return b"".join([column(value) for column, value in pairs])
        except NOT_OF_TYPE as error:
            raise _unfit(types, values) from error

    return encode


def key_decoder(types: Sequence[SqlType], descending: Sequence[bool] = ()) -> KeyDecoder:
    """The way back: `decode(key, start=0, stop=len(key))` gives the values of key[start:stop].

    Raises Corruption when these bytes are not a key of these types.
    """
    readers = [_reader(sql_type, descending=down) for sql_type, down in _paired(types, descending)]

    def decode(key: bytes, start: int = 0, stop: int | None = None) -> tuple[Any, ...]:
        at = start
        values = []
        try:
            for read in readers:
                value, at = read(key, at)
                values.append(value)
        except (IndexError, struct.error) as error:
            raise Corruption(f"key {key.hex()}", at, "it ends within a column") from error
        except (ValueError, ArithmeticError) as error:
            raise Corruption(f"key {key.hex()}", at, str(error)) from error
        if at != (len(key) if stop is None else stop):
            raise Corruption(f"key {key.hex()}", at, "it does not end with its last column")
        return tuple(values)

    return decode


def restores(sql_type: SqlType) -> bool:
    """Whether decoding gives back the very value that was encoded, not only an equal one."""
    return sql_type.name not in ("REAL", "DOUBLE", "INTERVAL")


def prefix_end(prefix: bytes) -> bytes | None:
    """The smallest key after all keys with this prefix; None when there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def value_range(prefix: bytes, *, descending: bool = False) -> tuple[bytes, bytes]:
    """start and stop of the keys with this prefix whose next column is not NULL."""
    if descending:
        return prefix + bytes([255 - NULL + 1]), prefix + b"\xff"
    return prefix + bytes([NEGATIVE]), prefix + _NULL


def _paired(types: Sequence[SqlType], descending: Sequence[bool]) -> list[tuple[SqlType, bool]]:
    return list(zip(types, descending or [False] * len(types), strict=True))


def _unfit(types: Sequence[SqlType], values: Sequence[object]) -> DataError:
    names = ", ".join(str(sql_type) for sql_type in types)
    return DataError(f"no key of ({names}) from {reprlib.repr(values)}")


def _directed(ascending: ColumnEncoder, *, descending: bool) -> ColumnEncoder:
    if not descending:
        return ascending

    def encode_descending(value: Any) -> bytes:
        return ascending(value).translate(_COMPLEMENT)

    return encode_descending


def _reader(sql_type: SqlType, *, descending: bool) -> _Read:
    ascending = _codec(sql_type).read
    if not descending:
        return ascending

    def read_descending(key: bytes, at: int) -> tuple[Any, int]:
        value, size = ascending(key[at:].translate(_COMPLEMENT), 0)
        return value, at + size

    return read_descending


class _Codec(NamedTuple):
    """One type, ascending."""

    encode: ColumnEncoder
    encode_atom: ColumnEncoder
    read: _Read


def _codec(sql_type: SqlType) -> _Codec:
    match sql_type.name:
        case "BOOLEAN":
            return _Codec(_encode_boolean, _encode_boolean, _read_boolean)
        case "SMALLINT":
            return _number("H", 1 << 15)
        case "INTEGER":
            return _number("I", 1 << 31)
        case "BIGINT":
            return _number("Q", 1 << 63)
        case "REAL" | "DOUBLE":
            return _Codec(_encode_float, _encode_float, _read_float)
        case "DECIMAL":
            return _decimal(sql_type)
        case "TEXT" | "VARCHAR":
            return _Codec(_encode_text, _encode_text, _read_text)
        case "BLOB":
            return _Codec(_encode_blob, _encode_blob, _read_blob)
        case "DATE":
            return _number("I", 0, encoder(sql_type), None, decoder(sql_type))
        case "TIME":
            return _number("Q", 0, encoder(sql_type), None, decoder(sql_type))
        case "TIMESTAMP" | "TIMESTAMPTZ":
            return _number("Q", 1 << 63, encoder(sql_type), None, decoder(sql_type))
        case "INTERVAL":
            return _interval(sql_type)
        case "UUID":
            return _Codec(_encode_uuid, _encode_uuid_atom, _read_uuid)
    raise Unsupported(f"{sql_type} has no order: it cannot be in a key or in an index")


def _read_null(key: bytes, at: int) -> tuple[None, int]:
    if key[at] != NULL:
        raise ValueError(f"unknown tag {key[at]:02x}")
    return None, at + 1


def _number(
    form: str,
    bias: int,
    from_value: Callable[[Any], Any] | None = None,
    from_atom: Callable[[Any], Any] | None = None,
    to_value: Callable[[Any], Any] | None = None,
) -> _Codec:
    """A type whose values can be counted: a biased integer of fixed width."""
    pack = struct.Struct(">B" + form).pack
    body = struct.Struct(">" + form)
    unpack_from, width = body.unpack_from, 1 + body.size

    def encode(value: Any) -> bytes:
        return _NULL if value is None else pack(VALUE, value + bias)

    def through(convert: Callable[[Any], Any] | None) -> ColumnEncoder:
        if convert is None:
            return encode

        def encode_converted(value: Any) -> bytes:
            return _NULL if value is None else pack(VALUE, convert(value) + bias)

        return encode_converted

    def read(key: bytes, at: int) -> tuple[Any, int]:
        if key[at] != VALUE:
            return _read_null(key, at)
        number = unpack_from(key, at + 1)[0] - bias
        return number if to_value is None else to_value(number), at + width

    return _Codec(through(from_value), through(from_atom), read)


def _interval(sql_type: SqlType) -> _Codec:
    from_atom = decoder(sql_type)
    assert from_atom is not None

    def total_of_atom(atom: Any) -> int:
        return total_microseconds(from_atom(atom))

    def to_value(total: int) -> timedelta:
        return total * MICROSECOND

    return _number("Q", 1 << 63, total_microseconds, total_of_atom, to_value)


def _decimal(sql_type: SqlType) -> _Codec:
    precision, scale = decimal_bounds(sql_type)
    bound = 10**precision
    # A context of its own: the caller's may round. A key cannot hold what lies between two steps,
    # and 1e900000 must not become an integer: that takes seconds.
    context = Context(prec=precision, traps=[Inexact, InvalidOperation])
    unit = Decimal((0, (1,), -scale))
    quantize, scaleb, free = context.quantize, context.scaleb, sql_type.precision is None

    def steps(value: Decimal) -> int:
        return int(scaleb(quantize(value, unit), scale))

    def steps_of_atom(atom: str) -> int:
        return steps(Decimal(atom))

    def to_value(number: int) -> Decimal:
        if not -bound < number < bound:
            raise ValueError(f"more than {precision} digits")
        value = scaleb(Decimal(number), -scale)
        return without_zeros(value) if free else value

    if precision <= 18:
        return _number("Q", 1 << 63, steps, steps_of_atom, to_value)
    return _wide_number(steps, steps_of_atom, to_value)


def _wide_number(
    from_value: Callable[[Any], int],
    from_atom: Callable[[Any], int],
    to_value: Callable[[int], Any],
) -> _Codec:
    """As `_number`, in 16 bytes."""
    bias = 1 << 127
    tag = bytes([VALUE])

    def encode(value: Any) -> bytes:
        return _NULL if value is None else tag + (from_value(value) + bias).to_bytes(16)

    def encode_atom(atom: Any) -> bytes:
        return _NULL if atom is None else tag + (from_atom(atom) + bias).to_bytes(16)

    def read(key: bytes, at: int) -> tuple[Any, int]:
        if key[at] != VALUE:
            return _read_null(key, at)
        return to_value(int.from_bytes(_fixed(key, at, 16)) - bias), at + 17

    return _Codec(encode, encode_atom, read)


def _fixed(key: bytes, at: int, size: int) -> bytes:
    """The body of a column, which has this size."""
    body = key[at + 1 : at + 1 + size]
    if len(body) != size:
        raise ValueError(f"{size} bytes expected, {len(body)} left")
    return body


_FALSE, _TRUE = bytes([VALUE, 0]), bytes([VALUE, 1])


def _encode_boolean(value: Any) -> bytes:
    if value is True:
        return _TRUE
    if value is False:
        return _FALSE
    if value is None:
        return _NULL
    raise TypeError(f"{type(value).__name__} is not bool")


def _read_boolean(key: bytes, at: int) -> tuple[bool | None, int]:
    if key[at] != VALUE:
        return _read_null(key, at)
    if key[at + 1] > 1:
        raise ValueError(f"{key[at + 1]:02x} is not a boolean")
    return key[at + 1] == 1, at + 2


_FLOAT = struct.Struct(">d")
_pack_float = struct.Struct(">Bd").pack
_NAN = bytes([VALUE]) + b"\x7f\xf8\0\0\0\0\0\0"
_NEGATIVE = bytes([NEGATIVE])


def _encode_float(value: Any) -> bytes:
    if value is None:
        return _NULL
    if value >= 0:
        return _pack_float(VALUE, value + 0.0)  # -0.0 + 0.0 is 0.0
    if value < 0:
        return _NEGATIVE + _FLOAT.pack(value).translate(_COMPLEMENT)
    return _NAN


def _read_float(key: bytes, at: int) -> tuple[float | None, int]:
    value: float
    if key[at] == VALUE:
        (value,) = _FLOAT.unpack_from(key, at + 1)
        if key[at + 1] > 0x7F or (value != value and key[at : at + 9] != _NAN):
            raise ValueError("not the form that this number has in keys")
    elif key[at] == NEGATIVE:
        (value,) = _FLOAT.unpack(_fixed(key, at, 8).translate(_COMPLEMENT))
        if not value < 0:
            raise ValueError("not a number below 0")
    else:
        return _read_null(key, at)
    return value, at + 9


def _encode_text(value: Any) -> bytes:
    if value is None:
        return _NULL
    return b"\x02%b\0\1" % value.encode().replace(b"\0", _ESCAPED)


def _encode_blob(value: Any) -> bytes:
    if value is None:
        return _NULL
    return b"\x02%b\0\1" % value.replace(b"\0", _ESCAPED)


def _read_text(key: bytes, at: int) -> tuple[str | None, int]:
    if key[at] != VALUE:
        return _read_null(key, at)
    end = key.find(_END, at + 1)
    return _unescaped(key, at, end).decode(), end + 2


def _read_blob(key: bytes, at: int) -> tuple[bytes | None, int]:
    if key[at] != VALUE:
        return _read_null(key, at)
    end = key.find(_END, at + 1)
    return _unescaped(key, at, end), end + 2


def _unescaped(key: bytes, at: int, end: int) -> bytes:
    if end < 0:
        raise ValueError("it has no end")
    body = key[at + 1 : end]
    if b"\0" in body:
        if body.count(b"\0") != body.count(_ESCAPED):
            raise ValueError("00 without ff")
        body = body.replace(_ESCAPED, b"\0")
    return body


def _encode_uuid(value: Any) -> bytes:
    return _NULL if value is None else b"\x02" + value.bytes


def _encode_uuid_atom(atom: Any) -> bytes:
    if atom is None:
        return _NULL
    if len(atom) != 16:
        raise ValueError("a UUID has 16 bytes")
    return b"\x02" + bytes(atom)


def _read_uuid(key: bytes, at: int) -> tuple[uuid.UUID | None, int]:
    if key[at] != VALUE:
        return _read_null(key, at)
    return uuid_from_bytes(_fixed(key, at, 16)), at + 17
