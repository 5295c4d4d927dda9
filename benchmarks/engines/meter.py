"""Clocks: throughput, sampled latencies, and the worst chunk.

Operations run in pieces of 25, ten pieces to a chunk. The first operation of a piece is timed by
itself: enough samples for a 99th percentile, and the clock adds 4 ns to an operation instead of
100. Where there are few operations each is timed. Results are compared between the chunks, while
the clock stands.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Sequence

PIECE = 25
CHUNK = 250
FEW = 25_000

Operation = tuple[object, ...]


class Meter:
    """The time that one workload took."""

    def __init__(self) -> None:
        self.operations = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.worst_chunk_seconds = 0.0
        self.samples = array("q")  # nanoseconds of single operations
        self.watch: Callable[[], None] = lambda: None  # called between chunks, now and then

    def each(self, operate: Callable[..., object], *columns: Sequence[object]) -> None:
        """operate(*row) for every row, without looking at results."""
        now, samples = time.perf_counter_ns, self.samples
        length = len(columns[0])
        piece = PIECE if length > FEW else 1
        cpu, begin = time.process_time(), now()
        last = begin
        for start in range(0, length, CHUNK):
            for first in range(start, min(start + CHUNK, length), piece):
                before = now()
                operate(*[column[first] for column in columns])
                samples.append(now() - before)
                rest = slice(first + 1, min(first + piece, start + CHUNK))
                if len(columns) == 1:
                    for argument in columns[0][rest]:
                        operate(argument)
                elif len(columns) == 2:
                    for left, right in zip(columns[0][rest], columns[1][rest], strict=True):
                        operate(left, right)
                else:
                    for row in zip(*[column[rest] for column in columns], strict=True):
                        operate(*row)
            if (start // CHUNK) % 64 == 63:
                self.watch()
            moment = now()
            self.worst_chunk_seconds = max(self.worst_chunk_seconds, (moment - last) / 1e9)
            last = moment
        self._add(length, (last - begin) / 1e9, time.process_time() - cpu)

    def asking(
        self,
        ask: Callable[..., object],
        questions: Sequence[object],
        check: Callable[[int, list[object]], None],
    ) -> None:
        """ask(question) for every question; check(index of the first, answers) after each chunk."""
        now, samples = time.perf_counter_ns, self.samples
        piece = PIECE if len(questions) > FEW else 1
        for start in range(0, len(questions), CHUNK):
            stop = min(start + CHUNK, len(questions))
            answers: list[object] = []
            cpu, begin = time.process_time(), now()
            for first in range(start, stop, piece):
                before = now()
                answer = ask(questions[first])
                samples.append(now() - before)
                answers.append(answer)
                answers += [ask(each) for each in questions[first + 1 : min(first + piece, stop)]]
            seconds = (now() - begin) / 1e9
            self._add(stop - start, seconds, time.process_time() - cpu)
            self.worst_chunk_seconds = max(self.worst_chunk_seconds, seconds)
            check(start, answers)
        self.watch()

    def threads(self, works: Sequence[Callable[[array[int]], int]]) -> None:
        """Run all at once; each appends its samples to an array and returns how much it did."""
        arrays = [array("q") for _ in works]
        done: list[int] = []
        failures: list[BaseException] = []
        gate = threading.Barrier(len(works) + 1)

        def run(work: Callable[[array[int]], int], samples: array[int]) -> None:
            gate.wait()
            try:
                done.append(work(samples))
            except BaseException as error:
                failures.append(error)

        threads = [
            threading.Thread(target=run, args=each) for each in zip(works, arrays, strict=True)
        ]
        for thread in threads:
            thread.start()
        gate.wait()
        cpu, begin = time.process_time(), time.perf_counter()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begin
        if failures:
            raise failures[0]
        self._add(sum(done), seconds, time.process_time() - cpu)
        for samples in arrays:
            self.samples += samples

    def _add(self, operations: int, seconds: float, cpu_seconds: float) -> None:
        self.operations += operations
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds

    def figures(self) -> dict[str, float]:
        """Operations a second, CPU time of one (all threads), percentiles of one."""
        samples = sorted(self.samples)

        def percentile(share: float) -> float:
            return samples[min(len(samples) - 1, int(len(samples) * share))] / 1e3

        return {
            "operations": self.operations,
            "seconds": self.seconds,
            "per_second": self.operations / max(self.seconds, 1e-9),
            "cpu_us": self.cpu_seconds / max(self.operations, 1) * 1e6,
            "p50_us": percentile(0.50) if samples else 0.0,
            "p99_us": percentile(0.99) if samples else 0.0,
            "p999_us": percentile(0.999) if samples else 0.0,
            "worst_chunk_ms": self.worst_chunk_seconds * 1e3,
        }
