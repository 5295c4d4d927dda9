from __future__ import annotations

from random import Random

import pytest

from murmur.sync import flow
from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync.greeting import hello_of
from murmur.sync.peer import State, Timing
from tests.sync.fakes import FakeOutbox, Pair, Side, dot, record, replica_id

ALICE, BOB = replica_id("alice"), replica_id("bob")


def received(side: Side) -> list[bytes]:
    return [data for event in side.of(p.Received) for data in event.records]


def test_a_conversation_opens() -> None:
    pair = Pair().open()
    assert pair.acceptor.session.remote_id == pair.dialer_identity.node_id
    assert pair.acceptor.session.hello is not None
    assert pair.acceptor.session.hello.replica == pair.dialer.outbox.id
    assert pair.acceptor.of(p.Introduced) == [
        p.Introduced(pair.dialer_identity.node_id, invited=True)
    ]


def test_however_the_stream_is_cut() -> None:
    for seed in range(20):
        pair = Pair()
        pair.settle(Random(seed))
        pair.dialer.session.send([record(ALICE, 1), record(ALICE, 2)], {ALICE: 2})
        pair.settle(Random(seed))
        assert received(pair.acceptor) == [record(ALICE, 1), record(ALICE, 2)]


def test_the_acceptor_sees_whether_the_invite_is_good() -> None:
    for invite in (None, b"x" * 16):
        pair = Pair(invite=invite, admits=False).settle()
        assert pair.acceptor.of(p.Introduced) == [
            p.Introduced(pair.dialer_identity.node_id, invited=False)
        ]
        assert pair.acceptor.session.state is State.DECIDING


def test_refusal_says_why() -> None:
    pair = Pair(admits=False).settle()
    pair.acceptor.handle(pair.acceptor.session.refuse(p.NOT_ADMITTED, "a stranger"), 0)
    pair.settle()
    assert pair.dialer.ended == p.Ended(p.NOT_ADMITTED, "a stranger", by_peer=True)
    assert pair.acceptor.ended == p.Ended(p.NOT_ADMITTED, "a stranger", by_peer=False)
    assert pair.dialer.session.state is State.CLOSED


def test_another_group_is_refused_before_anything_else() -> None:
    pair = Pair(groups=("theirs", "ours")).settle()
    assert pair.dialer.ended is not None
    assert pair.dialer.ended.code == p.WRONG_GROUP
    assert not pair.acceptor.of(p.Introduced)
    # What went over the wire names neither group.
    assert b"ours" not in pair.acceptor.wire
    assert b"theirs" not in pair.dialer.wire


def test_the_dialer_checks_the_group_too() -> None:
    pair = Pair(admits=False).settle()
    # An acceptor of another group that welcomes everybody.
    pair.acceptor.session._group = "other"
    pair.acceptor.admits = True
    pair.acceptor.handle([p.Introduced(pair.dialer_identity.node_id, invited=True)], pair.now_ms)
    pair.settle()
    assert pair.dialer.ended is not None
    assert pair.dialer.ended.code == p.WRONG_GROUP
    assert b"HELLO" not in pair.dialer.wire
    assert not pair.acceptor.of(p.Greeted)


