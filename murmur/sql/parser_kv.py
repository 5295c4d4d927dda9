"""USING KV PREFIX in CREATE TABLE as storage parameters: these sqlglot knows, the other not.

    CREATE TABLE cfg (...) USING KV PREFIX 'cfg:' VALUES JSON
      -> CREATE TABLE cfg (...) WITH (kv_prefix = 'cfg:', kv_values = 'json')

The prefix of bytes keys is written x'00ff'. VALUES is JSON or WHOLE, which it is when left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlglot.tokens import Token as SqlglotToken
from sqlglot.tokens import TokenType

from murmur.errors import ParseError
from murmur.sql.place import place

Token: TypeAlias = Any  # sqlglot's

PREFIX, VALUES = "kv_prefix", "kv_values"


def with_kv_prefix(tokens: Sequence[Token], text: str) -> Sequence[Token]:
    """The tokens of a CREATE statement, its USING KV clause written as WITH (...)."""
    at = _clause_at(tokens)
    if at is None:
        return tokens
    using, _, *rest = tokens[at:]
    if not rest or rest[0].text.upper() != "PREFIX":
        raise _expected("PREFIX after USING KV", rest, text)
    prefix, *rest = rest[1:] or [None]
    if prefix is None or prefix.token_type not in (TokenType.STRING, TokenType.HEX_STRING):
        raise _expected("the prefix of the keys, as 'cfg:' or x'00'", [prefix] * bool(prefix), text)
    made = [
        _like(using, TokenType.WITH, "WITH"),
        _like(using, TokenType.L_PAREN, "("),
        *_setting(using, PREFIX, prefix),
    ]
    if rest and rest[0].text.upper() == "VALUES":
        if len(rest) < 2 or rest[1].text.upper() not in ("JSON", "WHOLE"):
            raise _expected("JSON or WHOLE after VALUES", rest[1:], text)
        form = _like(rest[1], TokenType.STRING, rest[1].text.lower())
        made += [_like(using, TokenType.COMMA, ","), *_setting(using, VALUES, form)]
        rest = rest[2:]
    return [*tokens[:at], *made, _like(using, TokenType.R_PAREN, ")"), *rest]


def insert_or(near: Token) -> list[Token]:
    """INSERT OR, which SQLite lets one leave out in front of REPLACE."""
    return [_like(near, TokenType.INSERT, "INSERT"), _like(near, TokenType.OR, "OR")]


def _clause_at(tokens: Sequence[Token]) -> int | None:
    """Where USING KV stands, outside of parentheses."""
    if len(tokens) < 2 or tokens[1].token_type is not TokenType.TABLE:
        return None
    depth = 0
    for at, token in enumerate(tokens[:-1]):
        if token.token_type in (TokenType.L_PAREN, TokenType.R_PAREN):
            depth += 1 if token.token_type is TokenType.L_PAREN else -1
        elif (
            depth == 0
            and token.token_type is TokenType.USING
            and tokens[at + 1].text.upper() == "KV"
        ):
            return at
    return None


def _setting(near: Token, name: str, value: Token) -> list[Token]:
    return [_like(near, TokenType.VAR, name), _like(near, TokenType.EQ, "="), value]


def _like(near: Token, kind: TokenType, text: str) -> Token:
    """A token at the place of another one."""
    return SqlglotToken(kind, text, line=near.line, col=near.col, start=near.start, end=near.end)


def _expected(what: str, rest: Sequence[Token], text: str) -> ParseError:
    at = rest[0].start if rest else len(text.rstrip())
    return ParseError(f"expected {what}\n{place(text, at)}")
