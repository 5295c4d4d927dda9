"""PEP 249: a swarm as a database connection.

    con = murmur.connect("data/alice")          one swarm per directory and process, shared
    with con:                                   commits, or rolls back on an exception
        con.execute("INSERT INTO note (body) VALUES (?)", ["hello"])
    for body, in con.execute("SELECT body FROM note"): ...
    con.close()                                 the last connection closes the swarm

`autocommit` means what it means in Python's sqlite3:

    False (default)  PEP 249: statements run in a transaction, which the first one after connect,
                     commit or rollback opens; `close` rolls back what was not committed
    True             each statement commits by itself; BEGIN, COMMIT, ROLLBACK are statements

Setting it to True commits what is open. There is no LEGACY_TRANSACTION_CONTROL: nothing here is
older than this interface. A transaction reads one snapshot, so a connection that only reads sees
what others have written since after its next commit or rollback. `Conflict` on commit means: run
the transaction again.

Parameters: `?` with a sequence (the paramstyle), `:name` with a mapping, `$1` with a sequence.

With autocommit, rows of a SELECT are read as they are fetched, from a snapshot of the SELECT's own;
in a transaction they are read at once. Either way later statements do not disturb them.

Threads may share connections (threadsafety 2): calls of one connection wait for one another.
"""

from __future__ import annotations

import datetime
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from murmur import errors
from murmur.errors import Closed, InvalidInput, ProgrammingError
from murmur.swarm import bulk
from murmur.swarm.bulk import Allowed
from murmur.swarm.network import NetworkOptions
from murmur.swarm.result import Description, Result, Row, describe, result_of

if TYPE_CHECKING:
    import pyarrow

    from murmur.catalog.catalog import Catalog
    from murmur.sql import Outcome, Session
    from murmur.swarm.swarm import Swarm

apilevel = "2.0"
threadsafety = 2
paramstyle = "qmark"

Parameters = Sequence[Any] | Mapping[str, Any]
FETCHED_ROWS = 1024  # of a script's query, at a time

_OPTIONS = frozenset(
    {"group", "durability", "name", "backend", *(each.name for each in fields(NetworkOptions))}
)


# Types -----------------------------------------------------------------


class TypeObject:
    """Equal to the type code of every column of its kind: `cursor.description[0][1] == NUMBER`."""

    def __init__(self, name: str, *types: str) -> None:
        self._name = name
        self._types = frozenset(types)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TypeObject):
            return self is other
        return isinstance(other, str) and other.partition("(")[0] in self._types

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"murmur.{self._name}"


STRING = TypeObject("STRING", "TEXT", "VARCHAR", "JSON", "UUID")
BINARY = TypeObject("BINARY", "BLOB")
NUMBER = TypeObject(
    "NUMBER", "BOOLEAN", "SMALLINT", "INTEGER", "BIGINT", "COUNTER", "REAL", "DOUBLE", "DECIMAL"
)
DATETIME = TypeObject("DATETIME", "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL")
ROWID = TypeObject("ROWID")

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> datetime.date:  # noqa: N802 - PEP 249's name
    """The local date of so many seconds since 1970."""
    return datetime.date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> datetime.time:  # noqa: N802 - PEP 249's name
    """The local time of day of so many seconds since 1970."""
    return datetime.time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> datetime.datetime:  # noqa: N802 - PEP 249's name
    """The local date and time of so many seconds since 1970."""
    return datetime.datetime(*time.localtime(ticks)[:6])


# Connections -----------------------------------------------------------


def connect(
    target: str | os.PathLike[str] | Swarm,
    *,
    autocommit: bool = False,
    files: Allowed = None,
    **options: Any,
) -> Connection:
    """Connect to a swarm, or to the directory of one.

    A directory that this process has open already is shared; otherwise it is opened, with
    `options` as for `murmur.open`, and closed with the last connection to it. `files` is what COPY
    may open: what lies below a directory, or, with True, any file; without it none.
    """
    from murmur.swarm import registry
    from murmur.swarm.swarm import Swarm, check_path
    from murmur.swarm.swarm import open as open_swarm

    _check_autocommit(autocommit)
    if isinstance(target, Swarm):
        if options:
            raise InvalidInput(
                f"the swarm is open already; {', '.join(sorted(options))} cannot be set any more"
            )
        target.check_usable()
        return Connection(target, autocommit=autocommit, lease=lambda: None, files=files)
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise InvalidInput(f"connect has no option {', '.join(sorted(unknown))}")
    path = check_path(target)
    swarm, give_back = registry.borrow(
        path, Swarm, lambda: open_swarm(path, **options), lambda swarm: _check_same(swarm, options)
    )
    try:
        return Connection(swarm, autocommit=autocommit, lease=give_back, files=files)
    except BaseException:
        give_back()
        raise


