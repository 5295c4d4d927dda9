"""Introductions: members tell each other whom they know, so that a star becomes a mesh.

    60 PEERS   [[node id, [address], seconds since it was last met]]

Whom a member introduces is a member: it could pass on this group's data, or a ticket, as well. A
node dials whom it is introduced to while it has fewer than ENOUGH conversations; later ones it
only knows, and takes at random when it has lost some.

Any member in reach of everybody serves as their meeting point so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from murmur.errors import ProtocolViolation
from murmur.sync.discovery.sighting import Sighting
from murmur.sync.messages import MAX_ADDRESSES, MAX_TEXT, NODE_ID_BYTES
from murmur.sync.roster import Member
from murmur.sync.service import Fabric, Remote, Service, Urgency
from murmur.sync.wire import pack, unpack

PEERS = 60
MAX_PEERS = 128  # in one message
ENOUGH = 8  # conversations that a node looks for
LOOK_MS = 30_000
FORGOTTEN_S = 90 * 24 * 3600  # who was not met for so long is introduced to nobody
MAX_AGE_S = 1 << 40


class Acquaintances(Protocol):
    """What the introductions need of the mesh."""

    def acquaintances(self) -> Iterable[tuple[Member, int]]:
        """The members that were met, and how many seconds ago."""
        ...

    def meet(self, seen: Sighting, now_ms: int) -> None:
        """A node was seen: dial it, if it is one of ours."""
        ...


class Introductions(Service):
    """The exchange of acquaintances."""

    kinds = (PEERS,)

    def __init__(self, mesh: Callable[[], Acquaintances], *, exchange: bool = True) -> None:
        """Without `exchange` nobody is introduced, and no introduction is followed."""
        self._mesh = mesh
        self._exchange = exchange
        self._look_ms = 0

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """Begin."""
        self._fabric = fabric
        self._look_ms = now_ms + LOOK_MS

    def opened(self, remote: Remote, now_ms: int) -> None:
        """Introduce the one who came to all, and all to the one."""
        if not self._exchange:
            return
        known = {member.node_id: (member, age_s) for member, age_s in self._mesh().acquaintances()}
        newcomer = known.pop(remote.node_id, None)
        others = sorted(known.values(), key=lambda pair: pair[1])[:MAX_PEERS]
        if others:
            self._say(remote.node_id, others)
        if newcomer is not None:
            for other in self._fabric.remotes():
                if other.node_id != remote.node_id:
                    self._say(other.node_id, [newcomer])

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """A member introduces others."""
        mesh = self._mesh()
        for node_id, addresses, age_s in parse_peers(payload):
            if self._exchange and node_id != self._fabric.node_id and age_s < FORGOTTEN_S:
                mesh.meet(Sighting(node_id, addresses, "introduced"), now_ms)

    def tick(self, now_ms: int) -> None:
        """Look for company, if there is little."""
        if now_ms < self._look_ms:
            return
        self._look_ms = now_ms + LOOK_MS
        met = {remote.node_id for remote in self._fabric.remotes()}
        if len(met) >= ENOUGH:
            return
        others = [m for m, _ in self._mesh().acquaintances() if m.node_id not in met]
        if others:
            member = self._fabric.random.choice(others)
            seen = Sighting(member.node_id, member.addresses, "remembered")
            self._mesh().meet(seen, now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        return self._look_ms

    def _say(self, node_id: bytes, known: Iterable[tuple[Member, int]]) -> None:
        peers = [[m.node_id, list(m.addresses[:MAX_ADDRESSES]), age_s] for m, age_s in known]
        self._fabric.say(node_id, PEERS, pack([peers]), Urgency.SYNC)


def parse_peers(payload: bytes) -> list[tuple[bytes, tuple[str, ...], int]]:
    """The introduced: node ids, addresses, ages in seconds."""
    fields = unpack(payload)
    if not isinstance(fields, list) or not fields or not isinstance(fields[0], list):
        raise ProtocolViolation("PEERS: not a list")
    if len(fields[0]) > MAX_PEERS:
        raise ProtocolViolation(f"PEERS: more than {MAX_PEERS}")
    found = []
    for entry in fields[0]:
        if not isinstance(entry, list) or len(entry) < 3:
            raise ProtocolViolation("PEERS: not node id, addresses, age")
        node_id, addresses, age_s = entry[:3]
        if not isinstance(node_id, bytes) or len(node_id) != NODE_ID_BYTES:
            raise ProtocolViolation(f"PEERS: a node id has {NODE_ID_BYTES} bytes")
        if not isinstance(addresses, list) or len(addresses) > MAX_ADDRESSES:
            raise ProtocolViolation(f"PEERS: not a list of at most {MAX_ADDRESSES} addresses")
        if not all(isinstance(a, str) and len(a) <= MAX_TEXT for a in addresses):
            raise ProtocolViolation("PEERS: an address is text")
        if type(age_s) is not int or not 0 <= age_s <= MAX_AGE_S:
            raise ProtocolViolation("PEERS: an age is a number of seconds")
        found.append((node_id, tuple(addresses), age_s))
    return found
