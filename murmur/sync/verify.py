"""Verification: two replicas prove that they hold the same, or name the first range that differs.

    asker                                        answerer
    30 VERIFY    [run, salt, vector]      ->     pins a snapshot, if it has this very vector
                                          <-     31 PINNED    [run, vector]
    32 COMPARE   [run, [bound], stop, [digest]] ->
                                          <-     33 COMPARED  [run, index or nil, count, key or nil]
    34 RELEASE   [run]                    ->

Equal vectors must mean equal states (law L5). Both sides hold on to a snapshot of one vector; the
asker cuts the key space into about sixteen ranges and sends their fingerprints, the answerer names
the first that differs, and that one is cut again, until one key is left. While transactions are on
their way vectors differ; the asker then tries again until its deadline, and says how many
transactions lie between.

Every `interval_ms` a node asks one random peer of its own accord; a difference is told as the
notice "diverged". Snapshots are scanned on a worker. Per peer an answerer keeps one snapshot, and
lets go of it when the asker has been silent for HOLD_MS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from murmur.errors import Closed, PeerError, ProtocolViolation
from murmur.kvcore import CELLS_STOP, Measured, Part, Snapshot, measure, partition
from murmur.sync.messages import positional, vector_of
from murmur.sync.service import Fabric, Remote, Urgency
from murmur.sync.wire import pack

VERIFY, PINNED, COMPARE, COMPARED, RELEASE = range(30, 35)
FEATURE = 1 << VERIFY

SALT_BYTES = 16
MAX_BOUNDS = 64
HOLD_MS = 600_000  # either side may scan for so long before the other gives it up
RETRY_MS = 50  # before the second attempt at equal vectors; then twice as long, and so on
RETRY_CAP_MS = 2_000
MAX_DEPTH = 64  # of the search: each step leaves an eighth of the cells at most
INTERVAL_MS = 3_600_000

EQUAL, DIFFERENT, NOT_COMPARABLE = "equal", "different", "not comparable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison with a peer came to.

    `cells` is how many this side compared. If they differ, start <= key < stop is the first range
    that does, and `key` the first key in it that either side holds.
    """

    state: str  # EQUAL, DIFFERENT or NOT_COMPARABLE
    cells: int = 0
    apart: int = 0  # transactions that one side holds and the other does not
    start: bytes = b""
    stop: bytes = b""
    key: bytes | None = None
    vector: Mapping[bytes, int] = field(default_factory=dict)


Answer = Callable[[Verdict | None, BaseException | None], None]


@dataclass(slots=True, eq=False)
class _Asked:
    """A comparison that this node asked for."""

    remote: Remote
    run: int
    salt: bytes
    deadline_ms: int
    answer: Answer
    wait_ms: int = RETRY_MS
    retry_at_ms: int | None = None
    snapshot: Snapshot | None = None
    awaits: int = 0  # the type of message that comes next
    parts: list[Part] = field(default_factory=list)
    stop: bytes = CELLS_STOP
    cells: int = 0
    depth: int = 0
    heard_ms: int = 0
    over: bool = False

    def end(self) -> None:
        self.over = True
        if self.snapshot is not None:
            self.snapshot.close()


@dataclass(slots=True, eq=False)
class _Held:
    """A snapshot that this node holds for a peer."""

    run: int
    salt: bytes
    heard_ms: int
    snapshot: Snapshot | None = None
    busy: bool = True
    over: bool = False

    def end(self) -> None:
        self.over = True
        if self.snapshot is not None:
            self.snapshot.close()


