"""Two processes in networks of their own: partition, heal, kill, restart, loss. Needs root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path as FilePath

import pytest

from tests.sync.namespaces import NetworkHost, Path, why_not
from tests.sync.test_node import eventually

ADDRESSES = ("10.77.0.1", "10.77.0.2")


class Process:
    """A node in a network of its own."""

    def __init__(self, host: NetworkHost, directory: FilePath) -> None:
        self.host, self.directory = host, directory
        (directory / "run").mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        arguments = [sys.executable, "-m", "tests.sync.peer_process", str(self.directory / "db")]
        self.process = self.host.start(
            [*arguments, f"{self.host.address}:0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "XDG_RUNTIME_DIR": str(self.directory / "run")},
        )
        assert self._line() == "ready"

    def ask(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._line()

    def has(self, key: str) -> bool:
        return self.ask(f"has {key}") == "True"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def path() -> Iterator[tuple[Path, list[NetworkHost]]]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        hosts = []
        for address in ADDRESSES:
            hosts.append(NetworkHost(address))
            stack.callback(hosts[-1].close)
        carrier = Path(*hosts)
        stack.callback(carrier.close)
        yield carrier, hosts


@pytest.fixture
def pair(
    path: tuple[Path, list[NetworkHost]], tmp_path: FilePath
) -> Iterator[tuple[Path, Process, Process]]:
    carrier, hosts = path
    carrier.loss, carrier.delay_s = 0.0, 0.0
    carrier.blocked.clear()
    with ExitStack() as stack:
        processes = []
        for host in hosts:
            processes.append(Process(host, tmp_path / host.address))
            stack.callback(lambda process=processes[-1]: process.kill())
        a, b = processes
        assert b.ask("connect " + a.ask("ticket"))
        yield carrier, a, b


def converged(a: Process, b: Process) -> bool:
    return a.ask("wait") == b.ask("wait")


def test_a_partition_heals_whichever_way_it_is(pair: tuple[Path, Process, Process]) -> None:
    carrier, a, b = pair
    a.ask("put before")
    eventually(lambda: b.has("before"))
    for number, blocked in enumerate(({a.host, b.host}, {a.host})):
        carrier.blocked = set(blocked)
        a.ask(f"put a{number}")
        b.ask(f"put b{number}")
        if number == 0:
            # Both notice by the silence, and go on alone.
            eventually(lambda: a.ask("peers") == b.ask("peers") == "0")
        assert not b.has(f"a{number}")
        carrier.blocked.clear()
        eventually(lambda n=number: b.has(f"a{n}") and a.has(f"b{n}"), 30)
    assert converged(a, b)


def test_a_killed_process_lost_nothing_over_a_lossy_path(
    pair: tuple[Path, Process, Process],
) -> None:
    carrier, a, b = pair
    carrier.loss, carrier.delay_s = 0.01, 0.02
    lost = carrier.lost
    for number in range(150):
        (a if number % 2 else b).ask(f"put {number}")
        if number == 100:
            b.kill()  # what it answered is durable
            b.start()
    eventually(lambda: a.has("148") and b.has("149"), 30)
    assert converged(a, b)
    assert all(process.has(str(number)) for process in (a, b) for number in range(150))
    assert carrier.lost > lost
