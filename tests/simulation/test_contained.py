"""A fault ends what it happened to, and nothing else: one conversation, or one service's turn.

Each test breaks one call of one host towards one peer, or of one service, while a second peer is
connected; that peer must not notice, and the first must come back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from murmur.errors import Corruption, Poisoned
from murmur.sync.contact import Conversation
from murmur.sync.faults import MAX_TOLD, REST_MOST_MS, REST_MS, Faults
from murmur.sync.mesh import Mesh
from murmur.sync.push import Push
from murmur.sync.service import Urgency
from tests.simulation.network import Host, Network, SimTransport, Weather
from tests.simulation.test_service import ASK, Echo

CALM = Weather(latency_ms=(5, 15))


class Broken(TypeError):
    """What nobody expects."""


def broken(*_: object, **__: object) -> Any:
    raise Broken("a bug")


class Trio:
    """A host in the middle, and two that converse with it."""

    def __init__(self, *services: Callable[[], Any]) -> None:
        self.net = Network(3, CALM)
        self.made: list[Any] = []
        self.middle = Host(self.net, "middle", services=lambda _: self.serve(services))
        self.left = Host(self.net, "left", services=lambda _: [make() for make in services])
        self.right = Host(self.net, "right", services=lambda _: [make() for make in services])
        for other in (self.left, self.right):
            self.middle.meet(other)
        assert self.net.run(10_000, lambda: len(self.middle.mesh.company.connected()) == 2)
        self.net.run(2_000)
        self.middle.notices.clear()

    def serve(self, services: Any) -> list[Any]:
        self.made = [make() for make in services]
        return self.made

    def conversation(self) -> Conversation:
        """The middle's with the left one."""
        found = self.middle.mesh.company.contacts[self.left.identity.node_id].open
        assert found is not None
        return found

    def told(self, kind: str) -> list[str]:
        return [text for each, _, text in self.middle.notices if each == kind]

    def gone(self) -> set[str]:
        return {peer for kind, peer, _ in self.middle.notices if kind == "disconnected"}

    def status(self) -> Any:
        name = self.middle.mesh.company.contacts[self.left.identity.node_id].name
        return next(s for s in self.middle.mesh.status(self.net.now_ms) if s.node_id == name)

    def write(self, key: bytes) -> None:
        for host in (self.left, self.middle, self.right):
            host.replica.put(b"\x01" + key + host.name.encode(), b"v")

    def converges(self) -> None:
        hosts = (self.left, self.middle, self.right)

        def same() -> bool:
            return all(h.replica.vector == hosts[0].replica.vector for h in hosts)

        assert self.net.run(120_000, same), [dict(h.replica.vector) for h in hosts]
        assert len({host.replica.state_hash() for host in hosts}) == 1


def session_with(conversation: Conversation) -> bytes | None:
    return conversation.session.remote_id


def spoil_session(name: str) -> Callable[[Trio], None]:
    return lambda trio: setattr(trio.conversation().session, name, broken)


def spoil_exchange(name: str) -> Callable[[Trio], None]:
    return lambda trio: setattr(trio.conversation().exchange, name, broken)


SITES: dict[str, Callable[[Trio], None]] = {
    "flush": spoil_session("take_output"),
    "receive": spoil_session("receive"),
    "tick": spoil_session("tick"),
    "timer": spoil_session("next_timer_ms"),
    "report": spoil_session("report"),
    "applied": spoil_session("applied"),
    "send": spoil_session("send"),
    "the exchange's pump": spoil_exchange("pump"),
    "the exchange's tick": spoil_exchange("tick"),
    "the exchange's timer": spoil_exchange("next_timer_ms"),
    "the exchange's inbox": spoil_exchange("receive"),
    "work for a worker": spoil_exchange("take"),
    "the result of a worker": spoil_exchange("done"),
    "a rewinding": spoil_exchange("rewind"),
}


@pytest.mark.parametrize("site", SITES)
def test_a_fault_in_one_conversation_ends_it_alone(site: str) -> None:
    trio = Trio()
    SITES[site](trio)
    if site == "a rewinding":
        trio.conversation().exchange.pump(trio.net.now_ms)  # type: ignore[union-attr]
        (contact,) = trio.left.mesh.company.contacts.values()
        contact.open.session.ask_again({})  # type: ignore[union-attr]
    trio.write(b"during")
    assert trio.net.run(10_000, lambda: bool(trio.told("error"))), site
    (told,) = trio.told("error")
    assert "Broken: a bug" in told
    assert trio.net.run(10_000, lambda: bool(trio.gone())), site
    assert "Broken" in (trio.status().last_error or "")
    assert trio.middle.mesh.failure is None
    trio.write(b"later")
    trio.converges()
    right = trio.middle.mesh.company.contacts[trio.right.identity.node_id]
    assert right.name not in trio.gone()
    assert len(trio.told("error")) == 1


def test_the_peer_is_told_that_it_is_not_to_blame() -> None:
    trio = Trio()
    SITES["tick"](trio)
    trio.middle.wake()
    trio.net.run(1_000)
    ended = [text for kind, _, text in trio.left.notices if kind == "disconnected"]
    assert any("Broken: a bug" in text for text in ended)
    assert not [each for each in trio.left.notices if each[0] == "quarantined"]
    assert not trio.told("quarantined")


