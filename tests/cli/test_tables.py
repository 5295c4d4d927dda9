"""Tables fit the terminal, line up in wide characters, and obey nothing."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.catalog import SqlType, parse_type
from murmur.cli.answer import Answer
from murmur.cli.output import Output
from murmur.cli.tables import LAID_OUT, write_table
from murmur.cli.width import cut, visible, width

TEXT, INT = parse_type("TEXT"), parse_type("INT")


class Screen(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def drawn(
    columns: Sequence[tuple[str, SqlType]],
    rows: Sequence[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    screen: int | None = None,
    encoding: str = "utf-8",
) -> list[str]:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(screen))
    stream = (io.TextIOWrapper if screen is None else Screen)(io.BytesIO(), encoding=encoding)
    count = write_table(Answer(columns, iter(rows)), Output(stream))
    assert count == len(rows)
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode(encoding).splitlines()


def test_the_widest_text_gives_way_and_numbers_never(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [("n", INT), ("a", TEXT), ("b", TEXT)]
    rows = [(1234567890, "x" * 50, "short"), (1, "日本" * 20, None)]
    assert drawn(columns, rows, monkeypatch, screen=40) == [
        "          n │ a                 │ b",
        "────────────┼───────────────────┼───────",
        " 1234567890 │ xxxxxxxxxxxxxxxx… │ short",
        "          1 │ 日本日本日本日本… │ NULL",
    ]


def test_a_long_number_is_whole_beside_short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(-(2**63), "x" * 50)]
    assert drawn([("n", INT), ("a", TEXT)], rows, monkeypatch, screen=36) == [
        "                    n │ a",
        "──────────────────────┼─────────────",
        " -9223372036854775808 │ xxxxxxxxxx…",
    ]


def test_two_wide_texts_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [("a", TEXT), ("b", TEXT), ("c", TEXT)]
    lines = drawn(columns, [("x" * 90, "y" * 80, "z" * 12)], monkeypatch, screen=60)
    assert lines[2] == f" {'x' * 19}… │ {'y' * 19}… │ {'z' * 12}"
    assert all(width(line) <= 60 for line in lines)


def test_too_many_columns_stand_one_under_another(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [("id", INT), ("some_name", TEXT), *((f"c{i}", INT) for i in range(9))]
    rows = [(1, "a\nb", *range(9)), (2, "x" * 99, *[None] * 9)]
    lines = drawn(columns, rows, monkeypatch, screen=30)
    assert lines[:3] == ["── row 1 ─────────────────────", "id        │ 1", "some_name │ a↵b"]
    assert lines[12:15] == [
        "── row 2 ─────────────────────",
        "id        │ 2",
        "some_name │ xxxxxxxxxxxxxxxxx…",
    ]
    assert lines[-1] == "c8        │ NULL"


def test_elsewhere_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn([("a", TEXT)], [("x" * 5000,)], monkeypatch)
    assert lines[2] == " " + "x" * 5000


def test_a_long_result_is_laid_out_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a",)] * LAID_OUT + [("x" * 12,)]
    assert drawn([("t", TEXT)], rows, monkeypatch, screen=40)[-1] == " …"
    assert drawn([("t", TEXT)], rows, monkeypatch)[-1] == " " + "x" * 12
    numbers = [(1,)] * LAID_OUT + [(123456,)]
    assert drawn([("t", INT)], numbers, monkeypatch, screen=40)[-1] == " 123456"


def test_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn([("ab", TEXT)], [], monkeypatch, screen=40) == [" ab", "────"]


def test_null_is_dimmed_where_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(io.BytesIO(), encoding="utf-8")
    write_table(Answer([("a", TEXT)], iter([(None,), ("NULL",)])), Output(screen))
    assert isinstance(screen.buffer, io.BytesIO)
    written = screen.buffer.getvalue().decode().splitlines()
    assert written[2:] == [" \x1b[2mNULL\x1b[22m", ' "NULL"']


def test_a_terminal_without_these_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn([("a", TEXT), ("b", TEXT)], [("é", "日")], monkeypatch, encoding="latin-1")
    assert lines == [" a | b", "---+----", " é | \\u65e5"]


def test_width_and_visible() -> None:
    assert [width(text) for text in ("", "abc", "日本", "e\u0301", "\u200bx", "ｱ", "🙂")] == [
        0,
        3,
        4,
        1,
        1,
        1,
        2,
    ]
    assert visible("a\tb\r\nc\x1b[31m\x85\u202e\x00") == "a b↵↵c�[31m���"


@given(st.text(), st.integers(1, 20))
def test_what_is_cut_fits(text: str, columns: int) -> None:
    shown = visible(text)
    assert width(cut(shown, columns)) <= columns
    assert cut(shown, max(1, width(shown))) == shown
