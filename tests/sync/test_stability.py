"""What every member holds, over restarts, departures and silences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from murmur.kvcore import MemoryStorage, write_atomically
from murmur.sync.stability import ACKS_FILE, Stability

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32
X, Y = b"x" * 8, b"y" * 8
MONTH = 30 * 86_400_000


def saved(stability: Stability, storage: MemoryStorage) -> Stability:
    data = stability.changes()
    if data is not None:
        write_atomically(storage, ACKS_FILE, data)
    return Stability(storage, MONTH)


def test_what_is_stable_is_what_all_hold() -> None:
    storage = MemoryStorage()
    stability = Stability(storage, MONTH)
    stability.follow([A, B], 0)
    assert stability.stable({X: 9, Y: 4}, 0) == {}  # nobody has said anything
    stability.hear(A, {X: 7, Y: 4}, 10)
    stability.hear(B, {X: 8}, 10)
    assert stability.stable({X: 9, Y: 4}, 10) == {X: 7}
    stability.hear(B, None, 20)  # it is there, and says no more than that
    again = saved(stability, storage)
    assert again.members == stability.members
    assert again.stable({X: 9, Y: 4}, 20) == {X: 7}
    assert stability.changes() is None
    again.follow([A], 20)  # B was refused
    assert again.stable({X: 9, Y: 4}, 20) == {X: 7, Y: 4}
    assert B not in saved(again, storage).members


def test_who_is_silent_for_too_long_does_not_count_until_it_is_back() -> None:
    stability = Stability(MemoryStorage(), MONTH)
    stability.follow([A, B, C], 0)
    stability.hear(A, {X: 5}, 0)
    stability.hear(B, {X: 3}, MONTH - 1)
    assert stability.expired(MONTH - 1) == set()
    assert stability.expired(MONTH) == {A, C}
    assert stability.stable({X: 9}, MONTH) == {X: 3}
    stability.hear(A, {X: 1}, MONTH)
    assert stability.expired(MONTH) == {C}
    assert stability.stable({X: 9}, MONTH) == {X: 1}


def test_without_members_all_is_stable() -> None:
    assert Stability(MemoryStorage(), MONTH).stable({X: 9, Y: 0}, 0) == {X: 9}


def test_a_damaged_file_keeps_the_log() -> None:
    storage = MemoryStorage()
    stability = Stability(storage, MONTH)
    stability.hear(A, {X: 5}, 0)
    saved(stability, storage)
    write_atomically(storage, ACKS_FILE, b'{"format": 1, "crc": 0, "members": {}}')
    again = Stability(storage, MONTH)
    assert "checksum" in str(again.damage)
    again.follow([A], 0)
    assert again.stable({X: 9}, 0) == {}


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 9), st.integers(0, 9))))
def test_nothing_is_stable_that_a_member_lacks(said: list[tuple[bytes, int, int]]) -> None:
    stability = Stability(MemoryStorage(), MONTH)
    stability.follow([A, B, C], 0)
    held = {node: {X: 0, Y: 0} for node in (A, B, C)}
    for node, x, y in said:
        held[node] = {X: x, Y: y}
        stability.hear(node, {X: x, Y: y}, 1)
    for replica, seq in stability.stable({X: 7, Y: 7}, 1).items():
        assert seq <= min(vector[replica] for vector in held.values())
