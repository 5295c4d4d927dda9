"""Backups: what was flushed comes back, copied once, through cuts, damage and pruning."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from random import Random

import pytest

from murmur.errors import Corruption, InvalidInput, Locked, UnknownFormat
from murmur.kvcore.backup import Backup, bytes_item, file_item
from murmur.kvcore.kernel import Entry
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.options import Options
from murmur.kvcore.record import PUT, REGISTER, Operation
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage, Storage
from murmur.kvcore.tree import Tree

KB = 1 << 10
OPTIONS = Options(
    memtable_bytes=64 * KB, table_bytes=4 * KB, separate_bytes=1 * KB, level0_tables=4
)
Model = dict[bytes, bytes]


@pytest.fixture(params=["memory", "disk"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MemoryStorage() if request.param == "memory" else DiskStorage(tmp_path / "db")


def numbered(start: int, stop: int, value: bytes = b"v") -> list[Entry]:
    """Every tenth value is large."""
    return [(b"%05d" % n, value * (2000 if n % 10 == 0 else 50)) for n in range(start, stop)]


def content(storage: Storage) -> Model:
    tree = Tree.open(storage, options=OPTIONS)
    try:
        assert list(tree.check()) == []
        with tree.snapshot() as snapshot:
            return dict(snapshot.scan(b"", None))
    finally:
        tree.close()


def model(*batches: list[Entry]) -> Model:
    return {key: value for batch in batches for key, value in batch if value is not None}


def test_each_generation_comes_back(storage: Storage) -> None:
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(numbered(0, 200))
    tree.flush(b"1")
    first = tree.backup("backup", "monday")
    tree.write(numbered(100, 300, b"w"))
    tree.flush(b"2")
    tree.write([(b"not flushed", b"")])
    second = tree.backup("backup")
    assert (first.number, second.number) == (1, 2)
    assert first.copied == first.size
    assert 0 < second.copied < second.size, "the first table was there"
    backup = Backup(storage.at("backup"))
    assert [(g.number, g.label, g.size) for g in backup.list()] == [
        (1, "monday", first.size),
        (2, "", second.size),
    ]
    assert list(backup.check()) == []
    tree.write([(key, None) for key, _ in numbered(0, 300)])
    tree.flush(b"3")
    tree.compact()
    tree.close()
    backup.restore(storage.at("one"), 1)
    assert content(storage.at("one")) == model(numbered(0, 200))
    assert backup.restore(storage.at("two")).number == 2
    assert content(storage.at("two")) == model(numbered(0, 200), numbered(100, 300, b"w"))


def test_nothing_new_copies_only_the_manifest(storage: Storage) -> None:
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(numbered(0, 300))
    tree.flush(b"1")
    tree.backup("backup")
    assert tree.backup("backup").copied == 0
    tree.flush(b"2")
    again = tree.backup("backup")
    assert 0 < again.copied < 1000
    tree.close()


def test_pruning_keeps_what_the_newest_need(storage: Storage) -> None:
    tree = Tree.open(storage, options=OPTIONS)
    for turn in range(4):
        tree.write(numbered(turn * 50, turn * 50 + 100, b"%d" % turn))
        tree.flush(b"%d" % turn)
        if turn == 2:
            tree.compact()
        tree.backup("backup")
    backup = Backup(storage.at("backup"))
    with pytest.raises(InvalidInput, match="at least one"):
        backup.prune(0)
    files = len(backup.storage.list("files"))
    assert [generation.number for generation in backup.prune(2)] == [1, 2]
    assert [generation.number for generation in backup.list()] == [3, 4]
    assert len(backup.storage.list("files")) < files
    assert list(backup.check()) == []
    backup.restore(storage.at("new"), 3)
    assert len(content(storage.at("new"))) == 200
    assert backup.prune(5) == []
    with pytest.raises(InvalidInput, match="no generation 1"):
        backup.restore(storage.at("newer"), 1)
    assert tree.backup("backup").number == 5
    tree.close()


def test_a_backup_goes_on_while_the_tree_is_merged(storage: Storage) -> None:
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(numbered(0, 200))
    tree.flush(b"1")
    items = tree.backup_items()
    tree.write(numbered(0, 300, b"w"))
    tree.flush(b"2")
    tree.compact()
    tree.settle()
    Backup(storage.at("backup")).add(items)
    Backup(storage.at("backup")).restore(storage.at("new"))
    assert content(storage.at("new")) == model(numbered(0, 200))
    tree.close()


def test_other_files_come_along_as_they_were(storage: Storage) -> None:
    log = storage.create("segment")
    log.write(b"frame ")
    item = file_item(storage, "segment")
    log.write(b"torn")
    storage.remove("segment")
    backup = Backup(storage.at("backup"))
    made = backup.add([item, bytes_item("log/other", b"x"), bytes_item("EMPTY", b"")])
    assert made.size == 7
    target = storage.at("new")
    backup.restore(target)
    for name, data in (("segment", b"frame "), ("log/other", b"x"), ("EMPTY", b"")):
        file = target.open(name)
        assert file.read(0, 100) == data
        file.close()
    log.close()


def test_one_at_a_time(storage: Storage) -> None:
    backup = Backup(storage.at("backup"))
    lock = backup.storage.lock()
    with pytest.raises(Locked):
        backup.add([])
    with pytest.raises(Locked):
        backup.prune(1)
    lock.close()
    backup.add([])


def test_what_is_there_is_not_overwritten(storage: Storage) -> None:
    tree = Tree.open(storage, options=OPTIONS)
    tree.write([(b"a", b"1")])
    tree.flush(b"1")
    tree.backup("backup")
    tree.close()
    backup = Backup(storage.at("backup"))
    with pytest.raises(InvalidInput, match="holds tree/MANIFEST already"):
        backup.restore(storage)
    with pytest.raises(InvalidInput, match="holds no backup"):
        Backup(storage.at("nothing")).restore(storage.at("new"))
    assert Backup(storage.at("nothing")).list() == []
    assert Backup(storage.at("nothing")).prune(1) == []
    assert content(storage) == {b"a": b"1"}


def test_a_damaged_table_is_not_backed_up() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(numbered(1, 9))
    tree.flush(b"1")
    data = bytearray(storage.content("tree/000001.sst"))
    data[20] ^= 1
    storage.corrupt("tree/000001.sst", bytes(data))
    with pytest.raises(Corruption, match=r"000001.sst.*checksum"):
        tree.backup("backup")
    assert Backup(storage.at("backup")).list() == []
    tree.close()


def test_damage_of_a_backup_is_seen() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(numbered(0, 100))
    tree.flush(b"1")
    tree.backup("backup")
    tree.close()
    rng = Random(1)
    names = [f"files/{name}" for name in storage.list("backup/files")] + ["generations/000001"]
    assert len(names) == 4
    for name in names:
        for _ in range(20):
            copy = storage.clone()
            data = bytearray(copy.content(f"backup/{name}"))
            if rng.random() < 0.3:
                del data[rng.randrange(len(data)) :]
            else:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            copy.corrupt(f"backup/{name}", bytes(data))
            backup = Backup(copy.at("backup"))
            assert [problem.path for problem in backup.check()] == [f"memory/backup/{name}"]
            with pytest.raises(Corruption):
                backup.restore(copy.at("new"))
            assert not copy.exists("new/tree/MANIFEST")
    storage.remove(f"backup/{names[0]}")
    assert [p.reason for p in Backup(storage.at("backup")).check()] == [
        "a generation names this file; it is missing"
    ]


def test_a_backup_of_another_release_is_named() -> None:
    storage = MemoryStorage()
    Backup(storage).add([])
    data = bytearray(storage.content("generations/000001"))
    data[8] = 9
    storage.corrupt("generations/000001", bytes(data))
    with pytest.raises(UnknownFormat, match="format 9"):
        Backup(storage).list()


# -- interrupted anywhere


def lives(storage: MemoryStorage, tree: Tree) -> None:
    """Three backups, pruned to two, the newest restored."""
    for turn in range(3):
        tree.write(numbered(turn * 30, turn * 30 + 60, b"%d" % turn))
        tree.flush(b"%d" % turn)
        tree.backup("backup")
    Backup(storage.at("backup")).prune(2)
    Backup(storage.at("backup")).restore(storage.at("new"))


def states() -> list[Model]:
    made: list[Model] = []
    batches: list[list[Entry]] = []
    for turn in range(3):
        batches.append(numbered(turn * 30, turn * 30 + 60, b"%d" % turn))
        made.append(model(*batches))
    return made


def test_a_power_cut_anywhere_leaves_whole_generations() -> None:
    expected = states()
    counting = MemoryStorage()
    tree = Tree.open(counting, options=OPTIONS)
    start = counting.operations
    lives(counting, tree)
    tree.close()
    seen = set()
    for cut in range(start + 1, counting.operations + 1, 2):
        storage = MemoryStorage()
        tree = Tree.open(storage, options=OPTIONS)
        storage.cut_power(at=cut)
        try:
            lives(storage, tree)
        except PowerCut:
            pass
        except Exception as error:
            if not isinstance(error.__cause__, PowerCut):
                raise
        tree.close()
        for seed in (None, cut, -cut):
            rng = None if seed is None else Random(seed)
            survivor = storage.crash(rng)
            backup = Backup(survivor.at("backup"))
            assert list(backup.check()) == []
            generations = backup.list()
            seen.add(tuple(generation.number for generation in generations))
            for generation in generations:
                name = f"restored{generation.number}"
                backup.restore(survivor.at(name), generation.number)
                assert content(survivor.at(name)) == expected[generation.number - 1]
            if survivor.exists("new"):
                if not survivor.exists("new/tree/MANIFEST"):
                    backup.restore(survivor.at("new"))
                assert content(survivor.at("new")) == expected[-1]
            backup.prune(1)
            again = Tree.open(survivor, options=OPTIONS)
            again.flush(b"9")
            again.backup("backup")
            again.close()
            assert list(backup.check()) == []
    assert {(), (1,), (1, 2), (1, 2, 3), (2, 3)} <= seen


def test_a_full_disk_leaves_the_generations_before() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(numbered(0, 60))
    tree.flush(b"1")
    tree.backup("backup")
    tree.write(numbered(60, 120))
    tree.flush(b"2")
    used = sum(
        len(storage.content(f"{directory}/{name}"))
        for directory in ("tree", "backup/files", "backup/generations", "backup", "")
        for name in storage.list(directory)
    )
    for room in range(0, 30_000, 1500):
        storage.limit(used + room)
        try:
            tree.backup("backup")
            break
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        storage.limit(None)
        assert [generation.number for generation in Backup(storage.at("backup")).list()] == [1]
    storage.limit(None)
    tree.backup("backup")
    assert list(Backup(storage.at("backup")).check()) == []
    tree.close()


def test_what_makes_a_directory_a_tree_is_restored_last() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(numbered(0, 60))
    tree.flush(b"1")
    tree.backup("backup")
    tree.close()
    counting = storage.clone()
    start = counting.operations
    Backup(counting.at("backup")).restore(counting.at("new"))
    opened = 0
    for cut in range(counting.operations - start - 12, counting.operations - start + 1):
        for seed in range(20):
            copy = storage.clone()
            copy.cut_power(at=copy.operations + cut)
            with pytest.raises(PowerCut):
                Backup(copy.at("backup")).restore(copy.at("new"))
            survivor = copy.crash(Random(seed))
            if survivor.exists("new/tree/MANIFEST"):
                assert content(survivor.at("new")) == model(numbered(0, 60))
                opened += 1
    assert opened > 20


# -- a replica


def test_a_restored_replica_has_all_its_log_and_another_name(storage: Storage) -> None:
    replica = Replica.open(storage, memtable_bytes=64 * KB, segment_bytes=64 * KB)
    for turn in range(40):
        put = [
            Operation(PUT, REGISTER + b"%03d" % number, b"%d" % turn * 100) for number in range(20)
        ]
        replica.write(put)
    vector, found = dict(replica.vector), replica.state_hash()
    assert replica.backup("backup").number == 1
    for turn in range(40):
        replica.write([Operation(PUT, REGISTER + b"%03d" % turn, b"later")])
    again = replica.backup("backup")
    assert 0 < again.copied < again.size
    Backup(storage.at("backup")).restore(storage.at("new"), 1)
    restored = Replica.open(storage.at("new"))
    assert dict(restored.vector) == vector
    assert restored.state_hash() == found
    assert list(restored.check()) == []
    assert restored.id != replica.id
    assert restored.renewed == "the directory was copied or restored"
    restored.write([Operation(PUT, REGISTER + b"own", b"1")])
    replica.close()
    restored.close()


def test_a_replica_is_backed_up_while_it_is_written(tmp_path: Path) -> None:
    replica = Replica.open(DiskStorage(tmp_path / "db"), memtable_bytes=64 * KB)
    done = threading.Event()

    def write() -> None:
        turn = 0
        while not done.is_set():
            replica.write([Operation(PUT, REGISTER + b"%04d" % (turn % 500), b"%d" % turn * 50)])
            turn += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seqs = []
        for number in range(1, 6):
            replica.backup("../backup")
            Backup(DiskStorage(tmp_path / "backup")).restore(DiskStorage(tmp_path / f"{number}"))
            restored = Replica.open(DiskStorage(tmp_path / f"{number}"))
            assert list(restored.check()) == []
            seqs.append(restored.vector.get(replica.id, 0))
            restored.close()
    finally:
        done.set()
        writer.join()
    assert seqs == sorted(seqs)
    assert seqs[-1] <= replica.vector[replica.id]
    replica.close()
