"""Everything goes wrong at once, replayed from a seed: disks, clocks, backups, other releases.

    MURMUR_SEED=17 python -m pytest tests/simulation/test_faults.py -k a_worse_day

Beside what test_convergence.py does: disks are full for a while, clocks jump, backups are restored,
some hosts speak an older protocol and some a later one, which says more than this one knows.
Whatever happens:

    1. Replicas with equal vectors have equal states (verified by fingerprints, too).
    2. In the end all hold everything that any of them had acknowledged as durable, but for what was
       written after the backup that its author came back from.
    3. The log of every replica is gapless and gives the state that the tree holds.
    4. Queues and buffers stay within their bounds.
    5. Nobody is refused, quarantined or accused, and no letter is dead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from murmur.errors import Conflict
from murmur.kvcore.parking import WAITING_BYTES
from murmur.sync import messages as m
from murmur.sync import wire
from murmur.sync.flow import WINDOW_BYTES
from murmur.sync.peer import QUEUE_BYTES, Event, PeerSession
from murmur.sync.pull import Pull
from murmur.sync.push import Push
from murmur.sync.service import Remote, Service, Urgency
from murmur.sync.verify import Verdict, Verifier
from tests.simulation.network import Host, Network, Weather
from tests.simulation.seeds import run, seeds
from tests.simulation.test_convergence import (
    check_equal_where_vectors_are,
    close,
    connect,
    finish,
    write_something,
)

WHERE = "tests/simulation/test_faults.py -k a_worse_day"
SEEDS = range(6)
SOAK_SEEDS = range(10_000, 12_000)
DAY_MS = 25_000
SKEW_MS = 25_000  # of two clocks at most twice that: below what is parked

later_identities: set[bytes] = set()
older_identities: set[bytes] = set()
_POSITIONAL = (m.Ack, m.Links, m.Ping, m.Pong, m.Resend, m.Bye, m.Hello)


class Longer:
    """A message with more elements than this release knows."""

    def __init__(self, message: Any) -> None:
        self.TYPE = message.TYPE
        self._payload = wire.pack([*wire.unpack(message.payload()), "later", {b"more": [1, None]}])

    def payload(self) -> bytes:
        return self._payload


class OtherRelease(PeerSession):
    """A session of a later release, or of one before services, classes and compression."""

    def admit(self, hello: m.Hello, now_ms: int) -> list[Event]:
        if self._identity.node_id in older_identities:
            hello = replace(hello, features=0)
        return super().admit(hello, now_ms)

    def _send(self, message: Any) -> None:
        node_id = self._identity.node_id
        if node_id in later_identities:
            if self.state.value == "open" and isinstance(message, m.Ack):
                self.say(250, b"\xc1 what no release has said yet", Urgency.CONTROL)
            if isinstance(message, _POSITIONAL):
                message = Longer(message)
        super()._send(message)


@pytest.fixture(autouse=True)
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("murmur.sync.mesh.PeerSession", OtherRelease)
    yield
    later_identities.clear()
    older_identities.clear()


class Day:
    """One run: the hosts, what they acknowledged, and the faults that fit their state."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        loss = self.random.choice((0.0005, 0.002, 0.01))
        weather = Weather((1, 120), loss, late=0.1, shuffle=0.2, labour_ms=50)
        self.net = Network(seed, weather)
        self.acked: dict[bytes, int] = {}
        self.verifiers: dict[str, Verifier] = {}
        self.backups: dict[str, tuple[Any, dict[bytes, int]]] = {}
        older: set[str] = set()
        names = "abcdef"[: self.random.randint(3, 6)]
        for name in names:
            kind = self.random.choice(("older", "later", "same", "same"))
            if kind == "older":
                older.add(name)
            host = Host(
                self.net,
                name,
                durability=self.random.choice(("batched", "commit")),
                skew_ms=self.random.randint(-SKEW_MS, SKEW_MS),
                services=lambda host: () if host.name in older else self.services(host),
            )
            node_id = host.identity.node_id
            {"older": older_identities, "later": later_identities}.get(kind, set()).add(node_id)
        connect(self.net, self.random.choice(("mesh", "star", "line", "both ways")))
        for name in names:
            self.keep_writing(self.net.hosts[name], Random(self.random.getrandbits(64)))

    def services(self, host: Host) -> Sequence[Service]:
        self.verifiers[host.name] = Verifier(interval_ms=0)
        return Push(), Pull(), self.verifiers[host.name]

    def keep_writing(self, host: Host, random: Random) -> None:
        def write() -> None:
            if self.net.now_ms >= DAY_MS:
                return
            if host.alive:
                with suppress(Conflict, OSError):  # OSError: the disk is full
                    write_something(host, random)
            self.net.at(random.randint(20, 500), write)

        self.net.at(random.randint(0, 300), write)

    def note(self) -> None:
        """What is durable now was acknowledged, or may have been."""
        for host in self.net.hosts.values():
            if host.alive:
                for replica, seq in host.replica.durable_vector.items():
                    self.acked[replica] = max(seq, self.acked.get(replica, 0))

    def fault(self) -> None:
        names = list(self.net.hosts)
        host = self.net.hosts[self.random.choice(names)]
        match self.random.choice(
            ("partition", "heal", "one way", "crash", "restart", "full", "room", "clock", "backup")
        ):
            case "partition":
                cut = self.random.randint(1, len(names) - 1)
                shuffled = self.random.sample(names, len(names))
                self.net.partition(shuffled[:cut], shuffled[cut:])
            case "heal":
                self.net.heal()
            case "one way":
                self.net.blocked.add(tuple(self.random.sample(names, 2)))  # type: ignore[arg-type]
            case "crash":
                if host.alive:
                    self.note()
                    host.crash()
            case "restart":
                self.restart()
            case "full":
                host.storage.limit(0)
            case "room":
                for each in self.net.hosts.values():
                    each.storage.limit(None)
            case "clock":
                host.clock.skew_ms = self.random.randint(-SKEW_MS, SKEW_MS)
            case "backup":
                self.back_up_or_restore(host)

    def back_up_or_restore(self, host: Host) -> None:
        if not host.alive:
            return
        saved = self.backups.pop(host.name, None)
        if saved is None:
            self.backups[host.name] = (host.storage.copy(), dict(host.replica.vector))
            return
        self.note()
        storage, vector = saved
        author = host.replica.id
        host.crash()
        host.storage, host.told = storage, {}
        host.storage.limit(None)
        # What it wrote since may have reached nobody: that is what restoring a backup costs.
        self.acked[author] = vector.get(author, 0)
        host.restart()
        assert host.replica.id != author

    def restart(self) -> None:
        for each in self.net.hosts.values():
            if not each.alive:
                each.storage.limit(None)
                each.restart()

    def check_bounds(self) -> None:
        for host in self.net.hosts.values():
            if host.alive:
                assert host.replica._incoming._waiting.bytes <= WAITING_BYTES
                assert len(host.mesh._conversations) <= 4 * len(self.net.hosts)
                for contact in host.mesh.company.contacts.values():
                    if contact.open is not None and contact.open.exchange is not None:
                        flow, session = contact.open.exchange, contact.open.session
                        assert session._outflow.queued_bytes <= QUEUE_BYTES + (1 << 20)
                        assert sum(part.size for part in flow.inbox) <= WINDOW_BYTES

    def verify_somebody(self) -> None:
        for _ in range(5):  # a connection may be given up for a better one meanwhile
            able = [
                (host, c) for host in self.net.hosts.values() for c in host.mesh.fabric.remotes()
            ]
            able = [(host, c) for host, c in able if c.features & Verifier.features]
            if not able:
                return
            verdict = self.verify(*self.random.choice(able))
            if verdict is not None:
                assert verdict.state == "equal", verdict
                return
        pytest.fail("no comparison came to an end")

    def verify(self, host: Host, remote: Remote) -> Verdict | None:
        found: list[Verdict | None] = []
        now = self.net.now_ms
        self.verifiers[host.name].verify(
            remote.node_id, now + 5_000, lambda verdict, _: found.append(verdict), now
        )
        host.wake()
        self.net.run(30_000, until=lambda: bool(found))
        return found[0] if found else None


