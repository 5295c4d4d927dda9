"""Verbs, exit codes, and one line for everything that goes wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import murmur
from murmur.cli import main
from tests.cli.commands import Ran, environment, run, start


def test_version_and_help() -> None:
    assert run("--version")[:2] == (0, f"murmur {murmur.__version__}\n")
    helped = run("--help")
    assert helped.code == 0
    verbs = "shell sql serve check convert ticket put get delete scan"
    for verb in verbs.split():
        assert f"\n    {verb} " in helped.out
        assert run(verb, "--help").code == 0
    assert "exit codes:" in helped.out


def test_starting_loads_nothing_but_the_standard_library() -> None:
    program = """
import sys
from murmur.cli.command import make_parser
make_parser()
print([name for name in sys.modules if name.partition(".")[0] in
       ("msgpack", "sqlglot", "duckdb", "pyarrow", "polars", "aioquic", "prompt_toolkit")
       or name.startswith(("murmur.kvcore", "murmur.sql", "murmur.sync", "murmur.olap"))])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True
    )
    assert ran.stdout == "[]\n", ran.stderr


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["dance"],
        ["get", "DIR"],
        ["sql", "DIR", "SELECT 1", "--format", "xml"],
        ["sql", "DIR", "SELECT 1", "--form", "csv"],
        ["serve", "DIR"],
        ["serve", "DIR", "--listen", "127.0.0.1:0", "--for", "-1"],
        ["scan", "DIR", "--limit", "-1"],
        ["sql", "DIR", "SELECT 1", "--param", ":a=1", "--param", "2"],
        ["sql", "DIR", "SELECT 1", "--param", ":a=1", "--param", ":a=2"],
        ["get", "DIR", "zz", "--hex"],
        ["convert", "DIR"],
        ["convert", "DIR", "--backend", "lmdb"],
        ["serve", "DIR", "--listen", "127.0.0.1:0", "--peer", "murmur1abc"],
    ],
)
def test_wrong_arguments_touch_nothing(argv: list[str], tmp_path: Path) -> None:
    path = tmp_path / "data"
    ran = run(*[str(path) if argument == "DIR" else argument for argument in argv])
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("murmur: ")
    assert ran.err.count("\n") == 1
    assert not path.exists()


