"""Scripts: several statements in one call, where that is asked for, and one otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import murmur
from murmur import BindError, ConstraintViolation, InvalidInput, ParseError, Swarm

SCRIPT = """
-- two tables; and a semicolon in a comment
CREATE TABLE a (id INTEGER PRIMARY KEY, s TEXT);
CREATE TABLE b (id INTEGER PRIMARY KEY);;
INSERT INTO a VALUES (1, 'x;y'), (2, $$;$$); /* ; */
SELECT * FROM a; UPDATE a SET s = s || '!' WHERE id = 1
"""


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a", durability="none") as swarm:
        yield swarm


def test_a_script_runs_statement_by_statement(swarm: Swarm) -> None:
    assert swarm.executescript(SCRIPT) == 5
    assert swarm.sql("SELECT s FROM a ORDER BY id").fetchall() == [("x;y!",), (";",)]
    for empty in ("", " ; ;; ", "-- nothing"):
        assert swarm.executescript(empty) == 0
    assert swarm.executescript("BEGIN; INSERT INTO b VALUES (1); COMMIT;") == 3
    assert swarm.sql("SELECT id FROM b").fetchall() == [(1,)]


def test_a_statement_that_fails_ends_the_script(swarm: Swarm) -> None:
    swarm.executescript(SCRIPT)
    with pytest.raises(ConstraintViolation):
        swarm.executescript(
            "INSERT INTO b VALUES (1);\nINSERT INTO b VALUES (1);\nINSERT INTO b VALUES (2)"
        )
    assert swarm.sql("SELECT id FROM b").fetchall() == [(1,)]
    with pytest.raises(BindError, match="line 3, column 10"):
        swarm.executescript("DELETE FROM b;\n\n  SELECT nope FROM a;")
    assert swarm.sql("SELECT count(*) FROM b").fetchall() == [(0,)]
    with pytest.raises(ParseError, match="without an end"):
        swarm.executescript("INSERT INTO b VALUES (1);\nINSERT INTO b VALUES ('")
    assert swarm.sql("SELECT count(*) FROM b").fetchall() == [(0,)]
    with pytest.raises(InvalidInput, match="would not outlive the call"):
        swarm.executescript("BEGIN; INSERT INTO b VALUES (1)")
    assert swarm.sql("SELECT count(*) FROM b").fetchall() == [(0,)]
    with pytest.raises(InvalidInput, match="a script is text"):
        swarm.executescript(5)  # type: ignore[arg-type]


def test_a_script_of_a_connection_runs_in_its_transaction(swarm: Swarm) -> None:
    connection = murmur.connect(swarm)
    cursor = connection.executescript(SCRIPT)
    assert cursor.connection is connection
    assert cursor.description is None
    connection.rollback()
    with pytest.raises(BindError):
        connection.execute("SELECT * FROM a")
    connection.executescript(SCRIPT)
    connection.commit()
    connection.close()
    assert swarm.sql("SELECT count(*) FROM a").fetchall() == [(2,)]


def test_elsewhere_a_call_is_one_statement(swarm: Swarm) -> None:
    connection = murmur.connect(swarm)
    for run in (swarm.sql, connection.execute):
        with pytest.raises(ParseError, match=r"one statement per call.*executescript"):
            run("SELECT 1; SELECT 2")
        assert run("SELECT 1 ; ").fetchall() == [(1,)]
    connection.close()
