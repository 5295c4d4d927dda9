"""What the columnar engine is asked: text, parameters and relations, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import pytest

from murmur.errors import BindError, MurmurError, TypeMismatch, Unsupported
from murmur.kvcore import Transaction
from murmur.sql import Relation, Session
from tests.sql.session_harness import fetch, open_session, rows_of


class Recorder:
    """A columnar engine that only remembers what it was asked."""

    def __init__(self) -> None:
        self.sql = ""
        self.parameters: Mapping[str, Any] = {}
        self.relations: Mapping[str, Relation] = {}
        self.given: dict[str, list[tuple[Any, ...]]] = {}  # rows that came with relations

    def run(
        self,
        sql: str,
        parameters: Mapping[str, object],
        relations: Mapping[str, Relation],
        halted: Any = None,
    ) -> Any:
        self.sql, self.parameters, self.relations = sql, parameters, relations
        self.given = {
            name: list(relation.rows)
            for name, relation in relations.items()
            if relation.rows is not None
        }
        return ()

    def rows(self, table: Any) -> Iterator[tuple[Any, ...]]:
        return iter(table)


SCHEMA = (
    "CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT, born DATE)",
    "CREATE TABLE note (id INTEGER PRIMARY KEY, author INT, body TEXT, likes COUNTER)",
    "CREATE TABLE bag (thing TEXT)",
    'CREATE TABLE twins ("A" INT, a INT)',
)


@pytest.fixture
def engine() -> Recorder:
    return Recorder()


@pytest.fixture
def session(engine: Recorder) -> Session:
    session = open_session()
    for text in SCHEMA:
        session.execute(text)
    session._columnar = engine
    session.execute("SET engine = 'columnar'")
    return session


def asked(session: Session, engine: Recorder, text: str, parameters: Any = None) -> str:
    session.execute(text, parameters)
    return engine.sql


def test_every_name_is_quoted_and_every_relation_is_ours(
    session: Session, engine: Recorder
) -> None:
    text = "SELECT A.Name, count(*) FROM Author a JOIN note N ON n.author = a.id GROUP BY name"
    assert asked(session, engine, text) == (
        'SELECT "a"."name", COUNT(*) AS "count" FROM "murmur_r0" AS "a" JOIN "murmur_r1" AS "n" '
        'ON "n"."author" = "a"."id" GROUP BY "a"."name"'
    )
    tables = {name: relation.table.name for name, relation in engine.relations.items()}  # type: ignore[union-attr]
    assert tables == {"murmur_r0": "author", "murmur_r1": "note"}
    assert not any(relation.private for relation in engine.relations.values())


def test_a_table_used_twice_is_one_relation(session: Session, engine: Recorder) -> None:
    asked(session, engine, "SELECT 1 FROM note a, note b WHERE EXISTS (SELECT 1 FROM note)")
    assert list(engine.relations) == ["murmur_r0"]


def test_parameters_go_by_name_and_typed_and_never_into_the_text(
    session: Session, engine: Recorder
) -> None:
    text = (
        "SELECT :word, n.id FROM note n JOIN author a ON a.born >= :day WHERE likes = :n LIMIT :k"
    )
    given = {"word": "x'; --", "day": "2000-01-02", "n": 5, "k": 3, "unused": object()}
    sql = asked(session, engine, text, given)
    assert "--" not in sql
    assert "$p0" in sql
    assert engine.parameters == {"p0": "x'; --", "p1": date(2000, 1, 2), "p2": 5, "p3": 3}
    with pytest.raises(TypeMismatch):
        session.execute(text, {**given, "n": "five"})
    with pytest.raises(TypeMismatch):
        session.execute(text, {**given, "k": "five"})


@pytest.mark.parametrize(
    ("text", "note", "author"),
    [
        ("SELECT count(*) FROM note, author", "id", "id"),
        ("SELECT n.body FROM note n, author WHERE likes > 1", "body likes", "id"),
        ("SELECT * FROM note, author", "id author body likes", "id name born"),
        ("SELECT note.* FROM note, author", "id author body likes", "id"),
        ("SELECT likes FROM note JOIN author USING (id)", "id likes", "id"),
        ("SELECT name FROM note NATURAL JOIN author", "id", "id name"),
        ("SELECT x FROM note n (x), author GROUP BY x", "id author body likes", "id"),
        (
            "SELECT name FROM author a WHERE EXISTS (SELECT * FROM note WHERE author = a.id)",
            "author",
            "id name",
        ),
        (
            "SELECT 1 FROM author WHERE id IN (SELECT author FROM note) ORDER BY born, name",
            "author",
            "id name born",
        ),
        ("SELECT 1 FROM note n, note m, author WHERE m.body = n.author::text", "author body", "id"),
        (
            "WITH c AS (SELECT id, likes FROM note) SELECT * FROM c, author a",
            "id likes",
            "id name born",
        ),
    ],
)
def test_only_the_columns_that_are_read_are_asked_for(
    session: Session, engine: Recorder, text: str, note: str, author: str
) -> None:
    asked(session, engine, text)
    wanted = {
        relation.table.name: " ".join(relation.wanted or ())
        for relation in engine.relations.values()
        if relation.table is not None
    }
    assert wanted == {"note": note, "author": author}


def test_the_time_comes_from_the_session(session: Session, engine: Recorder) -> None:
    sql = asked(session, engine, "SELECT now(), current_date FROM note, author")
    assert "CURRENT" not in sql.replace("current", "")
    assert set(engine.parameters) == {"now", "today"}
    assert engine.parameters["today"] == date(2026, 1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT likes FROM note GROUP BY likes ORDER BY likes DESC", "DESC NULLS FIRST"),
        ("SELECT likes FROM note GROUP BY likes ORDER BY likes DESC NULLS LAST", "DESC NULLS LAST"),
        ("SELECT rank() OVER (ORDER BY likes) FROM note", '"likes" ASC NULLS LAST'),
        ("SELECT max(body) FROM note WHERE body LIKE 'a_' GROUP BY id", "LIKE 'a_' ESCAPE '\\'"),
        ("SELECT max(body) FROM note WHERE body LIKE 'a' ESCAPE '!' GROUP BY id", "ESCAPE '!'"),
        ("SELECT likes::counter FROM note GROUP BY likes", "AS BIGINT"),
        ("SELECT * FROM (VALUES (1, 2)) v", 'AS "v"("column1", "column2")'),
        ("SELECT every(likes > 1) FROM note", "BOOL_AND("),
        ("SELECT body FROM note GROUP BY body HAVING count(*) > 1", "HAVING COUNT(*) > 1"),
    ],
)
def test_postgresql_said_to_duckdb(
    session: Session, engine: Recorder, text: str, words: str
) -> None:
    assert words in asked(session, engine, text)


def test_a_history_is_a_relation(session: Session, engine: Recorder) -> None:
    text = "SELECT body, _seq FROM murmur_history('note') h WHERE h.likes > 1 AND _op = 'insert'"
    asked(session, engine, text)
    (relation,) = engine.relations.values()
    assert relation.history
    assert relation.table is not None
    assert relation.table.name == "note"
    for wrong in ("murmur_history('nope')", "murmur_history(1)", "murmur_history()"):
        with pytest.raises(BindError, match="line 1"):
            session.execute(f"SELECT * FROM {wrong}")


def test_system_relations_bring_their_rows(session: Session, engine: Recorder) -> None:
    asked(session, engine, "SELECT count(*) FROM murmur_tables t, murmur_columns c GROUP BY t.name")
    tables = engine.relations["murmur_r0"]
    assert [name for name, _ in tables.columns][:2] == ["name", "columns"]
    assert len(engine.given["murmur_r0"]) == 4


def test_uncommitted_writes_make_relations_private(session: Session, engine: Recorder) -> None:
    session.begin()
    asked(session, engine, "SELECT 1 FROM note, author")
    assert not any(relation.private for relation in engine.relations.values())
    session.execute("INSERT INTO author VALUES (1, 'ann', NULL)")
    asked(session, engine, "SELECT 1 FROM note, author")
    assert all(relation.private for relation in engine.relations.values())
    assert all(isinstance(relation.view, Transaction) for relation in engine.relations.values())


def test_targets_without_a_key_carry_their_row_keys(session: Session, engine: Recorder) -> None:
    session.execute("INSERT INTO bag VALUES ('x')")
    assert session.execute("DELETE FROM bag WHERE thing IN (SELECT thing FROM bag)").rowcount == 0
    keyed, plain = engine.relations.values()
    assert keyed.columns[-1][0] == "murmur row key"
    assert [len(row) for row in engine.given["murmur_r0"]] == [2]
    assert plain.rows is None


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("SELECT nope FROM note, author", 'no column "nope"', 8),
        ("SELECT id FROM note, author", "ambiguous", 8),
        ("SELECT note.nope FROM note, author", 'no column "nope" in "note"', 8),
        ("SELECT x.id FROM note, author", 'no table "x"', 8),
        ("SELECT note.id FROM note n, author", 'no table "note"', 8),
        ("SELECT 1 FROM note JOIN nope ON TRUE", 'no table "nope"', 25),
        ("SELECT 1 FROM note JOIN author USING (body)", "not on both sides", 39),
        ("SELECT 1 FROM note JOIN author ON x = 1", 'no column "x"', 35),
        ("SELECT n FROM (SELECT id FROM note) s", 'no column "n"', 8),
        ("SELECT id FROM (SELECT id FROM note) s(x)", 'no column "id"', 8),
        ("WITH c AS (SELECT id FROM note) SELECT body FROM c", 'no column "body"', 40),
        ("SELECT id FROM note UNION SELECT id FROM author ORDER BY name", 'no column "name"', 58),
        ("SELECT 1 WHERE EXISTS (SELECT 1 FROM note WHERE nope = 1)", 'no column "nope"', 49),
        ("SELECT count(*) AS n FROM note GROUP BY id HAVING n > 1", "output column", 51),
        ("SELECT frob(id) FROM note, author", "no function frob()", 8),
        ("SELECT a.* FROM note, author", 'no table "a"', 8),
        ("SELECT k FROM (VALUES (1)) AS (k)", "begins with the relation's name", 32),
        ("SELECT k FROM (SELECT 1) AS (k)", "begins with the relation's name", 30),
        ("SELECT id FROM note, (SELECT note.id) s", 'no table "note"', 30),
    ],
)
def test_unknown_names_are_our_errors_and_point_at_their_place(
    session: Session, text: str, message: str, column: int
) -> None:
    with pytest.raises(BindError) as caught:
        session.execute(text)
    assert message in str(caught.value)
    assert f"line 1, column {column}\n" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM note TABLESAMPLE SYSTEM (5)",
        "SELECT id FROM note GROUP BY ALL",
        "SELECT * EXCEPT (id) FROM note, author",
        "SELECT id FROM note UNION ALL BY NAME SELECT id FROM author",
        "SELECT 1 FROM note LEFT SEMI JOIN author ON TRUE",
        "SELECT id FROM note GROUP BY id QUALIFY TRUE",
        "SELECT system.main.foo(id) FROM note, author",
        "SELECT COLUMNS('x') FROM note, author",
        "SELECT 1 FROM note, author FOR UPDATE",
    ],
)
def test_what_is_not_postgresql_or_not_ours_is_refused(session: Session, text: str) -> None:
    with pytest.raises((Unsupported, BindError)):
        session.execute(text)


def test_columns_that_differ_only_in_case_are_for_the_row_engine(session: Session) -> None:
    session.execute("INSERT INTO twins VALUES (1, 2)")
    session.execute("SET engine = 'auto'")
    assert fetch(session, 'SELECT "A", a FROM twins') == [(1, 2)]
    assert fetch(session, "SELECT count(*) FROM twins GROUP BY a") == [(1,)]
    session.execute("SET engine = 'columnar'")
    with pytest.raises(BindError, match="differ only in their case"):
        session.execute("SELECT count(*) FROM twins GROUP BY a")


FUNCTIONS = """
    read_text read_blob read_csv read_parquet read_json glob getenv current_setting query
    query_table duckdb_settings duckdb_secrets pragma_version nextval currval txid_current
    getvariable set_config sniff_csv parquet_metadata sqlite_scan postgres_scan
    json_execute_serialized_sql which_secret write_log pg_sleep current_query current_database
    load_extension test_all_types
