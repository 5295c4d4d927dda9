"""Records that can never be applied: named, kept, tried again, dropped; and who waits for whom."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import ProtocolViolation, UnknownFormat
from murmur.kvcore import dead_letters as d
from murmur.kvcore import forks, parking
from murmur.kvcore.clock import ManualClock
from murmur.kvcore.dead_letters import DeadLetters, check_dead_letters
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.parking import Delivery
from murmur.kvcore.record import NO_PREVIOUS, PUT, Malformed, Operation, digest, encode
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import read_whole, write_atomically

AUTHOR, OTHER = b"A" * 8, b"B" * 8
ALICE, BOB = b"a" * 32, b"b" * 32
NOW = ManualClock().now_ms() << 16
KEY = b"\x01k"


def open_replica(storage: MemoryStorage | None = None) -> Replica:
    return Replica.open(
        storage or MemoryStorage(),
        clock=ManualClock(),
        random_bytes=Random(1).randbytes,
        durability="commit",
    )


def chain(author: bytes, count: int, *, value: bytes = b"v", size: int = 0) -> list[bytes]:
    records: list[bytes] = []
    previous, vector = NO_PREVIOUS, {}
    for seq in range(1, count + 1):
        seen = {author: seq - 1} if seq > 1 else {}
        body = value + bytes(size)
        record = encode(author, seq, NOW + seq, previous, seen, vector, [Operation(PUT, KEY, body)])
        records.append(record)
        previous, vector = digest(record), seen
    return records


def test_what_is_no_record_is_kept_with_its_reason_and_changes_nothing() -> None:
    storage = MemoryStorage()
    good = chain(AUTHOR, 1)[0]
    later = b"\x02" + good[1:]  # as a later release may write
    with open_replica(storage) as replica:
        before = replica.state_hash()
        for bad in (b"", b"\x01short", later, good[:-1]):
            with pytest.raises(ProtocolViolation):
                replica.apply(Delivery([good, bad], ALICE))
        assert replica.state_hash() == before
        assert replica.vector == {}
        letters = replica.dead_letters()
    assert [letter.record for letter in letters] == [b"", b"\x01short", later, good[:-1]]
    assert [letter.size for letter in letters] == [0, 6, len(later), len(good) - 1]
    assert {letter.peer for letter in letters} == {ALICE}
    assert (letters[-1].replica, letters[-1].seq) == (AUTHOR, 1)
    assert letters[0].replica is None
    assert "version 2 is not 1" in letters[2].reason
    with open_replica(storage) as replica:
        assert replica.dead_letters() == letters
        assert list(replica.check()) == []


def test_two_records_with_one_dot_are_an_equivocation() -> None:
    with open_replica() as replica:
        true, false = chain(AUTHOR, 3), chain(AUTHOR, 3, value=b"false")
        replica.apply(Delivery(true[:2], ALICE))
        for bad in (false[1], false[2]):  # the newest dot again; one that follows another history
            with pytest.raises(ProtocolViolation, match="fork"):
                replica.apply(Delivery([bad], BOB))
        assert [(e.peer, e.seq) for e in replica.dead_letters()] == [(BOB, 2), (BOB, 3)]
        assert replica.vector == {AUTHOR: 2}
        replica.apply(Delivery(true[2:], ALICE))
        assert replica.retry_dead_letters() == 0
        assert [e.times for e in replica.dead_letters()] == [2, 2]


def test_an_older_dot_is_not_written_again_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "LIMIT", 20)
    with open_replica() as replica:
        true, false = chain(AUTHOR, 50), chain(AUTHOR, 50, value=b"false")
        replica.apply(Delivery(true, ALICE))
        assert replica.apply(Delivery(true, BOB)).admitted == 0
        with pytest.raises(ProtocolViolation, match=f"{AUTHOR.hex()}:40"):
            replica.apply(Delivery([false[39]], BOB))
        assert [(e.peer, e.seq) for e in replica.dead_letters()] == [(BOB, 40)]
        assert replica.apply(Delivery([false[5]], BOB)).admitted == 0  # too long ago to be told
        assert len(replica._incoming._successors._hashes) == 20
        assert replica.vector == {AUTHOR: 50}


def test_the_same_lie_is_one_letter() -> None:
    with open_replica() as replica:
        for peer in (ALICE, ALICE, BOB):
            with pytest.raises(ProtocolViolation):
                replica.apply(Delivery([b"lie"], peer))
        assert [(e.peer, e.times) for e in replica.dead_letters()] == [(ALICE, 2), (BOB, 1)]
        assert replica.drop_dead_letters([99]) == 0
        assert replica.drop_dead_letters([replica.dead_letters()[0].number]) == 1
        assert replica.drop_dead_letters() == 1
        assert replica.dead_letters() == []


def test_what_can_be_applied_after_all_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_replica() as replica:
        record, another = chain(AUTHOR, 1) + chain(OTHER, 1)

        def refuse(data: bytes) -> object:
            raise Malformed(0, "version 1 is not 0")

        with monkeypatch.context() as patch:
            patch.setattr("murmur.kvcore.incoming.decode", refuse)
            for data in (record, another):
                with pytest.raises(ProtocolViolation):
                    replica.apply(Delivery([data], ALICE))
        assert len(replica.dead_letters()) == 2
        assert replica.retry_dead_letters() == 2
        assert replica.dead_letters() == []
        assert replica.vector == {AUTHOR: 1, OTHER: 1}


def test_who_waited_with_a_lie_is_blamed_and_not_who_brought_the_truth() -> None:
    with open_replica() as replica:
        true, false = chain(AUTHOR, 2), chain(AUTHOR, 2, value=b"false")
        mine = chain(OTHER, 2)
        assert replica.apply(Delivery([false[1]], BOB)).waiting == 1
        delivery = Delivery([true[0], *mine], ALICE)
        assert replica.apply(delivery).admitted == 3
        ((peer, reason),) = delivery.refused
        assert peer == BOB
        assert "fork" in reason
        assert [e.peer for e in replica.dead_letters()] == [BOB]
        assert replica.apply(Delivery(true, ALICE)).admitted == 1


def test_no_peer_fills_the_room_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "WAITING_BYTES_PER_PEER", 5_000)
    monkeypatch.setattr(parking, "WAITING_BYTES", 8_000)
    with open_replica() as replica:
        mine, theirs = chain(AUTHOR, 20, size=1000), chain(OTHER, 3, size=1000)
        assert replica.apply(Delivery(mine[1:], ALICE)).waiting == 4
        assert replica.apply(Delivery(theirs[1:], BOB)).waiting == 6
        assert replica.apply(Delivery(theirs[:1], BOB)).admitted == 3
        # What found no room is sent again.
        assert replica.apply(Delivery(mine[:1], BOB)).admitted == 5
        assert replica.apply(Delivery(mine[5:], BOB)).admitted == 15
        assert replica._incoming._waiting.bytes == replica._incoming._waiting.count == 0
        assert replica._incoming._waiting._by_peer == {}


def test_letters_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d, "MAX_LETTERS", 5)
    monkeypatch.setattr(d, "KEPT_BYTES", 1_000)
    monkeypatch.setattr(d, "RECORD_BYTES", 400)
    letters = DeadLetters(MemoryStorage())
    for i in range(8):
        letters.add(b"%d" % i, ALICE, "reason", 0)
    assert [e.record for e in letters.listing()] == [b"%d" % i for i in range(3, 8)]
    for i in range(4):
        letters.add(bytes([i]) * 300, ALICE, "reason", 0)
    assert sum(len(e.record) for e in letters.listing()) <= 1_000
    assert letters.dropped == 3 + 4 + 2
    letters.add(b"x" * 500, ALICE, "too large", 0)
    letters.add(b"head", ALICE, "never came whole", 0, size=1 << 30)
    assert [(e.record, e.size) for e in letters.listing()[-2:]] == [(b"", 500), (b"", 1 << 30)]


@given(st.data())
def test_a_damaged_file_is_set_aside_and_told(data: st.DataObject) -> None:
    storage = MemoryStorage()
    DeadLetters(storage).add(b"record", ALICE, "reason", 5)
    content = bytearray(read_whole(storage, d.DEAD_LETTERS_FILE))
    content[data.draw(st.integers(1, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = MemoryStorage()
    write_atomically(damaged, d.DEAD_LETTERS_FILE, bytes(content))
    try:
        letters = DeadLetters(damaged)
    except UnknownFormat:
        return
    assert letters.listing() == []
    assert [problem.path for problem in check_dead_letters(damaged)]
    letters.add(b"more", BOB, "reason", 6)
    assert len(DeadLetters(damaged)) == 1
