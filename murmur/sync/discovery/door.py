"""The door: what becomes of nodes that nobody has invited.

    accept="ask"    they wait on a list until somebody accepts or refuses them
    accept="all"    whoever proves that it knows the group's name comes in

Whom somebody refused stays out, also with an invite and after a restart, until it is accepted.

Invariant: at most MAX_PENDING wait; the one that was not seen for longest makes room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from murmur.errors import InvalidInput
from murmur.sync.discovery.sighting import Sighting
from murmur.sync.roster import MAX_ADDRESSES, Roster

MAX_PENDING = 256
ACCEPT = ("ask", "all")


@dataclass(frozen=True, slots=True)
class Stranger:
    """A node that waits to be accepted."""

    node_id: bytes
    addresses: tuple[str, ...]
    via: str  # how it was seen last
    asks: bool  # it dialed this node and was turned away
    first_ms: int  # wall clock
    last_ms: int


class Door:
    """What is decided about strangers. Called by the node's thread."""

    def __init__(self, roster: Roster, now_ms: Callable[[], int], accept: str = "ask") -> None:
        """`now_ms` is the wall clock."""
        self.pending: dict[bytes, Stranger] = {}
        self._roster = roster
        self._now_ms = now_ms
        self.accept = check_accept(accept)

    def open_to(self, node_id: bytes, *, invited: bool) -> bool:
        """Whether a node that is no member yet may become one."""
        if node_id in self._roster.refused:
            return False
        return invited or self.accept == "all"

    def note(self, seen: Sighting, *, asks: bool = False) -> bool:
        """Put a stranger on the list; whether it is new there."""
        if seen.node_id in self._roster.refused:
            return False
        now_ms = self._now_ms()
        known = self.pending.pop(seen.node_id, None)
        if known is None:
            while len(self.pending) >= MAX_PENDING:
                del self.pending[next(iter(self.pending))]
            addresses = seen.addresses[:MAX_ADDRESSES]
            stranger = Stranger(seen.node_id, addresses, seen.via, asks, now_ms, now_ms)
        else:
            addresses = tuple(dict.fromkeys(seen.addresses + known.addresses))[:MAX_ADDRESSES]
            asks = asks or known.asks
            stranger = replace(known, addresses=addresses, via=seen.via, asks=asks, last_ms=now_ms)
        self.pending[seen.node_id] = stranger  # the last seen stands last
        return known is None or (asks and not known.asks)

    def take(self, node_id: bytes) -> Stranger | None:
        """Take a stranger off the list."""
        return self.pending.pop(node_id, None)


def check_accept(accept: str) -> str:
    """Refuse what is no way of accepting."""
    if accept not in ACCEPT:
        raise InvalidInput(f"accept: {accept!r} is none of {', '.join(ACCEPT)}")
    return accept


def check_where(*, mdns: object, host: object, interfaces: object) -> None:
    """Refuse what does not say where to look."""
    for name, value in (("mdns", mdns), ("host", host)):
        if not isinstance(value, bool):
            raise InvalidInput(f"{name}: True or False is needed, not {value!r}")
    if interfaces is None:
        return
    listed = isinstance(interfaces, Sequence) and not isinstance(interfaces, (str, bytes))
    if not listed or not interfaces:
        raise InvalidInput(f"interfaces: a list of IP addresses is needed, not {interfaces!r}")
    for each in interfaces:  # type: ignore[attr-defined]
        try:
            ip_address(each if isinstance(each, str) else "")
        except ValueError:
            raise InvalidInput(f"interfaces: {each!r} is not an IP address") from None
