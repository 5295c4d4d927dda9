"""The text with which the columnar engine is asked: PostgreSQL's meaning in DuckDB's words.

    SELECT a / b FROM t WHERE c LIKE ? ORDER BY a DESC        (PostgreSQL's words)
      -> SELECT "a" / "b" AS "a / b" FROM "murmur_r0" AS "t" WHERE "c" LIKE $p0 ESCAPE '\\'
         ORDER BY "a" DESC NULLS FIRST                        (DuckDB's)

What the text can say, it says: the place of NULLs here, the rest in columnar_rewrites.py. What it
cannot, the engine
is set to: integer division that truncates, an error for 1e0 / 0, UTC. Values never become text.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ErrorLevel, SqlglotError

from murmur.errors import Unsupported
from murmur.sql.columnar_rewrites import rewrite

Tree: TypeAlias = Any  # sqlglot's


class _Generator(DuckDB.Generator):  # type: ignore[misc]  # sqlglot is untyped here
    """DuckDB's words, with the place of NULLs always said."""

    def ordered_sql(self, expression: Tree) -> str:
        direction = "DESC" if expression.args.get("desc") else "ASC"
        nulls = "FIRST" if expression.args.get("nulls_first") else "LAST"
        return f"{self.sql(expression, 'this')} {direction} NULLS {nulls}"


def columnar_text(query: Tree) -> str:
    """The text of a query that a ColumnarBinder has bound."""
    generator = _Generator(dialect=DuckDB(), unsupported_level=ErrorLevel.RAISE, comments=False)
    try:
        rewrite(query)
        text: str = generator.generate(query)
    except SqlglotError as error:
        raise Unsupported(f"the columnar engine cannot run this: {error}") from None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # Rewrites and the generator take arguments for granted that a text may leave out.
        message = "a function of another dialect, or with arguments that it does not take"
        raise Unsupported(f"the columnar engine cannot run this: {message}") from error
    return text
