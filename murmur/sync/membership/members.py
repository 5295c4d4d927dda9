"""The members' records: this node's is published, those of the others say where to find them.

Where the records are kept is the replica's affair (Registry): they are replicated like any data,
so that a node that has met one member knows of all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from murmur.errors import Closed, Poisoned, ProtocolViolation
from murmur.sync.discovery.sighting import Sighting
from murmur.sync.identity import Identity
from murmur.sync.membership.record import MemberRecord, read_record
from murmur.sync.roster import Member
from murmur.sync.service import Fabric, Remote, Service
from murmur.sync.status import MemberStatus
from murmur.sync.ticket import node_text

LOOK_MS = 30_000

log = logging.getLogger("murmur.sync")


class Registry(Protocol):
    """Where the records are kept, by node id. Called by workers."""

    def read(self) -> Mapping[bytes, bytes]:
        """All records that are there, the forged ones too."""
        ...

    def write(self, node_id: bytes, record: bytes) -> None:
        """Replace a node's record."""
        ...


class Members(Service):
    """A service without messages: the replicated records, in and out."""

    def __init__(
        self,
        registry: Registry,
        identity: Identity,
        group: str,
        *,
        roles: Iterable[str],
        addresses: Callable[[], Sequence[str]],
        meet: Callable[[Sighting, int], None],
    ) -> None:
        self._registry = registry
        self._identity = identity
        self._group = group
        self._roles = tuple(roles)
        self._addresses = addresses
        self._meet = meet
        self._shown = bool(self._roles)
        self._look_ms = 0
        self._ended = False

    def show(self, now_ms: int) -> None:
        """Publish this node's record too: others shall find it."""
        self._shown = True
        self._look_ms = now_ms

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """Begin."""
        self._fabric = fabric
        self._look_ms = now_ms

    def opened(self, remote: Remote, now_ms: int) -> None:
        """A conversation is open: its records come soon."""
        self._look_ms = min(self._look_ms, now_ms + LOOK_MS // 10)

    def status(self, met: Iterable[Member], liveness: Mapping[bytes, str]) -> list[MemberStatus]:
        """Everybody with a record, and everybody who was met. From any thread."""
        node_id = self._identity.node_id
        raw = self._registry.read()
        signed = read_all(raw, self._group)
        known = {member.node_id: member for member in met}
        found = []
        for each in sorted({node_id, *raw, *known}):
            record, member = signed.get(each), known.get(each)
            replica = record.replica if record else member.replica if member else None
            if record is not None:
                addresses = record.addresses
            else:
                addresses = member.addresses if member is not None else ()
            found.append(
                MemberStatus(
                    node_id=node_text(each),
                    replica_id=(replica or b"").hex(),
                    roles=record.roles if record else (),
                    addresses=addresses,
                    liveness="self" if each == node_id else liveness.get(each, "unknown"),
                    signed=each in signed if each in raw else None,
                    signed_ms=record.time_ms if record else None,
                    met_ms=member.met_ms if member else None,
                )
            )
        return found

    def tick(self, now_ms: int) -> None:
        """Look at the records, and see that this node's own is right."""
        if now_ms < self._look_ms:
            return
        self._look_ms = now_ms + LOOK_MS
        replica, addresses = self._fabric.outbox.id, tuple(self._addresses())
        clock_ms = self._fabric.outbox.clock.now_ms()
        look = partial(self._read_and_publish, replica, addresses, clock_ms)
        self._fabric.labour.submit("members", look, self._looked)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        return self._look_ms

    def end(self) -> None:
        """The mesh closes."""
        self._ended = True

    def _read_and_publish(
        self, replica: bytes, addresses: tuple[str, ...], clock_ms: int
    ) -> list[MemberRecord]:
        """A worker's part: the others' records; this node's own is written if it says more."""
        records = read_all(self._registry.read(), self._group)
        own = records.pop(self._identity.node_id, None)
        if self._shown and (own is None or not own.says(replica, self._roles, addresses)):
            revision = 1 if own is None else own.revision + 1
            record = MemberRecord(
                self._identity.node_id, replica, self._roles, addresses, revision, clock_ms
            )
            self._registry.write(record.node_id, record.sign(self._identity, self._group))
        return list(records.values())

    def _looked(
        self, records: list[MemberRecord] | None, error: BaseException | None, now_ms: int
    ) -> None:
        if error is not None:
            if not isinstance(error, (Closed, Poisoned)):
                log.warning("the members' records: %s: %s", type(error).__name__, error)
            return
        for record in records or ():
            if not self._ended:
                self._meet(Sighting(record.node_id, record.addresses, "introduced"), now_ms)


def read_all(records: Mapping[bytes, bytes], group: str) -> dict[bytes, MemberRecord]:
    """The records that are signed by whom they are about."""
    found = {}
    for node_id, data in records.items():
        try:
            record = read_record(data, group)
        except ProtocolViolation:
            continue  # murmur_members shows that it is not signed
        if record.node_id == node_id:
            found[node_id] = record
    return found
