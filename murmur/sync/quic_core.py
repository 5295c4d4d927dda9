"""QuicCore: what two QUIC libraries without I/O do differently, behind one Protocol.

    quic.py          one UDP socket, routes, limits, events: the same for both
    quic_aioquic.py  aioquic, in Python: there always; paces at the rate that the path delivers
    quic_qh3.py      qh3, in Rust: `pip install 'murmurdb[fast]'`; many times as fast on good paths

A connection of either has the same verbs (connect, datagrams_to_send, next_event, get_timer,
handle_timer, send_stream_data, close). The rest is here.

Both speak QUIC, but the fast core is used only where both ends have it. Nodes tell each other in
HELLO (quic_offer.py); a node that is known to have it is dialed at `fast:host:port`, which is the
same port, with version 2 of the protocol (RFC 9369), and the version of the first packet tells the
acceptor which core is meant. Everything else is version 1.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

from murmur.errors import InvalidInput
from murmur.sync.transport import is_loopback

ALPN = "murmur/1"
STREAM = 1  # bidirectional, opened by the acceptor
CID_BYTES = 8
DATAGRAM_BYTES = 1200
LARGE_DATAGRAM_BYTES = 1452  # with the heads of IPv6 and UDP an Ethernet frame
LOOPBACK_DATAGRAM_BYTES = 16_000
WINDOW_BYTES = 1 << 20  # to begin with
RECEIVE_BYTES = 16 << 20
IDLE_S = 30.0
VERSION_1, VERSION_2 = 0x00000001, 0x6B3343CF


class QuicCore(Protocol):
    """A library's connections, as the endpoint needs them."""

    events: ModuleType  # the classes of what `next_event` returns
    scheme: str  # of the addresses that it is dialed at
    version: int  # of its first packet

    def connection(
        self,
        host: str,
        *,
        dialed: bool,
        original_cid: bytes | None = None,
        retry_cid: bytes | None = None,
    ) -> Any:
        """A connection with a numeric host; an acceptor's has the ids of the first packet."""
        ...

    def receive(self, connection: Any, batch: Sequence[bytes], address: Any, now: float) -> None:
        """Hand datagrams that came together to their connection."""
        ...

    def established(self, connection: Any) -> None:
        """The handshake is complete."""
        ...

    def adjust(self, connection: Any) -> str:
        """Before it speaks: fit datagrams to the path; why the core is no good for it, or ""."""
        ...

    def peer_key(self, connection: Any) -> bytes | None:
        """The key with which the acceptor's certificate was proven to be its own."""
        ...

    def can_write(self, connection: Any, *, dialed: bool) -> bool:
        """Whether the stream takes bytes."""
        ...

    def waiting(self, connection: Any) -> int:
        """Bytes that wait to be sent."""
        ...

    def held(self, connection: Any) -> int:
        """Bytes that were received and wait for a gap to be filled; too many for what is wrong."""
        ...

    def loss(self, connection: Any) -> float | None:
        """The share of sent packets, or bytes, that is lost lately."""
        ...


def is_near(host: str) -> bool:
    """Whether datagrams larger than a network's pass between this node and a numeric host."""
    return is_loopback(host) and LOOPBACK_DATAGRAM_BYTES > DATAGRAM_BYTES


def has_fast_core() -> bool:
    """Whether qh3 is installed; this does not load it."""
    return importlib.util.find_spec("qh3") is not None


def check_fast(fast: bool | None) -> bool:
    """Whether to use the fast core; InvalidInput where it is asked for and not installed."""
    if fast is not None and type(fast) is not bool:
        raise InvalidInput(f"fast: {fast!r} is not True, False or None")
    if fast and not has_fast_core():
        raise InvalidInput(
            "fast: the faster QUIC core is not installed; pip install 'murmurdb[fast]', or leave "
            "the option out to use it where it is"
        )
    return has_fast_core() if fast is None else fast
