"""QUIC: one UDP socket that dials and accepts, over aioquic's sans-I/O connections.

    datagram -> connection id -> QuicLink -> stream 1, which the acceptor opens -> Data

The socket is drained, then every connection that was touched speaks once: acknowledgements and data
of a whole batch leave together. The acceptor opens the stream as it speaks first (CHALLENGE).

TLS proves to the dialer which key the acceptor holds: `link.peer_id`, from the certificate that the
handshake was signed with. Nothing else in the certificate is believed: no authority is asked.
Sessions are not resumed and nothing is sent before the handshake is complete (no 0-RTT).

Datagrams have 1200 bytes until the handshake is done, which every path carries, then 1452, which
nearly every one does: if none of the first large ones arrives, they stay small. Over loopback they
have 16,000: most of what a datagram costs is the same for all sizes. aioquic frames hold at most
16,383 bytes of a stream. Where a network lies between, packets are sent at the rate that it
delivers (rate_control.py); the system gets and gives many at once (datagrams.py).

Invariants:
    1. A connection that uses any other stream, or keeps more than RECEIVE_BYTES waiting for a gap
       to be filled, is closed: aioquic raises its own limits as often as they are reached.
    2. Beyond HALF_OPEN_FREE unfinished handshakes a dialer proves its address first (Retry). One
       address has at most PER_HOST_MOST connections that it dialed.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from aioquic.buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from murmur.sync import rate_control
from murmur.sync.datagrams import Datagrams
from murmur.sync.identity import Identity, certificate_key
from murmur.sync.transport import (
    LINK_BYTES,
    Data,
    Down,
    TransportEvent,
    Up,
    join_address,
    own_addresses,
    scheme_of,
    split_address,
)

ALPN = "murmur/1"
STREAM = 1  # bidirectional, opened by the acceptor
CID_BYTES = 8
DATAGRAM_BYTES = 1200
LARGE_DATAGRAM_BYTES = 1452  # with the heads of IPv6 and UDP an Ethernet frame
LARGE_LOST_MOST = 8  # in a row: the path does not carry them
LOOPBACK_DATAGRAM_BYTES = 16_000
WINDOW_BYTES = 1 << 20  # to begin with; aioquic doubles it as data arrives
RECEIVE_BYTES = 16 << 20
IDLE_S = 30.0
MAX_BATCH = 256  # datagrams taken in before answers go out
HALF_OPEN_FREE = 32
HALF_OPEN_MOST = 256
PER_HOST_MOST = 128

log = logging.getLogger("murmur.sync")

_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EPERM, errno.EACCES)


class QuicLink:
    """One connection and its one stream."""

    __slots__ = (
        "_transport",
        "address",
        "closing",
        "connection",
        "dialed",
        "host",
        "peer_id",
        "timer",
        "up",
    )

    def __init__(
        self,
        transport: QuicTransport,
        connection: QuicConnection,
        address: str,
        *,
        dialed: bool,
        host: str = "",
    ) -> None:
        self.host = host  # that dialed
        self.connection = connection
        self.address = address
        self.dialed = dialed
        self.peer_id: bytes | None = None
        self.up = False
        self.closing: str | None = None
        self.timer: float | None = None
        self._transport = transport

    @property
    def loss(self) -> float | None:
        """As the congestion controller sees it."""
        return getattr(self.connection._loss._cc, "loss", None)

    @property
    def room(self) -> int:
        """How much more may wait to be sent for the first time, or again."""
        stream = self.connection._streams.get(STREAM)
        if stream is None:
            return LINK_BYTES
        waiting: int = sum(part.stop - part.start for part in stream.sender._pending)
        return LINK_BYTES - waiting

    def write(self, data: bytes) -> None:
        """Queue bytes; they leave at the next flush."""
        # A dialer that gives up before the acceptor opened the stream has nothing to say it on.
        opened = not self.dialed or STREAM in self.connection._streams
        if self.up and self.closing is None and opened:
            self.connection.send_stream_data(STREAM, data)
            self._transport.touch(self)

    def close(self, reason: str) -> None:
        """Send what was written, as far as the path takes it at once, then end."""
        if self.closing is None:
            self.closing = reason
            self._transport.touch(self)


class QuicTransport:
    """The node's UDP socket and the connections over it."""

    def __init__(self, listen: str, identity: Identity, *, last_port: int = 0) -> None:
        """Bind to "host:port". Port 0 means any: the last one if free, so that tickets last."""
        host, port = split_address(listen)
        self._socket = _bind(host, port, last_port)
        self._datagrams = Datagrams(self._socket)
        self.port: int = self._socket.getsockname()[1]
        self._host = host
        certificate = identity.certificate()
        self._configurations = {
            (dialed, size): QuicConfiguration(
                alpn_protocols=[ALPN],
                certificate=certificate,
                private_key=identity.private_key,
                congestion_control_algorithm="reno" if size > DATAGRAM_BYTES else rate_control.NAME,
                connection_id_length=CID_BYTES,
                idle_timeout=IDLE_S,
                is_client=dialed,
                max_data=WINDOW_BYTES,
                max_stream_data=WINDOW_BYTES,
                max_datagram_size=size,
                server_name="murmur" if dialed else None,
                verify_mode=ssl.CERT_NONE,  # peer_id is compared instead
            )
            for dialed in (True, False)
            for size in (DATAGRAM_BYTES, LOOPBACK_DATAGRAM_BYTES)
        }
        self._retry = QuicRetryTokenHandler()
        self._routes: dict[bytes, QuicLink] = {}
        self._links: set[QuicLink] = set()
        self._touched: set[QuicLink] = set()
        self._failed: list[tuple[QuicLink, str]] = []

    @property
    def addresses(self) -> Sequence[str]:
        """Where this node can be dialed."""
        return own_addresses(self._socket)

    def ways(self, node_id: bytes, addresses: Sequence[str]) -> Sequence[str]:
        """The addresses that are of this kind."""
        return [address for address in addresses if not scheme_of(address)]

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def touch(self, link: QuicLink) -> None:
        """The link has something to send."""
        self._touched.add(link)

    def dial(self, address: str, now: float) -> QuicLink:
        """Begin a handshake with a numeric address."""
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if family != self._socket.family:
            mine = "IPv6" if self._socket.family == socket.AF_INET6 else "IPv4"
            raise OSError(errno.EAFNOSUPPORT, f"this node listens on {mine} ({self._host}) only")
        target = self._socket_address(host, port)
        connection = QuicConnection(configuration=self._configuration(host, dialed=True))
        link = QuicLink(self, connection, join_address(host, port), dialed=True)
        self._links.add(link)
        self._routes[connection.host_cid] = link
        connection.connect(target, now)
        self.touch(link)
        return link

    def poll(self, now: float) -> list[TransportEvent]:
        """Take in datagrams and let timers fire."""
        heard: set[QuicLink] = set()
        taken = 0
        while taken < MAX_BATCH:
            try:
                batch, address = self._datagrams.receive()
            except BlockingIOError:
                break
            except ConnectionError:
                taken += 1
                continue  # a port somewhere is closed; timeouts will tell which
            taken += len(batch)
            for data in batch:
                self._receive(data, address, now, heard)
        for link in self._links:
            if link.timer is not None and link.timer <= now:
                link.connection.handle_timer(now)
                heard.add(link)
        self._touched |= heard
        result: list[TransportEvent] = []
        for link, reason in self._failed:
            if link in self._links:
                self._forget(link)
                heard.discard(link)
                result.append(Down(link, reason))
        self._failed.clear()
        for link in heard:
            self._events(link, result)
        return result

    def flush(self, now: float) -> None:
        """Let every touched connection speak once."""
        touched, self._touched = self._touched, set()
        for link in touched:
            connection = link.connection
            _fit(connection)
            self._transmit(link, now)
            if link.closing is not None:
                connection.close(reason_phrase=link.closing[:80])
                self._transmit(link, now)
            link.timer = connection.get_timer()
        for link, error in self._datagrams.send():
            # An established connection outlives a network that goes away for a moment.
            if link is not None and not link.up and error.errno in _UNREACHABLE:
                self._failed.append((link, self._why(error)))

    def next_timer(self) -> float | None:
        """When `poll` is due."""
        timers = [link.timer for link in self._links if link.timer is not None]
        if len(self._datagrams) or self._failed:
            timers.append(0.0)
        return min(timers, default=None)

    def close(self, now: float) -> None:
        """End all connections without waiting for their peers, and close the socket."""
        for link in list(self._links):
            link.close("the node closes")
        self.flush(now)
        self._links.clear()
        self._routes.clear()
        self._datagrams.close()

    # -- datagrams

    def _receive(self, data: bytes, address: Any, now: float, heard: set[QuicLink]) -> None:
        """Hand a datagram to its connection."""
        link = self._route(data, address, now)
        if link is None:
            return
        heard.add(link)
        try:
            link.connection.receive_datagram(data, address, now)
        except Exception as error:
            # Whatever a datagram trips over in the library ends its link, not the node.
            log.warning("QUIC with %s failed", link.address, exc_info=error)
            self._failed.append((link, f"{type(error).__name__}: {error}"))

    def _configuration(self, host: str, *, dialed: bool) -> QuicConfiguration:
        loopback = ipaddress.ip_address(host.partition("%")[0]).is_loopback
        return self._configurations[dialed, LOOPBACK_DATAGRAM_BYTES if loopback else DATAGRAM_BYTES]

    def _socket_address(self, host: str, port: int) -> Any:
        # In the form that recvfrom reports, since aioquic compares addresses.
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)[0][4]

    def _route(self, data: bytes, address: Any, now: float) -> QuicLink | None:
        """The connection that a datagram belongs to; perhaps a new one."""
        if not data:
            return None
        if not data[0] & 0x80:  # a short header: the id follows
            return self._routes.get(data[1 : 1 + CID_BYTES])
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CID_BYTES)
        except ValueError:
            return None
        link = self._routes.get(header.destination_cid)
        if link is not None:
            return link
        versions = self._configurations[False, DATAGRAM_BYTES].supported_versions
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return None
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        if header.version is not None and header.version not in versions:
            answer = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=versions,
            )
            self._send(None, answer, address)
            return None
        if header.packet_type is not QuicPacketType.INITIAL:
            return None
        return self._accept(header, address, now)

    def _accept(self, header: Any, address: Any, now: float) -> QuicLink | None:
        half_open = sum(not link.up and not link.dialed for link in self._links)
        original, retry_cid = header.destination_cid, None
        host = str(address[0])
        present = sum(link.host == host and not link.dialed for link in self._links)
        if half_open >= HALF_OPEN_MOST or present >= PER_HOST_MOST:
            return None
        if half_open >= HALF_OPEN_FREE:
            if not header.token:
                self._ask_to_retry(header, address, now)
                return None
            try:
                original = self._retry.validate_token(
                    address=address,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=now,
                )
            except ValueError:
                return None
            retry_cid = header.destination_cid
        connection = QuicConnection(
            configuration=self._configuration(address[0], dialed=False),
            original_destination_connection_id=original,
            retry_source_connection_id=retry_cid,
        )
        link = QuicLink(self, connection, join_address(*address[:2]), dialed=False, host=host)
        self._links.add(link)
        self._routes[header.destination_cid] = link
        self._routes[connection.host_cid] = link
        return link

    def _ask_to_retry(self, header: Any, address: Any, now: float) -> None:
        source_cid = os.urandom(CID_BYTES)
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source_cid,
            now=now,
        )
        answer = encode_quic_retry(
            version=header.version,
            source_cid=source_cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self._send(None, answer, address)

    def _transmit(self, link: QuicLink, now: float) -> None:
        for datagram, address in link.connection.datagrams_to_send(now):
            self._send(link, datagram, address)

    def _send(self, link: QuicLink | None, datagram: bytes, address: Any) -> None:
        self._datagrams.put(link, datagram, address)

    def _why(self, error: OSError) -> str:
        if ipaddress.ip_address(self._socket.getsockname()[0]).is_loopback:
            return f"this node listens on {self._host}, which only reaches this host"
        return error.strerror or str(error)

    # -- events

    def _events(self, link: QuicLink, result: list[TransportEvent]) -> None:
        connection = link.connection
        chunks: list[bytes] = []
        event = connection.next_event()
        while event is not None:
            match event:
                case events.StreamDataReceived(stream_id=stream, data=data) if stream == STREAM:
                    chunks.append(data)
                case events.StreamDataReceived() | events.StreamReset():
                    link.close("only one stream is used")
                case events.HandshakeCompleted():
                    self._established(link, result)
                case events.ConnectionIdIssued(connection_id=cid):
                    self._routes[cid] = link
                case events.ConnectionIdRetired(connection_id=cid):
                    self._routes.pop(cid, None)
                case events.ConnectionTerminated(reason_phrase=reason, error_code=code):
                    if chunks and link.closing is None:
                        result.append(Data(link, b"".join(chunks)))
                        chunks = []
                    if link.closing is None:
                        result.append(Down(link, reason or f"QUIC error {code:#x}"))
                    self._forget(link)
            event = connection.next_event()
        if chunks and link.closing is None:
            result.append(Data(link, b"".join(chunks)))
        if link.closing is None and _held(connection) > RECEIVE_BYTES:
            link.close("more is held than was allowed")
            result.append(Down(link, "the peer broke QUIC's flow control"))

    def _established(self, link: QuicLink, result: list[TransportEvent]) -> None:
        if link.dialed:
            # aioquic has verified that the handshake was signed with this certificate's key.
            certificate = link.connection.tls._peer_certificate
            link.peer_id = certificate_key(certificate) if certificate is not None else None
        link.up = True
        if link.connection._max_datagram_size == DATAGRAM_BYTES:
            _resize(link.connection, LARGE_DATAGRAM_BYTES)
        result.append(Up(link))

    def _forget(self, link: QuicLink) -> None:
        self._links.discard(link)
        self._touched.discard(link)
        for cid in [cid for cid, owner in self._routes.items() if owner is link]:
            del self._routes[cid]


def _fit(connection: QuicConnection) -> None:
    """Go back to small datagrams where large ones do not arrive."""
    if connection._max_datagram_size != LARGE_DATAGRAM_BYTES:
        return
    # Only this controller is used where a network lies between.
    if connection._loss._cc.large_lost >= LARGE_LOST_MOST:
        _resize(connection, DATAGRAM_BYTES)


def _resize(connection: QuicConnection, size: int) -> None:
    connection._max_datagram_size = connection._loss._pacer._max_datagram_size = size


def _held(connection: QuicConnection) -> int:
    """Bytes that wait for a gap to be filled; a stream that is not ours counts as too many."""
    streams = connection._streams
    if len(streams) > 1 or (streams and STREAM not in streams):
        return RECEIVE_BYTES + 1
    stream = streams.get(STREAM)
    if stream is None:
        return 0
    held: int = stream.receiver.highest_offset - stream.receiver.starting_offset()
    return held


def _bind(host: str, port: int, last_port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)[0][4]
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.settimeout(0)
        if port == 0 and last_port:
            try:
                bound.bind((found[0], last_port, *found[2:]))
            except OSError:
                bound.bind(found)  # somebody else has it now
        else:
            bound.bind(found)
    except BaseException:
        bound.close()
        raise
    return bound
