"""Verification: two replicas prove that they hold the same, or name the first range that differs.

Equal vectors must mean equal states (law L5), and so must the parts of two states that no
transaction beyond the common cut of their vectors has touched (kvcore/touched.py). So replicas that
write all the time can be compared too:

    round 1    both hold on to a snapshot; all cells but those of keys that either side has touched
               beyond the cut are compared
    round 2    new snapshots; of the keys that were left out, those that are at rest now
    ...        until none is left, or the deadline

Each round is a search: the asker cuts the key space into about sixteen ranges and sends their
fingerprints, the answerer names the first that differs, and that one is cut again, until one key is
left. Too much may lie between the two: then nothing is compared, and the asker tries again, for
synchronization goes on meanwhile. What is undecided at the deadline is said to be so, and why.

Every `interval_ms` a node asks one random peer of its own accord; a difference is told as the
notice "diverged", and what could not be decided as "undecided".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from murmur.errors import Closed, PeerError, ProtocolViolation
from murmur.kvcore import CELLS_STOP, Narrowed, Part, Snapshot, partition
from murmur.sync.messages import positional, vector_of
from murmur.sync.service import Fabric, Remote, Service, Urgency
from murmur.sync.verify_answering import Answerer, Keys, touched_beyond
from murmur.sync.verify_wire import (
    COMPARE,
    COMPARED,
    DIFFERENT,
    EQUAL,
    FEATURE,
    HOLD_MS,
    PINNED,
    RELEASE,
    SALT_BYTES,
    UNDECIDED,
    VERIFY,
    Verdict,
    apart,
    keys_of,
)
from murmur.sync.wire import pack

RETRY_MS = 50  # before the second round; then twice as long, and so on
RETRY_CAP_MS = 2_000
SETTLE_MS = 5_000  # for what was left out, if comparing the rest took until the deadline
PERIODIC_MS = 30_000  # the deadline of a periodic comparison
MAX_DEPTH = 64  # of the search: each step leaves an eighth of the cells at most
INTERVAL_MS = 3_600_000

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
    only: Keys = None  # what is still to be compared; None: everything
    left_out: Keys = None  # of this round
    snapshot: Snapshot | None = None
    view: Narrowed | None = None
    awaits: int = 0  # the type of message that comes next
    parts: list[Part] = field(default_factory=list)
    stop: bytes = CELLS_STOP
    cells: int = 0
    apart: int = 0
    depth: int = 0
    heard_ms: int = 0
    pinned_there: bool = False  # the peer may hold a snapshot for it
    begun: bool = False  # with each peer one comparison at a time; others wait in line
    over: bool = False

    def let_go(self) -> None:
        """Let go of the round's snapshot."""
        if self.snapshot is not None:
            self.snapshot.close()
        self.snapshot = self.view = None

    def verdict(self, state: str, reason: str = "") -> Verdict:
        """What it has come to."""
        return Verdict(
            state, self.cells, 0 if state == EQUAL else self.apart, vector=self.held, reason=reason
        )

    @property
    def held(self) -> dict[bytes, int]:
        """The vector of the snapshot."""
        vector = self.snapshot.vector if self.snapshot is not None else {}
        return {replica: seq for replica, seq in vector.items() if seq}


