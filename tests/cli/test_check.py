"""`murmur check` finds damaged bytes, and names file, offset and reason."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import murmur
from tests.cli.commands import environment, run

LINE = re.compile(r"(/\S+), offset (\d+): (\S.*)")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Rows in sorted files, and some more only in the log."""
    path = tmp_path / "data"
    with murmur.open(path) as swarm:
        swarm.sql("CREATE TABLE note (id INT PRIMARY KEY, body TEXT UNIQUE)")
        rows = [(number, f"body {number} " * 20) for number in range(300)]
        swarm.execute_many("INSERT INTO note VALUES (?, ?)", rows)
        swarm.put("key", b"value")
        swarm.flush()
        swarm.put("other", b"value")
    return path


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x55
    path.write_bytes(data)


def test_a_sound_store(store: Path) -> None:
    ran = run("check", store)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == f"{store} is sound"
    assert re.fullmatch(r"  log     [\d,]+ bytes, 4 transactions of 1 replica", lines[1])
    assert re.fullmatch(r"  tree    \d files?, [\d,]+ bytes", lines[2])
    assert lines[3:] == [
        "  state   306 cells and 301 derived entries, as the log gives them",
        "  schema  1 table, 1 index",
    ]


def files(store: Path) -> list[Path]:
    unread = ("LOCK", "RESERVE")  # RESERVE holds room on the disk: zeros, which nobody reads
    return sorted(each for each in store.rglob("*") if each.is_file() and each.name not in unread)


def test_damage_in_any_file_is_found(store: Path) -> None:
    names = {each.relative_to(store).as_posix() for each in files(store)}
    assert {"REPLICA", "CLEAN", "tree/MANIFEST", "log/0000000000000000.log"} <= names
    opened = 0
    for path in files(store):
        whole = path.read_bytes()
        for offset in (0, len(whole) // 3, len(whole) // 2, len(whole) * 9 // 10):
            damage(path, offset)
            ran = run("check", store)
            assert ran.code in (1, 2), (path, offset, ran)
            found = [match for match in map(LINE.fullmatch, ran.out.splitlines()) if match]
            if ran.code == 1:
                opened += 1
                assert ran.err == ""
                assert re.search(rf"\n\d+ problems? in {store}\n", ran.out), ran.out
            else:
                assert ran.out == ""
                assert ran.err.count("\n") == 1
                found = [
                    match
                    for match in [LINE.fullmatch(ran.err.strip().removeprefix("murmur: "))]
                    if match
                ]
            assert found, (path, offset, ran)
            assert str(path) in {match[1] for match in found}, (path, offset, ran)
            assert all(0 <= int(match[2]) <= len(whole) for match in found if match[1] == str(path))
            path.write_bytes(whole)
    assert opened > 1
    assert run("check", store).code == 0


def test_a_missing_file_is_found(store: Path) -> None:
    for path in files(store):
        if path.name == "CLEAN":
            continue  # it is missing after every crash
        whole = path.read_bytes()
        path.unlink()
        ran = run("check", store)
        assert ran.code in (1, 2), path
        assert str(path if path.suffix != ".log" else path.parent) in ran.out + ran.err, ran
        path.write_bytes(whole)


def written(log: Path) -> int:
    """How much of an open segment was written: zeros behind that are preallocated."""
    return len(log.read_bytes().rstrip(b"\0"))


def test_a_torn_tail_is_cut_off_and_told(store: Path) -> None:
    program = """
import os, signal, sys
import murmur
swarm = murmur.open(sys.argv[1])
swarm.put("kept", b"value")
swarm.put("torn", b"x" * 100)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program, str(store)], env=environment())
    assert killed.returncode == -signal.SIGKILL
    (log,) = (store / "log").glob("*.log")
    with open(log, "r+b") as file:
        file.truncate(written(log) - 40)
    ran = run("check", store)
    assert (ran.code, ran.err) == (0, "")
    first, second = ran.out.splitlines()[:2]
    found = LINE.fullmatch(first)
    assert found is not None
    assert found[1] == str(log)
    assert "recovery cut off" in found[3]
    assert second == f"{store} is sound"
    assert run("check", store).out.startswith(f"{store} is sound\n")
    assert run("get", store, "kept").out == "value"
    assert run("get", store, "torn").code == 1


def test_other_verbs_tell_of_a_torn_tail_on_stderr(store: Path) -> None:
    program = "import murmur, os, sys; s = murmur.open(sys.argv[1]); s.put('k', b'v'); os._exit(0)"
    subprocess.run([sys.executable, "-c", program, str(store)], env=environment(), check=True)
    (log,) = (store / "log").glob("*.log")
    end = written(log)
    with open(log, "r+b") as file:
        file.seek(end)
        file.write(b"half a frame")
    ran = run("get", store, "k")
    assert (ran.code, ran.out) == (0, "v")
    assert "recovery cut off 12 bytes" in ran.err


def test_an_unknown_format_is_refused(store: Path) -> None:
    replica = store / "REPLICA"
    replica.write_text(replica.read_text().replace("murmur replica 1", "murmur replica 2"))
    ran = run("check", store)
    assert (ran.code, ran.out) == (2, "")
    assert LINE.fullmatch(ran.err.strip().removeprefix("murmur: "))


def test_other_verbs_name_the_damage_too(store: Path) -> None:
    damage(store / "tree/MANIFEST", 30)
    for verb in (["get", store, "key"], ["sql", store, "SELECT 1"], ["shell", store]):
        ran = run(*verb)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(f"murmur: {store}/tree/MANIFEST, offset ")
