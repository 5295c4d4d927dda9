"""Real QUIC connections over a simulated path, on a virtual clock and from a seed.

They are aioquic's, with the congestion control that a flow names, or qh3's, which has its own.

The path has a rate, a delay each way, a queue that drops what does not fit, and random loss. Flows
share it: their packets wait in one queue.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from random import Random
from types import ModuleType
from typing import Any

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from murmur.sync.identity import Identity

SERVER = Identity(b"s" * 32)
QH3 = "qh3"
SERVER_HOST, CLIENT_HOST = "10.0.0.1", "10.0.0.2"
TICK_S = 1e-5
AHEAD_BYTES = 1 << 20


@dataclass
class Path:
    """How bytes get from one side to the other."""

    rate: float = 12.5e6  # bytes a second
    delay_s: float = 0.02
    loss: float = 0.0
    queue_bytes: int = 256 << 10
    dark: tuple[float, float] = (0.0, 0.0)  # nothing passes between these times


@dataclass
class Flow:
    """One transfer: a client that sends, a server that counts."""

    algorithm: str
    total: int
    starts_s: float = 0.0
    received: int = 0
    finished_s: float | None = None
    client: Any = field(init=False)
    server: Any = field(init=False)
    events: ModuleType = events
    sent: int = 0
    up_s: float | None = None

    def __post_init__(self) -> None:
        if self.algorithm == QH3:
            self._qh3()
            return
        common = {
            "alpn_protocols": ["wan"],
            "congestion_control_algorithm": self.algorithm,
            "max_data": 16 << 20,
            "max_stream_data": 16 << 20,
        }
        self.client = QuicConnection(configuration=QuicConfiguration(verify_mode=0, **common))
        self._answer = lambda cid: QuicConnection(
            configuration=QuicConfiguration(
                is_client=False,
                certificate=SERVER.certificate(),
                private_key=SERVER.private_key,
                **common,
            ),
            original_destination_connection_id=cid,
        )

    def _qh3(self) -> None:
        from murmur.sync import quic_qh3

        core = quic_qh3.Qh3Core(SERVER)
        self.events = quic_qh3.events
        self.client = core.connection(SERVER_HOST, dialed=True)
        self._answer = lambda cid: core.connection(CLIENT_HOST, dialed=False, original_cid=cid)

    def begin(self, now: float) -> None:
        self.client.connect((SERVER_HOST, 1), now)
        self.server = self._answer(self.client.original_destination_connection_id)

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent, or to be acknowledged (aioquic)."""
        if self.algorithm == QH3:
            return int(self.client.get_send_buffer_size(0))
        stream = self.client._streams.get(0)
        return 0 if stream is None else len(stream.sender._buffer)

    @property
    def megabytes_per_second(self) -> float:
        assert self.finished_s is not None
        assert self.up_s is not None
        return self.total / (self.finished_s - self.up_s) / 1e6


class Wan:
    """Lets flows run over a path."""

    def __init__(self, path: Path, flows: list[Flow], seed: int = 1) -> None:
        self.path, self.flows, self.now = path, flows, 0.0
        self.overflows = 0
        self._waiting = sorted(flows, key=lambda flow: flow.starts_s)
        self._random = Random(seed)
        self._order = count()
        self._air: list[tuple[float, int, Any, bytes, str]] = []
        self._free = {True: 0.0, False: 0.0}  # when the queue of each direction is empty
        self._of: dict[Any, Flow] = {}

    def run(self, until_s: float) -> None:
        waiting = self._waiting
        while self.now < until_s and any(flow.finished_s is None for flow in self.flows):
            while waiting and waiting[0].starts_s <= self.now:
                flow = waiting.pop(0)
                flow.begin(self.now)
                self._of[flow.client] = self._of[flow.server] = flow
                self._speak(flow.client)
            times = [waiting[0].starts_s] if waiting else []
            times += [self._air[0][0]] if self._air else []
            timers = {connection: connection.get_timer() for connection in self._of}
            times += [timer for timer in timers.values() if timer is not None]
            self.now = max(self.now, min(times)) + TICK_S
            touched = set()
            while self._air and self._air[0][0] <= self.now:
                _, _, connection, data, source = heapq.heappop(self._air)
                connection.receive_datagram(data, (source, 1), self.now)
                touched.add(connection)
            for connection, timer in timers.items():
                if timer is not None and timer <= self.now:
                    connection.handle_timer(self.now)
                    touched.add(connection)
            for connection in touched:
                self._listen(connection)
            for connection in touched:
                self._speak(connection)

    def _listen(self, connection: Any) -> None:
        flow = self._of[connection]
        while (event := connection.next_event()) is not None:
            if isinstance(event, flow.events.HandshakeCompleted) and connection is flow.client:
                flow.up_s = self.now
            elif isinstance(event, flow.events.StreamDataReceived):
                flow.received += len(event.data)
                if flow.received >= flow.total and flow.finished_s is None:
                    flow.finished_s = self.now

    def _speak(self, connection: Any) -> None:
        flow = self._of[connection]
        if connection is flow.client and flow.up_s is not None:
            more = min(flow.total - flow.sent, AHEAD_BYTES - flow.queued)
            if more > 0:
                connection.send_stream_data(0, bytes(more))
                flow.sent += more
        forth = connection is flow.client
        other, source = (flow.server, CLIENT_HOST) if forth else (flow.client, SERVER_HOST)
        path = self.path
        for data, _ in connection.datagrams_to_send(self.now):
            leaves = max(self._free[forth], self.now)
            if (leaves - self.now) * path.rate > path.queue_bytes:
                self.overflows += 1
                continue
            self._free[forth] = leaves + len(data) / path.rate
            if self._random.random() < path.loss or path.dark[0] <= self.now < path.dark[1]:
                continue
            arrives = self._free[forth] + path.delay_s
            heapq.heappush(self._air, (arrives, next(self._order), other, data, source))
