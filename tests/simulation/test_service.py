"""The seam of services, on a simulated network: who hears what, and when."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from murmur.errors import ProtocolViolation
from murmur.sync.service import Fabric, Remote, Service, Urgency
from tests.simulation.network import Host, Network

ASK, ANSWER = 200, 201


class Echo:
    """Asks everybody who comes, answers everybody who asks, and writes down what happens."""

    kinds = (ASK, ANSWER)
    features = 1 << 60

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.due_ms: int | None = None
        self.ticks: list[int] = []
        self.ended = False

    def start(self, fabric: Fabric, now_ms: int) -> None:
        self.fabric = fabric
        self.due_ms = now_ms + 500

    def opened(self, remote: Remote, now_ms: int) -> None:
        self.heard.append(("opened", remote.node_id))
        assert remote in self.fabric.remotes()
        assert self.fabric.say(remote.node_id, ASK, b"how are you?", Urgency.CONTROL)

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        self.heard.append((f"{kind} {payload.decode()}", remote.node_id))
        if payload == b"lie":
            raise ProtocolViolation("ECHO: a lie")
        if kind == ASK:
            self.fabric.say(remote.node_id, ANSWER, b"well", Urgency.CONTROL)

    def closed(self, remote: Remote, now_ms: int) -> None:
        self.heard.append(("closed", remote.node_id))
        assert not self.fabric.say(remote.node_id, ASK, b"still there?", Urgency.CONTROL)

    def tick(self, now_ms: int) -> None:
        if self.due_ms is not None and now_ms >= self.due_ms:
            self.ticks.append(now_ms)
            self.due_ms = None

    def next_timer_ms(self, now_ms: int) -> int | None:
        return self.due_ms

    def end(self) -> None:
        self.ended = True


class Meeting:
    """Two hosts that have met; the second with or without the service."""

    def __init__(self, *, both: bool) -> None:
        self.network = Network(7)
        self.echoes = (Echo(), Echo())
        first, second = self.echoes

        def serving(echo: Echo) -> Sequence[Service]:
            return (echo,)

        self.first = Host(self.network, "first", services=lambda _: serving(first))
        self.second = Host(
            self.network, "second", services=lambda _: serving(second) if both else ()
        )
        self.first.meet(self.second)
        assert self.network.run(5_000, lambda: bool(self.first.mesh.company.connected()))
        self.network.run(1_000)


def test_both_hear_that_it_opened_then_what_the_other_says() -> None:
    met = Meeting(both=True)
    for echo, other in zip(met.echoes, (met.second, met.first), strict=True):
        node_id = other.identity.node_id
        assert echo.heard[0] == ("opened", node_id)
        assert sorted(echo.heard[1:]) == [
            (f"{ASK} how are you?", node_id),
            (f"{ANSWER} well", node_id),
        ]
        assert [remote.features for remote in echo.fabric.remotes()] == [Echo.features]


def test_a_peer_without_the_service_skips_its_messages() -> None:
    met = Meeting(both=False)
    assert met.echoes[0].heard == [("opened", met.second.identity.node_id)]
    assert [remote.features for remote in met.echoes[0].fabric.remotes()] == [0]
    assert met.first.mesh.company.connected()
    assert not met.first.mesh.fabric.say(b"?" * 32, ASK, b"", Urgency.CONTROL)


@pytest.mark.parametrize("how", ["lie", "held against it"])
def test_who_lies_is_refused_and_the_service_hears_the_end(how: str) -> None:
    met = Meeting(both=True)
    first, second = met.first.identity.node_id, met.second.identity.node_id
    if how == "lie":
        met.first.mesh.fabric.say(second, ASK, b"lie", Urgency.CONTROL)
        met.first.wake()
    else:
        met.second.mesh.fabric.hold_against(first, "it has two faces", met.network.now_ms)
        met.second.wake()
    met.network.run(300)
    for echo, node_id in zip(met.echoes, (second, first), strict=True):
        assert ("closed", node_id) in echo.heard
    told = [text for kind, _, text in met.second.notices if kind == "refused"]
    assert any(("ECHO: a lie" if how == "lie" else "it has two faces") in text for text in told)


def test_time_passes_for_a_service_and_it_is_told_the_end() -> None:
    met = Meeting(both=True)
    assert all(len(echo.ticks) == 1 for echo in met.echoes)
    assert met.echoes[0].ticks[0] == 500
    met.first.mesh.close("enough")
    assert met.echoes[0].ended