class Verifier:
    """Both roles, for all peers of one node."""

    kinds = (VERIFY, PINNED, COMPARE, COMPARED, RELEASE)
    features = FEATURE

    def __init__(self, *, interval_ms: int = INTERVAL_MS) -> None:
        """0 as the interval: only on demand."""
        self._interval_ms = interval_ms
        self._fabric: Fabric
        self._asked: dict[int, _Asked] = {}
        self._held: dict[bytes, _Held] = {}
        self._next_run = 1
        self._next_round_ms: int | None = None
        self._ended = False

    # -- what the node asks for

    def verify(self, node_id: bytes, deadline_ms: int, answer: Answer, now_ms: int) -> None:
        """Compare with a connected peer; vectors may come to agree until the deadline."""
        remote = next((r for r in self._fabric.remotes() if r.node_id == node_id), None)
        if self._ended:
            answer(None, Closed("the node is closed"))
        elif remote is None:
            answer(None, PeerError("the peer is not connected: nothing can be compared"))
        elif not remote.features & FEATURE:
            answer(None, PeerError("the peer's release cannot compare states"))
        else:
            salt = self._fabric.random.randbytes(SALT_BYTES)
            asked = _Asked(remote, self._next_run, salt, deadline_ms, answer, heard_ms=now_ms)
            self._next_run += 1
            self._asked[asked.run] = asked
            self._pin(asked)

    def give_up(self, answer: Answer) -> None:
        """Whoever waits for the answer does not any more."""
        for asked in list(self._asked.values()):
            if asked.answer is answer:
                self._finish(asked)

    # -- as a service

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """The mesh begins."""
        self._fabric = fabric
        if self._interval_ms:
            self._next_round_ms = now_ms + self._pause()

    def opened(self, remote: Remote, now_ms: int) -> None:
        """Nothing to do before somebody asks."""

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """Take what the peer says."""
        if kind == VERIFY:
            self._asked_to_pin(remote, payload, now_ms)
        elif kind == PINNED:
            self._pinned(remote, payload, now_ms)
        elif kind == COMPARE:
            self._asked_to_compare(remote, payload)
        elif kind == COMPARED:
            self._compared(remote, payload, now_ms)
        else:
            (run,) = positional(payload, "RELEASE", (int,))
            held = self._held.get(remote.node_id)
            if held is not None and held.run == run:
                self._let_go(remote.node_id)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """The conversation has ended, and the comparisons with it."""
        self._let_go(remote.node_id)
        for asked in list(self._asked.values()):
            if asked.remote.node_id == remote.node_id:
                self._finish(asked)
                asked.answer(None, PeerError("the connection was lost during the comparison"))

    def tick(self, now_ms: int) -> None:
        """Retries, silent askers, the periodic round."""
        for node_id, held in list(self._held.items()):
            if now_ms >= held.heard_ms + HOLD_MS and not held.busy:
                self._let_go(node_id)
        for asked in list(self._asked.values()):
            if now_ms >= asked.heard_ms + HOLD_MS:
                self._fail(asked, PeerError("the peer does not answer; the comparison is given up"))
            elif asked.retry_at_ms is not None and now_ms >= asked.retry_at_ms:
                asked.retry_at_ms = None
                self._pin(asked)
        if self._next_round_ms is not None and now_ms >= self._next_round_ms:
            self._next_round_ms = now_ms + self._pause()
            able = [remote for remote in self._fabric.remotes() if remote.features & FEATURE]
            if able:
                remote = self._fabric.random.choice(able)
                self.verify(remote.node_id, now_ms, partial(self._noticed, remote), now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due = [held.heard_ms + HOLD_MS for held in self._held.values() if not held.busy]
        due += [asked.heard_ms + HOLD_MS for asked in self._asked.values()]
        due += [a.retry_at_ms for a in self._asked.values() if a.retry_at_ms is not None]
        if self._next_round_ms is not None:
            due.append(self._next_round_ms)
        return min(due, default=None)

    def end(self) -> None:
        """The mesh closes."""
        self._ended = True
        for node_id in list(self._held):
            self._let_go(node_id)
        for asked in list(self._asked.values()):
            self._finish(asked)
            asked.answer(None, Closed("the node is closed"))

    # -- asking

    def _pin(self, asked: _Asked) -> None:
        def pinned(snapshot: Snapshot | None, error: BaseException | None, now_ms: int) -> None:
            if error is not None or snapshot is None:
                self._fail(asked, error)
            elif asked.over:
                snapshot.close()
            else:
                asked.snapshot, asked.awaits = snapshot, PINNED
                vector = {replica: seq for replica, seq in snapshot.vector.items() if seq}
                self._say(asked.remote, VERIFY, [asked.run, asked.salt, vector])

        self._fabric.labour.submit("verify", self._fabric.outbox.snapshot, pinned)

    def _pinned(self, remote: Remote, payload: bytes, now_ms: int) -> None:
        run, vector = positional(payload, "PINNED", (int, dict))
        theirs = vector_of(vector, "PINNED vector")
        asked = self._mine(remote, run, PINNED, now_ms)
        if asked is None:
            return
        assert asked.snapshot is not None
        apart = _apart(asked.snapshot.vector, theirs)
        if not apart:
            self._cut(asked, b"", CELLS_STOP)
            return
        held = {replica: seq for replica, seq in asked.snapshot.vector.items() if seq}
        asked.snapshot.close()
        asked.snapshot = None
        if now_ms < asked.deadline_ms:
            asked.retry_at_ms = min(now_ms + asked.wait_ms, asked.deadline_ms)
            asked.wait_ms = min(2 * asked.wait_ms, RETRY_CAP_MS)
            return
        self._finish(asked)
        asked.answer(Verdict(NOT_COMPARABLE, apart=apart, vector=held), None)

    def _cut(self, asked: _Asked, start: bytes, stop: bytes) -> None:
        asked.stop, asked.awaits = stop, 0
        asked.depth += 1
        snapshot = asked.snapshot
        assert snapshot is not None

        def work() -> list[Part]:
            return partition(snapshot, start, stop, asked.salt, lambda: asked.over)

        def done(parts: list[Part] | None, error: BaseException | None, now_ms: int) -> None:
            if asked.over:
                return
            if error is not None or parts is None:
                self._fail(asked, error)
                return
            asked.parts, asked.awaits = parts, COMPARED
            if asked.depth == 1:
                asked.cells = sum(part.fingerprint.cells for part in parts)
            bounds = [part.start for part in parts]
            digests = [part.fingerprint.digest for part in parts]
            self._say(asked.remote, COMPARE, [asked.run, bounds, stop, digests])

        self._fabric.labour.submit("verify", work, done)

    def _compared(self, remote: Remote, payload: bytes, now_ms: int) -> None:
        run, index, count, key = positional(
            payload, "COMPARED", (int, (int, type(None)), int, (bytes, type(None)))
        )
        asked = self._mine(remote, run, COMPARED, now_ms)
        if asked is None:
            return
        assert asked.snapshot is not None
        vector = {replica: seq for replica, seq in asked.snapshot.vector.items() if seq}
        if index is None:
            if asked.depth > 1:
                raise ProtocolViolation("COMPARED: equal parts of ranges that differ")
            self._finish(asked)
            asked.answer(Verdict(EQUAL, asked.cells, vector=vector), None)
            return
        if not 0 <= index < len(asked.parts):
            raise ProtocolViolation(f"COMPARED: part {index} of {len(asked.parts)}")
        part = asked.parts[index]
        start = part.start
        stop = asked.parts[index + 1].start if index + 1 < len(asked.parts) else asked.stop
        if key is not None and not start <= key < stop:
            raise ProtocolViolation("COMPARED: a key outside of its range")
        if (key is None) != (count == 0):
            raise ProtocolViolation(f"COMPARED: {count} cells, and a first key or none")
        mine = part.fingerprint.cells
        alone = stop == start + b"\0"
        if mine and count and not alone and asked.depth < MAX_DEPTH:
            self._cut(asked, start, stop)
            return
        if alone:
            key = start
        elif mine:
            key = next(iter(asked.snapshot.scan(start, stop)))[0]
        self._finish(asked)
        asked.answer(
            Verdict(DIFFERENT, asked.cells, start=start, stop=stop, key=key, vector=vector), None
        )

    def _mine(self, remote: Remote, run: int, kind: int, now_ms: int) -> _Asked | None:
        """The comparison that this is an answer to; None if it was given up."""
        asked = self._asked.get(run)
        if asked is None or asked.over:
            return None
        if asked.remote.node_id != remote.node_id or asked.awaits != kind:
            raise ProtocolViolation(f"message type {kind} that nobody asked for")
        asked.awaits, asked.heard_ms = 0, now_ms
        return asked

    def _finish(self, asked: _Asked) -> None:
        self._asked.pop(asked.run, None)
        pinned = asked.snapshot is not None
        asked.end()
        if pinned and not self._ended:
            self._say(asked.remote, RELEASE, [asked.run])

    def _fail(self, asked: _Asked, error: BaseException | None) -> None:
        if not asked.over:
            self._finish(asked)
            asked.answer(None, error)

    def _noticed(
        self, remote: Remote, verdict: Verdict | None, error: BaseException | None
    ) -> None:
        """What the periodic round came to: only a difference is news."""
        if verdict is not None and verdict.state == DIFFERENT:
            where = verdict.key.hex() if verdict.key is not None else "none"
            text = f"its state differs from this one's under equal vectors, first at key {where}"
            self._fabric.notice("diverged", remote.node_id, text)

    # -- answering

    def _asked_to_pin(self, remote: Remote, payload: bytes, now_ms: int) -> None:
        run, salt, vector = positional(payload, "VERIFY", (int, bytes, dict))
        wanted = vector_of(vector, "VERIFY vector")
        if len(salt) != SALT_BYTES:
            raise ProtocolViolation(f"VERIFY: a salt of {len(salt)} bytes")
        if (old := self._held.get(remote.node_id)) is not None and old.busy:
            raise ProtocolViolation("VERIFY: the comparison before it is not over")
        self._let_go(remote.node_id)
        held = self._held[remote.node_id] = _Held(run, salt, now_ms)

        def pinned(snapshot: Snapshot | None, error: BaseException | None, later_ms: int) -> None:
            held.busy, held.heard_ms = False, later_ms
            if error is not None or snapshot is None:
                self._let_go_of(remote.node_id, held)
                return
            own = {replica: seq for replica, seq in snapshot.vector.items() if seq}
            if held.over or own != wanted:
                snapshot.close()
                self._let_go_of(remote.node_id, held)
            else:
                held.snapshot = snapshot
            self._say(remote, PINNED, [run, own])

        self._fabric.labour.submit("verify", self._fabric.outbox.snapshot, pinned)

    def _asked_to_compare(self, remote: Remote, payload: bytes) -> None:
        run, bounds, stop, digests = positional(payload, "COMPARE", (int, list, bytes, list))
        held = self._held.get(remote.node_id)
        if held is None or held.run != run or held.snapshot is None:
            return  # it was let go of, and the asker has been told or has been silent
        if held.busy:
            raise ProtocolViolation("COMPARE: the one before it is not answered")
        if not 0 < len(bounds) == len(digests) <= MAX_BOUNDS:
            raise ProtocolViolation(f"COMPARE: {len(bounds)} ranges, {len(digests)} digests")
        edges = [*bounds, stop]
        if not all(isinstance(each, bytes) for each in (*edges, *digests)) or any(
            left >= right for left, right in pairwise(edges)
        ):
            raise ProtocolViolation("COMPARE: bounds do not ascend")
        held.busy, snapshot = True, held.snapshot

        def work() -> list[Measured]:
            return measure(snapshot, bounds, stop, held.salt, lambda: held.over)

        def done(found: list[Measured] | None, error: BaseException | None, later_ms: int) -> None:
            held.busy, held.heard_ms = False, later_ms
            if held.over or error is not None or found is None:
                self._let_go_of(remote.node_id, held)
                return
            for index, (measured, digest) in enumerate(zip(found, digests, strict=True)):
                if measured.fingerprint.digest != digest:
                    count = measured.fingerprint.cells
                    self._say(remote, COMPARED, [run, index, count, measured.first])
                    return
            self._say(remote, COMPARED, [run, None, 0, None])

        self._fabric.labour.submit("verify", work, done)

    def _let_go(self, node_id: bytes) -> None:
        held = self._held.pop(node_id, None)
        if held is not None:
            held.end()

    def _let_go_of(self, node_id: bytes, held: _Held) -> None:
        held.end()
        if self._held.get(node_id) is held:
            del self._held[node_id]

    # -- both

    def _say(self, remote: Remote, kind: int, fields: list[object]) -> None:
        self._fabric.say(remote.node_id, kind, pack(fields), Urgency.SYNC)

    def _pause(self) -> int:
        return int(self._interval_ms * self._fabric.random.uniform(0.5, 1.5))


def _apart(left: Mapping[bytes, int], right: Mapping[bytes, int]) -> int:
    """Transactions that only one of the two has seen."""
    return sum(
        abs(left.get(replica, 0) - right.get(replica, 0)) for replica in left.keys() | right.keys()
    )
