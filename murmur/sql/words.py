"""Statements that are read word by word, because sqlglot takes them for something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias

from murmur.errors import ParseError, Unsupported
from murmur.sql.place import place

Token: TypeAlias = Any  # sqlglot's


class WordReader:
    """A place among the tokens of a statement; what it raises names that place."""

    def __init__(self, tokens: Sequence[Token], text: str) -> None:
        self._tokens = tokens
        self._text = text
        self._at = 0

    def _name(self, what: str) -> str:
        shown = self._shown() if self._at < len(self._tokens) else ""
        if shown[:1] == '"':
            self._at += 1
            return shown[1:-1].replace('""', '"')
        if not shown.isidentifier():
            self._refuse(f"expected {what}")
        self._at += 1
        return shown.lower()

    def _take(self, *words: str) -> bool:
        if self._word() in words:
            self._at += 1
            return True
        return False

    def _word(self) -> str:
        return self._shown().upper() if self._at < len(self._tokens) else ""

    def _shown(self) -> str:
        token = self._tokens[self._at]
        return self._text[token.start : token.end + 1]

    def _place(self) -> str:
        here = self._at < len(self._tokens)
        return place(self._text, self._tokens[self._at].start if here else len(self._text.rstrip()))

    def _refuse(self, message: str) -> NoReturn:
        raise ParseError(f"{message}\n{self._place()}")

    def _unsupported(self, message: str) -> NoReturn:
        raise Unsupported(f"{message}\n{self._place()}")
