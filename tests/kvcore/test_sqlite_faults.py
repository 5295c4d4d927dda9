"""The SQLite backend when files are damaged, changed by others, or cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

import apsw
import pytest

from murmur.errors import ChecksumMismatch, Corruption, Locked, Poisoned, UnknownFormat
from murmur.kvcore import sqlite_chain, sqlite_connection, sqlite_file
from murmur.kvcore.sqlite_tree import SqliteTree
from murmur.kvcore.storage import DiskStorage
from tests.kvcore.test_replica import interrupted

Model = dict[bytes, bytes]


def open_tree(path: Path, memtable_bytes: int = 64 << 10) -> SqliteTree:
    return SqliteTree.open(DiskStorage(path), memtable_bytes=memtable_bytes, cache_bytes=64 << 10)


def content(tree: SqliteTree, *, reverse: bool = False) -> Model:
    with tree.snapshot() as snapshot:
        return dict(snapshot.scan(b"", None, reverse=reverse))


def fill(path: Path, rows: int = 400, turns: int = 4) -> Model:
    """A file with several levels of pages, written in several flushes."""
    rng, model = Random(3), Model()
    tree = open_tree(path)
    for turn in range(turns):
        batch: list[tuple[bytes, bytes | None]] = []
        for _ in range(rows):
            key = b"key %05d" % rng.randrange(3 * rows)
            batch.append((key, None if rng.random() < 0.2 else rng.randbytes(60)))
        batch.append((b"large %d" % turn, rng.randbytes(20_000)))
        tree.write(batch)
        tree.flush(b"%d" % turn)
        for key, value in batch:
            model.pop(key, None)
            if value is not None:
                model[key] = value
    tree.close()
    return model


# -- damage


def ways(data: bytes, rng: Random, count: int) -> Iterator[bytes]:
    """A file, damaged in every kind of way."""
    for _ in range(count):
        at, length = rng.randrange(len(data)), rng.randrange(1, 100)
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        yield bytes(flipped)
        yield data[:at] + bytes(len(data[at : at + length])) + data[at + length :]
        yield data[:at]
        yield data[:at] + data[at + length :]
        yield data[:at] + rng.randbytes(length) + data[at:]
        page, other = (4096 * rng.randrange(len(data) // 4096) for _ in range(2))
        swapped = bytearray(data)
        swapped[page : page + 4096], swapped[other : other + 4096] = (
            data[other : other + 4096],
            data[page : page + 4096],
        )
        yield bytes(swapped)
        yield data[:page] + bytes(4096) + data[page + 4096 :]


def reads_right(path: Path, model: Model) -> bool:
    """Whether nothing is wrong; Corruption is another way to say no, a wrong answer fails."""
    try:
        tree = open_tree(path)
    except (Corruption, UnknownFormat):
        return False
    right = True
    try:
        for key in [b"key %05d" % number for number in range(0, 1200, 7)] + [b"", b"large 2", b"z"]:
            try:
                assert tree.get(key) == model.get(key)
            except Corruption:
                right = False
        for reverse in (False, True):
            found: Model = {}
            try:
                with tree.snapshot() as snapshot:
                    for key, value in snapshot.scan(b"", None, reverse=reverse):
                        found[key] = value
                assert found == model
            except Corruption:
                right = False
                assert found.items() <= model.items()
            for start, stop in ((b"key 00300", b"key 00700"), (b"a", b"b"), (b"key 01199", b"z")):
                try:
                    with tree.snapshot() as snapshot:
                        pairs = dict(snapshot.scan(start, stop, reverse=reverse))
                    assert pairs == {k: v for k, v in model.items() if start <= k < stop}
                except Corruption:
                    right = False
        if not right:
            assert list(tree.check()), "check finds what reading finds"
        elif list(tree.check()):
            right = False
    finally:
        tree.close()
    return right


def damage(tmp_path: Path, seed: int, count: int) -> tuple[int, int]:
    model = fill(tmp_path / "whole")
    whole = (tmp_path / "whole/tree/kv.sqlite").read_bytes()
    assert len(whole) >= 40 * 4096
    (tmp_path / "db/tree").mkdir(parents=True)
    damaged = tmp_path / "db/tree/kv.sqlite"
    total = found = 0
    for data in ways(whole, Random(seed), count):
        if data == whole:
            continue
        for leftover in damaged.parent.iterdir():
            leftover.unlink()
        damaged.write_bytes(data)
        total += 1
        found += not reads_right(tmp_path / "db", model)
    return total, found


def test_damage_gives_the_right_answer_or_an_error(tmp_path: Path) -> None:
    total, found = damage(tmp_path, seed=1, count=40)
    assert total > 250
    assert found > total * 0.75, "the rest fell on bytes that nobody reads"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_much_damage(tmp_path: Path) -> None:
    total, _ = damage(tmp_path, seed=2, count=2000)
    assert total > 10_000


def stock(path: Path) -> Any:
    """The file as another program opens it. (Not by Python's sqlite3: two SQLites in one process
    do not see each other's locks.)"""
    return apsw.Connection(str(path / "tree/kv.sqlite"))


def test_other_programs_may_read_and_not_write(tmp_path: Path) -> None:
    model = fill(tmp_path)
    tree = open_tree(tmp_path)
    connection = stock(tmp_path)
    assert dict(connection.execute("SELECT key, value FROM kv")) == model
    for statement in (
        "DELETE FROM kv WHERE key < x'7a'",
        "UPDATE kv SET value = x'00'",
        "INSERT INTO kv VALUES (x'00', x'00', 0, 0)",
        "UPDATE flushed SET mark = x'00'",
        "DELETE FROM flushed",
    ):
        with pytest.raises(apsw.ConstraintError, match="only Murmur writes here"):
            connection.execute(statement)
    tree.write([(b"another", b"1")])
    tree.flush(b"m")
    assert connection.execute("SELECT count(*) FROM kv").get == len(model) + 1
    connection.close()
    assert content(tree) == model | {b"another": b"1"}
    tree.close()


@pytest.mark.parametrize(
    ("statement", "keys"),
    [
        ("DELETE FROM kv WHERE key = {some}", ["some"]),
        ("DELETE FROM kv WHERE key < {some}", ["first"]),
        ("DELETE FROM kv WHERE key >= {some}", ["some", "last"]),
        ("DELETE FROM kv", ["some", "first", "last"]),
        ("UPDATE kv SET value = x'00' WHERE key = {some}", ["some"]),
        ("UPDATE kv SET value = 'text' WHERE key = {some}", ["some"]),
        ("UPDATE kv SET key = CAST({some} || x'00' AS BLOB) WHERE key = {some}", ["some"]),
        ("UPDATE kv SET key = 'text' WHERE key = {some}", ["some"]),
        (
            "INSERT INTO kv SELECT CAST(key || x'00' AS BLOB), value, crc, previous FROM kv "
            "WHERE key = {some}",
            [],
        ),
    ],
)
def test_what_another_program_writes_is_corruption(
    tmp_path: Path, statement: str, keys: list[str]
) -> None:
    model = fill(tmp_path)
    ordered = sorted(model)
    named = {"first": ordered[0], "some": ordered[len(ordered) // 2], "last": ordered[-1]}
    connection = stock(tmp_path)
    for verb in ("insert", "update", "delete"):
        connection.execute(f"DROP TRIGGER kv_{verb}")
    connection.execute(statement.format(some=f"x'{named['some'].hex()}'"))
    connection.close()
    tree = open_tree(tmp_path)
    for key in keys:
        with pytest.raises(Corruption, match=r"kv\.sqlite, offset 0: kv, "):
            tree.get(named[key])
    for reverse in (False, True):
        with pytest.raises(Corruption):
            content(tree, reverse=reverse)
    assert list(tree.check())
    tree.close()


def test_a_changed_mark_is_corruption(tmp_path: Path) -> None:
    fill(tmp_path)
    connection = stock(tmp_path)
    connection.execute("DROP TRIGGER flushed_update; UPDATE flushed SET sequence = 7")
    connection.close()
    with pytest.raises(ChecksumMismatch, match="flushed does not have its checksum"):
        open_tree(tmp_path)


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "tree/kv.sqlite"
    whole = path.read_bytes()
    for data, error in (
        (b"", "ends within its header"),
        (whole[:4096], "ends before its"),
        (whole[:-1], "ends before its"),
        (b"x" + whole[1:], "magic bytes"),
        (whole[:68] + bytes(4) + whole[72:], "application_id"),
    ):
        path.write_bytes(data)
        with pytest.raises(Corruption, match=error):
            open_tree(tmp_path)
    path.write_bytes(whole[:60] + (2).to_bytes(4) + whole[64:])
    with pytest.raises(UnknownFormat, match="format 2"):
        open_tree(tmp_path)


# -- what cannot be written


def test_a_full_disk_loses_nothing_and_is_tried_again(tmp_path: Path) -> None:
    model = fill(tmp_path)
    tree = open_tree(tmp_path)
    writer = tree._file._writer
    pages = writer.pragma("page_count")
    writer.pragma("max_page_count", pages + 5)
    batch = [(b"more %05d" % number, bytes(100)) for number in range(2000)]
    tree.write(batch)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left") as caught:
            tree.rotate(b"full")
        assert caught.value.errno == errno.ENOSPC
        assert content(tree) == model | dict(batch), "reading goes on"
        tree.write([(b"deleted", None)])
    assert tree.mark == b"3"
    writer.pragma("max_page_count", 1 << 30)
    tree.flush(b"room")
    assert content(tree) == model | dict(batch)
    assert list(tree.check()) == []
    tree.close()


def test_another_writer_is_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_MS", 50)
    tree = open_tree(tmp_path)
    tree.write([(b"a", b"1")])
    connection = stock(tmp_path)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(Locked, match=r"kv\.sqlite is being written by another program"):
        tree.flush(b"1")
    assert tree.get(b"a") == b"1"
    connection.execute("ROLLBACK")
    connection.close()
    tree.flush(b"1")
    assert content(tree) == {b"a": b"1"}
    tree.close()


class FaultyFile(apsw.VFSFile):
    """A file that counts what is done to it, and fails at one such call."""

    def __init__(self, vfs: FaultyVfs, name: Any, flags: list[int]) -> None:
        self.vfs = vfs
        super().__init__(vfs.base_name, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's names
        self.vfs.called("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.vfs.called("sync")
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.vfs.called("truncate")
        super().xTruncate(size)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self.vfs.called("read")
        data: bytes = super().xRead(amount, offset)
        return data


class FaultyVfs(apsw.VFS):
    """SQLite's view of the disk, which fails at the n-th call of a kind."""

    def __init__(self) -> None:
        self.base_name = apsw.vfs_names()[0]
        self.counts: dict[str, int] = {}
        self.kind: str | None = None
        self.at = 0
        self.error: type[Exception] = apsw.IOError
        super().__init__("faulty", self.base_name, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> FaultyFile:  # noqa: N802
        return FaultyFile(self, name, flags)

    def fail(self, kind: str | None, at: int = 0, error: type[Exception] = apsw.IOError) -> None:
        self.counts.clear()
        self.kind, self.at, self.error = kind, at, error

    def called(self, kind: str) -> None:
        count = self.counts[kind] = self.counts.get(kind, 0) + 1
        if kind == self.kind and count == self.at:
            raise self.error("fault")


@pytest.fixture
def faults() -> Iterator[FaultyVfs]:
    vfs = FaultyVfs()
    yield vfs
    vfs.unregister()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["write", "sync", "truncate", "read"])
@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
def test_a_fault_at_every_call(
    tmp_path: Path, faults: FaultyVfs, kind: str, error: type[Exception]
) -> None:
    """Whatever fails, readers see what was written, and the file is at one of its marks."""
    model = fill(tmp_path / "whole", rows=60)
    batch: list[tuple[bytes, bytes | None]] = [
        (b"key %05d" % number, bytes(100) if number % 3 else None) for number in range(60)
    ]
    after = model | {key: value for key, value in batch if value is not None}
    for key, value in batch:
        if value is None:
            after.pop(key, None)
    failed = 0
    for at in range(1, 60):
        path = tmp_path / f"{at}"
        shutil.copytree(tmp_path / "whole", path)
        faults.fail(None)
        tree = open_tree(path)
        tree.write(batch)
        faults.fail(kind, at, error)
        fired = True
        try:
            tree.flush(b"after")
            fired = faults.counts.get(kind, 0) >= at
        except (Poisoned, OSError, Corruption) as caught:
            failed += 1
            full = isinstance(caught, OSError) and caught.errno == errno.ENOSPC
            faults.fail(None)
            if full:
                tree.flush(b"after")
            elif isinstance(caught, Poisoned):
                with pytest.raises(Poisoned):
                    tree.write([])
        faults.fail(None)
        assert content(tree) == after, (kind, at)
        tree.close()
        tree = open_tree(path)
        assert content(tree) == (after if tree.mark == b"after" else model), (kind, at)
        assert list(tree.check()) == []
        tree.close()
        shutil.rmtree(path)
        if not fired:  # there are no more calls
            break
    assert failed or kind == "truncate"


def test_a_flush_is_durable_when_it_returns(tmp_path: Path, faults: FaultyVfs) -> None:
    tree = open_tree(tmp_path)
    calls: list[dict[str, int]] = []
    tree._before_install = lambda mark: calls.append(dict(faults.counts))
    tree.write([(b"a", b"1")])
    faults.fail(None)
    tree.flush(b"1")
    assert calls == [{}], "the log is synced before anything of it is written here"
    assert faults.counts["sync"] >= 3, "SQLite's log; for the move to the file, both"
    tree.close()


def test_ctrl_c_anywhere_in_a_flush(tmp_path: Path) -> None:
    """Memory and file still say the same, the mark included, and the flush can be repeated."""
    model = fill(tmp_path / "whole", rows=20, turns=2)
    batch: list[tuple[bytes, bytes | None]] = [(b"key %05d" % each, b"new") for each in range(4)]
    after = model | {key: value for key, value in batch if value is not None}
    at, hit = 0, True
    while hit:
        at += 3
        shutil.copytree(tmp_path / "whole", tmp_path / "db")
        tree = open_tree(tmp_path / "db")
        tree.write(batch, "attached")
        hit = interrupted(cast("Any", tree), at, partial(tree.flush, b"after"))
        assert content(tree) == after
        assert all(tree.get(key) == value for key, value in batch)
        assert tree.attachment == "attached"
        if at % 4 == 0:
            shutil.copytree(tmp_path / "db", tmp_path / "killed")
            killed = open_tree(tmp_path / "killed")
            assert content(killed) == (after if killed.mark == b"after" else model)
            killed.close()
            shutil.rmtree(tmp_path / "killed")
        tree.write([(b"later", b"1")])
        tree.flush(b"later")
        tree.close()
        tree = open_tree(tmp_path / "db")
        assert (tree.mark, content(tree)) == (b"later", after | {b"later": b"1"})
        assert list(tree.check()) == []
        tree.close()
        shutil.rmtree(tmp_path / "db")
    assert at > 80


def test_the_end_of_a_forked_child_leaves_the_file_alone(tmp_path: Path) -> None:
    program = """
import gc, os, sys, murmur
swarm = murmur.open(sys.argv[1], backend="sqlite")
for turn in range(3):
    swarm.put(f"key {turn}", b"value")
    swarm.flush()
    child = os.fork()
    if child == 0:
        swarm.close()
        del swarm
        gc.collect()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert swarm.get("key 0") == b"value"
assert os.path.exists(os.path.join(sys.argv[1], "tree/kv.sqlite-wal"))
assert swarm.check() == []
swarm.close()
"""
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "db")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )


def test_the_log_of_sqlite_begins_anew(tmp_path: Path) -> None:
    tree = open_tree(tmp_path)
    sizes = []
    for number in range(40):
        tree.write([(b"%d" % each, b"%d" % number * 50) for each in range(100)])
        tree.flush(b"%d" % number)
        sizes.append((tmp_path / "tree/kv.sqlite-wal").stat().st_size)
    assert sizes[-1] < 3 * sizes[2]
    with tree.snapshot() as snapshot:  # which needs what the file held when it was taken
        for number in range(5):
            tree.write([(b"new", b"%d" % number)])
            tree.flush(b"held %d" % number)
        assert snapshot.get(b"new") is None
    assert content(tree)[b"new"] == b"4"
    tree.close()
    assert not (tmp_path / "tree/kv.sqlite-wal").exists()


def test_a_row_too_few_in_a_sound_chain(tmp_path: Path) -> None:
    """No damage, but a bug, or a very careful hand: the count tells."""
    model = fill(tmp_path)
    file = sqlite_file.SqliteFile(DiskStorage(tmp_path), 0)
    with file._transaction() as writer:
        flushed = sqlite_chain.read_flushed(writer, file.path)
        sqlite_chain.Merge(writer, flushed).run([(sorted(model)[7], None)])
    (problem,) = file.check()
    file.close()
    assert problem.reason == f"kv has {len(model) - 1:,} rows, {len(model):,} were written"


class Overtaken:
    """What a reader reads first; it is overtaken by two batches and a flush before it looks."""

    def __init__(self, reads: Any, overtake: Any) -> None:
        self.reads, self.overtake = reads, overtake
        self.scan = reads.scan

    def get(self, key: bytes, sequence: int) -> bytes | None:
        overtake, self.overtake = self.overtake, lambda: None
        overtake()
        value: bytes | None = self.reads.get(key, sequence)
        return value


@pytest.mark.parametrize("flush", [False, True])
def test_reading_the_latest_never_misses_what_was_there_before(tmp_path: Path, flush: bool) -> None:
    tree = open_tree(tmp_path)
    tree.write([(b"key", b"0")])

    def overtake() -> None:
        for number in (1, 2):
            tree.write([(b"key", b"%d" % number)])
        if flush:
            tree.flush(b"m")

    tree._state = tree._state._replace(reads=cast("Any", Overtaken(tree._state.reads, overtake)))
    assert tree.get(b"key") == b"2"
    tree.close()


def test_the_umask_does_not_open_the_file_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        tree = open_tree(tmp_path / "db")
        tree.write([(b"a", b"1")])
        tree.flush(b"1")
        modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "db/tree").iterdir()}
        tree.close()
    finally:
        os.umask(before)
    assert modes == {0o600}
