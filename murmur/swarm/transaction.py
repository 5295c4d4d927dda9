"""Several writes as one: batches of keys and values, and transactions over keys and SQL.

    with swarm.batch() as b:            blind: whatever is there is overwritten
        b.put("a", b"1")
        b.delete("b")

    with swarm.transaction() as tx:     reads a snapshot, commits or raises Conflict
        if tx.get("a") is None:
            tx.put("a", b"1")
        tx.sql("UPDATE note SET likes = likes + 1 WHERE id = ?", [7])

Either becomes visible all at once, here and on every replica (law L2). An exception inside the
`with` leaves nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from murmur.errors import Closed, InvalidInput
from murmur.kvcore import DELETE, PUT, Operation, Replica, check_timeout
from murmur.swarm import bulk, kv
from murmur.swarm.documents import Documents, DocumentWriter
from murmur.swarm.kv import Key
from murmur.swarm.result import Result, result_of
from murmur.swarm.search import THRESHOLD, Match, search

if TYPE_CHECKING:
    from murmur.sql import Session

Parameters = Sequence[Any] | Mapping[str, Any] | None

WAIT_TIMEOUT_S = 30.0


def check_wait(count: int, timeout: float) -> None:
    """For how many peers to wait, and how long: seen before anything is written."""
    if type(count) is not int or count < 0:
        raise InvalidInput(f"wait: {count!r} is not a number of peers")
    check_timeout(timeout)


class Swarm(Protocol):
    """What is written to."""

    @property
    def replica(self) -> Replica:
        """Where keys and values are kept."""
        ...

    def new_session(self) -> Session:
        """Where statements run."""
        ...

    def check_usable(self) -> None:
        """Raise Closed or Forked if nothing can be written any more."""
        ...

    def wait_durable(self, count: int, *, timeout: float) -> None:
        """Block until so many peers hold all that is written here."""
        ...


class Batch(DocumentWriter):
    """Puts and deletes on their way; see `Swarm.batch`."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._operations: dict[bytes, Operation] | None = {}

    def put(self, key: Key, value: bytes) -> None:
        """Set the value of a key when the batch is written."""
        encoded = kv.encode_key(key)
        self._open()[encoded] = Operation(PUT, encoded, kv.check_value(value))

    def delete(self, key: Key) -> None:
        """Delete a key when the batch is written."""
        encoded = kv.encode_key(key)
        self._open()[encoded] = Operation(DELETE, encoded, b"")

    def __enter__(self) -> Batch:
        self._open()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        operations, self._operations = self._open(), None
        if kind is None and operations:
            self._swarm.check_usable()
            self._swarm.replica.write([operations[key] for key in sorted(operations)])

    def _open(self) -> dict[bytes, Operation]:
        if self._operations is None:
            raise Closed("the batch is written; begin another one")
        return self._operations


class SwarmTransaction(Documents):
    """Reads of one snapshot, and writes that commit together; see `Swarm.transaction`."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._session = swarm.new_session()
        self._session.begin()

    def put(self, key: Key, value: bytes) -> None:
        """Set the value of a key."""
        self._open().put(kv.encode_key(key), kv.check_value(value))

    def get(self, key: Key) -> bytes | None:
        """The value of a key, own writes included."""
        return kv.get(self._open(), key)

    def delete(self, key: Key) -> bool:
        """Delete a key; whether it had a value."""
        transaction, encoded = self._open(), kv.encode_key(key)
        if transaction.get(encoded) is None:
            return False
        transaction.delete(encoded)
        return True

    def scan(
        self,
        prefix: Key | None = None,
        *,
        start: Key | None = None,
        stop: Key | None = None,
        reverse: bool = False,
    ) -> list[tuple[Key, bytes]]:
        """Keys and values in key order, own writes included; as `Swarm.scan`."""
        return list(kv.pairs(self._open(), kv.key_range(prefix, start, stop), reverse=reverse))

    def search(
        self,
        prefix: Key | None,
        words: str,
        *,
        limit: int = 10,
        threshold: float = THRESHOLD,
    ) -> list[Match]:
        """Keys with a prefix (None: all) that resemble some words, or whose values do, best first.

        Every key of the prefix is read; see swarm/search.py for what a score is.
        """
        return search(self.scan(prefix), words, limit=limit, threshold=threshold)

    def sql(
        self, text: str, parameters: Parameters = None, *, timeout: float | None = None
    ) -> Result:
        """Run one statement in this transaction. Its result outlives the transaction.

        Raises Timeout when it takes longer than `timeout` seconds; the transaction goes on.
        """
        self._open()
        return result_of(self._session.execute(text, parameters, timeout_s=timeout))

    def execute_many(
        self,
        text: str,
        rows: Iterable[Sequence[Any] | Mapping[str, Any]],
        *,
        timeout: float | None = None,
    ) -> Result:
        """Run a statement that writes once for each row of parameters."""
        self._open()
        return result_of(self._session.execute_many(text, rows, timeout_s=timeout))

    def insert_arrow(self, table: str, data: Any, *, timeout: float | None = None) -> Result:
        """Insert the rows of Arrow data into a table, as `Swarm.insert_arrow`."""
        self._open()
        outcome = bulk.insert_arrow(self._session, table, data, atomic=True, timeout=timeout)
        return result_of(outcome)

    def interrupt(self) -> None:
        """End the statement that runs, from any thread; the transaction goes on."""
        self._session.interrupt()

    def commit(self, *, wait: int = 0, timeout: float = WAIT_TIMEOUT_S) -> None:
        """Make it visible, and end. Raises Conflict.

        With `wait`, return when so many peers durably hold it. Raises Timeout if fewer do by then;
        it is committed all the same.
        """
        self._open()
        check_wait(wait, timeout)
        try:
            self._session.commit()
        finally:
            self._session.close()
        if wait:
            self._swarm.wait_durable(wait, timeout=timeout)

    def rollback(self) -> None:
        """End; nothing of it remains. Ending twice is once."""
        self._session.close()

    def __enter__(self) -> SwarmTransaction:
        self._open()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._session.in_transaction:
            self.commit()
        else:
            self.rollback()

    def _open(self) -> Any:
        self._swarm.check_usable()
        transaction = self._session.transaction
        if transaction is None:
            raise Closed("the transaction has ended; begin another one")
        return transaction
