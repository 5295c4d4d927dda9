"""Sorted files by example: flushes, compactions, orphans. test_backends.py has what all do."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from murmur.errors import Corruption, InvalidInput
from murmur.kvcore import compaction, upkeep
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.options import Options
from murmur.kvcore.pressure import STOP
from murmur.kvcore.storage import DiskStorage, Storage
from murmur.kvcore.tree import Tree
from murmur.kvcore.tree_snapshot import after_prefix

KB = 1 << 10


@pytest.fixture(params=["memory", "disk"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MemoryStorage() if request.param == "memory" else DiskStorage(tmp_path / "db")


@pytest.fixture
def tree(storage: Storage) -> Iterator[Tree]:
    tree = open_tree(storage)
    yield tree
    tree.close()


def open_tree(storage: Storage) -> Tree:
    return Tree.open(storage, memtable_bytes=16 * KB, table_bytes=4 * KB, cache_bytes=64 * KB)


def content(tree: Tree) -> dict[bytes, bytes]:
    with tree.snapshot() as snapshot:
        return dict(snapshot.scan(b"", None))


def numbered(start: int, stop: int, value: bytes = b"v") -> list[tuple[bytes, bytes | None]]:
    return [(b"%05d" % number, value * 50) for number in range(start, stop)]


def tables(storage: Storage) -> list[str]:
    return [name for name in storage.list("tree") if name.endswith(".sst")]


def test_a_tree_that_is_opened_with_a_full_level_0_merges_it_before_it_flushes() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=Options(level0_tables=100))
    for turn in range(10):
        tree.write([(b"%d" % turn, b"v")])
        tree.flush(b"%d" % turn)
    tree.close()
    tree = Tree.open(storage, options=Options(level0_tables=2))
    tree.write([(b"more", b"v")])
    tree.flush(b"more")
    assert tree.mark == b"more"
    tree.close()


def test_a_snapshot_stays_through_flush_and_compaction(tree: Tree, storage: Storage) -> None:
    tree.write(numbered(0, 300))
    tree.flush(b"1")
    tree.write(numbered(100, 200, b"w"))
    expected = dict(numbered(0, 300)) | dict(numbered(100, 200, b"w"))
    snapshot = tree.snapshot()
    iterator = snapshot.scan(b"", None)
    backwards = snapshot.scan(b"", None, reverse=True)
    seen = [next(iterator) for _ in range(10)]
    seen_backwards = [next(backwards) for _ in range(10)]
    tree.write([(key, None) for key, _ in numbered(0, 300)])
    tree.flush(b"2")
    tree.compact()
    assert content(tree) == {}
    assert tables(storage), "the snapshot needs them"
    assert dict(snapshot.scan(b"", None)) == expected
    assert dict(seen + list(iterator)) == expected
    assert dict(seen_backwards + list(backwards)) == expected
    assert all(snapshot.get(key) == value for key, value in expected.items())
    snapshot.close()
    del iterator, backwards, snapshot
    gc.collect()
    tree.flush(b"3")  # whatever comes after the sweep has waited for it
    tree.compact()
    tree.flush(b"4")
    assert tables(storage) == []


def test_a_compaction_leaves_one_level_without_tombstones(tree: Tree) -> None:
    for turn in range(3):
        tree.write(numbered(turn * 50, turn * 50 + 100))
        tree.write([(b"%05d" % (turn * 50), None)])
        tree.flush(b"%d" % turn)
    tree.compact()
    *above, bottom = tree.stats()["level_tables"]  # type: ignore[misc]
    assert not any(above)
    assert bottom > 1
    assert sorted(content(tree)) == [
        b"%05d" % number for number in range(200) if number not in (0, 50, 100)
    ]
    compactions = tree.stats()["compactions"]
    tree.compact()
    assert tree.stats()["compactions"] == compactions, "there is nothing left to do"


def test_deleted_keys_do_not_come_back(tree: Tree) -> None:
    tree.write(numbered(0, 200))
    tree.flush(b"1")
    tree.compact()
    tree.write([(b"00100", None)])
    tree.flush(b"2")
    for turn in range(12):  # until compactions have carried the tombstone down
        assert tree.get(b"00100") is None
        assert len(content(tree)) == 199
        tree.write(numbered(90, 95, b"%d" % turn))
        tree.flush(b"3%d" % turn)
    tree.compact()
    assert tree.get(b"00100") is None


def test_level_0_is_merged_while_nobody_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "LEISURE_BYTES", 1)
    monkeypatch.setattr(upkeep, "REST_S", 0.001)
    tree = Tree.open(MemoryStorage(), table_bytes=4 * KB)
    for turn in range(3):
        tree.write(numbered(turn, 200, b"%d" % turn))
        tree.flush(b"%d" % turn)
    while tree.stats()["level_tables"][0]:  # type: ignore[index]
        time.sleep(0.001)
    assert content(tree) == {
        key: value
        for turn in range(3)
        for key, value in numbered(turn, 200, b"%d" % turn)
        if value is not None
    }
    assert list(tree.check()) == []
    tree.close()


def test_a_merge_at_leisure_waits_for_whoever_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "LEISURE_BYTES", 1)
    monkeypatch.setattr(upkeep, "REST_S", 3600.0)
    tree = Tree.open(MemoryStorage(), table_bytes=4 * KB)
    for turn in range(3):
        tree.write(numbered(0, 100, b"%d" % turn))
        tree.flush(b"%d" % turn)
    tree.settle()
    assert tree.stats()["level_tables"] == [3]
    tree.close()


def test_keys_in_order_are_written_once(tree: Tree) -> None:
    for turn in range(40):
        tree.write(numbered(turn * 100, turn * 100 + 100))
        tree.flush(b"%d" % turn)
    tree.close()
    stats = tree.stats()
    assert stats["bytes_compacted"] == 0
    assert stats["flushes"] == 40
    assert list(stats["level_tables"])[1:]  # type: ignore[arg-type]


@pytest.mark.parametrize(("flushes", "keys"), [(4, 50), (20, 100)])  # in one level, in several
def test_keys_in_order_but_not_new_are_merged(tree: Tree, flushes: int, keys: int) -> None:
    for value in (b"v", b"w"):
        for turn in range(flushes):
            tree.write(numbered(turn * keys, turn * keys + keys, value))
            tree.flush(value + b"%d" % turn)
    expected = dict(numbered(0, flushes * keys, b"w"))
    assert content(tree) == expected
    tree.compact()
    assert list(tree.check()) == []
    assert content(tree) == expected


def test_a_writer_in_a_hurry_does_not_pile_up_tables(storage: Storage) -> None:
    tree = Tree.open(storage, table_bytes=4 * KB)
    highest = 0
    for number in range(60):
        tree.write([(b"first", b"1"), (b"%05d" % number, b"v"), (b"last", b"1")])
        tree.rotate(b"%d" % number)
        highest = max(highest, *tree.stats()["level_tables"][:1], 0)  # type: ignore[index]
    tree.flush(b"end")
    assert highest <= STOP * tree.options.level0_tables
    assert len(content(tree)) == 62
    tree.close()


def test_a_flush_records_the_mark_even_of_nothing(storage: Storage) -> None:
    marks: list[bytes] = []
    tree = Tree.open(storage, before_install=marks.append)
    tree.flush(b"1")
    tree.write([(b"a", b"1")])
    tree.flush(b"2")
    tree.flush(b"3")
    assert tree.mark == b"3"
    tree.close()
    assert marks == [b"1", b"2", b"3"]
    assert tables(storage) == ["000001.sst"]
    with_mark = open_tree(storage)
    assert with_mark.mark == b"3"
    assert content(with_mark) == {b"a": b"1"}
    with_mark.close()


def test_closing_ends_a_pending_flush(storage: Storage) -> None:
    tree = open_tree(storage)
    for turn in range(3):
        tree.write(numbered(0, 2000, b"%d" % turn))
        tree.rotate(b"%d" % turn)
    tree.close()
    tree = open_tree(storage)
    mark = tree.mark
    assert content(tree) == (dict(numbered(0, 2000, mark)) if mark else {})
    assert list(tree.check()) == []
    tree.close()


def test_orphans_go_and_strangers_stay(storage: Storage) -> None:
    tree = open_tree(storage)
    tree.write(numbered(0, 10))
    tree.flush(b"1")
    tree.close()
    for name in ("tree/000099.sst", "tree/notes.txt", "000098.sst"):
        storage.create(name).close()
    tree = open_tree(storage)
    assert storage.list("tree") == ["000001.sst", "MANIFEST", "RESERVE", "notes.txt"]
    assert storage.exists("000098.sst")
    storage.create("tree/000097.sst").close()
    assert [problem.path.rsplit("/", 1)[1] for problem in tree.check()] == ["000097.sst"]
    tree.close()


def test_missing_files_are_damage(storage: Storage) -> None:
    tree = open_tree(storage)
    tree.write(numbered(0, 10))
    tree.flush(b"1")
    storage.rename("tree/000001.sst", "tree/kept")
    assert [problem.reason for problem in tree.check()] == ["the manifest names this file; missing"]
    tree.close()
    with pytest.raises(Corruption, match=r"000001.sst.*missing"):
        open_tree(storage)
    storage.rename("tree/kept", "tree/000001.sst")
    storage.remove("tree/MANIFEST")
    with pytest.raises(Corruption, match=r"MANIFEST.*missing, though there are tables"):
        open_tree(storage)
    assert storage.exists("tree/000001.sst")


class Interrupted(list[tuple[bytes, bytes | None]]):
    """A batch during which Ctrl-C is pressed."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes | None]]:
        yield from super().__iter__()
        raise KeyboardInterrupt


