"""Memtables: versions, range tombstones, pins, threads, interrupted batches, keys in order."""

from __future__ import annotations

import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from types import FrameType, ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.kvcore.kernel.pure import keys as keys_module
from murmur.kvcore.kernel.pure import memtable as memtable_module
from murmur.kvcore.kernel.pure.block import TOMBSTONES
from murmur.kvcore.kernel.pure.keys import CHUNK, SortedKeys
from murmur.kvcore.kernel.pure.memtable import Entry, Memtable

small_keys = st.binary(max_size=2)
batches = st.lists(st.tuples(small_keys, st.none() | st.binary(max_size=3)), max_size=6)


def entries(
    memtable: Memtable,
    sequence: int,
    start: bytes = b"",
    stop: bytes | None = None,
    *,
    reverse: bool = False,
) -> list[Entry]:
    pairs: list[Entry] = []
    for keys, values, kinds in memtable.runs(sequence, start, stop, reverse=reverse):
        assert keys == sorted(set(keys))
        assert kinds & TOMBSTONES or None not in values
        run = list(zip(keys, values, strict=True))
        pairs += reversed(run) if reverse else run
    return pairs


def chain_length(memtable: Memtable, key: bytes) -> int:
    length, version = 0, memtable.versions.get(key)
    while version is not None:
        length, version = length + 1, version[2]
    return length


def test_a_reader_sees_its_sequence() -> None:
    memtable = Memtable(0)
    memtable.apply(1, [(b"a", b"1"), (b"b", b"1")], [])
    memtable.apply(2, [(b"a", b"2"), (b"b", None), (b"c", b"2")], [])
    assert entries(memtable, 1) == [(b"a", b"1"), (b"b", b"1")]
    assert entries(memtable, 2) == [(b"a", b"2"), (b"b", None), (b"c", b"2")]
    assert entries(memtable, 2, reverse=True) == [(b"c", b"2"), (b"b", None), (b"a", b"2")]
    assert entries(memtable, 2, b"b", b"c") == [(b"b", None)]


def test_the_last_of_one_batch_wins() -> None:
    memtable = Memtable(0)
    memtable.apply(1, [(b"a", b"old")], [])
    memtable.apply(2, [(b"a", b"1"), (b"a", None), (b"a", b"3")], [])
    assert entries(memtable, 2) == [(b"a", b"3")]
    assert entries(memtable, 1) == [(b"a", b"old")]
    assert chain_length(memtable, b"a") == 2


def test_versions_that_nobody_sees_are_dropped() -> None:
    memtable = Memtable(0)
    for sequence in range(1, 100):
        memtable.apply(sequence, [(b"a", b"%d" % sequence)], [])
    assert chain_length(memtable, b"a") == 2


def test_versions_that_a_pin_sees_stay_and_no_others() -> None:
    memtable = Memtable(0)
    for sequence in range(1, 100):
        pins = [pin for pin in (10, 50, 51) if pin < sequence]
        memtable.apply(sequence, [(b"a", b"%d" % sequence)], pins)
    for pin in (10, 50, 51, 98, 99):
        assert entries(memtable, pin) == [(b"a", b"%d" % pin)]
    assert chain_length(memtable, b"a") == 5
    memtable.apply(100, [(b"a", b"100")], [50])
    assert chain_length(memtable, b"a") == 3


ranges = st.lists(st.tuples(small_keys, small_keys), max_size=2)


@given(
    st.lists(st.tuples(batches, ranges, st.booleans()), max_size=12),
    st.randoms(use_true_random=False),
)
def test_every_pinned_sequence_reads_as_a_dict_would(
    kernel: ModuleType,
    steps: list[tuple[list[Entry], list[tuple[bytes, bytes]], bool]],
    rng: Random,
) -> None:
    memtable = kernel.Memtable(0)
    reads = kernel.Reads([memtable], [], {})
    model: dict[bytes, bytes] = {}
    pinned: dict[int, dict[bytes, bytes]] = {}
    for sequence, (batch, deleted, pin) in enumerate(steps, 1):
        memtable.apply(sequence, batch, sorted(pinned), deleted)
        for start, stop in deleted:
            model = {key: value for key, value in model.items() if not start <= key < stop}
        for key, value in batch:
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        if pin:
            pinned[sequence] = dict(model)
        if pinned and rng.random() < 0.3:
            del pinned[rng.choice(list(pinned))]
        for at, state in {**pinned, sequence: model}.items():
            expected = sorted(state.items())
            assert list(reads.scan(b"", None, at)) == expected
            assert list(reads.scan(b"", None, at, reverse=True)) == expected[::-1]
            start, stop = sorted((rng.randbytes(1), rng.randbytes(1)))
            within = [pair for pair in expected if start <= pair[0] < stop]
            assert list(reads.scan(start, stop, at)) == within
            assert list(reads.scan(start, stop, at, reverse=True)) == within[::-1]
            for key in (*state, start, stop, b""):
                assert reads.get(key, at) == state.get(key)


