"""Adoption: a snapshot from elsewhere is joined into a replica that may have data of its own.

    prepare   beside all reading and writing: own snapshot and the fetched one, key by key, joined;
              what changes is staged, with the entries derived from it, and written to files
    settle    under the ledger's lock: what was written meanwhile is joined again
    join      one manifest edit brings all of it, with vector, tips, stamp and position

Nothing is replaced: an element that only this replica has survives unless the other had it and saw
it go (join.py), and its own transactions stay in its log, for whoever lacks them.

Invariants:
    1. A crash at any moment leaves the old state, with the fetched chunks, or the new one.
    2. What is staged is the join of the own snapshot with the fetched state, and settled it is the
       join of the present state: the cells that changed since, and their entries, are laid above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

from murmur.errors import PeerError, ProtocolViolation
from murmur.kvcore.clock import LAST_STAMP, stamp_datetime
from murmur.kvcore.derivation import CellChange, Derivation
from murmur.kvcore.export import Entry, Manifest, decode_chunk, place_of
from murmur.kvcore.forks import compare
from murmur.kvcore.join import KINDS, join
from murmur.kvcore.ledger import Ledger
from murmur.kvcore.mark import NO_TIP, Mark
from murmur.kvcore.record import DERIVED, LOCAL
from murmur.kvcore.snapshot import Published, Snapshot
from murmur.kvcore.spool import DIRECTORY, Spool
from murmur.kvcore.staging import RUN_BYTES, Staging
from murmur.kvcore.storage import Storage
from murmur.kvcore.view import View

BATCH_CHANGES = 16  # a longer batch would hold up the threads of who writes and reads
BATCH_BYTES = 256 << 10

Write = tuple[bytes, bytes | None]


def adopt(ledger: Ledger, spool: Spool, pause: Callable[[], None]) -> None:
    """Join a whole snapshot into what a replica holds; `Replica.adopt` says more."""
    assert spool.manifest is not None
    assert spool.whole, "the snapshot is not whole"
    with ExitStack() as parts:
        with ledger.lock:
            ledger.enter()
            _check_acceptable(ledger, spool.manifest)
            own = parts.enter_context(ledger.snapshot())
            ledger.recent.open[id(own)] = own.sequence  # from here on, changes are remembered
            parts.callback(ledger.recent.open.pop, id(own))
        adoption = _prepared(parts, ledger, own, spool, pause)
        prepared = parts.enter_context(closing(ledger.tree.prepare(adoption.entries(), pause)))
        with ledger.lock:
            ledger.enter()
            _check_acceptable(ledger, spool.manifest)
            changed = ledger.recent.since(own.sequence)
            if changed is None or adoption.outdated(changed):
                # Once more, with nobody writing: definitions changed, which is rare.
                own = parts.enter_context(ledger.snapshot())
                adoption = _prepared(parts, ledger, own, spool, lambda: None)
                again = ledger.tree.prepare(adoption.entries())
                prepared = parts.enter_context(closing(again))
                changed = set()
            _take_in(ledger, adoption, prepared, changed)
    ledger.durable.acknowledge(ledger.published.position)


def _prepared(
    parts: ExitStack, ledger: Ledger, own: Snapshot, spool: Spool, pause: Callable[[], None]
) -> Adoption:
    adoption = Adoption(ledger.storage, own, spool, ledger.derivation, pause)
    parts.callback(adoption.close)
    adoption.prepare()
    return adoption


def _check_acceptable(ledger: Ledger, manifest: Manifest) -> None:
    """Raise unless the snapshot can be true beside this replica's history, and now."""
    if manifest.kinds != KINDS:
        raise PeerError(
            f"the snapshot is of a release that knows {manifest.kinds} kinds of operation, "
            f"this one knows {KINDS}: take one from a peer of the same release"
        )
    if manifest.stamp > LAST_STAMP or ledger.hlc.is_wild(manifest.stamp):
        raise PeerError(
            f"the snapshot holds a transaction stamped {stamp_datetime(manifest.stamp)}, too "
            "far ahead of this clock; it is taken in when its time has come"
        )
    replica = ledger.id
    theirs, own = (tips.get(replica, NO_TIP).seq for tips in (manifest.tips, ledger.tips))
    if theirs > own:
        raise ProtocolViolation(
            f"the snapshot holds {theirs} transactions of this replica {replica.hex()}, which "
            f"has written {own}: its directory was put back to an earlier state"
        )
    tips = {replica: (tip.seq, tip.hash) for replica, tip in manifest.tips.items()}
    compare(ledger.log, ledger.tips, tips)


def _take_in(ledger: Ledger, adoption: Adoption, prepared: Any, changed: set[bytes]) -> None:
    """Make the join the state; under the lock."""
    published, manifest = ledger.published, adoption.manifest
    above, state = adoption.settle(changed, ledger.latest, published.vector)
    brought = {
        replica: tip
        for replica, tip in manifest.tips.items()
        if tip.seq > ledger.tips.get(replica, NO_TIP).seq
    }
    vector = {**published.vector, **{replica: tip.seq for replica, tip in brought.items()}}
    above += ledger.parking.entries([], ledger.parking.covered(vector))
    stamp = max(ledger.hlc.last, manifest.stamp)
    mark = Mark(published.position, stamp, {**ledger.tips, **brought})
    now = Published(vector, state, published.position)
    ledger.join(prepared, above, mark, now, ledger.log.floor.joined(brought))


