"""Atoms as keys that sort as they do, and back: the format that catalog/keycode.py tells of.

    codec = KeyCodec([FieldSpec(7, INTEGER, width=4, low=-2**31, ...), FieldSpec(9, TEXT)])
    codec.encode((1, "a"), prefix)     ->  prefix + 02 80 00 00 01 | 02 61 00 01
    codec.decode(key, len(prefix))     ->  (1, "a")

An integer has a sign in its key if its field can be below 0. Encoding looks at widths only, so
that a number that is out of range has a key of its own; decoding refuses it. -0.0 becomes 0.0, and
of an interval its length is left, a month as 30 days.

This is the specification of native/keycode.hpp.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

from murmur.errors import Corruption
from murmur.kvcore.kernel.fields import (
    BINARY,
    BOOLEAN,
    DECIMAL,
    FIXED,
    FLOAT,
    INTEGER,
    INTERVAL,
    KINDS,
    TEXT,
    UUID,
    FieldSpec,
)
from murmur.kvcore.record import INT64_MAX, INT64_MIN, Atom

NEGATIVE, VALUE, NULL = 1, 2, 3  # on disk: never renumber

_COMPLEMENT = bytes(range(255, -1, -1))
_END, _ESCAPED = b"\0\1", b"\0\xff"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DECIMAL_DIGITS = 38
_NARROW_DIGITS = 18  # of a decimal in 8 bytes
_US_PER_MONTH = 30 * 86_400_000_000
_MONTHS_AND_US = struct.Struct(">iq")
_FLOAT = struct.Struct(">d")
_NAN = b"\x7f\xf8" + bytes(6)


class KeyCodec:
    """Makes keys of atoms, and atoms of keys, of these columns; each ascends unless told else."""

    def __init__(self, fields: Sequence[FieldSpec], descending: Sequence[bool] = ()) -> None:
        directions = list(descending) or [False] * len(fields)
        if len(directions) != len(fields):
            raise ValueError("a direction for each column, or none")
        self._columns = [
            _Column(field, down) for field, down in zip(fields, directions, strict=True)
        ]

    def encode(self, atoms: Sequence[Atom], prefix: bytes = b"") -> bytes:
        """A key of these atoms, behind a prefix. ValueError if one is not of its kind."""
        if len(atoms) != len(self._columns):
            raise ValueError(f"{len(atoms)} atoms for {len(self._columns)} columns")
        pairs = zip(self._columns, atoms, strict=True)
        return prefix + b"".join([column.encode(atom) for column, atom in pairs])

    def encode_fields(self, fields: Mapping[int, Atom], prefix: bytes = b"") -> bytes:
        """As `encode`, of the fields that have the columns' ids; `missing` where there is none."""
        atoms = [fields.get(column.field.id, column.field.missing) for column in self._columns]
        return self.encode(atoms, prefix)

    def encode_many(self, rows: Iterable[Sequence[Atom]], prefix: bytes = b"") -> list[bytes]:
        """The keys of many rows."""
        return [self.encode(row, prefix) for row in rows]

    def decode(self, key: bytes, start: int = 0) -> tuple[Atom, ...]:
        """The atoms of key[start:]. Raises Corruption when these bytes are not a key."""
        at = min(start, len(key))
        atoms = []
        for column in self._columns:
            try:
                atom, at = column.decode(key, at)
            except ValueError as error:
                raise Corruption(f"key {key.hex()}", at, str(error)) from None
            atoms.append(atom)
        if at != len(key):
            raise Corruption(f"key {key.hex()}", at, "it does not end with its last column")
        return tuple(atoms)

    def decode_many(self, keys: Iterable[bytes], start: int = 0) -> list[tuple[Atom, ...]]:
        """The atoms of many keys."""
        return [self.decode(key, start) for key in keys]


