"""SSTables: what was added comes out, by key and in order; damage is named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from random import Random
from types import ModuleType
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import ChecksumMismatch, Closed, Corruption, UnknownFormat
from murmur.kvcore.kernel import ABSENT, TableInfo
from murmur.kvcore.kernel.pure import writer as writer_module
from murmur.kvcore.kernel.pure.block import encode_block
from murmur.kvcore.kernel.pure.cache import BlockCache
from murmur.kvcore.kernel.pure.filter import build_filter
from murmur.kvcore.kernel.pure.ranges import join
from murmur.kvcore.kernel.pure.table import Table
from murmur.kvcore.memory_storage import MemoryStorage
from tests.kvcore.kernel.folder import Content, Folder, load_kernel

NAME = "000001.sst"


def sample(count: int, seed: int = 1) -> Content:
    rng = Random(seed)
    return {
        b"key%06d" % rng.randrange(10**6): rng.choice([None, rng.randbytes(rng.randrange(200))])
        for _ in range(count)
    }


def live(content: Content) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in sorted(content.items()) if value is not None]


@given(
    st.dictionaries(st.binary(max_size=3), st.none() | st.binary(max_size=400), min_size=1),
    st.integers(1, 4096),
    st.binary(max_size=3),
    st.none() | st.binary(max_size=3),
)
def test_a_table_reads_as_a_dict(
    kernel: ModuleType, content: Content, block_bytes: int, start: bytes, stop: bytes | None
) -> None:
    folder = Folder(kernel)
    table = folder.flush(content, block_bytes=block_bytes)
    for key in [*content, start, b"\xff\xff\xff\xff"]:
        assert table.get(key) == content.get(key, ABSENT)
    within = [
        pair for pair in live(content) if start <= pair[0] and (stop is None or pair[0] < stop)
    ]
    reads = folder.reads([(table,)])
    assert list(reads.scan(start, stop, 0)) == within
    assert list(reads.scan(start, stop, 0, reverse=True)) == within[::-1]
    assert list(table.check()) == []


def test_many_blocks(kernel: ModuleType) -> None:
    folder, content = Folder(kernel), sample(3000)
    table = folder.flush(content)
    info = table.info
    assert isinstance(info, TableInfo)
    assert (info.entries, info.tombstones) == (len(content), list(content.values()).count(None))
    assert (info.first, info.last) == (min(content), max(content))
    assert info.size == len(folder.content()[NAME])
    assert table.name == NAME
    assert table.path == f"memory/{NAME}"
    reads, ordered = folder.reads([(), (table,)]), live(content)
    rng = Random(2)
    for _ in range(200):
        start, stop = sorted((b"key%06d" % rng.randrange(10**6), b"key%06d" % rng.randrange(10**6)))
        within = [pair for pair in ordered if start <= pair[0] < stop]
        assert list(reads.scan(start, stop, 0)) == within
        assert list(reads.scan(start, stop, 0, reverse=True)) == within[::-1]
    assert list(reads.scan(b"", None, 0)) == ordered
    assert list(table.check()) == []


def test_the_format_does_not_change(kernel: ModuleType) -> None:
    folder = Folder(kernel)
    content: Content = {b"ka": b"1", b"kb": None, b"kc": b"L" * 40}
    folder.flush(content, [(b"x", b"y")], separate_bytes=30)
    data = folder.content()
    assert data["000002.val"] == b"MURMRVAL" + bytes([1, *[0] * 7]) + b"L" * 40
    reference = u64(2) + u64(16) + u32(40) + u32(crc32(b"L" * 40))
    block = u32(3) + u32(1) + u32(1) + bytes([1, 1, 1]) + bytes([1, 1, 1, 1, 1, 0, 24])
    block += u32(1) + u32(2) + b"k" + b"abc" + b"1" + reference
    filter_ = build_filter([crc32(key) for key in content])
    ranges = u32(1) + u32(0) + u32(0) + bytes([1, 1, 1]) + bytes([1, 0, 1]) + b"xy"
    sections = [b"\0" + block, b"\0" + filter_, b"\0" + ranges, b"\0" + u64(2) + u64(40)]
    handles, file = [], b""
    for section in sections:
        handles.append(u64(len(file)) + u32(len(section)) + u32(crc32(section)))
        file += section
    index = b"\0" + u32(1) + u32(0) + u32(0) + bytes([1, 1, 1]) + bytes([2, 0, 16]) + b"kc"
    index += handles[0]
    handles.append(u64(len(file)) + u32(len(index)) + u32(crc32(index)))
    file += index
    footer = u64(1) + u64(3) + u64(1) + u64(1) + b"".join(handles[1:]) + u32(crc32(file))
    footer += u32(crc32(footer)) + bytes([2, 0]) + b"MURMRSST"
    assert data[NAME] == file + footer


def u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def test_a_large_value_has_a_block_of_its_own(kernel: ModuleType) -> None:
    folder = Folder(kernel)
    content: Content = {b"a": b"1", b"b": bytes(300_000), b"c": b"3"}
    assert folder.pairs(folder.flush(content)) == sorted(content.items())


def test_a_scan_reads_the_blocks_that_it_needs(kernel: ModuleType) -> None:
    storage = MemoryStorage()
    folder, content = Folder(kernel, storage), sample(3000)
    reads = folder.reads([(folder.flush(content),)])
    reads.get(min(content), 0)
    before = storage.calls["read"]
    key, _ = next(iter(reads.scan(b"key500000", None, 0)))
    assert key >= b"key500000"
    assert storage.calls["read"] <= before + 1
    before = storage.calls["read"]
    assert next(iter(reads.scan(key, None, 0)))[0] == key
    assert storage.calls["read"] == before, "the block is in the cache"


def test_a_closed_table_reads_no_more(kernel: ModuleType) -> None:
    folder, content = Folder(kernel), sample(1000)
    table = folder.flush(content, separate_bytes=100)
    table.close()
    with pytest.raises(Closed):
        table.get(min(content))
    folder.values[2].close()
    with pytest.raises(Closed):
        folder.values[2].read(16, 10, 0)


@pytest.mark.parametrize("version", [1, 3])
def test_an_unknown_format_is_refused(kernel: ModuleType, version: int) -> None:
    storage = MemoryStorage()
    folder = Folder(kernel, storage)
    info = folder.flush(sample(100)).info
    data = bytearray(storage.content(NAME))
    data[-10] = version
    storage.corrupt(NAME, bytes(data))
    with pytest.raises(UnknownFormat, match=rf"memory/{NAME}.*table format {version}"):
        folder.pairs(folder.open(info))


def test_an_unknown_format_of_a_value_file_is_told_by_check(kernel: ModuleType) -> None:
    storage = MemoryStorage()
    folder = Folder(kernel, storage)
    folder.flush({b"a": bytes(100)}, separate_bytes=50)
    data = bytearray(storage.content("000002.val"))
    for position in range(16):
        data[position] ^= 1
        storage.corrupt("000002.val", bytes(data))
        file = kernel.ValueFile(storage, "000002.val", 2, len(data))
        assert len(list(file.check())) == (position < 10), position
        data[position] ^= 1


def test_another_table_in_its_place_is_noticed(kernel: ModuleType) -> None:
    folder, content = Folder(kernel), sample(100)
    info = folder.flush(content).info
    folder.flush({key: value and bytes(len(value)) for key, value in content.items()})
    folder.storage.rename("000002.sst", NAME)
    with pytest.raises(ChecksumMismatch):
        folder.pairs(folder.open(info))


def test_swapped_blocks_are_noticed(kernel: ModuleType) -> None:
    storage = MemoryStorage()
    folder = Folder(kernel, storage)
    info = folder.flush({b"%06d" % number: bytes(100) for number in range(200)}).info
    handles = Table(storage, NAME, info, BlockCache(0))._load().handles
    (first, length, _), (second, other, _) = handles[:2]
    assert length == other
    data = bytearray(storage.content(NAME))
    left, right = data[first : first + length], data[second : second + length]
    data[first : first + length], data[second : second + length] = right, left
    storage.corrupt(NAME, bytes(data))
    table = folder.open(info)
    with pytest.raises(ChecksumMismatch):
        table.get(b"000000")
    assert {problem.offset for problem in table.check()} >= {0}


@pytest.mark.parametrize("options", [{}, {"codec": 2, "separate_bytes": 150}])
def test_damage_is_an_error_with_a_place_from_get_and_scan_alike(
    kernel: ModuleType, options: dict[str, int]
) -> None:
    storage = MemoryStorage()
    folder, content = Folder(kernel, storage), sample(300)
    info = folder.flush(content, [(b"a", b"b"), (b"key5", b"key6")], **options).info
    whole = storage.content(NAME)
    rng = Random(4)
    for position in [*range(0, len(whole), 31), *range(len(whole) - 130, len(whole))]:
        data = bytearray(whole)
        data[position] ^= 1 << rng.randrange(8)
        storage.corrupt(NAME, bytes(data))
        table = folder.open(info)
        assert list(table.check())
        with pytest.raises(Corruption) as caught:
            folder.pairs(table)
        assert caught.value.path == f"memory/{NAME}"
        assert 0 <= caught.value.offset <= position
        with pytest.raises(Corruption) as again:
            get_all(folder.open(info), content)
        assert again.value.offset == caught.value.offset


def get_all(table: Any, content: Content) -> None:
    for key, value in sorted(content.items()):
        found = table.get(key)
        assert found == value or len(value or b"") > 150


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_cut_file_is_damage(kernel: ModuleType, size: int) -> None:
    storage = MemoryStorage()
    folder = Folder(kernel, storage)
    info = folder.flush(sample(1000), separate_bytes=150).info
    storage.corrupt(NAME, storage.content(NAME)[:size])
    with pytest.raises(Corruption, match="bytes long instead of"):
        folder.open(info)
    whole = storage.content("000002.val")
    storage.corrupt("000002.val", whole[:size])
    with pytest.raises(Corruption, match="bytes long instead of"):
        kernel.ValueFile(storage, "000002.val", 2, len(whole))


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_file_that_is_cut_while_it_is_open_is_damage(kernel: ModuleType, size: int) -> None:
    storage = MemoryStorage()
    folder = Folder(kernel, storage)
    table = folder.flush(sample(1000), separate_bytes=150)
    for name in (NAME, "000002.val"):
        whole = storage.content(name)
        storage.corrupt(name, whole[:size])
        with pytest.raises(Corruption):
            folder.pairs(table)
        storage.corrupt(name, whole)


def test_check_compares_with_the_manifest(kernel: ModuleType) -> None:
    folder = Folder(kernel)
    table = folder.flush(sample(1000), [(b"key1", b"key2")], separate_bytes=100)
    info = table.info
    for wrong in (
        info._replace(number=3),
        info._replace(entries=1),
        info._replace(tombstones=0),
        info._replace(ranges=2),
        info._replace(first=b"a"),
        info._replace(last=b"z"),
        info._replace(references=((2, 1),)),
    ):
        file = folder.kernel.Table(folder.storage, NAME, wrong, folder.cache)
        assert len(list(file.check())) == 1, wrong


def test_check_sees_what_the_checksums_do_not(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer with a bug: every checksum is right, and the contents do not fit together."""
    content = {b"%06d" % number: b"v" * 100 for number in range(100)}

    def problems(name: str, wrong: Any) -> int:
        folder = Folder(load_kernel("pure"))
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, name, wrong)
            info = folder.flush(content, [(b"a", b"b"), (b"c", b"d")]).info
        table = kernel.Table(folder.storage, NAME, info, kernel.BlockCache(0))
        return len(list(table.check()))

    def swapped(keys: Any, values: Any, kinds: int = 0) -> bytes:
        if values[0] == b"v" * 100:
            keys = [keys[0], keys[2], keys[1], *keys[3:]]
        return encode_block(keys, values, kinds)

    def fewer(keys: Any, values: Any, kinds: int = 0) -> bytes:
        if values[0] == b"v" * 100:
            keys, values = [keys[0], *keys[2:]], [values[0], *values[2:]]
        return encode_block(keys, values, kinds)

    def long_handles(keys: Any, values: Any, kinds: int = 0) -> bytes:
        if len(values[0]) == 16:
            values = [value + b"x" for value in values]
        return encode_block(keys, values, kinds)

    def another_last(keys: Any, values: Any, kinds: int = 0) -> bytes:
        if len(values[0]) == 16:
            keys = [keys[0] + b"x", *keys[1:]]
        return encode_block(keys, values, kinds)

    def disorder(keys: Any, values: Any, kinds: int = 0) -> bytes:
        if keys[0] == b"a":
            values = [b"e", b"d"]
        return encode_block(keys, values, kinds)

    assert problems("hash_key", lambda key: 7) >= 1
    assert problems("encode_block", swapped) >= 1
    assert problems("encode_block", fewer) >= 1
    assert problems("encode_block", long_handles) >= 1
    assert problems("encode_block", another_last) >= 1
    assert problems("encode_block", disorder) >= 1
    assert problems("encode_block", encode_block) == 0
    assert problems("crc32", lambda data, *before: 7 if before else crc32(data)) >= 1