def test_a_large_batch_gets_a_memtable_of_its_own(tree: Tree) -> None:
    tree.write([(b"a", b"1"), (b"00005", b"before")])
    small = tree._head.state.memtable
    assert not tree.full()
    with tree.snapshot() as snapshot:
        tree.write(numbered(0, 200))
        assert tree._head.state.sealed == (small,)
        assert len(small) == 2
        assert tree.full(), "it is to be flushed at once"
        assert dict(snapshot.scan(b"", None)) == {b"a": b"1", b"00005": b"before"}
    expected = dict(numbered(0, 200)) | {b"a": b"1"}
    assert content(tree) == expected
    with pytest.raises(KeyboardInterrupt):
        tree.write(Interrupted([(b"a", b"lost"), *numbered(0, 300, b"x")]))
    assert content(tree) == expected
    tree.rotate(b"1")
    assert tree._head.state.sealed == ()
    tree.flush(b"2")
    assert tree.stats()["flushes"] == 1, "both became one table"
    assert content(tree) == expected


def test_a_range_is_deleted_as_its_keys_would_be(tree: Tree) -> None:
    tree.write(numbered(0, 100))
    tree.flush(b"1")
    tree.write([(b"00050", b"new")])
    with tree.snapshot() as before:
        tree.delete_range(b"00010", b"00090", "attached")
        assert tree.attachment == "attached"
        assert len(dict(before.scan(b"", None))) == 100
    tree.write([(b"00020", b"again")], None, [(b"00015", b"00025")])
    expected = {k: v for k, v in dict(numbered(0, 100)).items() if not b"00010" <= k < b"00090"}
    expected[b"00020"] = b"again"
    for step in (lambda: None, lambda: tree.flush(b"2"), tree.compact):
        step()
        assert content(tree) == expected
        assert [tree.get(key) for key in (b"00009", b"00010", b"00050", b"00090")] == [
            b"v" * 50,
            None,
            None,
            b"v" * 50,
        ]
    assert tree.stats()["range_tombstones"] == 0
    with pytest.raises(InvalidInput, match="is empty"):
        tree.delete_range(b"b", b"b")


