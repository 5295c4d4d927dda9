"""The native memtable: versions, range tombstones, failures, collisions, many threads."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from random import Random
from types import ModuleType
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import InvalidInput
from murmur.kvcore.kernel import ABSENT, Entry
from tests.kvcore.kernel.folder import Range, load_kernel

State = dict[bytes, bytes | None]  # None: deleted

some_keys = st.one_of(
    st.binary(max_size=2),
    st.lists(st.sampled_from([b"\x00", b"\xff", b"a"]), max_size=12).map(b"".join),
    st.builds(b"%s%04d".__mod__, st.tuples(st.sampled_from([b"", b"user:"]), st.integers(0, 300))),
    st.builds(bytes.__mul__, st.sampled_from([b"x", b"\xff"]), st.integers(0, 40)),
)
entries = st.tuples(some_keys, st.none() | st.binary(max_size=3))
batches = st.lists(entries, max_size=80)
cuts = st.lists(st.tuples(some_keys, some_keys), max_size=2)


@pytest.fixture(scope="module")
def native() -> ModuleType:
    return load_kernel("native")


def scan(native: ModuleType, memtable: Any, sequence: int, *bounds: bytes, **options: bool) -> Any:
    start, stop = bounds or (b"", None)
    return list(native.Reads([memtable], [], {}).scan(start, stop, sequence, **options))


def written(state: State, batch: Sequence[Entry], ranges: Sequence[Range]) -> State:
    """The state after a batch, whose ranges apply first."""
    kept = {
        key: None if any(start <= key < stop for start, stop in ranges) else value
        for key, value in state.items()
    }
    return {**kept, **dict(batch)}


@given(st.lists(st.tuples(batches, cuts, st.sampled_from("pppx")), max_size=10), st.data())
def test_every_sequence_reads_as_a_dict_would(
    native: ModuleType, steps: list[tuple[list[Entry], list[Range], str]], data: st.DataObject
) -> None:
    memtable = native.Memtable(7)
    states: list[State] = [{}]
    covered: list[list[Range]] = [[]]
    for batch, ranges, fate in steps:
        memtable.apply(7 + len(states), batch, (), ranges)
        if fate == "p":  # else it is not published, and the next one has its number
            states.append(written(states[-1], batch, ranges))
            covered.append(covered[-1] + ranges)
    probes = [*states[-1], *(bound for pair in covered[-1] for bound in pair)]
    for at in {0, len(states) - 1, data.draw(st.integers(0, len(states) - 1))}:
        sequence, state = 7 + at, states[at]
        live = sorted((key, value) for key, value in state.items() if value is not None)
        for key in probes:
            hidden = any(start <= key < stop for start, stop in covered[at])
            assert memtable.get(key, sequence) == state.get(key, None if hidden else ABSENT)
        assert scan(native, memtable, sequence) == live
        assert scan(native, memtable, sequence, reverse=True) == live[::-1]
        start, stop = data.draw(some_keys), data.draw(some_keys)
        within = [pair for pair in live if start <= pair[0] < stop]
        assert scan(native, memtable, sequence, start, stop) == within
        assert scan(native, memtable, sequence, start, stop, reverse=True) == within[::-1]
        starts, stops = memtable.ranges(sequence)
        bounds = [bound for pair in zip(starts, stops, strict=True) for bound in pair]
        assert bounds == sorted(set(bounds))  # disjoint, and apart from each other
        for key in probes:
            assert any(map(lambda a, b: a <= key < b, starts, stops)) == any(
                start <= key < stop for start, stop in covered[at]
            )
    assert (len(memtable) > 0) >= bool(states[-1])


def test_what_was_not_published_is_gone_when_it_is_frozen(native: ModuleType) -> None:
    memtable = native.Memtable(0)
    memtable.apply(1, [(b"a", b"1")])
    memtable.apply(2, [(b"a", None), (b"b", b"2")], (), [(b"", b"z")])
    memtable.freeze(1)
    assert scan(native, memtable, 1 << 60) == [(b"a", b"1")]
    assert (len(memtable), memtable.newest) == (1, 1)
    assert memtable.ranges(1 << 60) == ([], [])
    with pytest.raises(InvalidInput):
        memtable.apply(3, [(b"c", b"3")])


def test_empty_memtables_are_empty(native: ModuleType) -> None:
    memtable = native.Memtable(0)
    assert (len(memtable), memtable.bytes) == (0, 0)
    memtable.apply(1, [], (), [(b"b", b"a"), (b"c", b"c")])
    assert len(memtable) == 0
    assert scan(native, memtable, 1) == scan(native, memtable, 1, reverse=True) == []
    memtable.apply(2, [], (), [(b"a", b"b")])
    assert len(memtable) > 0


def test_bytes_count_what_is_written(native: ModuleType) -> None:
    memtable = native.Memtable(0)
    before = 0
    for sequence in range(1, 100):
        memtable.apply(sequence, [(b"same key", bytes(1000))])
        assert 1000 <= memtable.bytes - before < 1100 or sequence == 1
        before = memtable.bytes


@pytest.mark.parametrize(
    "batch",
    [
        [(b"a", b"2"), ("b", b"2")],
        [(b"a", b"2"), (b"b", "2")],
        [(b"a", b"2"), (b"b", 2)],
        [(b"a", b"2"), (b"b",)],
        [(b"a", b"2"), (b"b", b"2", b"2")],
        [(b"a", b"2"), b"bb"],
        [(b"a", b"2"), None],
        [(bytearray(b"a"), b"2")],
        None,
        7,
    ],
)
def test_a_wrong_batch_changes_nothing(native: ModuleType, batch: Any) -> None:
    memtable = native.Memtable(0)
    memtable.apply(1, [(b"a", b"1")])
    size = memtable.bytes
    with pytest.raises(TypeError):
        memtable.apply(2, batch)
    with pytest.raises(TypeError):
        memtable.apply(2, [(b"a", None)], (), [(b"a", b"b"), (b"c", None)])
    assert (memtable.bytes, memtable.newest) == (size, 1)
    assert scan(native, memtable, 2) == [(b"a", b"1")]


def test_what_no_table_can_hold_is_refused(native: ModuleType) -> None:
    memtable = native.Memtable(0)
    with pytest.raises(InvalidInput, match="bytes"):
        memtable.apply(1, [(b"a", b"1"), (b"b", bytes(1 << 30))])
    assert len(memtable) == 0


def test_without_memory_nothing_changes(native: ModuleType) -> None:
    """Each allocation of an `apply` fails once."""
    rng = Random(3)
    before = [(b"%05d" % number, b"old") for number in range(0, 3000, 50)]
    batch: list[Entry] = [(b"%05d" % rng.randrange(3000), rng.randbytes(99)) for _ in range(2000)]
    batch += [(b"%05d" % rng.randrange(3000), None) for _ in range(200)]
    batch += [(b"long" + bytes(1 << 20), bytes(3 << 20))]
    ranges = [(b"%05d" % at, b"%05d" % (at + 30)) for at in range(0, 3000, 100)]
    expected = written(dict(before), batch, ranges)
    failures = 0
    while True:
        memtable = native.Memtable(0)
        memtable.apply(1, before)
        size = len(memtable)
        native.fail_allocation(failures + 1)
        try:
            memtable.apply(2, batch, (), ranges)
        except MemoryError:
            failures += 1
        else:
            break
        finally:
            native.fail_allocation(0)
        assert (len(memtable), memtable.newest) == (size, 1)
        for sequence in (1, 1 << 60):
            assert scan(native, memtable, sequence) == before
            assert memtable.ranges(sequence) == ([], [])
        memtable.apply(2, batch, (), ranges)
        assert dict(scan(native, memtable, 2)) == {
            key: value for key, value in expected.items() if value is not None
        }
    assert failures > 8


def colliding_keys(count: int) -> list[bytes]:
    """Keys with one CRC-32: a number, then 4 bytes that undo what it does to the sum."""
    # The sum is linear in those bytes: columns[b] is what bit b changes, `basis` solves for it.
    zero = crc32(bytes(8))
    basis: dict[int, tuple[int, int]] = {}  # highest bit -> (sum, bits that make it)
    for bit in range(32):
        value, made = crc32(bytes(4) + (1 << bit).to_bytes(4, "little")) ^ zero, 1 << bit
        while value and value.bit_length() in basis:
            other, by = basis[value.bit_length()]
            value, made = value ^ other, made ^ by
        basis[value.bit_length()] = (value, made)
    keys = []
    for number in range(count):
        prefix = number.to_bytes(4, "big")
        wanted, bits = crc32(prefix + bytes(4)) ^ 0xABCD, 0
        while wanted:
            value, made = basis[wanted.bit_length()]
            wanted, bits = wanted ^ value, bits ^ made
        keys.append(prefix + bits.to_bytes(4, "little"))
    assert {crc32(key) for key in keys} == {0xABCD}
    return keys


def test_keys_whose_hashes_collide_are_found(native: ModuleType) -> None:
    keys = colliding_keys(3000)
    memtable = native.Memtable(0)
    for sequence, key in enumerate(keys, 1):
        memtable.apply(sequence, [(key, b"%d" % sequence), (b"other %d" % sequence, b"")])
    memtable.apply(5000, [(key, b"new") for key in keys[::2]])
    for sequence, key in enumerate(keys, 1):
        assert memtable.get(key, 4999) == b"%d" % sequence
        assert memtable.get(key, sequence - 1) is ABSENT
        assert memtable.get(b"other %d" % sequence, 4999) == b""
        assert memtable.get(b"none %d" % sequence, 4999) is ABSENT
    assert all(memtable.get(key, 5000) == b"new" for key in keys[::2])
    assert len(memtable) == 6000


@pytest.mark.parametrize("order", ["up", "down", "mixed"])
@pytest.mark.parametrize(
    "prefix", [b"", b"table/", bytes(100), b"\xff" * 30], ids=["none", "short", "zeros", "ones"]
)
def test_keys_are_sorted_however_they_come(native: ModuleType, order: str, prefix: bytes) -> None:
    rng = Random(5)
    keys = sorted(
        {
            prefix[: rng.randrange(len(prefix) + 1)] + b"%d" % rng.randrange(10**6)
            for _ in range(20_000)
        }
    )
    arriving = list(keys)
    if order == "down":
        arriving.reverse()
    elif order == "mixed":
        rng.shuffle(arriving)
    memtable = native.Memtable(0)
    for start in range(0, len(keys), 1000):
        memtable.apply(1 + start, [(key, key) for key in arriving[start : start + 1000]])
    assert scan(native, memtable, 1 << 40) == [(key, key) for key in keys]
    assert scan(native, memtable, 1 << 40, reverse=True) == [(key, key) for key in keys[::-1]]
    for _ in range(200):
        start, stop = sorted((rng.choice(keys), rng.choice(keys) + b"\x00"))
        within = keys[bisect_left(keys, start) : bisect_left(keys, stop)]
        assert [key for key, _ in scan(native, memtable, 1 << 40, start, stop)] == within


def test_long_keys_and_values(native: ModuleType) -> None:
    rng = Random(6)
    shared = rng.randbytes(100_000)
    content = {
        shared[:length] + b"%d" % length: rng.randbytes(length) for length in range(0, 99_000, 997)
    }
    content |= {shared: b"", shared + b"\x00": bytes(5 << 20)}
    memtable = native.Memtable(0)
    for sequence, pair in enumerate(content.items(), 1):
        memtable.apply(sequence, [pair])
    assert scan(native, memtable, 1000) == sorted(content.items())
    assert all(memtable.get(key, 1000) == value for key, value in content.items())
    assert memtable.get(shared[:-1], 1000) is ABSENT


def test_memtables_share_memory_one_after_the_other(native: ModuleType) -> None:
    """What one has given back is the next one's, and nobody else's."""
    rng = Random(3)
    for turn in range(4):
        native.prepare_memory((4 << 20) * (turn % 2))  # some of it was cleared ahead
        two = [native.Memtable(0), native.Memtable(0)]
        content: list[dict[bytes, bytes]] = [{}, {}]
        for sequence in range(1, 40):
            for memtable, values in zip(two, content, strict=True):
                batch = [(b"%06d" % rng.randrange(10**6), rng.randbytes(900)) for _ in range(100)]
                memtable.apply(sequence, batch)
                values.update(batch)
        for memtable, values in zip(two, content, strict=True):
            assert memtable.bytes > 3 << 20
            assert all(memtable.get(key, 99) == value for key, value in values.items())


def test_readers_beside_a_writer_see_whole_batches(native: ModuleType) -> None:
    """Every batch gives the same value to keys that lie far apart, in front of a moving range."""
    memtable = native.Memtable(0)
    reads = native.Reads([memtable], [], {})
    published = [0]
    done = threading.Event()
    wrong: list[object] = []

    def read(seed: int) -> None:
        rng = Random(seed)
        while not done.is_set() and not wrong:
            sequence = published[0]
            if rng.random() < 0.5:
                pairs = list(reads.scan(b"k", b"l", sequence, reverse=rng.random() < 0.5))
                values = [value for _, value in pairs]
            else:
                chunks = list(reads.chunks(b"k", b"l", sequence))
                values = [
                    bytes(chunk.values[start:stop])
                    for chunk in chunks
                    for start, stop in zip(
                        chunk.value_offsets, chunk.value_offsets[1:], strict=False
                    )
                ]
            several = reads.multi_get([b"k%05d" % at for at in range(0, 4000, 10)], sequence)
            if sequence and not set(values) == set(several) == {b"%d" % sequence}:
                wrong.append((sequence, set(values), set(several)))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    rng = Random(7)
    for sequence in range(1, 120):
        batch: list[Entry] = [(b"k%05d" % at, b"%d" % sequence) for at in range(0, 4000, 10)]
        batch += [(b"z%d" % rng.randrange(10**6), bytes(50)) for _ in range(100)]
        extra = b"k%05d" % rng.randrange(4000)
        if not extra.endswith(b"0"):
            memtable.apply(sequence, [*batch, (extra, b"never seen")])
        memtable.apply(sequence, batch, (), [(b"k", b"l")])
        published[0] = sequence
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
