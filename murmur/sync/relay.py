"""Relay: a member carries bytes between two members that do not reach each other.

    caller        relay          callee
    CALL     ->   INCOMING  ->                a circuit; each side of the relay has its own number
    CARRY   <->   CARRY    <->                bytes of the stream between caller and callee
    ROOM    <->   ROOM     <->                "so many bytes were taken in: send as many more"
    HANGUP  <->   HANGUP   <->

    40 CALL       circuit u32 | 0         | node id of the callee
    41 INCOMING   circuit u32 | 1         | node id of the caller
    42 CARRY      circuit u32 | side u8   | bytes
    43 ROOM       circuit u32 | side u8   | bytes u32
    44 HANGUP     circuit u32 | side u8   | reason, UTF-8
    45 INVITE     the relay's invite, 16 bytes

`side` is 1 in what the relay says, else 0: two members may be relays to each other. Who calls
chooses an even number, the relay chooses odd ones. What a circuit carries is a TLS stream of the
two ends (circuits.py), so a relay sees ciphertext and cannot pose as anybody; it learns who talks
with whom, and how much.

A relay tells the members that converse with it its invite, when a conversation opens. They put it
into their tickets, so that who does not reach them reaches the relay. It gives no more than they
have: whom a member introduces is a member.

Invariants:
    1. Of one circuit at most WINDOW_BYTES in each direction wait at the relay; a client has at most
       `circuits` of them, and gets new room no faster than `rate`.
    2. Only members that converse with the relay directly are connected: no relay over a relay.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from murmur.errors import ProtocolViolation
from murmur.sync.circuits import (
    CALL,
    CARRY,
    HANGUP,
    INCOMING,
    INVITE,
    REASON_BYTES,
    ROOM,
    WINDOW_BYTES,
    RelayTransport,
    pack_head,
    unpack_head,
)
from murmur.sync.messages import NODE_ID_BYTES, RELAY
from murmur.sync.service import Fabric, Remote, Service, Urgency
from murmur.sync.ticket import INVITE_BYTES
from murmur.sync.transport import RELAY as RELAY_SCHEME
from murmur.sync.transport import scheme_of

FROM_CLIENT, FROM_RELAY = 0, 1
_U32 = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What one client of a relay may use of it."""

    circuits: int = 16
    rate: int = 8 << 20  # bytes a second, all circuits together
    burst: int = 2 << 20  # bytes


@dataclass(slots=True, eq=False)
class _End:
    """One end of a circuit, as the relay sees it."""

    node_id: bytes
    circuit: int
    other: _End = field(init=False)
    left: int = WINDOW_BYTES  # that it may still send
    held: int = 0  # room that it will get when its rate allows


@dataclass(slots=True)
class _Client:
    """What a member uses."""

    tokens: float
    at_ms: int
    ends: dict[int, _End] = field(default_factory=dict)
    # Numbers of circuits to it. None is used again: what was said of the last may be under way.
    numbers: Iterator[int] = field(default_factory=lambda: count(1, 2))


