"""Native reads: memtables and tables as one ordered map, damage, closing, many threads."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from murmur.errors import ChecksumMismatch, Closed, Corruption, TypeMismatch
from murmur.kvcore.kernel import Entry
from murmur.kvcore.kernel.interface import NO_CODEC, ZSTD
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import DiskStorage
from tests.kvcore.kernel.folder import Content, Folder, Range, load_kernel

State = dict[bytes, bytes]
NEWEST = 1 << 62

some_keys = st.one_of(
    st.binary(max_size=1),
    st.builds(b"%03d".__mod__, st.integers(0, 200)),
    st.sampled_from([b"\xff" * 9, b"\xff" * 9 + b"\x00", b"\x00", b"1" * 3000]),
)
# Values of more than 20 bytes go to value files.
some_values = st.none() | st.binary(max_size=3) | st.builds(bytes, st.integers(15, 60))
steps = st.one_of(
    st.tuples(
        st.lists(st.tuples(some_keys, some_values), max_size=60),
        st.lists(st.tuples(some_keys, some_keys), max_size=1),
    ),
    st.sampled_from(["rotate", "flush", "compact", "deepen"]),
)
OPTIONS = {"block_bytes": 60, "table_bytes": 250, "separate_bytes": 20}


@pytest.fixture(scope="module")
def native() -> ModuleType:
    return load_kernel("native")


class Seen(NamedTuple):
    """What was to be read at some moment, and how."""

    reads: Any
    sequence: int
    state: State


class Tree:
    """Memtables and three levels, as a tree would arrange them; and what they should hold."""

    def __init__(self, native: ModuleType) -> None:
        self.folder = Folder(native)
        self.native = native
        self.memtables = [native.Memtable(0)]
        self.levels: list[list[Any]] = [[], [], []]
        self.state: State = {}
        self.sequence = 0

    def write(self, batch: Sequence[Entry], ranges: Sequence[Range] = ()) -> None:
        self.sequence += 1
        self.memtables[0].apply(self.sequence, batch, (), ranges)
        for start, stop in ranges:
            for key in [key for key in self.state if start <= key < stop]:
                del self.state[key]
        for key, value in batch:
            self.state.pop(key, None)
            if value is not None:
                self.state[key] = value

    def rotate(self) -> None:
        self.memtables[0].freeze(self.sequence)
        self.memtables.insert(0, self.native.Memtable(self.sequence))

    def flush(self) -> None:
        self.rotate()
        while len(self.memtables) > 1:
            options = OPTIONS | {"table_bytes": 1 << 62}
            self.levels[0][:0] = self.folder.write([self.memtables.pop()], **options)

    def compact(self, target: int = 1) -> None:
        """Merge what is above into a level."""
        sources: list[Any] = [[table] for table in self.levels[0]]
        sources += self.levels[1 : target + 1]
        deepest = not any(self.levels[target + 1 :])
        self.levels[target] = self.folder.write(sources, drop_tombstones=deepest, **OPTIONS)
        self.levels[:target] = [[] for _ in range(target)]

    def deepen(self) -> None:
        self.compact(2)

    def see(self) -> Seen:
        reads = self.folder.reads([tuple(level) for level in self.levels], self.memtables)
        return Seen(reads, self.sequence, dict(self.state))


def pairs_of(chunks: Iterator[Any]) -> Iterator[tuple[bytes, bytes]]:
    for chunk in chunks:
        assert chunk.keys.readonly
        assert chunk.key_offsets.format == chunk.value_offsets.format == "I"
        assert len(chunk.key_offsets) == len(chunk.value_offsets) == chunk.count + 1
        keys, values = bytes(chunk.keys), bytes(chunk.values)
        for at in range(chunk.count):
            low, high = chunk.key_offsets[at : at + 2]
            start, stop = chunk.value_offsets[at : at + 2]
            yield keys[low:high], values[start:stop]


def check(seen: Seen, probes: Sequence[bytes]) -> None:
    reads, sequence, state = seen
    pairs = sorted(state.items())
    assert list(reads.scan(b"", None, sequence)) == pairs
    assert list(reads.scan(b"", None, sequence, reverse=True)) == pairs[::-1]
    assert list(pairs_of(reads.chunks(b"", None, sequence, bytes_=100))) == pairs
    expected = [state.get(key) for key in probes]
    assert [reads.get(key, sequence) for key in probes] == expected
    assert reads.multi_get(probes, sequence) == expected
    assert reads.multi_get([*probes] * 40, sequence) == expected * 40
    for start, stop in pairwise(probes):
        within = [pair for pair in pairs if start <= pair[0] < stop]
        assert list(reads.scan(start, stop, sequence)) == within
        assert list(reads.scan(start, stop, sequence, reverse=True)) == within[::-1]
        assert list(pairs_of(reads.chunks(start, stop, sequence))) == within
        after = [pair for pair in pairs if start <= pair[0]]
        assert list(islice(reads.scan(start, None, sequence), 3)) == after[:3]
        assert list(reads.scan(start, None, sequence, reverse=True)) == after[::-1]


@settings(deadline=None)
@given(st.lists(steps, max_size=14), st.lists(some_keys, min_size=4, max_size=12))
def test_whatever_is_written_flushed_and_merged_reads_as_a_dict_would(
    native: ModuleType, history: list[Any], probes: list[bytes]
) -> None:
    tree = Tree(native)
    moments = [tree.see()]
    for step in history:
        if isinstance(step, tuple):
            tree.write(*step)
        else:
            getattr(tree, step)()
        moments.append(tree.see())
    for seen in moments:  # the older ones too: what they read has not changed
        check(seen, probes)


def test_a_large_tree_reads_as_a_dict_would(native: ModuleType) -> None:
    rng = Random(2)
    tree = Tree(native)
    keys = [b"user%06d" % number for number in range(6000)]
    for step in range(141):
        batch: list[Entry] = [
            (rng.choice(keys), None if rng.random() < 0.2 else rng.randbytes(rng.randrange(30)))
            for _ in range(200)
        ]
        start = rng.randrange(5900)
        ranges = [(keys[start], keys[start + rng.randrange(100)])] if rng.random() < 0.3 else []
        tree.write(batch, ranges)
        if step % 7 == 6:
            tree.flush()
        if step % 30 == 29:
            tree.compact(rng.choice([1, 2]))
    seen = tree.see()
    assert len(tree.levels[0]) > 1
    assert len(tree.memtables) == 1
    check(seen, rng.sample(keys, 40))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_leaps_over_what_a_range_hides(native: ModuleType, *, reverse: bool) -> None:
    tree = Tree(native)
    tree.write([(b"%05d" % number, bytes(100)) for number in range(20_000)])
    tree.flush()
    tree.compact()
    blocks = tree.folder.cache.misses
    tree.write([], [(b"00100", b"19900")])
    assert [*tree.see().reads.scan(b"", None, NEWEST, reverse=reverse)] == sorted(
        tree.state.items(), reverse=reverse
    )
    assert len(tree.state) == 200
    assert tree.folder.cache.misses - blocks < 300  # of some ten thousand


# -- the cache


@pytest.mark.parametrize("codec", [NO_CODEC, ZSTD])
def test_a_long_scan_reads_in_pieces_what_the_cache_lacks(native: ModuleType, codec: int) -> None:
    storage = MemoryStorage()
    folder = Folder(native, storage, cache_bytes=1 << 20)
    content: Content = {b"%06d" % number: b"%d" % number * 9 for number in range(20_000)}
    reads = folder.reads([(), (folder.flush(content, codec=codec),)])
    blocks = sum(map(len, content.values())) // 4096
    assert reads.get(b"010000", 0) == content[b"010000"]
    weight, before = folder.cache.weight, storage.calls["read"]
    assert dict(reads.scan(b"", None, 0)) == content
    assert storage.calls["read"] - before < blocks // 2
    assert folder.cache.weight - weight < 100_000, "only its first blocks are kept"
    assert list(reads.scan(b"", None, 0, reverse=True)) == sorted(content.items(), reverse=True)
    assert list(reads.scan(b"", None, 0)) == sorted(content.items()), "some of it is in the cache"


# -- damage


def damaged(native: ModuleType, at: float) -> tuple[Any, list[bytes]]:
    """Reads of a table with a block that was altered at this fraction of the file, and its keys."""
    folder = Folder(native)
    keys = [b"%05d" % number for number in range(2000)]
    table = folder.flush({key: bytes(20) for key in keys}, block_bytes=200)
    storage = folder.storage
    assert isinstance(storage, MemoryStorage)
    data = bytearray(storage.content(table.name))
    data[int(len(data) * at)] ^= 1
    storage.corrupt(table.name, bytes(data))
    return folder.reads([(), (folder.open(table.info),)], [native.Memtable(0)]), keys


@pytest.mark.parametrize("reverse", [False, True])
def test_a_damaged_block_raises_and_never_ends_a_scan(native: ModuleType, *, reverse: bool) -> None:
    reads, keys = damaged(native, 0.4)
    scan = reads.scan(b"", None, 0, reverse=reverse)
    got = []
    with pytest.raises(ChecksumMismatch) as error:
        got.extend(key for key, _ in scan)
    assert got == (keys[::-1] if reverse else keys)[: len(got)]
    assert 100 < len(got) < 1900
    assert error.value.offset > 0
    assert error.value.path.endswith(".sst")
    for _ in range(3):  # who asks again is not told that this was all
        with pytest.raises(ChecksumMismatch):
            next(scan)


def test_a_damaged_block_raises_from_chunks_and_gets(native: ModuleType) -> None:
    reads, keys = damaged(native, 0.4)
    chunks = reads.chunks(b"", None, 0, bytes_=1000)
    got: list[bytes] = []
    with pytest.raises(ChecksumMismatch):
        got.extend(key for key, _ in pairs_of(chunks))
    assert got == keys[: len(got)]
    assert len(got) > 100
    with pytest.raises(ChecksumMismatch):
        next(chunks)
    bad = []
    for key in keys:
        try:
            assert reads.get(key, 0) == bytes(20)
        except ChecksumMismatch:
            bad.append(key)
    assert 0 < len(bad) < 20
    for some in (keys, bad, [keys[0], bad[-1]]):
        with pytest.raises(ChecksumMismatch):
            reads.multi_get(some, 0)
    assert reads.multi_get(keys[:100], 0) == [bytes(20)] * 100


def test_a_missing_value_file_is_damage(native: ModuleType) -> None:
    folder = Folder(native)
    table = folder.flush({b"a": b"1", b"b": bytes(100), b"c": b"3"}, separate_bytes=50)
    whole = folder.reads([(table,)])
    assert whole.get(b"b", 0) == bytes(100)
    reads = native.Reads((), [(table,)], {})
    assert reads.get(b"a", 0) == b"1"
    for read in (reads.get, lambda key, at: reads.multi_get([b"a", key], at)):
        with pytest.raises(Corruption, match="missing"):
            read(b"b", 0)
    scan = reads.scan(b"", None, 0)
    assert next(scan) == (b"a", b"1")
    with pytest.raises(Corruption, match="missing"):
        next(scan)


def test_an_error_of_the_storage_passes_through(native: ModuleType) -> None:
    folder = Folder(native, cache_bytes=0)
    table = folder.flush({b"%05d" % number: bytes(90) for number in range(2000)})
    storage = folder.storage
    assert isinstance(storage, MemoryStorage)
    reads = folder.reads([(table,)])
    assert reads.get(b"00001", 0) == bytes(90)
    for read in (
        lambda: reads.get(b"00001", 0),
        lambda: reads.multi_get([b"00001"], 0),
        lambda: reads.multi_get([b"%05d" % number for number in range(2000)], 0),
        lambda: list(reads.scan(b"", None, 0)),
        lambda: list(reads.chunks(b"", None, 0)),
    ):
        storage.fail("read")
        with pytest.raises(OSError, match="Input") as error:
            read()
        assert error.value.errno == errno.EIO
        read()


# -- the interface


def test_a_scan_ends_with_closed(native: ModuleType) -> None:
    memtable = native.Memtable(0)
    memtable.apply(1, [(b"%04d" % number, b"") for number in range(1000)])
    reads = native.Reads([memtable], [], {})
    is_open = [True]
    scan = reads.scan(b"", None, 1, is_open=lambda: is_open[0])
    assert next(scan) == (b"0000", b"")
    is_open[0] = False
    with pytest.raises(Closed):
        list(scan)
    with pytest.raises(Closed):
        next(scan)
    with pytest.raises(ZeroDivisionError):
        next(reads.scan(b"", None, 1, is_open=lambda: 1 // 0))


def test_an_iterator_that_is_entered_twice_says_so(native: ModuleType) -> None:
    scan: Any = None

    def enter() -> bool:
        next(scan)
        return True

    reads = native.Reads([native.Memtable(0)], [], {})
    scan = reads.scan(b"", None, 1, is_open=enter)
    with pytest.raises(ValueError, match="thread"):
        next(scan)


def test_an_iterator_keeps_what_it_reads(native: ModuleType) -> None:
    folder = Folder(native)
    content = {b"%05d" % number: bytes(100) for number in range(3000)}
    scan = folder.reads([(), (folder.flush(content),)], [folder.memtable({b"x": b"y"})]).scan(
        b"", None, NEWEST
    )
    chunk = next(folder.reads([(folder.flush(content),)]).chunks(b"", None, 0))
    keys = chunk.keys
    del folder, chunk
    assert dict(scan) == {**content, b"x": b"y"}
    assert bytes(keys[:10]) == b"0000000001"


@pytest.mark.parametrize("key", [None, "a", 1, bytearray(b"a")])
def test_keys_are_bytes(native: ModuleType, key: Any) -> None:
    reads = native.Reads([native.Memtable(0)], [], {})
    latest = native.Latest(reads, 1)
    for read in (
        lambda: reads.get(key, 1),
        lambda: reads.multi_get([b"a", key], 1),
        lambda: reads.scan(key, None, 1),
        lambda: reads.scan(b"", key if key is not None else 0, 1),
        lambda: reads.chunks(key, None, 1),
        lambda: latest.get(key),
        lambda: latest.multi_get([key]),
        lambda: native.Reads([key], [], {}),
    ):
        with pytest.raises((TypeMismatch, TypeError)):
            read()
    assert reads.multi_get([], 1) == latest.multi_get(()) == []


def test_latest_follows_what_is_published(native: ModuleType) -> None:
    memtable = native.Memtable(0)
    reads = native.Reads([memtable], [], {})
    latest = native.Latest(reads, 0)
    get = latest.get
    memtable.apply(1, [(b"a", b"1")])
    assert get(b"a") is None
    latest.move(reads, 1)
    assert (get(b"a"), latest.multi_get([b"b", b"a"])) == (b"1", [None, b"1"])
    latest.move(native.Reads([native.Memtable(1)], [], {}), 1)
    assert get(b"a") is None
    latest.close()
    latest.close()
    latest.move(reads, 1)
    for read in (lambda: get(b"a"), lambda: latest.multi_get([b"a"])):
        with pytest.raises(Closed):
            read()


def test_readers_beside_a_writer_who_flushes(native: ModuleType, tmp_path: Any) -> None:
    """Every batch sets all keys of a row: who reads it meanwhile finds them equal."""
    folder = Folder(native, DiskStorage(tmp_path))
    memtables = [native.Memtable(0)]
    tables: list[Any] = []
    latest = native.Latest(folder.reads([()], memtables), 0)
    moment = [(folder.reads([()], memtables), 0)]
    done = threading.Event()
    wrong: list[object] = []
    columns = [b"row%05d" % at for at in range(0, 30_000, 100)]

    def read(seed: int) -> None:
        rng = Random(seed)
        while not done.is_set() and not wrong:
            several = latest.multi_get(columns)
            reads, sequence = moment[0]
            scanned = [
                value
                for key, value in reads.scan(b"", None, sequence, reverse=rng.random() < 0.5)
                if key.startswith(b"row")
            ]
            if len({*several}) > 1 or len({*scanned}) > 1:
                wrong.append(({*several}, {*scanned}))
            if sequence and len(scanned) != len(columns):
                wrong.append(len(scanned))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    rng = Random(9)
    for sequence in range(1, 90):
        batch: list[Entry] = [(b"%d" % rng.randrange(10**6), bytes(60)) for _ in range(200)]
        ranges = [(b"row", b"rox")] if rng.random() < 0.5 else []
        batch += [(column, b"%d" % sequence) for column in columns]
        memtables[0].apply(sequence, batch, (), ranges)
        if sequence % 10 == 0:
            memtables[0].freeze(sequence)
            tables = folder.write([memtables[0]]) + tables
            memtables = [native.Memtable(sequence)]
        if len(tables) == 4:
            tables = folder.write([[table] for table in tables])
        reads = folder.reads([tuple(tables)], memtables)
        latest.move(reads, sequence)
        moment[0] = (reads, sequence)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert latest.get(columns[7]) == b"89"