class _Column:
    """One column of a key."""

    def __init__(self, field: FieldSpec, descending: bool) -> None:
        self.field = field
        self._down = descending
        self._body: Callable[[Any], bytes] = _BODIES[field.kind](field)
        self._read: Callable[[bytes], tuple[Any, int]] = _READERS[field.kind](field)

    def encode(self, atom: Atom) -> bytes:
        if atom is None:
            key = bytes([NULL])
        elif type(atom) not in KINDS[self.field.kind]:
            raise ValueError(f"a column of a key cannot hold {atom!r:.60}")
        else:
            try:
                key = self._body(atom)
            except (struct.error, OverflowError, ArithmeticError) as error:
                raise ValueError(f"a column of a key cannot hold {atom!r:.60}: {error}") from None
        return key.translate(_COMPLEMENT) if self._down else key

    def decode(self, key: bytes, at: int) -> tuple[Atom, int]:
        own = key[at:].translate(_COMPLEMENT) if self._down else key[at:]
        if not own:
            raise ValueError("it ends within a column")
        if own[0] == NULL:
            return None, at + 1
        if own[0] != VALUE and not (own[0] == NEGATIVE and self.field.kind == FLOAT):
            raise ValueError(f"unknown tag {own[0]:02x}")
        atom, size = self._read(own)
        return atom, at + size


def _fixed(own: bytes, width: int) -> bytes:
    body = own[1 : 1 + width]
    if len(body) != width:
        raise ValueError("it ends within a column")
    return body


# Bodies, with their tags -------------------------------------------------------


def _boolean_body(field: FieldSpec) -> Callable[[bool], bytes]:
    return lambda atom: bytes([VALUE, atom])


def _integer_body(field: FieldSpec) -> Callable[[int], bytes]:
    bias = 1 << (8 * field.width - 1) if field.low < 0 else 0
    return lambda atom: bytes([VALUE]) + (atom + bias).to_bytes(field.width)


def _float_body(field: FieldSpec) -> Callable[[float], bytes]:
    def body(atom: float) -> bytes:
        if atom >= 0:
            return bytes([VALUE]) + _FLOAT.pack(atom + 0.0)  # -0.0 + 0.0 is 0.0
        if atom < 0:
            return bytes([NEGATIVE]) + _FLOAT.pack(atom).translate(_COMPLEMENT)
        return bytes([VALUE]) + _NAN

    return body


def _decimal_body(field: FieldSpec) -> Callable[[str], bytes]:
    context = Context(prec=field.precision, traps=[Inexact, InvalidOperation])
    unit = Decimal((0, (1,), -field.scale))
    width = _decimal_width(field)

    def body(atom: str) -> bytes:
        if not _NUMBER.fullmatch(atom):
            raise ValueError(f"{atom:.60} is not a number")
        number = Decimal(atom)
        if not -_DECIMAL_DIGITS <= number.adjusted() <= _DECIMAL_DIGITS:
            raise ValueError("more digits than its column has")
        steps = int(context.scaleb(number.quantize(unit, None, context), field.scale))
        return bytes([VALUE]) + (steps + (1 << (8 * width - 1))).to_bytes(width)

    return body


def _text_body(field: FieldSpec) -> Callable[[str], bytes]:
    return lambda atom: bytes([VALUE]) + atom.encode().replace(b"\0", _ESCAPED) + _END


def _binary_body(field: FieldSpec) -> Callable[[bytes], bytes]:
    return lambda atom: bytes([VALUE]) + atom.replace(b"\0", _ESCAPED) + _END


def _fixed_body(field: FieldSpec) -> Callable[[bytes], bytes]:
    width = _fixed_width(field)

    def body(atom: bytes) -> bytes:
        if len(atom) != width:
            raise ValueError(f"{width} bytes expected")
        return bytes([VALUE]) + atom

    return body


def _interval_body(field: FieldSpec) -> Callable[[int | bytes], bytes]:
    def body(atom: int | bytes) -> bytes:
        months, exact = _MONTHS_AND_US.unpack(atom) if isinstance(atom, bytes) else (0, atom)
        total: int = months * _US_PER_MONTH + exact
        if not INT64_MIN <= total <= INT64_MAX:
            raise ValueError("longer than 292,000 years")
        return bytes([VALUE]) + (total + (1 << 63)).to_bytes(8)

    return body


# Reading a body behind its tag; the size includes the tag ----------------------


