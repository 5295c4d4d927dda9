"""What no transaction beyond a common cut has touched is the same on both sides."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from murmur.kvcore.fingerprint import CELLS_STOP
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.replica import Replica
from murmur.kvcore.touched import KEY_BYTES, Narrowed, common, touched
from tests.kvcore.test_fingerprint import Cells

FAR = 1 << 30
KEYS = [b"\x01%c" % (97 + i) for i in range(6)]

# (replica, key, delete?) writes; (from, how many) brings records of one to the other.
steps = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 1), st.sampled_from(KEYS), st.booleans()),
        st.tuples(st.integers(0, 1), st.integers(1, 4)),
    ),
    max_size=25,
)


def pair() -> Iterator[Replica]:
    for i in range(2):
        yield Replica.open(
            MemoryStorage(f"{i}"),
            random_bytes=lambda count, i=i: bytes([i + 1]) * count,
            durability="none",
        )


@given(steps)
def test_untouched_cells_are_equal(steps) -> None:
    replicas = list(pair())
    for number, step in enumerate(steps):
        replica, other = replicas[step[0]], replicas[1 - step[0]]
        if len(step) == 3:
            with replica.begin() as tx:
                tx.delete(step[1]) if step[2] else tx.put(step[1], b"%d" % number)
        else:
            records = [record for _, record in replica.log.missing(other.vector)]
            other.apply(records[: step[1]])
    with replicas[0].snapshot() as left, replicas[1].snapshot() as right:
        cut = common(left.vector, right.vector)
        views, keys = [], set()
        for replica, snapshot in zip(replicas, (left, right), strict=True):
            found = touched(replica.log, cut, snapshot.vector, snapshot.position, FAR)
            assert found is not None
            keys |= found
        views = [list(Narrowed(s, None, keys).scan(b"", CELLS_STOP)) for s in (left, right)]
        assert views[0] == views[1]
        only = sorted(set(KEYS) - keys)
        assert list(Narrowed(left, only, keys).scan(b"", CELLS_STOP)) == views[0]
    for replica in replicas:
        replica.close()


def test_what_cannot_be_told_is_not_told() -> None:
    mine, theirs = pair()
    for i in range(3):
        mine.put(b"\x01%d" % i, b"v")
    with mine.snapshot() as snapshot:
        vector, position = snapshot.vector, snapshot.position
        every = {b"\x01%d" % i for i in range(3)}
        assert touched(mine.log, {}, vector, position, FAR) == every
        assert touched(mine.log, {mine.id: 2}, vector, position, FAR) == {b"\x012"}
        assert touched(mine.log, vector, vector, position, 0) == frozenset()
        assert touched(mine.log, {}, vector, position, 3 * (KEY_BYTES + 2)) == every
        assert touched(mine.log, {}, vector, position, 3 * (KEY_BYTES + 2) - 1) is None
        # The log has less than the snapshot, or more: it is not of one moment.
        assert touched(mine.log, {}, {**vector, theirs.id: 1}, position, FAR) is None
        assert touched(mine.log, {}, {mine.id: 2}, position, FAR) is None
    for replica in (mine, theirs):
        replica.close()


@given(
    st.dictionaries(st.sampled_from(KEYS), st.binary(max_size=2)),
    st.sets(st.sampled_from(KEYS)),
    st.one_of(st.none(), st.sets(st.sampled_from(KEYS)).map(sorted)),
    st.sampled_from(KEYS),
    st.one_of(st.none(), st.sampled_from(KEYS)),
)
def test_a_narrowed_view_is_a_filter(cells, without, only, start, stop) -> None:
    view = Narrowed(Cells(cells), only, without)
    expected = [
        (key, cells[key])
        for key in sorted(cells)
        if key not in without
        and (only is None or key in only)
        and key >= start
        and (stop is None or key < stop)
    ]
    if stop is not None:
        assert list(view.scan(start, stop)) == expected
    shown = {key: view.get(key) for key in KEYS if view.get(key) is not None}
    assert {k: v for k, v in shown.items() if k >= start and (stop is None or k < stop)} == dict(
        expected
    )
