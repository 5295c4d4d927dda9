"""Export: the replicated state of one moment, as chunks that name themselves by their content.

    manifest := msgpack [format, kinds, stamp, tips, bytes, chunks]
    tips     := [[replica, seq, stamp, hash, [[replica, seq]*]]*]      as in the mark: mark.py
    chunks   := [[hash 32s, size, entries, first key]*]
    chunk    := (key length u32 | key | cell length u32 | cell)*       in key order

A manifest says which transactions the state holds (the tips' seqs are its vector, `stamp` is the
highest stamp in it) and of which chunks it consists. Its id is the hash of its bytes, a chunk's
hash that of its own (BLAKE2b, 32 bytes): bytes with the right hash may come from anybody. Derived
entries are left out; whoever takes the state in derives them.

Where a chunk ends depends on the entry there alone, so that states that differ in a few keys have
most chunks in common: what was fetched of one snapshot serves for the next, and for another peer's.

`kinds` is the highest kind of operation that the exporting release applies. To a release with
another one its cells may lack something, or say something unknown: it does not take them in.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

from murmur.errors import ProtocolViolation
from murmur.kvcore.causality import REPLICA_ID_BYTES
from murmur.kvcore.clock import MAX_STAMP
from murmur.kvcore.join import KINDS
from murmur.kvcore.mark import Tip
from murmur.kvcore.record import DERIVED, HASH_BYTES
from murmur.kvcore.snapshot import Snapshot

FORMAT = 1  # on the wire and on disk
CHUNK_BYTES = 1 << 20  # on average
LEAST_CHUNK_BYTES = CHUNK_BYTES // 4
MOST_CHUNK_BYTES = CHUNK_BYTES * 4  # a single entry may be larger
CHUNK_HASH_BYTES = 32
MAX_CHUNK_BYTES = 1 << 30  # that a manifest may name
MAX_SEQ = (1 << 64) - 1

_LENGTH = struct.Struct(">I")

Entry = tuple[bytes, bytes]


class Chunk(NamedTuple):
    """A stretch of the state; it ends where the next one begins."""

    hash: bytes
    size: int
    entries: int
    first: bytes


class Manifest(NamedTuple):
    """What a state holds, and of what it consists."""

    stamp: int
    tips: Mapping[bytes, Tip]
    chunks: Sequence[Chunk]
    kinds: int = KINDS

    @property
    def vector(self) -> dict[bytes, int]:
        """The transactions that the state holds."""
        return {replica: tip.seq for replica, tip in self.tips.items()}

    @property
    def size(self) -> int:
        """The size of all chunks."""
        return sum(chunk.size for chunk in self.chunks)

    def encode(self) -> bytes:
        """The manifest's bytes: equal states have equal ones."""
        tips = [
            (replica, tip.seq, tip.stamp, tip.hash, sorted(tip.vector.items()))
            for replica, tip in sorted(self.tips.items())
        ]
        packed: bytes = msgpack.packb(
            (FORMAT, self.kinds, self.stamp, tips, self.size, list(map(tuple, self.chunks)))
        )
        return packed


