"""What flows over one open conversation: the log to the peer, its records to the replica.

    log -> cursor -> session -> link            as far as the peer gives room
    link -> session -> inbox -> Replica.apply   one slice at a time, off the loop

Everybody forwards everything, so that a line or a star of nodes converges. But where the peer
converses with the author itself (it says so: LINKS), the author's transactions are left to the
author; only if the peer makes no progress with them for `grace_ms` does this node send them too.
So a full mesh carries each transaction about once per peer. With many peers, push.py says to whom
this node sends at all.

A peer may have to set aside what it gets (a dependency that comes by another way, a wild clock) and
has room for only so much of that. When something that arrived is still not admitted after a while,
this side asks the peer to begin again from what it holds (RESEND).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from murmur.errors import ProtocolViolation, Trimmed
from murmur.kvcore import Delivery
from murmur.sync.outbox import Applied, Cursor, Outbox, Part, Slice, Vector, serves
from murmur.sync.peer import Event, PeerSession, Received
from murmur.sync.service import Urgency
from murmur.sync.transport import Labour

SLICE_BYTES = 256 << 10  # read from the log at a time
COALESCED_BYTES = 64 << 10  # so much new is sent at once
INLINE_BYTES = 32 << 10  # so little is read by the loop itself: a hand-over would cost more
MAX_GIVEN = 16  # askings of the peer that are not answered
APPLY_RECORDS = 512  # in one call of Replica.apply: an application's commit waits that long


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an exchange waits for others to do what it could do itself."""

    grace_ms: int = 3_000
    coalesce_ms: int = 3  # what is new waits so long after the last push, for more
    leave_ms: int = 3_000  # what a peer asks for goes first, and so long after its last asking
    repair_ms: int = 5_000
    repair_cap_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one slice of received records came to."""

    applied: Applied
    last: dict[bytes, int]
    duplicates: int  # records that were known already
    refused: list[tuple[bytes, str]]  # other peers, who had sent what proved unappliable, and why


class Exchange:
    """Both directions of one open conversation."""

    def __init__(
        self,
        outbox: Outbox,
        session: PeerSession,
        labour: Labour,
        patience: Patience,
        *,
        on_events: Callable[[list[Event], int], None],
        on_error: Callable[[BaseException, int], None],
    ) -> None:
        self.session = session
        self.inbox: deque[Received] = deque()
        self.applied_records = 0
        self.sent_records = 0
        self.duplicates = 0
        self.received = 0
        self.received_bytes = 0
        self.progress = 0
        self.arrived: dict[bytes, int] = {}
        self._outbox = outbox
        self._labour = labour
        self._patience = patience
        self._on_events = on_events
        self._on_error = on_error
        self._cursor = Cursor(outbox, session.known)
        self._reading = False
        self._trimmed = False  # the log lacks what the peer lacks: it takes a snapshot
        self._held = False  # the peer takes a snapshot although the log has everything
        self._eager = True
        self._pushed_ms = -patience.coalesce_ms
        self._push_at_ms: int | None = None
        self._given: deque[Part] = deque()
        self._leave_until_ms: int | None = None
        self._left_to_it: Vector = {}
        # Newest seqs that arrived here and are not admitted, and (the admitted seq, since when).
        self._offered: dict[bytes, int] = {}
        self._stuck: dict[bytes, tuple[int, int]] = {}
        self._repair_wait_ms = patience.repair_ms
        # Authors left to themselves although there was something: (the peer's seq, since when).
        self._left: dict[bytes, tuple[int, int]] = {}
        self._impatient: set[bytes] = set()

    # -- to the peer

    def pump(self, now_ms: int) -> None:
        """Read on in the log if there is more and the peer takes it."""
        session = self.session
        if self._reading or self._held or not session.hungry:
            return
        if self._given:
            self._reading = True
            given = partial(self._given[0].read, min(SLICE_BYTES, session.room()))
            self._labour.submit("read", given, self._part_done)
            return
        if not self._eager or self._leaves(now_ms):
            return
        if self._trimmed:
            if not serves(self._outbox.floor, session.known):
                return
            self._trimmed = False
            self.rewind()
        cursor = self._cursor
        distance = cursor.distance()
        if cursor.live and distance <= 0:
            return
        self._push_at_ms = None
        if cursor.live and distance < COALESCED_BYTES:
            if now_ms < self._pushed_ms + self._patience.coalesce_ms:
                self._push_at_ms = self._pushed_ms + self._patience.coalesce_ms
                return
            self._pushed_ms = now_ms
        work = partial(cursor.read, min(SLICE_BYTES, session.room()), self._avoided())
        if cursor.live and distance <= INLINE_BYTES:
            try:
                part = work()
            except Trimmed:
                self._trimmed = True
                return
            except Exception as error:
                self._on_error(error, now_ms)
                return
            self._send(part, now_ms)
        else:
            self._reading = True
            self._labour.submit("read", work, partial(self._read_done, cursor))

    def _read_done(
        self, cursor: Cursor, part: Slice | None, error: BaseException | None, now_ms: int
    ) -> None:
        self._reading = False
        if isinstance(error, Trimmed):
            self._trimmed = True
            self.pump(now_ms)
        elif error is not None:
            self._on_error(error, now_ms)
        elif part is not None and cursor is self._cursor:
            self._send(part, now_ms)
            self.pump(now_ms)
        else:
            self.pump(now_ms)

    def _send(self, part: Slice, now_ms: int) -> None:
        for replica in sorted(part.skipped - self._left.keys()):  # a seed replays the order
            self._left[replica] = (self.session.admitted.get(replica, 0), now_ms)
        if part.records:
            self.sent_records += len(part.records)
            urgency = Urgency.LIVE if self._cursor.live else Urgency.SYNC
            self._on_events(self.session.send(part.records, part.last, urgency), now_ms)

    def hold(self, now_ms: int, *, held: bool) -> None:
        """Send nothing from the log while the peer takes a snapshot."""
        self._held = held
        self.pump(now_ms)

    def give(self, ranges: Mapping[bytes, tuple[int, int]], now_ms: int) -> None:
        """Send what the peer asks for, before anything else of the log."""
        if len(self._given) >= MAX_GIVEN:
            raise ProtocolViolation(f"WANT: more than {MAX_GIVEN} are not answered")
        self._given.append(Part(self._outbox, ranges))
        self._leave_on(now_ms)
        self.pump(now_ms)

    def _part_done(
        self,
        found: tuple[list[bytes], bool] | None,
        error: BaseException | None,
        now_ms: int,
    ) -> None:
        self._reading = False
        if isinstance(error, Trimmed):
            self._given.popleft()  # the peer asks somebody else, or for a snapshot
        elif error is not None or found is None:
            self._on_error(error or AssertionError("nothing was read"), now_ms)
            return
        else:
            records, ended = found
            if ended:
                self._given.popleft()
            self._leave_on(now_ms)
            if records:
                self.sent_records += len(records)
                # It need not follow what the peer holds: `known` grows as the peer says so.
                self._on_events(self.session.send(records, {}, Urgency.SYNC), now_ms)
        self.pump(now_ms)

    def leave(self, until_ms: int) -> None:
        """Leave it to the peer to ask for what it was told of when the conversation opened."""
        self._leave_until_ms = until_ms
        # It knows of this, and asks for it; what came after is pushed.
        self._left_to_it = dict(self.session.told)

    def _leave_on(self, now_ms: int) -> None:
        if self._leave_until_ms is not None:
            self._leave_until_ms = max(self._leave_until_ms, now_ms + self._patience.leave_ms)

    def _leaves(self, now_ms: int) -> bool:
        """Whether the peer is asking for what it lacks, so that nothing is sent unasked."""
        if self._leave_until_ms is None:
            return False
        held = self.session.admitted
        over = now_ms >= self._leave_until_ms and not self.session.in_flight
        if over or all(held.get(r, 0) >= seq for r, seq in self._left_to_it.items()):
            self._leave_until_ms = None
            self.rewind()
            return False
        return True

    def hear(self, durable: Vector) -> None:
        """The peer says that it durably holds this."""
        self.session.hear(durable)

    @property
    def durable(self) -> Vector:
        """What the peer durably holds."""
        return self.session.durable

    @property
    def heard(self) -> int:
        """How often the peer said what it holds."""
        return self.session.acks

    @property
    def busy(self) -> bool:
        """Whether something has arrived and is not yet applied."""
        return bool(self.inbox)

    def turn(self, *, eager: bool, now_ms: int) -> None:
        """Send what is new at once from now on, or no more (push.py)."""
        if eager and not self._eager:
            self.rewind()
        self._eager = eager
        self.pump(now_ms)

    def rewind(self) -> None:
        """Read the log again, from what the peer is known to hold."""
        # A reading under way belongs to the old cursor and is dropped when it comes back.
        self._cursor = Cursor(self._outbox, self.session.known)
        self._left.clear()

    def relinked(self, now_ms: int) -> None:
        """The peer converses with others than before: some authors may have to be sent for."""
        self._impatient &= self.session.links
        if not self._left.keys() <= self.session.links:
            self.rewind()
        self.pump(now_ms)

    def _avoided(self) -> frozenset[bytes]:
        return self.session.links - self._impatient - {self._outbox.id}

    def _review(self, now_ms: int) -> None:
        """Stop leaving records to authors who do not get them across."""
        held, durable = self.session.admitted, self._outbox.durable_vector
        for replica, (seq, since_ms) in list(self._left.items()):
            have = held.get(replica, 0)
            if have >= durable.get(replica, 0):
                del self._left[replica]
            elif have > seq:
                self._left[replica] = (have, now_ms)
            elif now_ms - since_ms >= self._patience.grace_ms:
                self._impatient.add(replica)
                self.rewind()
                self.pump(now_ms)
                return
        if self._impatient:
            self._impatient = {
                replica
                for replica in self._impatient
                if held.get(replica, 0) < durable.get(replica, 0)
            }

    # -- from the peer

    def receive(self, received: Received) -> None:
        """Queue what arrived."""
        self.received += len(received.records)
        self.received_bytes += received.size
        if len(received.records) <= APPLY_RECORDS:
            self.inbox.append(received)
            return
        records, rest = received.records, received.size
        for start in range(0, len(records), APPLY_RECORDS):
            part = records[start : start + APPLY_RECORDS]
            size = min(rest, sum(map(len, part)) + 4 * len(part) + 4)
            if start + APPLY_RECORDS >= len(records):
                size = rest
            rest -= size
            self.inbox.append(Received(part, size))

    def take(self) -> Callable[[], Outcome]:
        """The work of applying the first slice of the inbox."""
        assert self.session.remote_id is not None
        return partial(_apply, self._outbox, self.inbox[0].records, self.session.remote_id)

    def done(self, outcome: Outcome, now_ms: int) -> None:
        """The slice was applied: the peer may send more."""
        received = self.inbox.popleft()
        self.applied_records += outcome.applied.admitted
        self.duplicates += outcome.duplicates
        self.progress += 1
        for replica, seq in outcome.last.items():
            if seq > self.arrived.get(replica, 0):
                self.arrived[replica] = seq
            if seq > self._offered.get(replica, 0):
                self._offered[replica] = seq
        self.session.applied(received.size, now_ms)
        self._watch(now_ms)

    def _watch(self, now_ms: int) -> None:
        """See which authors' transactions arrived and are not admitted, and whether they move."""
        if not self._offered:
            return
        vector = self._outbox.vector
        for replica, seq in list(self._offered.items()):
            have = vector.get(replica, 0)
            if have >= seq:
                del self._offered[replica]
                self._stuck.pop(replica, None)
            elif self._stuck.get(replica, (-1, 0))[0] != have:
                self._stuck[replica] = (have, now_ms)
        if not self._offered:
            self._repair_wait_ms = self._patience.repair_ms

    # -- time

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        if self._push_at_ms is not None and now_ms >= self._push_at_ms:
            self.pump(now_ms)
        if self._leave_until_ms is not None and now_ms >= self._leave_until_ms:
            self.pump(now_ms)
        if self._left or self._impatient:
            self._review(now_ms)
        if self._stuck and not self.inbox:
            self._watch(now_ms)
            waited = (now_ms - since_ms for _, since_ms in self._stuck.values())
            if max(waited, default=-1) >= self._repair_wait_ms:
                self._repair_wait_ms = min(2 * self._repair_wait_ms, self._patience.repair_cap_ms)
                self._stuck = {r: (seq, now_ms) for r, (seq, _) in self._stuck.items()}
                self.session.ask_again(self._outbox.vector)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due = [since_ms + self._repair_wait_ms for _, since_ms in self._stuck.values()]
        if self._leave_until_ms is not None:
            due.append(max(self._leave_until_ms, now_ms + 100))
        if self._left:
            due.append(now_ms + self._patience.grace_ms // 4)
        timer = max(now_ms + 10, min(due)) if due else None
        if self._push_at_ms is None:
            return timer
        return self._push_at_ms if timer is None else min(timer, self._push_at_ms)


def _apply(outbox: Outbox, records: Sequence[bytes], peer: bytes) -> Outcome:
    """Apply, and note the newest seq of each replica (worker's side)."""
    before, duplicates = outbox.vector, 0
    delivery = Delivery(records, peer)
    applied = outbox.apply(delivery)
    last: dict[bytes, int] = {}
    for record in records:
        replica, seq = record[1:9], int.from_bytes(record[9:17])
        duplicates += seq <= before.get(replica, 0)
        if seq > last.get(replica, 0):
            last[replica] = seq
    return Outcome(applied, last, duplicates, delivery.refused)