class Connection:
    """A session with a transaction of its own, on a swarm that others may use too."""

    Warning: ClassVar = errors.Warning
    Error: ClassVar = errors.Error
    InterfaceError: ClassVar = errors.InterfaceError
    DatabaseError: ClassVar = errors.DatabaseError
    DataError: ClassVar = errors.DataError
    OperationalError: ClassVar = errors.OperationalError
    IntegrityError: ClassVar = errors.IntegrityError
    InternalError: ClassVar = errors.InternalError
    ProgrammingError: ClassVar = errors.ProgrammingError
    NotSupportedError: ClassVar = errors.NotSupportedError

    def __init__(
        self, swarm: Swarm, *, autocommit: bool, lease: Any, files: Allowed = None
    ) -> None:
        self._lock = threading.RLock()
        self._autocommit = autocommit
        self._swarm = swarm
        self._session: Session | None = swarm.new_session(files=files)
        self._cursors: weakref.WeakSet[Cursor] = weakref.WeakSet()
        # Gives the swarm back also when the connection is forgotten instead of closed.
        self._release = weakref.finalize(self, _release, self._session, lease)

    @property
    def autocommit(self) -> bool:
        """Whether each statement commits by itself."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        _check_autocommit(value)
        with self._lock:
            if value and not self._autocommit:
                self.commit()
            self._autocommit = value

    @property
    def in_transaction(self) -> bool:
        """Whether statements run in a transaction: always, unless autocommit is on."""
        with self._lock:
            return self._open().in_transaction or not self._autocommit

    @property
    def swarm(self) -> Swarm:
        """The swarm that this connection works on."""
        return self._swarm

    @property
    def catalog(self) -> Catalog:
        """The tables and views that the next statement will see."""
        with self._lock:
            return self._open().catalog

    def cursor(self) -> Cursor:
        """A new cursor."""
        with self._lock:
            self._open()
            return Cursor(self)

    def execute(
        self, operation: str, parameters: Parameters = (), *, timeout: float | None = None
    ) -> Cursor:
        """Run a statement on a cursor of its own, and return that."""
        return self.cursor().execute(operation, parameters, timeout=timeout)

    def sql(
        self, text: str, parameters: Parameters = (), *, timeout: float | None = None
    ) -> Result:
        """Run a statement; its answer as from `swarm.sql`, to be read again and again."""
        with self._lock:
            return result_of(self._begin().execute(text, parameters, timeout_s=timeout))

    def executemany(self, operation: str, seq_of_parameters: Iterable[Parameters]) -> Cursor:
        """Run a statement for each row of parameters on a cursor of its own, and return that."""
        return self.cursor().executemany(operation, seq_of_parameters)

    def executescript(self, text: str) -> Cursor:
        """Run a script, statements with semicolons between them, each as `execute` would.

        One that fails ends the script. Rows are not kept.
        """
        from murmur.sql import split_script

        with self._lock:
            for statement in split_script(text):
                with self.execute(statement) as cursor:
                    while cursor.description is not None and cursor.fetchmany(FETCHED_ROWS):
                        pass
            return self.cursor()

    def insert_arrow(
        self, table: str, data: Any, *, atomic: bool = True, timeout: float | None = None
    ) -> int:
        """Insert the rows of Arrow data into a table, as `Swarm.insert_arrow`; how many.

        In the transaction that is open, unless `autocommit` is on.
        """
        with self._lock:
            session = self._begin()
            outcome = bulk.insert_arrow(session, table, data, atomic=atomic, timeout=timeout)
            return outcome.rowcount

    def interrupt(self) -> None:
        """End the statement that runs, or whose rows are being read, with Interrupted.

        From any thread, as it does not wait for the statement; without one, nothing happens.
        """
        session = self._session
        if session is not None:
            session.interrupt()

    def commit(self) -> None:
        """Make what the transaction has written visible and durable. Raises Conflict."""
        with self._lock:
            session = self._open()
            if session.in_transaction:
                session.commit()

    def rollback(self) -> None:
        """Forget what the transaction has written."""
        with self._lock:
            session = self._open()
            if session.in_transaction:
                session.rollback()

    def close(self) -> None:
        """Roll back what was not committed, and let go of the swarm. Closing twice is once."""
        with self._lock:
            if self._session is None:
                return
            self._session = None
            for cursor in list(self._cursors):
                cursor.close()
            self._release()

    def __enter__(self) -> Connection:
        self._open()
        return self

    def __exit__(self, kind: object, *_: object) -> Literal[False]:
        if kind is None:
            self.commit()
        elif self._session is not None:
            self.rollback()
        return False

    def _open(self) -> Session:
        if self._session is None:
            raise Closed("the connection is closed")
        self._swarm.check_usable()
        return self._session

    def _begin(self) -> Session:
        """The session, in the transaction that a statement is to run in."""
        session = self._open()
        if not self._autocommit and not session.in_transaction:
            session.begin()
        return session


class Cursor:
    """Runs statements and hands out their rows, each once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closed = False
        self._rows: Iterator[Row] | None = None
        self._table: pyarrow.Table | None = None
        self._fetched = 0
        self.arraysize = 1
        self.description: Description | None = None
        self.rowcount = -1
        self.lastrowid: Any = None
        connection._cursors.add(self)

    @property
    def connection(self) -> Connection:
        """The connection that the cursor belongs to."""
        return self._connection

    @property
    def rownumber(self) -> int | None:
        """How many rows were fetched; None without a result."""
        return self._fetched if self._rows is not None else None

    # Running -----------------------------------------------------------

    def execute(
        self, operation: str, parameters: Parameters = (), *, timeout: float | None = None
    ) -> Cursor:
        """Run one statement; the cursor itself, for chaining.

        Raises Timeout when it takes longer than `timeout` seconds, reading its rows included.
        """
        with self._connection._lock:
            self._reset()
            session = self._connection._begin()
            self._take(session.execute(operation, parameters, timeout_s=timeout))
        return self

    def executemany(self, operation: str, seq_of_parameters: Iterable[Parameters]) -> Cursor:
        """Run a statement that writes once for each row of parameters, as one."""
        with self._connection._lock:
            self._reset()
            session = self._connection._begin()
            self._take(session.execute_many(operation, seq_of_parameters))
        return self

    # Fetching ----------------------------------------------------------

    def fetchone(self) -> Row | None:
        """The next row, or None after the last."""
        with self._connection._lock:
            row = next(self._result(), None)
            self._fetched += row is not None
            return row

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next rows, `arraysize` of them unless told otherwise."""
        with self._connection._lock:
            rows = list(islice(self._result(), self.arraysize if size is None else size))
            self._fetched += len(rows)
            return rows

    def fetchall(self) -> list[Row]:
        """The rows that are left."""
        with self._connection._lock:
            rows = list(self._result())
            self._fetched += len(rows)
            return rows

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def fetch_arrow_table(self) -> pyarrow.Table:
        """The rows that are left, as a pyarrow.Table."""
        from murmur.olap.arrow import rows_to_arrow

        with self._connection._lock:
            rows = self._result()
            if self._table is not None:
                table = self._table.slice(self._fetched)
                self._rows = iter(())
            else:
                table = rows_to_arrow(self._columns, list(rows))
            self._fetched += table.num_rows
            return table

    # The rest of PEP 249 -----------------------------------------------

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """PEP 249 asks for it; parameters need no announcement here."""
        self._usable()

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """PEP 249 asks for it; columns of any size are fetched whole."""
        self._usable()

    def close(self) -> None:
        """Let go of the result. Closing twice is once."""
        with self._connection._lock:
            self._closed = True
            self._drop()

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Within ------------------------------------------------------------

    def _usable(self) -> None:
        if self._closed:
            raise Closed("the cursor is closed")
        self._connection._open()

    def _reset(self) -> None:
        self._usable()
        self._drop()
        self.description = None
        self.rowcount = -1
        self.lastrowid = None

    def _drop(self) -> None:
        rows, self._rows, self._table = self._rows, None, None
        close = getattr(rows, "close", None)
        if close is not None:
            close()

    def _take(self, outcome: Outcome) -> None:
        self.rowcount = outcome.rowcount
        self.lastrowid = outcome.lastrowid
        self._fetched = 0
        if outcome.arrow is not None:
            from murmur.olap.arrow import column_types, iterate_rows

            self._table = outcome.arrow
            names = self._table.column_names
            self._columns = list(zip(names, column_types(self._table), strict=True))
            self._rows = iterate_rows(self._table)
        elif outcome.columns is not None and outcome.rows is not None:
            self._columns = [(column.name, column.type) for column in outcome.columns]
            self._rows = iter(outcome.rows)
        else:
            return
        self.description = describe(self._columns)

    def _result(self) -> Iterator[Row]:
        self._usable()
        if self._rows is None:
            raise ProgrammingError("no results to fetch: execute a SELECT first")
        return self._rows


def _check_autocommit(value: object) -> None:
    if value is not True and value is not False:
        raise InvalidInput(f"autocommit is True or False, not {value!r}")


def _check_same(swarm: Swarm, options: Mapping[str, Any]) -> None:
    settings = swarm.settings
    for option, value in options.items():
        if (tuple(value) if isinstance(value, list) else value) != settings[option]:
            raise InvalidInput(
                f"{swarm.path} is open in this process with {option}={settings[option]!r}, "
                f"not {value!r}"
            )


def _release(session: Session, lease: Any) -> None:
    try:
        session.close()
    finally:
        lease()
