"""Results: one answer in every form, read as often as one likes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import murmur
from murmur import Closed, Result, Swarm
from murmur.catalog import SqlType, parse_type
from murmur.kvcore import ledger
from murmur.olap.arrow import rows_to_arrow
from murmur.swarm.result import from_arrow, from_rows

COLUMNS: list[tuple[str, SqlType | None]] = [
    ("id", parse_type("INTEGER")),
    ("price", parse_type("DECIMAL(10,2)")),
    ("what", None),
]
ROWS = [(at, None, f"w{at}") for at in range(50)]


def lazily(rows: list[tuple[Any, ...]]) -> Result:
    return from_rows(COLUMNS, iter(rows))


def columnar(rows: list[tuple[Any, ...]]) -> Result:
    return from_arrow(rows_to_arrow(COLUMNS, rows))


Make = Callable[[list[tuple[Any, ...]]], Result]
both = pytest.mark.parametrize("make", [lazily, columnar])


@both
def test_fetching_goes_on_where_it_stopped(make: Make) -> None:
    result = make(ROWS)
    assert result.fetchone() == ROWS[0]
    assert result.fetchmany() == ROWS[1:2]
    assert result.fetchmany(3) == ROWS[2:5]
    assert result.fetchall() == ROWS[5:]
    assert (result.fetchone(), result.fetchmany(2), result.fetchall()) == (None, [], [])


@both
def test_iteration_begins_at_the_first_row_each_time(make: Make) -> None:
    result = make(ROWS)
    result.fetchmany(7)
    assert list(result) == list(result) == ROWS
    first, second = iter(result), iter(result)
    assert next(first) == next(second) == ROWS[0]
    assert len(result) == 50
    assert result.fetchone() == ROWS[7]


@both
def test_all_forms_give_all_rows_whatever_was_fetched(make: Make) -> None:
    result = make(ROWS)
    result.fetchmany(7)
    assert result.arrow().num_rows == 50
    assert result.pl()["id"].to_list() == list(range(50))
    assert result.df()["what"].tolist() == [f"w{at}" for at in range(50)]
    assert pl.DataFrame(result).height == 50
    assert pa.table(result).num_rows == pa.table(result).num_rows == 50
    assert result.fetchone() == ROWS[7]


@both
def test_columns_are_named_typed_and_described(make: Make) -> None:
    result = make(ROWS)
    assert result.columns == ("id", "price", "what")
    assert result.types[:2] == ("INTEGER", "DECIMAL(10,2)")
    assert result.description is not None
    assert result.description[:2] == (
        ("id", "INTEGER", None, None, None, None, None),
        ("price", "DECIMAL(10,2)", None, None, 10, 2, None),
    )


@both
def test_an_empty_result_is_a_table_with_columns(make: Make) -> None:
    result = make([])
    assert (list(result), len(result), bool(result)) == ([], 0, True)
    assert result.arrow().column_names == ["id", "price", "what"]
    assert repr(result) == "id  price  what\n--  -----  ----\n(0 rows)"


@both
def test_the_text_is_a_table_of_the_first_rows(make: Make) -> None:
    lines = repr(make(ROWS)).splitlines()
    assert lines[:3] == ["id  price  what", "--  -----  ----", " 0   NULL  w0"]
    assert (len(lines), lines[-1]) == (23, "…")
    assert repr(make(ROWS[:1])).endswith("(1 row)")


@both
def test_showing_a_result_takes_nothing_from_it(make: Make) -> None:
    result = make(ROWS)
    repr(result)
    assert result.fetchall() == ROWS


def test_html_is_escaped_and_bounded() -> None:
    result = from_rows([("<b>", None)], iter([("<script>",), (None,)] + [("x",)] * 100))
    page = result._repr_html_()
    assert "<th>&lt;b&gt;</th>" in page
    assert "<td>&lt;script&gt;</td>" in page
    assert "<td>NULL</td>" in page
    assert page.count("<tr>") == 21
    assert "the first 20 rows" in page
    assert "<script>" not in page


def test_a_row_is_one_line_and_cannot_command_a_terminal() -> None:
    rows = [("a\nb\x1b[31m\x9b", b"\x00\xff", "x" * 100)]
    lines = repr(from_rows([("t", None), ("b", None), ("long", None)], iter(rows))).splitlines()
    assert len(lines) == 4
    assert lines[2].split("  ")[:2] == ["a↵b�[31m�", "00ff"]
    assert lines[2].endswith("x" * 59 + "…")


def test_rows_are_computed_when_they_are_asked_for_and_once() -> None:
    computed: list[int] = []

    def rows() -> Iterator[tuple[int]]:
        for at in range(1000):
            computed.append(at)
            yield (at,)

    result = from_rows([("n", None)], rows())
    assert computed == []
    assert result.fetchone() == (0,)
    assert computed == [0]
    assert next(iter(result)) == (0,)
    assert len(computed) < 100
    assert len(result) == len(result) == 1000
    assert computed == list(range(1000))


def test_a_result_that_broke_off_never_looks_like_a_short_one() -> None:
    def rows() -> Iterator[tuple[int]]:
        yield (1,)
        raise murmur.DataError("division by zero")

    result = from_rows([("n", None)], rows())
    assert result.fetchone() == (1,)
    for read in (result.fetchone, result.fetchall, result.arrow, lambda: list(result)):
        with pytest.raises(murmur.DataError, match="division by zero"):
            read()


def test_closing_ends_the_rows_and_every_reading() -> None:
    ended: list[bool] = []

    def rows() -> Iterator[tuple[int]]:
        try:
            yield (1,)
            yield (2,)
        finally:
            ended.append(True)

    with from_rows([("n", None)], rows()) as result:
        result.fetchone()
    assert ended == [True]
    result.close()
    for read in (result.fetchone, result.fetchall, result.arrow, lambda: list(result)):
        with pytest.raises(Closed, match="result is closed"):
            read()
    assert repr(result) == "<closed result>"
    assert "closed" in result._repr_html_()


def test_a_statement_without_rows(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "a") as swarm:
        created = swarm.sql("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        inserted = swarm.sql("INSERT INTO t VALUES (1), (2)")
    assert (created.columns, created.description, list(created)) == ((), None, [])
    assert (inserted.rowcount, inserted.lastrowid, inserted.kind) == (2, 2, "insert")
    assert (inserted.fetchall(), inserted.fetchone(), len(inserted)) == ([], None, 0)
    assert inserted.arrow().num_columns == 0
    assert repr(inserted) == "<insert: 2 rows>"
    assert "insert" in inserted._repr_html_()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a") as swarm:
        swarm.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)")
        swarm.execute_many("INSERT INTO t VALUES (?, ?)", [(at, "x" * 9) for at in range(3000)])
        yield swarm


@pytest.mark.parametrize("end", ["close", "with", "forget", "read", "arrow"])
def test_a_snapshot_lives_no_longer_than_its_result(
    full: Swarm, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = []

    class Counted(ledger.Snapshot):
        def __init__(self, tree: Any) -> None:
            super().__init__(tree)
            pinned.append(id(self))

        def close(self) -> None:
            super().close()
            if id(self) in pinned:
                pinned.remove(id(self))

    monkeypatch.setattr(ledger, "Snapshot", Counted)
    result = full.sql("SELECT s FROM t WHERE id > 10")
    assert len(pinned) == 1
    match end:
        case "close":
            result.close()
        case "with":
            with result:
                result.fetchone()
        case "forget":
            del result
            gc.collect()
        case "read":
            result.fetchall()
        case _:
            result.arrow()
    assert pinned == []