"""


@pytest.mark.parametrize("name", FUNCTIONS.split())
@pytest.mark.parametrize(
    "shape",
    ["SELECT {}('x') FROM note, author", "SELECT * FROM {}('x')", "SELECT * FROM {}('x'), note"],
)
def test_the_engine_s_own_functions_are_out_of_reach(
    session: Session, engine: Recorder, name: str, shape: str
) -> None:
    engine.sql = "untouched"
    with pytest.raises(MurmurError):
        session.execute(shape.format(name))
    assert engine.sql == "untouched"


def test_a_table_and_a_column_of_one_name_do_not_mix() -> None:
    """DuckDB would take the table, as a struct, for what PostgreSQL finds further out."""
    session = open_session()
    for text in SCHEMA:
        session.execute(text)
    session.execute("INSERT INTO author VALUES (1, 'ann', NULL), (2, 'bob', NULL)")
    session.execute("INSERT INTO note (id, author) VALUES (1, 2)")
    text = (
        "SELECT id FROM note WHERE EXISTS (SELECT 1 FROM author WHERE id = author AND name = 'bob')"
    )
    assert rows_of(session.execute(text)) == [(1,)]


def test_a_failing_engine_leaves_the_transaction_as_it_was() -> None:
    session = open_session()
    for text in SCHEMA:
        session.execute(text)
    session.begin()
    session.execute("INSERT INTO author VALUES (1, 'ann', NULL)")
    with pytest.raises(MurmurError, match="ivision by zero"):
        session.execute("UPDATE author SET id = (SELECT 1 / 0 FROM author)")
    with pytest.raises(MurmurError):
        session.execute(
            "INSERT INTO author SELECT id, name, born FROM author UNION ALL SELECT 1, 'b', NULL"
        )
    assert fetch(session, "SELECT name FROM author") == [("ann",)]
    session.commit()
