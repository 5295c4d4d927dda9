"""`murmur convert`, and the other verbs on what it made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import murmur
from tests.cli.commands import query, run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    with murmur.open(path) as swarm:
        swarm.sql("CREATE TABLE note (id INT PRIMARY KEY, body TEXT UNIQUE)")
        rows = [(number, f"body {number} " * 20) for number in range(300)]
        swarm.execute_many("INSERT INTO note VALUES (?, ?)", rows)
        swarm.put("key", b"value")
    return path


def test_there_and_back(store: Path) -> None:
    hashes = []
    for backend in ("sqlite", "lsm"):
        ran = run("convert", store, "--backend", backend)
        assert (ran.code, ran.err) == (0, "")
        pattern = rf"{store} is kept by {backend} now: 606 entries, ([0-9a-f]{{64}})\n"
        found = re.fullmatch(pattern, ran.out)
        assert found is not None, ran.out
        hashes.append(found[1])
        again = run("convert", store, "--backend", backend)
        assert (again.code, again.out) == (0, f"{store} is kept by {backend} already\n")
        assert run("get", store, "key").out == "value"
        assert query(store, "SELECT count(*) FROM note") == [["300"]]
        checked = run("check", store)
        assert (checked.code, checked.err) == (0, "")
        assert checked.out.startswith(f"{store} is sound\n")
        assert re.search(r"tree    \d+ files?, [1-9][\d,]* bytes\n", checked.out)
    assert hashes[0] == hashes[1]


def test_what_is_refused(store: Path, tmp_path: Path) -> None:
    nothing = run("convert", tmp_path / "nothing", "--backend", "sqlite")
    assert (nothing.code, nothing.out) == (2, "")
    assert nothing.err.endswith("there is no replica here\n")
    assert not (tmp_path / "nothing").exists()
    with murmur.open(store):
        ran = run("convert", store, "--backend", "sqlite")
    assert (ran.code, ran.out) == (2, "")
    assert "is already open in this process" in ran.err


def test_damage_is_found_and_named(store: Path) -> None:
    assert run("convert", store, "--backend", "sqlite").code == 0
    file = store / "tree/kv.sqlite"
    whole = file.read_bytes()
    line = re.compile(rf"(murmur: )?{file}, offset \d+: \S.*")
    at = whole.index(b"body 77 body 77") + 5
    for data in (
        b"",
        whole[:-4096],
        whole[:at] + b"X" + whole[at + 1 :],
        whole[:8192] + bytes(4096) + whole[12288:],
    ):
        file.write_bytes(data)
        ran = run("check", store)
        assert ran.code in (1, 2)
        said = (ran.out + ran.err).splitlines()
        assert any(line.fullmatch(each) for each in said), said
        assert run("convert", store, "--backend", "lsm").code == 1
    file.unlink()
    assert "kv.sqlite, offset 0: missing" in run("check", store).err
    file.write_bytes(whole)
    assert run("check", store).code == 0
