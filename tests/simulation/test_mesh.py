"""What meshes do to each other, on a virtual clock: dials, ties, refusals, reconnection, load."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from murmur.errors import Closed, InvalidInput, PeerError
from murmur.sync.contact import Wait
from murmur.sync.dialer import DIAL_MS, STAGGER_MS
from murmur.sync.identity import Identity
from murmur.sync.peer import Timing
from murmur.sync.roster import Member
from murmur.sync.status import PeerInfo
from murmur.sync.ticket import Ticket
from murmur.sync.transport import Down
from tests.simulation.network import Host, Network, Weather

CALM = Weather(latency_ms=(5, 15))


def network(seed: int = 1, **weather: object) -> Network:
    return Network(seed, replace(CALM, **weather))


def put(host: Host, key: bytes, value: bytes = b"v") -> None:
    with host.replica.begin() as tx:
        tx.put(b"\x01" + key, value)


def value_at(host: Host, key: bytes) -> bytes | None:
    return host.replica.get(b"\x01" + key)


def open_links(host: Host) -> list[str]:
    return [info.node_id for info in host.mesh.company.connected()]


def kinds(host: Host) -> list[str]:
    return [kind for kind, _, _ in host.notices]


class Answer:
    def __init__(self) -> None:
        self.info: PeerInfo | None = None
        self.error: BaseException | None = None

    def __call__(self, info: PeerInfo | None, error: BaseException | None) -> None:
        self.info, self.error = info, error


def connect(host: Host, ticket: Ticket) -> Answer:
    answer = Answer()
    host.mesh.connect(ticket, answer, host.network.now_ms)
    host.wake()
    return answer


def test_two_meet_and_exchange() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    put(a, b"from a")
    answer = connect(b, a.ticket())
    net.run(1000)
    assert answer.info is not None
    assert answer.info.replica_id == a.replica.id.hex()
    put(b, b"from b")
    net.run(1000)
    assert a.replica.state_hash() == b.replica.state_hash()
    assert value_at(a, b"from b") == value_at(b, b"from b") is not None


def test_nothing_is_sent_back_to_where_it_came_from() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    for i in range(200):
        put(a, b"%d" % i, bytes(500))
    connect(b, a.ticket())
    net.run(2000)
    (status,) = a.mesh.status(a.network.now_ms)
    assert status.records_out == 200
    assert status.bytes_in < 2000


@pytest.mark.parametrize("seed", range(30))
def test_of_two_dials_at_once_both_keep_the_same(seed: int) -> None:
    net = network(seed, latency_ms=(1, 200))
    a, b = Host(net, "a"), Host(net, "b")
    connect(a, b.ticket())
    connect(b, a.ticket())
    net.run(3000)
    assert len(open_links(a)) == len(open_links(b)) == 1
    (mine,), (theirs,) = (
        a.mesh.status(a.network.now_ms),
        b.mesh.status(b.network.now_ms),
    )
    assert mine.dialed != theirs.dialed
    before = kinds(a).count("disconnected") + kinds(b).count("disconnected")
    net.run(60_000)
    after = kinds(a).count("disconnected") + kinds(b).count("disconnected")
    assert before == after, "the link that stays is stable"


def test_a_damaged_way_of_being_asked() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    own = connect(a, a.ticket())
    assert isinstance(own.error, InvalidInput)
    other = connect(a, replace(b.ticket(), group="other"))
    assert isinstance(other.error, PeerError)
    assert "'other'" in str(other.error)


def test_a_stranger_without_an_invite_is_refused_and_forgotten() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    answer = connect(b, replace(a.ticket(), invite=None))
    net.run(2000)
    assert isinstance(answer.error, PeerError)
    assert "not admitted" in str(answer.error)
    assert not b.mesh.company.contacts
    assert "refused" in kinds(a)
    assert b.identity.node_id not in a.roster.members


def test_a_member_needs_no_invite_any_more() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    connect(b, a.ticket())
    net.run(1000)
    b.mesh.close("bye")
    b.crash()
    b.restart()
    del b.mesh.company.contacts[a.identity.node_id]
    answer = connect(b, replace(a.ticket(), invite=None))
    net.run(5000)
    assert answer.info is not None


def test_whom_we_dial_may_dial_us() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    b.roster.admit(Member(a.identity.node_id))
    connect(a, replace(b.ticket(), addresses=("10.9.9.9:1",)))
    answer = connect(b, replace(a.ticket(), invite=None))
    net.run(2000)
    assert answer.info is not None


def test_an_acceptor_of_another_group_is_left() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    a.mesh._group = "other"
    answer = connect(b, a.ticket())
    net.run(2000)
    assert isinstance(answer.error, PeerError)
    assert "another group" in str(answer.error)
    assert not open_links(a)


def test_another_node_at_the_address_is_not_the_peer() -> None:
    net = network()
    a, b, c = Host(net, "a"), Host(net, "b"), Host(net, "c")
    answer = connect(b, replace(a.ticket(), addresses=(c.address,)))
    net.run(3000)
    assert answer.info is None
    assert "another node answers at 10.0.0.3:7000" in (
        b.mesh.status(net.now_ms)[0].last_error or ""
    )


def test_all_addresses_are_tried_before_waiting() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    ticket = replace(a.ticket(), addresses=("10.9.9.9:1", "10.9.9.8:1", a.address))
    answer = connect(b, ticket)
    net.run(2 * STAGGER_MS + 1000)  # an address that is silent holds up the next one but little
    assert answer.info is not None
    net.run(2 * DIAL_MS)
    assert len(b.mesh._conversations) == 1
    assert b.mesh.company.connected()


def test_of_two_addresses_that_answer_the_slower_link_is_let_go() -> None:
    net = Network(3, Weather(latency_ms=(400, 450)))
    a, b = Host(net, "a"), Host(net, "b")
    answer = connect(b, replace(a.ticket(), addresses=(a.address, a.address + "0", a.address)))
    dialed = [link for link in b.transport.links if link.dialed]  # type: ignore[union-attr]
    assert len(dialed) == 1
    net.run(STAGGER_MS + 10)
    assert len(b.mesh._conversations) == 2
    net.run(5_000)
    assert answer.info is not None
    assert len(b.mesh._conversations) == len(a.mesh._conversations) == 1


def test_giving_up_forgets_the_peer() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    answer = connect(b, replace(a.ticket(), addresses=("10.9.9.9:1",)))
    net.run(DIAL_MS + 1000)
    reason = b.mesh.forget_answer(a.identity.node_id, answer)
    assert "no answer from 10.9.9.9:1" in reason
    assert not b.mesh.company.contacts
    net.run(100_000)
    assert b.mesh.next_timer_ms(net.now_ms) is None


def test_a_lost_peer_is_dialed_until_it_is_back() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    connect(b, a.ticket())
    net.run(1000)
    a.crash()
    net.run(120_000)
    assert not open_links(b)
    assert b.mesh.status(b.network.now_ms)[0].state in ("waiting", "connecting")
    assert b.mesh.status(b.network.now_ms)[0].attempts >= 3
    put(b, b"meanwhile")
    a.restart()
    assert net.run(65_000, until=lambda: value_at(a, b"meanwhile") is not None)


def test_a_peer_that_restarts_is_noticed_at_once() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    connect(b, a.ticket())
    net.run(1000)
    b.crash()
    b.restart()  # a has not noticed: to it the old link is fine
    assert net.run(3000, until=lambda: bool(open_links(b)))
    put(a, b"after")
    assert net.run(3000, until=lambda: value_at(b, b"after") is not None)


@pytest.mark.parametrize("dialer_restarts", [True, False])
def test_a_restart_right_after_the_first_meeting_is_no_tie(*, dialer_restarts: bool) -> None:
    smaller = set()
    for seed in range(20):  # other keys, so that either side is the smaller one
        net = network(seed)
        a, b = Host(net, "a"), Host(net, "b")
        smaller.add(a.identity.node_id < b.identity.node_id)
        connect(b, a.ticket())
        net.run(1000)
        host, other = (b, a) if dialer_restarts else (a, b)
        host.crash()
        host.restart()
        assert net.run(1500, until=lambda: bool(open_links(host)))  # noqa: B023
        put(other, b"after")
        assert net.run(1500, until=lambda: value_at(host, b"after") is not None)  # noqa: B023
    assert smaller == {True, False}


def test_a_link_lost_while_it_is_judged_does_not_open() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    held: list[Callable[[], None]] = []
    submit = b.mesh.fabric.labour.submit

    def hold(lane: str, work: Callable[[], object], done: Callable[..., None]) -> None:
        held.append(lambda: submit(lane, work, done))

    b.mesh.fabric.labour.submit = hold  # type: ignore[method-assign, assignment]
    connect(b, a.ticket())
    for step in ("introduced", "greeted"):
        assert net.run(2000, until=lambda: bool(held)), step
        if step == "introduced":
            held.pop()()
    (link,) = b.mesh._conversations
    b.transport.deliver(Down(link, "gone"))  # type: ignore[union-attr]
    net.run(1)
    b.mesh.fabric.labour.submit = submit  # type: ignore[method-assign]
    held.pop()()
    assert net.run(1000, until=lambda: b.mesh.company.contacts[a.identity.node_id].open is None)
    put(a, b"x")
    assert net.run(60_000, until=lambda: value_at(b, b"x") is not None)


def test_remembered_peers_are_dialed_at_start() -> None:
    net = network()
    a, b, c = Host(net, "a"), Host(net, "b"), Host(net, "c")
    connect(b, a.ticket())
    connect(b, c.ticket())
    net.run(1000)
    b.crash()
    net.run(200_000)
    b.restart()
    assert net.run(5000, until=lambda: len(open_links(b)) == 2)


def test_both_ends_of_a_cut_link_come_together_again() -> None:
    for seed in range(10):
        net = network(seed)
        a, b = Host(net, "a"), Host(net, "b")
        connect(b, a.ticket())
        net.run(1000)
        net.partition("a", "b")
        net.run(60_000)
        assert not open_links(a)
        assert not open_links(b)
        net.heal()
        assert net.run(130_000, until=lambda: bool(open_links(a) and open_links(b)))  # noqa: B023
        net.run(30_000)
        assert len(open_links(a)) == len(open_links(b)) == 1


def pose_as(host: Host, other: Host) -> None:
    """Write under the other's replica id."""
    ledger = host.replica._ledger
    ledger.lineage = replace(ledger.lineage, id=other.replica.id)


