"""Tickets: what one node hands to another so that it can be dialed, as text to paste.

    ticket  := "murmur1" base32(body | checksum 4s), lower-case, without padding
    body    := node id 32s | invite (length u8, bytes) | group (length u8, utf-8)
               | count u8 | (length u8, "host:port")* | relays, if there are any
    relays  := count u8 | (node id 32s | invite (length u8, bytes)
               | count u8 | (length u8, "host:port")*)*
    checksum := the first 4 bytes of blake2b("murmur1" | body)

    murmur1aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaib...

The 1 is the format's version. Whoever holds a ticket with an invite can join the group: it is a
secret like a password. The relays are members that carry what others send each other, with their
own invites: whoever does not reach the ticket's node joins through one of them. Blanks, line breaks
and capitals that pasting brought along are forgiven.

Invariant: parse(str(ticket)) == ticket; damage to any character is noticed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from murmur.errors import InvalidInput

PREFIX = "murmur1"
NODE_ID_BYTES = 32
INVITE_BYTES = 16
CHECKSUM_BYTES = 4
MAX_ADDRESSES = 16
MAX_RELAYS = 2
MAX_RELAY_ADDRESSES = 2
MAX_TEXT_BYTES = 255
MAX_TICKET_LENGTH = 8192


@dataclass(frozen=True, slots=True)
class Hint:
    """A relay: who, where, and the right to be admitted there."""

    node_id: bytes
    addresses: tuple[str, ...]
    invite: bytes | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who to dial, where, in which group, and the right to be admitted."""

    node_id: bytes
    group: str
    addresses: tuple[str, ...]
    invite: bytes | None = None
    relays: tuple[Hint, ...] = ()

    def __str__(self) -> str:
        body = b"".join(
            [
                self.node_id,
                _short(self.invite or b""),
                _short(self.group.encode()),
                _addresses(self.addresses),
                *([bytes([len(self.relays)])] if self.relays else []),
                *(
                    hint.node_id + _short(hint.invite or b"") + _addresses(hint.addresses)
                    for hint in self.relays
                ),
            ]
        )
        return PREFIX + _base32(body + _checksum(body))

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """Read a ticket, or say what is wrong with it."""
        if not isinstance(text, str):
            raise InvalidInput(f"ticket: text is needed, not {text!r}")
        compact = "".join(text.split()).lower()
        if not compact.startswith("murmur"):
            raise InvalidInput("ticket: it should begin with 'murmur1'")
        if not compact.startswith(PREFIX):
            raise InvalidInput(f"ticket: version {compact[6:7] or '?'} is unknown to this release")
        if len(compact) > MAX_TICKET_LENGTH:
            raise InvalidInput("ticket: too long to be one")
        raw = _from_base32(compact[len(PREFIX) :])
        body, checksum = raw[:-CHECKSUM_BYTES], raw[-CHECKSUM_BYTES:]
        if len(raw) <= CHECKSUM_BYTES or _checksum(body) != checksum:
            raise InvalidInput("ticket: damaged or incomplete (its checksum does not match)")
        return cls._from_body(body)

    @classmethod
    def _from_body(cls, body: bytes) -> Ticket:
        # The checksum matched, so what fails here was made wrong, not copied wrong.
        node_id, rest = body[:NODE_ID_BYTES], body[NODE_ID_BYTES:]
        if len(node_id) != NODE_ID_BYTES:
            raise InvalidInput("ticket: no node id")
        invite, rest = _take(rest, "invite")
        group, rest = _take(rest, "group")
        addresses, rest = _take_addresses(rest, MAX_ADDRESSES)
        relays: tuple[Hint, ...] = ()
        if rest:
            relays, rest = _take_relays(rest)
        if rest or len(invite) not in (0, INVITE_BYTES):
            raise InvalidInput("ticket: malformed")
        return cls(node_id, _utf8(group, "group"), addresses, invite or None, relays)


def node_text(node_id: bytes) -> str:
    """A node id for people: 52 letters and digits."""
    return _base32(node_id)


def parse_node(text: str) -> bytes:
    """The node id that `node_text` wrote."""
    if not isinstance(text, str):
        raise InvalidInput(f"node id: text is needed, not {text!r}")
    node_id = _from_base32(text.strip().lower(), "node id")
    if len(node_id) != NODE_ID_BYTES:
        raise InvalidInput(f"node id: {text!r} is not one")
    return node_id


def check_group(group: str) -> str:
    """Refuse a group name that a ticket could not carry."""
    if not isinstance(group, str) or not group or len(group.encode()) > MAX_TEXT_BYTES:
        raise InvalidInput(f"group: a name of 1 to {MAX_TEXT_BYTES} bytes is needed")
    return group


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(PREFIX.encode() + body, digest_size=CHECKSUM_BYTES).digest()


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _from_base32(text: str, what: str = "ticket") -> bytes:
    try:
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{what}: it has a character or a length that none has") from None
    if _base32(data) != text:  # bits behind the last byte
        raise InvalidInput(f"{what}: damaged at its end")
    return data


def _short(data: bytes) -> bytes:
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidInput(f"ticket: {len(data)} bytes where {MAX_TEXT_BYTES} fit")
    return bytes([len(data)]) + data


def _addresses(addresses: tuple[str, ...]) -> bytes:
    return bytes([len(addresses)]) + b"".join(_short(each.encode()) for each in addresses)


def _take_addresses(data: bytes, most: int) -> tuple[tuple[str, ...], bytes]:
    count, rest = (data[0], data[1:]) if data else (-1, data)
    if not 0 <= count <= most:
        raise InvalidInput("ticket: its number of addresses is wrong")
    addresses = []
    for _ in range(count):
        address, rest = _take(rest, "address")
        addresses.append(_utf8(address, "address"))
    return tuple(addresses), rest


def _take_relays(data: bytes) -> tuple[tuple[Hint, ...], bytes]:
    count, rest = data[0], data[1:]
    if not 1 <= count <= MAX_RELAYS:
        raise InvalidInput("ticket: its number of relays is wrong")
    relays = []
    for _ in range(count):
        node_id, rest = rest[:NODE_ID_BYTES], rest[NODE_ID_BYTES:]
        invite, rest = _take(rest, "invite")
        addresses, rest = _take_addresses(rest, MAX_RELAY_ADDRESSES)
        if len(node_id) != NODE_ID_BYTES or len(invite) not in (0, INVITE_BYTES):
            raise InvalidInput("ticket: malformed")
        relays.append(Hint(node_id, addresses, invite or None))
    return tuple(relays), rest


def _take(data: bytes, what: str) -> tuple[bytes, bytes]:
    if not data or len(data) < 1 + data[0]:
        raise InvalidInput(f"ticket: its {what} is cut short")
    return data[1 : 1 + data[0]], data[1 + data[0] :]


def _utf8(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"ticket: its {what} is not text") from None