class Relay(Service):
    """The service: the switchboard of a relay, if this node is one, and this node's own circuits.

    Messages from relays go to `transport`, whose links the mesh uses like any others. Without one
    this node carries circuits, and calls nobody through others.
    """

    kinds = (CALL, INCOMING, CARRY, ROOM, HANGUP, INVITE)

    def __init__(
        self,
        transport: RelayTransport | None,
        *,
        serves: bool,
        limits: RelayLimits | None = None,
        invite: Callable[[], bytes] | None = None,
    ) -> None:
        """`invite` is what this node tells its clients for their tickets, if it serves."""
        self.carried_bytes = 0
        self.invites: dict[bytes, bytes] = {}  # of the relays that are connected
        self._transport = transport
        self._serves = serves
        self._limits = limits or RelayLimits()
        self._invite = invite
        self._clients: dict[bytes, _Client] = {}
        self._fabric: Fabric

    @property
    def features(self) -> int:
        """That this node carries circuits for others, if it does."""
        return RELAY if self._serves else 0

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """The mesh begins."""
        self._fabric = fabric
        if self._transport is not None:
            self._transport.start(fabric.say)

    def opened(self, remote: Remote, now_ms: int) -> None:
        """A conversation is open: perhaps with a relay, perhaps with a client."""
        if scheme_of(remote.address) == RELAY_SCHEME:
            return
        if remote.offers & RELAY and self._transport is not None:
            self._transport.relay_opened(remote.node_id)
        if self._serves:
            self._clients[remote.node_id] = _Client(self._limits.burst, now_ms)
            if self._invite is not None:
                self._fabric.say(remote.node_id, INVITE, self._invite(), Urgency.SYNC)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """A conversation has ended, and all circuits over it."""
        if scheme_of(remote.address) == RELAY_SCHEME:
            return
        self.invites.pop(remote.node_id, None)
        if self._transport is not None:
            self._transport.relay_closed(remote.node_id)
        client = self._clients.pop(remote.node_id, None)
        for end in list(client.ends.values()) if client is not None else ():
            self._hang_up(end.other, "the other end is gone")

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """A member said something about a circuit."""
        if kind == INVITE:
            if len(payload) != INVITE_BYTES or not remote.offers & RELAY:
                raise ProtocolViolation("relay: an invite that is none")
            self.invites[remote.node_id] = payload
            return
        circuit, side, body = unpack_head(payload)
        if side == FROM_RELAY:
            if self._transport is not None:
                self._transport.received(remote.node_id, kind, circuit, body, now_ms)
            return
        client = self._clients.get(remote.node_id)
        if client is None:
            self._say_hangup(remote.node_id, circuit, "this node is no relay")
        elif kind == CALL:
            self._call(client, remote.node_id, circuit, body)
        elif kind == INCOMING:
            raise ProtocolViolation("relay: INCOMING from a client")
        elif (end := client.ends.get(circuit)) is not None:
            # Else the circuit has ended on this side while the message was under way.
            self._of_circuit(end, kind, body, now_ms)

    def tick(self, now_ms: int) -> None:
        """Give the room that rates held back."""
        for client in self._clients.values():
            self._release(client, now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When somebody's rate allows more."""
        due = [
            client.at_ms + int(-client.tokens * 1000 / self._limits.rate) + 1
            for client in self._clients.values()
            if client.tokens < 0 and any(end.held for end in client.ends.values())
        ]
        return min(due, default=None)

    def end(self) -> None:
        """The mesh closes: conversations end, and circuits with them."""
        self._clients.clear()

    # -- the switchboard

    def _call(self, client: _Client, caller: bytes, circuit: int, callee: bytes) -> None:
        if len(callee) != NODE_ID_BYTES or circuit % 2 or circuit in client.ends:
            raise ProtocolViolation(f"relay: CALL {circuit} makes no sense")
        target = self._clients.get(callee)
        if target is None or callee == caller:
            self._say_hangup(caller, circuit, "the relay is not connected with that node")
            return
        if max(len(client.ends), len(target.ends)) >= self._limits.circuits:
            self._say_hangup(caller, circuit, f"more than {self._limits.circuits} circuits")
            return
        here = _End(caller, circuit)
        there = _End(callee, next(target.numbers))
        here.other, there.other = there, here
        client.ends[circuit] = here
        target.ends[there.circuit] = there
        self._say(there, INCOMING, caller)

    def _of_circuit(self, end: _End, kind: int, body: bytes, now_ms: int) -> None:
        other = end.other
        if kind == CARRY:
            end.left -= len(body)
            if end.left < 0:
                raise ProtocolViolation("relay: more was sent than there was room for")
            self._refill(self._clients[end.node_id], now_ms).tokens -= len(body)
            self.carried_bytes += len(body)
            self._say(other, CARRY, body)
        elif kind == ROOM:
            if len(body) != _U32.size:
                raise ProtocolViolation("relay: ROOM of no size")
            other.held += _U32.unpack(body)[0]
            if other.left + other.held > WINDOW_BYTES:
                raise ProtocolViolation("relay: room for more than was sent")
            self._release(self._clients[other.node_id], now_ms)
        elif kind == HANGUP:
            self._clients[end.node_id].ends.pop(end.circuit, None)
            self._hang_up(other, body[:REASON_BYTES].decode(errors="replace"))

    def _refill(self, client: _Client, now_ms: int) -> _Client:
        gained = (now_ms - client.at_ms) * self._limits.rate / 1000
        client.tokens = min(self._limits.burst, client.tokens + gained)
        client.at_ms = now_ms
        return client

    def _release(self, client: _Client, now_ms: int) -> None:
        if self._refill(client, now_ms).tokens < 0:
            return
        for end in client.ends.values():
            if end.held:
                end.left += end.held
                self._say(end, ROOM, _U32.pack(end.held))
                end.held = 0

    def _hang_up(self, end: _End, reason: str) -> None:
        client = self._clients.get(end.node_id)
        if client is not None and client.ends.pop(end.circuit, None) is not None:
            self._say(end, HANGUP, reason.encode()[:REASON_BYTES])

    def _say_hangup(self, node_id: bytes, circuit: int, reason: str) -> None:
        payload = pack_head(circuit, FROM_RELAY) + reason.encode()
        self._fabric.say(node_id, HANGUP, payload, Urgency.SYNC)

    def _say(self, end: _End, kind: int, body: bytes) -> None:
        payload = pack_head(end.circuit, FROM_RELAY) + body
        self._fabric.say(end.node_id, kind, payload, Urgency.SYNC)
