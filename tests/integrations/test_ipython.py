"""%sql and %%sql in a real IPython shell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from IPython.core.error import UsageError
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

import murmur
from murmur.swarm.result import Result


class Shell:
    """Runs cells; what they show, or their error."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.variables: dict[str, Any] = shell.user_ns

    def run(self, cell: str) -> Any:
        with capture_output() as captured:
            done = self.shell.run_cell(cell)
        self.output = captured.stdout + captured.stderr
        if done.error_in_exec is not None:
            raise done.error_in_exec
        assert done.error_before_exec is None
        return done.result


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    InteractiveShell.clear_instance()
    shell = Shell(InteractiveShell.instance())
    shell.shell.history_manager.enabled = False
    shell.run("%load_ext murmur")
    shell.run("%sql --connect data")
    shell.run("%sql CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT, likes INT)")
    shell.run("%sql INSERT INTO note VALUES (1, 'one', 5), (2, '<two>', NULL)")
    yield shell
    shell.run("%unload_ext murmur")
    shell.shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def test_a_line_and_a_cell_show_a_table(shell: Shell) -> None:
    result = shell.run("%sql SELECT body, likes FROM note ORDER BY id")
    assert isinstance(result, Result)
    assert list(result) == [("one", 5), ("<two>", None)]
    cell = shell.run("%%sql\nSELECT id,\n       body\nFROM note ORDER BY id")
    assert "<td>&lt;two&gt;</td>" in cell._repr_html_()
    assert repr(shell.run("%sql DELETE FROM note WHERE id = 1")) == "<delete: 1 rows>"


def test_large_answers_are_cut_where_they_are_shown(shell: Shell) -> None:
    rows = ", ".join(f"({i}, 'x{i}')" for i in range(10, 200))
    shell.run(f"%sql INSERT INTO note (id, body) VALUES {rows}")
    result = shell.run("%sql SELECT * FROM note ORDER BY id")
    page = result._repr_html_()
    assert page.count("<tr>") == 21
    assert "the first 20 rows" in page
    assert len(result) == 192


def test_an_answer_can_be_kept_as_a_dataframe(shell: Shell) -> None:
    assert shell.run("%%sql notes <<\nSELECT body FROM note ORDER BY id") is None
    assert shell.variables["notes"]["body"].to_list() == ["one", "<two>"]
    shell.run('%config SqlMagics.dataframe = "pandas"')
    shell.run("%sql frame << SELECT likes FROM note WHERE likes > 0")
    assert type(shell.variables["frame"]).__module__.startswith("pandas")
    shell.run('%config SqlMagics.dataframe = "arrow"')
    shell.run("%sql table << SELECT likes FROM note WHERE likes > 0")
    assert shell.variables["table"].to_pylist() == [{"likes": 5}]
    shell.run('%config SqlMagics.dataframe = "polars"')
    shell.run("rows = %sql SELECT id FROM note ORDER BY id")
    assert shell.variables["rows"].fetchall() == [(1,), (2,)]


def test_variables_are_parameters(shell: Shell) -> None:
    shell.run('wanted = "o\'ne"\nimport numpy\nkey = numpy.int64(3)\nhalf = numpy.float32(0.5)')
    shell.run("%sql INSERT INTO note VALUES (:key, :wanted, NULL)")
    assert list(shell.run("%sql SELECT id FROM note WHERE body = :wanted")) == [(3,)]
    assert list(shell.run("%sql SELECT :half + 1::double precision")) == [(1.5,)]
    assert list(shell.run("%sql SELECT ':wanted', '5'::int")) == [(":wanted", 5)]
    with pytest.raises(murmur.InvalidInput, match=":nothing: there is no such variable"):
        shell.run("%sql SELECT :nothing")


def test_transactions_run_over_cells(shell: Shell) -> None:
    for line in ("BEGIN", "DELETE FROM note", "ROLLBACK"):
        shell.run(f"%sql {line}")
    assert list(shell.run("%sql SELECT count(*) FROM note")) == [(2,)]


def test_an_error_shows_its_place_and_no_traceback(shell: Shell) -> None:
    with pytest.raises(murmur.BindError):
        shell.run("%%sql\nSELECT id,\n       nothing FROM note")
    assert shell.output.splitlines()[0].startswith("BindError: ")
    assert "       nothing FROM note" in shell.output
    assert "^" in shell.output
    assert "Traceback" not in shell.output
    assert ".py" not in shell.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%sql", "there is no statement"),
        ("%sql --connect", "--connect needs a directory"),
        ("%sql --nonsense", "there is no such option"),
        ("%sql --connect QUERY", "not a swarm, connection or path"),
    ],
)
def test_a_wrong_use_says_what_is_right(shell: Shell, line: str, message: str) -> None:
    shell.variables["QUERY"] = 5
    with pytest.raises(UsageError, match=message):
        shell.run(line)


def test_it_connects_to_what_is_open(shell: Shell, tmp_path: Path) -> None:
    with murmur.open(tmp_path / "other") as swarm:
        connection = murmur.connect(swarm)
        shell.variables |= {"swarm": swarm, "connection": connection}
        shell.run("%sql --connect swarm")
        shell.run("%sql CREATE TABLE t (a INT)")
        shell.run("%sql --connect connection")
        shell.run("%sql INSERT INTO t VALUES (1)")
        assert list(swarm.sql("SELECT * FROM t")) == []  # the connection has not committed
        shell.run("%sql --close")
        connection.rollback()  # and is still open
        connection.close()
    with pytest.raises(UsageError, match="no connection is open"):
        shell.run("%sql SELECT 1")


def test_the_directory_is_let_go_with_the_extension(shell: Shell, tmp_path: Path) -> None:
    shell.run("%sql --close")
    murmur.open(tmp_path / "data").close()


def test_a_cell_of_several_statements_shows_the_last(shell: Shell) -> None:
    shell.variables["least"] = 4
    cell = """%%sql kept <<
        CREATE TABLE tag (name TEXT, n INT);
        INSERT INTO tag SELECT body, likes FROM note WHERE likes > :least;
        SELECT name FROM tag;
    """
    shell.run(cell)
    assert shell.variables["kept"].rows() == [("one",)]
    with pytest.raises(murmur.ParseError, match="line 4"):
        shell.run("%%sql\nDELETE FROM tag;\n\nSELEC 1")
    assert list(shell.run("%sql SELECT 1; SELECT count(*) FROM tag")) == [(0,)]
    with pytest.raises(murmur.ParseError, match="empty"):
        shell.run("%%sql\n-- nothing")
