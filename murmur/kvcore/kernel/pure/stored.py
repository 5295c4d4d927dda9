"""Stored blocks: a block as it stands in a file, perhaps compressed.

    stored := codec u8 | body
    body   := the block                          codec 0
            | raw length u32 | compressed block  codec 1 (LZ4 block) or 2 (Zstandard frame)

A block that does not shrink by an eighth is stored as it is: what compression saves must pay for
decompressing it at every reading. So is one that shrinks more than a reader would believe, for a
length in a damaged or hostile file must not decide how much memory is taken:

    raw length <= 1 GiB    and    raw length <= 256 * stored length + 64 KiB

Invariant: unwrap(wrap(block)) is the block.
"""

from __future__ import annotations

import struct

from murmur.kvcore.kernel.interface import LZ4, NO_CODEC, ZSTD
from murmur.kvcore.kernel.pure.block import Malformed

RAW_LIMIT = 1 << 30  # bytes
RATIO_LIMIT, SLACK = 256, 64 << 10

_PACKED = struct.Struct("<BI")


def wrap(block: bytes, codec: int = NO_CODEC, level: int = 0) -> bytes:
    """The bytes to store; `level` is that of Zstandard."""
    if codec != NO_CODEC:
        # Only here and below: the codecs are optional packages.
        from murmur.kvcore.kernel.codec import compress

        packed = compress(codec, level, block)
        size = _PACKED.size + len(packed)
        if 8 * (size - 1) <= 7 * len(block) and _believable(len(block), size):
            return _PACKED.pack(codec, len(block)) + packed
    return b"\0" + block


def unwrap(stored: bytes) -> tuple[bytes, int]:
    """The block, and where in these bytes it begins; its end is theirs. Malformed if it is none."""
    if not stored:
        raise Malformed("not a stored block: it is empty")
    codec = stored[0]
    if codec == NO_CODEC:
        return stored, 1
    if codec not in (LZ4, ZSTD):
        raise Malformed(f"not a stored block: codec {codec}")
    if len(stored) < _PACKED.size:
        raise Malformed("not a stored block: it ends within its length")
    _, length = _PACKED.unpack_from(stored)
    if not _believable(length, len(stored)):
        raise Malformed(f"{length} bytes cannot come from {len(stored)}")
    from murmur.kvcore.kernel.codec import decompress

    try:
        return decompress(codec, stored[_PACKED.size :], length), 0
    except ValueError as error:
        raise Malformed(str(error)) from None


def _believable(raw: int, stored: int) -> bool:
    return raw <= RAW_LIMIT and raw <= RATIO_LIMIT * stored + SLACK
