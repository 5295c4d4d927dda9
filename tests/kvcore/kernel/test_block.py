"""Blocks hold what was put into them, compressed or not; what is none is refused."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.kvcore.kernel import LZ4, NO_CODEC, ZSTD
from murmur.kvcore.kernel.codec import compress
from murmur.kvcore.kernel.pure.block import (
    GROUP,
    REFERENCES,
    TOMBSTONES,
    Malformed,
    Reference,
    decode_block,
    encode_block,
)
from murmur.kvcore.kernel.pure.stored import unwrap, wrap

contents = st.dictionaries(
    st.builds(bytes.__add__, st.sampled_from([b"", b"row/", b"row/\x00\xff"]), st.binary()),
    st.none() | st.binary() | st.binary(min_size=24, max_size=24).map(Reference),
    max_size=3 * GROUP,
)


@given(contents, st.binary(max_size=3))
def test_decode_undoes_encode(content: dict[bytes, bytes | None], before: bytes) -> None:
    keys = sorted(content)
    values = [content[key] for key in keys]
    data = encode_block(keys, values, TOMBSTONES | REFERENCES)
    block = decode_block(before + data, len(before))
    assert (block.keys, block.values) == (keys, values)
    assert list(map(type, block.values)) == list(map(type, values))
    assert bool(block.kinds & TOMBSTONES) == (None in values)
    assert bool(block.kinds & REFERENCES) == any(type(value) is Reference for value in values)


def test_a_reference_says_where_a_value_stands() -> None:
    reference = Reference.pack(1, 2, 3, 4)
    assert reference == bytes([1, *[0] * 7, 2, *[0] * 7, 3, 0, 0, 0, 4, 0, 0, 0])
    assert reference.unpack() == (1, 2, 3, 4)


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


def test_what_is_no_block_is_refused() -> None:
    keys = [b"a%03d" % number for number in range(40)]
    values = [None, Reference.pack(1, 2, 3, 4), *[b"v"] * 38]
    whole = encode_block(keys, values, TOMBSTONES | REFERENCES)
    for size in range(len(whole)):
        with pytest.raises(Malformed):
            decode_block(whole[:size])
    with pytest.raises(Malformed):
        decode_block(whole + b"v")
    rng = Random(1)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(rng.choice([4, 15, 100, len(data)]))] = rng.choice([0, 1, 2, 4, 255])
        try:
            block = decode_block(bytes(data))
        except Malformed:
            continue
        assert len(block.keys) == len(block.values)


@pytest.mark.parametrize("codec", [NO_CODEC, LZ4, ZSTD])
@pytest.mark.parametrize("size", [0, 1, 15, 1000, 5000, 1 << 20])
def test_unwrap_undoes_wrap(codec: int, size: int) -> None:
    for data in (bytes(size), b"again" * (size // 5), Random(size).randbytes(size)):
        stored = wrap(data, codec, 3)
        raw, at = unwrap(stored)
        assert raw[at:] == data
        assert len(stored) <= len(data) + 1
        if stored[0] == codec != NO_CODEC:
            assert len(stored) - 1 <= len(data) * 7 // 8


def test_a_block_is_compressed_if_it_shrinks_by_an_eighth() -> None:
    for extra in range(200):
        data = Random(1).randbytes(1000) + bytes(extra)
        packed = len(compress(LZ4, 0, data))
        assert wrap(data, LZ4)[0] == (LZ4 if 8 * (4 + packed) <= 7 * len(data) else NO_CODEC)


def test_what_shrinks_too_well_to_be_believed_is_stored_as_it_is() -> None:
    assert wrap(bytes(10 << 20), ZSTD, 3)[0] == NO_CODEC
    assert wrap(bytes(64 << 10), ZSTD, 3)[0] == ZSTD


def test_a_stored_block_cannot_ask_for_more_memory_than_it_may() -> None:
    packed = wrap(bytes(60_000), LZ4)
    assert packed[:5] == bytes([1]) + (60_000).to_bytes(4, "little")
    for length in (0, 59_999, 60_001, 100_000, 1 << 30, (1 << 32) - 1):
        with pytest.raises(Malformed):
            unwrap(packed[:1] + length.to_bytes(4, "little") + packed[5:])
    for codec in (3, 77, 255):
        with pytest.raises(Malformed, match=f"codec {codec}"):
            unwrap(bytes([codec]) + packed[1:])
    for size in range(5):
        with pytest.raises(Malformed):
            unwrap(packed[:size])
