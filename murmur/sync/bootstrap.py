"""Bootstrap and trimming, as a service of the node (service.py).

Each side tells where it stands: what its log lacks, and what it holds durably. From that follow

    fetching     a peer's log lacks what this replica lacks: take a snapshot (bootstrap_fetching.py)
    serving      what peers that fetch are given (bootstrap_serving.py)
    trimming     what every member holds need not stay in the log (stability.py); it goes when the
                 log is larger than `log_bytes`, or older than `log_days`

The messages are in bootstrap_wire.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from murmur.errors import MurmurError, ProtocolViolation
from murmur.kvcore import Storage, write_atomically
from murmur.sync.bootstrap_fetching import Fetching
from murmur.sync.bootstrap_need import LEAST_NEED_BYTES
from murmur.sync.bootstrap_serving import Serving
from murmur.sync.bootstrap_sources import BootstrapStatus, Stage
from murmur.sync.bootstrap_wire import (
    ASK,
    DATA,
    DONE,
    FEATURE,
    GONE,
    GOT,
    HASH_BYTES,
    OFFER,
    STAND,
    WANT,
    Keeper,
)
from murmur.sync.messages import TIP_BYTES, positional, vector_of
from murmur.sync.service import Fabric, Remote, Service, Urgency
from murmur.sync.stability import ACKS_FILE, DAY_MS, Stability
from murmur.sync.wire import pack

LANE = "snapshots"
STAND_MS = 5_000  # between two tellings, where nothing urgent has changed
TRIM_MS = 60_000
SLICE_S = 0.002  # of work on a snapshot, between two rests
REST_S = 0.001


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """How much of the log is kept although nobody needs it, and whom it is kept for."""

    log_bytes: int = 1 << 30
    log_days: float | None = None  # older than this it goes in any case
    expire_days: float = 30  # a member silent for so long is no longer waited for


class Breather:
    """Lets other threads run: rests after every slice of work."""

    def __init__(self, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._rested = monotonic()

    def __call__(self) -> None:
        """Rest, if it is time."""
        if self._monotonic() - self._rested >= SLICE_S:
            self._sleep(REST_S)
            self._rested = self._monotonic()


class Bootstrap(Service):
    """The service of one node."""

    kinds = (STAND, ASK, OFFER, WANT, DATA, GOT, GONE, DONE)
    features = FEATURE

    def __init__(
        self,
        replica: Keeper,
        storage: Storage,
        *,
        members: Callable[[], Iterable[bytes]],
        policy: LogPolicy | None = None,
        pause: Callable[[], None] = lambda: None,
        least_need_bytes: int = LEAST_NEED_BYTES,
    ) -> None:
        """`members` are the node ids for whom the log is kept."""
        self._replica = replica
        self._storage = storage
        self._members = members
        self._policy = policy or LogPolicy()
        self._stability = Stability(storage, int(self._policy.expire_days * DAY_MS))
        self._serving = Serving(replica, pause)
        self._fetching = Fetching(replica, storage, pause, least_need_bytes)
        self._fabric: Fabric
        self._told: tuple[object, object] = ({}, {})
        self._told_ms = 0
        self._trim_at_ms = 0
        self._trimming = False
        self._expired: set[bytes] = set()
        self._holding: set[bytes] = set()

    @property
    def fetching(self) -> bool:
        """Whether this replica is taking a snapshot."""
        return self._fetching.stage in (Stage.ASKING, Stage.FETCHING, Stage.JOINING)

    def status(self) -> BootstrapStatus:
        """How far a bootstrap of this replica has come."""
        return self._fetching.status()

    # -- as a service

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """The mesh begins."""
        self._fabric = fabric
        self._trim_at_ms = now_ms + TRIM_MS
        if self._stability.damage is not None:
            text = f"the log is kept until all members were heard of: {self._stability.damage}"
            fabric.notice("error", fabric.node_id, text)
        self._serving.start(fabric)
        self._fetching.start(fabric, now_ms)

    def opened(self, remote: Remote, now_ms: int) -> None:
        """A conversation is open."""
        self._stability.hear(remote.node_id, None, self._wall_ms())
        self._fetching.opened(remote, now_ms)
        if remote.features & FEATURE:
            self._tell([remote])
        elif self._replica.floor:
            text = (
                "its release cannot take snapshots, and the log here no longer holds everything: "
                "if it lacks what was trimmed, it does not catch up before it is upgraded"
            )
            self._fabric.notice("error", remote.node_id, text)

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """Take what the peer says."""
        if kind == STAND:
            floor, durable, state, log = positional(payload, "STAND", (dict, dict, int, int))
            vector = vector_of(durable, "STAND durable vector")
            self._stability.hear(remote.node_id, vector, self._wall_ms())
            missing = vector_of(floor, "STAND floor")
            self._fetching.stands(remote, missing, vector, state, log, now_ms)
        elif kind == ASK:
            tips, last = positional(payload, "ASK", (dict, (bytes, type(None))))
            self._hold(remote, now_ms)
            self._serving.asked(remote, _tips(tips), last, now_ms)
        elif kind == OFFER:
            identity, size, _ = positional(payload, "OFFER", (bytes, int, int))
            self._fetching.offered(remote, _hash(identity), size, now_ms)
        elif kind == WANT:
            (digest,) = positional(payload, "WANT", (bytes,))
            self._serving.wanted(remote, _hash(digest), now_ms)
        elif kind == DATA:
            digest, size, offset, part = positional(payload, "DATA", (bytes, int, int, bytes))
            self._fetching.data(remote, _hash(digest), size, offset, part, now_ms)
        elif kind == GOT:
            (digest,) = positional(payload, "GOT", (bytes,))
            self._serving.got(remote, _hash(digest))
        elif kind == GONE:
            (digest,) = positional(payload, "GONE", (bytes,))
            self._fetching.gone(remote, _hash(digest), now_ms)
        else:
            self._release(remote, now_ms)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """A conversation has ended."""
        self._holding.discard(remote.node_id)
        self._serving.closed(remote)
        self._fetching.closed(remote, now_ms)

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        self._serving.tick(now_ms)
        self._fetching.tick(now_ms)
        floor, durable = self._replica.floor, self._replica.durable_vector
        moved = durable != self._told[1] and now_ms >= self._told_ms + STAND_MS
        if floor is not self._told[0] or moved:
            self._told, self._told_ms = (floor, durable), now_ms
            self._tell([r for r in self._fabric.remotes() if r.features & FEATURE])
        if now_ms >= self._trim_at_ms and not self._trimming:
            self._trim_at_ms = now_ms + TRIM_MS
            self._trim()

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due = [
            self._trim_at_ms,
            self._serving.next_timer_ms(),
            self._fetching.next_timer_ms(now_ms),
        ]
        if self._replica.floor is not self._told[0]:
            due.append(now_ms)
        elif self._replica.durable_vector != self._told[1]:
            due.append(self._told_ms + STAND_MS)
        return min((moment for moment in due if moment is not None), default=None)

    def end(self) -> None:
        """The mesh closes."""
        self._serving.end()
        self._fetching.end()

    # -- telling

    def _tell(self, remotes: list[Remote]) -> None:
        """Say where this replica stands."""
        if not remotes:
            return
        vectors = [
            {replica: seq for replica, seq in vector.items() if seq}
            for vector in (self._replica.floor, self._replica.durable_vector)
        ]

        def measured(
            found: tuple[int, int] | None, error: BaseException | None, now_ms: int
        ) -> None:
            state, log = found or (0, 0)
            for remote in remotes:
                payload = pack([*vectors, state, log])
                self._fabric.say(remote.node_id, STAND, payload, Urgency.SYNC)

        self._fabric.labour.submit(LANE, partial(_sizes, self._replica), measured)

    def _hold(self, remote: Remote, now_ms: int) -> None:
        self._holding.add(remote.node_id)
        self._fabric.hold(remote.node_id, now_ms, held=True)

    def _release(self, remote: Remote, now_ms: int) -> None:
        if remote.node_id in self._holding:
            self._holding.discard(remote.node_id)
            self._fabric.hold(remote.node_id, now_ms, held=False)

    # -- trimming

    def _trim(self) -> None:
        wall_ms = self._wall_ms()
        for remote in self._fabric.remotes():
            self._stability.hear(remote.node_id, None, wall_ms)
        self._stability.follow(self._members(), wall_ms)
        expired = self._stability.expired(wall_ms)
        for node_id in sorted(expired - self._expired):
            since = f"silent for {self._policy.expire_days:g} days"
            text = f"{since}: the log is no longer kept for it; it will take a snapshot"
            self._fabric.notice("expired", node_id, text)
        self._expired = expired
        own = self._replica.durable_vector
        stable = self._stability.stable(own, wall_ms)
        days = self._policy.log_days
        before_ms = None if days is None else wall_ms - int(days * DAY_MS)
        keep_bytes, trims = self._policy.log_bytes, not self._serving.busy
        acks = self._stability.changes()
        self._trimming = True

        def work() -> int:
            if acks is not None:
                write_atomically(self._storage, ACKS_FILE, acks)
            if not trims:
                return 0
            return self._replica.trim(stable, keep_bytes=keep_bytes, before_ms=before_ms)

        def trimmed(_: int | None, error: BaseException | None, now_ms: int) -> None:
            self._trimming = False
            if isinstance(error, (MurmurError, OSError)):
                text = f"the log could not be trimmed: {error}"
                self._fabric.notice("error", self._fabric.node_id, text)

        self._fabric.labour.submit(LANE, work, trimmed)

    def _wall_ms(self) -> int:
        return self._replica.clock.now_ms()


def _sizes(replica: Keeper) -> tuple[int, int]:
    """About how many bytes the state and the log are."""
    stats = replica.stats()
    levels, start, end = stats.get("level_bytes"), stats["log_start"], stats["log_end"]
    assert isinstance(start, int)
    assert isinstance(end, int)
    return sum(levels) if isinstance(levels, (list, tuple)) else 0, end - start


def _tips(value: dict[object, object]) -> dict[bytes, tuple[int, bytes]]:
    seqs = {}
    hashes = {}
    for replica, tip in value.items():
        if not isinstance(tip, list) or len(tip) != 2 or not isinstance(tip[1], bytes):
            raise ProtocolViolation("ASK: a tip is not [seq, hash]")
        if len(tip[1]) != TIP_BYTES:
            raise ProtocolViolation(f"ASK: a hash of {len(tip[1])} bytes")
        seqs[replica], hashes[replica] = tip
    return {replica: (seq, hashes[replica]) for replica, seq in vector_of(seqs, "ASK tips").items()}


def _hash(value: bytes) -> bytes:
    if len(value) != HASH_BYTES:
        raise ProtocolViolation(f"a snapshot's hash of {len(value)} bytes")
    return value
