from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import ProtocolViolation
from murmur.sync import messages as m
from murmur.sync.wire import pack

replicas = st.binary(min_size=8, max_size=8)
seqs = st.integers(1, m.MAX_SEQ)
vectors = st.dictionaries(replicas, seqs, max_size=5)
tags = st.binary(min_size=32, max_size=32)
counts = st.integers(0, m.MAX_SEQ)
limits = st.integers(1 << 12, m.MAX_SEQ)
hellos = st.builds(
    m.Hello,
    versions=st.tuples(st.integers(0, 9), st.integers(9, 20)),
    features=st.integers(0, (1 << 64) - 1),
    max_payload=limits,
    max_record=limits,
    window=limits,
    replica=replicas,
    incarnation=replicas,
    clock_ms=counts,
    vector=vectors,
    tips=st.dictionaries(
        replicas, st.tuples(seqs, st.binary(min_size=16, max_size=16)), max_size=5
    ),
    addresses=st.lists(st.text(max_size=40), max_size=5).map(tuple),
)
anything = st.one_of(
    st.builds(m.Challenge, tags),
    st.builds(m.Proof, tags, tags, st.binary(min_size=64, max_size=64), st.none() | tags),
    st.builds(m.Welcome, tags),
    hellos,
    st.builds(m.Records, st.lists(st.binary(min_size=33, max_size=90), min_size=1, max_size=9)),
    st.builds(m.Piece, st.integers(33, 1 << 31), st.binary(min_size=1, max_size=90)),
    st.builds(m.Ack, counts, vectors, vectors),
    st.builds(m.Links, st.frozensets(replicas, max_size=9)),
    st.builds(m.Ping, counts),
    st.builds(m.Pong, counts),
    st.builds(m.Resend, vectors),
    st.builds(m.Bye, st.integers(0, 99), st.text(max_size=120)),
)


@given(anything)
def test_a_message_survives_the_wire(message: m.Message) -> None:
    assert m.parse(message.TYPE, message.payload()) == message


@given(anything, st.data())
def test_a_damaged_message_is_read_or_refused(message: m.Message, data: st.DataObject) -> None:
    payload = bytearray(message.payload())
    position = data.draw(st.integers(0, len(payload) - 1))
    payload[position] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(payload), bytes(payload[:position])):
        try:
            m.parse(message.TYPE, damaged)
        except ProtocolViolation:
            continue


def test_a_later_version_may_append_fields() -> None:
    payload = pack([7, "something new", {b"k": 1}])
    assert m.parse(m.PING, payload) == m.Ping(7)


def test_an_unknown_type_is_skipped_only_if_it_may_be() -> None:
    assert m.parse(99, b"whatever", ignorable=True) is None
    with pytest.raises(ProtocolViolation, match="unknown message type 99"):
        m.parse(99, b"whatever")


def a_hello(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "versions": [1, 1],
        "features": 0,
        "limits": [1 << 20, 1 << 26, 1 << 22],
        "replica": b"r" * 8,
        "incarnation": b"i" * 8,
        "clock_ms": 0,
        "vector": {},
        "tips": {},
        "addresses": [],
    }
    return pack(list((fields | changes).values()))


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (m.CHALLENGE, pack([]), "CHALLENGE: not 1 fields"),
        (m.CHALLENGE, pack([b"short"]), "CHALLENGE nonce: not 32 bytes"),
        (m.CHALLENGE, pack(["x" * 32]), "CHALLENGE nonce"),
        (m.PROOF, pack([bytes(32), bytes(32), bytes(63), None]), "PROOF signature: not 64 bytes"),
        (m.PROOF, pack([bytes(32), bytes(32), bytes(64), b""]), "PROOF invite"),
        (m.WELCOME, b"\x01", "WELCOME: not 1 fields"),
        (m.HELLO, a_hello(versions=[2, 1]), "versions 2 to 1 are no range"),
        (m.HELLO, a_hello(versions=[1]), "HELLO versions: not a list of 2"),
        (m.HELLO, a_hello(versions=[True, 1]), "HELLO version: not an integer"),
        (m.HELLO, a_hello(limits=[1 << 20, 1 << 26, 10]), "HELLO window"),
        (m.HELLO, a_hello(replica=b"short"), "HELLO replica"),
        (m.HELLO, a_hello(clock_ms=-1), "HELLO clock"),
        (m.HELLO, a_hello(vector={b"short": 1}), "HELLO vector: not 8 bytes"),
        (m.HELLO, a_hello(vector={b"r" * 8: 0}), "HELLO vector: not an integer from 1"),
        (m.HELLO, a_hello(vector={b"r" * 8: 1.5}), "HELLO vector"),
        (m.HELLO, a_hello(vector=[]), "HELLO vector: not a map"),
        (m.HELLO, a_hello(tips={b"r" * 8: [1, b"short"]}), "HELLO tip: not 16 bytes"),
        (m.HELLO, a_hello(tips={b"r" * 8: 1}), "HELLO tip: not a list of 2"),
        (m.HELLO, a_hello(addresses=["x"] * 17), "HELLO addresses: more than 16"),
        (m.HELLO, a_hello(addresses=["x" * 513]), "HELLO address: not text"),
        (m.RECORDS, b"", "RECORDS: no count"),
        (m.RECORDS, struct.pack(">I", 0), "0 records do not fit"),
        (m.RECORDS, struct.pack(">I", 0xFFFFFFFF), "do not fit 4 bytes"),
        (m.RECORDS, struct.pack(">II", 1, 40) + bytes(39), "do not add up"),
        (m.RECORDS, struct.pack(">II", 1, 40) + bytes(41), "do not add up"),
        (m.RECORDS, struct.pack(">II", 1, 32) + bytes(32), "a record of 32 bytes"),
        (m.RECORDS, struct.pack(">III", 2, 0xFFFFFFF0, 99) + bytes(99), "do not add up"),
        (m.PIECE, b"\0\0\1\0", "PIECE: empty"),
        (m.PIECE, b"\0\0\0\1x", "PIECE: of a record of 1 bytes"),
        (m.ACK, pack([-1, {}, {}]), "ACK bytes"),
        (m.ACK, pack([1, {}]), "ACK: not 3 fields"),
        (m.LINKS, pack([[b"x"]]), "LINKS replica"),
        (m.LINKS, pack([{}]), "LINKS: not a list"),
        (m.PING, pack([1 << 63]), "PING token"),
        (m.BYE, pack([0, b"bytes"]), "BYE reason"),
        (m.BYE, pack([0, "x" * 513]), "BYE reason"),
    ],
)
def test_malformed_messages_are_refused(kind: int, payload: bytes, reason: str) -> None:
    with pytest.raises(ProtocolViolation, match=reason):
        m.parse(kind, payload)
