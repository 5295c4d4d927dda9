"""Verification between simulated hosts: equal, different and at which key, or undecided."""

from __future__ import annotations

import pytest

from murmur.errors import Closed, PeerError
from murmur.sync import verify
from murmur.sync.service import Urgency
from murmur.sync.verify import Verifier
from murmur.sync.verify_wire import DIFFERENT, EQUAL, HOLD_MS, UNDECIDED, Verdict
from murmur.sync.wire import pack, unpack
from tests.simulation.network import Host, Network, Weather

CALM = Weather(latency_ms=(5, 15))


class Answer:
    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self.error: BaseException | None = None

    @property
    def given(self) -> bool:
        return self.verdict is not None or self.error is not None

    def __call__(self, verdict: Verdict | None, error: BaseException | None) -> None:
        assert not self.given
        self.verdict, self.error = verdict, error


class Pair:
    """Two hosts that hold the same."""

    def __init__(self, count: int = 500, *, interval_ms: int = 0, able: bool = True) -> None:
        self.net = Network(1, CALM)
        self.verifiers = [Verifier(interval_ms=interval_ms) for _ in "ab"]
        mine, theirs = self.verifiers
        self.a = Host(self.net, "a", services=lambda _: (mine,))
        self.b = Host(self.net, "b", services=lambda _: (theirs,) if able else ())
        for i in range(count):
            self.put(self.a, b"%05d" % i)
        self.a.meet(self.b)
        assert self.net.run(
            20_000, until=lambda: self.same() and bool(self.a.mesh.company.connected())
        )

    def put(self, host: Host, key: bytes, value: bytes = b"v") -> None:
        host.replica.put(b"\x01" + key, value)

    def same(self) -> bool:
        return dict(self.a.replica.vector) == dict(self.b.replica.vector)

    def spoil(self, host: Host, key: bytes, cell: bytes | None) -> None:
        """Change a cell behind the replica's back, as a bug or a bad disk would."""
        tree = host.replica._tree
        tree.write([(b"\x01" + key, cell)], tree.attachment)

    def verify(self, within_ms: int = 0, run_ms: int = 5_000) -> Answer:
        answer = Answer()
        now = self.net.now_ms
        self.verifiers[0].verify(self.b.identity.node_id, now + within_ms, answer, now)
        self.a.wake()
        self.net.run(run_ms, until=lambda: answer.given)
        return answer


def test_equal_states_are_proved_equal() -> None:
    pair = Pair()
    verdict = pair.verify().verdict
    assert verdict is not None
    assert (verdict.state, verdict.cells, verdict.apart) == (EQUAL, 500, 0)
    assert dict(verdict.vector) == dict(pair.a.replica.vector)
    pair.net.run(1000)
    assert not pair.verifiers[0]._asked
    assert not pair.verifiers[1]._answerer.held


def test_who_asks_several_times_at_once_is_answered_one_after_the_other() -> None:
    pair = Pair()
    answers = [Answer() for _ in range(4)]
    now = pair.net.now_ms
    for answer in answers:
        pair.verifiers[0].verify(pair.b.identity.node_id, now, answer, now)
    pair.a.wake()
    pair.net.run(3)
    pair.verifiers[0].give_up(answers[0])  # and the next one begins
    assert pair.net.run(10_000, until=lambda: all(each.given for each in answers[1:]))
    assert [each.verdict and each.verdict.state for each in answers] == [None, EQUAL, EQUAL, EQUAL]
    assert not [
        kind for host in (pair.a, pair.b) for kind, _, _ in host.notices if kind == "refused"
    ]
    pair.net.run(1_000)
    assert not pair.verifiers[0]._asked
    assert not pair.verifiers[1]._answerer.held


