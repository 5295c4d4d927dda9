"""Values that are documents: JSON and msgpack under a key, in one canonical form.

    swarm.put_json("cfg:mail", {"port": 25, "host": "mx"})   ->   {"host":"mx","port":25}
    swarm.get_json("cfg:mail")                               ->   {'host': 'mx', 'port': 25}

Equal documents have equal bytes, so replicas that put the same one apart put the same value:

    JSON       RFC 8259 in UTF-8: members sorted by name (by code point), no blanks, nothing escaped
               that need not be, floats in the fewest digits that read back
    msgpack    the shortest form of each value, str and bytes apart, members sorted by the packed
               bytes of their names; a datetime with a zone is msgpack's Timestamp, read in UTC

Both are strict. JSON takes None, bool, int, finite float, str, list, tuple (which is read as a
list) and dict with str names; msgpack also NaN, bytes and names of other kinds, and its integers
have 64 bits. Either is nested at most MAX_DEPTH deep, as deep as a JSON column takes. What is
refused is named by its key and its place: `key 'cfg:mail', value.ports[2]: set is not JSON`.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from datetime import UTC, datetime
from typing import Any

import msgpack

from murmur.catalog.values import MAX_JSON_DEPTH
from murmur.errors import DatabaseError, DataError, TypeMismatch
from murmur.swarm.kv import Key

MAX_DEPTH = MAX_JSON_DEPTH

_JSON, _MSGPACK = "JSON", "msgpack"
_dump = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode
_pack = msgpack.Packer(use_bin_type=True, datetime=True, autoreset=True).pack


class DocumentWriter:
    """Puts of documents, for whoever has `put`."""

    @abstractmethod
    def put(self, key: Key, value: bytes) -> None:
        """Set the value of a key."""

    def put_json(self, key: Key, value: Any, **options: Any) -> None:
        """Set the value of a key to a JSON text, in canonical form. The options are those of `put`.

        Raises TypeMismatch or DataError for what is not JSON, with the key and the place.
        """
        self.put(key, encode_json(key, value), **options)

    def put_msgpack(self, key: Key, value: Any, **options: Any) -> None:
        """Set the value of a key to a msgpack document, in canonical form; options as of `put`.

        Raises TypeMismatch or DataError for what is not msgpack, with the key and the place.
        """
        self.put(key, encode_msgpack(key, value), **options)


class Documents(DocumentWriter):
    """Puts and gets of documents, for whoever has `put` and `get`."""

    @abstractmethod
    def get(self, key: Key) -> bytes | None:
        """The value of a key, None if it has none."""

    def get_json(self, key: Key, default: Any = None) -> Any:
        """The JSON document under a key; `default` if there is none. DataError if it is no JSON."""
        value = self.get(key)
        return default if value is None else decode_json(key, value)

    def get_msgpack(self, key: Key, default: Any = None) -> Any:
        """The msgpack document under a key; `default` if there is none. DataError if it is none."""
        value = self.get(key)
        return default if value is None else decode_msgpack(key, value)


def encode_json(key: Key, value: Any) -> bytes:
    """The canonical JSON text of a value."""
    _check_json(key, value, "value", 1)
    return _dump(value).encode()


def decode_json(key: Key, data: bytes) -> Any:
    """The value of a JSON text, canonical or not."""
    try:
        return json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the value of key {key!r} is not JSON: {error}") from None


def encode_msgpack(key: Key, value: Any) -> bytes:
    """The canonical msgpack document of a value."""
    packed: bytes = _pack(_canonical(key, value, "value", 1))
    return packed


def decode_msgpack(key: Key, data: bytes) -> Any:
    """The value of a msgpack document, canonical or not."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False, timestamp=3)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"the value of key {key!r} is not msgpack: {reason}") from None


def _check_json(key: Key, value: Any, place: str, depth: int) -> None:
    match value:
        case None | bool() | int():
            pass
        case float():
            if not math.isfinite(value):
                raise _refusal(DataError, key, place, f"{value} is not JSON")
        case str():
            _check_text(key, value, place)
        case dict():
            _check_depth(key, place, depth)
            for name, member in value.items():
                if not isinstance(name, str):
                    reason = f"a member's name is str in JSON, not {type(name).__name__}"
                    raise _refusal(TypeMismatch, key, place, reason)
                _check_text(key, name, place)
                _check_json(key, member, f"{place}.{name}", depth + 1)
        case list() | tuple():
            _check_depth(key, place, depth)
            for index, element in enumerate(value):
                _check_json(key, element, f"{place}[{index}]", depth + 1)
        case _:
            raise _no_document(key, place, value, _JSON)


def _canonical(key: Key, value: Any, place: str, depth: int) -> Any:
    """The value with its members in order, all of it known to be packable."""
    match value:
        case None | bool() | float() | bytes():
            return value
        case int():
            if not -(1 << 63) <= value < 1 << 64:
                raise _refusal(DataError, key, place, "an integer of msgpack has 64 bits")
            return value
        case str():
            _check_text(key, value, place)
            return value
        case bytearray() | memoryview():
            return bytes(value)
        case datetime():
            if value.tzinfo is None:
                raise _refusal(TypeMismatch, key, place, "a datetime needs a zone in msgpack")
            try:
                return value.astimezone(UTC)
            except OverflowError as error:
                raise _refusal(DataError, key, place, f"no datetime in UTC: {error}") from None
        case dict():
            _check_depth(key, place, depth)
            members = {
                _canonical_name(key, name, place): _canonical(
                    key, member, f"{place}.{name}", depth + 1
                )
                for name, member in value.items()
            }
            return {name: members[name] for name in sorted(members, key=_pack)}
        case list() | tuple():
            _check_depth(key, place, depth)
            return [
                _canonical(key, element, f"{place}[{index}]", depth + 1)
                for index, element in enumerate(value)
            ]
    raise _no_document(key, place, value, _MSGPACK)


def _canonical_name(key: Key, name: Any, place: str) -> Any:
    if isinstance(name, list | tuple | dict):
        reason = f"{type(name).__name__} is no name of a member"
        raise _refusal(TypeMismatch, key, place, reason)
    return _canonical(key, name, place, 1)


def _check_depth(key: Key, place: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        where = place if len(place) <= 60 else place[:60] + "…"
        raise _refusal(DataError, key, where, f"nested deeper than {MAX_DEPTH}")


def _check_text(key: Key, text: str, place: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            reason = f"a lone surrogate at position {error.start} is not valid text"
            raise _refusal(DataError, key, place, reason) from None


def _no_document(key: Key, place: str, value: object, form: str) -> DatabaseError:
    hint = "; put_msgpack takes bytes" if form == _JSON and isinstance(value, bytes) else ""
    return _refusal(TypeMismatch, key, place, f"{type(value).__name__} is not {form}{hint}")


def _refusal(kind: type[DatabaseError], key: Key, place: str, reason: str) -> DatabaseError:
    return kind(f"key {key!r}, {place}: {reason}")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")
