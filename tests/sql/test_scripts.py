"""Golden scripts: statements and what they come to, one file per behaviour, in scripts/.

    ok                      the statement runs
    count 2                 ... and changes two rows
    error BindError no col  it raises this class, and the message holds this text
    query                   it gives these rows, in this order, after ----
    query sorted            ... in whatever order
    query row               ... on the row engine only: the columnar one is not asked as well
    with [1, 'x']           a second line: the parameters

Every query that the row engine runs is also given to the columnar engine: the answers must agree.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from murmur import errors
from murmur.sql import Session
from tests.sql.session_harness import columnar_rows, fetch, open_session

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


class Block(NamedTuple):
    line: int
    directive: str
    parameters: Any
    text: str
    expected: list[str]


def blocks(path: Path) -> Iterator[Block]:
    lines: list[str] = []
    start = 1
    for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
        if line.strip() and not (line.startswith("#") and not lines):
            if not lines:
                start = number
            lines.append(line)
        elif lines:
            yield block(start, lines)
            lines = []


def block(start: int, lines: list[str]) -> Block:
    directive, *rest = lines
    parameters = None
    if rest[0].startswith("with "):
        parameters = ast.literal_eval(rest.pop(0)[5:])
    if "----" not in rest:
        return Block(start, directive, parameters, "\n".join(rest), [])
    at = rest.index("----")
    return Block(start, directive, parameters, "\n".join(rest[:at]), rest[at + 1 :])


def shown(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case bytes():
            return f"x'{value.hex()}'"
        case Decimal():
            return format(value, "f")
    return str(value)


def shown_rows(rows: list[tuple[Any, ...]]) -> list[str]:
    return ["|".join(map(shown, row)) for row in rows]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    session = open_session()
    for each in blocks(path):
        try:
            run(session, each)
        except AssertionError as error:
            raise AssertionError(f"{path.name}, line {each.line}: {error}") from None
        except Exception as error:
            raise AssertionError(f"{path.name}, line {each.line}: {error!r}") from error


def run(session: Session, each: Block) -> None:
    word, *rest = each.directive.split()
    match word:
        case "ok":
            session.execute(each.text, each.parameters)
        case "count":
            outcome = session.execute(each.text, each.parameters)
            assert outcome.rowcount == int(rest[0]), outcome.rowcount
            assert shown_rows(list(outcome.rows or ())) == each.expected
        case "error":
            with pytest.raises(getattr(errors, rest[0])) as caught:
                list(session.execute(each.text, each.parameters).rows or ())
            assert " ".join(rest[1:]) in " ".join(str(caught.value).split()), caught.value
        case "query":
            found = shown_rows(fetch(session, each.text, each.parameters))
            if "sorted" in rest:
                found, expected = sorted(found), sorted(each.expected)
            else:
                expected = each.expected
            assert found == expected, f"{found} instead of {expected}"
            if "row" not in rest:
                other = columnar_rows(session, each.text, each.parameters)
                if other is not None:
                    shown_other = shown_rows(other)
                    assert sorted(shown_other) == sorted(found), f"columnar: {shown_other}"
                    if "sorted" not in rest and "ORDER BY" in each.text:
                        assert shown_other == found, f"columnar: {shown_other}"
        case _:
            raise AssertionError(f"unknown directive {word}")
