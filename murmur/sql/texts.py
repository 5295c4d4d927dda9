"""Functions on text and blobs; positions count from 1, characters are code points.

    substring("hello", -1, 4)   ->  "he"       positions -1, 0, 1, 2
    left("hello", -2)           ->  "hel"      all but the last two
    split_part("a,b,c", ",", -1)->  "c"
    like_matcher("a%b_", "\\\\")  ->  a function that says whether a text matches

LIKE never backtracks over more than one run of `%`: a pattern is cut at its `%`, and each piece is
taken where it is found first, which is right because a later one could only leave less room. So a
match costs at most the length of the text times that of the pattern.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from murmur.catalog.trigrams import fold_case as _fold
from murmur.errors import DataError
from murmur.sql.literals import read_blob

ESCAPE = "\\"  # of LIKE, unless it names another
MAX_LENGTH = 1 << 26  # of what repeat, lpad and rpad make

_Text = TypeVar("_Text", str, bytes)
Matcher = Callable[[str], bool]


def digest(name: str) -> Callable[[bytes], bytes]:
    """The function that hashes bytes by an algorithm of hashlib's."""
    return lambda data: hashlib.new(name, data).digest()


def octet_length(text: str) -> int:
    """Its length in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def initcap(text: str) -> str:
    """Each word with a capital; a word is letters and digits."""
    return _WORD.sub(lambda word: word[0][0].upper() + word[0][1:].lower(), text)


_WORD = re.compile(r"[^\W_]+")


def substring(text: _Text, start: int, length: int | None = None) -> _Text:
    """The characters from a position on; positions below 1 count, but hold nothing."""
    if length is None:
        return text[max(start - 1, 0) :]
    if length < 0:
        raise DataError("negative substring length not allowed")
    return text[max(start - 1, 0) : max(start - 1 + length, 0)]


def replace(text: str, old: str, new: str) -> str:
    """Every occurrence; an empty text occurs nowhere."""
    return text.replace(old, new) if old else text


def translate(text: str, old: str, new: str) -> str:
    """Each character of `old` becomes the one of `new` at its place, or nothing."""
    table: dict[int, str | None] = {}
    for position, character in enumerate(old):
        table.setdefault(ord(character), new[position] if position < len(new) else None)
    return text.translate(table)


def left(text: str, count: int) -> str:
    """The first characters; all but the last ones if the count is negative."""
    return text[:count]


def right(text: str, count: int) -> str:
    """The last characters; all but the first ones if the count is negative."""
    return text[-count:] if count else ""


def _bounded(length: int) -> int:
    if length > MAX_LENGTH:
        raise DataError(f"a text of {length} characters is too long")
    return max(length, 0)


def pad_left(text: str, length: int, fill: str = " ") -> str:
    """Fill up on the left, or cut on the right."""
    return (_filling(_bounded(length) - len(text), fill) + text)[: max(length, 0)]


def pad_right(text: str, length: int, fill: str = " ") -> str:
    """Fill up on the right, or cut there."""
    return (text + _filling(_bounded(length) - len(text), fill))[: max(length, 0)]


def _filling(length: int, fill: str) -> str:
    if length <= 0 or not fill:
        return ""
    return (fill * (length // len(fill) + 1))[:length]


def repeat(text: str, count: int) -> str:
    """The text so many times."""
    if count <= 0 or not text:
        return ""
    _bounded(len(text) * count)
    return text * count


def split_part(text: str, delimiter: str, position: int) -> str:
    """The part at a position, counted from the end if negative."""
    if position == 0:
        raise DataError("field position must not be zero")
    parts = text.split(delimiter) if delimiter else [text]
    index = position - 1 if position > 0 else len(parts) + position
    return parts[index] if 0 <= index < len(parts) else ""


def character(code: int) -> str:
    """The character with this code point."""
    if not 0 < code < 0x110000 or 0xD800 <= code < 0xE000:
        raise DataError(f"there is no character {code}")
    return chr(code)


def concat(*parts: str | None) -> str:
    """All together, NULLs left out."""
    return "".join([part for part in parts if part is not None])


def concat_ws(separator: str | None, *parts: str | None) -> str | None:
    """All together with a separator, NULLs left out."""
    if separator is None:
        return None
    return separator.join([part for part in parts if part is not None])


def md5(data: bytes) -> str:
    """The MD5 hash, in hexadecimal."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def encode(data: bytes, encoding: str) -> str:
    """Bytes as text: hex, base64 or escape."""
    match encoding.lower():
        case "hex":
            return data.hex()
        case "base64":
            text = base64.b64encode(data).decode()
            return "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
        case "escape":
            return "".join(_ESCAPES[byte] for byte in data)
    raise DataError(f'unknown encoding "{encoding:.20}"; there are hex, base64 and escape')


