"""Regular expressions of the row engine against DuckDB's, and the time that they take."""

from __future__ import annotations

import random

import duckdb
import pytest

from murmur.sql.regular_expressions import MAX_SETS, matcher, similar_pattern

ATOMS = (
    "a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", "[a-c]", r"\.", "[[:alpha:]]", r"\s", "[b-]",
    "K", "s", r"\W", r"[^\d]", "é",
)  # fmt: skip
CHARACTERS = "abcABC1. \nKk\u212as\u017f-ıé"


def expression(rng: random.Random, depth: int) -> str:
    kind = rng.random()
    if depth == 0 or kind < 0.35:
        return rng.choice(ATOMS)
    if kind < 0.6:
        return expression(rng, depth - 1) + expression(rng, depth - 1)
    if kind < 0.7:
        return f"({expression(rng, depth - 1)}|{expression(rng, depth - 1)})"
    if kind < 0.85:
        times = rng.choice(("*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"))
        return f"({expression(rng, depth - 1)}){times}"
    if kind < 0.92:
        return expression(rng, 0) + rng.choice("*+?")
    return rng.choice(("^", "")) + expression(rng, depth - 1) + rng.choice(("$", ""))


@pytest.mark.parametrize("seed", range(2))
def test_what_matches_matches_in_duckdb(seed: int) -> None:
    rng = random.Random(seed)
    known = 0
    with duckdb.connect() as connection:
        for _ in range(60):
            pattern, ignore_case = expression(rng, 4), rng.random() < 0.4
            matches = matcher(pattern, ignore_case=ignore_case)
            if matches is None:
                assert ignore_case
                assert not pattern.isascii()
                continue
            known += 1
            length = rng.randint(0, 9)
            texts = ["".join(rng.choices(CHARACTERS, k=length)) for _ in range(12)]
            found = connection.execute(
                "SELECT t, regexp_matches(t, $2, $3) FROM (SELECT unnest($1) AS t)",
                [texts, pattern, "si" if ignore_case else "s"],
            ).fetchall()
            for text, expected in found:
                assert matches(text) == expected, (pattern, ignore_case, text)
    assert known > 40


@pytest.mark.parametrize(
    "pattern", [r"(a)\1", "(?i)a", "a**", "*a", "a{", r"\ya", "[[=a=]]", "(a", "a)", "[a", "a{2,1}"]
)
def test_what_is_left_to_the_other_engine(pattern: str) -> None:
    assert matcher(pattern) is None


def test_an_unlucky_text_takes_no_longer_than_another() -> None:
    matches = matcher("^(a+)+$")
    assert matches is not None
    assert matches("a" * 50_000)
    assert not matches("a" * 50_000 + "b")  # who backtracks tries 2 ** 50,000 ways


def test_more_sets_of_states_than_are_kept() -> None:
    """Every set of the last twelve places where an a stood is a state of its own."""
    matches = matcher("a.{12}b$")
    assert matches is not None
    rng = random.Random(0)
    for _ in range(5):
        text = "".join(rng.choices("ab", k=4 * MAX_SETS))
        assert matches(text) == (text[-14] == "a" and text[-1] == "b")


@pytest.mark.parametrize(
    ("pattern", "escape", "expected"),
    [
        ("a%_", "\\", "^(?:a.*.)$"),
        ("a.c", "\\", r"^(?:a\.c)$"),
        (r"\%", "\\", r"^(?:\%)$"),
        ("#%", "#", r"^(?:\%)$"),
        ("[%_.]%", "\\", "^(?:[%_.].*)$"),
        ("[]x]|(ab)+", "\\", "^(?:[]x]|(ab)+)$"),
    ],
)
def test_patterns_of_similar_to(pattern: str, escape: str, expected: str) -> None:
    assert similar_pattern(pattern, escape) == expected
