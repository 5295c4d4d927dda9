"""Who is alive, on a simulated network; what members say of themselves; laws of the records."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import ProtocolViolation
from murmur.sync.identity import Identity
from murmur.sync.membership import MemberRecord, Members, Swim
from murmur.sync.membership.record import read_record
from murmur.sync.membership.swim import PROBE, PROBE_FOR
from murmur.sync.wire import pack
from tests.simulation.network import GROUP, Host, Network

KEY = b"\x01\x03"


class Group:
    """Hosts that all converse, with their views of each other."""

    def __init__(self, count: int, *, near: int | None = None, seed: int = 1) -> None:
        """`near`: how many neighbours on a ring each host meets, on either side; None: all."""
        self.network = Network(seed)
        self.near = count // 2 if near is None else near
        self.views: dict[str, Swim] = {}
        self.hosts = [Host(self.network, f"h{i}", services=self._services) for i in range(count)]
        for i, host in enumerate(self.hosts):
            for j, other in enumerate(self.hosts[:i]):
                if min(i - j, count - i + j) <= self.near:
                    host.meet(other)
        assert self.network.run(30_000, self._met)

    def _services(self, host: Host) -> tuple[Swim]:
        view = Swim(lambda: [h.identity.node_id for h in self.hosts if h is not host])
        self.views[host.name] = view
        return (view,)

    def _met(self) -> bool:
        return all(
            len(h.mesh.company.connected()) == min(len(self.hosts) - 1, 2 * self.near)
            for h in self.hosts
        )

    def seen(self, target: Host) -> set[str]:
        """How the others that run see it."""
        node_id = target.identity.node_id
        others = (h for h in self.hosts if h is not target and h.alive)
        return {self.views[host.name].liveness().get(node_id, "unknown") for host in others}


def test_who_dies_is_dead_for_all_and_alive_when_it_is_back() -> None:
    group = Group(11)
    group.network.run(30_000)
    assert group.seen(group.hosts[3]) == {"alive"}
    group.hosts[3].crash()
    assert group.network.run(120_000, lambda: group.seen(group.hosts[3]) == {"dead"})
    assert all(group.seen(host) == {"alive"} for host in group.hosts if host.alive)
    group.hosts[3].restart()
    assert group.network.run(120_000, lambda: group.seen(group.hosts[3]) == {"alive"})


def test_of_whom_one_does_not_converse_with_one_hears() -> None:
    group = Group(16, near=2)
    gone = group.hosts[5]
    assert group.network.run(120_000, lambda: group.seen(gone) == {"alive"})
    gone.crash()
    assert group.network.run(240_000, lambda: group.seen(gone) == {"dead"})
    assert all(group.seen(host) == {"alive"} for host in group.hosts if host.alive)
    gone.restart()
    assert group.network.run(240_000, lambda: group.seen(gone) == {"alive"})


def test_who_was_cut_off_for_a_moment_says_that_it_lives() -> None:
    group = Group(16, near=2)
    gone = group.hosts[5]
    group.network.run(60_000)
    cut = {(gone.name, host.name) for host in group.hosts}
    group.network.blocked |= cut | {(b, a) for a, b in cut}
    assert group.network.run(60_000, lambda: "suspect" in group.seen(gone))
    group.network.blocked.clear()
    assert group.network.run(240_000, lambda: group.seen(gone) == {"alive"})


def test_whom_two_cannot_reach_from_each_other_is_alive_all_the_same() -> None:
    group = Group(10)
    a, b = group.hosts[:2]
    group.network.blocked |= {(a.name, b.name), (b.name, a.name)}
    assert group.network.run(60_000, lambda: len(a.mesh.company.connected()) == 8)
    for _ in range(60):
        group.network.run(2_000)
        assert group.seen(b) == {"alive"}  # for those who ask for it find it
    told = {kind for host in group.hosts for kind, _, _ in host.notices}
    assert not told & {"dead", "suspect"}


@pytest.mark.parametrize("seed", range(1))
def test_bad_weather_kills_nobody(seed: int) -> None:
    group = Group(10, seed=seed)
    group.network.weather.loss, group.network.weather.latency_ms = 0.002, (1, 300)
    for _ in range(40):
        group.network.run(3_000)
        for host in group.hosts:
            assert "dead" not in group.seen(host)


def test_few_watch_each_other_by_their_conversations_alone() -> None:
    group = Group(4)
    group.network.run(20_000)
    before = group.network.bytes_carried
    group.network.run(20_000)
    quiet = group.network.bytes_carried - before
    group.hosts[0].crash()
    assert group.network.run(60_000, lambda: group.seen(group.hosts[0]) == {"dead"})
    assert group.seen(group.hosts[1]) == {"alive"}
    assert quiet < 20_000  # keep-alives, and no probes


@pytest.mark.parametrize(
    "said",
    [
        [],
        [1],
        [-1, []],
        ["1", []],
        [1, 7],
        [1, [7]],
        [1, [[b"a", 0, 0]]],
        [1, [[b"a" * 32, 3, 0]]],
        [1, [[b"a" * 32, 0, -1]]],
        [1, [[b"a" * 32, True, 0]]],
        [1, [[b"a" * 32, 0, 0]] * 33],
    ],
)
def test_a_probe_that_makes_no_sense_is_a_violation(said: list[object]) -> None:
    group = Group(2)
    (remote,) = group.hosts[0].mesh.fabric.remotes()
    with pytest.raises(ProtocolViolation, match="probe"):
        group.views["h0"].received(remote, PROBE, pack(said), group.network.now_ms)
    with pytest.raises(ProtocolViolation, match="probe"):
        group.views["h0"].received(remote, PROBE_FOR, pack([1, 7, []]), group.network.now_ms)


class Rows:
    """The records of a host's replica."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def read(self) -> Mapping[bytes, bytes]:
        from murmur.kvcore import visible_value

        with self.host.replica.snapshot() as snapshot:
            cells = snapshot.scan(KEY, KEY[:-1] + b"\x04")
            return {bytes(key[2:]): visible_value(cell) for key, cell in cells}

    def write(self, node_id: bytes, record: bytes) -> None:
        self.host.replica.put(KEY + node_id, record)