_ESCAPES = [
    "\\\\" if code == 0x5C else chr(code) if 0 < code < 0x80 else f"\\{code:03o}"
    for code in range(256)
]


def decode(text: str, encoding: str) -> bytes:
    """The bytes that `encode` has written."""
    try:
        match encoding.lower():
            case "hex":
                return bytes.fromhex(text)
            case "base64":
                return base64.b64decode("".join(text.split()), validate=True)
            case "escape":
                return read_blob(text if text[:2] != "\\x" else "\\" + text)
    except (ValueError, binascii.Error):
        raise DataError(f'"{text:.60}" is not {encoding.lower()}') from None
    raise DataError(f'unknown encoding "{encoding:.20}"; there are hex, base64 and escape')


# LIKE --------------------------------------------------------------------------------------------

_ANY, _ONE = "%", "_"


@lru_cache(maxsize=1024)
def like_matcher(pattern: str, escape: str = ESCAPE, insensitive: bool = False) -> Matcher:
    """Whether a text matches a LIKE pattern, as a function of the text.

    ILIKE compares both in lower case.
    """
    if len(escape) > 1:
        raise DataError(f'an escape is one character, not "{escape:.20}"')
    pieces = _pieces(_fold(pattern), _fold(escape)) if insensitive else _pieces(pattern, escape)
    match = _plain_matcher(pieces) or _regex_matcher(pieces)
    return (lambda text: match(_fold(text))) if insensitive else match


def like_literals(pattern: str, escape: str = ESCAPE, insensitive: bool = False) -> list[str]:
    """What every text that matches has in it: the pattern's runs of characters of their own."""
    if len(escape) > 1:
        raise DataError(f'an escape is one character, not "{escape:.20}"')
    pieces = _pieces(_fold(pattern), _fold(escape)) if insensitive else _pieces(pattern, escape)
    runs = [""]
    for piece in pieces:
        for char in piece:
            if char is None:
                runs.append("")
            else:
                runs[-1] += char
        runs.append("")
    return [run for run in runs if run]


def like_prefix(pattern: str, escape: str = ESCAPE) -> str:
    """What every text that matches a LIKE pattern begins with."""
    prefix = ""
    for char in _pieces(pattern, escape)[0]:
        if char is None:
            break
        prefix += char
    return prefix


def _pieces(pattern: str, escape: str) -> list[list[str | None]]:
    """The pattern cut at its `%`; in a piece, None stands for `_`."""
    pieces: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for char in characters:
        if char == escape:
            literal = next(characters, None)
            if literal is None:
                raise DataError("a LIKE pattern must not end with its escape character")
            pieces[-1].append(literal)
        elif char == _ANY:
            pieces.append([])
        elif char == _ONE:
            pieces[-1].append(None)
        else:
            pieces[-1].append(char)
    return [pieces[0], *[piece for piece in pieces[1:-1] if piece], *pieces[1:][-1:]]


def _plain_matcher(pieces: list[list[str | None]]) -> Matcher | None:
    """Patterns without `_` that one method of str answers."""
    if any(None in piece for piece in pieces):
        return None
    match ["".join(filter(None, piece)) for piece in pieces]:
        case [text]:
            return text.__eq__
        case ["", ""]:
            return lambda _: True
        case [prefix, ""]:
            return lambda text: text.startswith(prefix)
        case ["", suffix]:
            return lambda text: text.endswith(suffix)
        case ["", part, ""]:
            return lambda text: part in text
    return None


def _regex_matcher(pieces: list[list[str | None]]) -> Matcher:
    first, *rest = ["".join("." if c is None else re.escape(c) for c in p) for p in pieces]
    regex = first
    if rest:
        # Atomic groups keep what they found: nothing before is tried again.
        regex += "".join(f"(?>.*?{piece})" for piece in rest[:-1])
        # The last piece can only stand at the end, behind what was matched so far.
        regex += f"(?=.{{{len(pieces[-1])}}})(?>.*)(?<={rest[-1]})"
    fullmatch = re.compile(regex, re.DOTALL).fullmatch
    return lambda text: fullmatch(text) is not None