def worse_day(seed: int) -> None:
    day = Day(seed)
    while day.net.now_ms < DAY_MS:
        day.net.run(day.random.randint(300, 4_000))
        day.check_bounds()
        check_equal_where_vectors_are(day.net)
        day.note()
        day.fault()
    for host in day.net.hosts.values():
        host.storage.limit(None)
    day.restart()
    disks = [n for host in day.net.hosts.values() for n in host.notices if "No space" in n[2]]
    for host in day.net.hosts.values():
        host.notices = [notice for notice in host.notices if notice not in disks]
    finish(day.net, seed)
    day.check_bounds()
    for host in day.net.hosts.values():
        missing = {r: s for r, s in day.acked.items() if host.replica.vector.get(r, 0) < s}
        assert not missing, f"{host.name} lacks what was acknowledged: {missing}"
        assert host.replica.dead_letters() == []
        assert not [notice for notice in host.notices if notice[0] in ("quarantined", "diverged")]
    first, *_ = day.net.hosts.values()
    assert list(first.replica.check()) == []
    day.verify_somebody()
    close(day.net)


@pytest.mark.parametrize("seed", seeds(SEEDS))
def test_a_worse_day_ends_well(seed: int) -> None:
    run(worse_day, seed, WHERE)


@pytest.mark.soak
@pytest.mark.parametrize("seed", seeds(SOAK_SEEDS))
def test_many_worse_days_end_well(seed: int) -> None:
    run(worse_day, seed, WHERE)
