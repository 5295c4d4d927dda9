"""Member records: what a node says of itself to its whole group, signed with its key.

    [body, signature]
    body = [1, group's mark, node id, replica, [role], [address], revision, wall clock ms]

The signature is Ed25519 over "murmur/1 member" and the packed body: whoever carries the record can
withhold it, not change it. Elements behind those known are ignored, so that later versions may
append some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from murmur.errors import ProtocolViolation
from murmur.sync.discovery.sighting import group_mark
from murmur.sync.identity import Identity, verify
from murmur.sync.messages import MAX_ADDRESSES, MAX_TEXT, NODE_ID_BYTES, REPLICA_ID_BYTES
from murmur.sync.wire import pack, unpack

VERSION = 1
MAX_ROLES = 16
MAX_NUMBER = 1 << 60

_LABEL = b"murmur/1 member"


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """One node's account of itself."""

    node_id: bytes
    replica: bytes
    roles: tuple[str, ...]
    addresses: tuple[str, ...]
    revision: int  # grows with every record of the node
    time_ms: int  # when it was signed, by the node's wall clock

    def sign(self, identity: Identity, group: str) -> bytes:
        """The record as bytes."""
        body = pack(
            [
                VERSION,
                group_mark(group),
                self.node_id,
                self.replica,
                list(self.roles),
                list(self.addresses[:MAX_ADDRESSES]),
                self.revision,
                self.time_ms,
            ]
        )
        return pack([body, identity.sign(_LABEL + body)])

    def says(self, replica: bytes, roles: Sequence[str], addresses: Sequence[str]) -> bool:
        """Whether there is nothing new in this."""
        return (self.replica, self.roles, self.addresses) == (
            replica,
            tuple(roles),
            tuple(addresses[:MAX_ADDRESSES]),
        )


def read_record(data: bytes, group: str) -> MemberRecord:
    """The record that these bytes are. ProtocolViolation if they are none, or not signed so."""
    body, signature = _list(unpack(data), 2, "member record")[:2]
    if not isinstance(body, bytes) or not isinstance(signature, bytes):
        raise ProtocolViolation("member record: no body with a signature")
    fields = _list(unpack(body), 8, "member record")
    version, mark, node_id, replica, roles, addresses, revision, time_ms = fields[:8]
    if version != VERSION:
        raise ProtocolViolation(f"member record: version {version!r} is not {VERSION}")
    if mark != group_mark(group):
        raise ProtocolViolation("member record: of another group")
    if not isinstance(node_id, bytes) or len(node_id) != NODE_ID_BYTES:
        raise ProtocolViolation("member record: no node id")
    if not isinstance(replica, bytes) or len(replica) != REPLICA_ID_BYTES:
        raise ProtocolViolation("member record: no replica id")
    for number in (revision, time_ms):
        if type(number) is not int or not 0 <= number <= MAX_NUMBER:
            raise ProtocolViolation("member record: a number is out of its range")
    record = MemberRecord(
        node_id,
        replica,
        _texts(roles, MAX_ROLES, "roles"),
        _texts(addresses, MAX_ADDRESSES, "addresses"),
        revision,
        time_ms,
    )
    if not verify(node_id, _LABEL + body, signature):
        raise ProtocolViolation("member record: the signature is not by the node id's key")
    return record


def _list(value: object, least: int, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) < least:
        raise ProtocolViolation(f"{what}: not {least} fields")
    return value


def _texts(value: object, most: int, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise ProtocolViolation(f"member record: {what} are not a list of at most {most}")
    if not all(isinstance(each, str) and len(each) <= MAX_TEXT for each in value):
        raise ProtocolViolation(f"member record: {what} are not text")
    return tuple(value)