class Verifier(Service):
    """Both roles, for all peers of one node."""

    kinds = (VERIFY, PINNED, COMPARE, COMPARED, RELEASE)
    features = FEATURE

    def __init__(self, *, interval_ms: int = INTERVAL_MS) -> None:
        """0 as the interval: only on demand."""
        self._interval_ms = interval_ms
        self._fabric: Fabric
        self._answerer: Answerer
        self._asked: dict[int, _Asked] = {}
        self._next_run = 1
        self._next_round_ms: int | None = None
        self._ended = False

    # -- what the node asks for

    def verify(self, node_id: bytes, deadline_ms: int, answer: Answer, now_ms: int) -> None:
        """Compare with a connected peer; what is being written may come to rest until then."""
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
            self._next(now_ms)

    def give_up(self, answer: Answer) -> None:
        """Whoever waits for the answer does not any more."""
        for asked in list(self._asked.values()):
            if asked.answer is answer:
                self._finish(asked)

    # -- as a service

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """The mesh begins."""
        self._fabric = fabric
        self._answerer = Answerer(fabric)
        if self._interval_ms:
            self._next_round_ms = now_ms + self._pause()

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """Take what the peer says."""
        if kind == VERIFY:
            self._answerer.pin(remote, payload, now_ms)
        elif kind == PINNED:
            self._pinned(remote, payload, now_ms)
        elif kind == COMPARE:
            self._answerer.compare(remote, payload)
        elif kind == COMPARED:
            self._compared(remote, payload, now_ms)
        else:
            self._answerer.release(remote, payload)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """The conversation has ended, and the comparisons with it."""
        self._answerer.let_go(remote.node_id)
        for asked in list(self._asked.values()):
            if asked.remote.node_id == remote.node_id:
                self._fail(asked, PeerError("the connection was lost during the comparison"))

    def tick(self, now_ms: int) -> None:
        """Retries, silent askers, the periodic round."""
        self._answerer.tick(now_ms)
        self._next(now_ms)
        for asked in list(self._asked.values()):
            if not asked.begun:
                continue
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
                noticed = partial(self._noticed, remote)
                self.verify(remote.node_id, now_ms + PERIODIC_MS, noticed, now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due = self._answerer.timers()
        due += [asked.heard_ms + HOLD_MS for asked in self._asked.values() if asked.begun]
        due += [now_ms for asked in self._firsts() if not asked.begun]
        due += [a.retry_at_ms for a in self._asked.values() if a.retry_at_ms is not None]
        if self._next_round_ms is not None:
            due.append(self._next_round_ms)
        return min(due, default=None)

    def end(self) -> None:
        """The mesh closes."""
        self._ended = True
        for node_id in list(self._answerer.held):
            self._answerer.let_go(node_id)
        for asked in list(self._asked.values()):
            self._fail(asked, Closed("the node is closed"))

    # -- a round: snapshots, and what is left out

    def _firsts(self) -> list[_Asked]:
        """Of each peer the comparison that was asked for first."""
        firsts: dict[bytes, _Asked] = {}
        for asked in self._asked.values():
            firsts.setdefault(asked.remote.node_id, asked)
        return list(firsts.values())

    def _next(self, now_ms: int) -> None:
        """Begin those whose turn it is."""
        for asked in self._firsts():
            if not asked.begun:
                asked.begun, asked.heard_ms = True, now_ms
                self._pin(asked)

    def _pin(self, asked: _Asked) -> None:
        def pinned(snapshot: Snapshot | None, error: BaseException | None, now_ms: int) -> None:
            if error is not None or snapshot is None:
                self._fail(asked, error)
            elif asked.over:
                snapshot.close()
            else:
                asked.snapshot, asked.awaits, asked.pinned_there = snapshot, PINNED, True
                fields = [asked.run, asked.salt, asked.held, asked.only]
                self._say(asked.remote, VERIFY, fields)

        self._fabric.labour.submit("verify", self._fabric.outbox.snapshot, pinned)

    def _pinned(self, remote: Remote, payload: bytes, now_ms: int) -> None:
        run, vector, keys = positional(payload, "PINNED", (int, dict), ((list, type(None)),))
        theirs = vector_of(vector, "PINNED vector")
        touched_there = keys_of(keys, "PINNED")
        asked = self._mine(remote, run, PINNED, now_ms)
        if asked is None:
            return
        snapshot = asked.snapshot
        assert snapshot is not None
        asked.apart = apart(snapshot.vector, theirs)
        if not asked.apart:
            self._begin(asked, [])
            return
        if touched_there is None:
            self._again(asked, now_ms)
            return

        def done(found: Keys, error: BaseException | None, later_ms: int) -> None:
            if asked.over:
                return
            if error is not None:
                self._fail(asked, error)
            elif found is None:
                self._again(asked, later_ms)
            else:
                self._begin(asked, sorted({*found, *touched_there}))

        work = partial(touched_beyond, self._fabric.outbox, snapshot, theirs)
        self._fabric.labour.submit("verify", work, done)

    def _begin(self, asked: _Asked, left_out: list[bytes]) -> None:
        """What is compared in this round is known."""
        assert asked.snapshot is not None
        if asked.only is not None:
            wanted = set(asked.only)
            left_out = [key for key in left_out if key in wanted]
        asked.left_out, asked.depth = left_out, 0
        asked.view = Narrowed(asked.snapshot, asked.only, left_out)
        self._cut(asked, b"", CELLS_STOP)

    def _again(self, asked: _Asked, now_ms: int) -> None:
        """Another round later, or the verdict that it stays undecided."""
        if now_ms < asked.deadline_ms:
            asked.let_go()
            asked.retry_at_ms = min(now_ms + asked.wait_ms, asked.deadline_ms)
            asked.wait_ms = min(2 * asked.wait_ms, RETRY_CAP_MS)
            return
        if asked.only is None:
            reason = (
                f"{asked.apart} transactions lie between the two, and which keys they touch cannot "
                "be told: let them catch up, and ask again"
            )
        else:
            reason = (
                f"all is equal but for {len(asked.only)} keys that were written to whenever they "
                f"were looked at, first {asked.only[0].hex()}: ask again with more time"
            )
        verdict = asked.verdict(UNDECIDED, reason)
        self._finish(asked)
        asked.answer(verdict, None)

    # -- the search

    def _cut(self, asked: _Asked, start: bytes, stop: bytes) -> None:
        asked.stop, asked.awaits = stop, 0
        asked.depth += 1
        view = asked.view
        assert view is not None

        def work() -> list[Part]:
            return partition(view, start, stop, asked.salt, lambda: asked.over)

        def done(parts: list[Part] | None, error: BaseException | None, now_ms: int) -> None:
            if asked.over:
                return
            if error is not None or parts is None:
                self._fail(asked, error)
                return
            asked.parts, asked.awaits = parts, COMPARED
            if asked.depth == 1:
                asked.cells += sum(part.fingerprint.cells for part in parts)
            bounds = [part.start for part in parts]
            digests = [part.fingerprint.digest for part in parts]
            without = asked.left_out if asked.depth == 1 else None
            self._say(asked.remote, COMPARE, [asked.run, bounds, stop, digests, without])

        self._fabric.labour.submit("verify", work, done)

    def _compared(self, remote: Remote, payload: bytes, now_ms: int) -> None:
        run, index, count, key = positional(
            payload, "COMPARED", (int, (int, type(None)), int, (bytes, type(None)))
        )
        asked = self._mine(remote, run, COMPARED, now_ms)
        if asked is None:
            return
        assert asked.view is not None
        if index is None:
            if asked.depth > 1:
                raise ProtocolViolation("COMPARED: equal parts of ranges that differ")
            self._round_is_equal(asked, now_ms)
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
            key = next(iter(asked.view.scan(start, stop)))[0]
        verdict = Verdict(
            DIFFERENT, asked.cells, asked.apart, start=start, stop=stop, key=key, vector=asked.held
        )
        self._finish(asked)
        asked.answer(verdict, None)

    def _round_is_equal(self, asked: _Asked, now_ms: int) -> None:
        if not asked.left_out:
            verdict = asked.verdict(EQUAL)
            self._finish(asked)
            asked.answer(verdict, None)
            return
        if asked.only is None:
            asked.deadline_ms = max(asked.deadline_ms, now_ms + SETTLE_MS)
        asked.only = asked.left_out
        self._again(asked, now_ms)

    # -- ends

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
        asked.over = True
        asked.let_go()
        if asked.pinned_there and not self._ended:
            self._say(asked.remote, RELEASE, [asked.run])

    def _fail(self, asked: _Asked, error: BaseException | None) -> None:
        if not asked.over:
            self._finish(asked)
            asked.answer(None, error)

    def _noticed(
        self, remote: Remote, verdict: Verdict | None, error: BaseException | None
    ) -> None:
        """What the periodic round came to: equality is no news."""
        if verdict is not None and verdict.state == DIFFERENT:
            where = verdict.key.hex() if verdict.key is not None else "none"
            text = f"its state differs after the same transactions, first at key {where}"
            self._fabric.notice("diverged", remote.node_id, text)
        elif verdict is not None and verdict.state == UNDECIDED:
            self._fabric.notice("undecided", remote.node_id, verdict.reason)

    def _say(self, remote: Remote, kind: int, fields: list[object]) -> None:
        self._fabric.say(remote.node_id, kind, pack(fields), Urgency.SYNC)

    def _pause(self) -> int:
        return int(self._interval_ms * self._fabric.random.uniform(0.5, 1.5))
