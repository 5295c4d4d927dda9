"""Statements that are ended early: by a deadline, from another thread, on both engines."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

import murmur
from murmur.errors import Interrupted, InvalidInput, Timeout
from murmur.sql.cancellation import FEW, Halt

MANY = 3000
FOREVER = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000000)
    SELECT count(*) FROM n
"""


@pytest.fixture
def con(tmp_path: object) -> Iterator[murmur.Connection]:
    with murmur.open(f"{tmp_path}/a") as swarm:
        con = murmur.connect(swarm, autocommit=True)
        con.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT)")
        con.executemany("INSERT INTO t VALUES (?, ?)", [(i, i) for i in range(MANY)])
        yield con
        con.close()


def test_a_halt_asks_before_the_next_piece_and_reads_no_further() -> None:
    now = [0.0]
    halt = Halt(1.0, now=lambda: now[0])
    read = []

    def rows() -> Iterator[int]:
        for i in range(100_000):
            read.append(i)
            yield i

    guarded = halt.guard(rows())
    assert [next(guarded) for _ in range(3)] == [0, 1, 2]
    assert len(read) == FEW
    now[0] = 1.0
    with pytest.raises(Timeout, match="1 s"):
        list(guarded)
    assert len(read) < 100
    halt.interrupt()
    with pytest.raises(Interrupted):
        halt.check()


def test_without_a_deadline_every_row_comes_through() -> None:
    assert list(Halt().guard(range(10_000))) == list(range(10_000))
    assert list(Halt(60).guard(iter(()))) == []


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_above_zero(con: murmur.Connection, timeout: float) -> None:
    with pytest.raises(InvalidInput, match="timeout"):
        con.execute("SELECT 1", timeout=timeout)


def test_the_columnar_engine_stops_at_the_deadline(con: murmur.Connection) -> None:
    with pytest.raises(Timeout):
        con.execute(FOREVER, timeout=0.2)
    assert con.execute("SELECT count(*) FROM t").fetchone() == (MANY,)


def test_a_write_past_its_deadline_leaves_nothing(con: murmur.Connection) -> None:
    def rows() -> Iterator[tuple[int, int]]:
        for i in range(MANY, 10**9):
            if i % 1000 == 0:
                time.sleep(0.01)  # or the transaction is full before its time is up
            yield i, i

    with pytest.raises(Timeout):
        con.swarm.execute_many("INSERT INTO t VALUES (?, ?)", rows(), timeout=0.3)
    assert con.execute("SELECT count(*) FROM t").fetchone() == (MANY,)
    with con.swarm.transaction() as tx:
        tx.sql("DELETE FROM t WHERE id = 0")
        with pytest.raises(Timeout):
            tx.sql("UPDATE t SET a = a + 1", timeout=1e-6)
        assert tx.sql("SELECT sum(a) FROM t").fetchone() == (sum(range(MANY)),)
    assert con.execute("SELECT count(*) FROM t").fetchone() == (MANY - 1,)


def test_interrupting_from_another_thread(con: murmur.Connection) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            con.execute(FOREVER)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():  # an interrupt before the statement has begun is nobody's
        con.interrupt()
        thread.join(0.02)
    (failure,) = failures
    assert isinstance(failure, Interrupted)
    assert con.execute("SELECT max(id) FROM t").fetchone() == (MANY - 1,)


def test_rows_that_are_being_read_end_too(con: murmur.Connection) -> None:
    cursor = con.execute("SELECT id FROM t WHERE a >= 0")
    assert cursor.fetchone() == (0,)
    con.interrupt()
    with pytest.raises(Interrupted):
        cursor.fetchall()
    assert len(con.execute("SELECT id FROM t").fetchall()) == MANY


def test_interrupting_nothing_is_nothing(con: murmur.Connection) -> None:
    con.interrupt()
    assert con.execute("SELECT 1").fetchone() == (1,)
    con.close()
    con.interrupt()
