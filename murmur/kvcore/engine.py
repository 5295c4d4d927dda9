"""The engine: an ordered map of bytes in one directory, for one process and without peers.

    with Engine.open("data") as engine:
        engine.put(b"a", b"1")
        batch = WriteBatch()
        batch.delete(b"a")
        batch.put(b"b", b"2")
        engine.write(batch)                      # all at once
        engine.get(b"b")                         # b"2"
        for key, value in engine.scan(b"a", b"c"): ...

It is the log and the tree that a replica stands on, and nothing between them: a batch is one frame
of the log (batch.py) and one batch of the tree. A flush moves the mark; what the log holds before
it is removed, what it holds behind it is written to the tree again at the next opening.

    mark := "MURE" | log position u64, little-endian

`durability` says what a write that has returned survives: "none" and "batched" the end of the
process, and "batched" a power cut too, up to SYNC_INTERVAL_MS; "commit" a power cut. Threads that
commit at once share their syncs.

Invariants:
    1. Batches have one order: in the log, in the tree's sequences, and as seen by any reader.
    2. A write that raises has changed nothing that is seen now or after opening again, but for
       Poisoned: then what is durable is unknown.
    3. An interrupt (Ctrl-C) anywhere leaves a note of where the log stood. Whoever writes next
       settles it: what was appended enters the tree, what was not is cut off.
    4. A native writer works only while nobody is in the critical section; who enters it, shuts it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import chain
from struct import Struct
from types import TracebackType

from murmur.errors import Corruption, InvalidInput, Poisoned, TypeMismatch
from murmur.kvcore.backup import Backup, Generation, bytes_item
from murmur.kvcore.batch import Range, WriteBatch, decode_batch, encode_batch
from murmur.kvcore.durability import check_durability
from murmur.kvcore.ingest import Source
from murmur.kvcore.kernel import Entry
from murmur.kvcore.log import BATCH, SEGMENT_BYTES, Log
from murmur.kvcore.options import Options
from murmur.kvcore.process import Handle
from murmur.kvcore.segment import DIRECTORY, create_segment, encode_header
from murmur.kvcore.storage import FULL, DiskStorage, Problem, Storage
from murmur.kvcore.store import MANIFEST
from murmur.kvcore.syncer import Syncer
from murmur.kvcore.tree import Scan, ScanPrefix, Tree, TreeSnapshot
from murmur.kvcore.writer import NativeWriter, native_writer

__all__ = ["Engine", "WriteBatch"]

SYNC_INTERVAL_MS = 50
WRITE_BEHIND = 8 << 20  # of the log, without durability: synced now and then all the same
SYNC_BESIDE = 1 << 20  # of the log: so much is synced beside a flush, and not after it
REPLAY_BYTES = 1 << 20  # of frames that enter the tree together at opening

_MARK = Struct("<4sQ")
_MAGIC = b"MURE"


class Engine:
    """An ordered map of bytes that lasts. Safe to use from many threads."""

    get: Callable[[bytes], bytes | None]
    """The value of a key, None if it has none. Raises TypeMismatch, Corruption, OSError,
    Closed."""

    multi_get: Callable[[Sequence[bytes]], list[bytes | None]]
    """The values of several keys, in their order."""

    scan: Scan
    """The pairs with start <= key < stop (None: no bound) of this moment, in key order or against
    it. An iterator that is not read to its end lets go when it is forgotten; Closed ends it when
    the engine is closed. Raises TypeMismatch, and in the place of a pair Corruption or OSError."""

    scan_prefix: ScanPrefix
    """The pairs whose keys begin so, in the same way."""

    def __init__(
        self,
        storage: Storage,
        options: Options,
        *,
        durability: str,
        segment_bytes: int,
        sync_interval_ms: int | None,
    ) -> None:
        """Only for `Engine.open`."""
        check_durability(durability)
        self.storage = storage
        self.durability = durability
        self._handle = Handle(storage.path)
        self._lock = threading.Lock()
        # What is being written: where the log stood, and what the tree is to be given.
        self._in_flight: tuple[int, Sequence[Entry], Sequence[Range]] | None = None
        self._refused = False  # there was no memory for it: it is to be taken back
        self._syncer: Syncer | None = None
        self._behind = 0
        self._writer: NativeWriter | None = None
        with ExitStack() as opened:
            opened.callback(storage.lock().close)
            if storage.exists("REPLICA"):
                raise InvalidInput(f"{storage.path} holds a replica: open it with murmur.open")
            self._tree = tree = Tree.open(
                storage, options=options, before_install=self._before_install
            )
            opened.callback(tree.close)
            position = decode_mark(tree.mark, storage.path)
            self._log = log = Log.open(
                storage, segment_bytes=segment_bytes, clean_end=position or None, trimmed=position
            )
            opened.callback(log.close)
            opened.callback(tree.close)  # before the log, which its threads sync
            self._replay(position)
            log.sync()
            log.trim(position)
            self._files = opened.pop_all()
        self.get = tree.get
        self.multi_get = tree.multi_get
        self.scan = tree.scan
        self.scan_prefix = tree.scan_prefix
        if durability == "batched" and sync_interval_ms is not None:
            self._syncer = Syncer(self._sync_behind, sync_interval_ms)
        self._behind = log.end
        wake = self._syncer.wake if self._syncer is not None else None
        if durability == "none":
            self._syncer = Syncer(self._sync_behind, 0)
        # To remove a large segment takes the system tens of milliseconds.
        self._trims_behind = self._syncer is not None and segment_bytes >= WRITE_BEHIND
        self._writer = native_writer(
            tree,
            write=self._write,
            wake=wake,
            wait=log.sync if durability == "commit" else None,
            look=self._look,
        )
        if self._writer is not None:
            self.put = self._writer.put  # type: ignore[method-assign]
            self.delete = self._writer.delete  # type: ignore[method-assign]
            self.write = self._writer.write  # type: ignore[method-assign]
        _engines.add(self)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | Storage,
        *,
        durability: str = "batched",
        options: Options | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        sync_interval_ms: int | None = SYNC_INTERVAL_MS,
        **option: object,
    ) -> Engine:
        """Open the engine of a directory, or make one.

        `durability` is "none", "batched" (synced in the background every `sync_interval_ms`; None
        leaves it to calls of `sync`) or "commit". Further keywords are fields of Options. Raises
        InvalidInput, Locked, Corruption, UnknownFormat, OSError.
        """
        storage = DiskStorage(path) if isinstance(path, str | os.PathLike) else path
        chosen = options or Options()
        if option:
            try:
                chosen = replace(chosen, **option)  # type: ignore[arg-type]
            except TypeError:
                names = ", ".join(sorted(set(option) - set(Options.__slots__)))
                raise InvalidInput(f"there is no option {names}") from None
        return cls(
            storage,
            chosen,
            durability=durability,
            segment_bytes=segment_bytes,
            sync_interval_ms=sync_interval_ms,
        )

    # -- writing

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key. Raises InvalidInput for what a tree cannot hold."""
        if type(value) is not bytes:
            raise TypeMismatch(f"a value is bytes, not {type(value).__name__}")
        self._write(((key, value),), ())

    def delete(self, key: bytes) -> None:
        """Delete a key, if it is there."""
        self._write(((key, None),), ())

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """Delete all keys with start <= key < stop. Costs as much as a put."""
        self._write((), ((start, stop),))

    def write(self, batch: WriteBatch | Sequence[Entry]) -> None:
        """Apply a batch, or (key, value) pairs, where None deletes: all at once or not at all."""
        if isinstance(batch, WriteBatch):
            self._write(batch.entries, batch.ranges)
        else:
            self._write(batch, ())

    # -- reading

    def snapshot(self) -> TreeSnapshot:
        """All as it is now, until it is closed."""
        self._handle.check()
        return self._tree.snapshot()

    # -- keeping

    def sync(self) -> None:
        """Return when all that was written is durable."""
        self._handle.check()
        self._log.sync()

    def flush(self) -> None:
        """Write what is in memory to a table, so that the next opening replays nothing."""
        with self._lock:
            self._enter(rotate=False)
            self._flush()
            self._leave()

    def compact(self) -> None:
        """Merge all tables into one level."""
        self._handle.check()
        self._tree.compact()

    def checkpoint(self, directory: str) -> None:
        """Make another engine in a directory (relative to this one, or absolute) of all that was
        written, by hard links. InvalidInput if there is one already."""
        with self._lock:
            self._enter()
            target = self.storage.at(directory)
            if target.exists(MANIFEST):
                raise InvalidInput(f"{target.path} holds an engine already")
            self._tree.flush(self._mark())
            target.make_directory(DIRECTORY)
            target.sync_directory()
            for name in target.list(DIRECTORY):  # of a checkpoint that was interrupted
                target.remove(f"{DIRECTORY}/{name}")
            create_segment(target, self._log.end)
            target.sync_directory(DIRECTORY)
            self._tree.checkpoint(directory)
            self._leave()

    def backup(self, directory: str, label: str = "") -> Generation:
        """Add a generation of all that was written to the backups in a directory (backup.py).

        Only what they lack is copied. `Backup` lists, checks, prunes and restores them.
        """
        with self._lock:
            self._enter()
            self._tree.flush(self._mark())
            items, end = self._tree.backup_items(), self._log.end
            items.append(bytes_item(f"{DIRECTORY}/{end:016x}.log", encode_header(end)))
            self._leave()
        return Backup(self.storage.at(directory)).add(items, label)

    def ingest(self, paths: Sequence[str | os.PathLike[str] | Source]) -> None:
        """Take ready sstables in, above all that was written, at once (ingest.py).

        Raises Corruption or InvalidInput, also where their keys overlap, and changes nothing then.
        """
        with self._lock:
            self._enter()
            self._tree.ingest(paths, self._mark())
            self._log.trim(self._log.end)
            self._leave()

    def check(self) -> Iterator[Problem]:
        """Read every file and verify all that can be verified; what is wrong, if anything is."""
        self._handle.check()
        return chain(self._tree.check(), self._log.check())

    def stats(self) -> Mapping[str, object]:
        """Figures of the tree and of the log; docs/engine.md explains each."""
        self._handle.check()
        log = self._log
        return {
            **self._tree.stats(),
            "log_start": log.start,
            "log_end": log.end,
            "log_durable": log.durable,
            "log_segments": len(log.segments),
        }

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._handle.closed

    def close(self) -> None:
        """Sync, flush and let go of the directory. Closing twice is once."""
        if self._handle.closed:
            return
        if self._handle.inherited:
            self._handle.closed = True
            return
        if self._syncer is not None:
            self._syncer.close()
        with self._lock:
            if self._handle.closed:
                return
            try:
                self._enter(rotate=False)
                self._log.sync()  # first: on a full disk the flush fails, nothing is lost by it
                self._flush()
            finally:
                self._handle.closed = True
                self._files.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- the critical section

    def _write(self, entries: Sequence[Entry], ranges: Sequence[Range]) -> None:
        payload = encode_batch(entries, ranges)
        with self._lock:
            deleting = all(value is None for _, value in entries)
            self._enter(deleting=deleting)
            if not entries and not ranges:
                self._leave()
                return
            start, position = self._append(payload, entries, ranges, deleting=deleting)
            try:
                self._tree.write(entries, None, ranges)
            except MemoryError as error:
                self._refused = True
                if not self._rewound(start):
                    raise Poisoned(
                        f"{self.storage.path}: there was no memory for a batch that is durable "
                        "already; it is seen with the next write, or when it is opened again"
                    ) from error
                self._in_flight, self._refused = None, False
                raise
            self._in_flight = None
            self._leave()
        self._acknowledge(position)

    def _append(
        self,
        payload: bytes,
        entries: Sequence[Entry],
        ranges: Sequence[Range],
        *,
        deleting: bool,
    ) -> tuple[int, int]:
        """Where a batch begins and ends in the log. Deletions make the room that they lack."""
        log = self._log
        start = log.end
        self._in_flight = start, entries, ranges
        try:
            return start, log.append(BATCH, (payload,), deleting=deleting)
        except OSError as error:
            if not deleting or error.errno not in FULL or log.end != start:
                raise
            self._in_flight = None
            self._flush()
            start = log.end
            self._in_flight = start, entries, ranges
            return start, log.append(BATCH, (payload,), deleting=True)

    def _flush(self) -> None:
        log = self._log
        log.with_room(lambda: self._tree.flush(self._mark()))
        log.renew()
        log.trim(log.end)

    def _enter(self, *, rotate: bool = True, deleting: bool = False) -> None:
        """Take over and settle what others have left, and make room in the memtable."""
        self._handle.check()
        if self._writer is not None:
            self._writer.shut()
            self._tree.catch_up()
        if self._in_flight is not None:
            self._settle()
        if rotate and self._tree.full():
            if not self._trims_behind:
                self._trim()
            self._tree.rotate(self._mark(), deleting=deleting)
            # The flush waits for the log before it is installed: let that begin beside it.
            self._write_behind(self._log.end, SYNC_BESIDE)

    def _leave(self) -> None:
        """Let the native writer go on; an exception leaves it shut, until the next who enters."""
        if self._writer is not None:
            self._writer.open(self._log.appender, self._tree.memtable)

    def _settle(self) -> None:
        """Finish or undo what an exception interrupted."""
        assert self._in_flight is not None
        start, entries, ranges = self._in_flight
        if self._log.end == start:
            self._log.rewind(start)
        elif not self._refused or not self._rewound(start):
            self._tree.write(entries, None, ranges)  # perhaps again, which changes nothing
        self._in_flight, self._refused = None, False

    def _rewound(self, start: int) -> bool:
        """Cut the log back; False if another thread's sync has made it durable, so it stays."""
        try:
            self._log.rewind(start)
        except InvalidInput:
            return False
        return True

    def _acknowledge(self, position: int) -> None:
        if self.durability == "commit":
            self._log.sync(position)
        elif self.durability == "none":
            self._write_behind(position, WRITE_BEHIND)
        elif self._syncer is not None:
            self._syncer.wake()

    def _look(self) -> int:
        """How large the memtable may become before the native writer is to ask again."""
        if self.durability == "none":
            self._write_behind(self._log.end, WRITE_BEHIND)
        return self._tree.writable_bytes()

    def _write_behind(self, position: int, enough: int) -> None:
        # Nobody waits for it, but closing a segment does for all that is left to write.
        if position - self._behind >= enough and self._syncer is not None:
            self._behind = position
            self._syncer.wake()

    def _sync_behind(self) -> None:
        if self._writer is not None:
            self._writer.rest()  # first: what is written from now on asks for another sync
        self._tree.clear_ahead()
        self.sync()
        if self._trims_behind:
            with suppress(OSError):  # what could not be removed is at the next opening
                self._trim()

    def _trim(self) -> None:
        self._log.trim(decode_mark(self._tree.mark, self.storage.path))

    def _mark(self) -> bytes:
        return encode_mark(self._log.end)

    def _before_install(self, mark: bytes) -> None:
        # The log first: the tree must not hold what a power cut takes from it.
        self._log.sync(decode_mark(mark, self.storage.path))

    def _replay(self, start: int) -> None:
        """Bring the tree up to the log."""
        tree = self._tree
        entries: list[Entry] = []
        began = start
        for position, kind, payload in self._log.read(start):
            if kind != BATCH:
                raise InvalidInput(f"{self.storage.path} holds the log of a replica")
            try:
                more, ranges = decode_batch(payload)
            except ValueError as error:
                raise Corruption(f"{self.storage.path}/log", position, str(error)) from None
            if ranges or position - began > REPLAY_BYTES:
                tree.write(entries)
                entries = []
                began = position
            if ranges:
                tree.write(more, None, ranges)
            else:
                entries += more
            if tree.full():
                tree.write(entries)
                entries = []
                tree.rotate(encode_mark(position))
        if entries:
            tree.write(entries)

    def _shut(self) -> None:
        """Answer nothing any more; for a forked child."""
        self._lock = threading.Lock()  # nobody is left to release the other
        if self._writer is not None:
            self._writer.shut()
        self._tree.abandon()


def encode_mark(position: int) -> bytes:
    """The mark of a tree that holds the log up to a position."""
    return _MARK.pack(_MAGIC, position)


def decode_mark(mark: bytes, path: str) -> int:
    """The position; Corruption, naming the path of the directory, if the mark is another's."""
    if not mark:
        return 0
    if len(mark) != _MARK.size or not mark.startswith(_MAGIC):
        raise Corruption(f"{path}/tree", 0, "the mark is not that of an engine")
    position: int = _MARK.unpack(mark)[1]
    return position


def _after_fork() -> None:
    """In a forked child: the files are the parent's, and no write may find its way to them."""
    for engine in tuple(_engines):
        with suppress(Exception):
            engine._shut()


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
