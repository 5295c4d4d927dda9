"""A session: one caller's statements, one after the other, and the transaction they stand in.

    session.execute("SELECT body FROM note WHERE id = ?", [id])   ->  Outcome(columns, rows)
    session.begin(); session.execute("INSERT ..."); session.commit()

Outside of a transaction each statement is one of its own: a query reads a snapshot, a write commits
or leaves nothing. Inside, a statement that fails leaves no trace of itself and the transaction goes
on. Nothing is retried: Conflict reaches the caller.

Rows of a query outside of a transaction are read as they are asked for, from a snapshot that is
released when they are exhausted, closed or dropped; the session may be closed before that. Inside a
transaction they are read at once, because later statements change what it sees.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from murmur.catalog.catalog import Catalog
from murmur.catalog.schema import Table
from murmur.catalog.types import JSON, TEXT
from murmur.errors import BindError, Closed, DatabaseError, InvalidInput
from murmur.kvcore.clock import Clock
from murmur.kvcore.replica import Replica
from murmur.kvcore.snapshot import Snapshot
from murmur.kvcore.transaction import Transaction
from murmur.kvcore.view import View
from murmur.sql.bulk import PART_BYTES, insertion_text, quoted, rows_of
from murmur.sql.cache import Statement, shared_of
from murmur.sql.cancellation import Halt
from murmur.sql.choice import cheaper_plan
from murmur.sql.copy import Copy
from murmur.sql.create_as import create_as
from murmur.sql.ddl import run_steps
from murmur.sql.dml import Written
from murmur.sql.execution import Context
from murmur.sql.explain import explain, explain_analyzed, explain_data
from murmur.sql.files import Batch, Files
from murmur.sql.memory import Memory, shown_bytes
from murmur.sql.parser import split_script
from murmur.sql.plan import ColumnarQuery, CreateAs, Insert, ResultColumn, RowQuery
from murmur.sql.prepare import Prepared
from murmur.sql.relation import ColumnarEngine
from murmur.sql.settings import Engine, SettingStatement
from murmur.sql.statistics import analyze
from murmur.sql.system import System, SystemRelations
from murmur.sql.transactions import TransactionStatement

Row = tuple[Any, ...]
_T = TypeVar("_T")
Given = Sequence[Any] | Mapping[str, Any] | None


@dataclass(slots=True)
class Outcome:
    """What a statement came to.

    A query has `columns`, and `rows` (an iterator) or `arrow` (a pyarrow.Table of the columnar
    engine); a statement with RETURNING has columns and rows. `rowcount` is -1 for a query.
    `lastrowid` is the last integer primary key that an INSERT wrote.
    """

    kind: str
    columns: tuple[ResultColumn, ...] | None = None
    rows: Iterator[Row] | None = None
    arrow: Any = None
    rowcount: int = -1
    lastrowid: int | None = None


class _Savepoint(NamedTuple):
    """A named point of a transaction, and the catalog as its statements saw it there."""

    name: str
    point: int
    catalog: Catalog


class Session:
    """Runs statements against one replica; not safe to share between threads."""

    def __init__(
        self,
        replica: Replica,
        *,
        columnar: ColumnarEngine | None = None,
        system: SystemRelations | None = None,
        files: Files | None = None,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._replica = replica
        self._columnar = columnar
        self._system = System(system)
        self._files = files
        self._clock = clock
        self._random_bytes = random_bytes
        self._shared = shared_of(replica, clock, random_bytes)
        self._transaction: Transaction | None = None
        self._catalog: Catalog | None = None  # of the open transaction
        self._read_only = False  # the open transaction
        self._read_only_default = False  # those that do not say it, and single statements
        self._savepoints: list[_Savepoint] = []  # of the open transaction, oldest first
        self.engine: Engine = "auto"  # SET engine
        self._memory_bytes: int | None = None  # SET memory_limit
        self._closed = False
        self._halt = Halt()  # of the last statement

    # Transactions --------------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._transaction is not None

    @property
    def transaction(self) -> Transaction | None:
        """The open transaction, for whoever writes keys beside rows."""
        return self._transaction

    @property
    def catalog(self) -> Catalog:
        """The definitions that the next statement will see."""
        self._check_open()
        return self._catalog or _catalog(self._replica)

    def begin(self, *, read_only: bool | None = None) -> None:
        """Open a transaction: one snapshot for all that follows, and its own writes.

        Without `read_only`, what the session was set to counts.
        """
        self._check_open()
        if self._transaction is not None:
            raise InvalidInput("a transaction is open already")
        self._transaction = self._replica.begin()
        self._read_only = self._read_only_default if read_only is None else read_only
        self._catalog = _catalog(self._transaction.snapshot)

    def commit(self) -> None:
        """Make the transaction's writes visible, all at once. Raises Conflict, and is over then."""
        transaction = self._ending("COMMIT")
        transaction.commit()

    def rollback(self) -> None:
        """End the transaction; nothing of it remains."""
        transaction = self._ending("ROLLBACK")
        transaction.rollback()

    def savepoint(self, name: str) -> None:
        """Remember this point of the open transaction; a name may be given again."""
        transaction = self._open_transaction("SAVEPOINT")
        assert self._catalog is not None
        self._savepoints.append(_Savepoint(name, transaction.savepoint(), self._catalog))

    def rollback_to(self, name: str) -> None:
        """Undo what was written since the newest savepoint of this name; it stays."""
        transaction = self._open_transaction("ROLLBACK TO SAVEPOINT")
        at = self._find_savepoint(name)
        _, point, self._catalog = self._savepoints[at]
        del self._savepoints[at + 1 :]
        transaction.rollback_to(point)

    def release(self, name: str) -> None:
        """Forget the newest savepoint of this name and those after it; what was written stays."""
        self._open_transaction("RELEASE SAVEPOINT")
        del self._savepoints[self._find_savepoint(name) :]

    def close(self) -> None:
        """End; an open transaction is rolled back. Closing twice is once."""
        self._closed = True
        if self._transaction is not None:
            self._ending("ROLLBACK").rollback()

    def _ending(self, word: str) -> Transaction:
        transaction = self._open_transaction(word)
        self._transaction = self._catalog = None
        self._read_only = False
        self._savepoints.clear()
        return transaction

    def _open_transaction(self, word: str) -> Transaction:
        if self._transaction is None:
            self._check_open()
            raise InvalidInput(f"{word}: no transaction is open")
        return self._transaction

    def _find_savepoint(self, name: str) -> int:
        for at in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[at].name == name:
                return at
        raise InvalidInput(f'there is no savepoint "{name}" in this transaction')

    def _control(self, statement: TransactionStatement) -> None:
        match statement.kind:
            case "begin":
                self.begin(read_only=statement.read_only)
            case "commit":
                self.commit()
            case "rollback":
                self.rollback()
            case "savepoint":
                self.savepoint(statement.name)
            case "rollback to":
                self.rollback_to(statement.name)
            case "release":
                self.release(statement.name)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the session is closed")

    # Statements ----------------------------------------------------------------------------------

    def execute(
        self, text: str, parameters: Given = None, *, timeout_s: float | None = None
    ) -> Outcome:
        """Run one statement. Raises Timeout when it takes longer, reading its rows included."""
        if self._closed:
            self._check_open()
        self._halt = Halt(timeout_s)
        statement = self._shared.statements.get(text)
        parsed = statement.parsed
        if parsed.explain:
            return self._explain(statement, parameters)
        match parsed.kind:
            case "select":
                return self._query(statement, parameters)
            case "insert" | "update" | "delete" | "merge":
                return self._write(statement, [parameters])
            case "transaction":
                assert parsed.transaction is not None
                self._control(parsed.transaction)
                return Outcome(parsed.transaction.kind)
            case "setting":
                assert parsed.setting is not None
                return self._setting(parsed.setting)
            case "copy":
                parsed.parameters.arrange(parameters)
                assert parsed.copy is not None
                return self._copy(parsed.copy)
            case _:
                return Outcome(parsed.kind, rowcount=self._define(statement, parameters))

    def execute_many(
        self,
        text: str,
        rows: Iterable[Sequence[Any] | Mapping[str, Any]],
        *,
        timeout_s: float | None = None,
    ) -> Outcome:
        """Run a statement that writes once per row of parameters: all of them, or none.

        Foreign keys are verified when all rows are written.
        """
        self._check_open()
        self._halt = Halt(timeout_s)
        statement = self._shared.statements.get(text)
        parsed = statement.parsed
        if parsed.explain or parsed.kind not in ("insert", "update", "delete", "merge"):
            raise InvalidInput("only a statement that writes runs once per row of parameters")
        return self._write(statement, rows, many=True)

    def execute_script(self, text: str) -> int:
        """Run statements with semicolons between them, one after the other; how many.

        Each of them is as if it were executed alone: those before one that fails stay done. Rows
        are not kept.
        """
        statements = split_script(text)
        for statement in statements:
            outcome = self.execute(statement)
            for _ in outcome.rows or ():
                pass
        return len(statements)

    def table(self, name: str) -> Table:
        """The table of this name, as the next statement sees it. Raises BindError."""
        self._check_open()
        table = (self._catalog or _catalog(self._replica)).table(name)
        if table is None:
            raise BindError(f'there is no table "{name}"')
        return table

    def load(
        self,
        table: str,
        columns: Sequence[str],
        batches: Iterator[Batch],
        *,
        atomic: bool = True,
        timeout_s: float | None = None,
    ) -> Outcome:
        """Insert batches, whose columns are those of the table that are named.

        All in one transaction, the open one if there is one; or, not `atomic`, in as many as it
        takes, one after the other: then an error leaves what was committed before it, and says how
        many rows that is.
        """
        self._check_open()
        self._halt = Halt(timeout_s)
        return self._load(table, columns, batches, atomic=atomic)

    def _load(
        self, table: str, columns: Sequence[str], batches: Iterator[Batch], *, atomic: bool
    ) -> Outcome:
        if not atomic and self._transaction is not None:
            raise InvalidInput("atomic=False commits as it goes: not within a transaction")
        statement = self._shared.statements.get(insertion_text(table, columns))
        written = Written()
        more = True
        while more:
            done = written.count
            part = Written(done)
            try:
                more = self._whole(
                    lambda tx, catalog, part=part: self._load_part(  # type: ignore[misc]
                        statement, tx, catalog, batches, part, None if atomic else PART_BYTES
                    )
                )
            except DatabaseError as error:
                if atomic or not done:
                    raise
                message = f"{error} (the {done:,} rows before were committed)"
                raise type(error)(message) from None
            written = part
        return Outcome("insert", rowcount=written.count, lastrowid=written.last_key)

    def _copy(self, copy: Copy) -> Outcome:
        files = self._files
        if files is None:
            raise InvalidInput(
                "COPY reads and writes files, which is not allowed here: allow a directory with "
                "murmur.connect(path, files=directory) or swarm.sql(text, files=directory)"
            )
        if not copy.to:
            assert copy.table is not None
            names, batches = files.read(copy, self.table(copy.table))
            outcome = self._load(copy.table, names, batches, atomic=copy.atomic)
            return Outcome("copy", rowcount=outcome.rowcount)
        text = copy.query
        if text is None:
            assert copy.table is not None
            columns = ", ".join(map(quoted, copy.columns))
            text = f"SELECT {columns or '*'} FROM {quoted(copy.table)}"
        statement = self._shared.statements.get(text)
        if statement.parsed.kind != "select" or statement.parsed.explain:
            raise InvalidInput("COPY writes the rows of a SELECT")
        found = self._query(statement, None)
        named = [(column.name, column.type) for column in found.columns or ()]
        rows = found.rows if found.arrow is None else found.arrow
        return Outcome("copy", rowcount=files.write(copy, named, rows))

    def _load_part(
        self,
        statement: Statement,
        transaction: Transaction,
        catalog: Catalog,
        batches: Iterator[Batch],
        written: Written,
        most: int | None,
    ) -> bool:
        """Insert batches until they take `most` bytes; whether there may be more."""
        prepared = statement.prepared(catalog, self._system)
        context = self._context(prepared, None, arranged=())
        loading = None
        if prepared.load is not None:
            loading = prepared.load.begin(transaction, context)
        more = True
        if loading is not None:
            while more and (most is None or loading.size < most):
                batch = next(batches, None)
                more = batch is not None
                if batch is not None:
                    loading.add_batch(batch)
            loading.finish(written)
            return more
        assert prepared.write is not None
        for batch in batches:
            for row in context.halt.guard(rows_of(batch, len(prepared.types))):
                context.parameters = prepared.check(row)
                prepared.write(transaction, context, written)
            if most is not None:
                return True
        return False

    def _setting(self, statement: SettingStatement) -> Outcome:
        match statement.kind:
            case "set":
                self.engine = statement.engine
                return Outcome("set")
            case "memory":
                self._memory_bytes = statement.limit_bytes
                return Outcome("set")
            case "show":
                columns = (ResultColumn(statement.name, TEXT),)
                return Outcome("show", columns, iter([(self._shown(statement.name),)]))
            case "session":
                if statement.read_only is not None:
                    self._read_only_default = statement.read_only
                return Outcome("set")
            case "transaction":
                self._open_transaction("SET TRANSACTION")
                if self._read_only and statement.read_only is False:
                    raise InvalidInput("a read-only transaction stays one until it ends")
                self._read_only = self._read_only or bool(statement.read_only)
                return Outcome("set")
        with self._replica.snapshot() as snapshot:
            view: View = self._transaction or snapshot
            catalog = self._catalog or _catalog(snapshot)
            analyze(self._shared.statistics, view, catalog, statement.tables)
        return Outcome("analyze")

    def _shown(self, name: str) -> str:
        """The value of a setting, in PostgreSQL's words: a snapshot is its REPEATABLE READ."""
        match name:
            case "engine":
                return self.engine
            case "memory_limit":
                return shown_bytes(Memory(self._memory_bytes).limit_bytes)
            case "transaction_isolation":
                return "repeatable read"
            case "transaction_read_only" if self._transaction is not None:
                return "on" if self._read_only else "off"
        return "on" if self._read_only_default else "off"

    def interrupt(self) -> None:
        """End the statement that runs, or whose rows are being read, with Interrupted.

        From any thread; without one, nothing happens.
        """
        self._halt.interrupt()

    # Queries -------------------------------------------------------------------------------------

    def _query(self, statement: Statement, parameters: Given) -> Outcome:
        transaction = self._transaction
        if transaction is not None:
            assert self._catalog is not None
            point = statement.point(self._catalog)
            if point is not None and (point.point is not None or self.engine == "auto"):
                found = _point_rows(point, transaction, parameters)
                if found is not None:
                    return Outcome("select", point.columns, iter(found))
            prepared = statement.prepared(self._catalog, self._system)
            context = self._context(prepared, parameters)
            outcome = self._read(prepared, transaction, context)
            if outcome.rows is not None:
                outcome.rows = iter(list(context.memory.hold(outcome.rows)))
            return outcome
        by_index = self.engine == "auto"
        answer = point_answer(self._replica, statement, parameters, by_index=by_index)
        if answer is not None:
            return Outcome("select", answer[0].columns, iter(answer[1]))
        snapshot = self._replica.snapshot()
        try:
            prepared = statement.prepared(_catalog(snapshot), self._system)
            context = self._context(prepared, parameters)
            outcome = self._read(prepared, snapshot, context)
            if outcome.rows is None:
                snapshot.close()
            elif prepared.short:
                outcome.rows = iter(list(outcome.rows))
                snapshot.close()
            else:
                outcome.rows = _released(outcome.rows, snapshot)
                next(outcome.rows)
        except BaseException:
            snapshot.close()
            raise
        return outcome

    def _read(self, prepared: Prepared, view: View, context: Context) -> Outcome:
        plan = self._chosen(prepared, view, context)
        if isinstance(plan, ColumnarQuery):
            return Outcome("select", plan.columns, arrow=context.run_columnar(plan, view))
        assert prepared.read is not None
        return Outcome("select", plan.columns, iter(prepared.read(view, context)))

    def _chosen(
        self, prepared: Prepared, view: View, context: Context | None
    ) -> RowQuery | ColumnarQuery:
        """The plan, or the other engine's where that costs less."""
        if self.engine != "auto":
            return prepared.forced(self.engine)
        plan = prepared.plan
        assert isinstance(plan, RowQuery | ColumnarQuery)
        if self._columnar is None:
            return plan
        return cheaper_plan(prepared, view, context, self._columnar)

    def _explain(self, statement: Statement, parameters: Given) -> Outcome:
        options = statement.parsed.explain
        assert options is not None
        if parameters and not options.analyze:
            statement.parsed.parameters.arrange(parameters)
        with self._replica.snapshot() as snapshot:
            view: View = self._transaction or snapshot
            catalog = self._catalog or _catalog(snapshot)
            prepared = statement.prepared(catalog, self._system)
            chosen = prepared.plan
            given = parameters is not None or not prepared.types
            context = self._context(prepared, parameters) if options.analyze or given else None
            if isinstance(chosen, RowQuery | ColumnarQuery):
                chosen = self._chosen(prepared, view, context)
            if options.analyze:
                assert context is not None
                lines, data = explain_analyzed(chosen, view, context)
            else:
                lines, data = explain(chosen, prepared.steps), None
        if options.json:
            data = data or explain_data(chosen, prepared.steps)
            columns: tuple[ResultColumn, ...] = (ResultColumn("plan", JSON),)
            return Outcome("explain", columns, iter([(json.dumps(data),)]))
        columns = (ResultColumn("plan", TEXT),)
        return Outcome("explain", columns, iter([(line,) for line in lines]))

    # Writes --------------------------------------------------------------------------------------

    def _write(self, statement: Statement, rows: Iterable[Given], *, many: bool = False) -> Outcome:
        def work(transaction: Transaction, catalog: Catalog) -> Outcome:
            prepared = statement.prepared(catalog, self._system)
            write, arrange = prepared.write, statement.parsed.parameters.arrange
            assert write is not None
            written = Written()
            context = self._context(prepared, None, arranged=())
            loading = None
            if many and prepared.load is not None:
                loading = prepared.load.begin(transaction, context)
            if loading is not None:
                loading.add_rows(rows)
                loading.finish(written)
                rows_left: Iterable[Given] = ()
            else:
                rows_left = rows
            for given in context.halt.guard(rows_left):
                context.parameters = prepared.check(arrange(given))
                write(transaction, context, written)
            returned = None if prepared.columns is None else iter(written.rows)
            last = written.last_key if isinstance(prepared.plan, Insert) else None
            kind = statement.parsed.kind
            return Outcome(kind, prepared.columns, returned, None, written.count, last)

        return self._whole(work)

    def _define(self, statement: Statement, parameters: Given) -> int:
        """Run DDL; how many rows CREATE TABLE ... AS has written, -1 for anything else."""

        def work(transaction: Transaction, catalog: Catalog) -> int:
            prepared = statement.prepared(catalog, self._system)
            context = self._context(prepared, parameters)
            transaction.spread()  # a new index wants to see every row
            if isinstance(prepared.plan, CreateAs):
                return create_as(prepared.plan, transaction, context)
            run_steps(transaction, prepared.steps, statement.parsed.text)
            return -1

        count = self._whole(work)
        if self._transaction is not None:
            self._catalog = _catalog(self._transaction)
        return count

    def _whole(self, work: Callable[[Transaction, Catalog], _T]) -> _T:
        """Do the work in the open transaction or in one of its own: all of it, or nothing."""
        transaction = self._transaction
        if transaction is not None:
            if self._read_only:
                raise InvalidInput("the transaction is read-only: it was begun with READ ONLY")
            assert self._catalog is not None
            savepoint = transaction.savepoint()
            try:
                return work(transaction, self._catalog)
            except BaseException:
                transaction.rollback_to(savepoint)
                raise
        if self._read_only_default:
            raise InvalidInput("statements are read-only here: default_transaction_read_only is on")
        transaction = self._replica.begin()
        try:
            result = work(transaction, _catalog(transaction.snapshot))
            transaction.commit()
        except BaseException:
            transaction.rollback()
            raise
        return result

    def _context(
        self, prepared: Prepared, parameters: Given, *, arranged: Sequence[Any] | None = None
    ) -> Context:
        if arranged is None:
            arranged = prepared.check(prepared.parsed.parameters.arrange(parameters))
        shared = self._shared
        return Context(
            arranged,
            now_ms=self._clock.now_ms(),
            random_bytes=self._random_bytes,
            system=self._system,
            columnar=self._columnar,
            uuid7=shared.uuid7,
            ids=shared.ids,
            halt=self._halt,
            engine=self.engine,
            memory=Memory(self._memory_bytes),
        )


