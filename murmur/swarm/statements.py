"""Statements of a swarm: each call runs in a session of its own, and commits by itself.

    swarm.sql("SELECT body FROM note WHERE id = ?", [7])

What reads or inserts one row, and was run before, goes without a session (points.py). SQL, and the
engine for wide queries, are loaded when they are first used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from murmur.errors import BindError, InvalidInput
from murmur.kvcore import Replica
from murmur.swarm import bulk
from murmur.swarm.bulk import Allowed
from murmur.swarm.result import Result, from_arrow, result_of
from murmur.swarm.transaction import Parameters

if TYPE_CHECKING:
    from murmur.sql import Outcome, Session


class Statements:
    """What a swarm does with SQL."""

    replica: Replica
    check_usable: Callable[[], None]
    _answer_point: Callable[[str, Parameters], Result | None] | None

    @abstractmethod
    def new_session(self, *, files: Allowed = None) -> Session:
        """A session of the SQL floor: a transaction of one's own. Its owner closes it."""

    def sql(
        self,
        text: str,
        parameters: Parameters = None,
        *,
        timeout: float | None = None,
        files: Allowed = None,
    ) -> Result:
        """Run one statement, which commits by itself.

        `?` and `$1` take a sequence of parameters, `:name` a mapping. Raises Timeout when it takes
        longer than `timeout` seconds, reading its rows included. `files` is what COPY may open:
        what lies below a directory, or, with True, any file.
        """
        if timeout is None and self._answer_point is not None:
            answer = self._answer_point(text, parameters)
            if answer is not None:
                return answer
        return run_alone(
            self.new_session(files=files),
            text,
            lambda session: session.execute(text, parameters, timeout_s=timeout),
        )

    def execute_many(
        self,
        text: str,
        rows: Iterable[Sequence[Any] | Mapping[str, Any]],
        *,
        timeout: float | None = None,
    ) -> Result:
        """Run a statement that writes once for each row of parameters, in one transaction."""
        return run_alone(
            self.new_session(),
            text,
            lambda session: session.execute_many(text, rows, timeout_s=timeout),
        )

    def executescript(self, text: str, *, files: Allowed = None) -> int:
        """Run a script, statements with semicolons between them; how many there were.

        Each commits by itself, unless it stands between BEGIN and COMMIT; one that fails ends the
        script, and what was committed before it stays. Rows are not kept.
        """
        session = self.new_session(files=files)
        try:
            count = session.execute_script(text)
        except BaseException:
            session.close()
            raise
        _end(session, text)
        return count

    def insert_arrow(
        self, table: str, data: Any, *, atomic: bool = True, timeout: float | None = None
    ) -> Result:
        """Insert the rows of Arrow data into a table: columns by name, values as they are.

        `data` is a pyarrow Table, RecordBatch or reader, or whatever has `__arrow_c_stream__`:
        frames of Polars and pandas, relations of DuckDB. Columns that it lacks take their defaults.
        One transaction inserts all of them, and holds 64 MiB; with atomic=False there are as many
        as it takes, in the order of the rows, and an error leaves those before it.
        """
        session = self.new_session()
        try:
            return result_of(
                bulk.insert_arrow(session, table, data, atomic=atomic, timeout=timeout)
            )
        finally:
            session.close()

    def history(self, table: str) -> Result:
        """Every version of every row of a table, dropped ones too; see olap/history.py.

        The table's columns and `_hlc`, `_time`, `_replica`, `_seq`, `_op`, in the order in which
        they came to this replica.
        """
        from murmur.olap.history import history, table_named

        self.check_usable()
        with self.replica.snapshot() as snapshot:
            found = table_named(snapshot.state, table)  # type: ignore[arg-type]
            if found is None:
                raise BindError(f'there is no table "{table}", and there was none')
            return from_arrow(history(self.replica.log, snapshot.position, found, snapshot.get))


def run_alone(session: Session, text: str, run: Callable[[Session], Outcome]) -> Result:
    """The answer of one statement, in a session that it has for itself and that ends with it."""
    try:
        return result_of(run(session))
    finally:
        _end(session, text)


def _end(session: Session, text: str) -> None:
    open_one = session.in_transaction
    session.close()
    if open_one:
        raise InvalidInput(
            f"{text.strip()[:20]} would not outlive the call: use `with swarm.transaction() as tx`,"
            " or a connection of murmur.connect"
        )
