"""Fetching a snapshot: from whom it comes, chunk by chunk, and what becomes of it.

    IDLE -> ASKING -> FETCHING -> JOINING -> IDLE      any -> RESTING -> IDLE, when something fails

When one is needed (bootstrap_need.py), the first who offers names the snapshot, its manifest says
of which chunks it consists; a chunk is taken from any peer that has one of its hash. Chunks are
spooled (kvcore/spool.py): after a cut, a restart or with a newer snapshot, only what is missing is
fetched. Then the state is joined into what is here.

Memory is bounded by what is under way: WINDOW chunks per source, ROOM bytes in all, or one chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from murmur.errors import Corruption, ProtocolViolation
from murmur.kvcore import Chunk, Spool, Storage
from murmur.sync.bootstrap_need import GRACE_MS, LEAST_NEED_BYTES, Need
from murmur.sync.bootstrap_sources import BootstrapStatus, Source, Stage
from murmur.sync.bootstrap_wire import (
    ASK,
    DONE,
    FEATURE,
    GOT,
    MAX_ITEM_BYTES,
    WANT,
    Keeper,
)
from murmur.sync.service import Fabric, Remote, Urgency
from murmur.sync.wire import pack

LANE = "bootstrap"
REST_MS = 15_000  # after a failure
WINDOW = 2  # chunks under way, of each source
SOURCES = 3
ROOM_BYTES = 16 << 20
PROGRESS_STEPS = 10


@dataclass(slots=True, eq=False)
class _Item:
    """A chunk or manifest that is arriving."""

    size: int
    data: bytearray = field(default_factory=bytearray)


class Fetching:
    """One replica's bootstrap. Called by the loop; the spool is used on one lane."""

    def __init__(
        self,
        replica: Keeper,
        storage: Storage,
        pause: Callable[[], None],
        least_need_bytes: int = LEAST_NEED_BYTES,
    ) -> None:
        self.sources: dict[bytes, Source] = {}
        self.stage = Stage.IDLE
        self._replica = replica
        self._storage = storage
        self._pause = pause
        self._fabric: Fabric
        self._spool: Spool | None = None  # only touched on the lane
        self._last_id: bytes | None = None
        self._id: bytes | None = None  # of the snapshot that is fetched; its manifest is here
        self._chunks: dict[bytes, Chunk] = {}
        self._missing: set[bytes] = set()  # of the chunks, what is not spooled
        self._to_fetch: deque[bytes] = deque()  # of these, what is not under way
        self._writing = 0  # chunks handed to the spool
        self._items: dict[tuple[bytes, bytes], _Item] = {}  # by node and hash
        self._need = Need(least_need_bytes)
        self._rest_until_ms = 0
        self._reported = 0
        self._joined = 0
        self._primary: bytes | None = None
        self._last_error: str | None = None
        self._ended = False

    # -- from the service

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """The mesh begins: a snapshot that was fetched whole is joined, a part of one is kept."""
        self._fabric = fabric
        self._need.start(now_ms)
        if not self._storage.exists("bootstrap"):
            return
        self.stage = Stage.RESTING
        self._rest_until_ms = now_ms + REST_MS

        def opened() -> tuple[bytes | None, bool]:
            self._spool = spool = Spool(self._storage)
            return spool.id, spool.whole

        def looked(
            found: tuple[bytes | None, bool] | None, error: BaseException | None, later_ms: int
        ) -> None:
            if found is None:
                self._fail(f"what was fetched could not be read: {error}", later_ms)
                return
            self.stage = Stage.IDLE
            self._last_id, whole = found
            if whole:
                self._join(later_ms)

        self._fabric.labour.submit(LANE, opened, looked)

    def opened(self, remote: Remote, now_ms: int) -> None:
        """A conversation is open."""
        if remote.features & FEATURE:
            self.sources[remote.node_id] = Source(remote, heard_ms=now_ms)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """A conversation has ended: what was under way comes from others."""
        source = self.sources.pop(remote.node_id, None)
        if source is not None:
            self._abandon(source)
            self._ask_for_more(now_ms)

    def stands(
        self,
        remote: Remote,
        floor: Mapping[bytes, int],
        durable: Mapping[bytes, int],
        state_bytes: int,
        log_bytes: int,
        now_ms: int,
    ) -> None:
        """A peer said where it stands."""
        source = self.sources.get(remote.node_id)
        if source is not None:
            source.floor, source.durable = floor, durable
            source.state_bytes, source.log_bytes = state_bytes, log_bytes
            source.stood = True
            self.tick(now_ms)

    def offered(self, remote: Remote, identity: bytes, size: int, now_ms: int) -> None:
        """A peer has made a snapshot."""
        source = self.sources.get(remote.node_id)
        if source is None or source.asked_ms is None:
            return  # it was given up meanwhile
        if not 0 < size <= MAX_ITEM_BYTES:
            raise ProtocolViolation(f"OFFER: a manifest of {size} bytes")
        source.offered, source.manifest_bytes = identity, size
        source.asked_ms, source.heard_ms = None, now_ms
        source.gone.clear()
        if self.stage is Stage.ASKING:
            self.stage = Stage.FETCHING
            self._primary = remote.node_id
            if identity == self._last_id:
                self._begin(identity, None, now_ms)
            else:
                self._want(source, identity, size, now_ms)
        elif self.stage is Stage.FETCHING:
            self._ask_for_more(now_ms)

    def data(
        self, remote: Remote, digest: bytes, size: int, offset: int, part: bytes, now_ms: int
    ) -> None:
        """A part of a chunk or manifest."""
        source = self.sources.get(remote.node_id)
        item = self._items.get((remote.node_id, digest))
        last = offset + len(part) >= size
        if last:
            self._say(remote, GOT, [digest])
        if source is None or item is None or digest not in source.under_way:
            return  # it was given up meanwhile
        source.heard_ms = now_ms
        if size != item.size or not part or offset + len(part) > size:
            raise ProtocolViolation(f"DATA: {len(part)} bytes at {offset} of {size}")
        if offset == len(item.data):
            item.data += part
        elif last:  # of what was given up, and is wanted again
            self._want(source, digest, size, now_ms)
        if len(item.data) < size:
            return
        del self._items[remote.node_id, digest]
        source.under_way.discard(digest)
        whole = bytes(item.data)
        if digest in self._chunks:
            self._keep(source, digest, whole, now_ms)
        else:
            self._begin(digest, whole, now_ms)

    def gone(self, remote: Remote, digest: bytes, now_ms: int) -> None:
        """A peer does not have it."""
        source = self.sources.get(remote.node_id)
        if source is None or digest not in source.under_way:
            return
        source.under_way.discard(digest)
        source.gone.add(digest)
        self._items.pop((remote.node_id, digest), None)
        if digest in self._chunks:
            self._to_fetch.appendleft(digest)
            self._ask_for_more(now_ms)
        else:
            self._fail("the snapshot that was offered is gone", now_ms)

    def tick(self, now_ms: int) -> None:
        """See whether a snapshot is needed, and whether its sources are alive."""
        own = self._replica.vector
        self._need.notice(own, now_ms)
        for source in list(self.sources.values()):
            due_ms = source.due_ms()
            if due_ms is not None and now_ms >= due_ms:
                self._abandon(source)
                source.offered = None
        if self.stage is Stage.RESTING and now_ms >= self._rest_until_ms:
            self.stage = Stage.IDLE
        if self.stage is Stage.IDLE:
            self._look(own, now_ms)
        elif self.stage is Stage.ASKING and not any(
            source.asked_ms is not None for source in self.sources.values()
        ):
            self._rest(now_ms)
        elif self.stage is Stage.FETCHING:
            self._ask_for_more(now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        if self.stage is Stage.RESTING:
            return self._rest_until_ms
        times = [source.due_ms() for source in self.sources.values()]
        due = [moment for moment in times if moment is not None]
        if self.stage is Stage.IDLE and self._need.felt:
            due.append(now_ms + GRACE_MS // 2)
        if self.stage is Stage.FETCHING and not due:
            due.append(now_ms + GRACE_MS)
        return min(due, default=None)

    def end(self) -> None:
        """The mesh closes. What was fetched stays."""
        self._ended = True

    def status(self) -> BootstrapStatus:
        """How far it has come."""
        size = sum(chunk.size for chunk in self._chunks.values())
        return BootstrapStatus(
            self.stage.value,
            sum(source.offered is not None for source in self.sources.values()),
            len(self._chunks) - len(self._missing),
            len(self._chunks),
            size - sum(self._chunks[digest].size for digest in self._missing),
            size,
            self._joined,
            self._last_error,
        )

    # -- whether

    def _look(self, own: Mapping[bytes, int], now_ms: int) -> None:
        found = self._need.source(self.sources.values(), own, now_ms)
        if found is None:
            return
        primary, why = found
        self.stage = Stage.ASKING
        self._ask(primary, now_ms)
        self._fabric.notice("bootstrap", primary.remote.node_id, f"asking for a snapshot: {why}")

    def _ask(self, source: Source, now_ms: int) -> None:
        source.asked_ms = source.heard_ms = now_ms
        source.engaged = True
        last = self._last_id

        def look() -> dict[bytes, list[object]]:
            # A seq that is the same before and after was that of the hash read in between.
            before, hashes, after = (
                self._replica.vector,
                self._replica.tips,
                self._replica.vector,
            )
            return {
                replica: [before[replica], digest]
                for replica, digest in hashes.items()
                if before.get(replica, 0) == after.get(replica, 0) != 0
            }

        def looked(
            tips: dict[bytes, list[object]] | None, error: BaseException | None, later_ms: int
        ) -> None:
            if tips is not None and self.sources.get(source.remote.node_id) is source:
                self._say(source.remote, ASK, [tips, last])

        self._fabric.labour.submit(LANE, look, looked)

    # -- what

    def _begin(self, identity: bytes, data: bytes | None, now_ms: int) -> None:
        """The manifest is here, or was: see which chunks are missing."""

        def begin() -> tuple[dict[bytes, Chunk], list[bytes]]:
            if self._spool is None:
                self._spool = Spool(self._storage)
            spool = self._spool
            if data is not None:
                spool.begin(data)
            assert spool.manifest is not None
            if spool.id != identity:
                raise ProtocolViolation("a snapshot's manifest is not what its id names")
            chunks = spool.manifest.chunks
            missing = list(dict.fromkeys(chunks[index].hash for index in spool.lacking()))
            return {chunk.hash: chunk for chunk in chunks}, missing

        def begun(
            found: tuple[dict[bytes, Chunk], list[bytes]] | None,
            error: BaseException | None,
            later_ms: int,
        ) -> None:
            if self.stage is not Stage.FETCHING:
                return
            if found is None:
                self._blame(error, later_ms)
                return
            self._id = self._last_id = identity
            self._chunks, missing = found
            self._missing = set(missing)
            self._to_fetch = deque(missing)
            self._reported = 0
            self._ask_for_more(later_ms)

        self._fabric.labour.submit(LANE, begin, begun)

    def _ask_for_more(self, now_ms: int) -> None:
        """Keep every source busy; join when all is there."""
        if self.stage is not Stage.FETCHING or self._id is None:
            return
        if not self._to_fetch and not self._writing and not self._items:
            self._join(now_ms)
            return
        if len(self._to_fetch) > WINDOW:
            self._widen(now_ms)
        ready = [source for source in self.sources.values() if source.offered is not None]
        for source in sorted(ready, key=lambda source: len(source.under_way)):
            while self._to_fetch and len(source.under_way) < WINDOW:
                digest = next((d for d in self._to_fetch if d not in source.gone), None)
                if digest is None:
                    break
                size = self._chunks[digest].size
                there = sum(item.size for item in self._items.values())
                if there and there + size > ROOM_BYTES:
                    return
                self._to_fetch.remove(digest)
                self._want(source, digest, size, now_ms)
        if not self._items and not self._writing and self._to_fetch:
            # Nobody has it: a newer snapshot shares most of its chunks with this one.
            self._fail("nobody has the rest of the snapshot", now_ms)

    def _widen(self, now_ms: int) -> None:
        """Ask more peers to make a snapshot: most chunks of it are those of this one."""
        engaged = [s for s in self.sources.values() if s.offered or s.asked_ms is not None]
        for source in self.sources.values():
            if len(engaged) >= SOURCES:
                return
            if source.stood and source not in engaged:
                engaged.append(source)
                self._ask(source, now_ms)

    def _want(self, source: Source, digest: bytes, size: int, now_ms: int) -> None:
        source.under_way.add(digest)
        source.heard_ms = now_ms
        self._items[source.remote.node_id, digest] = _Item(size)
        self._say(source.remote, WANT, [digest])

    def _keep(self, source: Source, digest: bytes, data: bytes, now_ms: int) -> None:
        self._writing += 1

        def keep() -> None:
            spool = self._spool
            assert spool is not None
            assert spool.manifest is not None
            index = next(i for i, c in enumerate(spool.manifest.chunks) if c.hash == digest)
            spool.add(index, data)

        def kept(_: None, error: BaseException | None, later_ms: int) -> None:
            self._writing -= 1
            if self.stage is not Stage.FETCHING:
                return
            if isinstance(error, ProtocolViolation):
                self._to_fetch.appendleft(digest)
                self._fabric.hold_against(source.remote.node_id, str(error), later_ms)
            elif error is not None:
                self._fail(f"a chunk could not be kept: {error}", later_ms)
                return
            else:
                self._missing.discard(digest)
                self._report(source.remote)
            self._ask_for_more(later_ms)

        self._fabric.labour.submit(LANE, keep, kept)
        self._ask_for_more(now_ms)

    def _report(self, remote: Remote) -> None:
        status = self.status()
        step = PROGRESS_STEPS * status.bytes_held // max(1, status.bytes)
        if step > self._reported:
            self._reported = step
            text = f"{status.bytes_held:,} of {status.bytes:,} bytes of the snapshot are here"
            self._fabric.notice("bootstrap", remote.node_id, text)

    # -- and then

    def _join(self, now_ms: int) -> None:
        self.stage = Stage.JOINING

        def join() -> None:
            spool = self._spool
            assert spool is not None
            self._replica.adopt(spool, self._pause)
            spool.clear()

        def joined(_: None, error: BaseException | None, later_ms: int) -> None:
            if error is not None:
                self._blame(error, later_ms)
                return
            self._joined += 1
            self._last_error = None
            primary = self._primary or self._fabric.node_id
            self._fabric.notice("bootstrap", primary, "the snapshot was joined")
            self._last_id = None
            self._stop(later_ms)
            self.stage = Stage.IDLE
            self.tick(later_ms)

        self._fabric.labour.submit(LANE, join, joined)

    def _stop(self, now_ms: int) -> None:
        """Nothing more is wanted from anybody."""
        for source in self.sources.values():
            self._abandon(source)
            source.offered = None
            source.gone.clear()
            if source.engaged:
                source.engaged = False
                self._say(source.remote, DONE, [])
        self._id = self._primary = None
        self._need.met()
        self._chunks.clear()
        self._missing.clear()
        self._to_fetch.clear()
        self._items.clear()

    def _abandon(self, source: Source) -> None:
        """Fetch from others what was under way from this one."""
        for digest in source.under_way:
            self._items.pop((source.remote.node_id, digest), None)
            if digest in self._chunks:
                self._to_fetch.appendleft(digest)
            else:
                self._rest(source.heard_ms)  # the manifest
        source.under_way.clear()
        source.asked_ms = None

    def _blame(self, error: BaseException | None, now_ms: int) -> None:
        """The snapshot could not be used."""
        primary = self._primary
        if isinstance(error, ProtocolViolation):
            self._fabric.labour.submit(LANE, self._clear, lambda *_: None)
            self._last_id = None
            self._fail(f"the snapshot is none: {error}", now_ms)
            if primary is not None:
                self._fabric.hold_against(primary, str(error), now_ms)
        elif isinstance(error, Corruption):
            self._fail(str(error), now_ms)
        else:
            self._fail(f"the snapshot could not be joined: {error}", now_ms)

    def _clear(self) -> None:
        if self._spool is not None:
            self._spool.clear()

    def _fail(self, text: str, now_ms: int) -> None:
        self._last_error = text
        self._fabric.notice("error", self._primary or self._fabric.node_id, text)
        self._rest(now_ms)

    def _rest(self, now_ms: int) -> None:
        """Begin anew after a while."""
        if self.stage is Stage.RESTING:
            return
        self.stage = Stage.RESTING
        self._rest_until_ms = now_ms + REST_MS
        self._stop(now_ms)

    def _say(self, remote: Remote, kind: int, fields: list[object]) -> None:
        if not self._ended:
            self._fabric.say(remote.node_id, kind, pack(fields), Urgency.SYNC)
