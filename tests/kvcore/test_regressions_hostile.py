"""What peers and callers can say within the format, and must not break anything by it."""

from __future__ import annotations

from random import Random

import pytest

from murmur.errors import DataError, InvalidInput
from murmur.kvcore.cell import visible_fields
from murmur.kvcore.clock import MAX_STAMP, ManualClock
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.record import (
    COUNT,
    INT64_MAX,
    INT64_MIN,
    MAX_FIELDS,
    NO_PREVIOUS,
    PUT,
    Add,
    Counts,
    Operation,
    Reset,
    encode,
)
from murmur.kvcore.replica import Replica

ROW = b"\x02r"
PEER = b"\xff" * 8
NOW = ManualClock().now_ms() << 16


def open_replica(seed: int = 1, storage: MemoryStorage | None = None) -> Replica:
    return Replica.open(
        storage or MemoryStorage(),
        clock=ManualClock(),
        random_bytes=Random(seed).randbytes,
        durability="commit",
    )


def records(replica: Replica) -> list[bytes]:
    return [record for _, record in replica.log.missing({}, replica.durable_position)]


def hostile(operation: Operation, *, stamp: int = NOW + 1) -> bytes:
    return encode(PEER, 1, stamp, NO_PREVIOUS, {}, {}, [operation])


@pytest.mark.parametrize("kind", ["add", "reset"])
def test_counting_on_a_life_that_was_not_seen_does_not_make_replicas_differ(kind: str) -> None:
    with open_replica(1) as author, open_replica(2) as first, open_replica(3) as last:
        with author.begin() as tx:
            tx.insert(ROW, {1: "row"}, {2: 5})
        life = (author.id, 1)
        counts = {
            "add": Counts([Add(2, life, 7)], []),
            "reset": Counts([], [Reset(2, 9, life, {life: {author.id: (3, 0)}})]),
        }[kind]
        unseeing = hostile(Operation(COUNT, ROW, counts))
        for record in (*records(author), unseeing):
            first.apply([record])
        for record in (unseeing, *records(author)):
            last.apply([record])
        assert first.vector == last.vector
        assert first.state_hash() == last.state_hash()


def test_a_record_from_the_end_of_time_is_never_released_and_writing_goes_on() -> None:
    with open_replica() as replica:
        replica.apply([hostile(Operation(PUT, b"\x01k", b"v"), stamp=MAX_STAMP)])
        assert replica.release_parked(force=True) == 0
        assert [parked.stamp for parked in replica.parked()] == [MAX_STAMP]
        replica.write([Operation(PUT, b"\x01k", b"mine")])
        replica.flush()
        assert list(replica.check()) == []


@pytest.mark.parametrize("value", [INT64_MIN, INT64_MAX])
def test_a_counter_set_to_the_bounds_of_64_bits_survives_a_kill(value: int) -> None:
    storage = MemoryStorage()
    replica = open_replica(storage=storage)
    with replica.begin() as tx:
        tx.insert(ROW, {}, {2: 0})
    with replica.begin() as tx:
        tx.reset(ROW, 2, value)
    with open_replica(storage=storage.crash(Random(1))) as again:
        cell = again.get(ROW)
        assert cell is not None
        assert visible_fields(cell) == {2: value}
    replica.close()


def test_increments_of_one_transaction_beyond_64_bits_are_refused() -> None:
    with open_replica() as replica:
        with replica.begin() as tx:
            tx.insert(ROW, {}, {2: 0})
        with replica.begin() as tx:
            tx.add(ROW, 2, INT64_MAX)
            with pytest.raises(DataError):
                tx.add(ROW, 2, INT64_MAX)
        with pytest.raises(DataError), replica.begin() as tx:
            tx.add(ROW, 2, INT64_MIN)
        with pytest.raises(DataError), replica.begin() as tx:
            tx.reset(ROW, 2, INT64_MAX + 1)


def test_more_fields_than_a_record_holds_are_refused_before_they_are_logged() -> None:
    fields = dict.fromkeys(range(MAX_FIELDS + 1), 0)
    with open_replica() as replica:
        with pytest.raises(InvalidInput), replica.begin() as tx:
            tx.insert(ROW, fields)
        with replica.begin() as tx:
            tx.insert(ROW, {})
        with pytest.raises(InvalidInput), replica.begin() as tx:
            tx.edit(ROW, fields)
        assert replica.vector == {replica.id: 1}
