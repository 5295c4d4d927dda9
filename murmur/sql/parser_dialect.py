"""PostgreSQL's grammar as sqlglot reads it, with the lines that Murmur draws around it.

    StatementDialect      `?` is a parameter, numbered by its place; there are no lambdas
    SyntaxFault           what is wrong, and where

The trees are sqlglot's; parser.py draws the other lines (limits, one statement a call).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError as SqlglotParseError
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokens import TokenType

from murmur.errors import Unsupported
from murmur.sql.interval_fields import FIELDS
from murmur.sql.normal_form import CALLED_AS_WRITTEN
from murmur.sql.place import place

Token: TypeAlias = Any  # sqlglot's
Tree: TypeAlias = Any


class SyntaxFault(SqlglotParseError):  # type: ignore[misc]  # sqlglot is untyped here
    """A syntax error that knows its place; sqlglot catches it when it tries another reading."""

    def __init__(self, message: str, start: int) -> None:
        super().__init__(message)
        self.message = message
        self.start = start


def _kept(name: str) -> Callable[[list[Tree]], Tree]:
    return lambda arguments: exp.Anonymous(this=name, expressions=arguments)


_TYPED_LITERALS = (TokenType.DATE, TokenType.TIME, TokenType.TIMESTAMP, TokenType.TIMESTAMPTZ)


class StatementParser(PostgresParser):  # type: ignore[misc]
    """PostgreSQL's grammar, with numbered parameters and errors that know their place."""

    numbers: Mapping[int, int] = {}

    PLACEHOLDER_PARSERS: ClassVar[dict[TokenType, Callable[[Any], Any]]] = {
        TokenType.PLACEHOLDER: lambda self: self.parameter(self._prev),
        TokenType.PARAMETER: lambda self: self.parameter(self._prev, skip=True),
        TokenType.COLON: lambda self: self.parameter(self._prev, skip=True),
    }
    # What sqlglot would translate, and lose a part of.
    FUNCTIONS: ClassVar[dict[str, Callable[..., Any]]] = {
        **PostgresParser.FUNCTIONS,
        **{name.upper(): _kept(name) for name in CALLED_AS_WRITTEN},
    }
    FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {
        name: parse
        for name, parse in PostgresParser.FUNCTION_PARSERS.items()
        if name.lower() not in CALLED_AS_WRITTEN
    }
    # ALTER TABLE ... ADD CHECK (...), which sqlglot reads with CONSTRAINT and a name only.
    ADD_CONSTRAINT_KEYWORDS: ClassVar[set[str]] = {*PostgresParser.ADD_CONSTRAINT_KEYWORDS, "CHECK"}
    # `?` is a parameter, never the operator that asks whether a JSON value has a key.
    JSON_OPERATORS: ClassVar[dict[TokenType, Callable[..., Any]]] = {
        key: value
        for key, value in PostgresParser.JSON_OPERATORS.items()
        if key is not TokenType.PLACEHOLDER
    }

    # `f(a -> 'k')` passes a member of a JSON value; PostgreSQL has no lambdas.
    LAMBDAS: ClassVar[dict[TokenType, Callable[..., Any]]] = {
        key: value for key, value in PostgresParser.LAMBDAS.items() if key is not TokenType.ARROW
    }

    # These bind less than arithmetic does, as all operators that have no rank of their own.
    UNARY_PARSERS: ClassVar[dict[TokenType, Callable[..., Any]]] = {
        **PostgresParser.UNARY_PARSERS,
        TokenType.RLIKE: lambda self: self.expression(exp.BitwiseNot(this=self._parse_term())),
        TokenType.PIPE_SLASH: lambda self: self.expression(exp.Sqrt(this=self._parse_term())),
        TokenType.DPIPE_SLASH: lambda self: self.expression(exp.Cbrt(this=self._parse_term())),
        TokenType.PARAMETER: lambda self: self.absolute(),
    }

    def absolute(self) -> Tree:
        """@ x, which is abs(x) and binds as ~ does; or a parameter, whose $ is the same token."""
        if self.sql[self._prev.start] == "@":
            return self.expression(exp.Abs(this=self._parse_term()))
        self._retreat(self._index - 1)
        return self._parse_type()

    def _parse_interval_span(self, this: Tree, parse_function_unit: bool = True) -> Tree:
        if not (isinstance(this, exp.Literal) and this.is_string):
            return super()._parse_interval_span(this, parse_function_unit)
        first = self._interval_field()
        if first is not None:
            if not self._match_text_seq("TO"):
                return self.expression(exp.Interval(this=this, unit=first))
            last = self._interval_field()
            if last is None:
                self.raise_error("Expected a field of an INTERVAL after TO")
            unit = self.expression(exp.IntervalSpan(this=first, expression=last))
            return self.expression(exp.Interval(this=this, unit=unit))
        # sqlglot keeps the first number and unit of '3 days 02:47:33' or '1 day ago' only.
        interval = super()._parse_interval_span(this, parse_function_unit)
        return interval if interval.this is this else self.expression(exp.Interval(this=this))

    def _interval_field(self) -> Tree:
        """YEAR ... SECOND(n) behind INTERVAL '...'; None if something else stands there."""
        word = self._curr.text.upper().removesuffix("S") if self._curr else ""
        if word not in FIELDS or self._curr.token_type is TokenType.STRING:
            return None
        self._advance()
        if word == "SECOND" and self._match(TokenType.L_PAREN):
            digits = self._parse_number()
            self._match_r_paren()
            return self.expression(exp.Second(this=digits))
        return self.expression(exp.Var(this=word))

    def _parse_types(self, *args: Any, **options: Any) -> Tree:
        # SIGNED is what MySQL calls BIGINT in a CAST; SQLite's corpora have it.
        to = super()._parse_types(*args, **options)
        named = isinstance(to, exp.DataType) and to.this is exp.DType.USERDEFINED
        signed = named and str(to.args["kind"]).upper() == "SIGNED"
        return exp.DataType.build("BIGINT") if signed else to

    def _parse_type(self, *args: Any, **options: Any) -> Tree:
        # sqlglot gives the casts behind DATE '...'::text to the text, before it is a date.
        kind, after = self._curr and self._curr.token_type, self._next
        if kind in _TYPED_LITERALS and after and after.token_type is TokenType.STRING:
            to = self._parse_types()
            return self._parse_column_ops(
                self.expression(exp.Cast(this=self._parse_primary(), to=to))
            )
        return super()._parse_type(*args, **options)

    def _parse_string(self) -> Tree:
        # sqlglot does not know COMMENT ... IS NULL, which takes a comment away.
        if self._prev.token_type is TokenType.IS and self._match(TokenType.NULL):
            return self.expression(exp.Null())
        return super()._parse_string()

    def parameter(self, token: Token, *, skip: bool = False) -> Tree:
        """A Placeholder that holds its position, or None if the token is not a parameter."""
        number = self.numbers.get(token.start)
        if number is None:
            return None
        if skip:
            self._advance()
        return self.expression(exp.Placeholder(this=str(number)), token)

    def raise_error(self, message: str, token: Any = None) -> None:
        """Raise SyntaxFault in words of ours."""
        token = token or self._curr or self._prev
        at_end = not self._curr
        if message.startswith(("Expecting", "Expected")):
            message = "e" + message[1:].split(" but got ")[0]
        elif at_end:
            message = "the statement is incomplete"
        else:
            message = f"syntax error at {shown_token(token, self.sql)}"
        start = len(self.sql.rstrip()) if at_end else token.start
        raise SyntaxFault(message, start)

    def _parse_as_command(self, start: Token) -> Any:
        word = start.text.upper()
        raise Unsupported(f"this form of {word} is not known\n{place(self.sql, start.start)}")


class StatementDialect(Postgres):  # type: ignore[misc]
    """sqlglot knows dialects by the names of their classes; nobody asks for this one by name."""

    Parser = StatementParser

    class Tokenizer(Postgres.Tokenizer):  # type: ignore[misc]
        """Without the operators that begin with `?`: `?::date` is a parameter and a cast."""

        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            word: kind for word, kind in Postgres.Tokenizer.KEYWORDS.items() if word[0] != "?"
        }
        COMMANDS: ClassVar[set[TokenType]] = Postgres.Tokenizer.COMMANDS - {TokenType.SHOW}


def shown_token(token: Token, text: str) -> str:
    """A token as an error shows it."""
    word = text[token.start : token.end + 1]
    return f'"{word}"' if len(word) <= 40 else f'"{word[:40]}..."'
