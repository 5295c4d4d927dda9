"""DuckDB, the columnar engine: one SELECT over Arrow tables, in memory, cut off from all else.

    run("SELECT k, count(*) AS n FROM t GROUP BY k", [], {"t": relation})  ->  pyarrow.Table

Each query runs on a cursor of its own, on which its relations are registered as pa.Table objects
(never as readers: those know no row count and cannot be read twice). Names registered on one cursor
are not visible on another, so queries of many threads do not meet.

The database is in memory; access to files, network, extensions and the environment is off, spilling
to disk is off, and the configuration is locked. So a statement reaches the relations that it was
given, and no more.

Settings for PostgreSQL's semantics: `/` of integers truncates, NULLS LAST for ASC and FIRST for
DESC, the logarithm of -1 is an error, UTC. They are global: a cursor does not inherit its
connection's own.

One of its optimizer's rules gives wrong answers and is off: rows with a NULL go missing where two
scalar subqueries depend on one column of the query around them (DuckDB 2.0). Another fails without
it. After an error inside of DuckDB, which refuses every query from then on, the next query begins a
new database.

Whoever makes the engine may hand it functions in Python, and macros that call them: its own
database's functions for what SQL cannot say.

DuckDB's HUGEINT (the sum of BIGINTs) comes back as BIGINT when all values fit, else as
DECIMAL(38,0).
"""

from __future__ import annotations

import contextlib
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import duckdb
import pyarrow as pa

from murmur import errors
from murmur.catalog.schema import Column, Table
from murmur.catalog.types import (
    Interval,
    SqlType,
)
from murmur.errors import (
    BindError,
    Closed,
    DatabaseError,
    DataError,
    InternalError,
    InvalidInput,
    MurmurError,
    OperationalError,
    ParseError,
    TypeMismatch,
    Unsupported,
)
from murmur.kvcore.view import View
from murmur.olap.answers import relabel
from murmur.olap.arrow import (
    iterate_rows,
    rows_to_arrow,
    sql_type_of,
    table_to_arrow,
)
from murmur.olap.beside import INTERRUPT_S, Beside
from murmur.olap.cache import CACHE_BYTES, ColumnCache
from murmur.olap.macros import MACROS

_BATCH_ROWS = 100_000  # of an answer, at once

