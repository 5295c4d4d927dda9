"""Swarms in processes that are killed, frozen and cut off, through the public interface."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE_S, eventually

SEGMENT_BYTES = 20_000
LISTEN = "127.0.0.1:0"


class Process:
    def __init__(self, directory: Path, segment_bytes: int | None, options: dict[str, Any]) -> None:
        small = [str(segment_bytes)] if segment_bytes else []
        module = ["-m", "tests.swarm.swarm_process", str(directory), json.dumps(options), *small]
        self.process = subprocess.Popen(
            [sys.executable, *module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def __call__(self, code: str) -> Any:
        """What the expression is, there."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        kind, value = json.loads(self.process.stdout.readline())
        assert kind == "ok", value
        return value

    def join(self, other: Process) -> None:
        ticket = other("swarm.ticket()")
        self(f"swarm.connect_peer({ticket!r}, timeout={PATIENCE_S}).node_id")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def new(name: str, *, segment_bytes: int | None = None, **options: Any) -> Process:
            process = Process(tmp_path / name, segment_bytes, options)
            stack.callback(lambda: process.process.poll() is None and process.kill())
            return process

        yield new


def together(*processes: Process) -> None:
    """All come to hold the same, and none finds fault with it."""
    first, *rest = processes
    eventually(
        lambda: all(p("swarm.version_vector") == first("swarm.version_vector") for p in rest)
    )
    assert len({process("swarm.state_hash()") for process in processes}) == 1
    assert all(process("swarm.check()") == [] for process in processes)


def test_what_a_peer_acknowledged_outlives_the_writer_and_its_directory(
    start: Start, tmp_path: Path
) -> None:
    a, b = start("a", durability="none"), start("b", durability="commit")
    b.join(a)
    assert a("[swarm.put(f'{i}', b'v', wait=1) for i in range(50)]") == [None] * 50
    a.kill()
    b.kill()
    shutil.rmtree(tmp_path / "a")
    b = start("b")
    assert b("[i for i in range(50) if swarm.get(f'{i}') is None]") == []


def test_a_directory_copied_while_it_is_written_is_another_replica(
    start: Start, tmp_path: Path
) -> None:
    a = start("a")
    a("[swarm.put(f'{i}', bytes(100)) for i in range(500)] and None")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")  # with its lock
    copy = start("copy")
    assert copy("swarm.replica_id") != a("swarm.replica_id")
    assert copy("swarm.node_id") != a("swarm.node_id")
    a("swarm.put('a', b'1')")
    copy("swarm.put('copy', b'1')")
    copy.join(a)
    together(a, copy)
    assert a("sum(1 for _ in swarm.scan())") == 502


@pytest.mark.soak
def test_a_bootstrap_goes_on_after_either_end_is_killed(start: Start) -> None:
    options: dict[str, Any] = {
        "segment_bytes": SEGMENT_BYTES,
        "listen": LISTEN,
        "log_bytes": 0,
        "peer_bandwidth": 3_000_000,
        "transport": "tcp",
    }
    a = start("a", **options)
    table = "swarm.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)') and None"
    a(table)
    insert = "swarm.execute_many('INSERT INTO t VALUES (?, ?)', {}) and None"
    for first in range(0, 8_000, 2_000):
        rows = (
            f"[(i, __import__('os').urandom(2000).hex()) for i in range({first}, {first} + 2000)]"
        )
        a(insert.format(rows))
    a("swarm.flush()")
    a("swarm.replica.trim(swarm.replica.vector, keep_bytes=0)")
    c = start("c", **options)
    c(table)
    c(insert.format("[(-i, 'mine') for i in range(1, 20)]"))
    c.join(a)

    def progress() -> tuple[int, int]:
        rows = c("swarm.sql('SELECT joined, chunks_held FROM murmur_bootstrap').fetchall()")
        return tuple(rows[0]) if rows else (0, 0)

    eventually(lambda: progress() > (0, 3))
    before = progress()
    c.kill()
    c = start("c", **options)
    eventually(lambda: progress() >= before)  # what it had fetched it has
    a.kill()
    c(insert.format("[(-100, 'while the source was away')]"))
    a = start("a", **options)
    eventually(lambda: progress()[0] == 1)
    together(a, c)
    assert a("swarm.sql('SELECT count(*) FROM t').fetchall()") == [[8_020]]


@pytest.mark.soak
def test_a_frozen_leader_is_succeeded_and_knows_it_when_it_wakes(start: Start) -> None:
    names = ("a", "b", "c")
    voters = []
    for name in names:
        process = start(name)
        voters.append(process("swarm.node_id"))
        process.kill()
    processes = [start(name, voters=voters) for name in names]
    for process in processes[1:]:
        process.join(processes[0])

    def leaders(among: list[Process]) -> list[Process]:
        return [process for process in among if process("swarm.is_leader")]

    eventually(lambda: leaders(processes))
    (old,) = leaders(processes)
    token = old("swarm.fencing_token")
    rest = [process for process in processes if process is not old]
    old.signal(signal.SIGSTOP)
    eventually(lambda: leaders(rest))
    (new,) = leaders(rest)
    assert new("swarm.fencing_token") > token
    old.signal(signal.SIGCONT)
    assert not old("swarm.is_leader")  # at once: before it has heard of the other
    eventually(lambda: old("swarm.leader_id") == new("swarm.node_id"))
