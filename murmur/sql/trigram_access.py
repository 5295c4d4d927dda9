"""LIKE and ILIKE by keys: the prefix of a pattern as a range, its trigrams as an access path.

    key LIKE 'a%b'                    key >= 'a' and key < 'b', and the pattern tested
    body ILIKE '%needle%'             trigram scan note_text (body ilike '%needle%')

A range serves patterns that are literals; on the key of a table over KV keys, where a range over
everything costs no more than a scan, also parameters. A trigram scan serves both: when the pattern
turns out to have no three literal characters in a row, or too many rows have its trigrams, it
reads every row. Either way the pattern is tested on each row that is found, and rows come in the
order of the primary key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from murmur.catalog.rows import get_row, scan_rows
from murmur.catalog.schema import Table
from murmur.catalog.trigrams import candidates, trigrams_of
from murmur.catalog.types import TEXT
from murmur.errors import DataError
from murmur.kvcore.view import View
from murmur.sql.compile import compile_expression
from murmur.sql.execution import Context
from murmur.sql.expressions import (
    Call,
    Column,
    Expr,
    Function,
    Like,
    Literal,
    columns_of,
    is_volatile,
)
from murmur.sql.plan import Bound, TrigramScan
from murmur.sql.texts import ESCAPE, like_literals, like_prefix

Row: TypeAlias = tuple[Any, ...]

TRIGRAM_COST = 4_000.0  # as access_path.py counts: below that of a range, above that of equality


# Prefixes ----------------------------------------------------------------------------------------


def prefix_bounds(table: Table, conjunct: Expr) -> tuple[int, Bound, Bound | None] | None:
    """The column that a LIKE bounds, and its bounds; they do not make up for the LIKE."""
    match conjunct:
        case Like(Column() as column, Literal(str() as pattern), escape, False, False):
            word = _literal_escape(escape)
            try:
                prefix = "" if word is None else like_prefix(pattern, word)
            except DataError:
                return None
            if not prefix:
                return None
            stop = after_text(prefix)
            upper = None if stop is None else Bound(Literal(stop, TEXT), inclusive=False)
            return column.index, Bound(Literal(prefix, TEXT), inclusive=True), upper
        case Like(Column() as column, pattern, None, False, False):
            if table.kv is None or not _is_key(table, column):
                return None
            if columns_of(pattern) or is_volatile(pattern):
                return None
            lower = Call(_LIKE_FROM, (pattern,), TEXT)
            upper = Bound(Call(_LIKE_TO, (pattern,), TEXT), inclusive=False)
            return column.index, Bound(lower, inclusive=True), upper
    return None


def _is_key(table: Table, column: Column) -> bool:
    return table.columns[column.index].id in table.primary_key


def after_text(prefix: str) -> str | None:
    """The least text above all that begin with this; None when there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at]) + 1
        if 0xD800 <= code < 0xE000:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:at] + chr(code)
    return None


def _literal_escape(escape: Expr | None) -> str | None:
    """The escape character; None when it is not known, or NULL."""
    if escape is None:
        return ESCAPE
    if isinstance(escape, Literal) and isinstance(escape.value, str) and len(escape.value) < 2:
        return escape.value
    return None


def _like_from(pattern: str) -> str:
    try:
        return like_prefix(pattern)
    except DataError:
        return ""  # the row that meets the pattern says what is wrong


def _like_to(pattern: str) -> str | bytes:
    prefix = _like_from(pattern)
    stop = after_text(prefix) if prefix else None
    return b"" if stop is None else stop  # what is no text bounds nothing (ranges.py)


_LIKE_FROM = Function("like_from", (TEXT,), TEXT, _like_from)
_LIKE_TO = Function("like_to", (TEXT,), TEXT, _like_to)


# Trigrams ----------------------------------------------------------------------------------------


def trigram_scan(table: Table, conjuncts: Sequence[Expr]) -> TrigramScan | None:
    """An index by whose trigrams rows can be found for which the conjuncts may be TRUE."""
    for index in table.trigrams:
        position = table.column_by_id(index.column_id).position
        patterns = tuple(
            conjunct
            for conjunct in conjuncts
            if isinstance(conjunct, Like) and _serves(conjunct, position)
        )
        if patterns:
            return TrigramScan(table, index, patterns)
    return None


def _serves(like: Like, position: int) -> bool:
    if like.negated or not isinstance(like.operand, Column) or like.operand.index != position:
        return False
    parts = [like.pattern] if like.escape is None else [like.pattern, like.escape]
    if any(columns_of(part) or is_volatile(part) for part in parts):
        return False
    if isinstance(like.pattern, Literal) and (word := _literal_escape(like.escape)) is not None:
        return bool(_trigrams(like.pattern.value, word, insensitive=like.insensitive))
    return True


def _trigrams(pattern: Any, escape: Any, *, insensitive: bool) -> set[bytes]:
    """The trigrams of every text that matches; none if the pattern is no pattern."""
    if not isinstance(pattern, str) or not isinstance(escape, str):
        return set()
    try:
        literals = like_literals(pattern, escape, insensitive)
    except DataError:
        return set()
    return {trigram for literal in literals for trigram in trigrams_of(literal)}


def trigram_pairs(
    access: TrigramScan,
) -> Callable[[View, Context], Iterable[tuple[bytes, Row]]]:
    """The function that gives keys and rows, among them all for which the patterns are TRUE."""
    table, index, reverse = access.table, access.index, access.reverse
    patterns = [
        (
            compile_expression(like.pattern),
            None if like.escape is None else compile_expression(like.escape),
            like.insensitive,
        )
        for like in access.patterns
    ]

    def pairs(view: View, context: Context) -> Iterator[tuple[bytes, Row]]:
        trigrams: set[bytes] = set()
        for pattern, escape, insensitive in patterns:
            word = ESCAPE if escape is None else escape((), context)
            trigrams |= _trigrams(pattern((), context), word, insensitive=insensitive)
        keys = candidates(view, table, index, trigrams) if trigrams else None
        if keys is None:
            yield from scan_rows(view, table, reverse=reverse)
            return
        for key in reversed(keys) if reverse else keys:
            row = get_row(view, table, key)
            assert row is not None, "a posting without its row"
            yield key, row

    return pairs