def test_keys_and_values(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made = run("put", path, "db:host", "localhost")
    assert made == (0, "", f"murmur: created {path}\n", b"")
    assert run("put", path, "db:port", stdin=b"54\x00\xff") == (0, "", "", b"")
    assert run("put", path, "empty", "")[:3] == (0, "", "")
    assert run("put", path, "00ff", "-", "--hex", stdin="dash")[:3] == (0, "", "")
    assert run("put", path, "dash", "--hex", "--", "-1")[0] == 2
    assert run("put", path, "--", "-k", "-v")[:3] == (0, "", "")
    assert run("get", path, "--", "-k").raw == b"-v"
    assert run("get", path, "db:host").raw == b"localhost"
    assert run("get", path, "db:port").raw == b"54\x00\xff"
    assert run("get", path, "empty")[:2] == (0, "")
    assert run("get", path, "00FF", "--hex").raw == b"dash"
    assert run("get", path, "00ff") == (1, "", "murmur: no value under 00ff\n", b"")
    assert run("delete", path, "db:host")[:3] == (0, "", "")
    assert run("delete", path, "db:host") == (1, "", "murmur: no value under db:host\n", b"")


def test_scan_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with murmur.open(path) as swarm:
        swarm.put("a", b"1")
        swarm.put("b\tc\\", "é\n".encode())
        swarm.put("\x07", b"\xff\x00")
        swarm.put(b"\x00a", b"")
    assert run("scan", path).out == ("\\u0007\t\\xff00\na\t1\nb\\tc\\\\\té\\n\n\\x0061\t\n")
    assert run("scan", path, "a").out == "a\t1\n"
    assert run("scan", path, "--keys-only", "--reverse", "--limit", 2).out == "\\x0061\nb\\tc\\\\\n"
    assert run("scan", path, "--start", "a", "--stop", "b").out == "a\t1\n"
    assert run("scan", path, "--hex", "00").out == "\\x0061\t\n"
    refused = run("scan", path, "a", "--start", "b")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "murmur: scan takes a prefix, or start and stop, not both\n"


@pytest.mark.parametrize(
    "verb", [["get", "k"], ["delete", "k"], ["scan"], ["check"], ["ticket"]], ids=lambda v: v[0]
)
def test_reading_verbs_create_nothing(verb: list[str], tmp_path: Path) -> None:
    path = tmp_path / "data"
    expected = Ran(2, "", f"murmur: {path}: there is no replica here\n", b"")
    assert run(verb[0], path, *verb[1:]) == expected
    assert not path.exists()
    path.mkdir()
    assert run(verb[0], path, *verb[1:]) == expected
    assert list(path.iterdir()) == []


@pytest.mark.parametrize(
    "verb",
    [["put", "k", "v"], ["sql", "SELECT 1"], ["shell"], ["serve", "--listen", "127.0.0.1:0"]],
    ids=lambda v: v[0],
)
def test_writing_verbs_spare_a_directory_of_something_else(verb: list[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    ran = run(verb[0], tmp_path, *verb[1:])
    assert ran.code == 2
    assert "thesis.tex" in ran.err
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    for verb in (["put", path, "k", "v"], ["get", path, "k"]):
        ran = run(*verb)
        assert ran.code == 2
        assert ran.err.count("\n") == 1
        assert str(path) in ran.err


def test_a_directory_that_is_open_elsewhere(tmp_path: Path) -> None:
    other = start("shell", tmp_path / "data")
    try:
        other.say(".tables\n.mode csv\nSELECT 1 AS open;")
        other.line("open")
        ran = run("get", tmp_path / "data", "k")
    finally:
        assert other.end()[0] == 0
    assert ran.code == 2
    assert f"process {other.process.pid}" in ran.err
    assert ran.err.count("\n") == 1


def test_a_copied_directory_says_that_it_is_another_replica_now(tmp_path: Path) -> None:
    import shutil

    run("put", tmp_path / "data", "k", "v")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    ran = run("get", tmp_path / "copy", "k")
    assert (ran.code, ran.out) == (0, "v")
    assert "the directory was copied or restored" in ran.err


def test_ticket(tmp_path: Path) -> None:
    from murmur.sync import Ticket

    path = tmp_path / "data"
    run("put", path, "k", "v")
    ran = run("ticket", path, "--group", "team")
    ticket = Ticket.parse(ran.out)
    assert (ran.code, ran.err, ticket.group) == (0, "", "team")
    assert run("ticket", path, "--group", "team").out == ran.out
    refused = run("ticket", path, "--listen", "203.0.113.7:1")
    assert refused.code == 2
    assert refused.err.startswith("murmur: cannot listen on 203.0.113.7:1: ")


def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("murmur.cli.command.run_check", broken)
    with pytest.raises(AssertionError, match="a bug"):
        main(["check", str(tmp_path)])


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("murmur.cli.command.run_check", interrupted)
    assert run("check", tmp_path) == (130, "", "", b"")


def test_nobody_reads_the_output(tmp_path: Path) -> None:
    for form in ("table", "arrow"):
        statement = "SELECT * FROM generate_series(1, 100000)"
        argv = ["-m", "murmur", "sql", str(tmp_path / "data"), statement, "--format", form]
        process = subprocess.Popen(
            [sys.executable, *argv],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        err = process.stderr.read().decode()
        process.stderr.close()
        assert process.wait() == 141, form
        assert err in ("", f"murmur: created {tmp_path / 'data'}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_output_is_full(tmp_path: Path) -> None:
    run("put", tmp_path / "data", "k", "v")
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "murmur", "get", str(tmp_path / "data"), "k"],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode == 1
    assert ran.stderr == "murmur: No space left on device\n"


def test_closed_streams_are_never_taken_by_files(tmp_path: Path) -> None:
    program = """
import os, sys
for number in range(3):
    os.close(number)
os.execv(sys.executable, [sys.executable, "-m", "murmur", *sys.argv[1:]])
"""
    path = tmp_path / "data"
    argv = [sys.executable, "-c", program, "sql", str(path), "SELEC 1"]
    assert subprocess.run(argv, env=environment()).returncode == 1
    checked = run("check", path)
    assert checked.code == 0, checked.out


def test_copy_uses_the_files_that_are_allowed(tmp_path: Path) -> None:
    data, files = tmp_path / "data", tmp_path / "files"
    files.mkdir()
    (files / "in.csv").write_text("1,a\n2,b\n")
    assert run("sql", data, "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)").code == 0
    refused = run("sql", data, "COPY t FROM 'in.csv'")
    assert refused.code == 1
    assert "COPY reads and writes files, which is not allowed here" in refused.err
    assert run("sql", data, "COPY t FROM 'in.csv'", "--files", files).code == 0
    script = "COPY t TO 'out.csv' (HEADER);"
    assert run("shell", data, "--files", files, stdin=script).code == 0
    assert (files / "out.csv").read_text() == '"id","s"\n1,"a"\n2,"b"\n'
