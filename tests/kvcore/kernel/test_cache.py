"""The block cache: what is used stays, within the budget, whatever scans and merges read."""

from __future__ import annotations

from types import ModuleType

from murmur.kvcore.kernel.pure.block import Block
from murmur.kvcore.kernel.pure.cache import BlockCache
from murmur.kvcore.memory_storage import MemoryStorage
from tests.kvcore.kernel.folder import Content, Folder

HOT = [b"%06d" % number for number in range(0, 20_000, 1000)]


def test_hits_and_misses_are_counted_and_the_budget_holds(kernel: ModuleType) -> None:
    folder = Folder(kernel, cache_bytes=200_000)
    content: Content = {b"%06d" % number: b"v" * 200 for number in range(20_000)}
    reads = folder.reads([(folder.flush(content),)])
    assert (folder.cache.hits, folder.cache.misses) == (0, 0)
    for _ in range(5):
        assert reads.get(b"000000", 0) == b"v" * 200
    assert (folder.cache.hits, folder.cache.misses) == (4, 1)
    assert 0 < folder.cache.weight < 20_000
    for key in content:
        reads.get(key, 0)
    assert 50_000 < folder.cache.weight <= 200_000


def test_a_long_scan_leaves_what_is_used_in_the_cache(kernel: ModuleType) -> None:
    folder = Folder(kernel, cache_bytes=1_000_000)
    content: Content = {b"%06d" % number: b"v" * 200 for number in range(20_000)}
    table = folder.flush(content)
    reads = folder.reads([(table,)])
    for _ in range(3):
        reads.multi_get(HOT, 0)
    for pass_ in range(3):
        assert sum(1 for _ in reads.scan(b"", None, 0, reverse=pass_ == 1)) == 20_000
        misses = folder.cache.misses
        reads.multi_get(HOT, 0)
        assert folder.cache.misses - misses <= len(HOT) // 4, pass_
    assert folder.cache.weight <= 1_000_000


def test_a_merge_passes_the_cache_by(kernel: ModuleType) -> None:
    folder = Folder(kernel, cache_bytes=1_000_000)
    content: Content = {b"%06d" % number: b"v" * 200 for number in range(20_000)}
    table = folder.flush(content)
    reads = folder.reads([(table,)])
    reads.multi_get(HOT, 0)
    weight = folder.cache.weight
    folder.write([[table]])
    assert folder.cache.weight == weight


def test_a_short_scan_is_kept(kernel: ModuleType) -> None:
    storage = MemoryStorage()
    folder = Folder(kernel, storage, cache_bytes=1_000_000)
    content: Content = {b"%06d" % number: b"v" * 200 for number in range(20_000)}
    reads = folder.reads([(folder.flush(content),)])
    for _ in range(3):
        assert len(list(reads.scan(b"005000", b"005050", 0))) == 50
        reads_before = storage.calls["read"]
    assert len(list(reads.scan(b"005000", b"005050", 0))) == 50
    assert storage.calls["read"] == reads_before


# -- the Python twin


def test_the_cache_keeps_what_is_used_within_its_budget() -> None:
    cache = BlockCache(1000)
    used = Block([], [], kinds=0, weight=10)
    cache.put(0, used)
    for number in range(1, 1000):
        cache.put(number, Block([], [], kinds=0, weight=10))
        assert cache.get(0) is used
        assert cache.weight <= 1000
    assert cache.get(1) is None
    assert cache.get(999) is not None


def test_what_a_scan_brings_comes_in_when_it_is_got() -> None:
    cache = BlockCache(8000)
    for number in range(1000):
        cache.put(number, Block([], [], kinds=0, weight=10), scan=True)
        assert cache.weight <= 4500
    assert cache.get(0) is not None, "there was room"
    assert cache.get(500) is None
    wanted = cache.get(990)
    assert wanted is not None
    for number in range(1000, 2000):
        cache.put(number, Block([], [], kinds=0, weight=10), scan=True)
        assert cache.get(number, scan=True) is not None
    assert cache.get(990) is wanted
