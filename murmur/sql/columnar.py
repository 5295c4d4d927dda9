"""The seam to the columnar engine: what it is asked, and the text it is asked with.

    SELECT a / b FROM t WHERE c LIKE ? ORDER BY a DESC        (PostgreSQL's words)
      -> SELECT "a" / "b" AS "a / b" FROM "murmur_r0" AS "t" WHERE "c" LIKE $p0 ESCAPE '\\'
         ORDER BY "a" DESC NULLS FIRST                        (DuckDB's)
      -> run(text, {"p0": ...}, {"murmur_r0": Relation(table t, view)})

What the text can say, it says: the place of NULLs, the escape character. What it cannot, the engine
is set to: integer division that truncates, an error for 1e0 / 0, UTC. Values never become text.

swarm hands the engine in, olap has it: this floor knows the Protocol only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ErrorLevel, SqlglotError

from murmur.catalog.schema import Table
from murmur.catalog.types import SqlType
from murmur.errors import Unsupported
from murmur.kvcore.view import View

Tree: TypeAlias = Any  # sqlglot's


@dataclass(frozen=True, slots=True)
class Relation:
    """What a name in the text stands for: a table, its history (`history`), or `rows`."""

    view: View
    table: Table | None = None
    private: bool = False  # the view has uncommitted writes: nothing read from it may be kept
    columns: tuple[tuple[str, SqlType | None], ...] = ()  # of `rows`
    rows: Iterable[tuple[Any, ...]] | None = None
    history: bool = False


class ColumnarEngine(Protocol):
    """Runs one SELECT over relations. A parameter called p0 stands in the text as $p0."""

    def run(
        self, sql: str, parameters: Mapping[str, object], relations: Mapping[str, Relation]
    ) -> Any:
        """The answer, a pyarrow.Table."""
        ...

    def rows(self, table: Any) -> Iterator[tuple[Any, ...]]:
        """An answer's rows as Python values, what the row engine would give."""
        ...

    def explain(
        self, sql: str, parameters: Mapping[str, object], relations: Mapping[str, Relation]
    ) -> str:
        """The engine's own plan, as text."""
        ...


class _Generator(DuckDB.Generator):  # type: ignore[misc]  # sqlglot is untyped here
    """DuckDB's words, with the place of NULLs always said."""

    def ordered_sql(self, expression: Tree) -> str:
        direction = "DESC" if expression.args.get("desc") else "ASC"
        nulls = "FIRST" if expression.args.get("nulls_first") else "LAST"
        return f"{self.sql(expression, 'this')} {direction} NULLS {nulls}"


def columnar_text(query: Tree) -> str:
    """The text of a query that a ColumnarBinder has bound."""
    for node in list(query.find_all(exp.Like, exp.ILike)):
        if not isinstance(node.parent, exp.Escape):
            # PostgreSQL's escape character is \\ unless said otherwise; DuckDB has none.
            copy = node.copy()
            node.replace(exp.Escape(this=copy, expression=exp.Literal.string("\\")))
    generator = _Generator(dialect=DuckDB(), unsupported_level=ErrorLevel.RAISE, comments=False)
    try:
        text: str = generator.generate(query)
    except SqlglotError as error:
        raise Unsupported(f"the columnar engine cannot run this: {error}") from None
    return text
