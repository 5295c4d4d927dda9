"""Limits: what is too long, too deep, too many or too large is an error, and the store goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import murmur
from murmur import InvalidInput, MurmurError, OperationalError, ParseError, Swarm
from murmur.olap import duck


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a", durability="none") as swarm:
        swarm.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)")
        swarm.execute_many("INSERT INTO t VALUES (?, ?)", [(n, f"s{n}") for n in range(100)])
        yield swarm


def works(swarm: Swarm) -> bool:
    (count,) = swarm.sql("SELECT count(*) FROM t").fetchone() or (None,)
    return swarm.sql("SELECT s FROM t WHERE id = 7").fetchall() == [("s7",)] and count == 100


@pytest.mark.parametrize(
    ("text", "parameters", "kind", "message"),
    [
        ("SELECT '" + "x" * (2 << 20) + "'", [], ParseError, "characters, more than"),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, [], ParseError, "nested"),
        ("SELECT " + "NOT " * 3000 + "TRUE", [], ParseError, "nested"),
        ("SELECT " + "?," * 32_766 + "?", [1] * 32_767, ParseError, "more than 32766 parameters"),
        ("SELECT ?", [1, 2], InvalidInput, "1 parameter, 2 values"),
        ("INSERT INTO t VALUES (?, ?)", [200, "x" * (65 << 20)], InvalidInput, "larger than"),
    ],
    ids=["length", "parentheses", "operators", "parameters", "values", "transaction"],
)
def test_what_is_too_much_is_refused(
    swarm: Swarm, text: str, parameters: Any, kind: type[MurmurError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        swarm.sql(text, parameters)
    assert works(swarm)


def test_a_query_without_memory_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duck, "_SETTINGS", ("SET memory_limit = '40MB'", *duck._SETTINGS))
    with murmur.open(tmp_path / "a", durability="none") as swarm:
        swarm.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)")
        swarm.execute_many("INSERT INTO t VALUES (?, ?)", [(n, f"s{n}") for n in range(100)])
        large = (
            "WITH RECURSIVE n(i, s) AS (SELECT 1, repeat('x', 1000000) UNION ALL "
            "SELECT i + 1, s || 'y' FROM n WHERE i < 100) "
            "SELECT string_agg(s, '') FROM n"
        )
        for _ in range(2):
            with pytest.raises(OperationalError, match=r"(?i)memory"):
                swarm.sql(large)
        assert works(swarm)
        assert swarm.sql("SELECT s, count(*) FROM t GROUP BY s HAVING s = 's1'").fetchall() == [
            ("s1", 1)
        ]


def test_rows_that_are_being_read_hold_no_lock(swarm: Swarm) -> None:
    readers = [murmur.connect(swarm, autocommit=True) for _ in range(2)]
    cursors = [reader.execute("SELECT id FROM t WHERE id >= 0") for reader in readers]
    first = [cursor.fetchone() for cursor in cursors]
    with swarm.transaction() as tx:  # a writer, while both are in the middle
        tx.sql("DELETE FROM t WHERE id >= 50")
        tx.execute_many("INSERT INTO t VALUES (?, ?)", [(n, "new") for n in range(1000, 1200)])
    swarm.sql("DROP TABLE t")
    assert [[row, *cursor.fetchall()] for row, cursor in zip(first, cursors, strict=True)] == [
        [(n,) for n in range(100)]
    ] * 2
    for reader in readers:
        reader.close()


def test_many_readers_beside_one_writer_see_whole_transactions(swarm: Swarm) -> None:
    """Each load adds ten rows, and every read sees a multiple of ten, on either engine."""
    failures: list[object] = []
    stop = threading.Event()

    def read(text: str) -> None:
        while not stop.is_set():
            try:
                (count,) = swarm.sql(text).fetchone() or (None,)
                if count is None or count % 10:
                    failures.append((text, count))
            except MurmurError as error:
                failures.append(error)

    texts = [
        "SELECT count(*) FROM t WHERE id >= 0",
        "SELECT count(s) FROM t WHERE s <> ''",
        "SELECT count(*) FROM (SELECT s FROM t GROUP BY s, id) AS g",
        "SELECT count(*) FROM t AS a JOIN t AS b ON a.id = b.id",
    ]
    threads = [threading.Thread(target=read, args=[text]) for text in texts]
    for thread in threads:
        thread.start()
    for start in range(1000, 1400, 10):
        rows = [(n, f"s{n}") for n in range(start, start + 10)]
        swarm.execute_many("INSERT INTO t VALUES (?, ?)", rows)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert swarm.sql("SELECT count(*) FROM t").fetchall() == [(500,)]
