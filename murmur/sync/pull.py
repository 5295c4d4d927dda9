"""Pull: what this node lacks is asked for, a part of it from each of several peers.

    37 DIGEST   [digest of the durable vector, clock ms]    every 1 to 15 s, to a random peer
    38 VECTOR   [answer?, durable vector]                   if the digest was another
    39 WANT     [{author: [first, last]}]                   send me these transactions

Connections tell each other their vectors when they open and with every acknowledgement. So each
node knows what it lacks, and who has it:

    backlog     more than SPLIT transactions when a conversation opens. Peers with this feature
                hold theirs back; the node asks each for a disjoint part, chunk after chunk
    gap         some that were pushed and did not arrive, or found no room: nothing of an author
                has come for STUCK_MS though a peer holds more

A chunk takes from every author in proportion, so that what comes from several peers fits together
about in causal order. A peer that makes no progress with its chunks loses them to the others and
rests, twice as long each time. Digests find what acknowledgements cannot tell: that a peer lost
what it had told.

Invariants:
    1. At most PIPELINE chunks are asked of one peer, of about CHUNK_BYTES each.
    2. Of one author nothing is asked twice before the first asking has failed; failed askings for
       one author are STUCK_MS, then twice, four times so long apart, up to CAP_MS, with jitter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from murmur.errors import ProtocolViolation
from murmur.sync.messages import MAX_SEQ, REPLICA_ID_BYTES, positional, vector_of
from murmur.sync.service import Fabric, Flow, Remote, Service, Urgency
from murmur.sync.wire import pack

DIGEST, VECTOR, WANT = 37, 38, 39
FEATURE = 1 << DIGEST

SPLIT = 256  # transactions; less than that is pushed by whoever sees it first
PIPELINE = 2
CHUNK_BYTES = 1 << 20
CHUNK_LEAST, CHUNK_MOST, CHUNK_FIRST = 32, 2048, 256  # transactions
STUCK_MS = 1_500
CAP_MS = 60_000
LEAVE_MS = 3_000  # a backlog waits so long for a WANT that does not come
LOOK_MS = 250  # so seldom does it look at what is lacking
BUSY_LOOK_MS = 5  # while it catches up
GOSSIP_MS = (1_000, 15_000)
MAX_AUTHORS = 1 << 12  # in one WANT

Ranges = dict[bytes, tuple[int, int]]


@dataclass(slots=True)
class _Source:
    """A peer that can be asked."""

    remote: Remote
    chunks: list[Ranges] = field(default_factory=list)
    seen: int = 0  # records that had come of it when it last made progress
    progress_ms: int = 0
    failures: int = 0
    rest_until_ms: int = 0


@dataclass(slots=True)
class _Wait:
    """How long nothing has come of an author."""

    have: int
    since_ms: int
    failures: int = 0


class Pull(Service):
    """What one node asks for, of whom, and what it gives when it is asked."""

    kinds = (DIGEST, VECTOR, WANT)
    features = FEATURE

    def __init__(
        self,
        *,
        gossip_ms: tuple[int, int] = GOSSIP_MS,
        split: int = SPLIT,
        stuck_ms: int = STUCK_MS,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """While `busy`, what is lacking comes another way: in a snapshot."""
        self.wants = 0  # that this node has sent
        self._gossip_ms = gossip_ms
        self._split = split
        self._stuck_ms = stuck_ms
        self._busy = busy
        self._fabric: Fabric
        self._sources: dict[bytes, _Source] = {}
        self._asked: dict[bytes, int] = {}  # by author: so far it was asked for
        self._again: list[Ranges] = []  # asked, and not come
        self._waits: dict[bytes, _Wait] = {}
        self._backlog: dict[bytes, int] = {}  # how far peers were ahead when they came
        self._heard = 0
        self._looked_ms = 0
        self._look_ms: int | None = None
        self._gossip_at_ms: int | None = None

    # -- as a service

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """The mesh begins."""
        self._fabric = fabric

    def opened(self, remote: Remote, now_ms: int) -> None:
        """A peer that can be asked, or that will ask."""
        flow = self._fabric.flow(remote.node_id)
        if not remote.features & FEATURE or flow is None:
            return
        self._sources[remote.node_id] = _Source(remote, seen=flow.received, progress_ms=now_ms)
        outbox = self._fabric.outbox
        if _lacking(outbox.durable_vector, flow.durable) >= self._split:
            flow.leave(now_ms + LEAVE_MS)
        if _lacking(flow.durable, outbox.vector) >= self._split:
            for replica, seq in flow.durable.items():
                self._backlog[replica] = max(seq, self._backlog.get(replica, 0))
        self._look(now_ms)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """What it was asked for, others are asked."""
        source = self._sources.pop(remote.node_id, None)
        if source is not None:
            self._again += source.chunks
            self._look(now_ms)

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """Take what the peer says."""
        flow = self._fabric.flow(remote.node_id)
        if flow is None:
            return
        if kind == DIGEST:
            digest, clock_ms = positional(payload, "DIGEST", (bytes, int))
            self._fabric.clock_of(remote.node_id, clock_ms)
            if digest != _digest(self._fabric.outbox.durable_vector):
                self._tell(remote, answer=True)
        elif kind == VECTOR:
            answer, vector = positional(payload, "VECTOR", (int, dict))
            flow.hear(vector_of(vector, "VECTOR"))
            if answer:
                self._tell(remote, answer=False)
            self._look(now_ms)
        else:
            flow.give(_ranges(payload), now_ms)

    def tick(self, now_ms: int) -> None:
        """Gossip, and look whether what was asked for comes."""
        if not self._sources:
            self._gossip_at_ms = None
        elif self._gossip_at_ms is None or now_ms >= self._gossip_at_ms:
            if self._gossip_at_ms is not None:
                self._gossip()
            self._gossip_at_ms = now_ms + self._fabric.random.randint(*self._gossip_ms)
        # Whatever came may complete a chunk: the next one is asked for soon.
        heard = sum(flow.heard + flow.progress for flow in self._flows().values())
        if heard != self._heard:
            self._heard = heard
            self._look_again()
        if self._look_ms is not None and now_ms >= self._look_ms:
            self._look(now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due = (self._gossip_at_ms, self._look_ms)
        return min((moment for moment in due if moment is not None), default=None)

    def _gossip(self) -> None:
        source = self._fabric.random.choice(list(self._sources.values()))
        outbox = self._fabric.outbox
        clock_ms = max(0, outbox.clock.now_ms())
        self._say(source.remote, DIGEST, [_digest(outbox.durable_vector), clock_ms])

    # -- what is lacking

    def _look_again(self) -> None:
        pause = BUSY_LOOK_MS if self._backlog else LOOK_MS
        self._look_ms = self._looked_ms + pause

    def _look(self, now_ms: int) -> None:
        """See what is lacking and ask for it, if it does not come by itself."""
        self._looked_ms = now_ms
        flows = self._flows()
        have = self._fabric.outbox.vector
        holders: dict[bytes, int] = {}
        for flow in flows.values():
            for replica, seq in flow.durable.items():
                if seq > have.get(replica, 0):
                    holders[replica] = max(holders.get(replica, 0), seq)
        self._waits = {replica: self._waited(replica, have, now_ms) for replica in holders}
        if not holders:
            self._backlog.clear()
            self._look_ms = None
            self._asked.clear()
            self._again.clear()
            for source in self._sources.values():
                source.chunks.clear()
                source.failures = 0
            return
        self._look_again()
        self._settle(flows, have, now_ms)
        if self._busy():
            return
        self._ask(flows, have, self._wanted(have, now_ms), now_ms)

    def _waited(self, replica: bytes, have: Mapping[bytes, int], now_ms: int) -> _Wait:
        wait, now = self._waits.get(replica), have.get(replica, 0)
        return wait if wait is not None and wait.have == now else _Wait(now, now_ms)

    def _wanted(self, have: Mapping[bytes, int], now_ms: int) -> set[bytes]:
        """The authors that are to be asked for."""
        # What peers have got since is pushed, as to everybody.
        self._backlog = {r: seq for r, seq in self._backlog.items() if seq > have.get(r, 0)}
        wanted = set(self._waits) & self._backlog.keys()
        outstanding = {r for source in self._sources.values() for c in source.chunks for r in c}
        for replica, wait in self._waits.items():
            patience = min(CAP_MS, self._stuck_ms << min(wait.failures, 16))
            if now_ms < wait.since_ms + patience:
                continue
            wanted.add(replica)
            if replica not in outstanding:
                # It was asked for, or pushed, and is not here: begin again from what is.
                self._asked[replica] = have.get(replica, 0)
                wait.failures += 1
                jitter = self._fabric.random.randint(0, patience // 4)
                wait.since_ms = now_ms + jitter
        return wanted

    # -- what was asked for

    def _settle(self, flows: Mapping[bytes, Flow], have: Mapping[bytes, int], now_ms: int) -> None:
        """Chunks that came are done; those of a peer that makes no progress are for others."""
        for node_id, source in self._sources.items():
            flow = flows[node_id]
            source.chunks = [c for c in source.chunks if not _came(c, flow.arrived, have)]
            if flow.received != source.seen:
                source.seen, source.progress_ms, source.failures = flow.received, now_ms, 0
            patience = min(CAP_MS, self._stuck_ms << min(source.failures, 16))
            if source.chunks and not flow.busy and now_ms >= source.progress_ms + patience:
                self._again += source.chunks
                source.chunks = []
                source.failures += 1
                source.rest_until_ms = now_ms + self._fabric.random.randint(patience // 2, patience)

    def _ask(
        self,
        flows: Mapping[bytes, Flow],
        have: Mapping[bytes, int],
        wanted: Iterable[bytes],
        now_ms: int,
    ) -> None:
        """Give every peer that has room a chunk, the least busy first."""
        authors = sorted(wanted)
        ready = [
            source
            for source in self._sources.values()
            if len(source.chunks) < PIPELINE and now_ms >= source.rest_until_ms
        ]
        while ready:
            source = min(ready, key=lambda source: len(source.chunks))
            flow = flows[source.remote.node_id]
            chunk = self._left_over(flow, have) or self._chunk(flow, have, authors)
            if not chunk:
                ready.remove(source)
                continue
            if not source.chunks:
                source.seen, source.progress_ms = flow.received, now_ms
            source.chunks.append(chunk)
            self.wants += 1
            fields = {replica: list(bounds) for replica, bounds in chunk.items()}
            self._say(source.remote, WANT, [fields])
            if len(source.chunks) >= PIPELINE:
                ready.remove(source)

    def _left_over(self, flow: Flow, have: Mapping[bytes, int]) -> Ranges:
        """Something that another peer was asked for in vain, and that this one holds."""
        for ranges in list(self._again):
            self._again.remove(ranges)
            left = {
                replica: (max(first, have.get(replica, 0) + 1), last)
                for replica, (first, last) in ranges.items()
                if last > have.get(replica, 0)
            }
            mine = {r: bounds for r, bounds in left.items() if flow.durable.get(r, 0) >= bounds[1]}
            rest = {r: bounds for r, bounds in left.items() if r not in mine}
            if rest:
                self._again.append(rest)
            if mine:
                return mine
        return {}

    def _chunk(self, flow: Flow, have: Mapping[bytes, int], authors: Iterable[bytes]) -> Ranges:
        """The next transactions that nobody was asked for, of each author in proportion."""
        offers: dict[bytes, tuple[int, int]] = {}
        for replica in authors:
            start = max(self._asked.get(replica, 0), have.get(replica, 0))
            stop = min(flow.durable.get(replica, 0), self._backlog.get(replica, MAX_SEQ))
            if stop > start:
                offers[replica] = (start, stop)
            if len(offers) == MAX_AUTHORS:
                break
        total = sum(stop - start for start, stop in offers.values())
        # Half of the rest is handed out at a time, so that whoever comes next has a part in it.
        share = -(-total // (2 * PIPELINE * len(self._sources)))
        room = min(_room(flow), max(CHUNK_FIRST, share))
        ranges: Ranges = {}
        for replica, (start, stop) in offers.items():
            count = min(stop - start, -(-(stop - start) * room // max(total, 1)))
            ranges[replica] = (start + 1, start + count)
            self._asked[replica] = start + count
        return ranges

    # -- inside

    def _flows(self) -> dict[bytes, Flow]:
        found = {node_id: self._fabric.flow(node_id) for node_id in self._sources}
        return {node_id: flow for node_id, flow in found.items() if flow is not None}

    def _tell(self, remote: Remote, *, answer: bool) -> None:
        durable = self._fabric.outbox.durable_vector
        vector = {replica: seq for replica, seq in durable.items() if seq}
        self._say(remote, VECTOR, [int(answer), vector])

    def _say(self, remote: Remote, kind: int, fields: list[object]) -> None:
        self._fabric.say(remote.node_id, kind, pack(fields), Urgency.CONTROL)


def _digest(vector: Mapping[bytes, int]) -> bytes:
    """Of a vector: equal for equal vectors, 32 bytes."""
    hasher = blake2b(digest_size=32)
    for replica, seq in sorted(vector.items()):
        if seq:
            hasher.update(replica + seq.to_bytes(8))
    return hasher.digest()


def _lacking(theirs: Mapping[bytes, int], mine: Mapping[bytes, int]) -> int:
    """Transactions that only they hold."""
    return sum(max(0, seq - mine.get(replica, 0)) for replica, seq in theirs.items())


def _came(chunk: Ranges, arrived: Mapping[bytes, int], have: Mapping[bytes, int]) -> bool:
    return all(
        last <= max(arrived.get(replica, 0), have.get(replica, 0))
        for replica, (_, last) in chunk.items()
    )


def _room(flow: Flow) -> int:
    """Transactions in a chunk, by how long those were that came."""
    if not flow.received:
        return CHUNK_FIRST
    mean = max(1, flow.received_bytes // flow.received)
    return max(CHUNK_LEAST, min(CHUNK_MOST, CHUNK_BYTES // mean))


def _ranges(payload: bytes) -> Ranges:
    (fields,) = positional(payload, "WANT", (dict,))
    if len(fields) > MAX_AUTHORS:
        raise ProtocolViolation(f"WANT: of more than {MAX_AUTHORS} authors")
    ranges: Ranges = {}
    for replica, bounds in fields.items():
        if not isinstance(replica, bytes) or len(replica) != REPLICA_ID_BYTES:
            raise ProtocolViolation("WANT: not a replica id")
        if not isinstance(bounds, list) or len(bounds) != 2:
            raise ProtocolViolation("WANT: not a range")
        first, last = bounds
        if type(first) is not int or type(last) is not int or not 0 < first <= last <= MAX_SEQ:
            raise ProtocolViolation("WANT: not a range of sequence numbers")
        ranges[replica] = (first, last)
    return ranges
