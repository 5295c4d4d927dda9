"""Random queries over several tables: the row engine's answer is the columnar engine's.

Joins of every kind, grouping, subqueries, set operations over typed tables with NULLs. Each table
has keys and indexes, so that the same questions go down different paths; row counts differ enough
that both lookup and hash joins are chosen. Floats are compared to nine digits.
"""

from __future__ import annotations

import random
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from murmur.errors import DataError, MurmurError
from murmur.sql import Session
from tests.sql.session_harness import fetch, open_session, plan_of

SEEDS = range(5)
QUERIES = 40

TABLES = {
    "big": (
        "id INT PRIMARY KEY, a INT, b INT, t TEXT, d DECIMAL(8,2), f DOUBLE PRECISION, day DATE"
    ),
    "mid": "id INT PRIMARY KEY, a INT, t TEXT, y BOOLEAN, d DECIMAL(8,2)",
    "tiny": "k TEXT PRIMARY KEY, a INT, b SMALLINT",
}
INDEXES = ("big (a)", "big (t, a)", "mid (a)", "mid (t)", "tiny (a)")
SIZES = {"big": 120, "mid": 30, "tiny": 6}
WORDS = ("a", "b", "ab", "c", "", "B")
NUMBERS = {"big": ("id", "a", "b"), "mid": ("id", "a"), "tiny": ("a", "b")}
TEXTS = {"big": ("t",), "mid": ("t",), "tiny": ("k",)}
OTHERS = {"big": ("d", "f", "day"), "mid": ("y", "d"), "tiny": ()}


def made(rng: random.Random) -> Session:
    session = open_session()
    for name, columns in TABLES.items():
        session.execute(f"CREATE TABLE {name} ({columns})")
    for index in rng.sample(INDEXES, 3):
        session.execute(f"CREATE INDEX ON {index}")

    def small() -> int | None:
        return rng.choice((None, *range(-2, 12)))

    def word() -> str | None:
        return rng.choice((None, *WORDS))

    def money() -> Decimal | None:
        return rng.choice((None, Decimal(rng.randint(-300, 300)) / 4))

    big = [
        (i, small(), small(), word(), money(), rng.choice((None, i / 8, -0.5)), day(rng))
        for i in range(SIZES["big"])
    ]
    session.execute_many("INSERT INTO big VALUES (?, ?, ?, ?, ?, ?, ?)", big)
    mid = [
        (i, small(), word(), rng.choice((None, True, False)), money()) for i in range(SIZES["mid"])
    ]
    session.execute_many("INSERT INTO mid VALUES (?, ?, ?, ?, ?)", mid)
    tiny = [(each, small(), small()) for each in WORDS]
    session.execute_many("INSERT INTO tiny VALUES (?, ?, ?)", tiny)
    return session


def day(rng: random.Random) -> date | None:
    return rng.choice((None, date(2024, 1, rng.randint(1, 5))))


