"""Long chains of set operations: shallow trees that mean the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp, parse_one

import murmur
from murmur import Swarm
from murmur.errors import ParseError
from murmur.sql.balance import LONG, balance_unions
from murmur.sql.parser import MAX_DEPTH


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    with murmur.open(tmp_path_factory.mktemp("chains") / "a") as swarm:
        yield swarm


def depth(tree: Any) -> int:
    return 1 + max((depth(child) for child in tree.iter_expressions()), default=0)


def chain(word: str, count: int) -> str:
    return f" {word} ".join(f"SELECT {number} AS n" for number in range(count))


@settings(max_examples=40)
@given(st.integers(1, 130), st.sampled_from(["UNION", "UNION ALL", "INTERSECT"]))
def test_the_branches_stay_in_their_order_and_the_tree_gets_shallow(count: int, word: str) -> None:
    tree = parse_one(chain(word, count), read="postgres")
    balance_unions(tree)
    literals = [int(literal.name) for literal in tree.find_all(exp.Literal, bfs=False)]
    assert literals == list(range(count))
    assert depth(tree) <= LONG + 4


@pytest.mark.parametrize("count", [LONG, LONG + 1, 500])
@pytest.mark.parametrize("engine", ["row", "columnar"])
def test_five_hundred_selects_are_one_statement(swarm: Swarm, count: int, engine: str) -> None:
    assert count > MAX_DEPTH or count <= LONG + 1
    swarm.sql(f"SET engine = {engine}")
    rows = swarm.sql(chain("UNION ALL", count) + " ORDER BY n DESC LIMIT 3").fetchall()
    assert rows == [(count - 1,), (count - 2,), (count - 3,)]
    doubled = f"SELECT count(*) FROM ({chain('UNION', count)} UNION {chain('UNION', count)}) AS u"
    assert swarm.sql(doubled).fetchall() == [(count,)]


def test_chains_of_two_words_keep_their_order_of_evaluation(swarm: Swarm) -> None:
    mixed = f"{chain('UNION', 40)} UNION ALL {chain('UNION ALL', 40)} EXCEPT SELECT 1"
    assert len(swarm.sql(mixed).fetchall()) == 39
    assert (
        len(swarm.sql(f"{chain('UNION', 40)} UNION ALL {chain('UNION ALL', 40)}").fetchall()) == 80
    )
    assert (
        len(swarm.sql(f"{chain('UNION ALL', 40)} UNION {chain('UNION ALL', 40)}").fetchall()) == 79
    )


def test_the_last_branch_of_a_recursive_query_stays_the_last(swarm: Swarm) -> None:
    first = chain("UNION ALL", 60)
    query = f"WITH RECURSIVE r AS ({first} UNION ALL SELECT n + 60 FROM r WHERE n < 60) TABLE r"
    assert swarm.sql(query).fetchall()


def test_a_statement_is_text_that_utf8_can_write(swarm: Swarm) -> None:
    for statement in ("SELECT '\ud800'", 'SELECT 1 AS "\ud800"', "SET engine = '\ud800'"):
        with pytest.raises(ParseError, match=r"lone surrogate at character \d+"):
            swarm.sql(statement)
