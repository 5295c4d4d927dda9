"""What docs/sql.md and docs/consistency.md show is true, and docs/sql.md leaves nothing out."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import murmur
from murmur.catalog.types import TYPE_NAMES
from murmur.sql import system
from murmur.sql.functions import FUNCTIONS
from murmur.swarm import system as swarm_system

DOCS = Path(__file__).parents[2] / "docs"
SQL = (DOCS / "sql.md").read_text()

UNNAMED = {  # written as operators
    *("json_get", "json_get_text", "json_path_get", "json_path_get_text", "jsonb_concat"),
    *("jsonb_contained", "jsonb_contains", "jsonb_delete", "jsonb_delete_path", "similarity_op"),
    *("bitand", "bitnot", "bitor", "bitxor"),
}


class Difference(NamedTuple):
    expression: str
    right: str  # the row engine's value, or PostgreSQL's
    other: str  # DuckDB's


def tables(section: str) -> Iterator[list[list[str]]]:
    """The tables of a section, each as rows of cells, without their heads."""
    text = re.split(r"^## ", SQL.partition(f"\n## {section}\n")[2], flags=re.MULTILINE)[0]
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()[2:]]
        yield [[cell.strip().replace(r"\|", "|") for cell in row] for row in rows]


def code(cell: str) -> str:
    return cell.removeprefix("`").removesuffix("`") if cell.startswith("`") else cell


ENGINES, DUCKDB_ONLY = (
    [Difference(*map(code, row[:3])) for row in rows] for rows in tables("Where the engines differ")
)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[murmur.Swarm]:
    with murmur.open(tmp_path_factory.mktemp("docs") / "db") as swarm:
        yield swarm


def shown(swarm: murmur.Swarm, text: str) -> str:
    """The value of a query as the tables of the page have it."""
    try:
        row = swarm.sql(text).fetchone()
    except murmur.DatabaseError:
        return "error"
    assert row is not None
    return re.sub(r"\bdatetime\.(?=\w+\()", "", repr(row[0]))


@pytest.mark.parametrize("page", ["sql.md", "consistency.md", "kv.md", "sync.md"])
def test_sessions_print_what_the_page_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(DOCS / page), module_relative=False, encoding="utf-8")
    assert result.attempted > 10
    assert result.failed == 0


@pytest.mark.parametrize("difference", ENGINES, ids=lambda each: each.expression)
def test_the_engines_differ_as_the_page_says(db: murmur.Swarm, difference: Difference) -> None:
    expression, row_engine, duckdb = difference
    assert shown(db, f"SELECT {expression}") == row_engine
    found = shown(db, f"SELECT {expression}, row_number() OVER () FROM (VALUES (1)) AS one")
    assert found != row_engine, "the engines agree now: take the line out of docs/sql.md"
    assert found == duckdb


@pytest.mark.parametrize("difference", DUCKDB_ONLY, ids=lambda each: each.expression)
def test_duckdb_differs_from_postgresql_as_the_page_says(
    db: murmur.Swarm, difference: Difference
) -> None:
    expression, postgresql, duckdb = difference
    found = shown(db, f"SELECT {expression}")
    assert found != postgresql, "it is PostgreSQL's now: take the line out of docs/sql.md"
    assert found == duckdb


def test_the_queries_of_the_tables_reach_both_engines(db: murmur.Swarm) -> None:
    (row,) = db.sql("EXPLAIN SELECT 1 / 2").fetchone() or ()
    assert row.startswith("engine: row")
    windowed = "SELECT 1 / 2, row_number() OVER () FROM (VALUES (1)) AS one"
    (columnar,) = db.sql(f"EXPLAIN {windowed}").fetchone() or ()
    assert columnar.startswith("engine: columnar")


def test_every_function_of_the_row_engine_is_named() -> None:
    (rows,) = tables("Expressions")
    named = set(re.findall(r"`(\w+)`", " ".join(cell for row in rows for cell in row)))
    assert set(FUNCTIONS) - UNNAMED - named == set()


def test_every_type_is_named() -> None:
    (rows,) = tables("Types")
    named = set(re.findall(r"`(\w+)", " ".join(row[0] for row in rows)))
    assert named == TYPE_NAMES | {"COUNTER"}


def test_the_columns_of_system_relations_are_those_listed(db: murmur.Swarm) -> None:
    db.sql("CREATE TABLE listed (id INT PRIMARY KEY)")
    (rows,) = tables("System relations")
    known = {*system._COLUMNS, *swarm_system._COLUMNS, "murmur_history('table')"}
    assert {code(row[0]) for row in rows} == known
    for name, columns, *_ in rows:
        relation = code(name).replace("'table'", "'listed'")
        listed = tuple(re.findall(r"`(\w+)`", columns.partition(";")[0]))
        found = db.sql(f"SELECT * FROM {relation}").columns
        if "(" in relation:
            found = found[1:]  # after the table's own
        assert found == listed, relation
