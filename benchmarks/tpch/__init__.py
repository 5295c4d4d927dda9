"""TPC-H: eight tables, their data at a scale factor, and the 22 queries in PostgreSQL's words.

    data = generate(directory, scale=0.1)       {"lineitem": pyarrow.Table, ...}, by tpchgen-cli
    create(swarm.sql); load(swarm, data)        DECIMAL and DATE columns, primary keys
    QUERIES[6]                                  the text of Q6

The same data is given to DuckDB as Arrow tables and to sqlite3 as rows; `for_sqlite` puts a query
into SQLite's words, where a date is text and a decimal a float.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import murmur

SCHEMA = {
    "region": ("r_regionkey BIGINT PRIMARY KEY, r_name TEXT, r_comment TEXT", ()),
    "nation": (
        "n_nationkey BIGINT PRIMARY KEY, n_name TEXT, n_regionkey BIGINT, n_comment TEXT",
        ("n_regionkey",),
    ),
    "part": (
        "p_partkey BIGINT PRIMARY KEY, p_name TEXT, p_mfgr TEXT, p_brand TEXT, p_type TEXT, "
        "p_size INTEGER, p_container TEXT, p_retailprice DECIMAL(15,2), p_comment TEXT",
        (),
    ),
    "supplier": (
        "s_suppkey BIGINT PRIMARY KEY, s_name TEXT, s_address TEXT, s_nationkey BIGINT, "
        "s_phone TEXT, s_acctbal DECIMAL(15,2), s_comment TEXT",
        ("s_nationkey",),
    ),
    "partsupp": (
        "ps_partkey BIGINT, ps_suppkey BIGINT, ps_availqty INTEGER, "
        "ps_supplycost DECIMAL(15,2), ps_comment TEXT, PRIMARY KEY (ps_partkey, ps_suppkey)",
        ("ps_suppkey",),
    ),
    "customer": (
        "c_custkey BIGINT PRIMARY KEY, c_name TEXT, c_address TEXT, c_nationkey BIGINT, "
        "c_phone TEXT, c_acctbal DECIMAL(15,2), c_mktsegment TEXT, c_comment TEXT",
        ("c_nationkey",),
    ),
    "orders": (
        "o_orderkey BIGINT PRIMARY KEY, o_custkey BIGINT, o_orderstatus TEXT, "
        "o_totalprice DECIMAL(15,2), o_orderdate DATE, o_orderpriority TEXT, o_clerk TEXT, "
        "o_shippriority INTEGER, o_comment TEXT",
        ("o_custkey", "o_orderdate"),
    ),
    "lineitem": (
        "l_orderkey BIGINT, l_partkey BIGINT, l_suppkey BIGINT, l_linenumber INTEGER, "
        "l_quantity DECIMAL(15,2), l_extendedprice DECIMAL(15,2), l_discount DECIMAL(15,2), "
        "l_tax DECIMAL(15,2), l_returnflag TEXT, l_linestatus TEXT, l_shipdate DATE, "
        "l_commitdate DATE, l_receiptdate DATE, l_shipinstruct TEXT, l_shipmode TEXT, "
        "l_comment TEXT, PRIMARY KEY (l_orderkey, l_linenumber)",
        ("l_partkey, l_suppkey", "l_suppkey", "l_shipdate"),
    ),
}

QUERIES: Mapping[int, str] = {
    int(number): text.strip().removesuffix(";")
    for number, text in re.findall(
        r"^-- (\d+)\n(.*?;)$",
        (Path(__file__).parent / "queries.sql").read_text(),
        re.MULTILINE | re.DOTALL,
    )
}

_BATCH = 50_000  # rows of one transaction, which holds up to 64 MiB


def generate(directory: Path, scale: float) -> dict[str, pa.Table]:
    """The tables' data, strings as 32-bit Arrow strings."""
    program = Path(sys.executable).with_name("tpchgen-cli")
    command = [
        str(program),
        "parquet",
        "--scale-factor",
        str(scale),
        "--output-dir",
        str(directory),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return {name: _plain(pq.read_table(directory / f"{name}.parquet")) for name in SCHEMA}


def _plain(table: pa.Table) -> pa.Table:
    """Without string views and metadata."""
    types = [pa.string() if pa.types.is_string_view(t) else t for t in table.schema.types]
    fields = [pa.field(name, t) for name, t in zip(table.column_names, types, strict=True)]
    return table.cast(pa.schema(fields))


def create(run: Callable[[str], Any]) -> None:
    """The tables, with their primary keys."""
    for name, (columns, _) in SCHEMA.items():
        run(f"CREATE TABLE {name} ({columns})")


def load(swarm: murmur.Swarm, data: Mapping[str, pa.Table]) -> None:
    """The rows, through SQL."""
    for name, table in data.items():
        marks = ", ".join("?" * table.num_columns)
        for rows in _rows(table):
            swarm.execute_many(f"INSERT INTO {name} VALUES ({marks})", rows)


def _rows(table: pa.Table) -> Iterator[list[tuple[Any, ...]]]:
    for start in range(0, table.num_rows, _BATCH):
        yield pl.from_arrow(table.slice(start, _BATCH)).rows()  # type: ignore[union-attr]


# SQLite ------------------------------------------------------------------------------------------


def load_sqlite(connection: sqlite3.Connection, data: Mapping[str, pa.Table]) -> None:
    """Tables, rows, an index on every foreign key and on the dates, and statistics."""
    for name, (columns, indexes) in SCHEMA.items():
        said = columns.replace("DECIMAL(15,2)", "REAL").replace("BIGINT", "INTEGER")
        connection.execute(f"CREATE TABLE {name} ({said.replace('DATE', 'TEXT')})")
        table = data[name]
        types = [_SQLITE_TYPES.get(t.id, t) for t in table.schema.types]
        fields = [pa.field(n, t) for n, t in zip(table.column_names, types, strict=True)]
        marks = ", ".join("?" * table.num_columns)
        for rows in _rows(table.cast(pa.schema(fields))):
            connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
        for number, index in enumerate(indexes):
            connection.execute(f"CREATE INDEX {name}_{number} ON {name} ({index})")
    connection.execute("ANALYZE")
    connection.commit()


_SQLITE_TYPES = {pa.decimal128(15, 2).id: pa.float64(), pa.date32().id: pa.string()}
_DATE = re.compile(r"date '(\d+)-(\d+)-(\d+)'(?: ([+-]) interval '(\d+)' (day|month|year))?")


def for_sqlite(text: str) -> str:
    """A query in SQLite's words: dates are text, and their arithmetic is done here."""
    text = _DATE.sub(_moved, text)
    text = re.sub(r"extract\(year from (\w+)\)", r"cast(substr(\1, 1, 4) as integer)", text)
    text = re.sub(r"substring\((\w+) from 1 for 2\)", r"substr(\1, 1, 2)", text)
    # The names of a derived table's columns cannot stand behind its alias there.
    text = text.replace("count(o_orderkey)\n", "count(o_orderkey) as c_count\n")
    return text.replace("c_orders (c_custkey, c_count)", "c_orders")


def _moved(found: re.Match[str]) -> str:
    year, month, day = (int(part) for part in found.groups()[:3])
    sign, count, unit = found.groups()[3:]
    if sign is None:
        return f"'{date(year, month, day)}'"
    by = int(count) if sign == "+" else -int(count)
    if unit == "day":
        return f"'{date.fromordinal(date(year, month, day).toordinal() + by)}'"
    months = year * 12 + month - 1 + by * (12 if unit == "year" else 1)
    return f"'{date(months // 12, months % 12 + 1, day)}'"


# Answers -----------------------------------------------------------------------------------------


def same(left: list[tuple[Any, ...]], right: list[tuple[Any, ...]]) -> bool:
    """Whether two answers are equal, exact numbers exactly and floats to twelve digits."""
    return len(left) == len(right) and all(
        len(a) == len(b) and all(map(_close, a, b)) for a, b in zip(left, right, strict=True)
    )


def _close(left: Any, right: Any) -> bool:
    if isinstance(left, float) or isinstance(right, float):
        return abs(float(left) - float(right)) <= 1e-12 * max(abs(float(left)), abs(float(right)))
    return bool(left == right)
