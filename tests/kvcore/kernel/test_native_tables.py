"""What only native tables have: mappings, descriptors, other threads, no memory left."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any
from zlib import crc32

import pytest

from murmur.errors import Closed, Corruption, InvalidInput
from murmur.kvcore.kernel import ABSENT, codec
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import DiskStorage, ReadFile
from tests.kvcore.kernel.folder import Content, Folder, load_kernel

TRUNCATED = """
import faulthandler, os, sys
from murmur.errors import Corruption
from murmur.kvcore.storage import DiskStorage
from tests.kvcore.kernel.folder import Folder, load_kernel

folder = Folder(load_kernel("native"), DiskStorage(sys.argv[1]), cache_bytes=0)
content = {b"%06d" % number: b"v" * 100 for number in range(3000)}
tables = [folder.flush(content), folder.flush(content)]
"""

REPLACED_HANDLER = """
for table in tables:
    faulthandler.disable()
    faulthandler.enable()  # takes SIGBUS over; opening a table takes it back
    name = table.name
    mapped = folder.kernel.Table(folder.storage, name, table.info, folder.cache, mmap=True)
    assert mapped.get(b"002999") == b"v" * 100
    os.truncate(os.path.join(sys.argv[1], name), 8192)
    assert mapped.get(b"000001") == b"v" * 100
    try:
        mapped.get(b"002000")
    except Corruption as error:
        assert error.path.endswith(name)
        print("refused")
    assert list(mapped.check())
"""

FOREIGN_MAPPING = """
import mmap
faulthandler.enable()
folder.kernel.Table(folder.storage, tables[0].name, tables[0].info, folder.cache, mmap=True)
with open(os.path.join(sys.argv[1], "other"), "w+b") as file:
    file.write(bytes(8192))
    file.flush()
    foreign = mmap.mmap(file.fileno(), 8192)
    file.truncate(0)
    foreign[5000]