_SETTINGS = (
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET GLOBAL python_enable_replacements = false",
    "SET GLOBAL python_scan_all_frames = false",
    "SET GLOBAL integer_division = true",
    "SET GLOBAL default_null_order = 'nulls_last_on_asc_first_on_desc'",
    "SET GLOBAL ieee_floating_point_ops = false",
    "SET GLOBAL TimeZone = 'UTC'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)

_WRONG_RULES = {"projection_pullup", "grouping_sets"}


class Relation(Protocol):
    """What a name in the statement stands for: a table, a table's history, or rows."""

    @property
    def table(self) -> Table | None:
        """The table, unless `rows` are given."""
        ...

    @property
    def view(self) -> View:
        """The state to read it in."""
        ...

    @property
    def private(self) -> bool:
        """Whether the view has writes of its own, so that nothing read from it may be kept."""
        ...

    @property
    def columns(self) -> Sequence[tuple[str, SqlType | None]]:
        """Names and types of `rows`."""
        ...

    @property
    def rows(self) -> Iterable[tuple[Any, ...]] | None:
        """The rows themselves."""
        ...

    @property
    def history(self) -> bool:
        """Whether the history of the table is meant."""
        ...

    @property
    def wanted(self) -> Sequence[str] | None:
        """The columns of the table that the statement reads; None: all of them."""
        ...


class ForeignFunction(Protocol):
    """A function in Python, which gets None for NULL and raises errors of Murmur's."""

    @property
    def name(self) -> str:
        """What the text calls it."""
        ...

    @property
    def call(self) -> Callable[..., Any]:
        """The function."""
        ...

    @property
    def parameters(self) -> Sequence[str] | None:
        """The types of the arguments, by DuckDB's names; None: any number of any type."""
        ...

    @property
    def result(self) -> str:
        """The type of the result."""
        ...


@runtime_checkable
class Holding(Protocol):
    """Who waits for an answer, and limits how large it may get."""

    def hold(self, size: int, /) -> None:
        """So many bytes more are held; raises when that is too many."""
        ...


class DuckEngine:
    """Runs SELECTs over relations. Safe to use from many threads; starts with the first one."""

    def __init__(
        self,
        *,
        history: Callable[[Table, View], pa.Table] | None = None,
        functions: Sequence[ForeignFunction] = (),
        macros: Sequence[str] = (),
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._functions = functions
        self._macros = macros
        self._history = history
        self._cache = ColumnCache(cache_bytes)
        self._idle = threading.Condition()
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._closed = False

    def run(
        self,
        sql: str,
        parameters: Mapping[str, object],
        relations: Mapping[str, Relation],
        halted: Callable[[], Exception | None] = lambda: None,
    ) -> pa.Table:
        """The answer. Raises the MurmurError that says what is wrong with statement or data.

        `halted` is asked now and then; the query ends with the error that it gives. One that can
        `hold` is told the bytes of each part of the answer, and ends it by raising an error.
        """
        with self._cursor(relations) as cursor:
            return self._query(cursor, sql, parameters, halted)

    def explain(
        self, sql: str, parameters: Mapping[str, object], relations: Mapping[str, Relation]
    ) -> str:
        """DuckDB's physical plan, as text."""
        with self._cursor(relations) as cursor:
            plan = self._query(cursor, f"EXPLAIN {sql}", parameters, lambda: None)
        return str(plan.column(plan.num_columns - 1)[0].as_py()).rstrip()

    def holds(self, relation: Relation) -> bool:
        """Whether the relation's columns are kept in Arrow already, as its view shows them."""
        table = relation.table
        if table is None or relation.rows is not None or relation.private or relation.history:
            return False
        return self._cache.holds(relation.view, table, _columns(relation, table))

    def types(self, table: pa.Table) -> list[SqlType | None]:
        """The SQL types of an answer's columns; None for one that Murmur does not have."""
        return [sql_type_of(field) for field in table.schema]

    def rows(self, table: pa.Table) -> Iterator[tuple[Any, ...]]:
        """An answer's rows as Python values, what the row engine would have given."""
        return iterate_rows(table)

    def stats(self) -> Mapping[str, int]:
        """Figures of the column cache."""
        return self._cache.stats()

    def close(self) -> None:
        """Stop; running queries fail with Closed. Closing twice is once."""
        with self._idle:
            self._closed = True
            while self._running:
                for cursor in self._running:
                    cursor.interrupt()
                self._idle.wait(INTERRUPT_S)
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._cache.clear()

    @contextlib.contextmanager
    def _cursor(self, relations: Mapping[str, Relation]) -> Iterator[duckdb.DuckDBPyConnection]:
        tables = {name: self._arrow(relation) for name, relation in relations.items()}
        with self._idle:
            if self._closed:
                raise Closed("the swarm is closed")
            if self._connection is None:
                self._connection = _connect(self._functions, self._macros)
                # An interpreter that ends with functions of its own in there complains of leaks.
                weakref.finalize(self, self._connection.close)
            connection = self._connection
            cursor = connection.cursor()
            self._running.add(cursor)
        try:
            for name, table in tables.items():
                cursor.register(name, table)
            yield cursor
        except duckdb.Error as error:
            if self._closed:
                raise Closed("the swarm was closed while the statement ran") from None
            if isinstance(error, duckdb.FatalException | duckdb.InternalException):
                with self._idle:
                    if self._connection is connection:
                        self._connection = None
            raise _translate(error, relations) from None
        except RuntimeError as error:
            if str(error) != "Query interrupted":
                raise
            raise Closed("the swarm was closed while the statement ran") from None
        finally:
            try:
                cursor.close()
            finally:
                with self._idle:
                    self._running.discard(cursor)
                    self._idle.notify_all()

    def _query(
        self,
        cursor: duckdb.DuckDBPyConnection,
        sql: str,
        parameters: Mapping[str, object],
        halted: Callable[[], Exception | None],
    ) -> pa.Table:
        statements = cursor.extract_statements(sql)
        if len(statements) != 1 or statements[0].type not in _QUERIES:
            raise Unsupported("the columnar engine runs one SELECT at a time")
        given = {name: _parameter(value) for name, value in parameters.items()}

        def work() -> pa.Table:
            relation = cursor.sql(sql, params=given or None)
            reader = relation.to_arrow_reader(_BATCH_ROWS)
            batches = []
            for batch in reader:
                if isinstance(halted, Holding):
                    halted.hold(batch.nbytes)
                batches.append(batch)
            table = pa.Table.from_batches(batches, reader.schema)
            return relabel(table, list(map(str, relation.types)))

        return Beside(work, cursor.interrupt).result(halted)

    def _arrow(self, relation: Relation) -> pa.Table:
        if relation.rows is not None:
            return rows_to_arrow(relation.columns, list(relation.rows), engine=True)
        table = relation.table
        assert table is not None
        if relation.history:
            if self._history is None:
                raise Unsupported("there is no log to read a history from")
            return self._history(table, relation.view)
        columns = _columns(relation, table)
        if relation.private:
            return table_to_arrow(relation.view, table, columns, engine=True)
        return self._cache.table(relation.view, table, columns)


_QUERIES = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})


