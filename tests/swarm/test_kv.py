"""Keys and values: two ordered kinds of keys, ranges, and what is not a key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import murmur
from murmur import InvalidInput, Swarm, TypeMismatch
from murmur.swarm.kv import decode_key, encode_key, key_range

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = TEXT | st.binary()


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a") as swarm:
        yield swarm


def put_both(writer: Any, value: Any) -> None:
    """Something that is right, and then something that may not be."""
    writer.put("b", b"1")
    writer.put("a", value)


@given(KEYS)
def test_a_key_comes_back_as_it_was_put(key: str | bytes) -> None:
    assert decode_key(encode_key(key)) == key
    assert type(decode_key(encode_key(key))) is type(key)


@given(TEXT, TEXT, st.binary(), st.binary())
def test_encoded_keys_sort_as_keys_do(a: str, b: str, c: bytes, d: bytes) -> None:
    assert (encode_key(a) < encode_key(b)) == (a < b)
    assert (encode_key(c) < encode_key(d)) == (c < d)
    assert encode_key(a) < encode_key(c)


@given(st.lists(KEYS), TEXT)
def test_a_prefix_covers_exactly_the_keys_that_begin_with_it(
    keys: list[str | bytes], prefix: str
) -> None:
    for each in (prefix, prefix.encode()):
        start, stop = key_range(each, None, None)
        for key in keys:
            begins = type(key) is type(each) and key.startswith(each)  # type: ignore[arg-type]
            assert (start <= encode_key(key) < stop) == begins
        assert start <= encode_key(each) < stop


def test_put_get_delete(swarm: Swarm) -> None:
    assert swarm.get("a") is None
    swarm.put("a", b"1")
    swarm.put(b"a", b"2")
    swarm.put("", b"empty")
    assert (swarm.get("a"), swarm.get(b"a"), swarm.get("")) == (b"1", b"2", b"empty")
    swarm.put("a", b"")
    assert swarm.get("a") == b""
    assert swarm.delete("a") is True
    assert swarm.delete("a") is False
    assert swarm.get("a") is None
    assert swarm.get(b"a") == b"2"


def test_deleting_nothing_writes_nothing(swarm: Swarm) -> None:
    swarm.put("a", b"1")
    before = swarm.version_vector
    swarm.delete("b")
    assert swarm.version_vector == before


def test_scans(swarm: Swarm) -> None:
    for key in ("a", "b:1", "b:2", "c", b"b:1", b"\xff", b"\xff\xff"):
        swarm.put(key, b"v")

    def keys(*args: Any, **kwargs: Any) -> list[str | bytes]:
        return [key for key, value in swarm.scan(*args, **kwargs) if value == b"v"]

    assert keys() == ["a", "b:1", "b:2", "c", b"b:1", b"\xff", b"\xff\xff"]
    assert keys(reverse=True) == keys()[::-1]
    assert keys("b:") == keys(prefix="b:") == ["b:1", "b:2"]
    assert keys("") == ["a", "b:1", "b:2", "c"]
    assert keys(b"") == [b"b:1", b"\xff", b"\xff\xff"]
    assert keys(b"\xff") == [b"\xff", b"\xff\xff"]
    assert keys(start="b:1", stop="c") == ["b:1", "b:2"]
    assert keys(start="b:2") == ["b:2", "c"]
    assert keys(stop="b:2") == ["a", "b:1"]
    assert keys(start=b"c") == [b"\xff", b"\xff\xff"]
    assert keys(start="c", stop="a") == []
    assert keys("b:", reverse=True) == ["b:2", "b:1"]


def test_a_scan_shows_the_moment_of_the_call(swarm: Swarm) -> None:
    swarm.put("a", b"1")
    swarm.put("b", b"1")
    unread, half = swarm.scan(), swarm.scan()
    assert next(half) == ("a", b"1")
    swarm.put("a", b"2")
    swarm.delete("b")
    swarm.put("c", b"2")
    assert list(unread) == [("a", b"1"), ("b", b"1")]
    assert list(half) == [("b", b"1")]
    assert list(swarm.scan()) == [("a", b"2"), ("c", b"2")]


def test_a_scan_can_be_closed(swarm: Swarm) -> None:
    swarm.put("a", b"1")
    with swarm.scan() as pairs:
        assert next(pairs) == ("a", b"1")
    assert list(pairs) == []
    pairs.close()


def test_a_scan_lets_its_snapshot_go_with_the_last_pair(swarm: Swarm) -> None:
    swarm.put("a", b"1")
    scan = swarm.scan()
    assert list(scan) == [("a", b"1")]
    with pytest.raises(murmur.Closed):
        scan._snapshot.get(b"")


@pytest.mark.parametrize("key", [None, 1, 1.5, ("a",), ["a"]])
def test_other_types_are_not_keys(swarm: Swarm, key: Any) -> None:
    for call in (
        lambda: swarm.put(key, b""),
        lambda: swarm.get(key),
        lambda: swarm.delete(key),
    ):
        with pytest.raises(TypeMismatch, match="a key is str or bytes"):
            call()
    assert swarm.version_vector == {}


@pytest.mark.parametrize("value", [None, 1, "text", ["a"]])
def test_other_types_are_not_values(swarm: Swarm, value: Any) -> None:
    with pytest.raises(TypeMismatch, match="a value is bytes"):
        swarm.put("a", value)
    for together in (swarm.batch, swarm.transaction):
        with pytest.raises(TypeMismatch), together() as writer:
            put_both(writer, value)
    assert list(swarm.scan()) == []


def test_buffers_are_taken_as_the_bytes_they_hold(swarm: Swarm) -> None:
    swarm.put(bytearray(b"k"), memoryview(b"v"))  # type: ignore[arg-type]
    assert swarm.get(b"k") == b"v"


def test_keys_that_cannot_be_stored_are_refused_with_the_reason(swarm: Swarm) -> None:
    with pytest.raises(InvalidInput, match="lone surrogate at position 1"):
        swarm.put("a\ud800", b"")
    with pytest.raises(InvalidInput, match="longer than 65534"):
        swarm.put("a" * 65535, b"")
    swarm.put("a" * 65534, b"longest")
    assert swarm.get("a" * 65534) == b"longest"
    with pytest.raises(InvalidInput, match="longer than"):
        swarm.put("big", b"x" * ((32 << 20) + 1))


def test_bounds_that_contradict_each_other_are_refused(swarm: Swarm) -> None:
    with pytest.raises(InvalidInput, match="not both"):
        swarm.scan("a", start="b")
    with pytest.raises(TypeMismatch, match="both str or both bytes"):
        swarm.scan(start="a", stop=b"b")


def test_a_batch_becomes_visible_at_once(swarm: Swarm) -> None:
    swarm.put("old", b"1")
    with swarm.batch() as batch:
        batch.put("b", b"2")
        batch.put("a", b"1")
        batch.put("a", b"3")
        batch.delete("old")
        batch.put("gone", b"")
        batch.delete("gone")
        assert list(swarm.scan()) == [("old", b"1")]
    assert list(swarm.scan()) == [("a", b"3"), ("b", b"2")]
    assert swarm.version_vector == {swarm.replica_id: 2}


def test_a_batch_that_raises_writes_nothing_and_ends(swarm: Swarm) -> None:
    with pytest.raises(TypeMismatch), swarm.batch() as batch:
        put_both(batch, None)
    assert swarm.version_vector == {}
    with pytest.raises(murmur.Closed, match="batch"):
        batch.put("a", b"1")
    with swarm.batch():
        pass
    assert swarm.version_vector == {}
