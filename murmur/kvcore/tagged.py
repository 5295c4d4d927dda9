"""Changes over a map below, as values of a memtable: a tag says what is put and what is deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from murmur.kvcore.kernel import Entry

DELETED, PUT = b"\0", b"\1"


def tag(value: bytes | None) -> bytes:
    """A value, or a deletion, as it is kept."""
    return DELETED if value is None else PUT + value


def untag(tagged: bytes) -> bytes | None:
    """The value; None for a deletion."""
    return None if tagged == DELETED else tagged[1:]


def untagged(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[Entry]:
    """Keys with the values that were put, None for those that were deleted."""
    for key, value in pairs:
        yield key, None if value == DELETED else value[1:]
