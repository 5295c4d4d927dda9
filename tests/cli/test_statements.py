"""Statements are told apart where the parser tells them apart."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.cli.statements import Splitter


def split(text: str) -> tuple[list[str], str | None]:
    splitter = Splitter()
    statements = [statement.text for statement in splitter.feed(text)]
    rest = splitter.finish()
    return statements, rest.text if rest else None


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("SELECT 1;", ["SELECT 1;"], None),
        ("SELECT 1; SELECT 2;\n", ["SELECT 1;", "SELECT 2;"], None),
        ("SELECT 1", [], "SELECT 1"),
        (" ; ;; \n;", [], None),
        ("SELECT ';';", ["SELECT ';';"], None),
        ("SELECT 'it''s;';", ["SELECT 'it''s;';"], None),
        ("SELECT '\\'; SELECT 2;", ["SELECT '\\';", "SELECT 2;"], None),
        ("SELECT E'\\';';", ["SELECT E'\\';';"], None),
        ("SELECT E'a'';\\';';", ["SELECT E'a'';\\';';"], None),
        ("SELECT fe'\\'; 1;", ["SELECT fe'\\';", "1;"], None),
        ('SELECT ";""";', ['SELECT ";""";'], None),
        ("SELECT $$;$$;", ["SELECT $$;$$;"], None),
        ("SELECT $a$;$$;$a$;", ["SELECT $a$;$$;$a$;"], None),
        ("SELECT $$$$$$;$$;", ["SELECT $$$$$$;$$;"], None),
        ("SELECT a$$; SELECT $$;$$;", ["SELECT a$$;", "SELECT $$;$$;"], None),
        ("SELECT E'\n''\\';", [], "SELECT E'\n''\\';"),
        ("SELECT $1; SELECT $2;", ["SELECT $1;", "SELECT $2;"], None),
        ("SELECT 1 -- one;\n;", ["SELECT 1 -- one;\n;"], None),
        ("SELECT /* ; /* ; */ ; */ 1;", ["SELECT /* ; /* ; */ ; */ 1;"], None),
        ("-- nothing;\n/* at; all */", [], None),
        ("SELECT 'open;", [], "SELECT 'open;"),
        ("/* open;", [], "/* open;"),
    ],
)
def test_examples(text: str, statements: list[str], rest: str | None) -> None:
    assert split(text) == (statements, rest)


def test_a_statement_knows_its_line() -> None:
    splitter = Splitter()
    found = splitter.feed("SELECT 1;\n\n  -- two\nSELECT\n2; SELECT 3\n")
    found += splitter.feed("\n;SELECT 4;\nSELECT 5")
    last = splitter.finish()
    assert last is not None
    assert [statement.line for statement in [*found, last]] == [1, 3, 5, 7, 8]


WORDS = ["SELECT", "x", "1", "e'", "E'", "'", "''", '"', "\\", "$1", "a$", "$$", "$a$"]
MARKS = [" ", "\n", "\r\n", ";", "--", "/*", "*/", "*", "-", ",", "é"]
PIECES = st.sampled_from(WORDS + MARKS)
TEXTS = st.lists(PIECES, max_size=30).map("".join)


@given(TEXTS)
def test_lines_or_a_whole_make_no_difference(text: str) -> None:
    splitter = Splitter()
    found = [each for line in text.splitlines(keepends=True) for each in splitter.feed(line)]
    rest = splitter.finish()
    assert ([each.text for each in found], rest.text if rest else None) == split(text)


@given(TEXTS)
def test_nothing_is_lost(text: str) -> None:
    splitter = Splitter()
    at = 0
    for statement in splitter.feed(text):
        found = text.index(statement.text, at)
        assert not text[at:found].replace(";", "").strip() or "--" in text or "/*" in text
        assert text[:found].count("\n") + 1 == statement.line
        at = found + len(statement.text)


@given(TEXTS)
def test_semicolons_are_those_of_the_parser(text: str) -> None:
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.errors import TokenError
    from sqlglot.tokens import TokenType

    try:
        tokens = Postgres().tokenize(text)
    except TokenError:
        return  # the parser will refuse it, wherever it is cut
    if re.search(r"[0-9][^\W0-9]*\$|/\*/", text):
        return  # so it will a number that runs into a $; and it takes /*/ for a whole comment
    ends = [token.start for token in tokens if token.token_type is TokenType.SEMICOLON]
    pieces = [text[start + 1 : stop] for start, stop in zip([-1, *ends], ends, strict=False)]
    splitter = Splitter()
    found = [each.text.rstrip() for each in splitter.feed(text)]
    told_apart = [piece.lstrip() + ";" for piece in pieces]
    assert found == [each for each in told_apart if split(each[:-1])[1]]
