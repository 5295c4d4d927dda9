"""Varints: what is written is read, and nothing longer than was agreed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.kvcore.varint import TooLong, read_varint, varint


@given(st.integers(0, (1 << 70) - 1), st.binary(max_size=3))
def test_what_is_written_is_read(value: int, more: bytes) -> None:
    data = varint(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert read_varint(b"x" + data + more, 1, 10) == (value, 1 + len(data))
    if len(data) > 1:
        with pytest.raises(TooLong):
            read_varint(data, 0, len(data) - 1)
        with pytest.raises(IndexError):
            read_varint(data[:-1], 0, 10)


def test_the_examples() -> None:
    assert (varint(1).hex(), varint(127).hex(), varint(300).hex()) == ("01", "7f", "ac02")