def test_a_fork_is_refused_by_both() -> None:
    net = network()
    a, b, c = Host(net, "a"), Host(net, "b"), Host(net, "c")
    put(a, b"once")
    a.replica.sync()
    connect(b, a.ticket())
    net.run(1000)
    # c has another history under a's replica id.
    pose_as(c, a)
    put(c, b"twice")
    c.replica.sync()
    connect(c, b.ticket())
    net.run(2000)
    reasons = [text for host in (b, c) for kind, _, text in host.notices if kind == "refused"]
    assert any("fork: two transactions carry the dot" in reason for reason in reasons)
    assert value_at(b, b"twice") is None


def test_a_longer_fork_is_refused_when_it_is_applied() -> None:
    net = network()
    a, b, c = Host(net, "a"), Host(net, "b"), Host(net, "c")
    put(a, b"once")
    connect(b, a.ticket())
    net.run(1000)
    pose_as(c, a)
    for i in range(3):
        put(c, b"twice%d" % i)
    connect(c, b.ticket())
    net.run(2000)
    reasons = [text for host in (b, c) for kind, _, text in host.notices if kind == "refused"]
    assert any("fork" in reason for reason in reasons)
    assert value_at(b, b"twice2") is None


def test_a_copied_directory_is_refused_by_its_original() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    pose_as(b, a)
    connect(b, a.ticket())
    net.run(2000)
    texts = [text for host in (a, b) for kind, _, text in host.notices if kind == "refused"]
    assert any("both ends are replica" in text for text in texts)


