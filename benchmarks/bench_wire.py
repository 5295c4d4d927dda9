"""Bytes on the wire for each byte of small rows, between two processes' worth of replicas.

    python -m benchmarks.bench_wire [--rows 20000] [--update]

Rows have an integer key, two words, a float and a line of text; a payload is what the values take:
8 bytes a number, a text its UTF-8. What is counted is every byte of the conversation from the one
who writes to the one who listens (frames, headers, acknowledgements, keep-alives), over QUIC and so
off the host, before QUIC's own framing (about 3 % of 1452-byte datagrams). Rows arrive in
transactions of so many rows; "text at random" cannot be compressed, "words" are of a dictionary.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest.mock import patch

import murmur
from murmur.sync import compression

PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- wire -->\n", "<!-- wire end -->\n"
WORDS = ["valley", "river", "cloud", "meadow", "harbour", "lantern", "orchard", "winter"]
TABLE = "CREATE TABLE row (id BIGINT PRIMARY KEY, place TEXT, kind TEXT, value DOUBLE, note TEXT)"
Row = tuple[int, str, str, float, str]


def words(random: Random, number: int) -> Row:
    note = " ".join(random.choice(WORDS) for _ in range(6))
    return number, random.choice(WORDS), random.choice(WORDS), random.random(), note


def noise(random: Random, number: int) -> Row:
    return number, random.choice(WORDS), random.choice(WORDS), random.random(), text(random, 36)


def text(random: Random, length: int) -> str:
    return "".join(chr(random.randrange(33, 127)) for _ in range(length))


def size(row: Row) -> int:
    return sum(len(value.encode()) if isinstance(value, str) else 8 for value in row)


def sent(swarm: murmur.Swarm) -> int:
    (count,) = swarm.sql("SELECT bytes_out FROM murmur_peers").fetchone()
    return int(count)


def measure(make: Callable[[Random, int], Row], rows: int, batch: int) -> float:
    """Bytes sent for each byte of payload."""
    random = Random(1)
    made = [make(random, number) for number in range(rows)]
    with (
        tempfile.TemporaryDirectory() as directory,
        murmur.open(f"{directory}/a", group="wire", transport="quic", fast=False) as a,
        murmur.open(f"{directory}/b", group="wire", transport="quic", fast=False) as b,
    ):
        a.sql(TABLE)
        b.connect_peer(a.ticket())
        a.wait_for(timeout=60)
        before = sent(a)
        for start in range(0, rows, batch):
            a.execute_many("INSERT INTO row VALUES (?, ?, ?, ?, ?)", made[start : start + batch])
        a.wait_for(timeout=120)
        return (sent(a) - before) / sum(map(size, made))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    lines = [
        "| rows in a transaction | words | words, no zstd | text at random | the same, no zstd |",
        "|--:|--:|--:|--:|--:|",
    ]
    for batch in (1, 10, 100, 1000):
        cells = []
        for make in (words, noise):
            rows = min(options.rows, 2000 * batch)
            cells.append(f"{measure(make, rows, batch):.2f}")
            with patch.object(compression, "available", lambda: False):
                cells.append(f"{measure(make, rows, batch):.2f}")
        lines.append(f"| {batch:,} | {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    print(table)
    if options.update:
        head, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(head + BEGIN + table + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
