"""Links over a relay: TLS 1.3 between the two ends, in messages that a third member carries.

    relay:RELAY'S NODE ID                     as a node advertises it: "call me there"
    relay:RELAY'S NODE ID/NODE ID             a way to a node, as it is dialed

A circuit is a stream of bytes that relay.py carries. What runs over it is what runs over the TCP
lane: TLS with the acceptor's key, `peer_id` proved by the handshake, the dialer proved in the
conversation. The relay holds no key of either.

This is a Transport without a socket: its links speak through the conversations with relays, its
`poll` tells what those brought. Bytes go out as far as the other end has given room.

Invariant: at most WINDOW_BYTES of a link are under way; at most HALF_OPEN_MOST incoming links have
an unfinished handshake, none for longer than HANDSHAKE_S.
"""

from __future__ import annotations

import errno
import os
import ssl
import struct
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from murmur.errors import ProtocolViolation
from murmur.sync.identity import Identity
from murmur.sync.service import Urgency
from murmur.sync.streams import HANDSHAKE_S
from murmur.sync.ticket import node_text, parse_node
from murmur.sync.tls import ALPN, context, key_of
from murmur.sync.transport import LINK_BYTES, RELAY, Data, Down, TransportEvent, Up

CALL, INCOMING, CARRY, ROOM, HANGUP, INVITE = range(40, 46)  # on the wire: never renumber
WINDOW_BYTES = 256 << 10
CARRY_BYTES = 32 << 10
RECORD_BYTES = 16 << 10  # of plain text, in a TLS record
REASON_BYTES = 200
RELAYS_MOST = 3  # that are called for one node
HALF_OPEN_MOST = 32
_HEAD = struct.Struct(">IB")

Say = Callable[[bytes, int, bytes, Urgency], bool]


def pack_head(circuit: int, side: int) -> bytes:
    """What stands before every message of a circuit."""
    return _HEAD.pack(circuit, side)


def unpack_head(payload: bytes) -> tuple[int, int, bytes]:
    """(circuit, side, the rest) of a message."""
    if len(payload) < _HEAD.size or payload[4] > 1:
        raise ProtocolViolation("relay: a message without a circuit")
    circuit, side = _HEAD.unpack_from(payload)
    return circuit, side, payload[_HEAD.size :]


class RelayLink:
    """One end of a circuit, and the TLS on it."""

    def __init__(
        self,
        transport: RelayTransport,
        relay: bytes,
        circuit: int,
        address: str,
        tls: ssl.SSLContext,
        *,
        dialed: bool,
        deadline: float | None = None,
    ) -> None:
        self.address = address
        self.dialed = dialed
        self.peer_id: bytes | None = None
        self.relay, self.circuit = relay, circuit
        self.deadline = deadline  # for the handshake of an accepted link
        self.up = False
        self.closing: str | None = None
        self.left = WINDOW_BYTES  # bytes that the other end takes
        self.untold = 0  # bytes taken in, of which it was not told yet
        self.pending: deque[memoryview] = deque()
        self.pending_bytes = 0
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls.wrap_bio(self.incoming, self.outgoing, server_side=not dialed)
        self._transport = transport

    @property
    def loss(self) -> float | None:
        """None: the links to the relay carry it whole."""
        return None

    @property
    def room(self) -> int:
        """How much more may wait for the other end to take it."""
        return LINK_BYTES - self.pending_bytes - self.outgoing.pending

    def write(self, data: bytes) -> None:
        """Queue bytes; they leave at the next flush."""
        if self.up and self.closing is None and data:
            view = memoryview(data)
            for start in range(0, len(data), RECORD_BYTES):
                self.pending.append(view[start : start + RECORD_BYTES])
            self.pending_bytes += len(data)
            self._transport.touch(self)

    def close(self, reason: str) -> None:
        """Send what was written, as far as there is room, then end."""
        if self.closing is None:
            self.closing = reason
            self._transport.touch(self)

    def advance(self, result: list[TransportEvent]) -> None:
        """Let TLS take in what arrived; raises ssl.SSLError and OSError when it ends."""
        try:
            if not self.up:
                self.tls.do_handshake()
                self._established()
                result.append(Up(self))
            while True:
                data = self.tls.read(CARRY_BYTES)
                if not data:
                    raise ConnectionError("the peer ended the connection")
                result.append(Data(self, data))
        except ssl.SSLWantReadError:
            return

    def encrypt(self) -> None:
        """Turn what was written into what goes out, as far as there is room for it."""
        while self.pending and self.outgoing.pending < self.left:
            data = self.pending.popleft()
            self.pending_bytes -= len(data)
            self.tls.write(data)

    def _established(self) -> None:
        if self.tls.selected_alpn_protocol() != ALPN:
            raise ConnectionError("the other side speaks another protocol")
        if self.dialed:
            self.peer_id = key_of(self.tls.getpeercert(binary_form=True))
        self.up, self.deadline = True, None


