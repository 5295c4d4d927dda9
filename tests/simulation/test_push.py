"""Push among many: a tree of eager links that carries each transaction about once to everybody."""

from __future__ import annotations

from random import Random

import pytest

from murmur.sync.push import FULL_MESH, PRUNE, Push
from murmur.sync.service import Urgency
from murmur.sync.wire import pack
from tests.simulation.network import Host, Network, Weather
from tests.simulation.seeds import run, seeds
from tests.simulation.test_convergence import close, finish

CALM = Weather(latency_ms=(5, 40))

FILE = "tests/simulation/test_push.py"


class Crowd:
    """Hosts in a random graph, each linked to about `degree` others."""

    def __init__(self, count: int, degree: int, seed: int = 1) -> None:
        self.net = Network(seed, CALM)
        self.pushes: dict[str, Push] = {}
        self.hosts = [Host(self.net, f"h{i}", services=self.services) for i in range(count)]
        random = Random(seed)
        links = {(i, (i + 1) % count) for i in range(count)}
        while len(links) < count * degree // 2:
            a, b = random.sample(range(count), 2)
            if (b, a) not in links:
                links.add((a, b))
        self.links = links
        for a, b in sorted(links):
            self.hosts[a].meet(self.hosts[b])
        assert self.net.run(30_000, until=self.linked)

    def services(self, host: Host) -> tuple[Push]:
        push = self.pushes[host.name] = Push()
        return (push,)

    def linked(self) -> bool:
        return sum(len(host.mesh.company.connected()) for host in self.hosts) == 2 * len(self.links)

    def tell(self, host: Host, key: bytes) -> None:
        host.replica.put(b"\x01" + key, bytes(100))

    def converged(self) -> bool:
        first, *others = [host.replica.vector for host in self.hosts if host.alive]
        return all(dict(other) == dict(first) for other in others)

    def duplicates(self) -> int:
        flows = [
            c.open.exchange for h in self.hosts for c in h.mesh.company.contacts.values() if c.open
        ]
        return sum(flow.duplicates for flow in flows if flow is not None)

    def flooding(self, transactions: int) -> int:
        """Copies that nobody needs if everybody passes on everything to all but its bringer."""
        count = len(self.hosts)
        return transactions * (2 * len(self.links) - 2 * (count - 1))


def spread(crowd: Crowd, transactions: int, seed: int = 2) -> int:
    """Transactions of random hosts, one after the other; how many copies came twice."""
    random, before = Random(seed), crowd.duplicates()
    for i in range(transactions):
        crowd.tell(random.choice(crowd.hosts), b"%d-%d" % (seed, i))
        crowd.net.run(400)
    assert crowd.net.run(60_000, until=crowd.converged)
    return crowd.duplicates() - before


def test_a_hundred_replicas_converge_with_few_copies_too_many() -> None:
    crowd = Crowd(100, 10)
    twice = spread(crowd, 3)
    assert len({host.replica.state_hash() for host in crowd.hosts}) == 1
    assert twice < crowd.flooding(3) / 5, (twice, crowd.flooding(3))
    eager = [len(push.eager()) for push in crowd.pushes.values()]
    assert min(eager) >= 1
    assert sum(eager) < 0.5 * 2 * len(crowd.links)


@pytest.mark.soak
@pytest.mark.parametrize("seed", seeds(range(10)))
def test_hundreds_of_transactions_spread_with_few_copies_too_many(seed: int) -> None:
    run(spread_hundreds, seed, f"-m soak {FILE} -k hundreds_of_transactions")


def spread_hundreds(seed: int) -> None:
    crowd = Crowd(100, 10, seed)
    spread(crowd, 10, seed)
    twice = spread(crowd, 50, seed + 100)
    assert twice < crowd.flooding(50) / 20