@pytest.mark.parametrize("key", [b"00000", b"00123", b"00499"])
@pytest.mark.parametrize("how", ["changed here", "changed there", "lost here", "lost there"])
def test_the_first_key_that_differs_is_named(key: bytes, how: str) -> None:
    pair = Pair()
    what, where = how.split()
    other = b"00345" if key < b"00345" else b"zz"  # a later difference, too
    for each in (key, other):
        cell = None if what == "lost" else b"\x00something else"
        pair.spoil(pair.a if where == "here" else pair.b, each, cell)
    verdict = pair.verify().verdict
    assert verdict is not None
    assert verdict.state == DIFFERENT
    assert verdict.key == b"\x01" + key
    assert verdict.start <= verdict.key < verdict.stop


def test_what_only_the_peer_has_is_named() -> None:
    pair = Pair()
    pair.spoil(pair.b, b"00123+", b"more")
    verdict = pair.verify().verdict
    assert verdict is not None
    assert (verdict.state, verdict.key) == (DIFFERENT, b"\x0100123+")


def test_empty_states_are_equal() -> None:
    verdict = Pair(count=0).verify().verdict
    assert verdict is not None
    assert (verdict.state, verdict.cells) == (EQUAL, 0)


def test_vectors_that_differ_are_told_apart() -> None:
    pair = Pair(count=3)
    pair.net.partition("a", "b")
    for i in range(5):
        pair.put(pair.a, b"a%d" % i)
    pair.put(pair.b, b"b")
    pair.net.blocked = set()
    answer = Answer()
    pair.b.mesh.company.contacts[pair.a.identity.node_id].open.exchange.pump = lambda _: None  # type: ignore[union-attr, method-assign]
    pair.a.mesh.company.contacts[pair.b.identity.node_id].open.exchange.pump = lambda _: None  # type: ignore[union-attr, method-assign]
    answer = pair.verify(run_ms=20_000)
    assert answer.verdict is not None
    assert (answer.verdict.state, answer.verdict.apart) == (UNDECIDED, 6)
    assert answer.verdict.cells == 3
    assert "but for 6 keys" in answer.verdict.reason
    assert b"\x01a0".hex() in answer.verdict.reason


def test_vectors_may_come_to_agree_until_the_deadline() -> None:
    pair = Pair(count=3)
    for i in range(5):
        pair.put(pair.a, b"late%d" % i)
    answer = pair.verify(within_ms=4_000)
    assert answer.verdict is not None
    assert answer.verdict.state == EQUAL


class Writers:
    """Both hosts write every few milliseconds: their own keys, and one that both write."""

    def __init__(self, pair: Pair, *, hot: bool) -> None:
        self.pair, self.hot, self.count = pair, hot, 0
        for host in (pair.a, pair.b):
            self.later(host)

    def later(self, host: Host) -> None:
        def write() -> None:
            self.count += 1
            self.pair.put(host, b"%s%d" % (host.name.encode(), self.count))
            if self.hot:
                self.pair.put(host, b"hot", b"%d" % self.count)
            self.later(host)

        self.pair.net.at(self.pair.net.random.randint(1, 15), write)


def test_what_is_written_to_all_the_time_is_proved_equal() -> None:
    pair = Pair(count=300)
    writers = Writers(pair, hot=False)
    for _ in range(3):
        before = writers.count
        answer = pair.verify(within_ms=30_000, run_ms=60_000)
        assert answer.verdict is not None, answer.error
        assert answer.verdict.state == EQUAL
        assert answer.verdict.cells > 300
        assert writers.count > before + 10, "nobody wrote meanwhile"
    pair.net.run(2_000)
    assert not pair.verifiers[1]._answerer.held


def test_a_difference_is_found_while_both_write() -> None:
    pair = Pair(count=300)
    Writers(pair, hot=True)
    pair.net.run(1_000)
    pair.spoil(pair.b, b"00123", None)
    answer = pair.verify(within_ms=30_000, run_ms=60_000)
    assert answer.verdict is not None
    assert (answer.verdict.state, answer.verdict.key) == (DIFFERENT, b"\x0100123")