def test_versions_are_negotiated(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(admits=False).settle()
    monkeypatch.setattr("murmur.sync.greeting.p.VERSIONS", (1, 3))
    pair.acceptor.handle([], 0)
    pair.acceptor.admits = True
    pair.acceptor.handle([p.Introduced(pair.dialer_identity.node_id, invited=True)], pair.now_ms)
    monkeypatch.undo()
    pair.open()


def test_versions_without_overlap_part() -> None:
    pair = Pair(admits=False).settle()
    hello = m.Hello(
        (7, 9), 0, 1 << 20, 1 << 26, 1 << 22, ALICE, bytes(8), 0, {}, {}, ()
    )  # fmt: skip
    pair.acceptor.handle(pair.acceptor.session.admit(hello, pair.now_ms), pair.now_ms)
    pair.settle()
    assert pair.dialer.ended == p.Ended(
        p.VERSION, "protocol versions 7-9 and 1-1 have none in common", by_peer=False
    )


def test_records_flow_and_are_acknowledged() -> None:
    pair = Pair().open()
    records = [record(ALICE, seq) for seq in range(1, 1001)]
    pair.dialer.session.send(records, {ALICE: 1000})
    pair.settle()
    assert received(pair.acceptor) == records
    for event in pair.acceptor.of(p.Received):
        pair.acceptor.session.applied(event.size, pair.now_ms)
    pair.acceptor.session.report({ALICE: 900}, {ALICE: 1000}, pair.now_ms)
    pair.pass_time(50).settle()
    assert pair.dialer.session.durable[ALICE] == 900
    assert pair.dialer.session.admitted[ALICE] == 1000
    assert pair.dialer.session.room() == flow.WINDOW_BYTES


def test_acknowledgements_are_gathered() -> None:
    pair = Pair().open().pass_time(1000).settle()
    before = len(pair.dialer.of(p.Acknowledged))
    for seq in range(1, 11):
        pair.acceptor.session.report({ALICE: seq}, {ALICE: seq}, pair.now_ms)
        pair.pass_time(1).settle()
    assert len(pair.dialer.of(p.Acknowledged)) == before + 1  # the first, at once
    pair.pass_time(20).settle()
    assert len(pair.dialer.of(p.Acknowledged)) == before + 2  # the rest, together
    assert pair.dialer.session.durable[ALICE] == 10


def test_nothing_is_sent_beyond_the_window() -> None:
    pair = Pair().open()
    big = [record(ALICE, seq, 60_000) for seq in range(1, 201)]  # 12 MB
    pair.dialer.session.send(big, {ALICE: 200})
    pair.settle()
    held = sum(event.size for event in pair.acceptor.of(p.Received))
    assert flow.WINDOW_BYTES - 70_000 < held <= flow.WINDOW_BYTES
    assert not pair.dialer.session.hungry
    done = 0
    while done < len(pair.acceptor.of(p.Received)):
        pair.acceptor.session.applied(pair.acceptor.of(p.Received)[done].size, pair.now_ms)
        done += 1
        pair.pass_time(1).settle()
    pair.pass_time(50).settle()
    assert received(pair.acceptor) == big
    assert pair.dialer.session.hungry


@pytest.mark.parametrize("size", [200_000, 300_000, 1 << 20, 20 << 20])
def test_a_record_of_any_size_goes_through(size: int) -> None:
    pair = Pair().open()
    records = [record(ALICE, 1), record(ALICE, 2, size), record(ALICE, 3)]
    pair.dialer.session.send(records, {ALICE: 3})
    applied = 0
    for _ in range(200):
        pair.settle()
        events = pair.acceptor.of(p.Received)
        for event in events[applied:]:
            pair.acceptor.session.applied(event.size, pair.now_ms)
        applied = len(events)
        pair.pass_time(30)
    assert received(pair.acceptor) == records
    assert pair.dialer.session.hungry


def test_a_record_beyond_the_peers_limit_is_not_sent() -> None:
    pair = Pair().open()
    events = pair.dialer.session.send([bytes(flow.MAX_RECORD_BYTES + 1)], {})
    assert events == [
        p.Ended(p.LIMIT, "a transaction has 67108865 bytes, the peer takes 67108864", by_peer=False)
    ]


def test_pings_measure_the_way_and_keep_it_open() -> None:
    pair = Pair().open()
    pair.pass_time(0)
    pings = [pair.dialer.session.take_output(), pair.acceptor.session.take_output()]
    pair.now_ms += 35
    pair.acceptor.handle(pair.acceptor.session.receive(pings[0], pair.now_ms), pair.now_ms)
    pair.dialer.handle(pair.dialer.session.receive(pings[1], pair.now_ms), pair.now_ms)
    pair.now_ms += 35
    pair.settle()
    assert pair.dialer.session.rtt_ms == pair.acceptor.session.rtt_ms == 70
    for _ in range(100):
        pair.pass_time(Timing().ping_ms).settle()
    assert pair.dialer.session.state is State.OPEN


def test_silence_ends_it() -> None:
    pair = Pair().open()
    pair.pass_time(Timing().silence_ms)
    assert pair.dialer.ended is not None
    assert pair.dialer.ended.code == p.TIMED_OUT
    assert "nothing heard for 20000 ms" in pair.dialer.ended.reason


def test_a_handshake_that_stalls_ends() -> None:
    pair = Pair(admits=False).settle()
    pair.pass_time(Timing().handshake_ms - 1)
    assert pair.acceptor.ended is None
    pair.pass_time(1)
    assert pair.acceptor.ended is not None
    assert pair.acceptor.ended.code == p.TIMED_OUT


def test_timers_are_told() -> None:
    pair = Pair()
    assert pair.dialer.session.next_timer_ms() == 1000 + Timing().handshake_ms
    pair.open().pass_time(0).settle()
    assert pair.dialer.session.next_timer_ms() == 1000 + Timing().ping_ms
    pair.dialer.session.report({ALICE: 1}, {ALICE: 1}, 1000)
    assert pair.dialer.session.next_timer_ms() == 1000 + Timing().ack_ms
    pair.dialer.session.refuse(p.CLOSING, "done")
    assert pair.dialer.session.next_timer_ms() is None


def test_a_closed_conversation_stays_silent() -> None:
    pair = Pair().open()
    pair.dialer.handle(pair.dialer.session.refuse(p.CLOSING, "done"), 0)
    pair.settle()
    assert pair.acceptor.ended == p.Ended(p.CLOSING, "done", by_peer=True)
    for side in (pair.dialer, pair.acceptor):
        assert side.session.receive(b"anything", 0) == []
        assert side.session.send([record(ALICE, 1)], {ALICE: 1}) == []
        assert side.session.refuse(p.CLOSING, "again") == []
        side.session.applied(5, 0)
        side.session.report({ALICE: 1}, {}, 0)
        side.session.ask_again({})
        assert side.session.take_output() == b""
        assert side.session.tick(10**9) == []


def test_a_peers_reason_is_made_printable() -> None:
    pair = Pair().open()
    pair.dialer.session.refuse(p.CLOSING, "line\n\x1b[31mred")
    pair.settle()
    assert pair.acceptor.ended is not None
    assert pair.acceptor.ended.reason == "line??[31mred"


def test_asking_again_rewinds_the_sender() -> None:
    pair = Pair().open()
    pair.dialer.session.send([record(ALICE, 1), record(ALICE, 2)], {ALICE: 2})
    pair.settle()
    assert pair.dialer.session.known == {ALICE: 2}
    pair.acceptor.session.ask_again({BOB: 4})
    pair.settle()
    assert pair.dialer.of(p.Rewound)
    assert pair.dialer.session.known == {BOB: 4}


def test_links_are_told() -> None:
    pair = Pair().open()
    pair.acceptor.session.tell_links(frozenset({ALICE, BOB}))
    pair.settle()
    assert pair.dialer.session.links == {ALICE, BOB}
    assert len(pair.dialer.of(p.Relinked)) == 1


def test_what_arrives_while_the_owner_judges_waits() -> None:
    pair = Pair()
    pair.dialer.outbox = FakeOutbox("dialer")
    hold: list[p.Greeted] = []
    original = pair.acceptor.handle

    def judge_later(events: list[p.Event], now_ms: int) -> None:
        hold.extend(e for e in events if isinstance(e, p.Greeted))
        original([e for e in events if not isinstance(e, p.Greeted)], now_ms)

    pair.acceptor.handle = judge_later  # type: ignore[method-assign]
    pair.settle()
    assert hold
    assert pair.acceptor.session.state is State.JUDGING
    pair.dialer.session.send([record(ALICE, 1)], {ALICE: 1})
    pair.settle()
    assert not received(pair.acceptor)
    original(pair.acceptor.session.open(pair.now_ms), pair.now_ms)
    assert [dot(data) for data in received(pair.acceptor)] == [(ALICE, 1)]


def test_a_long_hello_is_not_compressed_before_the_peer_knows_that_it_may_be() -> None:
    pair = Pair()
    for side in (pair.dialer, pair.acceptor):
        side.outbox.vector = {number.to_bytes(8): 5 for number in range(200)}
        side.outbox.durable_vector = side.outbox.vector
    assert len(hello_of(pair.dialer.outbox, b"incarnat", ()).payload()) > 2_000
    pair.open()  # the dialer has the other's HELLO before its own is on its way
    assert pair.acceptor.session.known == pair.dialer.outbox.vector
