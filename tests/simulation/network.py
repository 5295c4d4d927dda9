"""A network, a clock and hosts in one thread, replayed from a seed.

Time is a heap of events; nothing happens between them. A host is a real Replica on MemoryStorage
and a real Mesh; what is simulated is only what node.py and quic.py do: the clock, the links, the
workers.

    link        an ordered stream with latency and jitter, cut into chunks anywhere
    loss        a chunk that is lost too often ends its link: one end or both learn it at once, or
                only by silence
    partition   chunks wait (QUIC sends them again) until it heals or silence ends the link
    labour      runs work later, in order per lane; slices of records may come twice, late, and in
                another order than they were sent
    crash       the storage loses a random part of what was not synced; peers hear nothing
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from murmur.kvcore import Delivery
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.replica import Replica
from murmur.sync.exchange import Patience
from murmur.sync.identity import Identity
from murmur.sync.mesh import Mesh
from murmur.sync.peer import Timing
from murmur.sync.pull import Pull
from murmur.sync.push import Push
from murmur.sync.roster import Roster
from murmur.sync.service import Service
from murmur.sync.status import PeerInfo
from murmur.sync.ticket import Ticket
from murmur.sync.transport import Data, Down, TransportEvent, Up

EPOCH_MS = 1_767_225_600_000
GROUP = "simulated"


@dataclass
class Weather:
    """How bad the network is."""

    latency_ms: tuple[int, int] = (1, 40)
    loss: float = 0.0  # that a chunk takes its link along
    half_open: float = 0.3  # that the ends of a lost link are not told
    late: float = 0.0  # that a slice of records comes again later
    labour_ms: int = 10  # how long work takes at most
    shuffle: float = 0.0  # that a slice of records comes in another order


class Network:
    """The clock, and who reaches whom."""

    def __init__(self, seed: int, weather: Weather | None = None) -> None:
        self.random = Random(seed)
        self.weather = weather or Weather()
        self.now_ms = 0
        self.hosts: dict[str, Host] = {}
        self.blocked: set[tuple[str, str]] = set()  # (from, to), by host name
        self.bytes_carried = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, delay_ms: int, call: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now_ms + delay_ms, next(self._order), call))

    def serial(self) -> int:
        return next(self._order)

    def run(self, duration_ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; whether `until` came true (checked ten times a second)."""
        deadline = self.now_ms + duration_ms
        next_check = self.now_ms
        while self._heap and self._heap[0][0] <= deadline:
            when, _, call = heapq.heappop(self._heap)
            self.now_ms = max(self.now_ms, when)
            call()
            if until is not None and self.now_ms >= next_check:
                next_check = self.now_ms + 100
                if until():
                    return True
        self.now_ms = deadline
        return until is not None and until()

    def latency(self) -> int:
        return self.random.randint(*self.weather.latency_ms)

    def partition(self, *islands: Sequence[str]) -> None:
        """Only hosts of one island reach each other."""
        home = {name: i for i, island in enumerate(islands) for name in island}
        self.blocked = {(a, b) for a in home for b in home if home[a] != home[b]}

    def heal(self) -> None:
        self.blocked = set()


class SimLink:
    """One end of a stream."""

    room = 1 << 20  # what was written leaves at the next flush
    loss = None

    def __init__(self, transport: SimTransport, address: str, *, dialed: bool) -> None:
        self.serial = transport.network.serial()
        self.transport = transport
        self.address = address
        self.dialed = dialed
        self.peer_id: bytes | None = None
        self.other: SimLink | None = None
        self.outgoing = bytearray()
        self.closing: str | None = None
        self.dead = False  # closed by this end: no more events
        self.ended = False  # Down was delivered
        self.broken = False  # the path: nothing gets through any more
        self.arrival_ms = 0
        self.pipe: deque[bytes | None] = deque()  # arrived, but for a partition

    def write(self, data: bytes) -> None:
        self.outgoing += data
        self.transport.touched.add(self)

    def close(self, reason: str) -> None:
        self.closing = reason
        self.dead = True
        self.transport.touched.add(self)


