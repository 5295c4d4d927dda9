"""Run the workloads on every engine that is installed, and print each beside Murmur.

    python -m benchmarks.engines                          db_bench and YCSB, 1M entries
    python -m benchmarks.engines --entries 200000 --runs 1 -k YCSB --engines murmur,rocksdict,lmdb
    python -m benchmarks.engines --lsm                    8 MiB buffer and 32 MiB cache
    python -m benchmarks.engines --stalls                 the worst 250 puts, clean opens; as --lsm
    python -m benchmarks.engines --growth                 20 times the entries, as a share
    python -m benchmarks.engines --python fjall=.venv312/bin/python     where pyfjall is installed

`--update` writes the tables into benchmarks/README.md, `--json FILE` every figure of every run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from . import report
from .engine import ENGINES, installed
from .schedule import ChildFailedError, Plan, Results, measure, prove_durability
from .workloads import FILLED, FILLED_SMALL, WORKLOADS

PAGE = Path(__file__).parents[1] / "README.md"
GROWTH = 20
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--entries", type=int, default=1_000_000)
    add("--values", default="100,1024", help="sizes of values in bytes")
    add("--runs", type=int, default=3)
    add("--engines", default="", help=f"some of {','.join(ENGINES)}")
    add("-k", default="", metavar="TEXT", help="only workloads with one of these, split by ','")
    add("--lsm", action="store_true", help="8 MiB write buffer, 32 MiB cache: where levels matter")
    add("--growth", action="store_true", help=f"compare with {GROWTH} times the entries")
    add("--stalls", action="store_true", help="worst chunks of 250 puts, and clean opens")
    add("--json", type=Path, metavar="FILE", help="write every figure of every run")
    add("--directory", type=Path, help="where the databases go (default: a temporary directory)")
    add("--python", action="append", default=[], metavar="ENGINE=PATH", help="its interpreter")
    add("--update", action="store_true", help="write the tables into benchmarks/README.md")
    add("--list", action="store_true", help="name the workloads")
    options = parser.parse_args()
    if options.list:
        print("\n".join(WORKLOADS))
        return 0

    pythons = dict(each.split("=", 1) for each in options.python)
    asked = tuple(options.engines.split(",")) if options.engines else tuple(ENGINES)
    if unknown := set(asked) - set(ENGINES):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    engines = tuple(name for name in asked if name in pythons or installed(name))
    for name in asked:
        if name not in engines:
            print(f"{name} is skipped: {ENGINES[name].module} is not installed", file=sys.stderr)

    lsm = options.lsm or options.stalls
    scratch = Path(tempfile.mkdtemp(prefix="engines-", dir=options.directory))
    plan = Plan(
        engines=engines,
        workloads=tuple(chosen(options.k, stalls=options.stalls, growth=options.growth)),
        entries=options.entries,
        value_bytes=tuple(map(int, options.values.split(","))),
        runs=options.runs,
        buffer_bytes=(8 if lsm else 64) * MIB,
        cache_bytes=(32 if lsm else 128) * MIB,
        directory=scratch,
        lsm=lsm,
        pythons=pythons,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    try:
        text, results = run(plan, growth=options.growth)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(text)
    if options.json:
        options.json.write_text(json.dumps([vars(each) for each in results], indent=1))
    if options.update:
        kinds = ("growth", "stalls", "lsm")
        update(text, next((kind for kind in kinds if getattr(options, kind)), "default"))
    return any(each.failures for each in results)


def chosen(wanted: str, *, stalls: bool, growth: bool) -> list[str]:
    """The workloads that -k selects, or that the question needs."""
    if stalls or growth:
        return [FILLED, "read random, warm", *(["overwrite"] if stalls else [])]
    if not wanted:
        return [name for name in WORKLOADS if name != FILLED_SMALL]
    parts = [part.strip().lower() for part in wanted.split(",")]
    return [name for name in WORKLOADS if any(part in name.lower() for part in parts)]


def run(plan: Plan, *, growth: bool) -> tuple[str, list[Results]]:
    """The tables, and what they were made of."""
    failures, sound = [], []
    for engine in plan.engines:
        try:
            prove_durability(plan, engine)
            sound.append(engine)
        except ChildFailedError as error:
            plan.say(str(error))
            failures.append(str(error))
    plan = replace(plan, engines=tuple(sound))
    results = measure(plan)
    results.failures += failures
    text = report.render(plan, results)
    if not growth:
        return text, [results]
    large = measure(replace(plan, entries=plan.entries * GROWTH))
    return text + "\n" + report.growth(results, large, plan, GROWTH) + "\n", [results, large]


def update(text: str, kind: str) -> None:
    """Replace this question's part of the page."""
    begin, end = f"<!-- engines: {kind} -->\n", f"<!-- engines: {kind} end -->\n"
    head, rest = PAGE.read_text().split(begin)
    PAGE.write_text(head + begin + text + end + rest.split(end)[1])


if __name__ == "__main__":
    sys.exit(main())
