"""Formats of to_char() for dates and times, taken apart.

    'DD Mon YYYY'   ->  ("", "%d %b %Y")
    'HH12:MI am'    ->  ("", "%I:%M "), ("lower", "%p")
    'FMMonth DDth'  ->  Unsupported

Each part is a way and a format of strftime: as it is, in capitals, in small letters, or padded to
nine characters, as PostgreSQL does with the names of months and days; or the name of a field.
"""

from __future__ import annotations

import re

from murmur.errors import Unsupported

_PATTERNS: dict[str, tuple[str, str]] = {
    "YYYY": ("", "%Y"),
    "YY": ("", "%y"),
    "MM": ("", "%m"),
    "DDD": ("", "%j"),
    "DD": ("", "%d"),
    "HH24": ("", "%H"),
    "HH12": ("", "%I"),
    "HH": ("", "%I"),
    "MI": ("", "%M"),
    "SS": ("", "%S"),
    "MS": ("", "%g"),
    "US": ("", "%f"),
    "IYYY": ("", "%G"),
    "IW": ("", "%V"),
    "AM": ("upper", "%p"),
    "PM": ("upper", "%p"),
    "am": ("lower", "%p"),
    "pm": ("lower", "%p"),
    "Month": ("Padded", "%B"),
    "MONTH": ("PADDED", "%B"),
    "month": ("padded", "%B"),
    "Mon": ("", "%b"),
    "MON": ("upper", "%b"),
    "mon": ("lower", "%b"),
    "Day": ("Padded", "%A"),
    "DAY": ("PADDED", "%A"),
    "day": ("padded", "%A"),
    "Dy": ("", "%a"),
    "DY": ("upper", "%a"),
    "dy": ("lower", "%a"),
    "Q": ("field", "QUARTER"),
    "ID": ("field", "ISODOW"),
    "D": ("weekday", ""),
}
_NAMES = ("AM", "PM", "MONTH", "MON", "DAY", "DY")  # their letters' size matters
_TOKEN = re.compile(
    r'"([^"]*)"|(FM)?('
    + "|".join(sorted(_PATTERNS, key=len, reverse=True))
    + r")(TH|th)?|(\w+?(?=\d|\b)|.)",
    re.DOTALL,
)


def to_char_parts(form: str) -> list[tuple[str, str]]:
    """The parts whose texts, one after the other, are the result."""
    parts: list[tuple[str, str]] = []
    for found in _TOKEN.finditer(_folded(form)):
        quoted, short, pattern, ordinal, text = found.groups()
        if ordinal or (text is not None and re.fullmatch(r"[A-Za-z0-9]+", text)):
            raise Unsupported(f'to_char(): "{found[0]}" is not known; "..." quotes text')
        if pattern is None:
            part = ("", (quoted if text is None else text).replace("%", "%%"))
        else:
            part = _PATTERNS[pattern]
            if short:
                part = _short(*part)
        if parts and parts[-1][0] == part[0] == "":
            part = ("", parts.pop()[1] + part[1])
        parts.append(part)
    return parts or [("", "")]


def _short(how: str, form: str) -> tuple[str, str]:
    """FM: without padding and leading zeros."""
    how = {"Padded": "", "PADDED": "upper", "padded": "lower"}.get(how, how)
    return how, form.replace("%", "%-") if form in _ZEROS else form


_ZEROS = ("%m", "%d", "%H", "%I", "%M", "%S", "%j")


def _folded(form: str) -> str:
    """Patterns of digits in capitals, which may be written in any."""
    return re.sub(
        r'"[^"]*"|[A-Za-z]+\d*',
        lambda found: found[0] if found[0].startswith('"') else _upper(found[0]),
        form,
    )


def _upper(word: str) -> str:
    return word.upper() if word.upper() in _PATTERNS and word.upper() not in _NAMES else word