class SimTransport:
    """One host's end of the network, for one life of its process."""

    def __init__(self, network: Network, host: Host) -> None:
        self.network = network
        self.host = host
        self.touched: set[SimLink] = set()
        self.events: list[TransportEvent] = []
        self.links: set[SimLink] = set()
        self.gone = False

    @property
    def addresses(self) -> Sequence[str]:
        return (self.host.address,)

    def ways(self, node_id: bytes, addresses: Sequence[str]) -> Sequence[str]:
        return addresses

    def fileno(self) -> int:
        raise AssertionError("nothing waits for a simulated socket")

    def dial(self, address: str, now: float) -> SimLink:
        link = SimLink(self, address, dialed=True)
        self.links.add(link)
        self.network.at(self.network.latency(), lambda: self._arrive(link, address))
        return link

    def _arrive(self, link: SimLink, address: str) -> None:
        """The handshake; packets that do not get through are not answered."""
        network = self.network
        target = next((h for h in network.hosts.values() if h.address == address), None)
        if target is None or target.transport is None or link.dead or self.gone:
            return
        here, there = self.host.name, target.name
        if (here, there) in network.blocked or (there, here) in network.blocked:
            return
        other = SimLink(target.transport, self.host.address, dialed=False)
        target.transport.links.add(other)
        link.other, other.other = other, link
        link.peer_id = target.identity.node_id
        target.transport.deliver(Up(other))
        network.at(network.latency(), lambda: self.deliver(Up(link)))

    def deliver(self, event: TransportEvent) -> None:
        link = event.link
        assert isinstance(link, SimLink)
        if not self.gone and not link.dead and not link.ended:
            if isinstance(event, Down):
                link.ended = True
                self.links.discard(link)
            self.events.append(event)
            self.host.wake()

    def poll(self, now: float) -> list[TransportEvent]:
        events, self.events = self.events, []
        return [event for event in events if not getattr(event.link, "dead", False)]

    def flush(self, now: float) -> None:
        # In the order of their making: a set's own order is another one in the next process.
        touched, self.touched = sorted(self.touched, key=lambda link: link.serial), set()
        for link in touched:
            data, link.outgoing = bytes(link.outgoing), bytearray()
            while data:
                size = self.network.random.choice((len(data), self.network.random.randint(1, 4096)))
                chunk, data = data[:size], data[size:]
                self._carry(link, chunk)
            if link.closing is not None:
                self.links.discard(link)
                self._carry(link, None)

    def _carry(self, link: SimLink, chunk: bytes | None) -> None:
        """Send a chunk, or the end of the stream, along the path."""
        network, other = self.network, link.other
        if other is None or link.broken:
            return
        if network.random.random() < network.weather.loss:
            link.broken = other.broken = True
            for end in (link, other):
                if network.random.random() >= network.weather.half_open:
                    lost = Down(end, "the link was lost")
                    network.at(network.latency(), lambda t=end.transport, e=lost: t.deliver(e))
            return
        if chunk is not None:
            network.bytes_carried += len(chunk)
        link.arrival_ms = max(link.arrival_ms, network.now_ms + network.latency())

        def arrive() -> None:
            link.pipe.append(chunk)
            if len(link.pipe) == 1:
                deliver()

        def deliver() -> None:
            while link.pipe and not link.broken:
                if (self.host.name, other.transport.host.name) in network.blocked:
                    network.at(200, deliver)  # sent again; what follows waits in the pipe
                    return
                first = link.pipe.popleft()
                if first is None:
                    other.transport.deliver(Down(other, link.closing or "closed"))
                else:
                    other.transport.deliver(Data(other, first))

        network.at(link.arrival_ms - network.now_ms, arrive)

    def next_timer(self) -> float | None:
        return None

    def close(self, now: float) -> None:
        self.flush(now)
        self.gone = True