def test_a_tree_that_breaks_mends_itself() -> None:
    break_and_mend(1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", seeds(range(2, 50)))
def test_trees_that_break_mend_themselves(seed: int) -> None:
    run(break_and_mend, seed, f"-m soak {FILE} -k trees_that_break")


def break_and_mend(seed: int) -> None:
    crowd = Crowd(18, 12, seed)
    spread(crowd, 6, seed)
    random = Random(seed)
    for host in random.sample(crowd.hosts, 5):
        host.crash()
    alive = [host for host in crowd.hosts if host.alive]
    for i in range(6):
        crowd.tell(random.choice(alive), b"after %d" % i)
        crowd.net.run(300)
    assert crowd.net.run(20_000, until=crowd.converged)
    for host in crowd.hosts:
        if not host.alive:
            host.restart()
    assert crowd.net.run(60_000, until=lambda: all(h.alive for h in crowd.hosts))
    assert crowd.net.run(60_000, until=crowd.converged)


def crowded_day(seed: int, sizes: tuple[int, int] = (20, 60)) -> None:
    """Twenty to sixty replicas of eleven links on a bad network, some of which crash."""
    random = Random(seed)
    crowd = Crowd(random.randint(*sizes), 11, seed)
    crowd.net.weather = Weather((1, 120), 0.001, late=0.05, shuffle=0.1, labour_ms=30)
    for _ in range(20):
        alive = [host for host in crowd.hosts if host.alive]
        if len(alive) > len(crowd.hosts) * 0.7 and random.random() < 0.3:
            random.choice(alive).crash()
        elif random.random() < 0.2:
            for host in crowd.hosts:
                if not host.alive:
                    host.restart()
        for _ in range(3):
            host = random.choice(crowd.hosts)
            if host.alive:
                crowd.tell(host, b"%d" % random.getrandbits(40))
        crowd.net.run(random.randint(50, 2_000))
    finish(crowd.net, seed)
    close(crowd.net)


def test_a_crowded_day_ends_well() -> None:
    crowded_day(1, (12, 12))


@pytest.mark.soak
@pytest.mark.parametrize("seed", seeds(range(20_000, 20_200)))
def test_many_crowded_days_end_well(seed: int) -> None:
    run(crowded_day, seed, f"-m soak {FILE} -k many_crowded")


def test_a_full_mesh_decides_nothing() -> None:
    crowd = Crowd(5, 4)
    assert len(crowd.links) <= FULL_MESH * 5
    spread(crowd, 10)
    assert all(push.prunes == push.grafts == 0 for push in crowd.pushes.values())
    assert all(len(push.eager()) == 4 for push in crowd.pushes.values())


def test_a_crowd_that_shrinks_is_a_full_mesh_again() -> None:
    crowd = Crowd(12, 11)
    spread(crowd, 10)
    assert any(len(push.eager()) < 11 for push in crowd.pushes.values())
    for host in crowd.hosts[6:]:
        host.mesh.close("bye")
        assert host.transport is not None
        host.transport.flush(0)
        host.crash()
    crowd.net.run(5_000)
    left = crowd.hosts[:6]
    assert [len(crowd.pushes[host.name].eager()) for host in left] == [5] * 6
    crowd.tell(left[0], b"x")
    assert crowd.net.run(2_000, until=crowd.converged)


def test_a_neighbour_of_an_older_release_is_sent_everything() -> None:
    class Mixed(Crowd):
        def services(self, host: Host) -> tuple[Push, ...]:  # type: ignore[override]
            return () if host.name == "h0" else super().services(host)

    crowd = Mixed(14, 13)
    spread(crowd, 8)
    old = crowd.hosts[0].identity.node_id
    assert all(old in push.eager() for push in crowd.pushes.values())


def test_a_node_pruned_by_everybody_grafts_one_and_not_in_a_loop() -> None:
    net = Network(1, CALM)
    pushes = {}

    def services(host: Host) -> tuple[Push]:
        return (pushes.setdefault(host.name, Push()),)

    a, b = Host(net, "a", services=services), Host(net, "b", services=services)
    a.meet(b)
    net.run(3_000)
    for _ in range(50):
        b.mesh.fabric.say(a.identity.node_id, PRUNE, pack([]), Urgency.CONTROL)
        b.wake()
        net.run(10)
    assert pushes["a"].grafts == 1
    b.replica.put(b"\x01k", b"v")
    assert net.run(5_000, until=lambda: a.replica.get(b"\x01k") is not None)
