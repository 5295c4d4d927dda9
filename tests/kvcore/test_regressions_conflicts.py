"""First committer wins: after an interrupt, with a bounded memory, and over many ranges."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import Conflict
from murmur.kvcore import recent as recent_module
from murmur.kvcore.clock import ManualClock
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.overlay import Ranges
from murmur.kvcore.record import PUT, Operation
from murmur.kvcore.replica import Replica

KEY = b"\x01k"
KEYS = st.binary(max_size=2)


def open_replica() -> Replica:
    return Replica.open(
        MemoryStorage(),
        clock=ManualClock(),
        random_bytes=Random(1).randbytes,
        durability="commit",
    )


def put(replica: Replica, key: bytes, value: bytes = b"v") -> None:
    replica.write([Operation(PUT, key, value)])


def test_a_commit_that_was_published_and_interrupted_still_conflicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_replica() as replica:
        transaction = replica.begin()
        assert transaction.get(KEY) is None
        transaction.put(KEY, b"later")

        def interrupt(stamp: int) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(replica._ledger.hlc, "observe", interrupt)  # just behind the publication
            with pytest.raises(KeyboardInterrupt):
                put(replica, KEY, b"first")
        with pytest.raises(Conflict):
            transaction.commit()


def test_what_is_remembered_for_an_open_transaction_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent_module, "RECENT_BYTES", 10_000)
    with open_replica() as replica:
        reader, blind, counter = replica.begin(), replica.begin(), replica.begin()
        reader.get(b"\x01mine")
        reader.put(b"\x01mine", b"")
        blind.put(KEY, b"blind")
        for number in range(1000):
            put(replica, b"\x01%d" % number)
        assert len(replica._ledger.recent) < 50
        with pytest.raises(Conflict):  # nobody can tell any more
            reader.commit()
        assert blind.commit() is not None
        counter.rollback()
        with replica.begin() as fresh:
            fresh.get(KEY)
            fresh.put(KEY, b"")


@given(st.lists(st.tuples(KEYS, st.none() | KEYS)), st.lists(KEYS))
def test_ranges_hold_what_one_of_them_holds(
    bounds: list[tuple[bytes, bytes | None]], keys: list[bytes]
) -> None:
    ranges = Ranges()
    for added, (start, stop) in enumerate(bounds, 1):
        ranges.add(start, stop)
        for key in keys:
            assert ranges.hold(key) == any(
                low <= key and (high is None or key < high) for low, high in bounds[:added]
            )
