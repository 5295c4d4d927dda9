"""db_bench's and YCSB's workloads.

A workload prepares what it will ask for, and what the answers have to be, before the engine is
opened and the clock runs. It begins in an empty directory (`fresh`) or goes on with the one that
"fill random" and the workloads since have left. YCSB's are those of its core package:

    A  half reads, half updates      B  95 % reads, 5 % updates     C  reads
    D  95 % reads of what was inserted last, 5 % inserts
    E  95 % scans of 1 to 100 keys, 5 % inserts
    F  half reads, half reads with an update of what was read
"""

from __future__ import annotations

import os
import signal
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from random import Random

from .data import KEY_BYTES, Model, key_of, missing_key_of, ranks, shuffled, uniform, zipfian
from .engine import Budget, Engine, Pair
from .meter import Meter

BATCH = 100
SCAN = 100
OPERATIONS = 250_000  # reads and mixed operations, at most
SCANS = 20_000
COLD_READS = 1_000
SYNCED = 1_000
THREADS = 8
SPOT_CHECKS = 1_000

READ, UPDATE, SCANNING, READ_UPDATE = range(4)

Run = Callable[[Engine, Meter], None]


class WrongAnswerError(Exception):
    """An engine did not give what was written."""


@dataclass
class Bench:
    """What a workload works on."""

    entries: int
    value_bytes: int
    budget: Budget
    seed: int
    model: Model
    user_bytes: int = field(default=0)  # keys and values that the last workload wrote

    @property
    def operations(self) -> int:
        return min(self.entries, OPERATIONS)

    def writes(self, numbers: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        """Keys, and the values that they get."""
        self.user_bytes = len(numbers) * (KEY_BYTES + self.value_bytes)
        return list(map(key_of, numbers)), list(map(self.model.write, numbers))


@dataclass(frozen=True)
class Workload:
    """One row of the table, and what Murmur has to reach, as a multiple of the best peer."""

    name: str
    prepare: Callable[[Bench], Run]
    fresh: bool = False
    sync: bool = False
    factor: int = 1  # what one operation counts for
    unit: str = "operations"
    target: float | None = None
    before: str | None = None  # the workload that runs before it, in the same process
    cold: bool = False
    settles: bool = False  # what it wrote is brought to rest, and weighed


# Writing


def puts(bench: Bench, numbers: Sequence[int]) -> Run:
    keys, values = bench.writes(numbers)

    def run(engine: Engine, meter: Meter) -> None:
        meter.each(engine.put, keys, values)
        spot_check(bench, engine)

    return run


def fill_sequential(bench: Bench) -> Run:
    return puts(bench, range(bench.entries))


def fill_random(bench: Bench) -> Run:
    return puts(bench, shuffled(bench.entries, bench.seed))


def fill_memtable(bench: Bench) -> Run:
    """As much as stays in memory in any of the stores."""
    weight = KEY_BYTES + bench.value_bytes + 100
    entries = min(bench.entries, bench.budget.buffer_bytes // 2 // weight)
    return puts(bench, shuffled(max(1, entries), bench.seed))


def overwrite(bench: Bench) -> Run:
    return puts(bench, uniform(bench.entries, bench.entries, bench.seed))


def batches(bench: Bench) -> Run:
    keys, values = bench.writes(shuffled(bench.entries, bench.seed))
    pairs = list(zip(keys, values, strict=True))
    groups = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]

    def run(engine: Engine, meter: Meter) -> None:
        meter.each(engine.write, groups)
        spot_check(bench, engine)

    return run


def delete(bench: Bench) -> Run:
    """A random half."""
    numbers = shuffled(bench.entries, bench.seed)[: max(1, bench.entries // 2)]
    keys = list(map(key_of, numbers))
    for number in numbers:
        bench.model.remove(number)
    bench.user_bytes = len(keys) * KEY_BYTES

    def run(engine: Engine, meter: Meter) -> None:
        meter.each(engine.delete, keys)
        check_all(bench, engine)

    return run


def synced(bench: Bench) -> Run:
    return puts(bench, shuffled(min(bench.entries, SYNCED), bench.seed))


def synced_by_threads(bench: Bench) -> Run:
    keys, values = bench.writes(shuffled(min(bench.entries, 2 * SYNCED), bench.seed))

    def share(engine: Engine, thread: int, samples: array[int]) -> int:
        own = Meter()
        own.each(engine.put, keys[thread::THREADS], values[thread::THREADS])
        samples += own.samples
        return own.operations

    def run(engine: Engine, meter: Meter) -> None:
        handles = [engine.for_thread() for _ in range(THREADS)]
        meter.threads([partial(share, handle, i) for i, handle in enumerate(handles)])
        spot_check(bench, engine)

    return run


# Reading


def gets(bench: Bench, numbers: Sequence[int]) -> Run:
    keys = list(map(key_of, numbers))
    expected = list(map(bench.model.get, numbers))

    def run(engine: Engine, meter: Meter) -> None:
        engine.only_reads_follow()
        meter.asking(engine.get, keys, comparing(expected))

    return run


def read_random(bench: Bench) -> Run:
    return gets(bench, uniform(bench.entries, bench.operations, bench.seed + 1))


def read_memtable(bench: Bench) -> Run:
    return gets(bench, uniform(len(bench.model.generations), bench.operations, bench.seed + 1))


def read_cold(bench: Bench) -> Run:
    """So few that hardly two are near each other: what the kernel reads ahead is no use."""
    count = max(20, min(COLD_READS, bench.entries // 2_000))
    return gets(bench, uniform(bench.entries, count, bench.seed + 2))


def read_missing(bench: Bench) -> Run:
    keys = list(map(missing_key_of, uniform(bench.entries, bench.operations, bench.seed + 3)))

    def run(engine: Engine, meter: Meter) -> None:
        engine.only_reads_follow()
        meter.asking(engine.get, keys, comparing([None] * len(keys)))

    return run


def multi_get(bench: Bench) -> Run:
    numbers = uniform(bench.entries, bench.operations // BATCH * BATCH, bench.seed + 4)
    keys = list(map(key_of, numbers))
    starts = range(0, len(keys), BATCH)
    groups = [keys[start : start + BATCH] for start in starts]
    values = list(map(bench.model.get, numbers))
    expected = [values[start : start + BATCH] for start in starts]

    def run(engine: Engine, meter: Meter) -> None:
        engine.only_reads_follow()
        meter.asking(engine.multi_get, groups, comparing(expected))

    return run


def scan(bench: Bench) -> Run:
    last = max(1, bench.entries - SCAN)
    numbers = uniform(last, min(SCANS, bench.operations), bench.seed + 5)
    bounds = [bounds_of(number, SCAN) for number in numbers]

    def check(first: int, answers: list[object]) -> None:
        for number, answer in zip(numbers[first:], answers, strict=False):
            if answer != list(bench.model.scan(number, number + SCAN)):
                raise WrongAnswerError(f"a scan from {key_of(number)!r}")

    def run(engine: Engine, meter: Meter) -> None:
        engine.only_reads_follow()
        meter.asking(lambda bound: engine.scan(*bound), bounds, check)

    return run


def read_all(bench: Bench) -> Run:
    def run(engine: Engine, meter: Meter) -> None:
        def count(_: object) -> int:
            entries = 0
            for _pair in engine.items():
                entries += 1
            return entries

        engine.only_reads_follow()
        meter.asking(count, [None], comparing([len(bench.model)]))
        meter.operations = len(bench.model)
        meter.samples = array("q")  # one operation has no percentiles
        check_all(bench, engine)

    return run


# YCSB


def ycsb(bench: Bench, kinds: dict[int, float], *, latest: bool = False, few: int = 1) -> Run:
    """Operations of these kinds in these shares; UPDATE inserts where `latest` or SCANNING is."""
    length = max(1, bench.operations // few)
    inserts = latest or SCANNING in kinds
    random = Random(bench.seed + 6)
    model = bench.model
    drawn = random.choices(list(kinds), list(kinds.values()), k=length)
    following = len(model.generations)
    popular = (
        ranks(following, length, bench.seed)
        if latest
        else zipfian(bench.entries, length, bench.seed)
    )
    work: list[tuple[int, bytes, object]] = []
    expected: list[object] = []
    bench.user_bytes = 0
    for kind, choice in zip(drawn, popular, strict=True):
        number = len(model.generations) - 1 - choice if latest else choice
        if kind == UPDATE and inserts:
            number = len(model.generations)
        key = key_of(number)
        if kind in (READ, READ_UPDATE):
            expected.append(model.get(number))
        argument: object = None
        if kind in (UPDATE, READ_UPDATE):
            argument = model.write(number)
            bench.user_bytes += KEY_BYTES + bench.value_bytes
        if kind == SCANNING:
            size = min(random.randint(1, SCAN), len(model.generations) - number)
            argument = bounds_of(number, size)[1:]
            expected.append(list(model.scan(number, number + size)))
        work.append((kind, key, argument))
    position = 0

    def check(_: int, answers: list[object]) -> None:
        nonlocal position
        for each in answers:
            if each is not None:
                comparing(expected)(position, each)  # type: ignore[arg-type]
                position += len(each)  # type: ignore[arg-type]

    def run(engine: Engine, meter: Meter) -> None:
        if set(kinds) == {READ}:
            engine.only_reads_follow()
        get, put, scan = engine.get, engine.put, engine.scan

        def operate(operation: tuple[int, bytes, tuple[bytes, int]]) -> object:
            kind, key, argument = operation
            if kind == READ:
                return (get(key),)
            if kind == UPDATE:
                put(key, argument)  # type: ignore[arg-type]
                return None
            if kind == SCANNING:
                return (scan(key, *argument),)
            answer = (get(key),)
            put(key, argument)  # type: ignore[arg-type]
            return answer

        meter.asking(operate, work, check)

    return run


# Proof


def comparing(expected: Sequence[object]) -> Callable[[int, Sequence[object]], None]:
    def check(first: int, answers: Sequence[object]) -> None:
        wanted = expected[first : first + len(answers)]
        if list(answers) != list(wanted):
            pairs = zip_longest(answers, wanted)
            wrong = next(first + i for i, (got, want) in enumerate(pairs) if got != want)
            raise WrongAnswerError(f"answer {wrong} is not what was written")

    return check


def spot_check(bench: Bench, engine: Engine) -> None:
    """What was written can be read, at least here and there."""
    present = len(bench.model.generations)
    for number in uniform(present, min(present, SPOT_CHECKS), bench.seed + 9):
        if engine.get(key_of(number)) != bench.model.get(number):
            raise WrongAnswerError(f"{key_of(number)!r} has not the value that was written")


def check_all(bench: Bench, engine: Engine) -> None:
    """The engine holds what was written, and nothing else."""
    for found, wanted in zip_longest(engine.items(), bench.model.scan(0)):
        if found != wanted:
            raise WrongAnswerError(
                f"{found and found[0]!r} where {wanted and wanted[0]!r} should be"
            )


def killed(bench: Bench) -> Run:
    """Die as soon as the last put and the last batch have returned."""
    keys, values = bench.writes(shuffled(min(bench.entries, SYNCED), bench.seed))
    pairs: list[Pair] = list(zip(keys[-BATCH:], values[-BATCH:], strict=True))

    def run(engine: Engine, meter: Meter) -> None:
        for key, value in zip(keys[:-BATCH], values[:-BATCH], strict=True):
            engine.put(key, value)
        engine.write(pairs)
        os.kill(os.getpid(), signal.SIGKILL)

    return run


def survived(bench: Bench) -> Run:
    return lambda engine, meter: check_all(bench, engine)


def bounds_of(number: int, count: int) -> tuple[bytes, bytes, int]:
    return key_of(number), key_of(number + count), count


FILLED = "fill random"
FILLED_SMALL = "fill a memtable"

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("fill sequential", fill_sequential, fresh=True, target=1.5, settles=True),
        Workload(FILLED, fill_random, fresh=True, target=1.5, settles=True),
        Workload("read random, hot", read_random, before=FILLED),
        Workload("read random, warm", read_random, target=1.0),
        Workload("read random, cold", read_cold, cold=True),
        Workload("read missing", read_missing, target=2.0),
        Workload("multi-get 100", multi_get, factor=BATCH, unit="keys", target=1.2),
        Workload("scan 100", scan, unit="scans", target=1.3),
        Workload("read all", read_all, unit="pairs", target=1.0),
        Workload("YCSB C", partial(ycsb, kinds={READ: 1.0}), target=1.1),
        Workload("YCSB B", partial(ycsb, kinds={READ: 0.95, UPDATE: 0.05}), target=1.2),
        Workload("YCSB A", partial(ycsb, kinds={READ: 0.5, UPDATE: 0.5}), target=1.2),
        Workload("YCSB F", partial(ycsb, kinds={READ: 0.5, READ_UPDATE: 0.5}), target=1.2),
        Workload("YCSB D", partial(ycsb, kinds={READ: 0.95, UPDATE: 0.05}, latest=True)),
        Workload("YCSB E", partial(ycsb, kinds={SCANNING: 0.95, UPDATE: 0.05}, few=10), target=1.0),
        Workload("overwrite", overwrite, target=1.5, settles=True),
        Workload("delete", delete, target=1.5),
        Workload("batches of 100", batches, fresh=True, factor=BATCH, unit="entries", target=1.3),
        Workload(FILLED_SMALL, fill_memtable, fresh=True),
        Workload("read memtable", read_memtable, before=FILLED_SMALL, target=1.3),
        Workload("fsync per write", synced, fresh=True, sync=True, target=1.1),
        Workload("fsync, 8 threads", synced_by_threads, fresh=True, sync=True, target=1.1),
    )
}
PROOF = {"killed": killed, "survived": survived}
