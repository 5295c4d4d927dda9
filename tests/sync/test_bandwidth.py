"""How fast bytes may flow, how fast they do, and for how long a peer has lacked something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import InvalidInput
from murmur.sync.bandwidth import LEAST_BURST, Meter, TokenBucket, check_rate
from murmur.sync.lag import MAX_MARKS, Marks
from tests.simulation.network import Host, Network, Weather

RATE = 100_000


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 60_000)), max_size=40))
def test_in_any_time_no_more_than_the_rate_and_a_burst(steps: list[tuple[int, int]]) -> None:
    bucket, now_ms, sent = TokenBucket(RATE), 1_000, 0
    started_ms, largest = now_ms, 0
    for wait_ms, size in steps:
        now_ms += wait_ms
        if bucket.room(now_ms) > 0:
            bucket.take(size)
            sent += size
            largest = max(largest, size)
        allowed = RATE * (now_ms - started_ms) / 1000 + max(LEAST_BURST, RATE // 4)
        assert sent <= allowed + largest
        now_ms += bucket.wait_ms(now_ms)
        assert bucket.room(now_ms) > 0


def test_a_bucket_that_waits_is_used_in_full() -> None:
    bucket, now_ms, sent = TokenBucket(RATE), 0, 0
    while now_ms < 10_000:
        room = bucket.room(now_ms)
        if room > 0:
            bucket.take(room)
            sent += room
        now_ms += max(1, bucket.wait_ms(now_ms))
    assert sent >= RATE * 9


@pytest.mark.parametrize("wrong", [0, -1, 100, 1.5, True, "1"])
def test_what_is_no_rate_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="bandwidth"):
        check_rate(wrong, "bandwidth")
    assert check_rate(None, "bandwidth") is None


def test_the_meter_tells_the_rates_of_late() -> None:
    meter = Meter(0)
    assert meter.rates(0, 0, 0) == (0, 0)
    for second in range(1, 11):
        meter.sample(1_000 * second, 500 * second, 70 * second)
    assert meter.rates(10_000, 5_000, 700) == (500, 70)
    for second in range(11, 14):
        meter.sample(1_000 * second, 5_000, 700)
    assert meter.rates(14_000, 5_000, 700) == (0, 0)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 300))
def test_the_lag_is_the_age_of_the_first_vector_that_is_not_held(
    growth: list[int], held: int
) -> None:
    marks, seq, seen = Marks(), 0, []
    for second, more in enumerate(growth):
        seq += more
        marks.note({b"r": seq}, 1_000 * second)
        seen.append((1_000 * second, seq))
    now_ms = 1_000 * len(growth)
    lacking = [at_ms for at_ms, seq in seen if seq > held]
    expected = now_ms - lacking[0] if lacking else 0
    assert marks.lag_ms(lambda vector: vector[b"r"] <= held, now_ms) == expected


def test_what_was_written_in_a_burst_is_lag_too() -> None:
    marks = Marks()
    marks.note({b"r": 1}, 0)
    for at_ms in range(10, 400, 10):
        marks.note({b"r": at_ms}, at_ms)

    def lag_ms(now_ms: int) -> int:
        return marks.lag_ms(lambda vector: vector[b"r"] <= 100, now_ms)

    assert lag_ms(9_390) == 9_000
    marks.note({b"r": 5_000}, 9_500)  # it has not begun then
    assert lag_ms(9_500) == 9_110


def test_marks_are_bounded_and_the_old_ones_thinned() -> None:
    marks = Marks()
    for second in range(20 * MAX_MARKS):
        marks.note({b"r": second}, 1_000 * second)
    now_ms = 20_000 * MAX_MARKS
    assert len(marks._marks) <= MAX_MARKS
    for held in (0, 100, 5_000, 10_000):
        lag_ms = marks.lag_ms(lambda vector, held=held: vector[b"r"] <= held, now_ms)  # type: ignore[misc]
        assert lag_ms <= now_ms - 1_000 * held
    assert marks.lag_ms(lambda vector: False, now_ms) >= 1_000 * MAX_MARKS


@pytest.mark.parametrize("which", ["bandwidth", "peer_bandwidth", None])
def test_a_limit_is_kept_on_the_way_and_nothing_is_lost(which: str | None) -> None:
    network = Network(11, Weather(latency_ms=(5, 10)))
    limits = {} if which is None else {which: RATE}
    a = Host(network, "a", limits=limits)
    b = Host(network, "b")
    for number in range(40):
        a.replica.put(b"\x01\x01%d" % number, network.random.randbytes(20_000))
    a.meet(b)
    assert network.run(2_000, lambda: bool(a.mesh.company.connected()))
    network.run(2_000)
    (status,) = a.mesh.status(network.now_ms)
    if which is None:
        assert b.replica.vector == a.replica.vector
        assert status.lag_ms == 0
        return
    assert status.bytes_out < 4 * RATE
    assert 0 < status.rate_out < 2 * RATE
    assert status.lag_ms > 1_000
    assert status.backlog > 0
    assert network.run(20_000, lambda: dict(b.replica.vector) == dict(a.replica.vector))
    took_s = network.now_ms / 1000
    assert took_s > 5
    network.run(3_000)
    (status,) = a.mesh.status(network.now_ms)
    assert (status.lag_ms, status.backlog) == (0, 0)
