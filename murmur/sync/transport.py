"""Transport and Link: how bytes get from node to node.

A transport is driven by the node's loop: it never blocks, starts no thread and keeps no clock.

    ways(node, addresses)          where to dial a node, best first
    dial(address) -> Link          Up(link) or Down(link) follows
    poll(now)     -> [Event]       Up, Data, Down: what happened since
    flush(now)                     everything written to links goes out

A link is an ordered, encrypted stream in both directions. The dialer of a link knows for certain
whom it reached (`peer_id`: the key behind the certificate); the acceptor learns it in the
conversation. The twin of this Protocol, for simulations, is in tests/simulation/network.py.

    host:port         QUIC
    fast:host:port    QUIC over the faster core (quic_core.py)
    tcp:host:port     TLS over TCP
    unix:NODE ID      a socket on this host
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from murmur.errors import InvalidInput

TCP, FAST, LOCAL, RELAY = "tcp:", "fast:", "unix:", "relay:"
LINK_BYTES = 256 << 10  # that stand in a link at most, before the system or the path takes them
TRANSPORTS = ("adaptive", "local", "quic", "tcp")

Result = TypeVar("Result")


class Link(Protocol):
    """One stream to one peer."""

    address: str  # of the other side, for people and for dialing again
    dialed: bool  # by this side
    peer_id: bytes | None  # what the transport proved about the other side

    @property
    def room(self) -> int:
        """Bytes that may be written now without piling up here; none or less: wait."""
        ...

    @property
    def loss(self) -> float | None:
        """The share of sent packets that is lost lately; None where that cannot be seen."""
        ...

    def write(self, data: bytes) -> None:
        """Queue bytes; they leave at the next flush, if the link is up."""
        ...

    def close(self, reason: str) -> None:
        """Send what was written, then end; no event follows."""
        ...


@dataclass(frozen=True, slots=True)
class Up:
    """A link is ready in both directions."""

    link: Link


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes arrived, in order."""

    link: Link
    data: bytes


@dataclass(frozen=True, slots=True)
class Down:
    """A link ended, or never came up; nothing more comes from it."""

    link: Link
    reason: str


TransportEvent = Up | Data | Down


class Transport(Protocol):
    """One way of reaching peers."""

    @property
    def addresses(self) -> Sequence[str]:
        """Where this side can be dialed."""
        ...

    def fileno(self) -> int:
        """What to wait on for incoming bytes."""
        ...

    def ways(self, node_id: bytes, addresses: Sequence[str]) -> Sequence[str]:
        """Where to dial a node of whom these addresses are known, best first."""
        ...

    def dial(self, address: str, now: float) -> Link:
        """Begin to reach a peer; `address` is what its ticket says. OSError if that cannot be."""
        ...

    def poll(self, now: float) -> list[TransportEvent]:
        """Take in what arrived and let timers fire."""
        ...

    def flush(self, now: float) -> None:
        """Send what was written."""
        ...

    def next_timer(self) -> float | None:
        """When `poll` is due even if nothing arrives."""
        ...

    def close(self, now: float) -> None:
        """End all links and let go of the socket."""
        ...


class Labour(Protocol):
    """Work that may block (disk, name lookups), done elsewhere; lanes keep their order.

    `done` is called by the loop with the result or with what the work raised, and the time.
    """

    def submit(
        self,
        lane: str,
        work: Callable[[], Result],
        done: Callable[[Result | None, BaseException | None, int], None],
    ) -> None:
        """Queue the work."""
        ...


def check_transport(name: str) -> str:
    """Refuse what is no name of a transport."""
    if name not in TRANSPORTS:
        raise InvalidInput(f"transport: {name!r} is none of {', '.join(TRANSPORTS)}")
    return name


def scheme_of(address: str) -> str:
    """What stands before an address: TCP, FAST, LOCAL, RELAY, or nothing for QUIC."""
    return next((scheme for scheme in (TCP, FAST, LOCAL, RELAY) if address.startswith(scheme)), "")


def transport_of(address: str) -> str:
    """The name of the transport that an address is of."""
    names = {TCP: "tcp", LOCAL: "local", RELAY: "relay", FAST: "quic", "": "quic"}
    return names[scheme_of(address)]


def dialable(link: Link) -> tuple[str, ...]:
    """The address of a link's other side, if it can be dialed again from anywhere."""
    scheme = scheme_of(link.address)
    # One UDP socket dials and accepts; a TCP connection comes from a port of its own.
    if scheme == FAST:
        return (link.address.removeprefix(FAST),)
    return (link.address,) if scheme == "" or (scheme == TCP and link.dialed) else ()


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of "host:port" or "[host]:port"; InvalidInput for anything else."""
    if not isinstance(address, str):
        raise InvalidInput(f"address: text is needed, not {address!r}")
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bracketed else host
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    if not digits or int(port) > 65535 or not _is_host(name):
        raise InvalidInput(f"address: {address!r} is not host:port")
    return name, int(port)


def _is_host(name: str) -> bool:
    """Whether the system can be asked for it."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return name.isprintable() and not set(name) & set("[] ") and bool(name)


def join_address(host: str, port: int) -> str:
    """The text of an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a numeric host is this one."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def look_up(address: str, *, numeric: bool = False) -> tuple[str, ...]:
    """What a name stands for (asking may block); with `numeric`, nothing if it has a name."""
    scheme = scheme_of(address)
    if scheme in (LOCAL, RELAY):
        return (address,)
    host, port = split_address(address.removeprefix(scheme))
    flags = socket.AI_NUMERICHOST if numeric else 0
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    except socket.gaierror:
        if numeric:
            return ()
        raise
    texts = (scheme + join_address(str(target[0]), port) for *_, target in found)
    return tuple(dict.fromkeys(texts))


def own_addresses(bound: socket.socket) -> tuple[str, ...]:
    """Where others reach a socket of this host: its address, or the interfaces it stands for."""
    host, port = bound.getsockname()[:2]
    if not ipaddress.ip_address(host).is_unspecified:
        return (join_address(host, port),)
    hosts = [outward for outward in (_outward_address(bound.family),) if outward]
    hosts.append("::1" if bound.family == socket.AF_INET6 else "127.0.0.1")
    return tuple(join_address(each, port) for each in dict.fromkeys(hosts))


def _outward_address(family: socket.AddressFamily) -> str | None:
    """The address of the interface that packets to the world leave by; sends nothing."""
    target = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])
