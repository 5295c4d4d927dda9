"""What docs/formats.md shows of the SQLite file is true, and the page names files that exist."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import apsw
import pytest

PAGE = Path(__file__).parents[2] / "docs/formats.md"


def test_the_shell_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert (result.attempted, result.failed) == (2, 0)
    (shell,) = re.findall(r"^\$ sqlite3 (.*?)```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    path, *queries = re.split(r"\nsqlite> ", shell)
    connection = apsw.Connection(path)
    assert len(queries) == 3
    for query in queries:
        statement, *shown = query.strip().splitlines()
        rows = connection.execute(statement).fetchall()
        texts = [
            "|".join(each.decode() if isinstance(each, bytes) else str(each) for each in row)
            for row in rows
        ]
        assert texts == shown, statement
    tables = re.findall(r"^\| `(\w+)\((.*?)\)`", PAGE.read_text(), flags=re.MULTILINE)
    assert len(tables) == 6
    for name, columns in tables:
        found = connection.execute(
            f"SELECT group_concat(name, ', ') FROM pragma_table_info('{name}')"
        )
        assert found.get == columns
    connection.close()


def test_the_files_that_it_points_at_exist() -> None:
    targets = re.findall(r"\]\((\.\./[^)#]+)\)", PAGE.read_text())
    assert len(targets) > 15
    for target in targets:
        assert (PAGE.parent / target).exists(), target