def test_skew_is_reported() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b", skew_ms=40_000)
    connect(b, a.ticket())
    net.run(1000)
    skew = a.mesh.status(a.network.now_ms)[0].skew_ms
    assert skew is not None
    assert abs(skew - 40_000) < 200
    assert any(kind == "skew" and "+40.0 s" in text for kind, _, text in a.notices) or any(
        kind == "skew" and "+39.9 s" in text for kind, _, text in a.notices
    )


def test_records_of_a_wild_clock_wait_and_come_in_when_it_is_their_time() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b", skew_ms=300_000)
    connect(b, a.ticket())
    net.run(1000)
    for i in range(5):
        put(b, b"future%d" % i)
    net.run(10_000)
    assert value_at(a, b"future0") is None
    assert len(a.replica.parked()) == 1
    net.run(300_000)
    a.replica.release_parked()
    # What came behind the parked record was set aside; it is asked for again.
    assert net.run(700_000, until=lambda: value_at(a, b"future4") is not None)
    assert a.replica.state_hash() == b.replica.state_hash()


def test_a_wait_ends_when_peers_hold_the_vector() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    done: list[int] = []

    def wait(peers: frozenset[bytes] | None) -> Wait:
        vector = dict(a.replica.vector)
        wait = Wait(vector, peers, lambda: done.append(net.now_ms))
        a.mesh.company.wait(wait)
        return wait

    wait(None)
    net.run(1000)
    assert not done, "nobody has come yet"
    connect(b, a.ticket())
    net.run(1000)
    assert done
    put(a, b"x")
    done.clear()
    wait(frozenset({b.identity.node_id}))
    wait(None)
    assert not done
    net.run(2000)
    assert len(done) == 2
    b.crash()
    put(a, b"y")
    late = wait(None)
    net.run(100_000)
    assert len(done) == 2
    assert a.mesh.company.forget_wait(late) == [a.mesh.status(a.network.now_ms)[0].node_id]
    wait(None)
    b.restart()
    assert net.run(100_000, until=lambda: len(done) == 3)