def test_a_fault_that_comes_back_is_told_once_and_dialed_ever_later() -> None:
    trio = Trio()
    original = Mesh._begin

    def begin(mesh: Mesh, conversation: Conversation, now_ms: int) -> None:
        original(mesh, conversation, now_ms)
        if session_with(conversation) == trio.left.identity.node_id:
            conversation.session.tick = broken  # type: ignore[method-assign]

    trio.middle.mesh._admittance._begin = lambda *args: begin(trio.middle.mesh, *args)
    SITES["tick"](trio)
    trio.middle.wake()
    trio.net.run(120_000)
    faults = [text for text in trio.told("disconnected") if "Broken" in text]
    assert 3 <= len(faults) <= 40
    assert len(trio.told("error")) == 1
    trio.middle.mesh._admittance._begin = trio.middle.mesh._begin
    trio.write(b"after")
    trio.converges()


@pytest.mark.parametrize("call", ["dial", "accept"])
def test_a_fault_before_there_is_a_conversation(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network(5, CALM)
    a, b = Host(net, "a"), Host(net, "b")
    with monkeypatch.context() as patch:
        if call == "dial":
            patch.setattr(SimTransport, "dial", broken)
        else:
            patch.setattr("murmur.sync.mesh.PeerSession", broken)
        a.meet(b)
        net.run(3_000)
        told = [text for kind, _, text in (*a.notices, *b.notices) if kind == "error"]
        assert told
        assert all("Broken" in text for text in told)
    assert net.run(60_000, lambda: bool(b.mesh.company.connected()))


SERVICE_CALLS = ["opened", "received", "closed", "tick", "next_timer_ms", "a result", "end"]


class Faulty(Echo):
    """An echo that trips where it is told to."""

    breaks = ""

    def start(self, fabric: Any, now_ms: int) -> None:
        super().start(fabric, now_ms)
        self.calls = 0

    def __getattribute__(self, name: str) -> Any:
        if name in SERVICE_CALLS and name == object.__getattribute__(self, "breaks"):
            self.calls += 1
            return broken
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("call", SERVICE_CALLS)
def test_a_fault_of_a_service_is_contained(call: str) -> None:
    trio = Trio(Push, Faulty)
    faulty = trio.made[1]
    faulty.breaks = call
    if call in ("opened", "closed"):
        trio.conversation().link.close("the path is gone")
        contact = trio.middle.mesh.company.contacts[trio.left.identity.node_id]
        trio.middle.mesh._endings.lost(trio.conversation(), 7, "gone", trio.net.now_ms)
        contact.next_dial_ms = trio.net.now_ms
    elif call == "received":
        left = trio.left.mesh.fabric
        left.say(trio.middle.identity.node_id, ASK, b"well?", Urgency.CONTROL)
        trio.left.wake()
    elif call == "a result":
        faulty.fabric.labour.submit("echo", lambda: None, broken)
    elif call == "end":
        trio.middle.mesh.close("enough")
    trio.middle.wake()
    assert trio.net.run(10_000, lambda: bool(trio.told("error")))
    (told,) = trio.told("error")
    assert "Broken: a bug" in told
    if call not in ("opened", "received"):
        assert "Faulty" in told  # in whose turn; those two end a conversation
    assert trio.middle.mesh.failure is None
    if call == "end":
        return
    trio.net.run(5 * REST_MOST_MS)
    # It is tried again, but not at every turn of the loop.
    assert faulty.calls <= 30 or call != "tick"
    faulty.breaks = ""
    trio.write(b"after")
    trio.converges()
    assert len(trio.told("error")) == 1
    name = trio.middle.mesh.company.contacts[trio.right.identity.node_id].name
    assert name not in trio.gone() or call == "opened"


@pytest.mark.parametrize(
    "error",
    [Corruption("log/1", 7, "bad checksum"), OSError(28, "No space left")],
    ids=["damage", "full"],
)
def test_damage_and_a_full_disk_end_what_needed_them(error: Exception) -> None:
    trio = Trio()

    def raise_it() -> Any:
        raise error

    trio.conversation().exchange.take = lambda: raise_it  # type: ignore[method-assign, union-attr]
    trio.left.replica.put(b"\x01key", b"v")
    assert trio.net.run(10_000, lambda: bool(trio.told("error")))
    assert str(error) in trio.told("error")[0]
    assert str(error) in (trio.status().last_error or "")
    assert not trio.told("quarantined")
    trio.converges()


def test_a_poisoned_replica_stops_the_node() -> None:
    faults = Faults("me", lambda *_: None)
    error = Poisoned("a sync failed")
    faults.note("anywhere", error)
    assert faults.fatal is error


def test_a_place_rests_longer_each_time_and_recovers() -> None:
    told: list[tuple[str, str, str]] = []
    faults = Faults("me", lambda *notice: told.append(notice))
    assert faults.contain("here", lambda: None, 0)
    assert faults.rested_ms("here", 0) is None
    now_ms, rests = 0, []
    for _ in range(9):
        assert not faults.contain("here", broken, now_ms)
        until_ms = faults.rested_ms("here", now_ms)
        assert until_ms is not None
        rests.append(until_ms - now_ms)
        now_ms = until_ms
        assert faults.rested_ms("here", now_ms) is None
    assert rests[:3] == [REST_MS, 2 * REST_MS, 4 * REST_MS]
    assert max(rests) == REST_MOST_MS
    assert told == [("error", "me", "here: Broken: a bug")]
    now_ms += 4 * REST_MOST_MS
    assert faults.rested_ms("here", now_ms) is None
    faults.contain("here", broken, now_ms)
    assert faults.rested_ms("here", now_ms) == now_ms + REST_MS


def test_what_was_told_is_remembered_within_bounds() -> None:
    faults = Faults("me", lambda *_: None)
    for i in range(3 * MAX_TOLD):
        faults.note("anywhere", OSError(f"disk {i}"))
    assert len(faults._told) <= MAX_TOLD
