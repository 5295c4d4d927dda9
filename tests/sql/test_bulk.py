"""Many rows at once are what the same rows one by one would be: states, errors, conflicts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from murmur.catalog import CatalogDerivation
from murmur.errors import Conflict, ConstraintViolation, InvalidInput, MurmurError
from murmur.kvcore import ManualClock, MemoryStorage, Replica
from murmur.sql import Session
from tests.sql.session_harness import fetch, open_session

TABLES = """
CREATE TABLE plain (id INTEGER PRIMARY KEY, a TEXT, b SMALLINT, c DOUBLE PRECISION)
CREATE TABLE hidden (a VARCHAR(3), b BLOB, c BOOLEAN DEFAULT TRUE)
CREATE TABLE parent (k TEXT, n INTEGER, u BIGINT UNIQUE, PRIMARY KEY (n, k))
CREATE TABLE child (id UUID PRIMARY KEY DEFAULT uuid7(), u BIGINT REFERENCES parent (u), d DATE)
CREATE TABLE tree (id INTEGER PRIMARY KEY, up BIGINT REFERENCES tree, hits COUNTER, w DECIMAL(5,2) CHECK (w < 100))
CREATE TABLE wide (x REAL, y TIMESTAMP NOT NULL, z JSON, t TIMESTAMPTZ, i INTERVAL, PRIMARY KEY (x, y), UNIQUE (i, t))
CREATE TABLE made (id INTEGER PRIMARY KEY, a INTEGER, b BIGINT GENERATED ALWAYS AS (a * 2) STORED)
CREATE TABLE part (id INTEGER PRIMARY KEY, a TEXT, n INTEGER)
CREATE TABLE three (id INTEGER PRIMARY KEY, a TEXT)
CREATE INDEX made_b ON made (b)
CREATE INDEX part_n ON part (n) WHERE n > 0
CREATE UNIQUE INDEX part_a ON part (lower(a))
CREATE INDEX three_a ON three USING trigram (a)
CREATE INDEX plain_a ON plain (a DESC, c)
CREATE UNIQUE INDEX plain_b ON plain (b)
CREATE INDEX child_d ON child (d)
"""  # noqa: E501


def session_of(seed: int = 1, text: str = "plain hidden child") -> Session:
    session = open_session(columnar=False, seed=seed)
    wanted = {word for word in text.replace("child", "parent child").split() if word.isalpha()}
    for statement in TABLES.strip().splitlines():
        if wanted & set(statement.split()):
            session.execute(statement)
    return session


def state(session: Session) -> bytes:
    return session._replica.state_hash()


def keys_of(session: Session) -> list[tuple[bytes, bytes]]:
    """All that is in the tree, derived entries included, without who wrote it when."""
    with session._replica.snapshot() as snapshot:
        return list(snapshot.scan(b"\x02\x02", b"\x80"))


def insert_both(
    text: str, rows: list[Any], before: Sequence[tuple[str, list[Any]]] = (), seed: int = 1
) -> tuple[Any, Any]:
    """(state, error) of the rows at once, and of one after the other in a transaction."""
    outcomes = []
    for many in (True, False):
        session = session_of(seed, text + " parent")
        for earlier, some in before:
            session.execute_many(earlier, some)
        error = None
        try:
            if many:
                outcome = session.execute_many(text, rows)
                assert outcome.rowcount == len(rows)
                last = outcome.lastrowid
            else:
                session.begin()
                last = None
                for row in rows:
                    last = session.execute(text, row).lastrowid
                session.commit()
        except MurmurError as problem:
            error, last = problem, None
            if session.in_transaction:
                session.rollback()
        assert list(session._replica.check()) == []
        outcomes.append((keys_of(session), type(error), last))
        texts = str(error)
        outcomes[-1] = (*outcomes[-1], texts)
    return outcomes[0], outcomes[1]


PLAIN = "INSERT INTO plain VALUES (?, ?, ?, ?)"
NAN, T = float("nan"), "2024-01-01 00:00:00"
CASES: list[tuple[str, list[Any]]] = [
    (PLAIN, [(3, "c", 1, 0.5), (1, None, None, None), (2, "", -7, 0)]),
    ("INSERT INTO plain VALUES (?, ?, ?, ?)", [(1, "a", 1, 1), (1, "b", 2, 1.0)]),
    ("INSERT INTO plain VALUES (?, ?, ?, ?)", [(1, "a", 1, 1.0), (2, "b", 1, 1.0)]),
    ("INSERT INTO plain VALUES (?, ?, ?, ?)", [(1, "a", 40_000, 1.0)]),
    ("INSERT INTO plain VALUES (?, ?, ?, ?)", [(1, "a\0", 4, 1.0)]),
    ("INSERT INTO plain VALUES (?, ?, ?, ?)", [("1", "a", 4, 1.0)]),
    ("INSERT INTO plain VALUES (?, ?, ?, ?)", [(1, "a", True, 1.0)]),
    ("INSERT INTO plain VALUES (?, ?, ?, ?)", [(1, "a", 4)]),
    ("INSERT INTO plain VALUES (?, ?, ?, ?)", ["abcd"]),
    ("INSERT INTO plain VALUES (?, ?, ?, ?)", [(2**53, "x" * 300, 4, NAN), [5, "y", 5, -NAN]]),
    ("INSERT INTO plain (a, b) VALUES (?, ?)", [("generated", 1), ("key", 2)]),
    ("INSERT INTO plain (a, id) VALUES (?, ?)", [("generated", None), ("given", 7)]),
    ("INSERT INTO plain (a, id, b) VALUES ($2, $1, $1)", [(1, "one"), (2, "two")]),
    ("INSERT INTO plain (a, id, b) VALUES (:name, :id, 3)", [{"name": "x", "id": 1}] * 2),
    ("INSERT INTO plain (a, id, b) VALUES (:name, :id, :id)", [{"id": 2, "name": "y", "z": 3}]),
    ("INSERT INTO plain (a, id) VALUES (:name, :id)", [{"name": "x"}]),
    ("INSERT INTO plain (a, id) VALUES (:name, :id)", [("x", 1)]),
    ("INSERT INTO plain VALUES (?, 'text', 5, 2.5)", [(1,)]),
    ("INSERT INTO plain VALUES (?, 'text', 99999, 2.5)", [(1,)]),
    ("INSERT INTO plain VALUES (?, DEFAULT, DEFAULT, 1)", [(1,), (2,)]),
    ("INSERT INTO plain VALUES (?, upper(?), 1 + 1, 1)", [(1, "a")]),
    ("INSERT INTO hidden VALUES (?, ?, ?)", [("abc", b"\0", None), (None, bytearray(b"x"), False)]),
    ("INSERT INTO hidden VALUES (?, ?, ?)", [("abcd", b"", None)]),
    ("INSERT INTO hidden (a) VALUES (?)", [("é\U0001f600",), ("",)]),
    ("INSERT INTO hidden (a) VALUES (?)", [("\ud800",)]),
    ("INSERT INTO hidden (b) VALUES (?)", [("text",)]),
    ("INSERT INTO parent VALUES (?, ?, ?)", [("b", 2, 1), ("a", 2, None), ("a", 1, None)]),
    ("INSERT INTO parent VALUES (?, ?, ?)", [("b", None, 1)]),
    ("INSERT INTO child (u) VALUES (?)", [(10,), (None,), (10,), (20,)]),
    ("INSERT INTO child (u) VALUES (?)", [(10,), (11,)]),
    ("INSERT INTO child (u, d) VALUES (?, ?)", [(20, "2024-02-29"), (20, None)]),
    ("INSERT INTO child (u, d) VALUES (?, ?)", [(20, "2023-02-29")]),
    ("INSERT INTO tree VALUES (?, ?, ?, ?)", [(2, 1, 5, None), (1, 1, None, "1.5")]),
    ("INSERT INTO tree (id, up) VALUES (?, ?)", [(2, 1), (3, 2)]),
    ("INSERT INTO tree (id, w) VALUES (?, ?)", [(2, 99), (3, 100)]),
    ("INSERT INTO tree (id, hits) VALUES (?, ?)", [(2, 9), (3, 2**63)]),
    ("INSERT INTO wide VALUES (?, ?, ?, ?, ?)", [(0.1, T, '{"a": 1}', None, "1 month")]),
    ("INSERT INTO wide VALUES (?, ?, ?, ?, ?)", [(-1.5, T, None, T + "+01", None)]),
    ("INSERT INTO wide VALUES (?, ?, ?, ?, ?)", [(NAN, "2024-01-01", None, None, None)]),
    ("INSERT INTO wide VALUES (?, ?, ?, ?, ?)", [(0.5, None, None, None, None)]),
    ("INSERT INTO wide VALUES (?, ?, ?, ?, ?)", [(0.5, "2024-01-01", "{", None, None)]),
    ("INSERT INTO made (id, a) VALUES (?, ?)", [(1, 2), (2, None)]),
    ("INSERT INTO made VALUES (?, ?, ?)", [(1, 2, 4)]),
    ("INSERT INTO part VALUES (?, ?, ?)", [(1, "A", 0), (2, "b", 5), (3, None, 5)]),
    ("INSERT INTO part VALUES (?, ?, ?)", [(1, "A", 0), (2, "a", 5)]),
    ("INSERT INTO three VALUES (?, ?)", [(1, "some text"), (2, None), (3, "")]),
]  # fmt: skip
THERE = [("INSERT INTO parent VALUES (?, ?, ?)", [("ten", 10, 10), ("twenty", 20, 20)])]


@pytest.mark.parametrize(("text", "rows"), CASES)
def test_many_rows_are_the_same_as_one_after_the_other(text: str, rows: list[Any]) -> None:
    if text.startswith("INSERT INTO tree VALUES") or "tree (id, up)" in text:
        rows = list(rows)
        if rows[0][0] == 2:
            rows.reverse() if len(rows[0]) == 4 else None
    at_once, by_one = insert_both(text, rows, THERE)
    assert at_once == by_one


@pytest.mark.parametrize("seed", range(6))
def test_random_rows_are_the_same_as_one_after_the_other(seed: int) -> None:
    chance = random.Random(seed)

    def row() -> tuple[Any, ...]:
        return (
            chance.choice([chance.randrange(40), chance.randrange(-(2**62), 2**62), None]),
            chance.choice([None, "", "a", "b" * chance.randrange(60), "é"]),
            chance.choice([None, chance.randrange(-300, 300), chance.randrange(-300, 300)]),
            chance.choice([None, chance.random(), 1, -0.0]),
        )

    text = "INSERT INTO plain VALUES (?, ?, ?, ?)"
    for count in (2, 20):
        before = [(text, [(1000 + n, "there", 1000 + n, None) for n in range(chance.randrange(5))])]
        at_once, by_one = insert_both(text, [row() for _ in range(count)], before, seed)
        # Of several mistakes the first row's is told, or the first kind's.
        assert at_once[:3] == by_one[:3] or (at_once[1] and by_one[1] and at_once[0] == by_one[0])


# Within a transaction --------------------------------------------------

INSERT = "INSERT INTO plain (id, a, b) VALUES (?, ?, ?)"


def test_a_transaction_sees_what_it_has_loaded() -> None:
    session = session_of()
    session.begin()
    session.execute_many(INSERT, [(n, f"n{n}", n) for n in range(5)])
    assert session.transaction is not None
    assert len(session.transaction.blocks) == 1
    assert fetch(session, "SELECT a FROM plain WHERE id = 3") == [("n3",)]
    assert len(session.transaction.blocks) == 1, "one row is read as it is"
    session.execute_many(INSERT, [(n, "m", n) for n in range(5, 7)])
    assert len(session.transaction.blocks) == 2
    assert fetch(session, "SELECT count(*) FROM plain") == [(7,)]
    assert session.transaction.blocks == []
    assert fetch(session, "SELECT id FROM plain WHERE a = 'm' ORDER BY id") == [(5,), (6,)]
    session.execute("UPDATE plain SET b = b + 100 WHERE id < 6")
    session.execute("DELETE FROM plain WHERE id = 0")
    session.execute_many(INSERT, [(0, "again", 0), (9, "nine", 9)])
    session.commit()
    assert fetch(session, "SELECT id, a, b FROM plain WHERE id IN (0, 5, 6, 9) ORDER BY id") == [
        (0, "again", 0),
        (5, "m", 105),
        (6, "m", 6),
        (9, "nine", 9),
    ]
    assert list(session._replica.check()) == []


@pytest.mark.parametrize(
    "look", [None, "SELECT count(*) FROM plain", "SELECT a FROM plain WHERE b = 2"]
)
@pytest.mark.parametrize("key", [1, 5])
def test_a_second_load_meets_the_first(look: str | None, key: int) -> None:
    session = session_of()
    session.begin()
    session.execute_many(INSERT, [(1, "a", 1), (5, "b", 5)])
    if look is not None:
        fetch(session, look)
    for row in ((key, "c", 7), (7, "c", key)):
        with pytest.raises(ConstraintViolation, match="duplicate"):
            session.execute_many(INSERT, [(3, "x", 3), row])
        with pytest.raises(ConstraintViolation, match="duplicate"):
            session.execute(INSERT, row)
    session.execute_many(INSERT, [(7, "c", 7)])
    session.commit()
    assert fetch(session, "SELECT id FROM plain ORDER BY id") == [(1,), (5,), (7,)]


@pytest.mark.parametrize("look", [None, "SELECT count(*) FROM plain"])
def test_savepoints_go_back_over_loads(look: str | None) -> None:
    session = session_of()
    session.begin()
    session.execute_many(INSERT, [(1, "a", 1)])
    session.savepoint("one")
    session.execute_many(INSERT, [(2, "b", 2)])
    session.savepoint("two")
    if look is not None:
        fetch(session, look)
    session.execute("UPDATE plain SET a = 'changed' WHERE id = 2")
    session.rollback_to("two")
    assert fetch(session, "SELECT a FROM plain ORDER BY id") == [("a",), ("b",)]
    session.rollback_to("one")
    assert fetch(session, "SELECT a FROM plain ORDER BY id") == [("a",)]
    session.execute_many(INSERT, [(2, "c", 2)])
    session.commit()
    assert fetch(session, "SELECT a FROM plain WHERE b = 2") == [("c",)]
    assert list(session._replica.check()) == []


def test_a_load_that_fails_leaves_the_transaction_as_it_was() -> None:
    session = session_of()
    session.begin()
    session.execute_many(INSERT, [(1, "a", 1)])
    for wrong in ([(2, "b", 2), (2, "c", 3)], [(2, "b", 2), (3, 4, 5)], [(2, "b", 1)]):
        with pytest.raises(MurmurError):
            session.execute_many(INSERT, wrong)
    session.commit()
    assert fetch(session, "SELECT id FROM plain") == [(1,)]


def test_definitions_may_change_around_a_load() -> None:
    session = session_of()
    session.begin()
    session.execute_many(INSERT, [(1, "a", 1), (2, "b", 2)])
    session.execute("CREATE UNIQUE INDEX more ON plain (a)")
    with pytest.raises(ConstraintViolation):
        session.execute_many(INSERT, [(3, "a", 3)])
    session.execute("CREATE TABLE fresh (id INTEGER PRIMARY KEY)")
    session.execute_many("INSERT INTO fresh VALUES (?)", [(1,), (2,)])
    session.execute_many(INSERT, [(3, "c", 3)])
    session.commit()
    assert fetch(session, "SELECT id FROM plain WHERE a = 'b'") == [(2,)]
    assert fetch(session, "SELECT count(*) FROM fresh") == [(2,)]
    assert list(session._replica.check()) == []


def test_rows_come_from_whatever_can_be_iterated() -> None:
    session = session_of()
    assert session.execute_many(INSERT, iter([])).rowcount == 0
    assert session.execute_many(INSERT, ((n, None, n) for n in range(2000))).rowcount == 2000
    assert fetch(session, "SELECT count(*) FROM plain") == [(2000,)]

    def broken() -> Any:
        yield (5000, "x", 5000)
        raise ValueError("the source broke off")

    with pytest.raises(ValueError, match="broke off"):
        session.execute_many(INSERT, broken())
    assert fetch(session, "SELECT count(*) FROM plain") == [(2000,)]


def test_more_than_a_transaction_holds_is_an_error() -> None:
    session = session_of()
    big = "x" * (8 << 20)
    with pytest.raises(InvalidInput, match=r"67,108,864 bytes that one transaction holds"):
        session.execute_many(INSERT, [(n, big, n) for n in range(9)])
    assert fetch(session, "SELECT count(*) FROM plain") == [(0,)]


# Beside others ---------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "conflict"),
    [
        ([(1, "a", 1)], "INSERT INTO plain (id, b) VALUES (1, 9)", True),
        ([(1, "a", 1), (2, "b", 2)], "INSERT INTO plain (id, b) VALUES (7, 2)", True),
        ([(1, "a", 1)], "INSERT INTO plain (id, b) VALUES (7, 7)", False),
        ([(1, "a", 1)], "ALTER TABLE plain ADD COLUMN more TEXT", True),
        ([(1, "a", None)], "INSERT INTO plain (id) VALUES (7)", False),
    ],
)
def test_the_first_committer_wins(mine: list[Any], theirs: str, conflict: bool) -> None:
    session = session_of()
    other = Session(session._replica, clock=session._clock, random_bytes=session._random_bytes)
    session.begin()
    session.execute_many(INSERT, mine)
    other.execute(theirs)
    if conflict:
        with pytest.raises(Conflict):
            session.commit()
    else:
        session.commit()
    assert list(session._replica.check()) == []


def test_a_parent_that_goes_meanwhile_is_a_conflict() -> None:
    session = session_of()
    session.execute_many(*THERE[0])
    other = Session(session._replica, clock=session._clock, random_bytes=session._random_bytes)
    session.begin()
    session.execute_many("INSERT INTO child (u) VALUES (?)", [(10,), (20,)])
    other.execute("DELETE FROM parent WHERE u = 20")
    with pytest.raises(Conflict):
        session.commit()


def test_what_was_loaded_travels_and_is_recovered() -> None:
    session = session_of()
    session.execute_many(*THERE[0])
    session.begin()
    assert session.transaction is not None
    session.transaction.put(b"\x01\x01key", b"value")
    session.execute("INSERT INTO plain (id, a) VALUES (-1, 'before')")
    session.execute_many("INSERT INTO hidden VALUES (?, ?, ?)", [("a", b"1", None)] * 3)
    session.execute_many("INSERT INTO child (u) VALUES (?)", [(10,), (20,)])
    assert len(session.transaction.blocks) == 2
    session.commit()
    session.execute_many(INSERT, [(n, "x", n) for n in range(300)])
    replica = session._replica
    other = Replica.open(
        MemoryStorage(),
        clock=ManualClock(),
        random_bytes=random.Random(7).randbytes,
        derivation=CatalogDerivation(),
    )
    records = [record for _, kind, record in replica.log.read(0, replica.log.end)]
    other.apply(records)
    assert other.vector == replica.vector
    assert other.state_hash() == replica.state_hash()
    assert list(other.check()) == []
    replica.close()
    again = Replica.open(
        replica.storage,
        clock=ManualClock(),
        random_bytes=random.Random(8).randbytes,
        derivation=CatalogDerivation(),
    )
    assert again.state_hash() == other.state_hash()
    again.close()
    other.close()


def statements_of_many_rows(session: Session, count: int) -> list[Any]:
    """What each of several ways to write so many rows by one statement leaves."""
    values = ", ".join(f"({n * 37 % 101}, 'v{n}', DEFAULT)" for n in range(count))
    session.execute(
        "CREATE TABLE given (id INTEGER PRIMARY KEY, s TEXT UNIQUE, n COUNTER, "
        "d TEXT DEFAULT 'left', at TIMESTAMP DEFAULT '2020-01-02', up INTEGER REFERENCES given)"
    )
    session.execute(f"INSERT INTO given (id, s, n) VALUES {values}")
    session.execute("CREATE TABLE copy (id INTEGER PRIMARY KEY, s TEXT, CHECK (id < 1000))")
    session.execute("CREATE INDEX copy_s ON copy (s)")
    session.execute("INSERT INTO copy SELECT id, s FROM given ORDER BY s")
    session.execute("CREATE TABLE made AS SELECT s, id * 2 AS twice FROM given")
    queries = ("SELECT * FROM given ORDER BY id", "SELECT id FROM copy ORDER BY s",
               "SELECT * FROM made ORDER BY s")  # fmt: skip
    return [list(session.execute(query).rows or ()) for query in queries]


def test_statements_of_many_rows_leave_what_rows_one_by_one_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = open_session(columnar=False)
    together = statements_of_many_rows(session, 80)
    assert [len(rows) for rows in together] == [80, 80, 80]
    assert list(session._replica.check()) == []
    session.begin()
    session.execute("CREATE TABLE own AS SELECT * FROM copy")
    assert session.transaction is not None
    assert len(session.transaction.blocks) == 1
    session.execute("UPDATE own SET s = 'x' WHERE id = 37")
    session.commit()
    for wrong in ("37", "id + 7", "id + 960"):  # twice the same; taken; refused by the CHECK
        with pytest.raises(ConstraintViolation):
            session.execute(f"INSERT INTO copy SELECT {wrong}, s FROM given")
    assert list(session._replica.check()) == []
    monkeypatch.setattr("murmur.sql.bulk.is_loadable", lambda table: False)
    assert statements_of_many_rows(open_session(columnar=False), 80) == together
