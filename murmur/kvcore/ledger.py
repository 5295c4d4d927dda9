"""The ledger: a replica's log and the tree derived from it, which change together.

    with ledger.lock:
        ledger.enter()            what was interrupted is settled, the memtable has room
        ledger.install(group)     records -> log, their cells and entries -> tree, published
    ledger.durable.acknowledge(position)

Everything between choosing a stamp and publishing the tree happens under one lock, so stamp,
sequence number and place in the log agree. What is published is one object, Published: the vector,
the derivation's state and the log position that go with one sequence number of the tree.

Invariants (DESIGN section 1):
    L1  The tree holds what the log says, up to Published.position; recovery replays from the mark.
    L2  A group of transactions enters the tree in one batch.

An exception under the lock (Ctrl-C, above all) leaves a note of where the log stood. Whoever enters
next settles it: bytes of an unfinished append are cut off, a whole record is rolled forward.

Blind puts, and rows that nobody has, need none of this as long as nothing is due: a native writer
(writer.py) commits them while nobody is under the lock, no transaction is open that would have to
remember them, and no listener is to hear of each. What it knows is taken over by whoever enters.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from murmur.errors import Corruption
from murmur.kvcore.admission import Group
from murmur.kvcore.backend import KeyTree, Latest, open_tree, settle_backend
from murmur.kvcore.clock import Clock, HybridClock, SystemClock
from murmur.kvcore.derivation import Derivation
from murmur.kvcore.durable import Durable
from murmur.kvcore.floor import Floor, read_floor, write_floor
from murmur.kvcore.kernel import Entry
from murmur.kvcore.lineage import close_lineage, open_lineage, renew
from murmur.kvcore.loads import BlockBatch, with_blocks
from murmur.kvcore.log import ADMITTED, PARKED, Log
from murmur.kvcore.mark import NO_TIP, Mark, Tip, decode_mark, encode_mark
from murmur.kvcore.parking import Parking
from murmur.kvcore.process import Handle
from murmur.kvcore.recent import Recent
from murmur.kvcore.record import Malformed, decode, digest
from murmur.kvcore.snapshot import Published, Snapshot
from murmur.kvcore.storage import FULL, Storage
from murmur.kvcore.syncer import Syncer
from murmur.kvcore.tree import Tree
from murmur.kvcore.writer import NativeAuthor, native_author

GROUP_BYTES = 256 << 10  # of records that are admitted without letting go of the lock


class Ledger:
    """The log and the tree of one directory. For many threads: one at a time is under the lock."""

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        derivation: Derivation | None,
        durability: str,
        max_skew_ms: int,
        memtable_bytes: int,
        segment_bytes: int,
        backend: str | None,
    ) -> None:
        """Open and recover both, or make them. `Replica.open` says what it raises."""
        self.storage = storage
        self.clock = clock
        self.durability = durability
        self.derivation = derivation
        self.lock = threading.Lock()
        self.handle = Handle(storage.path)
        # Asked before any lock is waited for: in a forked child nobody would ever release it.
        self.usable = self.handle.check
        self.recent = Recent()
        self.writer: NativeAuthor | None = None
        self._syncer: Syncer | None = None
        # What is being written: where the log stood, and the batch for the tree.
        self._in_flight: tuple[int, Sequence[Entry]] | None = None
        self._joining: Mark | None = None  # a snapshot is being joined, up to this mark
        with ExitStack() as opened:
            opened.callback(storage.lock().close)
            self.backend = settle_backend(storage, backend)
            self.lineage = open_lineage(storage, durability=durability, random_bytes=random_bytes)
            self._random_bytes = random_bytes
            self._author = self.id  # as whom the native writer has written last
            self.tree: KeyTree = open_tree(
                storage,
                self.backend,
                memtable_bytes=memtable_bytes,
                before_install=self._before_install,
            )
            opened.callback(self.tree.close)
            self.latest = Latest(self.tree)
            mark = self.flushed
            floor = read_floor(storage)
            self.log = Log.open(
                storage,
                segment_bytes=segment_bytes,
                clean_end=max(self.lineage.clean_end or 0, mark.position) or None,
                trimmed=floor.start,
                floor=floor,
            )
            opened.callback(self.log.close)
            opened.callback(self.tree.close)  # before the log, which its threads sync
            self.log.trim(floor.start)  # what was interrupted
            _check_that_it_reaches(self.log, mark.position, storage.path)
            self.hlc = HybridClock(clock, last=mark.stamp, max_skew_ms=max_skew_ms)
            self.tips: dict[bytes, Tip] = dict(mark.tips)
            self.parking = Parking(self.tree)
            self._recover(mark)
            self._files = opened.pop_all()

    def start(
        self, write: Callable[[bytes, bytes | None], object], sync_interval_ms: int | None
    ) -> NativeAuthor | None:
        """Begin to sync in the background; the native writer of blind puts, where there is one.

        `write` commits what that writer leaves to others.
        """
        if self.durability == "batched" and sync_interval_ms is not None:
            self._syncer = self.durable.syncer = Syncer(self._sync_behind, sync_interval_ms)
        if isinstance(self.tree, Tree) and type(self.clock) is SystemClock:
            self.writer = native_author(
                self.tree,
                write=write,
                wake=self._syncer.wake if self._syncer is not None else None,
                wait=self._wait_for if self.durability == "commit" else None,
            )
            if self.writer is not None:
                self.tree.follow(self._followed)
        _ledgers.add(self)
        return self.writer

    # Reading -----------------------------------------------------------

    @property
    def id(self) -> bytes:
        """As whom the replica writes."""
        return self.lineage.id

    @property
    def published(self) -> Published:
        """What goes with the last published sequence number of the tree."""
        published = self.tree.attachment
        assert isinstance(published, Published)
        return published

    @property
    def last_stamp(self) -> int:
        """The highest stamp issued or observed."""
        writer = self.writer
        return self.hlc.last if writer is None else max(self.hlc.last, writer.stamp)

    @property
    def flushed(self) -> Mark:
        """Up to where the tree's files hold what the log says."""
        try:
            return decode_mark(self.tree.mark)
        except ValueError as error:
            raise Corruption(f"{self.storage.path}/tree", 0, f"the mark: {error}") from None

    def snapshot(self) -> Snapshot:
        """The keyspace, vector and state of this moment."""
        self.usable()
        return Snapshot(self.tree.snapshot())

    # Under the lock ----------------------------------------------------

    def enter(self, *, deleting: bool = False) -> None:
        """Take over and settle what others have left, and make room in the memtable."""
        self.usable()
        self.take_over()
        if self._in_flight is not None or self._joining is not None:
            self._settle()
        if self.tree.full():
            self.tree.rotate(self._mark(), deleting=deleting)

    def install(self, group: Group) -> int:
        """Write the group to the log, then to the tree, and publish it; the position after it."""
        published = self.published
        if not group.records and not group.park:
            return published.position
        entries, state = group.batch(self.derivation, published.state, self.latest)
        batch = with_blocks(entries + self.parking.entries(group.park, group.records), group.loads)
        self._in_flight = self.log.end, batch
        tree = self.tree
        if isinstance(batch, BlockBatch) and isinstance(tree, Tree) and tree.takes_tables(batch):
            self._load(tree, group, batch, state)
        else:
            if group.records:
                self._append(group)
            if group.park:
                self.log.append(PARKED, group.park)
            self._publish(group, batch, state, self.log.end)
        self._in_flight = None
        return self.log.end

    def join(
        self, prepared: Any, above: Sequence[Entry], mark: Mark, published: Published, floor: Floor
    ) -> None:
        """Take in what was prepared in the tree, and entries above it, with all that tells of it.

        `floor` says what the log lacks then.
        """
        self.raise_floor(floor)  # first: if the rest comes to nothing, peers are told of less
        self._joining = mark
        self.tree.adopt(prepared, above, encode_mark(mark), published, self._mark())
        self._joined(mark)

    def raise_floor(self, floor: Floor) -> None:
        """Note durably, before it comes true, what the log lacks."""
        write_floor(self.storage, floor)
        self.log.floor = floor

    def renew(self, why: str) -> None:
        """Write under a new id from now on; durable when this returns."""
        self.lineage = renew(
            self.storage,
            self.lineage,
            why,
            durability=self.durability,
            random_bytes=self._random_bytes,
        )

    def flush(self) -> None:
        """Write the memtable to the tree's files."""
        self.log.with_room(lambda: self.tree.flush(self._mark()))

    def close(self) -> None:
        """Sync, flush and let go of the directory."""
        if self.handle.closed:
            return
        if self.handle.inherited:
            self.handle.closed = True
            return
        if self._syncer is not None:
            self._syncer.close()
        with self.lock:
            if self.handle.closed:
                return
            try:
                self.take_over()
                self._settle()
                self.log.sync()  # first: on a full disk the flush fails, and nothing is lost by it
                self.flush()
                end = self.log.end
                self.durable.advance()
                self.tree.close()
                self.log.close()
                close_lineage(self.storage, self.lineage.session, end)
            finally:
                self.abandon()

    def abandon(self) -> None:
        """Let go of the directory as it is."""
        self.handle.closed = True
        self._files.close()

    # Durability --------------------------------------------------------

    def sync(self) -> None:
        """Make all that was committed durable now."""
        self.usable()
        self._note()
        self.durable.sync()

    def look_for_durable(self) -> None:
        """Let `durable` tell of what the native writer has written that needs no sync."""
        if self.writer is not None and self.durability == "none":
            self._note()
            self.durable.advance()

    def _note(self) -> None:
        """Let what the native writer has published be told when it is durable."""
        if self.writer is not None:
            vector, _, position = self.published
            self.durable.note(position, vector)

    def _sync_behind(self) -> None:
        if self.writer is not None:
            self.writer.rest()  # first: what is written from now on asks for another sync
        if isinstance(self.tree, Tree):
            self.tree.clear_ahead()
        self.sync()

    def _wait_for(self, position: int) -> None:
        self._note()
        self.durable.acknowledge(position)

    def _before_install(self, mark: bytes) -> None:
        # The log first: a tree that is ahead of it would apply records twice after a power cut.
        self._note()
        self.durable.sync(decode_mark(mark).position)

    # The native writer -------------------------------------------------

    def leave(self) -> None:
        """Let the native writer go on after a record that had seen all there is, as a blind one."""
        writer = self.writer
        if writer is None or self.parking.count:
            return
        assert isinstance(self.tree, Tree)
        self._author = author = self.lineage.id
        tip = self.tips[author]
        writer.follow(
            self.log.appender,
            self.tree.memtable,
            replica=author,
            seq=tip.seq,
            stamp=self.hlc.last,
            digest=tip.hash,
            state=self.published.state,
            unless=(self.recent.open, self.durable.listeners)
            if self.durability == "none"
            else (self.recent.open,),
        )

    def resume(self) -> None:
        """Let the native writer go on, if the own last record has seen all that there is."""
        self.usable()
        if self.writer is None or self.recent.open:
            return
        with self.lock:
            self.enter()
            tip = self.tips.get(self.id)
            if tip is not None and self.published.vector == {**tip.vector, self.id: tip.seq}:
                self.leave()

    def take_over(self) -> None:
        """Shut the native writer, and note what it has written. To be repeated at will."""
        writer = self.writer
        if writer is None:
            return
        writer.shut()
        _, _, seq, stamp, previous = writer.progress
        author = self._author
        if seq > self.tips.get(author, NO_TIP).seq:
            vector = dict(self.published.vector)
            vector[author] = seq - 1
            if seq == 1:
                del vector[author]
            self.hlc.observe(stamp)
            self.tips[author] = Tip(seq, stamp, previous, vector)
            self._note()

    def _followed(self, attachment: object) -> tuple[int, object]:
        """The sequence that the native writer has published, and what goes with it."""
        assert self.writer is not None
        assert isinstance(attachment, Published)
        sequence, position, seq, under = self.writer.followed()
        vector, state = {**attachment.vector, self._author: seq}, attachment.state
        if under is not None and self.derivation is not None:
            state = self.derivation.follow(state, under)
        return sequence, Published(vector, state, position)

    # Writing -----------------------------------------------------------

    def _append(self, group: Group) -> None:
        """Write the group to the log. Deletions make the room that they lack."""
        try:
            self.log.append(ADMITTED, group.records, deleting=group.deleting)
        except OSError as error:
            if not group.deleting or error.errno not in FULL:
                raise
            self.flush()
            self.log.append(ADMITTED, group.records, deleting=True)

    def _load(self, tree: Tree, group: Group, batch: BlockBatch, state: object) -> None:
        """Write the group to the log, and publish it past the memtable."""
        tree.make_way()
        self._append(group)
        published = Published(group.vector, state, self.log.end)
        mark = encode_mark(Mark(self.log.end, self.hlc.last, {**self.tips, **group.tips}))
        sequence = tree.load(batch, mark, published)
        self._note_published(group, batch, sequence, self.log.end)

    def _publish(self, group: Group, batch: Sequence[Entry], state: object, position: int) -> None:
        sequence = self.tree.write(batch, Published(group.vector, state, position))
        self._note_published(group, batch, sequence, position)

    def _note_published(
        self, group: Group, batch: Sequence[Entry], sequence: int, position: int
    ) -> None:
        self.tips.update(group.tips)
        self.hlc.observe(group.stamp)
        for parked in group.park:
            self.parking.add(parked)
        for record in group.records:
            self.parking.discard(record)
        self.recent.note(sequence, (key for key, _ in batch))
        self.durable.note(position, group.vector)

    def _joined(self, mark: Mark) -> None:
        """Let all else know what the tree holds since a snapshot was joined. To be repeated."""
        vector = self.published.vector
        for record in self.parking.covered(vector):
            self.parking.discard(record)
        self.tips.update(mark.tips)
        self.hlc.observe(mark.stamp)
        with self.tree.snapshot() as snapshot:
            self.recent.forget(snapshot.sequence)
        self.durable.jump(vector)
        self._joining = None

    def _mark(self) -> bytes:
        return encode_mark(Mark(self.published.position, self.hlc.last, self.tips))

    # Recovery ----------------------------------------------------------

    def _settle(self) -> None:
        """Finish or undo what an exception interrupted."""
        if self._joining is not None:
            self.tree.wait()
            joining, self._joining = self._joining, None
            if self.tree.mark == encode_mark(joining):
                self._joined(joining)
        if self._in_flight is not None:
            start, batch = self._in_flight
            if self.log.end == start:
                self.log.rewind(start)
            else:
                self._replay(start)
                published = self.published
                # It may have been published and not noted.
                self.durable.note(published.position, published.vector)
                with self.tree.snapshot() as snapshot:
                    self.recent.note(snapshot.sequence, (key for key, _ in batch))
            self._in_flight = None

    def _recover(self, mark: Mark) -> None:
        snapshot = self.tree.snapshot()
        try:
            state = self.derivation.load(snapshot) if self.derivation else None
        finally:
            snapshot.close()
        vector = {replica: tip.seq for replica, tip in mark.tips.items()}
        self.durable = Durable(self.log, self.durability, mark.position, vector)
        self.tree.write([], Published(vector, state, mark.position))
        self._replay(mark.position)
        # What recovery has read was written by an earlier session: it is made durable before it is
        # told.
        self.durable.sync()

    def _replay(self, start: int) -> None:
        """Bring the tree up to the log from a position at which a record begins."""
        group = Group(self.tree, self.published.vector)
        position = start
        for position, kind, record in self.log.read(start):
            try:
                decoded = decode(record)
            except Malformed as error:
                raise Corruption(f"{self.storage.path}/log", position, str(error)) from None
            if kind == PARKED:
                group.park.append(record)
                continue
            replica, seq, stamp = decoded[:3]
            tip = group.tips.get(replica) or self.tips.get(replica, NO_TIP)
            if seq == tip.seq + 1 and seq <= group.vector.get(replica, 0):
                # Published, and interrupted before it was noted here.
                vector = decoded.vector(tip.vector)
                self.tips[replica] = Tip(seq, stamp, digest(record), vector)
                self.hlc.observe(stamp)
            elif seq == tip.seq + 1:
                group.admit(record, decoded, decoded.vector(tip.vector))
                if group.bytes >= GROUP_BYTES:
                    self._republish(group, position)
                    group = Group(self.tree, self.published.vector)
        self._republish(group, position)

    def _republish(self, group: Group, position: int) -> None:
        batch, state = group.batch(self.derivation, self.published.state, self.latest)
        batch += self.parking.entries(group.park, group.records)
        if batch or group.records:
            if self.tree.full():
                self.tree.rotate(self._mark())
            self._publish(group, batch, state, position)


def _check_that_it_reaches(log: Log, position: int, path: str) -> None:
    """Raise Corruption unless the log holds where the tree stands, and all that follows."""
    if position < log.start:
        raise Corruption(
            f"{path}/tree",
            0,
            f"the tree stands at position {position}, the log was trimmed up to {log.start}: what "
            "lay between is lost here; restore a backup, or join the group again with a new "
            "directory",
        )
    if log.end < position:
        reason = f"the log ends before position {position}, which the tree already holds"
        raise Corruption(f"{path}/log", log.end, reason)


def _after_fork() -> None:
    """In a forked child: the log's file is the parent's, and mapped."""
    for ledger in tuple(_ledgers):
        if ledger.writer is not None:
            ledger.writer.shut()


_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