def point_answer(
    replica: Replica, statement: Statement, parameters: Given, *, by_index: bool = True
) -> tuple[Prepared, list[Row]] | None:
    """What a point query was prepared to, and its rows in the latest state; None if it is none.

    One key is read, so the state needs no pin; only the catalog must not have moved meanwhile. By
    an index, entries and rows are of one snapshot.
    """
    catalog = _catalog(replica)
    prepared = statement.point(catalog)
    if prepared is None:
        return None
    if prepared.point is not None:
        rows = prepared.point(replica.get, parameters)
        return (prepared, rows) if _catalog(replica).version == catalog.version else None
    if not by_index:
        return None
    with replica.snapshot() as snapshot:
        if _catalog(snapshot).version != catalog.version:
            return None
        found = _point_rows(prepared, snapshot, parameters)
    return None if found is None else (prepared, found)


def _point_rows(prepared: Prepared, view: View, parameters: Given) -> list[Row] | None:
    """The rows of a point query; None if they are too many to be read at once."""
    if prepared.point is not None:
        return prepared.point(view.get, parameters)
    assert prepared.by_index is not None
    return prepared.by_index(view, parameters)


def _catalog(view: Any) -> Catalog:
    catalog = view.state
    assert isinstance(catalog, Catalog)
    return catalog


def _released(rows: Iterable[Row], snapshot: Snapshot) -> Iterator[Row]:
    """The rows, after an empty one; the snapshot is closed with the last, or when it is dropped.

    The first `next` is for the `finally`: a generator that never began would not run it.
    """
    try:
        yield ()
        yield from rows
    finally:
        snapshot.close()
