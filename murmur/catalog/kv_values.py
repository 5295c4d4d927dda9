"""How the columns of a KV table stand in the values of its keys.

    values    the columns besides the key            a value
    whole     one, TEXT, BLOB or JSON                the column itself: UTF-8, bytes, JSON text
    json      any, each the member of its name       a JSON object

    sensor (key TEXT, temp DOUBLE, site TEXT)        {"temp":21.5,"unit":"C"}  ->  21.5, NULL

A member that is missing, or null, is NULL. One that is not of its column's type reads NULL as well,
and so does every column of a value that is no object; murmur_conflicts lists both. Names count as
they stand: of two members of one name the last is read.

    BOOLEAN                  true, false
    integers                 a number without a fraction, within the type's range
    REAL, DOUBLE             a number, finite
    DECIMAL                  a number, with its digits as they stand
    TEXT, VARCHAR            a string without NUL
    BLOB                     a string in PostgreSQL's form, "\\\\x00ff"
    JSON                     anything, as it stands; null is NULL
    other types              a string: ISO 8601, the digits of a UUID, an interval

A write replaces the members of the columns that change, where they stand, and appends those that
are new; the rest of the text stays as it is, byte for byte.

Invariant: what is written reads back as the value that was written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any, Protocol

from murmur.catalog.atoms import from_atom, to_atom
from murmur.catalog.interval import format_interval
from murmur.catalog.schema import Column
from murmur.catalog.types import SqlType, Value
from murmur.catalog.values import check, checker
from murmur.errors import DatabaseError, DataError
from murmur.kvcore import Atom

Atoms = tuple[Atom, ...]

_EXACT_INTEGERS = 1 << 53  # a float up to here that is whole is the integer that was written
_NOT_READ = (DatabaseError, ValueError, TypeError, ArithmeticError, RecursionError)


class ValueForm(Protocol):
    """Some columns' way into a value and out of it."""

    def atoms(self, value: bytes) -> Atoms:
        """The columns, in stored form; what cannot be read is None."""
        ...

    def unreadable(self, value: bytes) -> list[Column]:
        """The columns that are None although the value says something there."""
        ...

    def written(self, old: bytes | None, changes: Mapping[int, Atom], where: str) -> bytes:
        """The value with these columns, by id, changed. DataError if that cannot be written."""
        ...


def form_of(values: str, columns: Sequence[Column]) -> ValueForm:
    """The form of these columns."""
    if values == "json":
        return _Members(columns)
    return _Whole(columns)


class _Whole:
    """One column that is the value."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._read = _whole_reader(columns[0].type) if columns else None

    def atoms(self, value: bytes) -> Atoms:
        if self._read is None:
            return ()
        try:
            return (self._read(value),)
        except _NOT_READ:
            return (None,)

    def unreadable(self, value: bytes) -> list[Column]:
        return [column for column in self._columns if self.atoms(value) == (None,)]

    def written(self, old: bytes | None, changes: Mapping[int, Atom], where: str) -> bytes:
        atom = changes[self._columns[0].id]
        assert isinstance(atom, str | bytes)
        return atom.encode() if isinstance(atom, str) else atom


def _whole_reader(sql_type: SqlType) -> Callable[[bytes], Atom]:
    if sql_type.name == "BLOB":
        return lambda value: value
    read: Callable[[object], Atom] = checker(sql_type, "value")
    return lambda value: read(value.decode())


class _Members:
    """Columns that are members of a JSON object."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._readers = [
            (column.name, _member_reader(column.type), column.type.name in _AS_TEXT)
            for column in columns
        ]
        self._texts = any(as_text for *_, as_text in self._readers)

    def atoms(self, value: bytes) -> Atoms:
        if not self._readers:
            return ()
        try:
            text = value.decode()
            members = _decode(text)
            if type(members) is not dict:
                return (None,) * len(self._columns)
            texts = _texts(text) if self._texts else {}
        except _NOT_READ:
            return (None,) * len(self._columns)
        atoms: list[Atom] = []
        for name, read, as_text in self._readers:
            member = members.get(name)
            if member is not None:
                try:
                    member = read(texts[name] if as_text else member)
                except _NOT_READ:
                    member = None
            atoms.append(member)
        return tuple(atoms)

    def unreadable(self, value: bytes) -> list[Column]:
        members = _object(value)
        if members is None:
            return list(self._columns)
        return [
            column
            for column, atom in zip(self._columns, self.atoms(value), strict=True)
            if atom is None and members.get(column.name) is not None
        ]

    def written(self, old: bytes | None, changes: Mapping[int, Atom], where: str) -> bytes:
        new = {
            column.name: _member_text(changes[column.id], column, where)
            for column in self._columns
            if column.id in changes
        }
        if old is None:
            return ("{" + ",".join(_member(*each) for each in new.items()) + "}").encode()
        if _object(old) is None:
            raise DataError(f"{where}: the value is not a JSON object; put or delete the key")
        return _merged(old.decode(), new).encode()


