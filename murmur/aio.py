"""Murmur under asyncio: the same calls, awaited.

    async with murmur.aio.open("data/alice") as swarm:
        await swarm.put("a", b"1")
        result = await swarm.sql("SELECT body FROM note WHERE id = ?", [7])     a Result, all read
        async with swarm.transaction() as tx:
            await tx.sql("UPDATE note SET likes = likes + 1")
        async with swarm.connect() as connection:                               PEP 249, awaited
            async for row in await connection.execute("SELECT body FROM note"): ...

Nothing is done twice: a call runs the method of that name of murmur.Swarm, murmur.Connection and
their kin, on a thread that belongs to the handle. So the calls of one handle run one after another,
in the order in which they were made; a connection of its own runs beside them. The event loop never
waits for a disk or a query.

A task that is cancelled while its statement runs interrupts the statement, waits for its end, and
only then is cancelled: nothing of the statement remains, unless it was done just then. A call that
has not begun never will; what cannot be interrupted (a commit, a put) is waited for.
`asyncio.timeout` and task groups work through this.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import murmur
from murmur.errors import Closed

if TYPE_CHECKING:
    import pyarrow

    from murmur.swarm.kv import Key
    from murmur.swarm.result import Description, Row
    from murmur.swarm.search import Match
    from murmur.swarm.transaction import SwarmTransaction

Parameters = Sequence[Any] | Mapping[str, Any]
T = TypeVar("T")

FETCHED_ROWS = 256  # rows that cross from the thread to the loop at a time
INTERRUPT_S = 0.01  # between interrupts: one that comes before its statement is not heard


class _Thread:
    """One thread, which runs what it is given, in order."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="murmur-aio")
        self._current: object = None  # what runs now
        self._lock = threading.Lock()

    async def run(
        self,
        work: Callable[[], T],
        *,
        interrupt: Callable[[], None] | None = None,
        undo: Callable[[T], object] | None = None,
    ) -> T:
        """What the work returns. A task that is cancelled meanwhile interrupts it, or undoes it."""

        def job() -> T:
            with self._lock:
                self._current = job
            try:
                return work()
            finally:
                with self._lock:
                    self._current = None

        try:
            future = self._pool.submit(job)
        except RuntimeError:
            raise Closed("the handle is closed; open it again") from None
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            await self._end(future, job, interrupt)
            if undo is not None and not future.cancelled() and future.exception() is None:
                self._pool.submit(undo, future.result())
            raise

    async def _end(
        self, future: Future[Any], job: object, interrupt: Callable[[], None] | None
    ) -> None:
        while not future.done():
            with self._lock:  # so that it is not the next one that is interrupted
                if interrupt is not None and self._current is job:
                    interrupt()
            try:
                await asyncio.sleep(INTERRUPT_S)
            except asyncio.CancelledError:
                continue  # cancelled again: the end of the work is waited for all the same

    async def close(self, work: Callable[[], None]) -> None:
        """Run the last piece of work."""
        try:
            await self.run(work)
        except Closed:
            return
        finally:
            self._pool.shutdown(wait=False)


class _Handle(Protocol):
    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> Any: ...

    async def close(self) -> None: ...


_H = TypeVar("_H", bound=_Handle)


class Opening(Generic[_H]):
    """A handle that is being opened: `await` it, or `async with` it, which closes it at the end."""

    def __init__(self, opener: Callable[[], Awaitable[_H]]) -> None:
        self._opener = opener
        self._handle: _H | None = None

    def __await__(self) -> Generator[Any, None, _H]:
        return self._opener().__await__()

    async def __aenter__(self) -> _H:
        self._handle = await self._opener()
        return self._handle

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        assert self._handle is not None
        try:
            await self._handle.__aexit__(kind, error, trace)
        finally:
            await self._handle.close()


def open(path: str | os.PathLike[str], group: str = "default", **options: Any) -> Opening[Swarm]:  # noqa: A001 - murmur.aio.open
    """Open the replica in a directory, as `murmur.open` does."""

    async def opener() -> Swarm:
        thread = _Thread()
        opened = partial(murmur.open, path, group, **options)
        return Swarm(await thread.run(opened, undo=murmur.Swarm.close), thread)

    return Opening(opener)