def test_who_left_in_order_is_not_waited_for() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    connect(b, a.ticket())
    net.run(1000)
    b.mesh.close("bye")
    b.transport.flush(0)  # type: ignore[union-attr]
    net.run(1000)
    contact = a.mesh.company.contacts[b.identity.node_id]
    assert not contact.met
    assert contact.last_error == "the peer ended the conversation: bye"


def test_a_closed_mesh_answers_everybody() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    waiting = connect(a, replace(b.ticket(), addresses=("10.9.9.9:1",)))
    a.mesh.close("done")
    assert isinstance(waiting.error, Closed)
    assert isinstance(connect(a, b.ticket()).error, Closed)


def test_a_disk_that_fails_ends_the_conversation_and_is_retried() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    connect(b, a.ticket())
    net.run(1000)
    failing = True
    apply = b.mesh.fabric.outbox.apply

    def fail(records: list[bytes]) -> object:
        if failing:
            raise OSError(28, "No space left on device")
        return apply(records)

    b.mesh.fabric.outbox.apply = fail  # type: ignore[method-assign, assignment]
    put(a, b"x")
    net.run(5000)
    assert any("No space left" in text for kind, _, text in a.notices if kind == "disconnected")
    assert value_at(b, b"x") is None
    failing = False
    assert net.run(100_000, until=lambda: value_at(b, b"x") is not None)