class RelayTransport:
    """The circuits that end at this node."""

    def __init__(self, identity: Identity) -> None:
        self._client = context(identity, ssl.PROTOCOL_TLS_CLIENT)
        self._server = context(identity, ssl.PROTOCOL_TLS_SERVER)
        self._say: Say | None = None
        self._relays: tuple[bytes, ...] = ()
        self._links: dict[tuple[bytes, int], RelayLink] = {}
        self._numbers = count(0, 2)
        self._touched: set[RelayLink] = set()
        self._heard: set[RelayLink] = set()
        self._failed: list[tuple[RelayLink, str]] = []
        # The loop waits for a descriptor: this one never becomes readable, the timer says it all.
        self._silent = os.pipe()

    def start(self, say: Say) -> None:
        """Speak to relays by this."""
        self._say = say

    # -- Transport

    @property
    def addresses(self) -> Sequence[str]:
        """The relays at which this node can be called."""
        return tuple(RELAY + node_text(relay) for relay in self._relays)

    def fileno(self) -> int:
        """A descriptor that is never ready."""
        return self._silent[0]

    def ways(self, node_id: bytes, addresses: Sequence[str]) -> Sequence[str]:
        """Through the relays where the node says that it is, then through others."""
        here = [node_text(relay) for relay in self._relays if relay != node_id]
        named = [relay for relay in here if RELAY + relay in addresses]
        order = dict.fromkeys(named + here)
        return [f"{RELAY}{relay}/{node_text(node_id)}" for relay in order][:RELAYS_MOST]

    def dial(self, address: str, now: float) -> RelayLink:
        """Call a node through a relay."""
        relay_text, _, node = address.removeprefix(RELAY).partition("/")
        relay, callee = parse_node(relay_text), parse_node(node)
        circuit = next(self._numbers)
        payload = pack_head(circuit, 0) + callee
        if relay not in self._relays or not self._speak(relay, CALL, payload):
            raise OSError(errno.ENETUNREACH, "the relay is not connected")
        link = RelayLink(self, relay, circuit, address, self._client, dialed=True)
        self._links[relay, circuit] = link
        self._heard.add(link)  # TLS speaks first
        return link

    def touch(self, link: RelayLink) -> None:
        """The link has something to send."""
        self._touched.add(link)

    def poll(self, now: float) -> list[TransportEvent]:
        """What circuits brought."""
        result: list[TransportEvent] = []
        heard, self._heard = self._heard, set()
        for link in sorted(heard, key=lambda link: (link.relay, link.circuit)):
            if link.closing is None:
                try:
                    link.advance(result)
                except OSError as error:  # ssl.SSLError is one
                    self._fail(link, error.strerror or str(error))
                self._touched.add(link)
        for link in list(self._links.values()):
            if link.deadline is not None and link.deadline < now:
                self._fail(link, "the handshake took too long")
        failed, self._failed = self._failed, []
        for link, reason in failed:
            if link.closing is None:
                link.closing = reason
                if link.up or link.dialed:
                    result.append(Down(link, reason))
        return result

    def flush(self, now: float) -> None:
        """Hand what was written to the conversations with relays."""
        touched, self._touched = self._touched, set()
        for link in sorted(touched, key=lambda link: (link.relay, link.circuit)):
            if self._links.get((link.relay, link.circuit)) is link:
                self._send(link)

    def next_timer(self) -> float | None:
        """When `poll` is due."""
        if self._heard or self._failed:
            return 0.0
        return min((link.deadline for link in self._links.values() if link.deadline), default=None)

    def close(self, now: float) -> None:
        """End all links."""
        for link in list(self._links.values()):
            self._hang_up(link, "the node closes")
        for end in self._silent:
            os.close(end)

    # -- what the service hears

    def relay_opened(self, relay: bytes) -> None:
        """A member that carries circuits is connected."""
        self._relays = (*self._relays, relay)

    def relay_closed(self, relay: bytes) -> None:
        """It is not any more, and its circuits have ended."""
        self._relays = tuple(each for each in self._relays if each != relay)
        for link in list(self._links.values()):
            if link.relay == relay:
                self._fail(link, "the relay is gone", tell=False)

    def received(self, relay: bytes, kind: int, circuit: int, body: bytes, now_ms: int) -> None:
        """A relay said something about a circuit."""
        link = self._links.get((relay, circuit))
        if kind == INCOMING:
            self._accept(relay, circuit, now_ms)
        elif link is None:
            return  # it has ended here while this was under way
        elif kind == CARRY:
            link.untold += len(body)
            link.incoming.write(body)
            self._heard.add(link)
        elif kind == ROOM:
            link.left += int.from_bytes(body)
            if len(body) != 4 or link.left > WINDOW_BYTES:
                raise ProtocolViolation("relay: room for more than was sent")
            self._touched.add(link)
        elif kind == HANGUP:
            reason = body[:REASON_BYTES].decode(errors="replace")
            printable = "".join(c if c.isprintable() else "?" for c in reason)
            self._fail(link, f"the relay ended the circuit: {printable}", tell=False)
        else:
            raise ProtocolViolation("relay: CALL from a relay")

    # -- inside

    def _accept(self, relay: bytes, circuit: int, now_ms: int) -> None:
        if circuit % 2 == 0 or (relay, circuit) in self._links:
            raise ProtocolViolation(f"relay: INCOMING {circuit} makes no sense")
        half_open = sum(not link.up and not link.dialed for link in self._links.values())
        if half_open >= HALF_OPEN_MOST or relay not in self._relays:
            self._speak(relay, HANGUP, pack_head(circuit, 0) + b"busy")
            return
        address, deadline = RELAY + node_text(relay), now_ms / 1000 + HANDSHAKE_S
        link = RelayLink(
            self, relay, circuit, address, self._server, dialed=False, deadline=deadline
        )
        self._links[relay, circuit] = link

    def _send(self, link: RelayLink) -> None:
        while True:
            link.encrypt()
            data = link.outgoing.read(min(CARRY_BYTES, link.left))
            if not data:
                break
            link.left -= len(data)
            self._speak(link.relay, CARRY, pack_head(link.circuit, 0) + data)
        if link.untold >= WINDOW_BYTES // 4:
            told, link.untold = link.untold, 0
            self._speak(link.relay, ROOM, pack_head(link.circuit, 0) + told.to_bytes(4))
        if link.closing is not None:
            self._hang_up(link, link.closing)

    def _fail(self, link: RelayLink, reason: str, *, tell: bool = True) -> None:
        """The circuit is over; the next poll says so, after what it brought."""
        if tell:
            self._hang_up(link, reason)
        self._links.pop((link.relay, link.circuit), None)
        self._failed.append((link, reason))

    def _hang_up(self, link: RelayLink, reason: str) -> None:
        if self._links.pop((link.relay, link.circuit), None) is None:
            return
        text = reason.encode()[:REASON_BYTES]
        self._speak(link.relay, HANGUP, pack_head(link.circuit, 0) + text)

    def _speak(self, relay: bytes, kind: int, payload: bytes) -> bool:
        return self._say is not None and self._say(relay, kind, payload, Urgency.SYNC)
