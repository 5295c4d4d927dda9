"""PEP 249, clause by clause. After the public-domain dbapi20 test suite, in our own words."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import murmur
from murmur import Connection, Cursor

BEERS = ["Carlton Cold", "Carlton Draft", "Mountain Goat", "Redback", "Victoria Bitter", "XXXX"]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    connection = murmur.connect(tmp_path / "a")
    yield connection
    connection.close()


@pytest.fixture
def cursor(connection: Connection) -> Cursor:
    return connection.cursor()


@pytest.fixture
def booze(cursor: Cursor) -> Cursor:
    cursor.execute("CREATE TABLE booze (name VARCHAR(20) PRIMARY KEY)")
    cursor.executemany("INSERT INTO booze VALUES (?)", [[name] for name in BEERS])
    return cursor


# The module ------------------------------------------------------------


def test_the_globals() -> None:
    assert murmur.apilevel == "2.0"
    assert murmur.threadsafety in (0, 1, 2, 3)
    assert murmur.paramstyle == "qmark"


def test_the_exceptions_are_a_tree() -> None:
    assert issubclass(murmur.Warning, Exception)
    assert not issubclass(murmur.Warning, murmur.Error)
    assert issubclass(murmur.InterfaceError, murmur.Error)
    assert issubclass(murmur.DatabaseError, murmur.Error)
    for below in (
        murmur.DataError,
        murmur.OperationalError,
        murmur.IntegrityError,
        murmur.InternalError,
        murmur.ProgrammingError,
        murmur.NotSupportedError,
    ):
        assert issubclass(below, murmur.DatabaseError)


def test_the_exceptions_are_attributes_of_the_connection(connection: Connection) -> None:
    names = """
        Warning Error InterfaceError DatabaseError DataError OperationalError IntegrityError
        InternalError ProgrammingError NotSupportedError
    """
    for name in names.split():
        assert getattr(connection, name) is getattr(murmur, name)


# Connections -----------------------------------------------------------


def test_commit_and_rollback_work_without_anything_to_do(connection: Connection) -> None:
    connection.commit()
    connection.rollback()


def test_cursors_of_one_connection_see_each_other(booze: Cursor, connection: Connection) -> None:
    other = connection.cursor()
    booze.execute("INSERT INTO booze VALUES ('Mandarin')")
    other.execute("SELECT name FROM booze WHERE name LIKE 'M%d%'")
    assert other.fetchall() == [("Mandarin",)]


def test_a_closed_connection_raises(connection: Connection) -> None:
    cursor = connection.cursor()
    connection.close()
    connection.close()
    calls: list[Callable[[], Any]] = [
        connection.commit,
        connection.rollback,
        connection.cursor,
        connection.__enter__,
        lambda: connection.execute("SELECT 1"),
        lambda: connection.in_transaction,
        lambda: cursor.execute("SELECT 1"),
        lambda: cursor.executemany("SELECT 1", []),
        cursor.fetchone,
        lambda: cursor.setinputsizes([]),
    ]
    for call in calls:
        with pytest.raises(murmur.Error):
            call()
    cursor.close()


def test_a_closed_cursor_raises(booze: Cursor) -> None:
    booze.execute("SELECT name FROM booze")
    booze.close()
    booze.close()
    calls: list[Callable[[], Any]] = [
        booze.fetchone,
        booze.fetchmany,
        booze.fetchall,
        booze.fetch_arrow_table,
        lambda: next(booze),
        lambda: booze.execute("SELECT 1"),
        lambda: booze.executemany("SELECT 1", []),
        lambda: booze.setinputsizes([]),
        lambda: booze.setoutputsize(1),
    ]
    for call in calls:
        with pytest.raises(murmur.Error):
            call()


def test_a_cursor_closes_at_the_end_of_a_with(connection: Connection) -> None:
    with connection.cursor() as cursor:
        assert cursor.connection is connection
        cursor.execute("SELECT 1")
    with pytest.raises(murmur.Error):
        cursor.fetchone()


# Describing ------------------------------------------------------------


def test_description(booze: Cursor) -> None:
    assert booze.description is None
    booze.execute("SELECT name FROM booze")
    assert booze.description is not None
    (column,) = booze.description
    assert len(column) == 7
    assert column[0] == "name"
    assert column[1] == murmur.STRING
    booze.execute("INSERT INTO booze VALUES ('x')")
    assert booze.description is None
    booze.execute("DELETE FROM booze WHERE name = 'x' RETURNING name")
    assert [column[0] for column in booze.description or ()] == ["name"]


def test_rowcount(booze: Cursor) -> None:
    assert booze.rowcount == len(BEERS)
    booze.execute("INSERT INTO booze VALUES ('x'), ('y')")
    assert booze.rowcount == 2
    booze.execute("UPDATE booze SET name = name || '!' WHERE name < 'N'")
    assert booze.rowcount == 3
    booze.execute("DELETE FROM booze WHERE name = 'nope'")
    assert booze.rowcount == 0
    booze.execute("SELECT name FROM booze")
    assert booze.rowcount in (-1, len(BEERS) + 2)
    booze.execute("CREATE TABLE other (id INTEGER PRIMARY KEY)")
    assert booze.rowcount == -1


def test_type_codes_equal_the_type_objects_of_their_kind(cursor: Cursor) -> None:
    kinds = {
        murmur.NUMBER: "SMALLINT INTEGER BIGINT REAL DOUBLE DECIMAL(5,2) BOOLEAN COUNTER",
        murmur.STRING: "TEXT VARCHAR(3) JSON UUID",
        murmur.BINARY: "BLOB",
        murmur.DATETIME: "DATE TIME TIMESTAMP TIMESTAMPTZ INTERVAL",
    }
    columns = [(name, kind) for kind, names in kinds.items() for name in names.split()]
    definitions = ", ".join(f"c{at} {name}" for at, (name, _) in enumerate(columns))
    cursor.execute(f"CREATE TABLE kinds (id INTEGER PRIMARY KEY, {definitions})")
    for query in ("SELECT * FROM kinds", "SELECT k.* FROM kinds k JOIN kinds l ON k.id = l.id"):
        cursor.execute(query)
        assert cursor.description is not None
        for description, (_, kind) in zip(cursor.description[1:], columns, strict=True):
            assert description[1] == kind
            others = {*kinds, murmur.ROWID} - {kind}
            assert all(description[1] != other for other in others)
    assert murmur.STRING != murmur.NUMBER
    assert murmur.STRING == murmur.STRING
    assert repr(murmur.STRING) == "murmur.STRING"


# Fetching --------------------------------------------------------------


def test_fetching_before_a_query_raises(cursor: Cursor) -> None:
    for fetch in (cursor.fetchone, cursor.fetchmany, cursor.fetchall, cursor.fetch_arrow_table):
        with pytest.raises(murmur.Error):
            fetch()
    assert cursor.rownumber is None


def test_fetching_after_a_statement_without_rows_raises(booze: Cursor) -> None:
    booze.execute("INSERT INTO booze VALUES ('x')")
    for fetch in (booze.fetchone, booze.fetchmany, booze.fetchall):
        with pytest.raises(murmur.Error):
            fetch()


def test_fetchone(booze: Cursor) -> None:
    booze.execute("SELECT name FROM booze WHERE name = 'nope'")
    assert booze.fetchone() is None
    booze.execute("SELECT name FROM booze WHERE name = 'Redback'")
    assert booze.fetchone() == ("Redback",)
    assert booze.fetchone() is None


def test_fetchmany(booze: Cursor) -> None:
    assert booze.arraysize == 1
    booze.execute("SELECT name FROM booze ORDER BY name")
    assert booze.fetchmany() == [(BEERS[0],)]
    assert booze.fetchmany(10) == [(name,) for name in BEERS[1:]]
    assert booze.fetchmany(4) == []
    booze.arraysize = 4
    booze.execute("SELECT name FROM booze ORDER BY name")
    assert [len(booze.fetchmany()) for _ in range(3)] == [4, 2, 0]
    booze.execute("SELECT name FROM booze")
    assert len(booze.fetchmany(size=2)) == 2
    assert booze.rownumber == 2


def test_fetchall(booze: Cursor) -> None:
    booze.execute("SELECT name FROM booze ORDER BY name")
    assert booze.fetchall() == [(name,) for name in BEERS]
    assert booze.fetchall() == []
    booze.execute("SELECT name FROM booze WHERE name = 'nope'")
    assert booze.fetchall() == []


def test_fetching_in_all_ways_at_once(booze: Cursor) -> None:
    booze.execute("SELECT name FROM booze ORDER BY name")
    fetched = [booze.fetchone(), *booze.fetchmany(2), next(booze), *booze.fetchall()]
    assert fetched == [(name,) for name in BEERS]


def test_iteration(booze: Cursor) -> None:
    booze.execute("SELECT name FROM booze ORDER BY name")
    assert iter(booze) is booze
    assert [name for (name,) in booze] == BEERS
    assert [name for (name,) in booze.execute("SELECT name FROM booze LIMIT 0")] == []


def test_executing_again_forgets_the_rows_before(booze: Cursor) -> None:
    booze.execute("SELECT name FROM booze")
    booze.execute("SELECT 1 AS one")
    assert booze.fetchall() == [(1,)]


# The rest --------------------------------------------------------------


def test_parameters_are_values_not_text(booze: Cursor) -> None:
    nasty = "Cooper's'; DROP TABLE booze --"
    booze.execute("CREATE TABLE texts (t TEXT)")
    booze.execute("INSERT INTO texts VALUES (?)", (nasty,))
    booze.execute("INSERT INTO texts VALUES (:t)", {"t": "%s :t ? $1"})
    booze.execute("SELECT t FROM texts ORDER BY t")
    assert booze.fetchall() == [("%s :t ? $1",), (nasty,)]


def test_setinputsizes_and_setoutputsize_do_nothing(booze: Cursor) -> None:
    booze.setinputsizes((25,))
    booze.setoutputsize(1000)
    booze.setoutputsize(1000, 0)
    booze.execute("SELECT name FROM booze WHERE name = ?", ("Redback",))
    assert booze.fetchall() == [("Redback",)]


def test_null_is_none(booze: Cursor) -> None:
    booze.execute("CREATE TABLE nulls (id INTEGER PRIMARY KEY, t TEXT)")
    booze.execute("INSERT INTO nulls VALUES (1, ?)", (None,))
    assert booze.execute("SELECT t FROM nulls").fetchone() == (None,)


def test_lastrowid(cursor: Cursor) -> None:
    assert cursor.lastrowid is None
    cursor.execute("CREATE TABLE numbered (id INTEGER PRIMARY KEY, t TEXT)")
    cursor.execute("INSERT INTO numbered VALUES (7, 'a'), (5, 'b')")
    assert cursor.lastrowid == 5
    cursor.execute("SELECT 1")
    assert cursor.lastrowid is None


def test_the_constructors() -> None:
    assert murmur.Date(2002, 12, 25) == datetime.date(2002, 12, 25)
    assert murmur.Time(13, 45, 30) == datetime.time(13, 45, 30)
    assert murmur.Timestamp(2002, 12, 25, 13, 45, 30) == datetime.datetime(2002, 12, 25, 13, 45, 30)
    assert murmur.Binary(b"\x00x") == b"\x00x"
    ticks = time.mktime((2002, 12, 25, 13, 45, 30, 0, 0, -1))
    assert murmur.DateFromTicks(ticks) == murmur.Date(2002, 12, 25)
    assert murmur.TimeFromTicks(ticks) == murmur.Time(13, 45, 30)
    assert murmur.TimestampFromTicks(ticks) == murmur.Timestamp(2002, 12, 25, 13, 45, 30)


def test_what_the_constructors_make_can_be_stored(cursor: Cursor) -> None:
    cursor.execute("CREATE TABLE v (d DATE, t TIME, at TIMESTAMP, b BLOB, n DECIMAL(5,2))")
    values = (
        murmur.Date(2002, 12, 25),
        murmur.Time(13, 45, 30),
        murmur.Timestamp(2002, 12, 25, 13, 45, 30),
        murmur.Binary(b"\x00x"),
        Decimal("1.50"),
    )
    cursor.execute("INSERT INTO v VALUES (?, ?, ?, ?, ?)", values)
    assert cursor.execute("SELECT * FROM v").fetchone() == values


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELEC 1", murmur.ProgrammingError),
        ("SELECT * FROM nope", murmur.ProgrammingError),
        ("INSERT INTO booze VALUES ('Redback')", murmur.IntegrityError),
        ("INSERT INTO booze VALUES (NULL)", murmur.IntegrityError),
        ("INSERT INTO booze VALUES (repeat('x', 21))", murmur.DataError),
        ("SELECT 1 / 0", murmur.DataError),
        ("SELECT 1 / length(name) - 1 / 0 FROM booze", murmur.DataError),
        ("SELECT count(*) / 0 FROM booze GROUP BY name", murmur.DataError),
    ],
)
def test_errors_are_of_the_class_that_pep_249_names(
    booze: Cursor, text: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        booze.execute(text).fetchall()
