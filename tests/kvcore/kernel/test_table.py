"""SSTables: what was added comes out, by key and in order; damage is named."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import ChecksumMismatch, Closed, Corruption, UnknownFormat
from murmur.kvcore.kernel import ABSENT, TableInfo, TableOptions
from murmur.kvcore.kernel.pure.block import TOMBSTONES
from murmur.kvcore.kernel.pure.cache import BlockCache
from murmur.kvcore.kernel.pure.live import live_pairs
from murmur.kvcore.kernel.pure.table import Table
from murmur.kvcore.kernel.pure.writer import TableWriter
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import Storage

Content = dict[bytes, bytes | None]


def write_table(
    storage: Storage, content: Content, *, name: str = "7.sst", piece: int = 50, number: int = 7
) -> TableInfo:
    writer = TableWriter(storage.create(name), number, TableOptions(1 << 62))
    keys = sorted(content)
    for at in range(0, len(keys), piece):
        part = keys[at : at + piece]
        values = [content[key] for key in part]
        assert writer.add((part, values, TOMBSTONES if None in values else 0)) is None
    return writer.finish(max_sequence=3)


def read_table(storage: Storage, info: TableInfo, name: str = "7.sst") -> Table:
    return Table(storage, name, info, BlockCache(1 << 20))


def pairs(
    table: Table, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
) -> list[tuple[bytes, bytes | None]]:
    found: list[tuple[bytes, bytes | None]] = []
    for keys, values, kinds in table.runs(start, stop, reverse=reverse):
        assert keys
        assert kinds & TOMBSTONES or None not in values
        run = list(zip(keys, values, strict=True))
        found += reversed(run) if reverse else run
    return found


def sample(count: int, seed: int = 1) -> Content:
    rng = Random(seed)
    return {
        b"key%06d" % rng.randrange(10**6): rng.choice([None, rng.randbytes(rng.randrange(200))])
        for _ in range(count)
    }


@given(
    st.dictionaries(st.binary(max_size=3), st.none() | st.binary(max_size=400), min_size=1),
    st.integers(1, 40),
    st.binary(max_size=3),
    st.none() | st.binary(max_size=3),
)
def test_a_table_reads_as_a_dict(
    content: Content, piece: int, start: bytes, stop: bytes | None
) -> None:
    storage = MemoryStorage()
    table = read_table(storage, write_table(storage, content, piece=piece))
    for key in [*content, start, b"\xff\xff\xff\xff"]:
        assert table.get(key) == content.get(key, ABSENT)
    within = [
        pair
        for pair in sorted(content.items())
        if start <= pair[0] and (not stop or pair[0] < stop)
    ]
    if stop != b"":
        assert pairs(table, start, stop) == within
        assert pairs(table, start, stop, reverse=True) == within[::-1]
    assert pairs(table) == sorted(content.items())
    assert list(table.check()) == []


def test_many_blocks() -> None:
    storage, content = MemoryStorage(), sample(3000)
    info = write_table(storage, content)
    table = read_table(storage, info)
    assert (info.entries, info.tombstones) == (len(content), list(content.values()).count(None))
    assert (info.first, info.last) == (min(content), max(content))
    assert info.size == len(storage.content("7.sst"))
    ordered = sorted(content.items())
    assert pairs(table) == ordered
    rng = Random(2)
    for _ in range(200):
        start, stop = sorted((b"key%06d" % rng.randrange(10**6), b"key%06d" % rng.randrange(10**6)))
        within = [pair for pair in ordered if start <= pair[0] < stop]
        assert pairs(table, start, stop) == within
        assert pairs(table, start, stop, reverse=True) == within[::-1]
    for blocks in (1, 3, 1000):
        runs = list(table.all_runs(blocks))
        assert [pair for run in runs for pair in zip(run[0], run[1], strict=True)] == ordered
    assert len(runs) == 1
    live = [(key, value) for key, value in ordered if value is not None]
    assert list(live_pairs(table.runs(b"", None), bytes)) == live
    assert list(table.check()) == []


def test_a_large_value_has_a_block_of_its_own() -> None:
    storage = MemoryStorage()
    content: Content = {b"a": b"1", b"b": bytes(300_000), b"c": b"3"}
    assert pairs(read_table(storage, write_table(storage, content))) == sorted(content.items())


def test_a_scan_reads_the_blocks_that_it_needs() -> None:
    storage, content = MemoryStorage(), sample(3000)
    table = read_table(storage, write_table(storage, content))
    table.get(b"")
    before = storage.calls["read"]
    run = next(table.runs(b"key500000", None))
    assert run[0][0] >= b"key500000"
    assert storage.calls["read"] == before + 1
    pairs(table, run[0][0], run[0][-1])
    assert storage.calls["read"] == before + 1, "the block is in the cache"


def test_a_closed_table_reads_no_more() -> None:
    storage, content = MemoryStorage(), sample(100)
    table = read_table(storage, write_table(storage, content))
    table.close()
    with pytest.raises(Closed):
        table.get(min(content))


def test_an_unknown_format_is_refused() -> None:
    storage, content = MemoryStorage(), sample(100)
    info = write_table(storage, content)
    data = bytearray(storage.content("7.sst"))
    data[-10] += 1
    storage.corrupt("7.sst", bytes(data))
    with pytest.raises(UnknownFormat, match=r"memory/7.sst.*table format 3"):
        pairs(read_table(storage, info))


def test_another_table_in_its_place_is_noticed() -> None:
    storage, content = MemoryStorage(), sample(100)
    info = write_table(storage, content)
    other = {key: value and bytes(len(value)) for key, value in content.items()}
    write_table(storage, other, name="8.sst", number=8)
    storage.rename("8.sst", "7.sst")
    with pytest.raises(ChecksumMismatch):
        pairs(read_table(storage, info))


def test_swapped_blocks_are_noticed() -> None:
    storage = MemoryStorage()
    content: Content = {b"%06d" % number: bytes(100) for number in range(200)}
    info = write_table(storage, content)
    table = read_table(storage, info)
    (first, length, _), (second, other, _) = table._load().handles[:2]
    assert length == other
    data = bytearray(storage.content("7.sst"))
    left, right = data[first : first + length], data[second : second + length]
    data[first : first + length], data[second : second + length] = right, left
    storage.corrupt("7.sst", bytes(data))
    with pytest.raises(ChecksumMismatch):
        table.get(b"000000")
    assert [problem.offset for problem in table.check()] == [0, 0]


def test_damage_is_an_error_with_a_place_from_get_and_scan_alike() -> None:
    storage, content = MemoryStorage(), sample(300)
    info = write_table(storage, content)
    whole = storage.content("7.sst")
    ordered, rng = sorted(content.items()), Random(4)
    for position in [*range(0, len(whole), 31), *range(len(whole) - 80, len(whole))]:
        data = bytearray(whole)
        data[position] ^= 1 << rng.randrange(8)
        storage.corrupt("7.sst", bytes(data))
        with pytest.raises(Corruption) as caught:
            pairs(read_table(storage, info))
        assert caught.value.path == "memory/7.sst"
        assert 0 <= caught.value.offset <= position
        assert list(read_table(storage, info).check())
        with pytest.raises(Corruption) as again:
            get_all(read_table(storage, info), ordered)
        assert again.value.offset == caught.value.offset


def get_all(table: Table, ordered: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in ordered:
        assert table.get(key) == value


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_cut_file_is_damage(size: int) -> None:
    storage, content = MemoryStorage(), sample(100)
    info = write_table(storage, content)
    storage.corrupt("7.sst", storage.content("7.sst")[:size])
    with pytest.raises(Corruption, match="bytes long instead of"):
        read_table(storage, info)


def test_check_compares_index_and_filter_with_the_blocks() -> None:
    storage, content = MemoryStorage(), sample(1000)
    info = write_table(storage, content)
    table = read_table(storage, info)
    contents = table._load()
    table._contents = contents._replace(lasts=[contents.lasts[0] + b"x", *contents.lasts[1:]])
    assert [problem.reason for problem in table.check()] == [
        "the index has another last key of the block"
    ]
    table._contents = contents._replace(filter=contents.filter[:1] + bytes(100))
    assert len(list(table.check())) == len(content)


def test_check_compares_with_the_manifest() -> None:
    storage, content = MemoryStorage(), sample(100)
    info = write_table(storage, content)
    for wrong in (
        info._replace(entries=1),
        info._replace(tombstones=0),
        info._replace(first=b"a"),
        info._replace(last=b"z"),
    ):
        assert len(list(read_table(storage, wrong).check())) == 1
