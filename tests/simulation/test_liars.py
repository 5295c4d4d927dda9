"""Peers that lie: refused for a growing time, their records kept, nothing changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from murmur.kvcore.record import NO_PREVIOUS, PUT, Operation, encode
from murmur.sync import messages as m
from murmur.sync.quarantine import BASE_MS, CAP_MS, Quarantine, Sentence
from tests.simulation.network import EPOCH_MS, Host, Network, Weather

CALM = Weather(latency_ms=(5, 15))
STAMP = EPOCH_MS << 16
KEY = b"\x01k"


def false_record(author: bytes, seq: int = 1, key: bytes = KEY) -> bytes:
    return encode(author, seq, STAMP + seq, NO_PREVIOUS, {}, {}, [Operation(PUT, key, b"false")])


class Liar:
    """An honest host, and one that is about to lie to it."""

    def __init__(self) -> None:
        self.net = Network(1, CALM)
        self.honest, self.liar = Host(self.net, "honest"), Host(self.net, "liar")
        self.honest.replica.put(b"\x01mine", b"v")
        self.liar.replica.put(b"\x01theirs", b"v")
        self.liar.meet(self.honest)
        assert self.run(lambda: bool(self.honest.mesh.company.connected()), 3000)
        self.net.run(2000)
        self.state = self.honest.replica.state_hash()
        self.vector = dict(self.honest.replica.vector)

    def run(self, until: Callable[[], bool], milliseconds: int) -> bool:
        return self.net.run(milliseconds, until=until)

    def say(self, message: m.Message) -> None:
        (contact,) = self.liar.mesh.company.contacts.values()
        assert contact.open is not None
        if isinstance(message, m.Records):
            self.liar.mesh._batches._known.clear()  # an honest node knows one record by its dot
            contact.open.session.send(message.records, {})
        else:
            contact.open.session._send(message)
        self.liar.wake()
        self.net.run(500)

    def status(self):
        (status,) = self.honest.mesh.status(self.honest.network.now_ms)
        return status

    def told(self, kind: str) -> list[str]:
        return [text for each, _, text in self.honest.notices if each == kind]


def lies(liar: Liar) -> dict[str, list[bytes]]:
    author = b"A" * 8
    return {
        "no record": [b"\x01" + bytes(40)],
        "a later version": [b"\x09" + false_record(author)[1:]],
        "cut short": [false_record(author)[:-1]],
        "two records with one dot": [false_record(author), false_record(author, key=b"\x01l")],
        "another history of ours": [false_record(liar.honest.replica.id)],
        "another history of its own": [false_record(liar.liar.replica.id)],
        "a chain that does not fit": [false_record(author), false_record(author, 2)],
    }


@pytest.mark.parametrize("lie", [*lies(Liar())])
def test_a_lie_changes_nothing_is_kept_and_costs_a_minute(lie: str) -> None:
    liar = Liar()
    records = lies(liar)[lie]
    admitted = len(records) - 1  # what is well-formed and new is no lie
    for record in records:
        liar.say(m.Records([record]))
    assert sum(liar.honest.replica.vector.values()) == sum(liar.vector.values()) + admitted
    if not admitted:
        assert liar.honest.replica.state_hash() == liar.state
    (letter,) = liar.honest.replica.dead_letters()
    assert letter.record == records[-1]
    assert letter.peer == liar.liar.identity.node_id
    assert liar.status().state == "quarantined"
    assert liar.told("quarantined")
    assert not liar.honest.mesh.company.connected()
    liar.net.run(BASE_MS - 5_000)
    assert liar.status().state == "quarantined"
    assert not liar.honest.mesh.company.connected()


@pytest.mark.parametrize(
    "message",
    [m.Ack(10**9, {}, {}), m.Challenge(bytes(32)), m.Piece(1 << 31, b"x")],
    ids=["an acknowledgement of nothing", "out of turn", "oversized"],
)
def test_what_no_node_says_is_a_lie_too(message: m.Message) -> None:
    liar = Liar()
    liar.say(message)
    assert liar.status().state == "quarantined"
    assert liar.honest.replica.state_hash() == liar.state


def test_a_quarantine_ends_and_the_next_is_longer() -> None:
    liar = Liar()
    refusals = 0
    for expected in (BASE_MS, 4 * BASE_MS):
        liar.say(m.Records([b"\x01" + bytes(40)]))
        began = liar.net.now_ms
        assert liar.run(lambda: bool(liar.honest.mesh.company.connected()), 20 * BASE_MS)
        assert liar.net.now_ms - began >= expected - 1_000
        liar.net.run(1_000)
        assert len(liar.told("refused")) > refusals, "it is told why"
        refusals = len(liar.told("refused"))
    assert any("quarantined for" in text for text in liar.told("refused"))
    liar.liar.replica.put(b"\x01later", b"v")
    assert liar.run(lambda: liar.honest.replica.get(b"\x01later") is not None, 20_000)


def test_whoever_asks_for_the_peer_gets_it_back() -> None:
    liar = Liar()
    liar.say(m.Records([b"\x01" + bytes(40)]))
    assert liar.status().state == "quarantined"
    liar.honest.meet(liar.liar)
    assert liar.run(lambda: bool(liar.honest.mesh.company.connected()), 10_000)


def test_a_restart_ends_no_quarantine() -> None:
    liar = Liar()
    liar.say(m.Records([b"\x01" + bytes(40)]))
    before = liar.status()
    assert before.state == "quarantined"
    liar.honest.crash()
    liar.net.run(10_000)
    liar.honest.restart()
    status = liar.status()
    assert status.state == "quarantined"
    assert status.last_error == before.last_error
    assert "record" in (status.last_error or "")
    assert (status.quarantined_ms, status.quarantined_until_ms) == (
        before.quarantined_ms,
        before.quarantined_until_ms,
    )
    assert status.quarantined_until_ms - status.quarantined_ms == BASE_MS
    assert status.quarantined_ms <= EPOCH_MS + liar.net.now_ms - 10_000
    liar.net.run(BASE_MS - 15_000)
    assert not liar.honest.mesh.company.connected()
    assert any("quarantined for" in text for text in liar.told("refused"))
    assert liar.run(lambda: bool(liar.honest.mesh.company.connected()), 10 * BASE_MS)
    assert liar.status().quarantined_ms is None
    liar.say(m.Records([b"\x01" + bytes(40)]))
    again = liar.status()
    assert again.quarantined_until_ms - again.quarantined_ms == 4 * BASE_MS, "it is remembered"


@pytest.mark.parametrize("how", ["ticket", "accept"])
def test_whoever_is_released_stays_so_after_a_restart(how: str) -> None:
    liar = Liar()
    liar.say(m.Records([b"\x01" + bytes(40)]))
    liar.honest.crash()
    liar.honest.restart()
    assert liar.status().state == "quarantined"
    if how == "ticket":
        liar.honest.meet(liar.liar)
    else:
        liar.honest.mesh.reception.accept(liar.liar.identity.node_id, liar.net.now_ms)
        liar.honest.wake()
    assert liar.run(lambda: bool(liar.honest.mesh.company.connected()), 10_000)
    liar.honest.crash()
    liar.honest.restart()
    assert liar.status().state != "quarantined"
    assert liar.run(lambda: bool(liar.honest.mesh.company.connected()), 30_000)


def test_nobody_hears_of_a_quarantine_that_is_not_written() -> None:
    liar = Liar()
    written: list[bytes] = []
    original = liar.honest.roster.sentence

    def sentence(node_id: bytes, verdict: Sentence) -> None:
        assert not liar.told("quarantined")
        original(node_id, verdict)
        written.append(node_id)

    liar.honest.roster.sentence = sentence  # type: ignore[method-assign]
    liar.say(m.Records([b"\x01" + bytes(40)]))
    assert written == [liar.liar.identity.node_id]
    assert liar.told("quarantined")


def test_a_quarantine_that_cannot_be_written_holds_until_a_restart() -> None:
    liar = Liar()

    def full(*_: object) -> None:
        raise OSError(28, "No space left")

    liar.honest.roster.sentence = full  # type: ignore[method-assign]
    liar.say(m.Records([b"\x01" + bytes(40)]))
    assert liar.status().state == "quarantined"
    assert any("could not be written" in text for text in liar.told("error"))


def test_who_was_never_a_member_is_none_when_its_quarantine_ends() -> None:
    liar = Liar()
    liar.say(m.Records([b"\x01" + bytes(40)]))
    roster = liar.honest.roster
    roster.members, roster.invite = {}, bytes(16)  # it was found, and let in by the door
    roster._write()
    liar.honest.crash()
    liar.honest.restart()
    assert liar.status().state == "quarantined"
    liar.net.run(20 * BASE_MS)
    assert not liar.honest.mesh.company.connected()
    assert any("not admitted" in text for text in liar.told("refused"))


def test_a_clock_that_jumps_makes_no_quarantine_longer() -> None:
    quarantine = Quarantine()
    sentence = quarantine.offend("lie", 0, EPOCH_MS)
    for wall_ms in (EPOCH_MS - 10**9, EPOCH_MS, EPOCH_MS + 1000, EPOCH_MS + BASE_MS + 1):
        resumed = Quarantine()
        resumed.resume(sentence, 500, wall_ms)
        left_ms = 0 if resumed.until_ms is None else resumed.until_ms - 500
        assert 0 <= left_ms <= BASE_MS
        assert resumed.offences == 1
    assert not sentence.forgiven(sentence.until_ms)
    assert sentence.forgiven(sentence.until_ms + CAP_MS)


def test_nobody_is_blamed_for_what_another_had_sent() -> None:
    liar = Liar()
    third = Host(liar.net, "third")
    third.meet(liar.honest)
    assert liar.run(lambda: len(liar.honest.mesh.company.connected()) == 2, 3000)
    author = b"A" * 8
    liar.say(m.Records([false_record(author, 2)]))  # it waits for its predecessor
    assert len(liar.honest.mesh.company.connected()) == 2
    third.replica.apply([false_record(author)])
    third.replica.sync()
    liar.net.run(3000)
    states = {s.replica_id: s.state for s in liar.honest.mesh.status(liar.honest.network.now_ms)}
    assert states[third.replica.id.hex()] == "connected"
    assert states[liar.liar.replica.id.hex()] == "quarantined"


def test_offences_add_up_and_are_forgiven() -> None:
    quarantine = Quarantine()
    waits = []
    now = 0
    for _ in range(9):
        quarantine.offend("lie", now, EPOCH_MS + now)
        assert quarantine.until_ms is not None
        waits.append(quarantine.until_ms - now)
        assert "lie" in quarantine.refusal(now)
        assert quarantine.next_dial_ms(0) == quarantine.until_ms
        now = quarantine.until_ms
        quarantine.tick(now)
        assert quarantine.refusal(now) == ""
        assert quarantine.next_dial_ms(7) == 7
    assert waits[:3] == [BASE_MS, 4 * BASE_MS, 16 * BASE_MS]
    assert max(waits) == CAP_MS
    quarantine.tick(now + CAP_MS)
    assert quarantine.offences == 0
