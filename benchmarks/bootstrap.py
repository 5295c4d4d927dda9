"""How late an application's event loop is while its replica takes a snapshot.

    python -m benchmarks.bootstrap [rows]

Another process makes the rows, and a log that no longer holds them. This one opens an empty replica
and an asyncio loop that wants to wake up every 5 ms; how late it does is measured while nothing
else goes on, and while the snapshot is fetched and joined. Beside other load on the machine, only
the two together say anything, and the last figure: a wait counts for no more than the CPU time that
the other threads of this process had in it.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import murmur
from murmur.kvcore.floor import Floor

ROWS = 100_000
WAKE_S = 0.005


def make(directory: Path, rows: int) -> None:
    """Be the peer: tell the ticket, and stay until the input ends."""
    with murmur.open(directory / "source", transport="local") as source:
        source.sql("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT, n INTEGER)")
        source.sql("CREATE INDEX by_n ON note (n)")
        for start in range(0, rows, 1000):
            with source.transaction() as tx:
                for number in range(start, min(start + 1000, rows)):
                    tx.sql("INSERT INTO note VALUES (?, ?, ?)", [number, "x" * 100, number % 997])
        source.replica.flush()
        replica = source.replica
        replica.log.floor = Floor(0, {replica.id: replica.vector[replica.id]}, {})
        print(source.ticket(), flush=True)
        sys.stdin.read()


class Application:
    """An event loop that notes how late it wakes up."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.held: list[float] = []  # the part of it that other threads of this process may cause
        self._over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()

    async def _run(self) -> None:
        while not self._over:
            began, others = time.perf_counter(), _others_s()
            await asyncio.sleep(WAKE_S)
            self.late.append(time.perf_counter() - began - WAKE_S)
            self.held.append(min(self.late[-1], _others_s() - others))

    def take(self) -> str:
        """The figures since the last time."""
        late, held = sorted(self.late), sorted(self.held)
        self.late, self.held = [], []
        median, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
        return (
            f"late by {median * 1e3:.1f} ms (median), {p99 * 1e3:.1f} (p99), {late[-1] * 1e3:.1f}; "
            f"by this process {held[len(held) * 99 // 100] * 1e3:.1f} (p99)"
        )

    def end(self) -> None:
        """Stop it."""
        self._over = True
        self._thread.join()


def _others_s() -> float:
    """CPU time of the other threads of this process."""
    return time.process_time() - time.thread_time()


def measure(directory: Path, rows: int) -> None:
    """Be the replica that needs a snapshot."""
    peer = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bootstrap", str(rows), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert peer.stdout is not None
    assert peer.stdin is not None
    ticket = peer.stdout.readline().strip()
    application = Application()
    try:
        with murmur.open(directory / "target", transport="local") as target:
            time.sleep(2)
            print("idle:          ", application.take())
            began = time.perf_counter()
            target.connect_peer(ticket)
            while True:
                status = target.bootstrap_status()
                if status is not None and status.joined:
                    break
                time.sleep(0.02)
            seconds = time.perf_counter() - began
            print("bootstrapping: ", application.take())
            count = target.sql("SELECT count(*) FROM note").fetchone()
            print(f"{count} rows in {seconds:.1f} s")
    finally:
        application.end()
        peer.stdin.close()
        peer.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=ROWS)
    parser.add_argument("source", nargs="?", type=Path, help="make the replica there, serve it")
    given = parser.parse_args()
    if given.source is not None:
        make(given.source, given.rows)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            measure(Path(temporary), given.rows)
