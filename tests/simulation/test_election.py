"""Elections on a simulated network: one fenced leader a term, whatever the weather.

Seeds of one run: MURMUR_SEED=123 pytest tests/simulation/test_election.py
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from murmur.errors import Corruption, ProtocolViolation
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import read_whole
from murmur.sync.election import (
    Ballot,
    BullyElection,
    ElectionTiming,
    Leadership,
    MajorityElection,
)
from murmur.sync.election.ballot import BALLOT_FILE, Vote, check_ballot
from murmur.sync.election.majority import ASK_VOTE, GIVE_VOTE, LEAD
from murmur.sync.service import Remote, Urgency
from murmur.sync.wire import pack, unpack
from tests.simulation.network import GROUP, Host, Network, Weather
from tests.simulation.seeds import run, seeds

SEEDS = seeds(range(12))


class Assembly:
    """Hosts of whom the first `voters` vote; watched at every moment that something happens."""

    def __init__(self, seed: int, hosts: int, voters: int, weather: Weather | None = None) -> None:
        self.network = Network(seed, weather)
        self.leader_of: dict[int, bytes] = {}
        self.changes: dict[str, list[Leadership]] = {}
        self.elections: dict[str, MajorityElection] = {}
        self.voters: set[bytes] = set()
        self.newest_term = 0
        self.hosts = [Host(self.network, f"h{i}", services=self._services) for i in range(hosts)]
        # The ids are known once the hosts are: they begin again, with them configured.
        self.voters = {host.identity.node_id for host in self.hosts[:voters]}
        for host in self.hosts:
            host.crash()
            host.restart()
        for i, host in enumerate(self.hosts):
            for other in self.hosts[:i]:
                host.meet(other)

    def _services(self, host: Host) -> tuple[MajorityElection]:
        changes = self.changes.setdefault(host.name, [])
        ballot = Ballot(host.storage, GROUP)
        election = MajorityElection(self.voters, ballot, on_change=changes.append)
        self.elections[host.name] = election
        return (election,)

    def leaders(self) -> list[Host]:
        """Who holds a lease at this moment; at most one does, and none twice in a term."""
        now_ms = self.network.now_ms
        found = [h for h in self.hosts if h.alive and self.elections[h.name].leads(now_ms)]
        assert len(found) <= 1, f"two leaders at {now_ms} ms"
        for host in found:
            term = self.elections[host.name].token(now_ms)
            assert term is not None
            assert self.leader_of.setdefault(term, host.identity.node_id) == host.identity.node_id
            assert term >= self.newest_term, "an older term leads again"
            self.newest_term = term
        return found

    def run(self, duration_ms: int) -> None:
        """Let time pass, and look all the time."""
        deadline = self.network.now_ms + duration_ms
        while self.network.now_ms < deadline:
            self.network.run(37)
            self.leaders()
            self.network.now_ms = max(self.network.now_ms, 1)

    def agree(self) -> bool:
        """Whether all that are alive follow the one leader."""
        leaders = self.leaders()
        if not leaders:
            return False
        expected = leaders[0].identity.node_id
        alive = [self.elections[h.name].leadership for h in self.hosts if h.alive]
        return all(each.leader == expected for each in alive) and len({e.term for e in alive}) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_one_fenced_leader_whatever_happens(seed: int) -> None:
    random = Random(seed)
    hosts = random.choice([3, 4, 5])
    weather = Weather(latency_ms=(1, 80), loss=0.002)
    met = Assembly(seed, hosts, random.randint(3, hosts), weather)
    for _ in range(8):
        event = random.random()
        victim = random.choice(met.hosts)
        if event < 0.4:
            if victim.alive:
                victim.crash()
            else:
                victim.restart()
        elif event < 0.8:
            other = random.choice(met.hosts)
            met.network.blocked ^= {(victim.name, other.name)}  # one way
            if random.random() < 0.5:
                met.network.blocked ^= {(other.name, victim.name)}
        met.run(random.randint(200, 9_000))
    met.network.blocked.clear()
    met.network.weather.loss = 0
    for host in met.hosts:
        if not host.alive:
            host.restart()
    for _ in range(120):
        met.run(1_000)
        if met.agree():
            break
    else:
        raise AssertionError(f"seed {seed}: no leader although all is well")
    assert met.network.now_ms > 0
    assert met.leader_of


def test_a_leader_stays_while_all_is_well() -> None:
    met = Assembly(1, 5, 5)
    met.run(20_000)
    assert met.agree()
    (leader,) = met.leaders()
    term = met.newest_term
    met.run(60_000)
    assert met.leaders() == [leader]
    assert met.newest_term == term


def test_a_node_that_comes_back_does_not_depose_the_leader() -> None:
    met = Assembly(2, 5, 5)
    met.run(20_000)
    (leader,) = met.leaders()
    term = met.newest_term
    away = next(host for host in met.hosts if host is not leader)
    cut = {(away.name, h.name) for h in met.hosts} | {(h.name, away.name) for h in met.hosts}
    met.network.blocked |= cut
    met.run(60_000)
    met.network.blocked -= cut
    met.run(120_000)
    assert met.agree()
    assert met.leaders() == [leader]
    assert met.newest_term == term


def test_a_minority_has_no_leader_and_the_majority_a_new_one() -> None:
    met = Assembly(3, 5, 5)
    met.run(20_000)
    (leader,) = met.leaders()
    friend = next(host for host in met.hosts if host is not leader)
    few = {leader.name, friend.name}
    many = {host.name for host in met.hosts} - few
    met.network.blocked |= {(a, b) for a in few for b in many} | {(b, a) for a in few for b in many}
    met.run(20_000)
    (successor,) = met.leaders()
    assert successor.name in many
    assert met.elections[leader.name].leadership.leader is None
    assert met.elections[leader.name].token(met.network.now_ms) is None
    assert met.changes[leader.name][-1].leader is None


def test_who_does_not_vote_follows_even_at_second_hand() -> None:
    met = Assembly(4, 4, 3)
    observer = met.hosts[3]
    met.run(20_000)
    assert met.agree()
    (leader,) = met.leaders()
    pair = {(observer.name, leader.name), (leader.name, observer.name)}
    met.network.blocked |= pair
    met.run(90_000)
    assert met.leaders() == [leader]
    assert met.elections[observer.name].leadership.leader == leader.identity.node_id
    leader.crash()
    met.run(15_000)
    assert met.leaders()[0] is not leader
    assert met.agree()


def test_one_voter_elects_itself() -> None:
    met = Assembly(5, 2, 1)
    met.run(10_000)
    assert met.leaders() == [met.hosts[0]]
    assert met.agree()


def test_other_voters_configured_give_no_vote_and_are_named() -> None:
    met = Assembly(6, 3, 3)
    stranger = met.hosts[2]
    stranger.crash()
    met.voters = {host.identity.node_id for host in met.hosts[1:]}
    stranger.restart()
    met.run(30_000)
    leaders = met.leaders()
    assert leaders
    assert leaders[0] is not stranger
    told = [text for kind, _, text in stranger.notices if kind == "error"]
    assert any("other voters" in text for text in told)


def test_a_vote_is_durable_when_it_was_cast_and_groups_are_apart() -> None:
    storage = MemoryStorage()
    ballot = Ballot(storage, GROUP)
    ballot.cast(Vote(7, b"c" * 32))
    assert Ballot(storage.crash(None), GROUP).last == Vote(7, b"c" * 32)
    assert Ballot(storage, "another").last == Vote()
    Ballot(storage, "another").cast(Vote(2))
    assert Ballot(storage, GROUP).last == Vote(7, b"c" * 32)
    assert not list(check_ballot(storage))


def test_a_damaged_ballot_is_an_error_and_not_a_new_vote() -> None:
    storage = MemoryStorage()
    Ballot(storage, GROUP).cast(Vote(7, b"c" * 32))
    content = bytearray(read_whole(storage, BALLOT_FILE))
    content[-20] ^= 1
    storage.corrupt(BALLOT_FILE, bytes(content))
    assert list(check_ballot(storage))
    with pytest.raises(Corruption, match=BALLOT_FILE):
        Ballot(storage, GROUP)


def test_who_cannot_write_its_ballot_gives_no_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    met = Assembly(9, 3, 3)

    def full(ballot: Ballot, vote: Vote) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Ballot, "cast", full)
    met.run(30_000)
    assert not met.leaders()
    assert any("no vote given" in text for h in met.hosts for _, _, text in h.notices)
    monkeypatch.undo()
    met.run(30_000)
    assert met.agree()


@pytest.mark.soak
@pytest.mark.parametrize("block", range(20))
def test_many_seeds(block: int) -> None:
    where = "tests/simulation/test_election.py -k"
    for seed in range(1_000 + 100 * block, 1_100 + 100 * block):
        run(test_one_fenced_leader_whatever_happens, seed, f"{where} one_fenced_leader")
        run(test_bully_finds_the_highest_of_those_in_reach, seed, f"{where} bully_finds")


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(ASK_VOTE, b"\x90"), (ASK_VOTE, b"\x93\xc4\x00\xff\xc2"), (LEAD, b"\x93\x01\x01\x01")],
)
def test_what_makes_no_sense_is_a_violation(kind: int, payload: bytes) -> None:
    met = Assembly(8, 2, 2)
    met.run(3_000)
    (remote,) = met.hosts[0].mesh.fabric.remotes()
    with pytest.raises(ProtocolViolation):
        met.elections["h0"].received(remote, kind, payload, met.network.now_ms)
    met.hosts[0].mesh.fabric.say(remote.node_id, kind, payload, Urgency.CONTROL)
    met.hosts[0].wake()
    met.run(300)
    assert any(kind == "refused" for kind, _, _ in met.hosts[1].notices)


@pytest.mark.parametrize("seed", SEEDS)
def test_bully_finds_the_highest_of_those_in_reach(seed: int) -> None:
    network = Network(seed, Weather(latency_ms=(1, 60)))
    elections: dict[str, BullyElection] = {}

    def services(host: Host) -> tuple[BullyElection]:
        elections[host.name] = BullyElection()
        return (elections[host.name],)

    hosts = [Host(network, f"h{i}", services=services) for i in range(4)]
    for i, host in enumerate(hosts):
        for other in hosts[:i]:
            host.meet(other)
    order = sorted(hosts, key=lambda host: host.identity.node_id)

    def settled(those: list[Host]) -> bool:
        highest = max(host.identity.node_id for host in those)
        return all(elections[host.name].leadership.leader == highest for host in those)

    assert network.run(60_000, lambda: settled(order))
    order[-1].crash()
    assert network.run(60_000, lambda: settled(order[:-1]))
    order[-1].restart()
    assert network.run(90_000, lambda: settled(order))
    low, high = order[:2], order[2:]
    network.blocked |= {(a.name, b.name) for a in low for b in high}
    network.blocked |= {(b.name, a.name) for a in low for b in high}
    assert network.run(90_000, lambda: settled(low) and settled(high))
    network.blocked.clear()
    assert network.run(200_000, lambda: settled(order))
    leading = [h for h in hosts if elections[h.name].leads(network.now_ms)]
    assert leading == [order[-1]]
    assert all(election.token(network.now_ms) is None for election in elections.values())


class Alone:
    """A fabric for one election by itself: what it says is written down."""

    def __init__(self, node_id: bytes) -> None:
        self.node_id = node_id
        self.random = Random(1)
        self.said: list[tuple[bytes, int, list[object]]] = []
        self.labour = self

    def submit(self, lane: str, work: Any, done: Any) -> None:
        done(work(), None, 0)

    def say(self, node_id: bytes, kind: int, payload: bytes, urgency: Urgency) -> bool:
        self.said.append((node_id, kind, unpack(payload)))
        return True

    def remotes(self) -> list[Remote]:
        return []


def test_who_has_just_started_may_have_promised_and_gives_no_vote() -> None:
    me, you, other = b"a" * 32, b"b" * 32, b"c" * 32
    fabric = Alone(me)
    election = MajorityElection({me, you, other}, Ballot(MemoryStorage(), GROUP))
    election.start(fabric, 1_000)  # type: ignore[arg-type]
    remote = Remote(you, b"r" * 8, b"i" * 8, 0, "", None, frozenset())
    asks = pack([election._digest, 5, False])
    timeout_ms = ElectionTiming().timeout_ms
    election.received(remote, ASK_VOTE, asks, 1_000 + timeout_ms - 1)
    assert fabric.said.pop() == (you, GIVE_VOTE, [0, False, False])
    election.received(remote, ASK_VOTE, asks, 1_000 + timeout_ms)
    assert fabric.said.pop() == (you, GIVE_VOTE, [5, False, True])
