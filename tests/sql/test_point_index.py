"""Point queries by an index answer what the plan's own reader answers, errors too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import murmur
from murmur import Swarm
from murmur.kvcore import MemoryStorage
from murmur.sql.point_answer import point_answer
from murmur.sql.point_index import FEW
from tests.sql.test_point import long_way, short_way

QUERIES = (
    "SELECT id, word FROM t WHERE word = $1",
    "SELECT a, id FROM t WHERE a = $1 ORDER BY id DESC",
    "SELECT id FROM t WHERE a = $1 AND b = $2",
    "SELECT b FROM t WHERE b = $2",
    "SELECT id, a FROM t WHERE word = 'w1'",
    "SELECT id FROM t WHERE word = $1 AND b > 1",
    "SELECT id FROM t WHERE word IN ($1, 'w2')",
    "SELECT id FROM t WHERE word > $1",
)


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    with Swarm(MemoryStorage()) as swarm:
        swarm.sql("CREATE TABLE t (id INT PRIMARY KEY, word TEXT, a SMALLINT, b BIGINT UNIQUE)")
        swarm.sql("CREATE INDEX t_word ON t (word DESC)")
        swarm.sql("CREATE INDEX t_a ON t (a, b)")
        rows = [(n, f"w{n % 5}", n % 3, n * n) for n in range(15)]
        rows += [(20, None, None, None), (21, "", 30_000, None), (22, "w\U0001f600", -1, -1)]
        rows += [(n, "many", 7, n) for n in range(1000, 1000 + FEW + 1)]
        swarm.execute_many("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
        yield swarm


words = st.sampled_from(["w0", "w4", "", "many", "w\U0001f600", "none", "\ud800", None, 5])
numbers = st.sampled_from([0, 1, 2, 7, -1, 100_000, 2**70, None, True, "1", 4, 9])


@settings(max_examples=60)
@given(st.sampled_from(QUERIES), words | numbers, numbers)
def test_both_ways_answer_alike(swarm: Swarm, text: str, first: Any, second: Any) -> None:
    parameters = [first, second][: 2 if "$2" in text else 1 if "$1" in text else 0]
    expected = long_way(swarm, text, parameters)
    for _ in range(2):  # the second time it is known
        assert short_way(swarm, text, parameters) == expected
    with swarm.transaction() as tx:
        try:
            found: Any = tx.sql(text, parameters).fetchall()
        except murmur.MurmurError as error:
            found = type(error), str(error)
        assert found == expected
        tx.rollback()


def test_which_queries_are_answered_so(swarm: Swarm) -> None:
    shared = swarm.new_session()._shared
    asked: list[tuple[str, list[Any], bool]] = [
        (QUERIES[0], ["w1"], True),
        (QUERIES[0], ["many"], False),
        (QUERIES[0], [None], True),
        (QUERIES[2], [1, 1], True),
        (QUERIES[4], [], True),
        (QUERIES[5], ["w1"], False),
        (QUERIES[6], ["w1"], False),
        (QUERIES[7], ["w1"], False),
    ]
    for text, parameters, short in asked:
        swarm.sql(text, parameters).fetchall()
        answer = point_answer(swarm.replica, shared.statements.get(text), parameters)
        assert (answer is not None) is short, text


def test_a_transaction_sees_its_own_rows(swarm: Swarm) -> None:
    query = QUERIES[0]
    swarm.sql(query, ["w1"]).fetchall()
    with swarm.transaction() as tx:
        before = tx.sql(query, ["w1"]).fetchall()
        tx.execute_many("INSERT INTO t (id, word) VALUES (?, ?)", [(5000, "w1"), (5001, "w9")])
        tx.sql("DELETE FROM t WHERE id = ?", [before[0][0]])
        assert tx.sql(query, ["w1"]).fetchall() == [*before[1:], (5000, "w1")]
        assert swarm.sql(query, ["w1"]).fetchall() == before
        tx.rollback()


def test_an_index_that_goes_is_not_asked_any_more() -> None:
    with Swarm(MemoryStorage()) as swarm:
        swarm.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT)")
        swarm.sql("CREATE INDEX t_a ON t (a)")
        swarm.sql("INSERT INTO t VALUES (1, 2)")
        query = "SELECT id FROM t WHERE a = ?"
        assert [swarm.sql(query, [2]).fetchall() for _ in range(2)] == [[(1,)]] * 2
        swarm.sql("DROP INDEX t_a")
        assert swarm.sql(query, [2]).fetchall() == [(1,)]
        swarm.sql("ALTER TABLE t RENAME COLUMN a TO b")
        with pytest.raises(murmur.BindError):
            swarm.sql(query, [2])
