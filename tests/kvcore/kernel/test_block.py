"""Blocks hold what was put into them, and filters know every key."""

from __future__ import annotations

from random import Random
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.kvcore.kernel.pure.block import GROUP, TOMBSTONES, Block, decode_block, encode_block
from murmur.kvcore.kernel.pure.cache import BlockCache
from murmur.kvcore.kernel.pure.filter import build_filter, hash_key, may_contain

contents = st.dictionaries(
    st.builds(bytes.__add__, st.sampled_from([b"", b"row/", b"row/\x00\xff"]), st.binary()),
    st.none() | st.binary(),
    max_size=3 * GROUP,
)


@given(contents)
def test_decode_undoes_encode(content: dict[bytes, bytes | None]) -> None:
    keys = sorted(content)
    values = [content[key] for key in keys]
    block = decode_block(encode_block(keys, values, TOMBSTONES))
    assert (block.keys, block.values) == (keys, values)
    assert block.kinds == (TOMBSTONES if None in values else 0)


def test_the_example_of_the_docstring() -> None:
    data = encode_block([b"ab1", b"ab2", b"ab34"], [b"x", None, b"yz"], TOMBSTONES)
    assert data == (
        bytes([3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 1, 1, 2, 1, 0, 2, 1, 0, 0, 0])
        + b"ab1234xyz"
    )


@pytest.mark.parametrize("length", [255, 256, 65_535, 65_536])
def test_lengths_at_the_edge_of_a_width(length: int) -> None:
    keys = [b"a" * length, b"b" * length, b"b" * length + b"c"]
    values: list[bytes | None] = [b"v" * length, b"", b"w"]
    block = decode_block(encode_block(keys, values))
    assert (block.keys, block.values) == (keys, values)


def test_prefixes_are_shared() -> None:
    keys = [b"a long and common prefix %04d" % number for number in range(64)]
    data = encode_block(keys, [b""] * 64)
    assert len(data) < 64 * 8


@pytest.mark.parametrize("kind", ["decimal", "big-endian", "random"])
def test_a_filter_knows_its_keys_and_few_others(kind: str) -> None:
    rng = Random(5)

    def key(number: int) -> bytes:
        if kind == "decimal":
            return b"key%012d" % number
        return number.to_bytes(8) if kind == "big-endian" else rng.randbytes(16)

    hashes = [hash_key(key(number)) for number in range(0, 40_000, 2)]
    filter_ = build_filter(hashes)
    assert len(filter_) == 1 + len(hashes) * 10 // 8
    assert all(may_contain(filter_, hashed) for hashed in hashes)
    others = [hash_key(key(number)) for number in range(1, 40_001, 2)]
    mistaken = sum(may_contain(filter_, hashed) for hashed in others)
    assert mistaken / len(others) < 0.015


def test_a_filter_of_few_keys() -> None:
    for count in range(20):
        hashes = [crc32(b"%d" % number) for number in range(count)]
        assert all(may_contain(build_filter(hashes), hashed) for hashed in hashes)


def test_the_cache_keeps_what_is_used_within_its_budget() -> None:
    cache = BlockCache(1000)
    used = Block([], [], kinds=0, weight=10)
    cache.put(0, used)
    for number in range(1, 1000):
        cache.put(number, Block([], [], kinds=0, weight=10))
        assert cache.get(0) is used
        assert cache.weight <= 1000
    assert cache.get(1) is None
    assert cache.get(999) is not None
