"""One process: opens an engine, runs workloads, prints figures as JSON.

    python -m benchmarks.engines.child '{"engine": "lmdb", "directory": ..., "workloads": [...]}'

The engine's files are in DIRECTORY/data, what they have to contain in DIRECTORY/model. Only the
standard library is needed beside the engine, so any Python that has the engine will do.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import process
from .data import Model
from .engine import ENGINES, Budget, Engine, open_engine
from .meter import Meter
from .workloads import PROOF, WORKLOADS, Bench

Figures = dict[str, float]


@dataclass
class Task:
    """What a child is told."""

    engine: str
    directory: str
    workloads: list[str]
    entries: int
    value_bytes: int
    seed: int
    buffer_bytes: int
    cache_bytes: int

    def arguments(self) -> list[str]:
        return ["-m", f"{__package__}.child", json.dumps(asdict(self))]


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    directory = Path(task.directory)
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    names = task.workloads
    sync = names[0] in WORKLOADS and WORKLOADS[names[0]].sync
    room = (task.value_bytes + 200) * task.entries * 4 + (64 << 20)
    budget = Budget(task.buffer_bytes, task.cache_bytes, sync, map_bytes=room)
    model = Model.load(directory / "model", task.value_bytes)
    bench = Bench(task.entries, task.value_bytes, budget, task.seed, model)

    if names[0] in PROOF:
        run = PROOF[names[0]](bench)
        model.save(directory / "model")
        engine = open_engine(task.engine, data, budget)
        run(engine, Meter())
        engine.close()
        print(json.dumps({"figures": {}}))
        return

    run = WORKLOADS[names[0]].prepare(bench)
    user_bytes = bench.user_bytes
    gc.collect()
    gc.freeze()
    gc.disable()  # the collector's pauses are not the engines'
    if WORKLOADS[names[0]].cold:
        process.drop_from_page_cache(data)
    importlib.import_module(ENGINES[task.engine].module)
    before, dirty = process.memory(), process.written()
    begin = time.perf_counter()
    engine = open_engine(task.engine, data, budget)
    open_ms = (time.perf_counter() - begin) * 1e3
    found: dict[str, Figures] = {}
    for name in names:
        if name != names[0]:
            process.until_quiet()
            run = WORKLOADS[name].prepare(bench)
        peak = Peak(before)
        meter = Meter()
        meter.watch = peak.watch
        run(engine, meter)
        peak.watch()
        found[name] = meter.figures() | peak.figures()
        found[name]["per_second"] *= WORKLOADS[name].factor
    first = found[names[0]]
    first["open_ms"] = open_ms
    if WORKLOADS[names[0]].settles:
        first["settle_s"] = settle(engine)
    description = engine.describe()
    engine.close()
    del engine, run
    dirtied = process.written().dirtied - dirty.dirtied
    calls = process.written().calls - dirty.calls
    if user_bytes:
        first["write_amplification"] = dirtied / user_bytes
        first["write_calls_amplification"] = calls / user_bytes
    first["disk_bytes"] = process.size_on_disk(data)
    model.save(directory / "model")
    process.write_back(data)
    if WORKLOADS[names[0]].cold:
        process.bring_into_page_cache(data)
    print(json.dumps({"figures": found, "description": description}))


def settle(engine: Engine) -> float:
    """Bring what was written to rest; how long that took, in seconds."""
    begin = time.perf_counter()
    engine.flush()
    flushed = time.perf_counter() - begin
    return flushed + process.until_quiet()


class Peak:
    """The most memory that was taken since the engine was opened."""

    def __init__(self, before: process.Memory) -> None:
        self.before = before
        self.resident = self.anonymous = 0

    def watch(self) -> None:
        now = process.memory()
        self.resident = max(self.resident, now.resident - self.before.resident)
        self.anonymous = max(self.anonymous, now.anonymous - self.before.anonymous)

    def figures(self) -> Figures:
        return {"resident_bytes": self.resident, "anonymous_bytes": self.anonymous}


if __name__ == "__main__":
    main()
