"""Incoming records: each is admitted once, in causal order, however it comes.

    well-formed?            no: a dead letter
    of its author's chain?  known: nothing; another under the same dot: a fork, a dead letter
    ready?                  no: it waits, in memory, for what it depends on
    stamped too far ahead?  it is parked, durably, until its time has come
    else                    it is admitted, and those that waited for it after it

Invariant (L3): a record enters the log only when its vector is dominated and its predecessor is in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from murmur.errors import ProtocolViolation
from murmur.kvcore.admission import Group
from murmur.kvcore.causality import dominates
from murmur.kvcore.clock import LAST_STAMP
from murmur.kvcore.dead_letters import DeadLetters, Unappliable
from murmur.kvcore.forks import Successors, fork
from murmur.kvcore.ledger import GROUP_BYTES, Ledger
from murmur.kvcore.mark import NO_TIP
from murmur.kvcore.parking import Arrived, Delivery, Waiting
from murmur.kvcore.record import Malformed, decode, digest, origin, stamp_of


class Applied(NamedTuple):
    """What became of the records given to apply; the rest were known already."""

    admitted: int
    parked: int
    waiting: int


class Incoming:
    """The records that come to one replica from elsewhere. For any number of threads."""

    def __init__(self, ledger: Ledger) -> None:
        """Read the dead letters. Raises UnknownFormat."""
        self.dead_letters = DeadLetters(ledger.storage)
        self._ledger = ledger
        self._waiting = Waiting()
        self._successors = Successors()

    def apply(self, records: Iterable[bytes]) -> Applied:
        """Admit those that may enter; `Replica.apply` says more."""
        parking = self._ledger.parking
        peer = records.peer if isinstance(records, Delivery) else b""
        arrived: deque[Arrived] = deque()
        for record in records:
            try:
                arrived.append(Arrived(record, decode(record), peer))
            except Malformed as error:
                self._refuse(Unappliable(record, peer, str(error)))
                raise ProtocolViolation(str(error)) from None
        before = parking.count
        admitted, faults = self._admit_all(arrived, blame=peer)
        for fault in faults:
            if fault.peer == peer:
                raise fault
            if isinstance(records, Delivery):
                records.refused.append((fault.peer, str(fault)))
        return Applied(admitted, parking.count - before, self._waiting.count)

    def release_parked(self, *, force: bool) -> int:
        """Admit parked records whose time has come, or all with `force`; how many were admitted."""
        ledger = self._ledger
        with ledger.lock:
            ledger.enter()
            due = deque(
                Arrived(record, decode(record), b"")
                for record in ledger.parking.records()
                if force or not ledger.hlc.is_wild(stamp_of(record))
            )
        admitted, _ = self._admit_all(due, unpark=force)
        return admitted

    def retry_dead_letters(self) -> int:
        """Apply them again; how many are admitted now, or are parked. The others stay."""
        settled = []
        for letter in self.dead_letters.listing():
            if letter.record:
                try:
                    self.apply(Delivery([letter.record], letter.peer))
                except ProtocolViolation:
                    continue
                if self._holds(letter.record):
                    settled.append(letter.number)
        return self.dead_letters.remove(settled)

    def _holds(self, record: bytes) -> bool:
        """Whether this very record is admitted or parked, and not another one of its dot."""
        if any(record == parked for parked in self._ledger.parking.records()):
            return True
        return self._ledger.log.find(*origin(record)) == record

    def _refuse(self, fault: Unappliable) -> None:
        now_ms = self._ledger.clock.now_ms()
        self.dead_letters.add(fault.record, fault.peer, str(fault), now_ms)

    def _admit_all(
        self, arrived: deque[Arrived], *, blame: bytes | None = None, unpark: bool = False
    ) -> tuple[int, list[Unappliable]]:
        """Apply what arrived, group by group: how many are admitted, and what never can be.

        After a fault of the peer to blame nothing more of it is looked at.
        """
        ledger = self._ledger
        admitted = 0
        faults: list[Unappliable] = []
        while arrived:
            with ledger.lock:
                ledger.enter()
                try:
                    admitted += self._apply_group(arrived, unpark=unpark)
                except Unappliable as error:
                    admitted += error.admitted
                    faults.append(error)
            if faults and faults[-1].peer == blame:
                break
        for fault in faults:
            self._refuse(fault)
        ledger.durable.acknowledge(ledger.published.position)
        return admitted, faults

    def _apply_group(self, records: deque[Arrived], *, unpark: bool) -> int:
        """Admit records from the left until the group is full; those that are not ready wait.

        Raises Unappliable, with what came before installed.
        """
        ledger = self._ledger
        group = Group(ledger.tree, ledger.published.vector)
        try:
            while records and group.bytes < GROUP_BYTES:
                arrived = records.popleft()
                if self._admit(group, arrived, unpark=unpark):
                    records.extendleft(reversed(self._waiting.ready(group.vector)))
        except ProtocolViolation as error:
            ledger.install(group)
            fault = Unappliable(arrived.record, arrived.peer, str(error), len(group.records))
            raise fault from None
        ledger.install(group)
        return len(group.records)

    def _admit(self, group: Group, arrived: Arrived, *, unpark: bool) -> bool:
        ledger = self._ledger
        record, decoded, _ = arrived
        replica, seq, stamp, previous, _, _ = decoded
        tip = group.tips.get(replica) or ledger.tips.get(replica, NO_TIP)
        if seq <= tip.seq:
            known = tip.hash if seq == tip.seq else self._successors.hash_of(replica, seq)
            if known is not None and digest(record) != known:
                raise fork(replica, seq)
            return False
        if seq == tip.seq + 1:
            if previous != tip.hash:
                raise fork(replica, seq - 1)
            if stamp <= tip.stamp:
                raise ProtocolViolation(f"{replica.hex()}:{seq} is stamped before its predecessor")
            vector = decoded.vector(tip.vector)
            if dominates(group.vector, vector):
                if stamp > LAST_STAMP or (not unpark and ledger.hlc.is_wild(stamp)):
                    if not ledger.parking.holds(replica, seq):
                        group.park.append(record)
                    return False
                group.admit(record, decoded, vector)
                self._successors.note(replica, seq, previous)
                return True
        self._waiting.add(arrived)
        return False
