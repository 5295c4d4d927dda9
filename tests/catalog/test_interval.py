import copy
import pickle
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.catalog.interval import (
    Interval,
    add_interval,
    format_interval,
    interval,
    months_of,
    parse_interval,
    total_microseconds,
)

intervals = st.builds(
    interval,
    st.integers(-5000, 5000),
    st.timedeltas(min_value=timedelta(-100_000), max_value=timedelta(100_000)),
)


def test_a_month_compares_as_30_days():
    month = Interval(months=1)
    assert month == timedelta(days=30)
    assert timedelta(days=30) == month
    assert hash(month) == hash(timedelta(days=30))
    assert timedelta(days=29) < month < timedelta(days=31)
    assert timedelta(days=31) >= month >= Interval(months=1)
    assert month != timedelta()


def test_arithmetic_keeps_the_months():
    month = Interval(months=1, hours=1)
    for value, months, exact in [
        (month + timedelta(1), 1, timedelta(days=1, hours=1)),
        (timedelta(1) + month, 1, timedelta(days=1, hours=1)),
        (timedelta(1) - month, -1, timedelta(hours=23)),
        (month - timedelta(1), 1, timedelta(hours=-23)),
        (-month, -1, timedelta(hours=-1)),
        (month * 3, 3, timedelta(hours=3)),
        (3 * month, 3, timedelta(hours=3)),
        (abs(-month), 1, timedelta(hours=1)),
    ]:
        assert (months_of(value), value.exact) == (months, exact)
    assert type(month - Interval(months=1)) is timedelta
    with pytest.raises(TypeError, match="no fixed length"):
        month / 2
    with pytest.raises(TypeError):
        month * 1.5


def test_copies_keep_the_months():
    month = Interval(months=1, days=2)
    for again in (copy.deepcopy(month), pickle.loads(pickle.dumps(month))):
        assert (again.months, again.exact) == (1, timedelta(2))


def test_too_long():
    with pytest.raises(OverflowError):
        Interval(months=2**40)
    with pytest.raises(OverflowError):
        Interval(months=-4_000_000, days=110_000_000)  # the months hide it in the sum


@pytest.mark.parametrize(
    ("moment", "value", "moved"),
    [
        (date(2024, 1, 31), Interval(months=1), date(2024, 2, 29)),
        (date(2024, 3, 31), Interval(months=-1, days=1), date(2024, 3, 1)),
        (date(2024, 12, 31), Interval(months=12), date(2025, 12, 31)),
        (datetime(2024, 1, 31, 23), Interval(months=1, hours=2), datetime(2024, 3, 1, 1)),
        (datetime(2024, 1, 1), timedelta(hours=1), datetime(2024, 1, 1, 1)),
    ],
)
def test_add_interval(moment, value, moved):
    assert add_interval(moment, value) == moved


def test_add_interval_stays_in_the_calendar():
    with pytest.raises(OverflowError):
        add_interval(date(9999, 12, 1), Interval(months=1))
    with pytest.raises(TypeError, match="whole days"):
        add_interval(date(2024, 1, 1), timedelta(hours=1))


@pytest.mark.parametrize(
    ("text", "months", "exact"),
    [
        ("1 year 2 mons -3 days 04:05:06.5", 14, timedelta(-3, hours=4, minutes=5, seconds=6.5)),
        ("1.5 hours ago", 0, timedelta(hours=-1.5)),
        ("P1Y2M-3DT4H5M6.5S", 14, timedelta(-3, hours=4, minutes=5, seconds=6.5)),
        ("-P1M", -1, timedelta()),
        ("pt0,5s", 0, timedelta(seconds=0.5)),
        ("@ 1 min", 0, timedelta(minutes=1)),
        ("1h30m", 0, timedelta(hours=1.5)),
        ("2 weeks", 0, timedelta(14)),
        ("1.5 mons", 1, timedelta(15)),
        ("5 ms 7us", 0, timedelta(microseconds=5007)),
        ("1 century", 1200, timedelta()),
        ("-00:30", 0, timedelta(minutes=-30)),
    ],
)
def test_parse(text, months, exact):
    value = parse_interval(text)
    assert (months_of(value), total_microseconds(value)) == (
        months,
        total_microseconds(interval(months, exact)),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("P", "no quantity"),
        ("PT", "no quantity"),
        ("soon", "no quantity with a unit at 'soon'"),
        ("1 fortnight", "unknown unit fortnight"),
        ("0.0000001 s", "finer than a microsecond"),
        ("1000000 years", "longer than 292,000 years"),
        ("9" * 150 + " days", "longer than 292,000 years"),
        ("1 day " * 100, "longer than 200 characters"),
        ("١ day", "no quantity"),
    ],
)
def test_parse_refuses(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_interval(text)


@given(intervals)
def test_written_intervals_are_read_back(value):
    again = parse_interval(format_interval(value))
    assert (months_of(again), again) == (months_of(value), value)


@given(intervals, intervals)
def test_comparison_is_by_total_length(left, right):
    assert (left < right) == (total_microseconds(left) < total_microseconds(right))
    assert (left == right) == (total_microseconds(left) == total_microseconds(right))
    assert left != right or hash(left) == hash(right)
