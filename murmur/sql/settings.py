"""Statements about the session and its statistics, read word by word.

SET engine = 'row' | 'columnar' | 'auto'     also TO, DEFAULT, without quotes; SET SESSION
RESET engine                                 the same as 'auto'
ANALYZE [table [, table ...]]                count what is in tables, in all without a name
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from murmur.errors import ParseError, Unsupported
from murmur.sql.place import place

Token: TypeAlias = Any  # sqlglot's

SETTING_WORDS = ("SET", "RESET", "ANALYZE", "ANALYSE")
Engine: TypeAlias = Literal["auto", "row", "columnar"]
_ENGINES: dict[str, Engine] = {
    "auto": "auto",
    "default": "auto",
    "row": "row",
    "columnar": "columnar",
}


@dataclass(frozen=True, slots=True)
class SettingStatement:
    """One of them: the engine of `set`, or the tables of `analyze`."""

    kind: Literal["set", "analyze"]
    engine: Engine = "auto"
    tables: tuple[str, ...] = ()


def read_setting(tokens: Sequence[Token], text: str) -> SettingStatement:
    """Read a statement that begins with one of SETTING_WORDS; ParseError or Unsupported."""
    first, *rest = tokens
    word = first.text.upper()
    if word in ("ANALYZE", "ANALYSE"):
        return SettingStatement("analyze", tables=_names(rest, text))
    if word == "SET" and rest and rest[0].text.upper() in ("SESSION", "LOCAL"):
        if rest[0].text.upper() == "LOCAL":
            raise Unsupported(f"SET LOCAL is not supported\n{place(text, rest[0].start)}")
        rest = rest[1:]
    if not rest:
        raise ParseError(f"{word} what?\n{place(text, len(text.rstrip()))}")
    name, *rest = rest
    if name.text.lower() != "engine":
        raise Unsupported(
            f'there is no setting "{name.text}": engine is one\n{place(text, name.start)}'
        )
    if word == "RESET":
        if rest:
            raise ParseError(f"nothing goes behind RESET engine\n{place(text, rest[0].start)}")
        return SettingStatement("set")
    if len(rest) != 2 or rest[0].text.upper() not in ("=", "TO"):
        start = rest[0].start if rest else len(text.rstrip())
        raise ParseError(f"expected = and 'row', 'columnar' or 'auto'\n{place(text, start)}")
    value = _ENGINES.get(rest[1].text.lower())
    if value is None:
        message = f"the engine is 'row', 'columnar' or 'auto', not {rest[1].text!r}"
        raise ParseError(f"{message}\n{place(text, rest[1].start)}")
    return SettingStatement("set", value)


def _names(tokens: Sequence[Token], text: str) -> tuple[str, ...]:
    names = []
    for i, token in enumerate(tokens):
        if i % 2:
            if token.text != ",":
                raise ParseError(f"expected a comma\n{place(text, token.start)}")
        else:
            quoted = text[token.start] == '"'
            names.append(token.text if quoted else token.text.lower())
    if tokens and len(tokens) % 2 == 0:
        raise ParseError(f"nothing follows the comma\n{place(text, tokens[-1].start)}")
    return tuple(names)
