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
from typing import Any

from murmur.catalog.catalog import Catalog
from murmur.catalog.schema import Table
from murmur.catalog.types import JSON, TEXT
from murmur.errors import BindError, DatabaseError, InvalidInput, Unsupported
from murmur.kvcore.clock import Clock
from murmur.kvcore.replica import Replica
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
from murmur.sql.execution import Context, released
from murmur.sql.explain import explain, explain_analyzed, explain_data, explain_written
from murmur.sql.files import Batch, Files
from murmur.sql.list_parameters import with_lists
from murmur.sql.lone_insert import insert_alone
from murmur.sql.memory import Memory, shown_bytes
from murmur.sql.parser import split_script
from murmur.sql.plan import ColumnarQuery, ResultColumn, RowQuery
from murmur.sql.plan_writes import CreateAs, Insert, Several
from murmur.sql.point_answer import point_answer, point_rows
from murmur.sql.prepare import Prepared
from murmur.sql.relation import ColumnarEngine
from murmur.sql.session_transaction import Transacting, catalog_of
from murmur.sql.settings import Engine, SettingStatement
from murmur.sql.statistics import analyze
from murmur.sql.system import System, SystemRelations

Row = tuple[Any, ...]
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


class Session(Transacting):
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
        super().__init__(replica)
        self._columnar = columnar
        self._system = System(system)
        self._files = files
        self._clock = clock
        self._random_bytes = random_bytes
        self._shared = shared_of(replica, clock, random_bytes)
        self.engine: Engine = "auto"  # SET engine
        self._memory_bytes: int | None = None  # SET memory_limit
        self._halt = Halt()  # of the last statement

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
        if parsed.lists:
            statement, parameters = self._with_lists(statement, parameters)
        if parsed.explain:
            return self._explain(statement, parameters)
        match parsed.kind:
            case "select":
                return self._query(statement, parameters)
            case "insert":
                return self._insert(statement, parameters)
            case "update" | "delete" | "merge" | "with":
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

    def _with_lists(self, statement: Statement, parameters: Given) -> tuple[Statement, Given]:
        """The statement with the lists among its parameters written out."""
        parsed = statement.parsed
        if parsed.explain and not parameters:
            parameters = None
        found = with_lists(parsed.text, parsed.lists, parsed.parameters, parameters)
        if found is None:
            return statement, parameters
        return self._shared.statements.get(found[0]), found[1]

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
        table = (self._catalog or catalog_of(self._replica)).table(name)
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
            catalog = self._catalog or catalog_of(snapshot)
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
                found = point_rows(point, transaction, parameters)
                if found is not None:
                    return Outcome("select", point.columns, iter(found))
            prepared = statement.prepared(self._catalog, self._system)
            context = self._context(prepared, parameters)
            if prepared.locked is not None and not self._read_only:
                for key, _ in prepared.locked(transaction, context):
                    transaction.guard(key)
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
            prepared = statement.prepared(catalog_of(snapshot), self._system)
            context = self._context(prepared, parameters)
            outcome = self._read(prepared, snapshot, context)
            if outcome.rows is None:
                snapshot.close()
            elif prepared.short:
                outcome.rows = iter(list(outcome.rows))
                snapshot.close()
            else:
                outcome.rows = released(outcome.rows, snapshot)
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
            catalog = self._catalog or catalog_of(snapshot)
            prepared = statement.prepared(catalog, self._system)
            chosen = prepared.plan
            given = parameters is not None or not prepared.types
            context = self._context(prepared, parameters) if options.analyze or given else None
            if isinstance(chosen, RowQuery | ColumnarQuery):
                chosen = self._chosen(prepared, view, context)
            if options.analyze and not isinstance(chosen, RowQuery | ColumnarQuery):
                lines, data = self._explain_write(statement, prepared, parameters)
            elif options.analyze:
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

    def _explain_write(
        self, statement: Statement, prepared: Prepared, parameters: Given
    ) -> tuple[list[str], dict[str, Any]]:
        """A plan that writes, carried out; its first operator tells what it came to."""
        if prepared.write is None:
            raise Unsupported("EXPLAIN ANALYZE is for queries and for what writes rows")
        return explain_written(prepared.plan, lambda: self._write(statement, [parameters]).rowcount)

    # Writes --------------------------------------------------------------------------------------

    def _insert(self, statement: Statement, parameters: Given) -> Outcome:
        if self._transaction is None and not self._read_only_default:
            self._halt.check()
            replica, shared = self._replica, self._shared
            inserted = insert_alone(
                replica, shared, self._clock, self._random_bytes, statement, parameters
            )
            if inserted is not None:
                return Outcome("insert", rowcount=1, lastrowid=inserted.last_key)
        return self._write(statement, [parameters])

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
                if many and statement.parsed.lists:
                    one, given = self._with_lists(statement, given)
                    prepared = one.prepared(catalog, self._system)
                    write, arrange = prepared.write, one.parsed.parameters.arrange
                    assert write is not None
                context.parameters = prepared.check(arrange(given))
                write(transaction, context, written)
            kind = "select" if statement.parsed.kind == "with" else statement.parsed.kind
            if written.arrow is not None:
                return Outcome(kind, prepared.columns, arrow=written.arrow)
            returned = None if prepared.columns is None else iter(written.rows)
            last = written.last_key if isinstance(prepared.plan, Insert | Several) else None
            count = -1 if kind == "select" else written.count
            return Outcome(kind, prepared.columns, returned, None, count, last)

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
            self._catalog = catalog_of(self._transaction)
        return count

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
