"""Transport and Link: how bytes get from node to node.

A transport is driven by the node's loop: it never blocks, starts no thread and keeps no clock.

    dial(address) -> Link          Up(link) or Down(link) follows
    poll(now)     -> [Event]       Up, Data, Down: what happened since
    flush(now)                     everything written to links goes out

A link is an ordered, encrypted stream in both directions. The dialer of a link knows for certain
whom it reached (`peer_id`: the key behind the certificate); the acceptor learns it in the
conversation. The twin of this Protocol, for simulations, is in tests/simulation/network.py.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from murmur.errors import InvalidInput

Result = TypeVar("Result")


class Link(Protocol):
    """One stream to one peer."""

    address: str  # of the other side, for people and for dialing again
    dialed: bool  # by this side
    peer_id: bytes | None  # what the transport proved about the other side

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


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of "host:port" or "[host]:port"."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"address: {address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """The text of an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def look_up(address: str, *, numeric: bool = False) -> tuple[str, ...]:
    """What a name stands for (asking may block); with `numeric`, nothing if it has a name."""
    host, port = split_address(address)
    flags = socket.AI_NUMERICHOST if numeric else 0
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    except socket.gaierror:
        if numeric:
            return ()
        raise
    return tuple(dict.fromkeys(join_address(str(target[0]), port) for *_, target in found))
