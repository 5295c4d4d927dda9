"""What was typed is there again, in a file that nobody else reads."""

from __future__ import annotations

import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from murmur.cli import history
from murmur.cli.history import History, history_path


def test_entries_come_back(tmp_path: Path) -> None:
    path = tmp_path / "history"
    first = History(str(path))
    for entry in ("SELECT 1;", "SELECT\n  '\\n';", "SELECT 1;", "SELECT 1;", "  ", ".tables\n"):
        first.add(entry)
    expected = ["SELECT 1;", "SELECT\n  '\\n';", "SELECT 1;", ".tables"]
    assert first.entries == expected
    assert History(str(path)).entries == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@given(st.lists(st.text().filter(lambda text: "murmur1" not in text.lower())))
def test_any_text_comes_back_but_for_carriage_returns(entries: list[str]) -> None:
    for entry in entries:
        escaped = history._escape(entry)
        assert "\n" not in escaped
        assert history._unescape(escaped) == entry.replace("\r", "")


def test_tickets_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "history"
    History(str(path)).add(".connect Murmur1aeaq")
    assert path.read_text() == ""


def test_it_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("".join(f"SELECT {number};\n" for number in range(2 * history.KEPT + 1)))
    entries = History(str(path)).entries
    assert (len(entries), entries[-1]) == (history.KEPT, f"SELECT {2 * history.KEPT};")
    assert len(path.read_text().splitlines()) == history.KEPT


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    kept = History(str(tmp_path))
    assert kept.trouble == f"{tmp_path}: Is a directory; history is not kept"
    kept.add("SELECT 1;")
    assert kept.entries == ["SELECT 1;"]


def test_where_it_is() -> None:
    assert history_path({"MURMUR_HISTORY": "/x/y"}) == "/x/y"
    assert history_path({"MURMUR_HISTORY": ""}) is None
    found = history_path({})
    assert found is None or found.endswith("/.murmur_history")
