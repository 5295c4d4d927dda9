"""Random statements over one table, against sqlite3, and against the columnar engine.

Only what all three mean alike: small integers, text, comparisons, NULL, LIKE, CASE, ordering with
the place of NULLs said. Each seed makes a table with indexes of its own, so that the same questions
go down different access paths.
"""

from __future__ import annotations

import random
import sqlite3
from typing import Any

import pytest

from murmur.sql import Session
from tests.sql.session_harness import columnar_rows, fetch, open_session, plan_of

SEEDS = range(12)
STATEMENTS = 40
COLUMNS = {"id": "INT", "a": "INT", "b": "INT", "c": "TEXT", "d": "TEXT"}
INDEXES = ("a", "b, a", "c", "a DESC, c", "c, b DESC", "d")
WORDS = ("", "x", "xy", "Xy", "yx", "z_z", "%")


class Statements:
    """Random SQL that means one thing everywhere."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def number(self) -> str:
        return str(self.rng.randint(-3, 6))

    def word(self) -> str:
        return f"'{self.rng.choice(WORDS)}'"

    def integer(self, depth: int = 2) -> str:
        rng = self.rng
        match rng.randrange(9) if depth else rng.randrange(3):
            case 0:
                return self.number()
            case 1 | 2:
                return rng.choice(("id", "a", "b"))
            case 3:
                return f"({self.integer(depth - 1)} {rng.choice('+-*')} {self.integer(depth - 1)})"
            case 4:
                return f"({self.integer(depth - 1)} {rng.choice('/%')} {rng.randint(1, 4)})"
            case 5:
                return f"(- {self.integer(depth - 1)})"
            case 6:
                return f"coalesce({self.integer(depth - 1)}, {self.number()})"
            case 7:
                return f"length({self.text(depth - 1)})"
        return f"CASE WHEN {self.condition(1)} THEN {self.integer(0)} ELSE {self.integer(0)} END"

    def text(self, depth: int = 2) -> str:
        rng = self.rng
        match rng.randrange(6) if depth else rng.randrange(3):
            case 0:
                return self.word()
            case 1 | 2:
                return rng.choice("cd")
            case 3:
                return f"({self.text(depth - 1)} || {self.text(depth - 1)})"
            case 4:
                return f"{rng.choice(('upper', 'lower'))}({self.text(depth - 1)})"
        return f"nullif({self.text(depth - 1)}, {self.word()})"

    def condition(self, depth: int = 3) -> str:
        rng = self.rng
        negated = rng.choice(("", "NOT "))
        match rng.randrange(11) if depth else rng.randrange(6):
            case 0 | 1:
                # A plain column and a constant: what an index can use.
                op = rng.choice(("=", "<", "<=", ">", ">=", "<>", "="))
                return f"{rng.choice(('id', 'a', 'b'))} {op} {self.number()}"
            case 2:
                return f"c {rng.choice(('=', '>', '<='))} {self.word()}"
            case 3:
                items = ", ".join(rng.choice((self.number(), "NULL")) for _ in range(3))
                return f"{rng.choice('ab')} {negated}IN ({self.number()}, {items})"
            case 4:
                return f"{rng.choice('abcd')} IS {negated}NULL"
            case 5:
                return f"a {negated}BETWEEN {self.number()} AND {self.number()}"
            case 6:
                return f"{self.integer()} {rng.choice(('=', '<', '>='))} {self.integer()}"
            case 7:
                return f"{self.text()} {negated}LIKE {self.word()}"
            case 8:
                return f"NOT ({self.condition(depth - 1)})"
        word = rng.choice(("AND", "AND", "OR"))
        return f"({self.condition(depth - 1)} {word} {self.condition(depth - 1)})"

    def order(self) -> str:
        terms = []
        for _ in range(self.rng.randint(1, 3)):
            expr = self.rng.choice(("a", "b", "c", "d", self.integer(1)))
            if not any(word in expr for word in ("id", "a", "b", "c", "d")):
                expr = "a"  # a number is the place of a column, in SQLite (- -3) as well
            direction = self.rng.choice(("ASC", "DESC"))
            terms.append(f"{expr} {direction} NULLS {self.rng.choice(('FIRST', 'LAST'))}")
        return ", ".join([*terms, f"id {self.rng.choice(('ASC', 'DESC'))}"])

    def where(self) -> str:
        return f" WHERE {self.condition()}" if self.rng.random() < 0.9 else ""

    def select(self) -> str:
        rng = self.rng
        match rng.randrange(8):
            case 0:
                return (
                    f"SELECT count(*), count(a), sum(b), min(c), max({self.integer(1)}) FROM t"
                    + (self.where())
                )
            case 1:
                columns = ", ".join(rng.sample(list("abcd"), 2))
                return f"SELECT DISTINCT {columns} FROM t{self.where()}"
        items = ", ".join(("id", self.integer(), self.text()))
        limit = f" LIMIT {rng.randint(0, 8)}" if rng.random() < 0.5 else ""
        offset = f" OFFSET {rng.randint(0, 4)}" if limit and rng.random() < 0.4 else ""
        return f"SELECT {items} FROM t{self.where()} ORDER BY {self.order()}{limit}{offset}"

    def write(self, fresh: int) -> str:
        match self.rng.randrange(4):
            case 0:
                return f"DELETE FROM t WHERE ({self.condition()}) AND ({self.condition()})"
            case 1:
                values = f"{fresh}, {self.number()}, NULL, {self.word()}, {self.word()}"
                return f"INSERT INTO t VALUES ({values})"
            case 2:
                return (
                    f"INSERT INTO t SELECT id + {fresh}, {self.integer(1)}, b, d, {self.text(1)} "
                    f"FROM t WHERE ({self.condition()}) AND id < 30"
                )
        return f"UPDATE t SET a = {self.integer()}, d = {self.text(1)}{self.where()}"


def twins(rng: random.Random) -> tuple[Session, sqlite3.Connection]:
    session, other = open_session(), sqlite3.connect(":memory:")
    other.execute("PRAGMA case_sensitive_like = true")
    columns = ", ".join(
        f"{name} {kind}{' PRIMARY KEY' * (name == 'id')}" for name, kind in COLUMNS.items()
    )
    statements = [f"CREATE TABLE t ({columns})"]
    statements += [
        f"CREATE INDEX i{i} ON t ({index})" for i, index in enumerate(rng.sample(INDEXES, 3))
    ]
    for statement in statements:
        session.execute(statement)
        other.execute(statement)
    rows = [
        (i, *(rng.choice((None, *range(-3, 7))) for _ in "ab"), *(rng.choice(WORDS) for _ in "cd"))
        for i in range(30)
    ]
    session.execute_many("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
    other.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
    return session, other


@pytest.mark.parametrize("seed", SEEDS)
def test_queries_and_writes_agree_with_sqlite_and_the_columnar_engine(seed: int) -> None:
    rng = random.Random(seed)
    session, other = twins(rng)
    statements = Statements(rng)
    for number in range(STATEMENTS):
        query = statements.select()
        ours = fetch(session, query)
        theirs = [tuple(row) for row in other.execute(query)]
        columnar = columnar_rows(session, query)
        assert columnar is not None
        if "ORDER BY" in query:
            assert ours == theirs, query
            assert ours == columnar, query
        else:
            assert in_any_order(ours) == in_any_order(theirs), query
            assert in_any_order(ours) == in_any_order(columnar), query
        if number % 3 == 2:
            write = statements.write(1000 * (number + 1))
            count = session.execute(write).rowcount
            assert count == other.execute(write).rowcount, write
            everything = "SELECT * FROM t ORDER BY id"
            assert fetch(session, everything) == list(other.execute(everything)), write


def in_any_order(rows: list[Any]) -> list[Any]:
    return sorted(rows, key=repr)


def test_the_questions_reach_every_access_path() -> None:
    met = set()
    for seed in SEEDS:
        rng = random.Random(seed)
        session, _ = twins(rng)
        statements = Statements(rng)
        for _ in range(30):
            met.add(plan_of(session, statements.select())[0])
    assert met >= {
        "engine: row (full scan)",
        "engine: row (index range)",
        "engine: row (key lookup)",
        "engine: row (key range)",
    }