def _boolean_reader(field: FieldSpec) -> Callable[[bytes], tuple[bool, int]]:
    def read(own: bytes) -> tuple[bool, int]:
        (byte,) = _fixed(own, 1)
        if byte > 1:
            raise ValueError("not a boolean")
        return byte == 1, 2

    return read


def _integer_reader(field: FieldSpec) -> Callable[[bytes], tuple[int, int]]:
    bias = 1 << (8 * field.width - 1) if field.low < 0 else 0

    def read(own: bytes) -> tuple[int, int]:
        number = int.from_bytes(_fixed(own, field.width)) - bias
        if not field.low <= number <= field.high:
            raise ValueError("out of range")
        return number, 1 + field.width

    return read


def _float_reader(field: FieldSpec) -> Callable[[bytes], tuple[float, int]]:
    def read(own: bytes) -> tuple[float, int]:
        body = _fixed(own, 8)
        number: float
        if own[0] == NEGATIVE:
            (number,) = _FLOAT.unpack(body.translate(_COMPLEMENT))
            if not number < 0:
                raise ValueError("not a number below 0")
        else:
            (number,) = _FLOAT.unpack(body)
            if body[0] > 0x7F or (number != number and body != _NAN):
                raise ValueError("not the form that this number has in keys")
        return number, 9

    return read


def _decimal_reader(field: FieldSpec) -> Callable[[bytes], tuple[str, int]]:
    width = _decimal_width(field)
    bound = 10**field.precision

    def read(own: bytes) -> tuple[str, int]:
        number = int.from_bytes(_fixed(own, width)) - (1 << (8 * width - 1))
        if not -bound < number < bound:
            raise ValueError("more digits than its column has")
        scale = field.scale
        while field.shortest and scale and number % 10 == 0:
            number, scale = number // 10, scale - 1
        digits = tuple(map(int, str(abs(number))))
        return str(Decimal((number < 0, digits, -scale))), 1 + width

    return read


def _text_reader(field: FieldSpec) -> Callable[[bytes], tuple[str, int]]:
    def read(own: bytes) -> tuple[str, int]:
        body, size = _unescaped(own)
        return body.decode(), size

    return read


def _binary_reader(field: FieldSpec) -> Callable[[bytes], tuple[bytes, int]]:
    return _unescaped


def _unescaped(own: bytes) -> tuple[bytes, int]:
    end = own.find(_END, 1)
    if end < 0:
        raise ValueError("it has no end")
    body = own[1:end]
    if body.count(b"\0") != body.count(_ESCAPED):
        raise ValueError("00 without ff")
    return body.replace(_ESCAPED, b"\0"), end + 2


def _fixed_reader(field: FieldSpec) -> Callable[[bytes], tuple[bytes, int]]:
    width = _fixed_width(field)
    return lambda own: (_fixed(own, width), 1 + width)


def _interval_reader(field: FieldSpec) -> Callable[[bytes], tuple[int, int]]:
    return lambda own: (int.from_bytes(_fixed(own, 8)) - (1 << 63), 9)


def _decimal_width(field: FieldSpec) -> int:
    return 8 if field.precision <= _NARROW_DIGITS else 16


def _fixed_width(field: FieldSpec) -> int:
    return 16 if field.kind == UUID else field.width


_BODIES: Mapping[int, Callable[[FieldSpec], Callable[[Any], bytes]]] = {
    BOOLEAN: _boolean_body,
    INTEGER: _integer_body,
    FLOAT: _float_body,
    DECIMAL: _decimal_body,
    TEXT: _text_body,
    BINARY: _binary_body,
    FIXED: _fixed_body,
    UUID: _fixed_body,
    INTERVAL: _interval_body,
}
_READERS: Mapping[int, Callable[[FieldSpec], Callable[[bytes], tuple[Any, int]]]] = {
    BOOLEAN: _boolean_reader,
    INTEGER: _integer_reader,
    FLOAT: _float_reader,
    DECIMAL: _decimal_reader,
    TEXT: _text_reader,
    BINARY: _binary_reader,
    FIXED: _fixed_reader,
    UUID: _fixed_reader,
    INTERVAL: _interval_reader,
}