def test_a_memtable_of_ranges_alone_is_not_empty(kernel: ModuleType) -> None:
    memtable = kernel.Memtable(0)
    assert len(memtable) == 0
    before = memtable.bytes
    memtable.apply(1, [], (), [(b"b", b"a"), (b"a", b"a")])
    assert len(memtable) == 0
    memtable.apply(2, [], (), [(b"a", b"b")])
    assert len(memtable) > 0
    assert memtable.bytes > before


def test_an_unpublished_batch_is_taken_back(kernel: ModuleType) -> None:
    memtable = kernel.Memtable(0)
    reads = kernel.Reads([memtable], [], {})
    memtable.apply(1, [(b"a", b"1"), (b"b", b"1")])
    memtable.apply(2, [(b"a", b"2"), (b"c", b"2")], (), [(b"b", b"z")])  # and never published
    memtable.apply(2, [(b"d", b"2")])
    assert list(reads.scan(b"", None, 2)) == [(b"a", b"1"), (b"b", b"1"), (b"d", b"2")]
    memtable.apply(3, [(b"a", b"3")], (), [(b"", b"z")])
    memtable.freeze(2)
    assert list(reads.scan(b"", None, 3)) == [(b"a", b"1"), (b"b", b"1"), (b"d", b"2")]


def test_threads_read_while_one_writes(kernel: ModuleType) -> None:
    """What is published is seen whole by a snapshot, and by `Latest` never an older value."""
    keys = [b"%02d" % number for number in range(20)]
    memtable = kernel.Memtable(0)
    reads = kernel.Reads([memtable], [], {})
    memtable.apply(1, [(key, b"1") for key in keys])
    latest = kernel.Latest(reads, 1)
    published, pins, lock = 1, dict[int, int](), threading.Lock()
    failures: list[BaseException] = []
    done = False

    def snapshot() -> None:
        with lock:
            sequence = published
            pins[sequence] = pins.get(sequence, 0) + 1
        pairs = list(reads.scan(b"", None, sequence, reverse=sequence % 2 == 1))
        assert {value for _, value in pairs} == {b"%d" % sequence}
        assert len(pairs) == len(keys)
        with lock:
            pins[sequence] -= 1
            if not pins[sequence]:
                del pins[sequence]

    def read() -> None:
        try:
            seen = 0
            while not done:
                for key in keys:
                    least = published
                    value = int(latest.get(key))
                    assert value >= max(seen, least)
                    seen = value
                snapshot()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for sequence in range(2, 1500):
        with lock:
            pinned = sorted(pins)
        batch: list[Entry] = [(key, b"%d" % sequence) for key in keys]
        memtable.apply(sequence, batch, pinned, [(b"", b"99")] if sequence % 3 == 0 else ())
        with lock:
            latest.move(reads, sequence)
            published = sequence
        if failures:
            break
    done = True
    for thread in threads:
        thread.join()
    assert not failures, failures


# -- the Python twin


def test_ranges_that_nobody_sees_are_dropped() -> None:
    memtable = Memtable(0)
    for sequence in range(1, 100):
        memtable.apply(sequence, [], [20] if sequence > 20 else [], [(b"a", b"m"), (b"f", b"z")])
    assert memtable.cuts is not None
    assert memtable.cuts.bounds == [b"a", b"f", b"m", b"z"]
    assert memtable.cuts.stacks == [(99, 98, 20)] * 3 + [()]
    assert memtable.ranges(99) == memtable.ranges(20) == ([b"a"], [b"z"])
    assert not memtable.ranges(19).starts
    memtable.apply(100, [(b"b", b"1")])
    assert memtable.ranges(100) == ([b"a"], [b"z"])
    assert entries(memtable, 100) == [(b"b", b"1")]


