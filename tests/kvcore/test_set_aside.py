"""A damaged file that a merge meets is set aside: it costs what it holds, and nothing else."""

from __future__ import annotations

import errno

import pytest

from murmur.errors import Corruption
from murmur.kvcore.engine import Engine
from murmur.kvcore.kernel import Entry
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.options import Options
from murmur.kvcore.tree import Tree
from tests.kvcore.engine_history import KERNELS, use_kernel

KB = 1 << 10
OPTIONS = Options(
    memtable_bytes=8 * KB,
    table_bytes=8 * KB,
    block_bytes=512,
    cache_bytes=0,
    level0_tables=2,
    separate_bytes=500,
    garbage_ratio=0.2,
)


@pytest.fixture(autouse=True, params=KERNELS)
def kernel_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    use_kernel(monkeypatch, name)
    return name


def numbered(start: int, stop: int, value: bytes) -> list[Entry]:
    return [(b"%04d" % number, value * 40) for number in range(start, stop)]


def damage(storage: MemoryStorage, name: str, offset: int = 20) -> None:
    content = bytearray(storage.content(name))
    content[offset] ^= 1
    storage.corrupt(name, bytes(content))


def readable(tree: Tree) -> tuple[dict[bytes, bytes], set[str]]:
    """What single keys give, and the files that those name which give an error."""
    found: dict[bytes, bytes] = {}
    names = set()
    for number in range(400):
        key = b"%04d" % number
        try:
            value = tree.get(key)
        except Corruption as error:
            names.add(error.path)
        else:
            if value is not None:
                found[key] = value
    return found, names


@pytest.mark.parametrize("deep", [False, True], ids=["level 0", "level 1"])
def test_writing_goes_on_around_a_damaged_table(deep: bool) -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(numbered(0, 200, b"a"))
    tree.flush(b"1")
    if deep:
        tree.compact()
    tree.settle()
    bad = next(name for name in storage.list("tree") if name.endswith(".sst"))
    damage(storage, f"tree/{bad}")
    path = f"memory/tree/{bad}"
    model = dict(numbered(0, 200, b"a"))
    for turn in range(40):
        batch = numbered(turn % 10, 400 if turn < 4 else 100, b"%02d" % turn)
        tree.write(batch)
        model.update(batch)
        tree.flush(b"turn %d" % turn)
    tree.settle()

    stats = tree.stats()
    assert [problem.path for problem in stats["damaged"]] == [path]  # type: ignore[attr-defined]
    assert stats["pressure"] == 0
    assert stats["level_tables"][0] < 8, "level 0 stays short"  # type: ignore[index]
    found, names = readable(tree)
    assert names <= {path}
    assert found == {key: model[key] for key in found}
    assert len(found) > 380
    with pytest.raises(Corruption, match=bad):
        tree.compact()
    assert path in {problem.path for problem in tree.check()}

    tree.delete_range(b"", b"9")  # what hides all of it lets it go
    tree.flush(b"deleted")
    tree.settle()
    assert tree.stats()["damaged"] == []
    tree.compact()
    assert list(tree.check()) == []
    assert readable(tree) == ({}, set())
    tree.close()


def test_a_damaged_value_costs_only_itself() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write([(b"%04d" % number, b"%04d" % number * 200) for number in range(8)])
    tree.flush(b"1")
    (name,) = (name for name in storage.list("tree") if name.endswith(".val"))
    damage(storage, f"tree/{name}", 16 + 7 * 800)  # of the last one
    tree.write([(b"%04d" % number, b"small") for number in range(7)])
    tree.flush(b"2")
    tree.compact()
    tree.settle()  # what is left is to be moved to another file
    for turn in range(10):
        tree.write(numbered(20, 200, b"%02d" % turn))
        tree.flush(b"turn %d" % turn)
    tree.settle()
    found, names = readable(tree)
    assert (len(found), names) == (7 + 180, {f"memory/tree/{name}"})
    assert [problem.path for problem in tree.stats()["damaged"]] == [f"memory/tree/{name}"]  # type: ignore[attr-defined]
    tree.compact()
    tree.write([(b"0007", b"again")])
    tree.flush(b"3")
    tree.compact()
    assert tree.stats()["damaged"] == []
    assert list(tree.check()) == []
    tree.close()


def test_what_a_merge_cannot_read_is_tried_again_and_poisons_nothing() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(numbered(0, 400, b"a"))
    tree.flush(b"1")
    tree.settle()
    bad = next(f"tree/{name}" for name in storage.list("tree") if name.endswith(".sst"))
    storage.fail("read", name=bad, times=None)
    for turn in range(20):
        tree.write(numbered(0, 100, b"%02d" % turn))
        tree.flush(b"turn %d" % turn)
    tree.settle()
    stats = tree.stats()
    (problem,) = stats["damaged"]  # type: ignore[misc]
    assert problem.path == f"memory/{bad}"
    assert "could not be read" in problem.reason
    assert stats["pressure"] == 0
    assert stats["level_tables"][0] < 8, "level 0 stays short"  # type: ignore[index]
    with pytest.raises(OSError, match=bad) as caught:
        tree.compact()
    assert caught.value.errno == errno.EIO

    storage.heal()
    turn, last = 0, b"19"
    while tree.stats()["damaged"]:
        tree.write(numbered(0, 100, b"%02d" % turn))
        tree.flush(b"healed %d" % turn)
        last = b"%02d" % turn
        turn += 1
        assert turn < 2000, "nobody tries again"
    tree.settle()
    assert tree.stats()["level_tables"][0] < 4  # type: ignore[index]
    tree.write(numbered(0, 100, last))
    tree.flush(b"more")
    storage.fail("read", name="tree", times=None)
    with pytest.raises(OSError, match="tree/") as caught:
        tree.compact()
    storage.heal()
    tree.compact()
    assert tree.stats()["damaged"] == []
    assert readable(tree) == (dict(numbered(0, 400, b"a")) | dict(numbered(0, 100, last)), set())
    tree.close()


def test_an_engine_goes_on_and_closes() -> None:
    storage = MemoryStorage()
    engine = Engine.open(storage, options=OPTIONS, segment_bytes=20 * KB)
    for key, value in numbered(0, 300, b"a"):
        engine.put(key, value or b"")
    engine.flush()
    bad = next(name for name in storage.list("tree") if name.endswith(".sst"))
    damage(storage, f"tree/{bad}")
    for turn in range(8):
        for key, value in numbered(100, 400, b"%d" % turn):
            engine.put(key, value or b"")
    engine.flush()
    assert engine.get(b"0350") == b"7" * 40
    engine.close()
    with Engine.open(storage, options=OPTIONS) as engine:
        assert engine.get(b"0350") == b"7" * 40
        assert any(bad in problem.path for problem in engine.check())
