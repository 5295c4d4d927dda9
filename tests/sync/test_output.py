"""Classes of messages: what is urgent passes what is large, and nothing waits for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import ProtocolViolation
from murmur.sync import batches, compression, flow, wire
from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync.batches import Batches
from murmur.sync.flow import Outflow
from murmur.sync.identity import Identity
from murmur.sync.output import PART_BYTES, Output
from murmur.sync.peer import PeerSession, Role
from murmur.sync.service import Urgency
from tests.sync.fakes import Pair, record, replica_id
from tests.sync.test_peer_hostile import HELLO

ALICE = replica_id("alice")
SNAPSHOT, DIGEST, VOTE = 120, 121, 122
STEP = 64 << 10  # what the slow link carries in one step


def new_output() -> tuple[Outflow, Output]:
    outflow = Outflow()
    outflow.open(replace(HELLO, window=flow.WINDOW_BYTES))
    output = Output(outflow)
    output.parts = True
    return outflow, output


def read(reader: wire.FrameReader, frames: list[bytes]) -> list[tuple[int, bytes]]:
    reader.feed(b"".join(frames))
    found = []
    while (message := reader.next()) is not None:
        found.append((message[0], message[2]))
    return found


def new_reader() -> wire.FrameReader:
    reader = wire.FrameReader()
    reader.limit = wire.MAX_PAYLOAD
    reader.accepts |= wire.COMPRESSED | wire.MORE | wire.CLASS_BITS
    return reader


def test_a_live_record_passes_a_snapshot_in_flight() -> None:
    outflow, output = new_output()
    for number in range(64):
        output.put(SNAPSHOT, bytes([number]) * (1 << 20), Urgency.BULK)
    reader = new_reader()
    for step in range(100):
        outflow.put([record(ALICE, step + 1)], Urgency.LIVE)
        output.put(m.PING, b"", Urgency.CONTROL)
        frames = output.take(STEP)
        assert sum(map(len, frames)) <= STEP + PART_BYTES + 200
        kinds = [kind for kind, _ in read(reader, frames)]
        assert kinds[:2] == [m.PING, m.RECORDS], "at once, though 64 MB wait"
    assert output.waits()


def test_a_snapshot_makes_progress_under_a_flood_of_live_records() -> None:
    outflow, output = new_output()
    snapshot = Random(1).randbytes(1 << 20)
    output.put(SNAPSHOT, snapshot, Urgency.BULK)
    output.put(DIGEST, b"digest", Urgency.SYNC)
    reader, seq, sent = new_reader(), 0, {SNAPSHOT: 0, DIGEST: 0}
    steps = 0
    while not sent[SNAPSHOT]:
        steps += 1
        while outflow.queued_bytes < 4 * STEP:  # more than the link carries
            seq += 1
            outflow.put([record(ALICE, seq, 50_000)], Urgency.LIVE)
        frames = output.take(STEP)
        outflow.acknowledge(outflow._sent_bytes)
        for kind, payload in read(reader, frames):
            if kind in sent:
                sent[kind] += len(payload)
                assert kind != SNAPSHOT or payload == snapshot
    assert sent[DIGEST] == 6
    # A fifth of the link is its share: 2 of 8 + 2.
    assert steps < 6 * len(snapshot) / STEP


def test_what_a_peer_lacks_leaves_room_for_what_is_new() -> None:
    outflow, output = new_output()
    outflow.put([record(ALICE, seq, 60_000) for seq in range(1, 101)], Urgency.SYNC)
    output.take()
    assert outflow.room() >= flow.WINDOW_BYTES // flow.LIVE_SHARE
    assert not output.waits()
    outflow.put([record(ALICE, 1000)], Urgency.LIVE)
    assert [kind for kind, _ in read(new_reader_at(output), output.take())] == [m.RECORDS]


def new_reader_at(output: Output) -> wire.FrameReader:
    reader = new_reader()
    reader._sequence = output.sequence
    return reader


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Urgency.LIVE, Urgency.SYNC, Urgency.BULK]),
            st.integers(0, 3 * PART_BYTES),
        ),
        max_size=12,
    ),
    st.integers(1, 200_000),
)
def test_messages_arrive_whole_and_in_the_order_of_their_class(
    messages: list[tuple[Urgency, int]], room: int
) -> None:
    _, output = new_output()
    sent: dict[int, list[bytes]] = {}
    for number, (urgency, size) in enumerate(messages):
        payload = number.to_bytes(4) + bytes(size)
        output.put(100 + urgency, payload, urgency)
        sent.setdefault(100 + urgency, []).append(payload)
    reader = new_reader()
    received: dict[int, list[bytes]] = {}
    while output.waits():
        for kind, payload in read(reader, output.take(room)):
            received.setdefault(kind, []).append(payload)
    assert received == sent


def test_a_peer_that_knows_no_parts_gets_none() -> None:
    _, output = new_output()
    output.parts = False
    output.put(SNAPSHOT, bytes(200_000), Urgency.BULK)
    reader = wire.FrameReader()
    reader.limit = wire.MAX_PAYLOAD
    assert read(reader, output.take()) == [(SNAPSHOT, bytes(200_000))]


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([(SNAPSHOT, wire.MORE, bytes(1 << 20)), (SNAPSHOT, 0, b"x")], "exceed the limit"),
        ([(SNAPSHOT, wire.MORE, b"x"), (DIGEST, wire.MORE, b"x")], "between parts of type 120"),
        ([(SNAPSHOT, 1 << 5, b"x")], "unknown flags"),
        ([(SNAPSHOT, wire.COMPRESSED, b"junk")], "zstd"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    frames: list[tuple[int, int, bytes]], reason: str
) -> None:
    reader = new_reader()
    for sequence, (kind, flags, payload) in enumerate(frames):
        reader.feed(wire.frame(kind, payload, sequence, flags))
    with pytest.raises(ProtocolViolation, match=reason):
        read(reader, [])


def test_parts_need_an_agreement() -> None:
    reader = wire.FrameReader()
    reader.feed(wire.frame(SNAPSHOT, b"x", 0, wire.MORE))
    with pytest.raises(ProtocolViolation, match="unknown flags"):
        reader.next()


# -- conversations


def slow(pair: Pair, steps: int) -> int:
    """Carry STEP bytes a turn from the dialer; how many turns until the acceptor has records."""
    for turn in range(steps):
        data = pair.dialer.session.take_output(STEP)
        pair.acceptor.handle(pair.acceptor.session.receive(data, pair.now_ms), pair.now_ms)
        if pair.acceptor.of(p.Received):
            return turn
        assert len(data) >= STEP // 2
    raise AssertionError("it did not arrive")


def test_a_conversation_is_live_while_a_snapshot_fills_its_link() -> None:
    pair = Pair()
    pair.acceptor.session._services = frozenset({SNAPSHOT})
    pair.open()
    session = pair.dialer.session
    noise = Random(1).randbytes(1 << 20)
    for _ in range(32):
        session.say(SNAPSHOT, noise, Urgency.BULK)
    session.take_output(STEP * 3)  # on its way, and lost for this test
    pair.acceptor.session._reader._sequence = session._output.sequence
    session.send([record(ALICE, 1)], {ALICE: 1})
    assert slow(pair, 3) <= 1
    # Keep-alives are answered, though a hundred steps of the link are queued.
    pair.pass_time(0)
    pong = m.Pong.TYPE
    ping = pair.acceptor.session.take_output()
    session.receive(ping, pair.now_ms)
    kinds = []
    data = session.take_output(STEP)
    while data:
        length, _, kind, _, _ = wire.HEADER.unpack_from(data)
        kinds.append(kind)
        data = data[wire.HEADER.size + length :]
    assert pong in kinds[:3]
    assert session.waits


def test_who_leaves_in_order_says_first_what_it_had_to_say() -> None:
    for code, arrives in ((p.CLOSING, True), (p.VIOLATION, False)):
        pair = Pair().open()
        pair.dialer.session.send([record(ALICE, 1)], {ALICE: 1})
        pair.dialer.session.refuse(code, "enough")
        pair.settle()
        assert bool(pair.acceptor.of(p.Received)) is arrives
        assert pair.acceptor.ended == p.Ended(code, "enough", by_peer=True)


# -- compression


def rows(count: int) -> list[bytes]:
    return [record(ALICE, seq, 120) for seq in range(1, count + 1)]


def carried(**options: object) -> tuple[Pair, int]:
    """A conversation that carried records, and how many bytes that took."""
    pair = Pair()
    for side, role in ((pair.dialer, Role.DIALER), (pair.acceptor, Role.ACCEPTOR)):
        assert side.session.role is role
        for name, value in options.items():
            setattr(side.session, name, value)
    pair.open()
    before = len(pair.dialer.wire)
    pair.dialer.session.send(rows(500), {ALICE: 500})
    pair.settle()
    (received,) = pair.acceptor.of(p.Received)
    assert received.records == rows(500)
    assert received.size == 4 + 500 * 124, "credit counts what is applied, not what is carried"
    return pair, len(pair.dialer.wire) - before


def test_batches_that_leave_the_host_are_compressed_and_local_ones_are_not() -> None:
    _, far = carried()
    _, near = carried(_local=True)
    assert near > 62_000
    assert far < near / 4


def test_without_the_package_it_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "available", lambda: False)
    pair, size = carried()
    assert size > 62_000
    assert pair.acceptor.session.hello is not None
    assert not pair.acceptor.session.hello.features & m.ZSTD


def test_one_side_that_cannot_is_sent_none(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, True])
    monkeypatch.setattr(compression, "available", lambda: next(answers))
    _, size = carried()
    assert size > 62_000


def test_small_and_dense_payloads_are_left_alone() -> None:
    assert compression.compress(b"x" * compression.LEAST_BYTES) is None
    assert compression.compress(Random(1).randbytes(4000)) is None
    packed = compression.compress(b"x" * 4000)
    assert packed is not None
    assert compression.decompress(packed, 4000) == b"x" * 4000


def test_the_nodes_of_a_process_compress_at_once() -> None:
    payloads = [bytes([node]) * (64 << 10) * (node + 1) for node in range(4)]

    def there_and_back(payload: bytes) -> None:
        for _ in range(200):
            packed = compression.compress(payload)
            assert packed is not None
            assert compression.decompress(packed, len(payload)) == payload

    with ThreadPoolExecutor(len(payloads)) as nodes:
        list(nodes.map(there_and_back, payloads))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(64 << 20))
    assert len(bomb) < 1 << 13
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(5000))
    lies = bytearray(zstandard.ZstdCompressor(level=1).compress(bytes(5000)))
    lies[5:7] = (300).to_bytes(2, "little")
    for packed in (bomb, unsized, bytes(lies), bomb[:-2], packed_twice()):
        pair = Pair().open()
        sequence = pair.dialer.session._output.sequence
        data = wire.frame(m.RECORDS, packed, sequence, wire.COMPRESSED)
        (ended,) = pair.acceptor.session.receive(data, 0)
        assert isinstance(ended, p.Ended)
        assert ended.code == p.VIOLATION
        assert "zstd" in ended.reason


def packed_twice() -> bytes:
    packed = compression.compress(bytes(5000))
    assert packed is not None
    return packed + packed


@given(st.binary(max_size=100))
def test_any_bytes_are_unpacked_or_refused(data: bytes) -> None:
    try:
        assert len(compression.decompress(data, 1000)) <= 1000
    except ProtocolViolation:
        return


def test_a_batch_is_made_once_for_all_peers() -> None:
    shared = Batches()
    identity = Identity(b"d" * 32)
    outputs = []
    for _ in range(3):
        session = PeerSession(
            Role.DIALER, identity, "g", now_ms=0, remote_id=b"r" * 32, batches=shared
        )
        session._outflow.open(HELLO)
        session._output.compresses = True
        session._outflow.put(rows(1500))
        outputs.append([bytes(part) for part in session._output.take()])
    assert outputs[0] == outputs[1] == outputs[2]
    assert shared.encoded == 3  # of 64 KiB each
    other = shared.batch(rows(1500)[:100])
    assert other is shared.batch(rows(100))
    assert other is not shared.batch(rows(101)[1:])


def test_few_batches_are_remembered() -> None:
    shared = Batches(capacity=10_000)
    first = shared.batch(rows(20))
    for seq in range(100):
        shared.batch([record(ALICE, seq + 1, 500)] * 2)
    assert shared._size <= 10_000
    assert sum(len(batch.payload) for batch in shared._known.values()) == shared._size
    assert shared.batch(rows(20)) is not first
    assert batches.CACHE_BYTES > 10_000