def _object(value: bytes) -> dict[str, Any] | None:
    """The members of a value; None if it is no JSON object."""
    try:
        members = _decode(value.decode())
    except _NOT_READ:
        return None
    return members if isinstance(members, dict) else None


def _merged(text: str, new: Mapping[str, str]) -> str:
    """A JSON object's text with these members, by name, in place of its own."""
    last = {name: (start, stop) for name, start, stop in _places(text)}
    close = text.rindex("}")
    added = ",".join(_member(*each) for each in new.items() if each[0] not in last)
    if added:
        text = text[:close] + ("," if last else "") + added + text[close:]
    places = [(*last[name], member) for name, member in new.items() if name in last]
    for start, stop, member in sorted(places, reverse=True):
        text = text[:start] + member + text[stop:]
    return text


def _member(name: str, text: str) -> str:
    return f"{_quoted(name)}:{text}"


# Reading -------------------------------------------------------------------


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode
_scan_value = json.JSONDecoder().raw_decode
_scan_string = json.decoder.scanstring  # type: ignore[attr-defined]  # it is there, without a type
_skip = json.decoder.WHITESPACE.match  # type: ignore[attr-defined]


def _places(text: str) -> list[tuple[str, int, int]]:
    """Name, start and stop of the members of a JSON object that can be decoded."""
    places = []
    at = _skip(text, _skip(text, 0).end() + 1).end()
    while text[at] != "}":
        name, at = _scan_string(text, at + 1)
        start = _skip(text, _skip(text, at).end() + 1).end()
        _, stop = _scan_value(text, start)
        places.append((name, start, stop))
        at = _skip(text, stop).end()
        if text[at] == ",":
            at = _skip(text, at + 1).end()
    return places


def _texts(text: str) -> dict[str, str]:
    return {name: text[start:stop] for name, start, stop in _places(text)}


_AS_TEXT = frozenset({"DECIMAL", "JSON"})  # read from the member's text, not from its value


def _member_reader(sql_type: SqlType) -> Callable[[Any], Atom]:
    """A member that is not null as an atom; one of _NOT_READ if it is not of the type."""
    name = sql_type.name
    checked = checker(sql_type, "member")
    if name == "BOOLEAN" or name in ("TEXT", "VARCHAR"):
        return checked
    if sql_type.is_integer:
        return lambda member: checked(_whole_number(member))
    if sql_type.is_float:
        return lambda member: checked(_finite(member))
    if name == "DECIMAL":
        return lambda text: to_atom(checked(_digits(text)), sql_type)
    if name == "JSON":
        return checked
    if name == "BLOB":
        return _bytes_of
    return lambda member: to_atom(checked(_text(member)), sql_type)


def _whole_number(member: Any) -> Any:
    if type(member) is float and member.is_integer() and abs(member) <= _EXACT_INTEGERS:
        return int(member)
    return member


def _finite(member: Any) -> float:
    if type(member) not in (int, float):
        raise TypeError("not a number")
    number = float(member)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _digits(text: str) -> Decimal:
    if text[0] not in "-0123456789":
        raise TypeError("not a number")
    return Decimal(text)


def _text(member: Any) -> str:
    if type(member) is not str:
        raise TypeError("not a string")
    return member


def _bytes_of(member: Any) -> bytes:
    text = _text(member)
    if text[:2] != "\\x" or " " in text:
        raise ValueError("not a blob")
    return bytes.fromhex(text[2:])


# Writing -------------------------------------------------------------------

_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _member_text(atom: Atom, column: Column, where: str) -> str:
    """The JSON of a column's value."""
    value = from_atom(atom, column.type)
    text = "null" if value is None else _json_text(value, column.type)
    if text is None:
        raise DataError(f"{where}, column {column.name}: {value!r} is no number of JSON")
    return text


def _json_text(value: Value, sql_type: SqlType) -> str | None:
    match sql_type.name:
        case "BOOLEAN":
            return "true" if value else "false"
        case "REAL" | "DOUBLE":
            assert isinstance(value, float)
            return repr(value) if math.isfinite(value) else None
        case "DECIMAL":
            assert isinstance(value, Decimal)
            return format(value, "f")
        case "JSON":
            assert isinstance(value, str)
            return value
        case "BLOB":
            assert isinstance(value, bytes)
            return _quoted("\\x" + value.hex())
        case "INTERVAL":
            return _quoted(format_interval(value))  # type: ignore[arg-type]
        case "DATE" | "TIME" | "TIMESTAMP" | "TIMESTAMPTZ":
            assert isinstance(value, date | time)
            return _quoted(value.isoformat())
        case "TEXT" | "VARCHAR" | "UUID":
            return _quoted(str(value))
    assert sql_type.is_integer
    return str(check(value, sql_type, where=""))
