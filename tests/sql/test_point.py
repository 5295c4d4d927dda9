"""Point queries answer what the plan's own reader answers, errors too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import murmur
from murmur import Swarm
from murmur.kvcore import MemoryStorage
from murmur.sql.point_answer import point_answer

QUERIES = (
    "SELECT * FROM t WHERE id = ? AND word = ?",
    "SELECT b, a, b FROM t WHERE word = $2 AND id = $1",
    "SELECT id FROM t WHERE id = ? AND word = ? LIMIT 1",
    "SELECT upper(word) FROM t WHERE id = ? AND word = ?",
    "SELECT a FROM t WHERE id = ? AND word = ? AND a > 1",
    "SELECT a FROM t WHERE id = 1 AND word = 'a' AND ? = ?",
)


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    with Swarm(MemoryStorage()) as swarm:
        swarm.sql(
            "CREATE TABLE t (id INT, word TEXT, a DECIMAL(5, 1), b DATE, PRIMARY KEY (id, word))"
        )
        for i in range(3):
            for word in ("a", "b", ""):
                row = [i, word, i * 1.5 if word else None, "2024-02-29" if i else None]
                swarm.sql("INSERT INTO t VALUES (?, ?, ?::decimal(5, 1), ?::date)", row)
        yield swarm


def long_way(swarm: Swarm, text: str, parameters: Any) -> Any:
    session = swarm.new_session()
    try:
        statement = session._shared.statements.get(text)
        with swarm.replica.snapshot() as snapshot:
            prepared = statement.prepared(snapshot.state, session._system)
            context = session._context(prepared, parameters)
            assert prepared.read is not None
            return list(prepared.read(snapshot, context))
    except murmur.MurmurError as error:
        return type(error), str(error)
    finally:
        session.close()


def short_way(swarm: Swarm, text: str, parameters: Any) -> Any:
    try:
        return swarm.sql(text, parameters).fetchall()
    except murmur.MurmurError as error:
        return type(error), str(error)


ids = st.one_of(st.integers(-1, 3), st.integers(), st.none(), st.booleans(), st.text(max_size=1))
words = st.one_of(st.sampled_from(["a", "b", "", "\ud800", "\0"]), st.none(), st.integers(0, 1))


@given(st.sampled_from(QUERIES), st.one_of(st.tuples(ids, words), st.tuples(ids), st.none()))
def test_both_ways_answer_alike(swarm: Swarm, text: str, parameters: Any) -> None:
    assert short_way(swarm, text, parameters) == long_way(swarm, text, parameters)
    assert short_way(swarm, text, parameters) == long_way(swarm, text, parameters)


def test_which_queries_are_point_queries(swarm: Swarm) -> None:
    shared = swarm.new_session()._shared
    for text, point in zip(QUERIES, (True, True, False, False, False, False), strict=True):
        parameters = [1, 1] if text == QUERIES[-1] else [1, "a"]
        swarm.sql(text, parameters)
        answer = point_answer(swarm.replica, shared.statements.get(text), parameters)
        assert (answer is not None) is point, text


def test_a_transaction_sees_its_own_row(swarm: Swarm) -> None:
    query = QUERIES[2]
    with swarm.transaction() as tx:
        assert tx.sql(query, [7, "x"]).fetchall() == []
        tx.sql("INSERT INTO t (id, word) VALUES (7, 'x')")
        assert tx.sql(query, [7, "x"]).fetchall() == [(7,)]
        assert swarm.sql(query, [7, "x"]).fetchall() == []
        tx.rollback()


def test_a_changed_table_is_read_as_it_is_now() -> None:
    with Swarm(MemoryStorage()) as swarm:
        swarm.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT)")
        swarm.sql("INSERT INTO t VALUES (1, 2)")
        query = "SELECT * FROM t WHERE id = 1"
        assert swarm.sql(query).fetchall() == [(1, 2)]
        swarm.sql("ALTER TABLE t ADD COLUMN b INT DEFAULT 3")
        result = swarm.sql(query)
        assert (result.columns, result.fetchall()) == (("id", "a", "b"), [(1, 2, 3)])
        swarm.sql("DROP TABLE t")
        with pytest.raises(murmur.BindError):
            swarm.sql(query)
    with pytest.raises(murmur.Closed):
        swarm.sql(query)


def test_readers_beside_a_writer_see_whole_rows() -> None:
    with Swarm(MemoryStorage()) as swarm:
        swarm.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)")
        swarm.sql("INSERT INTO t VALUES (1, 0, 0)")
        failures: list[object] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                ((a, b),) = swarm.sql("SELECT a, b FROM t WHERE id = ?", [1]).fetchall()
                if a != b:
                    failures.append((a, b))

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for i in range(200):
            swarm.sql("UPDATE t SET a = ?, b = ? WHERE id = 1", [i, i])
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
