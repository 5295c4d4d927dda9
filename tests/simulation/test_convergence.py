"""Many replicas on a bad network, replayed from a seed.

    MURMUR_SEED=17 python -m pytest tests/simulation/test_convergence.py -k a_bad_day

Invariants, whatever the network and the power do:
    1. Replicas with equal vectors have equal states.
    2. When the network heals, all replicas come to hold everything that any of them made durable.
    3. What a replica told its peers survives its crash (checked in Host.restart).
    4. Nobody is refused or accused of a fork.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from murmur.errors import Conflict
from murmur.kvcore.causality import format_vector
from tests.simulation.network import Host, Network, Weather
from tests.simulation.seeds import run, seeds

SEEDS = range(5)
SOAK_SEEDS = range(1000, 1400)
KEYS = [bytes([kind]) + b"key%d" % i for kind in (1, 2) for i in range(6)]

WHERE = "tests/simulation/test_convergence.py -k a_bad_day"
BAD = Weather(latency_ms=(1, 120), loss=0.002, late=0.1, shuffle=0.2)


def write_something(host: Host, random: Random) -> None:
    """One random transaction; some conflict, some are rolled back."""
    with host.replica.begin() as tx:
        for key in random.sample(KEYS, random.randint(1, 3)):
            kind = random.random()
            if key[0] == 1:
                if kind < 0.8:
                    tx.put(key, b"%d" % random.randint(0, 10**9))
                else:
                    tx.delete(key)
            elif tx.get(key) is None:
                tx.insert(key, {1: random.randint(0, 9), 2: "name"}, {3: random.randint(0, 5)})
            elif kind < 0.4:
                tx.edit(key, {random.choice((1, 2)): random.randint(0, 9)})
            elif kind < 0.7:
                tx.add(key, 3, random.randint(-5, 5))
            elif kind < 0.8:
                tx.reset(key, 3, random.randint(0, 9))
            else:
                tx.remove(key)


def keep_writing(host: Host, random: Random, until_ms: int) -> None:
    network = host.network

    def write() -> None:
        if network.now_ms >= until_ms:
            return
        if host.alive:
            with suppress(Conflict):  # the loser writes something else later
                write_something(host, random)
        network.at(random.randint(5, 400), write)

    network.at(random.randint(0, 300), write)


def check_equal_where_vectors_are(network: Network) -> None:
    states: dict[tuple[tuple[bytes, int], ...], tuple[str, bytes]] = {}
    for host in network.hosts.values():
        if host.alive:
            vector = tuple(sorted((r, s) for r, s in host.replica.vector.items() if s))
            name, state = states.setdefault(vector, (host.name, host.replica.state_hash()))
            assert state == host.replica.state_hash(), f"{name} and {host.name} differ"


def converged(network: Network) -> bool:
    vectors = [dict(host.replica.durable_vector) for host in network.hosts.values() if host.alive]
    return len(vectors) == len(network.hosts) and all(v == vectors[0] for v in vectors)


def connect(network: Network, shape: str) -> None:
    hosts = list(network.hosts.values())
    match shape:
        case "mesh":
            for i, host in enumerate(hosts):
                for other in hosts[:i]:
                    host.meet(other)
        case "star":
            for host in hosts[1:]:
                host.meet(hosts[0])
        case "line":
            for left, right in pairwise(hosts):
                left.meet(right)
        case "both ways":  # everybody dials everybody at once
            for host in hosts:
                for other in hosts:
                    if other is not host:
                        host.meet(other)


def finish(network: Network, seed: int, within_ms: int = 300_000) -> None:
    """Heal everything and wait until all hold the same."""
    network.heal()
    network.weather.loss = 0.0
    for host in network.hosts.values():
        if not host.alive:
            host.restart()
    if not network.run(within_ms, until=lambda: converged(network)):
        lines = ["did not converge:"]
        for host in network.hosts.values():
            lines.append(f"{host.name} {format_vector(host.replica.vector)}")
            lines += [f"    {status}" for status in host.mesh.status(host.network.now_ms)]
        pytest.fail("\n".join(lines))
    check_equal_where_vectors_are(network)
    hashes = {host.replica.state_hash() for host in network.hosts.values()}
    assert len(hashes) == 1
    for host in network.hosts.values():
        accused = [
            (kind, peer, text)
            for kind, peer, text in host.notices
            if kind in ("refused", "error") and not (host.forgot and "not admitted" in text)
        ]
        assert not accused, accused


def close(network: Network) -> None:
    for host in network.hosts.values():
        if host.alive:
            host.replica.close()


def bad_day(seed: int) -> None:
    """Five to seven replicas, all shapes; losses, partitions, crashes, skewed clocks."""
    random = Random(seed)
    weather = replace(
        BAD, loss=random.choice((0.0005, 0.002, 0.01)), labour_ms=random.choice((10, 50, 400))
    )
    network = Network(seed, weather)
    names = "abcdefg"[: random.randint(5, 7)]
    for name in names:
        Host(
            network,
            name,
            durability=random.choice(("batched", "commit", "none")),
            skew_ms=random.randint(-25_000, 25_000),
        )
    connect(network, random.choice(("mesh", "star", "line", "both ways")))
    for name in names:
        keep_writing(network.hosts[name], Random(random.getrandbits(64)), 60_000)
    while network.now_ms < 60_000:
        network.run(random.randint(500, 8_000))
        check_equal_where_vectors_are(network)
        match random.choice(("partition", "heal", "one way", "crash", "crash", "restart")):
            case "partition":
                cut = random.randint(1, len(names) - 1)
                shuffled = random.sample(names, len(names))
                network.partition(shuffled[:cut], shuffled[cut:])
            case "heal":
                network.heal()
            case "one way":
                network.blocked.add(tuple(random.sample(names, 2)))  # type: ignore[arg-type]
            case "crash":
                host = network.hosts[random.choice(names)]
                if host.alive:
                    host.crash()
            case "restart":
                for host in network.hosts.values():
                    if not host.alive:
                        host.restart()
    finish(network, seed)
    close(network)


@pytest.mark.parametrize("seed", seeds(SEEDS))
def test_a_bad_day_ends_well(seed: int) -> None:
    run(bad_day, seed, WHERE)


@pytest.mark.soak
@pytest.mark.parametrize("seed", seeds(SOAK_SEEDS))
def test_many_bad_days_end_well(seed: int) -> None:
    run(bad_day, seed, WHERE)


def test_a_restored_backup_is_another_replica_and_gets_everything() -> None:
    network = Network(3, Weather(latency_ms=(5, 30)))
    a, b, c = (Host(network, name) for name in "abc")
    connect(network, "line")
    for host, seed in ((a, 1), (b, 2), (c, 3)):
        keep_writing(host, Random(seed), 20_000)
    network.run(8_000)
    backup = a.storage.copy()
    before = a.replica.id
    network.run(12_000)
    a.crash()
    network.run(3_000)
    a.storage, a.told = backup, {}
    a.restart()
    assert a.replica.id != before
    keep_writing(a, Random(4), 30_000)
    network.run(10_000)
    finish(network, 3)
    assert before in a.replica.vector
    close(network)
