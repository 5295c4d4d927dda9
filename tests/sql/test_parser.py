"""From text to one statement: parameters, limits, and what is not a statement."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlglot import exp

from murmur.errors import InvalidInput, MurmurError, ParseError, Unsupported
from murmur.sql import parser
from murmur.sql.parameters import Parameters
from murmur.sql.parser import parse, parse_expression


def positions(text: str) -> list[int]:
    """Parameter positions in the order of their places in the text."""
    found = [(n.meta["start"], int(n.this)) for n in parse(text).tree.find_all(exp.Placeholder)]
    return [position for _, position in sorted(found)]


def complaint(text: Any) -> str:
    with pytest.raises(MurmurError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "style", "names", "expected"),
    [
        ("SELECT ?, a FROM t WHERE b = ? LIMIT ?", "?", (0, 1, 2), [0, 1, 2]),
        ("SELECT :b, :a, :b", ":", ("b", "a"), [0, 1, 0]),
        ("SELECT $2, $1, $2", "$", (0, 1), [1, 0, 1]),
        ("SELECT $3", "$", (0, 1, 2), [2]),
        ("SELECT a::int, '?', \":x\" -- ?\n", "", (), []),
        ("SELECT ?::int, x[1:2]", "?", (0,), [0]),
        ("SELECT :select, :Name", ":", ("select", "Name"), [0, 1]),
        ("INSERT INTO t VALUES (?, ?), (?, ?)", "?", (0, 1, 2, 3), [0, 1, 2, 3]),
        ("SELECT * FROM t WHERE a BETWEEN ? AND ? OFFSET ?", "?", (0, 1, 2), [0, 1, 2]),
    ],
)
def test_parameters_are_numbered_by_their_place_in_the_text(
    text: str, style: str, names: tuple[int | str, ...], expected: list[int]
) -> None:
    assert parse(text).parameters == Parameters(style, names)  # type: ignore[arg-type]
    assert positions(text) == expected


@pytest.mark.parametrize("text", ["SELECT ?, :a", "SELECT :a, $1", "SELECT $1 + ?"])
def test_styles_do_not_mix(text: str) -> None:
    assert "do not mix" in complaint(text)


@pytest.mark.parametrize("text", ["SELECT $x", "SELECT $0", "SELECT $1a"])
def test_what_is_no_parameter(text: str) -> None:
    assert "line 1" in complaint(text)


def test_a_parameter_where_none_can_stand_is_refused_not_lost() -> None:
    for text in ("SELECT DATE ?", "SELECT a AS ?"):
        with pytest.raises((ParseError, Unsupported)):
            parse(text)


def test_values_are_arranged_by_style() -> None:
    named = Parameters(":", ("b", "a"))
    assert named.arrange({"a": 1, "b": 2, "unused": 3}) == [2, 1]
    assert Parameters("?", (0, 1)).arrange([5, 6]) == [5, 6]
    assert Parameters().arrange(None) == ()
    assert Parameters().arrange({}) == ()


@pytest.mark.parametrize(
    ("parameters", "given", "words"),
    [
        (Parameters("?", (0, 1)), [1], "has 2 parameters, 1 value given"),
        (Parameters("?", (0,)), None, "has 1 parameter, 0 values given"),
        (Parameters(), [1], "has 0 parameters, 1 value given"),
        (Parameters("?", (0,)), {"a": 1}, "without names"),
        (Parameters(":", ("a", "b")), {"a": 1}, "(:a, :b), 1 value given: :b missing"),
        (Parameters(":", ("a",)), [1], "pass a mapping"),
        (Parameters("?", (0,)), "x", "not as str"),
        (Parameters("?", (0,)), 5, "not as int"),
        (Parameters("?", (0,)), {1}, "not as set"),
    ],
)
def test_a_wrong_number_says_what_is_expected_and_what_was_given(
    parameters: Parameters, given: Any, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        parameters.arrange(given)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("SELECT 1 1", 'syntax error at "1"', 1, 10),
        ("SELECT *\nFROM t WHERE", "incomplete", 2, 13),
        ("SELECT (1", "expecting )", 1, 10),
        ("SELECT a,\n  FROM t", "nothing follows the comma", 2, 3),
        ("INSERT INTO t VALUES (1,)", "nothing follows the comma", 1, 25),
        ("SELECT 1_000", "does not end here", 1, 9),
        ("SELECT 'abc", "without an end", 1, 8),
        ('SELECT a, "abc', "without an end", 1, 11),
        ("SELECT 1; SELECT 2", "a second one begins here", 1, 11),
        ("FROB x", "does not begin with", 1, 1),
        ("EXPLAIN", "of what", 1, 8),
        ("EXPLAIN\n  SELECT 1 1", "syntax error", 2, 12),
        ("COMMIT x", "syntax error", 1, 8),
        ("START", "TRANSACTION", 1, 6),
        ("EXPLAIN BEGIN", "no plan", 1, 9),
        ("SELECT 'a\0b'", "NUL", 1, 10),
    ],
)
def test_errors_point_at_the_place(text: str, message: str, line: int, column: int) -> None:
    found = complaint(text)
    assert message in found
    assert f"line {line}, column {column}\n" in found
    *_, excerpt, caret = found.split("\n")
    assert len(caret) - len(caret.lstrip()) - 2 == column - 1 or len(excerpt) > 90


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("select 1;", "select"),
        ("  -- why\n  VALUES (1) ;; ", "select"),
        ("(SELECT 1)", "select"),
        ("TABLE t", "select"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "select"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "insert"),
        ("BEGIN", "begin"),
        ("begin transaction", "begin"),
        ("START TRANSACTION", "begin"),
        ("COMMIT WORK", "commit"),
        ("END", "commit"),
        ("ROLLBACK", "rollback"),
        ("ALTER TABLE t ADD a INT", "alter"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    parsed = parse(text)
    assert (parsed.transaction.kind if parsed.transaction else parsed.kind) == kind
    assert not parsed.explain


def test_explain_keeps_the_places_of_what_it_explains() -> None:
    parsed = parse("EXPLAIN SELECT ? FROM t")
    assert parsed.explain
    assert [node.meta["start"] for node in parsed.tree.find_all(exp.Placeholder)] == [15]


@pytest.mark.parametrize("text", [None, b"SELECT 1", 5])
def test_a_statement_is_text(text: Any) -> None:
    assert "a statement is text" in complaint(text)


def test_the_text_has_a_limit() -> None:
    assert "characters, more than" in complaint("SELECT '" + "x" * parser.MAX_TEXT + "'")
    parse("SELECT '" + "x" * 1000 + "'")


DEEP = [
    lambda n: "SELECT " + "(" * n + "1" + ")" * n,
    lambda n: "SELECT " + "- " * n + "1",
    lambda n: "SELECT " + "NOT " * n + "TRUE",
    lambda n: "SELECT " + "abs(" * n + "1" + ")" * n,
    lambda n: "SELECT " + "CASE WHEN TRUE THEN " * n + "1" + " END" * n,
    lambda n: "SELECT 1" + " + 1" * n,
    lambda n: "SELECT 1" + "::int" * n,
    lambda n: "SELECT * FROM " + "(SELECT * FROM " * n + "t" + ") x" * n,
    lambda n: "SELECT 1 WHERE " + "EXISTS (SELECT 1 WHERE " * n + "TRUE" + ")" * n,
    lambda n: "SELECT 1" + " EXCEPT SELECT 1" * n,
    lambda n: "INSERT INTO t VALUES (" + "(" * n + "1" + ")" * n + ")",
    lambda n: "CREATE TABLE t (a INT CHECK (" + "(" * n + "a > 1" + ")" * n + "))",
]


@pytest.mark.parametrize("make", DEEP)
@pytest.mark.parametrize("depth", [300, 5_000])
def test_deep_nesting_is_an_error_with_a_name(make: Any, depth: int) -> None:
    assert "nested" in complaint(make(depth))


def test_chains_may_be_long() -> None:
    for word in (" AND a = 1", " OR a = 1", " || 'x'"):
        parse("SELECT a = 1" + word * 2_000)
    parse("SELECT 1" + " UNION SELECT 1" * 2_000)


def test_the_recursion_limit_is_left_as_it_was() -> None:
    before = sys.getrecursionlimit()
    complaint("SELECT " + "(" * 5_000)
    assert sys.getrecursionlimit() == before


def test_expressions_of_the_catalog_are_read_alone() -> None:
    assert parse_expression("a > 1").sql() == "a > 1"
    for text in ("a, b", "a FROM t", "a AS b", "*", "1; DROP TABLE t"):
        with pytest.raises(ParseError):
            parse_expression(text)


@example("{:}")
@given(st.text(alphabet="SELCT ()'\"?:$a1,;-*/\n\\[]{}.|=<>%", max_size=40))
def test_whatever_the_text_the_error_is_ours(text: str) -> None:
    for prefix in ("", "SELECT ", "INSERT INTO t VALUES ("):
        with contextlib.suppress(MurmurError):
            parse(prefix + text)


def test_a_cast_behind_a_typed_literal_is_of_the_typed_value() -> None:
    cast = parse("SELECT TIMESTAMP '2024-01-01 10:00'::date").tree.selects[0]
    assert cast.sql() == "CAST(CAST('2024-01-01 10:00' AS TIMESTAMP) AS DATE)"
