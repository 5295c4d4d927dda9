"""A whole disk that was put back to an earlier state, files and their identities alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from murmur.kvcore.memory_storage import MemoryStorage
from murmur.sync.admittance import RENEW_MS
from murmur.sync.greeting import hello_of
from tests.simulation.network import Host, Network, Weather

CALM = Weather(latency_ms=(5, 15))


class Hypervisor:
    """Two hosts that have met; the disk of the first is kept, and put back."""

    def __init__(self) -> None:
        self.net = Network(4, CALM)
        self.a, self.b = Host(self.net, "a"), Host(self.net, "b")
        self.a.meet(self.b)
        self.write(self.a, "before", 5)
        assert self.run(self.same)
        self.old = self.a.replica.id
        # The same device and inodes, as a hypervisor puts them back.
        self.kept = self.a.storage._with(self.a.storage._disk.cloned(same_device=True))

    def write(self, host: Host, name: str, count: int) -> None:
        for i in range(count):
            host.replica.put(b"\x01%s%d" % (name.encode(), i), b"v")

    def put_back(self) -> None:
        self.a.crash()
        self.a.storage, self.a.told = self.kept, {}
        self.net.run(5_000)

    def run(self, until: Callable[[], bool], milliseconds: int = 60_000) -> bool:
        return self.net.run(milliseconds, until=until)

    def same(self) -> bool:
        return dict(self.a.replica.vector) == dict(self.b.replica.vector) and bool(
            self.a.mesh.company.connected()
        )

    def told(self, host: Host, kind: str) -> list[str]:
        return [text for each, _, text in host.notices if each == kind]


def test_the_disk_is_put_back_unseen() -> None:
    """What the others assume: no file tells of it."""
    case = Hypervisor()
    case.put_back()
    case.a.restart()
    assert case.a.replica.id == case.old
    assert case.a.replica.renewed is None


def test_it_takes_a_new_id_and_gets_back_what_it_had_told() -> None:
    case = Hypervisor()
    case.write(case.a, "lost", 7)
    assert case.run(case.same)
    case.put_back()
    case.a.restart()
    assert case.run(lambda: case.a.replica.id != case.old)
    assert case.a.replica.former == {case.old}
    assert "put back to an earlier state" in (case.a.replica.renewed or "")
    (told,) = case.told(case.a, "renewed")
    assert "holds 12 transactions" in told
    assert "has written 5" in told
    assert case.run(case.same)
    assert case.a.replica.get(b"\x01lost6") is not None
    case.write(case.a, "later", 3)
    case.write(case.b, "theirs", 3)
    assert case.run(case.same)
    assert case.a.replica.state_hash() == case.b.replica.state_hash()
    assert case.b.replica.vector[case.old] == 12
    assert case.b.replica.vector[case.a.replica.id] == 3
    for host in (case.a, case.b):
        assert not case.told(host, "quarantined")
        assert not case.told(host, "refused")
        assert not host.replica.dead_letters()
    (status,) = case.b.mesh.status(case.net.now_ms)
    assert status.replica_id == case.a.replica.id.hex()
    case.a.crash()
    case.a.restart()
    case.write(case.a, "again", 1)
    assert case.run(case.same)
    assert len(case.told(case.a, "renewed")) == 1


@pytest.mark.parametrize("written", [1, 7, 9])
def test_what_it_wrote_before_it_met_anybody_is_refused_and_says_what_to_do(written: int) -> None:
    case = Hypervisor()
    case.write(case.a, "lost", 7)
    assert case.run(case.same)
    case.put_back()
    case.net.partition("a", "b")
    case.a.restart()
    case.write(case.a, "forked", written)
    case.net.run(2_000)
    case.net.heal()
    hosts = (case.a, case.b)
    assert case.run(lambda: any(case.told(host, "refused") for host in hosts))
    texts = [text for host in hosts for text in case.told(host, "refused")]
    assert all("fork: two" in text for text in texts)
    if written < 7:  # it learns of it first, and the peer is not to blame
        assert any("join the group with a new directory" in text for text in texts)
        assert not case.told(case.a, "quarantined")
    for host, name in ((case.a, "forked0"), (case.b, "lost6")):
        assert host.replica.get(b"\x01" + name.encode()) is not None, "each keeps what it has"


def test_a_peer_that_claims_it_again_and_again_is_refused() -> None:
    case = Hypervisor()
    claimed: list[bytes] = []
    original = case.b.mesh._admittance.introduced

    class Claiming:
        """An outbox that always has more of the other than it has written itself."""

        def __init__(self, outbox: object) -> None:
            self._outbox = outbox

        def __getattr__(self, name: str) -> object:
            found = getattr(self._outbox, name)
            if name == "durable_vector":
                claimed.append(case.a.replica.id)
                return {**found, case.a.replica.id: 1 << 20}
            return found

    assert original is not None
    case.b.mesh._admittance._outbox = Claiming(case.b.mesh._admittance._outbox)  # type: ignore[assignment]
    (conversation,) = case.a.mesh.company.opened()
    case.a.mesh._endings.end(conversation, 0, "again", case.net.now_ms)
    case.net.run(RENEW_MS // 2)
    ids = {case.old, *case.a.replica.former, case.a.replica.id}
    assert len(ids) == 2, "it takes one id, not one for each claim"
    assert any("put back" in text for text in case.told(case.a, "refused"))
    assert hello_of(case.a.replica, bytes(8), ()).replica == case.a.replica.id  # type: ignore[arg-type]
    assert isinstance(case.a.storage, MemoryStorage)
