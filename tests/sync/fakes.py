"""Stand-ins for what a conversation needs: a replica that only counts, both ends of a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from murmur.errors import ProtocolViolation
from murmur.sync import messages as m
from murmur.sync.greeting import hello_of
from murmur.sync.identity import Identity
from murmur.sync.outbox import ADMITTED
from murmur.sync.peer import Ended, Event, Greeted, Introduced, PeerSession, Role, State, Timing

GROUP = "team"
INVITE = b"i" * 16
ADDRESS = ("192.0.2.1:7",)


def replica_id(name: str) -> bytes:
    return name.encode().ljust(8, b"-")


def record(replica: bytes, seq: int, size: int = 60) -> bytes:
    """Bytes that have replica and seq where sync looks for them."""
    head = b"\x01" + replica + seq.to_bytes(8) + bytes(8)
    return head + b"x" * (size - len(head))


def dot(data: bytes) -> tuple[bytes, int]:
    return data[1:9], int.from_bytes(data[9:17])


@dataclass
class Result:
    admitted: int


@dataclass
class FakeClock:
    ms: int = 1_767_225_600_000

    def now_ms(self) -> int:
        return self.ms


class FakeOutbox:
    """A log in a list; a record is ready when its predecessor is there. Positions are indexes."""

    def __init__(self, name: str) -> None:
        self.id = replica_id(name)
        self.records: list[bytes] = []
        self.kinds: list[int] = []
        self.vector: dict[bytes, int] = {}
        self.durable_vector: dict[bytes, int] = {}
        self.durable_position = 0
        self.waiting: dict[tuple[bytes, int], bytes] = {}
        self.refused: set[tuple[bytes, int]] = set()  # dots that are set aside, as a wild clock's
        self.clock = FakeClock()
        self.error: Exception | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def log(self) -> FakeOutbox:
        return self

    floor: Mapping[bytes, int] = {}
    former: frozenset[bytes] = frozenset()

    def renew(self, why: str) -> None:
        self.former, self.id = self.former | {self.id}, self.id[:-1] + b"+"

    @property
    def tips(self) -> Mapping[bytes, bytes]:
        newest = {dot(data)[0]: data for data in self.records}
        return {replica: hashlib.md5(data).digest() for replica, data in newest.items()}

    def read(self, start: int, stop: int | None = None) -> Iterator[tuple[int, int, bytes]]:
        for index in range(start, len(self.records) if stop is None else stop):
            yield index + 1, self.kinds[index], self.records[index]

    def missing(
        self, have: Mapping[bytes, int], stop: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        for position, kind, data in self.read(0, stop):
            replica, seq = dot(data)
            if kind == ADMITTED and seq > have.get(replica, 0):
                yield position, data

    def commit(self, count: int = 1, size: int = 60) -> None:
        for _ in range(count):
            self._append(record(self.id, self.vector.get(self.id, 0) + 1, size))
        self.sync()

    def apply(self, records: Sequence[bytes]) -> Result:
        if self.error is not None:
            raise self.error
        for data in records:
            if data[0] != 1:
                raise ProtocolViolation("record byte 0: unknown version")
            if dot(data) not in self.refused:
                self.waiting[dot(data)] = data
        before = len(self.records)
        moved = True
        while moved:
            moved = False
            for (replica, seq), data in sorted(self.waiting.items()):
                if seq <= self.vector.get(replica, 0):
                    del self.waiting[replica, seq]
                elif seq == self.vector.get(replica, 0) + 1:
                    self._append(data)
                    del self.waiting[replica, seq]
                    moved = True
        self.sync()
        return Result(len(self.records) - before)

    def _append(self, data: bytes, kind: int = ADMITTED) -> None:
        self.records.append(data)
        self.kinds.append(kind)
        replica, seq = dot(data)
        self.vector = {**self.vector, replica: seq}

    def sync(self) -> None:
        if self.durable_position < len(self.records):
            self.durable_position = len(self.records)
            self.durable_vector = dict(self.vector)
            for listener in list(self._listeners):
                listener()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


@dataclass
class Side:
    """One end of a conversation, with what happened to it."""

    session: PeerSession
    outbox: FakeOutbox
    admits: bool = True
    fork: str = ""
    events: list[Event] = field(default_factory=list)
    wire: bytearray = field(default_factory=bytearray)  # all that it ever sent

    def handle(self, events: list[Event], now_ms: int) -> None:
        self.events += events
        for event in events:
            if isinstance(event, Introduced) and self.admits:
                hello = hello_of(self.outbox, b"incarnat", ADDRESS)
                self.handle(self.session.admit(hello, now_ms), now_ms)
            elif isinstance(event, Greeted):
                self.handle(self.session.open(now_ms), now_ms)

    @property
    def ended(self) -> Ended | None:
        return next((event for event in self.events if isinstance(event, Ended)), None)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """Two sessions and the stream between them."""

    def __init__(
        self,
        *,
        groups: tuple[str, str] = (GROUP, GROUP),
        invite: bytes | None = INVITE,
        timing: Timing | None = None,
        admits: bool = True,
    ) -> None:
        self.now_ms = 1000
        self.random = Random(1)
        self.dialer_identity = Identity(b"d" * 32)
        self.acceptor_identity = Identity(b"a" * 32)
        self.dialer = Side(
            PeerSession(
                Role.DIALER,
                self.dialer_identity,
                groups[0],
                now_ms=self.now_ms,
                remote_id=self.acceptor_identity.node_id,
                invite=invite,
                timing=timing,
            ),
            FakeOutbox("dialer"),
        )
        self.acceptor = Side(
            PeerSession(
                Role.ACCEPTOR,
                self.acceptor_identity,
                groups[1],
                now_ms=self.now_ms,
                nonce=b"n" * m.NONCE_BYTES,
                invites=(INVITE,),
                timing=timing,
            ),
            FakeOutbox("acceptor"),
            admits=admits,
        )

    def settle(self, cut: Random | None = None) -> Pair:
        """Carry bytes until there are none, whole or cut anywhere."""
        carried = True
        while carried:
            carried = False
            for source, target in ((self.dialer, self.acceptor), (self.acceptor, self.dialer)):
                data = source.session.take_output()
                source.wire += data
                while data:
                    size = len(data) if cut is None else cut.randint(1, 50)
                    piece, data = data[:size], data[size:]
                    target.handle(target.session.receive(piece, self.now_ms), self.now_ms)
                    carried = True
        return self

    def open(self) -> Pair:
        self.settle()
        assert self.dialer.session.state is self.acceptor.session.state is State.OPEN
        return self

    def pass_time(self, milliseconds: int) -> Pair:
        self.now_ms += milliseconds
        for side in (self.dialer, self.acceptor):
            side.handle(side.session.tick(self.now_ms), self.now_ms)
        return self
