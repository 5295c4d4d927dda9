from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync.exchange import APPLY_RECORDS, Exchange, Patience
from tests.sync.fakes import FakeOutbox, Pair, Side, dot, record, replica_id

ALICE, BOB, CAROL = replica_id("alice"), replica_id("bob"), replica_id("carol")


class ManualLabour:
    """Does the work when it is told to."""

    def __init__(self) -> None:
        self.tasks: deque[tuple[Callable[[], Any], Callable[..., None]]] = deque()

    def submit(self, lane: str, work: Callable[[], Any], done: Callable[..., None]) -> None:
        self.tasks.append((work, done))

    def run(self, now_ms: int) -> None:
        while self.tasks:
            work, done = self.tasks.popleft()
            try:
                result, error = work(), None
            except Exception as raised:
                result, error = None, raised
            done(result, error, now_ms)


class World:
    """A sender with an exchange, and a receiver whose owner applies nothing by itself."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.pair = Pair()
        self.outbox = FakeOutbox("alice")
        self.pair.dialer.outbox = self.outbox
        self.pair.open()
        self.labour = ManualLabour()
        self.errors: list[BaseException] = []
        self.exchange = Exchange(
            self.outbox,
            self.pair.dialer.session,
            self.labour,
            replace(patience or Patience(), coalesce_ms=0),
            on_events=self.pair.dialer.handle,
            on_error=lambda error, _: self.errors.append(error),
        )

    @property
    def far(self) -> Side:
        return self.pair.acceptor

    def arrived(self) -> list[tuple[bytes, int]]:
        return [dot(data) for event in self.far.of(p.Received) for data in event.records]

    def go(self, milliseconds: int = 0) -> None:
        self.pair.pass_time(milliseconds)
        if milliseconds:
            self.exchange.tick(self.pair.now_ms)
        self.exchange.pump(self.pair.now_ms)
        self.labour.run(self.pair.now_ms)
        self.pair.settle()
        for event in self.pair.dialer.of(p.Rewound):
            self.pair.dialer.events.remove(event)
            self.exchange.rewind()
            self.exchange.pump(self.pair.now_ms)
            self.labour.run(self.pair.now_ms)
            self.pair.settle()
        if self.pair.dialer.of(p.Relinked):
            self.pair.dialer.events = []
            self.exchange.relinked(self.pair.now_ms)
            self.labour.run(self.pair.now_ms)
            self.pair.settle()

    def foreign(self, author: bytes, seq: int) -> None:
        self.outbox._append(record(author, seq))
        self.outbox.sync()


def test_the_log_goes_to_the_peer_and_then_what_is_new() -> None:
    world = World()
    world.outbox.commit(3)
    world.go()
    assert world.arrived() == [(ALICE, 1), (ALICE, 2), (ALICE, 3)]
    world.outbox.commit(1)
    world.go()
    assert world.arrived()[3:] == [(ALICE, 4)]
    world.go()
    assert len(world.arrived()) == 4


def test_a_long_log_comes_as_the_peer_gives_room() -> None:
    world = World()
    world.outbox.commit(200, size=60_000)  # 12 MB
    applied = 0
    for _ in range(300):
        world.go(30)
        for event in world.far.of(p.Received)[applied:]:
            world.far.session.applied(event.size, world.pair.now_ms)
            applied += 1
    assert world.arrived() == [(ALICE, seq) for seq in range(1, 201)]


def test_nothing_is_sent_beside_a_gap_until_the_peer_has_what_the_log_lacks() -> None:
    world = World()
    world.outbox.commit(5)
    world.outbox.floor = {ALICE: 3}
    world.go()
    world.outbox.commit(1)
    world.go()
    assert world.arrived() == []
    assert world.errors == []
    world.far.session.report({ALICE: 4}, {ALICE: 4}, world.pair.now_ms)  # a snapshot was joined
    world.go(50)
    world.go()
    assert world.arrived() == [(ALICE, 5), (ALICE, 6)]


def test_an_exchange_that_is_held_waits() -> None:
    world = World()
    world.exchange.hold(world.pair.now_ms, held=True)
    world.outbox.commit(2)
    world.go()
    assert world.arrived() == []
    world.exchange.hold(world.pair.now_ms, held=False)
    world.go()
    assert len(world.arrived()) == 2


def test_transactions_of_others_are_forwarded_at_once_when_their_author_is_far() -> None:
    world = World()
    world.foreign(BOB, 1)
    world.go()
    assert world.arrived() == [(BOB, 1)]


def test_an_author_whom_the_peer_converses_with_is_left_to_bring_them() -> None:
    world = World()
    world.far.session.tell_links(frozenset({BOB}))
    world.go()
    world.foreign(BOB, 1)
    world.outbox.commit(1)
    world.go()
    assert world.arrived() == [(ALICE, 1)]
    # It does: nothing is left to do.
    world.far.session.report({BOB: 1, ALICE: 1}, {BOB: 1, ALICE: 1}, world.pair.now_ms)
    world.go(50)
    world.go(10_000)
    assert world.arrived() == [(ALICE, 1)]


def test_an_author_who_makes_no_progress_is_stood_in_for() -> None:
    world = World(Patience(grace_ms=1000))
    world.far.session.tell_links(frozenset({BOB}))
    world.go()
    world.foreign(BOB, 1)
    world.foreign(BOB, 2)
    world.go()
    world.go(900)
    assert world.arrived() == []
    world.far.session.report({BOB: 1}, {BOB: 1}, world.pair.now_ms)  # progress: wait on
    world.go(90)
    world.go(1)
    world.go(999)
    assert world.arrived() == []
    world.go(1)
    assert world.arrived() == [(BOB, 2)]


def test_an_author_who_leaves_the_peer_is_stood_in_for_at_once() -> None:
    world = World()
    world.far.session.tell_links(frozenset({BOB, CAROL}))
    world.go()
    world.foreign(BOB, 1)
    world.foreign(CAROL, 1)
    world.go()
    assert world.arrived() == []
    world.far.session.tell_links(frozenset({CAROL}))
    world.go()
    assert world.arrived() == [(BOB, 1)]


def test_what_the_peer_lost_is_sent_again() -> None:
    world = World()
    world.outbox.commit(5)
    world.go()
    world.far.session.ask_again({ALICE: 2})
    world.go()
    world.go()
    assert world.arrived()[5:] == [(ALICE, 3), (ALICE, 4), (ALICE, 5)]


def test_a_reading_that_a_rewind_overtakes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("murmur.sync.exchange.INLINE_BYTES", -1)
    world = World()
    world.outbox.commit(5)
    world.go()
    world.outbox.commit(5)
    world.exchange.pump(0)  # the worker has been told to read on after 5
    world.far.session.ask_again({ALICE: 2})
    world.pair.settle()
    world.exchange.rewind()
    world.labour.run(0)
    world.pair.settle()
    assert world.arrived()[5:] == [(ALICE, seq) for seq in range(3, 11)]


def test_an_error_of_the_log_is_told() -> None:
    world = World()
    world.outbox.commit(1)
    world.outbox.missing = lambda have, stop=None: (_ for _ in ()).throw(OSError(5, "EIO"))  # type: ignore[method-assign]
    world.go()
    assert isinstance(world.errors[0], OSError)


def receive(world: World, *records: bytes) -> None:
    world.far.session.send(records, {})
    world.pair.settle()
    for event in world.pair.dialer.of(p.Received):
        world.pair.dialer.events.remove(event)
        world.exchange.receive(event)
    while world.exchange.inbox:
        outcome = world.exchange.take()()
        world.exchange.done(outcome, world.pair.now_ms)


def test_records_are_applied_in_bounded_slices() -> None:
    world = World()
    count = 2 * APPLY_RECORDS + 10
    records = [record(BOB, seq) for seq in range(1, count + 1)]
    size = len(m.Records(records).payload())
    world.exchange.receive(p.Received(records, size))
    assert [len(part.records) for part in world.exchange.inbox] == [APPLY_RECORDS] * 2 + [10]
    assert sum(part.size for part in world.exchange.inbox) == size
    world.exchange.inbox.clear()
    receive(world, *records)
    assert world.outbox.vector[BOB] == count
    assert world.exchange.applied_records == count


def resends(world: World) -> int:
    world.pair.settle()
    return len(world.far.of(p.Rewound))


def test_a_gap_is_asked_for_again_and_again_but_ever_more_rarely() -> None:
    world = World(Patience(repair_ms=1000, repair_cap_ms=10_000))
    receive(world, record(BOB, 2), record(CAROL, 1))
    asked = []
    for _ in range(400):
        before = resends(world)
        world.far.session.tick(world.pair.now_ms)
        world.go(100)
        if resends(world) > before:
            asked.append(world.pair.now_ms)
    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert waits[:3] == [2000, 4000, 8000]
    assert set(waits[3:]) == {10_000}
    assert world.far.session.known == {CAROL: 1}


def test_a_gap_that_closes_is_forgotten() -> None:
    world = World(Patience(repair_ms=1000))
    receive(world, record(BOB, 2))
    receive(world, record(BOB, 1))
    world.go(5000)
    assert resends(world) == 0
    assert world.exchange.next_timer_ms(world.pair.now_ms) is None


def test_progress_with_a_gap_is_patience() -> None:
    world = World(Patience(repair_ms=1000))
    receive(world, record(BOB, 9))
    for seq in range(1, 8):
        world.go(900)
        receive(world, record(BOB, seq))
    assert resends(world) == 0
    world.go(900)
    assert resends(world) == 0
    world.go(200)
    assert resends(world) == 1
