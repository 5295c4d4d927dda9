"""The transaction that a session stands in: opened, ended, and gone back in.

session.begin()                 one snapshot for all that follows, and its own writes
session.savepoint("a")          a point to go back to; names may be given again
session.rollback_to("a")
session.commit()                Conflict if another was first

self._whole(work)               what a statement writes, all of it or nothing: in the open
                                transaction behind a savepoint, else in one of its own
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from murmur.catalog.catalog import Catalog
from murmur.errors import Closed, InvalidInput
from murmur.kvcore.replica import Replica
from murmur.kvcore.transaction import Transaction
from murmur.sql.transactions import TransactionStatement

_T = TypeVar("_T")


class _Savepoint(NamedTuple):
    """A named point of a transaction, and the catalog as its statements saw it there."""

    name: str
    point: int
    catalog: Catalog


class Transacting:
    """Who may have a transaction open; a session is one."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._transaction: Transaction | None = None
        self._catalog: Catalog | None = None  # of the open transaction
        self._read_only = False  # the open transaction
        self._read_only_default = False  # those that do not say it, and single statements
        self._savepoints: list[_Savepoint] = []  # of the open transaction, oldest first
        self._closed = False

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
        return self._catalog or catalog_of(self._replica)

    def begin(self, *, read_only: bool | None = None) -> None:
        """Open a transaction: one snapshot for all that follows, and its own writes.

        Without `read_only`, what the session was set to counts.
        """
        self._check_open()
        if self._transaction is not None:
            raise InvalidInput("a transaction is open already")
        self._transaction = self._replica.begin()
        self._read_only = self._read_only_default if read_only is None else read_only
        self._catalog = catalog_of(self._transaction.snapshot)

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
            result = work(transaction, catalog_of(transaction.snapshot))
            transaction.commit()
        except BaseException:
            transaction.rollback()
            raise
        return result


def catalog_of(view: Any) -> Catalog:
    """The definitions that go with a view."""
    catalog = view.state
    assert isinstance(catalog, Catalog)
    return catalog
