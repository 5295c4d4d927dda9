"""Which child does what, in which order and directory.

    for each run, for each size of value:
        for each workload:  for each engine (the first one changes with the run):  a child

So what is compared was measured within seconds, whatever else the machine did in that hour. An
engine whose child fails is told of, and has no figures from there on in that run.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .child import Task
from .workloads import FILLED, WORKLOADS

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 3600


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    engines: tuple[str, ...]
    workloads: tuple[str, ...]
    entries: int
    value_bytes: tuple[int, ...]
    runs: int
    buffer_bytes: int
    cache_bytes: int
    directory: Path
    lsm: bool = False  # small budgets: Murmur is to reach the best of the log-structured stores
    pythons: dict[str, str] = field(default_factory=dict)  # the interpreter of an engine
    say: Callable[[str], None] = lambda text: None


@dataclass
class Results:
    """figures[value bytes][workload][engine]: one dictionary for each run."""

    figures: dict[int, dict[str, dict[str, list[dict[str, float]]]]] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, value_bytes: int, engine: str, figures: dict[str, dict[str, float]]) -> None:
        for workload, figure in figures.items():
            rows = self.figures.setdefault(value_bytes, {})
            rows.setdefault(workload, {}).setdefault(engine, []).append(figure)


class ChildFailedError(Exception):
    """A child ended without figures."""


def measure(plan: Plan) -> Results:
    """All runs."""
    results = Results()
    groups = groups_of(plan.workloads)
    for run in range(plan.runs):
        first = run % max(1, len(plan.engines))
        order = [*plan.engines[first:], *plan.engines[:first]]
        for value_bytes in plan.value_bytes:
            alive = list(order)
            for group in groups:
                for engine in list(alive):
                    try:
                        _measure(plan, results, engine, group, value_bytes, run)
                    except ChildFailedError as error:
                        results.failures.append(str(error))
                        plan.say(str(error))
                        if not WORKLOADS[group[0]].fresh or group[0] == FILLED:
                            alive.remove(engine)
            for engine in order:
                shutil.rmtree(plan.directory / engine, ignore_errors=True)
    results.figures = {
        value_bytes: {name: rows[name] for name in plan.workloads if name in rows}
        for value_bytes, rows in results.figures.items()
    }
    return results


def groups_of(workloads: Sequence[str]) -> list[list[str]]:
    """The workloads of each child; what they stand on is run even if nobody asked for it."""
    wanted = set(workloads)
    wanted |= {WORKLOADS[name].before or name for name in wanted}
    if any(not (WORKLOADS[name].fresh or WORKLOADS[name].before) for name in wanted):
        wanted.add(FILLED)
    return [
        [
            name,
            *(other for other in WORKLOADS if WORKLOADS[other].before == name and other in wanted),
        ]
        for name in WORKLOADS
        if name in wanted and WORKLOADS[name].before is None
    ]


def _measure(
    plan: Plan, results: Results, engine: str, group: list[str], value_bytes: int, run: int
) -> None:
    kept = plan.directory / engine / "filled"
    fresh = WORKLOADS[group[0]].fresh
    directory = plan.directory / engine / "fresh" if fresh and group[0] != FILLED else kept
    if fresh:
        shutil.rmtree(directory, ignore_errors=True)
    answer = run_child(plan, engine, directory, group, value_bytes, run)
    if directory != kept:
        shutil.rmtree(directory)
    results.add(value_bytes, engine, answer["figures"])
    results.descriptions[engine] = answer["description"]
    for name, figure in answer["figures"].items():
        plan.say(
            f"{value_bytes:5} B  run {run + 1}  {name:18} {engine:10}"
            f"{figure['per_second']:12,.0f}/s"
            f"  p50 {figure['p50_us']:8.2f}  p99 {figure['p99_us']:8.2f} us"
        )


def run_child(
    plan: Plan, engine: str, directory: Path, names: list[str], value_bytes: int, run: int
) -> dict[str, dict[str, dict[str, float]]]:
    """What the child prints; ChildFailedError if it does not."""
    code, out, error = _spawn(plan, engine, directory, names, value_bytes, run)
    if code:
        raise ChildFailedError(f"{engine}, {', '.join(names)}: {_reason(code, error)}")
    answer: dict[str, dict[str, dict[str, float]]] = json.loads(out.splitlines()[-1])
    return answer


def prove_durability(plan: Plan, engine: str) -> None:
    """ChildFailedError unless all is there that had been acknowledged when a process was killed."""
    directory = plan.directory / engine / "killed"
    try:
        code, _, error = _spawn(plan, engine, directory, ["killed"], 100, 0)
        if code != -signal.SIGKILL:
            raise ChildFailedError(f"{engine}: {_reason(code, error)}")
        code, _, error = _spawn(plan, engine, directory, ["survived"], 100, 0)
        if code:
            raise ChildFailedError(f"{engine}, after it was killed: {_reason(code, error)}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _reason(code: int, error: str) -> str:
    return (error.strip().splitlines() or [f"exit code {code}"])[-1]


def _spawn(
    plan: Plan, engine: str, directory: Path, names: list[str], value_bytes: int, run: int
) -> tuple[int, str, str]:
    task = Task(
        engine=engine,
        directory=str(directory),
        workloads=names,
        entries=plan.entries,
        value_bytes=value_bytes,
        seed=100 * run + 1,
        buffer_bytes=plan.buffer_bytes,
        cache_bytes=plan.cache_bytes,
    )
    python = plan.pythons.get(engine, sys.executable)
    child = subprocess.run(
        [python, *task.arguments()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return child.returncode, child.stdout, child.stderr
