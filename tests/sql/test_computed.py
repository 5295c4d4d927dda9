"""Indexes of expressions, partial indexes and generated columns, on replicas that write apart."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

import pytest

from murmur.catalog import CatalogDerivation, conflicts
from murmur.errors import BindError, ConstraintViolation, DataError
from murmur.kvcore import ManualClock, MemoryStorage, Replica
from murmur.sql import Session
from murmur.sql.row_expressions import compile_row_expression
from tests.catalog.harness import apart, derived, exchange
from tests.sql.session_harness import fetch, open_session

SCHEMA = """
    CREATE TABLE item (
        id INT PRIMARY KEY, name TEXT, n INT, m INT,
        ratio INT GENERATED ALWAYS AS (100 / (n - m)) STORED
    );
    CREATE INDEX item_lower ON item (lower(name), n DESC);
    CREATE INDEX item_some ON item (n) WHERE m > 2 AND name IS NOT NULL;
    CREATE INDEX item_sum ON item ((n + m));
    CREATE INDEX item_ratio ON item (ratio DESC);
    CREATE UNIQUE INDEX item_one ON item (upper(name)) WHERE n = 7
"""
# Each is answered by an index, and by reading all rows once the indexes are gone.
QUERIES = [
    "SELECT id FROM item WHERE lower(name) = 'ab' ORDER BY id",
    "SELECT id FROM item WHERE lower(name) IN ('a', 'b') AND n > 1 ORDER BY lower(name), n DESC",
    "SELECT id FROM item WHERE n = 4 AND m > 2 AND name IS NOT NULL ORDER BY id",
    "SELECT id, n FROM item WHERE n BETWEEN 1 AND 5 AND name IS NOT NULL AND m > 2 ORDER BY n, id",
    "SELECT id FROM item WHERE n + m > 9 ORDER BY n + m, id",
    "SELECT id, ratio FROM item WHERE ratio > 20 ORDER BY ratio DESC, id",
    "SELECT id FROM item WHERE ratio IS NULL ORDER BY id",
    "SELECT id FROM item WHERE upper(name) = 'B' AND n = 7 ORDER BY id",
]


def session_of(replica: Replica) -> Session:
    return open_session(replica=replica, columnar=False)


def write_some(session: Session, rng: Random) -> None:
    for _ in range(6):
        key, n, m = rng.randrange(12), rng.randrange(9), rng.randrange(9)
        name = rng.choice([None, "a", "A", "b", "Ab", "aB"])
        text, values = rng.choice(
            [
                ("INSERT INTO item (id, name, n, m) VALUES (?, ?, ?, ?)", [key, name, n, m]),
                ("UPDATE item SET n = ? WHERE id = ?", [n, key]),
                ("UPDATE item SET m = ? WHERE id = ?", [m, key]),
                ("UPDATE item SET name = ? WHERE id = ?", [name, key]),
                ("DELETE FROM item WHERE id = ?", [key]),
            ]
        )
        with suppress(ConstraintViolation, DataError):  # a taken key or value, a division by zero
            session.execute(text, values)


@pytest.mark.parametrize("seed", range(12))
def test_indexes_answer_as_a_scan_does_after_writes_apart(seed: int) -> None:
    rng = Random(seed)
    replicas = apart(2)
    sessions = [session_of(replica) for replica in replicas]
    for statement in SCHEMA.split(";"):
        sessions[0].execute(statement)
    exchange(*replicas)
    for _ in range(4):
        for session in sessions:
            write_some(session, rng)
        exchange(*replicas)
    found = [[fetch(session, query) for query in QUERIES] for session in sessions]
    assert found[0] == found[1]
    for replica in replicas:
        with replica.snapshot() as snapshot:
            rebuilt = CatalogDerivation(compile_row_expression).rebuild(snapshot)
            assert derived(snapshot) == dict(rebuilt)
    for name in ("lower", "some", "sum", "ratio", "one"):
        sessions[0].execute(f"DROP INDEX item_{name}")
    assert [fetch(sessions[0], query) for query in QUERIES] == found[0]


def test_a_generated_column_follows_from_the_merged_row() -> None:
    left, right = apart(2)
    ours, theirs = session_of(left), session_of(right)
    ours.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, "
        "c INT GENERATED ALWAYS AS (12 / (a - b)) STORED)"
    )
    ours.execute("INSERT INTO t (id, a, b) VALUES (1, 9, 3), (2, 9, 3)")
    exchange(left, right)
    ours.execute("UPDATE t SET a = 7")
    theirs.execute("UPDATE t SET b = 1 WHERE id = 1")
    theirs.execute("UPDATE t SET b = 7 WHERE id = 2")
    exchange(left, right)
    for session in (ours, theirs):
        # Together the edits of row 2 divide by zero, which neither replica could refuse.
        assert fetch(session, "SELECT * FROM t ORDER BY id") == [(1, 7, 1, 2), (2, 7, 7, None)]


def test_a_replica_that_has_run_no_statement_keeps_the_indexes_of_others() -> None:
    left, right = apart(2)
    ours = session_of(left)
    ours.execute("CREATE TABLE t (id INT PRIMARY KEY, name TEXT)")
    ours.execute("CREATE UNIQUE INDEX one ON t (lower(name)) WHERE id < 10")
    ours.execute("INSERT INTO t VALUES (1, 'Ann'), (11, 'ANN')")
    exchange(left, right)
    assert list(right.check()) == []
    with left.snapshot() as ours_now, right.snapshot() as theirs_now:
        assert derived(ours_now) == derived(theirs_now)
    theirs = session_of(right)
    assert fetch(theirs, "SELECT id FROM t WHERE lower(name) = 'ann' AND id < 10") == [(1,)]


def test_definitions_that_replicas_edit_apart_merge() -> None:
    left, right = apart(2)
    ours, theirs = session_of(left), session_of(right)
    ours.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b SMALLINT)")
    ours.execute("INSERT INTO t (id) VALUES (1)")
    ours.execute("CREATE VIEW v AS SELECT id FROM t")
    exchange(left, right)
    ours.execute("ALTER TABLE t ALTER a SET DEFAULT 7, ALTER b TYPE INT")
    ours.execute("COMMENT ON TABLE t IS 'ours'")
    ours.execute("ALTER TABLE t ADD COLUMN c INT DEFAULT 1")
    theirs.execute("UPDATE t SET a = 1")
    theirs.execute("ALTER TABLE t ALTER a SET NOT NULL")
    theirs.execute("COMMENT ON COLUMN t.a IS 'theirs'")
    theirs.execute("COMMENT ON TABLE t IS 'theirs'")
    theirs.execute("COMMENT ON VIEW v IS 'seen'")
    ours.execute("INSERT INTO t (id, a) VALUES (2, NULL)")
    exchange(left, right)
    ours.execute("ALTER TABLE t ALTER c SET DEFAULT 2")
    exchange(left, right)
    theirs.execute("INSERT INTO t (id, b) VALUES (3, 70000)")
    exchange(left, right)
    for session in (ours, theirs):
        # The row 2 was written by who did not know of NOT NULL: it is read, and listed.
        assert fetch(session, "SELECT * FROM t ORDER BY id") == [
            (1, 1, None, 1),
            (2, None, None, 1),
            (3, 7, 70000, 2),
        ]
        assert fetch(session, "SELECT a + 1 FROM t WHERE a IS NULL") == [(None,)]
        assert fetch(session, "SELECT comment FROM murmur_tables") == [("theirs",)]
        assert fetch(session, "SELECT comment FROM murmur_columns WHERE name = 'a'") == [
            ("theirs",)
        ]
        assert fetch(session, "SELECT comment FROM murmur_views") == [("seen",)]
    with left.snapshot() as snapshot:
        found = [(each.kind, each.constraint) for each in conflicts(snapshot, snapshot.state)]
    assert found == [("not null", "a")]


def test_a_new_default_is_for_rows_to_come_however_they_come() -> None:
    session = open_session(columnar=False)
    session.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    session.execute("INSERT INTO t VALUES (0)")
    session.execute("ALTER TABLE t ADD COLUMN a INT DEFAULT 1")
    session.execute("ALTER TABLE t ALTER a SET DEFAULT 2")
    session.execute_many("INSERT INTO t (id) VALUES (?)", [(at,) for at in range(1, 301)])
    session.execute("INSERT INTO t (id) SELECT id + 1000 FROM t WHERE id = 1")
    found = fetch(session, "SELECT a, count(*) FROM t GROUP BY a ORDER BY a")
    assert found == [(1, 1), (2, 301)]


def test_two_indexes_of_one_name_that_compute_something_else_both_stay() -> None:
    left, right = apart(2)
    ours, theirs = session_of(left), session_of(right)
    ours.execute("CREATE TABLE t (id INT PRIMARY KEY, name TEXT)")
    exchange(left, right)
    ours.execute("CREATE INDEX i ON t (lower(name))")
    theirs.execute("CREATE INDEX i ON t (lower(name)) WHERE id > 3")
    exchange(left, right)
    shown = "SELECT columns, predicate FROM murmur_indexes ORDER BY name"
    both = [("lower(name)", None), ("lower(name)", "id > 3")]
    assert fetch(ours, shown) == fetch(theirs, shown) == both


def test_an_expression_that_this_release_cannot_read_puts_its_index_to_sleep() -> None:
    (left,) = apart(1)
    ours = session_of(left)
    ours.execute("CREATE TABLE t (id INT PRIMARY KEY, name TEXT)")
    ours.execute("CREATE INDEX i ON t (lower(name))")
    ours.execute("INSERT INTO t VALUES (1, 'Ann')")

    def unknown(text: str, columns: object, result: object) -> Any:
        raise BindError("there is no function lower()")

    other = Replica.open(
        MemoryStorage(),
        clock=ManualClock(),
        random_bytes=Random(9).randbytes,
        derivation=CatalogDerivation(unknown),
        durability="none",
    )
    exchange(left, other)
    theirs = session_of(other)
    assert fetch(theirs, "SELECT id FROM t WHERE lower(name) = 'ann'") == [(1,)]
    assert fetch(theirs, "SELECT name FROM murmur_indexes") == []
