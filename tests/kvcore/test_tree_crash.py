"""The tree through power cuts, full and failing disks, and damaged files.

Each workload remembers what the tree must hold at each mark; whatever happens, a reopened tree
holds exactly what belongs to its mark, and a flush that returned is never undone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import closing
from random import Random

import pytest

from murmur.errors import Corruption, Poisoned
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.options import Options
from murmur.kvcore.store import RESERVE
from murmur.kvcore.tree import Tree
from tests.kvcore.each_cut import each_cut

KB = 1 << 10
Model = dict[bytes, bytes]


class Work:
    """A workload, and what it has been promised."""

    def __init__(
        self, storage: MemoryStorage, seed: int = 1, options: Options | None = None
    ) -> None:
        self.storage = storage
        self.options = options or PLAIN
        self.rng = Random(seed)
        self.model: Model = {}
        self.states: dict[bytes, Model] = {b"": {}}
        self.announced: set[bytes] = {b""}
        self.durable = b""
        self.turn = 0
        self.tree: Tree | None = None

    def run(self, turns: int) -> None:
        self.open()
        for _ in range(turns):
            self.step()
        self.close()

    def open(self) -> Tree:
        self.tree = None
        self.tree = open_tree(self.storage, self.announced.add, self.options)
        return self.tree

    def step(self) -> None:
        """Write; at every third turn flush, at others reopen, rotate twice, or compact."""
        tree, rng = self.tree, self.rng
        assert tree is not None
        self.write(rng.randrange(1, 12))
        if self.turn % 3 == 0:
            mark = self.mark()
            tree.flush(mark)
            self.durable = mark
        if self.turn % 7 == 4:
            tree.rotate(self.mark())
            self.write(3)
            tree.rotate(self.mark())
        if self.turn % 9 == 8:
            tree.compact()
        if self.turn % 10 == 9:
            tree.close()
            self.model = dict(self.states[self.open().mark])
        self.turn += 1

    def write(self, count: int) -> None:
        batch: list[tuple[bytes, bytes | None]] = []
        for _ in range(count):
            value = None if self.rng.random() < 0.3 else self.rng.randbytes(150)
            batch.append((b"%02d" % self.rng.randrange(40), value))
        ranges = []
        if self.options is not PLAIN and self.rng.random() < 0.3:
            start = self.rng.randrange(40)
            ranges.append((b"%02d" % start, b"%02d" % (start + self.rng.randrange(1, 9))))
        assert self.tree is not None
        self.tree.write(batch, None, ranges)
        for start_key, stop_key in ranges:
            for key in [key for key in self.model if start_key <= key < stop_key]:
                del self.model[key]
        apply(self.model, batch)

    def mark(self) -> bytes:
        mark = b"%04d" % len(self.states)
        self.states[mark] = dict(self.model)
        return mark

    def flush_often(self) -> None:
        assert self.tree is not None
        for _ in range(20):
            self.write(3)
            self.tree.flush(self.mark())

    def close(self) -> None:
        if self.tree is not None:
            self.tree.close()
            self.tree = None


def apply(model: Model, batch: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in batch:
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value


PLAIN = Options(memtable_bytes=64 * KB, table_bytes=1 * KB, cache_bytes=8 * KB, level0_tables=4)
# Values in files of their own, range tombstones, more levels and more merges at once.
RICH = Options(
    memtable_bytes=1 * KB,
    pending_memtables=4,
    table_bytes=512,
    cache_bytes=0,
    level0_tables=2,
    level_ratio=2,
    separate_bytes=100,
    garbage_ratio=0.3,
    tombstone_ratio=0.3,
    compact_threads=2,
)


def open_tree(
    storage: MemoryStorage,
    before_install: Callable[[bytes], None] = lambda mark: None,
    options: Options = PLAIN,
) -> Tree:
    return Tree.open(storage, options=options, before_install=before_install)


def content(tree: Tree) -> Model:
    with tree.snapshot() as snapshot:
        return dict(snapshot.scan(b"", None))


def surviving(work: Work, storage: MemoryStorage, durable: bytes) -> None:
    tree = open_tree(storage, options=work.options)
    try:
        assert tree.mark in work.announced, "the hook comes before the mark"
        assert tree.mark >= durable
        expected = work.states[tree.mark]
        assert content(tree) == expected
        assert list(tree.check()) == []
        tree.write([(b"after", b"1")])
        tree.flush(b"later")
        assert content(tree) == expected | {b"after": b"1"}
    finally:
        tree.close()


def run_until_cut(cut: int, turns: int, options: Options) -> Work:
    work = Work(MemoryStorage(), options=options)
    work.storage.cut_power(at=cut)
    try:
        work.run(turns)  # to its end, if the background happens to have needed fewer operations
    except PowerCut:
        pass
    except Poisoned as error:
        if not isinstance(error.__cause__, PowerCut):
            raise
    work.close()
    return work


def sweep(turns: int, seeds: int, options: Options = PLAIN, step: int = 1) -> int:
    """Cut the power at every operation of one run, or every so many; how many states that left."""
    work = Work(MemoryStorage(), options=options)
    states = 0

    def examine(cut: int) -> None:
        nonlocal states
        if cut % step == 0:
            for seed in [None, *range(seeds)]:
                after_a_cut(work, None if seed is None else Random(f"{cut} {seed}"))
                states += 1

    with closing(work), each_cut(work.storage, examine):
        work.run(turns)
    return states


def after_a_cut(work: Work, rng: Random | None) -> None:
    survivor = work.storage.crash(rng)
    if rng is not None:  # the power is cut once more while the tree is opened
        survivor.cut_power(at=rng.randrange(1, 25))
        try:
            open_tree(survivor, options=work.options).close()
        except PowerCut:
            survivor = survivor.crash(rng)
        survivor.cut_power(at=None)
    surviving(work, survivor, work.durable)


@pytest.mark.parametrize("options", [PLAIN, RICH], ids=["plain", "rich"])
def test_who_meets_a_power_cut_leaves_it_at_that(options: Options) -> None:
    for cut in range(1, 700, 29):
        work = run_until_cut(cut, 40, options)
        after_a_cut(work, Random(cut))


def test_a_power_cut_anywhere_leaves_what_a_mark_stands_for() -> None:
    assert sweep(turns=70, seeds=1) > 1500


def test_a_power_cut_among_value_files_and_range_tombstones() -> None:
    assert sweep(turns=50, seeds=2, options=RICH, step=3) > 1000


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_power_cuts() -> None:
    assert sweep(turns=60, seeds=12) > 10_000
    assert sweep(turns=60, seeds=12, options=RICH) > 10_000


def test_a_killed_process_loses_only_the_memtable() -> None:
    work = Work(MemoryStorage())
    work.open()
    for _ in range(40):
        work.step()
        surviving(work, work.storage.clone(), work.durable)
    work.close()


# -- faults


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_directory"])
def test_a_failing_disk_poisons_the_tree_and_loses_nothing(kind: str) -> None:
    for skip in range(6):
        work = Work(MemoryStorage())
        work.open()
        for _ in range(4):
            work.step()
        work.storage.fail(kind, name="tree", skip=skip, times=1)
        assert work.tree is not None
        with pytest.raises(Poisoned) as caught:
            work.flush_often()
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EIO
        with pytest.raises(Poisoned):
            work.tree.write([])
        assert content(work.tree) == work.model, "reading goes on"
        work.close()
        work.storage.heal()
        for seed in range(4):
            surviving(work, work.storage.crash(Random(seed)), b"")
        surviving(work, work.storage.clone(), b"")


def test_an_error_of_the_hook_poisons_the_tree() -> None:
    def refuse(mark: bytes) -> None:
        raise Poisoned("the log")

    storage = MemoryStorage()
    tree = Tree.open(storage, before_install=refuse)
    tree.write([(b"a", b"1")])
    with pytest.raises(Poisoned, match="the log"):
        tree.flush(b"m")
    assert tree.get(b"a") == b"1"
    tree.close()
    tree = Tree.open(storage)
    assert (tree.mark, tree.get(b"a")) == (b"", None)
    tree.close()


def test_a_full_disk_loses_nothing_and_is_tried_again() -> None:
    for room in range(0, 4000, 250):
        work = Work(MemoryStorage())
        tree = work.open()
        for _ in range(4):
            work.step()
        used = sum(len(work.storage.content(f"tree/{n}")) for n in work.storage.list("tree"))
        work.storage.limit(used + room)
        for _ in range(6):
            work.write(8)
            try:
                tree.flush(work.mark())
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            assert content(tree) == work.model
        work.storage.limit(None)
        mark = work.mark()
        tree.flush(mark)
        tree.compact()
        assert tree.mark == mark
        assert content(tree) == work.model
        assert list(tree.check()) == []
        work.close()
        surviving(work, work.storage.crash(None), mark)


def test_rotating_onto_a_full_disk() -> None:
    storage = MemoryStorage()
    tree = open_tree(storage)
    storage.limit(100)
    model: Model = {}

    def write_on() -> None:
        for turn in range(1000):
            batch = [(b"%02d" % number, b"%d" % turn * 1000) for number in range(10)]
            tree.write(list(batch))
            model.update(batch)
            if tree.full():
                tree.rotate(b"%04d" % turn)

    with pytest.raises(OSError, match="No space left"):
        write_on()
    unflushed = tree.stats()["unflushed_bytes"]
    assert isinstance(unflushed, int)
    assert 3 * 64 * KB < unflushed < 4 * 64 * KB, "all that may be"
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            tree.rotate(b"5000")
    assert content(tree) == model
    tree.rotate(b"6000", deleting=True)
    storage.limit(None)
    tree.rotate(b"7000")
    tree.flush(b"8000")
    assert tree.mark == b"8000"
    assert content(tree) == model
    tree.close()


def taken(storage: MemoryStorage) -> int:
    return sum(len(storage.content(f"tree/{name}")) for name in storage.list("tree"))


def test_deleting_makes_room_on_a_full_disk() -> None:
    """What could not be flushed is deleted in memory, what was flushed by a range tombstone."""
    storage = MemoryStorage()
    tree = open_tree(storage)
    tree.write([(b"old%03d" % number, b"v" * 500) for number in range(100)])
    tree.flush(b"1")
    tree.compact()
    used = taken(storage)
    storage.limit(used + 4 * KB)
    tree.write([(b"new%03d" % number, b"v" * 500) for number in range(100)])
    for mark in (b"2", b"3"):
        with pytest.raises(OSError, match="No space left"):
            tree.flush(mark)
        tree.write([(b"more", mark)])
    assert len(content(tree)) == 201
    tree.delete_range(b"new", b"new~")
    tree.flush(b"4")
    assert (tree.mark, len(content(tree))) == (b"4", 101)
    tree.delete_range(b"old", b"old~")
    tree.flush(b"5")
    tree.compact()
    tree.settle()
    assert content(tree) == {b"more": b"3"}
    assert taken(storage) - len(storage.content(RESERVE)) < used / 10
    tree.write([(b"new%03d" % number, b"v" * 400) for number in range(100)])
    tree.flush(b"6")
    tree.close()
    surviving_tree = open_tree(storage)
    assert len(content(surviving_tree)) == 101
    surviving_tree.close()


def test_a_manifest_that_perhaps_was_replaced_keeps_both_its_tables() -> None:
    """The rename was done and the sync of the directory had no room: both names may survive."""
    storage = MemoryStorage()
    tree = open_tree(storage)
    tree.write([(b"a", b"1")])
    storage.fail("sync_directory", name="tree", error=errno.ENOSPC, skip=1)
    with pytest.raises(OSError, match="No space left"):
        tree.flush(b"1")
    for seed in range(20):
        survivor = open_tree(storage.crash(Random(seed)))
        expected = {b"a": b"1"} if survivor.mark == b"1" else {}
        assert content(survivor) == expected
        survivor.close()
    tree.flush(b"2")
    tree.flush(b"3")
    tree.close()
    reopened = open_tree(storage)
    assert content(reopened) == {b"a": b"1"}
    assert storage.list("tree") == ["000002.sst", "MANIFEST", "RESERVE"]
    reopened.close()


# -- damage


def damaged_ways(data: bytes, rng: Random) -> list[bytes]:
    """One file, damaged in every kind of way."""
    ways = []
    for _ in range(40):
        at = rng.randrange(len(data))
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        ways.append(bytes(flipped))
        length = rng.randrange(1, 100)
        ways.append(data[:at] + bytes(len(data[at : at + length])) + data[at + length :])
        ways.append(data[:at])
        ways.append(data[:at] + data[at + length :])
        ways.append(data[:at] + rng.randbytes(length) + data[at:])
        other = rng.randrange(len(data))
        swapped = bytearray(data)
        low, high = data[at : at + 64], data[other : other + 64]
        swapped[at : at + len(high)] = high
        swapped[other : other + len(low)] = low
        ways.append(bytes(swapped))
    return [way for way in ways if way != data]


@pytest.mark.parametrize("options", [PLAIN, RICH], ids=["plain", "rich"])
def test_damage_gives_the_right_answer_or_an_error(options: Options) -> None:
    work = Work(MemoryStorage(), options=options)
    tree = work.open()
    for turn in range(6):
        work.write(30)
        tree.flush(work.mark())
        if turn == 3:
            tree.compact()
    tree.settle()  # else obsolete files may be left, which the next opening removes
    expected = dict(work.model)
    work.close()
    assert len(work.storage.list("tree")) >= 4
    detected = damages = 0
    rng = Random(9)
    for name in [name for name in work.storage.list("tree") if name != "RESERVE"]:
        for data in damaged_ways(work.storage.content(f"tree/{name}"), rng):
            storage = work.storage.clone()
            storage.corrupt(f"tree/{name}", data)
            damages += 1
            seen = not reads_right(storage, expected, options)
            detected += seen
            assert seen or name.endswith(".val"), "nothing in the others is without meaning"
    assert damages > 700
    assert detected > 0.9 * damages


def reads_right(storage: MemoryStorage, expected: Model, options: Options) -> bool:
    """Whether nothing is wrong; Corruption is another way to say no, a wrong answer fails."""
    right = True
    try:
        tree = open_tree(storage, options=options)
    except Corruption:
        return False
    try:
        for key in (b"%02d" % number for number in range(41)):
            try:
                assert tree.get(key) == expected.get(key)
            except Corruption as error:
                right = False
                if not error.path.startswith("memory/tree/"):
                    raise
        for reverse in (False, True):
            found: Model = {}
            try:
                with tree.snapshot() as snapshot:
                    found.update(snapshot.scan(b"", None, reverse=reverse))
                assert found == expected
            except Corruption:
                right = False
                assert found.items() <= expected.items()
        problems = list(tree.check())
        assert problems or right, "a check finds what a reader does"
    finally:
        tree.close()
    return not problems
