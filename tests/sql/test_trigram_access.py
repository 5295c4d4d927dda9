"""LIKE and ILIKE by trigrams and by prefix find what a scan finds, whatever the pattern."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from murmur.catalog import Catalog, trigrams
from murmur.catalog.trigrams import fold_case, trigrams_of
from murmur.errors import DataError
from murmur.sql import Session
from murmur.sql.texts import like_literals, like_matcher, like_prefix
from murmur.sql.trigram_access import after_text
from tests.sql.session_harness import fetch, open_session, plan_of

# Few letters, so that texts and patterns meet; with cases that fold in odd ways or not at all.
LETTERS = "abcABCıİſẞßσςΣéÉ\U00010400\U00010428%_\\ "
TEXTS = st.text(LETTERS, max_size=8)
PATTERNS = st.text(LETTERS + "%_\\", max_size=8) | st.tuples(TEXTS, TEXTS, TEXTS).map(
    lambda parts: f"%{parts[0]}_{parts[1]}%{parts[2]}"
)
CREATE = "CREATE TABLE t (id INTEGER PRIMARY KEY, plain TEXT, body TEXT)"
INDEX = "CREATE INDEX t_text ON t USING trigram (body)"


TURNS = ["{0}", "{0}", "{0}", "_", "%", "%{0}", "_%", "\\{0}", "\\{0}"]


@st.composite
def texts_and_pattern(draw: st.DrawFn) -> tuple[list[str | None], str]:
    """Texts, and a pattern that some of them may match: one of them, holes cut into it."""
    texts = draw(st.lists(TEXTS | st.none(), min_size=1, max_size=5))
    model = draw(st.sampled_from(texts)) or draw(TEXTS)
    turns = draw(st.lists(st.sampled_from(TURNS), min_size=len(model), max_size=len(model)))
    pattern = "".join(turn.format(char) for turn, char in zip(turns, model, strict=True))
    if draw(st.booleans()):
        pattern = pattern.swapcase()
    return texts, draw(st.sampled_from(["{}", "%{}", "{}%", "%{}%"])).format(pattern)


@pytest.fixture
def session() -> Iterator[Session]:
    session = open_session()
    session.execute(CREATE)
    session.execute(INDEX)
    yield session
    session.close()


def answer(session: Session, text: str, parameters: list[Any] | None = None) -> Any:
    try:
        return fetch(session, text, parameters)
    except DataError as error:
        return str(error).splitlines()[0]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@settings(max_examples=100)
@given(texts_and_pattern(), st.sampled_from([None, None, "", "\\", "a", "A", "%"]))
@example((["xabcx", "xABCx"], "%abc%"), None)
@example((["abcΣd", "ABCσD"], "%abcΣ%"), None)
@example((["xyABC"], "%xyAABC%"), "A")
@example((["İab", "i̇ab"], "%iab%"), None)
def test_an_index_never_loses_a_match(
    drawn: tuple[list[str | None], str], escape: str | None
) -> None:
    texts, pattern = drawn
    session = open_session(columnar=False)
    session.execute(CREATE)
    session.execute(INDEX)
    rows = [(number, text, text) for number, text in enumerate(texts)]
    session.execute_many("INSERT INTO t VALUES (?, ?, ?)", rows[::2])
    session.begin()
    session.execute_many("INSERT INTO t VALUES (?, ?, ?)", rows[1::2])
    ending = "" if escape is None else f" ESCAPE {quoted(escape)}"
    for word in ("LIKE", "ILIKE"):
        for shown, parameters in ((quoted(pattern), None), ("?", [pattern])):
            by_scan, by_index = (
                answer(
                    session,
                    f"SELECT id FROM t WHERE {column} {word} {shown}{ending} ORDER BY id DESC",
                    parameters,
                )
                for column in ("plain", "body")
            )
            assert by_index == by_scan
    session.close()


@given(TEXTS, PATTERNS, st.booleans())
def test_a_match_has_the_trigrams_of_every_literal(
    text: str, pattern: str, insensitive: bool
) -> None:
    try:
        matches = like_matcher(pattern, insensitive=insensitive)(text)
    except DataError:
        return
    for literal in like_literals(pattern, insensitive=insensitive):
        assert not matches or trigrams_of(literal) <= trigrams_of(text)
    if matches and not insensitive:
        prefix = like_prefix(pattern)
        assert text.startswith(prefix)
        stop = after_text(prefix)
        assert prefix <= text
        assert stop is None or text < stop


@given(st.text(), st.text())
def test_folding_is_character_by_character(left: str, right: str) -> None:
    assert fold_case(left + right) == fold_case(left) + fold_case(right)
    assert len(fold_case(left)) == len(left)
    assert trigrams_of(left) | trigrams_of(right) <= trigrams_of(left + right)


@given(st.text(), st.text())
def test_after_text_is_above_exactly_what_begins_with_it(prefix: str, other: str) -> None:
    stop = after_text(prefix)
    if stop is None:
        assert set(prefix) <= {"\U0010ffff"}
        return
    assert prefix + other < stop
    assert (prefix <= other < stop) == other.startswith(prefix)


def test_after_text_steps_over_surrogates() -> None:
    assert after_text("a\ud7ff") == "a\ue000"
    assert after_text("a\U0010ffff") == "b"
    assert after_text("\U0010ffff") is None


def test_many_candidates_are_a_scan(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"common {'rare' if number == 700 else 'usual'} {number}" for number in range(1000)]
    session.execute_many("INSERT INTO t (id, body) VALUES (?, ?)", list(enumerate(texts)))
    expected = fetch(session, "SELECT id FROM t WHERE body || '' LIKE '%common%'")
    assert fetch(session, "SELECT id FROM t WHERE body LIKE '%common%'") == expected
    scan = trigrams.candidates
    monkeypatch.setattr(trigrams, "MANY", 300)
    with session._replica.snapshot() as snapshot:
        catalog = snapshot.state
        assert isinstance(catalog, Catalog)
        table = catalog.table("t")
        assert table is not None
        (index,) = table.trigrams
        assert scan(snapshot, table, index, trigrams_of("common")) is None
        found = scan(snapshot, table, index, trigrams_of("common rare"))
        assert found is not None
        assert len(found) == 1
    assert fetch(session, "SELECT id FROM t WHERE body LIKE '%common%'") == expected


def test_it_is_chosen_for_what_it_serves(session: Session) -> None:
    session.execute("CREATE INDEX t_plain ON t (plain)")
    chosen = "trigram scan t_text on t"
    for condition in (
        "body LIKE '%abc%'",
        "body ILIKE 'abc'",
        "body LIKE ?",
        "plain > 'a' AND body LIKE '_abc%' AND id > 3",
        "body LIKE '%a\\_b%'",
    ):
        assert any(
            chosen in line for line in plan_of(session, f"SELECT * FROM t WHERE {condition}")
        )
    for condition in (
        "body NOT LIKE '%abc%'",
        "body LIKE '%ab%cd_ef%'",
        "body LIKE plain",
        "plain LIKE '%abc%'",
        "plain = 'x' AND body LIKE '%abc%'",
        "id = 3 AND body LIKE '%abc%'",
        "lower(body) LIKE '%abc%'",
        "body LIKE '%abc%' OR id = 3",
    ):
        lines = plan_of(session, f"SELECT * FROM t WHERE {condition}")
        assert not any(chosen in line for line in lines), condition


def test_prefixes_are_ranges_of_the_key_and_of_indexes(session: Session) -> None:
    session.execute("CREATE INDEX t_plain ON t (plain)")
    session.execute("CREATE TABLE k (key TEXT PRIMARY KEY)")
    session.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, v TEXT) USING KV PREFIX 'kv:'")
    assert "    covering index range t_plain on t (plain >= 'ab', plain < 'ac')" in plan_of(
        session, "SELECT id FROM t WHERE plain LIKE 'ab%'"
    )
    assert "    key range k (key >= 'a_', key < 'a`')" in plan_of(
        session, "SELECT key FROM k WHERE key LIKE 'a\\_%x'"
    )
    assert "    full scan k" in plan_of(session, "SELECT key FROM k WHERE key LIKE ?")
    assert "    key range kv (key >= like_from($1), key < like_to($1))" in plan_of(
        session, "SELECT key FROM kv WHERE key LIKE ?"
    )
    keys = ["", "a", "a_", "a_x", "ab", "b", "\U0010ffff", "\U0010ffffz"]
    for table in ("k", "kv"):
        values = "(?, '')" if table == "kv" else "(?)"
        session.execute_many(f"INSERT INTO {table} VALUES {values}", [(key,) for key in keys])
    for pattern in ("a%", "a\\_%", "%", "", "a", "_%", "\U0010ffff%", "b\\%", "%a", "\\"):
        for table in ("k", "kv"):
            scan = f"SELECT key FROM {table} WHERE key || '' LIKE"
            by_key = f"SELECT key FROM {table} WHERE key LIKE"
            expected = answer(session, f"{scan} ?", [pattern])
            assert answer(session, f"{by_key} ?", [pattern]) == expected
            assert answer(session, f"{by_key} {quoted(pattern)}") == expected
    assert fetch(session, "SELECT key FROM kv WHERE key LIKE ?", [None]) == []


def test_updates_and_deletes_find_their_rows(session: Session) -> None:
    session.execute("INSERT INTO t VALUES (1, '', 'one needle'), (2, '', 'none'), (3, '', NULL)")
    assert session.execute("UPDATE t SET plain = 'x' WHERE body LIKE '%needle%'").rowcount == 1
    assert session.execute("DELETE FROM t WHERE body ILIKE '%NONE%'").rowcount == 1
    assert fetch(session, "SELECT id, plain FROM t") == [(1, "x"), (3, "")]
