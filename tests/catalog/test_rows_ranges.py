"""Ranges: what row_bounds and index_bounds let through is what the condition lets through."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from murmur.catalog import (
    ColumnDefinition,
    TableDefinition,
    create_index,
    index_bounds,
    insert_row,
    row_bounds,
    scan_index,
    scan_rows,
)
from murmur.catalog.types import INTEGER, SMALLINT, TEXT, decimal
from murmur.kvcore import Replica
from tests.catalog.harness import by_id, catalog_of, define, open_replica, row, table_of

COLUMNS = (
    ColumnDefinition("a", SMALLINT),
    ColumnDefinition("b", TEXT),
    ColumnDefinition("c", INTEGER),
    ColumnDefinition("d", decimal(6, 2)),
)
NUMBERS = st.integers(-3, 3) | st.sampled_from([-32768, 32767])
TEXTS = st.sampled_from(["", "a", "a\x01", "ab", "b", "\U0010ffff"])
BEYOND = st.sampled_from([-(10**9), 10**9])


@pytest.fixture(scope="module")
def replica() -> Replica:
    replica = open_replica()
    define(replica, TableDefinition("t", COLUMNS, ("a", "b")))
    with replica.begin() as tx:
        create_index(tx, "t", [("c", False), ("b", True)], name="up_down")
        create_index(tx, "t", [("c", True), ("b", False)], name="down_up")
        create_index(tx, "t", [("d", False)], name="exact")
        table = table_of(tx, "t")
        texts = ["", "a", "a\x01", "ab", "b", "\U0010ffff"]
        for number in (-32768, -2, -1, 0, 1, 2, 32767):
            for text in texts:
                c = None if number == 2 and text < "b" else number * 1000 % 5
                d = None if number < 0 else Decimal(number % 100) / 4
                values = {"a": number, "b": text, "c": c, "d": d}
                insert_row(tx, table, by_id(table, values))
    return replica


Bound = tuple[Any, bool] | None


def bounds(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Bound]:
    return st.none() | st.tuples(values, st.booleans())


def within(value: Any, lower: Bound, upper: Bound) -> bool:
    """As SQL's comparisons: never true of NULL."""
    if lower is None and upper is None:
        return True
    if value is None or (None, True) in (lower, upper):
        return False
    above = lower is None or (value >= lower[0] if lower[1] else value > lower[0])
    return above and (upper is None or (value <= upper[0] if upper[1] else value < upper[0]))


def check(
    replica: Replica, index: str | None, equal: tuple[Any, ...], lower: Bound, upper: Bound
) -> None:
    with replica.snapshot() as view:
        table = table_of(view, "t")
        everything = [found for _, found in scan_rows(view, table)]
        if index is None:
            names = ["a", "b"]
            start, stop = row_bounds(table, equal, lower=lower, upper=upper)
            found = [each for _, each in scan_rows(view, table, start, stop)]
            down = [each for _, each in scan_rows(view, table, start, stop, reverse=True)]
        else:
            definition = catalog_of(view).index(index)
            assert definition is not None
            names = list(table.names_of(definition.column_ids))
            start, stop = index_bounds(table, definition, equal, lower=lower, upper=upper)
            keys = list(scan_index(view, table, definition, start, stop))
            found = [row(view, "t", key) for key in keys]  # type: ignore[misc]
            back = scan_index(view, table, definition, start, stop, reverse=True)
            down = [row(view, "t", key) for key in back]  # type: ignore[misc]
        at = {column.name: column.position for column in table.columns}
        places = [at[name] for name in names]
        expected = {
            each
            for each in everything
            if all(each[place] == value for place, value in zip(places, equal, strict=False))
            and (len(equal) == len(places) or within(each[places[len(equal)]], lower, upper))
        }
        assert set(found) == expected
        assert len(found) == len(expected)
        assert down == found[::-1]


@settings(max_examples=150)
@given(lower=bounds(NUMBERS | BEYOND), upper=bounds(NUMBERS | BEYOND))
def test_the_first_column_between(replica: Replica, lower: Bound, upper: Bound) -> None:
    check(replica, None, (), lower, upper)
    check(replica, "up_down", (), lower, upper)
    check(replica, "down_up", (), lower, upper)


@settings(max_examples=150)
@given(equal=NUMBERS | BEYOND | st.none(), lower=bounds(TEXTS), upper=bounds(TEXTS))
def test_the_second_column_between(
    replica: Replica, equal: int | None, lower: Bound, upper: Bound
) -> None:
    if equal is not None:
        check(replica, None, (equal,), lower, upper)
    check(replica, "up_down", (equal,), lower, upper)
    check(replica, "down_up", (equal,), lower, upper)


@settings(max_examples=100)
@given(equal=st.tuples(NUMBERS, TEXTS))
def test_all_columns_equal(replica: Replica, equal: tuple[Any, ...]) -> None:
    check(replica, None, equal, None, None)
    check(replica, "up_down", equal, None, None)
    check(replica, "down_up", equal, None, None)


def test_a_bound_that_is_null_matches_nothing(replica: Replica) -> None:
    check(replica, "up_down", (), (None, True), None)
    check(replica, "down_up", (), None, (None, True))


def test_a_decimal_that_the_column_cannot_hold(replica: Replica) -> None:
    """As a bound it leaves the range wider, as a value it equals nothing."""
    fine = Decimal("0.333")
    check(replica, "exact", (fine,), None, None)
    with replica.snapshot() as view:
        table, index = table_of(view, "t"), catalog_of(view).index("exact")
        assert index is not None
        start, stop = index_bounds(table, index, lower=(fine, True))
        assert len(list(scan_index(view, table, index, start, stop))) == 24
