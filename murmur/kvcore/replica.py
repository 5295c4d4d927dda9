"""The replica: one log, one tree derived from it, and the two ways in, commit and apply.

    commit  first committer? -> stamp, seq -> cells, derived entries -> log -> tree -> sync
    apply   well-formed? causally ready? wild? -> cells, derived entries -> log -> tree

Log and tree change together, under one lock: ledger.py. What comes from elsewhere goes through
incoming.py as records, and through adoption.py as a snapshot. What is here is what a replica's own
writers and readers see of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from murmur.errors import Conflict, InvalidInput, Unsupported
from murmur.kvcore import adoption, trimming
from murmur.kvcore.admission import Group
from murmur.kvcore.backend import LSM, record_backend
from murmur.kvcore.backup import Backup, Generation, whole_items
from murmur.kvcore.causality import VersionVector
from murmur.kvcore.clock import MAX_SKEW_MS, Clock, SystemClock
from murmur.kvcore.dead_letters import DeadLetter, check_dead_letters
from murmur.kvcore.derivation import Derivation
from murmur.kvcore.durability import check_durability
from murmur.kvcore.export import Export
from murmur.kvcore.forks import compare
from murmur.kvcore.incoming import Applied, Incoming
from murmur.kvcore.kernel.blocks import RowBlock
from murmur.kvcore.ledger import Ledger
from murmur.kvcore.log import TornTail
from murmur.kvcore.long_record import LongRecord, Record
from murmur.kvcore.mark import NO_TIP
from murmur.kvcore.parking import ParkedRecord
from murmur.kvcore.record import (
    DELETE,
    MAX_RECORD_BYTES,
    PUT,
    Operation,
    deletes,
    encode_head,
)
from murmur.kvcore.record import Transaction as Decoded
from murmur.kvcore.snapshot import Snapshot
from murmur.kvcore.spool import Spool
from murmur.kvcore.storage import Problem, Storage
from murmur.kvcore.transaction import Transaction
from murmur.kvcore.tree import Tree
from murmur.kvcore.verify import state_hash, verify

SYNC_INTERVAL_MS = 50


class Replica:
    """One full copy of the data in one directory. Safe to use from many threads."""

    def __init__(self, ledger: Ledger, sync_interval_ms: int | None) -> None:
        self._ledger = ledger
        self._incoming = Incoming(ledger)
        self._tree = ledger.tree
        self.storage = ledger.storage
        self.clock = ledger.clock
        self.durability = ledger.durability
        self.derivation = ledger.derivation
        self.backend = ledger.backend
        self.log = ledger.log
        writer = ledger.start(self._write_register, sync_interval_ms)
        if writer is not None:
            self.put = writer.put  # type: ignore[method-assign]
            self.delete = writer.delete  # type: ignore[method-assign]

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
        check_durability(durability)
        ledger = Ledger(
            storage,
            clock=clock or SystemClock(),
            random_bytes=random_bytes,
            derivation=derivation,
            durability=durability,
            max_skew_ms=max_skew_ms,
            memtable_bytes=memtable_bytes,
            segment_bytes=segment_bytes,
            backend=backend,
        )
        try:
            return cls(ledger, sync_interval_ms)
        except BaseException:
            ledger.abandon()
            raise

    # Reading -----------------------------------------------------------

    @property
    def id(self) -> bytes:
        """As whom this replica writes: no other writes under this id."""
        return self._ledger.lineage.id

    @property
    def renewed(self) -> str | None:
        """Why the id is a new one, if it became one in this session."""
        return self._ledger.lineage.renewed

    @property
    def former(self) -> frozenset[bytes]:
        """The ids that it wrote under before."""
        return frozenset(self._ledger.lineage.former)

    @property
    def vector(self) -> Mapping[bytes, int]:
        """What has been admitted."""
        return self._ledger.published.vector

    @property
    def state(self) -> object:
        """The derivation's state as last published."""
        return self._ledger.published.state

    @property
    def durable_vector(self) -> Mapping[bytes, int]:
        """What has been admitted and may be told to peers."""
        self._ledger.look_for_durable()
        return self._ledger.durable.vector

    @property
    def durable_position(self) -> int:
        """How far into the log peers may be sent records."""
        self._ledger.look_for_durable()
        return self._ledger.durable.position

    @property
    def tips(self) -> Mapping[bytes, bytes]:
        """The hash of each author's newest admitted record."""
        ledger = self._ledger
        with ledger.lock:
            ledger.take_over()
            return {replica: tip.hash for replica, tip in ledger.tips.items()}

    @property
    def torn(self) -> TornTail | None:
        """What recovery cut off the end of the log, if it did."""
        return self.log.torn

    @property
    def last_stamp(self) -> int:
        """The highest stamp issued or observed."""
        return self._ledger.last_stamp

    def get(self, key: bytes) -> bytes | None:
        """The latest cell or derived entry under the key."""
        self._ledger.usable()
        return self._tree.get(key)

    def snapshot(self) -> Snapshot:
        """The keyspace, vector and state of this moment."""
        return self._ledger.snapshot()

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
        ledger = self._ledger
        ledger.usable()
        yield from check_dead_letters(self.storage)
        with ledger.lock:
            ledger.enter()
            position = ledger.published.position
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
        ledger = self._ledger
        # Registered before the snapshot is taken: from here on, what commits is remembered.
        token = object()
        began = ledger.recent.open
        began[id(token)] = 0
        try:
            if ledger.writer is not None:
                ledger.writer.shut()  # it remembers nothing
            snapshot = ledger.snapshot()
            transaction = Transaction(self, snapshot, ledger.last_stamp + 1)
            began[id(transaction)] = snapshot.sequence
        finally:
            del began[id(token)]
        return transaction

    def put(self, key: bytes, value: bytes) -> None:
        """Commit a blind put of a register, covering all that is there."""
        self._write_register(key, value)

    def delete(self, key: bytes) -> None:
        """Commit a blind delete of a register, covering all that is there."""
        self._write_register(key, None)

    def write(self, operations: Sequence[Operation]) -> tuple[bytes, int]:
        """Commit blind puts and deletes of registers, covering all that is there; the dot."""
        ledger = self._ledger
        ledger.usable()
        with ledger.lock:
            ledger.enter(deleting=deletes(operations))
            position, dot = self._commit(operations, ledger.published.vector)
            ledger.leave()
        ledger.durable.acknowledge(position)
        return dot

    def settled(self) -> object | None:
        """The derivation's state, if a row may be inserted by itself with it; None if not now."""
        writer = self._ledger.writer
        if writer is None:
            return None
        state = writer.settled
        if state is None:
            self._ledger.resume()
            state = writer.settled
        return state

    def insert(self, block: RowBlock, state: object, under: object) -> bool:
        """Commit the row of a block of one, with its entries, unless something has its key or a
        claim, or `state` (of `settled`) is not the latest: then False, and nothing has happened.

        `under` tells the derivation of it. Transactions that are open exclude this.
        """
        writer = self._ledger.writer
        return writer is not None and writer.insert(block, state, under)

    def commit(self, transaction: Transaction) -> tuple[bytes, int] | None:
        """Commit what the transaction has written (called by the transaction). Raises Conflict."""
        operations, blocks = transaction.operations(), transaction.blocks
        if not operations and not blocks:
            return None
        ledger = self._ledger
        ledger.usable()
        with ledger.lock:
            ledger.enter(deleting=deletes(operations) and not blocks)
            ledger.recent.check(transaction)
            if transaction.author != ledger.lineage.id:
                raise Conflict(
                    "this replica has taken a new id since this transaction began; run it again"
                )
            self.forget(transaction)  # it needs nothing any more of what commits from here on
            position, dot = self._commit(operations, transaction.snapshot.vector, blocks)
        ledger.durable.acknowledge(position)
        return dot

    def forget(self, transaction: Transaction) -> None:
        """The transaction has ended; what only it needed may go."""
        self._ledger.recent.open.pop(id(transaction), None)

    def renew(self, why: str) -> None:
        """Write under a new id from now on; durable when this returns.

        For a replica that learns that others have more of its transactions than it has: it was put
        back to an earlier state, and would write other transactions under their numbers. What it
        has written stays as it is. Open transactions that write get a Conflict.
        """
        ledger = self._ledger
        ledger.usable()
        with ledger.lock:
            ledger.enter()
            ledger.renew(why)

    def _write_register(self, key: bytes, value: bytes | None) -> None:
        kind = PUT if value is not None else DELETE
        self.write([Operation(kind, key, value if value is not None else b"")])

    def _commit(
        self,
        operations: Sequence[Operation],
        vector: VersionVector,
        blocks: Sequence[RowBlock] = (),
    ) -> tuple[int, tuple[bytes, int]]:
        """Write the record, under the lock; the position after it, and its dot."""
        ledger = self._ledger
        author = ledger.lineage.id
        tip = ledger.tips.get(author, NO_TIP)
        seq, stamp = tip.seq + 1, ledger.hlc.tick()
        more = sum(block.count for block in blocks)
        head = encode_head(author, seq, stamp, tip.hash, vector, tip.vector, operations, more)
        record: Record = head
        if blocks:
            record = LongRecord((head, *(piece for block in blocks for piece in block.pieces())))
        if len(record) > MAX_RECORD_BYTES:
            raise InvalidInput(
                f"a transaction of {len(record):,} bytes is larger than {MAX_RECORD_BYTES:,}; "
                "commit it in parts"
            )
        group = Group(self._tree, ledger.published.vector)
        decoded = Decoded(author, seq, stamp, tip.hash, {}, operations)
        group.admit(record, decoded, dict(vector), blocks)
        return ledger.install(group), (author, seq)

    # Records from elsewhere --------------------------------------------

    def apply(self, records: Iterable[bytes]) -> Applied:
        """Admit records from elsewhere: each once, in causal order, however they come.

        A Delivery also says from whom. Raises ProtocolViolation for bytes that are not records
        (nothing is stored), and for a fork (what came before it is stored); what is refused becomes
        a dead letter.
        """
        self._ledger.usable()
        return self._incoming.apply(records)

    def parked(self) -> list[ParkedRecord]:
        """The records that wait for the clock, by author and sequence number."""
        return self._ledger.parking.listing()

    def release_parked(self, *, force: bool = False) -> int:
        """Admit parked records whose time has come, or all with `force`; how many were admitted.

        Those stamped beyond LAST_STAMP stay parked for ever: after them no clock could go on.
        """
        self._ledger.usable()
        return self._incoming.release_parked(force=force)

    def dead_letters(self) -> list[DeadLetter]:
        """The records that were refused, oldest first."""
        return self._incoming.dead_letters.listing()

    def retry_dead_letters(self) -> int:
        """Apply them again; how many are admitted now, or are parked. The others stay."""
        self._ledger.usable()
        return self._incoming.retry_dead_letters()

    def set_aside(self, head: bytes, peer: bytes, reason: str, size: int) -> None:
        """Make a dead letter of a record of which only the beginning was taken."""
        self._ledger.usable()
        self._incoming.dead_letters.add(head, peer, reason, self.clock.now_ms(), size)

    def drop_dead_letters(self, numbers: Iterable[int] | None = None) -> int:
        """Forget these letters, or all; how many there were."""
        self._ledger.usable()
        if numbers is None:
            numbers = [letter.number for letter in self.dead_letters()]
        return self._incoming.dead_letters.remove(numbers)

    # Snapshots for others, and from them -------------------------------

    @property
    def floor(self) -> Mapping[bytes, int]:
        """For each author, up to which of its transactions the log may lack some."""
        return self.log.floor.missing

    def export(self, pause: Callable[[], None] = lambda: None) -> Export:
        """All replicated state of this moment, durable, for a replica that lacks much of it.

        Reads the whole state; `pause` is called now and then. To be closed.
        """
        ledger = self._ledger
        ledger.usable()
        with ledger.lock:
            ledger.enter()
            snapshot = self.snapshot()
            tips, stamp = dict(ledger.tips), ledger.hlc.last
        try:
            ledger.durable.sync(snapshot.position)
        except BaseException:
            snapshot.close()
            raise
        return Export(snapshot, tips, stamp, pause)

    def adopt(self, spool: Spool, pause: Callable[[], None] = lambda: None) -> None:
        """Join a whole snapshot that was fetched into what this replica holds (adoption.py).

        Reading and writing go on meanwhile, but for the last moment; `pause` is called now and
        then. Raises ProtocolViolation if the snapshot is none or tells of a fork, PeerError if it
        cannot be taken in now (its clock is ahead, another release made it), OSError (a full disk):
        then nothing has changed.
        """
        self._ledger.usable()
        adoption.adopt(self._ledger, spool, pause)

    def compare(self, tips: Mapping[bytes, tuple[int, bytes]]) -> None:
        """See that nobody's newest records (author: seq, hash) are another history's than ours.

        Raises ProtocolViolation for a fork. Where the author's next record was trimmed, or is not
        here, nothing can be said.
        """
        ledger = self._ledger
        ledger.usable()
        with ledger.lock:
            ledger.enter()
            compare(self.log, ledger.tips, tips)

    def trim(self, stable: VersionVector, *, keep_bytes: int, before_ms: int | None = None) -> int:
        """Remove the log's oldest segments that nobody needs; how many bytes they were.

        Those that the tree has flushed and of which `stable`, what every member holds, covers all:
        the oldest ones, as long as more than `keep_bytes` would be left, or they are stamped before
        `before_ms` (since 1970) to the last. The snapshot of the tree stands for what is gone.
        """
        self._ledger.usable()
        return trimming.trim(self._ledger, stable, keep_bytes=keep_bytes, before_ms=before_ms)

    # The directory -----------------------------------------------------

    def sync(self) -> None:
        """Make all that was committed durable now."""
        self._ledger.sync()

    def flush(self) -> None:
        """Write the memtable to an sstable, so that the next opening replays nothing."""
        ledger = self._ledger
        ledger.usable()
        with ledger.lock:
            ledger.enter()
            ledger.flush()

    def backup(self, directory: str, label: str = "") -> Generation:
        """Add all that was admitted to the backups in a directory, relative to this or absolute.

        Only what it lacks is copied. `Backup` lists, checks, prunes and restores them (backup.py);
        what is restored opens with an id of its own. Raises Unsupported under another backend.
        """
        ledger = self._ledger
        ledger.usable()
        if not isinstance(self._tree, Tree):
            raise Unsupported("backups are of the backend 'lsm'; of this one, copy its file")
        with ledger.lock:
            ledger.enter()
            items = whole_items(self.storage, self._tree.backup_items(), self.log.segments)
        return Backup(self.storage.at(directory)).add(items, label)

    def compact(self) -> None:
        """Merge the tree's files."""
        self._ledger.usable()
        self._tree.compact()

    def checkpoint(self, directory: str) -> None:
        """Flush, and make a consistent copy of the tree in `directory` by hard links."""
        ledger = self._ledger
        ledger.usable()
        with ledger.lock:
            ledger.enter()
            ledger.flush()
            self._tree.checkpoint(directory)
            if self.backend != LSM:  # which is what a directory has that does not say
                record_backend(self.storage.at(directory), self.backend)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after the durable position has moved; returns what ends that."""
        ledger = self._ledger
        unsubscribe = ledger.durable.subscribe(listener)
        if ledger.writer is not None:
            ledger.writer.shut()  # it does not call them
        return unsubscribe

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._ledger.handle.closed

    def close(self) -> None:
        """Sync, flush and let go of the directory. Closing twice is once."""
        self._ledger.close()

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
