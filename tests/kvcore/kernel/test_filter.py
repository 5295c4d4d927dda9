"""Filters know every key, and few others."""

from __future__ import annotations

from random import Random
from zlib import crc32

import pytest

from murmur.kvcore.kernel.pure.filter import build_filter, hash_key, may_contain


def mistakes(filter_: bytes, hashes: list[int]) -> float:
    return sum(may_contain(filter_, hashed) for hashed in hashes) / len(hashes)


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
    assert mistakes(filter_, hashes) == 1
    others = [hash_key(key(number)) for number in range(1, 40_001, 2)]
    assert mistakes(filter_, others) < 0.015


@pytest.mark.parametrize(
    ("bits", "probes", "most"),
    [(1, 1, 0.7), (2, 1, 0.45), (5, 3, 0.12), (10, 5, 0.015), (14, 10, 0.004), (60, 30, 0.001)],
)
def test_more_bits_make_fewer_mistakes(bits: int, probes: int, most: float) -> None:
    hashes = [crc32(b"%d" % number) for number in range(10_000)]
    filter_ = build_filter(hashes, bits)
    assert filter_[0] == probes
    assert len(filter_) == 1 + len(hashes) * bits // 8
    assert mistakes(filter_, hashes) == 1
    assert mistakes(filter_, [crc32(b"%d" % number) for number in range(10_000, 20_000)]) < most


@pytest.mark.parametrize("bits", [1, 10, 20])
def test_a_filter_of_few_keys(bits: int) -> None:
    for count in range(20):
        hashes = [crc32(b"%d" % number) for number in range(count)]
        filter_ = build_filter(hashes, bits)
        assert len(filter_) >= 9
        assert all(may_contain(filter_, hashed) for hashed in hashes)


def test_the_format_does_not_change() -> None:
    assert build_filter([crc32(b"a"), crc32(b"b")]).hex() == "050304083040040801"
