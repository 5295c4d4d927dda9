"""aioquic's connections: the core of QUIC that every node has.

Datagrams have 1200 bytes until the handshake is done, which every path carries, then 1452, which
nearly every one does: if none of the first large ones arrives, they stay small. Over loopback they
have 16,000: most of what a datagram costs is the same for all sizes. aioquic frames hold at most
16,383 bytes of a stream. Where a network lies between, packets are sent at the rate that it
delivers (rate_control.py).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from typing import Any

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from murmur.sync import quic_core, rate_control
from murmur.sync.identity import Identity, certificate_key
from murmur.sync.quic_core import (
    ALPN,
    CID_BYTES,
    DATAGRAM_BYTES,
    IDLE_S,
    LARGE_DATAGRAM_BYTES,
    RECEIVE_BYTES,
    STREAM,
    VERSION_1,
    WINDOW_BYTES,
    is_near,
)

# Whatever a stranger's packet trips over is no matter for the standard error of the application.
logging.getLogger("quic").addHandler(logging.NullHandler())

LARGE_LOST_MOST = 8  # in a row: the path does not carry them


class AioquicCore:
    """QuicCore over aioquic."""

    events = events
    scheme = ""
    version = VERSION_1

    def __init__(self, identity: Identity) -> None:
        certificate = identity.certificate()
        self._configurations = {
            (dialed, near): QuicConfiguration(
                alpn_protocols=[ALPN],
                certificate=certificate,
                private_key=identity.private_key,
                congestion_control_algorithm="reno" if near else rate_control.NAME,
                connection_id_length=CID_BYTES,
                idle_timeout=IDLE_S,
                is_client=dialed,
                max_data=WINDOW_BYTES,  # aioquic doubles it as data arrives
                max_stream_data=WINDOW_BYTES,
                max_datagram_size=quic_core.LOOPBACK_DATAGRAM_BYTES if near else DATAGRAM_BYTES,
                server_name="murmur" if dialed else None,
                supported_versions=[VERSION_1],
                verify_mode=ssl.CERT_NONE,  # the key is compared instead
            )
            for dialed in (True, False)
            for near in (True, False)
        }

    def connection(
        self,
        host: str,
        *,
        dialed: bool,
        original_cid: bytes | None = None,
        retry_cid: bytes | None = None,
    ) -> QuicConnection:
        """A new connection."""
        return QuicConnection(
            configuration=self._configurations[dialed, is_near(host)],
            original_destination_connection_id=original_cid,
            retry_source_connection_id=retry_cid,
        )

    def receive(
        self, connection: QuicConnection, batch: Sequence[bytes], address: Any, now: float
    ) -> None:
        """One after the other."""
        for data in batch:
            connection.receive_datagram(data, address, now)

    def established(self, connection: QuicConnection) -> None:
        """Try whether the path carries larger datagrams."""
        if connection._max_datagram_size == DATAGRAM_BYTES:
            _resize(connection, LARGE_DATAGRAM_BYTES)

    def adjust(self, connection: QuicConnection) -> str:
        """Go back to small datagrams where large ones do not arrive."""
        if (
            connection._max_datagram_size == LARGE_DATAGRAM_BYTES
            # Only this controller is used where a network lies between.
            and connection._loss._cc.large_lost >= LARGE_LOST_MOST
        ):
            _resize(connection, DATAGRAM_BYTES)
        return ""

    def peer_key(self, connection: QuicConnection) -> bytes | None:
        """aioquic has verified that the handshake was signed with this certificate's key."""
        certificate = connection.tls._peer_certificate
        return certificate_key(certificate) if certificate is not None else None

    def can_write(self, connection: QuicConnection, *, dialed: bool) -> bool:
        """Whether the acceptor has opened the stream."""
        return not dialed or STREAM in connection._streams

    def waiting(self, connection: QuicConnection) -> int:
        """Bytes to be sent for the first time, or again."""
        stream = connection._streams.get(STREAM)
        if stream is None:
            return 0
        return sum(part.stop - part.start for part in stream.sender._pending)

    def held(self, connection: QuicConnection) -> int:
        """A stream that is not ours counts as too many: aioquic raises its limits when reached."""
        streams = connection._streams
        if len(streams) > 1 or (streams and STREAM not in streams):
            return RECEIVE_BYTES + 1
        stream = streams.get(STREAM)
        if stream is None:
            return 0
        held: int = stream.receiver.highest_offset - stream.receiver.starting_offset()
        return held

    def loss(self, connection: QuicConnection) -> float | None:
        """As the congestion controller sees it."""
        return getattr(connection._loss._cc, "loss", None)


def _resize(connection: QuicConnection, size: int) -> None:
    connection._max_datagram_size = connection._loss._pacer._max_datagram_size = size
