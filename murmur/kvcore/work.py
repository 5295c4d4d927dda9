"""Work: flushing, merging and removing files, each from its beginning to its installation.

    flush      files, before_install(mark) -> manifest with the mark -> readers
    merge      files -> manifest -> readers; or the manifest alone, where tables only move
    drop       the manifest alone, without tables that range tombstones hide
    ingest     likewise, with files that were written elsewhere
    adopt      before_install(mark) -> manifest with the mark -> readers; the files are prepared

Who does it and when is the affair of upkeep.py and merges.py; here it is done, in whatever thread.
Files are written beside each other; versions change one after the other, under `installing`, each
made of what the version is by then.

Invariant: `before_install(mark)` has returned before the manifest with that mark is written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from murmur.errors import Corruption
from murmur.kvcore.compaction import Plan, arranged, hidden, pressing
from murmur.kvcore.figures import Figures
from murmur.kvcore.ingest import Source, copy_table, place
from murmur.kvcore.kernel import Entry, Memtable, Output, Table, TableInfo, ValueFile, write_tables
from murmur.kvcore.options import Options
from murmur.kvcore.prepared import Prepared
from murmur.kvcore.pressure import LEVEL0, NAP_S, UNFLUSHED, Brake, Bucket, Pace
from murmur.kvcore.state import Frozen, Head
from murmur.kvcore.storage import AppendFile, Problem
from murmur.kvcore.store import Store, Writing, files_of, names_of
from murmur.kvcore.version import Version, size_of

PAUSE_BYTES = 1 << 20  # written before a limited flush or merge looks whether it is to wait
SELDOM = 8  # times as many without a limit: looking is waiting for the interpreter
WHOLE = 1 << 62  # the size of tables that are not to be cut
WRITERS = 2  # threads that make the tables of runs


Running = Callable[[], Collection[Plan]]
"""What tells of the merges that run: asked when a version is edited."""


class Unread(NamedTuple):
    """A file that could not be read, though nothing says that it is damaged."""

    times: int  # that this was tried
    flushes: int  # there were so many when it was tried last


class NotCopied(Exception):
    """A file that was to be ingested could not be copied, for the reason that is the cause."""


class Work:
    """How the files of one tree are made and unmade."""

    def __init__(
        self,
        head: Head,
        store: Store,
        options: Options,
        *,
        before_install: Callable[[bytes], None],
        pace: Pace,
    ) -> None:
        self.figures = Figures()
        self.brake = Brake(options)
        self.installing = threading.Lock()  # held while manifest and state change together
        self.aside: dict[str, Problem] = {}  # files that no merge takes, by name; head's lock
        self._unread: dict[str, Unread] = {}  # by name, those aside among them; head's lock
        self.edition = 0  # how often a version was installed; guarded by the head's lock
        self._head = head
        self._store = store
        self._options = options
        self._before_install = before_install
        self._pace = pace
        self._bucket = Bucket(options.rate_limit_bytes, pace)
        self._expansion = 1.0  # bytes in a memtable for one in its table, of late
        self.look()

    def look(self) -> None:
        """Tell the brake what has piled up; under the head's lock, or before anybody writes."""
        state = self._head.state
        frozen = sum(old.bytes for old in state.frozen)
        frozen += sum(memtable.bytes for memtable in state.sealed)
        self.brake.look(
            pressing(state.version, self._options, self.aside),
            len(state.frozen),
            frozen,
            state.memtable.bytes,
        )

    def set_aside(self, error: Corruption | OSError) -> bool:
        """Let no merge take the file that is damaged, or could not be read.

        False if the version has no such file: the error is another.
        """
        path = error.path if isinstance(error, Corruption) else error.filename
        with self._head.lock:
            for file in files_of(self._head.state.version):
                if path not in (file.path, file.name):
                    continue
                if isinstance(error, Corruption):
                    problem = Problem(error.path, error.offset, error.reason)
                else:
                    problem = Problem(file.path, 0, f"it could not be read: {error.strerror}")
                    known = self._unread.get(file.name)
                    times = known.times + 1 if known else 1
                    self._unread[file.name] = Unread(times, self.figures.counts.flushes)
                self.aside = {**self.aside, file.name: problem}
                self.look()
                return True
            return False

    def try_again(self, *, now: bool = False) -> None:
        """Let merges take what could not be read: 2, 4, 8 .. flushes after it was tried last."""
        with self._head.lock:
            if not self._unread:
                return
            names, flushes = set(names_of(self._head.state.version)), self.figures.counts.flushes
            self._unread = {name: one for name, one in self._unread.items() if name in names}
            turn = {
                name
                for name, one in self._unread.items()
                if now or flushes >= one.flushes + (1 << one.times)
            }
            if turn & self.aside.keys():
                self.aside = {name: one for name, one in self.aside.items() if name not in turn}
                self.look()
                self._head.notify()

    def damaged(self) -> list[Problem]:
        """What was found wrong with files that are still needed."""
        aside = self.aside
        names = set(names_of(self._head.state.version)) if aside else ()
        return [problem for name, problem in aside.items() if name in names]

    def flush(
        self,
        frozen: Frozen,
        running: Running,
        leave_off: Callable[[], None],
    ) -> None:
        """Make tables of memtables, and install them with their mark.

        They become one, but for runs, which become tables side by side: no plan begins meanwhile.
        """
        started = self._pace.now_ns()
        _freeze(frozen)
        if frozen.runs:  # who has loaded them may be waiting for the log: tables come after it
            self._before_install(frozen.mark)
            leave_off()
        older, newer = frozen.parts()
        with self._store.writing() as writing:
            values: list[ValueFile] = []

            def write(level: int, sources: Sequence[Memtable]) -> list[Table]:
                sources = [source for source in sources if source.bytes]
                if not sources:
                    return []
                output = self._output(writing, level, frozen.sequence, leave_off, urgent=True)
                tables, files = self._open(write_tables(sources, output), output)
                values.extend(files)
                return tables

            below = write(0, older)  # nothing, if what was in them was taken back
            loaded: list[Table] = []
            if frozen.runs:
                deepest = self._head.state.version.deepest
                with ThreadPoolExecutor(WRITERS, "murmur-load") as pool:
                    for some in pool.map(lambda run: write(deepest, (run,)), frozen.runs):
                        loaded += some
            above = write(0, newer)
            if not frozen.runs:
                self._before_install(frozen.mark)
            leave_off()

            def edit(version: Version) -> Version:
                table = below[0] if below else None
                version = version.flushed(table, frozen.mark, frozen.sequence, values)
                if not frozen.runs:
                    return version
                # What came beside the rows may lie around them, and is of other keys.
                placed = _placed(version, loaded, above, running())
                return version.ingested(placed, frozen.sequence, values=values)

            self.install(edit, frozen)
        written = size_of([*below, *loaded, *above])
        if written:
            spent = self._pace.now_ns() - started
            counts = self.figures.counts
            counts.flushes += 1
            counts.bytes_flushed += written + _sizes(values)
            counts.value_bytes_written += _sizes(values)
            self.figures.flushes.record(spent)
            if not frozen.runs:
                self._expansion = frozen.bytes / written
            self.brake.drained(UNFLUSHED, frozen.bytes, spent)

    def deletes(self, frozen: Frozen, leave_off: Callable[[], None]) -> bool:
        """Whether a flush of these brings deletions: found out by one that writes nothing down."""

        def create() -> tuple[int, AppendFile]:
            return 0, _Nowhere()

        _freeze(frozen)
        memtables = [memtable for memtable in frozen.memtables if memtable.bytes]
        if not memtables:
            return False
        output = self._output(Writing(create, create), 0, frozen.sequence, leave_off, urgent=True)
        output.pause = lambda written: leave_off()
        infos = write_tables(memtables, output)
        return any(info.tombstones or info.ranges for info in infos)

    def drop(self, running: Running) -> None:
        """Install the version without hidden tables, if there are any. No plan begins meanwhile."""
        if gone := hidden(self._head.state.version, running(), self.aside):
            self.install(lambda version: version.without(gone))
            self.figures.counts.tables_dropped += len(gone)

    def merge(
        self,
        plan: Plan,
        leave_off: Callable[[], None],
        rearranging: Callable[[], bool],
    ) -> None:
        """Carry out a plan. `rearranging` says whether levels may be renumbered at its end."""
        started = self._pace.now_ns()
        shallow = set(self._head.state.version.level(0))
        flushed = size_of(table for table in plan.inputs if table in shallow)
        tables: Sequence[Table] = plan.inputs
        with self._store.writing() as writing:
            values: list[ValueFile] = []
            if not plan.moved:
                sequence = max(table.info.max_sequence for table in plan.inputs)
                output = self._output(writing, plan.target, sequence, leave_off, urgent=False)
                output.drop_tombstones = plan.drop_tombstones
                output.relocate = plan.relocate
                output.values = self._head.state.version.values
                infos = write_tables([source for source in plan.sources if source], output)
                tables, values = self._open(infos, output)

            def edit(version: Version) -> Version:
                version = version.compacted(plan.inputs, plan.target, tables, values)
                return arranged(version, self._options) if rearranging() else version

            self.install(edit)
        if plan.moved:
            self.figures.counts.moves += 1
            return
        spent = self._pace.now_ns() - started
        counts = self.figures.counts
        counts.compactions += 1
        counts.relocations += bool(plan.relocate and values)
        counts.bytes_compacted += size_of(tables) + _sizes(values)
        counts.bytes_read_by_compactions += size_of(plan.inputs)
        counts.value_bytes_written += _sizes(values)
        self.figures.compactions.record(spent)
        if plan.target:
            self.brake.drained(LEVEL0, int(flushed * self._expansion), spent)

    def ingest(self, sources: Sequence[Source], running: Running) -> int:
        """Copy tables from elsewhere and publish them above all there is; at which sequence.

        Nothing is being written, and no plan begins meanwhile. Raises NotCopied.
        """
        sequence = self._head.state.sequence + 1
        with self._store.writing() as writing:
            try:
                infos = [copy_table(source, *writing.create()) for source in sources]
                tables = [self._store.open(info._replace(max_sequence=sequence)) for info in infos]
            except Exception as error:
                raise NotCopied from error

            self.install(
                lambda version: version.ingested(_placed(version, tables, (), running()), sequence),
                sequence=sequence,
            )
        self.figures.counts.ingested += len(tables)
        self.figures.counts.bytes_ingested += size_of(tables)
        return sequence

    def adopt(
        self,
        prepared: Prepared,
        infos: Sequence[TableInfo],
        above: Sequence[Entry],
        mark: bytes,
        attachment: object,
        running: Running,
    ) -> int:
        """Publish prepared tables, and entries above them, with their mark; at which sequence.

        Nothing is being written, and no plan begins meanwhile.
        """
        self._before_install(mark)
        sequence = self._head.state.sequence + 1
        tables = prepared.opened(infos, sequence)
        newest = prepared.opened(prepared.write(above, 0), sequence)

        def edit(version: Version) -> Version:
            placed = _placed(version, tables, newest, running())
            return version.ingested(placed, sequence, mark, prepared.values())

        self.install(edit, sequence=sequence, attachment=attachment)
        self.figures.counts.ingested += len(tables) + len(newest)
        self.figures.counts.bytes_ingested += size_of([*tables, *newest])
        return sequence

    def install(
        self,
        edit: Callable[[Version], Version],
        flushed: Frozen | None = None,
        sequence: int | None = None,
        attachment: object = None,
    ) -> None:
        """Make the edited version the durable one, and the one that is read."""
        with self.installing:
            version = edit(self._head.state.version)
            self._store.install(version)
            with self._head.lock:
                self._head.install(version, flushed, sequence, attachment)
                self.edition += 1
                self.look()

    def sweep(self) -> None:
        """Remove the files that nobody needs any more."""
        self.figures.counts.files_removed += self._store.sweep()

    def _output(
        self,
        writing: Writing,
        level: int,
        max_sequence: int,
        leave_off: Callable[[], None],
        *,
        urgent: bool,
    ) -> Output:
        def pause(written: int) -> None:
            leave_off()
            wait = self._bucket.take(written, urgent=urgent)
            while wait > 0:
                self._pace.sleep(min(wait, NAP_S))
                wait -= NAP_S
                leave_off()

        deepest = level >= self._head.state.version.deepest
        options = self._options.tables(level, deepest=deepest)
        if level == 0:
            options = options._replace(table_bytes=WHOLE)
        often = PAUSE_BYTES if self._options.rate_limit_bytes else SELDOM * PAUSE_BYTES
        return Output(
            writing.create,
            writing.create_values,
            options,
            max_sequence,
            pause=pause,
            pause_bytes=often,
        )

    def _open(
        self, infos: Sequence[TableInfo], output: Output
    ) -> tuple[list[Table], list[ValueFile]]:
        values = [self._store.open_values(number, size) for number, size in output.value_files]
        return [self._store.open(info) for info in infos], values


def _freeze(frozen: Frozen) -> None:
    """Nothing is written to these memtables any more."""
    for memtable in frozen.memtables:
        memtable.freeze(frozen.sequence)


def _placed(
    version: Version, tables: Sequence[Table], newest: Sequence[Table], plans: Collection[Plan]
) -> list[tuple[int, Table]]:
    """Into which levels tables go that are newer than the version: the newest above the others."""
    placed = [(place(version, table.info.first, table.info.last, plans), table) for table in tables]
    return placed + [(0, table) for table in newest]


class _Nowhere:
    """A file that keeps nothing."""

    name = "nowhere"

    def __init__(self) -> None:
        self._size = 0

    def write(self, data: bytes) -> None:
        self._size += len(data)

    def tell(self) -> int:
        return self._size

    def size(self) -> int:
        return self._size

    def preallocate(self, size: int) -> None:
        assert size >= 0

    def sync(self) -> None:
        assert self._size

    def truncate(self, size: int) -> None:
        self._size = size

    def close(self) -> None:
        self._size = 0


def _sizes(values: Sequence[ValueFile]) -> int:
    return sum(file.size for file in values)