def test_what_never_comes_to_rest_is_named() -> None:
    pair = Pair(count=50)
    Writers(pair, hot=True)
    pair.net.run(1_000)
    answer = pair.verify(within_ms=10_000, run_ms=60_000)
    verdict = answer.verdict
    assert verdict is not None
    assert verdict.state == UNDECIDED
    assert "all is equal but for 1 keys" in verdict.reason
    assert b"\x01hot".hex() in verdict.reason
    assert verdict.cells > 50
    assert verdict.apart > 0


def test_a_key_that_was_left_out_is_compared_later() -> None:
    pair = Pair(count=50)
    exchange = pair.a.mesh.company.contacts[pair.b.identity.node_id].open.exchange  # type: ignore[union-attr]
    assert exchange is not None
    pump = exchange.pump
    exchange.pump = lambda _: None  # type: ignore[method-assign]
    pair.put(pair.a, b"late")

    def resume() -> None:
        exchange.pump = pump  # type: ignore[method-assign]
        pump(pair.net.now_ms)

    def spoil_when_equal() -> None:
        """Before both have it, nobody may say that it differs."""
        if pair.same():
            pair.spoil(pair.b, b"late", None)
        else:
            pair.net.at(1, spoil_when_equal)

    pair.net.at(2_000, resume)
    spoil_when_equal()
    answer = pair.verify(within_ms=30_000, run_ms=60_000)
    assert answer.verdict is not None
    assert (answer.verdict.state, answer.verdict.key) == (DIFFERENT, b"\x01late")
    assert pair.net.now_ms > 2_000


def test_too_much_in_between_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("murmur.sync.verify_answering.TOUCHED_BYTES", 100)
    pair = Pair(count=3)
    for i in range(200):
        pair.put(pair.a, b"late%d" % i)
    answer = pair.verify(within_ms=20_000, run_ms=60_000)
    assert answer.verdict is not None
    assert (answer.verdict.state, answer.verdict.cells) == (EQUAL, 203)
    for contact in pair.a.mesh.company.contacts.values():
        contact.open.exchange.pump = lambda _: None  # type: ignore[union-attr, method-assign]
    for i in range(200):
        pair.put(pair.a, b"never%d" % i)
    answer = pair.verify(within_ms=1_000, run_ms=60_000)
    assert answer.verdict is not None
    assert (answer.verdict.state, answer.verdict.apart) == (UNDECIDED, 200)
    assert "200 transactions lie between the two" in answer.verdict.reason


def test_a_release_that_knew_only_equal_vectors_is_understood() -> None:
    pair = Pair(count=20)
    say = pair.b.mesh.fabric.say
    fields = {verify.VERIFY: 3, verify.PINNED: 2, verify.COMPARE: 4}

    def shorter(node_id: bytes, kind: int, payload: bytes, urgency: Urgency) -> bool:
        if kind in fields:
            payload = pack(unpack(payload)[: fields[kind]])
        return say(node_id, kind, payload, urgency)

    pair.verifiers[1]._answerer._fabric.say = shorter  # type: ignore[method-assign]
    for count in (20, 21):
        answer = pair.verify(within_ms=10_000, run_ms=20_000)
        assert answer.verdict is not None
        assert (answer.verdict.state, answer.verdict.cells) == (EQUAL, count)
        pair.put(pair.a, b"late")


def test_who_is_not_there_or_not_able_is_not_compared_with() -> None:
    pair = Pair(count=1, able=False)
    answer = pair.verify()
    assert isinstance(answer.error, PeerError)
    assert "cannot compare" in str(answer.error)
    pair.b.crash()
    pair.net.run(60_000)
    answer = pair.verify()
    assert "not connected" in str(answer.error)


def test_a_lost_connection_and_a_closing_node_end_the_comparison() -> None:
    pair = Pair(count=300)
    answer = pair.verify(run_ms=10)
    assert not answer.given
    pair.a.mesh.company.contacts[pair.b.identity.node_id].open.link.close("gone")  # type: ignore[union-attr]
    pair.b.mesh.close("bye")
    pair.b.transport.flush(0)  # type: ignore[union-attr]
    pair.a.mesh.fabric.hold_against(pair.b.identity.node_id, "gone", pair.net.now_ms)
    assert isinstance(answer.error, PeerError)
    assert not pair.verifiers[1]._answerer.held
    again = Pair(count=300)
    answer = again.verify(run_ms=10)
    again.a.mesh.close("enough")
    assert isinstance(answer.error, Closed)


