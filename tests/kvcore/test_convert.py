"""Conversion between backends: nothing changes but the files, wherever it is interrupted."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

import murmur
from murmur.errors import Corruption, InvalidInput, Locked
from murmur.kvcore import backend as backend_module
from murmur.kvcore import convert as convert_module
from murmur.kvcore.backend import BACKENDS, LSM, SQLITE, open_tree, recorded_backend
from murmur.kvcore.convert import convert
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import DiskStorage


def other(name: str) -> str:
    return LSM if name == SQLITE else SQLITE


def make(path: Path, backend: str, rows: int = 800) -> tuple[str, str, dict[str, int]]:
    """A directory with something of everything, some of it in the log only; who and what it is."""
    with murmur.open(path, backend=backend) as swarm:
        swarm.sql("CREATE TABLE note (id INT PRIMARY KEY, body TEXT UNIQUE, likes COUNTER)")
        rng = Random(1)
        batch = [(number, f"{rng.randbytes(40).hex()}", 1) for number in range(rows)]
        swarm.execute_many("INSERT INTO note VALUES (?, ?, ?)", batch)
        swarm.put("key", bytes(100_000))
        swarm.flush()
        swarm.sql("DELETE FROM note WHERE id % 3 = 0")
        replica_id, digest, vector = swarm.replica_id, swarm.state_hash(), swarm.version_vector
    return replica_id, digest, vector


def expect(path: Path, made: tuple[str, str, dict[str, int]]) -> str:
    """See that the directory is as it was made; its backend."""
    with murmur.open(path) as swarm:
        assert (swarm.replica_id, swarm.state_hash(), swarm.version_vector) == made
        assert swarm.check() == []
        backend = swarm.replica.backend
    names = {file.name for file in (path / "tree").iterdir()}
    assert ("MANIFEST" in names) == (backend == LSM)
    assert ("kv.sqlite" in names) == (backend == SQLITE)
    return backend


@pytest.mark.parametrize("backend", BACKENDS)
def test_there_and_back(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "db"
    made = make(path, backend)
    log = {file.name: file.read_bytes() for file in (path / "log").iterdir()}
    first = convert(DiskStorage(path), other(backend))
    assert first is not None
    assert (first.source, first.target) == (backend, other(backend))
    assert first.entries > 1000
    assert {file.name: file.read_bytes() for file in (path / "log").iterdir()} == log
    assert expect(path, made) == other(backend)
    assert convert(DiskStorage(path), other(backend)) is None
    assert convert(DiskStorage(path), backend) is not None
    assert expect(path, made) == backend


def test_the_log_goes_on_where_the_mark_says(tmp_path: Path) -> None:
    """A directory whose process was killed has much in its log that no flush has seen."""
    path = tmp_path / "db"
    program = """
import os, signal, sys, murmur
swarm = murmur.open(sys.argv[1])
for number in range(200):
    swarm.put(f"key {number % 50}", b"%d" % number)
    if number == 100:
        swarm.flush()
