"""The answering side of a comparison: it holds a snapshot for each peer that asked.

An answerer keeps one snapshot per peer, and lets go of it when the asker has been silent for
HOLD_MS. Scans run on a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from murmur.errors import ProtocolViolation
from murmur.kvcore import Measured, Narrowed, Snapshot, common, measure, touched
from murmur.sync.messages import positional, vector_of
from murmur.sync.outbox import Outbox
from murmur.sync.service import Fabric, Remote, Urgency
from murmur.sync.verify_wire import (
    COMPARED,
    HOLD_MS,
    MAX_BOUNDS,
    PINNED,
    SALT_BYTES,
    TOUCHED_BYTES,
    keys_of,
)
from murmur.sync.wire import pack

Keys = list[bytes] | None


@dataclass(slots=True, eq=False)
class Held:
    """A snapshot that this node holds for a peer."""

    run: int
    salt: bytes
    heard_ms: int
    only: Keys
    snapshot: Snapshot | None = None
    view: Narrowed | None = None  # of the snapshot, once it is known what is left out
    busy: bool = True
    over: bool = False

    def end(self) -> None:
        """Let go of it."""
        self.over = True
        if self.snapshot is not None:
            self.snapshot.close()


class Answerer:
    """What one node holds for those who compare themselves with it."""

    def __init__(self, fabric: Fabric) -> None:
        self.held: dict[bytes, Held] = {}
        self._fabric = fabric

    def pin(self, remote: Remote, payload: bytes, now_ms: int) -> None:
        """VERIFY: take a snapshot, and say what it has beyond the asker's."""
        run, salt, vector, only = positional(
            payload, "VERIFY", (int, bytes, dict), ((list, type(None)),)
        )
        wanted = vector_of(vector, "VERIFY vector")
        if len(salt) != SALT_BYTES:
            raise ProtocolViolation(f"VERIFY: a salt of {len(salt)} bytes")
        old = self.held.get(remote.node_id)
        if old is not None and old.busy:
            raise ProtocolViolation("VERIFY: the comparison before it is not over")
        self.let_go(remote.node_id)
        held = Held(run, salt, now_ms, keys_of(only, "VERIFY"))
        self.held[remote.node_id] = held
        outbox = self._fabric.outbox

        def pinned(
            found: tuple[Snapshot, Keys] | None, error: BaseException | None, later_ms: int
        ) -> None:
            held.busy, held.heard_ms = False, later_ms
            if error is not None or found is None:
                self._let_go_of(remote.node_id, held)
                return
            snapshot, keys = found
            own = {replica: seq for replica, seq in snapshot.vector.items() if seq}
            if held.over or keys is None:
                snapshot.close()
                self._let_go_of(remote.node_id, held)
            else:
                held.snapshot = snapshot
            self._say(remote, PINNED, [run, own, keys])

        self._fabric.labour.submit("verify", lambda: pinned_beyond(outbox, wanted), pinned)

    def compare(self, remote: Remote, payload: bytes) -> None:
        """COMPARE: name the first part that differs."""
        run, bounds, stop, digests, without = positional(
            payload, "COMPARE", (int, list, bytes, list), ((list, type(None)),)
        )
        left_out = keys_of(without, "COMPARE") or []
        held = self.held.get(remote.node_id)
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
        if held.view is None:
            held.view = Narrowed(held.snapshot, held.only, left_out)
        held.busy, view = True, held.view

        def work() -> list[Measured]:
            return measure(view, bounds, stop, held.salt, lambda: held.over)

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

    def release(self, remote: Remote, payload: bytes) -> None:
        """RELEASE: the asker is done."""
        (run,) = positional(payload, "RELEASE", (int,))
        held = self.held.get(remote.node_id)
        if held is not None and held.run == run:
            self.let_go(remote.node_id)

    def let_go(self, node_id: bytes) -> None:
        """Hold nothing for this peer any more."""
        held = self.held.pop(node_id, None)
        if held is not None:
            held.end()

    def tick(self, now_ms: int) -> None:
        """Let go of what nobody asks about."""
        for node_id, held in list(self.held.items()):
            if now_ms >= held.heard_ms + HOLD_MS and not held.busy:
                self.let_go(node_id)

    def timers(self) -> list[int]:
        """When tick() is due."""
        return [held.heard_ms + HOLD_MS for held in self.held.values() if not held.busy]

    def _let_go_of(self, node_id: bytes, held: Held) -> None:
        held.end()
        if self.held.get(node_id) is held:
            del self.held[node_id]

    def _say(self, remote: Remote, kind: int, fields: list[object]) -> None:
        self._fabric.say(remote.node_id, kind, pack(fields), Urgency.SYNC)


def pinned_beyond(outbox: Outbox, other: Mapping[bytes, int]) -> tuple[Snapshot, Keys]:
    """A snapshot, and the keys that it has touched beyond what the other vector has too.

    None for the keys if they are too many, or the log does not have all of it (worker's side).
    """
    snapshot = outbox.snapshot()
    try:
        return snapshot, touched_beyond(outbox, snapshot, other)
    except BaseException:
        snapshot.close()
        raise


def touched_beyond(outbox: Outbox, snapshot: Snapshot, other: Mapping[bytes, int]) -> Keys:
    """The keys of this snapshot that were touched beyond what the other vector has too."""
    vector = snapshot.vector
    cut = common(vector, other)
    found = touched(outbox.log, cut, vector, snapshot.position, TOUCHED_BYTES)
    return None if found is None else sorted(found)