def test_a_poisoned_replica_stops_the_mesh() -> None:
    net = network()
    a, b = Host(net, "a"), Host(net, "b")
    connect(b, a.ticket())
    net.run(1000)

    def closed(records: list[bytes]) -> object:
        raise Closed("the replica is closed")

    b.mesh.fabric.outbox.apply = closed  # type: ignore[method-assign, assignment]
    put(a, b"x")
    with pytest.raises(AssertionError, match="the replica is closed"):
        net.run(5000)  # Host says so when the mesh reports a failure
    assert isinstance(b.mesh.failure, Closed)


def test_strangers_are_limited() -> None:
    net = network()
    a = Host(net, "a")
    a.mesh._timing = Timing(handshake_ms=60_000)
    hosts = [Host(net, f"h{i}") for i in range(80)]
    for host in hosts:
        link = host.transport.dial(a.address, 0)  # type: ignore[union-attr]
        assert link
    net.run(1000)
    assert len(a.mesh._conversations) == 64
    net.run(60_000)
    assert not a.mesh._conversations


@pytest.mark.parametrize("count", [4, 7])
def test_a_full_mesh_carries_each_transaction_about_once_per_peer(count: int) -> None:
    net = network()
    hosts = [Host(net, f"h{i}") for i in range(count)]
    for i, host in enumerate(hosts):
        for other in hosts[:i]:
            host.meet(other)
    net.run(2000)
    before = net.bytes_carried
    for i in range(20):
        for host in hosts:
            put(host, b"%s%d" % (host.name.encode(), i), bytes(1000))
        net.run(300)
    net.run(5000)
    assert len({host.replica.state_hash() for host in hosts}) == 1
    sent = sum(
        status.records_out for host in hosts for status in host.mesh.status(host.network.now_ms)
    )
    needed = 20 * count * (count - 1)
    assert sent <= 1.02 * needed
    assert net.bytes_carried - before < 1.5 * needed * 1000


def test_an_identity_is_needed_twice() -> None:
    # Two hosts under one key throw each other out of a third, visibly, and lose nothing.
    net = network()
    a, b, c = Host(net, "a"), Host(net, "b"), Host(net, "c")
    c.identity = b.identity
    c.mesh._identity = Identity(b.identity.private_key.private_bytes_raw())
    connect(b, a.ticket())
    net.run(1000)
    connect(c, a.ticket())
    put(b, b"b")
    put(c, b"c")
    assert net.run(
        300_000, until=lambda: value_at(a, b"b") is not None and value_at(a, b"c") is not None
    )


def a_day() -> tuple[int, list[tuple[str, str, str]]]:
    net = network(5, loss=0.01, latency_ms=(1, 100))
    hosts = [Host(net, name) for name in "abcd"]
    for i, host in enumerate(hosts):
        for other in hosts[:i]:
            host.meet(other)
    random = Random(5)
    for i in range(60):
        put(random.choice(hosts), b"%d" % i)
        net.run(random.randint(1, 500))
    return net.bytes_carried, [notice for host in hosts for notice in host.notices]


def test_the_same_seed_is_the_same_day_in_every_process() -> None:
    code = (
        "from tests.simulation.test_mesh import a_day; import sys; sys.stdout.write(repr(a_day()))"
    )
    days = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in (1, 2)
    }
    assert days == {repr(a_day()).encode()}


def test_a_refusal_under_way_does_not_answer_who_asks_later() -> None:
    net = Network(2, Weather(latency_ms=(20, 30)))
    a, b = Host(net, "a"), Host(net, "b")
    ticket = replace(a.ticket(), invite=None)
    answers: list[BaseException | None] = []
    b.mesh.connect(ticket, lambda _, error: answers.append(error), net.now_ms)
    b.wake()
    while not any(kind == "refused" for kind, _, _ in a.notices):
        net.run(1)
    assert not answers, "the refusal is still on its way"
    a.mesh.reception.accept(b.identity.node_id, net.now_ms)
    later: list[BaseException | None] = []
    b.mesh.connect(ticket, lambda _, error: later.append(error), net.now_ms)
    b.wake()
    net.run(5_000)
    assert later == [None]
