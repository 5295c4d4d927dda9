"""The SQLite backend through power cuts: what a disk may hold that lost what was not synced.

SQLite's calls are recorded through a VFS of our own. A cut is a place in the record: each file
holds what was synced before, and of the writes since then any selection, the last one perhaps torn
at a sector. Whatever comes of it, the tree opens, is at a mark whose flush had begun, and at none
before the last whose flush had returned.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import apsw
import pytest

from murmur.kvcore.sqlite_tree import SqliteTree
from murmur.kvcore.storage import DiskStorage

SECTOR = 512
Model = dict[bytes, bytes]


class Call(NamedTuple):
    """What SQLite asked of the disk: `data` to be written, a size to be cut to, or a mark."""

    kind: str
    name: str
    offset: int = 0
    data: bytes = b""


class RecordedFile(apsw.VFSFile):
    """A file whose calls are recorded."""

    def __init__(self, vfs: RecordingVfs, name: Any, flags: list[int]) -> None:
        self.vfs = vfs
        full = name if isinstance(name, str) else name.filename() if name else ""
        self.short = Path(full).name
        super().__init__(vfs.base_name, name, flags)
        self.record = vfs.calls.append if self.short.startswith("kv.sqlite") else lambda call: None

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's names
        super().xWrite(data, offset)
        self.record(Call("write", self.short, offset, bytes(data)))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self.record(Call("sync", self.short))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self.record(Call("truncate", self.short, size))


class RecordingVfs(apsw.VFS):
    """SQLite's view of the disk, written down."""

    def __init__(self) -> None:
        self.base_name = apsw.vfs_names()[0]
        self.calls: list[Call] = []
        super().__init__("recording", self.base_name, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> RecordedFile:  # noqa: N802
        return RecordedFile(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        super().xDelete(name, sync)
        self.calls.append(Call("delete", Path(name).name))


@pytest.fixture
def vfs() -> Iterator[RecordingVfs]:
    vfs = RecordingVfs()
    yield vfs
    vfs.unregister()


def open_tree(path: Path) -> SqliteTree:
    return SqliteTree.open(DiskStorage(path), memtable_bytes=64 << 10, cache_bytes=64 << 10)


def content(tree: SqliteTree) -> Model:
    with tree.snapshot() as snapshot:
        return dict(snapshot.scan(b"", None))


class Work:
    """Some flushes, some with a snapshot held over them, and what each leaves."""

    def __init__(self, path: Path, vfs: RecordingVfs, flushes: int) -> None:
        self.states: dict[bytes, Model] = {b"": {}}
        rng, model = Random(2), Model()
        tree = open_tree(path)
        shutil.copy(path / "tree/kv.sqlite", path / "first")
        vfs.calls.clear()
        held = None
        for number in range(1, flushes + 1):
            batch: list[tuple[bytes, bytes | None]] = [
                (b"%03d" % rng.randrange(200), None if rng.random() < 0.3 else rng.randbytes(150))
                for _ in range(40)
            ]
            tree.write(batch)
            for key, value in batch:
                model.pop(key, None)
                if value is not None:
                    model[key] = value
            mark = b"%d" % number
            self.states[mark] = dict(model)
            vfs.calls.append(Call("begun", "", data=mark))
            tree.flush(mark)
            vfs.calls.append(Call("flushed", "", data=mark))
            if number % 5 == 2:
                held = tree.snapshot()  # keeps SQLite from emptying its log
            elif number % 5 == 4 and held is not None:
                held.close()
            if number % 7 == 0:
                tree.compact()
            if number % 6 == 5:
                tree.close()
                tree = open_tree(path)
        tree.close()
        self.first = (path / "first").read_bytes()
        self.calls = list(vfs.calls)


def cut(work: Work, at: int, rng: Random) -> tuple[dict[str, bytes], int, int]:
    """The files after a power cut; the marks of the last flush that had returned, and begun."""
    files: dict[str, bytearray] = {"kv.sqlite": bytearray(work.first)}
    pending: dict[str, list[Call]] = {}
    flushed = begun = 0
    for kind, name, offset, data in work.calls[:at]:
        match kind:
            case "begun":
                begun = int(data)
            case "flushed":
                flushed = int(data)
            case "sync":
                for call in pending.pop(name, []):
                    apply(files, call)
            case "delete":  # its directory is synced before it is used again
                pending.pop(name, None)
                files.pop(name, None)
            case _:
                pending.setdefault(name, []).append(Call(kind, name, offset, data))
    for calls in pending.values():
        style = rng.random()
        for number, call in enumerate(calls):
            last = number == len(calls) - 1
            if style < 0.2 or (style < 0.7 and rng.random() < 0.5):
                continue
            if call.kind == "write" and (last or style > 0.85) and rng.random() < 0.5:
                torn = rng.randrange(0, len(call.data) + SECTOR, SECTOR)
                call = call._replace(data=call.data[:torn])
            apply(files, call)
    return {name: bytes(data) for name, data in files.items()}, flushed, begun


def apply(files: dict[str, bytearray], call: Call) -> None:
    file = files.setdefault(call.name, bytearray())
    if call.kind == "truncate":
        del file[call.offset :]
        return
    if len(file) < call.offset:
        file.extend(bytes(call.offset - len(file)))
    file[call.offset : call.offset + len(call.data)] = call.data


def sweep(tmp_path: Path, vfs: RecordingVfs, flushes: int, seeds: int) -> int:
    work = Work(tmp_path / "db", vfs, flushes)
    vfs.unregister()
    seen: set[tuple[tuple[str, bytes], ...]] = set()
    directory = tmp_path / "cut/tree"
    for at in range(len(work.calls) + 1):
        for seed in range(seeds):
            files, flushed, begun = cut(work, at, Random(f"{at} {seed}"))
            state = tuple(sorted(files.items()))
            if state in seen:
                continue
            seen.add(state)
            shutil.rmtree(directory.parent, ignore_errors=True)
            directory.mkdir(parents=True)
            for name, data in files.items():
                (directory / name).write_bytes(data)
            tree = open_tree(directory.parent)
            mark = int(tree.mark or b"0")
            assert flushed <= mark <= begun, (at, seed)
            assert content(tree) == work.states[tree.mark], (at, seed)
            assert list(tree.check()) == [], (at, seed)
            tree.close()
    return len(seen)


def test_a_power_cut_anywhere_leaves_what_a_mark_stands_for(
    tmp_path: Path, vfs: RecordingVfs
) -> None:
    assert sweep(tmp_path, vfs, flushes=6, seeds=4) > 250


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_power_cuts(tmp_path: Path, vfs: RecordingVfs) -> None:
    assert sweep(tmp_path, vfs, flushes=60, seeds=8) > 10_000
