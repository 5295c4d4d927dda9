"""What stands between EXPLAIN and its statement.

    EXPLAIN ANALYZE SELECT ...
    EXPLAIN (ANALYZE, FORMAT JSON) SELECT ...
    EXPLAIN QUERY PLAN SELECT ...

ANALYZE runs the statement and gives rows, time and bytes of each operator; FORMAT is TEXT or JSON.
VERBOSE, COSTS, BUFFERS, TIMING and the like are taken: there is one way of showing a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from murmur.errors import ParseError, Unsupported
from murmur.sql.place import place

Token: TypeAlias = Any  # sqlglot's


_TAKEN = frozenset(
    {"VERBOSE", "COSTS", "BUFFERS", "TIMING", "SUMMARY", "SETTINGS", "WAL", "MEMORY"}
)


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """How a plan is shown."""

    analyze: bool = False
    json: bool = False


def read_options(tokens: Sequence[Token], text: str) -> tuple[ExplainOptions, int]:
    """The options that the tokens behind EXPLAIN begin with, and how many tokens they take."""
    options = ExplainOptions()
    words = [token.text.upper() for token in tokens]
    if words and words[0] in ("ANALYZE", "ANALYSE"):
        return replace(options, analyze=True), 2 if words[1:2] == ["VERBOSE"] else 1
    if words[:2] == ["QUERY", "PLAN"]:
        return options, 2
    if words[:1] == ["VERBOSE"]:
        return options, 1
    if words[:1] != ["("] or len(words) < 2 or words[1] in ("SELECT", "WITH", "VALUES", "("):
        return options, 0
    at = 1
    while True:
        options, at = _option(options, tokens, words, at, text)
        if at >= len(words) or words[at] not in (",", ")"):
            start = tokens[at].start if at < len(words) else len(text.rstrip())
            raise ParseError(f"expected , or ) after an option of EXPLAIN\n{place(text, start)}")
        at += 1
        if words[at - 1] == ")":
            return options, at


def _option(
    options: ExplainOptions, tokens: Sequence[Token], words: Sequence[str], at: int, text: str
) -> tuple[ExplainOptions, int]:
    word = words[at] if at < len(words) else ""
    value = words[at + 1] if at + 1 < len(words) else ""
    if word in ("ANALYZE", "ANALYSE"):
        if value in ("TRUE", "ON", "FALSE", "OFF"):
            return replace(options, analyze=value in ("TRUE", "ON")), at + 2
        return replace(options, analyze=True), at + 1
    if word == "FORMAT" and value in ("TEXT", "JSON"):
        return replace(options, json=value == "JSON"), at + 2
    if word in _TAKEN:
        return options, at + (2 if value in ("TRUE", "ON", "FALSE", "OFF") else 1)
    start = tokens[at].start if at < len(words) else len(text.rstrip())
    raise Unsupported(f"EXPLAIN takes ANALYZE and FORMAT TEXT or JSON\n{place(text, start)}")