def connect(target: str | os.PathLike[str] | Swarm, **options: Any) -> Opening[Connection]:
    """Connect to a directory or a swarm, as `murmur.connect` does; on a thread of its own."""

    async def opener() -> Connection:
        thread = _Thread()
        real = target.swarm if isinstance(target, Swarm) else target
        made = partial(murmur.connect, real, **options)
        return Connection(await thread.run(made, undo=murmur.Connection.close), thread)

    return Opening(opener)


class Swarm:
    """A murmur.Swarm whose calls are awaited."""

    def __init__(self, swarm: murmur.Swarm, thread: _Thread) -> None:
        self.swarm = swarm  # itself, for what needs no waiting
        self._thread = thread

    async def run(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call `function(swarm, ...)` on the thread: `await swarm.run(murmur.Swarm.stats)`."""
        return await self._thread.run(partial(function, self.swarm, *arguments, **options))

    # Keys and values ---------------------------------------------------

    async def put(self, key: Key, value: bytes, **options: Any) -> None:
        """Set the value of a key; `wait` and `timeout` as for `murmur.Swarm.put`."""
        await self.run(murmur.Swarm.put, key, value, **options)

    async def get(self, key: Key) -> bytes | None:
        """The value of a key, None if it has none."""
        return await self.run(murmur.Swarm.get, key)

    async def delete(self, key: Key, **options: Any) -> bool:
        """Delete a key; whether it had a value. `wait` and `timeout` as for `put`."""
        return await self.run(murmur.Swarm.delete, key, **options)

    async def put_json(self, key: Key, value: Any, **options: Any) -> None:
        """Set the value of a key to a JSON text; see `murmur.Swarm.put_json`."""
        await self.run(murmur.Swarm.put_json, key, value, **options)

    async def get_json(self, key: Key, default: Any = None) -> Any:
        """The JSON document under a key; `default` if there is none."""
        return await self.run(murmur.Swarm.get_json, key, default)

    async def put_msgpack(self, key: Key, value: Any, **options: Any) -> None:
        """Set the value of a key to a msgpack document; see `murmur.Swarm.put_msgpack`."""
        await self.run(murmur.Swarm.put_msgpack, key, value, **options)

    async def get_msgpack(self, key: Key, default: Any = None) -> Any:
        """The msgpack document under a key; `default` if there is none."""
        return await self.run(murmur.Swarm.get_msgpack, key, default)

    async def search(self, prefix: Key | None, words: str, **options: Any) -> list[Match]:
        """Keys that resemble some words; see `murmur.Swarm.search`."""
        return await self.run(murmur.Swarm.search, prefix, words, **options)

    async def scan(self, prefix: Key | None = None, **bounds: Any) -> AsyncIterator[Any]:
        """Keys and values in key order, as `murmur.Swarm.scan` gives them."""
        pairs = iter(await self.run(murmur.Swarm.scan, prefix, **bounds))
        async for pair in _each(self._thread, pairs):
            yield pair

    # SQL ---------------------------------------------------------------

    async def sql(
        self, text: str, parameters: Parameters | None = None, *, timeout: float | None = None
    ) -> murmur.Result:
        """Run one statement, which commits by itself; all its rows are read."""
        return await self._alone(
            text, lambda session: session.execute(text, parameters, timeout_s=timeout)
        )

    async def execute_many(
        self, text: str, rows: Iterable[Parameters], *, timeout: float | None = None
    ) -> murmur.Result:
        """Run a statement that writes once for each row of parameters, in one transaction."""
        return await self._alone(
            text, lambda session: session.execute_many(text, rows, timeout_s=timeout)
        )

    async def _alone(self, text: str, run: Callable[[Any], Any]) -> murmur.Result:
        from murmur.swarm.statements import run_alone

        session = await self.run(murmur.Swarm.new_session)
        work = partial(run_alone, session, text, run)
        return await self._thread.run(lambda: _read(work()), interrupt=session.interrupt)

    async def history(self, table: str) -> murmur.Result:
        """Every version of every row of a table."""
        return await self.run(murmur.Swarm.history, table)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Keys, values and SQL in one transaction: `async with swarm.transaction() as tx`."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        begin = partial(murmur.Swarm.transaction, self.swarm)
        transaction = await self._thread.run(begin, undo=lambda begun: begun.rollback())
        try:
            yield Transaction(transaction, self._thread)
        except BaseException as error:
            await self._thread.run(partial(transaction.__exit__, type(error)))
            raise
        await self._thread.run(partial(transaction.__exit__, None))

    def connect(self, **options: Any) -> Opening[Connection]:
        """A connection to this swarm, on a thread of its own."""
        return connect(self, **options)

    # Peers -------------------------------------------------------------

    async def ticket(self) -> str:
        """Text that lets another replica connect to this one, and join its group."""
        return await self.run(murmur.Swarm.ticket)

    async def connect_peer(self, ticket: str, **options: Any) -> murmur.PeerInfo:
        """Connect to the replica that gave the ticket."""
        return await self.run(murmur.Swarm.connect_peer, ticket, **options)

    async def wait_for(self, peers: Any = None, **options: Any) -> None:
        """Wait until the peers hold all that is written here."""
        await self.run(murmur.Swarm.wait_for, peers, **options)

    # Its end -----------------------------------------------------------

    async def close(self) -> None:
        """Let go of the directory. Closing twice is once."""
        await self._thread.close(self.swarm.close)

    async def __aenter__(self) -> Self:
        self.swarm.check_usable()
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self.close()


class Transaction:
    """A transaction of a swarm whose calls are awaited."""

    def __init__(self, transaction: SwarmTransaction, thread: _Thread) -> None:
        self.transaction = transaction
        self._thread = thread

    async def put(self, key: Key, value: bytes) -> None:
        """Set the value of a key."""
        await self._thread.run(partial(self.transaction.put, key, value))

    async def put_json(self, key: Key, value: Any) -> None:
        """Set the value of a key to a JSON text; see `murmur.Swarm.put_json`."""
        await self._thread.run(partial(self.transaction.put_json, key, value))

    async def get_json(self, key: Key, default: Any = None) -> Any:
        """The JSON document under a key, own writes included; `default` if there is none."""
        return await self._thread.run(partial(self.transaction.get_json, key, default))

    async def put_msgpack(self, key: Key, value: Any) -> None:
        """Set the value of a key to a msgpack document; see `murmur.Swarm.put_msgpack`."""
        await self._thread.run(partial(self.transaction.put_msgpack, key, value))

    async def get_msgpack(self, key: Key, default: Any = None) -> Any:
        """The msgpack document under a key, own writes included; `default` if there is none."""
        return await self._thread.run(partial(self.transaction.get_msgpack, key, default))

    async def get(self, key: Key) -> bytes | None:
        """The value of a key, own writes included."""
        return await self._thread.run(partial(self.transaction.get, key))

    async def delete(self, key: Key) -> bool:
        """Delete a key; whether it had a value."""
        return await self._thread.run(partial(self.transaction.delete, key))

    async def scan(self, prefix: Key | None = None, **bounds: Any) -> list[tuple[Key, bytes]]:
        """Keys and values in key order, own writes included."""
        return await self._thread.run(partial(self.transaction.scan, prefix, **bounds))

    async def sql(
        self, text: str, parameters: Parameters | None = None, *, timeout: float | None = None
    ) -> murmur.Result:
        """Run one statement in this transaction; a task that is cancelled interrupts it."""
        work = partial(self.transaction.sql, text, parameters, timeout=timeout)
        return await self._thread.run(lambda: _read(work()), interrupt=self.transaction.interrupt)

    async def execute_many(
        self, text: str, rows: Iterable[Parameters], *, timeout: float | None = None
    ) -> murmur.Result:
        """Run a statement that writes once for each row of parameters."""
        work = partial(self.transaction.execute_many, text, rows, timeout=timeout)
        return await self._thread.run(work, interrupt=self.transaction.interrupt)

    async def commit(self) -> None:
        """Make it visible, and end. Raises Conflict."""
        await self._thread.run(self.transaction.commit)

    async def rollback(self) -> None:
        """End; nothing of it remains."""
        await self._thread.run(self.transaction.rollback)


class Connection:
    """A murmur.Connection whose calls are awaited.

    `async with connection` commits, or rolls back on an exception, as `with` does there; where the
    connection is made in the `async with`, it is closed too.
    """

    def __init__(self, connection: murmur.Connection, thread: _Thread) -> None:
        self.connection = connection
        self._thread = thread

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._thread.run(work, interrupt=self.connection.interrupt)

    async def cursor(self) -> Cursor:
        """A new cursor."""
        return Cursor(await self._run(self.connection.cursor), self)

    async def execute(
        self, operation: str, parameters: Parameters = (), *, timeout: float | None = None
    ) -> Cursor:
        """Run a statement on a cursor of its own, and return that."""
        work = partial(self.connection.execute, operation, parameters, timeout=timeout)
        return Cursor(await self._run(work), self)

    async def executemany(self, operation: str, rows: Iterable[Parameters]) -> Cursor:
        """Run a statement for each row of parameters on a cursor of its own, and return that."""
        return Cursor(await self._run(partial(self.connection.executemany, operation, rows)), self)

    async def sql(
        self, text: str, parameters: Parameters = (), *, timeout: float | None = None
    ) -> murmur.Result:
        """Run a statement; its answer, all read."""
        work = partial(self.connection.sql, text, parameters, timeout=timeout)
        return await self._run(lambda: _read(work()))

    async def commit(self) -> None:
        """Make what the transaction has written visible and durable. Raises Conflict."""
        await self._thread.run(self.connection.commit)

    async def rollback(self) -> None:
        """Forget what the transaction has written."""
        await self._thread.run(self.connection.rollback)

    async def close(self) -> None:
        """Roll back what was not committed, and let go of the swarm. Closing twice is once."""
        await self._thread.close(self.connection.close)

    async def __aenter__(self) -> Self:
        self.connection.__enter__()
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self._thread.run(partial(self.connection.__exit__, kind))


class Cursor:
    """A murmur.Cursor whose calls are awaited; `async for` reads its rows."""

    def __init__(self, cursor: murmur.Cursor, connection: Connection) -> None:
        self.cursor = cursor
        self._connection = connection

    @property
    def description(self) -> Description | None:
        """The columns as PEP 249 describes them."""
        return self.cursor.description

    @property
    def rowcount(self) -> int:
        """How many rows were written; -1 for a query."""
        return self.cursor.rowcount

    @property
    def lastrowid(self) -> Any:
        """The last integer key that an INSERT wrote."""
        return self.cursor.lastrowid

    async def execute(
        self, operation: str, parameters: Parameters = (), *, timeout: float | None = None
    ) -> Self:
        """Run one statement; the cursor itself, for chaining."""
        work = partial(self.cursor.execute, operation, parameters, timeout=timeout)
        await self._connection._run(work)
        return self

    async def executemany(self, operation: str, rows: Iterable[Parameters]) -> Self:
        """Run a statement that writes once for each row of parameters, as one."""
        await self._connection._run(partial(self.cursor.executemany, operation, rows))
        return self

    async def fetchone(self) -> Row | None:
        """The next row, or None after the last."""
        return await self._connection._run(self.cursor.fetchone)

    async def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next rows, `arraysize` of them unless told otherwise."""
        return await self._connection._run(partial(self.cursor.fetchmany, size))

    async def fetchall(self) -> list[Row]:
        """The rows that are left."""
        return await self._connection._run(self.cursor.fetchall)

    async def fetch_arrow_table(self) -> pyarrow.Table:
        """The rows that are left, as a pyarrow.Table."""
        return await self._connection._run(self.cursor.fetch_arrow_table)

    async def close(self) -> None:
        """Let go of the result."""
        await self._connection._run(self.cursor.close)

    async def __aiter__(self) -> AsyncIterator[Row]:
        while rows := await self.fetchmany(FETCHED_ROWS):
            for row in rows:
                yield row

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self.close()


def _read(result: murmur.Result) -> murmur.Result:
    """The result with all its rows there, so that reading it waits for nothing."""
    len(result)
    return result


async def _each(thread: _Thread, items: Iterator[T]) -> AsyncIterator[T]:
    while piece := await thread.run(lambda: list(islice(items, FETCHED_ROWS))):
        for item in piece:
            yield item
