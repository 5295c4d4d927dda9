"""The shell as a script runs it: statements from a pipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import murmur
from tests.cli.commands import query, run, start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "data"
    with murmur.open(found) as swarm:
        swarm.sql("CREATE TABLE note (id INT PRIMARY KEY, body TEXT)")
        swarm.sql("INSERT INTO note VALUES (1, 'one'), (2, NULL)")
    return found


def test_statements_may_span_lines_and_the_last_needs_no_semicolon(path: Path) -> None:
    script = "SELECT\n  id -- ;\nFROM note ORDER BY id; INSERT INTO note\nVALUES (3, 'a;b');\n"
    ran = run("shell", path, stdin=script + "SELECT body FROM note WHERE id = 3")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == " id\n────\n  1\n  2\n(2 rows)\n body\n──────\n a;b\n(1 row)\n"


def test_the_first_error_ends_it(path: Path) -> None:
    script = "INSERT INTO note VALUES (3);\n\nSELECT\n 1;\nSELECT\n nope;\nDELETE FROM note;"
    ran = run("shell", path, stdin=script.replace("(3)", "(3, 'x')"))
    assert (ran.code, ran.out) == (1, " 1\n───\n 1\n(1 row)\n")
    assert ran.err == (
        "murmur: line 5: there is no column nope\nline 2, column 2\n   nope;\n   ^\n"
    )
    assert len(query(path, "SELECT * FROM note")) == 3


def test_keep_going(path: Path) -> None:
    ran = run("shell", path, "--keep-going", stdin="SELEC;\n.nothing\nDELETE FROM note;")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.count("murmur: line") == 2
    assert "murmur: line 2: there is no command .nothing; .help lists them\n" in ran.err
    assert query(path, "SELECT * FROM note") == []


def test_transactions(path: Path) -> None:
    ran = run("shell", path, stdin="BEGIN; DELETE FROM note; ROLLBACK; BEGIN; DELETE FROM note")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "murmur: the transaction was not committed: it is rolled back\n"
    assert len(query(path, "SELECT * FROM note")) == 2
    assert run("shell", path, stdin="BEGIN; DELETE FROM note; COMMIT;").err == ""
    assert query(path, "SELECT * FROM note") == []


def test_modes(path: Path) -> None:
    script = ".mode json\nSELECT * FROM note WHERE id = 1;\n.mode csv\nSELECT * FROM note;\n"
    ran = run("shell", path, stdin=script + "DELETE FROM note;.mode table")
    assert ran.code == 1  # behind a semicolon it is no command
    array, _, rest = ran.out.partition("]\n")
    assert json.loads(array + "]") == [{"id": 1, "body": "one"}]
    assert rest == "id,body\r\n1,one\r\n2,\r\n"
    ran = run("shell", path, stdin=".mode xml")
    assert ran.err == "murmur: line 1: .mode is table, csv or json, not xml\n"


def test_commands(path: Path) -> None:
    ran = run("shell", path, stdin=".mode csv\n.tables\n.peers\n.conflicts\n")
    names = ["name,columns,primary_key,indexes", "note,2,id,0"]
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[:2] == names
    assert lines[2].startswith("node,address,state,")
    assert lines[3].startswith("kind,table_name,key,")
    assert ".conflicts" in run("shell", path, stdin=".help").out
    assert ".schema [TABLE]" in run("shell", path, stdin="help").out
    assert run("shell", path, stdin=".quit\nSELECT 1;").out == ""
    assert run("shell", path, stdin="exit\nSELECT 1;").out == ""
    for wrong, message in {
        ".quit now": ".quit takes no argument",
        ".connect": ".connect needs an argument: .connect TICKET",
        ".connect murmur2x": "ticket: version 2 is unknown to this release",
        ".timer maybe": ".timer is on or off, not maybe",
    }.items():
        ran = run("shell", path, stdin=wrong)
        assert ran[:3] == (1, "", f"murmur: line 1: {message}\n")


def test_a_timer(path: Path) -> None:
    ran = run("shell", path, stdin=".timer on\nSELECT 1 AS a;\n.mode csv\nSELECT 2 AS b;")
    assert ran.out.startswith(" a\n───\n 1\n(1 row, ")
    assert ran.out.endswith(" ms)\nb\r\n2\r\n")
    assert ran.err.endswith(" ms\n")


def test_ticket(path: Path) -> None:
    ran = run("shell", path, stdin=".ticket")
    assert ran.code == 0
    assert ran.out.startswith("murmur1")


def test_conflicts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with murmur.open(one) as left, murmur.open(two) as right:
        left.put("key", b"left")
        right.put("key", b"right")
        right.connect_peer(left.ticket())
        left.wait_for()
        right.wait_for()
    ran = run("shell", one, stdin=".mode json\n.conflicts")
    (conflict,) = json.loads(ran.out)
    assert "key" in conflict["key"]


def test_bytes_that_are_no_text(path: Path) -> None:
    ran = run("shell", path, stdin=b"SELECT 1;\nSELECT '\xff';\n")
    assert ran.code == 1
    assert ran.err == "murmur: line 2 of stdin is not UTF-8: invalid start byte at byte 8\n"


def test_each_answer_comes_at_once(path: Path) -> None:
    shell = start("shell", path)
    shell.say(".mode csv")
    for number in range(3):
        shell.say(f"SELECT {number} AS x;")
        shell.line("x")
        assert shell.line() == str(number)
    assert shell.end() == (0, "")


def test_a_new_directory(tmp_path: Path) -> None:
    ran = run("shell", tmp_path / "a" / "b", stdin="CREATE TABLE t (a INT);")
    assert ran[:3] == (0, "", f"murmur: created {tmp_path / 'a' / 'b'}\n")
    assert query(tmp_path / "a" / "b", "SELECT * FROM t") == []
