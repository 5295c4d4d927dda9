"""Search: the keys of a prefix whose key or value resembles some words, the most alike first.

    swarm.search("cfg:", "mial host")     ->  [Match("cfg:mail:host", b"mx", 0.64), ...]

A text is cut into words, letters and digits in lower case; each word with two blanks before it and
one behind it gives its trigrams, as in PostgreSQL's pg_trgm. The score is the share of the words'
trigrams that are also in the key and the value, 1.0 when all are. A value that is not UTF-8 counts
for nothing. Every key of the prefix is read.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from typing import NamedTuple

from murmur.catalog.trigrams import LENGTH, fold_case
from murmur.errors import InvalidInput
from murmur.swarm.kv import Key

THRESHOLD = 0.3  # below, nothing is alike

_WORD = re.compile(r"[^\W_]+")


class Match(NamedTuple):
    """A key that was found."""

    key: Key
    value: bytes
    score: float


def search(
    pairs: Iterable[tuple[Key, bytes]], words: str, *, limit: int, threshold: float = THRESHOLD
) -> list[Match]:
    """At most `limit` of these keys and values, by falling score, then by key."""
    wanted = word_trigrams(words)
    if not wanted:
        raise InvalidInput(f"there is no word to search for in {words!r}")
    if limit < 0:
        raise InvalidInput(f"limit must not be negative: {limit}")
    found = []
    for at, (key, value) in enumerate(pairs):
        known = word_trigrams(_text(key)) | word_trigrams(_text(value))
        score = len(wanted & known) / len(wanted)
        if score >= threshold:
            found.append((-score, at, Match(key, value, score)))
    return [match for *_, match in heapq.nsmallest(limit, found)]


def word_trigrams(text: str) -> set[str]:
    """The trigrams of the words of a text."""
    padded = (f"  {word} " for word in _WORD.findall(fold_case(text)))
    return {word[at : at + LENGTH] for word in padded for at in range(len(word) - LENGTH + 1)}


def _text(data: Key) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""
