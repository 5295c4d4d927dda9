"""zstd for frames that leave this host: sync's door to the package `zstandard`.

Level 1 halves batches of small records for a few microseconds per kilobyte. A frame is compressed
when its payload exceeds LEAST_BYTES and this saves at least an eighth of it. Where the package is
not installed (`pip install murmurdb[compression]`) the feature is not offered to peers.

Invariant: what is decompressed says how large it is, and that is compared with the limit before
anything is allocated; a frame that holds more, or less, is a ProtocolViolation.
"""

from __future__ import annotations

from functools import cache
from threading import local
from typing import Any

from murmur.errors import ProtocolViolation

LEVEL = 1
LEAST_BYTES = 1 << 10


@cache
def available() -> bool:
    """Whether this side can compress and decompress."""
    try:
        import zstandard
    except ImportError:
        return False
    return bool(zstandard.__version__)


def compress(payload: bytes) -> bytes | None:
    """The payload as one zstd frame; None where that saves too little."""
    if len(payload) <= LEAST_BYTES:
        return None
    packed: bytes = _contexts().compressor.compress(payload)
    return packed if len(packed) <= len(payload) - len(payload) // 8 else None


def decompress(packed: bytes, limit: int) -> bytes:
    """What was compressed, of at most `limit` bytes."""
    import zstandard

    try:
        size = zstandard.get_frame_parameters(packed).content_size
        if size > limit:  # also when it says nothing of its size
            raise ProtocolViolation(f"zstd: it says {size} bytes, the limit is {limit}")
        payload: bytes = _contexts().decompressor.decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ProtocolViolation(f"zstd: {error}") from None
    return payload


class _Contexts(local):
    """zstd's contexts of a thread: they are no two threads' at once, and each node has its own."""

    def __init__(self) -> None:
        import zstandard

        self.compressor: Any = zstandard.ZstdCompressor(level=LEVEL)
        self.decompressor: Any = zstandard.ZstdDecompressor()


@cache
def _contexts() -> _Contexts:
    return _Contexts()
