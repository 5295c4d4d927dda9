"""Rows to Arrow: the kernel beside msgpack and pyarrow, and whole tables from the tree's blocks.

    python -m benchmarks.bench_arrow [--rows 10000000] [--rounds 7]

The first table is what the kernel alone does: 200k records of 5 columns, in a chunk, against
`msgpack.unpackb` for each record and `pyarrow.array` for each column, the quickest way there is in
Python. The second is end to end: so many rows of 6 columns, written to
a tree on disk, flushed and merged, then read from a snapshot as a pyarrow.Table.

Rounds take turns. Times are medians of the CPU time of the process, so that what else runs on the
machine matters little; nothing here waits, and one thread does it all.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgpack
import pyarrow as pa

from murmur.catalog.keyspace import row_prefix
from murmur.catalog.rows import scan_batches
from murmur.kvcore import DiskStorage
from murmur.kvcore.kernel import NATIVE
from murmur.kvcore.kernel.fields import BOOLEAN, FLOAT, INTEGER, TEXT, FieldSpec
from murmur.kvcore.kernel.records import ColumnReader
from murmur.kvcore.tree import Tree

FIELDS = [
    FieldSpec(0x1F2E3D4C, INTEGER, "l", width=8, low=-(2**63), high=2**63 - 1),
    FieldSpec(0x2B4A5968, INTEGER, "i", width=4, low=-(2**31), high=2**31 - 1),
    FieldSpec(0x77889900, TEXT, "u"),
    FieldSpec(0x8A6B4C2D, FLOAT, "g", width=8),
    FieldSpec(0xC0FFEE00, BOOLEAN, "b"),
    FieldSpec(0xD1CEB00C, INTEGER, "tsu:", width=8, low=-(2**60), high=2**60),
]
TYPES = [pa.int64(), pa.int32(), pa.string(), pa.float64(), pa.bool_(), pa.timestamp("us")]
SMALL = 200_000
BATCH = 10_000


def record(number: int, columns: int) -> bytes:
    """A row as an INSERT stores it."""
    atoms = (
        number,
        number % 50,
        f"item {number % 1000}",
        number * 0.25,
        number % 3 == 0,
        1_700_000_000_000_000 + number,
    )
    fields = {field.id: atom for field, atom in zip(FIELDS[:columns], atoms, strict=False)}
    packed: bytes = msgpack.packb([1, 115838341120000000 + number, b"replica0", number + 1, fields])
    return packed


def median_seconds(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The median of each work's times, the works taking turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds + 1):
        for work, seconds in zip(works, times, strict=True):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
    return [statistics.median(seconds[1:]) for seconds in times]  # the first one warms up


def small(rounds: int) -> None:
    """200k records in memory, by the kernel and by msgpack."""
    cells = [record(number, 5) for number in range(SMALL)]
    chunk = SimpleNamespace(
        count=SMALL,
        keys=b"",
        key_offsets=array("I", [0] * (SMALL + 1)),
        values=b"".join(cells),
        value_offsets=array("I", [0, *itertools.accumulate(map(len, cells))]),
    )
    fields, types = FIELDS[:5], TYPES[:5]

    def table(reader: Any) -> pa.Table:
        batches = reader.take()
        columns = [pa.chunked_array([pa.array(b[at]) for b in batches]) for at in range(5)]
        return pa.table(columns, names=list("abcde"))

    def from_chunk() -> pa.Table:
        reader = ColumnReader(fields)
        reader.add(chunk)
        return table(reader)

    def from_cells() -> pa.Table:
        reader = ColumnReader(fields)
        reader.add_cells(cells)
        return table(reader)

    def by_msgpack() -> pa.Table:
        unpack = msgpack.unpackb
        rows = [unpack(cell, strict_map_key=False)[4] for cell in cells]
        columns = [
            pa.array([row[field.id] for row in rows], kind)
            for field, kind in zip(fields, types, strict=True)
        ]
        return pa.table(columns, names=list("abcde"))

    assert from_chunk().equals(by_msgpack())
    chunked, listed, unpacked = median_seconds([from_chunk, from_cells, by_msgpack], rounds)
    print("| 200k rows of 5 columns to Arrow | ns a row | times msgpack's speed |")
    print("|---|--:|--:|")
    for name, seconds in (
        ("msgpack.unpackb, pyarrow.array", unpacked),
        ("kernel, from a list of cells", listed),
        ("kernel, from a chunk", chunked),
    ):
        print(f"| {name} | {seconds / SMALL * 1e9:.0f} | {unpacked / seconds:.1f} |")


def batches(rows: int, prefix: bytes) -> Iterator[list[tuple[bytes, bytes]]]:
    """The rows in key order, so many at a time."""
    for start in range(0, rows, BATCH):
        numbers = range(start, min(start + BATCH, rows))
        yield [(prefix + b"\x02" + n.to_bytes(8), record(n, 6)) for n in numbers]


def large(rows: int, rounds: int) -> None:
    """Whole tables, from the tree's files."""
    relation: Any = SimpleNamespace(id=7)
    with tempfile.TemporaryDirectory() as directory:
        tree = Tree.open(DiskStorage(directory))
        for batch in batches(rows, row_prefix(relation.id)):
            tree.write(batch)
            if tree.full:
                tree.flush(b"")
        tree.flush(b"")
        tree.compact()

        def read() -> pa.Table:
            with tree.snapshot() as snapshot:
                found = scan_batches(snapshot, relation, FIELDS)
            columns = [pa.chunked_array([pa.array(b[at]) for b in found]) for at in range(6)]
            return pa.table(columns, names=list("abcdef"))

        def blocks() -> int:
            with tree.snapshot() as snapshot:
                return sum(chunk.count for chunk in snapshot.chunks(b"", None))

        assert read().num_rows == blocks() == rows
        whole, walk = median_seconds([read, blocks], rounds)
        tree.close()
    print(f"\n| {rows:,} rows of 6 columns | s | million rows a second |")
    print("|---|--:|--:|")
    for name, seconds in (("blocks to pyarrow.Table", whole), ("of it, reading blocks", walk)):
        print(f"| {name} | {seconds:.2f} | {rows / seconds / 1e6:.1f} |")


def main() -> int:
    """Run, and print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_arrow")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large table")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    kernel = "native" if NATIVE else "pure"
    print(f"Python {platform.python_version()}, {kernel} kernel; medians of CPU time.\n")
    small(options.rounds)
    large(options.rows, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
