"""Run the benchmarks and print each beside SQLite, as a ratio.

    python -m benchmarks [--update] [-k EXPRESSION]

`--update` writes the table into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BEGIN, END = "<!-- table -->\n", "<!-- end -->\n"


def main() -> int:
    """Run, print, and update the page if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the table into README.md")
    parser.add_argument("-k", default="", help="run only what matches, as pytest's -k")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "figures.json"
        code = pytest.main(
            ["-c", str(HERE / "pytest.ini"), str(HERE), f"--benchmark-json={out}", "-k", options.k]
        )
        if code:
            return int(code)
        table = render(json.loads(out.read_text()))
    print(table)
    if options.update:
        page = HERE / "README.md"
        head, rest = page.read_text().split(BEGIN)
        page.write_text(head + BEGIN + table + END + rest.split(END)[1])
    return 0


def render(figures: dict[str, list[dict[str, object]]]) -> str:
    """A row for each kind of work: both medians, and Murmur's speed as a multiple of SQLite's."""
    medians: dict[str, dict[str, float]] = {}
    for figure in figures["benchmarks"]:
        system = str(figure["name"]).removeprefix("test_")
        medians.setdefault(str(figure["group"]), {})[system] = figure["stats"]["median"]  # type: ignore[index]
    lines = [
        f"Python {platform.python_version()}, {os.cpu_count()} cores; medians.\n",
        "| work | Murmur, s | SQLite (apsw), s | Murmur's speed ÷ SQLite's |",
        "|---|--:|--:|--:|",
    ]
    lines += [
        f"| {group} | {each['murmur']:.3f} | {each['sqlite']:.3f} "
        f"| {each['sqlite'] / each['murmur']:.2f} |"
        for group, each in medians.items()
        if len(each) == 2
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
