import itertools
import threading
import time
import uuid
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.catalog.generated import (
    COUNTER_BITS,
    ID_EPOCH_MS,
    SLOT_BITS,
    IntegerIds,
    Uuid7,
    id_time_ms,
)
from murmur.errors import DataError

NOW = ID_EPOCH_MS + 1_000_000

# A clock that stands, goes back and leaps.
times = st.lists(st.integers(NOW, NOW + 3) | st.integers(ID_EPOCH_MS, NOW * 2), min_size=2)


numbers = itertools.count()


def counting_bytes(size):
    return next(numbers).to_bytes(size)


def uuids(clock):
    return Uuid7(clock, zeros)


def zeros(size):
    return bytes(size)


def ones(size):
    return b"\xff" * size


@given(times, st.sampled_from([zeros, ones, counting_bytes]))
def test_uuids_rise_whatever_clock_and_chance_do(readings, random_bytes):
    clock = iter(readings)
    generate = Uuid7(lambda: next(clock), random_bytes)
    made = [generate() for _ in readings]
    assert all(left < right for left, right in itertools.pairwise(made))
    assert all((value.version, value.variant) == (7, uuid.RFC_4122) for value in made)


def test_the_time_of_a_uuid_is_its_first_48_bits():
    generate = Uuid7(lambda: NOW, zeros)
    assert generate() == uuid.UUID(f"{NOW:012x}70008000000000000000")
    assert generate() == uuid.UUID(f"{NOW:012x}70008000000000000001")


def test_a_uuid_of_a_spent_millisecond_takes_the_next():
    generate = Uuid7(lambda: NOW, ones)
    made = [generate()]
    while made[-1].int >> 80 == NOW:
        generate._tail += 1 << 71
        made.append(generate())
    assert made[-1].int >> 80 == NOW + 1
    assert made == sorted(set(made))


def test_uuids_of_impossible_times():
    for now_ms in (-1, 1 << 48):
        with pytest.raises(DataError, match="cannot hold the time"):
            Uuid7(lambda now_ms=now_ms: now_ms, zeros)()


@given(times)
def test_ids_rise_whatever_the_clock_does(readings):
    clock = iter(readings)
    generate = IntegerIds(b"replica!", lambda: next(clock))
    made = [generate() for _ in readings]
    assert all(left < right for left, right in itertools.pairwise(made))
    assert all(0 < value < 2**63 for value in made)
    slots = {value >> COUNTER_BITS & ((1 << SLOT_BITS) - 1) for value in made}
    assert len(slots) == 1


def test_a_full_millisecond_runs_ahead_of_the_clock():
    generate = IntegerIds(b"replica!", lambda: NOW)
    made = [generate() for _ in range(1000)]
    assert made == sorted(set(made))
    assert [id_time_ms(value) - NOW for value in (made[0], made[255], made[256], made[999])] == [
        0,
        0,
        1,
        3,
    ]


def test_replicas_have_their_own_ids():
    generators = [IntegerIds(bytes([n]) * 8, lambda: NOW) for n in range(5)]
    made = [generate() for generate in generators for _ in range(300)]
    assert len(set(made)) == len(made)


def test_ids_of_impossible_times():
    assert IntegerIds(b"replica!", lambda: 0)() < 1 << (SLOT_BITS + COUNTER_BITS)
    generate = IntegerIds(b"replica!", lambda: ID_EPOCH_MS + (1 << 42))
    with pytest.raises(DataError, match="cannot hold the time"):
        generate()


@pytest.mark.parametrize("make", [lambda clock: IntegerIds(b"replica!", clock), uuids])
def test_threads_share_a_generator(make):
    inside = []
    made = []

    def now_ms():
        inside.append(1)
        time.sleep(0.0001)  # another thread comes in here, unless it is held
        assert len(inside) == 1
        inside.pop()
        return NOW

    generate = make(now_ms)
    threads = [
        threading.Thread(target=lambda: made.extend([generate() for _ in range(50)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 200


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=8))
def test_many_uuids_are_as_those_made_one_by_one(asked):
    clock = itertools.count(NOW, 1).__next__
    generate = Uuid7(clock, Random(5).randbytes)
    made = []
    for many, alone in asked:
        packed = generate.many(many)
        assert len(packed) == 16 * many
        made += [uuid.UUID(bytes=packed[at : at + 16]) for at in range(0, len(packed), 16)]
        made += [generate() for _ in range(alone)]
    assert made == sorted(set(made))
    assert all((each.version, each.variant) == (7, uuid.RFC_4122) for each in made)