def _columns(relation: Relation, table: Table) -> Sequence[Column]:
    """The columns of a table that the statement reads."""
    if relation.wanted is None:
        return table.columns
    return [column for column in table.columns if column.name in relation.wanted]


def _connect(
    functions: Sequence[ForeignFunction] = (), macros: Sequence[str] = ()
) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute("BEGIN")  # one transaction for all of them is a third quicker
    for function in functions:
        parameters = None if function.parameters is None else list(function.parameters)
        connection.create_function(
            function.name, function.call, parameters, function.result, null_handling="special"
        )
    connection.execute("; ".join(f"CREATE MACRO {macro}" for macro in (*MACROS, *macros)))
    connection.execute("COMMIT")
    rules = {name for (name,) in connection.execute("FROM duckdb_optimizers()").fetchall()}
    wrong = ", ".join(sorted(rules & _WRONG_RULES))
    connection.execute(f"SET GLOBAL disabled_optimizers = '{wrong}'")
    for setting in _SETTINGS:
        connection.execute(setting)
    return connection


def _parameter(value: object) -> object:
    # DuckDB takes any timedelta for an exact span and would drop the months.
    if isinstance(value, Interval):
        exact = value.exact
        text = f"{value.months} months {exact.days} days {exact.seconds} seconds "
        return duckdb.Value(f"{text}{exact.microseconds} microseconds", "INTERVAL")
    return value


# Errors ----------------------------------------------------------------


_ERRORS: Sequence[tuple[type[Exception], type[MurmurError]]] = (
    (duckdb.ParserException, ParseError),
    (duckdb.SyntaxException, ParseError),
    (duckdb.BinderException, BindError),
    (duckdb.CatalogException, BindError),
    (duckdb.NotImplementedException, Unsupported),
    (duckdb.PermissionException, Unsupported),
    (duckdb.TypeMismatchException, TypeMismatch),
    (duckdb.InvalidTypeException, TypeMismatch),
    (duckdb.DataError, DataError),
    (duckdb.OperationalError, OperationalError),
    (duckdb.InterruptException, OperationalError),
    (duckdb.InternalError, InternalError),
    (duckdb.FatalException, InternalError),
    (duckdb.NotSupportedError, Unsupported),
    (duckdb.ProgrammingError, InvalidInput),
)
# What DuckDB files under invalid input although the statement is right and its data is not.
_DATA = re.compile(r"division by zero|out of range|overflow|more than one row", re.IGNORECASE)
_KIND = re.compile(r"^[A-Z][A-Za-z ]*Error: ")
_ADVICE = re.compile(
    r"(?:\s*Use TRY\(|\s*Use \"?SET |\n\nLINE \d+:|\n\s*Candidate |\nDid you mean ).*", re.DOTALL
)
_REFUSED = re.compile(r"Could not convert string 'murmur: (.*)' to \w+.*", re.DOTALL)  # macros.py
_FOREIGN = re.compile(r".*executing the UDF: (\w+): (.*)", re.DOTALL)  # name and text of an error
_DIVISION = re.compile(r"Division by zero in expression.*", re.DOTALL)


def _translate(error: Exception, relations: Mapping[str, Relation]) -> MurmurError:
    """The error in Murmur's tree, without DuckDB's advice about DuckDB."""
    text = _ADVICE.sub("", _KIND.sub("", str(error))).strip()
    text = _DIVISION.sub("division by zero", text)
    text = _REFUSED.sub(r"\1", text)
    for name, relation in relations.items():
        if relation.table is not None:
            text = re.sub(rf"\b{re.escape(name)}\b", relation.table.name, text)
    if (foreign := _FOREIGN.fullmatch(text)) is not None:
        kind = getattr(errors, foreign[1], None)
        ours = kind if isinstance(kind, type) and issubclass(kind, MurmurError) else DataError
        return ours(foreign[2])
    if isinstance(error, duckdb.InvalidInputException) and _DATA.search(text):
        return DataError(text)
    for kind, ours in _ERRORS:
        if isinstance(error, kind):
            return ours(text)
    return DatabaseError(text)
