from __future__ import annotations

from random import Random

from murmur.sync.backoff import CAP_MS, FLOOR_MS, Backoff


def test_waits_grow_to_the_cap_and_stay_there() -> None:
    longest = [0] * 12
    for seed in range(300):
        backoff = Backoff(Random(seed))
        for attempt in range(12):
            wait = backoff.next_ms()
            assert FLOOR_MS <= wait <= min(CAP_MS, 500 << attempt)
            longest[attempt] = max(longest[attempt], wait)
    assert longest[0] > 400
    assert longest[5] > 12_000
    assert longest[-1] > 50_000


def test_two_nodes_do_not_wait_in_step() -> None:
    waits = {tuple(Backoff(Random(seed)).next_ms() for _ in range(1)) for seed in range(50)}
    assert len(waits) > 40


def test_a_very_long_outage_does_not_overflow() -> None:
    backoff = Backoff(Random(1))
    assert all(backoff.next_ms() <= CAP_MS for _ in range(5000))


def test_success_begins_again() -> None:
    backoff = Backoff(Random(1))
    for _ in range(10):
        backoff.next_ms()
    backoff.reset()
    assert backoff.next_ms() <= 500
