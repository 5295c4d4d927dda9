"""The shell as people see it: on a terminal, with an editor, with readline, and with neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Terminal, query, run, terminal

EDITORS = {
    "editor": (),
    "readline": ("prompt_toolkit",),
    "plain": ("prompt_toolkit", "readline"),
}
LONG = "SELECT count(*) FROM generate_series(1, 200000) a, generate_series(1, 2000000) b"


@pytest.fixture(params=EDITORS)
def without(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return EDITORS[request.param]


def interrupt(shell: Terminal, pattern: str) -> None:
    """Press Ctrl-C until it is heard: between two reads of the keyboard it can be lost."""
    for _ in range(150):
        shell.type("\x03")
        try:
            shell.expect(pattern, patience_s=0.5)
        except AssertionError:
            continue
        return
    raise AssertionError(f"Ctrl-C is not heard: {shell.shown!r}")


def test_a_session(tmp_path: Path, without: tuple[str, ...]) -> None:
    history = tmp_path / "history"
    path = tmp_path / "data"
    edited = without != EDITORS["plain"]
    with terminal("shell", path, without=without, MURMUR_HISTORY=str(history)) as shell:
        shell.expect("Murmur .*, group default.*murmur>")
        shell.type("CREATE TABLE note (id INT PRIMARY KEY,\r")
        shell.expect(r"\.\.\.>")
        shell.type("body TEXT);\r")
        shell.expect(r"CREATE \(.* ms\).*murmur>")
        shell.type("INSERT INTO note VALUES (1, 'é');\r")
        shell.expect(r"1 row inserted \(.* ms\).*murmur>")
        shell.type("SELECT body FROM note;\r")
        shell.expect(r" body\n──────\n é\n\(1 row, .* ms\)\n.*murmur>")
        shell.type("SELECT nope;\r")
        shell.expect(r"error: there is no column nope\nline 1, column 8\n  SELECT nope;\n {9}\^")
        shell.expect("murmur>")
        shell.type("SELECT 'open\r")
        shell.expect(r"\.\.\.>")
        interrupt(shell, "murmur>")
        if edited:
            shell.type("SELECT 'done' AS x, bod\t")
            shell.expect("bod.*y")
            shell.type(" FROM note;\r")
            shell.expect(r" x +│ body\n.* done │ é\n.*murmur>")
        shell.type("BEGIN;\r")
        shell.expect(r"BEGIN.*murmur\*>")
        shell.type(".timer off\r")
        shell.expect(r"murmur\*>")
        shell.type("DELETE FROM note;\r")
        shell.expect(r"1 row deleted\n.*murmur\*>")
        shell.type("\x04")
        assert shell.end() == 0
        assert "the transaction was not committed: it is rolled back" in shell.shown
    assert query(path, "SELECT body FROM note") == [["é"]]
    if not edited:
        assert not history.exists() or history.read_text() == ""
        return
    entries = history.read_text().splitlines()
    assert entries[0] == "CREATE TABLE note (id INT PRIMARY KEY,\\nbody TEXT);"
    assert entries[-1] == "DELETE FROM note;"
    history.write_text("SELECT 'again'\\n  || '!' AS x;\n")
    with terminal("shell", path, without=without, MURMUR_HISTORY=str(history)) as shell:
        shell.expect("murmur>")
        shell.type("\x1b[A")
        shell.expect(r"\|\| '!' AS x;")
        shell.type("\r")
        shell.expect("again!.*murmur>")
        shell.type("exit\r")
        assert shell.end() == 0


def test_ctrl_c_stops_what_runs(tmp_path: Path) -> None:
    with terminal("shell", tmp_path / "data", MURMUR_HISTORY="") as shell:
        shell.expect("murmur>")
        shell.type("SELECT count(*) FROM generate_series(1, 3);\r")
        shell.expect("1 row.*murmur>")  # the engine is loaded
        shell.type(LONG + ";\r\r")
        shell.expect("series")
        interrupt(shell, "interrupted.*murmur>")
        shell.type("SELECT 6 * 7 AS answer;\r")
        shell.expect("answer.*42.*murmur>")
        shell.type("\x04")
        assert shell.end() == 0


def test_width_and_a_history_that_cannot_be_written(tmp_path: Path) -> None:
    with terminal("shell", tmp_path / "data", columns=40, MURMUR_HISTORY=str(tmp_path)) as shell:
        shell.expect("Is a directory; history is not kept.*murmur>")
        shell.type("SELECT repeat('x', 100) AS a, NULL AS b;\r")
        shell.expect(r"\n x{30}… │ NULL\n\(1 row.*murmur>")
        assert "\x1b[2mNULL\x1b[22m" in shell.shown
        shell.type(".quit\r")
        assert shell.end() == 0


def test_arrow_is_not_for_terminals(tmp_path: Path) -> None:
    argv = ["sql", tmp_path / "data", "SELECT 1", "--format", "arrow"]
    with terminal(*argv) as command:
        command.expect("Arrow is bytes, and this is a terminal")
        assert command.end() == 2
    assert not (tmp_path / "data").exists()


def test_get_ends_the_line_on_a_terminal(tmp_path: Path) -> None:
    run("put", tmp_path / "data", "k", "value")
    with terminal("get", tmp_path / "data", "k") as command:
        command.expect("value\n")
        assert command.end() == 0
