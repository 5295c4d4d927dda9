"""Serving snapshots: what this node holds ready for peers that fetch.

A snapshot is made when the first peer asks, serves all that ask within FRESH_MS, and is let go of
when nobody has wanted anything of it for HOLD_MS. Chunks are found by their hashes, whichever
snapshot they were asked for with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from murmur.errors import Closed, ProtocolViolation
from murmur.kvcore import Export
from murmur.sync.bootstrap_wire import (
    DATA,
    GONE,
    MAX_UNCONFIRMED,
    OFFER,
    PART_BYTES,
    Keeper,
)
from murmur.sync.service import Fabric, Remote, Urgency
from murmur.sync.wire import pack

LANE = "snapshots"
FRESH_MS = 60_000
HOLD_MS = 600_000


@dataclass(slots=True, eq=False)
class _Held:
    """A snapshot that is held ready."""

    export: Export
    made_ms: int
    used_ms: int
    places: Mapping[bytes, int] = field(default_factory=dict)  # chunk hash -> index


class Serving:
    """The snapshots of one node, and who takes what of them. Called by the loop."""

    def __init__(self, replica: Keeper, pause: Callable[[], None]) -> None:
        self._replica = replica
        self._pause = pause
        self._held: dict[bytes, _Held] = {}  # by id, oldest first
        self._waiting: list[Remote] | None = None  # a snapshot is being made for them
        self._unconfirmed: dict[bytes, set[bytes]] = {}  # by node: what is under way
        self._fabric: Fabric
        self._ended = False

    def start(self, fabric: Fabric) -> None:
        """The mesh begins."""
        self._fabric = fabric

    @property
    def busy(self) -> bool:
        """Whether somebody may be fetching: the log is to keep what comes after the snapshots."""
        return bool(self._held) or self._waiting is not None

    def asked(
        self,
        remote: Remote,
        tips: Mapping[bytes, tuple[int, bytes]],
        last: bytes | None,
        now_ms: int,
    ) -> None:
        """A peer wants a snapshot."""

        def compared(_: None, error: BaseException | None, later_ms: int) -> None:
            if isinstance(error, ProtocolViolation):
                self._fabric.hold_against(remote.node_id, str(error), later_ms)
            elif error is None and not self._ended:
                self._offer(remote, last, later_ms)

        self._fabric.labour.submit(LANE, partial(self._replica.compare, tips), compared)

    def wanted(self, remote: Remote, digest: bytes, now_ms: int) -> None:
        """A peer wants a chunk, or a manifest."""
        unconfirmed = self._unconfirmed.setdefault(remote.node_id, set())
        if digest in unconfirmed:
            return  # it is on its way
        if len(unconfirmed) >= MAX_UNCONFIRMED:
            raise ProtocolViolation(f"WANT: {len(unconfirmed)} chunks are under way already")
        manifest = self._held.get(digest)
        if manifest is not None:
            unconfirmed.add(digest)
            manifest.used_ms = now_ms
            self._send(remote, digest, manifest.export.encoded)
            return
        held = next((held for held in self._held.values() if digest in held.places), None)
        if held is None:
            self._say(remote, GONE, [digest])
            return
        unconfirmed.add(digest)
        held.used_ms = now_ms
        work = partial(held.export.chunk, held.places[digest])

        def read(data: bytes | None, error: BaseException | None, later_ms: int) -> None:
            if self._unconfirmed.get(remote.node_id) is not unconfirmed:
                return  # the conversation has ended
            if error is not None or data is None:
                unconfirmed.discard(digest)
                self._say(remote, GONE, [digest])
                if not isinstance(error, Closed):
                    text = f"a snapshot could not be read: {error}"
                    self._fabric.notice("error", remote.node_id, text)
                return
            self._send(remote, digest, data)

        self._fabric.labour.submit(LANE, work, read)

    def got(self, remote: Remote, digest: bytes) -> None:
        """A peer has a chunk."""
        self._unconfirmed.get(remote.node_id, set()).discard(digest)

    def closed(self, remote: Remote) -> None:
        """A conversation has ended. Its snapshot stays: the peer may come again."""
        self._unconfirmed.pop(remote.node_id, None)
        if self._waiting is not None and remote in self._waiting:
            self._waiting.remove(remote)

    def tick(self, now_ms: int) -> None:
        """Let go of what nobody wants."""
        for identity, held in list(self._held.items()):
            if now_ms >= held.used_ms + HOLD_MS:
                self._let_go(identity)

    def next_timer_ms(self) -> int | None:
        """When tick() is due."""
        return min((held.used_ms + HOLD_MS for held in self._held.values()), default=None)

    def end(self) -> None:
        """The mesh closes."""
        self._ended = True
        for identity in list(self._held):
            self._let_go(identity)

    def _offer(self, remote: Remote, last: bytes | None, now_ms: int) -> None:
        newest = next(reversed(self._held.values()), None)
        held = self._held.get(last or b"")
        if held is None and newest is not None and now_ms < newest.made_ms + FRESH_MS:
            held = newest
        if held is not None:
            held.used_ms = now_ms
            self._tell(remote, held.export)
        elif self._waiting is not None:
            self._waiting.append(remote)
        else:
            self._waiting = [remote]
            work = partial(self._replica.export, self._pause)
            self._fabric.labour.submit(LANE, work, self._made)

    def _made(self, export: Export | None, error: BaseException | None, now_ms: int) -> None:
        waiting, self._waiting = self._waiting or [], None
        if error is not None or export is None:
            for remote in waiting:
                self._fabric.notice("error", remote.node_id, f"no snapshot was made: {error}")
            return
        if self._ended:
            export.close()
            return
        places = {chunk.hash: index for index, chunk in enumerate(export.manifest.chunks)}
        if export.id in self._held:
            self._let_go(export.id)
        self._held[export.id] = _Held(export, now_ms, now_ms, places)
        for identity in list(self._held)[:-2]:  # one may still be fetched while the next is made
            self._let_go(identity)
        for remote in waiting:
            self._tell(remote, export)

    def _tell(self, remote: Remote, export: Export) -> None:
        size = export.manifest.size
        self._say(remote, OFFER, [export.id, len(export.encoded), size])

    def _let_go(self, identity: bytes) -> None:
        self._held.pop(identity).export.close()  # a chunk that is being read ends with Closed

    def _send(self, remote: Remote, digest: bytes, data: bytes) -> None:
        for offset in range(0, len(data), PART_BYTES):
            part = data[offset : offset + PART_BYTES]
            self._say(remote, DATA, [digest, len(data), offset, part])

    def _say(self, remote: Remote, kind: int, fields: list[object]) -> None:
        urgency = Urgency.BULK if kind == DATA else Urgency.SYNC
        self._fabric.say(remote.node_id, kind, pack(fields), urgency)
