"""Broken statements: whatever becomes of a golden one, the error is ours, and only it breaks."""

from __future__ import annotations

import random
import re
from itertools import islice

import pytest

from murmur.errors import MurmurError
from tests.sql.session_harness import open_session, rows_of
from tests.sql.test_scripts import SCRIPTS, blocks

WORDS = re.compile(r"\w+|'[^']*'|\"[^\"]*\"|<=|>=|<>|\|\||::|\S")
TEXTS = [block.text for path in SCRIPTS for block in blocks(path)]
# Without its condition a recursive query may run for ever, as it should.
STATEMENTS = [WORDS.findall(text) for text in TEXTS if "RECURSIVE" not in text]
ALL_WORDS = [word for words in STATEMENTS for word in words]
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, a INT, b TEXT, c DECIMAL(6,2))",
    "CREATE TABLE IF NOT EXISTS note (id INT PRIMARY KEY, author INT, body TEXT, likes COUNTER)",
    "CREATE TABLE IF NOT EXISTS author (id INTEGER PRIMARY KEY, name TEXT)",
)


def mutated(rng: random.Random) -> str:
    words = list(rng.choice(STATEMENTS))
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(words) + 1)
        match rng.randrange(4):
            case 0 if words:
                del words[at % len(words)]
            case 1 if words:
                words[at % len(words)] = rng.choice(ALL_WORDS)
            case 2:
                other = rng.choice(STATEMENTS)
                start = rng.randrange(len(other))
                words[at:at] = other[start : start + rng.randint(1, 5)]
            case _:
                words.insert(at, rng.choice(ALL_WORDS))
    return " ".join(words).replace(" . ", ".")


def run(seed: int, count: int) -> None:
    rng = random.Random(seed)
    session = open_session(seed=seed)
    for number in range(count):
        if number % 50 == 0:
            if session.in_transaction:
                session.rollback()
            for text in SCHEMA:
                session.execute(text)
        text = mutated(rng)
        try:
            outcome = session.execute(text, [1] * text.count("?") or None)
            list(islice(rows_of(outcome), 100))
        except MurmurError as error:
            assert "murmur_r" not in str(error) or "murmur_r" in text, (text, error)  # noqa: PT017
        except Exception as error:
            raise AssertionError(f"{text}\n{error!r}") from error


@pytest.mark.parametrize("seed", range(4))
def test_a_broken_statement_is_an_error_with_a_name(seed: int) -> None:
    run(seed, 250)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_broken_statements(seed: int) -> None:
    run(seed, 5_000)
