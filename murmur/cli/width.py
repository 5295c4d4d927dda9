"""How many columns of a terminal a text takes, and how to make it fit.

    width("naïve")  ->  5       width("日本")  ->  4       width("e\\u0301")  ->  1
    cut("日本語", 5)  ->  "日本…"
    visible("a\\nb\\x1b[2J")  ->  "a↵b�[2J"

After Markus Kuhn's wcwidth: wide and fullwidth characters take two columns, marks and format
characters none, the rest one. Terminals differ about joined emoji; here each part counts.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

ELLIPSIS = "…"


def width(text: str) -> int:
    """The columns that the text takes."""
    return len(text) if text.isascii() else sum(map(_width_of, text))


def cut(text: str, columns: int, ellipsis: str = ELLIPSIS) -> str:
    """The text, or as much of its beginning as fits with an ellipsis."""
    if width(text) <= columns:
        return text
    room = columns - width(ellipsis)
    for at, character in enumerate(text):
        room -= 1 if character.isascii() else _width_of(character)
        if room < 0:
            return text[:at] + ellipsis
    return text


def visible(text: str) -> str:
    """The text on one line, without anything that a terminal would obey."""
    return text if text.isprintable() else text.translate(_INVISIBLE)


@lru_cache(maxsize=4096)
def _width_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0  # marks, joiners, and the vowels of a Hangul syllable
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


_BIDIRECTIONAL = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_INVISIBLE = dict.fromkeys((*range(32), *range(127, 160), *_BIDIRECTIONAL), "�")
_INVISIBLE |= {9: " ", 10: "↵", 13: "↵"}
