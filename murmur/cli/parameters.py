r"""Parameters on the command line, written as SQL writes literals.

    --param 42          42                     --param NULL          NULL (so TRUE and FALSE)
    --param 1.50        Decimal("1.50")        --param "x'0aff'"     b"\x0a\xff"
    --param 15e-1       1.5, a DOUBLE          --param 02134         '02134': no number begins so
    --param hello       'hello'                --param "'42'"        '42'
    --param :id=42      for :id; all parameters of a statement have names, or none has

What is no literal is text as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from murmur.cli.failure import NOT_BEGUN, Fault

_NAMED = re.compile(r":([^\W\d]\w*)=(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TEXT = re.compile(r"'((?:[^']|'')*)'")
_BLOB = re.compile(r"[xX]'((?:[0-9a-fA-F]{2})*)'")
_WORDS = {"NULL": None, "TRUE": True, "FALSE": False}

Parameters = list[Any] | dict[str, Any]


def parse_parameters(given: Sequence[str]) -> Parameters:
    """The values, by position or by name."""
    named = [_NAMED.fullmatch(text) for text in given]
    if not any(named):
        return [parse_value(text) for text in given]
    values: dict[str, Any] = {}
    for text, match in zip(given, named, strict=True):
        if match is None:
            raise Fault(f"--param {text}: the others have names, this one has none", NOT_BEGUN)
        if match[1] in values:
            raise Fault(f"--param {text}: {match[1]} is given twice", NOT_BEGUN)
        values[match[1]] = parse_value(match[2])
    return values


def parse_value(text: str) -> Any:
    """The value that a literal stands for, or the text."""
    if text.upper() in _WORDS:
        return _WORDS[text.upper()]
    if match := _NUMBER.fullmatch(text):
        if match[2]:
            return float(text)
        return Decimal(text) if match[1] or len(text) > 4000 else int(text)
    if match := _TEXT.fullmatch(text):
        return match[1].replace("''", "'")
    if match := _BLOB.fullmatch(text):
        return bytes.fromhex(match[1])
    return text
