"""Reading JSON text: members, elements, types.

    member('{"a": [1, 2.50]}', "a")         ->  '[1, 2.50]'     the text as it stands there
    element('[1, 2.50]', -1)                ->  '2.50'
    member_text('{"a": "x"}', "a")          ->  'x'             without quotes; null is NULL

The text was checked when it was stored, and is read with Python's own scanner; DataError if a peer
wrote something else. What is asked of a value of another kind (a member of an array) is NULL, as in
PostgreSQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from murmur.errors import DataError

_skip = re.compile(r"[ \t\n\r]*").match
# Numbers are only skipped over: as text they cost nothing and lose nothing.
_text = json.decoder.scanstring  # type: ignore[attr-defined]  # it is there, without a type
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode


def member(text: str, key: str) -> str | None:
    """text -> 'key': the last member of that name, as JSON."""
    found = None
    for name, start, stop in _members(text):
        if name == key:
            found = text[start:stop]
    return found


def element(text: str, index: int) -> str | None:
    """text -> index: counted from 0, or from the end if negative, as JSON."""
    elements = [text[start:stop] for start, stop in _elements(text)]
    return elements[index] if -len(elements) <= index < len(elements) else None


def member_text(text: str, key: str) -> str | None:
    """text ->> 'key'."""
    return as_text(member(text, key))


def element_text(text: str, index: int) -> str | None:
    """text ->> index."""
    return as_text(element(text, index))


def type_name(text: str) -> str:
    """The kind of a JSON value: object, array, string, number, boolean or null."""
    return _KINDS.get(text[_start(text) :][:1], "number")


_KINDS = {"{": "object", "[": "array", '"': "string", "t": "boolean", "f": "boolean", "n": "null"}


def array_length(text: str) -> int:
    """The number of elements; DataError if the value is no array."""
    if type_name(text) != "array":
        raise DataError(f"cannot get the array length of a JSON {type_name(text)}")
    return sum(1 for _ in _elements(text))


def as_text(value: str | None) -> str | None:
    """A value as ->> gives it: text without quotes, null as NULL."""
    if value is None or value == "null":
        return None
    decoded: str = _text(value, 1)[0] if value[0] == '"' else value
    return decoded


def _start(text: str, at: int = 0) -> int:
    match = _skip(text, at)
    assert match is not None  # it matches nothing, too
    return match.end()


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """Name, start and stop of each member; nothing if the value is no object."""
    at = _start(text)
    if not text.startswith("{", at):
        return
    at = _start(text, at + 1)
    with _valid(text):
        while text[at] != "}":
            name, at = _text(text, at + 1)
            start = _start(text, _start(text, at) + 1)
            _, stop = _scan(text, start)
            yield name, start, stop
            at = _start(text, stop)
            if text[at] == ",":
                at = _start(text, at + 1)


def _elements(text: str) -> Iterator[tuple[int, int]]:
    """Start and stop of each element; nothing if the value is no array."""
    at = _start(text)
    if not text.startswith("[", at):
        return
    at = _start(text, at + 1)
    with _valid(text):
        while text[at] != "]":
            _, stop = _scan(text, at)
            yield at, stop
            at = _start(text, stop)
            if text[at] == ",":
                at = _start(text, at + 1)


@contextmanager
def _valid(text: str) -> Iterator[None]:
    try:
        yield
    except (IndexError, ValueError) as error:
        raise DataError(f"what is stored is not JSON ({error}): {text:.60}") from None
