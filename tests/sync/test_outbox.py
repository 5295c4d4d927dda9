from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import Trimmed
from murmur.sync.outbox import Cursor, Part
from tests.sync.fakes import FakeOutbox, dot, record, replica_id

NAMES = [replica_id(name) for name in "abcd"]


def outbox_with(authors: list[int]) -> FakeOutbox:
    """A log in which these authors wrote in this order; -1 is a record set aside."""
    outbox = FakeOutbox("a")
    for author in authors:
        if author < 0:
            outbox._append(record(NAMES[3], 1), kind=2)
            outbox.vector.pop(NAMES[3])
        else:
            outbox._append(record(NAMES[author], outbox.vector.get(NAMES[author], 0) + 1))
    outbox.sync()
    return outbox


logs = st.lists(st.integers(-1, 2), max_size=40)


def drain(cursor: Cursor, limit: int, avoid: frozenset[bytes] = frozenset()) -> list[bytes]:
    records: list[bytes] = []
    while True:
        part = cursor.read(limit, avoid)
        records += part.records
        last: dict[bytes, int] = {}
        for data in part.records:
            last[dot(data)[0]] = dot(data)[1]
        assert part.last == last
        if cursor.live and cursor.distance() == 0:
            return records


@given(logs, logs, st.dictionaries(st.sampled_from(NAMES), st.integers(1, 20)), st.integers(1, 900))
def test_a_cursor_hands_out_what_the_peer_lacks_once_and_in_order(
    before: list[int], after: list[int], known: dict[bytes, int], limit: int
) -> None:
    outbox, held = outbox_with(before), dict(known)
    cursor = Cursor(outbox, known)
    first = drain(cursor, limit)
    grown = outbox_with(before + after)
    outbox.records, outbox.kinds = grown.records, grown.kinds
    outbox.vector = grown.vector
    outbox.sync()
    for data in first:  # what was sent counts as known, as the session sees to
        known[dot(data)[0]] = dot(data)[1]
    everything = [dot(data) for data in first + drain(cursor, limit)]
    for name in NAMES:
        seqs = [seq for author, seq in everything if author == name]
        start = held.get(name, 0)
        assert seqs == list(range(start + 1, max(start, outbox.vector.get(name, 0)) + 1))


@given(logs, st.integers(1, 900))
def test_authors_to_avoid_are_skipped_and_named(authors: list[int], limit: int) -> None:
    outbox = outbox_with(authors)
    avoid = frozenset({NAMES[1]})
    cursor, skipped, sent = Cursor(outbox, {}), set[bytes](), []
    while not cursor.live:
        part = cursor.read(limit, avoid)
        skipped |= part.skipped
        sent += part.records
    assert skipped == ({NAMES[1]} if 1 in authors else set())
    assert all(dot(data)[0] != NAMES[1] for data in sent)
    assert len(sent) == sum(author in (0, 2) for author in authors)


def test_nothing_beyond_the_durable_position_is_read() -> None:
    outbox = outbox_with([0, 0])
    outbox._append(record(NAMES[0], 3))
    cursor = Cursor(outbox, {})
    assert [dot(data)[1] for data in drain(cursor, 10_000)] == [1, 2]
    assert cursor.distance() == 0
    outbox.sync()
    assert [dot(data)[1] for data in drain(cursor, 10_000)] == [1, 2, 3][2:]


def test_slices_are_bounded_but_never_empty() -> None:
    outbox = outbox_with([0] * 10)
    part = Cursor(outbox, {}).read(1, frozenset())
    assert len(part.records) == 1
    part = Cursor(outbox, {}).read(3 * 64, frozenset())
    assert len(part.records) == 3


def test_a_cursor_leaves_no_gap_where_the_log_has_a_floor() -> None:
    outbox = outbox_with([0, 0, 1, 0])
    outbox.floor = {NAMES[0]: 2}
    with pytest.raises(Trimmed):
        Cursor(outbox, {NAMES[0]: 1, NAMES[1]: 1}).read(900, frozenset())
    cursor = Cursor(outbox, {NAMES[0]: 2})
    assert len(drain(cursor, 900)) == 2
    cursor = Cursor(outbox, {NAMES[0]: 2})
    outbox.floor = {NAMES[0]: 2, NAMES[1]: 1}  # it rises while somebody reads
    with pytest.raises(Trimmed):
        cursor.read(900, frozenset())


@given(
    st.lists(st.sampled_from(NAMES[:3]), max_size=40),
    st.dictionaries(
        st.sampled_from(NAMES[:3]),
        st.tuples(st.integers(1, 20), st.integers(0, 20)).map(lambda p: (p[0], p[0] + p[1])),
    ),
    st.integers(1, 300),
)
def test_a_part_is_what_was_asked_for_in_the_order_of_the_log(
    authors: list[bytes], ranges: dict[bytes, tuple[int, int]], limit: int
) -> None:
    outbox = FakeOutbox("x")
    for author in authors:
        outbox._append(record(author, outbox.vector.get(author, 0) + 1))
    outbox.sync()
    part, found, ended = Part(outbox, ranges), [], False
    while not ended:
        records, ended = part.read(limit)
        assert records or ended
        found += records
    expected = [
        data
        for data in outbox.records
        if (at := dot(data))[0] in ranges and ranges[at[0]][0] <= at[1] <= ranges[at[0]][1]
    ]
    assert found == expected