print(swarm.state_hash(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    for backend in (SQLITE, LSM):
        assert convert(DiskStorage(path), backend) is not None
        with murmur.open(path, backend=backend) as swarm:
            assert swarm.state_hash() == ran.stdout.decode().strip()
            assert swarm.get("key 7") == b"157"


def test_an_open_directory_is_refused(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "db"), pytest.raises(Locked, match=str(os.getpid())):
        convert(DiskStorage(tmp_path / "db"), SQLITE)


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no replica"):
        convert(DiskStorage(tmp_path), SQLITE)
    with pytest.raises(InvalidInput, match="one of lsm, sqlite, not 'lmdb'"):
        convert(DiskStorage(tmp_path), "lmdb")
    with pytest.raises(InvalidInput, match="needs a directory of the operating system"):
        convert(MemoryStorage(), SQLITE)


class Stop(Exception):
    """What interrupts a conversion."""


STEPS = {
    convert_module: ("open_tree", "_copy", "_digest", "record_backend", "remove_leftovers"),
    backend_module: ("write_atomically",),
}


def stopping(function: Callable[..., Any], left: list[int], *, after: bool) -> Callable[..., Any]:
    def stop(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            raise Stop
        result = function(*arguments, **options)
        if left[0] == 0:
            if hasattr(result, "close"):
                result.close()
            raise Stop
        return result

    return stop


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("after", [False, True])
def test_it_may_be_interrupted_anywhere(tmp_path: Path, backend: str, after: bool) -> None:
    made = make(tmp_path / "whole", backend, rows=100)
    stopped = 0
    for at in range(1, 30):
        path = tmp_path / f"{at}"
        shutil.copytree(tmp_path / "whole", path)
        # What a copy gives away is its id; here it stands for the directory itself.
        with murmur.open(path) as swarm:
            made = (swarm.replica_id, *made[1:])
        left = [at]
        with pytest.MonkeyPatch.context() as patch:
            for module, names in STEPS.items():
                for name in names:
                    function = getattr(module, name)
                    patch.setattr(module, name, stopping(function, left, after=after))
            try:
                convert(DiskStorage(path), other(backend))
            except Stop:
                stopped += 1
        if at % 2:
            assert expect(path, made) in BACKENDS
        convert(DiskStorage(path), other(backend))
        assert expect(path, made) == other(backend)
        if left[0] > 0:
            break
    assert stopped > 6


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_may_be_killed(tmp_path: Path, backend: str) -> None:
    made = make(tmp_path / "db", backend, rows=3000)
    program = (
        "import sys; from murmur.kvcore.convert import convert; "
        "from murmur.kvcore.storage import DiskStorage; print('begun', flush=True); "
        "convert(DiskStorage(sys.argv[1]), sys.argv[2])"
    )
    rng = Random(4)
    killed = 0
    target = other(backend)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "db"), target],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(rng.random() * 0.3)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.stdout.close()
        process.wait()
        now = recorded_backend(DiskStorage(tmp_path / "db"))
        assert now is not None
        if rng.random() < 0.5:
            assert expect(tmp_path / "db", made) == now
        target = other(now)
    assert killed


def test_a_damaged_tree_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "db"
    make(path, SQLITE)
    file = path / "tree/kv.sqlite"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(Corruption, match=r"kv\.sqlite"):
        convert(DiskStorage(path), LSM)
    assert recorded_backend(DiskStorage(path)) == SQLITE
    assert file.read_bytes() == bytes(data)


def test_a_copy_that_reads_back_wrongly_is_not_switched_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "db"
    made = make(path, LSM)
    copy = convert_module._copy

    def lossy(old: Any, new: Any) -> None:
        copy(old, new)
        new.write([(b"\x01\x01key", None)])
        new.flush(old.mark)

    monkeypatch.setattr(convert_module, "_copy", lossy)
    with pytest.raises(Corruption, match="reads back as something else"):
        convert(DiskStorage(path), SQLITE)
    assert expect(path, made) == LSM


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "db"
    made = make(path, LSM)

    def full(old: Any, new: Any) -> None:
        new._file._writer.pragma("max_page_count", 20)
        copy(old, new)

    copy = convert_module._copy
    monkeypatch.setattr(convert_module, "_copy", full)
    with pytest.raises(OSError, match="No space left") as caught:
        convert(DiskStorage(path), SQLITE)
    assert caught.value.errno == errno.ENOSPC
    assert expect(path, made) == LSM


# -- which backend a directory has


def test_a_directory_keeps_its_backend(tmp_path: Path) -> None:
    for backend in BACKENDS:
        path = tmp_path / backend
        murmur.open(path, backend=backend).close()
        for asked in (None, backend):
            with murmur.open(path, backend=asked) as swarm:
                assert swarm.replica.backend == backend
        wrong = other(backend)
        with pytest.raises(InvalidInput, match=rf"murmur convert {path} --backend {wrong}"):
            murmur.open(path, backend=wrong)
    murmur.open(tmp_path / "plain").close()
    assert recorded_backend(DiskStorage(tmp_path / "plain")) == LSM
    assert not (tmp_path / "plain/BACKEND").exists()


def test_connections_choose_one_too(tmp_path: Path) -> None:
    connection = murmur.connect(tmp_path / "db", backend="sqlite")
    connection.execute("CREATE TABLE note (id INT PRIMARY KEY)")
    connection.commit()
    murmur.connect(tmp_path / "db").close()
    with pytest.raises(InvalidInput, match="is open in this process with backend='sqlite'"):
        murmur.connect(tmp_path / "db", backend="lsm")
    connection.close()
    assert recorded_backend(DiskStorage(tmp_path / "db")) == SQLITE


def test_only_backends_that_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="backend is one of lsm, sqlite, not 'lmdb'"):
        murmur.open(tmp_path / "db", backend="lmdb")
    assert not (tmp_path / "db").exists()
    with pytest.raises(InvalidInput, match="needs a directory of the operating system"):
        open_tree(MemoryStorage(), SQLITE, memtable_bytes=1 << 20)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("BACKEND", "missing, beside tree/kv.sqlite"), ("tree/kv.sqlite", "BACKEND names it")],
)
def test_missing_files_are_damage(tmp_path: Path, name: str, reason: str) -> None:
    make(tmp_path / "db", SQLITE, rows=5)
    (tmp_path / "db" / name).rename(tmp_path / "kept")
    with pytest.raises(Corruption, match=reason):
        murmur.open(tmp_path / "db")
    (tmp_path / "kept").rename(tmp_path / "db" / name)
    murmur.open(tmp_path / "db").close()


def test_a_creation_that_was_cut_short_begins_again(tmp_path: Path) -> None:
    """Killed before BACKEND, before REPLICA: the directory is new, with any backend."""
    murmur.open(tmp_path / "whole", backend=SQLITE).close()
    for names in (["kv.sqlite"], ["kv.sqlite", "BACKEND"]):
        for backend in (None, SQLITE) if "BACKEND" in names else (None, *BACKENDS):
            path = tmp_path / f"{len(names)} {backend}"
            (path / "tree").mkdir(parents=True)
            for name in names:
                directory = "tree/" if name == "kv.sqlite" else ""
                shutil.copy(tmp_path / "whole" / directory / name, path / directory / name)
            with murmur.open(path, backend=backend) as swarm:
                assert swarm.replica.backend == (backend or (SQLITE if len(names) > 1 else LSM))
                swarm.put("a", b"1")
            with murmur.open(path) as swarm:
                assert swarm.get("a") == b"1"
                assert swarm.check() == []


def test_importing_murmur_loads_no_sqlite(tmp_path: Path) -> None:
    program = """
import sys, murmur
with murmur.open(sys.argv[1]) as swarm:
    swarm.put("a", b"1")
print([name for name in sys.modules if name.partition(".")[0] in ("apsw", "sqlite3")])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "db")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert ran.stdout == "[]\n"
