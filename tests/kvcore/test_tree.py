"""The tree by example: snapshots, flushes, compactions, checkpoints, misuse."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from murmur.errors import Closed, Corruption, InvalidInput
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import DiskStorage, Storage
from murmur.kvcore.tree import Tree
from murmur.kvcore.upkeep import LEVEL0_STOP

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


def test_a_new_tree_is_empty(tree: Tree) -> None:
    assert tree.mark == b""
    assert tree.attachment is None
    assert tree.get(b"a") is None
    assert content(tree) == {}
    assert list(tree.check()) == []


def test_a_batch_is_published_with_its_attachment(tree: Tree) -> None:
    first = tree.write([(b"a", b"1"), (b"b", b"1")], "first")
    with tree.snapshot() as snapshot:
        second = tree.write([(b"a", None), (b"c", b"2")], "second")
        assert (snapshot.sequence, snapshot.attachment) == (first, "first")
        assert list(snapshot.scan(b"", None)) == [(b"a", b"1"), (b"b", b"1")]
        assert snapshot.get(b"c") is None
        assert snapshot.get(b"a") == b"1"
    assert second == first + 1
    assert tree.attachment == "second"
    assert [tree.get(key) for key in (b"a", b"b", b"c")] == [None, b"1", b"2"]


def test_an_empty_batch_publishes_its_attachment(tree: Tree) -> None:
    tree.write([], "only this")
    assert tree.attachment == "only this"


def test_an_empty_value_is_a_value(tree: Tree) -> None:
    tree.write([(b"", b""), (b"a", b"")])
    for _ in range(2):
        assert tree.get(b"") == b""
        assert content(tree) == {b"": b"", b"a": b""}
        tree.flush(b"m")


def test_ranges_are_half_open_both_ways(tree: Tree) -> None:
    tree.write([(key, key) for key in (b"a", b"b", b"ba", b"c")])
    for _ in range(2):
        with tree.snapshot() as snapshot:
            within = [(b"b", b"b"), (b"ba", b"ba")]
            assert list(snapshot.scan(b"b", b"c")) == within
            assert list(snapshot.scan(b"b", b"c", reverse=True)) == within[::-1]
            assert list(snapshot.scan(b"c", b"b")) == []
            assert list(snapshot.scan(b"b", b"b", reverse=True)) == []
            for start in (b"bb", b"c"):
                assert list(snapshot.scan(start, None)) == [(b"c", b"c")]
                assert list(snapshot.scan(start, None, reverse=True)) == [(b"c", b"c")]
            assert list(snapshot.scan(b"", b"a")) == []
        tree.flush(b"m")


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


def test_full_and_rotate(tree: Tree, storage: Storage) -> None:
    rotations = 0
    for number in range(1000):
        tree.write([(b"%05d" % number, b"v" * 50)])
        if tree.full():
            tree.rotate(b"%d" % number)
            rotations += 1
    assert rotations > 5
    assert len(content(tree)) == 1000
    tree.flush(b"end")
    assert tree.mark == b"end"
    assert tree.stats()["frozen_memtables"] == 0


def test_a_writer_in_a_hurry_does_not_pile_up_tables(storage: Storage) -> None:
    tree = Tree.open(storage, table_bytes=4 * KB)
    highest = 0
    for number in range(60):
        tree.write([(b"first", b"1"), (b"%05d" % number, b"v"), (b"last", b"1")])
        tree.rotate(b"%d" % number)
        highest = max(highest, *tree.stats()["level_tables"][:1], 0)  # type: ignore[index]
    tree.flush(b"end")
    assert highest <= LEVEL0_STOP
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


class Interrupted(list[tuple[bytes, bytes | None]]):
    """A batch during which Ctrl-C is pressed."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes | None]]:
        yield from super().__iter__()
        raise KeyboardInterrupt


def test_an_interrupted_batch_is_not_flushed(tree: Tree, storage: Storage) -> None:
    tree.write([(b"a", b"1"), (b"b", b"1")], "before")
    with tree.snapshot() as snapshot:
        with pytest.raises(KeyboardInterrupt):
            tree.write(Interrupted([(b"a", b"2"), (b"c", b"2"), (b"b", None)]), "after")
        assert tree.attachment == "before"
        for _ in range(2):
            assert [tree.get(key) for key in (b"a", b"b", b"c")] == [b"1", b"1", None]
            assert dict(snapshot.scan(b"", None)) == content(tree) == {b"a": b"1", b"b": b"1"}
            tree.flush(b"m")
    tree.close()
    tree = open_tree(storage)
    assert content(tree) == {b"a": b"1", b"b": b"1"}
    tree.close()


def test_what_is_not_flushed_is_not_there_after_reopening(storage: Storage) -> None:
    tree = open_tree(storage)
    flushed = tree.write([(b"a", b"1")])
    tree.flush(b"m")
    tree.write([(b"a", b"2"), (b"b", b"2")])
    tree.close()
    tree = open_tree(storage)
    assert (tree.mark, content(tree)) == (b"m", {b"a": b"1"})
    assert tree.write([]) > flushed
    tree.close()


def test_closed_handles_say_so(tree: Tree) -> None:
    tree.write([(b"a", b"1")])
    snapshot = tree.snapshot()
    iterator = snapshot.scan(b"", None)
    snapshot.close()
    snapshot.close()
    with pytest.raises(Closed):
        next(iterator)
    with pytest.raises(Closed):
        snapshot.get(b"a")
    with pytest.raises(Closed):
        snapshot.scan(b"", None)
    tree.close()
    tree.close()
    for use in (
        lambda: tree.get(b"a"),
        lambda: tree.write([]),
        lambda: tree.flush(b""),
        lambda: tree.rotate(b""),
        tree.snapshot,
        tree.compact,
    ):
        with pytest.raises(Closed):
            use()


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


def test_a_checkpoint_is_a_tree_of_its_own(tree: Tree, storage: Storage) -> None:
    tree.write(numbered(0, 100))
    tree.flush(b"1")
    tree.write(numbered(50, 150, b"w"))
    tree.flush(b"2")
    tree.write([(b"00000", None)])
    target = storage.at("backup")
    storage.make_directory("backup")
    tree.checkpoint("backup")
    with pytest.raises(InvalidInput, match="holds a tree already"):
        tree.checkpoint("backup")
    tree.write([(key, None) for key, _ in numbered(0, 150)])
    tree.flush(b"3")
    tree.compact()
    copy = open_tree(target)
    assert copy.mark == b"2"
    assert content(copy) == dict(numbered(0, 50)) | dict(numbered(50, 150, b"w"))
    assert list(copy.check()) == []
    copy.compact()
    copy.close()
    assert content(tree) == {}


def test_orphans_go_and_strangers_stay(storage: Storage) -> None:
    tree = open_tree(storage)
    tree.write(numbered(0, 10))
    tree.flush(b"1")
    tree.close()
    for name in ("tree/000099.sst", "tree/notes.txt", "000098.sst"):
        storage.create(name).close()
    tree = open_tree(storage)
    assert storage.list("tree") == ["000001.sst", "MANIFEST", "notes.txt"]
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
