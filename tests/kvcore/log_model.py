"""What the tests of the log share: records, and reading a log as a list."""

from __future__ import annotations

from murmur.kvcore.log import Log

ALICE, BOB = b"alice...", b"bob....."


def record(replica: bytes, seq: int, body: bytes = b"") -> bytes:
    """A record, as far as the log looks into it."""
    return b"\x01" + replica + seq.to_bytes(8) + body


def records_of(log: Log) -> list[bytes]:
    """All that it holds."""
    return [record for _, _, record in log.read(log.start)]
