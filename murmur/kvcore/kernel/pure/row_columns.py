"""Columns as Arrow keeps them, read as the atoms of rows.

    values 01 00 02 00, width 2, validity 01   ->   1, None

A value that its column does not take is Unfit, and why; a buffer that is too short for its rows is
a BadValue before any row is read.

This is the specification of native/row_columns.hpp.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal

import msgpack

from murmur.kvcore.kernel.block_plan import (
    ATOMS,
    BINARIES,
    BOOLEANS,
    CONSTANT,
    DECIMALS,
    FIXEDS,
    FLOATS,
    INTEGERS,
    NULLS,
    TEXTS,
    BadValue,
    ColumnSource,
)
from murmur.kvcore.record import Atom

KINDS = frozenset({type(None), bool, int, float, str, bytes})  # of atoms


class Unfit(ValueError):
    """Why a value cannot be stored."""


def column_reader(column: int, source: ColumnSource, first: int, end: int) -> Callable[[int], Atom]:
    """What gives the atoms of one column, row by row. Raises BadValue for what is too short."""
    validity = memoryview(source.validity or b"").cast("B")
    values = memoryview(source.values if source.values is not None else b"").cast("B")
    offsets = memoryview(source.offsets if source.offsets is not None else b"").cast("B")
    shift, form = source.offset, source.form
    last = shift + end

    def refuse(reason: str) -> BadValue:
        return BadValue(first, column, reason)

    if len(validity) and len(validity) < (last + 7) // 8:
        raise refuse("its validity is too short")
    if form in (INTEGERS, FLOATS) and source.width not in (
        (2, 4, 8) if form == INTEGERS else (4, 8)
    ):
        raise refuse("of an unknown width")
    if form == FIXEDS and not 0 < source.width <= 256:
        raise refuse("of an unknown width")
    if source.precision > 38:
        raise refuse("too many digits")
    width = 16 if form == DECIMALS else source.width
    short = {
        BOOLEANS: len(values) < (last + 7) // 8,
        TEXTS: end > 0 and len(offsets) // 4 < last + 1,
    }
    short[BINARIES] = short[ATOMS] = short[TEXTS]
    if short.get(
        form, form in (INTEGERS, FLOATS, DECIMALS, FIXEDS) and len(values) // width < last
    ):
        raise refuse("it is too short")
    if not NULLS <= form <= CONSTANT:
        raise refuse("of an unknown form")
    show = _SHOWN.get(form)

    def read(row: int) -> Atom:
        at = shift + row
        if form == NULLS or (len(validity) and not validity[at >> 3] >> (at & 7) & 1):
            if source.counter:
                return 0
            if not source.nullable:
                raise Unfit("null")
            return None
        if form == BOOLEANS:
            return bool(values[at >> 3] >> (at & 7) & 1)
        if form == CONSTANT:
            return _unpacked(bytes(values))
        if form in (TEXTS, BINARIES, ATOMS):
            start, stop = struct.unpack_from("<ii", offsets, 4 * at)
            if start < 0 or stop < start or stop > len(values):
                raise Unfit("it lies outside of its column")
            own = bytes(values[start:stop])
        else:
            own = bytes(values[width * at : width * (at + 1)])
        assert show is not None
        return show(own, source)

    return read


def _integer(own: bytes, source: ColumnSource) -> Atom:
    value = int.from_bytes(own, "little", signed=True) + source.bias
    if not source.low <= value <= source.high:
        raise Unfit("out of range")
    return value


def _float(own: bytes, source: ColumnSource) -> Atom:
    value: float = struct.unpack("<f" if len(own) == 4 else "<d", own)[0]
    if source.finite and value != value:
        raise Unfit("not a number")
    return value


def _decimal(own: bytes, source: ColumnSource) -> Atom:
    value = int.from_bytes(own, "little", signed=True)
    if abs(value) >= 10**source.precision:
        raise Unfit("too many digits")
    scale = source.scale
    while source.shortest and scale and value % 10 == 0:
        value, scale = value // 10, scale - 1
    return str(Decimal((value < 0, tuple(map(int, str(abs(value)))), -scale)))


def _text(own: bytes, source: ColumnSource) -> Atom:
    if b"\0" in own:
        raise Unfit("it has a NUL")
    try:
        text = own.decode()
    except UnicodeDecodeError:
        raise Unfit("not UTF-8") from None
    if source.longest and len(text) > source.longest:
        raise Unfit("too long")
    return text


def _unpacked(own: bytes, source: ColumnSource | None = None) -> Atom:
    try:
        atom = msgpack.unpackb(own)
    except (ValueError, msgpack.UnpackException):
        raise Unfit("not an atom") from None
    if type(atom) not in KINDS:
        raise Unfit("not an atom")
    return atom  # type: ignore[no-any-return]


_SHOWN: dict[int, Callable[[bytes, ColumnSource], Atom]] = {
    INTEGERS: _integer,
    FLOATS: _float,
    DECIMALS: _decimal,
    TEXTS: _text,
    BINARIES: lambda own, source: own,
    FIXEDS: lambda own, source: own,
    ATOMS: _unpacked,
}
