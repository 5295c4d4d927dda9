"""TLS 1.3 over TCP: where UDP does not pass, under the same keys as over QUIC.

    tcp:192.0.2.7:4040

The acceptor's certificate holds its key, and the handshake proves that it has it: `peer_id`. No
authority is asked, sessions are not resumed, and the dialer proves itself in the conversation.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from murmur.sync.identity import Identity, certificate_key
from murmur.sync.streams import BACKLOG, StreamLink, StreamTransport
from murmur.sync.transport import TCP, join_address, own_addresses, split_address

ALPN = "murmur/1"


class TlsTransport(StreamTransport):
    """The TCP socket that listens, and the connections."""

    def __init__(self, listen: str, identity: Identity, *, last_port: int = 0) -> None:
        """Listen on "host:port". Port 0 means any: the last one if it is free."""
        host, port = split_address(listen)
        listener = _listen(host, port, last_port)
        try:
            self._server = context(identity, ssl.PROTOCOL_TLS_SERVER)
            self._client = context(identity, ssl.PROTOCOL_TLS_CLIENT)
            super().__init__(listener)
        except BaseException:
            listener.close()
            raise
        self._family = listener.family
        self.port: int = listener.getsockname()[1]
        self._own = tuple(TCP + address for address in own_addresses(listener))

    @property
    def addresses(self) -> Sequence[str]:
        """Where this node can be dialed."""
        return self._own

    def ways(self, node_id: bytes, addresses: Sequence[str]) -> Sequence[str]:
        """The addresses that are of this kind."""
        return [address for address in addresses if address.startswith(TCP)]

    def dial(self, address: str, now: float) -> StreamLink:
        """Begin to connect with a numeric address."""
        host, port = split_address(address.removeprefix(TCP))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(0)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(BlockingIOError):  # then it is under way
                plain.connect((host, port))
        except BaseException:
            plain.close()
            raise
        return self._add(StreamLink(self, plain, address, dialed=True))

    def _accepted(self, connection: socket.socket, deadline: float) -> StreamLink | None:
        try:
            host, port = connection.getpeername()[:2]
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            return None  # it has gone
        address = TCP + join_address(host, port)
        return StreamLink(self, connection, address, dialed=False, deadline=deadline)

    def _handshake(self, link: StreamLink) -> None:
        if not isinstance(link.socket, ssl.SSLSocket):
            # Once it is connected; the descriptor stays the same.
            own = self._client if link.dialed else self._server
            link.socket = own.wrap_socket(
                link.socket, server_side=not link.dialed, do_handshake_on_connect=False
            )
        wrapped = link.socket
        wrapped.do_handshake()
        if wrapped.selected_alpn_protocol() != ALPN:
            raise ConnectionError("the other side speaks another protocol")
        if link.dialed:
            link.peer_id = key_of(wrapped.getpeercert(binary_form=True))


def key_of(certificate: bytes | None) -> bytes | None:
    """The node id that a certificate shows; None if it shows none."""
    from cryptography import x509

    if certificate is None:
        return None
    try:
        return certificate_key(x509.load_der_x509_certificate(certificate))
    except ValueError:
        return None  # no certificate that can be read: nobody's key


def context(identity: Identity, protocol: int) -> ssl.SSLContext:
    """TLS 1.3 with this node's key, for one side (ssl.PROTOCOL_TLS_SERVER or _CLIENT)."""
    result = ssl.SSLContext(protocol)
    result.minimum_version = ssl.TLSVersion.TLSv1_3
    result.check_hostname = False
    result.verify_mode = ssl.CERT_NONE  # peer_id is compared instead
    result.set_alpn_protocols([ALPN])
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        result.num_tickets = 0
        _load(result, identity)
    return result


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    """Hand over key and certificate, which `ssl` takes from a file only (mode 0600, removed)."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor, path = tempfile.mkstemp(prefix="murmur-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + identity.certificate().public_bytes(Encoding.PEM))
        context.load_cert_chain(path)
    finally:
        os.unlink(path)


def _listen(host: str, port: int, last_port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(0)
        try:
            listener.bind((found[0], port or last_port, *found[2:]))
        except OSError:
            if port or not last_port:
                raise
            listener.bind(found)  # somebody else has it now
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
