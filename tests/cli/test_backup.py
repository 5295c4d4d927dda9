"""`murmur backup`, `restore` and `repair`."""

from __future__ import annotations

from pathlib import Path

import pytest

import murmur
from tests.cli.commands import query, run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    with murmur.open(path) as swarm:
        swarm.sql("CREATE TABLE note (id INT PRIMARY KEY, body TEXT)")
        rows = [(number, f"body {number} " * 20) for number in range(300)]
        swarm.execute_many("INSERT INTO note VALUES (?, ?)", rows)
        swarm.put("key", b"first")
    return path


def test_two_generations_and_back(store: Path, tmp_path: Path) -> None:
    kept, again, first = tmp_path / "kept", tmp_path / "again", tmp_path / "first"
    ran = run("backup", store, kept, "--label", "monday")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{kept} has generation 1: ")
    with murmur.open(store) as swarm:
        swarm.put("key", b"second")
        original = swarm.replica_id
        swarm.backup(str(kept))
    ran = run("restore", kept, again)
    assert (ran.code, ran.out, ran.err) == (0, f"{again} holds generation 2\n", "")
    ran = run("restore", kept, first, "--generation", "1")
    assert (ran.code, ran.out) == (0, f"{first} holds generation 1 (monday)\n")
    for path, value in ((again, "second"), (first, "first")):
        assert run("get", path, "key").out == value
        assert query(path, "SELECT count(*) FROM note") == [["300"]]
        assert run("check", path).code == 0
        with murmur.open(path) as swarm:
            assert swarm.replica_id != original


def test_what_is_refused(store: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert run("backup", tmp_path / "nothing", kept).code == 2
    assert run("restore", tmp_path / "nothing", tmp_path / "new").code == 2
    assert run("repair", tmp_path / "nothing", tmp_path / "new").code == 2
    assert run("backup", store, kept).code == 0
    ran = run("restore", kept, store)
    assert ran.code == 2
    assert "already" in ran.err
    ran = run("restore", kept, tmp_path / "new", "--generation", "7")
    assert ran.code == 2
    assert "no generation 7" in ran.err
    ran = run("repair", store, store)
    assert ran.code == 2
    assert "holds a tree already" in ran.err
    with murmur.open(store):
        assert run("repair", store, tmp_path / "new").code == 2
    assert run("get", store, "key").out == "first"


def test_a_damaged_directory_is_saved_but_for_the_damage(store: Path, tmp_path: Path) -> None:
    whole = run("repair", store, tmp_path / "whole")
    assert (whole.code, whole.err) == (0, "")
    assert run("check", tmp_path / "whole").code == 0
    assert query(tmp_path / "whole", "SELECT count(*) FROM note") == [["300"]]
    (table, *_) = sorted((store / "tree").glob("*.sst"))
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
    assert run("check", store).code == 1
    saved = run("repair", store, tmp_path / "saved")
    assert (saved.code, saved.err) == (0, "")  # the log has it all
    assert query(tmp_path / "saved", "SELECT count(*) FROM note") == [["300"]]
    assert run("check", tmp_path / "saved").code == 0

    with murmur.open(store) as swarm:
        swarm.put("later", b"value")
    (log,) = (store / "log").glob("*.log")
    data = bytearray(log.read_bytes())
    data[data.rindex(b"later")] ^= 1
    log.write_bytes(data)
    cut = run("repair", store, tmp_path / "cut")
    assert cut.code == 1
    assert f"lost: {log}, offset " in cut.out
    assert run("check", tmp_path / "cut").code == 0
    assert query(tmp_path / "cut", "SELECT count(*) FROM note") == [["300"]]
    assert run("get", tmp_path / "cut", "later").code == 1
