"""Large values: in files of their own, collected when they are garbage, kept for snapshots."""

from __future__ import annotations

import errno
from random import Random

import pytest

from murmur.errors import Corruption
from murmur.kvcore.kernel import Entry
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.options import Options
from murmur.kvcore.tree import Tree

KB = 1 << 10
OPTIONS = Options(
    memtable_bytes=1 << 20, table_bytes=4 * KB, separate_bytes=1 * KB, level0_tables=4
)


def large(start: int, stop: int, value: bytes = b"v") -> list[Entry]:
    return [(b"%05d" % number, b"%05d" % number + value * 5000) for number in range(start, stop)]


def content(tree: Tree) -> dict[bytes, bytes]:
    with tree.snapshot() as snapshot:
        return dict(snapshot.scan(b"", None))


def value_files(storage: MemoryStorage) -> list[str]:
    return [name for name in storage.list("tree") if name.endswith(".val")]


def test_large_values_are_written_once() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    for turn in range(4):
        tree.write([*large(turn * 10, turn * 10 + 10), (b"small%d" % turn, b"1")])
        tree.flush(b"%d" % turn)
    tree.settle()
    stats = tree.stats()
    assert stats["level_tables"][0] == 0  # type: ignore[index]
    assert stats["value_files"] == len(value_files(storage)) == 4
    assert stats["value_bytes_live"] == 40 * 5005
    assert stats["value_bytes"] == 40 * 5005 + 4 * 16
    assert stats["value_bytes_written"] == stats["value_bytes"]
    assert stats["write_amplification"] < 1.1  # type: ignore[operator]
    for _ in range(2):
        assert content(tree) == dict(large(0, 40)) | {b"small%d" % n: b"1" for n in range(4)}
        assert tree.get(b"00007") == dict(large(7, 8))[b"00007"]
        assert tree.multi_get([b"00001", b"small1", b"none"]) == [
            b"00001" + b"v" * 5000,
            b"1",
            None,
        ]
        assert list(tree.check()) == []
        tree.close()
        tree = Tree.open(storage, options=OPTIONS)
    tree.close()


def test_what_nothing_refers_to_is_removed() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(large(0, 20))
    tree.flush(b"1")
    tree.delete_range(b"", b"99999")
    tree.flush(b"2")
    tree.compact()
    assert value_files(storage) == []
    assert tree.stats()["value_files"] == 0
    tree.close()


def test_garbage_beyond_its_share_is_collected() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(large(0, 20))
    tree.flush(b"1")
    (first,) = value_files(storage)
    tree.write([(key, None) for key, _ in large(0, 9)])
    tree.flush(b"2")
    tree.compact()
    assert value_files(storage) == [first], "less than half"
    tree.write([(key, None) for key, _ in large(9, 12)])
    tree.flush(b"3")
    tree.compact()
    tree.settle()
    (second,) = value_files(storage)
    assert second != first
    stats = tree.stats()
    assert stats["relocations"] == 1
    assert stats["value_bytes"] == 8 * 5005 + 16
    assert content(tree) == dict(large(12, 20))
    assert list(tree.check()) == []
    tree.close()


def test_overwriting_does_not_fill_the_disk() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    rng = Random(1)
    model: dict[bytes, bytes] = {}
    for turn in range(60):
        batch = [
            (b"%03d" % rng.randrange(40), rng.randbytes(3000 + rng.randrange(3000)))
            for _ in range(10)
        ]
        tree.write(list(batch))
        model.update(batch)
        tree.flush(b"%d" % turn)
    tree.settle()
    assert content(tree) == model
    live = sum(map(len, model.values()))
    held = sum(len(storage.content(f"tree/{name}")) for name in storage.list("tree"))
    assert held < 3.5 * live
    assert list(tree.check()) == []
    tree.close()


def test_a_snapshot_keeps_the_values_it_sees() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(large(0, 20))
    tree.flush(b"1")
    snapshot = tree.snapshot()
    tree.write(large(0, 20, b"w"))
    tree.flush(b"2")
    tree.compact()
    assert len(value_files(storage)) == 2
    assert dict(snapshot.scan(b"", None)) == dict(large(0, 20))
    snapshot.close()
    tree.settle()
    assert len(value_files(storage)) == 1
    tree.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_value_is_named(damage: str) -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write([*large(0, 3), (b"small", b"1")])
    tree.flush(b"1")
    tree.close()
    (name,) = value_files(storage)
    path = f"tree/{name}"
    data = storage.content(path)
    if damage == "remove":
        storage.remove(path)
    else:
        at = len(data) - 100
        changed = data[:at] if damage == "cut" else data[:at] + b"x" + data[at + 1 :]
        storage.corrupt(path, changed)
    if damage != "flip":
        with pytest.raises(Corruption, match=name):
            Tree.open(storage, options=OPTIONS)
        return
    tree = Tree.open(storage, options=OPTIONS)
    with pytest.raises(Corruption, match=f"{name}.*checksum"):
        tree.get(b"00002")
    with pytest.raises(Corruption, match=f"{name}.*checksum"):
        content(tree)
    assert tree.get(b"00001") is not None
    assert tree.get(b"small") == b"1"
    assert [(p.path, p.offset) for p in tree.check()] == [(f"memory/{path}", 16 + 2 * 5005)]
    tree.close()


def test_a_flush_of_large_values_onto_a_full_disk_is_tried_again() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    storage.limit(20 * KB)
    tree.write(large(0, 20))
    with pytest.raises(OSError, match="No space left") as caught:
        tree.flush(b"1")
    assert caught.value.errno == errno.ENOSPC
    assert value_files(storage) == []
    assert content(tree) == dict(large(0, 20))
    storage.limit(None)
    tree.flush(b"2")
    assert content(tree) == dict(large(0, 20))
    tree.close()
