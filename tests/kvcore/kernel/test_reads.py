"""Reading through memtables and levels: what a dict of the same writes would say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from murmur.errors import Closed, Corruption
from murmur.kvcore.kernel import Entry
from murmur.kvcore.memory_storage import MemoryStorage
from tests.kvcore.kernel.folder import ONE_TABLE, Content, Folder, Range

short = st.binary(max_size=2)
batches = st.lists(
    st.tuples(
        st.lists(st.tuples(short, st.none() | st.binary(max_size=20)), max_size=8),
        st.lists(st.tuples(short, short), max_size=2),
    ),
    max_size=4,
)
Batches = Sequence[tuple[list[Entry], list[Range]]]


def apply(model: dict[bytes, bytes], batches: Batches) -> None:
    for entries, ranges in batches:
        for start, stop in ranges:
            for key in [key for key in model if start <= key < stop]:
                del model[key]
        for key, value in entries:
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value


def filled(folder: Folder, batches: Batches) -> Any:
    memtable = folder.kernel.Memtable(0)
    for sequence, (entries, ranges) in enumerate(batches, 1):
        memtable.apply(sequence, entries, (), ranges)
    memtable.freeze(len(batches))
    return memtable


def unchunked(chunks: Iterator[Any]) -> list[tuple[bytes, bytes]]:
    """The pairs of chunks, by their offsets."""
    pairs = []
    for chunk in chunks:
        assert chunk.count > 0
        keys, values = bytes(chunk.keys), bytes(chunk.values)
        at, within = memoryview(chunk.key_offsets), memoryview(chunk.value_offsets)
        assert at.itemsize == within.itemsize == 4
        assert len(at) == len(within) == chunk.count + 1
        assert (at[0], within[0]) == (0, 0)
        assert (at[-1], within[-1]) == (len(keys), len(values))
        pairs += [
            (keys[at[n] : at[n + 1]], values[within[n] : within[n + 1]]) for n in range(chunk.count)
        ]
    return pairs


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(batches, min_size=1, max_size=2),
    st.lists(batches, max_size=2),
    st.lists(batches, max_size=2),
    short,
    st.none() | short,
    st.sampled_from([0, 5]),
    st.sampled_from([1, 40, ONE_TABLE]),
)
def test_all_sources_read_as_one_dict(
    kernel: ModuleType,
    recent: list[Batches],
    flushed: list[Batches],
    deep: list[Batches],
    start: bytes,
    stop: bytes | None,
    separate_bytes: int,
    table_bytes: int,
) -> None:
    folder, model = Folder(kernel), dict[bytes, bytes]()
    options = {"separate_bytes": separate_bytes, "block_bytes": 20}
    levels: list[list[Any]] = []
    for layer in reversed(deep):
        apply(model, layer)
        levels.insert(0, folder.write([filled(folder, layer)], table_bytes=table_bytes, **options))
    level0: list[Any] = []
    for layer in reversed(flushed):
        apply(model, layer)
        level0 = folder.write([filled(folder, layer)], **options) + level0
    memtables: list[Any] = []
    for layer in reversed(recent):
        apply(model, layer)
        memtables.insert(0, filled(folder, layer))
    reads = folder.reads([level0, *levels], memtables)

    keys = [*model, start, stop or b"\xff\xff", b"", b"\0", b"a"]
    expected = [model.get(key) for key in keys]
    assert [reads.get(key, 10) for key in keys] == expected
    assert reads.multi_get(keys, 10) == expected
    within = [
        pair
        for pair in sorted(model.items())
        if start <= pair[0] and (stop is None or pair[0] < stop)
    ]
    assert list(reads.scan(start, stop, 10)) == within
    assert list(reads.scan(start, stop, 10, reverse=True)) == within[::-1]
    for size in (1, 50, 1 << 20):
        assert unchunked(reads.chunks(start, stop, 10, bytes_=size)) == within
    latest = kernel.Latest(reads, 10)
    assert [latest.get(key) for key in keys] == expected
    assert latest.multi_get(keys) == expected


def test_chunks_have_about_the_size_that_was_asked_for(kernel: ModuleType) -> None:
    folder = Folder(kernel)
    content: Content = {b"%06d" % number: b"v" * 94 for number in range(5000)}
    reads = folder.reads([(folder.flush(content),)])
    sizes = [
        len(bytes(chunk.keys)) + len(bytes(chunk.values))
        for chunk in reads.chunks(b"", None, 0, bytes_=100_000)
    ]
    assert sum(sizes) == 500_000
    assert 4 <= len(sizes) <= 5
    assert all(100_000 <= size <= 120_000 for size in sizes[:-1])


def test_a_key_between_tables_is_under_the_ranges_of_the_table_before(
    kernel: ModuleType,
) -> None:
    folder = Folder(kernel)
    memtable = folder.memtable({b"a": b"1", b"z": b"1"}, [(b"b", b"y")])
    tables = folder.write([memtable], table_bytes=1, block_bytes=1)
    assert [(t.info.first, t.info.last) for t in tables] == [(b"a", b"y"), (b"z", b"z")]
    older = folder.flush({b"m": b"0", b"y": b"0"})
    reads = folder.reads([(), tables, (older,)])
    assert reads.multi_get([b"m", b"y", b"a"], 0) == [None, b"0", b"1"]
    for start, stop in ((b"c", b"n"), (b"m", None), (b"", b"z")):
        pairs = [(b"a", b"1"), (b"y", b"0"), (b"z", b"1")]
        within = [p for p in pairs if start <= p[0] and (stop is None or p[0] < stop)]
        assert list(reads.scan(start, stop, 0)) == within
        assert list(reads.scan(start, stop, 0, reverse=True)) == within[::-1]


def test_a_snapshot_does_not_see_later_batches_or_ranges(kernel: ModuleType) -> None:
    memtable = kernel.Memtable(0)
    memtable.apply(1, [(b"a", b"1"), (b"b", b"1")])
    reads = kernel.Reads([memtable], [], {})
    memtable.apply(2, [(b"a", None), (b"c", b"2")], [1], [(b"b", b"c")])
    memtable.apply(3, [(b"b", b"3")], [1, 2], [(b"a", b"z")])
    assert list(reads.scan(b"", None, 1)) == [(b"a", b"1"), (b"b", b"1")]
    assert list(reads.scan(b"", None, 2)) == [(b"c", b"2")]
    assert list(reads.scan(b"", None, 3)) == [(b"b", b"3")]
    keys = [b"a", b"b", b"c"]
    assert reads.multi_get(keys, 1) == [b"1", b"1", None]
    assert reads.multi_get(keys, 2) == [None, None, b"2"]
    assert reads.multi_get(keys, 3) == [None, b"3", None]


def test_latest_reads_what_was_published(kernel: ModuleType) -> None:
    memtable = kernel.Memtable(0)
    reads = kernel.Reads([memtable], [], {})
    latest = kernel.Latest(reads, 0)
    assert latest.get(b"a") is None
    memtable.apply(1, [(b"a", b"1")])
    assert latest.get(b"a") is None
    latest.move(reads, 1)
    assert latest.get(b"a") == b"1"
    memtable.apply(2, [(b"a", b"2")], (), [(b"a", b"b")])
    assert latest.get(b"a") == b"1"
    assert latest.multi_get([b"a", b"b"]) == [b"1", None]
    latest.move(reads, 2)
    assert latest.get(b"a") == b"2"
    memtable.apply(3, [], (), [(b"a", b"b")])
    assert latest.get(b"a") == b"2"
    latest.move(reads, 3)
    assert latest.get(b"a") is None
    latest.close()
    for read in (lambda: latest.get(b"a"), lambda: latest.multi_get([b"a"])):
        with pytest.raises(Closed):
            read()
    latest.move(reads, 3)
    with pytest.raises(Closed):
        latest.get(b"a")


def test_latest_scans_what_was_published_when_it_was_asked(kernel: ModuleType) -> None:
    folder = Folder(kernel)
    older = {b"%03d" % number: b"1" for number in range(100)}
    memtable = kernel.Memtable(0)
    memtable.apply(1, [(b"%03d" % number, b"2") for number in range(0, 100, 2)])
    reads = kernel.Reads([memtable], [[folder.flush(older)]], {})
    latest = kernel.Latest(reads, 0)
    assert list(latest.scan()) == list(older.items())
    latest.move(reads, 1)
    seen = [(key, b"1" if number % 2 else b"2") for number, key in enumerate(older)]
    begun, fresh = latest.scan(), latest.scan(reverse=True)
    pairs = [next(begun)]
    memtable.apply(2, [(b"000", b"3"), (b"0500", b"3")], [1], [(b"001", b"050")])
    latest.move(kernel.Reads([memtable], [], {}), 2)
    assert pairs + list(begun) == seen
    assert list(fresh) == seen[::-1]
    now = [(key, b"2") for key, value in seen[50:] if value == b"2"]
    now = sorted([(b"000", b"3"), (b"0500", b"3"), *now])
    assert list(latest.scan()) == now
    assert list(latest.scan(reverse=True)) == now[::-1]


def test_latest_scans_within_bounds_and_prefixes(kernel: ModuleType) -> None:
    keys = [b"", b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff", b"\xff\xffz"]
    memtable = kernel.Memtable(0)
    memtable.apply(1, [(key, key) for key in keys])
    latest = kernel.Latest(kernel.Reads([memtable], [], {}), 1)
    for start in keys:
        for stop in [*keys, None]:
            within = [key for key in sorted(keys) if start <= key and (stop is None or key < stop)]
            assert [key for key, _ in latest.scan(start, stop)] == within
            assert [key for key, _ in latest.scan(start, stop, reverse=True)] == within[::-1]
    for prefix in [*keys, b"c", b"a\xff\xff\xff"]:
        within = [key for key in sorted(keys) if key.startswith(prefix)]
        assert [key for key, _ in latest.scan_prefix(prefix)] == within
        assert [key for key, _ in latest.scan_prefix(prefix, reverse=True)] == within[::-1]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_of_the_latest_ends_when_it_is_closed(kernel: ModuleType, reverse: bool) -> None:
    folder = Folder(kernel)
    content: Content = {b"%06d" % number: b"v" * 100 for number in range(5000)}
    latest = kernel.Latest(folder.reads([(folder.flush(content),)]), 0)
    scan, unasked = latest.scan(reverse=reverse), latest.scan_prefix(b"0", reverse=reverse)
    whole = latest.scan(reverse=reverse)
    assert len(list(whole)) == 5000
    next(scan)
    latest.close()
    for rest in (scan, unasked):
        with pytest.raises(Closed):
            list(rest)
    assert list(whole) == []  # it had ended before
    for begin in (latest.scan, lambda: latest.scan_prefix(b"0")):
        with pytest.raises(Closed):
            begin()


def test_a_scan_ends_when_its_snapshot_is_closed(kernel: ModuleType) -> None:
    folder = Folder(kernel)
    content: Content = {b"%06d" % number: b"v" * 100 for number in range(5000)}
    reads = folder.reads([(folder.flush(content),)])
    open_ = True
    scan = reads.scan(b"", None, 0, is_open=lambda: open_)
    assert next(scan)[0] == b"000000"
    open_ = False
    with pytest.raises(Closed):
        list(scan)


def test_a_value_file_that_is_missing_is_damage(kernel: ModuleType) -> None:
    folder = Folder(kernel)
    table = folder.flush({b"a": b"v" * 100}, separate_bytes=50)
    folder.values.clear()
    reads = folder.reads([(table,)])
    for read in (
        lambda: reads.get(b"a", 0),
        lambda: reads.multi_get([b"a"], 0),
        lambda: list(reads.scan(b"", None, 0)),
        lambda: list(reads.chunks(b"", None, 0)),
    ):
        with pytest.raises(Corruption):
            read()


def test_large_values_are_read_when_their_pair_is_asked_for(kernel: ModuleType) -> None:
    storage = MemoryStorage()
    folder = Folder(kernel, storage)
    content: Content = {b"%03d" % number: bytes(100_000) for number in range(100)}
    reads = folder.reads([(folder.flush(content, separate_bytes=1000),)])
    scan = reads.scan(b"", None, 0)
    next(scan)
    assert storage.calls["read"] < 60


# -- the Python twin


class Interleaved(dict[bytes, Any]):
    """The versions of a memtable into which others write while somebody reads."""

    def __init__(self, versions: dict[bytes, Any]) -> None:
        super().__init__(versions)
        self.meanwhile: Any = None

    def get(self, key: bytes, default: Any = None) -> Any:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().get(key, default)


@pytest.mark.parametrize("range_too", [False, True])
def test_latest_is_not_older_than_what_was_published_when_it_was_asked(range_too: bool) -> None:
    from murmur.kvcore.kernel.pure import Latest, Memtable, Reads

    memtable = Memtable(0)
    memtable.apply(1, [(b"a", b"1")])
    memtable.apply(2, [(b"a", b"2")], [1])
    memtable.versions = versions = Interleaved(memtable.versions)
    latest = Latest(Reads([memtable], [], {}), 2)

    def meanwhile() -> None:
        # Both keep what the pin of 1 sees, and the second drops what 2 would see.
        ranges = [(b"a", b"b")] if range_too else []
        for sequence in (3, 4):
            memtable.apply(sequence, [(b"a", b"%d" % sequence)], [1], ranges)
            latest.move(Reads([memtable], [], {}), sequence)

    versions.meanwhile = meanwhile
    assert latest.get(b"a") == b"4"
