"""The replica: one log, one tree derived from it, and the two ways in, commit and apply.

    commit  first committer? -> stamp, seq -> cells, derived entries -> log -> tree -> sync
    apply   well-formed? causally ready? wild? -> cells, derived entries -> log -> tree

Everything between choosing a stamp and publishing the tree happens in one critical section, so
stamp, sequence number and place in the log agree. What is published is one object, Published: the
vector, the derivation's state and the log position that go with one sequence number of the tree.

Invariants (DESIGN section 1):
    L1  The tree holds what the log says, up to Published.position; recovery replays from the mark.
    L2  A transaction enters the tree in one batch.
    L3  A record enters the log only when its vector is dominated and its predecessor is in.
    L5  Cells and derived entries are functions of the set of admitted records.
    L6  commit returns after the sync that `durability` promises; peers are told what is durable.

An exception in the critical section (Ctrl-C, above all) leaves a note of where the log stood.
Whoever enters next settles it: bytes of an unfinished append are cut off, a whole record is rolled
forward.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from typing import Any, NamedTuple

from murmur.errors import (
    Closed,
    Corruption,
    Forked,
    InvalidInput,
    PeerError,
    ProtocolViolation,
    Unsupported,
)
from murmur.kvcore import process
from murmur.kvcore.admission import Group
from murmur.kvcore.adoption import Adoption
from murmur.kvcore.backend import LSM, KeyTree, open_tree, record_backend, settle_backend
from murmur.kvcore.backup import Backup, Generation, whole_items
from murmur.kvcore.causality import VersionVector, dominates
from murmur.kvcore.clock import (
    LAST_STAMP,
    MAX_SKEW_MS,
    Clock,
    HybridClock,
    SystemClock,
    stamp_datetime,
)
from murmur.kvcore.dead_letters import DeadLetter, DeadLetters, Unappliable, check_dead_letters
from murmur.kvcore.derivation import Derivation
from murmur.kvcore.durability import check_durability
from murmur.kvcore.durable import Durable
from murmur.kvcore.export import Export, Manifest
from murmur.kvcore.floor import read_floor, write_floor
from murmur.kvcore.join import KINDS
from murmur.kvcore.kernel import Entry
from murmur.kvcore.kernel.blocks import RowBlock
from murmur.kvcore.lineage import close_lineage, open_lineage
from murmur.kvcore.loads import BlockBatch, with_blocks
from murmur.kvcore.log import ADMITTED, FULL, PARKED, Log, TornTail
from murmur.kvcore.long_record import LongRecord, Record
from murmur.kvcore.mark import NO_TIP, Mark, Tip, decode_mark, encode_mark
from murmur.kvcore.parking import Arrived, Delivery, ParkedRecord, Parking, Waiting
from murmur.kvcore.recent import Recent
from murmur.kvcore.record import (
    DELETE,
    MAX_RECORD_BYTES,
    PUT,
    Malformed,
    Operation,
    decode,
    decode_head,
    deletes,
    digest,
    encode_head,
    origin,
    stamp_of,
)
from murmur.kvcore.record import Transaction as Decoded
from murmur.kvcore.snapshot import Published, Snapshot
from murmur.kvcore.spool import Spool
from murmur.kvcore.storage import Problem, Storage
from murmur.kvcore.successors import Successors
from murmur.kvcore.syncer import Syncer
from murmur.kvcore.transaction import Transaction
from murmur.kvcore.tree import Tree
from murmur.kvcore.trimming import tips_within, trimmable
from murmur.kvcore.verify import state_hash, verify
from murmur.kvcore.writer import NativeAuthor, native_author

SYNC_INTERVAL_MS = 50
GROUP_BYTES = 256 << 10  # remote records admitted in one critical section


class Applied(NamedTuple):
    """What became of the records given to apply; the rest were known already."""

    admitted: int
    parked: int
    waiting: int


class Replica:
    """One full copy of the data in one directory. Safe to use from many threads."""

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        derivation: Derivation | None,
        durability: str,
        sync_interval_ms: int | None,
        max_skew_ms: int,
        memtable_bytes: int,
        segment_bytes: int,
        backend: str | None,
    ) -> None:
        check_durability(durability)
        self.storage = storage
        self.clock = clock
        self.durability = durability
        self.derivation = derivation
        self._pid = process.pid
        self._lock = threading.Lock()
        self._closed = False
        # What is being written: where the log stood, and the batch for the tree.
        self._in_flight: tuple[int, Sequence[Entry]] | None = None
        self._joining: Mark | None = None  # a snapshot is being joined, up to this mark
        self._recent = Recent()
        self._owner = storage.lock()
        self._syncer: Syncer | None = None
        self._writer: NativeAuthor | None = None
        try:
            self.backend = settle_backend(storage, backend)
            lineage = open_lineage(storage, durability=durability, random_bytes=random_bytes)
            self.id = lineage.id
            self.renewed = lineage.renewed
            self._session = lineage.session
            self._tree = open_tree(
                storage,
                self.backend,
                memtable_bytes=memtable_bytes,
                before_install=self._before_install,
            )
            mark = self._read_mark()
            floor = read_floor(storage)
            self.log = Log.open(
                storage,
                segment_bytes=segment_bytes,
                clean_end=max(lineage.clean_end or 0, mark.position) or None,
                trimmed=floor.start,
                floor=floor,
            )
            self.log.trim(floor.start)  # what was interrupted
            if mark.position < self.log.start:
                raise Corruption(
                    f"{storage.path}/tree",
                    0,
                    f"the tree stands at position {mark.position}, the log was trimmed up to "
                    f"{self.log.start}: what lay between is lost here; restore a backup, or join "
                    "the group again with a new directory",
                )
            if self.log.end < mark.position:
                raise Corruption(
                    f"{storage.path}/log",
                    self.log.end,
                    f"the log ends before position {mark.position}, which the tree already holds",
                )
            self._hlc = HybridClock(clock, last=mark.stamp, max_skew_ms=max_skew_ms)
            self._tips: dict[bytes, Tip] = dict(mark.tips)
            self.parking = Parking(self._tree)
            self._waiting = Waiting()
            self._successors = Successors()
            self._dead_letters = DeadLetters(storage)
            self._recover(mark)
        except BaseException:
            self._release()
            raise
        if durability == "batched" and sync_interval_ms is not None:
            self._syncer = Syncer(self._sync_behind, sync_interval_ms)
        if isinstance(self._tree, Tree) and type(clock) is SystemClock:
            self._writer = native_author(
                self._tree,
                write=self._write_register,
                wake=self._syncer.wake if self._syncer is not None else None,
                wait=self._wait_for if durability == "commit" else None,
            )
        if self._writer is not None and isinstance(self._tree, Tree):
            self._tree.follow(self._followed)
            self.put = self._writer.put  # type: ignore[method-assign]
            self.delete = self._writer.delete  # type: ignore[method-assign]
        _replicas.add(self)

    @classmethod
    def open(
        cls,
        storage: Storage,
        *,
        clock: Clock | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        derivation: Derivation | None = None,
        durability: str = "batched",
        sync_interval_ms: int | None = SYNC_INTERVAL_MS,
        max_skew_ms: int = MAX_SKEW_MS,
        memtable_bytes: int = 32 << 20,
        segment_bytes: int = 64 << 20,
        backend: str | None = None,
    ) -> Replica:
        """Create the replica of this directory, or open and recover it.

        `durability` is "none", "batched" (synced in the background every `sync_interval_ms`; None
        leaves it to calls of sync) or "commit". Records stamped more than `max_skew_ms` ahead of
        the clock are parked. `backend` is "lsm", "sqlite", or None: what the directory has, "lsm"
        for a new one. Raises InvalidInput if it has another, Locked, Corruption, UnknownFormat,
        OSError.
        """
        return cls(
            storage,
            clock=clock or SystemClock(),
            random_bytes=random_bytes,
            derivation=derivation,
            durability=durability,
            sync_interval_ms=sync_interval_ms,
            max_skew_ms=max_skew_ms,
            memtable_bytes=memtable_bytes,
            segment_bytes=segment_bytes,
            backend=backend,
        )

    # Reading -----------------------------------------------------------

    @property
    def vector(self) -> Mapping[bytes, int]:
        """What has been admitted."""
        return self._published.vector

    @property
    def state(self) -> object:
        """The derivation's state as last published."""
        return self._published.state

    @property
    def durable_vector(self) -> Mapping[bytes, int]:
        """What has been admitted and may be told to peers."""
        self._look_for_durable()
        return self._durable.vector

    @property
    def durable_position(self) -> int:
        """How far into the log peers may be sent records."""
        self._look_for_durable()
        return self._durable.position

    @property
    def tips(self) -> Mapping[bytes, bytes]:
        """The hash of each author's newest admitted record."""
        with self._lock:
            self._take_over()
            return {replica: tip.hash for replica, tip in self._tips.items()}

    @property
    def torn(self) -> TornTail | None:
        """What recovery cut off the end of the log, if it did."""
        return self.log.torn

    @property
    def last_stamp(self) -> int:
        """The highest stamp issued or observed."""
        writer = self._writer
        return self._hlc.last if writer is None else max(self._hlc.last, writer.stamp)

    def get(self, key: bytes) -> bytes | None:
        """The latest cell or derived entry under the key."""
        self._usable()
        return self._tree.get(key)

    def snapshot(self) -> Snapshot:
        """The keyspace, vector and state of this moment."""
        self._usable()
        return Snapshot(self._tree.snapshot())

    def stats(self) -> Mapping[str, object]:
        """Figures of the tree and the log."""
        return {
            **self._tree.stats(),
            "log_start": self.log.start,
            "log_end": self.log.end,
            "log_durable": self.log.durable,
        }

    def state_hash(self) -> bytes:
        """A hash of all replicated data: equal on replicas with equal vectors."""
        with self.snapshot() as snapshot:
            return state_hash(snapshot)

    def check(self) -> Iterator[Problem]:
        """Verify every file, and the whole state against the log; what is wrong, if anything is."""
        self._usable()
        yield from check_dead_letters(self.storage)
        with self._lock:
            self._enter()
            position = self._published.position
            snapshot = self.snapshot()
        with snapshot:
            damaged = False
            for problem in chain(self._tree.check(), self.log.check()):
                damaged = True
                yield problem
            if not damaged:  # what is damaged cannot be read through
                yield from verify(self.log, position, snapshot, self.derivation, self.storage.path)

    # Writing -----------------------------------------------------------

    def begin(self) -> Transaction:
        """Begin a transaction on the present snapshot."""
        self._usable()
        # Registered before the snapshot is taken: from here on, what commits is remembered.
        token = object()
        self._recent.open[id(token)] = 0
        if self._writer is not None:
            self._writer.shut()  # it remembers nothing
        try:
            snapshot = self.snapshot()
            transaction = Transaction(self, snapshot, self.last_stamp + 1)
            self._recent.open[id(transaction)] = snapshot.sequence
        finally:
            del self._recent.open[id(token)]
        return transaction

    def put(self, key: bytes, value: bytes) -> None:
        """Commit a blind put of a register, covering all that is there."""
        self._write_register(key, value)

    def delete(self, key: bytes) -> None:
        """Commit a blind delete of a register, covering all that is there."""
        self._write_register(key, None)

    def write(self, operations: Sequence[Operation]) -> tuple[bytes, int]:
        """Commit blind puts and deletes of registers, covering all that is there; the dot."""
        self._usable()
        with self._lock:
            self._enter(deleting=deletes(operations))
            position, dot = self._commit(operations, self._published.vector)
            self._leave()
        self._acknowledge(position)
        return dot

    def commit(self, transaction: Transaction) -> tuple[bytes, int] | None:
        """Commit what the transaction has written (called by the transaction). Raises Conflict."""
        snapshot = transaction.snapshot
        operations = transaction.operations()
        if not operations and not transaction.blocks:
            return None
        self._usable()
        with self._lock:
            self._enter(deleting=deletes(operations) and not transaction.blocks)
            self._recent.check(transaction)
            self.forget(transaction)  # it needs nothing any more of what commits from here on
            position, dot = self._commit(operations, snapshot.vector, transaction.blocks)
        self._acknowledge(position)
        return dot

    def forget(self, transaction: Transaction) -> None:
        """The transaction has ended; what only it needed may go."""
        self._recent.open.pop(id(transaction), None)

    def apply(self, records: Iterable[bytes]) -> Applied:
        """Admit records from elsewhere: each once, in causal order, however they come.

        A Delivery also says from whom. Raises ProtocolViolation for bytes that are not records
        (nothing is stored), and for a fork (what came before it is stored); what is refused becomes
        a dead letter.
        """
        self._usable()
        peer = records.peer if isinstance(records, Delivery) else b""
        arrived: deque[Arrived] = deque()
        for record in records:
            try:
                arrived.append(Arrived(record, decode(record), peer))
            except Malformed as error:
                self._refuse(Unappliable(record, peer, str(error)))
                raise ProtocolViolation(str(error)) from None
        before = self.parking.count
        admitted, faults = self._admit_all(arrived, blame=peer)
        for fault in faults:
            if fault.peer == peer:
                raise fault
            if isinstance(records, Delivery):
                records.refused.append((fault.peer, str(fault)))
        return Applied(admitted, self.parking.count - before, self._waiting.count)

    def release_parked(self, *, force: bool = False) -> int:
        """Admit parked records whose time has come, or all with `force`; how many were admitted.

        Those stamped beyond LAST_STAMP stay parked for ever: after them no clock could go on.
        """
        self._usable()
        with self._lock:
            self._enter()
            due = deque(
                Arrived(record, decode(record), b"")
                for record in self.parking.records()
                if force or not self._hlc.is_wild(stamp_of(record))
            )
        admitted, _ = self._admit_all(due, unpark=force)
        return admitted

    def dead_letters(self) -> list[DeadLetter]:
        """The records that were refused, oldest first."""
        return self._dead_letters.listing()

    def retry_dead_letters(self) -> int:
        """Apply them again; how many are admitted now, or are parked. The others stay."""
        self._usable()
        settled = []
        for letter in self._dead_letters.listing():
            if letter.record:
                try:
                    self.apply(Delivery([letter.record], letter.peer))
                except ProtocolViolation:
                    continue
                if self._holds(letter.record):
                    settled.append(letter.number)
        return self._dead_letters.remove(settled)

    def set_aside(self, head: bytes, peer: bytes, reason: str, size: int) -> None:
        """Make a dead letter of a record of which only the beginning was taken."""
        self._usable()
        self._dead_letters.add(head, peer, reason, self.clock.now_ms(), size)

    def drop_dead_letters(self, numbers: Iterable[int] | None = None) -> int:
        """Forget these letters, or all; how many there were."""
        self._usable()
        if numbers is None:
            numbers = [letter.number for letter in self._dead_letters.listing()]
        return self._dead_letters.remove(numbers)

    def _holds(self, record: bytes) -> bool:
        """Whether this very record is admitted or parked, and not another one of its dot."""
        if any(record == parked for parked in self.parking.records()):
            return True
        return self.log.find(*origin(record)) == record

    def _admit_all(
        self, arrived: deque[Arrived], *, blame: bytes | None = None, unpark: bool = False
    ) -> tuple[int, list[Unappliable]]:
        """Apply what arrived, group by group: how many are admitted, and what never can be.

        After a fault of the peer to blame nothing more of it is looked at.
        """
        admitted = 0
        faults: list[Unappliable] = []
        while arrived:
            with self._lock:
                self._enter()
                try:
                    admitted += self._apply_group(arrived, unpark=unpark)
                except Unappliable as error:
                    admitted += error.admitted
                    faults.append(error)
            if faults and faults[-1].peer == blame:
                break
        for fault in faults:
            self._refuse(fault)
        self._changed()
        return admitted, faults

    def _refuse(self, fault: Unappliable) -> None:
        self._dead_letters.add(fault.record, fault.peer, str(fault), self.clock.now_ms())

    def parked(self) -> list[ParkedRecord]:
        """The records that wait for the clock, by author and sequence number."""
        return self.parking.listing()

    # Snapshots for others, and from them -------------------------------

    @property
    def floor(self) -> Mapping[bytes, int]:
        """For each author, up to which of its transactions the log may lack some."""
        return self.log.floor.missing

    def export(self, pause: Callable[[], None] = lambda: None) -> Export:
        """All replicated state of this moment, durable, for a replica that lacks much of it.

        Reads the whole state; `pause` is called now and then. To be closed.
        """
        self._usable()
        with self._lock:
            self._enter()
            snapshot = self.snapshot()
            tips, stamp = dict(self._tips), self._hlc.last
        try:
            self.log.sync(snapshot.position)
        except BaseException:
            snapshot.close()
            raise
        self._advance_durable()
        return Export(snapshot, tips, stamp, pause)

    def adopt(self, spool: Spool, pause: Callable[[], None] = lambda: None) -> None:
        """Join a whole snapshot that was fetched into what this replica holds (adoption.py).

        Reading and writing go on meanwhile, but for the last moment; `pause` is called now and
        then. Raises ProtocolViolation if the snapshot is none or tells of a fork, PeerError if it
        cannot be taken in now (its clock is ahead, another release made it), OSError (a full disk):
        then nothing has changed.
        """
        self._usable()
        assert spool.manifest is not None
        assert spool.whole, "the snapshot is not whole"
        with ExitStack() as parts:
            with self._lock:
                self._enter()
                self._check_acceptable(spool.manifest)
                own = parts.enter_context(self.snapshot())
                self._recent.open[id(own)] = own.sequence  # from here on, changes are remembered
                parts.callback(self._recent.open.pop, id(own))
            adoption = self._prepare(parts, own, spool, pause)
            prepared = parts.enter_context(closing(self._tree.prepare(adoption.entries(), pause)))
            with self._lock:
                self._enter()
                self._check_acceptable(spool.manifest)
                changed = self._recent.since(own.sequence)
                if changed is None or adoption.outdated(changed):
                    # Once more, with nobody writing: definitions changed, which is rare.
                    own = parts.enter_context(self.snapshot())
                    adoption = self._prepare(parts, own, spool, lambda: None)
                    again = self._tree.prepare(adoption.entries())
                    prepared = parts.enter_context(closing(again))
                    changed = set()
                self._take_in(adoption, prepared, changed)
        self._changed()

    def compare(self, tips: Mapping[bytes, tuple[int, bytes]]) -> None:
        """See that nobody's newest records (author: seq, hash) are another history's than ours.

        Raises ProtocolViolation for a fork. Where the author's next record was trimmed, or is not
        here, nothing can be said.
        """
        self._usable()
        with self._lock:
            self._enter()
            self._compare(tips)

    def trim(self, stable: VersionVector, *, keep_bytes: int, before_ms: int | None = None) -> int:
        """Remove the log's oldest segments that nobody needs; how many bytes they were.

        Those that the tree has flushed and of which `stable`, what every member holds, covers all:
        the oldest ones, as long as more than `keep_bytes` would be left, or they are stamped before
        `before_ms` (since 1970) to the last. The snapshot of the tree stands for what is gone.
        """
        self._usable()
        flushed = self._read_mark().position
        gone = trimmable(self.log, flushed, stable, keep_bytes=keep_bytes, before_ms=before_ms)
        if gone is None:
            return 0
        start, stop = gone
        tips = tips_within(self.log, start, stop)
        with self._lock:
            self._enter()
            floor = self.log.floor.trimmed(stop, tips)
            write_floor(self.storage, floor)
            self.log.floor = floor
            self.log.trim(stop)
        return stop - start

    def _prepare(
        self, parts: ExitStack, own: Snapshot, spool: Spool, pause: Callable[[], None]
    ) -> Adoption:
        adoption = Adoption(self.storage, own, spool, self.derivation, pause)
        parts.callback(adoption.close)
        adoption.prepare()
        return adoption

    def _check_acceptable(self, manifest: Manifest) -> None:
        """Raise unless the snapshot can be true beside this replica's history, and now."""
        if manifest.kinds != KINDS:
            raise PeerError(
                f"the snapshot is of a release that knows {manifest.kinds} kinds of operation, "
                f"this one knows {KINDS}: take one from a peer of the same release"
            )
        if manifest.stamp > LAST_STAMP or self._hlc.is_wild(manifest.stamp):
            raise PeerError(
                f"the snapshot holds a transaction stamped {stamp_datetime(manifest.stamp)}, too "
                "far ahead of this clock; it is taken in when its time has come"
            )
        mine = manifest.tips.get(self.id, NO_TIP).seq
        if mine > self._tips.get(self.id, NO_TIP).seq:
            raise ProtocolViolation(
                f"the snapshot holds {mine} transactions of this replica {self.id.hex()}, which "
                f"has written {self._tips.get(self.id, NO_TIP).seq}: its directory was put back "
                "to an earlier state"
            )
        self._compare({replica: (tip.seq, tip.hash) for replica, tip in manifest.tips.items()})

    def _compare(self, tips: Mapping[bytes, tuple[int, bytes]]) -> None:
        for replica, (seq, theirs) in tips.items():
            own = self._tips.get(replica, NO_TIP)
            if seq == own.seq and theirs != own.hash:
                raise _fork(replica, seq)
            if seq < own.seq:
                following = self.log.find(replica, seq + 1)
                if following is not None and decode_head(following)[0].previous != theirs:
                    raise _fork(replica, seq)

    def _take_in(self, adoption: Adoption, prepared: Any, changed: set[bytes]) -> None:
        """Make the join the state; in the critical section."""
        published, manifest = self._published, adoption.manifest
        above, state = adoption.settle(changed, _Latest(self._tree), published.vector)
        brought = {
            replica: tip
            for replica, tip in manifest.tips.items()
            if tip.seq > self._tips.get(replica, NO_TIP).seq
        }
        vector = {**published.vector, **{replica: tip.seq for replica, tip in brought.items()}}
        unparked = self.parking.covered(vector)
        above += self.parking.entries([], unparked)
        stamp = max(self._hlc.last, manifest.stamp)
        mark = Mark(published.position, stamp, {**self._tips, **brought})
        # First: if it comes to nothing, peers are told of less than there is.
        floor = self.log.floor.joined(brought)
        write_floor(self.storage, floor)
        self.log.floor = floor
        self._joining = mark
        self._tree.adopt(
            prepared,
            above,
            encode_mark(mark),
            Published(vector, state, published.position),
            self._mark(),
        )
        self._joined(mark)

    def _joined(self, mark: Mark) -> None:
        """Let all else know what the tree holds since a snapshot was joined. To be repeated."""
        vector = self._published.vector
        for record in self.parking.covered(vector):
            self.parking.discard(record)
        self._tips.update(mark.tips)
        self._hlc.observe(mark.stamp)
        with self._tree.snapshot() as snapshot:
            self._recent.forget(snapshot.sequence)
        self._durable.jump(vector)
        self._joining = None

    # Durability --------------------------------------------------------

    def sync(self) -> None:
        """Make all that was committed durable now."""
        self._usable()
        self._note()
        self.log.sync()
        self._advance_durable()

    def flush(self) -> None:
        """Write the memtable to an sstable, so that the next opening replays nothing."""
        self._usable()
        with self._lock:
            self._enter()
            self._flush()

    def backup(self, directory: str, label: str = "") -> Generation:
        """Add all that was admitted to the backups in a directory, relative to this or absolute.

        Only what it lacks is copied. `Backup` lists, checks, prunes and restores them (backup.py);
        what is restored opens with an id of its own. Raises Unsupported under another backend.
        """
        self._usable()
        if not isinstance(self._tree, Tree):
            raise Unsupported("backups are of the backend 'lsm'; of this one, copy its file")
        with self._lock:
            self._enter()
            items = whole_items(self.storage, self._tree.backup_items(), self.log.segments)
        return Backup(self.storage.at(directory)).add(items, label)

    def compact(self) -> None:
        """Merge the tree's files."""
        self._usable()
        self._tree.compact()

    def checkpoint(self, directory: str) -> None:
        """Flush, and make a consistent copy of the tree in `directory` by hard links."""
        self._usable()
        with self._lock:
            self._enter()
            self._tree.flush(self._mark())
            self._tree.checkpoint(directory)
            if self.backend != LSM:  # which is what a directory has that does not say
                record_backend(self.storage.at(directory), self.backend)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after the durable position has moved; returns what ends that."""
        unsubscribe = self._durable.subscribe(listener)
        if self._writer is not None:
            self._writer.shut()  # it does not call them
        return unsubscribe

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._closed

    def close(self) -> None:
        """Sync, flush and let go of the directory. Closing twice is once."""
        if self._closed:
            return
        if process.pid != self._pid:
            self._closed = True  # the files and the lock are the parent's
            return
        if self._syncer is not None:
            self._syncer.close()
        with self._lock:
            if self._closed:
                return
            try:
                self._take_over()
                self._settle()
                self.log.sync()  # first: on a full disk the flush fails, and nothing is lost by it
                self._flush()
                end = self.log.end
                self._advance_durable()
                self._tree.close()
                self.log.close()
                close_lineage(self.storage, self._session, end)
            finally:
                self._closed = True
                self._release()

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The critical section ----------------------------------------------

    @property
    def _published(self) -> Published:
        published = self._tree.attachment
        assert isinstance(published, Published)
        return published

    def _usable(self) -> None:
        # Before any lock is waited for: in a forked child nobody would ever release it.
        if self._closed:
            raise Closed(f"{self.storage.path} is closed; open it again")
        if process.pid != self._pid:
            raise Forked(
                f"{self.storage.path} was opened by process {self._pid}, before the fork; "
                "open it in this process, after the other has closed it"
            )

    def _enter(self, *, deleting: bool = False) -> None:
        self._usable()
        self._take_over()
        self._settle()
        if self._tree.full():
            self._tree.rotate(self._mark(), deleting=deleting)

    def _flush(self) -> None:
        try:
            self._tree.flush(self._mark())
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.log.give_back()  # what was deleted may make a flush smaller than that
            self._tree.flush(self._mark())

    def _write_register(self, key: bytes, value: bytes | None) -> None:
        kind = PUT if value is not None else DELETE
        self.write([Operation(kind, key, value if value is not None else b"")])

    # The native writer. It commits blind puts and deletes while nobody is in the critical section,
    # no transaction is open that would have to remember them, and no listener is to hear of each.
    # What it knows (sequence, position, and the own tip) is taken over by whoever needs it.

    def _leave(self) -> None:
        """Let the native writer go on. An exception leaves it shut, until the next write."""
        writer = self._writer
        if writer is None or self.parking.count:
            return
        assert isinstance(self._tree, Tree)
        tip = self._tips[self.id]  # of a blind write just now, which had seen all that there is
        writer.follow(
            self.log.appender,
            self._tree.memtable,
            replica=self.id,
            seq=tip.seq,
            stamp=self._hlc.last,
            digest=tip.hash,
            unless=(self._recent.open, self._durable.listeners)
            if self.durability == "none"
            else (self._recent.open,),
        )

    def _take_over(self) -> None:
        """Shut the native writer, and note what it has written. To be repeated at will."""
        writer = self._writer
        if writer is None:
            return
        writer.shut()
        _, _, seq, stamp, previous = writer.progress
        if seq > self._tips.get(self.id, NO_TIP).seq:
            vector = dict(self._published.vector)
            vector[self.id] = seq - 1
            if seq == 1:
                del vector[self.id]
            self._hlc.observe(stamp)
            self._tips[self.id] = Tip(seq, stamp, previous, vector)
            self._note()

    def _followed(self, attachment: object) -> tuple[int, object]:
        """The sequence that the native writer has published, and what goes with it."""
        assert self._writer is not None
        assert isinstance(attachment, Published)
        sequence, position, seq, _, _ = self._writer.progress
        vector = {**attachment.vector, self.id: seq}
        return sequence, Published(vector, attachment.state, position)

    def _note(self) -> None:
        """Let what the native writer has published be told when it is durable."""
        if self._writer is None:
            return
        vector, _, position = self._published
        self._durable.note(position, vector)

    def _look_for_durable(self) -> None:
        if self._writer is not None and self.durability == "none":
            self._note()
            self._advance_durable()

    def _sync_behind(self) -> None:
        if self._writer is not None:
            self._writer.rest()  # first: what is written from now on asks for another sync
        self.sync()

    def _wait_for(self, position: int) -> None:
        self._note()
        self._acknowledge(position)

    def _commit(
        self,
        operations: Sequence[Operation],
        vector: VersionVector,
        blocks: Sequence[RowBlock] = (),
    ) -> tuple[int, tuple[bytes, int]]:
        tip = self._tips.get(self.id, NO_TIP)
        seq, stamp = tip.seq + 1, self._hlc.tick()
        more = sum(block.count for block in blocks)
        head = encode_head(self.id, seq, stamp, tip.hash, vector, tip.vector, operations, more)
        record: Record = head
        if blocks:
            record = LongRecord((head, *(piece for block in blocks for piece in block.pieces())))
        if len(record) > MAX_RECORD_BYTES:
            raise InvalidInput(
                f"a transaction of {len(record):,} bytes is larger than {MAX_RECORD_BYTES:,}; "
                "commit it in parts"
            )
        group = Group(self._tree, self._published.vector)
        decoded = Decoded(self.id, seq, stamp, tip.hash, {}, operations)
        group.admit(record, decoded, dict(vector), blocks)
        self._install(group)
        return self._published.position, (self.id, seq)

    def _apply_group(self, records: deque[Arrived], *, unpark: bool = False) -> int:
        """Admit records from the left until the group is full; those that are not ready wait.

        Raises Unappliable, with what came before installed.
        """
        group = Group(self._tree, self._published.vector)
        try:
            while records and group.bytes < GROUP_BYTES:
                arrived = records.popleft()
                if self._admit(group, arrived, unpark=unpark):
                    records.extendleft(reversed(self._waiting.ready(group.vector)))
        except ProtocolViolation as error:
            self._install(group)
            fault = Unappliable(arrived.record, arrived.peer, str(error), len(group.records))
            raise fault from None
        self._install(group)
        return len(group.records)

    def _admit(self, group: Group, arrived: Arrived, *, unpark: bool) -> bool:
        record, decoded, _ = arrived
        replica, seq, stamp, previous, _, _ = decoded
        tip = group.tips.get(replica) or self._tips.get(replica, NO_TIP)
        if seq <= tip.seq:
            known = tip.hash if seq == tip.seq else self._successors.hash_of(replica, seq)
            if known is not None and digest(record) != known:
                raise _fork(replica, seq)
            return False
        if seq == tip.seq + 1:
            if previous != tip.hash:
                raise _fork(replica, seq - 1)
            if stamp <= tip.stamp:
                raise ProtocolViolation(f"{replica.hex()}:{seq} is stamped before its predecessor")
            vector = decoded.vector(tip.vector)
            if dominates(group.vector, vector):
                if stamp > LAST_STAMP or (not unpark and self._hlc.is_wild(stamp)):
                    if not self.parking.holds(replica, seq):
                        group.park.append(record)
                    return False
                group.admit(record, decoded, vector)
                self._successors.note(replica, seq, previous)
                return True
        self._waiting.add(arrived)
        return False

    def _install(self, group: Group) -> None:
        """Write the group to the log, then to the tree, and publish it."""
        if not group.records and not group.park:
            return
        published = self._published
        entries, state = group.batch(self.derivation, published.state, _Latest(self._tree))
        batch = with_blocks(entries + self.parking.entries(group.park, group.records), group.loads)
        self._in_flight = self.log.end, batch
        if isinstance(batch, BlockBatch) and self._takes_tables(batch):
            self._load(group, batch, state)
            self._in_flight = None
            return
        if group.records:
            self._append(group)
        if group.park:
            self.log.append(PARKED, group.park)
        self._publish(group, batch, state, self.log.end)
        self._in_flight = None

    def _takes_tables(self, batch: BlockBatch) -> bool:
        return isinstance(self._tree, Tree) and self._tree.takes_tables(batch)

    def _load(self, group: Group, batch: BlockBatch, state: object) -> None:
        """Write the group to the log, and beside it into tables, past the memtable."""
        assert isinstance(self._tree, Tree)
        logged = False

        def log() -> tuple[object, bytes]:
            nonlocal logged
            self._append(group)
            logged = True
            published = Published(group.vector, state, self.log.end)
            tips = {**self._tips, **group.tips}
            return published, encode_mark(Mark(self.log.end, self._hlc.last, tips))

        try:
            sequence = self._tree.load(batch, self._mark(), log)
        except (OSError, MemoryError):
            if not logged:
                raise
            # There is no room for tables now; what is in memory is flushed when there is some.
            self._publish(group, batch, state, self.log.end)
        else:
            self._note_published(group, batch, sequence, self.log.end)

    def _append(self, group: Group) -> None:
        """Write the group to the log. Deletions make the room that they lack."""
        try:
            self.log.append(ADMITTED, group.records, deleting=group.deleting)
        except OSError as error:
            if not group.deleting or error.errno not in FULL:
                raise
            self._flush()
            self.log.append(ADMITTED, group.records, deleting=True)

    def _publish(
        self,
        group: Group,
        batch: Sequence[Entry],
        state: object,
        position: int,
    ) -> None:
        sequence = self._tree.write(batch, Published(group.vector, state, position))
        self._note_published(group, batch, sequence, position)

    def _note_published(
        self, group: Group, batch: Sequence[Entry], sequence: int, position: int
    ) -> None:
        self._tips.update(group.tips)
        self._hlc.observe(group.stamp)
        for parked in group.park:
            self.parking.add(parked)
        for record in group.records:
            self.parking.discard(record)
        self._recent.note(sequence, (key for key, _ in batch))
        self._durable.note(position, group.vector)

    def _settle(self) -> None:
        """Finish or undo what an exception interrupted."""
        if self._joining is not None:
            self._tree.prepare(()).close()  # waits for what the tree has begun
            joining, self._joining = self._joining, None
            if self._tree.mark == encode_mark(joining):
                self._joined(joining)
        if self._in_flight is None:
            return
        if isinstance(self._tree, Tree):
            self._tree.wait()
        start, batch = self._in_flight
        if self.log.end == start:
            self.log.rewind(start)
        else:
            self._replay(start)
            published = self._published
            # It may have been published and not noted.
            self._durable.note(published.position, published.vector)
            with self._tree.snapshot() as snapshot:
                self._recent.note(snapshot.sequence, (key for key, _ in batch))
        self._in_flight = None

    # Recovery ----------------------------------------------------------

    def _recover(self, mark: Mark) -> None:
        snapshot = self._tree.snapshot()
        try:
            state = self.derivation.load(snapshot) if self.derivation else None
        finally:
            snapshot.close()
        vector = {replica: tip.seq for replica, tip in mark.tips.items()}
        self._durable = Durable(mark.position, vector)
        self._tree.write([], Published(vector, state, mark.position))
        self._replay(mark.position)
        # What recovery has read was written by an earlier session: it is made durable before it is
        # told.
        self.log.sync()
        self._advance_durable()

    def _replay(self, start: int) -> None:
        """Bring the tree up to the log from a position at which a record begins."""
        group = Group(self._tree, self._published.vector)
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
            tip = group.tips.get(replica) or self._tips.get(replica, NO_TIP)
            if seq == tip.seq + 1 and seq <= group.vector.get(replica, 0):
                # Published, and interrupted before it was noted here.
                vector = decoded.vector(tip.vector)
                self._tips[replica] = Tip(seq, stamp, digest(record), vector)
                self._hlc.observe(stamp)
            elif seq == tip.seq + 1:
                group.admit(record, decoded, decoded.vector(tip.vector))
                if group.bytes >= GROUP_BYTES:
                    self._republish(group, position)
                    group = Group(self._tree, self._published.vector)
        self._republish(group, position)

    def _republish(self, group: Group, position: int) -> None:
        published = self._published
        batch, state = group.batch(self.derivation, published.state, _Latest(self._tree))
        batch += self.parking.entries(group.park, group.records)
        if batch or group.records:
            if self._tree.full():
                self._tree.rotate(self._mark())
            self._publish(group, batch, state, position)

    def _read_mark(self) -> Mark:
        try:
            return decode_mark(self._tree.mark)
        except ValueError as error:
            raise Corruption(f"{self.storage.path}/tree", 0, f"the mark: {error}") from None

    def _mark(self) -> bytes:
        return encode_mark(Mark(self._published.position, self._hlc.last, self._tips))

    def _before_install(self, mark: bytes) -> None:
        # The log first: a tree that is ahead of it would apply records twice after a power cut.
        self._note()
        self.log.sync(decode_mark(mark).position)
        self._advance_durable()

    # Acknowledging -----------------------------------------------------

    def _acknowledge(self, position: int) -> None:
        if self.durability == "commit":
            self.log.sync(position)
        self._changed()

    def _changed(self) -> None:
        if self._syncer is not None:
            self._syncer.wake()
        elif self.durability == "commit" and self.log.durable < self._published.position:
            self.log.sync()
        self._advance_durable()

    def _advance_durable(self) -> None:
        self._durable.advance(self.log.end if self.durability == "none" else self.log.durable)

    def _release(self) -> None:
        with ExitStack() as parts:  # the next opener is not to find the lock, whatever one raises
            parts.callback(self._owner.close)
            for owner in ("log", "_tree"):
                part = getattr(self, owner, None)
                if part is not None:
                    parts.callback(part.close)


def _fork(replica: bytes, seq: int) -> ProtocolViolation:
    return ProtocolViolation(
        f"fork: two different transactions carry the dot {replica.hex()}:{seq}; "
        "one replica id is in use twice"
    )


class _Latest:
    """The latest published keyspace, for the one who alone may change it."""

    def __init__(self, tree: KeyTree) -> None:
        self._tree = tree

    def get(self, key: bytes) -> bytes | None:
        return self._tree.get(key)

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        with self._tree.snapshot() as snapshot:
            yield from snapshot.scan(start, stop, reverse=reverse)


def _after_fork() -> None:
    """In a forked child: the log's file is the parent's, and mapped."""
    for replica in tuple(_replicas):
        if replica._writer is not None:
            replica._writer.shut()


_replicas: weakref.WeakSet[Replica] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
