"""The text with which the columnar engine is asked: PostgreSQL's meaning in DuckDB's words.

    SELECT a / b FROM t WHERE c LIKE ? ORDER BY a DESC        (PostgreSQL's words)
      -> SELECT "a" / "b" AS "a / b" FROM "murmur_r0" AS "t" WHERE "c" LIKE $p0 ESCAPE '\\'
         ORDER BY "a" DESC NULLS FIRST                        (DuckDB's)

What the text can say, it says: the place of NULLs, the escape character. What it cannot, the engine
is set to: integer division that truncates, an error for 1e0 / 0, UTC. Values never become text.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ErrorLevel, SqlglotError

from murmur.errors import Unsupported

Tree: TypeAlias = Any  # sqlglot's


class _Generator(DuckDB.Generator):  # type: ignore[misc]  # sqlglot is untyped here
    """DuckDB's words, with the place of NULLs always said."""

    def ordered_sql(self, expression: Tree) -> str:
        direction = "DESC" if expression.args.get("desc") else "ASC"
        nulls = "FIRST" if expression.args.get("nulls_first") else "LAST"
        return f"{self.sql(expression, 'this')} {direction} NULLS {nulls}"


def columnar_text(query: Tree) -> str:
    """The text of a query that a ColumnarBinder has bound."""
    for node in list(query.walk()):
        said = _REWRITES.get(type(node))
        if said is not None:
            said(node)
    generator = _Generator(dialect=DuckDB(), unsupported_level=ErrorLevel.RAISE, comments=False)
    try:
        text: str = generator.generate(query)
    except SqlglotError as error:
        raise Unsupported(f"the columnar engine cannot run this: {error}") from None
    return text


# What means something else in DuckDB -------------------------------------------------------------


def _like(node: Tree) -> None:
    """PostgreSQL's escape character is the backslash unless said otherwise; DuckDB has none."""
    if not isinstance(node.parent, exp.Escape):
        escape = exp.Escape(expression=exp.Literal.string("\\"))
        node.replace(escape)
        escape.set("this", node)


def _cast(node: Tree) -> None:
    """A cast to VARCHAR(n) cuts; DuckDB takes no notice of n."""
    target = node.args["to"]
    if target.this not in (exp.DType.VARCHAR, exp.DType.CHAR, exp.DType.BPCHAR):
        return
    length = target.expressions[0].this if target.expressions else None
    if length is None and target.this is exp.DType.CHAR:
        length = exp.Literal.number(1)
    node.set("to", exp.DataType.build("TEXT"))
    if length is not None:
        cut = exp.Left(expression=length.copy())
        node.replace(cut)
        cut.set("this", node)


def _hex(node: Tree) -> None:
    """to_hex gives small letters."""
    lower = exp.Lower()
    node.replace(lower)
    lower.set("this", node)


def _literal(node: Tree) -> None:
    """1e5 is exact and not an integer; DuckDB takes it for a DOUBLE."""
    text = node.this
    if not node.is_string and "e" in text.lower():
        plain = format(Decimal(text), "f") if len(text) < _MAX_DIGITS else ""
        if plain and len(plain) < _MAX_DIGITS:
            node.set("this", plain if "." in plain else plain + ".0")


_MAX_DIGITS = 38
_REWRITES: dict[type, Callable[[Tree], None]] = {
    exp.Like: _like,
    exp.ILike: _like,
    exp.Cast: _cast,
    exp.Hex: _hex,
    exp.Literal: _literal,
}
