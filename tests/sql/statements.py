# ruff: noqa: E501 - pieces of SQL are easier to read whole
"""Random SELECTs over several typed tables with NULLs, in the words that engines share.

    queries = Queries(random.Random(7))
    queries.query()  ->  Query("SELECT r1.a, count(*) FROM t AS r1 LEFT JOIN u AS r2 ON ...", True)

Every expression is built with a type, so nothing depends on how an engine coerces. Numbers stay
small, divisors are constants, windows are ordered by a key: what an answer depends on is said in
the text. With `shared` only what SQLite knows too is used; without it PostgreSQL's own words
(dates, DECIMALs, ILIKE, casts, LATERAL, DISTINCT ON, ANY, grouping sets) come as well.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

WORDS = ("", "x", "xy", "Xy", "yx", "z_z", "%", "x y")
PATTERNS = ("%", "x%", "%y", "_", "_y%", "z\\_z", "%x%", "")
TABLES = {
    "t": {"id": "int", "a": "int", "b": "int", "c": "text", "d": "text"},
    "u": {"id": "int", "a": "int", "k": "int", "c": "text"},
    "v": {"k": "int", "s": "text"},
}
MORE_COLUMNS = {"t": {"e": "date", "p": "decimal"}, "u": {"e": "date"}, "v": {"p": "decimal"}}
TYPES = {"int": "INTEGER", "text": "TEXT", "date": "DATE", "decimal": "DECIMAL(8,2)"}
INDEXES = ("t (a)", "t (b, a)", "t (c, b DESC)", "t (a DESC, c)", "u (a)", "u (k, c)", "v (s)")
ROWS = {"t": 24, "u": 12, "v": 6}


class Query(NamedTuple):
    """A query, and whether its rows come in one order only."""

    text: str
    ordered: bool = False


@dataclass(slots=True)
class Relation:
    """What FROM brings into scope."""

    name: str
    columns: dict[str, str]  # by name: their types


@dataclass(slots=True)
class Scope:
    """Relations to name columns of, innermost last."""

    relations: list[Relation] = field(default_factory=list)

    def columns(self, kind: str) -> list[str]:
        return [
            f"{relation.name}.{name}"
            for relation in self.relations
            for name, each in relation.columns.items()
            if each == kind
        ]


def schema(rng: random.Random, *, shared: bool) -> tuple[list[str], dict[str, list[Any]]]:
    """Statements that make the tables, and their rows."""
    statements, rows = [], {}
    for name, columns in TABLES.items():
        every = dict(columns) if shared else columns | MORE_COLUMNS[name]
        said = ", ".join(
            f"{column} {TYPES[kind]}{' PRIMARY KEY' * (column == 'id')}"
            for column, kind in every.items()
        )
        statements.append(f"CREATE TABLE {name} ({said})")
        rows[name] = [
            tuple(number if column == "id" else _value(rng, kind) for column, kind in every.items())
            for number in range(ROWS[name])
        ]
    for number, index in enumerate(rng.sample(INDEXES, 3)):
        statements.append(f"CREATE INDEX i{number} ON {index}")
    return statements, rows


def _value(rng: random.Random, kind: str) -> Any:
    if rng.random() < 0.2:
        return None
    match kind:
        case "int":
            return rng.randint(-2, 5)
        case "text":
            return rng.choice(WORDS)
        case "date":
            return f"2024-0{rng.randint(1, 4)}-{rng.randint(27, 29)}"
    return f"{rng.randint(-3, 3)}.{rng.choice(('00', '25', '50', '99'))}"


class Queries:
    """A stream of queries."""

    def __init__(self, rng: random.Random, *, shared: bool = True) -> None:
        self.rng = rng
        self.shared = shared
        self._names = 0

    # Queries -------------------------------------------------------------------------------------

    def query(self) -> Query:
        """One query."""
        rng = self.rng
        match rng.randrange(12):
            case 0 | 1:
                return self._set_operation()
            case 2:
                return self._with()
            case 3 | 4:
                return self._windowed()
            case 5 | 6 | 7:
                return self._ended(*self._grouped())
            case 8 if not self.shared:
                return self._own()
        return self._ended(*self._plain())

    def _plain(self) -> tuple[str, int]:
        rng = self.rng
        from_, scope = self._from()
        items = [self.expression(scope) for _ in range(rng.randint(1, 3))]
        distinct = "DISTINCT " if rng.random() < 0.25 else ""
        said = ", ".join(f"{item} AS c{i}" for i, item in enumerate(items))
        return f"SELECT {distinct}{said}{from_}{self._where(scope)}", len(items)

    def _grouped(self) -> tuple[str, int]:
        rng = self.rng
        from_, scope = self._from()
        keys = [self.expression(scope, depth=1, columns=True) for _ in range(rng.randint(0, 2))]
        items = [*keys, *(self.aggregate(scope) for _ in range(rng.randint(1, 3)))]
        group = having = ""
        if keys:
            group = " GROUP BY " + self._grouping(keys)
        if rng.random() < 0.4:
            having = (
                f" HAVING {self.number_aggregate(scope)} {self._operator()} {rng.randint(0, 4)}"
            )
        said = ", ".join(f"{item} AS c{i}" for i, item in enumerate(items))
        return f"SELECT {said}{from_}{self._where(scope)}{group}{having}", len(items)

    def _grouping(self, keys: Sequence[str]) -> str:
        if not self.shared and self.rng.random() < 0.3:
            said = ", ".join(keys)
            return self.rng.choice(
                (f"ROLLUP ({said})", f"CUBE ({said})", f"GROUPING SETS (({said}), ())")
            )
        return ", ".join(keys)

    def _windowed(self) -> Query:
        rng = self.rng
        table = rng.choice(("t", "u"))
        relation = Relation(self._name(), self._columns(table))
        scope = Scope([relation])
        order = ", ".join(
            [f"{rng.choice(scope.columns('int'))}{self._direction()}"] * (rng.random() < 0.5)
            + [f"{relation.name}.id"]
        )
        partition = f"PARTITION BY {self.expression(scope, depth=1, columns=True)} "
        over = f"{partition if rng.random() < 0.6 else ''}ORDER BY {order}{self._frame()}"
        bare = over if "ROWS" not in over else over[: over.index(" ROWS")]
        column = rng.choice(scope.columns("int"))
        windows = [
            f"sum({column}) OVER ({over})",
            f"count({column}) OVER ({over})",
            f"min({rng.choice(scope.columns('text'))}) OVER ({over})",
            f"max({column}) OVER ({over})",
            f"first_value({column}) OVER ({over})",
            f"row_number() OVER ({bare})",
            f"rank() OVER ({bare})",
            f"dense_rank() OVER ({bare})",
            f"lag({column}, {rng.randint(1, 2)}) OVER ({bare})",
            f"lead({column}) OVER ({bare})",
            f"ntile({rng.randint(1, 4)}) OVER ({bare})",
        ]
        said = ", ".join(
            f"{item} AS c{i}"
            for i, item in enumerate([f"{relation.name}.id", *rng.sample(windows, 2)])
        )
        text = f"SELECT {said} FROM {table} AS {relation.name}{self._where(scope)}"
        return self._ended(text, 3)

    def _frame(self) -> str:
        rng = self.rng
        if rng.random() < 0.5:
            return ""
        start = rng.choice(("UNBOUNDED PRECEDING", "2 PRECEDING", "CURRENT ROW"))
        stop = rng.choice(("CURRENT ROW", "1 FOLLOWING", "UNBOUNDED FOLLOWING"))
        return f" ROWS BETWEEN {start} AND {stop}"

    def _set_operation(self) -> Query:
        rng = self.rng
        kinds = [rng.choice(("int", "text")) for _ in range(rng.randint(1, 2))]
        words = ["UNION", "UNION ALL", "INTERSECT", "EXCEPT"]
        if not self.shared:
            words += ["INTERSECT ALL", "EXCEPT ALL"]
        sides = [self._typed(kinds) for _ in range(2)]
        return self._ended(f" {rng.choice(words)} ".join(sides), len(kinds))

    def _typed(self, kinds: Sequence[str]) -> str:
        from_, scope = self._from(most=2)
        said = ", ".join(f"{self.typed(kind, scope, 1)} AS c{i}" for i, kind in enumerate(kinds))
        return f"SELECT {said}{from_}{self._where(scope)}"

    def _with(self) -> Query:
        rng = self.rng
        if rng.random() < 0.3:
            seed = "SELECT id, a, 0 FROM u WHERE a IS NOT NULL"
            step = (
                f"SELECT t.id, t.b, n + 1 FROM w JOIN t ON t.a = w.x WHERE n < {rng.randint(1, 2)}"
            )
            text = f"WITH RECURSIVE w (i, x, n) AS ({seed} UNION {step}) SELECT i, x, n FROM w"
            return self._ended(text, 3)
        inner = self._typed(["int", "text"])
        name = self._name()
        relation = Relation(name, {"c0": "int", "c1": "text"})
        other = Relation(self._name(), self._columns("u"))
        scope = Scope([relation, other])
        said = f"{self.integer(scope, 1)} AS c0, {self.text(scope, 1)} AS c1"
        from_ = f"{name} {self._join()} u AS {other.name} ON {self._on(scope)}"
        text = f"WITH {name} AS ({inner}) SELECT {said} FROM {from_}{self._where(scope)}"
        return self._ended(text, 2)

    def _own(self) -> Query:
        """What SQLite does not know."""
        rng = self.rng
        relation = Relation(self._name(), self._columns("t"))
        scope = Scope([relation])
        name = relation.name
        match rng.randrange(4):
            case 0:
                key = rng.choice(scope.columns("int"))
                order = f"{key} NULLS FIRST, {name}.id{self._direction()}"
                text = f"SELECT DISTINCT ON ({key}) {key}, {name}.c FROM t AS {name}{self._where(scope)}"
                return Query(f"{text} ORDER BY {order}", ordered=True)
            case 1:
                inner = Relation(self._name(), self._columns("u"))
                both = Scope([relation, inner])
                lateral = (
                    f"SELECT {self.number_aggregate(Scope([inner]))} AS n "
                    f"FROM u AS {inner.name} WHERE {self._on(both)}"
                )
                from_ = f"t AS {name} CROSS JOIN LATERAL ({lateral}) AS l"
                return self._ended(f"SELECT {name}.id AS c0, l.n AS c1 FROM {from_}", 2)
            case 2:
                inner = Relation(self._name(), self._columns("u"))
                word = rng.choice(("= ANY", "<> ALL", "< ANY", ">= ALL"))
                query = f"SELECT {inner.name}.a FROM u AS {inner.name}{self._where(Scope([inner]))}"
                item = rng.choice(scope.columns("int"))
                return self._ended(
                    f"SELECT {name}.id AS c0, {item} {word} ({query}) AS c1 FROM t AS {name}", 2
                )
        items = [f"{name}.id", self.date(scope), self.decimal(scope)]
        said = ", ".join(f"{item} AS c{i}" for i, item in enumerate(items))
        return self._ended(f"SELECT {said} FROM t AS {name}{self._where(scope)}", 3)

    def _ended(self, text: str, width: int) -> Query:
        """Perhaps ordered by every column, so that a LIMIT has one answer."""
        rng = self.rng
        if rng.random() < 0.4:
            return Query(text)
        terms = [f"{i + 1}{self._direction()}" for i in range(width)]
        rng.shuffle(terms)
        text += " ORDER BY " + ", ".join(terms)
        if rng.random() < 0.5:
            text += f" LIMIT {rng.randint(0, 9)}"
            if rng.random() < 0.4:
                text += f" OFFSET {rng.randint(0, 4)}"
        return Query(text, ordered=True)

    def _direction(self) -> str:
        word, nulls = self.rng.choice((" ASC", " DESC")), self.rng.choice(("FIRST", "LAST"))
        return f"{word} NULLS {nulls}"

    # Relations -----------------------------------------------------------------------------------

    def parts(self) -> tuple[str, str]:
        """FROM, and a condition over it: what the metamorphic checks need."""
        from_, scope = self._from()
        return from_, self.condition(scope)

    def _name(self) -> str:
        self._names += 1
        return f"r{self._names}"

    def _columns(self, table: str) -> dict[str, str]:
        return TABLES[table] if self.shared else TABLES[table] | MORE_COLUMNS[table]

    def _from(self, most: int = 3) -> tuple[str, Scope]:
        rng = self.rng
        scope = Scope()
        text = " FROM " + self._relation(scope)
        for _ in range(rng.choice((0, 0, 1, 1, 2)) if most > 1 else 0):
            if len(scope.relations) == most:
                break
            if rng.random() < 0.2:
                text += f", {self._relation(scope)}"
                # A comma binds less than JOIN: those after it cannot name what stood before.
                return text, scope
            text += f" {self._join()} {self._relation(scope)} ON {self._on(scope)}"
        return text, scope

    def _join(self) -> str:
        return self.rng.choice(("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))

    def _relation(self, scope: Scope) -> str:
        name = self._name()
        if self.rng.random() < 0.15:
            inner = self._typed(["int", "text"])
            scope.relations.append(Relation(name, {"c0": "int", "c1": "text"}))
            return f"({inner}) AS {name}"
        table = self.rng.choice(("t", "t", "u", "u", "v"))
        scope.relations.append(Relation(name, self._columns(table)))
        return f"{table} AS {name}"

    def _on(self, scope: Scope) -> str:
        """An equality of a column of the last relation with one before; FULL JOIN needs one."""
        rng = self.rng
        last = Scope(scope.relations[-1:])
        before = Scope(scope.relations[:-1])
        left, right = rng.choice(before.columns("int")), rng.choice(last.columns("int"))
        if rng.random() < 0.2:
            return f"{rng.choice(before.columns('text'))} = {rng.choice(last.columns('text'))}"
        return f"{left} = {right}"

    def _where(self, scope: Scope) -> str:
        return f" WHERE {self.condition(scope)}" if self.rng.random() < 0.6 else ""

    # Expressions ---------------------------------------------------------------------------------

    def expression(self, scope: Scope, *, depth: int = 2, columns: bool = False) -> str:
        """An expression of some type; `columns`: with a column in it, as GROUP BY wants."""
        while True:
            text = self.typed(self.rng.choice(("int", "int", "text")), scope, depth)
            if not columns or ("." in text and "SELECT" not in text):
                return text

    def typed(self, kind: str, scope: Scope, depth: int = 2) -> str:
        match kind:
            case "int":
                return self.integer(scope, depth)
            case "text":
                return self.text(scope, depth)
            case "date":
                return self.date(scope)
        return self.decimal(scope)

    def integer(self, scope: Scope, depth: int = 2) -> str:
        rng = self.rng
        match rng.randrange(14) if depth > 0 else rng.randrange(4):
            case 0:
                return str(rng.randint(-3, 6))
            case 1 | 2 | 3:
                return rng.choice(scope.columns("int"))
            case 4:
                return (
                    f"({self.integer(scope, depth - 1)} {rng.choice('+-*')} "
                    f"{self.integer(scope, depth - 1)})"
                )
            case 5:
                return f"({self.integer(scope, depth - 1)} {rng.choice('/%')} {rng.randint(1, 4)})"
            case 6:
                return f"(- {self.integer(scope, depth - 1)})"
            case 7:
                return f"coalesce({self.integer(scope, depth - 1)}, {self.integer(scope, 0)})"
            case 8:
                return f"length({self.text(scope, depth - 1)})"
            case 9:
                return f"abs({self.integer(scope, depth - 1)})"
            case 10:
                return f"nullif({self.integer(scope, depth - 1)}, {rng.randint(-1, 3)})"
            case 11:
                return self._scalar(scope, "int")
            case 12:
                value = self.integer(scope, depth - 1)
                return f"CASE {value} WHEN 1 THEN {rng.randint(0, 3)} WHEN 2 THEN NULL ELSE {self.integer(scope, 0)} END"
        return (
            f"CASE WHEN {self.condition(scope, 1)} THEN {self.integer(scope, 0)} "
            f"ELSE {self.integer(scope, 0)} END"
        )

    def text(self, scope: Scope, depth: int = 2) -> str:
        rng = self.rng
        columns = scope.columns("text")
        match rng.randrange(12) if depth > 0 else rng.randrange(4):
            case 0:
                return f"'{rng.choice(WORDS)}'"
            case 1 | 2 | 3:
                return rng.choice(columns)
            case 4:
                return f"({self.text(scope, depth - 1)} || {self.text(scope, depth - 1)})"
            case 5:
                return f"{rng.choice(('upper', 'lower', 'trim'))}({self.text(scope, depth - 1)})"
            case 6:
                return f"substr({self.text(scope, depth - 1)}, {rng.randint(1, 2)}, {rng.randint(0, 2)})"
            case 7:
                return f"replace({self.text(scope, depth - 1)}, 'x', {self.text(scope, 0)})"
            case 8:
                return f"CAST({self.integer(scope, depth - 1)} AS TEXT)"
            case 9:
                return f"nullif({self.text(scope, depth - 1)}, '{rng.choice(WORDS)}')"
            case 10:
                return self._scalar(scope, "text")
        return f"coalesce({self.text(scope, depth - 1)}, {self.text(scope, 0)})"

    def date(self, scope: Scope, depth: int = 1) -> str:
        rng = self.rng
        column = rng.choice(scope.columns("date") or ["DATE '2024-02-28'"])
        match rng.randrange(4) if depth else 0:
            case 1:
                return f"({column} + {rng.randint(-3, 40)})"
            case 2:
                return f"CAST({column} + INTERVAL '{rng.randint(1, 3)} month' AS DATE)"
            case 3:
                return f"coalesce({column}, DATE '2024-03-01')"
        return column

    def decimal(self, scope: Scope, depth: int = 1) -> str:
        rng = self.rng
        column = rng.choice(scope.columns("decimal") or ["1.25"])
        match rng.randrange(5) if depth else 0:
            case 1:
                return f"({column} {rng.choice('+-*')} {self.decimal(scope, 0)})"
            case 2:
                return f"round({column} * 1.5, {rng.randint(0, 2)})"
            case 3:
                return f"(- {column})"
            case 4:
                return f"abs({column})"
        return column

    def _scalar(self, scope: Scope, kind: str) -> str:
        """A scalar subquery: an aggregate, of rows that meet the outer one's."""
        inner = Relation(self._name(), self._columns("u"))
        own = Scope([inner])
        column = self.rng.choice(own.columns(kind))
        meets = (
            f" WHERE {self._on(Scope([*scope.relations, inner]))}"
            if self.rng.random() < 0.7
            else ""
        )
        return f"(SELECT {self.rng.choice(('min', 'max'))}({column}) FROM u AS {inner.name}{meets})"

    def number_aggregate(self, scope: Scope) -> str:
        rng = self.rng
        filter_ = f" FILTER (WHERE {self.condition(scope, 1)})" if rng.random() < 0.2 else ""
        match rng.randrange(5):
            case 0:
                return f"count(*){filter_}"
            case 1:
                return f"count(DISTINCT {self._flat(scope)}){filter_}"
            case 2:
                return f"sum({self._flat(scope)}){filter_}"
        return f"{rng.choice(('min', 'max', 'count'))}({self._flat(scope)}){filter_}"

    def aggregate(self, scope: Scope) -> str:
        rng = self.rng
        if rng.random() < 0.2:
            return f"{rng.choice(('min', 'max'))}({rng.choice(scope.columns('text'))})"
        if rng.random() < 0.1:
            return f"avg({rng.choice(scope.columns('int'))})"
        return self.number_aggregate(scope)

    def _flat(self, scope: Scope) -> str:
        """An integer expression without a subquery: SQLite has trouble with those in aggregates."""
        while "SELECT" in (text := self.integer(scope, 1)):
            pass
        return text

    # Conditions ----------------------------------------------------------------------------------

    def _operator(self) -> str:
        return self.rng.choice(("=", "<", "<=", ">", ">=", "<>"))

    def condition(self, scope: Scope, depth: int = 2) -> str:
        rng = self.rng
        negated = rng.choice(("", "NOT "))
        match rng.randrange(17) if depth > 0 else rng.randrange(5):
            case 0 | 1:
                return f"{rng.choice(scope.columns('int'))} {self._operator()} {rng.randint(-2, 5)}"
            case 2:
                return (
                    f"{rng.choice(scope.columns('text'))} {self._operator()} '{rng.choice(WORDS)}'"
                )
            case 3:
                column = rng.choice(scope.columns("int") + scope.columns("text"))
                return f"{column} IS {negated}NULL"
            case 4:
                items = ", ".join(rng.choice((str(rng.randint(-2, 5)), "NULL")) for _ in range(2))
                return (
                    f"{rng.choice(scope.columns('int'))} {negated}IN ({rng.randint(0, 4)}, {items})"
                )
            case 5:
                return f"{self.integer(scope)} {self._operator()} {self.integer(scope, 1)}"
            case 6:
                return f"{self.text(scope)} {self._operator()} {self.text(scope, 1)}"
            case 7:
                return f"{self.text(scope, 1)} {negated}LIKE {self._pattern()}"
            case 8:
                return f"NOT ({self.condition(scope, depth - 1)})"
            case 9:
                value = self.integer(scope, 1)
                return f"{value} {negated}BETWEEN {self.integer(scope, 0)} AND {self.integer(scope, 0)}"
            case 10:
                return (
                    f"{self.integer(scope, 1)} IS {negated}DISTINCT FROM {self.integer(scope, 1)}"
                )
            case 11:
                inner = Relation(self._name(), self._columns("u"))
                own = Scope([inner])
                query = f"SELECT {self.integer(own, 0)} FROM u AS {inner.name}{self._where(own)}"
                return f"{self.integer(scope, 1)} {negated}IN ({query})"
            case 12:
                inner = Relation(self._name(), self._columns("t"))
                both = Scope([*scope.relations, inner])
                also = f" AND {self.condition(Scope([inner]), 0)}" if rng.random() < 0.5 else ""
                return f"{negated}EXISTS (SELECT 1 FROM t AS {inner.name} WHERE {self._on(both)}{also})"
            case 13 if not self.shared:
                return self._own_condition(scope)
        word = rng.choice(("AND", "AND", "OR"))
        return f"({self.condition(scope, depth - 1)} {word} {self.condition(scope, depth - 1)})"

    def _pattern(self) -> str:
        patterns = [each for each in PATTERNS if not self.shared or "\\" not in each]
        return f"'{self.rng.choice(patterns)}'"

    def _own_condition(self, scope: Scope) -> str:
        rng = self.rng
        match rng.randrange(4):
            case 0:
                return f"{self.text(scope, 1)} ILIKE {self._pattern()}"
            case 1:
                return f"{self.date(scope)} {self._operator()} DATE '2024-02-28'"
            case 2:
                return f"{self.decimal(scope)} {self._operator()} {self.integer(scope, 0)}"
        # Without NULLs: DuckDB takes those of rows for equal (docs/sql.md).
        left, right = (
            f"(coalesce({self.integer(scope, 0)}, 0), coalesce({self.text(scope, 0)}, ''))"
            for _ in range(2)
        )
        return f"{left} = {right}"