def test_check_adds_up_what_is_referenced(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(load_kernel("pure"))
    monkeypatch.setattr(writer_module, "SHARE", struct.Struct(">QQ"))
    table = folder.flush({b"a": b"v" * 100}, separate_bytes=50)
    shares = struct.unpack("<QQ", struct.pack(">QQ", 2, 100))
    forgery = Folder(kernel, folder.storage).open(table.info._replace(references=(shares,)))
    assert len(list(forgery.check())) == 1


def test_a_reference_leads_into_the_values_of_its_file(kernel: ModuleType) -> None:
    storage = MemoryStorage()
    folder = Folder(kernel, storage)
    folder.flush({b"a": b"v" * 100}, separate_bytes=50)
    file = folder.values[2]
    assert file.read(16, 100, crc32(b"v" * 100)) == b"v" * 100
    assert file.read(50, 3, crc32(b"vvv")) == b"vvv"
    for offset, length in ((0, 8), (17, 100), (16, 2**32 - 1), (2**64 - 1, 1), (2**64 - 1, 3)):
        with pytest.raises(Corruption):
            file.read(offset, length, crc32(b"MURMRVAL"))
    storage.corrupt("000002.val", b"MURMRVAL")
    assert len(list(file.check())) == 1


def test_an_index_that_promises_more_than_a_block_holds(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def promising(keys: Any, values: Any, kinds: int = 0) -> bytes:
        if len(values[0]) == 16:
            keys = [keys[0] + b"x", *keys[1:]]
        return encode_block(keys, values, kinds)

    folder = Folder(load_kernel("pure"))
    monkeypatch.setattr(writer_module, "encode_block", promising)
    table = folder.flush({b"%06d" % n: b"v" * 100 for n in range(100)}, bits_per_key=0)
    reader = Folder(kernel, folder.storage)
    forgery = reader.open(table.info)
    last = table._load().lasts[0]
    found: object = ABSENT
    with suppress(Corruption):
        found = forgery.get(last)
    assert found is ABSENT
    assert len(list(forgery.check())) >= 1


@pytest.mark.parametrize("codec", [0, 1, 2])
def test_forged_blocks_are_read_or_refused(
    kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, codec: int
) -> None:
    """Whoever forges checksums may choose what is read, and nothing else."""
    options = {"codec": codec, "block_bytes": 1000, "separate_bytes": 200}
    read = refused = 0
    for seed in range(150):
        rng = Random(seed)
        content: Content = {b"%05d" % number: b"v" * (number % 40) for number in range(90)}
        content[b"00050"] = b"L" * 300
        content[b"00060"] = None
        folder = Folder(load_kernel("pure"))
        with monkeypatch.context() as patch:
            name = rng.choice(["encode_block", "wrap"])
            patch.setattr(writer_module, name, forging(getattr(writer_module, name), rng))
            table = folder.flush(content, [(b"1", b"2"), (b"3", b"4")], **options)
        reader = Folder(kernel, folder.storage, first=9)
        reader.values[2] = kernel.ValueFile(folder.storage, "000002.val", 2, 316)
        for attempt in attempts(reader, table.info, list(content)):
            try:
                attempt()
                read += 1
            except Corruption:
                refused += 1
    assert read > 100
    assert refused > 100


def forging(write: Callable[..., bytes], rng: Random) -> Callable[..., bytes]:
    """The function, with some of what it returns changed."""

    def forged(*given: Any) -> bytes:
        data = bytearray(write(*given))
        for _ in range(rng.choice([0, 0, 0, 1, 2, 3])):
            at = rng.randrange(min(len(data), rng.choice([5, 15, 60, 5000])) or 1)
            kind = rng.randrange(4)
            if kind == 0:
                data[at : at + 1] = rng.choice([b"\xff", b"\0", b"\1", b"\2", b"\4"])
            elif kind == 1:
                del data[at : at + rng.choice([1, 4, 1000])]
            elif kind == 2:
                data[at:at] = rng.randbytes(rng.choice([1, 4, 100]))
            elif data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
        return bytes(data)

    return forged


def attempts(folder: Folder, info: TableInfo, keys: list[bytes]) -> list[Callable[[], object]]:
    """All ways to read a table."""
    table = folder.open(info)
    reads = folder.reads([(table,)])
    return [
        lambda: list(reads.scan(b"", None, 0)),
        lambda: list(reads.scan(b"", None, 0, reverse=True)),
        lambda: list(reads.scan(b"00020", b"00060", 0)),
        lambda: [reads.get(key, 0) for key in keys],
        lambda: list(reads.chunks(b"", None, 0)),
        lambda: folder.write([[table]], relocate=[2]),
        lambda: list(table.check()),
    ]


# -- the Python twin


def test_runs_of_several_blocks_for_a_merge() -> None:
    folder, content = Folder(load_kernel("pure")), sample(3000)
    table = folder.flush(content)
    ordered = sorted(content.items())
    for blocks in (1, 3, 1000):
        runs = list(table.all_runs(blocks))
        assert [pair for run in runs for pair in zip(run[0], run[1], strict=True)] == ordered
    assert len(runs) == 1


def test_blocks_that_ranges_hide_are_not_read() -> None:
    storage = MemoryStorage()
    folder = Folder(load_kernel("pure"), storage)
    content: Content = {b"%06d" % number: bytes(100) for number in range(10_000)}
    table = folder.flush(content)
    table.get(b"x")
    before = storage.calls["read"]
    hidden = join([(b"000100", b"009900")])
    kept = [key for run in table.runs(b"", None, hidden=hidden) for key in run[0]]
    assert kept == [key for key in content if not b"000100" <= key < b"009900"]
    assert [key for run in table.all_runs(8, hidden) for key in run[0]] == kept
    assert storage.calls["read"] - before < 30
