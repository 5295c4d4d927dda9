"""Links over stream sockets: what TLS over TCP and Unix-domain sockets have in common.

    connect or accept -> handshake() until it is done -> Up -> bytes -> Down

Every socket stands in one selector, whose descriptor is the transport's. A link waits for room to
write only while the system has taken no more.

Invariants:
    1. At most HALF_OPEN_MOST accepted links have an unfinished handshake, none for longer than
       HANDSHAKE_S.
    2. A link that was closed here brings no more events.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import struct
import sys
from abc import ABC, abstractmethod
from collections import deque
from itertools import islice

from murmur.sync.transport import LINK_BYTES, Data, Down, TransportEvent, Up

READ_BYTES = 128 << 10  # asked of the system at once
WRITE_BYTES = 64 << 10  # small writes are joined up to here, where the system takes one at a time
WRITE_BUFFERS = 64  # given to the system at once, where it takes several
# Taken from one link before others have their turn. Where a megabyte is taken and dropped at a
# time, the allocator returns it to the system, and the next comes on fresh pages.
POLL_BYTES = 512 << 10
HALF_OPEN_MOST = 256
HANDSHAKE_S = 10.0
BACKLOG = 64

# Linux's struct tcp_info (linux/tcp.h): tcpi_total_retrans, and tcpi_data_segs_out 52 bytes on.
_TCP_INFO_BYTES = 160
_RETRANSMITTED_AND_SENT = struct.Struct("=100xI52xI")

_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class StreamLink:
    """One connected socket, or one that may become so."""

    __slots__ = (
        "_transport",
        "address",
        "closing",
        "deadline",
        "dialed",
        "interest",
        "peer_id",
        "pending",
        "pending_bytes",
        "socket",
        "up",
    )

    def __init__(
        self,
        transport: StreamTransport,
        connected: socket.socket,
        address: str,
        *,
        dialed: bool,
        peer_id: bytes | None = None,
        deadline: float | None = None,
    ) -> None:
        self.socket = connected
        self.address = address
        self.dialed = dialed
        self.peer_id = peer_id
        self.deadline = deadline  # for the handshake of an accepted link
        self.up = False
        self.closing: str | None = None
        self.interest = 0  # what the selector watches for
        self.pending: deque[bytes | memoryview] = deque()
        self.pending_bytes = 0
        self._transport = transport

    @property
    def loss(self) -> float | None:
        """The share of segments that the system has sent again; None where it does not say."""
        return _sent_again(self.socket)

    @property
    def room(self) -> int:
        """How much more may wait for the system to take it."""
        return LINK_BYTES - self.pending_bytes

    def write(self, data: bytes) -> None:
        """Queue bytes; they leave at the next flush."""
        if self.up and self.closing is None and data:
            self.pending.append(data)
            self.pending_bytes += len(data)
            self._transport.touch(self)

    def close(self, reason: str) -> None:
        """Send what was written, as far as the system takes it at once, then end."""
        if self.closing is None:
            self.closing = reason
            self._transport.touch(self)


def _sent_again(connection: socket.socket) -> float | None:
    if connection.family == getattr(socket, "AF_UNIX", None):
        return 0.0
    if sys.platform != "linux":
        return None
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None  # it is closed
    if len(told) < _RETRANSMITTED_AND_SENT.size:
        return None  # an older kernel's
    again, sent = _RETRANSMITTED_AND_SENT.unpack_from(told)
    return again / sent if sent else 0.0


class StreamTransport(ABC):
    """The sockets of one kind: perhaps one that listens, and the links."""

    def __init__(self, listener: socket.socket | None) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._links: set[StreamLink] = set()
        self._touched: set[StreamLink] = set()
        self._unread: set[StreamLink] = set()  # the poll ended before they did
        self._failed: list[tuple[StreamLink, str]] = []
        if listener is not None:
            self._selector.register(listener, selectors.EVENT_READ)

    # -- what the kinds differ in

    @abstractmethod
    def _accepted(self, connection: socket.socket, deadline: float) -> StreamLink | None:
        """A link for a connection that came in; None if it is not let in."""

    @abstractmethod
    def _handshake(self, link: StreamLink) -> None:
        """Go on until the link is up; raises what its socket raises while it has to wait."""

    # -- Transport

    def fileno(self) -> int:
        """A descriptor that is readable when any socket has something to do."""
        return self._selector.fileno()

    def touch(self, link: StreamLink) -> None:
        """The link has something to send."""
        self._touched.add(link)

    def poll(self, now: float) -> list[TransportEvent]:
        """Accept, go on with handshakes, and read."""
        result: list[TransportEvent] = []
        ready, self._unread = self._unread, set()
        for key, _ in self._selector.select(0):
            if key.data is None:
                self._accept(now)
            else:
                ready.add(key.data)
        for link in ready:
            if link in self._links:
                self._advance(link, result)
        for link in [link for link in self._links if (link.deadline or now) < now]:
            self._end(link, "the handshake took too long", result)
        failed, self._failed = self._failed, []
        for link, reason in failed:
            if link in self._links:
                self._end(link, reason, result)
        return result

    def flush(self, now: float) -> None:
        """Write what the system takes."""
        touched, self._touched = self._touched, set()
        for link in touched:
            if link not in self._links:
                continue
            if link.up:
                try:
                    self._write(link)
                except OSError as error:
                    self._failed.append((link, _reason(error)))
            if link.closing is not None:
                self._forget(link)
            else:
                self._watch(link)

    def next_timer(self) -> float | None:
        """When `poll` is due."""
        if self._unread or self._failed:
            return 0.0
        return min((link.deadline for link in self._links if link.deadline), default=None)

    def close(self, now: float) -> None:
        """End all links and stop listening."""
        for link in list(self._links):
            link.close("the node closes")
        self.flush(now)
        if self._listener is not None:
            self._listener.close()
        self._selector.close()

    # -- inside

    def _add(self, link: StreamLink) -> StreamLink:
        self._links.add(link)
        self._selector.register(link.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, link)
        link.interest = selectors.EVENT_READ | selectors.EVENT_WRITE
        return link

    def _accept(self, now: float) -> None:
        assert self._listener is not None
        for _ in range(BACKLOG):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    return  # who waits is let in when there is room again
                continue  # it was gone before it was accepted
            if sum(link.deadline is not None for link in self._links) >= HALF_OPEN_MOST:
                connection.close()
                continue
            connection.settimeout(0)
            link = self._accepted(connection, now + HANDSHAKE_S)
            if link is None:
                connection.close()
            else:
                self._add(link)

    def _advance(self, link: StreamLink, result: list[TransportEvent]) -> None:
        """Do what the socket is ready for."""
        try:
            if not link.up:
                refused = link.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if refused:
                    raise OSError(refused, os.strerror(refused))
                self._handshake(link)
                link.up, link.deadline = True, None
                if link.closing is None:
                    result.append(Up(link))
            if link.pending:
                self._touched.add(link)
            self._read(link, result)
        except ssl.SSLWantWriteError:
            self._watch(link, selectors.EVENT_READ | selectors.EVENT_WRITE)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._watch(link)
        except OSError as error:
            self._end(link, _reason(error), result)

    def _read(self, link: StreamLink, result: list[TransportEvent]) -> None:
        size = 0
        plain = not isinstance(link.socket, ssl.SSLSocket)
        while size < POLL_BYTES:
            chunk = link.socket.recv(READ_BYTES)
            if not chunk:
                raise ConnectionError("the peer ended the connection")
            size += len(chunk)
            if link.closing is None:
                result.append(Data(link, chunk))
            if plain and len(chunk) < READ_BYTES:
                return  # that was all; the selector tells of what comes later
        # A TLS socket may hold bytes that no selector tells of.
        self._unread.add(link)

    def _write(self, link: StreamLink) -> None:
        pending = link.pending
        several = not isinstance(link.socket, ssl.SSLSocket)
        try:
            while pending:
                if several:
                    sent = link.socket.sendmsg(islice(pending, WRITE_BUFFERS))
                else:
                    if len(pending) > 1 and len(pending[0]) < WRITE_BYTES // 2:
                        _gather(pending)
                    sent = link.socket.send(pending[0])
                if sent == link.pending_bytes:
                    link.pending_bytes = 0
                    pending.clear()
                    return
                link.pending_bytes -= sent
                while sent and sent >= len(pending[0]):
                    sent -= len(pending.popleft())
                if sent:
                    pending[0] = memoryview(pending[0])[sent:]
        except _LATER:
            return

    def _watch(self, link: StreamLink, interest: int = 0) -> None:
        wanted = interest or selectors.EVENT_READ | (selectors.EVENT_WRITE if link.pending else 0)
        if wanted != link.interest:
            link.interest = wanted
            self._selector.modify(link.socket, wanted, link)

    def _end(self, link: StreamLink, reason: str, result: list[TransportEvent]) -> None:
        told = link.closing is not None
        self._forget(link)
        if not told and (link.up or link.dialed):
            result.append(Down(link, reason))

    def _forget(self, link: StreamLink) -> None:
        self._links.discard(link)
        self._touched.discard(link)
        self._unread.discard(link)
        self._selector.unregister(link.socket)
        link.closing = link.closing or "ended"
        try:
            link.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is not connected any more
        finally:
            link.socket.close()


def _gather(pending: deque[bytes | memoryview]) -> None:
    """Join small writes: each call of the system costs more than the copy."""
    parts: list[bytes | memoryview] = []
    size = 0
    while pending and size + len(pending[0]) <= WRITE_BYTES:
        size += len(pending[0])
        parts.append(pending.popleft())
    pending.appendleft(b"".join(parts))


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