def test_members_find_each_other_by_their_records_and_a_forged_one_is_nothing() -> None:
    network = Network(5)

    def services(host: Host) -> tuple[Members]:
        return (
            Members(
                Rows(host),
                host.identity,
                GROUP,
                roles=("relay",),
                addresses=lambda: (host.address,),
                meet=lambda seen, now_ms: host.mesh.reception.meet(seen, now_ms),
            ),
        )

    hub, a, b = (Host(network, name, services=services) for name in ("hub", "a", "b"))
    a.meet(hub)
    b.meet(hub)
    assert network.run(
        90_000, lambda: all(len(h.mesh.company.connected()) == 2 for h in (hub, a, b))
    )
    assert len(Rows(a).read()) == 3
    forged = MemberRecord(b"x" * 32, b"r" * 8, (), ("10.9.9.9:1",), 1, 0)
    Rows(a).write(b"x" * 32, forged.sign(a.identity, GROUP))
    Rows(a).write(hub.identity.node_id, b"damaged")
    network.run(90_000)
    assert b"x" * 32 not in b.mesh.company.contacts
    assert read_record(Rows(b).read()[hub.identity.node_id], GROUP).replica == hub.replica.id
    seqs = dict(hub.replica.vector)
    network.run(200_000)
    assert dict(hub.replica.vector) == seqs  # nothing is written while nothing is new


texts = st.lists(st.text(max_size=6), max_size=3).map(tuple)


@given(texts, texts, st.integers(0, 1 << 60), st.integers(0, 300), st.integers(0, 7))
def test_a_record_reads_back_and_no_bit_of_it_can_change(
    roles: tuple[str, ...], addresses: tuple[str, ...], number: int, place: int, bit: int
) -> None:
    identity = Identity(Random(1).randbytes(32))
    record = MemberRecord(identity.node_id, b"r" * 8, roles, addresses, number, number)
    data = record.sign(identity, GROUP)
    assert read_record(data, GROUP) == record
    assert record.says(b"r" * 8, roles, addresses)
    with pytest.raises(ProtocolViolation):
        read_record(data, "another")
    changed = bytearray(data)
    changed[place % len(data)] ^= 1 << bit
    with pytest.raises(ProtocolViolation):
        read_record(bytes(changed), GROUP)