"""


@pytest.fixture(scope="module")
def native() -> ModuleType:
    return load_kernel("native")


def numbered(count: int, length: int = 100) -> Content:
    rng = Random(count)
    return {b"%08d" % number: rng.randbytes(length) for number in range(count)}


def run(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TRUNCATED + script, str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("length", [*range(70), 100, 1000, 4096, 100_001])
def test_the_checksum_is_that_of_zlib(native: ModuleType, length: int) -> None:
    data = Random(length).randbytes(length)
    assert native.crc32(data) == crc32(data)
    assert native.crc32(data, 12345) == crc32(data, 12345)
    assert native.crc32(memoryview(data)[1:]) == crc32(data[1:])


def test_a_mapped_file_that_is_truncated_raises(native: ModuleType, tmp_path: Path) -> None:
    done = run(REPLACED_HANDLER, tmp_path)
    assert (done.returncode, done.stdout) == (0, "refused\nrefused\n"), done.stderr


def test_who_handled_bus_errors_before_still_does(native: ModuleType, tmp_path: Path) -> None:
    done = run(FOREIGN_MAPPING, tmp_path)
    assert done.returncode != 0
    assert "Bus error" in done.stderr


@pytest.mark.parametrize("mmap", [False, True])
def test_files_on_disk_are_those_in_memory(
    native: ModuleType, tmp_path: Path, *, mmap: bool
) -> None:
    folders = [Folder(native), Folder(native, DiskStorage(tmp_path))]
    content = numbered(3000) | {b"%08d" % (7 * number): None for number in range(400)}
    for folder in folders:
        old = folder.flush(numbered(3000), separate_bytes=99)
        folder.write([folder.memtable(content, [(b"00001", b"00002")]), [old]], table_bytes=50_000)
    assert folders[0].content() == folders[1].content()
    disk = folders[1]
    table = native.Table(disk.storage, old.name, old.info, disk.cache, mmap=mmap)
    assert all(len(table.get(b"%08d" % number)) == 24 for number in range(0, 3000, 7))
    assert list(table.check(disk.values)) == []


def test_descriptors_go_with_the_last_reader(native: ModuleType, tmp_path: Path) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list descriptors")
    before = descriptors()
    folder = Folder(native, DiskStorage(tmp_path))
    table = folder.flush(numbered(2000), separate_bytes=50)
    assert descriptors() == before + 2

    def give_up(written: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write([folder.memtable(numbered(20_000))], pause=give_up)
    assert descriptors() == before + 2
    reads = folder.reads([(), [table]])
    del table, folder
    assert descriptors() == before + 2
    assert len(list(reads.scan(b"", None, 0))) == 2000
    del reads
    assert descriptors() == before


def test_who_need_not_look_often_is_not_asked_often(native: ModuleType, tmp_path: Path) -> None:
    folder = Folder(native, DiskStorage(tmp_path))
    told: list[int] = []
    output = folder.output(table_bytes=1 << 30, pause=told.append)
    output.pause_bytes = 2 << 20
    content = {b"%06d" % number: Random(number).randbytes(1000) for number in range(5000)}
    folder.write_to(output, [folder.memtable(content)])
    assert len(told) == 2
    assert min(told) >= 2 << 20


def test_flush_and_merge_let_other_threads_run(native: ModuleType, tmp_path: Path) -> None:
    folder = Folder(native, DiskStorage(tmp_path))
    memtable = folder.memtable(numbered(2000))
    started, ran = threading.Event(), threading.Event()

    def work() -> None:
        started.wait()
        ran.set()

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        sys.setswitchinterval(1000)  # nobody is asked to give the lock up: it must be let go
        started.set()
        for _ in range(200):  # the processor may be busy with others while the lock is free
            native.write_tables([memtable], folder.output())
            if ran.is_set():
                break
        assert ran.is_set()
    finally:
        sys.setswitchinterval(interval)
        thread.join()


def test_an_exception_of_a_callback_passes_through(native: ModuleType) -> None:
    class Stop(BaseException):
        pass

    stop = Stop("this very one")

    class Failing:
        """A file of which nothing can be read after its size."""

        def __init__(self, file: ReadFile) -> None:
            self.name, self.size, self.close = file.name, file.size, file.close

        def read(self, offset: int, length: int) -> bytes:
            raise stop

    class Storage(MemoryStorage):
        def open(self, name: str) -> Any:
            return Failing(super().open(name))

    storage = Storage()
    folder = Folder(native, storage)
    table = folder.flush(numbered(10))
    calls: list[Callable[[], object]] = [
        lambda: table.get(b"00000001"),
        lambda: list(table.check()),
        lambda: folder.write([[table]]),
        lambda: list(folder.reads([(), [table]]).scan(b"", None, 0)),
    ]
    for call in calls:
        with pytest.raises(Stop) as caught:
            call()
        assert caught.value is stop


def test_a_file_that_gives_too_little_or_nonsense(native: ModuleType) -> None:
    class Storage(MemoryStorage):
        answer: Any = b""

        def open(self, name: str) -> Any:
            file = super().open(name)
            file.read = lambda offset, length: self.answer  # type: ignore[attr-defined,method-assign]
            return file

    storage = Storage()
    folder = Folder(native, storage)
    table = folder.flush(numbered(10))
    with pytest.raises(Corruption, match="0 bytes are left of"):
        table.get(b"00000001")
    Storage.answer = "text"
    with pytest.raises(TypeError):
        table.get(b"00000001")


def test_without_memory_nothing_changes(native: ModuleType) -> None:
    content = numbered(600) | {b"00000007": None}
    folder = Folder(native, cache_bytes=20_000)
    table = folder.flush(content, [(b"x", b"y")], block_bytes=500, separate_bytes=99)
    expected = table.get(b"00000005"), table.get(b"00000007"), table.get(b"0000000")
    failures = 0
    for nth in range(1, 1000):
        table = folder.open(table.info)
        native.fail_allocation(nth)
        try:
            got = table.get(b"00000005"), table.get(b"00000007"), table.get(b"0000000")
        except MemoryError:
            failures += 1
            native.fail_allocation(0)
            got = table.get(b"00000005"), table.get(b"00000007"), table.get(b"0000000")
            assert got == expected
            continue
        finally:
            native.fail_allocation(0)
        assert got == expected
        break
    assert failures > 5
    table.check()

    whole = folder.write([[table]], relocate=[2])[0].info
    failures = 0
    for nth in [*range(1, 60), *range(61, 4000, 97), 1 << 40]:
        native.fail_allocation(nth)
        try:
            infos = native.write_tables([[table]], folder.output(relocate=[2]))
        except MemoryError:
            failures += 1
            continue
        finally:
            native.fail_allocation(0)
        assert infos[0]._replace(number=0, checksum=0, references=()) == whole._replace(
            number=0, checksum=0, references=()
        )
    assert failures > 30
    assert list(table.check(folder.values)) == []


def test_the_cache_keeps_its_budget_and_what_is_used(native: ModuleType) -> None:
    folder = Folder(native, cache_bytes=400_000)
    content = numbered(20_000)
    table = folder.flush(content)
    hot = sorted(content)[::500]
    for _ in range(3):
        for key in hot:
            assert table.get(key) == content[key]
    before = folder.cache.misses
    assert len(list(folder.reads([(), [table]]).scan(b"", None, 0))) == 20_000
    assert folder.cache.misses > before + 100  # the scan did not fit
    assert 0 < folder.cache.weight <= 400_000
    before = folder.cache.misses
    for key in hot:
        table.get(key)
    assert folder.cache.misses == before
    # What came to be used instead takes its place.
    others = sorted(content)[7::50]
    for _ in range(20):
        for key in others[:60]:
            table.get(key)
    before = folder.cache.misses
    for key in others[:60]:
        table.get(key)
    assert folder.cache.misses == before
    assert folder.cache.weight <= 400_000
    del table
    gc.collect()
    assert folder.cache.weight == 0


def test_a_cache_of_nothing(native: ModuleType) -> None:
    folder = Folder(native, cache_bytes=0)
    content = numbered(1000)
    table = folder.flush(content)
    assert all(table.get(key) == value for key, value in content.items())
    assert folder.cache.weight == 0


def test_a_block_larger_than_the_cache_drives_nothing_out(native: ModuleType) -> None:
    folder = Folder(native, cache_bytes=100_000)
    table = folder.flush(numbered(300) | {b"large": bytes(200_000)})
    others = sorted(numbered(300))[:200:50]  # one of each block; the last ones share its block
    for key in others:
        table.get(key)
    assert table.get(b"large") == bytes(200_000)
    before = folder.cache.misses
    for key in others:
        table.get(key)
    assert folder.cache.misses == before


def test_many_threads_read_and_merge_at_once(native: ModuleType, tmp_path: Path) -> None:
    folder = Folder(native, DiskStorage(tmp_path), cache_bytes=30_000)
    content = numbered(4000, 50)
    tables = folder.write([folder.memtable(content)], table_bytes=60_000, block_bytes=1000)
    keys = sorted(content)
    failures: list[BaseException] = []

    def read(seed: int) -> None:
        rng = Random(seed)
        try:
            for _ in range(1500):
                key = rng.choice(keys)
                found = [table.get(key) for table in tables]
                assert [value for value in found if value is not ABSENT] == [content[key]]
            assert len(folder.pairs(*tables)) == len(keys)
            assert folder.reads([(), tables]).multi_get(keys, 0) == list(content.values())
            assert [problem for table in tables for problem in table.check()] == []
        except BaseException as error:
            failures.append(error)

    def merge() -> None:
        try:
            for _ in range(5):
                assert sum(info.entries for info in native.write_tables([tables], output)) == 4000
        except BaseException as error:
            failures.append(error)

    output = folder.output(table_bytes=70_000)
    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    threads.append(threading.Thread(target=merge))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert folder.cache.weight <= 30_000


def test_what_is_closed_reads_what_is_in_memory(native: ModuleType) -> None:
    folder = Folder(native)
    table = folder.flush(numbered(1000))
    assert table.get(b"00000001") is not ABSENT
    table.close()
    assert table.get(b"00000001") is not ABSENT
    with pytest.raises(Closed):
        table.get(b"00000999")
    with pytest.raises(Closed):
        list(table.check())


@pytest.mark.parametrize("kind", [codec.LZ4, codec.ZSTD])
def test_codecs(native: ModuleType, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"some text, some more " * 500
    packed = codec.compress(kind, 3, data)
    assert len(packed) < len(data) // 8
    assert codec.decompress(kind, packed, len(data)) == data
    for wrong, length in [(packed[:-1], len(data)), (packed, len(data) + 1), (packed, 5)]:
        with pytest.raises(ValueError, match="compressed"):
            codec.decompress(kind, wrong, length)
    if kind == codec.LZ4:
        import lz4.block

        assert packed == lz4.block.compress(data, store_size=False)
    else:
        import zstandard

        assert zstandard.ZstdDecompressor().decompress(packed) == data
    codec._functions.cache_clear()
    monkeypatch.setitem(sys.modules, codec._SOURCES[kind][1], None)
    with pytest.raises(InvalidInput, match=r"pip install 'murmurdb\[compression\]'"):
        codec.compress(kind, 3, data)
    codec._functions.cache_clear()


def test_the_filter_lets_one_in_a_hundred_pass(native: ModuleType) -> None:
    folder = Folder(native)
    table = folder.flush(numbered(20_000, 1))
    for number in range(20_000):
        assert table.get(b"%08d" % number + b"x") is ABSENT
    assert table.filtered + table.passed_in_vain == 20_000
    assert 0.005 < table.passed_in_vain / 20_000 < 0.015
    assert 20_000 * 10 // 8 < table.resident < 20_000 * 3