def content_hash(data: bytes) -> bytes:
    """The name of a chunk or manifest."""
    return hashlib.blake2b(data, digest_size=CHUNK_HASH_BYTES).digest()


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in bytes that a peer sent. Raises ProtocolViolation."""
    try:
        body = msgpack.unpackb(data, max_ext_len=0)
        version, kinds, stamp, tips, size, chunks = body
        _whole(version)
        if version != FORMAT:
            raise ProtocolViolation(f"snapshot format {version} is not {FORMAT}")
        manifest = Manifest(
            _whole(stamp, MAX_STAMP),
            dict(_tip(*tip) for tip in tips),
            [_chunk(*chunk) for chunk in chunks],
            _whole(kinds),
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ProtocolViolation(f"a snapshot's manifest: {error}") from None
    firsts = [chunk.first for chunk in manifest.chunks]
    if firsts != sorted(set(firsts)) or (firsts and firsts[-1] >= DERIVED):
        raise ProtocolViolation("a snapshot's manifest: the chunks are not in order")
    if manifest.size != size:
        raise ProtocolViolation("a snapshot's manifest: the sizes do not add up")
    return manifest


def decode_chunk(data: bytes) -> Iterator[Entry]:
    """The entries of a chunk. Raises ValueError where it is none."""
    at, size = 0, len(data)
    while at < size:
        if at + 4 > size:
            raise ValueError("a chunk ends within a length")
        (length,) = _LENGTH.unpack_from(data, at)
        key = data[at + 4 : at + 4 + length]
        at += 4 + length
        if at + 4 > size:
            raise ValueError("a chunk ends within a key")
        (length,) = _LENGTH.unpack_from(data, at)
        cell = data[at + 4 : at + 4 + length]
        at += 4 + length
        if at > size:
            raise ValueError("a chunk ends within a cell")
        yield key, cell


class Export:
    """One state, pinned, from which chunks are read. For one thread at a time."""

    def __init__(
        self,
        snapshot: Snapshot,
        tips: Mapping[bytes, Tip],
        stamp: int,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the whole state once. `pause` is called now and then. The snapshot is closed by
        `close`, or if this raises."""
        self._snapshot = snapshot
        try:
            chunks = list(_chunks(snapshot, pause))
        except BaseException:
            snapshot.close()
            raise
        self.manifest = Manifest(stamp, tips, chunks)
        self.encoded = self.manifest.encode()
        self.id = content_hash(self.encoded)
        self._firsts = [chunk.first for chunk in chunks]

    def chunk(self, index: int) -> bytes:
        """A chunk's bytes. Raises IndexError."""
        chunk = self.manifest.chunks[index]
        stop = self._firsts[index + 1] if index + 1 < len(self._firsts) else DERIVED
        parts = [_encode(key, cell) for key, cell in self._snapshot.scan(chunk.first, stop)]
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the snapshot."""
        self._snapshot.close()


def place_of(manifest: Manifest, key: bytes) -> int | None:
    """The index of the chunk that holds a key, if any does."""
    index = bisect_right(manifest.chunks, key, key=lambda chunk: chunk.first) - 1
    return index if index >= 0 else None


def _chunks(snapshot: Snapshot, pause: Callable[[], None]) -> Iterator[Chunk]:
    first = b""
    size = entries = 0
    hasher = hashlib.blake2b(digest_size=CHUNK_HASH_BYTES)
    for key, cell in snapshot.scan(b"", DERIVED):
        entry = _encode(key, cell)
        if not entries:
            first = key
        hasher.update(entry)
        size += len(entry)
        entries += 1
        if _ends(key, len(entry), size):
            yield Chunk(hasher.digest(), size, entries, first)
            size = entries = 0
            hasher = hashlib.blake2b(digest_size=CHUNK_HASH_BYTES)
        if not entries & 63:
            pause()
    if entries:
        yield Chunk(hasher.digest(), size, entries, first)


def _ends(key: bytes, length: int, size: int) -> bool:
    """Whether a chunk ends with this entry: of each byte that it is long, one in CHUNK_BYTES."""
    if size < LEAST_CHUNK_BYTES:
        return False
    return size >= MOST_CHUNK_BYTES or crc32(key) % max(1, CHUNK_BYTES // length) == 0


def _encode(key: bytes, cell: bytes) -> bytes:
    return b"".join((_LENGTH.pack(len(key)), key, _LENGTH.pack(len(cell)), cell))


def _tip(
    replica: object, seq: object, stamp: object, digest: object, vector: Any
) -> tuple[bytes, Tip]:
    seen = {_bytes(other, REPLICA_ID_BYTES): _whole(there, MAX_SEQ) for other, there in vector}
    tip = Tip(_whole(seq, MAX_SEQ), _whole(stamp, MAX_STAMP), _bytes(digest, HASH_BYTES), seen)
    if not tip.seq:
        raise ValueError("sequence numbers begin at 1")
    return _bytes(replica, REPLICA_ID_BYTES), tip


def _chunk(digest: object, size: object, entries: object, first: object) -> Chunk:
    if type(first) is not bytes:
        raise ValueError("a key is bytes")
    return Chunk(
        _bytes(digest, CHUNK_HASH_BYTES), _whole(size, MAX_CHUNK_BYTES), _whole(entries), first
    )


def _whole(value: object, most: int = MAX_SEQ) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError("not a number within its bounds")
    return value


def _bytes(value: object, size: int) -> bytes:
    if type(value) is not bytes or len(value) != size:
        raise ValueError(f"not {size} bytes")
    return value
