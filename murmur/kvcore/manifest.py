"""The manifest: which tables the tree consists of, and where it stands. One file, replaced whole.

    manifest := "MURMRMAN" | version u16 | crc u32 of the body | length u32 of the body | body
    body     := next file number u64 | last sequence u64 | mark
              | table count u32 | table* | value file count u32 | value file*
    table    := level u8 | number u64 | size u64 | entries u64 | tombstones u64
              | range tombstones u64 | max sequence u64 | footer checksum u32
              | reference count u32 | (value file number u64 | bytes referenced u64)*
              | first key | last key
    value file := number u64 | size u64
    mark, key := length u32 | bytes

Integers are little-endian. Value files stand in ascending order, and so do a table's references:
how much of a value file is still referenced is the sum over all tables.

An *edit* is a flush or a compaction: it changes tables, mark and last sequence together, by writing
the next manifest beside this one and renaming it over it (storage's `write_atomically`). A table
takes about a hundred bytes here and 32 MiB elsewhere, so an edit of a tree of 100 GiB writes
300 KB; in return there is no log of edits, no torn tail of it, and no damage that could pass for
one.

Invariants:
    1. The tree that a manifest describes holds exactly the writes before its mark.
    2. The files it names were durable, name and content, before it was renamed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from murmur.errors import ChecksumMismatch, Corruption, UnknownFormat
from murmur.kvcore.kernel import TableInfo

VERSION = 2  # on disk
MAGIC = b"MURMRMAN"

_HEADER = struct.Struct("<8sHII")
_BODY = struct.Struct("<QQI")
_TABLE = struct.Struct("<BQQQQQQII")
_PAIR = struct.Struct("<QQ")  # of a value file: number and size, or number and bytes referenced
_LENGTH = struct.Struct("<I")


class Manifest(NamedTuple):
    """The durable state of a tree. Level 0 stands newest first, the others in key order."""

    next_number: int
    last_sequence: int
    mark: bytes
    levels: Sequence[Sequence[TableInfo]]
    value_files: Sequence[tuple[int, int]] = ()  # number and size


EMPTY = Manifest(1, 0, b"", ())


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of a manifest."""
    tables = [(level, info) for level, infos in enumerate(manifest.levels) for info in infos]
    body = b"".join(
        (
            _BODY.pack(manifest.next_number, manifest.last_sequence, len(manifest.mark)),
            manifest.mark,
            _LENGTH.pack(len(tables)),
            *(_encode_table(level, info) for level, info in tables),
            _LENGTH.pack(len(manifest.value_files)),
            *(_PAIR.pack(*file) for file in sorted(manifest.value_files)),
        )
    )
    return _HEADER.pack(MAGIC, VERSION, crc32(body), len(body)) + body


def decode_manifest(path: str, data: bytes, *, whatever_version: bool = False) -> Manifest:
    """The manifest in these bytes of the file at `path`, which errors name.

    The version stands outside of the checksum. A manifest `whatever_version` is read as one of this
    release's; UnknownFormat if it has its checksum and is not.
    """
    if len(data) < _HEADER.size:
        raise Corruption(path, len(data), "the manifest ends within its header")
    magic, version, crc, length = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Corruption(path, 0, "not a manifest: the magic bytes are missing")
    unknown = UnknownFormat(
        path, len(MAGIC), f"manifest format {version}, this release reads {VERSION}"
    )
    if version != VERSION and not whatever_version:
        raise unknown
    body = data[_HEADER.size :]
    if len(body) != length:
        raise Corruption(path, len(data), f"{len(body)} bytes follow the header, not {length}")
    if crc32(body) != crc:
        raise ChecksumMismatch(path, _HEADER.size, "the manifest does not have its checksum")
    try:
        manifest, end = _decode_body(body)
    except struct.error:
        raise unknown from None
    if end != len(body):
        raise unknown
    return manifest


def _encode_table(level: int, info: TableInfo) -> bytes:
    references = info.references
    return b"".join(
        (
            _TABLE.pack(
                level,
                info.number,
                info.size,
                info.entries,
                info.tombstones,
                info.ranges,
                info.max_sequence,
                info.checksum,
                len(references),
            ),
            *(_PAIR.pack(*reference) for reference in references),
            _LENGTH.pack(len(info.first)),
            info.first,
            _LENGTH.pack(len(info.last)),
            info.last,
        )
    )


def _decode_body(body: bytes) -> tuple[Manifest, int]:
    next_number, last_sequence, length = _BODY.unpack_from(body)
    at = _BODY.size + length
    mark = body[_BODY.size : at]
    (count,) = _LENGTH.unpack_from(body, at)
    at += _LENGTH.size
    levels: list[list[TableInfo]] = []
    for _ in range(count):
        level, number, size, entries, tombstones, ranges, newest, checksum, pairs = (
            _TABLE.unpack_from(body, at)
        )
        references, at = _decode_pairs(body, at + _TABLE.size, pairs)
        first, at = _decode_bytes(body, at)
        last, at = _decode_bytes(body, at)
        while len(levels) <= level:
            levels.append([])
        levels[level].append(
            TableInfo(
                number, size, entries, tombstones, ranges, newest, checksum, first, last, references
            )
        )
    (count,) = _LENGTH.unpack_from(body, at)
    value_files, at = _decode_pairs(body, at + _LENGTH.size, count)
    return Manifest(next_number, last_sequence, mark, levels, value_files), at


def _decode_pairs(body: bytes, at: int, count: int) -> tuple[tuple[tuple[int, int], ...], int]:
    stop = at + count * _PAIR.size
    return tuple(_PAIR.iter_unpack(body[at:stop])), stop


def _decode_bytes(body: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(body, at)
    stop = at + _LENGTH.size + length
    return body[at + _LENGTH.size : stop], stop
