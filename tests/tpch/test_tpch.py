"""TPC-H: all 22 queries give DuckDB's answers over the same data, at one hundredth of its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

import murmur
from benchmarks.tpch import QUERIES, create, generate, load, same

SMALL = 0.01
SPECIFIED = 0.1


def opened(directory: Path, scale: float) -> Iterator[tuple[murmur.Swarm, Any]]:
    data: Mapping[str, Any] = generate(directory / "data", scale)
    with murmur.open(directory / "murmur") as swarm, duckdb.connect() as other:
        create(swarm.sql)
        load(swarm, data)
        for name, table in data.items():
            other.register(name, table)
        yield swarm, other


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[murmur.Swarm, Any]]:
    yield from opened(tmp_path_factory.mktemp("tpch"), SMALL)


@pytest.fixture(scope="module")
def specified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[murmur.Swarm, Any]]:
    yield from opened(tmp_path_factory.mktemp("tpch"), SPECIFIED)


@pytest.mark.parametrize("number", QUERIES)
def test_a_query_answers_as_duckdb(small: tuple[murmur.Swarm, Any], number: int) -> None:
    check(*small, number)


@pytest.mark.soak
@pytest.mark.parametrize("number", QUERIES)
def test_a_query_answers_as_duckdb_at_scale_factor_0_1(
    specified: tuple[murmur.Swarm, Any], number: int
) -> None:
    check(*specified, number)


def check(swarm: murmur.Swarm, other: Any, number: int) -> None:
    theirs = other.execute(QUERIES[number]).fetchall()
    assert theirs
    ours = swarm.sql(QUERIES[number]).fetchall()
    assert same(ours, theirs), (ours[:3], theirs[:3])


def test_there_are_22_queries() -> None:
    assert list(QUERIES) == list(range(1, 23))
