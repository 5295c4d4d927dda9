"""Lists as parameters: what they find is what Python's `in` finds, in every style and length."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from murmur.errors import InvalidInput, ParseError
from murmur.sql import Session
from murmur.sql.list_parameters import STEP, with_lists
from murmur.sql.parser import parse
from tests.sql.session_harness import fetch, open_session

VALUES = [None, *range(12)]


@pytest.fixture(scope="module")
def session() -> Session:
    session = open_session()
    session.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a INT)")
    session.execute("CREATE INDEX ON t (a)")
    session.execute_many("INSERT INTO t VALUES (?, ?)", list(enumerate(VALUES)))
    return session


@given(st.lists(st.one_of(st.none(), st.integers(-2, 14)), max_size=9), st.sampled_from("?$:"))
@settings(max_examples=40)
def test_a_list_finds_what_is_in_it(session: Session, items: list[int | None], style: str) -> None:
    mark = {"?": "?", "$": "$1", ":": ":items"}[style]
    given = {"items": items} if style == ":" else [items]
    known = {item for item in items if item is not None}
    found = [i for i, a in enumerate(VALUES) if a in known]
    missed = [
        i
        for i, a in enumerate(VALUES)
        if not items or (None not in items and a is not None and a not in known)
    ]
    for text, expected in (
        (f"SELECT id FROM t WHERE a = ANY({mark}) ORDER BY id", found),
        (f"SELECT id FROM t WHERE a IN ({mark}) ORDER BY id", found),
        (f"SELECT id FROM t WHERE a <> ALL({mark}) ORDER BY id", missed),
        (f"SELECT id FROM t WHERE a NOT IN ({mark}) ORDER BY id", missed),
    ):
        rows = fetch(session, text, given)  # type: ignore[arg-type]
        assert [row[0] for row in rows] == expected, text


@pytest.mark.parametrize(
    ("count", "written"), [(0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (200, 256), (257, 2 * STEP)]
)
def test_few_plans_serve_lists_of_all_lengths(count: int, written: int) -> None:
    parsed = parse("SELECT 1 WHERE 1 = ANY(?)")
    made = with_lists(parsed.text, parsed.lists, parsed.parameters, [list(range(count))])
    assert made is not None
    text, values = made
    assert text.count("?") == written
    assert values == [*range(count), *[count - 1] * (written - count)]


def test_every_row_of_parameters_has_its_own_list(session: Session) -> None:
    session.begin()
    outcome = session.execute_many("DELETE FROM t WHERE id = ANY(?)", [[[1, 2]], [[]], [[2, 3, 4]]])
    assert outcome.rowcount == 4
    session.rollback()


def test_a_list_has_as_many_elements_as_a_statement_may_have_parameters(session: Session) -> None:
    with pytest.raises(ParseError, match="more than 32766 parameters"):
        session.execute("SELECT id FROM t WHERE id = ANY(?)", [list(range(40_000))])
    with pytest.raises(InvalidInput, match="1 parameter, 2 values"):
        session.execute("SELECT id FROM t WHERE id = ANY(?)", [[1], 2])
