"""JSON and msgpack under a key: what comes back, the canonical form, and what is refused where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import murmur
from murmur import DataError, Swarm, TypeMismatch
from murmur.swarm.documents import (
    MAX_DEPTH,
    decode_json,
    decode_msgpack,
    encode_json,
    encode_msgpack,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
INT64 = st.integers(-(2**63), 2**64 - 1)
JSON = st.recursive(
    SCALARS | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
MOMENTS = st.datetimes(datetime(1901, 1, 1), datetime(2400, 1, 1), timezones=st.sampled_from([UTC]))
MSGPACK = st.recursive(
    SCALARS | INT64 | st.binary() | st.just(math.inf) | MOMENTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT | INT64 | st.binary(), inner),
    max_leaves=20,
)


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a") as swarm:
        yield swarm


def turned(value: Any) -> Any:
    """The same document, its members in another order."""
    match value:
        case dict():
            return {name: turned(member) for name, member in reversed(value.items())}
        case list():
            return [turned(each) for each in value]
    return value


@given(JSON)
def test_json_comes_back_and_equal_documents_are_equal_bytes(value: Any) -> None:
    data = encode_json("k", value)
    assert decode_json("k", data) == value
    assert encode_json("k", turned(value)) == data
    assert encode_json("k", decode_json("k", data)) == data


@given(MSGPACK)
def test_msgpack_comes_back_and_equal_documents_are_equal_bytes(value: Any) -> None:
    data = encode_msgpack("k", value)
    assert decode_msgpack("k", data) == value
    assert encode_msgpack("k", turned(value)) == data
    assert encode_msgpack("k", decode_msgpack("k", data)) == data


def test_the_canonical_form() -> None:
    value = {"é": "ß\n", "b": [1, 2.5, 1e30, None, True], "a": ()}
    assert encode_json("k", value).decode() == ('{"a":[],"b":[1,2.5,1e+30,null,true],"é":"ß\\n"}')
    assert encode_msgpack("k", {"b": 1, "a": b"x"}) == b"\x82\xa1a\xc4\x01x\xa1b\x01"


def test_swarms_transactions_and_batches_put_and_get(swarm: Swarm) -> None:
    with swarm.batch() as batch:
        batch.put_json("a", {"n": 1})
        batch.put_msgpack(b"b", [b"\x00"])
    assert (swarm.get_json("a"), swarm.get_msgpack(b"b")) == ({"n": 1}, [b"\x00"])
    with swarm.transaction() as tx:
        tx.put_json("a", tx.get_json("a") | {"m": None})
        tx.put_msgpack("c", {1: "one"})
        assert (tx.get_json("a"), tx.get_msgpack("c")) == ({"m": None, "n": 1}, {1: "one"})
    assert swarm.get("a") == b'{"m":null,"n":1}'
    swarm.put_json("null", None)
    assert (swarm.get_json("null", 5), swarm.get_json("none", 5), swarm.get_msgpack("none")) == (
        None,
        5,
        None,
    )


def test_a_datetime_is_the_same_moment_in_utc() -> None:
    there = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    back = decode_msgpack("k", encode_msgpack("k", there))
    assert (back, back.utcoffset()) == (there, timedelta())


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ({1, 2}, TypeMismatch, "key 'k', value: set is not JSON"),
        ({"a": [0, {"b": object()}]}, TypeMismatch, "key 'k', value.a[1].b: object is not JSON"),
        (b"x", TypeMismatch, "bytes is not JSON; put_msgpack takes bytes"),
        ({1: 2}, TypeMismatch, "a member's name is str in JSON, not int"),
        ([math.nan], DataError, r"value\[0\]: nan is not JSON"),
        ([-math.inf], DataError, "-inf is not JSON"),
        ({"a": "\ud800"}, DataError, "value.a: a lone surrogate at position 0"),
        ({"\ud800": 1}, DataError, "a lone surrogate"),
        (datetime(2024, 1, 1), TypeMismatch, "datetime is not JSON"),
    ],
)
def test_what_is_not_json(swarm: Swarm, value: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says.replace("[1]", r"\[1\]")):
        swarm.put_json("k", value)
    assert swarm.get("k") is None


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ([{1}], TypeMismatch, r"key b'k', value\[0\]: set is not msgpack"),
        (2**64, DataError, "an integer of msgpack has 64 bits"),
        (datetime(2024, 1, 1), TypeMismatch, "a datetime needs a zone"),
        (
            datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
            DataError,
            "no datetime in UTC",
        ),
        ("\ud800", DataError, "a lone surrogate"),
        ({(1, 2): 3}, TypeMismatch, "value: tuple is no name of a member"),
    ],
)
def test_what_is_not_msgpack(swarm: Swarm, value: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        swarm.put_msgpack(b"k", value)
    assert swarm.get(b"k") is None


def test_documents_are_nested_as_deep_as_a_json_column_takes(swarm: Swarm) -> None:
    deep: list[Any] = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    swarm.put_json("k", deep)
    swarm.put_msgpack("m", deep)
    assert swarm.get_json("k") == swarm.get_msgpack("m") == deep
    loop: list[Any] = []
    loop.append(loop)
    for value in ([deep], loop):
        with pytest.raises(DataError, match=f"nested deeper than {MAX_DEPTH}"):
            swarm.put_json("k", value)
        with pytest.raises(DataError, match=f"nested deeper than {MAX_DEPTH}"):
            swarm.put_msgpack("k", value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"NaN", b"1 2", b"'a'", b"[" * 100_000, b'{"a":Infinity}']
)
def test_bytes_that_are_not_json(swarm: Swarm, data: bytes) -> None:
    swarm.put("cfg", data)
    with pytest.raises(DataError, match="the value of key 'cfg' is not JSON: "):
        swarm.get_json("cfg")
    assert swarm.get("cfg") == data


@pytest.mark.parametrize(
    "data", [b"", b"\x92\x01", b"\xc1", b"\x01\x02", b"\xa1\xff", b"\x81\x80\x01", b"\x91" * 5000]
)
def test_bytes_that_are_not_msgpack(swarm: Swarm, data: bytes) -> None:
    swarm.put("cfg", data)
    with pytest.raises(DataError, match="the value of key 'cfg' is not msgpack: "):
        swarm.get_msgpack("cfg")
