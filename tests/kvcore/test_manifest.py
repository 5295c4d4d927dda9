"""The manifest: every bit of it counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import Corruption, UnknownFormat
from murmur.kvcore.kernel import TableInfo
from murmur.kvcore.manifest import EMPTY, Manifest, decode_manifest, encode_manifest

u64 = st.integers(0, 2**64 - 1)
tables = st.builds(
    TableInfo,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    st.integers(0, 2**32 - 1),
    st.binary(),
    st.binary(),
    st.lists(st.tuples(u64, u64), max_size=3).map(tuple),
)
manifests = st.builds(
    Manifest,
    u64,
    u64,
    st.binary(),
    st.lists(st.lists(tables, max_size=3), max_size=4).filter(
        lambda levels: not levels or levels[-1]
    ),
    st.lists(st.tuples(u64, u64), max_size=3).map(sorted),
)


@given(manifests)
def test_decode_undoes_encode(manifest: Manifest) -> None:
    decoded = decode_manifest("m", encode_manifest(manifest))
    assert list(decoded.levels) == list(manifest.levels)
    assert decoded[:3] == manifest[:3]
    assert list(decoded.value_files) == list(manifest.value_files)


SOME = encode_manifest(
    Manifest(
        9,
        8,
        b"mark",
        [
            [TableInfo(1, 2, 3, 4, 0, 5, 6, b"a", b"b", ((12, 40), (13, 50)))],
            [TableInfo(7, 6, 5, 4, 1, 3, 2, b"", b"")],
        ],
        [(12, 100), (13, 60)],
    )
)


def test_no_bit_can_flip() -> None:
    for position in range(len(SOME) * 8):
        data = bytearray(SOME)
        data[position // 8] ^= 1 << position % 8
        with pytest.raises(Corruption):
            decode_manifest("dir/MANIFEST", bytes(data))


def test_no_byte_can_be_missing_or_too_many() -> None:
    for size in range(len(SOME)):
        with pytest.raises(Corruption):
            decode_manifest("dir/MANIFEST", SOME[:size])
    with pytest.raises(Corruption):
        decode_manifest("dir/MANIFEST", SOME + b"\0")


def test_an_unknown_format_is_refused() -> None:
    data = bytearray(encode_manifest(EMPTY))
    for version in (1, 3):
        data[8] = version
        with pytest.raises(UnknownFormat, match=f"dir/MANIFEST.*manifest format {version}"):
            decode_manifest("dir/MANIFEST", bytes(data))
