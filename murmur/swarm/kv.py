"""User keys, as calls have them, on the keyspace (catalog/kv_keys.py).

    "db:host"    ->  01 01 64 62 3a 68 6f 73 74
    b"\\x00\\x07"  ->  01 02 00 07

A scan yields the keys as they were put; what a peer put there that is no UTF-8 shows with
backslashes. A bound or a prefix says which kind is meant; without one,
all text keys come first, then all bytes keys.

Invariant: within a kind, left < right  <=>  encode_key(left) < encode_key(right). (UTF-8 sorts by
code point, and so does str.)
"""

from __future__ import annotations

from collections.abc import Iterator

from murmur.catalog.kv_keys import BYTES_KEYS as BYTES
from murmur.catalog.kv_keys import MAX_KEY_BYTES, MAX_VALUE_BYTES
from murmur.catalog.kv_keys import TEXT_KEYS as TEXT
from murmur.errors import InvalidInput, TypeMismatch
from murmur.kvcore import Snapshot, View, visible_value

Key = str | bytes


def encode_key(key: Key) -> bytes:
    """The cell's key. Raises TypeMismatch or InvalidInput for what is not a key."""
    kind = type(key)
    if kind is str:
        encoded = TEXT + _utf8(key)  # type: ignore[arg-type]
    elif kind is bytes:
        encoded = BYTES + key  # type: ignore[operator]
    elif isinstance(key, str):
        encoded = TEXT + _utf8(key)
    elif isinstance(key, bytes | bytearray | memoryview):
        encoded = BYTES + bytes(key)
    else:
        raise TypeMismatch(f"a key is str or bytes, not {kind.__name__}")
    if len(encoded) > MAX_KEY_BYTES:
        raise InvalidInput(f"a key of {len(encoded) - 2} bytes is longer than {MAX_KEY_BYTES - 2}")
    return encoded


def decode_key(key: bytes) -> Key:
    """The user's key of a cell's key."""
    return key[2:].decode("utf-8", "backslashreplace") if key[1] == 1 else key[2:]


def check_value(value: object) -> bytes:
    """The value as bytes. Raises TypeMismatch for anything that is not bytes."""
    if type(value) is not bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            hint = "; encode it first" if isinstance(value, str) else ""
            raise TypeMismatch(f"a value is bytes, not {type(value).__name__}{hint}")
        value = bytes(value)
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidInput(f"a value of {len(value)} bytes is longer than {MAX_VALUE_BYTES}")
    return value


def key_range(prefix: Key | None, start: Key | None, stop: Key | None) -> tuple[bytes, bytes]:
    """start and stop of the cells to scan: a prefix, a half-open range, or everything."""
    if prefix is not None:
        if start is not None or stop is not None:
            raise InvalidInput("scan takes a prefix, or start and stop, not both")
        encoded = encode_key(prefix)
        return encoded, _after_prefix(encoded)
    if start is None and stop is None:
        return TEXT, _after_prefix(BYTES)
    lower = encode_key(start) if start is not None else None
    upper = encode_key(stop) if stop is not None else None
    kind = (lower or upper or TEXT)[:2]
    if upper is not None and upper[:2] != kind:
        raise TypeMismatch("start and stop are both str or both bytes")
    return lower if lower is not None else kind, upper if upper is not None else _after_prefix(kind)


def get(view: View, key: Key) -> bytes | None:
    """The value that readers of this view see."""
    cell = view.get(encode_key(key))
    return None if cell is None else visible_value(cell)


def pairs(view: View, bounds: tuple[bytes, bytes], *, reverse: bool) -> Iterator[tuple[Key, bytes]]:
    """Keys and values within the bounds, in key order or against it."""
    start, stop = bounds
    for key, cell in view.scan(start, stop, reverse=reverse):
        yield (
            (key[2:].decode("utf-8", "backslashreplace") if key[1] == 1 else key[2:]),
            visible_value(cell),
        )


class Scan:
    """The pairs of one moment: that of the call, whenever they are read.

    The snapshot is let go after the last pair, at `close()`, at the end of a `with`, or when the
    scan is forgotten.
    """

    def __init__(self, snapshot: Snapshot, bounds: tuple[bytes, bytes], *, reverse: bool) -> None:
        self._snapshot = snapshot
        self._next = pairs(snapshot, bounds, reverse=reverse).__next__

    def __iter__(self) -> Scan:
        return self

    def __next__(self) -> tuple[Key, bytes]:
        try:
            return self._next()
        except BaseException:
            self._snapshot.close()
            raise

    def close(self) -> None:
        """Let go of the snapshot; nothing comes after it."""
        self._snapshot.close()
        self._next = iter(()).__next__

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._snapshot.close()


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the key has a lone surrogate at position {error.start}, which is not valid text"
        ) from None


def _after_prefix(prefix: bytes) -> bytes:
    # The first byte is 01, so there is always one that can be counted up.
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])
