r"""Where one statement ends and the next begins, line by line as they come.

    feed("SELECT ';' -- one;\n")   ->  []
    feed("; SELECT 2;\n")          ->  ["SELECT ';' -- one;\n;", "SELECT 2;"]

A semicolon ends a statement unless it stands in a text ('..', E'..', $tag$..$tag$), in a "name" or
in a comment (-- to the end of the line; /* .. */, which nest): PostgreSQL's lexical rules, in the
reading of the parser. Nothing else is looked at, so what is wrong in a statement stays the parser's
to say.

Invariants:
    1. The pieces that were handed out and what is pending are the text that was fed, without the
       blanks before each statement.
    2. Feeding a text in lines or as a whole makes no difference.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Statement(NamedTuple):
    """The text of a statement, and the line on which it begins, counted from 1."""

    text: str
    line: int


class Splitter:
    """Takes lines, each whole, and hands out statements."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._state = _PLAIN
        self._closing = ""  # of a dollar-quoted text
        self._depth = 0  # of comments
        self._line = 0
        self._first = 0  # line of the pending statement
        self._blank = True

    @property
    def blank(self) -> bool:
        """Whether nothing is pending but blanks and comments that have ended."""
        return self._blank and self._state == _PLAIN

    def clear(self) -> None:
        """Drop what is pending."""
        self._parts.clear()
        self._state, self._depth, self._blank = _PLAIN, 0, True

    def finish(self) -> Statement | None:
        """What is pending at the end of the input, if it is more than blanks and comments."""
        text = "".join(self._parts).rstrip()
        blank = self.blank
        self.clear()
        return None if blank else Statement(text, self._first)

    def feed(self, text: str) -> list[Statement]:
        """Take lines; the statements that end in them."""
        statements = []
        start = at = 0
        while at < len(text):
            if self._state != _PLAIN:
                at = self._skip(text, at)
                continue
            if start == at and not self._parts:  # before a statement
                start = at = self._pass(text, at, _BLANKS.match(text, at))
                self._first = self._line + 1
            match = _NEXT.match(text, at)
            assert match is not None
            mark = match[1] or ""
            self._blank = self._blank and not text[at : match.end() - len(mark)].strip()
            at = self._pass(text, at, match)
            if mark != ";":
                if mark and not mark.startswith("--"):
                    self._open(mark)
                continue
            if not self._blank:
                statement = "".join([*self._parts, text[start:at]])
                statements.append(Statement(statement, self._first))
            self.clear()
            start = at
        if start < len(text):
            self._parts.append(text[start:])
        return statements

    def _pass(self, text: str, at: int, match: re.Match[str] | None) -> int:
        """Where the match ends, or the text; counts the lines up to there."""
        stop = match.end() if match else len(text)
        self._line += text.count("\n", at, stop)
        return stop

    def _open(self, opening: str) -> None:
        if opening == "/*":
            self._state, self._depth = _COMMENT, 1
            return
        self._blank = False
        self._state = _STATES.get(opening, _DOLLAR)
        self._closing = opening

    def _skip(self, text: str, at: int) -> int:
        """Go to the end of what is open, or of the text."""
        if self._state == _DOLLAR:
            match = re.compile(re.escape(self._closing)).search(text, at)
        elif self._state == _ESCAPED:
            match = _ESCAPED_END.match(text, at)
        else:
            match = _ENDS[self._state].search(text, at)
        if match and self._state == _COMMENT:
            self._depth += 1 if match[0] == "/*" else -1
        if match and not (self._state == _COMMENT and self._depth):
            self._state = _PLAIN
        return self._pass(text, at, match)


_PLAIN, _TEXT, _ESCAPED, _NAME, _DOLLAR, _COMMENT = range(6)
_STATES = {"'": _TEXT, "e'": _ESCAPED, "E'": _ESCAPED, '"': _NAME}

_BLANKS = re.compile(r"\s*")
# Words and numbers are passed as a whole: the $ of a$b and the e of 1e'' open nothing.
_NEXT = re.compile(
    r"""
    (?: [^\w'"$;/-]+ | (?![eE]')[^\W\d][\w$]*+ | \d\w*+ | -(?!-) | /(?!\*)
      | \$(?! (?:[^\W\d]\w*)? \$ )
    )*+
    ( --[^\r\n]* | /\* | [eE]' | ['";] | \$(?:[^\W\d]\w*)?\$ )?
    """,
    re.VERBOSE,
)
# A doubled quote inside '..' closes it and opens it again, which comes to the same. Not so with
# E'..', whose second half would lose its backslashes.
_ESCAPED_END = re.compile(r"(?:[^'\\]|''|\\.)*+'", re.DOTALL)
_ENDS = {
    _TEXT: re.compile("'"),
    _NAME: re.compile('"'),
    _COMMENT: re.compile(r"/\*|\*/"),
}