@given(st.lists(st.lists(st.integers(0, 10**6), max_size=60), max_size=12))
def test_keys_are_sorted_however_they_come(rounds: list[list[int]]) -> None:
    keys, model = SortedKeys(), set[bytes]()
    for round_ in rounds:
        for number in round_:
            key = b"%d" % number
            if key not in model:
                model.add(key)
                keys.add(key)
        ordered = sorted(model)
        start = b"5"
        at = bisect_left(ordered, start)
        found = keys.first(start, 7)
        assert found == ordered[at : at + len(found)]
        assert bool(found) == (at < len(ordered))
        found = keys.last(start, 7)
        assert found == ordered[at - len(found) : at]
        assert bool(found) == (at > 0)
        assert list(walk(keys)) == ordered


def walk(keys: SortedKeys) -> Iterator[bytes]:
    found = keys.first(b"", 9)
    while found:
        yield from found
        found = keys.first(found[-1], 9, after=True)


def test_single_insertions_split_chunks() -> None:
    rng = Random(3)
    numbers = rng.sample(range(10**6), 6 * CHUNK)
    keys = SortedKeys(b"%06d" % number for number in numbers[: 3 * CHUNK])
    for number in numbers[3 * CHUNK :]:
        keys.first(b"", 1)
        keys.add(b"%06d" % number)
    expected = sorted(b"%06d" % number for number in numbers)
    assert list(walk(keys)) == expected
    stop: bytes | None = None
    backwards: list[bytes] = []
    while found := keys.last(stop, 100):
        backwards = found + backwards
        stop = found[0]
    assert backwards == expected


# -- interrupts


def interrupt_at(count: int, module: object, names: set[str], action: Callable[[], object]) -> bool:
    """Raise KeyboardInterrupt at an instruction of the functions; False: there are not so many."""
    left = count

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        if frame.f_code.co_filename != module.__file__ or frame.f_code.co_name not in names:  # type: ignore[attr-defined]
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


FIRST: list[Entry] = [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")]
HALF: list[Entry] = [(b"b", b"2"), (b"d", b"2"), (b"a", None), (b"b", b"3"), (b"e", b"2")]
DELETED = [(b"a", b"c"), (b"c", b"z")]
OTHER: list[Entry] = [(b"d", b"x"), (b"c", None)]


@pytest.mark.parametrize("after", [OTHER, HALF])
def test_an_interrupted_batch_leaves_nothing(after: list[Entry]) -> None:
    count, interrupted = 0, True
    while interrupted:
        count += 1
        memtable = Memtable(0)
        memtable.apply(1, FIRST, [])
        interrupted = interrupt_at(
            count, memtable_module, {"apply"}, partial(memtable.apply, 2, HALF, [1], DELETED)
        )
        if not interrupted:
            break
        assert entries(memtable, 1) == FIRST
        assert memtable.get(b"c", 1) == b"1"
        memtable.apply(2, after, [1])
        assert entries(memtable, 2) == sorted({**dict(FIRST), **dict(after)}.items())
        assert entries(memtable, 1) == FIRST
    assert count > 100


def test_an_interrupt_while_taking_back_is_made_good() -> None:
    count, interrupted = 0, True
    while interrupted:
        count += 1
        memtable = Memtable(0)
        memtable.apply(1, FIRST, [])
        memtable.apply(2, HALF, [], DELETED)  # and never published
        interrupted = interrupt_at(
            count,
            memtable_module,
            {"_take_back", "<listcomp>", "freeze"},
            partial(memtable.freeze, 1),
        )
        assert entries(memtable, 1) == FIRST
        memtable.freeze(1)
        newest = [
            pair
            for keys, values, _ in memtable.newest_runs()
            for pair in zip(keys, values, strict=True)
        ]
        assert newest == FIRST
        assert not memtable.ranges(2).starts
    assert count > 30


@pytest.mark.parametrize("new", [3, 40])
def test_an_interrupted_fold_loses_no_key(new: int) -> None:
    numbers = Random(1).sample(range(1000), 100 + new)
    expected = sorted(b"%03d" % number for number in numbers)
    count, interrupted = 0, True
    while interrupted:
        count += 1
        keys = SortedKeys()
        for number in numbers[:100]:
            keys.add(b"%03d" % number)
        keys.first(b"", 1)
        for number in numbers[100:]:
            keys.add(b"%03d" % number)
        interrupted = interrupt_at(
            count,
            keys_module,
            {"_fold", "_insert", "_spread", "<listcomp>"},
            partial(keys.first, b"", 1),
        )
        assert list(walk(keys)) == expected
    assert count > 30