class Adoption:
    """One snapshot on its way into one replica. For one thread at a time."""

    def __init__(
        self,
        storage: Storage,
        own: Snapshot,
        spool: Spool,
        derivation: Derivation | None,
        pause: Callable[[], None],
        run_bytes: int = RUN_BYTES,
    ) -> None:
        """`own` is what the replica holds; `pause` is called now and then."""
        assert spool.manifest is not None
        self.manifest: Manifest = spool.manifest
        self._own = own
        self._spool = spool
        self._derivation = derivation
        self._pause = pause
        self._theirs = self.manifest.vector
        self._state: object = own.state
        self._staging = Staging(storage, DIRECTORY, own, run_bytes)
        self._chunk: tuple[int, dict[bytes, bytes]] | None = None

    def prepare(self) -> None:
        """Join all cells. Raises ProtocolViolation if the snapshot is none; nothing is changed."""
        definitions = self._derivation.definitions if self._derivation is not None else None
        cells: list[Write] = []
        changes: list[CellChange] = []
        size = 0
        within = False  # the definitions: they come in one batch
        for key, before, after in self._joined():
            defines = definitions is not None and key.startswith(definitions)
            full = len(cells) >= BATCH_CHANGES or size >= BATCH_BYTES
            if (full and not (within and defines)) or (within and not defines):
                self._stage(cells, changes)
                cells, changes, size = [], [], 0
            within = defines
            cells.append((key, after))
            size += len(key) + len(after or b"")
            if key[0] == 2:
                changes.append(CellChange(key, before, after))
        self._stage(cells, changes)

    def entries(self) -> Iterator[Write]:
        """All that changes, in key order."""
        return self._staging.entries()

    def outdated(self, changed: set[bytes]) -> bool:
        """Whether what was written meanwhile changes how entries are derived: prepare anew."""
        if self._derivation is None:
            return False
        definitions = self._derivation.definitions
        return any(key.startswith(definitions) for key in changed)

    def settle(
        self, changed: set[bytes], now: View, vector: Mapping[bytes, int]
    ) -> tuple[list[Write], object]:
        """What belongs above the prepared entries, in key order, and the derivation's next state.

        `changed` are the keys written since the own snapshot, `now` and `vector` say how all is by
        now. Whatever a row's entries are, of the state before or of what was prepared, they go.
        """
        cells: dict[bytes, bytes | None] = {}
        present: list[CellChange] = []
        prepared: list[CellChange] = []
        settled: list[CellChange] = []
        for key in sorted(key for key in changed if key < DERIVED):
            theirs = self._find(key)
            staged = join_or_none(self._own.get(key), self._own.vector, theirs, self._theirs)
            before = now.get(key)
            after = cells[key] = join_or_none(before, vector, theirs, self._theirs)
            if key[0] == 2:
                present.append(CellChange(key, before, None))
                prepared.append(CellChange(key, staged, None))
                settled.append(CellChange(key, None, after))
        # Entries that came meanwhile were derived from definitions that the join may have dropped.
        writes = {key: None for key in changed if DERIVED <= key < LOCAL} | cells
        state = self._state
        if self._derivation is not None:
            for changes in (present, prepared, settled):
                alive = [c for c in changes if c.before is not None or c.after is not None]
                if alive:
                    entries, state = self._derivation.derive(state, alive, self._staging)
                    writes.update(entries)
        return sorted(writes.items()), state

    def close(self) -> None:
        """Remove what was staged."""
        self._staging.close()

    def _joined(self) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
        """(key, cell before, cell after) of all that the join changes, in key order."""
        seen, theirs, pause = self._own.vector, self._theirs, self._pause
        for count, (key, left, right) in enumerate(
            _side_by_side(self._own.scan(b"", DERIVED), self._spool.entries())
        ):
            after = join(left, seen, right, theirs)
            if after != left:
                yield key, left, after
            if not count & 15:
                pause()

    def _stage(self, cells: list[Write], changes: list[CellChange]) -> None:
        if not cells:
            return
        if self._derivation is not None and changes:
            entries, self._state = self._derivation.derive(self._state, changes, self._staging)
            cells = [*cells, *entries]
            self._pause()
        self._staging.write(cells)
        self._pause()

    def _find(self, key: bytes) -> bytes | None:
        """The fetched cell of a key."""
        index = place_of(self.manifest, key)
        if index is None:
            return None
        if self._chunk is None or self._chunk[0] != index:
            data = self._spool.chunk(index)
            assert data is not None, "the snapshot is whole"
            self._chunk = index, dict(decode_chunk(data))
        return self._chunk[1].get(key)


def join_or_none(
    left: bytes | None, seen: Mapping[bytes, int], right: bytes | None, theirs: Mapping[bytes, int]
) -> bytes | None:
    """`join`, of cells that may both be missing."""
    return None if left is right is None else join(left, seen, right, theirs)


def _side_by_side(
    ours: Iterator[Entry], theirs: Iterator[Entry]
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    left, right = next(ours, None), next(theirs, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            assert left is not None
            yield left[0], left[1], None
            left = next(ours, None)
        elif left is None or right[0] < left[0]:
            yield right[0], None, right[1]
            right = next(theirs, None)
        else:
            yield left[0], left[1], right[1]
            left, right = next(ours, None), next(theirs, None)
