"""QUIC: one UDP socket that dials and accepts, over connections without I/O (quic_core.py).

    datagram -> connection id -> QuicLink -> stream 1, which the acceptor opens -> Data

The socket is drained, then every connection that was touched speaks once: acknowledgements and data
of a whole batch leave together. The acceptor opens the stream as it speaks first (CHALLENGE). The
system gets and gives many datagrams at once (datagrams.py).

TLS proves to the dialer which key the acceptor holds: `link.peer_id`, from the certificate that the
handshake was signed with. Nothing else in the certificate is believed: no authority is asked.
Sessions are not resumed and nothing is sent before the handshake is complete (no 0-RTT).

A core that says that it does badly on a path (`adjust`) ends its link with LOSSY. For LOSSY_S both
ends do without that core between the two hosts; the other one is dialed at once (scout.py).

Invariants:
    1. A connection that uses any other stream, or keeps more than RECEIVE_BYTES waiting for a gap
       to be filled, is closed, whatever limits its library keeps.
    2. Beyond HALF_OPEN_FREE unfinished handshakes a dialer proves its address first (Retry). One
       address has at most PER_HOST_MOST connections that it dialed.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aioquic.buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import (
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from murmur.sync.datagrams import Datagrams
from murmur.sync.identity import Identity
from murmur.sync.quic_aioquic import AioquicCore
from murmur.sync.quic_core import CID_BYTES, RECEIVE_BYTES, STREAM, VERSION_1, QuicCore
from murmur.sync.transport import (
    FAST,
    LINK_BYTES,
    Data,
    Down,
    TransportEvent,
    Up,
    is_loopback,
    join_address,
    own_addresses,
    scheme_of,
    split_address,
)

MAX_BATCH = 256  # datagrams taken in before answers go out
HALF_OPEN_FREE = 32
HALF_OPEN_MOST = 256
PER_HOST_MOST = 128
LOSSY = 0x6D01  # the code with which a core gives up a path
LOSSY_S = 600.0
LOSSY_HOSTS_MOST = 1024

log = logging.getLogger("murmur.sync")

_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EPERM, errno.EACCES)


class QuicLink:
    """One connection and its one stream."""

    __slots__ = (
        "_transport",
        "address",
        "closing",
        "code",
        "connection",
        "core",
        "dialed",
        "host",
        "peer_id",
        "timer",
        "up",
    )

    def __init__(
        self,
        transport: QuicTransport,
        core: QuicCore,
        connection: Any,
        address: str,
        *,
        dialed: bool,
        host: str,
    ) -> None:
        self.host = host  # the other side's
        self.core = core
        self.connection = connection
        self.address = address
        self.dialed = dialed
        self.peer_id: bytes | None = None
        self.up = False
        self.closing: str | None = None
        self.code = 0  # with which it closes
        self.timer: float | None = None
        self._transport = transport

    @property
    def loss(self) -> float | None:
        """As the core sees it."""
        return self.core.loss(self.connection)

    @property
    def room(self) -> int:
        """How much more may wait to be sent."""
        return LINK_BYTES - self.core.waiting(self.connection)

    def write(self, data: bytes) -> None:
        """Queue bytes; they leave at the next flush."""
        # A dialer that gives up before the acceptor opened the stream has nothing to say it on.
        opened = self.core.can_write(self.connection, dialed=self.dialed)
        if self.up and self.closing is None and opened:
            with self._transport.containing(self):
                self.connection.send_stream_data(STREAM, data)
            self._transport.touch(self)

    def close(self, reason: str) -> None:
        """Send what was written, as far as the path takes it at once, then end."""
        if self.closing is None:
            self.closing = reason
            self._transport.touch(self)


class QuicTransport:
    """The node's UDP socket and the connections over it."""

    def __init__(
        self, listen: str, identity: Identity, *, last_port: int = 0, fast: bool = False
    ) -> None:
        """Bind to "host:port". Port 0 means any: the last one if free, so that tickets last.

        `fast`: also have the core of qh3, for peers that have it too.
        """
        host, port = split_address(listen)
        cores: list[QuicCore] = [AioquicCore(identity)]
        if fast:
            from murmur.sync.quic_qh3 import Qh3Core  # qh3 is there only if it was installed

            cores.append(Qh3Core(identity))
        self.fast_peers: set[bytes] = set()  # as far as is known (quic_offer.py)
        self._cores = {core.scheme: core for core in cores}
        self._versions = {core.version: core for core in cores}
        self._socket = _bind(host, port, last_port)
        self._datagrams = Datagrams(self._socket)
        self.port: int = self._socket.getsockname()[1]
        self._host = host
        self._retry = QuicRetryTokenHandler()
        self._routes: dict[bytes, QuicLink] = {}
        self._links: set[QuicLink] = set()
        self._touched: set[QuicLink] = set()
        self._failed: list[tuple[QuicLink, str]] = []
        self._lossy: dict[str, float] = {}  # until when the fast core is not used with a host

    @property
    def addresses(self) -> Sequence[str]:
        """Where this node can be dialed."""
        return own_addresses(self._socket)

    def ways(self, node_id: bytes, addresses: Sequence[str]) -> Sequence[str]:
        """The addresses that are of this kind; by the faster core first, if the node has it."""
        plain = [address for address in addresses if not scheme_of(address)]
        fast = [FAST + address for address in plain] if node_id in self.fast_peers else []
        return fast + plain

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def touch(self, link: QuicLink) -> None:
        """The link has something to send."""
        self._touched.add(link)

    @contextmanager
    def containing(self, link: QuicLink) -> Iterator[None]:
        """Whatever a peer's bytes trip over in a library ends its link, not the node."""
        try:
            yield
        except Exception as error:
            log.warning("QUIC with %s failed", link.address, exc_info=error)
            link.timer = None
            self._failed.append((link, f"{type(error).__name__}: {error}"))

    def dial(self, address: str, now: float) -> QuicLink:
        """Begin a handshake with a numeric address."""
        scheme = scheme_of(address)
        core = self._cores.get(scheme)
        if core is None:
            raise OSError(errno.EPROTONOSUPPORT, "this node does without the faster QUIC core")
        host, port = split_address(address.removeprefix(scheme))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if family != self._socket.family:
            mine = "IPv6" if self._socket.family == socket.AF_INET6 else "IPv4"
            raise OSError(errno.EAFNOSUPPORT, f"this node listens on {mine} ({self._host}) only")
        if scheme == FAST and self._lossy.get(host, 0.0) > now:
            raise OSError(errno.EHOSTUNREACH, "the path loses packets, which this core bears badly")
        target = self._socket_address(host, port)
        connection = core.connection(host, dialed=True)
        link = QuicLink(
            self, core, connection, scheme + join_address(host, port), dialed=True, host=host
        )
        connection.connect(target, now)
        self._links.add(link)
        self._routes[connection.host_cid] = link
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
            self._receive(batch, address, now, heard)
        for link in self._links:
            if link.timer is not None and link.timer <= now:
                with self.containing(link):
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
            self._events(link, now, result)
        return result

    def flush(self, now: float) -> None:
        """Let every touched connection speak once."""
        touched, self._touched = self._touched, set()
        for link in touched:
            with self.containing(link):
                self._speak(link, now)
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

    def _receive(
        self, batch: Sequence[bytes], address: Any, now: float, heard: set[QuicLink]
    ) -> None:
        """Hand datagrams from one address to their connections."""
        start = 0
        while start < len(batch):
            link = self._route(batch[start], address, now)
            stop = start + 1
            if link is not None:
                # What came together is of one connection, but for a stranger's.
                while stop < len(batch) and self._routes.get(_short_cid(batch[stop])) is link:
                    stop += 1
                heard.add(link)
                with self.containing(link):
                    link.core.receive(link.connection, batch[start:stop], address, now)
            start = stop

    def _socket_address(self, host: str, port: int) -> Any:
        # In the form that recvfrom reports, since aioquic compares addresses.
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)[0][4]

    def _route(self, data: bytes, address: Any, now: float) -> QuicLink | None:
        """The connection that a datagram belongs to; perhaps a new one."""
        if not data:
            return None
        if not data[0] & 0x80:
            return self._routes.get(_short_cid(data))
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CID_BYTES)
        except ValueError:
            return None
        link = self._routes.get(header.destination_cid)
        if link is not None:
            return link
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return None
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        if header.version is not None and header.version not in self._versions:
            answer = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=list(self._versions),
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
        core = self._versions[header.version or VERSION_1]
        connection = core.connection(host, dialed=False, original_cid=original, retry_cid=retry_cid)
        name = core.scheme + join_address(*address[:2])
        link = QuicLink(self, core, connection, name, dialed=False, host=host)
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

    def _speak(self, link: QuicLink, now: float) -> None:
        connection = link.connection
        why = link.core.adjust(connection)
        if why and link.closing is None:
            self._give_up(link, why, now)
        self._transmit(link, now)
        if link.closing is not None:
            connection.close(link.code, reason_phrase=link.closing[:80])
            self._transmit(link, now)
        link.timer = connection.get_timer()

    def _transmit(self, link: QuicLink, now: float) -> None:
        for datagram, address in link.connection.datagrams_to_send(now):
            self._send(link, datagram, address)

    def _send(self, link: QuicLink | None, datagram: bytes, address: Any) -> None:
        self._datagrams.put(link, datagram, address)

    def _why(self, error: OSError) -> str:
        if is_loopback(self._socket.getsockname()[0]):
            return f"this node listens on {self._host}, which only reaches this host"
        return error.strerror or str(error)

    # -- events

    def _events(self, link: QuicLink, now: float, result: list[TransportEvent]) -> None:
        connection, events = link.connection, link.core.events
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
                    if code == LOSSY:
                        self._remember_lossy(link.host, now)
                    self._forget(link)
            event = connection.next_event()
        if chunks and link.closing is None:
            result.append(Data(link, b"".join(chunks)))
        if link.closing is None and link.core.held(connection) > RECEIVE_BYTES:
            link.close("more is held than was allowed")
            result.append(Down(link, "the peer broke QUIC's flow control"))

    def _established(self, link: QuicLink, result: list[TransportEvent]) -> None:
        if link.dialed:
            link.peer_id = link.core.peer_key(link.connection)
        link.up = True
        link.core.established(link.connection)
        result.append(Up(link))

    def _give_up(self, link: QuicLink, why: str, now: float) -> None:
        """End a link whose core does badly on its path; another one is dialed for it."""
        self._remember_lossy(link.host, now)
        link.closing, link.code = why, LOSSY
        self._failed.append((link, why))

    def _remember_lossy(self, host: str, now: float) -> None:
        if len(self._lossy) >= LOSSY_HOSTS_MOST:
            self._lossy.pop(next(iter(self._lossy)))
        self._lossy[host] = now + LOSSY_S

    def _forget(self, link: QuicLink) -> None:
        self._links.discard(link)
        self._touched.discard(link)
        for cid in [cid for cid, owner in self._routes.items() if owner is link]:
            del self._routes[cid]


def _short_cid(data: bytes) -> bytes:
    """The id that follows a short header; nothing for a long one."""
    return b"" if data[:1] >= b"\x80" else data[1 : 1 + CID_BYTES]


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
