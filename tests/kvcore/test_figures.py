"""Histograms: cheap, and never far from the truth."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from murmur.kvcore.figures import Counts, Histogram, bucket, upper_bound, write_amplification


@given(st.integers(0, 10**15))
def test_a_bucket_is_at_most_a_quarter_wide(duration: int) -> None:
    number = bucket(duration)
    lower = upper_bound(number - 1) if number else 0
    assert lower <= duration < upper_bound(number)
    assert upper_bound(number) - lower <= max(1, lower / 4)


@given(st.lists(st.integers(0, 10**10), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_not_below_and_at_most_a_quarter_above(
    durations: list[int], share: float
) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    rank = next(n for n in range(1, len(durations) + 1) if n >= share * len(durations))
    true = sorted(durations)[rank - 1]
    assert true <= histogram.percentile(share) <= max(true * 1.25, true + 1)
    summary = histogram.summary()
    assert summary["count"] == len(durations)
    assert summary["max_us"] == max(durations) / 1000
    assert summary["total_us"] == sum(durations) / 1000


def test_an_empty_histogram_says_nothing() -> None:
    assert Histogram().summary() == {
        "count": 0,
        "total_us": 0,
        "p50_us": 0,
        "p90_us": 0,
        "p99_us": 0,
        "max_us": 0,
    }


def test_a_duration_beyond_all_buckets_is_in_the_last() -> None:
    histogram = Histogram()
    histogram.record(1 << 80)
    assert histogram.percentile(1) > 0


def test_write_amplification_counts_what_is_written_again() -> None:
    assert write_amplification(Counts()) == 1
    assert write_amplification(Counts(bytes_flushed=100, bytes_compacted=250)) == 3.5
    assert (
        write_amplification(Counts(bytes_flushed=50, bytes_ingested=50, bytes_compacted=50)) == 1.5
    )