def test_the_periodic_round_tells_of_a_difference() -> None:
    pair = Pair(count=50, interval_ms=60_000)
    pair.net.run(200_000)
    assert not [notice for notice in pair.a.notices if notice[0] == "diverged"]
    pair.spoil(pair.b, b"00007", b"\x00bad")
    pair.net.run(200_000)
    told = [text for kind, _, text in pair.a.notices if kind == "diverged"]
    assert told
    assert "013030303037" in told[0]
    assert "differs" in (pair.a.mesh.status(pair.a.network.now_ms)[0].last_error or "")


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (verify.VERIFY, [1, b"short", {}], "salt"),
        (verify.VERIFY, [1, bytes(16), {b"x": 1}], "vector"),
        (verify.VERIFY, [1, bytes(16)], "3 fields"),
        (verify.VERIFY, ["1", bytes(16), {}], "a field is str"),
        (verify.COMPARED, [1, "0", 0, None], "a field is str"),
        (verify.RELEASE, [-1], "integer"),
        (verify.VERIFY, [1, bytes(16), {}, [b"b", b"a"]], "ascend"),
        (verify.VERIFY, [1, bytes(16), {}, ["a"]], "ascend"),
        (verify.VERIFY, [1, bytes(16), {}, [bytes(1 << 19)]], "bytes of keys"),
        (verify.VERIFY, [1, bytes(16), {}, "keys"], "a field is str"),
    ],
)
def test_what_makes_no_sense_is_held_against_the_peer(kind, fields, reason) -> None:
    pair = Pair(count=1)
    pair.a.mesh.fabric.say(pair.b.identity.node_id, kind, pack(fields), Urgency.SYNC)
    pair.a.wake()
    pair.net.run(500)
    assert any(reason in text for k, _, text in pair.b.notices if k == "refused"), pair.b.notices


@pytest.mark.parametrize(
    "fields",
    [
        [9, [b"b", b"a"], b"c", [bytes(32)] * 2],
        [9, [b"a"] * 2, b"c", [bytes(32)] * 2],
        [9, [b"a"], b"a", [bytes(32)]],
        [9, [b"a", b"b"], b"c", [bytes(32)]],
        [9, [], b"c", []],
        [9, ["a"], b"c", [bytes(32)]],
    ],
)
def test_ranges_that_are_none_are_held_against_the_peer(fields) -> None:
    pair = Pair(count=1)
    peer = pair.b.identity.node_id
    vector = dict(pair.a.replica.vector)
    pair.a.mesh.fabric.say(peer, verify.VERIFY, pack([9, bytes(16), vector]), Urgency.SYNC)
    pair.a.wake()
    pair.net.run(200)
    assert pair.verifiers[1]._answerer.held
    pair.a.mesh.fabric.say(peer, verify.COMPARE, pack(fields), Urgency.SYNC)
    pair.a.wake()
    pair.net.run(200)
    assert any("COMPARE" in text for kind, _, text in pair.b.notices if kind == "refused")
    assert not pair.verifiers[1]._answerer.held


def test_a_silent_asker_does_not_pin_a_snapshot_for_ever() -> None:
    pair = Pair(count=1)
    vector = dict(pair.a.replica.vector)
    payload = pack([9, bytes(16), vector])
    pair.a.mesh.fabric.say(pair.b.identity.node_id, verify.VERIFY, payload, Urgency.SYNC)
    pair.a.wake()
    pair.net.run(1000)
    (held,) = pair.verifiers[1]._answerer.held.values()
    pair.net.run(HOLD_MS + 1000)
    assert held.over
    assert not pair.verifiers[1]._answerer.held
