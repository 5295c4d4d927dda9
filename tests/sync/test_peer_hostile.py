"""What a hostile or broken peer can send: the conversation ends with a reason."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

import pytest

from murmur.sync import flow, wire
from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync.identity import Identity, group_tag, invite_proof, transcript
from murmur.sync.peer import PeerSession, Role, State
from tests.sync.fakes import GROUP, INVITE, Pair, record, replica_id

ALICE = replica_id("alice")
MALLORY = Identity(b"m" * 32)
ACCEPTOR = Identity(b"a" * 32)


def acceptor(nonce: bytes = b"n" * 32) -> PeerSession:
    return PeerSession(Role.ACCEPTOR, ACCEPTOR, GROUP, now_ms=0, nonce=nonce, invites=(INVITE,))


def proof(
    *,
    signer: Identity = MALLORY,
    claims: bytes = MALLORY.node_id,
    group: str = GROUP,
    nonce: bytes = b"n" * 32,
    towards: bytes = ACCEPTOR.node_id,
    invite: bytes = INVITE,
) -> m.Proof:
    said = transcript(claims, towards, group, nonce)
    tag = group_tag(Role.DIALER.value, group, said)
    return m.Proof(claims, tag, signer.sign(said), invite_proof(invite, said))


def frame_of(message: m.Message, sequence: int = 0) -> bytes:
    return wire.frame(message.TYPE, message.payload(), sequence)


def test_the_honest_proof_is_introduced() -> None:
    events = acceptor().receive(frame_of(proof()), 0)
    assert events == [p.Introduced(MALLORY.node_id, invited=True)]


@pytest.mark.parametrize(
    ("forged", "code", "reason"),
    [
        (proof(signer=Identity(b"x" * 32)), p.VIOLATION, "not by the node id's key"),
        (proof(claims=Identity(b"v" * 32).node_id), p.VIOLATION, "not by the node id's key"),
        # Recorded in another conversation, or made for another acceptor.
        (proof(nonce=b"o" * 32), p.WRONG_GROUP, "another group"),
        (proof(towards=b"z" * 32), p.WRONG_GROUP, "another group"),
        (proof(group="other"), p.WRONG_GROUP, "another group"),
        (proof(signer=ACCEPTOR, claims=ACCEPTOR.node_id), p.NOT_ADMITTED, "the node itself"),
    ],
)
def test_a_forged_proof_is_refused(forged: m.Proof, code: int, reason: str) -> None:
    session = acceptor()
    (ended,) = session.receive(frame_of(forged), 0)
    assert isinstance(ended, p.Ended)
    assert ended.code == code
    assert reason in ended.reason
    assert session.state is State.CLOSED


def test_a_replayed_proof_does_not_fit_another_nonce() -> None:
    recorded = frame_of(proof())
    assert isinstance(acceptor().receive(recorded, 0)[0], p.Introduced)
    (again,) = acceptor(b"p" * 32).receive(recorded, 0)
    assert isinstance(again, p.Ended)


def test_a_replayed_signature_with_a_fresh_tag_is_refused() -> None:
    said = transcript(MALLORY.node_id, ACCEPTOR.node_id, GROUP, b"p" * 32)
    tag = group_tag(Role.DIALER.value, GROUP, said)
    forged = m.Proof(MALLORY.node_id, tag, proof().signature, None)
    (ended,) = acceptor(b"p" * 32).receive(frame_of(forged), 0)
    assert isinstance(ended, p.Ended)
    assert ended.code == p.VIOLATION


def test_an_invite_of_somebody_else_is_none() -> None:
    events = acceptor().receive(frame_of(proof(invite=b"x" * 16)), 0)
    assert events == [p.Introduced(MALLORY.node_id, invited=False)]


HELLO = m.Hello((1, 1), 0, 1 << 20, 1 << 26, 1 << 22, ALICE, bytes(8), 0, {}, {}, ())


@pytest.mark.parametrize(
    "message",
    [
        m.Challenge(bytes(32)),
        m.Welcome(bytes(32)),
        HELLO,
        m.Records([record(ALICE, 1)]),
        m.Piece(100, b"x"),
        m.Ack(0, {}, {}),
        m.Links(frozenset()),
        m.Ping(1),
        m.Pong(1),
        m.Resend({}),
    ],
    ids=lambda message: type(message).__name__,
)
def test_nothing_but_a_proof_opens_a_conversation(message: m.Message) -> None:
    session = acceptor()
    (ended,) = session.receive(frame_of(message), 0)
    assert isinstance(ended, p.Ended)
    assert ended.code == p.VIOLATION
    assert "while proving" in ended.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "its version is"),
        (bytes(16), "its version is 0"),
        (wire.HEADER.pack(2000, 1, m.PROOF, 0, 0), "2000 bytes exceed the limit of 1024"),
        (wire.frame(m.PROOF, b"\xdd\xff\xff\xff\xff", 0), "cut short"),
        (wire.frame(m.PROOF, b"\x91" * 900, 0), "nested deeper"),
        (wire.frame(77, b"", 0), "unknown message type 77"),
    ],
)
def test_bytes_that_are_no_proof(data: bytes, reason: str) -> None:
    (ended,) = acceptor().receive(data, 0)
    assert isinstance(ended, p.Ended)
    assert reason in ended.reason


def test_an_unauthenticated_flood_is_cut_off() -> None:
    session = acceptor()
    assert isinstance(session.receive(frame_of(proof()), 0)[0], p.Introduced)
    # Admission is being decided: what is sent meanwhile is held only within narrow bounds.
    assert session.receive(bytes(p.PENDING_BYTES_BEFORE_WELCOME), 0) == []
    (ended,) = session.receive(b"x", 0)
    assert isinstance(ended, p.Ended)
    assert "before they are allowed" in ended.reason


def test_an_unknown_message_that_may_be_skipped_is() -> None:
    pair = Pair().open()
    sequence = pair.dialer.session._output.sequence
    skipped = wire.frame(200, b"news", sequence, flags=wire.IGNORABLE)
    assert pair.acceptor.session.receive(skipped, 0) == []
    assert pair.acceptor.session.state is State.OPEN


def open_pair() -> tuple[Pair, int]:
    pair = Pair().open()
    return pair, pair.dialer.session._output.sequence


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (HELLO, "Hello while open"),
        (m.Challenge(bytes(32)), "Challenge while open"),
        (m.Proof(bytes(32), bytes(32), bytes(64), None), "Proof while open"),
        (m.Welcome(bytes(32)), "Welcome while open"),
        (m.Ack(1, {}, {}), "ACK of 1 bytes, sent 0"),
        (
            m.Ack(0, {}, {i.to_bytes(8): 1 for i in range(p.MAX_REPLICAS + 1)}),
            "more than 65536 replicas",
        ),
        (m.Piece(flow.MAX_RECORD_BYTES + 1, b"x"), "of a record of 67108865 bytes"),
        (m.Piece(40, b"x" * 41), "does not fit"),
    ],
    ids=["hello", "challenge", "proof", "welcome", "ack", "replicas", "huge", "long"],
)
def test_an_open_conversation_is_no_safer(message: m.Message, reason: str) -> None:
    pair, sequence = open_pair()
    (ended,) = pair.acceptor.session.receive(frame_of(message, sequence), 0)
    assert isinstance(ended, p.Ended)
    assert reason in ended.reason


def test_replicas_without_end_are_refused() -> None:
    pair, sequence = open_pair()
    ended = None
    for start in range(0, p.MAX_REPLICAS + 20_000, 20_000):
        names = {i.to_bytes(8): 1 for i in range(start, start + 20_000)}
        events = pair.acceptor.session.receive(frame_of(m.Ack(0, {}, names), sequence), 0)
        sequence += 1
        ended = next((event for event in events if isinstance(event, p.Ended)), None)
        if ended:
            break
    assert ended is not None
    assert "more than 65536 replicas" in ended.reason


def test_pieces_must_fit_together() -> None:
    for second in (m.Piece(101, b"x"), m.Piece(100, b"x" * 99)):
        pair, sequence = open_pair()
        assert pair.acceptor.session.receive(frame_of(m.Piece(100, b"x" * 2), sequence), 0) == []
        (ended,) = pair.acceptor.session.receive(frame_of(second, sequence + 1), 0)
        assert isinstance(ended, p.Ended)
        assert "does not fit" in ended.reason


def test_whole_records_may_come_between_pieces_but_no_other_pieces() -> None:
    pair, sequence = open_pair()
    receive = pair.acceptor.session.receive
    large = record(ALICE, 2, 100)
    assert receive(frame_of(m.Piece(100, large[:40]), sequence), 0) == []
    (between,) = receive(frame_of(m.Records([record(ALICE, 1)]), sequence + 1), 0)
    assert between == p.Received([record(ALICE, 1)], 68)
    (whole,) = receive(frame_of(m.Piece(100, large[40:]), sequence + 2), 0)
    assert whole == p.Received((large,), 64)
    receive(frame_of(m.Piece(100, large[:40]), sequence + 3), 0)
    (ended,) = receive(frame_of(m.Piece(99, large[40:]), sequence + 4), 0)
    assert isinstance(ended, p.Ended)


def test_more_than_the_window_is_refused() -> None:
    pair, sequence = open_pair()
    batch = frame_of(m.Records([record(ALICE, seq, 50_000) for seq in range(1, 20)]), 0)
    for count in range(6):
        data = wire.HEADER.pack(len(batch) - 16, 1, m.RECORDS, 0, sequence + count) + batch[16:]
        events = pair.acceptor.session.receive(data, 0)
        if isinstance(events[-1], p.Ended):
            break
    assert isinstance(events[-1], p.Ended)
    assert events[-1].reason == "records beyond the window"
    assert count == 4


def test_a_flood_of_pings_gets_one_answer() -> None:
    pair, sequence = open_pair()
    pair.acceptor.session.take_output()
    flood = b"".join(frame_of(m.Ping(i), sequence + i) for i in range(10_000))
    assert pair.acceptor.session.receive(flood, 0) == []
    assert len(pair.acceptor.session.take_output()) < 50


def test_what_came_before_the_violation_in_one_packet_counts() -> None:
    pair, sequence = open_pair()
    data = frame_of(m.Records([record(ALICE, 1)]), sequence) + bytes(16)
    good, bad = pair.acceptor.session.receive(data, 0)
    assert isinstance(good, p.Received)
    assert isinstance(bad, p.Ended)
    assert pair.acceptor.session.receive(frame_of(m.Ping(1), sequence + 1), 0) == []


def damage(data: bytes, random: Random) -> bytes:
    changes: list[Callable[[bytes, int], bytes]] = [
        lambda d, i: d[:i] + bytes([d[i] ^ random.randint(1, 255)]) + d[i + 1 :],
        lambda d, i: d[:i],
        lambda d, i: d[:i] + random.randbytes(random.randint(1, 40)) + d[i:],
        lambda d, i: d[:i] + d[i + random.randint(1, 20) :],
        lambda d, i: d[:i] + struct.pack(">I", 0xFFFFFFFF) + d[i + 4 :],
        lambda d, i: d[:i] + d[: random.randint(1, len(d))] + d[i:],
    ]
    for _ in range(random.randint(1, 3)):
        if data:
            data = random.choice(changes)(data, random.randrange(len(data)))
    return data


@pytest.mark.parametrize("seed", range(300))
def test_a_damaged_stream_ends_or_waits_and_raises_nothing(seed: int) -> None:
    random = Random(seed)
    pair = Pair().settle()
    pair.dialer.session.send([record(ALICE, seq) for seq in range(1, 9)], {ALICE: 8})
    pair.dialer.session.tell_links(frozenset({ALICE}))
    pair.dialer.session.report({ALICE: 8}, {ALICE: 8}, 1000)
    pair.pass_time(30).settle()
    stream = damage(bytes(pair.dialer.wire), random)

    fresh = Pair()
    side = fresh.acceptor
    while stream:
        size = random.randint(1, len(stream))
        side.handle(side.session.receive(stream[:size], 1000), 1000)
        stream = stream[size:]
        side.session.take_output()
    for event in side.of(p.Received):
        # Damage inside a record is for the replica to find; here lengths and types are held.
        assert all(len(data) >= m.MIN_RECORD_BYTES for data in event.records)
    if side.ended is None:
        assert side.session.state is not State.CLOSED
