"""Tables and ratios, as Markdown.

A ratio is Murmur's speed as a multiple of a peer's in the same run; of the runs' ratios it is the
median. The best peer is the one with the highest median.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from statistics import median

from .engine import ENGINES
from .schedule import Plan, Results
from .workloads import FILLED, WORKLOADS

MIB = 1 << 20
Rows = dict[str, list[dict[str, float]]]  # engine -> its runs


def render(plan: Plan, results: Results) -> str:
    """Everything that was measured."""
    described = "; ".join(
        f"{name}: {results.descriptions[name]}"
        for name in plan.engines
        if name in results.descriptions
    )
    parts = [
        f"Python {platform.python_version()}, {os.cpu_count()} cores; {plan.entries:,} entries, "
        f"{plan.buffer_bytes // MIB} MiB write buffer, {plan.cache_bytes // MIB} MiB cache; "
        f"medians of {plan.runs} interleaved runs.\n{described}."
    ]
    for value_bytes, rows in results.figures.items():
        for title, table in (
            ("thousands a second", speeds(rows, plan)),
            ("latency, p50 / p99 in microseconds", latencies(rows, plan)),
            ("space and memory", weights(rows, plan)),
        ):
            if table:
                parts.append(f"**{value_bytes}-byte values: {title}**\n\n{table}")
    if results.failures:
        parts.append("Failed: " + "; ".join(results.failures))
    return "\n\n".join(parts) + "\n"


def speeds(rows: dict[str, Rows], plan: Plan) -> str:
    named = [name for name in plan.engines if any(name in row for row in rows.values())]
    head = ["workload", *named]
    ratios = "murmur" in named
    if ratios:
        head += ["÷ best", "÷ best LSM", "to reach"]
    if "swarm" in named and "rocksdict" in named:
        head.append("swarm ÷ rocksdict")
    lines = []
    for name, row in rows.items():
        cells = [name, *(number(middle(row.get(engine), "per_second", 1e3)) for engine in named)]
        if ratios:
            # Where levels matter, to be level with those that have some.
            target = 1.0 if plan.lsm else WORKLOADS[name].target
            cells += [
                number(ratio(row, peers(row))),
                number(ratio(row, [each for each in peers(row) if ENGINES[each].log_structured])),
                "" if target is None else f"{target:.1f}",
            ]
        if "swarm" in named and "rocksdict" in named:
            cells.append(number(ratio(row, ["rocksdict"], of="swarm")))
        lines.append(cells)
    return table_of(head, lines)


def latencies(rows: dict[str, Rows], plan: Plan) -> str:
    named = [name for name in plan.engines if any(name in row for row in rows.values())]
    lines = []
    for name, row in rows.items():
        cells = [name]
        for engine in named:
            p50, p99 = (middle(row.get(engine), which) for which in ("p50_us", "p99_us"))
            cells.append(f"{number(p50)} / {number(p99)}" if p50 else "")
        lines.append(cells)
    return table_of(["workload", *named], lines)


def weights(rows: dict[str, Rows], plan: Plan) -> str:
    """Disk, write amplification, memory, worst chunk and opening, a row for each engine."""
    filled, rewritten = rows.get(FILLED, {}), rows.get("overwrite", {})
    opened = next((row for name, row in rows.items() if not WORKLOADS[name].fresh), {})
    opened = rows.get("read random, warm", opened)
    lines = [
        [
            engine,
            number(middle(filled.get(engine), "disk_bytes", MIB)),
            number(middle(filled.get(engine), "write_amplification")),
            number(middle(rewritten.get(engine), "disk_bytes", MIB)),
            number(middle(rewritten.get(engine), "write_amplification")),
            number(middle(filled.get(engine), "resident_bytes", MIB)),
            number(middle(filled.get(engine), "anonymous_bytes", MIB)),
            number(middle(filled.get(engine), "worst_chunk_ms")),
            number(middle(rewritten.get(engine), "worst_chunk_ms")),
            number(middle(opened.get(engine), "open_ms")),
        ]
        for engine in plan.engines
        if engine in filled
    ]
    head = ["engine", "disk, MiB", "write amplification", "disk after overwrite, MiB"]
    head += ["its write amplification", "RSS, MiB", "of no file, MiB"]
    head += ["worst 250 puts, ms", "worst 250 overwrites, ms", "clean open, ms"]
    return table_of(head, lines) if lines else ""


def growth(small: Results, large: Results, plan: Plan, factor: int) -> str:
    """Throughput at `factor` times the entries, as a multiple of that at the small size."""
    lines = []
    for value_bytes, rows in large.figures.items():
        for name, row in rows.items():
            before = small.figures.get(value_bytes, {}).get(name, {})
            for engine, runs in row.items():
                less, more = (
                    middle(before.get(engine), "per_second", 1e3),
                    middle(runs, "per_second", 1e3),
                )
                share = more / less if less and more else None
                lines.append(
                    [name, str(value_bytes), engine, number(less), number(more), number(share)]
                )
    head = ["workload", "value", "engine", f"{plan.entries:,}, k/s"]
    return table_of([*head, f"{plan.entries * factor:,}, k/s", "large ÷ small"], lines)


def peers(row: Rows) -> list[str]:
    return [engine for engine in row if ENGINES[engine].peer]


def ratio(row: Rows, others: Sequence[str], of: str = "murmur") -> float | None:
    """Its speed as a multiple of the best of the others."""
    speeds = {each: middle(row.get(each), "per_second") for each in others}
    known = {each: speed for each, speed in speeds.items() if speed}
    if of not in row or not known:
        return None
    best = max(known, key=lambda each: known[each])
    pairs = zip(row[of], row[best], strict=False)
    return median(own["per_second"] / other["per_second"] for own, other in pairs)


def middle(runs: Iterable[dict[str, float]] | None, figure: str, unit: float = 1) -> float | None:
    found = [run[figure] for run in runs or () if figure in run]
    return median(found) / unit if found else None


def number(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table_of(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|---|" + "--:|" * (len(head) - 1)
    return "\n".join(
        [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in lines)]
    )
