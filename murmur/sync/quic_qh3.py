"""qh3's connections: the faster core of QUIC, where both ends have it (quic_core.py).

    pip install 'murmurdb[fast]'

qh3 descends from aioquic; its packets, streams, recovery and congestion control are in Rust, and
cannot be replaced by ours. Its control halves the window at each loss, so that the rate it can have
follows from how often packets are lost (Mathis et al., 1997):

    rate = 1.22 * datagram / (round trip * sqrt(losses per packet))

Losses of one round trip count once (TFRC, RFC 5348), and the last LOSSES of them are looked at.
Where the rate is less than WORTH, aioquic with our control has at least as much of the path:
`adjust` gives it up for that one.

Datagrams have 1200 bytes, which every path carries: from larger ones that do not arrive qh3 finds
no way back.

The certificate is Ed25519, which qh3 does not offer to verify unless it is told to. It checks that
the handshake was signed with the certificate's key although no authority is asked (CERT_NONE).
"""

from __future__ import annotations

import math
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from qh3.quic import events
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection, QuicConnectionError
from qh3.tls import SignatureAlgorithm

from murmur.sync import quic_core
from murmur.sync.identity import Identity
from murmur.sync.quic_core import (
    ALPN,
    CID_BYTES,
    DATAGRAM_BYTES,
    IDLE_S,
    RECEIVE_BYTES,
    STREAM,
    VERSION_2,
    is_near,
)
from murmur.sync.transport import FAST

WORTH = 10e6  # bytes a second
LOSSES = 8
ED25519_KEY = bytes.fromhex("302a300506032b6570032100")  # what stands before a key in DER


class Qh3Core:
    """QuicCore over qh3."""

    events = events
    scheme = FAST
    version = VERSION_2

    def __init__(self, identity: Identity) -> None:
        certificate = identity.certificate().public_bytes(Encoding.PEM)
        key = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._configurations: dict[tuple[bool, bool], QuicConfiguration] = {}
        for dialed in (True, False):
            for near in (True, False):
                configuration = QuicConfiguration(
                    alpn_protocols=[ALPN],
                    connection_id_length=CID_BYTES,
                    idle_timeout=IDLE_S,
                    is_client=dialed,
                    max_data=RECEIVE_BYTES,
                    max_stream_data=RECEIVE_BYTES,
                    max_datagram_size=(
                        quic_core.LOOPBACK_DATAGRAM_BYTES if near else DATAGRAM_BYTES
                    ),
                    probe_datagram_size=False,
                    server_name="murmur" if dialed else None,
                    signature_algorithms=[SignatureAlgorithm.ED25519] if dialed else None,
                    supported_versions=[VERSION_2],
                    verify_hostname=False,
                    verify_mode=ssl.CERT_NONE,  # the key is compared instead
                )
                if not dialed:
                    configuration.load_cert_chain(certificate, key)
                self._configurations[dialed, near] = configuration
        # Its cryptography gathers entropy when it is first used, for 25 ms: not in the loop.
        self.connection("127.0.0.1", dialed=True).connect(("127.0.0.1", 1), 0.0)

    def connection(
        self,
        host: str,
        *,
        dialed: bool,
        original_cid: bytes | None = None,
        retry_cid: bytes | None = None,
    ) -> Qh3Connection:
        """A new connection."""
        near = is_near(host)
        return Qh3Connection(
            near=near,
            configuration=self._configurations[dialed, near],
            original_destination_connection_id=original_cid,
            retry_source_connection_id=retry_cid,
        )

    def receive(
        self, connection: Qh3Connection, batch: Sequence[bytes], address: Any, now: float
    ) -> None:
        """All at once."""
        connection.receive_many_datagrams(list(batch), address, now)

    def established(self, connection: Qh3Connection) -> None:
        """qh3 probes by itself what the path carries."""

    def adjust(self, connection: Qh3Connection) -> str:
        """Give up a path that loses packets."""
        return connection.judge()

    def peer_key(self, connection: Qh3Connection) -> bytes | None:
        """qh3 has verified that the handshake was signed with this certificate's key."""
        certificate = connection.get_peercert()
        key: bytes = b"" if certificate is None else certificate.public_key()
        return key.removeprefix(ED25519_KEY) if key.startswith(ED25519_KEY) else None

    def can_write(self, connection: Qh3Connection, *, dialed: bool) -> bool:
        """Whether the acceptor has opened the stream, and neither side has closed it."""
        return connection._close_event is None and (not dialed or connection.opened)

    def waiting(self, connection: Qh3Connection) -> int:
        """Bytes to be sent for the first time."""
        waiting: int = connection.get_send_buffer_size(STREAM)
        return waiting

    def held(self, connection: Qh3Connection) -> int:
        """None: qh3 ends a connection that goes beyond its limits, which it does not raise."""
        return 0

    def loss(self, connection: Qh3Connection) -> float | None:
        """Since the first of the last losses."""
        return connection.loss


class Qh3Connection(QuicConnection):  # type: ignore[misc]
    """One connection, and how many of its packets are lost."""

    def __init__(self, *, near: bool, **options: Any) -> None:
        super().__init__(**options)
        self.opened = False  # the stream, by the peer
        self._near = near
        self._sent = self._lost = 0  # packets
        self._losses: deque[tuple[int, int]] = deque(maxlen=LOSSES + 1)  # sent and lost until then
        self._lost_at = 0.0

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """What is to be sent now."""
        result: list[tuple[bytes, Any]] = []
        try:
            result = super().datagrams_to_send(now)
        except QuicConnectionError:
            # qh3 2.1 raises where an acceptor has to wait: its flight does not fit what one small
            # packet of a stranger's lets it send. It goes on when the next one arrives.
            if self._handshake_complete:
                raise
        self._sent += len(result)
        core = self._core
        if core is not None and core.loss_total > self._lost:
            self._lost = core.loss_total
            if now - self._lost_at > (core.smoothed_rtt or 0.0):
                self._losses.append((self._sent, self._lost))
                self._lost_at = now
        return result

    def next_event(self) -> Any:
        """What happened next; None if nothing did."""
        event = super().next_event()
        if isinstance(event, events.StreamDataReceived):
            self.opened = True
        return event

    def _normalize_address(self, addr: Any) -> Any:
        # qh3 takes the interface of a link-local host as the last item alone.
        return (addr[0].partition("%")[0], *addr[1:])

    @property
    def loss(self) -> float:
        """The share of packets lost since the first of the last losses."""
        if not self._losses:
            return 0.0
        sent, lost = self._losses[0]
        return (self._lost - lost) / (self._sent - sent) if self._sent > sent else 0.0

    def judge(self) -> str:
        """Why this core does badly on this path; nothing while it does not."""
        if self._near or self._core is None or len(self._losses) <= LOSSES:
            return ""
        between = (self._losses[-1][0] - self._losses[0][0]) / LOSSES
        rate = 1.22 * DATAGRAM_BYTES * math.sqrt(between) / (self._core.smoothed_rtt or math.inf)
        if rate >= WORTH:
            return ""
        return f"the path loses {self.loss:.1%} of the packets: the other QUIC core takes over"