class Queries:
    """Random queries that mean one thing on both engines."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.fresh = 0

    def relations(self, count: int) -> list[tuple[str, str]]:
        found = []
        for _ in range(count):
            self.fresh += 1
            found.append((self.rng.choice(list(TABLES)), f"r{self.fresh}"))
        return found

    def number(self, scope: list[tuple[str, str]]) -> str:
        table, alias = self.rng.choice(scope)
        return f"{alias}.{self.rng.choice(NUMBERS[table])}"

    def text(self, scope: list[tuple[str, str]]) -> str:
        table, alias = self.rng.choice(scope)
        return f"{alias}.{self.rng.choice(TEXTS[table])}"

    def column(self, scope: list[tuple[str, str]]) -> str:
        table, alias = self.rng.choice(scope)
        names = (*NUMBERS[table], *TEXTS[table], *OTHERS[table])
        return f"{alias}.{self.rng.choice(names)}"

    def value(self, scope: list[tuple[str, str]]) -> str:
        rng = self.rng
        match rng.randrange(6):
            case 0:
                return f"{self.number(scope)} + {self.number(scope)}"
            case 1:
                return f"coalesce({self.number(scope)}, {rng.randint(0, 3)})"
            case 2:
                return (
                    f"CASE WHEN {self.condition(scope, 0)} THEN {self.number(scope)} "
                    f"ELSE {rng.randint(0, 9)} END"
                )
            case 3:
                return self.scalar(scope)
        return self.column(scope)

    def scalar(self, scope: list[tuple[str, str]]) -> str:
        inner = self.relations(1)
        call = self.rng.choice(
            ("count(*)", f"max({self.number(inner)})", f"min({self.text(inner)})")
        )
        return f"(SELECT {call} FROM {self.listed(inner)}{self.correlated(inner, scope)})"

    def listed(self, scope: list[tuple[str, str]]) -> str:
        return ", ".join(f"{table} {alias}" for table, alias in scope)

    def correlated(self, inner: list[tuple[str, str]], outer: list[tuple[str, str]]) -> str:
        words = []
        if self.rng.random() < 0.7:
            words.append(f"{self.number(inner)} = {self.number(outer)}")
        if self.rng.random() < 0.4:
            words.append(self.condition(inner, 0))
        if self.rng.random() < 0.15:
            words.append(f"{self.number(inner)} < {self.number(outer)}")
        return " WHERE " + " AND ".join(words) if words else ""

    def condition(self, scope: list[tuple[str, str]], depth: int = 2) -> str:
        rng = self.rng
        negated = rng.choice(("", "", "NOT "))
        match rng.randrange(10 if depth else 5):
            case 0:
                op = rng.choice(("=", "<", ">=", "<>"))
                return f"{self.number(scope)} {op} {rng.randint(-1, 8)}"
            case 1:
                op = rng.choice(("=", "<", ">"))
                return f"{self.text(scope)} {op} '{rng.choice(WORDS)}'"
            case 2:
                return f"{self.column(scope)} IS {negated}NULL"
            case 3:
                return f"{self.number(scope)} {negated}IN (1, 2, {rng.choice(('3', 'NULL'))})"
            case 4:
                return f"{self.number(scope)} = {self.number(scope)}"
            case 5:
                inner = self.relations(1)
                return (
                    f"{negated}EXISTS (SELECT 1 FROM {self.listed(inner)}"
                    f"{self.correlated(inner, scope)})"
                )
            case 6:
                inner = self.relations(1)
                where = self.correlated(inner, scope)
                query = f"SELECT {self.number(inner)} FROM {self.listed(inner)}{where}"
                return f"{self.number(scope)} {negated}IN ({query})"
            case 7:
                inner = self.relations(1)
                query = f"SELECT {self.number(inner)} FROM {self.listed(inner)}"
                word = rng.choice(("ANY", "ALL"))
                return f"{self.number(scope)} {rng.choice(('<', '>=', '='))} {word} ({query})"
            case 8:
                return f"NOT ({self.condition(scope, depth - 1)})"
        word = rng.choice(("AND", "AND", "OR"))
        return f"({self.condition(scope, depth - 1)} {word} {self.condition(scope, depth - 1)})"

    def joined(self, count: int) -> tuple[str, list[tuple[str, str]]]:
        """FROM, and what it has."""
        rng = self.rng
        scope = self.relations(count)
        words = f"{scope[0][0]} {scope[0][1]}"
        for i, (table, alias) in enumerate(scope[1:], 1):
            known, new = scope[:i], [(table, alias)]
            kind = rng.choice(
                ("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN")
            )
            if kind == "CROSS JOIN" and table == "big":
                kind = "JOIN"
            on = f"{self.number(new)} = {self.number(known)}"
            if rng.random() < 0.3:
                on = f"{self.text(new)} = {self.text(known)}"
            if rng.random() < 0.4 and kind != "FULL JOIN":
                on += f" AND {self.condition(scope[: i + 1], 0)}"
            words += f" {kind} {table} {alias}" + ("" if kind == "CROSS JOIN" else f" ON {on}")
        return words, scope

    def comma(self) -> tuple[str, str, list[tuple[str, str]]]:
        scope = self.relations(3)
        ties = [f"{self.number([scope[i]])} = {self.number(scope[:i])}" for i in (1, 2)]
        return self.listed(scope), " AND ".join(ties), scope

    def plain(self) -> str:
        rng = self.rng
        if rng.random() < 0.3:
            words, where, scope = self.comma()
            where = f" WHERE {where} AND {self.condition(scope)}"
        else:
            words, scope = self.joined(rng.choice((1, 2, 2, 3)))
            where = f" WHERE {self.condition(scope)}" if rng.random() < 0.7 else ""
        items = ", ".join(self.value(scope) for _ in range(rng.randint(1, 3)))
        distinct = rng.choice(("", "", "DISTINCT "))
        return f"SELECT {distinct}{items} FROM {words}{where}"

    def grouped(self) -> str:
        rng = self.rng
        words, scope = self.joined(rng.choice((1, 2, 2)))
        keys = [self.column(scope) for _ in range(rng.randint(0, 2))]
        calls = [self.aggregate(scope) for _ in range(rng.randint(1, 3))]
        where = f" WHERE {self.condition(scope)}" if rng.random() < 0.5 else ""
        group = f" GROUP BY {', '.join(keys)}" if keys else ""
        having = f" HAVING count(*) > {rng.randint(0, 3)}" if rng.random() < 0.3 else ""
        return f"SELECT {', '.join([*keys, *calls])} FROM {words}{where}{group}{having}"

    def aggregate(self, scope: list[tuple[str, str]]) -> str:
        rng = self.rng
        name = rng.choice(("count", "sum", "avg", "min", "max", "count(*)", "bool_or"))
        if name == "count(*)":
            call = name
        elif name == "bool_or":
            call = f"bool_or({self.condition(scope, 0)})"
        elif name in ("min", "max", "count"):
            call = f"{name}({self.column(scope)})"
        else:
            call = f"{name}({rng.choice(('', '', 'DISTINCT '))}{self.number(scope)})"
        if rng.random() < 0.2:
            call += f" FILTER (WHERE {self.condition(scope, 0)})"
        return call

    def derived(self) -> str:
        inner, outer = self.relations(1), self.relations(1)
        key = self.number(inner)
        query = f"SELECT {key} AS k, count(*) AS n FROM {self.listed(inner)} GROUP BY {key}"
        on = f"s.k = {self.number(outer)}"
        kind = self.rng.choice(("JOIN", "LEFT JOIN"))
        words = f"{self.listed(outer)} {kind}"
        where = self.rng.choice(("", " WHERE s.n > 2", f" WHERE {self.condition(outer)}"))
        items = f"{self.column(outer)}, s.k, s.n"
        if self.rng.random() < 0.5:
            again = ("(SELECT count(*) FROM s)", "(SELECT max(t.n) FROM s t WHERE t.k < s.k)")
            items += self.rng.choice(("", *(f", {each}" for each in again)))
            return f"WITH s AS ({query}) SELECT {items} FROM {words} s ON {on}{where}"
        if self.rng.random() < 0.3:
            query = f"SELECT {key} AS k, {self.number(inner)} AS n FROM {self.listed(inner)}"
        return f"SELECT {items} FROM {words} ({query}) s ON {on}{where}"

    def combined(self) -> str:
        op = self.rng.choice(("UNION", "INTERSECT", "EXCEPT")) + self.rng.choice(("", " ALL"))
        sides = []
        for _ in range(2):
            scope = self.relations(1)
            items = f"{self.number(scope)} AS x, {self.text(scope)} AS y"
            sides.append(f"SELECT {items} FROM {self.listed(scope)} WHERE {self.condition(scope)}")
        return f" {op} ".join(sides)

    def query(self) -> str:
        makers = (self.plain, self.plain, self.grouped, self.grouped, self.derived, self.combined)
        return self.rng.choice(makers)()


def answer(session: Session, engine: str, query: str) -> list[Any] | type[MurmurError]:
    session.execute(f"SET engine = '{engine}'")
    try:
        return sorted((tuple(map(plain, row)) for row in fetch(session, query)), key=repr)
    except DataError as error:
        return type(error)
    finally:
        session.execute("RESET engine")


def plain(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def compare(seed: int, count: int) -> set[str]:
    """Ask both engines, and give the operators that the row engine used."""
    rng = random.Random(seed)
    session, queries = made(rng), Queries(rng)
    met = set()
    for _ in range(count):
        query = queries.query()
        row, columnar = answer(session, "row", query), answer(session, "columnar", query)
        lines = plan_of(session, query)
        assert row == columnar, "\n".join([query, *lines])
        met |= {" ".join(line.split()[:3]) for line in lines}
    return met


@pytest.mark.parametrize("seed", SEEDS)
def test_both_engines_give_one_answer(seed: int) -> None:
    compare(seed, QUERIES)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 140))
def test_both_engines_give_one_answer_to_many(seed: int) -> None:
    compare(seed, 200)
