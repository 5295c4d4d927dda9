"""Pull: a backlog comes from several peers at once; gaps and digests are asked about."""

from __future__ import annotations

from random import Random

import pytest

from murmur.sync import pull
from murmur.sync.pull import Pull
from murmur.sync.push import Push
from murmur.sync.service import Urgency
from murmur.sync.wire import pack
from tests.simulation.network import Host, Network, Weather

CALM = Weather(latency_ms=(5, 15))


class Group:
    """Hosts that hold the same, written by several of them, and one who comes late."""

    def __init__(self, holders: int, transactions: int, seed: int = 1) -> None:
        self.net = Network(seed, CALM)
        self.pulls: dict[str, Pull] = {}
        self.holders = [Host(self.net, f"h{i}", services=self.services) for i in range(holders)]
        for i, host in enumerate(self.holders):
            for other in self.holders[:i]:
                host.meet(other)
        self.net.run(1_000)
        random = Random(seed)
        for i in range(transactions):
            random.choice(self.holders).replica.put(b"\x01%d" % i, bytes(100))
            if i % 100 == 0:
                self.net.run(200)
        assert self.net.run(60_000, until=lambda: same(self.holders))
        self.late = Host(self.net, "late", services=self.services)

    def services(self, host: Host) -> tuple[Push, Pull]:
        self.pulls[host.name] = Pull(gossip_ms=(1_000, 3_000))
        return (Push(), self.pulls[host.name])

    def join(self) -> None:
        for host in self.holders:
            self.late.meet(host)

    def sent_to_late(self) -> list[int]:
        found = []
        for host in self.holders:
            contact = host.mesh.company.contacts.get(self.late.identity.node_id)
            exchange = contact.open.exchange if contact and contact.open else None
            found.append(exchange.sent_records if exchange is not None else 0)
        return found

    def converged(self) -> bool:
        return same([*self.holders, self.late])


def same(hosts: list[Host]) -> bool:
    first, *others = [dict(host.replica.durable_vector) for host in hosts]
    return all(other == first for other in others)


@pytest.mark.parametrize("seed", range(3))
def test_a_backlog_comes_from_all_who_have_it_each_a_part(seed: int) -> None:
    group = Group(3, 2_000, seed)
    group.join()
    assert group.net.run(60_000, until=group.converged)
    sent = group.sent_to_late()
    assert min(sent) > 2_000 * 0.1, sent
    assert sum(sent) < 2_000 * 1.1, sent
    assert group.late.replica.state_hash() == group.holders[0].replica.state_hash()


def test_a_source_that_falls_silent_is_replaced() -> None:
    group = Group(3, 2_000)
    group.join()
    assert group.net.run(20_000, until=lambda: bool(group.pulls["late"].wants > 2))
    group.net.blocked = {("h0", "late")}
    began = group.net.now_ms
    assert group.net.run(60_000, until=group.converged)
    assert group.net.now_ms - began < 15_000, "the others have it"


def test_a_source_that_leaves_is_replaced() -> None:
    group = Group(3, 2_000)
    group.join()
    assert group.net.run(20_000, until=lambda: bool(group.pulls["late"].wants > 2))
    group.holders.pop().crash()
    assert group.net.run(20_000, until=group.converged)


def test_one_source_is_enough() -> None:
    group = Group(1, 1_500)
    group.join()
    assert group.net.run(20_000, until=group.converged)
    assert sum(group.sent_to_late()) < 1_500 * 1.1


def test_what_is_committed_meanwhile_is_not_lost() -> None:
    group = Group(2, 1_000)
    group.join()
    for i in range(50):
        group.holders[i % 2].replica.put(b"\x01new%d" % i, bytes(100))
        group.late.replica.put(b"\x01late%d" % i, bytes(100))
        group.net.run(50)
    assert group.net.run(30_000, until=group.converged)


def test_what_is_committed_meanwhile_is_sent_once() -> None:
    group = Group(1, 1_500)
    group.join()
    writer = group.holders[0].replica
    for i in range(100):
        for j in range(50):
            writer.put(b"\x01new%d" % (50 * i + j), bytes(100))
        group.net.run(20)
    assert group.net.run(30_000, until=group.converged)
    assert sum(group.sent_to_late()) < 6_500 * 1.1


def test_little_is_pushed_and_nobody_asks() -> None:
    group = Group(3, 100)
    group.join()
    assert group.net.run(5_000, until=group.converged)
    assert group.pulls["late"].wants == 0


