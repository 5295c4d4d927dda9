"""Visibility: how long after a row was committed on one replica it is seen on the others.

    python -m benchmarks.bench_visibility [--replicas 3] [--rate 10000] [--seconds 60]
                                          [--batch 20] [--transport quic]

Each replica is a process of its own and inserts its share of `rate` rows a second, `batch` rows to
a transaction, at even times. Beside the rows a transaction puts the number of its last row under a
key of its author; every process looks at the others' keys every two milliseconds, and notes for
each transaction how long after its commit it was there. All clocks are one: CLOCK_MONOTONIC.

What is printed: percentiles over all pairs of replicas, the rates that were kept, and whether all
rows are on all replicas, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import murmur

LOOK_S = 0.002


def main() -> int:
    """Run the processes and print what they saw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_visibility")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--rate", type=int, default=10_000, help="rows a second, of all together")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=20, help="rows to a transaction")
    parser.add_argument("--transport", default="quic", help="quic, tcp, local or adaptive")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(int(options.worker[0]), Path(options.worker[1]), options)
        return 0
    with tempfile.TemporaryDirectory() as directory:
        seen = run(Path(directory), options)
    delays = sorted(delay for each in seen for delay in each["delays_ms"])
    rows = sum(each["rows"] for each in seen)
    expected = options.replicas * (options.replicas - 1)
    print(f"rows: {rows} in {options.seconds:g} s by {options.replicas} replicas")
    print(f"rows/s: {rows / options.seconds:.0f} of {options.rate} asked")
    print(f"late by at most: {max(each['behind_ms'] for each in seen):.0f} ms (of the schedule)")
    for percent in (50, 90, 99, 99.9, 100):
        place = min(len(delays) - 1, int(len(delays) * percent / 100))
        print(f"visible p{percent:g}: {delays[place]:.1f} ms")
    print(f"transactions seen elsewhere: {len(delays)} of {expected * seen[0]['batches']}")
    hashes = {each["hash"] for each in seen}
    print(f"all replicas equal: {'yes' if len(hashes) == 1 else 'NO'}")
    return 0 if len(hashes) == 1 else 1


def run(directory: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Start the workers, introduce them, let them go at once, and gather what they say."""
    command = [
        sys.executable, "-m", "benchmarks.bench_visibility",
        "--replicas", str(options.replicas), "--rate", str(options.rate),
        "--seconds", str(options.seconds), "--batch", str(options.batch),
        "--transport", options.transport,
    ]  # fmt: skip
    workers = [
        subprocess.Popen(
            [*command, "--worker", str(number), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(options.replicas)
    ]
    tickets = [_line(worker) for worker in workers]
    for number, worker in enumerate(workers):
        _tell(worker, json.dumps(tickets[:number]))
    for worker in workers:
        assert _line(worker) == "met"
    start = time.monotonic() + 1.0
    for worker in workers:
        _tell(worker, str(start))
    for worker in workers:  # all have written, and hold what the others wrote
        assert _line(worker) == "done"
    for worker in workers:
        _tell(worker, "tell")
    seen = [json.loads(_line(worker)) for worker in workers]
    for worker in workers:
        assert worker.wait(60) == 0
    return seen


def work(number: int, directory: Path, options: argparse.Namespace) -> None:
    """One replica: write at even times, watch what comes from the others."""
    interval = options.batch * options.replicas / options.rate
    batches = int(options.seconds / interval)
    path = directory / f"replica{number}"
    with murmur.open(path, group="bench", transport=options.transport) as swarm:
        print(swarm.ticket(), flush=True)
        for ticket in json.loads(sys.stdin.readline()):
            swarm.connect_peer(ticket)
        if number == 0:
            swarm.sql("CREATE TABLE event (id UUID PRIMARY KEY, author INT, n INT, note TEXT)")
        while len(swarm.connected_peers()) < options.replicas - 1 or not _has_table(swarm):
            time.sleep(0.01)
        print("met", flush=True)
        start = float(sys.stdin.readline())
        others = [each for each in range(options.replicas) if each != number]
        delays: list[float] = []
        watching = threading.Thread(target=watch, args=(swarm, others, batches, interval, delays))
        watching.start()
        behind = 0.0
        for batch in range(batches):
            due = start + batch * interval
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            behind = max(behind, time.monotonic() - due)
            first = batch * options.batch
            rows = [(number, n, "something was seen") for n in range(first, first + options.batch)]
            with swarm.transaction() as tx:
                tx.execute_many(
                    "INSERT INTO event (id, author, n, note) VALUES (uuid7(), ?, ?, ?)", rows
                )
                tx.put(f"last:{number}", b"%d %.6f" % (batch, time.monotonic()))
        watching.join(120)
        swarm.wait_for(timeout=120)
        print("done", flush=True)
        sys.stdin.readline()
        count = swarm.sql("SELECT count(*) FROM event").fetchone()
        assert count == (batches * options.batch * options.replicas,), count
        print(
            json.dumps(
                {
                    "rows": batches * options.batch,
                    "batches": batches,
                    "behind_ms": behind * 1000,
                    "delays_ms": delays,
                    "hash": swarm.state_hash(),
                }
            ),
            flush=True,
        )


def watch(
    swarm: murmur.Swarm, others: list[int], batches: int, interval: float, delays: list[float]
) -> None:
    """Note how long each transaction of the others took to be here; those overtaken count too."""
    last = dict.fromkeys(others, -1)
    while any(batch < batches - 1 for batch in last.values()):
        for author in others:
            value = swarm.get(f"last:{author}")
            if value is None:
                continue
            batch, sent = int(value.split()[0]), float(value.split()[1])
            if batch > last[author]:
                # Those that came between two looks were written before it, at even times.
                delay = time.monotonic() - sent
                delays += [(delay + i * interval) * 1000 for i in range(batch - last[author])]
                last[author] = batch
        time.sleep(LOOK_S)


def _has_table(swarm: murmur.Swarm) -> bool:
    found = swarm.sql("SELECT count(*) FROM murmur_tables WHERE name = 'event'").fetchone()
    return found == (1,)


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline().strip()
    assert line, "a worker ended early"
    return line


def _tell(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(line + "\n")
    worker.stdin.flush()


if __name__ == "__main__":
    sys.exit(main())
