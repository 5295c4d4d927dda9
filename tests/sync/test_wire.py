from __future__ import annotations

import struct
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import ProtocolViolation
from murmur.sync.wire import (
    HEADER,
    IGNORABLE,
    MAX_DEPTH,
    MAX_PAYLOAD,
    MAX_PAYLOAD_BEFORE_HELLO,
    FrameReader,
    frame,
    pack,
    unpack,
)

atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
documents = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=8), inner),
    max_leaves=20,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def test_the_example_in_the_docstring() -> None:
    assert frame(9, b"\x91\x07", 2).hex() == "00000002010900000000000000000002" + "9107"


@given(st.lists(st.tuples(st.integers(1, 12), st.binary(max_size=300)), max_size=8), st.data())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(frame(kind, payload, i) for i, (kind, payload) in enumerate(frames))
    reader, out = FrameReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[:size])
        stream = stream[size:]
        while (found := reader.next()) is not None:
            out.append((found[0], found[2]))
    assert out == frames
    assert len(reader) == 0


def read_all(reader: FrameReader) -> None:
    while reader.next() is not None:
        pass


def header(
    length: int = 0, version: int = 1, kind: int = 9, flags: int = 0, sequence: int = 0
) -> bytes:
    return HEADER.pack(length, version, kind, flags, sequence)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header(version=2), "frame 0: its version is 2"),
        (header(version=0), "frame 0: its version is 0"),
        (header(flags=2), "unknown flags 0x0002"),
        (header(flags=IGNORABLE | 0x8000), "unknown flags"),
        (header(sequence=1), "out of sequence: it says 1"),
        (header(length=MAX_PAYLOAD_BEFORE_HELLO + 1), "1025 bytes exceed the limit of 1024"),
        (header(length=0xFFFFFFFF), "exceed the limit"),
        (frame(9, b"", 0) + header(sequence=0), "frame 1: out of sequence"),
    ],
)
def test_a_bad_header_is_refused_before_its_payload_arrives(data: bytes, reason: str) -> None:
    reader = FrameReader()
    reader.feed(data)
    with pytest.raises(ProtocolViolation, match=reason):
        read_all(reader)


def test_the_limit_can_be_raised() -> None:
    reader = FrameReader()
    reader.limit = MAX_PAYLOAD
    reader.feed(frame(5, bytes(MAX_PAYLOAD), 0))
    found = reader.next()
    assert found is not None
    assert len(found[2]) == MAX_PAYLOAD


def test_a_cut_frame_waits_for_its_rest() -> None:
    whole = frame(9, b"payload", 0)
    for size in range(len(whole)):
        reader = FrameReader()
        reader.feed(whole[:size])
        assert reader.next() is None


@given(documents)
def test_bounded_msgpack_reads_what_msgpack_wrote(document: object) -> None:
    data = msgpack.packb(document)
    if depth(document) > MAX_DEPTH:
        with pytest.raises(ProtocolViolation, match="nested"):
            unpack(data)
    else:
        assert unpack(data) == document


def test_pack_is_msgpack() -> None:
    assert unpack(pack([1, b"x", "y", {b"k": 2}, None])) == [1, b"x", "y", {b"k": 2}, None]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut short"),
        (b"\x92\x01", "cut short"),
        (b"\x01\x02", "1 bytes too many"),
        (b"\xc1", "type 0xc1"),
        (b"\xc7\x01\x05x", "type 0xc7"),  # extension types
        (b"\xd4\x05x", "type 0xd4"),
        (b"\xdd\xff\xff\xff\xff", "cut short"),  # 4 billion elements
        (b"\xdf\x7f\xff\xff\xff", "cut short"),
        (b"\xc6\xff\xff\xff\xff", "cut short"),
        (b"\xdb\x00\x00\x00\x05abcd", "cut short"),
        (b"\xcf\x00", "cut short"),
        (b"\xdc\x00", "cut short"),
        (b"\xa2\xff\xff", "utf-8"),
        (b"\x81\x90\x01", "unhashable"),
        (b"\x91" * (MAX_DEPTH + 1) + b"\x01", "nested deeper"),
        (b"\x91" * 100_000, "nested deeper"),
        (b"\xdd\x00\x0f\xff\xff" * 20, "cut short"),
    ],
)
def test_msgpack_that_lies_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolViolation, match=reason):
        unpack(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        unpack(data)
    except ProtocolViolation:
        return
    assert msgpack.unpackb(data, strict_map_key=False) is not NotImplemented


@given(st.binary(max_size=200))
def test_any_stream_is_read_or_refused(data: bytes) -> None:
    reader = FrameReader()
    reader.feed(data)
    with suppress(ProtocolViolation):
        read_all(reader)


def test_a_small_lie_makes_no_large_allocation() -> None:
    # Five nested headers that each claim as many elements as 16 bits hold, in 64 KiB of bytes.
    lie = b"".join(struct.pack(">BH", 0xDC, 0xFFFF) for _ in range(MAX_DEPTH)) + bytes(65_000)
    with pytest.raises(ProtocolViolation):
        unpack(lie)
