"""Classes of messages on a slow link, in virtual time: what is urgent passes, nothing starves."""

from __future__ import annotations

from random import Random

from murmur.sync.output import PART_BYTES
from murmur.sync.service import Fabric, Remote, Urgency
from tests.simulation.network import Host, Network

SNAPSHOT = 210
RATE = 200_000  # bytes a second
FRAME_MS = 1000 * PART_BYTES // RATE  # what one frame of a snapshot takes
CHUNK = 256 << 10


class Snapshots:
    """Counts what it is sent."""

    kinds = (SNAPSHOT,)
    features = 0

    def __init__(self) -> None:
        self.received_bytes = 0

    def start(self, fabric: Fabric, now_ms: int) -> None: ...

    def opened(self, remote: Remote, now_ms: int) -> None: ...

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        self.received_bytes += len(payload)

    def closed(self, remote: Remote, now_ms: int) -> None: ...

    def tick(self, now_ms: int) -> None: ...

    def next_timer_ms(self, now_ms: int) -> int | None:
        return None

    def end(self) -> None: ...


class Pair:
    """Two hosts over a link of RATE, and a snapshot that one of them sends."""

    def __init__(self) -> None:
        self.network = Network(3)
        self.random = Random(3)
        self.snapshots = Snapshots()
        limits = {"peer_bandwidth": RATE}
        self.first = Host(self.network, "first", limits=limits)
        self.second = Host(self.network, "second", services=lambda _: (self.snapshots,))
        self.first.meet(self.second)
        assert self.network.run(5_000, lambda: bool(self.first.mesh.company.connected()))
        self.network.run(1_000)

    def send_snapshot(self, chunks: int) -> None:
        for _ in range(chunks):
            chunk = self.random.randbytes(CHUNK)
            assert self.first.mesh.fabric.say(
                self.second.identity.node_id, SNAPSHOT, chunk, Urgency.BULK
            )
        self.first.wake()

    def put(self, key: bytes, size: int = 10) -> None:
        with self.first.replica.begin() as tx:
            tx.put(b"\x01" + key, self.random.randbytes(size))

    def has(self, key: bytes) -> bool:
        return self.second.replica.get(b"\x01" + key) is not None


def test_a_change_passes_a_snapshot_in_flight() -> None:
    pair = Pair()
    network = pair.network
    pair.send_snapshot(16)  # for twenty seconds
    for number in range(10):
        key = b"%d" % number
        began = network.now_ms
        pair.put(key)
        assert network.run(5_000, lambda key=key: pair.has(key))
        # Durable within 80 ms, on its way within two frames, there and applied within 100.
        assert network.now_ms - began < 2 * FRAME_MS + 400
        network.run(500)
    assert 0 < pair.snapshots.received_bytes < 16 * CHUNK
    (status,) = pair.first.mesh.status(network.now_ms)
    assert status.rtt_ms is not None
    assert status.rtt_ms < 2 * FRAME_MS + 200, "keep-alives do not wait behind it either"
    assert network.run(60_000, lambda: pair.snapshots.received_bytes == 16 * CHUNK)
    assert "disconnected" not in [kind for kind, _, _ in pair.first.notices]


def test_a_snapshot_arrives_under_a_flood_of_changes() -> None:
    pair = Pair()
    network = pair.network
    pair.send_snapshot(4)
    began = network.now_ms
    number = 0
    while pair.snapshots.received_bytes < 4 * CHUNK:
        for _ in range(4):  # twice as much as the link carries
            number += 1
            pair.put(b"%d" % number, RATE // 20)
        network.run(100)
        assert network.now_ms - began < 8 * 4 * CHUNK / RATE * 1000
    assert not pair.has(b"%d" % number), "the link was full all the time"
    assert pair.has(b"1")
