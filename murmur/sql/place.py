"""Where in a statement an error is: the line, and a caret under the token.

line 2, column 8
  WHERE nmae = 'x'
        ^
"""

from __future__ import annotations

WIDTH = 100  # of the excerpt; longer lines are cut around the place


def place(text: str, start: int) -> str:
    """Point at the character `start` of the statement (an offset, as sqlglot's tokens carry it)."""
    start = max(0, min(start, len(text)))
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line = text[line_start : line_end if line_end >= 0 else len(text)].rstrip("\r")
    number, column = text.count("\n", 0, start) + 1, start - line_start
    left = max(0, column - WIDTH * 2 // 3)
    excerpt = line[left : left + WIDTH]
    before = ("..." if left else "") + excerpt[: column - left]
    tail = "..." if left + WIDTH < len(line) else ""
    # A tab is one character but not one column: the caret's line repeats it.
    margin = "".join("\t" if character == "\t" else " " for character in before)
    return (
        f"line {number}, column {column + 1}\n"
        f"  {before}{excerpt[column - left :]}{tail}\n"
        f"  {margin}^"
    )
