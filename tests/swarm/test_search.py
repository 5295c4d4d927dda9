"""Search by resemblance: what is alike comes first, in a swarm and in a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import murmur
from murmur import InvalidInput, Swarm
from murmur.swarm.search import search, word_trigrams


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a") as swarm:
        yield swarm


def test_the_most_alike_comes_first(swarm: Swarm) -> None:
    swarm.put("cfg:mail:host", b"mx.example")
    swarm.put("cfg:mail:port", b"25")
    swarm.put("cfg:web:host", "Größe".encode())
    swarm.put("cfg:raw", b"\xff")
    swarm.put("other:mail:host", b"")
    swarm.put(b"cfg:mail", b"host")
    assert [match.key for match in swarm.search("cfg:", "mail host")] == [
        "cfg:mail:host",
        "cfg:mail:port",
        "cfg:web:host",
    ]
    assert swarm.search("cfg:", "MAIL, host!")[0] == ("cfg:mail:host", b"mx.example", 1.0)
    assert [match.key for match in swarm.search("cfg:", "mial", threshold=0.2)] == [
        "cfg:mail:host",
        "cfg:mail:port",
    ]
    assert [match.key for match in swarm.search("cfg:", "GRÖSSE größe")] == ["cfg:web:host"]
    assert [match.key for match in swarm.search(b"cfg", "host")] == [b"cfg:mail"]
    assert len(swarm.search(None, "host", limit=2)) == 2
    assert swarm.search("cfg:", "nothing") == swarm.search("cfg:", "mail", limit=0) == []
    with swarm.transaction() as tx:
        tx.delete("cfg:mail:host")
        tx.put("cfg:new", b"mail host")
        assert tx.search("cfg:", "mail host")[0].key == "cfg:new"
        tx.rollback()


def test_what_cannot_be_searched_for(swarm: Swarm) -> None:
    with pytest.raises(InvalidInput, match="there is no word to search for"):
        swarm.search("cfg:", "...")
    with pytest.raises(InvalidInput, match="limit must not be negative"):
        swarm.search("cfg:", "a", limit=-1)


@given(st.lists(st.tuples(st.text(), st.text().map(str.encode))), st.text(), st.integers(0, 4))
def test_scores_fall_and_a_text_is_like_itself(
    pairs: list[tuple[str, bytes]], words: str, limit: int
) -> None:
    if not word_trigrams(words):
        return
    found = search([*pairs, ("k", words.encode())], words, limit=limit)
    assert len(found) <= limit
    scores = [match.score for match in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0.3 <= score <= 1.0 for score in scores)
    assert not limit or scores[0] == 1.0