def test_stats_are_those_that_the_page_explains(tree: Tree) -> None:
    tree.write(numbered(0, 500))
    tree.flush(b"1")
    for number in range(200):
        tree.write([(b"%05d" % number, b"")])
        tree.get(b"%05d" % (number + 300))
    with tree.snapshot() as snapshot:
        for _ in range(32):
            snapshot.get(b"00400")
    stats = tree.stats()
    page = (Path(__file__).parents[2] / "docs" / "engine.md").read_text()
    section = page.split("\n## Figures")[1].split("\n## ")[0]
    for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert name in stats, name
    latency, stalls = stats["latency"], stats["stalls"]
    assert isinstance(latency, dict)
    assert isinstance(stalls, dict)
    assert {name: int(latency[name]["count"]) for name in latency} == {
        "get": 2,
        "write": 12,
        "flush": 1,
        "compaction": 0,
    }
    for cause in stalls:
        assert f"| `{cause}` |" in page
    assert stats["write_amplification"] == 1
    assert stats["space_amplification"] == 1
    assert stats["pressure"] < 1  # type: ignore[operator]


def test_after_a_prefix_comes_the_next_one() -> None:
    assert after_prefix(b"a") == b"b"
    assert after_prefix(b"a\xff\xff") == b"b"
    assert after_prefix(b"\xff") is None
    assert after_prefix(b"") is None
