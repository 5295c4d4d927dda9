"""Snapshots between simulated replicas: new ones, cut ones, long-lost ones, several sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from murmur.kvcore.record import PUT, Operation
from murmur.kvcore.replica import Replica
from murmur.sync.bootstrap import TRIM_MS, Bootstrap, LogPolicy
from murmur.sync.bootstrap_need import LEAST_NEED_BYTES
from murmur.sync.bootstrap_sources import Stage
from murmur.sync.service import Service
from tests.simulation.network import Host, Network, Weather
from tests.simulation.seeds import run, seeds

DAY_MS = 86_400_000


class Group:
    """Hosts with the service, and what they have written."""

    def __init__(
        self,
        seed: int = 1,
        policy: LogPolicy | None = None,
        weather: Weather | None = None,
        least_need_bytes: int = LEAST_NEED_BYTES,
    ) -> None:
        self.network = Network(seed, weather)
        self.policy = policy or LogPolicy(log_bytes=0)
        self.least_need_bytes = least_need_bytes
        self.services: dict[str, Bootstrap] = {}
        self.random = Random(seed)

    def host(self, name: str, *meeting: Host, skew_ms: int = 0) -> Host:
        host = Host(self.network, name, services=self._services, skew_ms=skew_ms)
        for other in meeting:
            host.meet(other)
        return host

    def _services(self, host: Host) -> Sequence[Service]:
        service = self.services[host.name] = Bootstrap(
            host.replica,
            host.storage,
            members=lambda: list(host.roster.members),
            policy=self.policy,
            least_need_bytes=self.least_need_bytes,
        )
        return (service,)

    def write(self, host: Host, count: int, size: int = 100, keys: int = 200) -> None:
        for _ in range(count):
            key = b"\x01%05d" % self.random.randrange(keys)
            value = self.random.randbytes(size)
            host.replica.write([Operation(PUT, key, value)])
        host.replica.sync()

    def run(self, minutes: float, until: Callable[[], bool] | None = None) -> bool:
        return self.network.run(int(minutes * 60_000), until)

    def settle(self, *hosts: Host) -> None:
        agreed = self.run(5, lambda: len({vector_of(host) for host in hosts}) == 1)
        assert agreed, [host.replica.vector for host in hosts]
        assert len({host.replica.state_hash() for host in hosts}) == 1
        for host in hosts:
            assert list(host.replica.check()) == []
            refusals = [text for kind, _, text in host.notices if kind == "refused"]
            # Who died early may have forgotten whom it had met.
            assert not [text for text in refusals if "not admitted" not in text]

    def trim(self, *hosts: Host) -> None:
        """Let everybody write its tree, and the logs lose what they may."""
        for host in hosts:
            host.replica.flush()
        self.run(2 * TRIM_MS / 60_000)
        for host in hosts:
            assert host.replica.floor, host.name


def vector_of(host: Host) -> frozenset[tuple[bytes, int]]:
    return frozenset((replica, seq) for replica, seq in host.replica.vector.items() if seq)


def small_segments(monkeypatch: pytest.MonkeyPatch, chunk_bytes: int = 4_000) -> None:
    """Make logs that can be trimmed, and snapshots of many chunks, of little data."""
    opened = Replica.open

    def open_(*args: object, **options: object) -> Replica:
        return opened(*args, **{"segment_bytes": 4_000, **options})  # type: ignore[arg-type]

    monkeypatch.setattr(Replica, "open", open_)
    monkeypatch.setattr("murmur.kvcore.export.CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr("murmur.kvcore.export.LEAST_CHUNK_BYTES", chunk_bytes // 4)
    monkeypatch.setattr("murmur.kvcore.export.MOST_CHUNK_BYTES", chunk_bytes * 4)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_segments(monkeypatch)


@pytest.mark.parametrize("seed", range(4))
def test_a_new_replica_joins_a_group_that_has_trimmed(seed: int) -> None:
    group = Group(seed)
    a = group.host("a")
    b = group.host("b", a)
    group.write(a, 150)
    group.write(b, 150)
    group.settle(a, b)
    group.trim(a, b)
    c = group.host("c", a)
    group.write(c, 5)
    group.write(a, 5)
    group.settle(a, b, c)
    assert group.services["c"].status().joined == 1
    notices = [text for kind, _, text in c.notices if kind == "bootstrap"]
    assert "no longer in its log" in notices[0]
    assert notices[-1] == "the snapshot was joined"
    assert len(notices) > 4  # how far it has come
    group.write(c, 5)
    group.write(b, 5)
    group.settle(a, b, c)
    assert group.services["c"].status().joined == 1


def test_nothing_is_trimmed_that_a_member_lacks() -> None:
    group = Group()
    a = group.host("a")
    b = group.host("b", a)
    group.write(a, 50)
    group.settle(a, b)
    group.network.partition(["a"], ["b"])
    group.write(a, 200)
    before = dict(b.replica.vector)
    a.replica.flush()
    group.run(3)
    assert all(seq <= before.get(replica, 0) for replica, seq in a.replica.floor.items())
    group.network.heal()
    group.settle(a, b)
    assert group.services["b"].status().joined == 0
    group.trim(a)


def test_a_peer_that_cannot_take_snapshots_is_named() -> None:
    group = Group()
    a = group.host("a")
    group.write(a, 200)
    a.replica.flush()
    group.trim(a)
    old = Host(group.network, "old")  # a release without the service
    old.meet(a)
    assert group.run(1, lambda: any("cannot take snapshots" in text for _, _, text in a.notices))
    group.write(a, 5)
    group.write(old, 5)
    group.run(1)
    assert old.replica.vector == {old.replica.id: 5}  # no gap
    assert a.replica.vector[old.replica.id] == 5


def test_the_log_behind_a_snapshot_stays_while_somebody_may_fetch_it() -> None:
    group = Group()
    a = group.host("a")
    group.write(a, 200)
    a.replica.flush()
    group.trim(a)
    c = group.host("c", a)
    group.settle(a, c)
    before = a.replica.floor
    group.write(a, 200)
    group.settle(a, c)
    a.replica.flush()
    group.run(3)
    assert a.replica.floor is before
    group.run(15)
    assert a.replica.floor != before


def test_what_members_acknowledged_outlives_a_restart() -> None:
    group = Group()
    a = group.host("a")
    b = group.host("b", a)
    group.write(a, 50)
    group.settle(a, b)
    group.run(3)
    b.crash()
    group.write(a, 200)
    a.replica.flush()
    a.crash()
    a.restart()
    a.replica.flush()
    group.run(5)
    b.restart()
    group.settle(a, b)
    assert group.services["b"].status().joined == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_in_the_middle_costs_only_what_was_under_way(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_segments(monkeypatch, 2_000)
    group = Group(seed)
    a = group.host("a")
    group.write(a, 600, keys=2000)
    a.replica.flush()
    group.trim(a)
    c = group.host("c", a)

    def status() -> tuple[int, int]:
        found = group.services["c"].status()
        return found.chunks_held, found.chunks

    assert group.run(2, lambda: 0 < status()[0] > status()[1] // 2)
    held, count = status()
    assert count > 20
    c.crash()
    c.restart()
    served: list[bytes] = []
    serving = group.services["a"]._serving
    wanted = serving.wanted

    def count_wanted(remote: object, digest: bytes, now_ms: int) -> None:
        served.append(digest)
        wanted(remote, digest, now_ms)  # type: ignore[arg-type]

    monkeypatch.setattr(serving, "wanted", count_wanted)
    group.settle(a, c)
    assert group.services["c"].status().joined == 1
    assert len(served) <= count - held + 4


@pytest.mark.parametrize("seed", range(3))
def test_chunks_come_from_several_peers(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small_segments(monkeypatch, 2_000)
    group = Group(seed)
    a = group.host("a")
    b = group.host("b", a)
    group.write(a, 600, keys=2000)
    group.settle(a, b)
    group.trim(a, b)
    asked = {"a": 0, "b": 0}
    for name in asked:
        serving = group.services[name]._serving
        wanted = serving.wanted

        def count(
            remote: object, digest: bytes, now_ms: int, name: str = name, wanted=wanted
        ) -> None:
            asked[name] += 1
            wanted(remote, digest, now_ms)

        monkeypatch.setattr(serving, "wanted", count)
    c = group.host("c", a, b)
    assert group.run(2, lambda: group.services["c"].status().chunks_held > 5)
    if seed:  # one of them dies
        a.crash()
        group.settle(b, c)
        a.restart()
    group.settle(a, b, c)
    assert group.services["c"].status().joined == 1
    assert min(asked.values()) > 2


def test_two_halves_that_expired_each_other_join() -> None:
    group = Group(3)
    a = group.host("a")
    b = group.host("b", a)
    c = group.host("c", a, b)
    d = group.host("d", a, b, c)
    group.write(a, 60)
    group.settle(a, b, c, d)
    group.network.partition(["a", "b"], ["c", "d"])
    group.run(3)
    group.write(a, 100)
    group.write(c, 100)
    for host in (a, b, c, d):  # a month goes by, of which the simulation need not see all
        host.clock.skew_ms += 31 * DAY_MS
    group.run(2)
    group.trim(a, b, c, d)
    assert [text for kind, _, text in a.notices if kind == "expired"]
    group.write(b, 20)
    group.write(d, 20)
    group.run(1)
    assert a.replica.id not in {r for r, seq in c.replica.vector.items() if seq > 60}
    written = {**a.replica.vector, **c.replica.vector}
    assert len(written) == 4
    group.network.heal()
    group.settle(a, b, c, d)
    assert {r for r, seq in a.replica.vector.items() if seq} == set(written)
    assert a.replica.vector[b.replica.id] == 20
    assert a.replica.vector[d.replica.id] == 20


def test_a_long_log_is_not_sent_where_the_state_is_small() -> None:
    group = Group(policy=LogPolicy(log_bytes=1 << 40), least_need_bytes=20_000)
    a = group.host("a")
    group.write(a, 600, size=8_000, keys=5)
    a.replica.flush()
    c = group.host("c", a)
    group.settle(a, c)
    assert group.services["c"].status().joined == 1
    assert not a.replica.floor
    assert c.replica.log.end < a.replica.log.end * 3 // 4
    assert not group.services["a"]._holding  # and it goes on with the log


def test_a_snapshot_from_ahead_of_the_clock_waits() -> None:
    group = Group()
    a = group.host("a", skew_ms=420_000)
    group.write(a, 300)
    a.replica.flush()
    group.trim(a)
    c = group.host("c", a)
    assert group.run(2, lambda: group.services["c"].status().last_error is not None)
    assert "ahead" in (group.services["c"].status().last_error or "")
    assert sum(c.replica.vector.values()) == 0
    group.run(5)
    group.settle(a, c)


@pytest.mark.parametrize("seed", seeds(range(6)))
def test_it_comes_through_bad_weather(seed: int) -> None:
    weather = Weather(loss=0.004, late=0.2, shuffle=0.2, labour_ms=30)
    group = Group(seed, weather=weather)
    a = group.host("a")
    b = group.host("b", a)
    group.write(a, 150)
    group.write(b, 150)
    group.run(2)
    for host in (a, b):
        host.replica.flush()
    group.run(3)
    c = group.host("c", a, b)
    group.write(c, 20)
    for _ in range(6):
        victim = group.random.choice((a, b, c))
        group.run(group.random.random() / 10)
        victim.crash()
        group.run(group.random.random() / 10)
        victim.restart()
        group.write(group.random.choice((a, b, c)), 5)
    group.network.weather.loss = 0
    group.settle(a, b, c)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_it_comes_through_bad_weather_at_length() -> None:
    where = 'tests/simulation/test_bootstrap.py -k "bad_weather and not length"'
    for seed in range(100, 400):
        run(test_it_comes_through_bad_weather, seed, where)


def test_a_lying_source_is_held_to_it() -> None:
    group = Group()
    a = group.host("a")
    group.write(a, 300)
    a.replica.flush()
    group.trim(a)
    export = a.replica.export

    def lie(*args: object) -> object:
        made = export()
        made.chunk = lambda index: b"\0" * made.manifest.chunks[index].size  # type: ignore
        return made

    a.replica.export = lie  # type: ignore[method-assign,assignment]
    c = group.host("c", a)
    assert group.run(2, lambda: any(kind == "refused" for kind, _, _ in c.notices))
    assert "not what its manifest names" in str(c.notices)
    assert c.replica.vector == {}
    assert group.services["c"]._fetching.stage in (Stage.IDLE, Stage.RESTING)