def test_a_gap_is_asked_for() -> None:
    group = Group(2, 20)
    group.join()
    assert group.net.run(5_000, until=group.converged)
    apply, lost = group.late.mesh.fabric.outbox.apply, []

    def lossy(records):
        if len(lost) < 3:
            lost.append(len(records))
            return apply([])
        return apply(records)

    group.late.mesh.fabric.outbox.apply = lossy  # type: ignore[method-assign]
    for i in range(6):
        group.holders[0].replica.put(b"\x01gap%d" % i, b"v")
        group.net.run(100)
    began = group.net.now_ms
    assert lost
    assert group.net.run(20_000, until=group.converged)
    assert group.net.now_ms - began < 4_500, "before the peer is asked to begin again"
    assert group.pulls["late"].wants > 0


def test_a_digest_finds_what_no_acknowledgement_told() -> None:
    group = Group(1, 20)
    group.join()
    assert group.net.run(5_000, until=group.converged)
    holder, late = group.holders[0], group.late
    there = holder.mesh.company.contacts[late.identity.node_id].open
    here = late.mesh.company.contacts[holder.identity.node_id].open
    assert there is not None
    assert here is not None
    assert there.exchange is not None
    there.exchange.pump = lambda now_ms: None  # type: ignore[method-assign]
    there.session.report = lambda *_: None  # type: ignore[method-assign]
    holder.replica.put(b"\x01silent", b"v")
    group.net.run(200)
    del there.exchange.pump
    there.exchange._cursor.position = holder.replica.durable_position
    there.session.known = dict(holder.replica.vector)  # it believes to have sent everything
    assert group.net.run(15_000, until=group.converged)
    assert group.pulls["late"].wants > 0


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (pull.WANT, [{b"x": [1, 2]}]),
        (pull.WANT, [{b"x" * 8: [1]}]),
        (pull.WANT, [{b"x" * 8: [2, 1]}]),
        (pull.WANT, [{b"x" * 8: [0, 1]}]),
        (pull.WANT, [{b"x" * 8: [1, 2.0]}]),
        (pull.WANT, [[1]]),
        (pull.WANT, [{i.to_bytes(8): [1, 1] for i in range(5000)}]),
        (pull.VECTOR, [1, {b"x" * 8: 0}]),
        (pull.VECTOR, [1, {b"x" * 7: 1}]),
        (pull.DIGEST, [bytes(32)]),
        (pull.DIGEST, ["text", 1]),
    ],
)
def test_what_makes_no_sense_is_held_against_the_peer(kind: int, fields: list[object]) -> None:
    group = Group(1, 5)
    group.join()
    assert group.net.run(5_000, until=group.converged)
    group.late.mesh.fabric.say(
        group.holders[0].identity.node_id, kind, pack(fields), Urgency.CONTROL
    )
    group.late.wake()
    group.net.run(200)
    assert group.holders[0].mesh.status(group.net.now_ms)[0].state == "quarantined"


def test_who_asks_without_end_is_refused() -> None:
    group = Group(1, 500)
    group.join()
    assert group.net.run(5_000, until=group.converged)
    payload = pack([{group.holders[0].replica.id: [1, 500]}])
    for _ in range(40):
        node_id = group.holders[0].identity.node_id
        group.late.mesh.fabric.say(node_id, pull.WANT, payload, Urgency.CONTROL)
    group.late.wake()
    group.net.run(500)
    assert group.holders[0].mesh.status(group.net.now_ms)[0].state == "quarantined"


def test_a_clock_that_jumps_is_noticed() -> None:
    group = Group(1, 5)
    group.join()
    assert group.net.run(5_000, until=group.converged)
    group.holders[0].clock.skew_ms += 30_000
    group.net.run(10_000)
    skew = group.late.mesh.status(group.net.now_ms)[0].skew_ms
    assert skew is not None
    assert abs(skew - 30_000) < 1_000
    assert any(kind == "skew" for kind, _, _ in group.late.notices)


def test_who_takes_a_snapshot_asks_for_nothing() -> None:
    group = Group(2, 600)
    busy = True
    pulling = Pull(busy=lambda: busy)
    group.late = Host(group.net, "busy", services=lambda _: (Push(), pulling))
    group.join()
    group.net.run(2_000)
    assert pulling.wants == 0
    busy = False
    assert group.net.run(20_000, until=group.converged)
    assert pulling.wants > 0
