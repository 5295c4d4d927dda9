"""Decoders under mutated input: whatever comes is taken or refused by name, and nothing breaks.

What is mutated are real conversations and real records, so that most of it is right. A few seeds
run in `make test`, thousands in `make soak`.

    MURMUR_SEED=17 python -m pytest tests/sync/test_fuzz.py -k "not many"
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from random import Random

import pytest

from murmur.errors import InvalidInput, ProtocolViolation
from murmur.kvcore.clock import ManualClock
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.parking import Delivery
from murmur.kvcore.replica import Replica
from murmur.sync import messages as m
from murmur.sync import wire
from murmur.sync.circuits import unpack_head
from murmur.sync.relay import Relay
from murmur.sync.ticket import Ticket
from murmur.sync.transport import Up
from tests.simulation.network import Host, Network, Weather
from tests.sync.fakes import Pair, record, replica_id
from tests.sync.test_relay import A, B, C, Line

PEER = b"p" * 32
ALICE = replica_id("alice")


def seeds(these: range) -> list[int]:
    chosen = os.environ.get("MURMUR_SEED")
    return [int(chosen)] if chosen else list(these)


def mutate(data: bytes, random: Random) -> bytes:
    """A few changes such as bad memory, bad programs and bad people make."""
    values = (0, 1, 0x7F, 0x80, 0xFF, 0xDD, 0xDF, 0x91)
    changes: list[Callable[[bytes, int], bytes]] = [
        lambda d, i: d[:i] + bytes([d[i] ^ (1 << random.randrange(8))]) + d[i + 1 :],
        lambda d, i: d[:i] + bytes([random.choice(values)]) + d[i + 1 :],
        lambda d, i: d[:i],
        lambda d, i: d[:i] + random.randbytes(random.randint(1, 30)) + d[i:],
        lambda d, i: d[:i] + d[i + random.randint(1, 20) :],
        lambda d, i: d[:i] + struct.pack(">I", random.choice((0, 2**31, 2**32 - 1))) + d[i + 4 :],
        lambda d, i: d[:i] + d[i : i + random.randint(1, 40)] * random.randint(2, 5) + d[i:],
    ]
    for _ in range(random.randint(1, 4)):
        if data:
            data = random.choice(changes)(data, random.randrange(len(data)))
    return data


# -- messages


def payloads() -> list[tuple[int, bytes]]:
    tip = (3, bytes(16))
    hello = m.Hello((1, 1), 7, 1 << 20, 1 << 26, 1 << 22, ALICE, bytes(8), 5, {ALICE: 3}, {ALICE: tip}, ("a:1",))  # fmt: skip  # noqa: E501
    said: list[m.Message] = [
        m.Challenge(bytes(32)),
        m.Proof(bytes(32), bytes(32), bytes(64), bytes(32)),
        m.Welcome(bytes(32)),
        hello,
        m.Records([record(ALICE, 1), record(ALICE, 2)]),
        m.Piece(100, b"part"),
        m.Ack(5, {ALICE: 1}, {ALICE: 2}),
        m.Links(frozenset({ALICE})),
        m.Ping(1),
        m.Pong(1),
        m.Resend({ALICE: 1}),
        m.Bye(1, "why"),
    ]
    return [(message.TYPE, message.payload()) for message in said]


def fuzz_messages(seed: int) -> None:
    random = Random(seed)
    for kind, payload in payloads():
        for _ in range(20):
            try:
                message = m.parse(kind, mutate(payload, random))
            except ProtocolViolation:
                continue
            assert message is not None
            again = m.parse(kind, message.payload())
            assert again == message or kind == m.RECORDS


def fuzz_stream(seed: int) -> None:
    """A conversation, damaged and cut anywhere: it ends with a reason, or waits for more."""
    random = Random(seed)
    pair = Pair().settle()
    pair.dialer.session.send([record(ALICE, seq) for seq in range(1, 9)], {ALICE: 8})
    pair.dialer.session.report({ALICE: 8}, {ALICE: 8}, 1000)
    pair.pass_time(30).settle()
    stream = mutate(bytes(pair.dialer.wire), random)
    side = Pair().acceptor
    while stream:
        size = random.randint(1, len(stream))
        side.handle(side.session.receive(stream[:size], 1000), 1000)
        stream = stream[size:]
        side.session.take_output()
    assert side.ended is None or side.ended.reason


# -- services


def fuzz_services(seed: int) -> None:
    """Mutated messages of push, pull and verification between two hosts: refused, or no harm."""
    random = Random(seed)
    net = Network(seed, Weather(latency_ms=(1, 5)))
    a, b = Host(net, "a"), Host(net, "b")
    for i in range(20):
        a.replica.put(b"\x01%d" % i, b"v")
    a.meet(b)
    net.run(3_000)
    vector = dict(a.replica.vector)
    before = b.replica.state_hash()
    samples = [
        (35, wire.pack([])),
        (36, wire.pack([])),
        (37, wire.pack([bytes(32), 5])),
        (38, wire.pack([1, vector])),
        (39, wire.pack([{a.replica.id: [1, 20]}])),
    ]
    for _ in range(10):
        contact = a.mesh.company.contacts[b.identity.node_id]
        if contact.open is None:
            break
        kind, payload = random.choice(samples)
        contact.open.session.say(kind, mutate(payload, random))
        a.wake()
        net.run(50)
    assert b.replica.state_hash() == before
    a.replica.put(b"\x01after", b"v")
    b.meet(a)
    assert net.run(400_000, until=lambda: b.replica.get(b"\x01after") is not None)


def fuzz_circuits(seed: int) -> None:
    """Mutated messages of a relay and to one: refused, or they end a circuit, or no harm."""
    random = Random(seed)
    line = Line()
    try:
        a, b = line.ends[A.node_id], line.ends[B.node_id]
        a.dial(a.ways(B.node_id, [])[0], 0.0)
        for step in range(60):
            queue, line.queue = line.queue, []
            for who, to_relay, kind, payload in queue:
                if random.random() < 0.2:
                    kind = random.choice((kind, *Relay.kinds))
                    payload = mutate(payload, random)
                try:
                    if to_relay:
                        line.board.relay.received(line.board.remotes[who], kind, payload, step)
                    else:
                        circuit, _, body = unpack_head(payload)
                        line.ends[who].received(C.node_id, kind, circuit, body, step)
                except ProtocolViolation:
                    return
            for end in (a, b):
                for event in end.poll(step / 1000):
                    if isinstance(event, Up):
                        event.link.write(random.randbytes(3000))
                end.flush(step / 1000)
    finally:
        line.close()


# -- records and tickets


def true_records() -> list[bytes]:
    with Replica.open(MemoryStorage(), clock=ManualClock(), random_bytes=Random(1).randbytes) as r:
        r.put(b"\x01key", b"value")
        with r.begin() as tx:
            tx.insert(b"\x02row", {1: "text", 2: 5, 3: None, 4: 1.5}, {5: 7})
        with r.begin() as tx:
            tx.edit(b"\x02row", {1: b"bytes"})
            tx.add(b"\x02row", 5, -3)
        with r.begin() as tx:
            tx.reset(b"\x02row", 5, 9)
        with r.begin() as tx:
            tx.remove(b"\x02row")
        r.delete(b"\x01key")
        r.sync()
        return [data for _, data in r.log.missing({})]


TRUE = true_records()


def fuzz_records(seed: int) -> None:
    """Damaged records are refused or, where they happen to be right, admitted; all stays sound."""
    random = Random(seed)
    storage = MemoryStorage()
    with Replica.open(storage, clock=ManualClock(), random_bytes=Random(2).randbytes) as replica:
        for data in TRUE:
            for _ in range(3):
                try:
                    replica.apply(Delivery([mutate(data, random)], PEER))
                except ProtocolViolation:
                    assert replica.dead_letters()
            try:
                replica.apply([data])
            except ProtocolViolation as error:
                assert "fork" in str(error) or "stamped" in str(error)  # noqa: PT017
        assert list(replica.check()) == []
        vector, state = dict(replica.vector), replica.state_hash()
    with Replica.open(storage, clock=ManualClock(), random_bytes=Random(3).randbytes) as replica:
        assert dict(replica.vector) == vector
        assert replica.state_hash() == state


def fuzz_tickets(seed: int) -> None:
    random = Random(seed)
    ticket = Ticket(bytes(range(32)), "team", ("192.0.2.1:7", "tcp:[::1]:8"), b"i" * 16)
    text = str(ticket)
    for _ in range(50):
        damaged = mutate(text.encode(), random).decode(errors="replace")
        try:
            found = Ticket.parse(damaged)
        except InvalidInput:
            continue
        assert found == ticket, damaged


FUZZERS = [fuzz_messages, fuzz_stream, fuzz_services, fuzz_circuits, fuzz_records, fuzz_tickets]


def run(fuzz: Callable[[int], None], these: Iterable[int]) -> None:
    for seed in these:
        try:
            fuzz(seed)
        except BaseException as error:
            where = f'tests/sync/test_fuzz.py -k "{fuzz.__name__} and not many"'
            error.add_note(f"replay it with: MURMUR_SEED={seed} python -m pytest {where}")
            raise


@pytest.mark.parametrize("fuzz", FUZZERS, ids=lambda fuzz: fuzz.__name__)
def test_mutated_input_is_refused_by_name(fuzz: Callable[[int], None]) -> None:
    run(fuzz, seeds(range(6)))


@pytest.mark.soak
@pytest.mark.parametrize("start", range(0, 20_000, 200))
@pytest.mark.parametrize("fuzz", FUZZERS, ids=lambda fuzz: fuzz.__name__)
def test_much_mutated_input_is_refused_by_name_many(
    fuzz: Callable[[int], None], start: int
) -> None:
    run(fuzz, range(start, start + (20 if fuzz is fuzz_services else 200)))