class SimLabour:
    """Workers whose work takes virtual time."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.free_ms: dict[str, int] = {}

    def submit(
        self,
        lane: str,
        work: Callable[[], Any],
        done: Callable[[Any, BaseException | None, int], None],
    ) -> None:
        host, network = self.host, self.host.network
        life = host.life
        begin = max(network.now_ms, self.free_ms.get(lane, 0))
        self.free_ms[lane] = begin + network.random.randint(0, network.weather.labour_ms)

        def run() -> None:
            if host.life != life:
                return  # the process died
            result, error = None, None
            try:
                result = work()
            except Exception as raised:
                error = raised
            done(result, error, network.now_ms)
            host.wake()

        network.at(self.free_ms[lane] - network.now_ms, run)


class SimClock:
    """A host's wall clock: the network's time and an error of its own."""

    def __init__(self, network: Network, skew_ms: int) -> None:
        self.network = network
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        return EPOCH_MS + self.network.now_ms + self.skew_ms

    def monotonic_ms(self) -> int:
        return self.network.now_ms


class UnreliableReplica:
    """The replica, to which slices of records come late, twice or in another order."""

    def __init__(self, host: Host, replica: Replica) -> None:
        self._host = host
        self._replica = replica
        self._seen: list[Delivery] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replica, name)

    def apply(self, records: Delivery) -> Any:
        random, weather = self._host.network.random, self._host.network.weather
        if random.random() < weather.shuffle:
            random.shuffle(records)
        if self._seen and random.random() < weather.late:
            self._replica.apply(random.choice(self._seen))
        self._seen = [*self._seen[-20:], records]
        return self._replica.apply(records)


class Host:
    """A process with a replica, which may crash and come back."""

    def __init__(
        self,
        network: Network,
        name: str,
        *,
        durability: str = "batched",
        skew_ms: int = 0,
        timing: Timing | None = None,
        patience: Patience | None = None,
        services: Callable[[Host], Sequence[Service]] = lambda host: (Push(), Pull()),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self.network = network
        self.name = name
        self.address = f"10.0.0.{len(network.hosts) + 1}:7000"
        self.clock = SimClock(network, skew_ms)
        self.durability = durability
        self.timing = timing
        self.patience = patience
        self.limits = dict(limits or {})  # of bandwidth
        self.services = services  # made anew by every process
        self.storage = MemoryStorage(name)
        self.random_bytes = Random(network.random.getrandbits(64)).randbytes
        self.identity = Identity(self.random_bytes(32))
        self.notices: list[tuple[str, str, str]] = []
        self.unmet: list[Host] = []
        self.forgot = False  # it died before it had met everybody, so it may refuse them
        self.life = 0
        self.transport: SimTransport | None = None
        self._wake_ms: int | None = None
        self._dirty = False
        network.hosts[name] = self
        self.boot()

    def boot(self) -> None:
        """Start the process on what the storage holds."""
        self.life += 1
        self.replica = Replica.open(
            self.storage,
            clock=self.clock,
            random_bytes=self.random_bytes,
            durability=self.durability,
            sync_interval_ms=None,
        )
        self.roster = Roster(self.storage, GROUP, self.random_bytes)
        self.transport = SimTransport(self.network, self)
        self.mesh = Mesh(
            UnreliableReplica(self, self.replica),  # type: ignore[arg-type]
            self.identity,
            self.roster,
            self.transport,
            SimLabour(self),
            group=GROUP,
            incarnation=self.random_bytes(8),
            random=Random(self.network.random.getrandbits(64)),
            random_bytes=self.random_bytes,
            timing=self.timing,
            patience=self.patience,
            services=self.services(self),
            **self.limits,
            on_notice=lambda *notice: self.notices.append(notice),
        )
        self.replica.subscribe(self._durable_moved)
        self.mesh.start(self.network.now_ms)
        self._wake_ms = None
        self.wake()
        if self.durability == "batched":
            self._sync_later()

    def crash(self) -> None:
        """Lose power: nothing is said to anybody."""
        # Under "none" a power cut may cost what was told; the replica comes back as another one.
        told = {} if self.durability == "none" else dict(self.replica.durable_vector)
        assert self.transport is not None
        self.transport.gone = True
        for link in self.transport.links:
            link.broken = True
            if link.other is not None:
                link.other.broken = True
        self.transport = None
        self.life += 1
        survivor = self.storage.crash(self.network.random)
        self.storage.limit(None)
        self.replica.close()  # of the dead process: only to end its threads
        self.storage = survivor
        self.told = told
        self.forgot |= bool(self.unmet)

    def restart(self) -> None:
        """Come back; whatever was told to a peer has to be there."""
        self.boot()
        unmet, self.unmet = self.unmet, []
        for other in unmet:
            self.meet(other)
        for replica, seq in self.told.items():
            have = self.replica.vector.get(replica, 0)
            assert have >= seq, (
                f"{self.name} told of {replica.hex()}:{seq} and came back with {have}"
            )

    @property
    def alive(self) -> bool:
        return self.transport is not None

    def ticket(self) -> Ticket:
        return Ticket(self.identity.node_id, GROUP, (self.address,), self.roster.invite)

    def meet(self, other: Host) -> None:
        """As a user would: a process that dies before the peer is met is told again."""
        self.unmet.append(other)
        life = self.life

        def answer(info: PeerInfo | None, error: BaseException | None) -> None:
            if self.life == life and error is None:
                self.unmet.remove(other)

        self.mesh.connect(other.ticket(), answer, self.network.now_ms)
        self.wake()

    def wake(self) -> None:
        """Run the loop once, now."""
        self._wake_at(self.network.now_ms)

    def _wake_at(self, when_ms: int) -> None:
        if self._wake_ms is not None and self._wake_ms <= when_ms:
            return
        self._wake_ms = when_ms
        life = self.life
        self.network.at(max(0, when_ms - self.network.now_ms), lambda: self._turn(life, when_ms))

    def _durable_moved(self) -> None:
        self._dirty = True
        if self.alive:
            self.wake()

    def _sync_later(self) -> None:
        life = self.life

        def sync() -> None:
            if self.life == life:
                self.replica.sync()
                self._sync_later()

        self.network.at(self.network.random.randint(20, 80), sync)

    def _turn(self, life: int, when_ms: int) -> None:
        if self.life != life or self._wake_ms != when_ms:
            return  # of a dead process, or another turn came first
        self._wake_ms = None
        now_ms, mesh, transport = self.network.now_ms, self.mesh, self.transport
        assert transport is not None
        for event in transport.poll(now_ms / 1000):
            mesh.handle(event, now_ms)
        if self._dirty:
            self._dirty = False
            mesh.durable_moved(now_ms)
        mesh.tick(now_ms)
        mesh.flush(now_ms)
        transport.flush(now_ms / 1000)
        assert mesh.failure is None, mesh.failure
        timer_ms = mesh.next_timer_ms(now_ms)
        if timer_ms is not None:
            self._wake_at(max(timer_ms, now_ms + 1))
